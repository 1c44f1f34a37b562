"""What the compiler says of a user's functions, in one sentence."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from ..._jit import short_reason
from .._backend import SIMULATED

if SIMULATED:
    allowed = contextlib.nullcontext
else:
    from .lowering import allowed  # type: ignore[assignment]


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """Around a launch: what the package allows; errors of the compiler in one sentence."""
    try:
        with allowed():
            yield
    except Exception as error:
        if told := reason(error):
            raise TypeError(f"device='cuda': fun cannot be compiled for a GPU: {told}") from error
        raise


def reason(error: BaseException) -> str | None:
    """Why a user's functions cannot be compiled for a GPU, where that is what an error says."""
    from numba.core.errors import NumbaError

    if "Undefined reference" in str(error):
        return str(error).strip().splitlines()[0]
    if "insert_unresolved_ref" in str(error):  # which numba-cuda has not
        return "a function calls itself"
    if not isinstance(error, (NumbaError, KeyError, NotImplementedError)):
        return None
    text = str(error)
    if "_quietly" in text:  # where the loop is called
        text = text.partition("raised a specific error:")[2]
    text = re.sub(r"\b[A-Z]\w*Error: ", "", re.sub(r"\x1b\[[0-9;]*m", "", text))
    told = short_reason(NumbaError(text))
    return re.sub(r"No implementation of function Function\(<.*?(\w+)( at \w+)?>\) found for signature",
                  r"there is no \1 for these arguments", told)  # fmt: skip


__all__ = ["compiling", "reason"]
