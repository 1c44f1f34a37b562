"""The tape of reverse mode: what each number was made of, written while the function runs, read backwards after.

A tape is nine words on the stack of whoever runs a function, and a buffer that grows:

======  ========  ==========================================================
word    name      meaning
======  ========  ==========================================================
0       NODES     nodes so far; 1 to n are the unknowns, 0 stands for all constants
1       TOP       address behind the last record
2, 3    END BASE  of the buffer
4       MOST      bytes that the buffer may have
5       FULL      whether more was needed; from then on nothing is kept
6, 7    ARGUMENTS COUNT  address of pairs (begin, end), and how many: memory of the arguments, which nobody writes to
======  ========  ==========================================================

A record is read from its end.  A statement (one node) is its edges, pairs of (slope, parent node), then their count.  A
block (as many nodes as an array function has results) is its payload, then the address of the function that carries
derivatives back, the number of words of payload, and -1 less the number of its nodes.
"""

from __future__ import annotations

import functools
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ._jit import jit_inside

WORD, DOUBLE = ir.IntType(64), ir.DoubleType()
ZERO = ir.Constant(WORD, 0)
NODES, TOP, END, BASE, MOST, FULL, ARGUMENTS, COUNT = range(8)
WORDS = 8
EDGE = 16  # bytes


def _word(value: int) -> Any:
    return ir.Constant(WORD, value)


def _at(builder, where, index: int):
    """A pointer to a word of the tape."""
    return builder.gep(builder.inttoptr(where, WORD.as_pointer()), [_word(index)])


def _function(module, name: str, kinds: list[Any], attribute: str):
    """A function of the module of this name, and whether it still needs a body."""
    if name in module.globals:
        return module.globals[name], False
    function = ir.Function(module, ir.FunctionType(WORD, kinds), name=name)
    function.linkage = "linkonce_odr"
    function.attributes.add(attribute)
    return function, True


def _grow(module):
    """``grow(tape, need)``: make room for so many bytes, or tell that the tape is full; returns the top."""
    function, fresh = _function(module, "numbaopt_tape_grow", [WORD, WORD], "noinline")
    if not fresh:
        return function
    builder = ir.IRBuilder(function.append_basic_block())
    where, need = function.args
    top, base = builder.load(_at(builder, where, TOP)), builder.load(_at(builder, where, BASE))
    used = builder.sub(top, base)
    wanted = builder.mul(builder.add(used, need), _word(2))
    most = builder.load(_at(builder, where, MOST))
    wanted = builder.select(builder.icmp_signed("<", wanted, most), wanted, most)
    pointer = ir.IntType(8).as_pointer()
    allocate = cgutils.get_or_insert_function(module, ir.FunctionType(pointer, [WORD]), "NRT_Allocate")
    free = cgutils.get_or_insert_function(module, ir.FunctionType(ir.VoidType(), [pointer]), "NRT_Free")
    fits = builder.icmp_signed("<=", builder.add(used, need), wanted)
    with builder.if_then(fits):
        memory = builder.call(allocate, [wanted])
        fresh_base = builder.ptrtoint(memory, WORD)
        with builder.if_then(builder.icmp_unsigned("!=", fresh_base, ZERO)):
            cgutils.raw_memcpy(builder, memory, builder.inttoptr(base, pointer), used, 1)
            builder.call(free, [builder.inttoptr(base, pointer)])
            builder.store(fresh_base, _at(builder, where, BASE))
            builder.store(builder.add(fresh_base, wanted), _at(builder, where, END))
            builder.ret(builder.add(fresh_base, used))
    builder.store(_word(1), _at(builder, where, FULL))  # what follows is written over what is there
    builder.store(base, _at(builder, where, TOP))
    builder.ret(base)
    return function


def reserve(builder: Any, where: Any, need: Any) -> Any:
    """LLVM code: the address of so many fresh bytes on the tape, or 0 where they do not fit at all."""
    module = builder.module
    grow = _grow(module)
    function, fresh = _function(module, "numbaopt_tape_reserve", [WORD, WORD], "alwaysinline")
    if fresh:
        inner = ir.IRBuilder(function.append_basic_block())
        place, size = function.args
        top, end = inner.load(_at(inner, place, TOP)), inner.load(_at(inner, place, END))
        entry = inner.block
        with inner.if_then(inner.icmp_signed(">", inner.add(top, size), end), likely=False):
            moved = inner.call(grow, [place, size])
            limit = inner.load(_at(inner, place, END))
            with inner.if_then(inner.icmp_signed(">", inner.add(moved, size), limit), likely=False):
                inner.ret(ZERO)
            slow = inner.block
        begin = inner.phi(WORD)
        begin.add_incoming(top, entry)
        begin.add_incoming(moved, slow)
        inner.store(inner.add(begin, size), _at(inner, place, TOP))
        inner.ret(begin)
    return builder.call(function, [where, need])


def push(builder: Any, where: Any, edges: list[tuple[Any, Any]]) -> Any:
    """LLVM code: record a statement of (slope, parent) edges on the tape at ``where``, if any; its node."""
    module, count = builder.module, len(edges)
    function, fresh = _function(module, f"numbaopt_tape_push_{count}", [WORD] + [DOUBLE, WORD] * count, "alwaysinline")
    if fresh:
        inner = ir.IRBuilder(function.append_basic_block())
        place = function.args[0]
        with inner.if_then(inner.icmp_unsigned("==", place, ZERO), likely=False):
            inner.ret(ZERO)
        begin = reserve(inner, place, _word(EDGE * count + 8))
        with inner.if_then(inner.icmp_unsigned("==", begin, ZERO), likely=False):
            inner.ret(ZERO)
        words = inner.inttoptr(begin, WORD.as_pointer())
        slopes = inner.inttoptr(begin, DOUBLE.as_pointer())
        for k in range(count):
            inner.store(function.args[1 + 2 * k], inner.gep(slopes, [_word(2 * k)]))
            inner.store(function.args[2 + 2 * k], inner.gep(words, [_word(2 * k + 1)]))
        inner.store(_word(count), inner.gep(words, [_word(2 * count)]))
        node = inner.add(inner.load(_at(inner, place, NODES)), _word(1))
        inner.store(node, _at(inner, place, NODES))
        inner.ret(node)
    return builder.call(function, [where, *(part for edge in edges for part in edge)])


def _memory(kind, llvm, name):
    """Intrinsics that read and write one word at an address."""

    def load(typing_context, where):
        return kind(types.int64), (
            lambda context, builder, signature, args: builder.load(builder.inttoptr(args[0], llvm.as_pointer())))

    def store(typing_context, where, value):
        def codegen(context, builder, signature, args):
            builder.store(args[1], builder.inttoptr(args[0], llvm.as_pointer()))
            return context.get_dummy_value()

        return types.void(types.int64, kind), codegen

    load.__name__, store.__name__ = f"load_{name}", f"store_{name}"
    return intrinsic(load), intrinsic(store)


load_word, store_word = _memory(types.int64, WORD, "word")
load_float, store_float = _memory(types.float64, DOUBLE, "float")


@intrinsic
def reserve_bytes(typing_context, where, need):
    """The address of fresh bytes on the tape at ``where``, or 0."""
    return types.int64(types.int64, types.int64), (
        lambda context, builder, signature, args: reserve(builder, args[0], args[1]))  # fmt: skip


@intrinsic
def allocate(typing_context, size):
    """The address of fresh memory, or 0; `release` frees it."""

    def codegen(context, builder, signature, args):
        return builder.ptrtoint(context.nrt.allocate_unchecked(builder, args[0]), WORD)

    return types.int64(types.int64), codegen


@intrinsic
def release(typing_context, where):
    """Free memory of `allocate`."""

    def codegen(context, builder, signature, args):
        context.nrt.free(builder, builder.inttoptr(args[0], ir.IntType(8).as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@functools.cache
def stack_of(words: int) -> Any:
    """An intrinsic for the address of so many words on the stack of its caller."""

    @intrinsic
    def stack(typing_context):
        return types.int64(), (
            lambda context, builder, signature, args: builder.ptrtoint(
                cgutils.alloca_once(builder, WORD, size=words), WORD))  # fmt: skip

    return stack


@intrinsic
def carry_back(typing_context, where, payload, results, adjoint):
    """Call the function of a block: ``(address of its payload, of its nodes' adjoints, of all adjoints)``."""
    kinds = (types.int64,) * 3

    def codegen(context, builder, signature, args):
        convention = context.call_conv
        kind = convention.get_function_type(types.none, kinds)
        status, _ = convention.call_function(builder, builder.inttoptr(args[0], kind.as_pointer()), types.none, kinds,
                                             args[1:])  # fmt: skip
        with cgutils.if_unlikely(builder, status.is_error):
            convention.return_status_propagate(builder, status)
        return context.get_dummy_value()

    return types.void(*(types.int64,) * 4), codegen


@jit_inside
def _drop_flat(top, count):
    """Let edges of slope 0 lead to the constants: an infinite weight times 0 would be NaN."""
    for edge in range(top, top + EDGE * count, EDGE):
        if load_float(edge) == 0.0:
            store_word(edge + 8, 0)


@jit_inside
def sweep(where, unknowns, adjoint):
    """Carry the adjoints (one float64 a node, at an address) from the last node back to the unknowns.

    A node's last contribution often comes from the node behind it, as in a running sum: that one stays in a register.
    """
    node, top = load_word(where + 8 * NODES), load_word(where + 8 * TOP)
    weight = load_float(adjoint + 8 * node)
    while node > unknowns:
        count = load_word(top - 8)
        if count < 0:
            words = load_word(top - 16)
            top -= 24 + 8 * words
            node += count + 1
            carry_back(load_word(top + 8 * words), top, adjoint + 8 * (node + 1), adjoint)
            weight = load_float(adjoint + 8 * node)
            continue
        top -= 8 + EDGE * count
        below = load_float(adjoint + 8 * (node - 1))
        if weight - weight != 0.0:
            _drop_flat(top, count)
        if weight != 0.0:  # so that an infinite slope that nobody asks for is no NaN
            for edge in range(top, top + EDGE * count, EDGE):
                parent = load_word(edge + 8)
                if parent == node - 1:
                    below += weight * load_float(edge)
                else:
                    place = adjoint + 8 * parent
                    store_float(place, load_float(place) + weight * load_float(edge))
            store_float(adjoint + 8 * (node - 1), below)
        node -= 1
        weight = below
