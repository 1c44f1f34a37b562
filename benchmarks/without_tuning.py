"""First-order rules with their defaults only, on the 35 problems, beside optax's constant rates."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

import numbaopt as no
from numbaopt.experiments.more_garbow_hillstrom import PROBLEMS, Problem

from .report import OURS, Case, Table, optional
from .timing import Times

EVALUATIONS = 100_000  # of the gradient, range tests included
NEAR = 1e-3
USUAL = 1e-3  # optax asks for a rate; this is the default of Adam in torch and Keras
RATES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
ASKED = 0.8  # of the problems, for Adam


class Rule(NamedTuple):
    """A rule by its name, and what computes optax's numbers."""

    name: str
    optax: Any  # a rate -> our rule with optax's arithmetic
    peer: Any  # (optax, rate) -> optax's own


RULES = (
    Rule("adam", lambda lr: no.Adam(lr), lambda o, lr: o.adam(lr)),
    Rule("rmsprop", lambda lr: no.RMSprop(lr, alpha=0.9, eps_in_sqrt=True, lr_inside_momentum=True),
         lambda o, lr: o.rmsprop(lr)),
    Rule("nesterov", lambda lr: no.Nesterov(lr), lambda o, lr: o.sgd(lr, momentum=0.9, nesterov=True)),
    Rule("adagrad", lambda lr: no.AdaGrad(lr, initial_accumulator=0.1, eps=1e-7, eps_in_sqrt=True),
         lambda o, lr: o.adagrad(lr)),
    Rule("gd", lambda lr: no.SGD(lr), lambda o, lr: o.sgd(lr)),
)  # fmt: skip


class Score(NamedTuple):
    """Whether a point is near a listed minimum: by the part of the way from the start, and by itself."""

    way: bool
    itself: bool


def judge(problem: Problem, fun: float) -> Score:
    """What the best objective of a run is worth.

    ``way``: f - f* is at most a thousandth of f(x0) - f*.  ``itself``: at most a thousandth of f*, or of the smaller of
    1 and f(x0) where f* is 0.
    """
    start = float(problem.fun(np.array(problem.x0)))
    gaps = [(abs(fun - least), least) for least in problem.minima]
    return Score(any(gap <= NEAR * (start - least) for gap, least in gaps),
                 any(gap <= NEAR * (least or min(1.0, start)) for gap, least in gaps))  # fmt: skip


def alone(problem: Problem, name: str, **told: float) -> float:
    """The best objective of a rule by its name, nothing told but the limit on steps, or gtol = 0."""
    steps = EVALUATIONS
    while True:  # restarts evaluate without a step
        res = no.minimize(problem.fun, problem.x0, method=name, options={"maxiter": steps, **told})
        if res.nfev <= EVALUATIONS:
            return float(res.fun)
        steps -= res.nfev - EVALUATIONS


def constant(problem: Problem, opt: Any) -> float:
    """The best objective at a constant rate."""
    res = no.minimize(problem.fun, problem.x0, method=opt, options={"maxiter": EVALUATIONS - 1, "gtol": 0.0})
    return float(res.fun)


def run(quick: bool = False) -> Iterator[Table]:
    """The tables."""
    problems = PROBLEMS[:4] if quick else PROBLEMS
    for rule in RULES[:1] if quick else RULES:
        for problem in problems:
            no.minimize(problem.fun, problem.x0, method=rule.name, options={"maxiter": 1})  # compiles
        begin = time.perf_counter()
        ours = [judge(problem, alone(problem, rule.name)) for problem in problems]
        took = time.perf_counter() - begin
        untiring = [judge(problem, alone(problem, rule.name, gtol=0.0)) for problem in problems]
        begin = time.perf_counter()
        theirs = {rate: [judge(problem, constant(problem, rule.optax(rate))) for problem in problems]
                  for rate in RATES}  # fmt: skip
        seconds = (time.perf_counter() - begin) / len(RATES)
        cases = [Case("all problems, once", {OURS: Times((took,)), "one constant rate": Times((seconds,))})]
        notes: list[str] = []
        for field, what in zip(Score._fields, ("of the way from the start", "of the minimum itself"), strict=True):
            found, longer = ([getattr(score, field) for score in scores] for scores in (ours, untiring))
            each = {rate: [getattr(score, field) for score in scores] for rate, scores in theirs.items()}
            best = max(each, key=lambda rate: sum(each[rate]))
            some = sum(map(any, zip(*each.values(), strict=True)))
            missed = ", ".join(p.name for p, near in zip(problems, found, strict=True) if not near)
            met = ""
            if rule.name == "adam":
                met = f" (asked {ASKED:.0%}: {'met' if sum(found) >= ASKED * len(problems) else 'NOT met'})"
            notes.append(f"Within {NEAR:g} {what}: {sum(found)} of {len(problems)}{met}, with gtol=0 "
                         f"{sum(longer)}; optax's rule at {USUAL:g} {sum(each[USUAL])}, at {best:g}, the best for all, "
                         f"{sum(each[best])}; at the best of {len(RATES)} rates for each problem {some}. Missed: "
                         f"{missed or 'none'}.")  # fmt: skip
        notes.append(f"Listed local minima count. {EVALUATIONS:,} evaluations of the gradient at most; constant rates "
                     "are not stopped before, and their best point counts, too.")  # fmt: skip
        notes += checked(rule)
        yield Table(f"Without tuning: {rule.name}", cases, notes)


def checked(rule: Rule) -> list[str]:
    """Whether our rule really computes optax's numbers: 200 steps on Rosenbrock's function."""
    notes: list[str] = []
    optax, jax = optional("optax", notes), optional("jax", notes)
    if optax is None or jax is None:
        return notes
    jax.config.update("jax_enable_x64", True)
    slope, x, opt = no.grad(PROBLEMS[0].fun), np.array(PROBLEMS[0].x0), rule.optax(1e-3)
    state, peer = no.init_state(opt, x), rule.peer(optax, 1e-3)
    y = jax.numpy.asarray(x)
    inside, update = peer.init(y), jax.jit(peer.update)
    for t in range(1, 201):
        no.step(opt, x, slope(x), state, t)
        moves, inside = update(jax.numpy.asarray(slope(np.asarray(y))), inside, y)
        y = optax.apply_updates(y, moves)
    return ["Constant rates are run by our rule with optax's arithmetic; after 200 steps on Rosenbrock's function it "
            f"is {np.abs(x - np.asarray(y)).max():.0e} from optax's own."]  # fmt: skip
