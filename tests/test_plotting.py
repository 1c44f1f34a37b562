"""Pictures: what is drawn and how it looks, without comparing pixels."""

import itertools

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.text import Text
from scipy.optimize import OptimizeResult

import numbaopt as no
from numbaopt import plotting
from numbaopt.plotting import STYLES, convergence, schedules, styles, trajectories

ROW = [("step", "i8"), ("fun", "f8"), ("grad_norm", "f8"), ("lr", "f8"), ("seconds", "f8")]


def result(fun, seconds=1e-3, epochs=None):
    """A result with the history of a run."""
    fun = np.asarray(fun, float)
    history = np.zeros(fun.size, ROW + ([("epoch", "f8")] if epochs else [])).view(np.recarray)
    history.step, history.fun, history.grad_norm = np.arange(fun.size), fun, fun
    history.seconds = seconds * np.arange(fun.size)
    if epochs:
        history.epoch = np.linspace(0, epochs, fun.size)
    return OptimizeResult(fun=min(fun, default=0.0), history=history)


def named(ax):
    return [line for line in ax.lines if not str(line.get_label()).startswith("_")]


@pytest.fixture(autouse=True)
def untouched():
    """No function changes matplotlib's settings, and every figure is closed."""
    before = dict(mpl.rcParams)
    yield
    assert dict(mpl.rcParams) == before
    plt.close("all")


def bowl(x):
    return x[0] ** 2 + 10 * x[1] ** 2


def test_every_method_has_its_own_look():
    names = [name for method in no.methods() for name in (method.name, *method.aliases)]
    assert set(names) <= set(STYLES)
    assert len(set(map(str, STYLES.values()))) == len(STYLES)


def test_neighbours_differ_in_grey():
    """The classic six: no two share their dashes unless one is black."""
    six = [STYLES[name] for name in ("sgd", "momentum", "adagrad", "rmsprop", "adam")]
    assert len({str(dashes) for _, dashes in six}) == len(six)


def test_a_label_keeps_the_look_of_its_method():
    chosen = styles(["adam", "Gradient descent", "ADAGRAD (lr=1)", "mine"])
    assert chosen["adam"] == STYLES["adam"]
    assert chosen["Gradient descent"] == STYLES["gd"]
    assert chosen["ADAGRAD (lr=1)"] == STYLES["adagrad"]
    assert chosen["mine"] not in [STYLES["adam"], STYLES["gd"], STYLES["adagrad"]]


def test_looks_within_a_picture_are_distinct():
    labels = [f"Adam, lr={k}" for k in range(4)] + [f"other {k}" for k in range(15)]
    chosen = styles(labels)
    assert len(set(map(str, chosen.values()))) == len(labels)
    assert {chosen[f"Adam, lr={k}"][0] for k in range(4)} == {STYLES["adam"][0]}


def test_more_lines_than_looks():
    assert len(styles(map(str, range(100)))) == 100


def test_convergence_draws_the_history():
    ax = convergence({"Adam": result([4, 2, 1]), "gd": result([4, 3, 2])})
    adam, _ = named(ax)
    np.testing.assert_array_equal(adam.get_xydata(), [[0, 4], [1, 2], [2, 1]])
    assert adam.get_color() == STYLES["adam"][0]
    assert [text.get_text() for text in ax.texts] == ["Adam", "gd"]
    assert (ax.get_yscale(), ax.get_xlabel(), ax.get_ylabel()) == ("linear", "step", "objective")


def test_convergence_takes_a_log_axis_where_values_span_decades():
    assert convergence({"a": result([1000, 1])}).get_yscale() == "log"
    assert convergence({"a": result([1000, -1])}).get_yscale() == "linear"


def test_convergence_to_an_optimum_survives_rounding():
    ax = convergence({"a": result([3.0, 2.0, 2.0 - 1e-16])}, optimum=2.0)
    heights = named(ax)[0].get_ydata()
    assert ax.get_yscale() == "log"
    assert heights[0] == 1.0
    assert (heights > 0).all()


@pytest.mark.parametrize(("x", "epochs", "ends", "label"), [
    ("epoch", 5, 5, "epoch"), ("epoch", None, 2, "epoch"), ("step", 5, 2, "step"), ("seconds", 5, 2.0, "time [ms]"),
])  # fmt: skip
def test_convergence_over(x, epochs, ends, label):
    ax = convergence({"a": result([3, 2, 1], epochs=epochs)}, x=x, y="grad_norm")
    assert named(ax)[0].get_xdata()[-1] == ends
    assert ax.get_xlabel() == label


def test_long_runs_are_shown_in_seconds():
    ax = convergence({"a": result([3, 2, 1], seconds=2.0)}, x="seconds")
    assert (ax.get_xlabel(), named(ax)[0].get_xdata()[-1]) == ("time [s]", 4.0)


def test_diverged_runs_end_where_they_are_finite():
    ax = convergence({"a": result([1, 5, np.inf, np.nan]), "b": result([np.nan, np.nan])})
    assert [text.get_text() for text in ax.texts] == ["a"]
    assert ax.texts[0].xy == (1, 5)
    ax.figure.canvas.draw()


def test_names_at_the_ends_do_not_overlap_and_stay_in_the_figure():
    fig, ax = plt.subplots(figsize=(3.3, 2.4), layout="constrained")  # one column of a journal
    convergence({f"method {k}": result([9, 1 + 1e-3 * k]) for k in range(8)}, ax=ax)
    ax.set_ylim(0.5, 20)  # what is found when drawing follows later limits
    fig.canvas.draw()
    boxes = sorted((Text.get_window_extent(text) for text in ax.texts), key=lambda box: box.y0)  # without the leader
    assert all(below.y1 <= above.y0 + 1 for below, above in itertools.pairwise(boxes))
    assert max(box.x1 for box in boxes) <= fig.bbox.x1
    assert min(box.x0 for box in boxes) >= ax.bbox.x1


def test_all_take_and_return_axes():
    axes = plt.figure().subplots(3)
    assert convergence({"a": result([2, 1])}, ax=axes[0]) is axes[0]
    assert trajectories(bowl, {"a": [[1, 1], [0, 0]]}, ax=axes[1]) is axes[1]
    assert schedules({"a": 0.1}, 10, ax=axes[2]) is axes[2]
    assert len(plt.get_fignums()) == 1


def test_trajectories_show_paths_starts_and_minima():
    paths = {"gd": [[2, 1], [1, 0.5], [0, 0]], "Adam": np.array([[2, 1], [1.5, 0.0]])}
    ax = trajectories(bowl, paths, minimum=(0, 0))
    assert ax.get_legend_handles_labels()[1] == ["gd", "Adam", "start", "minimum"]
    np.testing.assert_array_equal(named(ax)[0].get_xydata(), paths["gd"])
    widths = [line.get_linewidth() for line in named(ax)[:2]]
    assert widths[0] > widths[1]  # the lower stays visible beneath the upper
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert left < 0 < 2 < right
    assert bottom < 0 < 1 < top


def test_trajectories_of_a_flat_function_of_a_single_point():
    ax = trajectories(lambda x: 1.0, {"a": [[1.0, 1.0]]}, minimum=[(0, 1), (2, 1)], domain=(-1, 3, 0, 2))
    assert ax.get_xlim() == (-1, 3)
    assert "minima" in ax.get_legend_handles_labels()[1]
    assert trajectories(bowl, {"a": [[1.0, 1.0]]}).get_xlim()[0] < 1


def test_contours_ignore_values_that_are_not_finite():
    ax = trajectories(lambda x: np.log(x[0]) if x[0] > 0 else np.nan, {"a": [[1, 1], [np.inf, 2], [2, 2]]})
    ax.figure.canvas.draw()


def test_contours_resolve_the_valley():
    """Half of the levels lie below the median of the values."""
    ax = trajectories(bowl, {"a": [[1, 1], [0, 0]]}, domain=(-1, 1, -1, 1))
    levels = ax.collections[0].levels
    across, up = np.meshgrid(np.linspace(-1, 1, 101), np.linspace(-1, 1, 101))
    middle = np.median(across**2 + 10 * up**2)
    assert abs(np.mean(levels < middle) - 0.5) < 0.1


def test_schedules_draw_rates_and_functions():
    ax = schedules({"cosine": no.schedules.Cosine(0.2, 100), "plain": lambda step: 0.1, "number": 0.05}, steps=100)
    cosine, plain, number = named(ax)
    assert cosine.get_ydata()[[0, 50]] == pytest.approx([0.2, 0.1])
    assert set(plain.get_ydata()) == {0.1}
    assert set(number.get_ydata()) == {0.05}
    assert ax.get_ylim()[0] == 0


@pytest.mark.parametrize(("call", "message"), [
    (lambda: convergence({}), "results is empty"),
    (lambda: convergence({"a": result([1])}, x="hour"), "x='hour' must be one of 'step', 'epoch', 'seconds'"),
    (lambda: convergence({"a": result([1])}, y="gap"), "y='gap' must be one of 'fun', 'grad_norm'"),
    (lambda: convergence({"a": result([])}), "the result of 'a' has no history"),
    (lambda: trajectories(bowl, {}), "paths is empty"),
    (lambda: trajectories(bowl, {"a": [1, 2]}), r"the path of 'a' has shape \(2,\)"),
    (lambda: schedules({"a": 0.1}, 0), "steps=0 must be at least 1"),
    (lambda: schedules({}, 5), "rates is empty"),
])  # fmt: skip
def test_misuse(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_public_functions_are_documented():
    for function in (convergence, trajectories, schedules):
        assert "Examples" in function.__doc__
        assert "ax" in plotting.__dict__[function.__name__].__annotations__


def test_trajectories_without_a_function_and_with_looks_of_others():
    path = np.array([[0.0, 0.0], [1.0, 2.0]])
    ax = trajectories(None, {"Adam": path}, looks={"Adam": ("#123456", "--")})
    assert not ax.collections  # no contours
    line = next(line for line in ax.lines if line.get_label() == "Adam")
    assert (line.get_color(), line.get_linestyle()) == ("#123456", "--")


def test_lines_that_leave_the_picture_are_named_where_they_do():
    ax = plt.figure().add_subplot()
    (line,) = ax.plot([0, 1, 2], [1.0, 2.0, 50.0], label="up")
    ax.set_ylim(0, 10)
    plotting.label_ends(ax, [line])
    (end,) = [other for other in ax.lines if other.get_label() == "_end"]
    assert end.get_xydata().tolist() == [[1.0, 2.0]]
