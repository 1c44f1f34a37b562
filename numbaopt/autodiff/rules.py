"""The one table of derivatives of scalar functions, for forward and reverse mode.

A rule is a function of float64 numbers that returns the value, then the derivative with respect to each argument.  It
is compiled into the place of the call, so whatever both need is computed once and what nobody needs is left out.

At 0 the derivative of ``hypot`` is 0; other kinks and jumps are in `kinks`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba.extending import register_jitable


class Rule(NamedTuple):
    """A row of the table."""

    function: Callable[..., Any]  # of the arguments: the value, then a derivative for each
    arguments: int  # how many
    careful: bool | str  # whether a derivative may be infinite or NaN where the value is not; "chooses": an argument's
    flat: bool  # whether all derivatives are 0


RULES: dict[Any, Rule] = {}
TWO_OVER_ROOT_PI = 2.0 / math.sqrt(math.pi)
LN2, LN10, DEGREE = math.log(2.0), math.log(10.0), math.pi / 180.0


def rule(*functions: Any, careful: bool | str = False, flat: bool = False) -> Callable[[Any], Any]:
    """Decorator: the derivatives of these functions."""

    def register(function: Any) -> Any:
        for known in functions:
            RULES[known] = Rule(function, function.__code__.co_argcount, careful, flat)
        return function

    return register


@rule(operator.neg, np.negative)
def _(x):
    return -x, -1.0


@rule(operator.pos, np.positive, np.conjugate)
def _(x):
    return x, 1.0


@rule(math.sqrt, np.sqrt, careful=True)
def _(x):
    v = np.sqrt(x)
    return v, 0.5 / v


@rule(np.cbrt, careful=True)
def _(x):
    v = np.cbrt(x)
    return v, 1.0 / (3.0 * v * v)


@rule(np.square)
def _(x):
    return x * x, 2.0 * x


@rule(np.reciprocal, careful=True)
def _(x):
    v = 1.0 / x
    return v, -v * v


@rule(math.exp, np.exp)
def _(x):
    v = math.exp(x)
    return v, v


@rule(np.exp2)
def _(x):
    v = np.exp2(x)
    return v, v * LN2


@rule(math.expm1, np.expm1)
def _(x):
    return math.expm1(x), math.exp(x)


@rule(math.log, np.log, careful=True)
def _(x):
    return np.log(x), 1.0 / x


@rule(math.log1p, np.log1p, careful=True)
def _(x):
    return np.log1p(x), 1.0 / (1.0 + x)


@rule(math.log2, np.log2, careful=True)
def _(x):
    return np.log2(x), 1.0 / (x * LN2)


@rule(math.log10, np.log10, careful=True)
def _(x):
    return np.log10(x), 1.0 / (x * LN10)


@rule(math.sin, np.sin)
def _(x):
    return math.sin(x), math.cos(x)


@rule(math.cos, np.cos)
def _(x):
    return math.cos(x), -math.sin(x)


@rule(math.tan, np.tan)
def _(x):
    v = math.tan(x)
    return v, 1.0 + v * v


@rule(math.asin, np.arcsin, careful=True)
def _(x):
    return np.arcsin(x), 1.0 / np.sqrt((1.0 - x) * (1.0 + x))


@rule(math.acos, np.arccos, careful=True)
def _(x):
    return np.arccos(x), -1.0 / np.sqrt((1.0 - x) * (1.0 + x))


@rule(math.atan, np.arctan)
def _(x):
    return math.atan(x), 1.0 / (1.0 + x * x)


@rule(math.sinh, np.sinh)
def _(x):
    return math.sinh(x), math.cosh(x)


@rule(math.cosh, np.cosh)
def _(x):
    return math.cosh(x), math.sinh(x)


@rule(math.tanh, np.tanh)
def _(x):
    v = math.tanh(x)
    return v, 1.0 - v * v


@rule(math.asinh, np.arcsinh)
def _(x):
    return math.asinh(x), 1.0 / np.sqrt(x * x + 1.0)


@rule(math.acosh, np.arccosh, careful=True)
def _(x):
    return np.arccosh(x), 1.0 / (np.sqrt(x - 1.0) * np.sqrt(x + 1.0))


@rule(math.atanh, np.arctanh, careful=True)
def _(x):
    return np.arctanh(x), 1.0 / (1.0 - x * x)


@rule(np.sinc)
def _(x):
    z = math.pi * x
    if abs(z) < 0.3:  # the series: what follows is below rounding
        s = z * z
        tail = 1.0 - s / 54.0 * (1.0 - s / 88.0 * (1.0 - s / 130.0 * (1.0 - s / 180.0)))
        return np.sinc(x), -math.pi * z / 3.0 * (1.0 - s / 10.0 * (1.0 - s / 28.0 * tail))
    return np.sinc(x), (math.cos(z) - math.sin(z) / z) / x


@rule(math.erf)
def _(x):
    return math.erf(x), TWO_OVER_ROOT_PI * math.exp(-x * x)


@rule(math.erfc)
def _(x):
    return math.erfc(x), -TWO_OVER_ROOT_PI * math.exp(-x * x)


@register_jitable
def digamma(x):
    """The derivative of lgamma: reflection, recurrence to x >= 10, then the asymptotic series (DLMF 5.11.2)."""
    total = 0.0
    if x <= 0.0:
        if x == math.floor(x):
            return math.nan
        total = -math.pi / math.tan(math.pi * x)
        x = 1.0 - x
    while x < 10.0:
        total -= 1.0 / x
        x += 1.0
    s = 1.0 / (x * x)
    tail = 1 / 240.0 - s * (1 / 132.0 - s * (691 / 32760.0 - s / 12.0))
    return total + math.log(x) - 0.5 / x - s * (1 / 12.0 - s * (1 / 120.0 - s * (1 / 252.0 - s * tail)))


@rule(math.lgamma)
def _(x):
    return math.lgamma(x), digamma(x)


@rule(math.gamma)
def _(x):
    v = math.gamma(x)
    return v, v * digamma(x)


@rule(np.deg2rad, np.radians, math.radians)
def _(x):
    return x * DEGREE, DEGREE


@rule(np.rad2deg, np.degrees, math.degrees)
def _(x):
    return x / DEGREE, 1.0 / DEGREE


@rule(operator.add, operator.iadd, np.add)
def _(a, b):
    return a + b, 1.0, 1.0


@rule(operator.sub, operator.isub, np.subtract)
def _(a, b):
    return a - b, 1.0, -1.0


@rule(operator.mul, operator.imul, np.multiply)
def _(a, b):
    return a * b, b, a


@rule(operator.truediv, operator.itruediv, np.true_divide, careful=True)
def _(a, b):
    v = a / b
    return v, 1.0 / b, -v / b


@rule(operator.pow, operator.ipow, np.power, np.float_power, pow, math.pow, careful=True)
def _(a, b):
    v = a**b
    da = 0.0 if b == 0.0 else b * a ** (b - 1.0)
    db = 0.0 if a == 0.0 and b > 0.0 else v * np.log(a)
    return v, da, db


def power_of_integer(a, n):
    """``a**n`` and its derivative for an integer ``n``, which may be a literal that compilation leaves nothing of."""
    if n == 2:
        return a * a, 2.0 * a
    if n == 1:
        return a, 1.0
    if n == 0:
        return 1.0, 0.0
    if n < 0:
        v = 1.0 / a ** (-n)
        return v, n * v / a
    p = a ** (n - 1)
    return p * a, n * p


@rule(math.hypot, np.hypot, careful=True)
def _(a, b):
    v = math.hypot(a, b)
    return (v, 0.0, 0.0) if v == 0.0 else (v, a / v, b / v)


@rule(math.atan2, np.arctan2, careful=True)
def _(a, b):
    h = math.hypot(a, b)
    return math.atan2(a, b), b / h / h, -a / h / h


@rule(math.ldexp, np.ldexp)
def _(a, n):
    return math.ldexp(a, int(n)), math.ldexp(1.0, int(n)), 0.0


@rule(np.logaddexp)
def _(a, b):
    v = np.logaddexp(a, b)
    e = 1.0 if a == b else math.exp(-abs(a - b))
    near, far = 1.0 / (1.0 + e), e / (1.0 + e)
    return v, (near if a >= b else far), (far if a >= b else near)


@rule(np.logaddexp2)
def _(a, b):
    v = np.logaddexp2(a, b)
    e = 1.0 if a == b else np.exp2(-abs(a - b))
    near, far = 1.0 / (1.0 + e), e / (1.0 + e)
    return v, (near if a >= b else far), (far if a >= b else near)


COMPARISONS = {
    operator.lt: "<", operator.le: "<=", operator.gt: ">", operator.ge: ">=", operator.eq: "==", operator.ne: "!=",
    np.less: "<", np.less_equal: "<=", np.greater: ">", np.greater_equal: ">=", np.equal: "==", np.not_equal: "!=",
}  # fmt: skip
IN_PLACE = {
    operator.iadd: operator.add, operator.isub: operator.sub, operator.imul: operator.mul,
    operator.itruediv: operator.truediv, operator.ifloordiv: operator.floordiv, operator.ipow: operator.pow,
    operator.imod: operator.mod,
}  # fmt: skip
POWERS = {operator.pow, operator.ipow, np.power, pow, math.pow}
DIVISIONS = {operator.truediv, operator.itruediv, operator.floordiv, operator.ifloordiv, operator.mod, operator.imod}
