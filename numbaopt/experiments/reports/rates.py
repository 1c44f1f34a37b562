"""How the learning rate decides where methods end: the figure of a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..._look import INK, axes, ink
from ..config import Output
from .figures import (
    HEIGHT,
    LONGEST_LABEL,
    LONGEST_TITLE,
    Looks,
    above_best,
    figure,
    limits_of,
    name_of,
    parts_of,
    short,
    ticks,
    to_draw,
)
from .statistics import quantiles
from .summary import Problem, Setting

MOST_RATES = 16  # on a grid: more that were drawn are put into bins


class Rates(NamedTuple):
    """How the learning rate of a method decides where it ends.

    Attributes
    ----------
    at : array of shape (k,)
        Rates; of many different ones the medians of bins.
    levels : array of shape (3, k)
        Quantiles of the final objective there: of the best setting's runs or, in bins, of the settings that were not
        given up.
    counts : array of shape (k, 3)
        Runs that are sound, diverged, failed.
    tried : array of shape (n, 3)
        In bins, every setting: its rate, its median, whether it was given up early.
    """

    at: np.ndarray
    levels: np.ndarray
    counts: np.ndarray
    tried: np.ndarray

    @property
    def best(self) -> tuple[float, float] | None:
        """The best rate, and where it ends."""
        at, middle = (self.tried[:, 0], self.tried[:, 1]) if len(self.tried) else (self.at, self.levels[1])
        if not np.isfinite(middle).any():
            return None
        place = int(np.nanargmin(middle))
        return float(at[place]), float(middle[place])


def sensitivity(problem: Problem, methods: Sequence[str], looks: Looks,
                output: Output = Output()) -> Any | None:  # fmt: skip  # noqa: B008  a constant
    """The final objective against the learning rate, a panel a method; the others stand behind it in grey."""
    curves = {method: curve for method in methods if (curve := rates_of(problem, method, output)) is not None}
    if not curves:
        return None
    columns = min(len(curves), 3)
    rows = -(-len(curves) // columns)
    made = figure(0.55 + 1.02 * rows if columns > 1 else HEIGHT)
    panels = made.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    shown = np.concatenate([np.append(curve.levels.ravel(), curve.tried[:, 1]) for curve in curves.values()])
    bottom, top = limits_of(problem, shown[np.isfinite(shown)])
    for ax, method in zip(panels.flat, curves, strict=False):
        axes(ax)
        ax.set(xscale="log", yscale="log")
        for other, curve in curves.items():
            if other != method:
                ax.plot(curve.at, to_draw(curve.levels, bottom, top)[1], color="0.82", linewidth=0.7, zorder=1)
        _panel(ax, curves[method], looks[method], (bottom, top))
        title = short(method, LONGEST_TITLE if columns == 3 else LONGEST_LABEL)
        ax.set_title(title, fontsize=7, color=ink(looks[method][0]), pad=9)
    for ax in panels.flat[len(curves) :]:
        ax.set_axis_off()
    for place, ax in enumerate(panels.flat[: len(curves)]):
        if place + columns >= len(curves):
            ax.xaxis.set_tick_params(labelbottom=True)
    panels.flat[0].set_ylim(bottom, top)
    ticks(panels.flat[0].yaxis, bottom, top)
    made.supxlabel("learning rate", fontsize=7.5)
    made.supylabel(f"final {name_of(problem)}", fontsize=7.5)
    return made


def are_scattered(settings: Sequence[Setting]) -> bool:
    """Whether the rates of a method were drawn, not laid on a grid: many, and hardly one twice."""
    rates = [setting.rate for setting in settings if setting.runs and setting.rate > 0]
    return len(set(rates)) > MOST_RATES and len(set(rates)) > 0.5 * len(rates)


def rates_of(problem: Problem, method: str, output: Output = Output()) -> Rates | None:  # noqa: B008  a constant
    """What there is to draw of a method; None where its rate was hardly varied."""
    by_rate: dict[float, list[Setting]] = {}
    settings = [setting for setting in problem.settings.get(method, []) if setting.runs and setting.rate > 0]
    for setting in settings:
        by_rate.setdefault(setting.rate, []).append(setting)
    if len(by_rate) < 2:
        return None
    rates, tried = np.array(sorted(by_rate)), np.empty((0, 3))
    if are_scattered(settings):
        medians = np.array([float(quantiles(setting.finals, (0.5,))[0]) for setting in settings])
        tried = np.array([[setting.rate for setting in settings], above_best(problem, medians),
                          [_given_up(setting) for setting in settings]]).T  # fmt: skip
        groups = _bins(settings)
        rates = np.array([np.exp(np.median(np.log([setting.rate for setting in group]))) for group in groups])
        ended = [[setting for setting in group if not _given_up(setting)] or group for group in groups]
        levels = np.array([quantiles(np.array([float(quantiles(setting.finals, (0.5,))[0]) for setting in group]),
                                     parts_of(output)) for group in ended]).T  # fmt: skip
    else:
        groups = [[min(by_rate[rate], key=lambda setting: float(quantiles(setting.finals, (0.5,))[0]))]
                  for rate in rates]  # fmt: skip
        levels = np.array([quantiles(setting.finals, parts_of(output)) for (setting,) in groups]).T
    runs = [[run for setting in group for run in setting.runs] for group in groups]
    counts = np.array([(sum(run.sound for run in of), sum(run.diverged for run in of),
                        sum(run.row.status == "failed" for run in of)) for of in runs])  # fmt: skip
    return Rates(rates, above_best(problem, levels), counts, tried)


def _given_up(setting: Setting) -> bool:
    return any(run.row.pruned for run in setting.runs)


def _bins(settings: Sequence[Setting]) -> list[list[Setting]]:
    """Settings by their rates, in bins as wide as each other in the logarithm; none is empty."""
    places = np.log([setting.rate for setting in settings])
    count = int(np.clip(len(settings) // 4, 4, 16))
    indices = np.minimum((places - places.min()) / max(float(np.ptp(places)), 1e-12) * count, count - 1).astype(int)
    return [[setting for setting, at in zip(settings, indices, strict=True) if at == place]
            for place in np.unique(indices)]  # fmt: skip


def _panel(ax: Any, curve: Rates, look: tuple[str, Any], limits: tuple[float, float]) -> None:
    """One method: its line, a star at the best rate, crosses above rates at which runs diverged or failed."""
    colour, dashes = look
    low, middle, high = to_draw(curve.levels, *limits)
    ax.fill_between(curve.at, low, high, color=colour, alpha=0.16, linewidth=0)
    ax.plot(curve.at, middle, marker=None if len(curve.tried) else "o", color=colour, linestyle=dashes, linewidth=1.2,
            markersize=2.6, zorder=3)  # fmt: skip
    for given_up in (False, True) if len(curve.tried) else ():
        rate, end, _ = curve.tried[curve.tried[:, 2] == given_up].T
        ax.plot(rate, np.clip(end, 1.5 * limits[0], None), "o", color=colour, markersize=2.2, markeredgewidth=0.5,
                markerfacecolor="none" if given_up else colour, alpha=0.65, linestyle="none", zorder=2)  # fmt: skip
    if (best := curve.best) is not None:
        ax.plot(best[0], max(best[1], 1.5 * limits[0]), "*", color=colour, markersize=8.5, markeredgecolor="white",
                markeredgewidth=0.5, zorder=4)  # fmt: skip
    above = ax.get_xaxis_transform()
    lost = curve.counts[:, 1] + curve.counts[:, 2]
    for rate, bad, failed, runs in zip(curve.at, lost, curve.counts[:, 2], curve.counts.sum(axis=1), strict=True):
        if bad:
            marker = "s" if failed == bad else "x"
            ax.plot(rate, 1.06, marker, color=INK if bad == runs else "0.55", markersize=3 if bad == runs else 2.4,
                    markerfacecolor="none", markeredgewidth=0.9, transform=above, clip_on=False, zorder=5)  # fmt: skip
