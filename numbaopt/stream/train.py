"""Training from a stream of chunks: the verb, and its continuation from a checkpoint."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from .. import checkpoint
from .._fields import names_meant, nearest
from ..arguments import (
    after_of,
    average_of,
    count,
    limits_of,
    nonnegative,
    refuse_for_weight_norm,
    score_of,
    split_options,
    start_of,
    warn,
)
from ..loops.state import make_feasible, new_run
from ..losses import as_loss
from ..optimizers.combined import in_steps
from ..optimizers.step import as_optimizer
from ..result import hook_of, optimize_result
from ..run import Batches, Limits
from ..schedules import plateau_of
from ..solvers import solver_of
from ..status import CONVERGED, NOT_FINITE, RUNNING, STEP_LIMIT, STOPPED
from ._models import Models
from ._source import Source
from ._trainer import Place, Plan, Trainer
from .sources import open_source

HISTORIES = {True: "progressive", "progressive": "progressive", "whole": "whole", False: "", None: ""}
OPTIONS: dict[str, Any] = {
    "batch_size": 256, "epochs": 10, "shuffle": True, "seed": 0, "history": True, "progress": False, "checkpoint": None,
    "average": None, "average_from": 0, "ema_decay": 0.999, "max_norm": None, "validation": None, "patience": None,
    "min_delta": 0.0, "lazy_update": False, "weight_norm": False,
}  # fmt: skip
EPOCH = np.dtype([("epoch", "i8"), ("step", "i8"), ("fun", "f8"), ("lr", "f8"), ("seconds", "f8"), ("score", "f8")])


@names_meant
def minimize(source: Any, x0: Any = None, method: Any = "adam", loss: Any = "squared", l1: float = 0.0, l2: float = 0.0,
             fit_intercept: bool = True, classes: Any = None, bounds: Any = None, callback: Any = None,
             options: dict[str, Any] | None = None) -> Any:  # fmt: skip
    r"""Train a linear model on a table that is read chunk by chunk.

    The objective is that of `numbaopt.LinearModel` over the rows of all chunks,

    .. math:: \frac1n \sum_i \ell(x_i^\top \beta + b,\; y_i) + \frac{\lambda_2}{2} \|\beta\|^2 + \lambda_1 \|\beta\|_1 .

    A batch is a part of one chunk: where ``batch_size`` does not divide the rows of a chunk, its last batch is smaller.
    At any time two chunks are in memory: one is trained on while a thread reads the next.

    Parameters
    ----------
    source : Source, or what `numbaopt.stream.open` takes
        Where the chunks come from.
    x0 : array of shape (n,)
        Where to start: the coefficients, then the intercept; None means zeros.
    method : str or optimizer
        A first-order method by name or instance.
    loss, l1, l2, fit_intercept
        As in `numbaopt.LinearModel`.
    classes : array, optional
        All labels that occur, for losses that take classes.  By default the source is asked, which for most sources
        means reading all labels once.  A chunk need not hold all of them.
    bounds : sequence of (low, high) or scipy.optimize.Bounds
        Unknowns are projected onto them after every step.
    callback : callable
        After every epoch; as in `numbaopt.minimize`.
    options : dict
        Every field of the optimizer (``lr`` a number or a schedule; its steps are batches), and

        batch_size, epochs : int
            Rows a step (256), and passes over the data (10).
        shuffle, seed : bool, int
            Whether every epoch takes the chunks, and the rows within each, in a new random order: a function of (seed,
            epoch, chunk), so it is the same on every machine.
        history : {"progressive", "whole", False}
            What is noted after each epoch.  "progressive" (or True): the mean of the chunks' objectives, weighted by
            their rows, each taken *before* the epoch trained on that chunk; in the first epoch that is a test on data
            not seen yet [1]_.  "whole": the objective of all rows at the point where the epoch ended, for which
            everything is read once more.  False: nothing, which spares that work.
        average, average_from, ema_decay, max_norm, lazy_update
            As in `numbaopt.minimize`.
        weight_norm : bool
            As in `numbaopt.minimize`; the rows of the first chunk tell the direction in which coefficients that are all
            zero begin.
        validation : model or callable
            Judges the start and every epoch: a `LinearModel` of held-out data by its objective, a function of x by its
            score, the higher the better.  The best x by it is returned, and ``history.score`` tells of it.
        patience, min_delta : int, float
            Epochs after which the run ends as converged if the score, or without a validation ``history.fun``, has not
            become better by more than ``min_delta`` (0).
        progress : bool
            A progress bar (tqdm).
        checkpoint : path
            Where the run is saved every 30 seconds and when it ends or is interrupted; see `numbaopt.stream.resume`.

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``x`` (the last point, with a validation the best one; after divergence the last finite one before a chunk),
        ``fun`` (the last one of the history), ``nit``, ``status`` (0 patience is over, 1 all epochs done, 2 not finite,
        3 the same, but the start was never surpassed, 99 stopped), ``success``, ``message``, ``lr``,
        ``classes``, ``coef`` and ``intercept`` (the parts of x), ``run`` (for the option of that name of
        `numbaopt.minimize`), and ``history``: a record array, one row an epoch, with the fields epoch, step, fun, lr,
        seconds, score.

    Raises
    ------
    ValueError, TypeError
        If an argument is not usable; if data are, the sentence names the chunk.  Whatever a source raises comes out.
    KeyboardInterrupt
        On Ctrl-C; its attribute ``result`` is the result so far.

    References
    ----------
    .. [1] Blum, A., Kalai, A., Langford, J. (1999). Beating the hold-out: bounds for k-fold and progressive
       cross-validation. doi:10.1145/307400.307439

    Examples
    --------
    >>> import numpy as np, numbaopt as no
    >>> X = np.linspace(-1, 1, 1000)[:, None]
    >>> source = no.stream.open(X, 3 * X[:, 0] + 1, chunk_rows=300)
    >>> res = no.stream.minimize(source, method="adam", options=dict(lr=0.1, batch_size=20, epochs=20))
    >>> res.coef.round(3), float(res.intercept.round(3)), res.history.epoch.size
    (array([3.]), 1.0, 20)
    """
    source = open_source(source)
    options = dict(options or {})
    opt = as_optimizer(method) if not hasattr(method, "solver") else None
    if opt is None:
        raise ValueError(
            f"method={method!r} needs all rows at every step; a stream takes first-order rules like 'adam'"
        )
    parts = getattr(opt, "parts", (opt,))
    for key in [key for key in options if key not in OPTIONS and key not in parts[-1]._fields]:
        warn(f"unknown option {key!r} for stream.minimize; {nearest(key, [*parts[-1]._fields, *OPTIONS])}")
        del options[key]
    settings = {**OPTIONS, **{key: options.pop(key) for key in list(options) if key in OPTIONS}}
    opt, _ = split_options(opt, options)
    history = settings["history"]
    if not isinstance(history, str | bool | None) or history not in HISTORIES:
        raise ValueError(f"history={history!r} must be 'progressive', 'whole' or False")
    if settings["weight_norm"]:
        refuse_for_weight_norm(settings, bounds is not None)
    models = Models(source, loss, l1, l2, fit_intercept, classes, bool(settings["weight_norm"]))
    model, problem = models.model, models.problem
    told = None if model.classes is None else model.classes.tolist()
    plan = Plan([model.loss.names[0], *model.loss], float(l1), float(l2), bool(fit_intercept), told,
                count("batch_size", settings["batch_size"], 1), count("epochs", settings["epochs"]),
                bool(settings["shuffle"]), count("seed", settings["seed"]), HISTORIES[history],
                settings["validation"] is not None,
                None if settings["patience"] is None else count("patience", settings["patience"], 1),
                nonnegative("min_delta", settings["min_delta"]), bool(settings["lazy_update"]),
                bool(settings["weight_norm"]))  # fmt: skip
    if plan.patience is not None and not (plan.history or plan.validated):
        raise ValueError("patience needs the objective of every epoch, which history=False spares, or a validation")
    if plateau_of(opt.lr) is not None and not plan.history:
        raise ValueError("lr: ReduceOnPlateau follows the objective of epochs, which history=False spares")
    in_epochs = getattr(parts[-1], "in_epochs", False)
    steps = source.steps_per_epoch(plan.batch_size) if settings["average_from"] or in_epochs else 1
    opt = in_steps(opt, steps)
    after, average = after_of(problem, opt), average_of(settings, Batches(steps, 1, False, 0, False), 0)
    slots, extra = _sizes(opt, problem, plan)
    slots += average is not None
    x0 = start_of(model, x0)
    lower, upper = (limit.astype(model.dtype) for limit in limits_of(bounds, x0))
    x0 = problem.start(x0) if plan.weight_norm else x0
    run = new_run(x0.astype(model.dtype), slots, lower, upper, plan.epochs, False, extra)
    now = run.now[0]
    if average is not None:
        now.shown, (now.average_from, now.average_decay) = slots - 1, average
        run.state[now.shown] = run.x
    now.max_norm = 0.0 if settings["max_norm"] is None else nonnegative("max_norm", settings["max_norm"])
    now.l1, now.outputs, now.penalised, now.keeps_best = problem.l1, model.n_outputs, model.n_penalised, 0
    make_feasible(run)
    path = settings["checkpoint"]
    remember: dict[str, Any] = {"limits": Limits(0, 0.0, 0.0, 0.0), "batches": None, "after": after}
    if path is not None:
        remember |= {"optimizer": checkpoint.describe(opt), "model": _told(source), "source": source.recipe}
    score = score_of(settings["validation"], model.n)
    return _solve(models, opt, run, plan, Place(), callback, score, settings["progress"], path, remember)


def resume(path: str | os.PathLike, source: Any = None, callback: Any = None,
           options: dict[str, Any] | None = None) -> Any:  # fmt: skip
    """Go on with a run from its checkpoint; the result is bit for bit that of a run never interrupted.

    Parameters
    ----------
    path : path
        A checkpoint written by ``stream.minimize(..., options=dict(checkpoint=path))``.
    source : Source, or what `numbaopt.stream.open` takes
        The same data in the same chunks: a checkpoint holds no data.  None: the files that it names, where the data
        came from files.  Files that are given, which may have moved, are opened with the options that it names.
    callback : callable
        As in `numbaopt.stream.minimize`.
    options : dict
        ``epochs`` (in all), ``progress`` and ``checkpoint`` (by default the file resumed from), new ``patience`` and
        ``min_delta``; ``validation``, as a checkpoint holds none: the same again where there was one.

    Returns
    -------
    scipy.optimize.OptimizeResult

    Raises
    ------
    ValueError
        If the file is not a whole checkpoint of this version, or not of this source.

    Examples
    --------
    >>> import os, tempfile, numpy as np, numbaopt as no
    >>> path = os.path.join(tempfile.mkdtemp(), "run.npz")
    >>> data = no.stream.open(np.arange(100.0).reshape(50, 2), np.ones(50), chunk_rows=20)
    >>> first = no.stream.minimize(data, options=dict(epochs=1, batch_size=5, checkpoint=path))
    >>> no.stream.resume(path, data, options=dict(epochs=3)).history.step
    array([10, 20, 30])
    """
    run, remember = checkpoint.load(path)
    try:
        plan, place = _read(remember)
    except (TypeError, ValueError, KeyError):
        raise ValueError(f"{os.fspath(path)} is no checkpoint of a stream; numbaopt.resume may know it") from None
    source, options = _same_source(path, remember, source), dict(options or {})
    usable = ("epochs", "progress", "checkpoint", "validation", "patience", "min_delta")
    for key in set(options) - set(usable):
        warn(f"stream.resume: unknown option {key!r}; {nearest(key, usable)}")
    if remember["model"] != _told(source):
        raise ValueError(f"{os.fspath(path)} is of another source: {remember['model']}, this one {_told(source)}")
    plan = plan._replace(epochs=count("epochs", options.get("epochs", plan.epochs)))
    if options.get("patience") is not None:
        plan = plan._replace(patience=count("patience", options["patience"], 1))
    if options.get("min_delta") is not None:
        plan = plan._replace(min_delta=nonnegative("min_delta", options["min_delta"]))
    if plan.validated != (options.get("validation") is not None):
        raise ValueError(f"{os.fspath(path)}: the run was {'' if plan.validated else 'not '}judged by a validation; "
                         f"resume it {'with the same' if plan.validated else 'without'} one")  # fmt: skip
    name, *fields = plan.loss
    models = Models(source, type(as_loss(name))(*fields), plan.l1, plan.l2, plan.fit_intercept, plan.classes,
                    plan.weight_norm)  # fmt: skip
    opt, after = checkpoint.revive(remember["optimizer"]), checkpoint.revive(remember["after"])
    sizes = len(run.state) - (run.now[0].shown >= 0), run.extra.size
    needed = models.problem.n, models.model.dtype, _sizes(opt, models.problem, plan)
    if (run.x.size, run.x.dtype, sizes) != needed:
        raise ValueError(f"{os.fspath(path)} is of another model: {run.x.size} unknowns of {run.x.dtype} and "
                         f"{len(run.state)} vectors of state")  # fmt: skip
    if run.history.size < plan.epochs:
        longer = np.zeros(plan.epochs + plan.epochs % 2, run.history.dtype)
        longer[: run.history.size] = run.history
        run = run._replace(history=longer.view(np.recarray))
    if run.now[0].status in (STEP_LIMIT, STOPPED):
        run.now[0].status = RUNNING
    saved = options.get("checkpoint") or path
    remember = {**remember, "after": after}
    score = score_of(options.get("validation"), models.model.n)
    return _solve(models, opt, run, plan, place, callback, score, options.get("progress"), saved, remember)


def _solve(models, opt, run, plan, place, callback, score, progress, path, remember):
    path = None if path is None else os.fspath(path)
    trainer = Trainer(models, opt, run, plan, place, hook_of(callback), score, bool(progress), path, remember)
    try:
        if run.now[0].status == RUNNING:
            trainer.solve()
    except KeyboardInterrupt as interrupt:
        interrupt.result = _result(trainer, models, interrupted=True)
        kept = f"; {path} keeps the run, numbaopt.stream.resume goes on with it" if path else ""
        interrupt.args = (f"interrupted after step {interrupt.result.nit}{kept}",)
        raise
    return _result(trainer, models)


def _result(trainer: Trainer, models: Models, interrupted: bool = False) -> Any:
    now, run, model = trainer.now, trainer.run, models.model
    status = STOPPED if interrupted else int(now.status)
    x = trainer.told(run.best if status == NOT_FINITE or trainer.plan.validated or trainer.owes else trainer.point)
    history = np.zeros(int(now.records), EPOCH)
    for name in ("step", "fun", "lr", "seconds", "score"):
        history[name] = run.history[name][: now.records]
    history["epoch"] = np.arange(1, len(history) + 1)
    place = trainer.place
    fun = history["fun"][-1] if len(history) else place.total / place.rows if place.rows else np.nan
    coef, intercept = model.split(x)
    return optimize_result(
        x=x, fun=float(fun), nit=int(now.step), status=status, success=status == CONVERGED,
        message="Interrupted by the user." if interrupted else trainer.message(), lr=float(now.lr),
        history=history.view(np.recarray), classes=model.classes, coef=coef, intercept=intercept, run=run,
    )  # fmt: skip


def _sizes(opt: Any, problem: Any, plan: Plan) -> tuple[int, int]:
    """How many vectors of state and extra numbers a run has."""
    return solver_of(opt).sizes(opt, problem, Batches(1, plan.batch_size, plan.shuffle, 0, False, lazy=plan.lazy))


def _same_source(path: Any, remember: dict[str, Any], given: Any) -> Source:
    """The source that is given, opened as a checkpoint tells; where none is, the files that it names."""
    recipe = remember.get("source")
    if given is None and recipe is None:
        raise ValueError(f"source is missing: the data of {os.fspath(path)} came from no files that it could name")
    if isinstance(given, Source) or recipe is None:
        return open_source(given)
    try:
        how = {key: value for key, value in recipe.items() if key not in ("data", "y")}
        return open_source(**recipe) if given is None else open_source(given, **how)
    except (AttributeError, TypeError) as error:
        if given is not None:
            raise
        raise ValueError(f"{os.fspath(path)} is no usable checkpoint: it names no files") from error


def _told(source: Source) -> str:
    return f"{source!r} {source.digest()}"


def _read(remember: dict[str, Any]) -> tuple[Plan, Place]:
    """Plan and place of a checkpoint, of the types that they should have."""
    plan, place = Plan(**remember["plan"]), Place(**remember["place"])
    kinds = zip((*plan, *place), (list, float, float, bool, list | None, int, int, bool, int, str, bool, int | None,
                                  float, bool, bool, int, bool, int, int, bool, int, float), strict=True)  # fmt: skip
    numbers = (*plan[5:7], plan.seed, place.epoch, place.position, place.begun, place.rows)
    if not all(isinstance(value, kind) for value, kind in kinds) or min(numbers) < 0 or plan.batch_size < 1:
        raise ValueError("it is no checkpoint of a stream")
    return plan, place
