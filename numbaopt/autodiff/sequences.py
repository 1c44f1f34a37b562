"""Grids, interpolation, convolution, polynomials and other functions of vectors and matrices that NumPy composes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import errors, types
from numba.extending import register_jitable
from numba.np import extensions

from .arrays import empty, filled, values
from .numbers import number_in
from .scalars import lift, value
from .stubs import chosen_by_type, given, left_out, of_arrays, of_numbers


# ------------------------------------------------------------------------------------------------------- grids
@of_numbers(np.linspace)
def _linspace(start, stop, num=50):
    number = number_in(start) or number_in(stop)

    def build(start, stop, num=50):
        made = empty(num, number)
        for i in range(num):
            made[i] = start + (stop - start) * (i / max(num - 1, 1))
        if num > 1:
            made[num - 1] = lift(stop, number)
        return made

    return build


@of_numbers(np.logspace)
def _logspace(start, stop, num=50):
    return lambda start, stop, num=50: 10.0 ** np.linspace(start, stop, num)


@of_numbers(np.geomspace)
def _geomspace(start, stop, num=50):
    def build(start, stop, num=50):
        sign = 1.0 if value(start) > 0.0 else -1.0
        if not value(start) * value(stop) > 0.0:
            raise ValueError("Geometric sequence cannot include zero")
        return sign * np.exp(np.linspace(np.log(sign * start), np.log(sign * stop), num))

    return build


@of_numbers(np.arange)
def _arange(start, stop=None, step=None, dtype=None):
    if not left_out(dtype):
        raise errors.TypingError("derivatives: np.arange with dtype")
    if left_out(stop):
        return lambda start, stop=None, step=None, dtype=None: np.arange(values(start))
    number = number_in(start) or number_in(stop) or number_in(step)
    by = register_jitable((lambda step: 1.0) if left_out(step) else (lambda step: step))

    def build(start, stop=None, step=None, dtype=None):
        count = max(int(np.ceil((value(stop) - value(start)) / value(by(step)))), 0)
        made = empty(count, number)
        for i in range(count):
            made[i] = lift(start + i * by(step), number)
        return made

    return build


@of_arrays(np.vander)
def _vander(x, N=None, increasing=False):
    number, square = x.dtype, left_out(N)

    def build(x, N=None, increasing=False):
        columns = x.size if square else N
        made = empty((x.size, columns), number)
        for i in range(x.size):
            power = lift(1.0, number)
            for k in range(columns):
                made[i, k if increasing else columns - 1 - k] = power
                power = power * x[i]
        return made

    return build


@of_numbers(np.polynomial.polynomial.polyval)
def _polyval(x, c, tensor=True):
    if not isinstance(c, types.Array) or c.ndim != 1:
        raise errors.TypingError("derivatives: polyval with coefficients that are no vector")

    def build(x, c, tensor=True):
        made = c[-1] + 0.0 * x
        for k in range(c.size - 2, -1, -1):
            made = made * x + c[k]
        return made

    return build


# ----------------------------------------------------------------------------------- between and across vectors
@chosen_by_type("x", "xp", "fp", "number")
def interpolated_at(x, xp, fp, number):
    """``np.interp`` at one place: of three adjacent points, the line to the right one counts at the middle one."""
    number = number.instance_type

    def build(x, xp, fp, number):
        last, k = len(xp) - 1, np.searchsorted(xp, value(x), side="right") - 1
        if value(x) != value(x):
            return lift(x, number)
        if k < 0:
            return lift(fp[0], number)
        if k >= last:
            return lift(fp[last], number)
        return lift((fp[k + 1] - fp[k]) / (xp[k + 1] - xp[k]) * (x - xp[k]) + fp[k], number)

    return build


@of_numbers(np.interp)
def _interp(x, xp, fp):
    number = number_in(x) or number_in(xp) or number_in(fp)
    if not isinstance(x, types.Array):
        return lambda x, xp, fp: interpolated_at(x, xp, fp, number)

    def build(x, xp, fp):
        made = empty(x.shape, number)
        for i in np.ndindex(x.shape):
            made[i] = interpolated_at(x[i], xp, fp, number)
        return made

    return build


@chosen_by_type("a", "v", "first", "count")
def sliding(a, v, first, count):
    """Of all sums of ``a[i + k] v[i]`` over ``i`` for ``k > -len(v)``, so many from a first one on."""
    number = number_in(a) or number_in(v)

    def build(a, v, first, count):
        if a.size == 0 or v.size == 0:
            raise ValueError("neither of two sequences that are convolved may be empty")
        made = empty(count, number)
        for k in range(count):
            shift = first + k - (v.size - 1)
            begin, end = max(shift, 0), min(a.size, shift + v.size)
            made[k] = lift(np.dot(a[begin:end], v[begin - shift : end - shift]), number)
        return made

    return build


def _part(mode: Any, reversed_where_shorter: bool) -> Any:
    """``(len(a), len(v)) -> (first, count)``: the sums that a mode asks for."""
    mode = mode if isinstance(mode, str) else getattr(mode, "literal_value", getattr(mode, "value", None))
    if mode not in ("full", "same", "valid"):
        raise errors.TypingError("derivatives: the mode of np.convolve and np.correlate must be 'full', 'same' or "
                                 "'valid', written out in the call")  # fmt: skip

    def build(n, m):
        less, more = min(n, m), max(n, m)
        if mode == "full":
            return 0, n + m - 1
        if mode == "valid":
            return less - 1, more - less + 1
        if reversed_where_shorter and n < m:
            return less // 2, more
        return less - 1 - less // 2, more

    return register_jitable(build)


@of_numbers(np.correlate)
def _correlate(a, v, mode="valid"):
    part = _part(mode, True)

    def build(a, v, mode="valid"):
        first, count = part(a.size, v.size)
        return sliding(a, v, first, count)

    return build


@of_numbers(np.convolve)
def _convolve(a, v, mode="full"):
    part = _part(mode, False)

    def build(a, v, mode="full"):
        first, count = part(a.size, v.size)
        return sliding(a, v[::-1], first, count)

    return build


@of_numbers(np.cross)
def _cross(a, b):
    if not (isinstance(a, types.Array) and isinstance(b, types.Array)):
        raise errors.TypingError("derivatives: np.cross of what is no array")

    def build(a, b):
        if a.shape[-1] != 3 or b.shape[-1] != 3:
            raise ValueError("np.cross needs vectors of three items; see numba.np.extensions.cross2d")
        made = a * b  # of the shape that both have together
        for i in range(3):
            j, k = (i + 1) % 3, (i + 2) % 3
            made[..., i] = a[..., j] * b[..., k] - a[..., k] * b[..., j]
        return made

    return build


def _cross2d(a, b):
    return lambda a, b: a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


if cross2d := getattr(extensions, "cross2d", None):  # until NumPy 2.5
    of_numbers(cross2d)(_cross2d)


@of_arrays(np.ediff1d)
def _ediff1d(ary, to_end=None, to_begin=None):
    if not (left_out(to_end) and left_out(to_begin)):
        raise errors.TypingError("derivatives: np.ediff1d with to_end or to_begin")
    return lambda ary, to_end=None, to_begin=None: np.diff(ary.flatten())


@of_arrays(np.unwrap)
def _unwrap(p, discont=None, axis=-1, period=6.283185307179586):
    if given(discont) or given(axis) or given(period):
        raise errors.TypingError("derivatives: np.unwrap with discont, axis or period")

    def build(p, discont=None, axis=-1, period=6.283185307179586):
        return p + (np.unwrap(values(p)) - values(p))  # a shift that changes in jumps only

    return build


# ---------------------------------------------------------------------------------------------------- matrices
def _triangle(function: Any, upper: bool) -> None:
    @of_arrays(function)
    def _(m, k=0):
        if m.ndim != 2:
            raise errors.TypingError(f"derivatives: np.{function.__name__} of an array that is no matrix")
        number = m.dtype

        def build(m, k=0):
            made = filled(m.shape, 0.0, number)
            for i in range(m.shape[0]):
                for j in range(m.shape[1]):
                    if (j - i >= k) if upper else (j - i <= k):
                        made[i, j] = m[i, j]
            return made

        return build


_triangle(np.tril, False)
_triangle(np.triu, True)


@of_numbers(np.append)
def _append(arr, values, axis=None):
    item = values.type if isinstance(values, types.Optional) else values
    if not isinstance(arr, types.Array) or not left_out(axis) or isinstance(item, types.Array):
        return None  # of arrays, Numba's own
    number = number_in(arr) or number_in(item)

    def build(arr, values, axis=None):
        made = empty(arr.size + 1, number)
        made[:-1] = arr.flatten()
        made[-1] = values
        return made

    return build


@of_numbers(np.bincount)
def _bincount(a, weights=None, minlength=0):
    number = number_in(weights)

    def build(a, weights=None, minlength=0):
        if a.size != weights.size:
            raise ValueError("the weights and list don't have the same length.")
        made = filled(max(minlength, a.max() + 1 if a.size > 0 else 0), 0.0, number)
        for i in range(a.size):
            made[a[i]] += weights[i]
        return made

    return build


@of_arrays(np.cov)
def _cov(m, y=None, rowvar=True, bias=False, ddof=None):
    if m.ndim != 2 or not left_out(y) or given(rowvar):
        raise errors.TypingError("derivatives: np.cov of anything but a matrix whose rows are the variables")
    less = register_jitable((lambda bias, ddof: 0 if bias else 1) if left_out(ddof) else (lambda bias, ddof: ddof))

    def build(m, y=None, rowvar=True, bias=False, ddof=None):
        count = m.shape[1]
        centered = m - np.sum(m, axis=1).reshape((m.shape[0], 1)) / count
        return (centered @ centered.T) / max(count - less(bias, ddof), 0)

    return build


@of_arrays(np.corrcoef)
def _corrcoef(x, y=None, rowvar=True):
    if x.ndim != 2 or not left_out(y) or given(rowvar):
        raise errors.TypingError("derivatives: np.corrcoef of anything but a matrix whose rows are the variables")

    def build(x, y=None, rowvar=True):
        made = np.cov(x)
        spread = np.sqrt(np.diag(made))
        return made / spread / spread.reshape((spread.size, 1))

    return build


@of_arrays(np.linalg.matrix_power)
def _matrix_power(a, n):
    number = a.dtype

    def build(a, n):
        if a.shape[0] != a.shape[1]:
            raise ValueError("input must be a square array")
        factor = np.linalg.inv(a) if n < 0 else a.copy()
        made = filled(a.shape, 0.0, number)
        for i in range(a.shape[0]):
            made[i, i] = lift(1.0, number)
        for k in range(abs(n)):
            made = made @ factor if k > 0 else factor.copy()
        return made

    return build
