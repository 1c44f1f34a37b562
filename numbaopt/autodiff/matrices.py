"""Matrices of numbers with derivatives as the rules for ``np.linalg`` know them: by addresses.

A number takes 1 word where it is a float, 3 of a `Taped` (value, node, tape), 1 + width of a `Dual`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types
from numba.extending import register_jitable

from .blocks import chosen_by_type
from .numbers import Number, Taped, number_in
from .tape import allocate, load_float, load_word, store_float, store_word


@register_jitable
def copy_values(target, source, words, count):
    for k in range(count):
        store_float(target + 8 * k, load_float(source + 8 * words * k))


@register_jitable
def copy_nodes(target, source, count):
    for k in range(count):
        store_word(target + 8 * k, load_word(source + 24 * k + 8))


@register_jitable
def tape_at(source, words, count):
    """The tape that any of so many numbers is on, or 0."""
    for k in range(count if words == 3 else 0):
        where = load_word(source + 24 * k + 16)
        if where != 0:
            return where
    return 0


@register_jitable
def store_taped(made, values, count, first, where):
    """Write results whose nodes are those from ``first`` on; 0: constants."""
    for k in range(count):
        store_float(made + 24 * k, load_float(values + 8 * k))
        store_word(made + 24 * k + 8, first + k if first != 0 else 0)
        store_word(made + 24 * k + 16, where if first != 0 else 0)


@register_jitable
def memory(words):
    where = allocate(8 * max(words, 1))
    if where == 0:
        raise MemoryError("no memory for derivatives of np.linalg")
    return where


def words_of(kind: Any) -> int:
    """How many words an item of an array takes."""
    number = number_in(kind)
    if number is None:
        return 1
    return 3 if isinstance(number, Taped) else 1 + number.width


@chosen_by_type("a")
def by_rows(a):
    """The array with its numbers, or float64, row by row."""
    if isinstance(a.dtype, Number) or a.dtype == types.float64:
        return (lambda a: a) if a.layout == "C" else (lambda a: a.copy())
    return lambda a: a.copy().astype(np.float64)


@register_jitable
def square_size(a):
    if a.shape[0] != a.shape[1]:
        raise np.linalg.LinAlgError("Last 2 dimensions of the array must be square.")
    return a.shape[0]
