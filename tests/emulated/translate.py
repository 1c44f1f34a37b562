"""PTX to LLVM's language: a function that takes one thread to where it must wait for others.

Registers that live longer than a stretch of code without waiting or branching stand in the thread's own memory, behind
what `THREAD` describes.  Where threads wait for each other, hand each other numbers, or end, the function returns a
reason; called again, it goes on behind that place.  An instruction that is not known is an error, never a guess.
"""

from __future__ import annotations

import re
from typing import Any

from . import arithmetic, bits, flow
from .layout import (
    BITS,
    FAULT,
    GENERIC,
    GLOBAL,
    INTEGER,
    LLVM,
    LOCAL,
    REGISTERS,
    SCALAR,
    SHARED,
    STORES,
    THREAD,
    packed,
)
from .source import Function, Module, Statement, UnknownCode, number

SPECIAL = {"%tid.x": "tid", "%ctaid.x": "ctaid", "%ntid.x": "ntid", "%nctaid.x": "nctaid"}
ZEROS, ONES = {"%tid.y", "%tid.z", "%ctaid.y", "%ctaid.z"}, {"%ntid.y", "%ntid.z", "%nctaid.y", "%nctaid.z"}
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
        known = _KNOWN.get(parts[0])
        if known is None:
            raise self.unknown(f"instruction {'.'.join(parts)}")
        known(self, parts[1:], operands)

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

    def _access(self, words: list[str]) -> tuple[str, int, str, int]:
        """Space, numbers at once, their type and its bytes, of a load or store."""
        words = [word for word in words if word not in ("nc", "weak", "relaxed", "gpu", "sys", "cta", "ca", "cg")]
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
        self.return_if(self.new(f"icmp ne i32 {status}, 0"), status)

    def return_if(self, test: str, status: str | None = None) -> None:
        """Return where a test is true, with a fault, if it is told."""
        bad, good = self.label("bad"), self.label("good")
        self.out.append(f"  br i1 {test}, label %{bad}, label %{good}")
        self.open(bad)
        if status is not None:
            self.put("fault", "i32", status)
            self.put("line", "i32", str(self.statement.line))
        self.out.append(f"  ret i32 {FAULT}")
        self.open(good)

    def ld(self, words: list[str], operands: list[str]) -> None:
        """A load."""
        space, vector, kind, size = self._access(words)
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

    def st(self, words: list[str], operands: list[str]) -> None:
        """A store."""
        space, vector, kind, size = self._access(words)
        names = operands[1].strip("{} ").split(",") if vector > 1 else [operands[1]]
        values = [self.read(name, LLVM[kind]) for name in names]
        where, pointer = self._pointer(space, operands[0])
        if space != "param":
            self._checked(where, size * vector, space, "" if vector > 1 else self.cast(values[0], LLVM[kind], "i64"))
        for k, value in enumerate(values):
            here = self.new(f"getelementptr i8, ptr {pointer}, i64 {size * k}")
            self.out.append(f"  store {LLVM[kind]} {value}, ptr {here}, align 1")

    def pause(self, reason: int) -> None:
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


def _breaks(name: str) -> bool:
    """Whether nothing stays in LLVM's registers over an instruction."""
    return bool(PAUSES.match(name)) or name.startswith(("bra", "call")) or name.endswith(":")


_KNOWN: dict[str, Any] = {**arithmetic.KNOWN, **bits.KNOWN, **flow.KNOWN, "ld": Translation.ld, "st": Translation.st}

__all__ = ["Translation"]
