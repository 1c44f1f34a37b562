"""Time to a relative suboptimality of 1e-3, 1e-6 and 1e-9 of logistic regression and the lasso, against every peer."""

from __future__ import annotations

import importlib.util
import os
import time
import timeit
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import numbaopt as no

from .report import OURS, Case, Faster, Table, optional
from .timing import Times

TARGETS = (1e-3, 1e-6, 1e-9)
TOLERANCES = tuple(10.0**-k for k in range(1, 12))
LIMIT = 20.0  # seconds for a solver, after which its next tolerance is not tried
FAR = 3.0  # times the best peer's time to a target, beyond which a solver is out of the race for it
NOTES = (
    f"{OURS}: minimize(model, method='auto').  Each solver is run with tolerances 0.1, 0.01, ..., 1e-11; the time of",
    "the first one that reaches the target counts (median of rounds).  The optimum is ours at 1e-14.  A solver that",
    f"takes {FAR:g} times as long as the best peer, and is not there yet, is out of the race for a target.",
    "Tables are generated, unless the environment variable NUMBAOPT_DATA names a folder with a load.py that defines",
    "load(name) -> X, y; NUMBAOPT_SETS are the names.",
)


class Problem(NamedTuple):
    """A table and a penalty."""

    name: str
    X: Any
    y: np.ndarray
    loss: str
    l1: float
    l2: float
    intercept: bool


def run(quick: bool = False) -> Iterator[Table]:
    """The tables."""
    sets = tables(quick)
    for title, loss, penalties in (("l2-logistic regression", "logistic", l2_penalties),
                                   ("l1-logistic regression", "logistic", l1_penalties),
                                   ("lasso", "squared", l1_penalties)):  # fmt: skip
        notes: list[str] = []
        cases: list[Case] = []
        for name, (X, y) in sets.items():
            for label, l1, l2, intercept in penalties(X, y, loss):
                problem = Problem(f"{name}, {label}", X, y, loss, l1, l2, intercept)
                cases += times_to_targets(problem, notes, 1 if quick else 3)
        yield Table(f"Time to suboptimality: {title}", cases, [*notes, *NOTES])


def tables(quick: bool) -> dict[str, tuple[Any, np.ndarray]]:
    """Generated tables, or real ones where there are some."""
    folder = os.environ.get("NUMBAOPT_DATA")
    if folder and not quick:
        spec = importlib.util.spec_from_file_location("load", Path(folder) / "load.py")
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        names = os.environ.get("NUMBAOPT_SETS", "a9a,ijcnn1,covtype,mnist,farm_ads").split(",")
        return {name: prepared(name, *module.load(name)) for name in names}
    import scipy.sparse as sp

    rng, made = np.random.default_rng(0), {}
    for name, rows, columns, density in (("tall", 100_000, 30, 1.0), ("wide", 10_000, 500, 1.0),
                                         ("sparse", 20_000, 5_000, 0.005)):  # fmt: skip
        rows = rows // 20 if quick else rows
        X = (rng.standard_normal((rows, columns)) * 10.0 ** -rng.random(columns) if density == 1.0
             else sp.random_array((rows, columns), density=density, format="csr", rng=rng))  # fmt: skip
        z = X @ (rng.standard_normal(columns) * (rng.random(columns) < 0.2))
        made[name] = X, np.where(z + rng.standard_normal(rows) > 0, 1.0, -1.0)
    return made


def prepared(name: str, X: Any, y: Any) -> tuple[Any, np.ndarray]:
    """The usual task of two classes on a real table."""
    if name == "covtype":
        X, y = (X - X.mean(0)) / X.std(0).clip(1e-12), y == 2
    if name == "mnist":
        X, y = X / 255.0, y % 2 == 0
    return X, np.where(np.asarray(y) > 0, 1.0, -1.0)


def l2_penalties(X: Any, y: np.ndarray, loss: str) -> Iterator[tuple[str, float, float, bool]]:
    """Weak and weaker, without and with an intercept."""
    for strength in (1.0, 1e-2):
        for intercept in (False, True):
            about = f"lambda = {strength:g}/n, {'with' if intercept else 'no'} intercept"
            yield about, 0.0, strength / len(y), intercept


def l1_penalties(X: Any, y: np.ndarray, loss: str) -> Iterator[tuple[str, float, float, bool]]:
    """Fractions of the smallest penalty that leaves nothing but zeros."""
    largest = float(np.abs(X.T @ y).max()) / len(y) * (0.5 if loss == "logistic" else 1.0)
    for fraction in (0.1, 0.01):
        yield f"lambda = {fraction:g} lambda_max", fraction * largest, 0.0, False


def times_to_targets(problem: Problem, notes: list[str], rounds: int) -> list[Case]:
    """One case a target."""
    model = no.LinearModel(problem.X, problem.y, problem.loss, problem.l1, problem.l2, problem.intercept)
    solvers = {OURS: ours(model), **peers(problem, notes)}
    best = model.value(solvers[OURS](1e-14))
    reached: dict[str, dict[float, Times]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, solve in solvers.items():
            try:
                reached[name] = climb(lambda x: (model.value(x) - best) / abs(best), solve, rounds, fastest(reached))
            except Exception as error:  # what a peer cannot do is no part of the race
                notes.append(f"{name} on {problem.name}: {type(error).__name__}: {str(error)[:80]}")
    cases = []
    for target in TARGETS:
        times = {name: found[target] for name, found in reached.items() if target in found}
        others = tuple(name for name in times if name != OURS)
        asked = target == 1e-6 and others and OURS in times
        goals = (Faster(2.0 if problem.l1 == 0 else 1.0, others),) if asked else ()
        cases.append(Case(f"{problem.name}: {target:g}", times, goals))
    return cases


def fastest(reached: dict[str, dict[float, Times]]) -> dict[float, float]:
    """The best peer's time to each target so far."""
    times = [found for name, found in reached.items() if name != OURS]
    return {target: min((found[target].median for found in times if target in found), default=np.inf)
            for target in TARGETS}  # fmt: skip


def climb(off: Callable[[np.ndarray], float], solve: Callable[[float], np.ndarray], rounds: int,
          best: dict[float, float]) -> dict[float, Times]:  # fmt: skip
    """Tighten the tolerance until all targets are reached, or time is up; the median time to each target."""
    found: dict[float, Times] = {}
    solve(TOLERANCES[0])  # compiles, wakes threads
    begin = time.perf_counter()
    for tol in TOLERANCES:
        start = time.perf_counter()
        x = solve(tol)
        took, distance = time.perf_counter() - start, off(x)
        fresh = [target for target in TARGETS if target not in found and distance <= target]
        if fresh:
            seconds = (took, *(timeit.timeit(lambda tol=tol: solve(tol), number=1)  # type: ignore[misc]
                               for _ in range(rounds - 1 if took < FAR * best[fresh[-1]] else 0)))  # fmt: skip
            found.update(dict.fromkeys(fresh, Times(seconds)))
        left = [target for target in TARGETS if target not in found]
        if all(took > FAR * best[target] for target in left) or time.perf_counter() - begin > LIMIT:
            break
    return found


def ours(model: Any) -> Callable[[float], np.ndarray]:
    """`numbaopt.minimize`."""
    scale = float(np.abs(model.value_and_grad(np.zeros(model.n))[1]).max())
    return lambda tol: no.minimize(model, method="auto", tol=tol * scale, options={"maxiter": 10_000, "history": 2}).x


def peers(problem: Problem, notes: list[str]) -> dict[str, Callable[[float], np.ndarray]]:
    """What of scikit-learn, snapml, celer and skglm solves the problem."""
    found: dict[str, Callable[[float], np.ndarray]] = {}
    X, y, n = problem.X, problem.y, len(problem.y)
    flat = getattr(X, "toarray", None)
    columns = X.tocsc() if flat is not None else np.asfortranarray(X)
    if optional("sklearn", notes):
        found.update(scikit_learn(problem, columns))
    if problem.loss == "logistic" and problem.l1 == 0 and optional("snapml", notes):
        import snapml

        def snap(tol: float) -> np.ndarray:
            fitted = snapml.LogisticRegression(regularizer=problem.l2 * n, tol=tol, max_iter=100_000, dual=False,
                                               fit_intercept=problem.intercept, n_jobs=2).fit(X, y)  # fmt: skip
            return np.r_[np.ravel(fitted.coef_), np.ravel(fitted.intercept_)[: problem.intercept]]

        found["snapml"] = snap
    if problem.l1 > 0 and optional("celer", notes):
        import celer

        def by_celer(tol: float) -> np.ndarray:
            made = (celer.Lasso(problem.l1, tol=tol, fit_intercept=False, max_iter=500) if problem.loss == "squared"
                    else celer.LogisticRegression(C=1 / (problem.l1 * n), tol=tol, max_iter=500))  # fmt: skip
            return np.ravel(made.fit(columns, y).coef_)

        found["celer"] = by_celer
    if problem.l1 > 0 and optional("skglm", notes):
        import skglm

        def by_skglm(tol: float) -> np.ndarray:
            kind = skglm.Lasso if problem.loss == "squared" else skglm.SparseLogisticRegression
            made = kind(problem.l1, tol=tol, fit_intercept=False, max_iter=500)
            return np.ravel(made.fit(columns, y).coef_)

        found["skglm"] = by_skglm
    return found


def scikit_learn(problem: Problem, columns: Any) -> dict[str, Callable[[float], np.ndarray]]:
    """All of scikit-learn's solvers that can."""
    from sklearn.linear_model import Lasso, LogisticRegression

    X, y, n = problem.X, problem.y, len(problem.y)
    if problem.loss == "squared":
        return {"sklearn Lasso": lambda tol: Lasso(problem.l1, fit_intercept=False, tol=tol, max_iter=100_000)
                .fit(columns, y).coef_}  # fmt: skip

    def solver(name: str) -> Callable[[float], np.ndarray]:
        def solve(tol: float) -> np.ndarray:
            strength = problem.l1 or problem.l2
            fitted = LogisticRegression(C=1 / (strength * n), l1_ratio=float(problem.l1 > 0), solver=name, tol=tol,
                                        max_iter=5_000, fit_intercept=problem.intercept).fit(X, y)  # fmt: skip
            return np.r_[fitted.coef_[0], np.ravel(fitted.intercept_)[: problem.intercept]]

        return solve

    names = ["liblinear", "saga"] if problem.l1 > 0 else ["lbfgs", "newton-cg", "sag", "saga"]
    if problem.l1 == 0 and X.shape[1] <= 2000:
        names.append("newton-cholesky")
    if problem.l1 == 0 and not problem.intercept:
        names.append("liblinear")  # penalises its intercept
    return {f"sklearn {name}": solver(name) for name in names}
