"""The memory of the machine, and what is asked at every access: is it aligned, is it allocated, does no other thread
write there, or read what is written, without a barrier between.

For every four bytes stand who wrote last and who read last, twice: two accesses are in order where one thread made
both, where all threads of the grid have met between them, where both threads are of one block that has met, or of one
warp that has met (``bar.warp.sync``; handing each other numbers does not order memory).  What this finds is a race
whatever the order in which threads took turns; a third reader is forgotten, so it may miss one.  A number that is
written twice the same is none.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import cfunc, njit, types
from numba.extending import intrinsic

from .layout import GENERIC, GLOBAL, LOCAL, SCALAR, SHARED, STORES, THREAD

WORD = 4
BYTES = 32 << 20  # of the device
EMPTY = 0xFF  # what fresh memory holds: NaN, -1
MISALIGNED, OUTSIDE, WRITTEN_TWICE, READ_AND_WRITTEN, WRONG_SPACE = range(1, 6)
FAULTS = {MISALIGNED: "an access that is not aligned", OUTSIDE: "an access outside of what is allocated",
          WRITTEN_TWICE: "two threads write one place, and no barrier between",
          READ_AND_WRITTEN: "one thread reads what another writes, and no barrier between",
          WRONG_SPACE: "an access to another kind of memory than the instruction says"}  # fmt: skip
TRACE = 3  # words a place: the last write, the last read, the last read of somebody else before


class Memory:
    """Memory of the device: host memory at addresses that are known, with what is allocated and who was there."""

    def __init__(self, nbytes: int = BYTES):
        self.store = np.empty(nbytes + 512, np.uint8)
        self.begin = -(-self.store.ctypes.data // 512) * 512
        self.size = nbytes
        self.allocated = np.zeros(nbytes // WORD, np.uint8)
        self.traces = np.zeros((nbytes // WORD, TRACE), np.uint64)
        self.held: dict[int, int] = {}
        self.grid_epoch = 0
        self.world = np.zeros(6, np.int64)
        self.world[:4] = self.begin, nbytes, self.allocated.ctypes.data, self.traces.ctypes.data

    def take(self, nbytes: int) -> int | None:
        """The address of fresh memory; None where there is no room."""
        size, at = max(1, -(-nbytes // 512)) * 512, self.begin
        for begin, length in sorted(self.held.items()):
            if begin - at >= size:
                break
            at = begin + length
        if at + size > self.begin + self.size:
            return None
        self.held[at] = size
        offset = at - self.begin
        self.bytes_at(at, size)[:] = EMPTY
        self.allocated[offset // WORD : -(-(offset + nbytes) // WORD)] = 1
        return at

    def free(self, at: int) -> None:
        """Give memory back; KeyError where it is none that was taken."""
        size = self.held.pop(at)
        offset = at - self.begin
        self.allocated[offset // WORD : (offset + size) // WORD] = 0
        self.bytes_at(at, size)[:] = EMPTY

    def bytes_at(self, at: int, nbytes: int) -> np.ndarray:
        """The bytes at an address."""
        offset = at - self.store.ctypes.data
        return self.store[offset : offset + nbytes]

    def holds(self, at: int, nbytes: int) -> bool:
        """Whether bytes are allocated."""
        offset = at - self.begin
        return offset >= 0 and offset + nbytes <= self.size and bool(
            self.allocated[offset // WORD : -(-(offset + nbytes) // WORD)].all())  # fmt: skip
GRID_BITS, BLOCK_BITS, WARP_BITS = 16, 32, 48  # of the epochs in a trace; below them a thread's number, from one


def _reader(kind):
    """``read(address)``: the unsigned number at an address."""
    @intrinsic
    def read(typing_context, address):
        def codegen(context, builder, signature, arguments):
            return builder.load(builder.inttoptr(arguments[0], context.get_data_type(kind).as_pointer()))

        return kind(types.uint64), codegen

    return read


@intrinsic
def _write(typing_context, address, value):
    """Write eight bytes at an address."""
    def codegen(context, builder, signature, arguments):
        builder.store(arguments[1], builder.inttoptr(arguments[0], ir.IntType(64).as_pointer()))
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64), codegen


_byte, _half, _word = (_reader(kind) for kind in (types.uint8, types.uint32, types.uint64))
_AT = {name: np.uint64(THREAD.fields[name][1]) for name in THREAD.names}
_NAMES = ("address", "local", "local_size", "shared", "shared_size", "shadow", "world", "clocks", "ntid", "thread",
          "grid_epoch", "block_epoch", "warp_epoch")  # fmt: skip
(_ADDRESS, _LOCAL, _LOCAL_SIZE, _SHARED, _SHARED_SIZE, _SHADOW, _WORLD, _CLOCKS, _NTID, _THREAD, _GRID, _BLOCK,
 _WARP) = (_AT[name] for name in _NAMES)  # fmt: skip
_ONES, _ONE, _EIGHT, _FOUR = np.uint64(0xFFFF), np.uint64(1), np.uint64(8), np.uint64(WORD)
_PLACE = np.uint64(8 * TRACE)


@njit
def _in_order(trace, mine, per_block, clocks):
    """Whether an access stands before one of now; ``clocks`` tells how often other lanes had met when last heard of."""
    apart = trace ^ mine
    if trace == 0 or apart & _ONES == 0 or (apart >> np.uint64(GRID_BITS)) & _ONES != 0:
        return True
    one, other = (trace & _ONES) - _ONE, (mine & _ONES) - _ONE
    if one // per_block != other // per_block:
        return False
    if (apart >> np.uint64(BLOCK_BITS)) & _ONES != 0:
        return True
    if one >> np.uint64(5) != other >> np.uint64(5):
        return False
    met = np.uint64(_half(clocks + (one & np.uint64(31)) * np.uint64(4)))
    since = (met - (trace >> np.uint64(WARP_BITS))) & _ONES
    return since != 0 and since < np.uint64(1 << 15)


@njit
def _same(address, size, value):
    """Whether a number stands there already."""
    for k in range(size):  # noqa: SIM110
        if _byte(address + np.uint64(k)) != (value >> np.uint64(8 * k)) & np.uint64(255):
            return False
    return True


@njit
def _traced(traces, address, first, last, size, flags, value, mine, per_block, clocks):
    """Note an access to the words ``first`` to ``last``; what is wrong with it, or 0."""
    k = first
    while k < last:
        at = traces + k * _PLACE
        written, read, before = _word(at), _word(at + _EIGHT), _word(at + _EIGHT + _EIGHT)
        if flags & STORES:
            if not (_in_order(read, mine, per_block, clocks) and _in_order(before, mine, per_block, clocks)):
                return READ_AND_WRITTEN
            if not _in_order(written, mine, per_block, clocks) and not (flags & SCALAR and _same(address, size, value)):
                return WRITTEN_TWICE
            _write(at, mine)
        else:
            if not _in_order(written, mine, per_block, clocks):
                return READ_AND_WRITTEN
            if not _in_order(read, mine, per_block, clocks):
                _write(at + _EIGHT + _EIGHT, read)
            _write(at + _EIGHT, mine)
        k += _ONE
    return 0


@cfunc(types.int32(types.uint64, types.uint64, types.int32, types.int32, types.uint64))
def check(thread, address, size, flags, value):
    """What is wrong with an access, or 0."""
    space, end = flags & 3, address + np.uint64(size)
    _write(thread + _ADDRESS, address)
    if address % np.uint64(size) != 0:
        return MISALIGNED
    begin = _word(thread + _LOCAL)
    if begin <= address and end <= begin + _word(thread + _LOCAL_SIZE):
        return 0 if space in (GENERIC, LOCAL) else WRONG_SPACE
    mine = (np.uint64(_half(thread + _THREAD)) + _ONE
            | (np.uint64(_half(thread + _GRID)) & _ONES) << np.uint64(GRID_BITS)
            | (np.uint64(_half(thread + _BLOCK)) & _ONES) << np.uint64(BLOCK_BITS)
            | (np.uint64(_half(thread + _WARP)) & _ONES) << np.uint64(WARP_BITS))
    per_block = (np.uint64(_half(thread + _NTID)) + np.uint64(31)) // np.uint64(32) * np.uint64(32)
    clocks, begin = _word(thread + _CLOCKS), _word(thread + _SHARED)
    if begin <= address and end <= begin + _word(thread + _SHARED_SIZE):
        if space not in (GENERIC, SHARED):
            return WRONG_SPACE
        first, last = (address - begin) // _FOUR, (end - begin + _FOUR - _ONE) // _FOUR
        return _traced(_word(thread + _SHADOW), address, first, last, size, flags, value, mine, per_block, clocks)
    world = _word(thread + _WORLD)
    begin = _word(world)
    if begin <= address and end <= begin + _word(world + _EIGHT):
        if space not in (GENERIC, GLOBAL):
            return WRONG_SPACE
        first, last = (address - begin) // _FOUR, (end - begin + _FOUR - _ONE) // _FOUR
        allocated = _word(world + _EIGHT + _EIGHT)
        k = first
        while k < last:
            if _byte(allocated + k) == 0:
                return OUTSIDE
            k += _ONE
        traces = _word(world + np.uint64(24))
        return _traced(traces, address, first, last, size, flags, value, mine, per_block, clocks)
    if _word(world + np.uint64(32)) <= address and end <= _word(world + np.uint64(40)) and flags & STORES == 0:
        return 0  # constants of the module
    return OUTSIDE


__all__ = ["FAULTS", "TRACE", "WORD", "Memory", "check"]
