"""The places where Numba itself has to be told of `Number`, each with its reason.

Every change looks at the types first and hands all others to Numba's own code.
"""

from __future__ import annotations

from typing import Any

from numba.core import types
from numba.core.errors import TypingError
from numba.core.typing import arraydecl, npydecl
from numba.core.typing import builtins as typing_builtins
from numba.core.typing.templates import signature
from numba.np import npyimpl

from .numbers import Number, NumberArray, number_in

LOSING = ("view", "ctypes", "imag", "data", "base")


def _scalars_in_loops() -> None:
    """Loops over arrays take scalars of a fixed list of types: add ours."""
    original = npyimpl._prepare_argument

    def prepare(context: Any, builder: Any, value: Any, kind: Any, where: str = "input operand") -> Any:
        if isinstance(kind, Number):
            return npyimpl._ScalarHelper(context, builder, value, kind)
        return original(context, builder, value, kind, where)

    npyimpl._prepare_argument = prepare


def _in_place_operators() -> None:
    """The rule for ``a += b`` of arrays asks for a ufunc loop and fails with AttributeError where there is none."""
    original = npydecl.NumpyRulesInplaceArrayOperator.generic

    def generic(self: Any, args: Any, kws: Any) -> Any:
        if any(map(number_in, args)):
            return None
        if isinstance(args[0], types.Array) and not args[0].mutable:
            raise TypingError(f"Cannot modify readonly array of type: {args[0]}")
        return original(self, args, kws)

    npydecl.NumpyRulesInplaceArrayOperator.generic = generic  # type: ignore[method-assign]


def _float64_of_a_number() -> None:
    """``np.float64(x)`` accepts a fixed list of types and is no function that can be overloaded."""
    original = typing_builtins.NumberClassAttribute.resolve___call__

    def resolve(self: Any, kind: Any) -> Any:
        found = original(self, kind)
        if kind.instance_type != types.float64:
            return found
        typer = found.templates[0] if hasattr(found, "templates") else None

        class Call(typer):  # type: ignore[valid-type]
            def apply(self, args: Any, kws: Any) -> Any:
                if len(args) == 1 and not kws and isinstance(args[0], Number):
                    return signature(args[0], args[0])
                return super().apply(args, kws)

        return types.Function(Call)

    typing_builtins.NumberClassAttribute.resolve___call__ = resolve  # type: ignore[method-assign]


def _attributes_that_lose() -> None:
    """Some attributes of arrays show their memory, or another type in it: of numbers with derivatives they must not."""
    original = arraydecl.ArrayAttribute.resolve

    def resolve(self: Any, kind: Any, name: str) -> Any:
        if name in LOSING and number_in(kind):
            raise TypingError(f"derivatives: ndarray.{name} would lose them")
        return original(self, kind, name)

    arraydecl.ArrayAttribute.resolve = resolve  # type: ignore[method-assign]


def _arrays_made_elsewhere() -> None:
    """Many of Numba's functions name the type of their result themselves: of numbers it must be a `NumberArray`."""

    def new(kind: Any, dtype: Any = None, *args: Any, **kwargs: Any) -> Any:
        return object.__new__(NumberArray if kind is types.Array and isinstance(dtype, Number) else kind)

    types.Array.__new__ = staticmethod(new)  # type: ignore[method-assign, assignment]


_arrays_made_elsewhere()
_attributes_that_lose()
_scalars_in_loops()
_in_place_operators()
_float64_of_a_number()
