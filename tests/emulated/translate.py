"""PTX to LLVM's language: a function that takes one thread to where it must wait for others.

Registers that live longer than a stretch of code without waiting or branching stand in the thread's own memory, behind
what `THREAD` describes.  Where threads wait for each other, hand each other numbers, or end, the function returns a
reason; called again, it goes on behind that place.  An instruction that is not known is an error, never a guess.
"""

from __future__ import annotations

import re

import numpy as np
from numba._helperlib import c_helpers

from .source import WIDTHS, Function, Module, Statement, UnknownCode, Variable, number

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
SPECIAL = {"%tid.x": "tid", "%ctaid.x": "ctaid", "%ntid.x": "ntid", "%nctaid.x": "nctaid"}
ZEROS, ONES = {"%tid.y", "%tid.z", "%ctaid.y", "%ctaid.z"}, {"%ntid.y", "%ntid.z", "%nctaid.y", "%nctaid.z"}
COMPARED = {"eq": "oeq", "ne": "one", "lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge", "equ": "ueq", "neu": "une",
            "ltu": "ult", "leu": "ule", "gtu": "ugt", "geu": "uge", "num": "ord", "nan": "uno"}  # fmt: skip
UNSIGNED = {"lo": "ult", "ls": "ule", "hi": "ugt", "hs": "uge"}
ROUNDED = {"rni": "roundeven", "rzi": "trunc", "rmi": "floor", "rpi": "ceil"}
PAUSES = re.compile(r"(bar|barrier|shfl|vote)\.|exit$|ret$")


class Translation:
    """One function of a module."""

    def __init__(self, module: Module, made: Function, symbols: dict[str, int], offsets: dict[str, tuple[str, int]],
                 check: int):  # fmt: skip
        self.module, self.made, self.symbols, self.check = module, made, symbols, check
        self.offsets = offsets  # variables of shared and local memory, by (space, offset)
        self.out: list[str] = []
        self.buffers: list[str] = []  # for the arguments of calls
        self.count, self.env, self.resumes = 0, {}, []  # type: ignore[var-annotated]
        self.statement = Statement(0, "")
        self.places: dict[str, int] = {}
        self.size = REGISTERS if made.is_entry else 0
        self._place_parameters()
        self.kept = self._kept()
        for name in sorted(self.kept):
            self.places[name], self.size = self.size, self.size + 8

    def _place_parameters(self) -> None:
        for one in self.made.locals:
            if one.space == "param":
                self.size = -(-self.size // 16) * 16
                self.places[one.name], self.size = self.size, self.size + max(16, one.size)
        self.given = packed(self.made.parameters)

    def _kept(self) -> set[str]:
        """Registers that are read in another stretch than the one that wrote them last."""
        where: dict[str, set[int]] = {}
        stretch = 0
        for one in self.made.body:
            names = [name for text in (*one.operands, one.guard) for name in re.findall(r"%?[\w$@]+", text)
                     if name in self.made.registers]  # fmt: skip
            if ".cc" in one.name or one.name.startswith(("addc", "subc", "madc")):
                names.append("%cc")
            for name in names:
                where.setdefault(name, set()).add(stretch)
            if one.name.endswith(":") or one.guard or _breaks(one.name):
                stretch += 1
                for name in names if one.guard and not one.name.startswith("bra") else ():
                    where[name].add(stretch)
        self.made.registers.setdefault("%cc", "b32")
        return {name for name, stretches in where.items() if len(stretches) > 1}

    # ------------------------------------------------------------------------------------------- values
    def new(self, text: str) -> str:
        """A value from an instruction."""
        self.count += 1
        self.out.append(f"  %v{self.count} = {text}")
        return f"%v{self.count}"

    def label(self, hint: str) -> str:
        """A fresh label."""
        self.count += 1
        return f"{hint}{self.count}"

    def open(self, label: str) -> None:
        """A basic block begins."""
        self.out.append(f"{label}:")

    def field(self, name: str) -> str:
        """The address of a field of the thread."""
        return self.new(f"getelementptr i8, ptr %t, i64 {THREAD.fields[name][1]}")  # type: ignore[index]

    def put(self, name: str, kind: str, value: str) -> None:
        """Write a field of the thread."""
        place = self.field(name)
        self.out.append(f"  store {kind} {value}, ptr {place}")

    def take(self, name: str) -> str:
        """Read a field of the thread."""
        kind = f"i{8 * THREAD.fields[name][0].itemsize}"  # type: ignore[index]
        place = self.field(name)
        return self.new(f"load {kind}, ptr {place}")

    def slot(self, name: str) -> str:
        """The address of a register, or of a parameter of a call."""
        base = "%t" if self.made.is_entry else "%frame"
        return self.new(f"getelementptr i8, ptr {base}, i64 {self.places[name]}")

    def cast(self, value: str, have: str, want: str) -> str:
        """The same bits, or the lowest of them, as another type."""
        if have == want:
            return value
        if have in INTEGER:
            value, have = self.new(f"bitcast {have} {value} to {INTEGER[have]}"), INTEGER[have]
        target = INTEGER.get(want, want)
        if BITS[have] != BITS[target]:
            if BITS[have] < BITS[target]:
                value = self.new(f"zext {have} {value} to {target}")
            else:
                value = self.new(f"trunc {have} {value} to {target}")
        return self.new(f"bitcast {target} {value} to {want}") if want in INTEGER else value

    def read(self, text: str, want: str) -> str:
        """The value of an operand."""
        text = text.strip()
        if text.startswith("!"):
            return self.new(f"xor i1 {self.read(text[1:], 'i1')}, true")
        if text in self.made.registers:
            kind = LLVM[self.made.registers[text]]
            if text not in self.env:
                if text not in self.kept:
                    raise self.unknown(f"register {text} is read before it is written")
                self.env[text] = self.new(f"load {kind}, ptr {self.slot(text)}")
            return self.cast(self.env[text], kind, want)
        if (literal := number(text)) is not None:
            kind, value = literal
            if kind == "int":
                if want in INTEGER:
                    raise self.unknown(f"{text} as a number of type {want}")
                if want == "i1":
                    return "true" if int(value) else "false"
                return str(int(value) & (1 << BITS[want]) - 1)
            if kind != want:
                return self.cast(self.new(f"bitcast {kind} {value} to {INTEGER[kind]}"), INTEGER[kind], want)
            return value
        if text in SPECIAL:
            return self.cast(self.take(SPECIAL[text]), "i32", want)
        if text in ZEROS | ONES:
            return "1" if text in ONES else "0"
        if text in ("%laneid", "%warpid"):
            tid = self.take("tid")
            found = self.new(f"and i32 {tid}, 31") if text == "%laneid" else self.new(f"lshr i32 {tid}, 5")
            return self.cast(found, "i32", want)
        if text == "WARP_SZ":
            return "32"
        return self.cast(self.address_of(text), "i64", want)

    def address_of(self, name: str) -> str:
        """The address of a variable."""
        if name in self.offsets:
            space, offset = self.offsets[name]
            return self.new(f"add i64 {self.take(space)}, {offset}")
        if name in self.symbols:
            return str(self.symbols[name])
        raise self.unknown(f"operand {name!r}")

    def write(self, name: str, value: str, have: str) -> None:
        """Write a register."""
        if name == "_":
            return
        if name not in self.made.registers:
            raise self.unknown(f"{name!r} is no register")
        kind = LLVM[self.made.registers[name]]
        self.env[name] = self.cast(value, have, kind)
        if name in self.kept:
            self.out.append(f"  store {kind} {self.env[name]}, ptr {self.slot(name)}")

    def unknown(self, what: str) -> UnknownCode:
        """An error that names the line."""
        line = self.module.lines[self.statement.line - 1].strip() if self.statement.line else ""
        return UnknownCode(f"{what}, in line {self.statement.line}: {line}")

    # --------------------------------------------------------------------------------------------- text
    def text(self) -> str:
        """The function."""
        head = "ptr %t" if self.made.is_entry else "ptr %t, ptr %given, ptr %results"
        self.open("first")
        self.out.append("@BUFFERS@")
        if self.made.parameters and self.made.is_entry:
            self.out.append(f"  %given = load ptr, ptr {self.field('params')}")
        if not self.made.is_entry:
            self.out.append(f"  %frame = alloca [{max(16, self.size)} x i8], align 16")
        else:
            where = self.take("resume")
            self.out.append(f"  switch i32 {where}, label %begin [@RESUMES@]")
        if not self.made.is_entry:
            self.out.append("  br label %begin")
        self.open("begin")
        for one in self.made.body:
            self.statement = one
            self._translate(one)
        resumes = " ".join(f"i32 {k + 1}, label %{name}" for k, name in enumerate(self.resumes))
        body = "\n".join(self.out).replace("@RESUMES@", resumes).replace("@BUFFERS@", "\n".join(self.buffers))
        return f'define i32 @"{self.made.name}"({head}) {{\n{body}\n  unreachable\n}}\n'

    def _translate(self, one: Statement) -> None:
        if one.name.endswith(":"):
            label = f'"{one.name[:-1]}"'
            self.out.append(f"  br label %{label}")
            self.open(label)
            self.env = {}
            return
        if one.name.startswith("bra"):
            if one.guard:
                after, test = self.label("after"), self.read(one.guard, "i1")
                self.out.append(f'  br i1 {test}, label %"{one.operands[0]}", label %{after}')
                self.open(after)
            else:
                self.out.append(f'  br label %"{one.operands[0]}"')
                self.open(self.label("dead"))
            self.env = {}
            return
        after = ""
        if one.guard:
            then, after = self.label("then"), self.label("after")
            self.out.append(f"  br i1 {self.read(one.guard, 'i1')}, label %{then}, label %{after}")
            self.env = {}
            self.open(then)
        self._instruction(one.name.split("."), one.operands)
        if after:
            self.out.append(f"  br label %{after}")
            self.open(after)
            self.env = {}
        elif _breaks(one.name):
            self.env = {}

    def _instruction(self, parts: list[str], operands: list[str]) -> None:
        from . import arithmetic

        flow = getattr(self, "_" + parts[0], None)
        if flow is not None:
            flow(parts, operands)
            return
        arithmetic.translate(self, parts, operands)

    # ------------------------------------------------------------------------------------------ memory
    def _place(self, text: str) -> tuple[str, int, str]:
        """The address in an operand ``[base+offset]`` as (base, offset, name of the parameter or "")."""
        found = re.fullmatch(r"\[\s*([%\w$@]+)\s*(?:\+\s*(-?\d+))?\s*\]", text)
        if found is None:
            raise self.unknown(f"address {text}")
        return found[1], int(found[2] or 0), found[1]

    def _pointer(self, space: str, text: str) -> tuple[str, str]:
        """The address of an access, as a number and as a pointer."""
        base, offset, _ = self._place(text)
        if space == "param":
            if base in self.places:
                return "", self.new(f"getelementptr i8, ptr {self.slot(base)}, i64 {offset}")
            if base in self.given:
                return "", self.new(f"getelementptr i8, ptr %given, i64 {self.given[base] + offset}")
            if any(base == one.name for one in self.made.results):
                return "", self.new(f"getelementptr i8, ptr %results, i64 {offset}")
            raise self.unknown(f"parameter {base}")
        where = self.read(base, "i64")
        where = self.new(f"add i64 {where}, {offset}")
        return where, self.new(f"inttoptr i64 {where} to ptr")

    def _access(self, parts: list[str]) -> tuple[str, int, str, int]:
        """Space, numbers at once, their type and its bytes, of a load or store."""
        words = [part for part in parts[1:] if part not in ("nc", "weak", "relaxed", "gpu", "sys", "cta", "ca", "cg")]
        space = words.pop(0) if words[0] in ("global", "shared", "local", "param", "const") else "generic"
        vector = int(words.pop(0)[1]) if words[0] in ("v2", "v4") else 1
        if len(words) != 1 or words[0] not in LLVM:
            raise self.unknown("access")
        return space, vector, words[0], BITS[LLVM[words[0]]] // 8

    def _checked(self, where: str, size: int, space: str, stored: str | None) -> None:
        """Ask whether an access is allowed, and return where it is not."""
        flags = {"generic": GENERIC, "global": GLOBAL, "const": GLOBAL, "shared": SHARED, "local": LOCAL}[space]
        flags |= 0 if stored is None else STORES if stored == "" else STORES | SCALAR
        status = self.new(f"call i32 inttoptr (i64 {self.check} to ptr)(ptr %t, i64 {where}, i32 {size}, i32 {flags}, "
                          f"i64 {stored or 0})")  # fmt: skip
        self._return_if(self.new(f"icmp ne i32 {status}, 0"), status)

    def _return_if(self, test: str, status: str | None = None) -> None:
        bad, good = self.label("bad"), self.label("good")
        self.out.append(f"  br i1 {test}, label %{bad}, label %{good}")
        self.open(bad)
        if status is not None:
            self.put("fault", "i32", status)
            self.put("line", "i32", str(self.statement.line))
        self.out.append(f"  ret i32 {FAULT}")
        self.open(good)

    def _ld(self, parts: list[str], operands: list[str]) -> None:
        space, vector, kind, size = self._access(parts)
        where, pointer = self._pointer(space, operands[1])
        if space != "param":
            self._checked(where, size * vector, space, None)
        names = operands[0].strip("{} ").split(",") if vector > 1 else [operands[0]]
        for k, name in enumerate(names):
            here = self.new(f"getelementptr i8, ptr {pointer}, i64 {size * k}")
            value = self.new(f"load {LLVM[kind]}, ptr {here}, align 1")
            self._widened(name.strip(), value, kind)

    def _widened(self, name: str, value: str, kind: str) -> None:
        """Write a loaded number to a register that may be wider."""
        have, want = LLVM[kind], LLVM[self.made.registers[name]] if name in self.made.registers else LLVM[kind]
        if kind[0] == "s" and BITS[want] > BITS[have]:
            target = INTEGER.get(want, want)
            value, have = self.new(f"sext {have} {value} to {target}"), target
        self.write(name, value, have)

    def _st(self, parts: list[str], operands: list[str]) -> None:
        space, vector, kind, size = self._access(parts)
        names = operands[1].strip("{} ").split(",") if vector > 1 else [operands[1]]
        values = [self.read(name, LLVM[kind]) for name in names]
        where, pointer = self._pointer(space, operands[0])
        if space != "param":
            self._checked(where, size * vector, space, "" if vector > 1 else self.cast(values[0], LLVM[kind], "i64"))
        for k, value in enumerate(values):
            here = self.new(f"getelementptr i8, ptr {pointer}, i64 {size * k}")
            self.out.append(f"  store {LLVM[kind]} {value}, ptr {here}, align 1")

    # -------------------------------------------------------------------------------------------- flow
    def _pause(self, reason: int) -> None:
        """Return with a reason, and go on here."""
        if not self.made.is_entry:
            raise self.unknown("waiting within a function")
        name = self.label("resume")
        self.resumes.append(name)
        self.put("resume", "i32", str(len(self.resumes)))
        self.put("line", "i32", str(self.statement.line))
        self.out.append(f"  ret i32 {reason}")
        self.open(name)
        self.env = {}

    def _ret(self, parts: list[str], operands: list[str]) -> None:
        self.out.append(f"  ret i32 {ENDED}")
        self.open(self.label("dead"))

    def _exit(self, parts: list[str], operands: list[str]) -> None:
        if not self.made.is_entry:
            raise self.unknown("the end of a thread within a function")
        self._ret(parts, operands)

    def _bar(self, parts: list[str], operands: list[str]) -> None:
        if parts[1:] == ["sync"] and operands == ["0"]:
            self._pause(BARRIER)
        elif parts[1:] == ["warp", "sync"]:
            self.put("mask", "i32", self.read(operands[0], "i32"))
            self._pause(WARP)
        else:
            raise self.unknown("barrier")

    def _barrier(self, parts: list[str], operands: list[str]) -> None:
        self._bar(["bar", *(part for part in parts[1:] if part not in ("cta", "aligned"))], operands)

    def _shfl(self, parts: list[str], operands: list[str]) -> None:
        kinds = {"up": UP, "down": DOWN, "bfly": BUTTERFLY, "idx": INDEX}
        if parts[1] != "sync" or parts[3] != "b32":
            raise self.unknown("shuffle")
        self.put("kind", "i32", str(kinds[parts[2]]))
        self.put("value", "i64", self.cast(self.read(operands[1], "i32"), "i32", "i64"))
        for name, operand in zip(("operand", "clamp", "mask"), operands[2:], strict=True):
            self.put(name, "i32", self.read(operand, "i32"))
        self._pause(SHUFFLE)
        name, _, test = operands[0].partition("|")
        self.write(name, self.take("result"), "i64")
        if test:
            self.write(test, self.take("good"), "i32")

    def _vote(self, parts: list[str], operands: list[str]) -> None:
        kinds = {"all": ALL, "any": ANY, "uni": UNIFORM, "ballot": BALLOT}
        if parts[1] != "sync":
            raise self.unknown("vote")
        self.put("kind", "i32", str(kinds[parts[2]]))
        self.put("value", "i64", self.cast(self.read(operands[1], "i1"), "i1", "i64"))
        self.put("mask", "i32", self.read(operands[2], "i32"))
        self._pause(VOTE)
        self.write(operands[0], self.take("result"), "i64")

    def _call(self, parts: list[str], operands: list[str]) -> None:
        results = operands.pop(0).strip("() ") if operands[0].startswith("(") else ""
        name = operands[0]
        given = [one.strip() for one in operands[1].strip("() ").split(",") if one.strip()] if operands[1:] else []
        if name == "cudaCGGetIntrinsicHandle":
            self.out.append(f"  store i64 1, ptr {self.slot(results)}")
        elif name == "cudaCGSynchronize":
            self._pause(GRID)
            self.out.append(f"  store i32 0, ptr {self.slot(results)}")
        elif name == "numba_attempt_nocopy_reshape":  # numba-cuda links this function of Numba's, in C
            kinds = ("i64", "ptr", "ptr", "i64", "ptr", "ptr", "i64", "i32")
            values = [f"{kind} {self.new(f'load {kind}, ptr {self.slot(one)}')}"
                      for kind, one in zip(kinds, given, strict=True)]  # fmt: skip
            where = f"inttoptr (i64 {c_helpers['attempt_nocopy_reshape']} to ptr)"
            found = self.new(f"call i32 {where}({', '.join(values)})")
            self.out.append(f"  store i32 {found}, ptr {self.slot(results)}")
        elif name in self.module.functions:
            called = self.module.functions[name]
            there, buffer = packed(called.parameters), f"%{self.label('buffer')}"
            size = 16 + sum(max(16, one.size) for one in called.parameters)
            self.buffers.append(f"  {buffer} = alloca [{size} x i8], align 16")
            for one, argument in zip(called.parameters, given, strict=True):
                here = self.new(f"getelementptr i8, ptr {buffer}, i64 {there[one.name]}")
                self.out.append(f"  call void @llvm.memcpy.p0.p0.i64(ptr {here}, ptr {self.slot(argument)}, "
                                f"i64 {one.size}, i1 false)")  # fmt: skip
            back = self.slot(results) if results else "null"
            status = self.new(f'call i32 @"{name}"(ptr %t, ptr {buffer}, ptr {back})')
            self._return_if(self.new(f"icmp ne i32 {status}, 0"))
        else:
            raise self.unknown(f"function {name}")


def _breaks(name: str) -> bool:
    """Whether nothing stays in LLVM's registers over an instruction."""
    return bool(PAUSES.match(name)) or name.startswith(("bra", "call")) or name.endswith(":")


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


__all__ = ["REGISTERS", "THREAD", "Translation", "arrange", "packed"]
