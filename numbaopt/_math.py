"""Exponentials for loops over rows: without branches or calls, so that LLVM makes vector code of them.

``math.exp`` in a compiled loop is a call for every number.  These are written as LLVM instructions, one text for
float32 and float64; nothing around them (fast-math, literals) changes how they round.  The polynomials interpolate at
Chebyshev's nodes; their truncation error is below half a unit in the last place.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types

from ._jit import native


class _Exp(NamedTuple):
    """How to compute exp(x) = 2^k exp(r) in one dtype, with |r| <= log(2)/2 and exp(r) = 1 + r + r^2 p(r)."""

    whole: ir.Type
    mantissa: int
    low: float  # from here to high, 2^k is a normal number
    high: float
    ln2_high: float  # with so many zero bits at the end that k * ln2_high is exact
    ln2_low: float
    p: tuple[float, ...]


_EXP = {
    types.float64: _Exp(ir.IntType(64), 52, -708.0, 709.43, 0.6931471803691238, 1.9082149292705877e-10, (
        0.5, 0.16666666666666669, 0.04166666666662413, 0.008333333333330062, 0.0013888888917213717,
        0.00019841269863053618, 2.4801521295954376e-05, 2.7557268459997064e-06, 2.7620088445409746e-07,
        2.510038549551032e-08)),
    types.float32: _Exp(ir.IntType(32), 23, -87.0, 88.37, 0.693359375, -2.12194440e-4, (
        0.5, 0.16666576989698775, 0.041666554617204574, 0.008363179052722578, 0.0013926183587713494)),
}  # fmt: skip
_LOG1P = (0.3333333333333333, 0.20000000000007292, 0.1428571428355438, 0.11111111358713932, 0.09090894718066429,
          0.07692785032479312, 0.06657072104827468, 0.06000536404795356, 0.04400369243072337,
          0.08082022805971766)  # fmt: skip
FUSE = ("contract",)
EXACT = ("nsz",)  # an instruction without flags gets those of the function around it, such as leave to reorder



def _polynomial(builder, kind, x, coefficients):
    """Estrin's scheme: a loop of single numbers waits for it, and pairs of terms wait for each other the least."""
    terms = [ir.Constant(kind, coefficient) for coefficient in coefficients]
    while len(terms) > 1:
        pairs = [builder.fadd(builder.fmul(high, x, flags=FUSE), low, flags=FUSE)
                 for low, high in zip(terms[::2], terms[1::2], strict=False)]  # fmt: skip
        terms = pairs + terms[2 * len(pairs) :]
        x = builder.fmul(x, x, flags=FUSE)
    return terms[0]


def _exp_python(x: Any) -> Any:
    kind = types.float32 if isinstance(x, np.float32) else types.float64
    return np.exp(np.clip(x, _EXP[kind].low, _EXP[kind].high))


@native(_exp_python)
def exp(typing_context, x):
    """exp(x); saturates near the largest number instead of infinity, and near the smallest normal one below."""
    kind = x if x in _EXP else types.float64
    e = _EXP[kind]

    def codegen(context, builder, signature, values):
        real, whole = context.get_value_type(kind), e.whole

        def number(value):
            return ir.Constant(real, value)

        def times_plus(a, b, c):
            return builder.fadd(builder.fmul(a, number(b), flags=FUSE), c, flags=FUSE)

        x = context.cast(builder, values[0], signature.args[0], kind)
        x = builder.select(builder.fcmp_unordered("<", x, number(e.high)), x, number(e.high))  # NaN stays NaN
        x = builder.select(builder.fcmp_unordered(">", x, number(e.low)), x, number(e.low))
        magic = number(1.5 * 2.0**e.mantissa)  # adding it rounds to a whole number, which stands in the lowest bits
        shifted = times_plus(x, 1.4426950408889634, magic)
        k = builder.fsub(shifted, magic, flags=EXACT)
        r = times_plus(k, -e.ln2_high, x)
        r = times_plus(k, -e.ln2_low, r)
        p = _polynomial(builder, real, r, e.p)
        p = builder.fadd(r, builder.fmul(builder.fmul(r, r), p, flags=FUSE), flags=FUSE)
        power = builder.shl(builder.bitcast(shifted, whole), ir.Constant(whole, e.mantissa))
        one = (1 << (whole.width - e.mantissa - 2)) - 1 << e.mantissa
        power = builder.bitcast(builder.add(power, ir.Constant(whole, one)), real)
        return builder.fadd(builder.fmul(p, power, flags=FUSE), power, flags=FUSE)

    return kind(x), codegen


@native(lambda u: float(np.log1p(u)))
def log1p(typing_context, u):
    """log(1 + u) in float64 for u in [0, 1]: with s = u / (2 + u), it is 2 atanh(s)."""

    def codegen(context, builder, signature, values):
        real = context.get_value_type(types.float64)
        u = context.cast(builder, values[0], signature.args[0], types.float64)
        s = builder.fdiv(u, builder.fadd(u, ir.Constant(real, 2.0), flags=EXACT), flags=EXACT)
        t = builder.fmul(s, s, flags=EXACT)
        p = builder.fmul(builder.fmul(t, s), _polynomial(builder, real, t, _LOG1P), flags=FUSE)
        p = builder.fadd(p, s, flags=FUSE)
        return builder.fadd(p, p, flags=EXACT)

    return types.float64(u), codegen
