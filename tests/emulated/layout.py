"""What a thread of the machine keeps, why it stops, and the types of PTX in LLVM's language."""

from __future__ import annotations

from typing import Any

import numpy as np

from .source import WIDTHS, Function, Module, Variable

ENDED, BARRIER, SHUFFLE, WARP, GRID, VOTE, FAULT = 0, 1, 2, 3, 4, 5, 9
UP, DOWN, BUTTERFLY, INDEX = range(4)
ALL, ANY, UNIFORM, BALLOT = range(4)
GENERIC, GLOBAL, SHARED, LOCAL = range(4)
STORES, SCALAR = 4, 8  # flags of an access beside its space

THREAD = np.dtype([(name, np.uint64) for name in (
    "value", "result", "address", "params", "shared", "shared_size", "local", "local_size", "shadow", "world",
    "clocks")]
    + [(name, np.uint32) for name in (
        "resume", "line", "fault", "thread", "tid", "ctaid", "ntid", "nctaid", "grid_epoch", "block_epoch",
        "warp_epoch", "mask", "operand", "clamp", "kind", "good")])  # fmt: skip
REGISTERS = -(-THREAD.itemsize // 16) * 16  # where a thread's registers begin

LLVM = {"pred": "i1", **{f"{kind}{bits}": f"i{bits}" for kind in "bsu" for bits in WIDTHS}, "f32": "float",
        "f64": "double"}  # fmt: skip
BITS = {"i1": 1, "i8": 8, "i16": 16, "i32": 32, "i64": 64, "float": 32, "double": 64}
INTEGER = {"float": "i32", "double": "i64"}


def kind_of(t: Any, words: list[str], allowed: tuple[str, ...] = ()) -> tuple[str, str, list[str]]:
    """The type of an instruction, LLVM's, and the words before it, all of which must be ``allowed``."""
    *before, kind = words
    if kind not in LLVM or any(word not in allowed for word in before):
        raise t.unknown("variant")
    return kind, LLVM[kind], before


def is_float(kind: str) -> bool:
    return kind in ("f32", "f64")


def packed(parameters: list[Variable]) -> dict[str, int]:
    """Where parameters stand, one behind the other."""
    found, at = {}, 0
    for one in parameters:
        at = -(-at // one.align) * one.align
        found[one.name], at = at, at + one.size
    return found


def arrange(module: Module, function: Function) -> tuple[dict[str, tuple[str, int]], int, int]:
    """Where variables of shared and local memory stand, and the bytes of each."""
    places, shared = {}, 0
    for one in sorted((v for v in module.variables.values() if v.space == "shared"), key=lambda v: v.size == 0):
        align = max(one.align, 16) if one.size == 0 else one.align  # what is told at launch stands behind the rest
        shared = -(-shared // align) * align
        places[one.name], shared = ("shared", shared), shared + one.size
    local = 0
    for made in module.functions.values():
        for one in made.locals:
            if one.space == "local":
                local = -(-local // one.align) * one.align
                places[one.name], local = ("local", local), local + one.size
    return places, shared, local
