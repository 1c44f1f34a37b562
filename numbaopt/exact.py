"""Exact gradients for the rest of the package: `autodiff` is imported when first needed, its code kept on disk."""

from __future__ import annotations

from typing import Any

import numbaopt.autodiff as autodiff

from ._cache import DiskCache
from .autodiff import _jit
from .autodiff.custom import stamp
from .autodiff.errors import UnsupportedError
from .autodiff.gradients import FORWARD_UP_TO, TAPE_BYTES, evaluation
from .autodiff.linking import Library, link_late
from .autodiff.programs import program

__all__ = ["FORWARD_UP_TO", "Library", "UnsupportedError", "autodiff", "evaluation", "link_late", "stamp",
           "values_and_jacobian"]  # fmt: skip


def values_and_jacobian(function: Any, mode: str) -> Any:
    """``run(x, args) -> (values, jacobian)`` for compiled code, of a function that returns a vector."""
    return program(function, mode, TAPE_BYTES, vector=True)


def _keep(dispatcher: Any, function: Any) -> None:
    dispatcher._cache = DiskCache(function, "derivative")


_jit.keep = _keep
