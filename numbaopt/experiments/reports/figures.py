"""The figures of a report, one column of a journal wide; the same method has the same colour and dashes in all."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..._look import axes, label_ends
from ...plotting import trajectories as draw_trajectories
from ..config import Output
from .statistics import quantiles
from .summary import Problem, Run, Setting

Looks = Mapping[str, tuple[str, Any]]
COLUMN, HEIGHT = 3.4, 2.35  # inches
POINTS = 300  # that a line has at most
LONGEST_LABEL, LONGEST_TITLE = 20, 16
FORMATS = ("svg", "png", "pdf")
PATH, DIGITS = re.compile(rb'\bd="[^"]*"'), re.compile(rb"(?<=\.\d\d)\d+")  # hundredths of a point are enough
AXES = {"step": "steps", "nfev": "evaluations", "epoch": "epochs", "seconds": "time [s]"}
SETTINGS: Any = {
    "font.size": 7.5, "axes.linewidth": 0.6, "xtick.major.width": 0.6, "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4, "ytick.minor.width": 0.4, "xtick.major.size": 3, "ytick.major.size": 3,
    "xtick.minor.size": 1.5, "ytick.minor.size": 1.5, "axes.labelpad": 3,
    "svg.fonttype": "path", "pdf.fonttype": 42,
}  # fmt: skip


@contextmanager
def paper(name: str = "") -> Iterator[None]:
    """Matplotlib's settings for a figure, and no others; the same figure of this name is the same bytes."""
    from matplotlib import rc_context, rcParamsDefault

    others = ("backend", "date.", "webagg")
    defaults: Any = {key: value for key, value in rcParamsDefault.items() if not key.startswith(others)}
    with rc_context(defaults), rc_context({**SETTINGS, "svg.hashsalt": f"numbaopt {name}"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from", UserWarning)
        yield


def render(figure: Any, kind: str) -> bytes:
    """A figure as a file, the same bytes each time; call it within `paper`."""
    dates = {"svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
             "png": {"Software": None}}  # fmt: skip
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=300, metadata=dates[kind])
    return file.getvalue() if kind != "svg" else PATH.sub(lambda path: DIGITS.sub(b"", path[0]), file.getvalue())


def inline(svg: bytes, name: str, title: str) -> str:
    """An SVG to stand in a page among others: without prologue and size of its own, its ids beginning with ``name``."""
    from html import escape

    text = svg.decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'url\(#([^)]+)\)', rf"url(#{name}-\1)", text)
    text = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{name}-\1"', text)
    head, rest = text.split(">", 1)
    box = re.search(r'viewBox="[^"]+"', head)[0]  # type: ignore[index]
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img" aria-label="{escape(title)}">{rest.strip()}'


def short(label: str, longest: int = LONGEST_LABEL) -> str:
    """A label as it stands in figures: one short line that matplotlib takes for no formula."""
    line = " ".join("".join(c if c.isprintable() else " " for c in label).split())
    line = line if len(line) <= longest else line[: longest - 1].rstrip() + "…"
    return line.replace("$", r"\$")


def figure(height: float = HEIGHT) -> Any:
    """An empty figure, one column wide."""
    from matplotlib.figure import Figure

    return Figure(figsize=(COLUMN, height), layout="constrained")


def height_for(lines: int) -> float:
    """Inches that so many names at the right of the axes need."""
    return max(HEIGHT, 0.5 + 0.125 * lines)


def ticks(axis: Any, low: float, high: float) -> None:
    """Quiet ticks on a logarithmic axis: powers of ten, or 1, 2 and 5 times those where there are few."""
    from matplotlib.ticker import LogLocator, NullFormatter

    if 0 < high < 40 * low:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(lambda value, _: f"{value:.3g}")
    axis.set_minor_formatter(NullFormatter())


# Curves


def one_evaluation_a_step(settings: Sequence[Setting]) -> bool:
    """Whether a figure against evaluations would be the one against steps."""
    curves = [run.curve for setting in settings for run in setting.runs if {"nfev", "step"} <= run.curve.keys()]
    return all(np.ptp(curve["nfev"] - curve["step"]) == 0 for curve in curves if curve["step"].size)


def convergence(problem: Problem, settings: Sequence[Setting], x: str, looks: Looks,
                output: Output = Output()) -> Any | None:  # fmt: skip  # noqa: B008  a constant
    """Medians and quantiles over seeds of the objective against steps, evaluations, epochs or seconds."""
    found = {setting.method: _band(problem, setting.runs, x, output) for setting in settings}
    bands = {method: band for method, band in found.items() if band is not None}
    if not bands:
        return None
    made = figure(height_for(len(bands)))
    ax = axes(made.add_subplot())
    lines = []
    ends = [at[-1] for at, _ in bands.values()]
    across_log = min(ends) > 0 and max(ends) > 25 * min(ends)
    bottom, top = output.objective or limits_of(problem, np.concatenate([up.ravel() for _, up in bands.values()]))
    scale = 1e3 if x == "seconds" and max(ends) < 1.0 else 1.0
    across = "steps = evaluations" if x == "step" and one_evaluation_a_step(settings) else AXES[x]
    for method, (at, levels) in bands.items():
        colour, dashes = looks[method]
        if across_log:
            at, levels = at[at > 0], levels[:, at > 0]
        low, middle, high = levels if output.objective else to_draw(levels, bottom, top)
        ax.fill_between(scale * at, low, high, color=colour, alpha=0.13, linewidth=0)
        lines += ax.plot(scale * at, middle, color=colour, linestyle=dashes, linewidth=1.2, label=short(method))
    if across_log:
        first = min(at[at > 0].min(initial=math.inf) for at, _ in bands.values())
        ax.set(xscale="log", xlim=(scale * first, scale * max(ends)))
        ticks(ax.xaxis, first, max(ends))
    ax.set(ylim=(bottom, top), xlabel="time [ms]" if scale > 1 else across)
    if output.objective:
        ax.set_ylabel("objective")
    else:
        ax.set(yscale="log", ylabel=name_of(problem))
        ticks(ax.yaxis, bottom, top)
    if not across_log:
        ax.set_xlim(0, scale * max(ends))
    label_ends(ax, lines)
    return made


def _band(problem: Problem, runs: Sequence[Run], x: str, output: Output) -> tuple[np.ndarray, np.ndarray] | None:
    """Common places along ``x``, and quantiles of the runs there: those that ended early stay where they were.

    The line ends where half of the runs have.
    """
    curves = [_line(problem, run, x, output) for run in runs]
    curves = [(at, up) for at, up in curves if at.size > 1]
    if not curves:
        return None
    end = np.sort([at[-1] for at, _ in curves])[len(curves) // 2]
    at = np.unique(np.concatenate([at[at <= end] for at, _ in curves]))
    if at.size > POINTS:
        at = np.unique(np.concatenate([np.quantile(at, np.linspace(0, 1, POINTS // 2)),
                                       _spread(at[at > 0].min(), at[-1])]))  # fmt: skip
    return at, quantiles(np.array([np.interp(at, *curve) for curve in curves]), parts_of(output))


def parts_of(output: Output) -> tuple[float, float, float]:
    """The quantiles that are drawn."""
    return output.quantiles[0], 0.5, output.quantiles[1]


def _spread(first: float, last: float) -> np.ndarray:
    return np.minimum(np.geomspace(first, last, POINTS // 2), last)


def _line(problem: Problem, run: Run, x: str, output: Output) -> tuple[np.ndarray, np.ndarray]:
    """A run's curve; it ends in inf where the run diverged."""
    curve = run.curve
    if x not in curve or "fun" not in curve or not np.isfinite(curve[x]).any():
        return np.empty(0), np.empty(0)
    at, up = curve[x], curve["fun"]
    there = np.isfinite(at)
    at, up = at[there], np.where(np.isfinite(up[there]), up[there], np.inf)
    up = up if output.objective else above_best(problem, up)
    if run.diverged:
        at, up = np.append(at, at[-1]), np.append(up, np.inf)
    return at, up


def to_draw(levels: np.ndarray, bottom: float, top: float) -> np.ndarray:
    """Quartiles to draw: nothing where the median is lost; a band leaves the picture where only the upper one is.

    What is too low to be shown lies on the ground.
    """
    return np.where(np.isfinite(levels[1]), np.clip(levels, 1.5 * bottom, 10 * top), np.nan)


def limits_of(problem: Problem, levels: np.ndarray) -> tuple[float, float]:
    """Where the picture ends: a little above where runs begin (what ends higher went the wrong way).

    What is measured from the best that was found comes to nothing where that was found: only a millionth of the way
    down is shown.
    """
    finite = levels[np.isfinite(levels)]
    if not finite.size:
        return 0.1, 1.0
    start = float(above_best(problem, np.array(problem.start))) if math.isfinite(problem.start) else float(finite.max())
    low = max(float(finite.min()), 0.0 if problem.known else 1e-6 * start)
    return low / 2, 2 * max(min(float(finite.max()), 4 * start), 5 * low)


def above_best(problem: Problem, values: np.ndarray) -> np.ndarray:
    """How far objectives are above the optimum, or the best that any run found; never less than rounding."""
    best = problem.best
    return np.maximum(values - best, np.finfo(float).eps * max(1.0, abs(best))) if math.isfinite(best) else values


def name_of(problem: Problem) -> str:
    return "objective − optimum" if problem.known else "objective − best found"


# Profiles


def profile(at: np.ndarray, parts: np.ndarray, methods: Sequence[str], looks: Looks, across: str) -> Any:
    """Steps that rise to the part of the problems that each method has solved."""
    made = figure(height_for(len(methods)))
    ax = axes(made.add_subplot())
    ratio = at[0] == 1.0
    right = max(float(at[-1]) * 1.15, 2.0 if ratio else at[0] + 1.0)
    left = 1.0 if ratio else min(0.8 * float(at[1]), right / 10) if len(at) > 1 else 0.1
    lines = []
    for method, part in zip(methods, parts.T, strict=True):
        colour, dashes = looks[method]
        lines += ax.plot(np.append(np.maximum(at, left), right), np.append(part, part[-1]), color=colour,
                         linestyle=dashes, linewidth=1.2, drawstyle="steps-post", label=short(method))  # fmt: skip
    ax.set_xscale("log", base=2 if ratio and right < 300 else 10)
    if ratio and right < 300:
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    else:
        ticks(ax.xaxis, left, right)
    ax.set(xlim=(left, right), ylim=(-0.02, 1.02), xlabel=across, ylabel="fraction of runs")
    label_ends(ax, lines)
    return made




# Paths


def trajectories(problem: Problem, settings: Sequence[Setting], looks: Looks) -> Any | None:
    """The paths of all methods from one start over the contours of a function of two unknowns."""
    tracks = {setting.method: {run.row.seed: _track(run) for run in setting.runs if run.sound} for setting in settings}
    seeds = [seed for by_seed in tracks.values() for seed, track in by_seed.items() if len(track) > 1]
    if not seeds:
        return None
    seed = min(seeds, key=lambda seed: (-seeds.count(seed), seed))  # the one that most methods share
    there = [method for method, by_seed in tracks.items() if len(by_seed.get(seed, ())) > 1]
    paths = {short(method): tracks[method][seed] for method in there}
    chosen, scene = {short(method): looks[method] for method in there}, problem.task
    made = figure(1.25 * HEIGHT + 0.11 * -(-len(paths) // 3))
    unknowns = getattr(scene, "unknowns", None) or ("x1", "x2")
    one, two = (name if name not in ("x1", "x2") else f"$x_{name[1]}$" for name in unknowns)
    draw_trajectories(scene.value if scene else None, paths, made.add_subplot(), scene.minima if scene else None,
                      (scene.domain if scene else None) or _domain(list(paths.values())), names=(one, two),
                      looks=chosen)  # fmt: skip
    return made


def _track(run: Run) -> np.ndarray:
    if not {"x1", "x2"} <= run.curve.keys():
        return np.empty((0, 2))
    track = np.column_stack([run.curve["x1"], run.curve["x2"]])
    return track[np.isfinite(track).all(axis=1)]


def _domain(tracks: Sequence[np.ndarray]) -> tuple[float, float, float, float]:
    """A box around the paths; where some make long excursions, around their ends and most of the way between."""
    points = np.concatenate(tracks)
    most = np.concatenate([np.quantile(points, (0.02, 0.98), axis=0), *(track[[0, -1]] for track in tracks)])
    near = (points.max(axis=0) - points.min(axis=0)) < 2.5 * (most.max(axis=0) - most.min(axis=0))
    low = np.where(near, points.min(axis=0), most.min(axis=0))
    high = np.where(near, points.max(axis=0), most.max(axis=0))
    margin = np.maximum(0.08 * (high - low), 0.05 * max(float((high - low).max()), 1e-9))
    (left, bottom), (right, top) = low - margin, high + margin
    return left, right, bottom, top
