"""`least_squares` inside compiled code; see `numbaopt.compiled`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from ._jit import jit_inside, linked
from ._packed import count_words, store
from .compiled import OPTIONS, REAL, evaluated, items_in, packer_of, scheme_of, start_of
from .differences import SCHEMES
from .inside_numbers import Source, absent, picker
from .least_squares import EPS, UNBOUNDED, least_squares
from .loops import descent
from .loops.alone import fit
from .loops.least_squares import FACTOR, LOSS, LOSSES, MARGIN, MOST, RESCALES, RESIDUALS, ROWS
from .loops.least_squares import least_squares as loop
from .problems.evaluation import FLOAT64
from .problems.residuals import compiled_residuals, vector_function
from .solvers.levenberg_marquardt import LM, SMALLEST

SEQUENCES = (types.Array, types.List, types.ListType, types.BaseTuple)
ELSEWHERE = ("diff_step", "tr_solver", "tr_options", "jac_sparsity", "kwargs", "callback", "workers", "options")


@overload(least_squares, prefer_literal=True, jit_options=OPTIONS)
def _least_squares(fun, x0, jac=None, bounds=UNBOUNDED, method=None, ftol=1e-8, xtol=1e-8, gtol=1e-8, x_scale=None,
                   loss="linear", f_scale=1.0, diff_step=None, tr_solver=None, tr_options=None, jac_sparsity=None,
                   max_nfev=None, verbose=0, args=(), kwargs=None, callback=None, workers=None,
                   options=None):  # fmt: skip
    if not isinstance(fun, types.Dispatcher):
        raise TypeError(f"fun must be a jitted function in compiled code, not {fun}")
    given = (diff_step, tr_solver, tr_options, jac_sparsity, kwargs, callback, workers, options)
    for name, kind in zip(ELSEWHERE, given, strict=True):
        if not absent(kind):
            raise TypeError(f"{name} is not possible in compiled code; leave it out")
    for name, kind in (("ftol", ftol), ("xtol", xtol), ("gtol", gtol), ("f_scale", f_scale), ("max_nfev", max_nfev)):
        if not (absent(kind) or isinstance(_kind(kind), types.Number)):
            raise TypeError(f"{name} must be a number, not {kind}")
    start, limits, which = start_of(x0), _limits(bounds), LOSSES.index(_loss(loss))
    jac, (items, items_of) = scheme_of(jac), items_in(args)
    if jac is True:
        raise ValueError("jac=True is not possible: fun returns the residuals, jac(x, *args) their Jacobian")
    jac, kind, evaluate = evaluated(compiled_residuals, fun.dispatcher, jac, items, FLOAT64)
    pack, words, count = packer_of(items_of, jac in SCHEMES), max(1, count_words(kind)), _counter(fun.dispatcher, items)
    evaluate, steps = linked(evaluate, RESIDUALS), linked(loop, types.void(*descent.signature(FLOAT64)))
    settle, most = _settler(method, x_scale), _number(max_nfev, lambda value, n: int(value), lambda value, n: 100 * n)
    tolerance = tuple(_number(kind, lambda value, n: float(value), lambda value, n: 0.0) for kind in (ftol, xtol, gtol))
    of_f, of_x, of_g = tolerance

    def impl(fun, x0, jac=None, bounds=UNBOUNDED, method=None, ftol=1e-8, xtol=1e-8, gtol=1e-8, x_scale=None,
             loss="linear", f_scale=1.0, diff_step=None, tr_solver=None, tr_options=None, jac_sparsity=None,
             max_nfev=None, verbose=0, args=(), kwargs=None, callback=None, workers=None, options=None):  # fmt: skip
        x = start(x0)
        n = x.size
        lower, upper = limits(bounds, n)
        ends = most(max_nfev, n), of_g(gtol, n), of_f(ftol, n), of_x(xtol, n)
        _check(x, lower, upper, ends, f_scale)
        m = count(x, items_of(args))
        settings = settle(method, x_scale, n)
        settings[ROWS], settings[LOSS], settings[MARGIN], settings[MOST] = m, which, f_scale, ends[0]
        data = np.empty(words, np.int64)
        packed = pack(args, lower, upper)
        store(packed, data)
        return fit(x, lower, upper, m, settings, ends, steps(), evaluate(), data)

    return impl


def _kind(kind: Any) -> Any:
    """The Numba type of an argument, of one that is left out that of its default."""
    from numba import typeof

    given = kind.value if isinstance(kind, types.Omitted) else kind
    return types.unliteral(given if isinstance(given, types.Type) else typeof(given))


def _loss(loss: Any) -> str:
    name = getattr(loss, "literal_value", getattr(loss, "value", loss))
    if name not in LOSSES:
        raise ValueError(f"loss must be one of the literal names {', '.join(map(repr, LOSSES))}, not {name!r}")
    return name


def _number(kind: Any, given: Any, otherwise: Any) -> Any:
    return jit_inside(otherwise if absent(kind) else given)


def _counter(fun: Any, items: Any) -> Any:
    """``count(x, args)``: how many residuals there are at x, which must be finite."""
    fun = vector_function(fun, (types.Array(types.float64, 1, "C"), *items))

    def count(x, args):
        r = fun(x.copy(), *args)
        if r.size == 0:
            raise ValueError("fun returned no residuals at x0")
        for i in range(r.size):
            if not math.isfinite(r[i]):
                raise ValueError("Residuals are not finite at x0")
        return r.size

    return jit_inside(count, fastmath=())


@jit_inside
def _check(x, lower, upper, ends, f_scale):
    most, gtol, ftol, xtol = ends
    if most < 1:
        raise ValueError("max_nfev must be at least 1")
    if not (gtol >= 0 and ftol >= 0 and xtol >= 0 and max(gtol, ftol, xtol) >= EPS):
        raise ValueError("ftol, xtol and gtol must be in [0, inf), and one of them above rounding")
    if not 0 < f_scale < math.inf:
        raise ValueError("f_scale must be in (0, inf)")
    for i in range(lower.size):
        if not lower[i] <= upper[i]:
            raise ValueError("bounds: a lower one exceeds the upper one")
        if not lower[i] <= x[i] <= upper[i]:
            raise ValueError("x0 is outside of its bounds")


def _limits(bounds: Any) -> Any:
    """``limits(bounds, n)``: lower and upper bounds as vectors, or two empty ones."""
    if isinstance(bounds, types.Omitted) or bounds is UNBOUNDED:
        return jit_inside(lambda bounds, n: (np.empty(0), np.empty(0)))
    if not (isinstance(bounds, types.BaseTuple) and len(bounds) == 2):
        raise TypeError("bounds must be (lower, upper), numbers or vectors")
    low, high = (_filler(side, "bounds") for side in bounds)

    def limits(bounds, n):
        lower, upper = low(bounds[0], n), high(bounds[1], n)
        for i in range(n):
            if lower[i] > -math.inf or upper[i] < math.inf or lower[i] != lower[i] or upper[i] != upper[i]:
                return lower, upper
        return np.empty(0), np.empty(0)

    return jit_inside(limits, fastmath=())


def _filler(kind: Any, name: str) -> Any:
    """``fill(value, n)``: a number, or a vector of that length, as a vector."""
    if isinstance(kind, REAL):
        return jit_inside(lambda value, n: np.full(n, float(value)))
    if not (isinstance(kind, SEQUENCES) and getattr(kind, "ndim", 1) == 1):
        raise TypeError(f"{name} must be a number or a vector, not {kind}")
    copy, told = start_of(kind), f"{name} is not of the length of x0"

    def fill(value, n):
        if len(value) != n:
            raise ValueError(told)
        return copy(value)

    return jit_inside(fill)


def _settler(method: Any, x_scale: Any) -> Any:
    """``settle(method, x_scale, n)``: the settings of the loop, of which those of the problem are to be filled in."""
    named = absent(method) or getattr(method, "literal_value", "").lower() in LM.names
    if not (named or getattr(method, "instance_class", None) is LM):
        raise ValueError(f"method must be None, 'lm' or an LM in compiled code, not {method}")
    by_columns = getattr(x_scale, "literal_value", "") == "jac"
    own = types.Tuple(()) if named else method.types[method.fields.index("x_scale")]
    take = picker(Source(0, (method.fields.index("x_scale"),), own)) if not named else None
    field = Source(None, LM._field_defaults["factor"]) if named else Source(0, (method.fields.index("factor"),))
    factor = picker(field)
    sizes = _filler(own, "LM: x_scale") if absent(x_scale) and len(own) else (
        None if absent(x_scale) or by_columns else _filler(types.unliteral(x_scale), "x_scale"))  # fmt: skip
    ours = absent(x_scale)

    def settle(method, x_scale, n):
        settings = np.zeros(MOST + 1 + n)
        settings[RESCALES], settings[FACTOR] = 1.0, factor(method, None)
        return settings

    def settle_sizes(method, x_scale, n):
        settings, given = settle_plain(method, x_scale, n), sizes(x_scale, n)
        return fill(settings, given)

    def settle_own(method, x_scale, n):
        settings, given = settle_plain(method, x_scale, n), sizes(take(method, None), n)
        return fill(settings, given)

    settle_plain = jit_inside(settle)
    return settle_plain if sizes is None else jit_inside(settle_own if ours else settle_sizes)


@jit_inside
def fill(settings, sizes):
    """Write the sizes of unknowns into the settings."""
    settings[RESCALES] = 0.0
    for i in range(sizes.size):
        if not SMALLEST < sizes[i] < 1.0 / SMALLEST:
            raise ValueError("x_scale must be positive numbers, neither huge nor tiny")
        settings[MOST + 1 + i] = sizes[i]
    return settings
