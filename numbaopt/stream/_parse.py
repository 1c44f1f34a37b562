"""LIBSVM text to compressed sparse rows, by compiled code over the bytes; every number rounded as Python's ``float``.

A decimal number is an integer m times a power of ten.  Where both fit a float64 exactly, one operation gives the
rounded result (Clinger 1990, doi:10.1145/93542.93557).  Else m times the power is formed as a sum of two float64, known
to some 100 bits; unless the exact result lies that close to the middle between two floats, rounding the sum is right.
What is left over, and NaN or infinity in words, goes to Python.
"""

from __future__ import annotations

import functools
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from .._jit import EXACT, jit, jit_inside
from ..problems.rows import unlocked

LARGEST = 250  # powers of ten beyond are left to Python
DIGITS = 18  # and mantissas of more digits, which might not fit an int64
HARD = 1024  # numbers that Python converts at a time


def _powers() -> tuple[np.ndarray, np.ndarray]:
    exact = [Fraction(10) ** e for e in range(-LARGEST, LARGEST + 1)]
    return np.array([float(p) for p in exact]), np.array([float(p - Fraction(float(p))) for p in exact])


HIGH, LOW = _powers()
SPACE, TAB, RETURN, NEWLINE, COMMENT, COLON, DOT, PLUS, MINUS = (ord(c) for c in " \t\r\n#:.+-")
READ, BAD, LEFT = 0, 1, 2  # what came of a number

exact = functools.partial(jit_inside, fastmath=EXACT)


class Table(NamedTuple):
    """Rows as LIBSVM text tells of them; the columns are as written there."""

    y: np.ndarray
    values: np.ndarray
    columns: np.ndarray
    starts: np.ndarray


@exact
def _scaled(m, e):
    """m 10^e rounded, and whether the rounding is certain."""
    if m < 1 << 53 and -22 <= e <= 22:
        return (m * HIGH[LARGEST + e] if e >= 0 else m / HIGH[LARGEST - e]), True
    a = np.float64(m)
    rest = np.float64(m - np.int64(a))
    b, low = HIGH[LARGEST + e], LOW[LARGEST + e]
    product = a * b
    c, d = 134217729.0 * a, 134217729.0 * b  # Dekker's exact product: 2^27 + 1 halves a float64
    a1, b1 = c - (c - a), d - (d - b)
    a2, b2 = a - a1, b - b1
    error = ((a1 * b1 - product) + a1 * b2 + a2 * b1) + a2 * b2
    error += a * low + rest * b
    doubt = product * 2.0**-98
    return product + error, product + (error - doubt) == product + (error + doubt)


@exact
def _number(text, at):
    """The number that begins at ``at``: its value, where it ends, and what came of it."""
    begin, size = at, text.size
    negative = text[at] == MINUS
    if negative or text[at] == PLUS:
        at += 1
    m, digits, e, any_digit = 0, 0, 0, False
    point = False
    while at < size:
        c = np.int64(text[at])
        if 48 <= c <= 57:
            any_digit = True
            if digits > 0 or c > 48:
                digits += 1
            if digits <= DIGITS:
                m = 10 * m + (c - 48)
            if point:
                e -= 1
        elif c == DOT and not point:
            point = True
        else:
            break
        at += 1
    if any_digit and at < size and (text[at] == 101 or text[at] == 69):
        at += 1
        down = at < size and text[at] == MINUS
        if at < size and (down or text[at] == PLUS):
            at += 1
        power, any_digit = 0, False
        while at < size and 48 <= text[at] <= 57 and power < 100000:
            power, any_digit = 10 * power + (np.int64(text[at]) - 48), True
            at += 1
        e += -power if down else power
    whole = at == size or _ends(text[at])
    if not (whole and any_digit and digits <= DIGITS and (m == 0 or abs(e) <= LARGEST)):
        while at < size and not _ends(text[at]):
            at += 1
        return 0.0, at, LEFT if at > begin else BAD
    value, certain = _scaled(m, e if m > 0 else 0)
    return (-value if negative else value), at, READ if certain else LEFT


@exact
def _ends(c):
    return c in (SPACE, NEWLINE, TAB, RETURN, COMMENT)


@jit
def _sizes(text):
    """Most rows and stored values that the text can have."""
    lines, colons = 1, 0
    for c in text:
        lines += c == NEWLINE
        colons += c == COLON
    return lines, colons


def _parse(text, table, stand, hard):
    """Go on where ``stand`` says: position, rows, values, numbers left to Python, what is wrong, is a label next?"""
    y, values, columns, starts = table
    at, row, item, left, size = stand[0], stand[1], stand[2], 0, text.size
    fresh = stand[5] != 0  # is a label next?
    while at < size and left < hard.shape[0]:
        c = text[at]
        if c in (NEWLINE, COMMENT):
            while at < size and text[at] != NEWLINE:
                at += 1
            at += 1
            fresh = True
            continue
        if c in (SPACE, TAB, RETURN):
            at += 1
            continue
        if fresh:
            begin = at
            value, at, came = _number(text, at)
            y[row], starts[row] = value, item
            row += 1
            starts[row] = item
            fresh = False
            if came != READ:
                hard[left, 0], hard[left, 1], hard[left, 2] = -row, begin, at
                left += 1
            continue
        begin, column = at, 0
        while at < size and 48 <= text[at] <= 57 and column < 1 << 40:
            column = 10 * column + (np.int64(text[at]) - 48)
            at += 1
        if at == begin or at + 1 >= size or text[at] != COLON or column >= (1 << 31) - 1:
            stand[4] = begin
            break
        at += 1
        entry, begin = begin, at
        value, at, came = _number(text, at)
        if came == BAD:
            stand[4] = entry
            break
        values[item], columns[item] = value, column
        if came == LEFT:
            hard[left, 0], hard[left, 1], hard[left, 2] = item, begin, at
            left += 1
        item += 1
        starts[row] = item
    stand[0], stand[1], stand[2], stand[3], stand[5] = at, row, item, left, fresh


_parse_compiled: Any = jit(_parse, fastmath=EXACT)


def parse(text: np.ndarray) -> Table:
    """The rows in ``text``, the bytes of whole lines.

    Raises
    ------
    ValueError
        That quotes the first thing which is not ``index:value``, and says in which row of the text it is.
    """
    text = unlocked(text)
    lines, items = _sizes(text)
    table = Table(np.empty(lines), np.empty(items), np.empty(items, np.int32), np.zeros(lines + 1, np.int64))
    stand, hard = np.array([0, 0, 0, 0, -1, 1]), np.empty((HARD, 3), np.int64)
    while stand[0] < text.size:
        _parse_compiled(text, table, stand, hard)
        for which, begin, end in hard[: stand[3]].tolist():
            word = text[begin:end].tobytes()
            try:
                number = float(word if b"_" not in word else b"")
            except ValueError:
                row = -which if which < 0 else int(np.searchsorted(table.starts[: stand[1] + 1], which, "right"))
                raise ValueError(f"{_shown(word)} in row {row - 1} is no number") from None
            (table.y if which < 0 else table.values)[-which - 1 if which < 0 else which] = number
        if stand[4] >= 0:
            word = text[stand[4] : stand[4] + 80].tobytes().split()[0]
            raise ValueError(f"{_shown(word)} in row {stand[1] - 1} is not index:value")
    rows, items = int(stand[1]), int(stand[2])
    return Table(table.y[:rows], table.values[:items], table.columns[:items], table.starts[: rows + 1])


def _shown(word: bytes) -> str:
    return repr(word.decode("utf-8", "replace"))
