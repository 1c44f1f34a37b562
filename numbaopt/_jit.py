"""The one decorator by which everything in the package is compiled, and calls through plain addresses.

Loops are compiled once for all rules and all objectives: they receive those as *addresses* of compiled functions with
one fixed signature, and call them once per step through `invoke`.  What an objective needs besides ``x`` (a user's
``args``, a table of data) travels as one more address, made by `Packed` and opened by the function that `unpacker`
makes.  With ``NUMBA_DISABLE_JIT=1``, or when a loop is run by the interpreter because its objective is plain Python, an
"address" is simply the callable itself and the "packed" data the object.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core import cgutils
from numba.core.dispatcher import Dispatcher
from numba.extending import intrinsic, overload

from ._cache import DiskCache

# All of fast-math that does not change what NaN and infinity mean: finite checks must stay true.  A sum that may be
# reordered must be in a loop that stores nothing: LLVM guards loops that load and store with a check on addresses, and
# where memory happens to lie badly it takes the scalar twin of the loop, whose sum has other last bits.
# Nor "afn": with it LLVM makes float ** int32 a call of ``__powidf2``, a symbol that is not there.
FASTMATH = frozenset({"reassoc", "nsz", "arcp", "contract"})
EXACT = frozenset({"nsz"})  # every operation rounded as written: the same bits from vector code and its scalar twin


def jit(function: Callable[..., Any], *, cache: bool = True, **options: Any) -> Any:
    """Compile ``function`` the way the whole package is compiled: no GIL, NumPy's division, disk cache."""
    options = {"nogil": True, "error_model": "numpy", "fastmath": FASTMATH, **options}
    options["fastmath"] = set(options["fastmath"])
    dispatcher = numba.njit(**options)(function)
    if cache and isinstance(dispatcher, Dispatcher):
        options["fastmath"] = sorted(options["fastmath"])
        dispatcher._cache = DiskCache(function, sorted((k, str(v)) for k, v in options.items()))
    return dispatcher


def jit_for_address(function: Callable[..., Any], **options: Any) -> Any:
    """`jit` for what is only ever called by address: without the wrappers that let Python and C call it."""
    return jit(function, no_cpython_wrapper=True, no_cfunc_wrapper=True, **options)


@functools.cache
def scalar(function: Callable[..., Any], fastmath: frozenset[str] = FASTMATH) -> Any:
    """A rule's, schedule's or loss's scalar function, compiled for use inside other compiled functions."""
    if isinstance(function, Dispatcher):
        return function
    return jit(function, cache=False, forceinline=True, fastmath=fastmath)


def native(python: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Decorator for intrinsics: ``python`` is what stands in their place when Numba is switched off."""
    return lambda typing: python if numba.config.DISABLE_JIT else intrinsic(typing)


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
    compiled = function.get_compile_result(signature)
    return compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)


def _calls_back(result: types.Type) -> Any:
    @intrinsic
    def call(typing_context, where, arguments):
        kinds = tuple(types.unliteral(kind) for kind in arguments)

        def codegen(context, builder, signature, values):
            convention = context.call_conv
            pointer = builder.inttoptr(values[0], convention.get_function_type(result, kinds).as_pointer())
            unpacked = [builder.extract_value(values[1], i) for i in range(len(kinds))]
            status, value = convention.call_function(builder, pointer, result, kinds, unpacked)
            with cgutils.if_unlikely(builder, status.is_error):
                convention.return_status_propagate(builder, status)
            return value

        return result(types.intp, types.Tuple(kinds)), codegen

    return call


_call_value = _calls_back(types.float64)
_call_nothing = _calls_back(types.none)


def invoke(where, arguments):
    """Call the compiled function at address ``where`` with a tuple of exactly the argument types it was compiled for.

    Exceptions raised there come out of the loop as they would in Python.
    """
    where(*arguments)


def invoke_value(where, arguments):
    """`invoke` for functions that return a float64."""
    return where(*arguments)


@overload(invoke, inline="always")
def _invoke(where, arguments):
    return lambda where, arguments: _call_nothing(where, arguments)


@overload(invoke_value, inline="always")
def _invoke_value(where, arguments):
    return lambda where, arguments: _call_value(where, arguments)


class Packed:
    """Any value that Numba can type, stored so that its address is all a loop has to carry.

    The references that the stored copy holds are given back when this object is deleted.
    """

    def __init__(self, value: Any):
        self.type = numba.typeof(value)
        self.value = value
        if numba.config.DISABLE_JIT:
            self.address: Any = value
            return
        size, store, self._release = _storage(self.type)
        self._memory = np.zeros(size, np.uint8)
        self.address = self._memory.ctypes.data
        store(self.address, value)

    def __del__(self) -> None:
        if getattr(self, "_memory", None) is not None:
            self._release(self.address)


def _pointer(context, builder, kind, where):
    model = context.data_model_manager[kind]
    return model, builder.inttoptr(where, model.get_data_type().as_pointer())


def _borrow(context, builder, kind, value):
    """``value`` with every array in it stripped of its reference count: counting is an atomic operation each time."""
    if isinstance(kind, types.Array):
        proxy = context.make_array(kind)(context, builder, value)
        proxy.meminfo = cgutils.get_null_value(proxy.meminfo.type)
        return proxy._getvalue()
    if isinstance(kind, types.BaseTuple):
        items = [_borrow(context, builder, item, builder.extract_value(value, k)) for k, item in enumerate(kind)]
        return context.make_tuple(builder, kind, items)
    context.nrt.incref(builder, kind, value)
    return value


def unpacker(kind: types.Type) -> Callable[[Any], Any]:
    """A function for compiled code that opens the address of a `Packed` value of Numba type ``kind``.

    Arrays come out borrowed: they must not outlive the `Packed`.
    """

    @native(lambda where: where)
    def load(typing_context, where):
        def codegen(context, builder, signature, values):
            model, pointer = _pointer(context, builder, kind, values[0])
            return _borrow(context, builder, kind, model.from_data(builder, builder.load(pointer)))

        return kind(types.intp), codegen

    return load


@functools.cache
def _storage(kind: types.Type) -> tuple[int, Any, Any]:
    """Size in bytes of a stored ``kind``, and compiled functions that store one and give it up."""
    from numba.core.registry import cpu_target

    context = cpu_target.target_context

    @intrinsic
    def store(typing_context, where, value):
        def codegen(context, builder, signature, values):
            model, pointer = _pointer(context, builder, kind, values[0])
            context.nrt.incref(builder, kind, values[1])
            builder.store(model.as_data(builder, values[1]), pointer)
            return context.get_dummy_value()

        return types.void(types.intp, kind), codegen

    @intrinsic
    def release(typing_context, where):
        def codegen(context, builder, signature, values):
            model, pointer = _pointer(context, builder, kind, values[0])
            context.nrt.decref(builder, kind, model.from_data(builder, builder.load(pointer)))
            return context.get_dummy_value()

        return types.void(types.intp), codegen

    store_compiled = precompile(jit(lambda where, value: store(where, value)), (types.intp, kind))  # type: ignore
    release_compiled = precompile(jit(lambda where: release(where)), (types.intp,))  # type: ignore
    size = context.get_abi_sizeof(context.data_model_manager[kind].get_data_type())
    return max(size, 1), store_compiled, release_compiled
