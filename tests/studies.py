"""Studies for tests of reports: the textbook's rules run in NumPy on small problems, stored as a real study is."""

from types import SimpleNamespace

import naive
import numpy as np

from numbaopt.experiments.jobs import Job, Outcome
from numbaopt.experiments.reports.summary import Study
from numbaopt.experiments.rows import Header
from numbaopt.experiments.store import Store

RULES = {"gradient descent": naive.sgd, "momentum": naive.momentum, "Nesterov": naive.nesterov,
         "AdaGrad": naive.adagrad, "RMSprop": naive.rmsprop, "Adam": naive.adam, "AMSGrad": naive.amsgrad,
         "Adamax": naive.adamax, "NAdam": naive.nadam, "Yogi": naive.yogi, "Lion": naive.lion,
         "Adan": naive.adan}  # fmt: skip
RATES = (1e-3, 1e-2, 1e-1, 1.0)
ABOUT = {"numbaopt": "0.1.0", "numpy": "2.4.6", "numba": "0.68.1", "python": "3.11.7", "cpu": "An 8-core CPU",
         "threads": 1, "commit": "0123abc", "started": "2026-11-30T01:00:00+00:00", "load": 0.4,
         "timed": True}  # fmt: skip
SOURCE = 'title = "Synthetic"\n\n[methods]\nAdam = { method = "adam" }\n'


class Quadratic:
    """An ill-conditioned bowl, its gradient seen with noise."""

    optimum, epochs = 0.0, None

    def __init__(self, condition, noise=0.0, n=10):
        self.curvatures, self.noise = np.geomspace(1, condition, n), noise

    def start(self, rng):
        return rng.normal(size=self.curvatures.size)

    def value(self, x):
        return 0.5 * self.curvatures @ x**2

    def gradient(self, x, rng):
        return self.curvatures * x + self.noise * rng.normal(size=x.size)


class Valley:
    """Rosenbrock's function of two unknowns."""

    optimum, epochs = 0.0, None

    def start(self, rng):
        return np.array([-1.5, -0.5]) + 0.1 * rng.normal(size=2)

    def value(self, x):
        return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2

    def gradient(self, x, rng):
        off = x[1] - x[0] ** 2
        return np.array([-400 * x[0] * off - 2 * (1 - x[0]), 200 * off])


class Classes:
    """Logistic regression on random data in batches of a tenth; nobody knows its optimum."""

    optimum, epochs = None, 10

    def __init__(self, seed, rows=200, n=8):
        rng = np.random.default_rng(seed)
        self.X = rng.normal(size=(rows, n)) * np.geomspace(0.1, 3, n)
        self.y = np.where(self.X @ rng.normal(size=n) + rng.normal(size=rows) > 0, 1.0, -1.0)

    def start(self, rng):
        return np.zeros(self.X.shape[1])

    def value(self, x):
        return np.logaddexp(0, -self.y * (self.X @ x)).mean() + 5e-4 * x @ x

    def gradient(self, x, rng):
        rows = rng.integers(len(self.y), size=len(self.y) // self.epochs)
        margin = self.y[rows] * (self.X[rows] @ x)
        return -(self.y[rows] / (1 + np.exp(np.minimum(margin, 700)))) @ self.X[rows] / rows.size + 1e-3 * x


PROBLEMS = {"bowl": Quadratic(30), "noisy bowl": Quadratic(30, 0.3), "valley": Valley(), "classes": Classes(0),
            "narrow bowl": Quadratic(1000), "more classes": Classes(1), "noisy narrow bowl": Quadratic(300, 1.0),
            "wide bowl": Quadratic(3), "third classes": Classes(2)}  # fmt: skip


def build(spec):
    """What `numbaopt.experiments.build.build` does with real specs."""
    task = PROBLEMS[spec["problem"]]
    at = np.ones(2) if isinstance(task, Valley) else np.zeros(10)
    known = task.optimum is not None
    return SimpleNamespace(task=SimpleNamespace(
        about=f"the problem {spec['problem']!r}", value=task.value, minima=at[None] if known else np.empty((0, 2)),
        domain=(-1.9, 1.6, -0.8, 2.2) if at.size == 2 else None,
        reference=("minimum", at) if known else ("start", np.zeros(8)),
    ))  # fmt: skip


def job(problem, method, lr, seed):
    """One run of the textbook."""
    settings = {} if lr is None else {"lr": lr}
    return Job(problem, method, settings, seed, {"problem": problem, "method": method, "lr": lr})


def outcome(problem, method, lr, seed, steps):
    """What comes of it; every run of Lion on seed 3 fails, as code of a user's may."""
    task, rule = PROBLEMS[problem], RULES[method]
    if (method, seed) == ("Lion", 3):
        return Outcome("failed", error='Traceback (most recent call last):\n  File "mine.py", line 3, in fun\n'
                       "ValueError: <b>no</b> such row", about=ABOUT)  # fmt: skip
    start, rng = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    x, state = task.start(start), {}
    path, every = [x], task.epochs or 1
    with np.errstate(all="ignore"):
        for t in range(1, steps + 1):
            x = rule(x, task.gradient(x, rng), state, t, 0.01 if lr is None else lr)
            if t % every == 0:
                path.append(x)
            if not np.isfinite(x).all():
                break
        values = np.array([task.value(point) for point in path])
    diverged = not np.isfinite(x).all() or not np.isfinite(values[-1])
    step = every * np.arange(len(path), dtype=float)
    epoch = step / task.epochs if task.epochs else np.full(len(path), np.nan)
    seconds = (2e-7 * len(x) + 1e-6) * step * (1 + 0.2 * rng.random())
    curve = {"step": step, "epoch": epoch, "nfev": step + 1, "seconds": seconds, "fun": values,
             "grad_norm": np.abs(values), "lr": np.full(len(path), lr or 0.01)}  # fmt: skip
    if x.size == 2:
        curve |= {"x1": np.array(path)[:, 0], "x2": np.array(path)[:, 1]}
    code, message = (2, "Diverged: the objective or its gradient is not finite. A smaller lr may help.") if diverged \
        else (1, "The limit on steps was reached before the tolerance.")  # fmt: skip
    finite = values[np.isfinite(values)]
    return Outcome("done", float(finite.min()), x, code, message, int(step[-1]), int(step[-1]) + 1, float(epoch[-1]),
                   float(seconds[-1]), {}, curve, {**ABOUT, "timed": seed != 1})  # fmt: skip


def study(folder, problems=("bowl", "valley", "classes"), methods=("gradient descent", "momentum", "Adam"),
          rates=RATES, seeds=range(3), steps=60, parts=1.0, title="Synthetic", source=SOURCE):  # fmt: skip
    """Store a study, of whose runs the first ``parts`` are there."""
    header = Header(title, "synthetic.toml", source, tuple(problems), tuple(methods))
    all_of_it = [(problem, method, lr, seed) for problem in problems for method in methods for lr in rates
                 for seed in seeds]  # fmt: skip
    with Store.create(folder, header, [job(*what) for what in all_of_it]) as store:
        store.connection.execute("PRAGMA synchronous = OFF")
        for what in all_of_it[: round(parts * len(all_of_it))]:
            store.record(job(*what).id, outcome(*what, steps))
    return folder


def stored(folder, runs, title="Small", problems=("p",), methods=("A", "B"), source="text"):
    """A store of runs given as (problem, method, settings, seed, outcome or None)."""
    jobs = [Job(*run[:4], {"at": k}) for k, run in enumerate(runs)]
    with Store.create(folder, Header(title, "small.toml", source, problems, methods), jobs) as store:
        for job, run in zip(jobs, runs, strict=True):
            if run[-1] is not None:
                store.record(job.id, run[-1])
    return folder


def run(values, code=1, epochs=None, seconds=None, **fields):
    """An outcome with this curve."""
    values = np.asarray(values, float)
    steps = np.arange(values.size, dtype=float)
    curve = {"step": steps, "nfev": steps + 1, "fun": values, "seconds": steps / 8 if seconds is None else seconds,
             "epoch": np.full(values.size, np.nan) if epochs is None else np.asarray(epochs, float)}  # fmt: skip
    finite = values[np.isfinite(values)]
    return Outcome("done", float(finite.min()), code=code, nit=values.size - 1, nfev=values.size, curve=curve,
                   epochs=float(curve["epoch"][-1]), seconds=float(curve["seconds"][-1]), **fields)  # fmt: skip


FAILED = Outcome("failed", error="Traceback\nValueError: <no>")


def read(folder, build=build):
    """What a report reads of a store."""
    with Store.open(folder) as store:
        return Study(store, build)
