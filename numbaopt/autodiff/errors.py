"""Why a function cannot be differentiated, in two lines: what and where, and what to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

IN_PLACE = ("iadd", "isub", "imul", "itruediv", "ipow", "imod")
KNOWN: set[str] = set()  # names of functions that have derivatives for some arguments at least
HERE = Path(__file__).parent
ADVICE = ("Write it with what numbaopt.autodiff lists, give its derivative with derivative_rule, or use differences "
          "(jac='3-point').")  # fmt: skip


COPY = "; begin with a copy of the data (.copy()), which can have derivatives"


class UnsupportedError(TypeError):
    """A function uses something that has no derivative here."""


def misfit(rule: Any, count: int) -> str:
    """What is wrong with a `derivative_rule` that does not return one derivative for each of so many arguments."""
    code = getattr(rule, "py_func", rule).__code__
    return (f"derivatives: the derivative_rule at line {code.co_firstlineno} of {Path(code.co_filename).name} must "
            f"return the value and {count} derivative{'s' * (count != 1)}, numbers or arrays of them")  # fmt: skip


def explain(name: str, error: BaseException) -> UnsupportedError:
    """The two lines, from one of Numba's long messages."""
    if isinstance(error, UnsupportedError) and str(error).endswith(ADVICE):
        return error
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    what = _what(text) or f"{type(error).__name__}: {text.strip().splitlines()[0] if text.strip() else ''}"
    return UnsupportedError(f"{name} cannot be differentiated: {_in_users_words(what)}{_where(text)}\n{ADVICE}")


def _in_users_words(text: str) -> str:
    """Without the names that numbers with derivatives, and modules that make them, have in here."""
    text = re.sub(r"Dual\(\d+\)|Taped", "float64 with derivatives", text)
    text = re.sub(r"<(?:built-in )?(?:function|class|ufunc) '?(?:[\w<>]+\.)*(\w+)'?(?: at 0x\w+)?>", r"\1", text)
    return re.sub(r"(\w+)_with_derivatives\b", r"\1", text).strip(" .")


def _what(text: str) -> str:
    """The cause, by what is the user's own: what we know best, then the outermost call that failed."""
    own = re.findall(r"derivatives?: ([^\n]*)|((?:np|numbers)[^\n]*with derivatives[^\n]*|[cf]array [^\n]*)", text)
    if own:
        return next(filter(None, own[-1]))
    if re.search(r"(?:cast|convert) (?:Dual\(\d+\)|Taped)", text):
        return "a number with derivatives goes where only a float64 can; there are no derivatives of derivatives"
    found = re.findall(r"Cannot modify readonly array[^\n]*", text)
    if found:
        return found[-1]
    called = re.search(r"No implementation of function Function\((.*?)\) found for signature:\s*>>> \w+\((.*)\)", text)
    if called:
        function, arguments = _in_users_words(called[1]), called[2]
        if function in ("setitem", *IN_PLACE):
            return f"{function} of what has derivatives into an array without; make it by np.zeros_like or np.empty"
        return (f"{function} has no derivative here for the arguments ({arguments})" if function in KNOWN
                else f"{function} has no derivative here")  # fmt: skip
    if re.search(r"Invalid use of getiter with parameters \(\w*Tuple\(", text):
        return "a loop over a tuple of which not all items have derivatives; add 0 * x[0] to those without"
    for pattern in (r"Cannot (?:unify|cast)[^\n]*", r"Use of unsupported[^\n]*", r"Unknown attribute '[^\n]*",
                    r"Unsupported[^\n]*"):  # fmt: skip
        found = re.findall(pattern, text)
        if found:
            return found[-1] + (COPY if "unify" in found[-1] and "readonly" in found[-1] else "")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "rror" not in line and not line.startswith(("File", "During"))), "")


def _where(text: str) -> str:
    """The user's file and line."""
    for file, line in re.findall(r'File "([^"]+)", line (\d+)', text):
        path = Path(file).resolve()
        if HERE not in path.parents and "numba" not in path.parts and not file.startswith("<"):
            return f" (File \"{file}\", line {line})"
    return ""

