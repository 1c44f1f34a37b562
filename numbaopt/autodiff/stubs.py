"""Functions of which compiled code knows one version a type; Python has none."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from numba.core import types
from numba.extending import overload, overload_method

from .errors import KNOWN
from .numbers import NumberArray, number_in

_VERSIONS: list[tuple[Any, Any]] = []  # of known functions: what chooses them


def register_for(target: str) -> None:
    """Make the versions of known functions known to another target, too."""
    for function, choose in _VERSIONS:
        overload(function, target=target)(choose)


def stub(name: str, *names: str) -> Any:
    """A function with these arguments that only compiled code can call, once it is told how."""
    space: dict[str, Any] = {"__name__": __name__}
    exec(f"def {name}({', '.join(names)}):\n    raise NotImplementedError", space)  # noqa: S102
    return space[name]


def chosen_by_type(*names: str) -> Callable[[Any], Any]:
    """Decorator for functions that return, of types of arguments, the version to be compiled."""

    def register(choose: Any) -> Any:
        made = stub(choose.__name__, *names)
        made.__doc__ = choose.__doc__
        overload(made)(choose)
        return made

    return register


def of_numbers(*functions: Any) -> Callable[[Any], Any]:
    """Decorator: the versions of known functions for arguments any of which has derivatives."""
    return _known(functions, None, lambda args: any(map(number_in, args)))


def of_arrays(*functions: Any, method: str | None = None) -> Callable[[Any], Any]:
    """Decorator: the versions of known functions, and of a method, whose first argument is an array of numbers."""
    return _known(functions, method, lambda args: isinstance(args[0], NumberArray))


def _known(functions: Any, method: str | None, applies: Any) -> Any:
    def register(choose: Any) -> Any:
        @functools.wraps(choose)
        def checked(*args: Any, **kwargs: Any) -> Any:
            return choose(*args, **kwargs) if applies((*args, *kwargs.values())) else None

        for function in functions:
            KNOWN.add(function.__name__)
            _VERSIONS.append((function, checked))
            overload(function, target="CPU")(checked)  # before Numba's own, which is for any target
        if method is not None:
            overload_method(NumberArray, method)(checked)
        return choose

    return register


def left_out(kind: Any) -> bool:
    """Whether the type of an argument with default None says that nothing was given."""
    return kind is None or isinstance(kind, types.NoneType) or (
        isinstance(kind, types.Omitted) and kind.value is None)  # fmt: skip


def given(kind: Any) -> bool:
    """Whether the type of an argument with a default says that something else may have been given."""
    return isinstance(kind, types.Type) and not isinstance(kind, types.Omitted)
