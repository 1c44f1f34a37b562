"""The verb: SciPy's ``minimize``, with every method's loop compiled."""

from __future__ import annotations

from types import FunctionType

from numba.core.dispatcher import Dispatcher

from ._fields import BY_SCIPY, names_meant, nearest
from .arguments import (
    BATCH_OPTIONS,
    OPTIONS,
    device_of,
    further_args,
    limits_of,
    settle_rate,
    split_options,
    start_of,
    unknowns,
    warn,
)
from .begin import driver_of, finished, named, problem_of
from .optimizers._rule import OPTIMIZERS
from .problems.function import needed
from .scipy_methods import SCIPY_METHODS, hand_on
from .solvers import SOLVERS, choose

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
        literal, ``x[3]``: the function is then called once with ones as x, every index checked, to see whether it is
        read at all.  For all other indices jit with ``boundscheck=True`` while in doubt, which also spares that call.
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
            that the history tells are used up, up to some milliseconds.  A step is finished, so ``nfev`` may become
            larger by the rest of a line search, and by one where ``x`` is not the last point: its gradient is
            evaluated anew.  Like f_target, max_evaluations needs judged epochs: not with ``history=False``.
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
    problem = problem_of(fun, jac, args, x0.size, lower, upper, options.get("jit"), x0.dtype if known else None)
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
    return finished(driver_of(problem, x0, opt, lower, upper, tol, callback, options), options.get("disp"))


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
