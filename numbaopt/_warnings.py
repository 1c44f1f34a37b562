"""Warnings that point at the user's line, through all frames of ours and of those who call us for the user."""

from __future__ import annotations

import sys
import warnings

PACKAGES = {__name__.partition(".")[0], "numba", "scipy", "sklearn"}


def warn_user(text: str, category: type[Warning] = RuntimeWarning) -> None:
    """Warn of what the code outside these packages has done."""
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in PACKAGES:
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)
