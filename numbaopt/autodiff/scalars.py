"""Operators and functions of `Number`: their types, and machine code from the table of rules, in either mode."""

from __future__ import annotations

import itertools
import math
import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import compiler, errors, targetconfig, types
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, overload
from numba.np import npyimpl

from .errors import KNOWN, misfit
from .kinks import SELECT
from .numbers import REAL, Dual, Number, NumberArray, Taped, is_real, number_in, unpack, value_of
from .rules import COMPARISONS, DIVISIONS, IN_PLACE, POWERS, RULES, Rule, power_of_integer
from .stubs import stub


def _plain(kind: Any) -> Any:
    return kind.type if isinstance(kind, types.Optional) else kind


def broadcast(kinds: Any, item: Any) -> Any:
    """The type of the result of an elementwise function, or None where an argument is neither number nor array."""
    arrays = [kind for kind in kinds if isinstance(kind, types.Array)]
    if not all(isinstance(kind, (types.Array, Number)) or is_real(kind) for kind in kinds):
        return None
    if not arrays:
        return item
    layouts = {kind.layout for kind in arrays}
    layout = "F" if "F" in layouts and "C" not in layouts else "C"
    made: Any = NumberArray if isinstance(item, Number) else types.Array
    return made(item, max(kind.ndim for kind in arrays), layout)


def call_rule(context: Any, builder: Any, function: Any, made: Any, args: list[Any], exact_division: bool = True):
    """LLVM code of a rule; divisions by zero give infinity, unless they are the user's own."""
    flags = targetconfig.ConfigStack().top_or_none()
    flags = compiler.Flags() if flags is None else flags.copy()
    if exact_division:
        flags.error_model = "numpy"
    try:
        compiled = context.compile_subroutine(builder, function, made, flags=flags)
    except errors.NumbaError as error:  # ours compile
        raise errors.TypingError(misfit(function, len(made.args))) from error
    return context.call_internal(builder, compiled.fndesc, made, args)


def lower_rule(function: Any, rule: Rule) -> Any:
    """The code of a function of scalars, some of which are `Number`."""

    def codegen(context, builder, made, args):
        kind, kinds = made.return_type, made.args
        if function in POWERS and isinstance(kinds[1], types.Integer) and not isinstance(kinds[0], REAL):
            exponent = context.cast(builder, args[1], kinds[1], types.int64)
            inner = types.UniTuple(types.float64, 2)(types.float64, types.int64)
            found = call_rule(context, builder, power_of_integer, inner, [builder.extract_value(args[0], 0), exponent])
            value, slope = unpack(builder, found, 2)
            return kind.combine(context, builder, value, [(slope, args[0])], True)
        values = [value_of(context, builder, k, a) for k, a in zip(kinds, args, strict=True)]
        inner = types.UniTuple(types.float64, 1 + rule.arguments)(*(types.float64,) * rule.arguments)
        found = call_rule(context, builder, rule.function, inner, values, function not in DIVISIONS)
        value, *slopes = unpack(builder, found, 1 + rule.arguments)
        terms = [(slope, a) for slope, a, k in zip(slopes, args, kinds, strict=True) if isinstance(k, Number)]
        return kind.combine(context, builder, value, [] if rule.flat else terms, rule.careful)

    return codegen


def _lower_comparison(symbol: str) -> Any:
    def codegen(context, builder, made, args):
        a, b = (value_of(context, builder, k, v) for k, v in zip(made.args, args, strict=True))
        compare = builder.fcmp_unordered if symbol == "!=" else builder.fcmp_ordered
        return compare(symbol, a, b)

    return codegen


class Elementwise(npyimpl._Kernel):
    """The loop of an elementwise function over arrays: the scalar function of each item."""

    function: Any

    def generate(self, *values):
        outer, typing = self.outer_sig, self.context.typing_context
        made = typing.resolve_function_type(typing.resolve_value_type(self.function), outer.args, {})
        code = self.context.get_function(typing.resolve_value_type(self.function), made)
        args = [self.cast(v, k, to) for v, k, to in zip(values, outer.args, made.args, strict=True)]
        return self.cast(code(self.builder, args), made.return_type, outer.return_type)


class Shape:
    """As much of a NumPy ufunc as Numba's loops over arrays ask for."""

    nout, __name__ = 1, "elementwise"

    def __init__(self, count: int):
        self.nin, self.nargs = count, count + 1


def _lower_arrays(function: Any, count: int) -> Any:
    inner = IN_PLACE.get(function, function)

    def codegen(context, builder, made, args):
        kernel = type("Kernel", (Elementwise,), {"function": staticmethod(inner)})
        if function in IN_PLACE:
            made, args = signature(made.return_type, *made.args, made.args[0]), [*args, args[0]]
            return npyimpl.numpy_ufunc_kernel(context, builder, made, args, Shape(2), kernel)
        return npyimpl.numpy_ufunc_kernel(context, builder, made, args, Shape(count), kernel)

    return codegen


def _into(kinds: list[Any]) -> Any:
    """The signature of a ufunc whose last argument is the array that takes the result, or None."""
    out = kinds[-1]
    if not (isinstance(out, NumberArray) and out.mutable) or broadcast(kinds, out.dtype) is None:
        return None
    return signature(out, *map(types.unliteral, kinds))


def register(function: Any, rule: Rule) -> None:
    """Make a function of ``rule.arguments`` numbers known to Numba for `Number`, alone and in arrays."""
    KNOWN.add(function.__name__)
    name = function if function in RULES else (function,)  # Numba wants to find by its name what is its own name

    class Template(AbstractTemplate):
        key = name

        def generic(self, args, kws):
            kinds = [_plain(kind) for kind in args]
            number = next(filter(None, map(number_in, kinds)), None)
            if isinstance(function, np.ufunc) and len(kinds) == rule.arguments + 1:
                return _into(kinds)
            if kws or len(kinds) != rule.arguments or number is None:
                return None
            result = broadcast(kinds, number)
            if result is None:
                return None
            if isinstance(result, types.Array) and function in IN_PLACE:
                return signature(kinds[0], *kinds) if isinstance(kinds[0], NumberArray) else None
            if function in (max, min):  # any common type will do: there is no cast that could be lost
                return signature(result, *(number,) * len(kinds)) if isinstance(result, Number) else None
            kinds = [types.unliteral(k) if isinstance(k, (types.Array, Number)) or function in POWERS
                     else types.float64 for k in kinds]  # fmt: skip
            return signature(result, *kinds)

    infer_global(function, typing_key=name)(Template)
    scalar = lower_rule(function, rule)
    for number in (Dual, Taped):
        for kinds in itertools.product((number, *REAL), repeat=rule.arguments):
            if number in kinds:
                lower_builtin(name, *kinds)(scalar)
    _register_arrays(name, function, rule.arguments)


def _register_arrays(name: Any, function: Any, count: int) -> None:
    """Loops over arrays, of all mixtures of types that have a `Number` in them: others are Numba's own."""
    for kinds in itertools.product((NumberArray, types.Array, Number, *REAL), repeat=count):
        if {NumberArray, types.Array} & set(kinds) and {NumberArray, Number} & set(kinds):
            lower_builtin(name, *kinds)(_lower_arrays(function, count))
        if isinstance(function, np.ufunc):
            lower_builtin(name, *kinds, NumberArray)(_lower_arrays(function, count))


def elementwise(name: str, rule: Rule) -> Any:
    """A function for compiled code of the arguments of a rule, numbers or arrays."""
    made = stub(name, *rule.function.__code__.co_varnames[:rule.arguments])
    register(made, rule)
    return made


def _register_comparison(function: Any, symbol: str) -> None:
    class Template(AbstractTemplate):
        key = function

        def generic(self, args, kws):
            kinds = [_plain(kind) for kind in args]
            if kws or len(kinds) != 2 or not any(map(number_in, kinds)):
                return None
            result = broadcast(kinds, types.boolean)
            return None if result is None else signature(result, *map(types.unliteral, kinds))

    infer_global(function)(Template)
    for kinds in itertools.product((Number, *REAL), repeat=2):
        if Number in kinds:
            lower_builtin(function, *kinds)(_lower_comparison(symbol))
    _register_arrays(function, function, 2)


for _function, _rule in RULES.items():
    register(_function, _rule)
select = elementwise("select", SELECT)  # np.where, item by item
for _function, _symbol in COMPARISONS.items():
    _register_comparison(_function, _symbol)


def _more(function: Any) -> None:
    """max and min of three arguments and more."""

    class Template(AbstractTemplate):
        key = function

        def generic(self, args, kws):
            number = next(filter(None, map(number_in, args)), None)
            if kws or len(args) < 3 or number is None or not isinstance(broadcast(args, number), Number):
                return None
            return signature(number, *(number,) * len(args))

    infer_global(function)(Template)

    def codegen(context, builder, made, args):
        best = args[0]
        for other in args[1:]:
            chosen = builder.fcmp_ordered(COMPARISONS[operator.gt if function is max else operator.lt],
                                          builder.extract_value(other, 0), builder.extract_value(best, 0))  # fmt: skip
            best = builder.select(chosen, other, best)
        return best

    for number in (Dual, Taped):
        lower_builtin(function, types.VarArg(number))(codegen)


_more(max)
_more(min)


# ------------------------------------------------------------------------------------------------ conversions
@intrinsic
def value(typing_context, number):
    """The float64 in a number; what derivative it has is left behind."""
    return types.float64(number), (
        lambda context, builder, signature, args: value_of(context, builder, number, args[0]))  # fmt: skip


@intrinsic
def lift(typing_context, x, kind):
    """A real number, or one of that kind already, as a `Number` of the kind that a type reference names."""
    target = kind.instance_type
    return target(x, kind), (
        lambda context, builder, signature, args: context.cast(builder, args[0], signature.args[0], target))


def _identity(x):
    if isinstance(x, Number):
        return lambda x: x
    return None


overload(float)(_identity)


def _of_value(*functions: Any) -> Any:
    """Decorator for functions of which only the value counts: integers, truth, finiteness."""

    def register(make: Any) -> None:
        def chosen(x):
            return make() if isinstance(x, Number) else None

        for function in functions:
            overload(function)(chosen)

    return register


@_of_value(int, math.trunc)
def _int():
    return lambda x: int(value(x))


@_of_value(math.floor)
def _floor():
    return lambda x: math.floor(value(x))


@_of_value(math.ceil)
def _ceil():
    return lambda x: math.ceil(value(x))


@_of_value(bool)
def _bool():
    return lambda x: value(x) != 0.0


@_of_value(math.isnan)
def _isnan():
    return lambda x: math.isnan(value(x))


@_of_value(math.isfinite)
def _isfinite():
    return lambda x: math.isfinite(value(x))


@_of_value(math.isinf)
def _isinf():
    return lambda x: math.isinf(value(x))


@lower_builtin("print_item", Number)
def _print(context, builder, made, args):
    """Printed is the value: in forward mode as often as the function runs, once for every 8 unknowns."""
    code = context.get_function("print_item", signature(types.none, types.float64))
    return code(builder, [builder.extract_value(args[0], 0)])


@lower_builtin(bool, Number)
def _truth(context, builder, made, args):
    number = builder.extract_value(args[0], 0)
    return builder.fcmp_unordered("!=", number, ir.Constant(number.type, 0.0))

