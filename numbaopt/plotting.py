"""Pictures of runs, paths and schedules: functions that take and return matplotlib Axes.

Nothing here shows a window or changes matplotlib's settings, and matplotlib is imported only when a picture is drawn.
Labels stand to the right of the lines; figures of your own make room for them with ``layout="constrained"``.
"""

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
DASH_DOT, DASH_DOT_DOT = (0, (7, 1.5, 1.2, 1.5)), (0, (4, 1.3, 1.2, 1.3, 1.2, 1.3))

# The look of every method, wherever it is drawn.  Pairs are unique, so that greyscale prints can be read by the dashes.
STYLES: dict[str, tuple[str, Any]] = {
    "gd": (BLACK, SOLID), "sgd": (SKY, DASH), "momentum": (GREEN, DASH_DOT), "nesterov": (BLUE, DASH),
    "adagrad": (ORANGE, DOT), "rmsprop": (PURPLE, DASH_DOT_DOT), "adam": (VERMILLION, SOLID),
    "adamw": (BLUE, SOLID), "amsgrad": (GREEN, DOT), "adamax": (PURPLE, SOLID), "nadam": (SKY, SOLID),
    "radam": (BLACK, DASH), "adabelief": (PURPLE, DASH), "adadelta": (ORANGE, DASH), "yogi": (ORANGE, SOLID),
    "lion": (BLACK, DOT), "adan": (GREEN, SOLID), "rprop": (SKY, DOT), "l-bfgs-b": (BLACK, DASH_DOT),
}  # fmt: skip
ALIASES = {"gradient descent": "gd", "heavy ball": "momentum", "stochastic gradient descent": "sgd"}
DASHES = (SOLID, DASH, DOT, DASH_DOT, DASH_DOT_DOT)
COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)

INK, FAINT = "0.15", "0.88"
X_LABELS = {"step": "step", "epoch": "epoch", "seconds": "time [s]"}
Y_LABELS = {"fun": "objective", "grad_norm": "largest component of the gradient"}
WIDTH, HEIGHT = 5.4, 3.4  # inches; everything stays legible at 3.3 inches, one column of a journal


def convergence(
    results: Mapping[str, Any],
    x: str = "step",
    y: str = "fun",
    optimum: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """How fast methods descend: one line for each result's history.

    Parameters
    ----------
    results : dict of str to OptimizeResult
        What `numbaopt.minimize` returned, by the name to show.  Names of methods always get the same look.
    x : {"step", "epoch", "seconds"}
        The horizontal axis.  Where every step uses all data, a step is an epoch.
    y : {"fun", "grad_norm"}
        The vertical axis; logarithmic where values span more than two orders of magnitude.
    optimum : float, optional
        The least possible objective: the distance to it is drawn, on a logarithmic axis.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import numpy as np, numbaopt as no
    >>> from numbaopt.plotting import convergence
    >>> model = no.LinearModel(np.linspace(-1, 1, 20)[:, None], np.linspace(-2, 4, 20))
    >>> results = {name: no.minimize(model, method=name, options=dict(lr=0.1, maxiter=100)) for name in ("gd", "adam")}
    >>> ax = convergence(results, optimum=0.0)
    >>> ax.get_yscale(), ax.get_legend_handles_labels()[1]
    ('log', ['gd', 'adam'])
    >>> matplotlib.pyplot.close(ax.figure)
    """
    _choice("x", x, X_LABELS)
    _choice("y", y, Y_LABELS)
    curves = {name: _curve(name, result.history, x, y, optimum) for name, result in results.items()}
    _not_empty("results", curves)
    ax, scale = _axes(ax), 1.0
    longest = max(float(across[-1]) for across, _ in curves.values())
    if x == "seconds" and longest < 1.0:
        scale = 1e3
    lines = [
        ax.plot(scale * across, up, color=colour, linestyle=dashes, linewidth=1.6, label=name)[0]
        for (name, (across, up)), (colour, dashes) in zip(curves.items(), styles(curves).values(), strict=True)
    ]
    values = np.concatenate([up[np.isfinite(up)] for _, up in curves.values()])
    wide = values.size > 0 and values.min() > 0 and values.max() > 100 * values.min()
    if optimum is not None or wide:
        ax.set_yscale("log")
    ax.margins(x=0)
    ax.set_xlabel("time [ms]" if scale > 1 else X_LABELS[x])
    ax.set_ylabel("objective − optimum" if y == "fun" and optimum is not None else Y_LABELS[y])
    _label_ends(ax, lines)
    return ax


def trajectories(
    fun: Callable[[np.ndarray], float],
    paths: Mapping[str, Any],
    ax: Axes | None = None,
    minimum: Any = None,
    domain: tuple[float, float, float, float] | None = None,
    levels: int = 18,
    names: tuple[str, str] = ("$x_1$", "$x_2$"),
) -> Axes:
    """The ways methods take over the contours of a function of two variables.

    A ring marks where the paths start, dots twenty equal numbers of steps, a larger dot where each ends.

    Parameters
    ----------
    fun : callable
        ``fun(x) -> float`` for ``x`` of two components.
    paths : dict of str to array of shape (k, 2)
        The points that each method visited, by the name to show.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure.
    minimum : array of shape (2,) or (m, 2), optional
        The minimum or minima, drawn as stars.
    domain : (left, right, bottom, top), optional
        What to show; by default all of the paths and minima.
    levels : int
        Number of contours.  They are denser where the function is flat: half of them lie below its median.
    names : (str, str)
        What the two axes are called.

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import numpy as np, numba, numbaopt as no
    >>> from numbaopt.plotting import trajectories
    >>> bowl = numba.njit(lambda x: x[0] ** 2 + 5 * x[1] ** 2)
    >>> path = [np.array([2.0, 1.0])]
    >>> res = no.minimize(bowl, path[0], method="adam", callback=path.append, options=dict(lr=0.1, maxiter=99))
    >>> ax = trajectories(bowl, {"Adam": path}, minimum=(0, 0))
    >>> ax.get_legend_handles_labels()[1]
    ['Adam', 'start', 'minimum']
    >>> matplotlib.pyplot.close(ax.figure)
    """
    tracks = {name: _path(name, path) for name, path in paths.items()}
    _not_empty("paths", tracks)
    stars = np.empty((0, 2)) if minimum is None else np.asarray(minimum, float).reshape(-1, 2)
    left, right, bottom, top = domain or _surrounding(np.concatenate([stars, *tracks.values()]))
    ax = _axes(ax, height=1.2 * HEIGHT, grid=False)
    _contours(ax, fun, np.linspace(left, right, 301), np.linspace(bottom, top, 301), levels)
    for k, (name, (colour, dashes)) in enumerate(styles(tracks).items()):  # the lower, the wider
        _draw_path(ax, name, tracks[name], colour, dashes, 1.5 + 0.3 * (len(tracks) - 1 - k), 3 + k / len(tracks))
    starts = np.unique([track[0] for track in tracks.values()], axis=0)
    ax.plot(*starts.T, "o", markersize=8, markerfacecolor="white", markeredgecolor=INK, markeredgewidth=1.4,
            linestyle="none", label="start" if len(starts) == 1 else "starts", zorder=6)  # fmt: skip
    if len(stars):
        ax.plot(*stars.T, "*", markersize=12, markerfacecolor="white", markeredgecolor=INK, markeredgewidth=1.0,
                linestyle="none", label="minimum" if len(stars) == 1 else "minima", zorder=9)  # fmt: skip
    ax.set(xlim=(left, right), ylim=(bottom, top), xlabel=names[0], ylabel=names[1])
    _legend_above(ax)
    return ax


def by_layer(norms: Mapping[str, Any], ax: Axes | None = None) -> Axes:
    """How large a gradient is in every layer of a network: where it vanishes or explodes on its way back.

    Parameters
    ----------
    norms : dict of str to sequence of float
        A norm for each layer, from the input on, by the name to show; zeros are left out.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from numbaopt.plotting import by_layer
    >>> ax = by_layer({"start": [1e-6, 1e-3, 1.0], "after Adam": [0.2, 0.3, 0.1]})
    >>> ax.get_yscale()
    'log'
    >>> matplotlib.pyplot.close(ax.figure)
    """
    _not_empty("norms", norms)
    ax, lines = _axes(ax), []
    for (name, values), (colour, dashes) in zip(norms.items(), styles(norms).values(), strict=True):
        heights = np.asarray(values, float)
        heights = np.where((heights > 0) & np.isfinite(heights), heights, np.nan)
        lines += ax.plot(np.arange(1, heights.size + 1), heights, "o", color=colour, linestyle=dashes, linewidth=1.6,
                         markersize=4, label=name)  # fmt: skip
    ax.set_yscale("log")
    ax.locator_params("x", integer=True)
    ax.set(xlabel="layer", ylabel="norm of the gradient")
    _label_ends(ax, lines)
    return ax


def schedules(rates: Mapping[str, Any], steps: int, ax: Axes | None = None) -> Axes:
    """Learning rates as they change with the step.

    Parameters
    ----------
    rates : dict of str to schedule
        Schedules, functions of the step or plain numbers, by the name to show.
    steps : int
        How many steps to show.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import numbaopt as no
    >>> from numbaopt.plotting import schedules
    >>> ax = schedules({"cosine": no.schedules.Cosine(lr=0.1, steps=100), "constant": 0.05}, steps=120)
    >>> ax.get_legend_handles_labels()[1]
    ['cosine', 'constant']
    >>> matplotlib.pyplot.close(ax.figure)
    """
    _not_empty("rates", rates)
    if steps < 1:
        raise ValueError(f"steps={steps!r} must be at least 1")
    ax, at = _axes(ax), np.unique(np.linspace(0, steps - 1, 1500).astype(int))
    lines = []
    for (name, lr), (colour, dashes) in zip(rates.items(), styles(rates).values(), strict=True):
        heights = [lr(int(step)) if callable(lr) else float(lr) for step in at]
        lines += ax.plot(at, heights, color=colour, linestyle=dashes, linewidth=1.6, label=name)
    ax.margins(x=0)
    ax.set_ylim(bottom=0)
    ax.set(xlabel="step", ylabel="learning rate")
    _label_ends(ax, lines)
    return ax


def styles(names: Iterable[str]) -> dict[str, tuple[str, Any]]:
    """Colour and dashes for each name: a method's own, else the next that is free.

    Where a method occurs twice (``"Adam, lr=0.1"``, ``"Adam, lr=0.01"``), it keeps its colour and changes its dashes.

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


def _choice(argument: str, value: str, valid: Iterable[str]) -> None:
    if value not in valid:
        raise ValueError(f"{argument}={value!r} must be one of {', '.join(map(repr, valid))}")


def _not_empty(argument: str, value: Mapping[str, Any]) -> None:
    if not value:
        raise ValueError(f"{argument} is empty: there is nothing to draw")


def _curve(name: str, history: Any, x: str, y: str, optimum: float | None) -> tuple[np.ndarray, np.ndarray]:
    if history is None or not len(history):
        raise ValueError(f"the result of {name!r} has no history; minimize with options=dict(history=True)")
    across = history["step"] if x == "epoch" and "epoch" not in history.dtype.names else history[x]
    up = np.array(history[y], float)
    if y == "fun" and optimum is not None:
        up = np.maximum(up - optimum, np.finfo(float).eps * max(1.0, abs(optimum)))
    return np.asarray(across, float), np.where(np.isfinite(up), up, np.nan)


def _path(name: str, path: Any) -> np.ndarray:
    track = np.asarray(path, float)
    if track.ndim != 2 or track.shape[1] != 2 or not len(track):
        raise ValueError(f"the path of {name!r} has shape {track.shape}; it must be (k, 2)")
    return track


def _axes(ax: Axes | None, height: float = HEIGHT, grid: bool = True) -> Axes:
    """``ax`` or the Axes of a new figure, with a quiet look."""
    if ax is None:
        import matplotlib.pyplot as plt

        ax = plt.subplots(figsize=(WIDTH, height), layout="constrained")[1]
    if grid:
        ax.grid(color=FAINT, linewidth=0.6)
        ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _surrounding(points: np.ndarray) -> tuple[float, float, float, float]:
    """A box around the finite points, with a margin; never flat."""
    points = points[np.isfinite(points).all(axis=1)]
    low, high = points.min(axis=0), points.max(axis=0)
    margin = np.maximum(0.12 * (high - low), 0.05 * max(float((high - low).max()), 1e-9))
    (left, bottom), (right, top) = low - margin, high + margin
    return left, right, bottom, top


def _contours(ax: Axes, fun: Callable[[np.ndarray], float], across: np.ndarray, up: np.ndarray, levels: int) -> None:
    """Light fills and thin lines, at powers of equal steps such that the median of the values is the middle level."""
    from matplotlib.colors import BoundaryNorm, LinearSegmentedColormap

    heights = np.array([[fun(np.array([a, b])) for a in across] for b in up], float)
    finite = heights[np.isfinite(heights)]
    low, high = float(finite.min()), float(finite.max())
    middle = (float(np.median(finite)) - low) / (high - low) if high > low else 0.5
    power = max(1.0, np.log(max(middle, 1e-6)) / np.log(0.5))
    edges = low + (high - low if high > low else 1.0) * np.linspace(0, 1, levels + 1) ** min(power, 3.0)
    shades = LinearSegmentedColormap.from_list("paper", ["#b9c6d6", "#dfe6ee", "#fbfcfd"], N=levels)
    ax.contourf(across, up, heights, edges, cmap=shades, norm=BoundaryNorm(edges, levels), zorder=0)
    ax.contour(across, up, heights, edges[1:-1], colors="#8496ab", linewidths=0.5, linestyles="solid", zorder=1)


def _draw_path(ax: Axes, name: str, track: np.ndarray, colour: str, dashes: Any, width: float, zorder: float) -> None:
    """A line with a fine halo, dots at twenty equal numbers of steps, and a larger dot at its end."""
    from matplotlib.patheffects import Normal, Stroke

    every = max(1, -(-(len(track) - 1) // 20))
    ax.plot(*track.T, color=colour, linestyle=dashes, linewidth=width, label=name, zorder=zorder,
            path_effects=[Stroke(linewidth=width + 0.8, foreground="white"), Normal()])  # fmt: skip
    ax.plot(*track[every::every].T, "o", color=colour, markersize=width + 1.6, markeredgecolor="white",
            markeredgewidth=0.5, zorder=zorder + 1)  # fmt: skip
    ax.plot(*track[-1], "o", color=colour, markersize=width + 4.5, markeredgecolor="white", markeredgewidth=1.0,
            zorder=zorder + 4)  # fmt: skip


def _legend_above(ax: Axes) -> None:
    """A legend over the axes, in as many columns as there is room for."""
    from matplotlib.font_manager import FontProperties

    em = FontProperties(size="small").get_size_in_points() * ax.figure.dpi / 72
    column = em * (3.4 + 0.55 * max(map(len, ax.get_legend_handles_labels()[1])))
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=int(np.clip(1.2 * ax.bbox.width / column, 1, 3)),
              frameon=False, fontsize="small", handlelength=2.4, handletextpad=0.6, columnspacing=1.0, borderpad=0.2,
              borderaxespad=0.2)  # fmt: skip


def _label_ends(ax: Axes, lines: list[Any]) -> None:
    """Name each line to the right of the axes, at the height of its end; names that would overlap are pushed apart.

    The heights are found whenever the figure is drawn, so that zooming, resizing and new limits keep them right.
    """
    from matplotlib.transforms import Affine2D
    from scipy.optimize import isotonic_regression

    ends: list[tuple[Any, np.ndarray]] = []
    labels: list[Any] = []
    for line in lines:
        points = line.get_xydata()
        points = points[np.isfinite(points).all(axis=1)]
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
            str(line.get_label()), xy=(end[0], end[1]), xytext=(0, 0), textcoords=place(rank), color=_ink(colour),
            fontsize="small", va="center_baseline", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": "0.7", "linewidth": 0.6, "shrinkA": 1, "shrinkB": 2,
                        "relpos": (0.0, 0.5)},
        ))  # fmt: skip


def _ink(colour: str) -> tuple[float, ...]:
    """A colour dark enough for letters."""
    from matplotlib.colors import to_rgb

    return tuple(0.72 * part for part in to_rgb(colour))
