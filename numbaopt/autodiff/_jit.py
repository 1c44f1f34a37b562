"""The one way in which this package compiles: without the GIL, with NumPy's division, kept on disk where it can be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

from .linking import link_late

#: What keeps compiled functions on disk, if anything does: ``keep(dispatcher, python function)``.
keep: Callable[[Any, Any], None] | None = None


def jit(function: Any, kept: bool = False, **options: Any) -> Any:
    """Compile a function; ``kept`` on disk if there is a way."""
    wanted: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True, **options}
    made = numba.njit(**wanted)(function)
    link_late(made)
    if kept and keep is not None:
        keep(made, function)
    return made


def jit_inside(function: Any, **options: Any) -> Any:
    """`jit` for what only compiled code calls: without a wrapper for Python."""
    return jit(function, no_cpython_wrapper=True, **options)
