"""Mean ranks of methods over problems, and which of them do not differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..._look import FAINT, INK, axes, ink
from .figures import Looks, figure, short
from .statistics import Comparison, cliques

MOST_ON_A_LINE, LONGEST_BESIDE_IT = 12, 13  # methods, and letters of a name; otherwise each has a row


def on_a_line(methods: Sequence[str]) -> bool:
    """Whether there is room for their names around one line."""
    return len(methods) <= MOST_ON_A_LINE and max(map(len, methods)) <= LONGEST_BESIDE_IT


def ranks(comparison: Comparison, methods: Sequence[str], looks: Looks) -> Any:
    """Mean ranks, and which of them do not differ by Nemenyi's test."""
    draw = _line if on_a_line(methods) else _rows
    return draw(comparison, methods, looks)


def _rows(comparison: Comparison, methods: Sequence[str], looks: Looks) -> Any:
    """A row a method, the best above; what lies in the shade does not differ from the best."""
    order = np.argsort(comparison.mean_ranks, kind="stable")
    places, best = comparison.mean_ranks[order], float(comparison.mean_ranks.min())
    made = figure(0.5 + 0.135 * len(methods))
    ax = axes(made.add_subplot())
    ax.grid(visible=False, axis="y")
    if math.isfinite(comparison.critical_difference):
        ax.axvspan(best, best + comparison.critical_difference, color=FAINT, linewidth=0, zorder=0)
    for row, (index, rank) in enumerate(zip(order, places, strict=True)):
        colour, dashes = looks[methods[index]]
        ax.plot([1, rank], [row, row], color=colour, linestyle=dashes, linewidth=1.0)
        ax.plot(rank, row, "o", color=colour, markersize=3.5, zorder=3)
        ax.annotate(f"{rank:.2f}", (rank, row), (4, 0), textcoords="offset points", va="center_baseline",
                    color=ink(colour), fontsize=6.5)  # fmt: skip
    ax.set_yticks(range(len(order)), [short(methods[index]) for index in order])
    for text, index in zip(ax.get_yticklabels(), order, strict=True):
        text.set_color(ink(looks[methods[index]][0]))  # type: ignore[arg-type]
    ax.tick_params(axis="y", length=0)
    ax.set(xlim=(1, max(float(places[-1]) + 2.5, best + (np.nan_to_num(comparison.critical_difference)))),
           ylim=(len(order) - 0.4, -0.6), xlabel="mean rank")  # fmt: skip
    return made


def _line(comparison: Comparison, methods: Sequence[str], looks: Looks) -> Any:
    """Mean ranks on a line; bars join methods that do not differ by Nemenyi's test."""
    k = len(methods)
    order = np.argsort(comparison.mean_ranks, kind="stable")
    half = -(-k // 2)
    distance = comparison.critical_difference
    bars = cliques(comparison.mean_ranks, distance) if math.isfinite(distance) else []
    rows = _stacked(bars)
    above = 0.8 if bars else 0.5
    below = 0.2 + 0.16 * (max(rows, default=-1) + 1)
    depth = below + 0.16 * half
    made = figure(0.9 * (above + depth))
    ax = made.add_subplot()
    ax.set_axis_off()
    ax.set(xlim=(1 - 0.52 * (k - 1), k + 0.52 * (k - 1)), ylim=(-depth, above))
    ax.plot([1, k], [0, 0], color=INK, linewidth=0.8)
    for rank in range(1, k + 1):
        ax.plot([rank, rank], [0, 0.05], color=INK, linewidth=0.8)
        if k < 9 or rank % 2:
            ax.text(rank, 0.07, str(rank), ha="center", va="bottom", color=INK)
    ax.text((1 + k) / 2, 0.3, "mean rank", ha="center", va="bottom", color=INK)
    if bars:
        ax.plot([1, 1 + distance], [0.55, 0.55], color=INK, linewidth=0.8, marker="|", markersize=4)
        ax.text(1 + distance / 2, 0.59, f"critical difference {distance:.2f}", ha="center", va="bottom", color=INK)
    for place, index in enumerate(order):
        left = place < half
        level = -below - 0.16 * (place if left else k - 1 - place)
        end = 1 - 0.04 * (k - 1) if left else k + 0.04 * (k - 1)
        rank, (colour, dashes) = comparison.mean_ranks[index], looks[methods[index]]
        ax.plot([rank, rank, end], [0, level, level], color=colour, linestyle=dashes, linewidth=1.0)
        ax.plot(rank, 0, "o", color=colour, markersize=3.5, zorder=3)
        told = f"{short(methods[index])}  {rank:.2f}" if left else f"{rank:.2f}  {short(methods[index])}"
        ax.text(end + (-0.02 if left else 0.02) * (k - 1), level, told, ha="right" if left else "left",
                va="center_baseline", color=ink(colour))  # fmt: skip
    for (first, last), row in zip(bars, rows, strict=True):
        ends = np.sort(comparison.mean_ranks)[[first, last]] + np.array([-0.06, 0.06])
        ax.plot(ends, [-0.12 - 0.16 * row] * 2, color=INK, linewidth=2.2, solid_capstyle="round")
    return made


def _stacked(bars: Sequence[tuple[int, int]]) -> list[int]:
    """A row for each bar, such that none overlap."""
    ends: list[int] = []
    rows = []
    for first, last in bars:
        row = next((row for row, end in enumerate(ends) if end < first), len(ends))
        ends[row:] = [last, *ends[row + 1 :]]
        rows.append(row)
    return rows
