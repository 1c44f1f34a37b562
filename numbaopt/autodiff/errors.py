"""Why a function cannot be differentiated, in two lines: what and where, and what to do."""

from __future__ import annotations

import re
from pathlib import Path

IN_PLACE = ("iadd", "isub", "imul", "itruediv", "ipow", "imod")
HERE = Path(__file__).parent
ADVICE = ("Write it with what numbaopt.autodiff lists, give its derivative with derivative_rule, or use differences "
          "(jac='3-point').")  # fmt: skip


class UnsupportedError(TypeError):
    """A function uses something that has no derivative here."""


def explain(name: str, error: BaseException) -> UnsupportedError:
    """The two lines, from one of Numba's long messages."""
    if isinstance(error, UnsupportedError) and str(error).endswith(ADVICE):
        return error
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    what = _what(text) or f"{type(error).__name__}: {text.strip().splitlines()[0] if text.strip() else ''}"
    return UnsupportedError(f"{name} cannot be differentiated: {what}{_where(text)}\n{ADVICE}")


def _what(text: str) -> str:
    """The deepest cause that names something of the user's."""
    own = re.findall(r"derivatives?: ([^\n]*)|((?:np|numbers)[^\n]*with derivatives[^\n]*|[cf]array [^\n]*)", text)
    if own:
        return next(filter(None, own[-1])).strip(" .")
    if re.search(r"(?:cast|convert) (?:Dual\(\d+\)|Taped)", text):
        return "a number with derivatives goes where only a float64 can; there are no derivatives of derivatives"
    for pattern in (r"Cannot modify readonly array[^\n]*", r"Cannot (?:unify|cast)[^\n]*",
                    r"No implementation of function Function\((.*?)\) found for signature", r"Use of unsupported[^\n]*",
                    r"Unknown attribute '[^\n]*", r"Unsupported[^\n]*"):  # fmt: skip
        found = re.findall(pattern, text)
        if found:
            called = re.sub(r"<(?:built-in )?function (\S+?)(?: at 0x\w+)?>", r"\1", found[-1])
            called = re.sub(r"<(?:built-in function|class) '?(\S+?)'?>", r"\1", called)
            if not pattern.startswith("No implementation"):
                return called.strip(" .")
            if called in ("setitem", *IN_PLACE):
                return f"{called} of what has derivatives into an array without; make it by np.zeros_like or np.empty"
            return f"{called} has no rule for these arguments"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "rror" not in line and not line.startswith(("File", "During"))), "")


def _where(text: str) -> str:
    """The user's file and line."""
    for file, line in re.findall(r'File "([^"]+)", line (\d+)', text):
        path = Path(file).resolve()
        if HERE not in path.parents and "numba" not in path.parts and not file.startswith("<"):
            return f" (File \"{file}\", line {line})"
    return ""

