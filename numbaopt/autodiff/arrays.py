"""Arrays of `Number`: memory seen as one, and what a rule for an array function needs to take them apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.imputils import lower_builtin
from numba.core.typing import signature
from numba.extending import intrinsic, overload_classmethod
from numba.np import arrayobj

from .numbers import DOUBLE, TAPED, Dual, NumberArray, Taped
from .scalars import lift, value
from .stubs import chosen_by_type
from .tape import ARGUMENTS, COUNT, WORD, load_word

FLOAT_MATRIX = types.Array(types.float64, 2, "C")
WORDS = types.Array(types.int64, 1, "C")


@overload_classmethod(NumberArray, "_allocate", target="CPU")
def _allocate(cls, allocsize, align):
    return lambda cls, allocsize, align: arrayobj.intrin_alloc(allocsize, align)


def _array_over(context, builder, kind, address, shape):
    """LLVM code: the C-contiguous array of a type at an address that it does not own."""
    size = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(kind.dtype)))
    strides = [size]
    for extent in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], extent))
    made = context.make_array(kind)(context, builder)
    arrayobj.populate_array(made, data=builder.inttoptr(address, made.data.type), shape=shape, strides=strides,
                            itemsize=size, meminfo=None)  # fmt: skip
    return made._getvalue()


@intrinsic(prefer_literal=False)
def numbers_at(typing_context, address, shape, kind):
    """The `NumberArray` of a shape (a tuple) over memory that it does not own."""
    made = NumberArray(kind.instance_type, len(shape), "C")

    def codegen(context, builder, signature, args):
        extents = [builder.extract_value(args[1], i) for i in range(made.ndim)]
        return _array_over(context, builder, made, args[0], extents)

    return made(types.int64, shape, kind), codegen


@intrinsic
def floats_at(typing_context, address, rows, columns):
    """The float64 matrix at an address."""
    return FLOAT_MATRIX(types.int64, types.int64, types.int64), (
        lambda context, builder, signature, args: _array_over(context, builder, FLOAT_MATRIX, args[0], args[1:]))


@intrinsic
def words_at(typing_context, address, count):
    """The int64 vector at an address."""
    return WORDS(types.int64, types.int64), (
        lambda context, builder, signature, args: _array_over(context, builder, WORDS, args[0], args[1:]))


@intrinsic
def address(typing_context, array):
    """Where the first item of an array lies."""

    def codegen(context, builder, signature, args):
        return builder.ptrtoint(context.make_array(array)(context, builder, args[0]).data, WORD)

    return types.int64(array), codegen


@chosen_by_type("shape", "kind")
def empty(shape, kind):
    """A new array of numbers of the kind that a type reference names."""
    made = NumberArray(kind.instance_type, arrayobj.ty_parse_shape(shape), "C")
    return lambda shape, kind: arrayobj.numpy_empty_nd(shape, None, made)


@chosen_by_type("shape", "fill", "kind")
def filled(shape, fill, kind):
    """`empty`, all items the same."""
    number = kind.instance_type

    def build(shape, fill, kind):
        made = empty(shape, number)
        item = lift(fill, number)
        for i in np.ndindex(made.shape):
            made[i] = item
        return made

    return build


@chosen_by_type("a")
def size_of(a):
    """How many numbers there are; of a scalar, one."""
    return (lambda a: a.size) if isinstance(a, types.Array) else (lambda a: 1)


@chosen_by_type("a")
def values(a):
    """The float64 values of a number, an array of them or of floats; always a copy of an array."""
    if isinstance(a, types.Array):

        def build(a):
            made = np.empty(a.shape, np.float64)
            for i in np.ndindex(a.shape):
                made[i] = value(a[i])
            return made

        return build
    return lambda a: value(a)


@lower_builtin("print_item", NumberArray)
def _print(context, builder, made, args):
    plain = types.Array(types.float64, made.args[0].ndim, "C")
    floats = context.compile_internal(builder, lambda a: values(a), plain(*made.args), args)
    code = context.get_function("print_item", signature(types.none, plain))
    done = code(builder, [floats])
    context.nrt.decref(builder, plain, floats)
    return done


@intrinsic
def tangent(typing_context, number, which):
    """A derivative of a `Dual`."""

    def codegen(context, builder, signature, args):
        index = builder.trunc(args[1], ir.IntType(32))
        return builder.extract_element(builder.extract_value(args[0], 1), index)

    return types.float64(number, types.int64), codegen


@intrinsic
def with_tangent(typing_context, number, which, slope):
    """A `Dual` with another derivative in one place."""

    def codegen(context, builder, signature, args):
        index = builder.trunc(args[1], ir.IntType(32))
        vector = builder.insert_element(builder.extract_value(args[0], 1), args[2], index)
        return builder.insert_value(args[0], vector, 1)

    return number(number, types.int64, types.float64), codegen


@chosen_by_type("a", "which")
def tangents(a, which):
    """The derivatives of an array in one direction; zeros for an array of floats."""
    if not isinstance(a.dtype, Dual):
        return lambda a, which: np.zeros(a.shape)

    def build(a, which):
        made = np.empty(a.shape, np.float64)
        for i in np.ndindex(a.shape):
            made[i] = tangent(a[i], which)
        return made

    return build


@intrinsic
def parts(typing_context, number):
    """(value, node, address of the tape) of a `Taped`."""
    made = types.Tuple((types.float64, types.int64, types.int64))

    def codegen(context, builder, signature, args):
        return context.make_tuple(builder, made, [builder.extract_value(args[0], i) for i in range(3)])

    return made(number), codegen


@intrinsic
def taped(typing_context, number, node, where):
    """The `Taped` with these parts."""

    def codegen(context, builder, signature, args):
        made = TAPED.constant(context, builder, args[0])
        return builder.insert_value(builder.insert_value(made, args[1], 1), args[2], 2)

    return TAPED(types.float64, types.int64, types.int64), codegen


@intrinsic
def store_unknown(typing_context, array, index, number, which, where):
    """Write unknown ``number`` to a place of a flat array: `Taped` as a node of ``where``, `Dual` as direction."""
    kind = array.dtype

    def codegen(context, builder, signature, args):
        made = context.make_array(array)(context, builder, args[0])
        place = builder.gep(made.data, [args[1]])
        if isinstance(kind, Taped):
            unknown = kind.constant(context, builder, args[2])
            unknown = builder.insert_value(builder.insert_value(unknown, args[3], 1), args[4], 2)
        else:
            unknown = kind.constant(context, builder, args[2])
            inside = builder.icmp_unsigned("<", args[3], context.get_constant(types.int64, kind.width))
            with builder.if_else(inside) as (then, other):
                with then:
                    vector = builder.extract_value(unknown, 1)
                    one, index = DOUBLE(1.0), builder.trunc(args[3], ir.IntType(32))
                    seeded = builder.insert_value(unknown, builder.insert_element(vector, one, index), 1)
                    first = builder.block
                with other:
                    second = builder.block
            phi = builder.phi(unknown.type)
            phi.add_incoming(seeded, first)
            phi.add_incoming(unknown, second)
            unknown = phi
        builder.store(unknown, place, align=1 if isinstance(kind, Dual) else 8)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.float64, types.int64, types.int64), codegen


@intrinsic
def keep_alive(typing_context, array):
    """Nothing, but an array that was used by its address lives until here."""
    return types.void(array), lambda context, builder, signature, args: context.get_dummy_value()


# ------------------------------------------------------------------------------------- the memory of arguments
def _float_arrays(kind: Any, path: tuple[int, ...] = ()) -> list[tuple[tuple[int, ...], Any]]:
    """Where in (tuples of) arguments float64 arrays are, and their types."""
    if isinstance(kind, types.Array):
        return [(path, kind)] if kind.dtype == types.float64 else []
    if isinstance(kind, types.BaseTuple):
        return [found for i, item in enumerate(kind.types) for found in _float_arrays(item, (*path, i))]
    return []


@intrinsic
def note_arguments(typing_context, where, args):
    """Tell a tape where the float64 arrays among the arguments lie, on the stack of the caller."""
    found = _float_arrays(args)

    def codegen(context, builder, signature, llvm):
        space = cgutils.alloca_once(builder, WORD, size=max(2 * len(found), 1))
        for k, (path, kind) in enumerate(found):
            item = llvm[1]
            for i in path:
                item = builder.extract_value(item, i)
            made = context.make_array(kind)(context, builder, item)
            begin = builder.ptrtoint(made.data, WORD)
            size = builder.mul(made.nitems, made.itemsize) if kind.is_contig else WORD(0)
            for j, word in enumerate((begin, builder.add(begin, size))):
                builder.store(word, builder.gep(space, [WORD(2 * k + j)]))
        header = builder.inttoptr(llvm[0], WORD.as_pointer())
        builder.store(builder.ptrtoint(space, WORD), builder.gep(header, [WORD(ARGUMENTS)]))
        builder.store(WORD(len(found)), builder.gep(header, [WORD(COUNT)]))
        return context.get_dummy_value()

    return types.void(types.int64, args), codegen


def read_only(kind: Any) -> Any:
    """A type of arguments whose arrays nobody can write to."""
    if isinstance(kind, types.Array):
        return kind.copy(readonly=True) if type(kind) is types.Array else kind
    if isinstance(kind, types.BaseNamedTuple):
        return types.BaseTuple.from_types(tuple(map(read_only, kind.types)), kind.instance_class)
    if isinstance(kind, types.BaseTuple):
        return types.BaseTuple.from_types(tuple(map(read_only, kind.types)))
    return types.unliteral(kind)


@chosen_by_type("where", "array")
def as_argument(where, array):
    """Whether an array lies in the memory of an argument, which is there and unchanged as long as the tape."""
    if not (isinstance(array, types.Array) and array.dtype == types.float64 and array.layout in "CF"):
        return lambda where, array: False

    def build(where, array):
        if where == 0:
            return False
        begin, end = address(array), address(array) + 8 * array.size
        pairs = words_at(load_word(where + 8 * ARGUMENTS), 2 * load_word(where + 8 * COUNT))
        found = False
        for k in range(0, pairs.size, 2):
            found = found or (pairs[k] <= begin and end <= pairs[k + 1])
        return found

    return build

