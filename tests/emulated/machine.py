"""Grids, blocks and warps: threads run by turns to where they wait, and on when those they wait for are there.

A warp has 32 lanes, which may diverge; those that hand each other numbers must all be at one instruction, those that
meet may be at several.  All threads of a block must wait at one barrier, all of a grid for the grid.  What never comes
is an error that names the lines at which threads stand.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from . import layout as kinds
from .layout import REGISTERS, THREAD, arrange, packed
from .memory import EMPTY, FAULTS, TRACE, WORD, Memory, check
from .source import parse
from .translate import Translation

LANES = 32
MOST_THREADS = 1 << 15  # that are there at once
RUN = """
define void @run_all(ptr %threads, i64 %stride, i64 %count, ptr %go, ptr %reasons, i64 %step, i64 %first) {
begin:
  br label %head
head:
  %k = phi i64 [ 0, %begin ], [ %more, %next ]
  %done = icmp uge i64 %k, %count
  br i1 %done, label %end, label %body
body:
  %by = mul i64 %k, %step
  %i = add i64 %first, %by
  %flag = getelementptr i8, ptr %go, i64 %i
  %wanted = load i8, ptr %flag
  %yes = icmp ne i8 %wanted, 0
  br i1 %yes, label %call, label %next
call:
  %offset = mul i64 %i, %stride
  %thread = getelementptr i8, ptr %threads, i64 %offset
  %reason = call i32 @"ENTRY"(ptr %thread)
  %place = getelementptr i32, ptr %reasons, i64 %i
  store i32 %reason, ptr %place
  br label %next
next:
  %more = add i64 %k, 1
  br label %head
end:
  ret void
}
"""


class MachineFault(Exception):
    """What a kernel must not do."""


def _target() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features().flatten()
    return llvm.Target.from_default_triple().create_target_machine(cpu=llvm.get_host_cpu_name(), features=features,
                                                                  opt=0, jit=True)  # fmt: skip


def title(name: str) -> str:
    """The last word of a mangled name: that of the function."""
    words, rest = [], name.removeprefix("_ZN")
    while (found := re.match(r"\d+", rest)) is not None:
        words.append(rest[found.end() : found.end() + int(found[0])])
        rest = rest[found.end() + int(found[0]) :]
    return words[-1].rpartition("_3e")[2] if words else name


class Kernel:
    """An entry of a module, compiled for the CPU."""

    def __init__(self, text: str, name: str, memory: Memory):
        self.module, self.memory, self.title = parse(text), memory, title(name)
        entry = self.entry = self.module.functions[name]
        offsets, self.shared, self.local = arrange(self.module, entry)
        symbols = self._constants()
        made = {one.name: Translation(self.module, one, symbols, offsets, check.address)
                for one in self.module.functions.values()}  # fmt: skip
        code = "\n".join(one.text() for one in made.values()) + RUN.replace("ENTRY", name)
        self.stride = -(-made[name].size // 64) * 64
        self.parameters = packed(entry.parameters)
        parsed = llvm.parse_assembly(code)
        parsed.verify()
        self.engine = llvm.create_mcjit_compiler(parsed, _target())
        self.engine.finalize_object()
        self.run_all = ctypes.CFUNCTYPE(None, *(ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64), ctypes.c_void_p,
                                        ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(
            self.engine.get_function_address("run_all"))  # fmt: skip

    def _constants(self) -> dict[str, int]:
        """The addresses of the module's variables."""
        found, at = {}, 0
        variables = [one for one in self.module.variables.values() if one.space in ("global", "const")]
        self.constants = np.zeros(sum(one.size + 16 for one in variables) + 16, np.uint8)
        base = -(-self.constants.ctypes.data // 16) * 16
        for one in variables:
            at = -(-at // 16) * 16
            where = base - self.constants.ctypes.data + at
            self.constants[where : where + len(one.values)] = np.frombuffer(one.values, np.uint8)
            found[one.name], at = base + at, at + one.size
        self.extent = base, base + at
        return found

    def pack(self, values: list[bytes]) -> np.ndarray:
        """The block of parameters, from the bytes of each."""
        made = np.zeros(sum(one.size + 16 for one in self.entry.parameters) + 16, np.uint8)
        for one, value in zip(self.entry.parameters, values, strict=True):
            at = self.parameters[one.name]
            made[at : at + one.size] = np.frombuffer(value, np.uint8)
        return made

    def launch(self, blocks: int, threads: int, given: np.ndarray, dynamic: int = 0, cooperative: bool = False,
               backwards: bool = False) -> None:  # fmt: skip
        """Run a grid; ``backwards`` lets the last thread of all take the first turn."""
        self.memory.world[4:] = self.extent
        per_block = -(-threads // LANES) * LANES
        at_once = blocks if cooperative else max(1, MOST_THREADS // per_block)
        if at_once * per_block > 0xFFFE:
            raise MachineFault(f"{self.title}: {at_once * per_block} threads at once are too many for this machine")
        self.memory.grid_epoch += 1
        for first in range(0, blocks, at_once):
            _Turns(self, first, min(at_once, blocks - first), blocks, threads, given, dynamic, cooperative,
                   backwards).run()  # fmt: skip

    def line(self, number: int) -> str:
        """A line of the text."""
        return f"line {number} ({self.module.lines[number - 1].strip()})"


class _Turns:
    """The blocks of a grid that are there at once."""

    def __init__(self, kernel: Kernel, first: int, count: int, blocks: int, threads: int, given: np.ndarray,
                 dynamic: int, cooperative: bool, backwards: bool):  # fmt: skip
        self.kernel, self.cooperative, self.backwards, self.given = kernel, cooperative, backwards, given
        per_block = -(-threads // LANES) * LANES
        self.total, self.shape = count * per_block, (count, per_block)
        shared, local = kernel.shared + dynamic, -(-max(kernel.local, 1) // 16) * 16
        shared_stride = -(-max(shared, 1) // 16) * 16 + 16
        self.rooms = [np.full(count * shared_stride + 16, EMPTY, np.uint8),
                      np.full(self.total * local + 16, EMPTY, np.uint8),
                      np.zeros((count, shared_stride // WORD, TRACE), np.uint64),
                      np.empty(self.total * kernel.stride + 64, np.uint8)]  # fmt: skip
        base = -self.rooms[3].ctypes.data % 64
        raw = self.rooms[3][base : base + self.total * kernel.stride].reshape(self.total, kernel.stride)
        raw[:, :REGISTERS] = 0
        self.raw, self.state = raw, np.ndarray(self.total, THREAD, raw, 0, (kernel.stride,))
        index = np.arange(self.total)
        block, tid, state = index // per_block, index % per_block, self.state
        aligned = [-(-room.ctypes.data // 16) * 16 for room in self.rooms[:2]]
        state["params"], state["world"] = given.ctypes.data, kernel.memory.world.ctypes.data
        state["shared"], state["shared_size"] = aligned[0] + block * shared_stride, shared
        state["local"], state["local_size"] = aligned[1] + index * local, kernel.local
        state["shadow"] = self.rooms[2].ctypes.data + block * self.rooms[2].strides[0]
        state["tid"], state["ctaid"], state["ntid"], state["nctaid"] = tid, first + block, threads, blocks
        state["thread"], state["grid_epoch"] = index, kernel.memory.grid_epoch & 0xFFFF
        self.clocks = np.zeros((self.total, LANES), np.uint32)
        state["clocks"] = self.clocks.ctypes.data + index * self.clocks.strides[0]
        self.reasons = np.full(self.total, kinds.ENDED, np.int32)
        self.go = (tid < threads).astype(np.uint8)

    def run(self) -> None:
        """Let all threads come to their ends."""
        step, first = (-1, self.total - 1) if self.backwards else (1, 0)
        while self.go.any():
            self.kernel.run_all(self.raw.ctypes.data, self.kernel.stride, self.total, self.go.ctypes.data,
                                self.reasons.ctypes.data, step, first)  # fmt: skip
            if (self.reasons == kinds.FAULT).any():
                self._explain(int(np.flatnonzero(self.reasons == kinds.FAULT)[0]))
            self.go[:] = 0
            if (waiting := self.reasons != kinds.ENDED).any():
                self._within_warps()
                self._barriers()
                if not self.go.any():
                    self._stuck(waiting)

    def _within_warps(self) -> None:
        """Shuffles, votes and waits of warps whose lanes are all there."""
        reasons = self.reasons.reshape(-1, LANES)
        for reason, answer in ((kinds.SHUFFLE, self._shuffle), (kinds.VOTE, self._vote), (kinds.WARP, self._met)):
            for warp in np.flatnonzero((reasons == reason).any(1)):
                for lanes in self._complete(warp, reason):
                    answer(lanes)
                    self.go[lanes] = 1

    def _complete(self, warp: int, reason: int) -> Iterator[np.ndarray]:
        """The threads of a warp that wait for each other and are all there."""
        rows = np.arange(warp * LANES, (warp + 1) * LANES)
        state, reasons = self.state[rows], self.reasons[rows]
        waiting = reasons == reason
        lines = np.where(reason == kinds.WARP, 0, state["line"])  # a warp may meet at several places, by one mask
        for mask, line in sorted(set(zip(state["mask"][waiting].tolist(), lines[waiting].tolist(), strict=True))):
            named = (mask >> np.arange(LANES) & 1).astype(bool)
            here = waiting & (state["mask"] == mask) & (lines == line)
            if (here & ~named).any():
                raise MachineFault(f"{self.kernel.title}: a thread is not in its own mask 0x{mask:08X}, "
                                   f"{self.kernel.line(int(state['line'][here][0]))}")  # fmt: skip
            if (here == (named & (reasons != kinds.ENDED))).all():
                yield rows[here]

    def _shuffle(self, rows: np.ndarray) -> None:
        state, lane = self.state, rows % LANES
        kind = int(state["kind"][rows[0]])
        operand, clamp = state["operand"][rows].astype(int), state["clamp"][rows].astype(int)
        segment = clamp >> 8 & 31
        low, high = lane & segment, (lane & segment) | (clamp & 31 & ~segment)
        source = {kinds.UP: lane - operand, kinds.DOWN: lane + operand, kinds.BUTTERFLY: lane ^ operand}.get(
            kind, low | (operand & ~segment & 31))
        good = source >= high if kind == kinds.UP else source <= high
        source = np.where(good, source, lane)
        if not np.isin(source, lane).all():
            raise MachineFault(f"{self.kernel.title}: a lane is asked for a number that does not take part, "
                               f"{self.kernel.line(int(state['line'][rows[0]]))}")  # fmt: skip
        state["result"][rows] = state["value"][rows - lane + source]
        state["good"][rows] = good

    def _vote(self, rows: np.ndarray) -> None:
        state = self.state
        kind, said = int(state["kind"][rows[0]]), state["value"][rows] != 0
        ballot = int(sum(1 << int(lane) for lane in rows[said] % LANES))
        uniform = bool(said.all() or not said.any())
        state["result"][rows] = {kinds.ALL: bool(said.all()), kinds.ANY: bool(said.any()), kinds.UNIFORM: uniform,
                                 kinds.BALLOT: ballot}[kind]  # fmt: skip

    def _met(self, rows: np.ndarray) -> None:
        """Each of these lanes has heard of what any has heard of."""
        self.state["warp_epoch"][rows] += 1
        self.clocks[rows, rows % LANES] = self.state["warp_epoch"][rows]
        self.clocks[rows] = self.clocks[rows].max(0)

    def _barriers(self) -> None:
        """Blocks whose threads all wait at a barrier; the grid, where all do."""
        threads = int(self.state["ntid"][0])
        reasons, state = self.reasons.reshape(self.shape)[:, :threads], self.state.reshape(self.shape)
        go = self.go.reshape(self.shape)
        for block in np.flatnonzero((reasons == kinds.BARRIER).all(1)):
            lines = np.unique(state["line"][block, :threads])
            if len(lines) > 1:
                told = ", ".join(self.kernel.line(int(line)) for line in lines)
                raise MachineFault(f"{self.kernel.title}: threads of a block wait at different barriers: {told}")
            go[block, :threads] = 1
            state["block_epoch"][block] += 1
        if (reasons == kinds.GRID).all():
            if not self.cooperative:
                raise MachineFault(f"{self.kernel.title}: waits for the grid, but is not launched cooperatively")
            go[:, :threads] = 1
            self.kernel.memory.grid_epoch += 1
            state["grid_epoch"] = self.kernel.memory.grid_epoch & 0xFFFF

    def _stuck(self, waiting: np.ndarray) -> None:
        told = []
        names = {kinds.BARRIER: "a barrier", kinds.SHUFFLE: "a shuffle", kinds.WARP: "a warp", kinds.GRID: "the grid",
                 kinds.VOTE: "a vote"}  # fmt: skip
        for reason, line in sorted({(int(r), int(n)) for r, n in zip(self.reasons[waiting], self.state["line"][waiting],
                                                                    strict=True)}):  # fmt: skip
            here = (self.reasons == reason) & (self.state["line"] == line)
            told.append(f"{here.sum()} wait for {names[reason]} at {self.kernel.line(line)}, the first of them thread "
                        f"{self._thread(int(np.flatnonzero(here)[0]))}")  # fmt: skip
        ended = int((self.state["tid"] < self.state["ntid"]).sum() - waiting.sum())
        raise MachineFault(f"{self.kernel.title}: threads wait for ever: {'; '.join(told)}; {ended} have ended")

    def _thread(self, k: int) -> str:
        return f"{int(self.state['tid'][k])} of block {int(self.state['ctaid'][k])}"

    def _explain(self, k: int) -> None:
        state = self.state[k]
        raise MachineFault(f"{self.kernel.title}: {FAULTS[int(state['fault'])]}: thread {self._thread(k)} at "
                           f"0x{int(state['address']):X}, {self.kernel.line(int(state['line']))}")  # fmt: skip
