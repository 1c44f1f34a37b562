"""The memory of a run of reverse mode: of its unknowns, its tape, its adjoints.

Memory of many megabytes is made anew by the operating system whenever it is asked for, page by page, which takes far
longer than to write to it.  So a run leaves what was large to the next one: one word of the process for each use, which
a run takes, and leaves 0, by an atomic exchange.  Runs at the same time, or within each other, find 0 and allocate; the
last to end leaves what it has, and frees what it finds.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, register_jitable

from .tape import BASE, END, FULL, MOST, NODES, TOP, WORD, ZERO, allocate, load_word, release, store_word

LARGE, KEPT = 1 << 20, 1 << 28  # bytes: less comes from the heap soon enough, more goes back to the operating system
UNKNOWNS, TAPE, ADJOINTS = range(3)
TOO_LONG = "the tape of reverse mode is larger than tape_bytes; use mode='forward', or allow more"


@intrinsic
def _exchange(typing_context, which, value):
    """Put an address, or 0, in the place of the one that was left there; that one."""

    def codegen(context, builder, signature, args):
        name, kind = "numbaopt_memory_left", ir.ArrayType(WORD, 3)
        left = builder.module.globals.get(name)
        if left is None:  # of this name there is one in the process, as of Numba's own words
            left = ir.GlobalVariable(builder.module, kind, name)
            left.initializer, left.linkage, left.align = ir.Constant(kind, None), "common", 8
        return builder.atomic_rmw("xchg", builder.gep(left, [ZERO, args[0]]), args[1], "seq_cst")

    return types.int64(types.int64, types.int64), codegen


@register_jitable
def take(which, size):
    """Memory of at least so many bytes: its address, or 0, and its size."""
    if size >= LARGE:
        found = _exchange(which, 0)
        if found != 0:
            room = load_word(found)
            if room >= size:
                return found, room
            release(found)
    return allocate(size), size


@register_jitable
def leave(which, where, size):
    """Leave memory to the next run, or free it; address 0 is nothing."""
    if where != 0 and LARGE <= size <= KEPT:
        store_word(where, size)
        where = _exchange(which, where)
    release(where)


@register_jitable
def begin(where, n, size, most):
    """A fresh tape for so many unknowns; the address of memory for them, and its size."""
    memory, room = take(UNKNOWNS, 24 * max(n, 1))
    base, given = take(TAPE, size)
    if memory == 0 or base == 0:
        release(memory)
        release(base)
        raise MemoryError("no memory for derivatives")
    store_word(where + 8 * NODES, n)
    store_word(where + 8 * TOP, base)
    store_word(where + 8 * END, base + min(given, most))
    store_word(where + 8 * BASE, base)
    store_word(where + 8 * MOST, most)
    store_word(where + 8 * FULL, 0)
    return memory, room


@register_jitable
def adjoints(where, memory):
    """The address of fresh adjoints, a float a node, all 0, and their size; an error where there is no room for them.

    Nor was there, perhaps, for the tape: that is told now.
    """
    count, adjoint, room = load_word(where + 8 * NODES) + 1, 0, 0
    full = load_word(where + 8 * FULL) != 0
    if not full:
        adjoint, room = take(ADJOINTS, 8 * count)
    if adjoint == 0:
        release(memory)
        release(load_word(where + 8 * BASE))
        if full:
            raise MemoryError(TOO_LONG)
        raise MemoryError("no memory for derivatives")
    clear(where, adjoint)
    return adjoint, room


@register_jitable
def clear(where, adjoint):
    """Let all adjoints be 0."""
    for k in range(load_word(where + 8 * NODES) + 1):
        store_word(adjoint + 8 * k, 0)


@register_jitable
def end(where, memory, room, adjoint, size):
    """Leave, or free, all that a run holds."""
    leave(UNKNOWNS, memory, room)
    leave(ADJOINTS, adjoint, size)
    base = load_word(where + 8 * BASE)
    leave(TAPE, base, load_word(where + 8 * END) - base)
