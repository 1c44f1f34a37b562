"""What all pictures share: the look of every method, quiet axes, the names of lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which colour-blind readers can tell apart, without the yellow that white paper swallows.
BLACK, BLUE, SKY, GREEN = "#000000", "#0072B2", "#56B4E9", "#009E73"
ORANGE, VERMILLION, PURPLE = "#E69F00", "#D55E00", "#CC79A7"
SOLID, DASH, DOT = "-", (0, (5, 1.6)), (0, (1.2, 1.3))
DASH_DOT, DASH_DOT_DOT, LONG = (0, (7, 1.5, 1.2, 1.5)), (0, (4, 1.3, 1.2, 1.3, 1.2, 1.3)), (0, (11, 2.5))

# The look of every method, wherever it is drawn.  Pairs are unique, so that greyscale prints can be read by the dashes.
STYLES: dict[str, tuple[str, Any]] = {
    "gd": (BLACK, SOLID), "sgd": (SKY, DASH), "momentum": (GREEN, DASH_DOT), "nesterov": (BLUE, DASH),
    "adagrad": (ORANGE, DOT), "rmsprop": (PURPLE, DASH_DOT_DOT), "adam": (VERMILLION, SOLID),
    "adamw": (BLUE, SOLID), "amsgrad": (GREEN, DOT), "adamax": (PURPLE, SOLID), "nadam": (SKY, SOLID),
    "radam": (BLACK, DASH), "adabelief": (PURPLE, DASH), "adadelta": (ORANGE, DASH), "yogi": (ORANGE, SOLID),
    "lion": (BLACK, DOT), "adan": (GREEN, SOLID), "rprop": (SKY, DOT), "l-bfgs-b": (BLACK, DASH_DOT),
    "lbfgs": (BLUE, DASH_DOT), "l-bfgs": (BLUE, DASH_DOT_DOT), "newton": (VERMILLION, DASH_DOT),
    "saga": (VERMILLION, DASH), "sag": (VERMILLION, DOT), "svrg": (GREEN, DASH),
    "bfgs": (BLUE, DOT), "lbfgsb": (BLACK, DASH_DOT_DOT), "cg": (GREEN, DASH_DOT_DOT),
    "trust-ncg": (VERMILLION, LONG), "trustncg": (ORANGE, LONG), "nelder-mead": (BLACK, LONG),
    "neldermead": (SKY, LONG), "lm": (BLUE, LONG), "levenberg-marquardt": (GREEN, LONG),
    "swats": (PURPLE, LONG), "sdca": (PURPLE, DOT), "dual": (PURPLE, DASH_DOT), "ssnal": (ORANGE, DASH_DOT),
}  # fmt: skip
ALIASES = {"gradient descent": "gd", "heavy ball": "momentum", "stochastic gradient descent": "sgd"}
DASHES = (SOLID, DASH, DOT, DASH_DOT, DASH_DOT_DOT, LONG)
COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)

INK, FAINT = "0.15", "0.88"
WIDTH, HEIGHT = 5.4, 3.4  # inches; everything stays legible at 3.3 inches, one column of a journal


def styles(names: Iterable[str]) -> dict[str, tuple[str, Any]]:
    """Colour and dashes for each name: a method's own, else the next that is free.

    Where a method occurs twice (``"Adam, lr=0.1"``, ``"Adam, lr=0.01"``), it keeps its colour and changes its dashes.

    Parameters
    ----------
    names : iterable of str
        The methods of one picture, in the order of its legend.

    Returns
    -------
    dict
        ``{name: (colour, dashes)}``, dashes as matplotlib's ``linestyle`` takes them.

    Examples
    --------
    >>> from numbaopt.plotting import styles
    >>> styles(["Adam (lr=0.1)"]) == {"Adam (lr=0.1)": styles(["adam"])["adam"]}
    True
    """
    chosen: dict[str, tuple[str, Any]] = {}
    keys = {name: _method(name) for name in names}
    spare = [(COLOURS[k % len(COLOURS)], DASHES[k % len(DASHES)]) for k in range(len(COLOURS) * len(DASHES))]
    own = {STYLES[key] for key in keys.values() if key in STYLES}
    for name, key in keys.items():
        wanted = [STYLES[key], *((STYLES[key][0], dashes) for dashes in DASHES)] if key in STYLES else []
        others = [style for style in spare if style not in own]
        free = [style for style in (*wanted, *others, *spare) if style not in chosen.values()]
        chosen[name] = (free or spare)[0]
    return chosen


def _method(name: str) -> str:
    """The key in `STYLES` that a label begins with, or the label itself."""
    word = name.lower().split("(")[0].split(",")[0].strip()
    return ALIASES.get(word, word)


def not_empty(argument: str, value: Mapping[str, Any]) -> None:
    """Raise where there is nothing to draw."""
    if not value:
        raise ValueError(f"{argument} is empty: there is nothing to draw")


def axes(ax: Axes | None, height: float = HEIGHT, grid: bool = True) -> Axes:
    """``ax`` or the Axes of a new figure, with a quiet look."""
    if ax is None:
        import matplotlib.pyplot as plt

        ax = plt.subplots(figsize=(WIDTH, height), layout="constrained")[1]
    if grid:
        ax.grid(color=FAINT, linewidth=0.6)
        ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def legend_above(ax: Axes) -> None:
    """A legend over the axes, in as many columns as there is room for."""
    from matplotlib.font_manager import FontProperties

    em = FontProperties(size="small").get_size_in_points() * ax.figure.dpi / 72
    column = em * (3.4 + 0.55 * max(map(len, ax.get_legend_handles_labels()[1])))
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=int(np.clip(1.2 * ax.bbox.width / column, 1, 3)),
              frameon=False, fontsize="small", handlelength=2.4, handletextpad=0.6, columnspacing=1.0, borderpad=0.2,
              borderaxespad=0.2, markerscale=0.75)  # fmt: skip


def label_ends(ax: Axes, lines: list[Any]) -> None:
    """Name each line to the right of the axes, at the height of its last point that they show; names that would overlap
    are pushed apart.

    The heights are found whenever the figure is drawn, so that zooming, resizing and new limits keep them right.
    """
    from matplotlib.transforms import Affine2D
    from scipy.optimize import isotonic_regression

    ends: list[tuple[Any, np.ndarray]] = []
    labels: list[Any] = []
    for line in lines:
        points = line.get_xydata()
        low, high = ax.get_ylim()
        points = points[np.isfinite(points).all(axis=1) & (points[:, 1] >= low) & (points[:, 1] <= high)]
        if len(points):
            ends.append((line, points[-1]))

    def place(rank: int) -> Callable[[Any], Affine2D]:
        def spread(renderer: Any) -> Affine2D:
            box = ax.get_window_extent()
            pixel = ax.figure.dpi / 72
            gap = 1.2 * pixel * labels[0].get_size()
            heights = np.clip(ax.transData.transform([end for _, end in ends])[:, 1], box.y0, box.y1)
            order = np.argsort(heights, kind="stable")
            steps = gap * np.arange(len(ends))
            apart = isotonic_regression(heights[order] - steps).x
            apart = np.clip(apart, box.y0, max(box.y0, box.y1 - steps[-1])) + steps
            return Affine2D().translate(box.x1 + 10 * pixel, float(apart[list(order).index(rank)]))

        return spread

    for rank, (line, end) in enumerate(ends):
        colour = line.get_color()
        ax.plot(*end, "o", color=colour, markersize=4, clip_on=False, zorder=3, label="_end")
        labels.append(ax.annotate(
            str(line.get_label()), xy=(end[0], end[1]), xytext=(0, 0), textcoords=place(rank), color=ink(colour),
            fontsize="small", va="center_baseline", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": "0.7", "linewidth": 0.6, "shrinkA": 1, "shrinkB": 2,
                        "relpos": (0.0, 0.5)},
        ))  # fmt: skip


def ink(colour: str) -> tuple[float, ...]:
    """A colour dark enough for letters."""
    from matplotlib.colors import to_rgb

    return tuple(0.72 * part for part in to_rgb(colour))
