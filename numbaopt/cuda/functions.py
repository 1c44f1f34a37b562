"""The package's own functions, and a user's, as device functions: the same source compiled for another machine.

A function for the CPU calls others that are compiled for the CPU, and meets its parts by address.  `device` makes a
twin in whose globals and closure device functions stand in those places.  Addresses are values there: an array is
itself, a function is a device function, and the calls of `numbaopt._jit` that make or open an address (natives with
``by_value``) hand on what they are given.  After inlining nothing is left of them, and the arrays of a small run stand
in registers.

In the simulator everything is Python: a function is its own twin, and natives have Python functions in their places.
"""

from __future__ import annotations

import dis
import types as pytypes
import weakref
from collections.abc import Callable
from typing import Any

from numba import types
from numba.core import cgutils
from numba.core.dispatcher import Dispatcher
from numba.np.arrayobj import populate_array

from .._jit import Native
from ._backend import SIMULATED, cuda, intrinsic


@intrinsic
def _same(typing_context, value):
    return value(value), lambda context, builder, signature, values: values[0]


@intrinsic
def _opened(typing_context, value, like):
    return value(value, like), lambda context, builder, signature, values: values[0]


@intrinsic
def _tail(typing_context, values, first):
    """``values[first:]`` of a vector: a device function may not return a view."""

    def codegen(context, builder, signature, arguments):
        kind = signature.args[0]
        whole = context.make_array(kind)(context, builder, arguments[0])
        made = context.make_array(kind)(context, builder)
        left = builder.sub(builder.extract_value(whole.shape, 0), arguments[1])
        populate_array(made, data=builder.gep(whole.data, [arguments[1]]), shape=[left], strides=whole.strides,
                       itemsize=whole.itemsize, meminfo=None)  # fmt: skip
        return made._getvalue()

    return values(values, types.intp), codegen


def _call(where, arguments):
    return where(*arguments)


@intrinsic
def _quietly(typing_context, where, arguments):
    """Call a device function with a tuple; whether it raised: on a GPU an exception is a code that is returned."""
    made = where.dispatcher.compile_device(tuple(arguments))

    def codegen(context, builder, signature, values):
        context.active_code_library.add_linking_library(made.library)
        items = cgutils.unpack_tuple(builder, values[1], len(arguments))
        status, _ = context.call_internal_no_propagate(builder, made.fndesc, made.signature, items)
        return builder.zext(status.is_error, context.get_value_type(types.intp))

    return types.intp(where, arguments), codegen


_BY_VALUE: dict[str, Any] = {"same": _same, "opened": _opened, "tail": _tail, "call": _call, "quietly": _quietly}
_ELSEWHERE = ("numpy", "numba", "math", "builtins")  # modules whose functions numba knows
_KEPT: Any = weakref.WeakKeyDictionary()  # device functions, by the Python function


def _extremum(function: Any, sign: str) -> Any:
    """Python's ``max`` (">") or ``min``: Numba's own `numba.cuda` has none, and numba-cuda's goes by way of float64.

    What are no plain numbers (a user's numbers with derivatives, tuples) is left to what knows them.
    """

    @intrinsic
    def extremum(typing_context, first, *rest):
        kinds = [types.unliteral(kind) for kind in (first, *rest)]
        plain = len(kinds) > 1 and all(isinstance(kind, (types.Float, types.Integer, types.Boolean)) for kind in kinds)
        if plain:
            kind = typing_context.unify_types(*kinds)
            made = kind(*(kind,) * len(kinds))
        else:
            known = typing_context.resolve_value_type(function)
            made = known.get_call_type(typing_context, tuple(kinds), {})

        def codegen(context, builder, signature, arguments):
            more = [builder.extract_value(arguments[1], k) for k in range(len(rest))]
            given = zip((arguments[0], *more), kinds, made.args, strict=True)
            values = [context.cast(builder, *item) for item in given]
            if not plain:
                return context.get_function(known, made)(builder, values)
            found, *others = values
            signed = isinstance(kind, types.Integer) and kind.signed
            for value in others:
                compare = (builder.fcmp_ordered if isinstance(kind, types.Float)
                           else builder.icmp_signed if signed else builder.icmp_unsigned)  # fmt: skip
                found = builder.select(compare(sign, value, found), value, found)
            return found

        return made.return_type(kinds[0], types.StarArgTuple(kinds[1:])), codegen

    return extremum


_BUILTINS = {"max": _extremum(max, ">"), "min": _extremum(min, "<")}


def device(function: Any) -> Any:
    """The device function of a jitted or plain function or of a native; anything else is returned as it is."""
    if SIMULATED:
        return function
    if isinstance(function, Native):
        return device(_BY_VALUE[function.by_value]) if function.by_value else function
    source = function.py_func if isinstance(function, Dispatcher) else function
    if not isinstance(source, pytypes.FunctionType) or (source.__module__ or "").split(".")[0] in _ELSEWHERE:
        return function
    return _KEPT[source] if source in _KEPT else _twin(source)


def _twin(source: Callable[..., Any]) -> Any:
    """The device function that is a copy of a function and refers to device functions."""
    known: dict[str, Any] = {"__builtins__": __builtins__, "__name__": source.__module__}
    closure = source.__closure__ or ()
    cells, names = tuple(pytypes.CellType() for _ in closure), _names(source.__code__)
    code = _without_lists(source.__code__)
    made = pytypes.FunctionType(code, known, source.__name__, source.__defaults__, cells or None)
    made.__kwdefaults__, made.__module__, made.__qualname__ = (
        source.__kwdefaults__, source.__module__, source.__qualname__)  # fmt: skip
    kept = _KEPT[source] = cuda.jit(device=True)(made)  # before what it refers to: it may call itself
    known |= {name: device(source.__globals__[name]) for name in names & source.__globals__.keys()}
    known |= {name: _BUILTINS[name] for name in names & _BUILTINS.keys() - known.keys()}
    for cell, old in zip(cells, closure, strict=True):
        cell.cell_contents = device(old.cell_contents)
    return kept


def _without_lists(code: pytypes.CodeType) -> pytypes.CodeType:
    """Lists that are written out, ``[a, b]``, as tuples: a GPU has no lists, and who reads them sees no difference."""
    made, steps = bytearray(code.co_code), list(dis.get_instructions(code))
    before: Any = (None, None)
    if any(step.opname in ("LIST_TO_TUPLE", "CALL_INTRINSIC_1") for step in steps):  # of ``f(x, *args)``
        return code
    for step in steps:
        if step.opname == "BUILD_LIST" and step.arg:
            made[step.offset] = dis.opmap["BUILD_TUPLE"]
        elif step.opname == "LIST_EXTEND" and before[0] is not None and before[0].opname == "BUILD_LIST":
            made[before[0].offset] = made[step.offset] = dis.opmap["NOP"]
        before = before[1], step
    return code.replace(co_code=bytes(made))


def _names(code: Any) -> set[str]:
    inner = (_names(item) for item in code.co_consts if isinstance(item, pytypes.CodeType))
    return set(code.co_names).union(*inner)


__all__ = ["device"]
