"""PTX as statements: entries and functions, variables, registers; what is not understood is an error."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

WIDTHS = {"8": 1, "16": 2, "32": 4, "64": 8}
_VARIABLE = re.compile(r"\.(?P<space>global|const|shared|local|param)\s+(?:\.align\s+(?P<align>\d+)\s+)?"
                       r"\.(?P<kind>[busf])(?P<bits>\d+)\s+(?P<name>[\w$]+)(?P<count>\[\d*\])?"
                       r"(?:\s*=\s*(?P<values>.*))?$", re.DOTALL)  # fmt: skip


class UnknownCode(Exception):
    """PTX that the machine does not know."""


@dataclass
class Statement:
    """``@guard name operands;`` or a label (``name`` ends with a colon)."""

    line: int
    name: str
    operands: list[str] = field(default_factory=list)
    guard: str = ""


@dataclass
class Variable:
    """A variable of the module, or a parameter."""

    space: str
    name: str
    size: int
    align: int
    values: bytes = b""


@dataclass
class Function:
    """An entry (a kernel) or a function."""

    name: str
    is_entry: bool
    results: list[Variable]
    parameters: list[Variable]
    registers: dict[str, str] = field(default_factory=dict)  # name -> pred, b32, f64, ...
    locals: list[Variable] = field(default_factory=list)
    body: list[Statement] = field(default_factory=list)


@dataclass
class Module:
    """What stands in a text."""

    lines: list[str]
    functions: dict[str, Function] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)


def variable(text: str) -> Variable:
    """A variable from its declaration."""
    found = _VARIABLE.search(text.strip())
    if found is None:
        raise UnknownCode(f"declaration: {text.strip()!r}")
    width = int(found["bits"]) // 8
    count = found["count"]
    size = width * (int(count[1:-1] or 0) if count else 1)
    values = b""
    if found["values"]:
        numbers = [one.strip() for one in found["values"].strip().strip("{}").split(",")]
        if found["kind"] == "f":
            values = b"".join(_float_bytes(one) for one in numbers)
        else:
            values = b"".join((int(one, 0) & (1 << 8 * width) - 1).to_bytes(width, "little") for one in numbers)
    return Variable(found["space"], found["name"], size, int(found["align"] or width), values)


def _float_bytes(text: str) -> bytes:
    if re.fullmatch(r"0[fF][0-9a-fA-F]{8}", text):
        return int(text[2:], 16).to_bytes(4, "little")
    if re.fullmatch(r"0[dD][0-9a-fA-F]{16}", text):
        return int(text[2:], 16).to_bytes(8, "little")
    raise UnknownCode(f"number {text!r}")


def operands_of(text: str) -> list[str]:
    """Operands, split at commas that stand in no bracket."""
    found, depth, begin = [], 0, 0
    for k, sign in enumerate(text):
        depth += (sign in "{[(") - (sign in "}])")
        if sign == "," and depth == 0:
            found.append(text[begin:k].strip())
            begin = k + 1
    last = text[begin:].strip()
    return [*found, last] if last else found


def parse(text: str) -> Module:
    """A module from its text."""
    lines = text.splitlines()
    module = Module(lines)
    bare = [line.partition("//")[0] for line in lines]
    k = 0
    while k < len(bare):
        line = bare[k].strip()
        if not line or line.startswith((".version", ".target", ".address_size")):
            k += 1
            continue
        begin = k
        whole = line
        while not re.search(r";|\{\s*$", whole) or (whole.endswith("{") and "=" in whole):
            k += 1
            whole += "\n" + bare[k].strip()
        k += 1
        if ".entry" in whole or ".func" in whole:
            if whole.rstrip().endswith(";"):
                continue  # a declaration
            made = _head(whole.partition("{")[0])
            k = _body(made, bare, k)
            module.functions[made.name] = made
        else:
            for one in whole.strip().rstrip(";").split(";"):
                found = variable(one)
                module.variables[found.name] = found
        assert k > begin
    return module


def _head(text: str) -> Function:
    found = re.search(r"\.(entry|func)\s*(?:\((?P<results>[^)]*)\))?\s*(?P<name>[\w$]+)\s*(?:\((?P<given>[^)]*)\))?",
                      text)  # fmt: skip
    assert found is not None, text
    results, given = ([variable(one) for one in (found[part] or "").split(",") if one.strip()]
                      for part in ("results", "given"))  # fmt: skip
    return Function(found["name"], found[1] == "entry", results, given)


def _body(made: Function, bare: list[str], k: int) -> int:
    """The statements of a function whose body begins at line ``k``; the line after it."""
    scopes: list[dict[str, str]] = [{}]  # names of inner registers and parameters, as they are called here
    text, start = "", k
    while k < len(bare):
        rest = bare[k].strip()
        k += 1
        while rest:
            if not text:
                start = k
                if label := re.match(r"([\w$]+):\s*", rest):
                    made.body.append(Statement(start, label[1] + ":"))
                    rest = rest[label.end() :]
                    continue
                if rest[0] == "{":
                    scopes.append({})
                    rest = rest[1:].lstrip()
                    continue
                if rest[0] == "}":
                    scopes.pop()
                    rest = rest[1:].lstrip()
                    if not scopes:
                        return k
                    continue
            head, ended, rest = rest.partition(";")
            text += " " + head
            rest = rest.lstrip()
            if ended:
                _statement(made, text.strip(), start, scopes)
                text = ""
    raise UnknownCode(f"{made.name} has no end")


def _statement(made: Function, text: str, line: int, scopes: list[dict[str, str]]) -> None:
    if not text or text.split()[0] in (".pragma", ".loc", ".file"):
        return
    inner = len(scopes) > 1
    if text.startswith(".reg"):
        kind, names = re.match(r"\.reg\s+\.(\w+)\s+(.*)", text, re.DOTALL).groups()
        for name in (one.strip() for one in names.split(",")):
            if many := re.fullmatch(r"([\w%$]+)<(\d+)>", name):
                made.registers |= {f"{many[1]}{j}": kind for j in range(int(many[2]))}
                continue
            called = f"{name}@{line}" if inner else name
            scopes[-1][name] = called
            made.registers[called] = kind
        return
    if text.startswith((".local", ".param")):
        found = variable(text)
        if inner:
            scopes[-1][found.name] = found.name = f"{found.name}@{line}"
        made.locals.append(found)
        return
    guard = ""
    if text.startswith("@"):
        guard, text = text[1:].split(None, 1)
    name, _, rest = text.partition(" ") if not re.match(r"\S+\t", text) else text.partition("\t")
    renamed = {old: new for scope in scopes for old, new in scope.items()}
    if renamed and inner:
        rest = re.sub(r"%?[\w$]+", lambda found: renamed.get(found[0], found[0]), rest)
    made.body.append(Statement(line, name.strip(), operands_of(rest), guard))


def number(text: str) -> tuple[str, str] | None:
    """A literal as (LLVM type or "int", LLVM constant); None where it is none."""
    if re.fullmatch(r"0[fF][0-9a-fA-F]{8}", text):
        (value,) = struct.unpack(">f", bytes.fromhex(text[2:]))
        bits = struct.unpack(">Q", struct.pack(">d", value))[0] if value == value else None
        if bits is None:  # a NaN keeps its bits
            raw = int(text[2:], 16)
            bits = (raw >> 31) << 63 | 0x7FF << 52 | (raw & 0x7FFFFF) << 29
        return "float", f"0x{bits:016X}"
    if re.fullmatch(r"0[dD][0-9a-fA-F]{16}", text):
        return "double", f"0x{text[2:].upper()}"
    if re.fullmatch(r"-?(0[xX][0-9a-fA-F]+|\d+)U?", text):
        return "int", str(int(text.rstrip("U"), 0))
    return None
