"""Methods for whole objectives on the 35 problems of Moré, Garbow and Hillstrom, beside SciPy's of the same name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import scipy.optimize

import numbaopt as no
from numbaopt.experiments.more_garbow_hillstrom import PROBLEMS, Problem

from .report import OURS, Case, Faster, Table, figure
from .timing import Times, quartiles, race

TOLERANCE = 1e-6  # of the gradient, in the maximum norm
NEAR = 1e-8  # how close the objective is to a minimum, relative; absolute where that is 0
ALONE = "SciPy, no gradient"  # given the same jitted function, as are we
SLOWER, MORE = 20.0, 1.2  # asked: SciPy's time in total, our evaluations in the median


class Pair(NamedTuple):
    """A method of ours, its peer in SciPy, and the peer's options beside the tolerance."""

    ours: str
    scipys: str
    options: dict[str, Any]


PAIRS = (
    Pair("lbfgs", "L-BFGS-B", {"ftol": 0.0, "maxcor": 10, "maxiter": 10_000, "maxfun": 1_000_000}),
    Pair("bfgs", "BFGS", {"maxiter": 10_000}),
    Pair("cg", "CG", {"maxiter": 10_000}),
)


class Answer(NamedTuple):
    """Where a method ended on a problem, judged anew at the point that it returned."""

    flat: bool
    least: bool
    told: bool  # that it has converged
    evaluations: int
    about: str


def judge(problem: Problem, both: Callable[..., Any], result: Any) -> Answer:
    """What a result is worth; ``both`` gives value and gradient."""
    fun, g = both(result.x)
    steepest = float(np.abs(g).max())
    near = [abs(fun - least) <= NEAR * (least or 1.0) for least in problem.minima]
    about = f"{problem.name} (|g| {steepest:.0e}, F {fun:.6g}, status {result.status})"
    return Answer(steepest <= TOLERANCE, any(near), bool(result.success), result.nfev, about)


class Trial(NamedTuple):
    """Both methods on one problem."""

    problem: Problem
    ours: Answer
    scipys: Answer
    times: dict[str, Times]

    @property
    def both_solve(self) -> bool:
        """Whether the gradient vanishes where either ended."""
        return self.ours.flat and self.scipys.flat


def run(quick: bool = False) -> Iterator[Table]:
    """The tables."""
    for pair in PAIRS:
        trials = [compete(problem, pair, 1 if quick else 7) for problem in (PROBLEMS[:3] if quick else PROBLEMS)]
        solved = [trial for trial in trials if trial.both_solve]
        cases = [Case(f"{trial.problem.number} {trial.problem.name}, {trial.ours.evaluations:,} / "
                      f"{trial.scipys.evaluations:,} evaluations", trial.times) for trial in trials]  # fmt: skip
        cases += [Case(name, together(some), (Faster(SLOWER, (ALONE,)), Faster(1.0, (f"SciPy {pair.scipys}",))))
                  for name, some in (("together", trials), ("together, where both solve", solved)) if some]  # fmt: skip
        notes = [told(OURS, [trial.ours for trial in trials]), told("SciPy", [trial.scipys for trial in trials]),
                 compared(solved),
                 f"Solved: |g| at most {TOLERANCE:g} in the maximum norm at the point returned, computed anew. At a "
                 f"known minimum: F within {NEAR:g} of it, relative, or absolute where that is 0."]  # fmt: skip
        yield Table(f"Moré, Garbow and Hillstrom: {pair.ours} beside SciPy's {pair.scipys}", cases, notes)


def compete(problem: Problem, pair: Pair, rounds: int) -> Trial:
    """Both methods on a problem, judged by its compiled value and gradient, and timed."""
    both, x0 = no.value_and_grad(problem.fun), np.array(problem.x0)
    options = {**pair.options, "gtol": TOLERANCE}

    def scipy_run() -> Any:
        with np.errstate(all="ignore"):
            return scipy.optimize.minimize(both, x0, jac=True, method=pair.scipys, options=options)

    def alone() -> Any:
        with np.errstate(all="ignore"):
            return scipy.optimize.minimize(problem.fun, x0, method=pair.scipys, options=options)

    def our_run() -> Any:
        return no.minimize(problem.fun, x0, method=pair.ours, tol=TOLERANCE, options={"maxiter": 10_000})

    ours, scipys = (judge(problem, both, solve()) for solve in (our_run, scipy_run))
    times = race({OURS: our_run, f"SciPy {pair.scipys}": scipy_run, ALONE: alone}, rounds, least=0.002)
    return Trial(problem, ours, scipys, times)


def together(trials: list[Trial]) -> dict[str, Times]:
    """All problems one after the other, round by round."""
    return {name: Times(tuple(map(sum, zip(*(trial.times[name].seconds for trial in trials), strict=True))))
            for name in trials[0].times}  # fmt: skip


def told(name: str, answers: list[Answer]) -> str:
    """How many problems a method solves, and where it fails."""
    flat, least = (sum(getattr(answer, field) for answer in answers) for field in ("flat", "least"))
    text = f"{name}: {flat} of {len(answers)} solved, {least} at a known minimum"
    for what, which in (("not solved", [a for a in answers if not a.flat]),
                        ("said to have converged without", [a for a in answers if a.told and not a.flat]),
                        ("not at a known minimum", [a for a in answers if not a.least])):  # fmt: skip
        if which:
            text += f"; {what}: {', '.join(answer.about for answer in which)}"
    return text + "."


def compared(solved: list[Trial]) -> str:
    """Evaluations where both methods solve."""
    if not solved:
        return "No problem is solved by both."
    more = tuple(trial.ours.evaluations / trial.scipys.evaluations for trial in solved)
    low, high = quartiles(more)
    met = "met" if median(more) <= MORE else "NOT met"
    return (f"Evaluations, ours over SciPy's on the {len(more)} problems that both solve: median {figure(median(more))}"
            f" ({figure(low)}-{figure(high)}), asked at most {figure(MORE)}: {met}.")  # fmt: skip
