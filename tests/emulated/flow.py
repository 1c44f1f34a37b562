"""Instructions of PTX at which a thread waits for others, hands them numbers, calls a function or ends."""

from __future__ import annotations

from typing import Any

from numba._helperlib import c_helpers

from .layout import (
    ALL,
    ANY,
    BALLOT,
    BARRIER,
    BUTTERFLY,
    DOWN,
    ENDED,
    GRID,
    INDEX,
    SHUFFLE,
    UNIFORM,
    UP,
    VOTE,
    WARP,
    packed,
)


def _ret(t: Any, words: list[str], operands: list[str]) -> None:
    t.out.append(f"  ret i32 {ENDED}")
    t.open(t.label("dead"))


def _exit(t: Any, words: list[str], operands: list[str]) -> None:
    if not t.made.is_entry:
        raise t.unknown("the end of a thread within a function")
    _ret(t, words, operands)


def _bar(t: Any, words: list[str], operands: list[str]) -> None:
    if words == ["sync"] and operands == ["0"]:
        t.pause(BARRIER)
    elif words == ["warp", "sync"]:
        t.put("mask", "i32", t.read(operands[0], "i32"))
        t.pause(WARP)
    else:
        raise t.unknown("barrier")


def _barrier(t: Any, words: list[str], operands: list[str]) -> None:
    _bar(t, [word for word in words if word not in ("cta", "aligned")], operands)


def _shfl(t: Any, words: list[str], operands: list[str]) -> None:
    kinds = {"up": UP, "down": DOWN, "bfly": BUTTERFLY, "idx": INDEX}
    if words[0] != "sync" or words[2] != "b32":
        raise t.unknown("shuffle")
    t.put("kind", "i32", str(kinds[words[1]]))
    t.put("value", "i64", t.cast(t.read(operands[1], "i32"), "i32", "i64"))
    for name, operand in zip(("operand", "clamp", "mask"), operands[2:], strict=True):
        t.put(name, "i32", t.read(operand, "i32"))
    t.pause(SHUFFLE)
    name, _, test = operands[0].partition("|")
    t.write(name, t.take("result"), "i64")
    if test:
        t.write(test, t.take("good"), "i32")


def _vote(t: Any, words: list[str], operands: list[str]) -> None:
    kinds = {"all": ALL, "any": ANY, "uni": UNIFORM, "ballot": BALLOT}
    if words[0] != "sync":
        raise t.unknown("vote")
    t.put("kind", "i32", str(kinds[words[1]]))
    t.put("value", "i64", t.cast(t.read(operands[1], "i1"), "i1", "i64"))
    t.put("mask", "i32", t.read(operands[2], "i32"))
    t.pause(VOTE)
    t.write(operands[0], t.take("result"), "i64")


def _call(t: Any, words: list[str], operands: list[str]) -> None:
    results = operands.pop(0).strip("() ") if operands[0].startswith("(") else ""
    name = operands[0]
    given = [one.strip() for one in operands[1].strip("() ").split(",") if one.strip()] if operands[1:] else []
    if name == "cudaCGGetIntrinsicHandle":
        t.out.append(f"  store i64 1, ptr {t.slot(results)}")
    elif name == "cudaCGSynchronize":
        t.pause(GRID)
        t.out.append(f"  store i32 0, ptr {t.slot(results)}")
    elif name == "numba_attempt_nocopy_reshape":  # numba-cuda links this function of Numba's, in C
        kinds = ("i64", "ptr", "ptr", "i64", "ptr", "ptr", "i64", "i32")
        values = [f"{kind} {t.new(f'load {kind}, ptr {t.slot(one)}')}" for kind, one in zip(kinds, given, strict=True)]
        where = f"inttoptr (i64 {c_helpers['attempt_nocopy_reshape']} to ptr)"
        found = t.new(f"call i32 {where}({', '.join(values)})")
        t.out.append(f"  store i32 {found}, ptr {t.slot(results)}")
    elif name in t.module.functions:
        called = t.module.functions[name]
        there, buffer = packed(called.parameters), f"%{t.label('buffer')}"
        size = 16 + sum(max(16, one.size) for one in called.parameters)
        t.buffers.append(f"  {buffer} = alloca [{size} x i8], align 16")
        for one, argument in zip(called.parameters, given, strict=True):
            here = t.new(f"getelementptr i8, ptr {buffer}, i64 {there[one.name]}")
            t.out.append(f"  call void @llvm.memcpy.p0.p0.i64(ptr {here}, ptr {t.slot(argument)}, "
                            f"i64 {one.size}, i1 false)")  # fmt: skip
        back = t.slot(results) if results else "null"
        status = t.new(f'call i32 @"{name}"(ptr %t, ptr {buffer}, ptr {back})')
        t.return_if(t.new(f"icmp ne i32 {status}, 0"))
    else:
        raise t.unknown(f"function {name}")


KNOWN = {"ret": _ret, "exit": _exit, "bar": _bar, "barrier": _barrier, "shfl": _shfl, "vote": _vote, "call": _call}
