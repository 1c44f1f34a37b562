"""How a run goes on from its checkpoint."""

from __future__ import annotations

import os

from . import checkpoint as checkpoints
from ._fields import names_meant, nearest
from .arguments import (
    OPTIONS,
    count,
    device_of,
    further_args,
    most_evaluations,
    refuse_unjudged,
    rows_of_average,
    target_of,
    warn,
)
from .begin import finished, hooked, model_of, problem_of, seconds_of
from .loops.state import traits
from .problems.weight_norm import WeightNorm
from .result import calls_of
from .run import Batches, Limits
from .solvers import solver_of
from .status import AT_TARGET, CONVERGED, RUNNING, STEP_LIMIT, STOPPED


@names_meant
def resume(path, fun, args=(), jac=None, callback=None, options=None):
    """Go on with a run from its checkpoint; the result is bit for bit that of a run never interrupted.

    Parameters
    ----------
    path : path
        A checkpoint written by ``minimize(..., options=dict(checkpoint=path))``.
    fun, args, jac, callback
        As in `numbaopt.minimize`: a checkpoint holds no functions and no data.
    options : dict
        New limits (``maxiter``, ``epochs``, ``f_target``, ``max_evaluations``, ``max_seconds``, ``patience`` and
        ``min_delta``), ``progress``, ``disp``, ``jit``, ``checkpoint`` (by default the file resumed from), ``device``
        (by default the one it ran on; ``"cpu"`` takes a run of a GPU over) and ``validation``, which a checkpoint does
        not hold; all else goes on as it was.

    Returns
    -------
    scipy.optimize.OptimizeResult

    Raises
    ------
    ValueError
        If the file is not a whole checkpoint of this version, or not of this problem.

    Examples
    --------
    >>> import os, tempfile, numba, numpy as np, numbaopt as no
    >>> path = os.path.join(tempfile.mkdtemp(), "run.npz")
    >>> bowl = numba.njit(lambda x: (x**2).sum())
    >>> first = no.minimize(bowl, np.ones(2), method="sgd", options=dict(lr=0.1, maxiter=5, checkpoint=path))
    >>> second = no.resume(path, bowl, options=dict(maxiter=10))
    >>> once = no.minimize(bowl, np.ones(2), method="sgd", options=dict(lr=0.1, maxiter=10))
    >>> second.nit, bool((second.x == once.x).all())
    (10, True)
    """
    run, remember = checkpoints.load(path)
    if "plan" in remember:
        raise ValueError(f"{os.fspath(path)} is the checkpoint of a stream: numbaopt.stream.resume goes on with it")
    options = dict(options or {})
    usable = ("maxiter", "epochs", "f_target", "max_evaluations", "max_seconds", "progress", "disp", "jit",
              "checkpoint", "validation", "patience", "min_delta", "device")  # fmt: skip
    for key in set(options) - set(usable):
        warn(f"resume: unknown option {key!r}; {nearest(key, usable)}")
    problem = problem_of(fun, jac, further_args(args), run.x.size,
                         run.lower.astype(float), run.upper.astype(float), options.get("jit"),
                         run.x.dtype)  # fmt: skip
    problem = WeightNorm(problem) if remember.get("weight_norm") is True else problem
    batches = Batches(*remember["batches"]) if remember["batches"] is not None else None
    found = (problem.n, str(problem.dtype), batches.n if batches else None)
    told = (run.x.size, str(run.x.dtype), getattr(problem, "n_terms", None) if batches else None)
    if found[:2] != told[:2] or found[2] != told[2]:
        raise ValueError(f"{os.fspath(path)} is of another problem: it has {told[0]} unknowns of {told[1]}"
                         + (f" and {batches.n} terms" if batches else "")
                         + f", this one {problem.n} of {problem.dtype}")  # fmt: skip
    if remember["model"] != model_of(problem):
        raise ValueError(f"{os.fspath(path)} is of another problem: {remember['model']}, this one {model_of(problem)}")
    refuse_unjudged({**OPTIONS, **options}, batches)
    limits = Limits(*remember["limits"])
    if options.get("epochs") is not None:
        more = count("epochs", options["epochs"]) * (batches.per_epoch if batches else 1)
        limits = limits._replace(maxiter=int(run.now[0].origin) + more)
    if options.get("maxiter") is not None:
        limits = limits._replace(maxiter=count("maxiter", options["maxiter"]))
    now = run.now[0]
    if options.get("max_seconds") is not None:
        limits = limits._replace(max_seconds=seconds_of(options))
    if options.get("f_target") is not None:
        now.f_target = target_of(options)
    if options.get("max_evaluations") is not None:
        now.max_evaluations = most_evaluations(options, calls_of(problem, batches, now.shown >= 0))
    beyond = now.status == CONVERGED and now.reason == AT_TARGET and now.fun > now.f_target
    if now.status in (STEP_LIMIT, STOPPED) or beyond:
        now.status, now.reason = RUNNING, 0
    opt, after = checkpoints.revive(remember["optimizer"]), checkpoints.revive(remember["after"])
    averages = rows_of_average(batches) if run.now[0].shown >= 0 else 0
    found = len(run.state) - averages, run.extra.size
    if averages and run.now[0].shown != found[0]:
        raise ValueError(f"{os.fspath(path)} is not a usable checkpoint: its average is not where it should be")
    options.setdefault("device", remember.get("device"))
    device = device_of(problem, opt, options)
    needed = solver_of(opt, device).sizes(opt, problem, batches, run.lower.size > 0)
    if found != needed:
        (rows, numbers), (rows_now, numbers_now) = found, needed
        raise ValueError(f"{os.fspath(path)} has {rows} vectors of state and {numbers} numbers, {type(opt).__name__} "
                         f"now has {rows_now} and {numbers_now}")  # fmt: skip
    now = run.now[0]
    whole = solver_of(opt, device).fits(opt, run) and (run.previous.size > 0 or limits.xtol == 0)
    if not whole or (now.l1, now.outputs, now.penalised) != traits(problem):
        raise ValueError(f"{os.fspath(path)} is not a usable checkpoint: its numbers are not those of such a run")
    if bool(now.keeps_best) != (options.get("validation") is None):
        raise ValueError(f"{os.fspath(path)}: the run was {'not ' if now.keeps_best else ''}judged by a validation; "
                         f"resume it {'without' if now.keeps_best else 'with the same'} one")  # fmt: skip
    options = {key: remember.get(key) for key in ("patience", "min_delta") if remember.get(key) is not None} | options
    saved = os.fspath(options.get("checkpoint") or path)
    remember = {**remember, "limits": limits, "after": after, "device": device}
    settings = {**OPTIONS, **options}
    return finished(hooked(problem, opt, run, limits, batches, callback, settings, saved, remember), settings["disp"])
