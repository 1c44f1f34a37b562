"""Numbers that know their derivative, as Numba types: `Dual` (forward mode), `Taped` (reverse mode), arrays of them.

All of Numba's arithmetic, loops, arrays and branches work on such numbers once operators and functions have rules for
them (`scalars`).  There is no conversion back to float, on purpose: code that would lose a derivative does not compile.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, errors, types
from numba.core.datamodel import PrimitiveModel
from numba.core.imputils import lower_cast, lower_constant
from numba.core.typeconv import Conversion
from numba.extending import box, models, register_model

from . import tape
from .tape import DOUBLE

REAL = (types.Float, types.Integer, types.Boolean)


class Number(types.Type):
    """A float64 and its derivative with respect to the unknowns."""

    is_internal = True  # else Numba does not fuse array expressions of them

    def can_convert_from(self, typing_context, other):
        if isinstance(other, REAL):
            return Conversion.promote if isinstance(other, types.Float) else Conversion.safe
        return None

    def unify(self, typing_context, other):
        return self if isinstance(other, REAL) else None

    def cast_python_value(self, args):
        raise errors.TypingError(f"{self} cannot be made of {args!r} here")

    def constant(self, context: Any, builder: Any, value: Any) -> Any:
        """The LLVM value of a number that does not depend on the unknowns."""
        raise NotImplementedError

    def combine(self, context: Any, builder: Any, value: Any, terms: list[tuple[Any, Any]], careful: bool | str) -> Any:
        """The number ``value`` whose derivative is the sum of slopes times derivatives, ``terms`` of (slope, number).

        ``careful``: slopes may be infinite or NaN where the number does not depend on an unknown at all; "chooses": a
        slope of 0 hides a number whose derivatives are.
        """
        raise NotImplementedError


class Dual(Number):
    """A value and its derivatives with respect to ``width`` unknowns, a vector register or two of them."""

    def __init__(self, width: int):
        self.width = width
        super().__init__(name=f"Dual({width})")

    @property
    def key(self):
        return self.width

    def constant(self, context, builder, value):
        return _pair(builder, context.get_value_type(self), value, self._zero)

    def combine(self, context, builder, value, terms, careful):
        total = None
        for slope, number in terms:
            tangent = builder.extract_value(number, 1)
            product = builder.fmul(tangent, self._splat(builder, slope), flags=("contract",))
            if careful == "chooses" and not isinstance(slope, ir.Constant):
                hidden = builder.fcmp_ordered("==", slope, ir.Constant(DOUBLE, 0.0))
                product = builder.select(hidden, self._zero, product)
            elif careful and not isinstance(slope, ir.Constant):
                product = builder.select(builder.fcmp_ordered("==", tangent, self._zero), self._zero, product)
            total = product if total is None else builder.fadd(total, product, flags=("contract",))
        return _pair(builder, context.get_value_type(self), value, self._zero if total is None else total)

    def seeded(self, context: Any, builder: Any, value: Any, which: int) -> Any:
        """The unknown ``which`` itself."""
        ones = [ir.Constant(DOUBLE, float(k == which)) for k in range(self.width)]
        return _pair(builder, context.get_value_type(self), value, ir.Constant(self._vector, ones))

    @property
    def _vector(self):
        return ir.VectorType(DOUBLE, self.width)

    @property
    def _zero(self):
        return ir.Constant(self._vector, [ir.Constant(DOUBLE, 0.0)] * self.width)

    def _splat(self, builder, value):
        if isinstance(value, ir.Constant):
            return ir.Constant(self._vector, [value] * self.width)
        nothing, i32 = ir.Constant(self._vector, ir.Undefined), ir.IntType(32)
        first = builder.insert_element(nothing, value, ir.Constant(i32, 0))
        return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(i32, self.width), [0] * self.width))


class Taped(Number):
    """A value, the number of its node on a tape, and the tape (address 0: a constant)."""

    def __init__(self):
        super().__init__(name="Taped")

    def constant(self, context, builder, value):
        return _triple(builder, value, tape.ZERO, tape.ZERO)

    def combine(self, context, builder, value, terms, careful):
        if not terms:
            return self.constant(context, builder, value)
        where = builder.extract_value(terms[0][1], 2)
        for _, number in terms[1:]:
            where = builder.select(builder.icmp_unsigned("==", where, tape.ZERO),
                                   builder.extract_value(number, 2), where)  # fmt: skip
        edges = [(slope, builder.extract_value(number, 1)) for slope, number in terms]
        return _triple(builder, value, tape.push(builder, where, edges), where)


TAPED = Taped()


@register_model(Dual)
class DualModel(PrimitiveModel):
    """A packed struct: no padding between the numbers of an array, so that it is a matrix of floats as well."""

    def __init__(self, manager, kind):
        super().__init__(manager, kind,
                         ir.LiteralStructType([DOUBLE, ir.VectorType(DOUBLE, kind.width)], packed=True))  # fmt: skip


@register_model(Taped)
class TapedModel(PrimitiveModel):
    """Value, node, tape."""

    def __init__(self, manager, kind):
        super().__init__(manager, kind, ir.LiteralStructType([DOUBLE, tape.WORD, tape.WORD]))


def _pair(builder, kind, value, tangent):
    return builder.insert_value(builder.insert_value(ir.Constant(kind, ir.Undefined), value, 0), tangent, 1)


def _triple(builder, value, node, where):
    made = ir.Constant(ir.LiteralStructType([DOUBLE, tape.WORD, tape.WORD]), ir.Undefined)
    for i, part in enumerate((value, node, where)):
        made = builder.insert_value(made, part, i)
    return made


def value_of(context: Any, builder: Any, kind: Any, number: Any) -> Any:
    """The LLVM double of a number, with or without derivative."""
    if isinstance(kind, Number):
        return builder.extract_value(number, 0)
    return context.cast(builder, number, kind, types.float64)


@lower_cast(types.Float, Number)
@lower_cast(types.Integer, Number)
@lower_cast(types.Boolean, Number)
def _cast(context, builder, source, target, value):
    return target.constant(context, builder, context.cast(builder, value, source, types.float64))


@lower_constant(Dual)
@lower_constant(Taped)
def _constant(context, builder, kind, value):  # Numba also asks without a builder
    rest = [kind._zero] if isinstance(kind, Dual) else [tape.ZERO, tape.ZERO]
    return ir.Constant(context.get_value_type(kind), [ir.Constant(DOUBLE, float(value)), *rest])


class NumberArray(types.Array):
    """An array of `Number`; a class of its own, so that methods can have rules that come before Numba's."""

    is_internal = True

    def __init__(self, dtype, ndim, layout, readonly=False, name=None, aligned=True):
        name = f"{'readonly ' if readonly else ''}array({dtype}, {ndim}d, {layout})"
        super().__init__(dtype, ndim, layout, readonly=readonly, name=name, aligned=aligned)

    def copy(self, dtype=None, ndim=None, layout=None, readonly=None):
        dtype = self.dtype if dtype is None else dtype
        kind = NumberArray if isinstance(dtype, Number) else types.Array
        return kind(dtype, self.ndim if ndim is None else ndim, self.layout if layout is None else layout,
                    readonly=(not self.mutable) if readonly is None else readonly, aligned=self.aligned)  # fmt: skip

    def unify(self, typing_context, other):
        found = super().unify(typing_context, other)
        return None if found is None else NumberArray(found.dtype, found.ndim, found.layout, not found.mutable)

    def can_convert_to(self, typing_context, other):
        return super().can_convert_to(typing_context, other) if type(other) is NumberArray else None


register_model(NumberArray)(models.ArrayModel)


@lower_cast(NumberArray, types.Array)
@lower_cast(types.Array, NumberArray)
@lower_cast(NumberArray, NumberArray)
def _cast_array(context, builder, source, target, value):
    return value  # they differ in what is known of layout and writing


@box(Number)
@box(NumberArray)
def _box(kind, value, c):
    c.pyapi.err_set_string("PyExc_TypeError", "numbers with derivatives cannot leave compiled code")
    return c.pyapi.get_null_object()


def number_in(kind: Any) -> Any:
    """The `Number` type in the type of a scalar or an array, or None."""
    if isinstance(kind, types.Optional):
        kind = kind.type
    if isinstance(kind, types.Array):
        kind = kind.dtype
    return kind if isinstance(kind, Number) else None


def is_real(kind: Any) -> bool:
    """Whether a type is a real number without derivative."""
    return isinstance(types.unliteral(kind), REAL)


def unpack(builder: Any, value: Any, count: int) -> list[Any]:
    """The items of an LLVM tuple."""
    return cgutils.unpack_tuple(builder, value, count)
