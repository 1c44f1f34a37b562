"""Functions of Numba on what has derivatives: many a program, each number of its results against differences."""

from __future__ import annotations

import linecache
import math

import numba
import numpy as np
import pytest
from numba.np import extensions

import numbaopt as no

jitted_cross2d = getattr(extensions, "cross2d", None)  # until NumPy 2.5
cross2d = numba.njit(lambda a, b: jitted_cross2d(a, b))
MODES = ("forward", "reverse")
X = np.array([0.35, 1.25, 0.75, 2.15, 1.85, 0.95])
SPACE = {"np": np, "math": math, "cross2d": cross2d, "NAN": math.nan, "G": np.array([-1.0, 0.5, 1.5, 3.0]),
         "T": np.array([0.31, 1.22, 0.73, 2.11, 1.74, 0.9]), "H": np.array([0.5, 0.1, 2.0, 1.0])}  # fmt: skip

# of a vector x of six, M = x.reshape(2, 3), C = x.reshape(1, 2, 3), S = x[:4].reshape(2, 2), N = x with a NaN
TABLE = {
    "sums": """np.sum(M, axis=0)|np.sum(M, 1)|M.sum(axis=-1)|M.T.sum(0)|C.sum(axis=1)|C.sum(0)
        C.sum()|np.mean(C)|np.prod(M)|x.prod()|np.max(C)|x.max()|np.var(x)|np.std(M)
        np.ptp(x)|np.cumsum(x)|M.cumsum()|np.cumprod(x)|np.average(x, weights=T)|sum(x)|max([x[0], x[1]])|min(x)
        np.trace(M)|np.nansum(N)|np.nanmean(N)|np.nanmax(N)|np.nanmin(N)|np.nanvar(N)|np.nanstd(N)|np.nanprod(N)
        np.nancumsum(N)|np.diff(x)|np.diff(M)|np.ediff1d(M)|np.trapezoid(x)
        np.trapezoid(x, np.cumsum(T))|np.trapezoid(T, x)""",
    "kinks": """np.round(x)|np.round(x + 0.02, 1)|np.around(x, 2)|round(x[0] + 0.02, 1)|np.round(x[0])|np.rint(x)
        np.floor(x)|np.ceil(M)|round(x[0]) * x[1]|np.trunc(x)|np.sign(x)|np.copysign(x, -T)|math.copysign(x[0], -x[1])
        x // T|x % T|np.fmod(x, T)|divmod(x[0], x[2])[1]|np.divmod(x[1], x[0])[1]|math.floor(x[1]) * x[0]
        np.clip(x, 0.5, 1.5)|x.clip(0.5, 1.5)|np.clip(x, T, 1.9)|np.clip(x, None, 1.0)|np.clip(T, x[0], x[4])
        np.clip(M, T[:3], 1.9)|np.where(x > 1, x, T)|np.where(x > 1, 0.0, x[0])|np.where(x > 1)[0] * x[0]
        np.where(T > 1)[0] * x[0]|np.abs(x - 1)|np.maximum(x, T)|np.fmin(x, 1.0)|np.nan_to_num(N)
        np.nan_to_num(N, nan=3.0)|np.nan_to_num(N[1])""",
    "special": """math.erf(x[0])|math.erfc(x[0])|math.gamma(x[0])|math.lgamma(x[0])|math.hypot(x[0], x[1])
        math.expm1(x[0])|math.log1p(x[0])|np.logaddexp(x[0], x[1])|np.logaddexp2(x, T)|np.sinc(x)|np.sinc(x[0])
        math.ldexp(x[0], 2)|np.ldexp(x, 2)|np.float_power(x, T)|np.float_power(x[0], 2.0)|np.hypot(x, T)
        np.arctan2(x, T)|math.pow(x[0], x[1])|2.0 ** x|x ** T|x ** 3|np.conj(x)|np.real(x)|x.real|x.conj()
        np.reciprocal(x)|np.cbrt(x)|np.exp2(x)|np.square(M)|np.deg2rad(x)|np.divide(T, x)|np.positive(x)
        np.nextafter(x, 3.0)""",
    "order": """np.median(x)|np.median(M)|np.median(N)|np.percentile(x, 30)|np.quantile(x, 0.37)
        np.quantile(x, np.array([0.0, 0.2, 0.71, 1.0]))
        np.nanmedian(N)|np.nanpercentile(N, 30)|np.quantile(N, 0.3)|np.quantile(x, x[0])
        np.sort(x)|x[np.argsort(x)]|x.argsort() * x|np.argmax(x) * x[0]|np.unique(x)
        np.argmin(M) * x[0]|x.argmax() * x[0]|np.nanargmax(N) * x[0]|np.searchsorted(G, x[0]) * x[0]
        np.searchsorted(G, x, side='right') * x|np.searchsorted(np.sort(x), 1.0) * x[0]|np.digitize(x, G) * x
        np.extract(x > 1, x)|np.select([x > 1, x < 0.5], [x, x * x])
        np.take(x, np.array([1, 2]))|np.flatnonzero(x > 1) * x[0]
        np.argwhere(x > 1) * x[0]|np.count_nonzero(x) * x|np.isfinite(x) * x|np.isnan(N[:1]) * x|np.isinf(x) * x
        np.signbit(x) * x|np.logical_and(x, T) * x|np.isclose(x, T) * x|np.any(x > 1) * x""",
    "grids": """np.linspace(x[0], x[1], 5)|np.linspace(0.0, x[1], 4)|np.linspace(x[0], 7, 1)|np.logspace(x[0], 1.0, 3)
        np.geomspace(x[0], x[1], 4)|np.arange(x[0], 3.0, 0.7)|np.arange(0.0, x[1], x[0])|np.arange(x[3])
        np.arange(3) * x[0]|np.interp(x, G, H)|np.interp(0.7, G, x[:4])|np.interp(x[0], G, x[:4])
        np.interp(np.array([0.6, 9.0]), G, x[:4])|np.interp(x, G, x[:4])|np.interp(1.1, np.sort(x), T)
        np.interp(M, G, H)|np.convolve(x, T[:3])|np.convolve(x, x)|np.convolve(x, T[:3], 'same')
        np.convolve(x[:2], T, 'same')|np.convolve(x, T[:4], 'valid')|np.convolve(x[:3], T, mode='valid')
        np.correlate(x, T[:3])|np.correlate(x[:2], T)|np.correlate(x, x, 'full')|np.correlate(x[:3], T, 'same')
        np.correlate(x[:2], T, 'same')|np.unwrap(4.0 * x)|np.vander(x, 3)
        np.vander(x[:2], increasing=True)|np.polynomial.polynomial.polyval(x, T)
        np.polynomial.polynomial.polyval(1.1, x)|np.bincount(np.array([0, 1, 1, 0, 3, 2]), weights=x)""",
    "matrices": """np.tril(M)|np.triu(M)|np.triu(M, 1)|np.tril(S, -1)|np.cross(x[:3], x[3:])|np.cross(M, T[:3])
        np.cross(T[:3], M)|np.cov(M)|np.cov(M, bias=True)|np.corrcoef(M)
        np.linalg.norm(x)|np.linalg.norm(x, 1)|np.linalg.norm(x, np.inf)
        np.linalg.norm(x, 2)|np.linalg.norm(x, 3)|np.linalg.norm(M)|np.linalg.matrix_power(S, 3)
        np.outer(x, T)|np.kron(M, S)|np.vdot(x, T)|np.dot(M, x[:3])
        M @ M.T|np.diag(x)|np.diag(M)|np.array([[x[0], 1.0], [2.0, x[1]]])
        np.array(((x[0], 1.0), (2.0, x[1])))|np.array((x[0], 1.0))""",
    "shapes": """np.stack((x, T))|np.concatenate((x, T))|np.hstack((x, T))
        np.column_stack((x, T))|np.append(x, 1.0)|np.repeat(x, 2)
        np.roll(x, 2)|np.flip(x)|np.fliplr(M)|np.rot90(M)|np.atleast_2d(x)
        np.expand_dims(x, 0)|np.reshape(x, (3, 2))|np.swapaxes(M, 0, 1)
        np.delete(x, 1)|np.split(x, 2)[1]
        np.broadcast_to(x, (2, 6))|np.full(3, x[0])|x.flatten()
        np.ascontiguousarray(M.T)|x[:1].item()|np.float64(x[0])|C[0, :, 1]
        C.transpose(2, 0, 1)""",
}  # fmt: skip
if jitted_cross2d:
    TABLE["matrices"] += "|cross2d(x[:2], x[2:4])"


def program(expressions):
    """A function that returns all their results, one after the other."""
    lines = ["def program(x):", "    M, C, S = x.reshape(2, 3), x.reshape(1, 2, 3), x[:4].reshape(2, 2)",
             "    N, out, k = x.copy(), np.empty(1000), 0", "    N[1] = NAN"]  # fmt: skip
    names = {**SPACE, "x": X, "M": X.reshape(2, 3), "C": X.reshape(1, 2, 3), "S": X[:4].reshape(2, 2), "N": X.copy()}
    names["N"][1] = math.nan
    for expression in expressions:
        if np.ndim(eval(expression, names)):
            lines += [f"    for item in ({expression}).flat:", "        out[k] = item", "        k += 1"]
        else:
            lines += [f"    out[k] = {expression}", "    k += 1"]
    source = "\n".join([*lines, "    return out[:k]", ""])
    name = f"<program of {expressions[0]}>"
    linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name
    space = dict(SPACE)
    exec(compile(source, name, "exec"), space)
    return space["program"]


def check(group, mode):
    """Compare values and derivatives of a group of the table with those of the same function in the interpreter."""
    function = program([e.strip() for line in TABLE[group].splitlines() for e in line.split("|")])
    plain = function(X.copy())
    differences = np.empty((plain.size, X.size))
    for i in range(X.size):
        step = np.zeros(X.size)
        step[i] = 1e-3
        far, near = ((function(X + h * step) - function(X - h * step)) / (2e-3 * h) for h in (1.0, 0.5))
        differences[:, i] = (4 * near - far) / 3
    values, jacobian = no.autodiff.value_and_jacobian(numba.njit(error_model="numpy")(function), mode)(X)
    known = ~np.isnan(plain)
    np.testing.assert_allclose(values, plain, rtol=1e-12)
    np.testing.assert_allclose(jacobian[known], differences[known], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("group", "mode"), [*zip(TABLE, 4 * MODES, strict=False), ("kinks", "forward")])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_number_has_the_derivatives_that_differences_show(group, mode):
    check(group, mode)  # the other modes: python -m tests.test_autodiff_functions


if __name__ == "__main__":
    np.seterr(all="ignore")
    for name in TABLE:
        for which in MODES:
            check(name, which)
            print(name, which, "as differences show")
