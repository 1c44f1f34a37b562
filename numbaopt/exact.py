"""Exact gradients for the rest of the package: `autodiff` is imported when first needed, its code kept on disk."""

from __future__ import annotations

from typing import Any

import numbaopt.autodiff as autodiff

from ._cache import DiskCache
from .autodiff import _jit
from .autodiff.custom import stamp
from .autodiff.errors import UnsupportedError
from .autodiff.gradients import FORWARD_UP_TO, evaluation
from .autodiff.linking import link_late

__all__ = ["FORWARD_UP_TO", "UnsupportedError", "autodiff", "evaluation", "link_late", "stamp"]


def _keep(dispatcher: Any, function: Any) -> None:
    dispatcher._cache = DiskCache(function, "derivative")


_jit.keep = _keep
