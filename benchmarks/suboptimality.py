"""Time to a relative suboptimality of logistic regression, also of many classes, and the lasso, against every peer."""

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
MANY_TARGETS = (1e-4,)  # of several classes
TOLERANCES = tuple(10.0**-k for k in range(1, 12))
LIMIT, MANY_LIMIT = 20.0, 120.0  # seconds for a solver, after which its next tolerance is not tried
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
    notes = []
    cases = [many_classes(quick, notes)]
    yield Table("Time to suboptimality: multinomial logistic regression", cases, [*notes, *NOTES])


def many_classes(quick: bool, notes: list[str]) -> Case:
    """Images of ten digits, or ten generated classes; lambda = 1/n, with intercepts."""
    module = None if quick else real_data()
    if module is not None:
        X, y = module.load("mnist")
        X, y = X / 255.0, y.astype(int)
    else:
        rng = np.random.default_rng(0)
        X = rng.standard_normal((1_000 if quick else 20_000, 20 if quick else 200))
        y = np.argmax(X @ rng.standard_normal((X.shape[1], 10)) + rng.gumbel(size=(len(X), 10)), axis=1)
    model = no.LinearModel(X, y, "multinomial", l2=1 / len(y))
    solvers = {OURS: ours(model), **many_classes_peers(X, y, notes)}
    best, times = model.value(solvers[OURS](1e-9)), dict[str, Times]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, solve in solvers.items():
            found = climb(lambda x: (model.value(x) - best) / best, solve, 1 if quick or name != OURS else 3,
                          dict.fromkeys(MANY_TARGETS, np.inf), MANY_LIMIT)  # fmt: skip
            if found:
                times[name] = found[MANY_TARGETS[0]]
    others = tuple(name for name in times if name != OURS)
    return Case(f"{'mnist' if module is not None else 'generated'}, lambda = 1/n: {MANY_TARGETS[0]:g}", times,
                (Faster(2.0, others),) if others and OURS in times else ())  # fmt: skip


def many_classes_peers(X: np.ndarray, y: np.ndarray, notes: list[str]) -> dict[str, Callable[[float], np.ndarray]]:
    """L-BFGS of scikit-learn and of torch."""
    found: dict[str, Callable[[float], np.ndarray]] = {}
    if optional("sklearn", notes):
        from sklearn.linear_model import LogisticRegression

        def scikit(tol: float) -> np.ndarray:
            fitted = LogisticRegression(tol=tol, max_iter=5_000).fit(X, y)
            return np.r_[fitted.coef_.ravel(), fitted.intercept_]

        found["sklearn lbfgs"] = scikit
    if optional("torch", notes):
        import torch

        rows, labels = torch.from_numpy(X), torch.from_numpy(y)

        def by_torch(tol: float) -> np.ndarray:
            w = torch.zeros(10, X.shape[1], dtype=rows.dtype, requires_grad=True)
            b = torch.zeros(10, dtype=rows.dtype, requires_grad=True)
            steps = torch.optim.LBFGS([w, b], max_iter=5_000, history_size=10, line_search_fn="strong_wolfe",
                                      tolerance_grad=tol, tolerance_change=0)  # fmt: skip

            def objective() -> Any:
                steps.zero_grad()
                fun = torch.nn.functional.cross_entropy(torch.addmm(b, rows, w.T), labels)
                fun = fun + 0.5 / len(y) * (w * w).sum()
                fun.backward()
                return fun

            steps.step(objective)
            return np.r_[w.detach().numpy().ravel(), b.detach().numpy()]

        found["torch L-BFGS"] = by_torch
    return found


def real_data() -> Any:
    """The module that loads real tables, where the environment names one."""
    folder = os.environ.get("NUMBAOPT_DATA")
    if not folder:
        return None
    spec = importlib.util.spec_from_file_location("load", Path(folder) / "load.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tables(quick: bool) -> dict[str, tuple[Any, np.ndarray]]:
    """Generated tables, or real ones where there are some."""
    module = None if quick else real_data()
    if module is not None:
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
          best: dict[float, float], limit: float = LIMIT) -> dict[float, Times]:  # fmt: skip
    """Tighten the tolerance until the targets, which ``best`` names, are reached, or time is up; median times."""
    found: dict[float, Times] = {}
    solve(TOLERANCES[0])  # compiles, wakes threads
    begin = time.perf_counter()
    for tol in TOLERANCES:
        start = time.perf_counter()
        x = solve(tol)
        took, distance = time.perf_counter() - start, off(x)
        fresh = [target for target in best if target not in found and distance <= target]
        if fresh:
            seconds = (took, *(timeit.timeit(lambda tol=tol: solve(tol), number=1)  # type: ignore[misc]
                               for _ in range(rounds - 1 if took < FAR * best[fresh[-1]] else 0)))  # fmt: skip
            found.update(dict.fromkeys(fresh, Times(seconds)))
        left = [target for target in best if target not in found]
        if all(took > FAR * best[target] for target in left) or time.perf_counter() - begin > limit:
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
