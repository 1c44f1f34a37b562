"""Instructions of PTX that move, compare and convert numbers, and those on their bits, in LLVM's language."""

from __future__ import annotations

from typing import Any

from .layout import BITS, INTEGER, LLVM, is_float, kind_of

COMPARED = {"eq": "oeq", "ne": "one", "lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge", "equ": "ueq", "neu": "une",
            "ltu": "ult", "leu": "ule", "gtu": "ugt", "geu": "uge", "num": "ord", "nan": "uno"}  # fmt: skip
UNSIGNED = {"lo": "ult", "ls": "ule", "hi": "ugt", "hs": "uge"}
ROUNDED = {"rni": "roundeven", "rzi": "trunc", "rmi": "floor", "rpi": "ceil"}


def _logic(name: str) -> Any:
    def made(t: Any, words: list[str], operands: list[str]) -> None:
        _, llvm, _ = kind_of(t, words)
        a, b = (t.read(one, llvm) for one in operands[1:])
        t.write(operands[0], t.new(f"{name} {llvm} {a}, {b}"), llvm)

    return made


def _not(t: Any, words: list[str], operands: list[str]) -> None:
    _, llvm, _ = kind_of(t, words)
    t.write(operands[0], t.new(f"xor {llvm} {t.read(operands[1], llvm)}, -1"), llvm)


def _shift(left: bool) -> Any:
    def made(t: Any, words: list[str], operands: list[str]) -> None:
        kind, llvm, _ = kind_of(t, words)
        a, bits = t.read(operands[1], llvm), BITS[llvm]
        by = t.read(operands[2], "i32")
        far = t.new(f"icmp uge i32 {by}, {bits}")
        signed = not left and kind[0] == "s"
        near = t.new(f"select i1 {far}, i32 {bits - 1 if signed else 0}, i32 {by}")
        near = t.cast(near, "i32", llvm)
        found = t.new(f"{'shl' if left else 'ashr' if signed else 'lshr'} {llvm} {a}, {near}")
        if not signed:
            found = t.new(f"select i1 {far}, {llvm} 0, {llvm} {found}")
        t.write(operands[0], found, llvm)

    return made


def _setp(t: Any, words: list[str], operands: list[str]) -> None:
    kind, llvm, before = kind_of(t, words, (*COMPARED, *UNSIGNED, "and", "or", "xor"))
    a, b = (t.read(one, llvm) for one in operands[1:3])
    how = before[0]
    if is_float(kind):
        found = t.new(f"fcmp {COMPARED[how]} {llvm} {a}, {b}")
    else:
        sign = "" if how in ("eq", "ne") else "s" if kind[0] == "s" else "u"
        found = t.new(f"icmp {UNSIGNED.get(how) or sign + how} {llvm} {a}, {b}")
    if len(before) == 2:
        found = t.new(f"{before[1]} i1 {found}, {t.read(operands[3], 'i1')}")
    if "|" in operands[0] or len(before) != len(operands) - 2:
        raise t.unknown("comparison")
    t.write(operands[0], found, "i1")


def _selp(t: Any, words: list[str], operands: list[str]) -> None:
    _, llvm, _ = kind_of(t, words)
    a, b, test = t.read(operands[1], llvm), t.read(operands[2], llvm), t.read(operands[3], "i1")
    t.write(operands[0], t.new(f"select i1 {test}, {llvm} {a}, {llvm} {b}"), llvm)


def _mov(t: Any, words: list[str], operands: list[str]) -> None:
    _, llvm, _ = kind_of(t, words)
    into, source = operands
    if source.startswith("{"):
        names = [name.strip() for name in source.strip("{} ").split(",")]
        bits, whole = BITS[llvm] // len(names), INTEGER.get(llvm, llvm)
        found = "0"
        for k, name in enumerate(names):
            part = t.new(f"zext i{bits} {t.read(name, f'i{bits}')} to {whole}")
            found = t.new(f"or {whole} {found}, {t.new(f'shl {whole} {part}, {bits * k}')}")
        t.write(into, found, whole)
    elif into.startswith("{"):
        names = [name.strip() for name in into.strip("{} ").split(",")]
        bits, whole = BITS[llvm] // len(names), INTEGER.get(llvm, llvm)
        value = t.read(source, whole)
        for k, name in enumerate(names):
            part = t.new(f"trunc {whole} {t.new(f'lshr {whole} {value}, {bits * k}')} to i{bits}")
            t.write(name, part, f"i{bits}")
    else:
        t.write(into, t.read(source, llvm), llvm)


def _cvta(t: Any, words: list[str], operands: list[str]) -> None:
    if words[-1] != "u64":
        raise t.unknown("address")
    t.write(operands[0], t.read(operands[1], "i64"), "i64")  # all addresses are the CPU's


def _cvt(t: Any, words: list[str], operands: list[str]) -> None:
    *how, into, source = words
    if words == ["sat", "f32", "f32"]:  # between 0 and 1; NaN becomes 0
        a = t.read(operands[1], "float")
        a = t.new(f"select i1 {t.new(f'fcmp ogt float {a}, 0.0')}, float {a}, float 0.0")
        t.write(operands[0], t.new(f"select i1 {t.new(f'fcmp olt float {a}, 1.0')}, float {a}, float 1.0"), "float")
        return
    if into not in LLVM or source not in LLVM or any(one not in (*ROUNDED, "rn") for one in how) or len(how) > 1:
        raise t.unknown("conversion")
    want, have, value = LLVM[into], LLVM[source], t.read(operands[1], LLVM[source])
    if is_float(source) and not is_float(into):
        value = t.new(f"call {have} @llvm.{ROUNDED[how[0]]}.{source}({have} {value})")
        value = t.new(f"call {want} @llvm.fpto{into[0]}i.sat.{want}.{source}({have} {value})")
    elif is_float(source):
        if how and how[0] in ROUNDED:
            if source != into:
                raise t.unknown("conversion")
            value = t.new(f"call {have} @llvm.{ROUNDED[how[0]]}.{source}({have} {value})")
        elif source != into:
            value = t.new(f"{'fpext' if into == 'f64' else 'fptrunc'} {have} {value} to {want}")
    elif is_float(into):
        value = t.new(f"{source[0]}itofp {have} {value} to {want}")
    else:
        if BITS[want] > BITS[have]:
            value = t.new(f"{'sext' if source[0] == 's' else 'zext'} {have} {value} to {want}")
        elif BITS[want] < BITS[have]:
            value = t.new(f"trunc {have} {value} to {want}")
        name = operands[0]
        wider = LLVM[t.made.registers[name]]
        if BITS[wider] > BITS[want] and into[0] == "s":
            value, want = t.new(f"sext {want} {value} to {wider}"), wider
    t.write(operands[0], value, want)


def _bfi(t: Any, words: list[str], operands: list[str]) -> None:
    _, llvm, _ = kind_of(t, words)
    bits = BITS[llvm]
    a, b = (t.read(one, llvm) for one in operands[1:3])
    wide = f"i{2 * bits}"
    at, length = (t.new(f"and i32 {t.read(one, 'i32')}, 255") for one in operands[3:])
    at, length = (t.new(f"select i1 {t.new(f'icmp ugt i32 {one}, {bits}')}, i32 {bits}, i32 {one}")
                  for one in (at, length))  # fmt: skip
    at, length = (t.new(f"zext i32 {one} to {wide}") for one in (at, length))
    ones = t.new(f"sub {wide} {t.new(f'shl {wide} 1, {length}')}, 1")
    mask = t.new(f"trunc {wide} {t.new(f'shl {wide} {ones}, {at}')} to {llvm}")
    grown = t.new(f"zext {llvm} {a} to {wide}")
    moved = t.new(f"trunc {wide} {t.new(f'shl {wide} {grown}, {at}')} to {llvm}")
    rest = t.new(f"and {llvm} {b}, {t.new(f'xor {llvm} {mask}, -1')}")
    t.write(operands[0], t.new(f"or {llvm} {t.new(f'and {llvm} {moved}, {mask}')}, {rest}"), llvm)


def _bits(name: str, *more: str) -> Any:
    """A function of the bits of a number, as u32."""
    def made(t: Any, words: list[str], operands: list[str]) -> None:
        _, llvm, _ = kind_of(t, words)
        given = ", ".join([f"{llvm} {t.read(operands[1], llvm)}", *more])
        t.write(operands[0], t.new(f"call {llvm} @llvm.{name}.{llvm}({given})"), llvm)

    return made


def _prmt(t: Any, words: list[str], operands: list[str]) -> None:
    if words != ["b32"]:
        raise t.unknown("permutation")
    a, b, how = (t.new(f"zext i32 {t.read(one, 'i32')} to i64") for one in operands[1:])
    both = t.new(f"or i64 {a}, {t.new(f'shl i64 {b}, 32')}")
    found = "0"
    for k in range(4):
        one = t.new(f"and i64 {t.new(f'lshr i64 {how}, {4 * k}')}, 15")
        shift = t.new(f"mul i64 {t.new(f'and i64 {one}, 7')}, 8")
        byte = t.new(f"trunc i64 {t.new(f'lshr i64 {both}, {shift}')} to i8")
        sign = t.new(f"icmp ugt i64 {one}, 7")
        byte = t.new(f"select i1 {sign}, i8 {t.new(f'ashr i8 {byte}, 7')}, i8 {byte}")
        wide = t.new(f"zext i8 {byte} to i32")
        found = t.new(f"or i32 {found}, {t.new(f'shl i32 {wide}, {8 * k}')}")
    t.write(operands[0], found, "i32")


KNOWN = {
    "and": _logic("and"), "or": _logic("or"), "xor": _logic("xor"), "not": _not, "shl": _shift(True),
    "shr": _shift(False), "setp": _setp, "selp": _selp, "mov": _mov, "cvta": _cvta, "cvt": _cvt, "bfi": _bfi,
    "clz": _bits("ctlz", "i1 false"), "popc": _bits("ctpop"), "brev": _bits("bitreverse"), "prmt": _prmt,
}  # fmt: skip
