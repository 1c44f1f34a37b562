"""How a run begins: the driver of a problem, a method and options."""

from __future__ import annotations

import functools
import math
import os

from . import checkpoint as checkpoints
from .arguments import (
    HISTORY_ROWS,
    after_of,
    average_of,
    batches_of,
    count,
    device_of,
    most_evaluations,
    nonnegative,
    refuse_for_solvers,
    refuse_for_weight_norm,
    refuse_unjudged,
    rows_of_average,
    score_of,
    settings_of,
    target_of,
)
from .loops.state import Run, know, make_feasible, new_run, take_over
from .optimizers._rule import OPTIMIZERS
from .optimizers.combined import in_steps
from .optimizers.step import as_optimizer
from .problems.function import Function
from .problems.weight_norm import WeightNorm
from .result import calls_of, display, hook_of, solved
from .run import Driver, Hooks, Limits
from .solvers import SOLVERS, solver_of


def driver_of(problem, x0, opt, lower, upper, tol, callback, options, solver=None):
    """The driver of a run that has not begun; with a ``solver`` of its own, if one is given."""
    settings = settings_of(opt, tol, options, x0.size)
    batches, maxiter = batches_of(problem, settings, options, getattr(opt, "incremental", False))
    if hasattr(problem, "n_terms"):
        opt = in_steps(opt, 1 if batches is None else batches.per_epoch)
    gtol = settings["gtol"]
    gtol = (1e-5 if batches is None or hasattr(opt, "solver") else 0.0) if gtol is None else gtol
    device = device_of(problem, opt, settings)
    if hasattr(opt, "check"):
        opt.check(opt, problem, batches, lower.size > 0)
    if hasattr(opt, "solver"):
        refuse_for_solvers(opt, settings)
    refuse_unjudged(settings, batches)
    if hasattr(opt, "ready"):
        opt = opt.ready(opt, problem)
    if settings["weight_norm"]:
        refuse_for_weight_norm(settings, lower.size > 0)
        problem = WeightNorm(problem)
        x0 = problem.start(x0)
    limits = Limits(maxiter, nonnegative("gtol", gtol), *(nonnegative(key, settings[key]) for key in ("ftol", "xtol")),
                    seconds_of(settings))  # fmt: skip
    rows = HISTORY_ROWS if settings["history"] in (True, False) else count("history", settings["history"], 2)
    if lower.size:
        x0 = x0.clip(lower, upper)
    former = settings["run"]
    if former is not None and not isinstance(former, Run):
        raise TypeError(f"run must be the attribute 'run' of a former result, not {type(former).__name__}")
    first = 0 if former is None else int(former.now[0].step)
    limits = limits._replace(maxiter=first + limits.maxiter)
    after, average = after_of(problem, opt), average_of(settings, batches, first)
    slots, extra = solver_of(opt, device).sizes(opt, problem, batches, lower.size > 0)
    rule_slots = slots
    slots += 0 if average is None else rows_of_average(batches)
    run = new_run(x0.astype(problem.dtype, copy=False), slots, lower.astype(problem.dtype),
                  upper.astype(problem.dtype), rows, limits.xtol > 0, extra)  # fmt: skip
    now = run.now[0]
    if average is not None:
        now.shown, (now.average_from, now.average_decay) = rule_slots, average
        run.state[now.shown] = run.x
    if former is not None:
        take_over(run, former)
    know(run, problem)
    now.max_norm = 0.0 if settings["max_norm"] is None else nonnegative("max_norm", settings["max_norm"])
    now.keeps_best = settings["validation"] is None
    now.calm_steps = getattr(opt, "calm_steps", now.calm_steps)
    now.f_target = target_of(settings)
    now.max_evaluations = most_evaluations(settings, calls_of(problem, batches, average is not None))
    make_feasible(run)
    saved = None if settings["checkpoint"] is None else os.fspath(settings["checkpoint"])
    remember = {"limits": limits, "batches": batches, "n_unknowns": run.x.size, "after": after,
                "patience": settings["patience"], "min_delta": settings["min_delta"],
                "weight_norm": bool(settings["weight_norm"]), "device": device}  # fmt: skip
    if saved:
        remember |= {"optimizer": checkpoints.describe(opt), "model": model_of(problem)}
    return hooked(problem, opt, run, limits, batches, callback, settings, saved, remember, solver)


def named(method):
    """The rule or method of a name; any other as it is."""
    cls = (SOLVERS.get(method) or OPTIMIZERS.get(method)) if isinstance(method, str) else None
    return as_optimizer(method) if cls is None else _default(cls)


@functools.lru_cache(maxsize=256)
def _default(cls):
    return cls()


def problem_of(fun, jac, args, n, lower, upper, jit, dtype=None):
    """What a run with ``n`` unknowns works on; a function in ``dtype`` if that is possible."""
    if hasattr(fun, "bind"):
        return fun.bind(n, lower, upper, jit)
    return fun if hasattr(fun, "pack") else Function(fun, jac, args, n, lower, upper, jit, dtype)


def seconds_of(settings):
    """The most seconds of a run's steps."""
    return math.inf if settings["max_seconds"] is None else nonnegative("max_seconds", settings["max_seconds"])


def hooked(problem, opt, run, limits, batches, callback, settings, saved, remember, solver=None):
    """The driver of a run that stands anywhere, with what the settings want done between its slices."""
    patience = None if settings["patience"] is None else count("patience", settings["patience"], 1)
    score = score_of(settings["validation"], getattr(problem, "model", problem).n)
    hooks = Hooks(hook_of(callback), bool(settings["progress"]), saved, score, patience,
                  nonnegative("min_delta", settings["min_delta"]),
                  count("callback.every", getattr(callback, "every", 1), 1))  # fmt: skip
    return Driver(problem, opt, run, limits, batches, hooks, remember, solver)


def finished(driver, disp):
    """The result of a run that is let go on to its end."""
    result = solved(driver, checkpoint=driver.hooks.checkpoint)
    if disp:
        display(result)
    return result


def model_of(problem):
    """What a checkpoint tells of a model: its repr and a hash of its data; of a function, nothing can be known."""
    return f"{problem!r} of data {problem.digest()}" if hasattr(problem, "digest") else None
