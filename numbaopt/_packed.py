"""Any value as one address: what an objective needs besides ``x`` travels through the loops as a single integer.

`Packed` writes the parts of a value as 64-bit words (an array as its address, lengths and strides), `unpacker` makes
the function that puts them together again in compiled code.  Arrays come out borrowed, without a reference count:
counting is an atomic operation each time.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core import cgutils

from ._jit import jit, make_array, native, precompile

WORD = np.dtype(np.int64)


class Packed:
    """A value that Numba can type, stored so that its address is all a loop has to carry."""

    def __init__(self, value: Any, kind: types.Type | None = None):
        self.type = kind or type_of(value)
        self.value = value  # owns the memory of all arrays
        if numba.config.DISABLE_JIT:
            self.address: Any = value
            return
        self._stored: list[_Stored] = []
        self.words = np.array(self._words(self.type, value) or [0], np.int64).view(np.uint64)
        self.address = self.words.ctypes.data

    def _words(self, kind: Any, value: Any) -> list[int]:
        form = _form(kind.__class__)
        if form is types.Array:
            return [value.ctypes.data, *value.shape, *value.strides]
        if form is types.BaseTuple:
            return [word for part, item in zip(kind, value, strict=True) for word in self._words(part, item)]
        if form is types.Float:
            return [int(np.float64(value).view(np.int64))]
        if form is types.Integer:
            return [(int(value) + 2**63) % 2**64 - 2**63]
        self._stored.append(_Stored(kind, value))
        return [self._stored[-1].address]


_TYPES: dict[Any, types.Type] = {}


def type_of(value: Any) -> types.Type:
    """`numba.typeof`, remembered for tuples of arrays and numbers: it takes longer than to store them."""
    try:
        key = _key(value)
    except TypeError:
        return numba.typeof(value)
    kind = _TYPES.get(key)
    if kind is None:
        if len(_TYPES) >= 1024:
            _TYPES.clear()
        kind = _TYPES[key] = numba.typeof(value)
    return kind


def _key(value: Any) -> Any:
    """What the Numba type of an array, a number or a plain tuple of such depends on; a TypeError for all else."""
    kind = type(value)
    if kind is np.ndarray:
        flags, dtype = value.flags, value.dtype
        layout = flags.c_contiguous, flags.f_contiguous, flags.writeable, flags.aligned
        return dtype, dtype.isalignedstruct, value.ndim, layout
    if kind is tuple:
        return tuple, *map(_key, value)
    if kind is float or kind is bool or (kind is int and -(2**63) <= value < 2**63):
        return kind
    raise TypeError


@functools.cache
def _form(kind: type) -> Any:
    """Of which form the values of a class of Numba types are; None: of another one."""
    forms = types.Array, types.BaseTuple, types.Float, types.Integer
    return types.Integer if issubclass(kind, types.Boolean) else next((f for f in forms if issubclass(kind, f)), None)


def count_words(kind: Any) -> int:
    """How many words a `Packed` value of a Numba type has."""
    if isinstance(kind, types.BaseTuple):
        items: Any = kind
        return sum(count_words(item) for item in items)
    return 1 + 2 * kind.ndim if isinstance(kind, types.Array) else 1


def unpacker(kind: types.Type) -> Callable[[Any], Any]:
    """A function for compiled code that opens the address of a `Packed` value of Numba type ``kind``.

    What comes out must not outlive the `Packed`.
    """

    @native(lambda where: where, by_value="same")
    def load(typing_context, where):
        return kind(types.intp), (
            lambda context, builder, signature, values: open_at(context, builder, kind, values[0]))  # fmt: skip

    return load


def open_at(context, builder, kind, where):
    """Generate the code of `unpacker`."""
    words = builder.inttoptr(where, context.get_value_type(types.int64).as_pointer())
    position = itertools.count()
    return _load(context, builder, kind, lambda: builder.load(cgutils.gep(builder, words, next(position))))


def _load(context, builder, kind, word):
    """The mirror of `Packed._words`."""
    if isinstance(kind, types.Array):
        data = word()
        shape = [word() for _ in range(kind.ndim)]
        return make_array(context, builder, kind, data, shape, [word() for _ in range(kind.ndim)])
    if isinstance(kind, types.BaseTuple):
        return context.make_tuple(builder, kind, [_load(context, builder, item, word) for item in kind])
    if isinstance(kind, types.Float):
        number = builder.bitcast(word(), context.get_value_type(types.float64))
        return context.cast(builder, number, types.float64, kind)
    if isinstance(kind, (types.Integer, types.Boolean)):
        return context.cast(builder, word(), types.int64, kind)
    model, where = _pointer(context, builder, kind, word())
    value = model.from_data(builder, builder.load(where))
    context.nrt.incref(builder, kind, value)
    return value


@native(lambda value, words: None)
def store(typing_context, value, words):
    """Write a value into a vector of words in compiled code, as `Packed` does; `count_words` says how long it must be.

    Nothing is owned by the words: the value, and the function that stores it, must outlast them.
    """
    kind = types.unliteral(value)

    def codegen(context, builder, signature, values):
        data = context.make_array(signature.args[1])(context, builder, values[1]).data
        for position, word in enumerate(_words_of(context, builder, signature.args[0], values[0])):
            builder.store(word, cgutils.gep(builder, data, position))
        return context.get_dummy_value()

    return types.void(kind, words), codegen


def _words_of(context, builder, kind, value):
    """The mirror of `_load`."""
    if isinstance(kind, types.Array):
        array = context.make_array(kind)(context, builder, value)
        yield builder.ptrtoint(array.data, context.get_value_type(types.intp))
        for numbers in (array.shape, array.strides):
            yield from (builder.extract_value(numbers, i) for i in range(kind.ndim))
    elif isinstance(kind, types.BaseTuple):
        items: Any = kind
        for k, item in enumerate(items):
            yield from _words_of(context, builder, item, builder.extract_value(value, k))
    elif isinstance(kind, types.Float):
        number = context.cast(builder, value, kind, types.float64)
        yield builder.bitcast(number, context.get_value_type(types.int64))
    elif isinstance(kind, (types.Integer, types.Boolean)):
        yield context.cast(builder, value, kind, types.int64)
    else:
        where = cgutils.alloca_once_value(builder, context.data_model_manager[kind].as_data(builder, value))
        yield builder.ptrtoint(where, context.get_value_type(types.intp))


class _Stored:
    """A value of any other type (a list, a string, a compiled function) in memory of its own.

    The references that the stored copy holds are given back when this object is deleted.
    """

    def __init__(self, kind: types.Type, value: Any):
        size, store, self._release = _storage(kind)
        self._memory = np.zeros(size, np.uint8)
        self.address = self._memory.ctypes.data
        store(self.address, value)

    def __del__(self) -> None:
        if getattr(self, "_memory", None) is not None:
            self._release(self.address)


def _pointer(context, builder, kind, where):
    model = context.data_model_manager[kind]
    return model, builder.inttoptr(where, model.get_data_type().as_pointer())


@functools.cache
def _storage(kind: types.Type) -> tuple[int, Any, Any]:
    """Size in bytes of a stored ``kind``, and compiled functions that store one and give it up."""
    from numba.core.registry import cpu_target

    context = cpu_target.target_context

    @native(lambda where, value: None)
    def store(typing_context, where, value):
        def codegen(context, builder, signature, values):
            model, pointer = _pointer(context, builder, kind, values[0])
            context.nrt.incref(builder, kind, values[1])
            builder.store(model.as_data(builder, values[1]), pointer)
            return context.get_dummy_value()

        return types.void(types.intp, kind), codegen

    @native(lambda where: None)
    def release(typing_context, where):
        def codegen(context, builder, signature, values):
            model, pointer = _pointer(context, builder, kind, values[0])
            context.nrt.decref(builder, kind, model.from_data(builder, builder.load(pointer)))
            return context.get_dummy_value()

        return types.void(types.intp), codegen

    store_compiled = precompile(jit(lambda where, value: store(where, value)), (types.intp, kind))
    release_compiled = precompile(jit(lambda where: release(where)), (types.intp,))
    size = context.get_abi_sizeof(context.data_model_manager[kind].get_data_type())
    return max(size, 1), store_compiled, release_compiled
