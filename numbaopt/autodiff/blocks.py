"""Blocks on the tape: an array function of one or two matrices whose result is a matrix, as one record.

The payload says where the values and the parents of both operands are.  Values that are an argument's memory are
referred to, all others are copied: a temporary may be freed, or written to, before the tape is read.

======  =================================================================================
words   meaning
======  =================================================================================
0 to 4  of the first operand: rows, columns, flags, where its values are, its parents
5 to 9  of the second
10, 11  rows and columns of the result
12      where its values are
======  =================================================================================

Places are counted in words from the payload's begin, except that of values in an argument's memory (an address).
Functions of ``np.linalg`` have payloads of their own (`linalg`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types
from numba.extending import intrinsic, overload, register_jitable

from .arrays import address, as_argument, parts, taped
from .numbers import Taped, number_in
from .scalars import value
from .tape import NODES, WORD, allocate, load_float, load_word, reserve_bytes, store_float, store_word

HEADER = 13
FIRST, SECOND, RESULT = 0, 5, 10
ACTIVE, BY_REFERENCE, TRANSPOSED = 1, 2, 4  # flags of an operand


def chosen_by_type(*names: str) -> Any:
    """Decorator for functions of which compiled code knows one version a type; Python has none."""

    def register(choose: Any) -> Any:
        space: dict[str, Any] = {}
        exec(f"def stub({', '.join(names)}):\n    raise NotImplementedError", space)  # noqa: S102
        stub = space["stub"]
        stub.__name__, stub.__doc__ = choose.__name__, choose.__doc__
        overload(stub)(choose)
        return stub

    return register


@chosen_by_type("a")
def node_of(a):
    """The node of a number; 0 for a constant."""
    return (lambda a: parts(a)[1]) if isinstance(a, Taped) else (lambda a: 0)


@chosen_by_type("a")
def tape_of(a):
    """The address of the tape that a number, or any item of an array, is on; 0 where there is none."""
    if isinstance(a, Taped):
        return lambda a: parts(a)[2]
    if not isinstance(number_in(a), Taped):
        return lambda a: 0

    def search(a):
        for item in a.flat:
            where = parts(item)[2]
            if where != 0:
                return where
        return 0

    return search


@chosen_by_type("where", "a")
def flags_of(where, a):
    """What is known of an operand."""
    if isinstance(number_in(a), Taped):
        return lambda where, a: ACTIVE
    transposed = TRANSPOSED if a.layout == "F" else 0
    return lambda where, a: BY_REFERENCE | transposed if as_argument(where, a) else 0


@chosen_by_type("a")
def rows_of(a):
    """Rows of an operand as a matrix; a vector is one column."""
    return lambda a: a.shape[0]


@chosen_by_type("a")
def columns_of(a):
    """Columns of an operand as a matrix; a vector is one column."""
    return (lambda a: a.shape[1]) if a.ndim == 2 else (lambda a: 1)


@chosen_by_type("payload", "which", "free", "a", "rows", "columns", "flags")
def write_operand(payload, which, free, a, rows, columns, flags):
    """Describe an operand and copy what has to be; the next free word."""
    active = isinstance(number_in(a), Taped)

    def build(payload, which, free, a, rows, columns, flags):
        head = payload + 8 * which
        store_word(head, rows)
        store_word(head + 8, columns)
        store_word(head + 16, flags)
        store_word(head + 24, free)
        if flags & BY_REFERENCE:
            store_word(head + 24, address(a))
            return free
        place, nodes = payload + 8 * free, payload + 8 * (free + rows * columns)
        store_word(head + 32, free + rows * columns)
        for item in a.flat:
            store_float(place, value(item))
            place += 8
            if active:
                store_word(nodes, node_of(item))
                nodes += 8
        return free + rows * columns * (2 if active else 1)

    return build


@register_jitable
def begin_block(where, a_rows, a_columns, a_flags, b_rows, b_columns, b_flags, rows, columns):
    """Room for a block on the tape, or, where there is none, elsewhere: the address of its payload, and its words."""
    words = HEADER + rows * columns
    for size, flags in ((a_rows * a_columns, a_flags), (b_rows * b_columns, b_flags)):
        if not flags & BY_REFERENCE:
            words += size * (2 if flags & ACTIVE else 1)
    payload, kept = room_for(where, words)
    store_word(payload + 8 * RESULT, rows)
    store_word(payload + 8 * (RESULT + 1), columns)
    store_word(payload + 8 * (RESULT + 2), words - rows * columns)
    return payload, words, kept


@register_jitable
def room_for(where, words):
    """The address of so many words of payload, and whether they are on the tape."""
    payload = np.int64(0)
    if where != 0:
        payload = reserve_bytes(where, 8 * words + 24)
    kept = payload != 0
    if not kept:
        payload = allocate(8 * words)
        if payload == 0:
            raise MemoryError("no memory for a function of arrays")
    return payload, kept


@register_jitable
def end_block(where, payload, words, kept, carry, count):
    """Finish the record of so many results; the first of their nodes, or 0 where nothing is recorded."""
    if not kept:
        return 0
    store_word(payload + 8 * words, carry)
    store_word(payload + 8 * words + 8, words)
    store_word(payload + 8 * words + 16, -1 - count)
    first = load_word(where + 8 * NODES) + 1
    store_word(where + 8 * NODES, first + count - 1)
    return first


@register_jitable
def values_of(payload, which):
    """The address of an operand's values."""
    place = load_word(payload + 8 * (which + 3))
    return place if load_word(payload + 8 * (which + 2)) & BY_REFERENCE else payload + 8 * place


@register_jitable
def result_of(payload):
    """The address of the result's values."""
    return payload + 8 * load_word(payload + 8 * (RESULT + 2))


@register_jitable
def has(payload, which, flag):
    """Whether an operand has a flag."""
    return load_word(payload + 8 * (which + 2)) & flag != 0


@register_jitable
def scatter(payload, which, adjoints, adjoint):
    """Add as many adjoints as an operand has items, from an address, to those of its nodes."""
    parents = payload + 8 * load_word(payload + 8 * (which + 4))
    count = load_word(payload + 8 * which) * load_word(payload + 8 * which + 8)
    for k in range(0, 8 * count, 8):
        place = adjoint + 8 * load_word(parents + k)
        store_float(place, load_float(place) + load_float(adjoints + k))


@register_jitable
def fill_numbers(made, payload, first, where):
    """Write the result into an array: its values, and the nodes from ``first`` on (0: constants)."""
    place = result_of(payload)
    for i in range(made.size):
        node = first + i if first != 0 else 0
        made.flat[i] = taped(load_float(place + 8 * i), node, where if first != 0 else 0)


def carrier(carry: Any) -> Any:
    """An intrinsic for the address of the code of ``carry(payload, adjoints of the results, all adjoints)``."""
    made = types.none(types.int64, types.int64, types.int64)

    @intrinsic
    def where(typing_context):
        def codegen(context, builder, signature, args):
            compiled = context.compile_subroutine(builder, carry, made)
            return builder.ptrtoint(context.declare_function(builder.module, compiled.fndesc), WORD)

        return types.int64(), codegen

    return where

