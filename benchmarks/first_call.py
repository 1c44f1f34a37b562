"""What a fresh process pays: the import, and the first ``minimize`` of an objective never seen before."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .report import OURS, Below, Case, Table, optional
from .timing import Times

ALONE, SKLEARN = "numba alone", "scikit-learn"
# A program writes the seconds that the lines between the two readings of the clock took.
FRAME = """
import time
{before}
begin = time.perf_counter()
{timed}
print(time.perf_counter() - begin)
"""
# Objectives and gradients; {number} is another one in every process.
SCALAR = """
import numba, numpy as np
@numba.njit
def fun(x):
    return {number} * (x[1] - x[0] ** 2) ** 2 + (1.0 - x[0]) ** 2
@numba.njit
def grad(x):
    slope = 2.0 * {number} * (x[1] - x[0] ** 2)
    return -2.0 * x[0] * slope - 2.0 * (1.0 - x[0]), slope
x0 = np.zeros(2)
"""
VECTOR = """
import numba, numpy as np
@numba.njit
def fun(x):
    return ((x - {number}) ** 2).sum()
@numba.njit
def grad(x):
    return 2.0 * (x - {number})
x0 = np.zeros(2)
"""
MINIMIZE = "no.minimize(fun, x0, method='adam'{jac})"
# Import and first fit of an estimator; beside scikit-learn's own, whose start ours includes.
TABLE = """
import numpy as np
X = np.random.default_rng(0).standard_normal((1000, 20))
y = X[:, 0] + {number} * X[:, 1] > 0
"""
FIT = """
from {package}.linear_model import {name}
{name}({options}).fit(X, y)
"""
ESTIMATORS = (("LogisticRegression", "", ""), ("SGDClassifier", "loss='logistic'", "loss='log_loss'"))


def run(quick: bool = False) -> Iterator[Table]:
    """The tables."""
    notes: list[str] = []
    processes = 2 if quick else 11
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        numba, package = bench.race(processes, [("", "import numba"), ("", "import numbaopt")])
        more = Times(tuple(ours - theirs for ours, theirs in zip(package.seconds, numba.seconds, strict=True)))
        rows = [Case("import numbaopt, less import numba", {OURS: more, ALONE: numba}, (Below(0.15),))]
        for kind, objective in (("scalar code", SCALAR), ("array code", VECTOR)):
            ours = "import numbaopt as no\n" + objective
            for what, jac, calls in (("jac=grad", ", jac=grad", "fun(x0); grad(x0)"), ("no jac", "", "fun(x0)")):
                timed = MINIMIZE.format(jac=jac)
                bench.race(1, [(ours, timed)])  # fills the cache
                times = bench.race(processes, [(ours, timed), (objective, calls)])
                name = f"first call, warm cache, {kind}, {what}"
                rows.append(Case(name, dict(zip((OURS, ALONE), times, strict=True)), (Below(0.5),)))
        if optional("sklearn", notes):
            for name, ours, theirs in ESTIMATORS:
                pair = [(TABLE, FIT.format(package=package, name=name, options=options))
                        for package, options in (("numbaopt", ours), ("sklearn", theirs))]  # fmt: skip
                bench.race(1, pair)
                times = dict(zip((OURS, SKLEARN), bench.race(processes, pair), strict=True))
                goal = Below(times[SKLEARN].median + 1.0)
                rows.append(Case(f"import and first fit, warm cache, {name}", times, (goal,)))
        programs = [("import numbaopt as no\n" + SCALAR, MINIMIZE.format(jac=", jac=grad"))]
        cold = bench.race(2 if quick else 5, programs, cold=True)
        rows.append(Case("first call ever of one method, cold cache", {OURS: cold[0]}, (Below(4.0),)))
    about = (f"Each time is that of a fresh process with an objective of its own; '{ALONE}' compiles and calls the "
             "same objective (and gradient) without numbaopt, or imports numba.")  # fmt: skip
    yield Table("A fresh process", rows, [*notes, about])


class Bench:
    """Runs small programs in processes of their own, with one compile cache for all in ``folder``."""

    def __init__(self, folder: Path):
        self.folder, self.count = folder, 0

    def race(self, rounds: int, programs: list[tuple[str, str]], cold: bool = False) -> list[Times]:
        """Run pairs (what comes before, what is timed) in turn; ``cold``: each with an empty cache."""
        taken: list[list[float]] = [[] for _ in programs]
        for _ in range(rounds):
            for seconds, (before, timed) in zip(taken, programs, strict=True):
                seconds.append(self._seconds(before, timed, cold))
        return [Times(tuple(seconds)) for seconds in taken]

    def _seconds(self, before: str, timed: str, cold: bool) -> float:
        self.count += 1
        program = self.folder / f"program_{self.count}.py"
        program.write_text(FRAME.format(before=before.format(number=1.0 + random.random()), timed=timed))
        cache = self.folder / (f"cache_{self.count}" if cold else "cache")
        path = os.pathsep.join(entry for entry in sys.path if entry)
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": path}
        done = subprocess.run([sys.executable, str(program)], env=environment, check=True, stdout=subprocess.PIPE)
        return float(done.stdout)
