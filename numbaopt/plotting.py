"""Pictures of runs, paths and schedules: functions that take and return matplotlib Axes.

Nothing here shows a window or changes matplotlib's settings, and matplotlib is imported only when a picture is drawn.
Labels stand to the right of the lines; figures of your own make room for them with ``layout="constrained"``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ._look import DASH, HEIGHT, INK, STYLES, WIDTH, axes, label_ends, legend_above, not_empty, styles
from ._trajectories import trajectories

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["HEIGHT", "STYLES", "WIDTH", "by_layer", "convergence", "learning_curve", "lr_curve", "schedules",
           "styles", "trajectories"]  # fmt: skip

X_LABELS = {"step": "step", "epoch": "epoch", "seconds": "time [s]"}
Y_LABELS = {"fun": "objective", "grad_norm": "largest component of the gradient"}


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
    not_empty("results", curves)
    ax, scale = axes(ax), 1.0
    longest = max(float(across[-1]) for across, _ in curves.values())
    if x == "seconds" and longest < 1.0:
        scale = 1e3
    lines = [
        ax.plot(scale * across, up, color=colour, linestyle=dashes, linewidth=1.6, label=name)[0]
        for (name, (across, up)), (colour, dashes) in zip(curves.items(), styles(curves).values(), strict=True)
    ]
    if optimum is not None or _wide(np.concatenate([up for _, up in curves.values()])):
        ax.set_yscale("log")
    ax.margins(x=0)
    ax.set_xlabel("time [ms]" if scale > 1 else X_LABELS[x])
    ax.set_ylabel("objective − optimum" if y == "fun" and optimum is not None else Y_LABELS[y])
    label_ends(ax, lines)
    return ax


def learning_curve(estimator: Any, ax: Axes | None = None) -> Axes:
    """How an estimator learned: its objective and, if rows were kept apart, the score on them, epoch by epoch.

    Where each class has its own model, each has its own line.  A ring marks the epoch whose coefficients were kept for
    their score.

    Parameters
    ----------
    estimator : estimator
        Fitted, from `numbaopt.linear_model`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure.  The score gets an axis of its own on the right.

    Returns
    -------
    matplotlib.axes.Axes
        Of the objective.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from sklearn.datasets import load_iris
    >>> from numbaopt.linear_model import SGDClassifier
    >>> from numbaopt.plotting import learning_curve
    >>> model = SGDClassifier(loss="multinomial", early_stopping=True, random_state=0).fit(*load_iris(return_X_y=True))
    >>> ax = learning_curve(model)
    >>> ax.get_xlabel(), ax.get_ylabel(), ax.figure.axes[1].get_ylabel()
    ('epoch', 'objective', 'validation score (dashed)')
    >>> matplotlib.pyplot.close(ax.figure)
    """
    if not hasattr(estimator, "history_"):
        raise ValueError(f"{estimator!r} has no history_: it is not fitted, or not from numbaopt.linear_model")
    history = estimator.history_
    curves = [history[history.output == output] for output in np.unique(history.output)]
    names = [str(label) for label in estimator.classes_] if len(curves) > 1 else ["objective"]
    left, right = axes(ax), None
    if np.isfinite(history.validation_score).any():
        right = left.twinx()
        right.spines["top"].set_visible(False)
        right.set_ylabel("validation score (dashed)")
    for curve, (name, (colour, _)) in zip(curves, styles(names).items(), strict=True):
        left.plot(curve.epoch, curve.loss, color=colour, linewidth=1.6, label=name)
        if right is not None:
            right.plot(curve.epoch, curve.validation_score, color=colour, linestyle=DASH, linewidth=1.2)
            best = curve[np.nanargmax(curve.validation_score)]
            right.plot(best.epoch, best.validation_score, "o", markersize=6, markerfacecolor="white",
                       markeredgecolor=colour, zorder=6)  # fmt: skip
    if len(curves) > 1:
        legend_above(left)
    if _wide(history.loss):
        left.set_yscale("log")
    left.margins(x=0)
    left.set(xlabel="epoch" if estimator._stochastic else "iteration", ylabel="objective")
    return left


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
    not_empty("norms", norms)
    ax, lines = axes(ax), []
    for (name, values), (colour, dashes) in zip(norms.items(), styles(norms).values(), strict=True):
        heights = np.asarray(values, float)
        heights = np.where((heights > 0) & np.isfinite(heights), heights, np.nan)
        lines += ax.plot(np.arange(1, heights.size + 1), heights, "o", color=colour, linestyle=dashes, linewidth=1.6,
                         markersize=4, label=name)  # fmt: skip
    ax.set_yscale("log")
    ax.locator_params("x", integer=True)
    ax.set(xlabel="layer", ylabel="norm of the gradient")
    label_ends(ax, lines)
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
    not_empty("rates", rates)
    if steps < 1:
        raise ValueError(f"steps={steps!r} must be at least 1")
    ax, at = axes(ax), np.unique(np.linspace(0, steps - 1, 1500).astype(int))
    lines = []
    for (name, lr), (colour, dashes) in zip(rates.items(), styles(rates).values(), strict=True):
        heights = [lr(int(step)) if callable(lr) else float(lr) for step in at]
        lines += ax.plot(at, heights, color=colour, linestyle=dashes, linewidth=1.6, label=name)
    ax.margins(x=0)
    ax.set_ylim(bottom=0)
    ax.set(xlabel="step", ylabel="learning rate")
    label_ends(ax, lines)
    return ax


def lr_curve(curves: Any, ax: Axes | None = None) -> Axes:
    """The objective after a few steps against the learning rate; a dot marks each suggestion.

    Parameters
    ----------
    curves : RateCurve, or dict of str to RateCurve
        What `numbaopt.lr_finder` returned; several by the name to show.  Where a run diverged there is no line.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import numba, numbaopt as no
    >>> from numbaopt.plotting import lr_curve
    >>> bowl = numba.njit(lambda x: x[0] ** 2)
    >>> ax = lr_curve(no.lr_finder(bowl, [1.0], "gd"))
    >>> ax.get_xscale()
    'log'
    >>> matplotlib.pyplot.close(ax.figure)
    """
    curves = {"": curves} if hasattr(curves, "rates") else curves
    not_empty("curves", curves)
    ax, top = axes(ax), max(curve.start for curve in curves.values())
    for (name, curve), (colour, dashes) in zip(curves.items(), styles(curves).values(), strict=True):
        ax.plot(curve.rates, curve.objectives, color=colour, linestyle=dashes, linewidth=1.6, label=name)
        ax.plot(curve.suggestion, curve.objectives[curve.rates == curve.suggestion][:1].sum(), "o", color=colour)
    ax.axhline(top, color=INK, linewidth=0.8, linestyle=":")
    low = min([top, *(np.nanmin([curve.start, *curve.objectives]) for curve in curves.values())])
    ax.set(xscale="log", xlabel="learning rate", ylabel="objective after some steps")
    if low > 0 and top > 100 * low:
        ax.set_yscale("log")
        ax.set_ylim(low / (top / low) ** 0.1, top * (top / low) ** 0.1)
    else:
        ax.set_ylim(low - 0.1 * (top - low or 1.0), top + 0.1 * (top - low or 1.0))
    if len(curves) > 1:
        legend_above(ax)
    return ax


def _choice(argument: str, value: str, valid: Iterable[str]) -> None:
    if value not in valid:
        raise ValueError(f"{argument}={value!r} must be one of {', '.join(map(repr, valid))}")


def _wide(values: np.ndarray) -> bool:
    """Whether values span more than two orders of magnitude."""
    values = values[np.isfinite(values)]
    return bool(values.size and values.min() > 0 and values.max() > 100 * values.min())


def _curve(name: str, history: Any, x: str, y: str, optimum: float | None) -> tuple[np.ndarray, np.ndarray]:
    if history is None or not len(history):
        raise ValueError(f"the result of {name!r} has no history; minimize with options=dict(history=True)")
    across = history["step"] if x == "epoch" and "epoch" not in history.dtype.names else history[x]
    up = np.array(history[y], float)
    if y == "fun" and optimum is not None:
        up = np.maximum(up - optimum, np.finfo(float).eps * max(1.0, abs(optimum)))
    return np.asarray(across, float), np.where(np.isfinite(up), up, np.nan)
