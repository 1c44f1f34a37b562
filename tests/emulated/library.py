"""A shared library with the name of NVIDIA's, written byte by byte: each function jumps to where a table says.

So all that asks for ``libcuda.so.1`` (numba-cuda, cuda-bindings' compiled code, ctypes) finds what Python plays.  For
Linux on x86-64.
"""

from __future__ import annotations

import atexit
import ctypes
import platform
import struct
import sys
from pathlib import Path

NAME = "libcuda.so.1"
TABLE = "played_functions"
_PAGE, _STUB = 0x1000, 8
_LOAD, _DYNAMIC, _STACK = 1, 2, 0x6474E551
_EXECUTE, _WRITE, _READ = 1, 2, 4
_HASH, _STRTAB, _SYMTAB, _STRSZ, _SYMENT, _SONAME = 4, 5, 6, 10, 11, 14


def possible() -> bool:
    """Whether such a library can be made here."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


def image(names: list[str]) -> bytes:
    """The file: functions of these names, and the table of where they jump to."""
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in [NAME, TABLE, *names])
    place = {name: strings.index(b"\0" + name.encode() + b"\0") + 1 for name in [NAME, TABLE, *names]}
    count = len(names) + 2  # the first symbol is none
    symbols_at = 64 + 4 * 56
    strings_at = symbols_at + 24 * count
    hash_at = -(-(strings_at + len(strings)) // 8) * 8
    code_at = -(-(hash_at + 4 * (3 + count)) // 16) * 16
    data_at = -(-(code_at + _STUB * (1 + len(names))) // _PAGE) * _PAGE
    entries = [(_HASH, hash_at), (_STRTAB, strings_at), (_SYMTAB, symbols_at), (_STRSZ, len(strings)), (_SYMENT, 24),
               (_SONAME, place[NAME]), (0, 0)]  # fmt: skip
    table_at = data_at + 16 * len(entries)
    end = table_at + 8 * len(names)

    def symbol(name: str, kind: int, value: int, size: int) -> bytes:
        return struct.pack("<IBBHQQ", place[name], 16 | kind, 0, 1, value, size)  # global, in no section that matters

    symbols = bytes(24) + symbol(TABLE, 1, table_at, 8 * len(names)) + b"".join(
        symbol(name, 2, code_at + _STUB * k, _STUB) for k, name in enumerate(names))  # fmt: skip
    chain = struct.pack(f"<{3 + count}I", 1, count, 1, *(k + 1 if 0 < k < count - 1 else 0 for k in range(count)))
    code = b"".join(b"\xff\x25" + struct.pack("<i", table_at + 8 * k - (code_at + _STUB * k + 6)) + b"\x90\x90"
                    for k in range(len(names)))  # jmp [rip + there]  # fmt: skip
    code += b"\x31\xc0\xc3".ljust(_STUB, b"\x90")  # xor eax, eax; ret: what is left when Python has ended
    header = b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 4, 0, 0, 0)

    def segment(kind: int, flags: int, at: int, size: int) -> bytes:
        return struct.pack("<IIQQQQQQ", kind, flags, at, at, at, size, size, _PAGE if kind == _LOAD else 16)

    open_to = _READ | _WRITE
    segments = (segment(_LOAD, _READ | _EXECUTE, 0, code_at + len(code)),
                segment(_LOAD, open_to, data_at, end - data_at),
                segment(_DYNAMIC, open_to, data_at, 16 * len(entries)), segment(_STACK, open_to, 0, 0))  # fmt: skip
    told = b"".join(struct.pack("<QQ", *entry) for entry in entries)
    made = bytearray(end)
    for at, part in ((0, header), (64, b"".join(segments)), (symbols_at, symbols), (strings_at, strings),
                     (hash_at, chain), (code_at, code), (data_at, told)):  # fmt: skip
        made[at : at + len(part)] = part
    return bytes(made)


def load(folder: Path, functions: dict[str, int]) -> tuple[ctypes.CDLL, dict[str, int]]:
    """Load a library of functions at these addresses into this process; their addresses in it.

    When Python ends, they answer 0: others ask them to free things until the very end.
    """
    path = folder / NAME
    path.write_bytes(image(list(functions)))
    made = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    table = (ctypes.c_void_p * len(functions)).in_dll(made, TABLE)
    table[:] = list(functions.values())
    here = {name: ctypes.cast(made[name], ctypes.c_void_p).value or 0 for name in functions}
    nothing = max(here.values()) + _STUB
    atexit.register(lambda: table.__setitem__(slice(None), [nothing] * len(functions)))
    return made, here


__all__ = ["NAME", "load", "possible"]
