"""The one decorator by which everything in the package is compiled, and calls through plain addresses.

Loops are compiled once for all rules and all objectives: they receive those as *addresses* of compiled functions with
one fixed signature, and call them once per step through `invoke`.  All that such a function is given are integers:
arrays travel as the address of their first item (`pointer`) and are put together again inside (`array_at`), so that a
call passes a handful of registers and counts no references.  With ``NUMBA_DISABLE_JIT=1`` an "address" is simply the
callable, or the array, itself.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core import cgutils
from numba.core.dispatcher import Dispatcher
from numba.core.errors import NumbaError
from numba.extending import _Intrinsic

from ._cache import DiskCache

# All of fast-math that does not change what NaN and infinity mean: finite checks must stay true.  A sum that may be
# reordered must be in a loop that stores nothing: LLVM guards loops that load and store with a check on addresses, and
# where memory happens to lie badly it takes the scalar twin of the loop, whose sum has other last bits.
# Nor "afn": with it LLVM makes float ** int32 a call of ``__powidf2``, a symbol that is not there.
FASTMATH = frozenset({"reassoc", "nsz", "arcp", "contract"})
EXACT = frozenset({"nsz"})  # every operation rounded as written: the same bits from vector code and its scalar twin
FUSED = EXACT | {"contract"}  # for loops that store: no reordering


def jit(function: Callable[..., Any], *, cache: bool = True, **options: Any) -> Any:
    """Compile ``function`` the way the whole package is compiled: no GIL, NumPy's division, disk cache."""
    options = {"nogil": True, "error_model": "numpy", "fastmath": FASTMATH, "no_cfunc_wrapper": True, **options}
    options["fastmath"] = set(options["fastmath"])
    dispatcher = numba.njit(**options)(function)
    if cache and isinstance(dispatcher, Dispatcher):
        options["fastmath"] = sorted(options["fastmath"])
        dispatcher._cache = DiskCache(function, sorted((k, str(v)) for k, v in options.items()))
    return dispatcher


def jit_for_address(function: Callable[..., Any], **options: Any) -> Any:
    """`jit` for what Python never calls: without the wrapper for Python, which takes long to compile."""
    return jit(function, no_cpython_wrapper=True, **options)


def jit_inside(function: Callable[..., Any], **options: Any) -> Any:
    """`jit_for_address` for what only other compiled functions call: kept on disk as part of those."""
    return jit_for_address(function, cache=False, **options)


@functools.cache
def scalar(function: Callable[..., Any], fastmath: frozenset[str] = FASTMATH) -> Any:
    """A rule's, schedule's or loss's scalar function, compiled for use inside other compiled functions."""
    if isinstance(function, Dispatcher):
        return function
    return jit_inside(function, forceinline=True, fastmath=fastmath)


class Native(_Intrinsic):
    """Machine code written by hand, with a Python function that stands in its place in the interpreter."""

    def __init__(self, name: str, defn: Any, python: Any = None, by_value: str = ""):
        super().__init__(name, defn)
        self._python = python
        self.by_value = by_value

    def __call__(self, *arguments: Any) -> Any:
        return self._python(*arguments)


def native(python: Callable[..., Any], by_value: str = "") -> Callable[[Callable[..., Any]], Any]:
    """Decorator for intrinsics: ``python`` is what stands in their place in the interpreter.

    ``by_value``: what stands there on a GPU, where addresses are the arrays and functions themselves: "same" or
    "opened" (the first of one or two arguments), "tail", "call" or "quietly".
    """

    def decorate(typing: Callable[..., Any]) -> Any:
        made = Native(typing.__name__, typing, python, by_value)
        made._register()
        return made

    return decorate


def precompile(function: Any, arguments: Any, final: bool = False) -> Any:
    """Compile ``function`` for a tuple of argument types now, if ``final`` never for others; returns it."""
    if isinstance(function, Dispatcher):
        function.compile(arguments)
        if final:
            function.disable_compile()
    return function


def array(dtype: Any, ndim: int = 1) -> types.Array:
    """Numba's type of a C-contiguous array of a NumPy ``dtype``."""
    return types.Array(numba.from_dtype(np.dtype(dtype)), ndim, "C")


def address(function: Any, signature: Any) -> Any:
    """Where the machine code of ``function`` for ``signature`` lies; the caller keeps ``function`` alive."""
    if not isinstance(function, Dispatcher):
        return function
    compiled = precompile(function, signature.args).get_compile_result(signature)
    return compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)


def linked(function: Any, signature: Any) -> Any:
    """An intrinsic ``at()``: `address`, for compiled code of which ``function`` becomes a part, on disk, too."""

    @native(lambda: function)
    def at(typing_context):
        def codegen(context, builder, _, values):
            compiled = precompile(function, signature.args).get_compile_result(signature)
            context.add_linking_libs([compiled.library])
            declared = context.declare_function(builder.module, compiled.fndesc)
            return builder.ptrtoint(declared, context.get_value_type(types.intp))

        return types.intp(), codegen

    return at


@contextlib.contextmanager
def compiling(what: str) -> Iterator[None]:
    """Where Numba cannot compile a user's functions: one sentence that names them, not a page."""
    try:
        yield
    except NumbaError as error:
        raise TypeError(f"{what} cannot be compiled by Numba: {short_reason(error)}") from None


def short_reason(error: Exception) -> str:
    """The one line of a Numba error that says what could not be compiled, and where in the user's code."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    noise = re.compile(r"^(Failed in|During:|File |- |\s*$|[ -]*>>>|<source|Rejected|There are \d+|\^|def |Enable)")
    lines = [line.strip() for line in text.splitlines()]
    what = next((line for line in lines if not noise.match(line)), type(error).__name__)
    if what.endswith("found for signature:"):
        what += next((line.strip("> ").join((" ", "")) for line in lines if line.startswith(">>>")), "")
    places = re.findall(r'File "([^"]*)", line (\d+)', text)
    places = [place for place in places if not re.search(r"(^|/)numba(opt)?/", place[0])]
    where = f" ({places[0][0]}, line {places[0][1]})" if places else ""
    return what.rstrip(".:") + where


def _call(result: types.Type, arguments: Any) -> Any:
    """Signature and code of a call of the address ``where`` with a tuple; errors come out as in Python."""
    kinds = tuple(types.unliteral(kind) for kind in arguments)

    def codegen(context, builder, signature, values):
        convention = context.call_conv
        pointer = builder.inttoptr(values[0], convention.get_function_type(result, kinds).as_pointer())
        items = [builder.extract_value(values[1], i) for i in range(len(kinds))]
        status, value = convention.call_function(builder, pointer, result, kinds, items)
        with cgutils.if_unlikely(builder, status.is_error):
            convention.return_status_propagate(builder, status)
        return value

    return result(types.intp, types.Tuple(kinds)), codegen


@native(lambda where, arguments: where(*arguments), by_value="call")
def invoke(typing_context, where, arguments):
    """Call the compiled function at address ``where`` with a tuple of exactly the argument types it was compiled for.

    Exceptions raised there come out of the loop as they would in Python.
    """
    return _call(types.none, arguments)


@native(lambda where, arguments: where(*arguments), by_value="call")
def invoke_value(typing_context, where, arguments):
    """`invoke` for functions that return a float64."""
    return _call(types.float64, arguments)


def _quietly(where: Any, arguments: Any) -> int:
    try:
        where(*arguments)
    except Exception:
        return 1
    return 0


@native(_quietly, by_value="quietly")
def invoke_quietly(typing_context, where, arguments):
    """`invoke` that returns whether the function raised, 0 if not, and keeps the exception to itself."""
    kinds = tuple(types.unliteral(kind) for kind in arguments)

    def codegen(context, builder, signature, values):
        convention = context.call_conv
        pointer = builder.inttoptr(values[0], convention.get_function_type(types.none, kinds).as_pointer())
        items = [builder.extract_value(values[1], i) for i in range(len(kinds))]
        status, _ = convention.call_function(builder, pointer, types.none, kinds, items)
        return builder.zext(status.is_error, context.get_value_type(types.intp))

    return types.intp(types.intp, types.Tuple(kinds)), codegen


@native(lambda value: int(np.float64(value).view(np.int64)))
def bits(typing_context, value):
    """The bits of a float64 as an integer."""
    return types.int64(types.float64), (
        lambda context, builder, signature, values: builder.bitcast(values[0], context.get_value_type(types.int64)))


@native(lambda value: float(np.int64(value).view(np.float64)))
def from_bits(typing_context, value):
    """The float64 with the bits of an integer."""
    return types.float64(types.int64), (
        lambda context, builder, signature, values: builder.bitcast(values[0], context.get_value_type(types.float64)))


def _address_of(context, builder, kind, values, first):
    data = context.make_array(kind)(context, builder, values).data
    return builder.ptrtoint(builder.gep(data, [first]), context.get_value_type(types.intp))


@native(lambda where: where is not None)
def wanted(typing_context, where):
    """Whether an address is one, and not 0 (None, where nothing is compiled): what nobody wants has none."""
    return types.boolean(types.intp), (
        lambda context, builder, signature, values: builder.icmp_signed("!=", values[0], values[0].type(0)))


@native(lambda values: values, by_value="same")
def pointer(typing_context, values):
    """The address of the first item of a C-contiguous array."""
    return types.intp(values), (
        lambda context, builder, signature, arguments: _address_of(
            context, builder, values, arguments[0], context.get_constant(types.intp, 0)))  # fmt: skip


@native(lambda values, first: values[first:], by_value="tail")
def pointer_to(typing_context, values, first):
    """The address of item ``first`` of a C-contiguous vector."""
    return types.intp(values, types.intp), (
        lambda context, builder, signature, arguments: _address_of(context, builder, values, *arguments))


def address_of(values: np.ndarray | None) -> Any:
    """Where the items of an array lie, for the compiled loop, or 0; the array itself where nothing is compiled."""
    if numba.config.DISABLE_JIT:
        return values
    return 0 if values is None else values.ctypes.data


def make_array(context, builder, kind, data, shape, strides):
    """An array over memory that it does not own: no reference is ever counted."""
    from numba.np.arrayobj import populate_array  # late: imports most of Numba, which `import numba` does not

    made = context.make_array(kind)(context, builder)
    itemsize = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    data = builder.inttoptr(data, made.data.type)
    populate_array(made, data=data, shape=shape, strides=strides, itemsize=itemsize, meminfo=None)
    return made._getvalue()


@functools.cache
def array_at(dtype: np.dtype, rows: int | None = None, columns: int | None = None) -> Any:
    """An intrinsic ``at(where, n)``: the C-contiguous array of shape (n,), (rows, n) or (n, columns) at an address."""
    kind = array(dtype, 1 if rows is None and columns is None else 2)
    itemsize = np.dtype(dtype).itemsize

    @native(lambda where, n: where, by_value="opened")
    def at(typing_context, where, n):
        def codegen(context, builder, signature, values):
            def whole(value):
                return context.get_constant(types.intp, value)

            data, n = values
            size = whole(itemsize)
            if rows is not None:
                shape, strides = [whole(rows), n], [builder.mul(n, size), size]
            elif columns is not None:
                shape, strides = [n, whole(columns)], [builder.mul(whole(columns), size), size]
            else:
                shape, strides = [n], [size]
            return make_array(context, builder, kind, data, shape, strides)

        return kind(types.intp, types.intp), codegen

    return at
