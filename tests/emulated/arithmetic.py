"""Instructions of PTX that compute with numbers, in LLVM's language."""

from __future__ import annotations

from typing import Any

from .layout import BITS, INTEGER, LLVM, is_float, kind_of


def _numbers(integer: str, real: str) -> Any:
    """An operation of two numbers of one type."""
    def made(t: Any, words: list[str], operands: list[str]) -> None:
        if words[0] in ("cc",) or words[-2:-1] == ["cc"]:
            return _with_carry(t, integer, False, True, words, operands)
        kind, llvm, _ = kind_of(t, words, ("rn",))
        a, b = (t.read(one, llvm) for one in operands[1:])
        t.write(operands[0], t.new(f"{real if is_float(kind) else integer} {llvm} {a}, {b}"), llvm)

    return made


def _with_carry(t: Any, name: str, takes: bool, gives: bool, words: list[str], operands: list[str]) -> None:
    kind = words[-1]
    if kind not in ("u32", "s32", "u64", "s64", "b32"):
        raise t.unknown("carry")
    llvm = LLVM[kind]
    wide = f"i{2 * BITS[llvm]}"
    a, b = (t.new(f"zext {llvm} {t.read(one, llvm)} to {wide}") for one in operands[1:])
    total = t.new(f"{name} {wide} {a}, {b}")
    if takes:
        total = t.new(f"{name} {wide} {total}, {t.read('%cc', wide)}")
    t.write(operands[0], t.new(f"trunc {wide} {total} to {llvm}"), llvm)
    if gives:
        _carry(t, total, llvm, wide)


def _carry(t: Any, total: str, llvm: str, wide: str) -> None:
    over = t.new(f"lshr {wide} {total}, {BITS[llvm]}")
    t.write("%cc", t.new(f"zext i1 {t.new(f'trunc {wide} {over} to i1')} to i32"), "i32")


def _carrying(name: str) -> Any:
    return lambda t, words, operands: _with_carry(t, name, True, words[0] == "cc", words, operands)


def _multiplied(t: Any, how: str, kind: str, a: str, b: str) -> tuple[str, str]:
    """The low or the high half of a product of integers, or all of it."""
    llvm = LLVM[kind]
    a, b = t.read(a, llvm), t.read(b, llvm)
    if how == "lo":
        return t.new(f"mul {llvm} {a}, {b}"), llvm
    wide, grow = f"i{2 * BITS[llvm]}", "sext" if kind[0] == "s" else "zext"
    a, b = (t.new(f"{grow} {llvm} {one} to {wide}") for one in (a, b))
    found = t.new(f"mul {wide} {a}, {b}")
    if how == "wide":
        return found, wide
    return t.new(f"trunc {wide} {t.new(f'lshr {wide} {found}, {BITS[llvm]}')} to {llvm}"), llvm


def _mul(t: Any, words: list[str], operands: list[str]) -> None:
    if is_float(words[-1]):
        _numbers("", "fmul")(t, words, operands)
        return
    kind_of(t, words, ("lo", "hi", "wide"))
    t.write(operands[0], *_multiplied(t, words[0], words[-1], *operands[1:]))


def _mad(takes: bool) -> Any:
    def made(t: Any, words: list[str], operands: list[str]) -> None:
        if is_float(words[-1]):
            _fma(t, words, operands)
            return
        kind, _, before = kind_of(t, words, ("lo", "hi", "wide", "cc"))
        value, have = _multiplied(t, words[0], kind, *operands[1:3])
        c = t.read(operands[3], have)
        wide = f"i{2 * BITS[have]}"
        total = t.new(f"add {wide} {t.new(f'zext {have} {value} to {wide}')}, {t.new(f'zext {have} {c} to {wide}')}")
        if takes:
            total = t.new(f"add {wide} {total}, {t.read('%cc', wide)}")
        t.write(operands[0], t.new(f"trunc {wide} {total} to {have}"), have)
        if "cc" in before:
            _carry(t, total, have, wide)

    return made


def _fma(t: Any, words: list[str], operands: list[str]) -> None:
    kind, llvm, before = kind_of(t, words, ("rn", "rm", "rz"))
    a, b, c = (t.read(one, llvm) for one in operands[1:])
    if before == ["rn"]:
        t.write(operands[0], t.new(f"call {llvm} @llvm.fma.{kind}({llvm} {a}, {llvm} {b}, {llvm} {c})"), llvm)
    elif kind == "f32":
        t.write(operands[0], _directed(t, before[0], a, b, c), llvm)
    else:
        raise t.unknown("rounding")


def _directed(t: Any, how: str, a: str, b: str, c: str) -> str:
    """``a * b + c`` of float32, rounded down, or to zero."""
    a, b, c = (t.new(f"fpext float {one} to double") for one in (a, b, c))
    product = t.new(f"fmul double {a}, {b}")  # exact
    total = t.new(f"fadd double {product}, {c}")
    back = t.new(f"fsub double {total}, {product}")
    first = t.new(f"fsub double {product}, {t.new(f'fsub double {total}, {back}')}")
    error = t.new(f"fadd double {first}, {t.new(f'fsub double {c}, {back}')}")
    near = t.new(f"fptrunc double {total} to float")
    wide = t.new(f"fpext float {near} to double")

    def is_off(way: str, sign: str) -> str:
        just = t.new(f"fcmp oeq double {wide}, {total}")
        rest = t.new(f"and i1 {just}, {t.new(f'fcmp {sign} double {error}, 0.0')}")
        return t.new(f"or i1 {t.new(f'fcmp {way} double {wide}, {total}')}, {rest}")

    above, below = is_off("ogt", "olt"), is_off("olt", "ogt")
    bits = t.cast(near, "float", "i32")
    negative = t.new(f"icmp slt i32 {bits}, 0")
    smaller, larger = t.new(f"sub i32 {bits}, 1"), t.new(f"add i32 {bits}, 1")
    zero = t.new(f"fcmp oeq float {near}, 0.0")
    if how == "rm":
        moved = t.new(f"select i1 {negative}, i32 {larger}, i32 {smaller}")
        moved = t.new(f"select i1 {zero}, i32 {0x80000001}, i32 {moved}")
        bits = t.new(f"select i1 {above}, i32 {moved}, i32 {bits}")
    else:
        away = t.new(f"select i1 {negative}, i1 {below}, i1 {above}")
        bits = t.new(f"select i1 {away}, i32 {smaller}, i32 {bits}")
    return t.cast(bits, "i32", "float")


def _div(t: Any, words: list[str], operands: list[str], name: str = "div") -> None:
    kind, llvm, _ = kind_of(t, words, ("rn",))
    a, b = (t.read(one, llvm) for one in operands[1:])
    if is_float(kind):
        t.write(operands[0], t.new(f"fdiv {llvm} {a}, {b}"), llvm)
        return
    zero = t.new(f"icmp eq {llvm} {b}, 0")  # the CPU would stop; a GPU gives some number
    b = t.new(f"select i1 {zero}, {llvm} 1, {llvm} {b}")
    if kind[0] == "s":
        least = t.new(f"icmp eq {llvm} {a}, {1 << BITS[llvm] - 1}")
        both = t.new(f"and i1 {least}, {t.new(f'icmp eq {llvm} {b}, -1')}")
        b = t.new(f"select i1 {both}, {llvm} 1, {llvm} {b}")
        if name == "rem":
            a = t.new(f"select i1 {both}, {llvm} 0, {llvm} {a}")
    found = t.new(f"{kind[0]}{name} {llvm} {a}, {b}")
    t.write(operands[0], t.new(f"select i1 {zero}, {llvm} -1, {llvm} {found}"), llvm)


def _rem(t: Any, words: list[str], operands: list[str]) -> None:
    if is_float(words[-1]):
        raise t.unknown("remainder")
    _div(t, words, operands, "rem")


def _extreme(name: str) -> Any:
    """The larger or smaller of two numbers; of a number and NaN the number; of two zeros the right one."""
    def made(t: Any, words: list[str], operands: list[str]) -> None:
        kind, llvm, _ = kind_of(t, words)
        a, b = (t.read(one, llvm) for one in operands[1:])
        if not is_float(kind):
            test = t.new(f"icmp {kind[0]}{'gt' if name == 'max' else 'lt'} {llvm} {a}, {b}")
            t.write(operands[0], t.new(f"select i1 {test}, {llvm} {a}, {llvm} {b}"), llvm)
            return
        whole = INTEGER[llvm]
        bits = t.new(f"{'and' if name == 'max' else 'or'} {whole} {t.cast(a, llvm, whole)}, {t.cast(b, llvm, whole)}")
        test = t.new(f"fcmp {'ogt' if name == 'max' else 'olt'} {llvm} {a}, {b}")
        found = t.new(f"select i1 {test}, {llvm} {a}, {llvm} {b}")
        same = t.new(f"fcmp oeq {llvm} {a}, {b}")
        found = t.new(f"select i1 {same}, {llvm} {t.cast(bits, whole, llvm)}, {llvm} {found}")
        no_a, no_b = (t.new(f"fcmp uno {llvm} {one}, {one}") for one in (a, b))
        found = t.new(f"select i1 {no_b}, {llvm} {a}, {llvm} {found}")
        t.write(operands[0], t.new(f"select i1 {no_a}, {llvm} {b}, {llvm} {found}"), llvm)

    return made


def _abs(t: Any, words: list[str], operands: list[str]) -> None:
    kind, llvm, _ = kind_of(t, words)
    a = t.read(operands[1], llvm)
    if is_float(kind):
        t.write(operands[0], t.new(f"call {llvm} @llvm.fabs.{kind}({llvm} {a})"), llvm)
    else:
        t.write(operands[0], t.new(f"call {llvm} @llvm.abs.{llvm}({llvm} {a}, i1 false)"), llvm)


def _neg(t: Any, words: list[str], operands: list[str]) -> None:
    kind, llvm, _ = kind_of(t, words)
    a = t.read(operands[1], llvm)
    t.write(operands[0], t.new(f"fneg {llvm} {a}" if is_float(kind) else f"sub {llvm} 0, {a}"), llvm)


def _copysign(t: Any, words: list[str], operands: list[str]) -> None:
    kind, llvm, _ = kind_of(t, words)
    sign, value = (t.read(one, llvm) for one in operands[1:])
    t.write(operands[0], t.new(f"call {llvm} @llvm.copysign.{kind}({llvm} {value}, {llvm} {sign})"), llvm)


def _sqrt(t: Any, words: list[str], operands: list[str]) -> None:
    kind, llvm, _ = kind_of(t, words, ("rn",))
    t.write(operands[0], t.new(f"call {llvm} @llvm.sqrt.{kind}({llvm} {t.read(operands[1], llvm)})"), llvm)


def _rcp(t: Any, words: list[str], operands: list[str]) -> None:
    kind, llvm, before = kind_of(t, words, ("rn", "approx", "ftz"))
    if before == ["rn"]:
        t.write(operands[0], t.new(f"fdiv {llvm} 1.0, {t.read(operands[1], llvm)}"), llvm)
    else:
        _approximate(t, kind, before, operands, lambda a: t.new(f"fdiv {llvm} 1.0, {a}"))


def _rsqrt(t: Any, words: list[str], operands: list[str]) -> None:
    kind, llvm, before = kind_of(t, words, ("approx", "ftz"))

    def function(a: str) -> str:
        root = t.new(f"call {llvm} @llvm.sqrt.{kind}({llvm} {a})")
        return t.new(f"fdiv {llvm} 1.0, {root}")

    _approximate(t, kind, before, operands, function)


def _approximately(name: str) -> Any:
    """A function of float32, of which a GPU gives all bits but the last ones."""
    def made(t: Any, words: list[str], operands: list[str]) -> None:
        kind, _, before = kind_of(t, words, ("approx", "ftz"))
        if kind != "f32":
            raise t.unknown("approximation")
        _approximate(t, kind, before, operands, lambda a: t.new(f"call float @llvm.{name}.f32(float {a})"))

    return made


def _approximate(t: Any, kind: str, before: list[str], operands: list[str], function: Any) -> None:
    """Write an approximation: all bits of float32, the upper half of float64's; what is subnormal may count as zero."""
    a = t.read(operands[1], LLVM[kind])
    if kind == "f64":
        if before != ["approx", "ftz"]:
            raise t.unknown("approximation")
        high = t.cast(t.new(f"and i64 {t.cast(_flushed(t, a, kind), 'double', 'i64')}, -4294967296"), "i64", "double")
        found = t.cast(_flushed(t, function(high), kind), "double", "i64")
        t.write(operands[0], t.cast(t.new(f"and i64 {found}, -4294967296"), "i64", "double"), "double")
    elif before[:1] == ["approx"]:
        flush = (lambda value: _flushed(t, value, kind)) if "ftz" in before else lambda value: value
        t.write(operands[0], flush(function(flush(a))), "float")
    else:
        raise t.unknown("approximation")


def _flushed(t: Any, value: str, kind: str) -> str:
    """A number, or a zero of its sign where it is subnormal."""
    llvm, whole, mask = (("double", "i64", 0x7FF << 52), ("float", "i32", 0xFF << 23))[kind == "f32"]
    bits = t.cast(value, llvm, whole)
    exponent = t.new(f"and {whole} {bits}, {mask}")
    sign = t.new(f"and {whole} {bits}, {1 << BITS[whole] - 1}")
    none = t.new(f"icmp eq {whole} {exponent}, 0")
    return t.cast(t.new(f"select i1 {none}, {whole} {sign}, {whole} {bits}"), whole, llvm)


KNOWN = {
    "add": _numbers("add", "fadd"), "sub": _numbers("sub", "fsub"), "addc": _carrying("add"), "subc": _carrying("sub"),
    "mul": _mul, "mad": _mad(False), "madc": _mad(True), "fma": _fma, "div": _div, "rem": _rem,
    "max": _extreme("max"), "min": _extreme("min"), "abs": _abs, "neg": _neg, "copysign": _copysign, "sqrt": _sqrt,
    "rcp": _rcp, "rsqrt": _rsqrt, "ex2": _approximately("exp2"), "lg2": _approximately("log2"),
}  # fmt: skip
