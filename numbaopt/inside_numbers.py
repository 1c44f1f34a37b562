"""Numbers of a method inside compiled code: where each stands, read, and checked.

They stand in the method's instance, in the options or in the class; which of these is known from the types alone, so
that a read is a move between registers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import types

from ._jit import jit_inside, native
from .inside_options import MARK


class Source(NamedTuple):
    """Where a number comes from: argument 0 (the method), 1 (the options), 2 (tol), or None: ``path`` is the number.

    Where it turns out to be NaN, from ``otherwise``.
    """

    argument: int | None
    path: Any
    kind: Any = types.float64
    otherwise: Any = None


def absent(kind: Any) -> bool:
    """Whether an argument is left out, or None."""
    return kind is None or isinstance(kind, types.NoneType) or (isinstance(kind, types.Omitted) and kind.value is None)


def keys_of(options: Any, valid: list[str]) -> dict[str, Any]:
    """The keys of options and the types of their values; of a typed dictionary, all that are ``valid``."""
    if absent(options):
        return {}
    if isinstance(options, types.LiteralStrKeyDict):
        kinds = zip(options.fields, map(types.unliteral, options.types), strict=True)
        return {name: kind for name, kind in kinds if name != MARK}
    if isinstance(options, types.DictType) and isinstance(options.value_type, types.Number):
        return dict.fromkeys(valid, types.float64)
    raise TypeError("options must be a dictionary of numbers such as {'maxiter': 100, 'gtol': 1e-8} in compiled code, "
                    "or None")  # fmt: skip


def opened(options: Any, keys: dict[str, Any]) -> Callable[[Any], Any]:
    """A function for compiled code that makes a tuple of options, NaN where a typed dictionary lacks one."""
    if not isinstance(options, types.DictType):
        return jit_inside(lambda options: ()) if absent(options) else _as_it_is
    names, told = range(len(keys)), f" is not known in compiled code, or no number; valid: {', '.join(sorted(keys))}"
    lines = ["def open_options(options):", *(f"    v{k} = find(options, {key!r})" for k, key in enumerate(keys)),
             f"    if {' + '.join(f'(v{k} == v{k})' for k in names)} < len(options):",
             "        for key in options:",
             f"            if not (key in {tuple(keys)!r} and options[key] == options[key]):",
             f"                raise ValueError('options: ' + key + {told!r})",
             f"    return ({''.join(f'v{k}, ' for k in names)})"]  # fmt: skip
    space: dict[str, Any] = {"find": _find}
    exec("\n".join(lines), space)  # noqa: S102
    return jit_inside(space["open_options"], fastmath=())


def _look_up(options, key):
    return float(options[key]) if key in options else np.nan


_find = jit_inside(_look_up, fastmath=())


@native(lambda value: value)
def _as_it_is(typing_context, value):
    def codegen(context, builder, signature, values):
        context.nrt.incref(builder, value, values[0])
        return values[0]

    return value(value), codegen


def _value(context, builder, source: Source, kind: Any, arguments: Any) -> Any:
    """What stands at a source, as a ``kind``."""
    if source.argument is None:
        return context.get_constant(kind, source.path)
    value = arguments[source.argument]
    for k in source.path:
        value = builder.extract_value(value, k)
    value = context.cast(builder, value, source.kind, kind)
    if source.otherwise is None:
        return value
    other = _value(context, builder, source.otherwise, kind, arguments)
    return builder.select(builder.fcmp_unordered("uno", value, value), other, value)


def reader(sources: tuple[Source, ...]) -> Any:
    """An intrinsic ``read(method, options, tol)``: the numbers of all sources as a tuple of float64."""
    made = types.UniTuple(types.float64, len(sources))

    @native(lambda method, options, tol: None)
    def read(typing_context, method, options, tol):
        def codegen(context, builder, signature, arguments):
            numbers = [_value(context, builder, source, types.float64, arguments) for source in sources]
            return context.make_tuple(builder, made, numbers)

        return made(method, options, tol), codegen

    return read


def picker(source: Source) -> Any:
    """An intrinsic ``pick(method, options)``: what stands at one source, of whatever type."""

    @native(lambda method, options: None)
    def pick(typing_context, method, options):
        return source.kind(method, options), (
            lambda context, builder, signature, arguments: _value(context, builder, source, source.kind, arguments))

    return pick


def checker(named: list[tuple[str, str]], limits: tuple[Any, ...], ascending: tuple[str, ...]) -> Any:
    """``check(numbers)``: a ValueError where one is out of its range; ``named`` are names and ranges, "" for any.

    ``limits`` may be NaN, not given; of ``ascending`` the first must be below the second.
    """
    lines, places = ["def check(numbers):", "    pass"], {name: k for k, (name, _) in enumerate(named)}
    for low, high in [ascending] if ascending else []:
        lines += [f"    if not numbers[{places[low]}] < numbers[{places[high]}]:",
                  f"        raise ValueError({f'{low} must be below {high}'!r})"]  # fmt: skip
    for k, (name, interval) in enumerate(named):
        given = f"numbers[{k}] == numbers[{k}] and " if name in limits else ""
        if interval:
            low, high = interval[1:-1].split(", ")
            above = f"{low} {'<=' if interval[0] == '[' else '<'} " if low != "-inf" else ""
            below = f" {'<=' if interval[-1] == ']' else '<'} {high}"
            lines += [f"    if {given}not ({above}numbers[{k}]{below}):",
                      f"        raise ValueError({f'{name} must be in {interval}'!r})"]  # fmt: skip
        if name == "maxiter":
            lines += [f"    if {given}numbers[{k}] != int(numbers[{k}]):",
                      "        raise ValueError('maxiter must be an integer')"]  # fmt: skip
    space: dict[str, Any] = {"inf": math.inf}
    exec("\n".join(lines), space)  # noqa: S102
    return jit_inside(space["check"], fastmath=())
