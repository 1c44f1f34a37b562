"""Pictures of paths over the contours of a function of two variables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ._look import HEIGHT, INK, axes, legend_above, not_empty, styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def trajectories(
    fun: Callable[[np.ndarray], float] | None,
    paths: Mapping[str, Any],
    ax: Axes | None = None,
    minimum: Any = None,
    domain: tuple[float, float, float, float] | None = None,
    levels: int = 18,
    names: tuple[str, str] = ("$x_1$", "$x_2$"),
    looks: Mapping[str, tuple[str, Any]] | None = None,
) -> Axes:
    """The ways methods take over the contours of a function of two variables.

    A ring marks where the paths start, dots twenty equal numbers of steps, a larger dot where each ends.

    Parameters
    ----------
    fun : callable or None
        ``fun(x) -> float`` for ``x`` of two components; without it there are no contours.
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
    looks : dict of str to (colour, dashes), optional
        The look of every path; by default what `styles` chooses for their names.

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
    not_empty("paths", tracks)
    stars = np.empty((0, 2)) if minimum is None else np.asarray(minimum, float).reshape(-1, 2)
    left, right, bottom, top = domain or _surrounding(np.concatenate([stars, *tracks.values()]))
    ax = axes(ax, height=1.2 * HEIGHT, grid=False)
    if fun is not None:
        _contours(ax, fun, np.linspace(left, right, 301), np.linspace(bottom, top, 301), levels)
    for k, (name, (colour, dashes)) in enumerate((looks or styles(tracks)).items()):  # the lower, the wider
        width = 1.5 + min(0.3, 1.5 / len(tracks)) * (len(tracks) - 1 - k)
        _draw_path(ax, name, tracks[name], colour, dashes, width, 3 + k / len(tracks))
    starts = np.unique([track[0] for track in tracks.values()], axis=0)
    ax.plot(*starts.T, "o", markersize=8, markerfacecolor="white", markeredgecolor=INK, markeredgewidth=1.4,
            linestyle="none", label="start" if len(starts) == 1 else "starts", zorder=6)  # fmt: skip
    if len(stars):
        ax.plot(*stars.T, "*", markersize=12, markerfacecolor="white", markeredgecolor=INK, markeredgewidth=1.0,
                linestyle="none", label="minimum" if len(stars) == 1 else "minima", zorder=9)  # fmt: skip
    ax.set(xlim=(left, right), ylim=(bottom, top), xlabel=names[0], ylabel=names[1])
    legend_above(ax)
    return ax


def _path(name: str, path: Any) -> np.ndarray:
    track = np.asarray(path, float)
    if track.ndim != 2 or track.shape[1] != 2 or not len(track):
        raise ValueError(f"the path of {name!r} has shape {track.shape}; it must be (k, 2)")
    return track


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
