"""The verb: SciPy's ``minimize``, with every method's loop compiled."""

from __future__ import annotations

import functools
import math
import os
from types import FunctionType

from numba.core.dispatcher import Dispatcher

from . import checkpoint as checkpoints
from ._fields import BY_SCIPY, names_meant, nearest
from .arguments import (
    BATCH_OPTIONS,
    HISTORY_ROWS,
    OPTIONS,
    after_of,
    average_of,
    batches_of,
    count,
    device_of,
    further_args,
    limits_of,
    most_evaluations,
    nonnegative,
    refuse_for_solvers,
    refuse_for_weight_norm,
    rows_of_average,
    score_of,
    settings_of,
    settle_rate,
    split_options,
    start_of,
    target_of,
    unknowns,
    warn,
)
from .loops.state import Run, make_feasible, new_run, take_over
from .optimizers._rule import OPTIMIZERS
from .optimizers.combined import in_steps
from .optimizers.step import as_optimizer
from .problems.function import Function, needed
from .problems.weight_norm import WeightNorm
from .result import calls_of, display, hook_of, solved
from .run import Batches, Driver, Hooks, Limits
from .scipy_methods import SCIPY_METHODS, hand_on
from .solvers import SOLVERS, choose, solver_of
from .status import AT_TARGET, CONVERGED, RUNNING, STEP_LIMIT, STOPPED

MADE_OF_RULES = {"switch": "Switch(Adam(), SGD(), at=1000)", "lookahead": "Lookahead(Adam())"}


@names_meant
def minimize(fun, x0=None, args=(), method=None, jac=None, hess=None, hessp=None, bounds=None, constraints=(),
             tol=None, callback=None, options=None):  # fmt: skip
    r"""Minimize a function of several variables, or train a model.

    Parameters
    ----------
    fun : callable, LinearModel or FiniteSum
        ``fun(x, *args) -> float`` with x a vector that is only lent: to keep it, copy it.  Functions jitted by
        Numba run compiled throughout; plain ones are compiled if they can be, with indices checked, else called back
        from the compiled loop, and a warning says why.  Numba checks no index of jitted functions: one that reads
        more unknowns than there are gets what lies in memory behind them.  That is refused where the index is a
        literal, ``x[3]``; for all others jit with ``boundscheck=True`` while in doubt.
    x0 : array of shape (n,)
        Where to start; never written to.  For a LinearModel None means zeros.  The unknowns are float64; where x0 is a
        float32 array and ``fun`` takes such x, float32, unless the gradient is found by differences (see Notes).
    args : tuple
        Further arguments of ``fun`` and ``jac``.
    method : str or optimizer
        ``"auto"`` (see ``numbaopt.solvers.auto`` for what is chosen when); a name from `numbaopt.methods` in any case,
        an optimizer such as ``numbaopt.Adam(lr=0.1)`` or a chain
        (`numbaopt.transforms.chain`).  Names that only SciPy has are handed on to SciPy with the compiled objective and
        gradient.  None: ``"lbfgs"``, with constraints SciPy's SLSQP.
    jac : callable, True, {"ad", "forward", "reverse", "2-point", "3-point", "cs"} or None
        ``jac(x, *args)`` returns the gradient; True: ``fun`` returns (value, gradient); "ad": the exact gradient of a
        jitted ``fun`` (see `numbaopt.value_and_grad`), in the mode that suits the number of unknowns, or "forward" or
        "reverse"; "cs": complex step; None: "ad", but where it cannot be had a warning and "3-point" differences.
    hess, hessp, constraints
        For SciPy's methods.  Those that need second derivatives (Newton-CG, trust-ncg, trust-krylov, trust-exact,
        dogleg) take differences of exact gradients (`numbaopt.hvp`, `numbaopt.hessian`) where neither is given.
    bounds : sequence of (low, high) or scipy.optimize.Bounds
        First-order methods project onto them after every step.
    tol : float
        The same as ``gtol``.
    callback : callable
        ``callback(intermediate_result=OptimizeResult)`` or ``callback(x)`` with a copy of x after every step, or after
        every epoch of minibatches; raising StopIteration ends the run with status 99.  One with an attribute
        ``every`` is called after so many steps, which leaves the steps between to compiled code.
    options : dict
        Every field of the optimizer (``lr`` a number, a schedule or a function of the number of steps taken, 0 before
        the first; where a function is minimized by a rule's name, or with None, it is found on the way,
        see `numbaopt.schedules.Automatic`), and

        maxiter : int
            Most steps; 10,000 for whole objectives.
        gtol, ftol, xtol : float
            Converged when no component of the (projected) gradient exceeds gtol (1e-5; 0 in minibatch training), or
            when for 10 steps in a row the objective changes by less than ``ftol * max(1, |fun|)``, or every unknown by
            less than ``xtol * max(1, |x|)``.
        f_target : float
            An objective that is low enough: the first step, or epoch of minibatches, that reaches it ends the run as
            converged.
        max_evaluations, max_seconds : int, float
            The step, or epoch, that brings ``nfev`` there is the last (status 1); so is the one at which the seconds
            that the history tells are used up, up to some milliseconds.
        batch_size, epochs, shuffle, seed
            Minibatch training of a model or FiniteSum: terms a step (None: all), passes over them (10), whether each
            pass takes a new random order, and the seed of those orders.
        history : bool or int
            Most rows of the history (True: 1000).  False also spares minibatch training the pass over all data after
            every epoch; then ``x`` is the last point, the best one being unknown.
        progress, disp : bool
            A progress bar (tqdm); a summary at the end.
        accumulate : int
            Batches whose mean gradient makes one step (1): steps over ``accumulate * batch_size`` terms.
        average, average_from, ema_decay
            ``"polyak"`` (the mean of all iterates after ``average_from`` epochs) or ``"ema"`` (an exponential moving
            average with that decay, 0.999): what is judged and returned in the place of the last iterate.  Without
            minibatches, as on functions, an epoch is a step, which then takes two evaluations.
        max_norm : float
            After every step each vector of coefficients that is longer is scaled down to this Euclidean norm.
        weight_norm : bool
            Train each vector of a model's coefficients as a direction and a length, :math:`w = g v / \|v\|`; the
            intercept stays free.  It begins with v = w and g = \|w\|; where w = 0, with g = 0 and v the direction of
            steepest descent.  ``x`` is the model's own unknowns; gradients, norms of them and averages of iterates are
            those of v and g.  First-order rules only; not with l1, bounds or max_norm; steps on sparse data are dense.
        validation : model or callable
            Judges every epoch: a model of held-out data by its objective, a function of x by its score, the higher the
            better.  The best x by it is returned, and ``history.score`` tells of it.
        patience, min_delta : int, float
            Epochs after which the run ends as converged if the score, or the objective, has not become better by more
            than ``min_delta`` (0).
        run : Run
            The attribute ``run`` of a former result: goes on from there (unknowns, state of the rule, number of steps),
            with the data and options of this call.
        checkpoint : path
            Where the run is saved every 30 seconds and when it ends or is interrupted; see `numbaopt.resume`.
        device : str
            ``"cuda"`` trains a LinearModel on the GPU, dense or sparse, with a first-order rule, L-BFGS, BFGS or CG;
            see Notes.
        lazy_update : bool
            In minibatch training on sparse data, update only the unknowns that the batch meets (as torch's SparseAdam
            and TensorFlow's LazyAdam): the others keep value and state, and neither l2 nor l1 moves them.  Without it
            all unknowns take every step, as on dense data; `SGD`, and `AdaGrad` without l2, do so at the same low cost.
        jit : bool
            True: an objective that cannot be compiled is an error.  False: do not try.

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``x`` (the best finite point seen), ``fun``, ``jac`` (there), ``nit``, ``nfev``, ``njev``, ``status`` (0
        converged, 1 step limit, 2 not finite, 99 stopped), ``success``, ``message``, ``lr`` (of the last step, or
        the one found) and ``history``: a record array with the fields step, fun, grad_norm, lr, seconds (and epoch),
        thinned on long runs.  SciPy's methods return what SciPy does, without lr and history.

    Raises
    ------
    ValueError, TypeError
        If an argument is not usable; the sentence names it.  Exceptions of ``fun`` come out as they are.
    KeyboardInterrupt
        On Ctrl-C, within a slice of some 20 ms; its attribute ``result`` is the result so far.

    Notes
    -----
    In float32 are x, the gradients, the state of a method and ``res.x`` and ``res.jac``; the objective's value, inner
    products and coefficients are float64.  What rounding lets a gradient of float32 reach, some 1e-7 of its terms, may
    be more than ``gtol``: then the run ends with status 3.  SciPy's methods work in float64.

    On a GPU (``device="cuda"``) batches, their order, history, statuses, callbacks and checkpoints are those of the
    CPU.  Sums over rows and unknowns are made in another order, a fixed one: on one GPU the same call gives the same
    bits; from the CPU's numbers they differ by rounding.  A run or a checkpoint of one goes on on the other.  Memory
    running out is a MemoryError, no GPU a RuntimeError.

    Inside functions jitted by Numba, also in ``prange`` and in threads, the same call gives the same numbers, as a
    NamedTuple with ``x``, ``fun``, ``jac``, ``nit``, ``nfev``, ``status`` and ``success``.  There ``fun``, and ``jac``
    if it is a function, are jitted; ``x0`` is a vector, a list or a tuple of numbers; ``method`` an optimizer or a
    literal name of a rule, of L-BFGS(-B), BFGS, CG, trust-ncg or Nelder-Mead (whose ``jac`` is NaN); ``bounds`` a tuple
    or list of pairs, or an array of shape (n, 2); ``options`` the method's fields, ``maxiter``, ``gtol``, ``ftol`` and
    ``xtol``.  Both modes of the exact gradient are compiled, as the number of unknowns is not known: ``jac="forward"``
    or ``"reverse"`` spares one.  Options that stand in the call, as ``{"maxiter": 100}`` or ``dict(maxiter=100)``,
    compile far sooner than a dictionary from elsewhere.
    What cannot be done is told when the caller is compiled.  Ctrl-C waits until the caller returns.

    Methods are local: out of a bad minimum lead `numbaopt.multistart`, SciPy's ``basinhopping`` and ``dual_annealing``
    around an optimizer, and noise on the gradient, `numbaopt.transforms.GradientNoise`.

    An optimizer is also a custom method of SciPy: ``scipy.optimize.minimize(fun, x0, method=numbaopt.Adam(lr=0.1))``.

    Examples
    --------
    >>> import numpy as np, numba, numbaopt as no
    >>> @numba.njit
    ... def rosen(x):
    ...     return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2
    >>> res = no.minimize(rosen, [-1.2, 1.0], method="adam", options=dict(lr=0.02, maxiter=20_000))
    >>> res.success, res.x.round(3)
    (True, array([1., 1.]))

    In compiled code:

    >>> @numba.njit
    ... def lowest(a):
    ...     return no.minimize(rosen, (-1.2, a), method="bfgs", jac="forward").x
    >>> lowest(1.0).round(3)
    array([1., 1.])
    """
    options = dict(options or {})
    name = method.lower() if isinstance(method, str) else method
    if name is None and not constraints:
        name = "lbfgs"
    automatic = isinstance(name, str) and name == "auto"
    known = automatic or (name is not None and (not isinstance(name, str) or name in OPTIMIZERS or name in SOLVERS))
    ours = SOLVERS.get(name) if isinstance(name, str) else name
    hessian = getattr(ours, "with_hessian", False) and not (hess is None and hessp is None)
    if known and name in SCIPY_METHODS and (hessian or any(key in ours.elsewhere for key in options)):
        known = False  # SciPy's method of this name takes them
    if isinstance(name, str) and name in MADE_OF_RULES:
        raise ValueError(f"method {method!r} is made of other rules: give an instance, such as {MADE_OF_RULES[name]}")
    if isinstance(name, str) and not known and name not in SCIPY_METHODS:
        raise ValueError(f"unknown method {method!r}; {nearest(name, ['auto', *OPTIMIZERS, *SOLVERS, *SCIPY_METHODS])}")
    model = hasattr(fun, "n_terms")
    x0 = start_of(fun, x0) if model else unknowns(x0, fun, single=True)
    lower, upper = limits_of(bounds, x0)
    args = further_args(args)
    if model and (args or jac is not None):
        raise ValueError(f"{'args' if args else 'jac'}: a {type(fun).__name__} has its own data and gradient")
    if known and not model:
        jac = needed(ours, jac)
    problem = _problem_of(fun, jac, args, x0.size, lower, upper, options.get("jit"), x0.dtype if known else None)
    if automatic:
        name, defaults = choose(problem, lower.size > 0)
        options = {**defaults, **options}
        method = name
    if method is None and any(options.get(key) is not None for key in BATCH_OPTIONS):
        raise ValueError("minibatches need a first-order method such as method='adam'; none is given")
    if options.get("device") not in (None, "cpu") and not known:
        device_of(problem, method, {**OPTIONS, **options})
    if options.get("device") == "cpu":
        del options["device"]
    if not known or (callable(method) and not hasattr(method, "slots")):
        if options.get("weight_norm"):
            raise ValueError(f"weight_norm=True needs a first-order rule such as method='adam', not {method!r}")
        return hand_on(problem, x0.astype(float), method, hess, hessp, bounds, constraints, tol, callback, options)
    for key, value in (("hess", hess), ("hessp", hessp)):
        if value is not None:
            warn(f"method {method!r} does not use {key}")
    if constraints:
        warn(f"method {method!r} cannot handle constraints, which are ignored; 'SLSQP' and 'trust-constr' can")
    opt = named(name)
    opt, options = split_options(opt, settle_rate(name, opt, options, model), tol)
    return _finished(driver_of(problem, x0, opt, lower, upper, tol, callback, options), options.get("disp"))


def named(method):
    """The rule or method of a name; any other as it is."""
    cls = (SOLVERS.get(method) or OPTIMIZERS.get(method)) if isinstance(method, str) else None
    return as_optimizer(method) if cls is None else _default(cls)


@functools.lru_cache(maxsize=256)
def _default(cls):
    return cls()


def _problem_of(fun, jac, args, n, lower, upper, jit, dtype=None):
    """What a run with ``n`` unknowns works on; a function in ``dtype`` if that is possible."""
    if hasattr(fun, "bind"):
        return fun.bind(n, lower, upper, jit)
    return fun if hasattr(fun, "pack") else Function(fun, jac, args, n, lower, upper, jit, dtype)


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
    if settings["patience"] is not None and settings["history"] is False and settings["validation"] is None:
        raise ValueError("patience needs the objective of every epoch, which history=False spares, or a validation")
    if settings["f_target"] is not None and batches is not None and not batches.whole:
        raise ValueError("f_target needs the objective of every epoch, which history=False spares")
    if hasattr(opt, "ready"):
        opt = opt.ready(opt, problem)
    if settings["weight_norm"]:
        refuse_for_weight_norm(settings, lower.size > 0)
        problem = WeightNorm(problem)
        x0 = problem.start(x0)
    limits = Limits(maxiter, nonnegative("gtol", gtol), *(nonnegative(key, settings[key]) for key in ("ftol", "xtol")),
                    _seconds_of(settings))  # fmt: skip
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
    now.l1, now.outputs = getattr(problem, "l1", 0.0), getattr(problem, "n_outputs", 1)
    now.penalised = getattr(problem, "n_penalised", problem.n)
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
        remember |= {"optimizer": checkpoints.describe(opt), "model": _model_of(problem)}
    return _driver(problem, opt, run, limits, batches, callback, settings, saved, remember, solver)


def _seconds_of(settings):
    return math.inf if settings["max_seconds"] is None else nonnegative("max_seconds", settings["max_seconds"])


def _driver(problem, opt, run, limits, batches, callback, settings, saved, remember, solver=None):
    patience = None if settings["patience"] is None else count("patience", settings["patience"], 1)
    score = score_of(settings["validation"], getattr(problem, "model", problem).n)
    hooks = Hooks(hook_of(callback), bool(settings["progress"]), saved, score, patience,
                  nonnegative("min_delta", settings["min_delta"]),
                  count("callback.every", getattr(callback, "every", 1), 1))  # fmt: skip
    return Driver(problem, opt, run, limits, batches, hooks, remember, solver)


def _finished(driver, disp):
    result = solved(driver, checkpoint=driver.hooks.checkpoint)
    if disp:
        display(result)
    return result


def minimize_for_scipy(opt, fun, x0, args=(), jac=None, hess=None, hessp=None, bounds=None, constraints=(),
                       callback=None, tol=None, **options):  # fmt: skip
    """`minimize` as SciPy calls a custom method; ``jac=True`` reaches it as an object that remembers the gradient."""
    if hasattr(fun, "derivative") and getattr(jac, "__self__", None) is fun:
        fun, jac = fun.fun, True
    ours = hasattr(fun, "n_terms") or hasattr(fun, "dispatcher")
    if not (ours or isinstance(fun, (Dispatcher, FunctionType))):  # SciPy's own wrapper: nobody could compile it
        options.setdefault("jit", False)
    return minimize(fun, x0, args, opt, jac, hess, hessp, bounds, constraints, tol, callback, options)


BY_SCIPY.append(minimize_for_scipy)


def _model_of(problem):
    """What a checkpoint tells of a model: its repr and a hash of its data; of a function, nothing can be known."""
    return f"{problem!r} of data {problem.digest()}" if hasattr(problem, "digest") else None


def resume(path, fun, args=(), jac=None, callback=None, options=None):
    """Go on with a run from its checkpoint; the result is bit for bit that of a run never interrupted.

    Parameters
    ----------
    path : path
        A checkpoint written by ``minimize(..., options=dict(checkpoint=path))``.
    fun, args, jac, callback
        As in `numbaopt.minimize`: a checkpoint holds no functions and no data.
    options : dict
        New limits (``maxiter``, ``epochs``, ``f_target``, ``max_evaluations``, ``max_seconds``), ``progress``,
        ``disp``, ``jit`` and ``checkpoint`` (by default the file resumed from); all else goes on as it was.

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
    problem = _problem_of(fun, jac, further_args(args), run.x.size,
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
    if remember["model"] != _model_of(problem):
        raise ValueError(f"{os.fspath(path)} is of another problem: {remember['model']}, this one {_model_of(problem)}")
    limits = Limits(*remember["limits"])
    if options.get("epochs") is not None:
        more = count("epochs", options["epochs"]) * (batches.per_epoch if batches else 1)
        limits = limits._replace(maxiter=int(run.now[0].origin) + more)
    if options.get("maxiter") is not None:
        limits = limits._replace(maxiter=count("maxiter", options["maxiter"]))
    now = run.now[0]
    if options.get("max_seconds") is not None:
        limits = limits._replace(max_seconds=_seconds_of(options))
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
    same = (getattr(problem, "l1", 0.0), getattr(problem, "n_outputs", 1), getattr(problem, "n_penalised", problem.n))
    whole = solver_of(opt, device).fits(opt, run) and (run.previous.size > 0 or limits.xtol == 0)
    if not whole or (now.l1, now.outputs, now.penalised) != same:
        raise ValueError(f"{os.fspath(path)} is not a usable checkpoint: its numbers are not those of such a run")
    if bool(now.keeps_best) != (options.get("validation") is None):
        raise ValueError(f"{os.fspath(path)}: the run was {'not ' if now.keeps_best else ''}judged by a validation; "
                         f"resume it {'without' if now.keeps_best else 'with the same'} one")  # fmt: skip
    options = {key: remember.get(key) for key in ("patience", "min_delta") if remember.get(key) is not None} | options
    saved = os.fspath(options.get("checkpoint") or path)
    remember = {**remember, "limits": limits, "after": after, "device": device}
    settings = {**OPTIONS, **options}
    return _finished(_driver(problem, opt, run, limits, batches, callback, settings, saved, remember), settings["disp"])
