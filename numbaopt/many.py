"""Many small problems at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._fields import names_meant, nearest
from .arguments import (
    HISTORY_ROWS,
    count,
    dtype_of,
    further_args,
    limits_of,
    settings_of,
    settle_rate,
    split_options,
    target_of,
    unknowns,
    warn,
    wrong_bound,
)
from .automatic import is_automatic
from .begin import named
from .optimizers._program import parts_of
from .optimizers._rule import OPTIMIZERS
from .pool import (
    MANY_OPTIONS,
    NUMBER_NOT_RESIDUALS,
    Pool,
    arguments_of,
    first_that_works,
    one_by_one,
    result_of,
)
from .problems.evaluation import MisshapenError
from .problems.function import Function, needed
from .schedules import plateau_of
from .solvers import SOLVERS, solver_of
from .sweep import sweep


@names_meant
def minimize_many(fun, X0=None, args=(), batched=None, method=None, jac=None, bounds=None, tol=None, options=None):
    r"""Minimize many independent problems that differ in their starts and arguments.

    .. math:: x_i = \arg\min_x \mathrm{fun}(x, a_i), \qquad i = 1, \ldots, k

    Each problem stops on its own and has its own status; a problem that diverges or whose objective raises troubles no
    other.  They are solved by as many threads as Numba has (``numba.set_num_threads``), in the memory of one problem a
    thread; the answers are those of `minimize`, one by one, whatever the number of threads.

    Parameters
    ----------
    fun : callable or LinearModel
        A model: many runs of it, that differ in rule, learning rate, seed or start (see Notes).  Else
        ``fun(x, *args) -> float`` of one problem, jitted or such as Numba can compile; with ``method="lm"``
        (Levenberg-Marquardt, see `least_squares`) a vector of residuals: the result tells half their sum of squares.
    X0 : array of shape (k, n)
        The starts; (n,): the same for all; of a model None: zeros.  A float32 array asks for float32, as in `minimize`.
    args : tuple
        Further arguments of ``fun`` and ``jac``.
    batched : bool, or tuple of bool
        Which ``args`` are arrays with a leading axis of length k, of which each problem is given its own item (of a
        vector, a number); the others are shared.  None: all are shared, an error where one looks as if it were not.
    method, jac, tol
        As in `minimize`; methods that work on whole objectives, with compiled loops.  ``method`` may also be a list of
        k rules or methods of one class: one for each problem, with fields of its own.
    bounds : sequence of (low, high) or scipy.optimize.Bounds
        For all, or, as Bounds with arrays of shape (k, n), for each.  Starts outside are moved into them.
    options : dict
        The fields of the method, ``maxiter``, ``gtol``, ``ftol``, ``xtol``, ``f_target`` (also k numbers, one for
        each), ``max_evaluations``, ``progress`` and ``jit``, as in `minimize`; ``history``, as there but False if not
        given; ``path``: whether to keep the point of every row of the history (where a search for a rate turns back,
        the point that it returns to).
        ``device="cuda"``: on a GPU, a thread or a team of threads a problem, for hundreds or thousands of problems.
        What ``fun`` uses must exist there: arithmetic, ``math``, NumPy's ufuncs, array expressions, sums, small
        temporary arrays, jitted helpers; ``args`` are arrays of real numbers, numbers and tuples of such.  Gradients
        are exact by forward mode, given, or by differences.  Results are the CPU's up to the last digits: the GPU
        rounds a product and a sum together.  A ``history`` and a ``path`` stand in its memory: with few rows, more
        problems are solved at once.

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``x`` (k, n), ``fun``, ``status``, ``success``, ``nit``, ``nfev``, ``reason`` (which tolerance or limit), all
        (k,), and a ``message`` that counts; where asked for, ``history`` and ``path``, lists of k.  A history's seconds
        are shares of what was solved together.

    Raises
    ------
    ValueError, TypeError
        If an argument is not usable.
    NoDeviceError, MemoryError
        If ``device="cuda"`` and there is no GPU, or its memory does not suffice.
    KeyboardInterrupt
        On Ctrl-C; its attribute ``result`` holds what is solved, the others have status 99.

    Notes
    -----
    Runs of a LinearModel are those of `minimize`, bit for bit: with its methods, ``bounds`` and ``options``
    (minibatches, averages, ``validation``, ``patience``, ...), of which ``seed`` and ``f_target`` may be lists; not
    ``run`` and ``checkpoint``.  How many there are is told by a list of methods (of any classes) or seeds, or by the
    rows of ``X0``.  A ``history`` that is asked for is a list; False spares the passes over all data, as in `minimize`.
    With ``device="cuda"`` each run is trained by a block of the GPU, all by one launch a slice, with rules of one
    class; as `minimize` there, up to the order of sums.

    Examples
    --------
    A thousand exponential decays:

    >>> import numpy as np, numba, numbaopt as no
    >>> @numba.njit
    ... def misfit(p, t, y):
    ...     total = 0.0
    ...     for i in range(t.size):
    ...         total += (p[0] * np.exp(-p[1] * t[i]) - y[i]) ** 2
    ...     return total
    >>> t, rates = np.linspace(0, 2, 20), np.linspace(0.5, 2, 1000)
    >>> Y = 3 * np.exp(-rates[:, None] * t)
    >>> res = no.minimize_many(misfit, [1.0, 1.0], args=(t, Y), batched=(False, True), tol=1e-9)
    >>> bool(res.success.all()), bool(np.abs(res.x[:, 1] - rates).max() < 1e-6)
    (True, True)

    Rates of one model:

    >>> model = no.LinearModel(t[:, None], 3 * t + 1)
    >>> rates = [no.SGD(lr=lr) for lr in (0.01, 0.1, 0.3)]
    >>> res = no.minimize_many(model, method=rates, options=dict(batch_size=5, epochs=20, seed=1))
    >>> int(res.fun.argmin())
    2
    """
    options = dict(options or {})
    args = further_args(args)
    if hasattr(fun, "rows"):
        return sweep(fun, X0, args, batched, method, jac, bounds, tol, options)
    if hasattr(fun, "n_terms"):
        raise TypeError(f"fun must be a function of one problem or a LinearModel, not a {type(fun).__name__}")
    if X0 is None:
        raise ValueError("X0 is not given: a function tells neither how many unknowns it has nor where to start")
    starts, which = _starts(X0, args, batched, len(method) if isinstance(method, list) else None)
    args = tuple(_native(arg) if own else arg for arg, own in zip(args, which, strict=True))
    lower, upper = _bounds(bounds, starts)
    path, device = bool(options.pop("path", False)), options.pop("device", None)
    if device not in (None, "cpu", "cuda"):
        raise ValueError(f"option device={device!r} must be 'cpu' or 'cuda'")
    opts, options = _methods(method, options, tol)
    opt = opts[0]
    for key in [key for key in options if key not in MANY_OPTIONS]:
        warn(f"option {key!r} has no effect in minimize_many; it knows {', '.join(MANY_OPTIONS)}")
    settings = settings_of(opt, tol, options, starts.shape[1])
    if len(starts) == 0:
        return result_of(starts, np.zeros(0), *np.zeros((4, 0), np.int64))
    if options.get("f_target") is not None and hasattr(opt, "problem"):
        raise ValueError(f"f_target is for objectives; method {method!r} is given residuals")
    settings |= {"f_target": _targets(settings["f_target"], len(starts))}
    settings |= {"rows": _rows(options.get("history", path)), "path": path}
    box = (lower[0], upper[0]) if len(lower) else (np.zeros(0), np.zeros(0))
    jac = needed(opt, jac)
    if device == "cuda":
        from .cuda.many.launches import Many  # late: the core never needs a GPU

        return Many(fun, jac, opts, starts, args, which, lower, upper, settings).solve()
    if hasattr(opt, "problem"):
        problem = _residuals(opt, fun, jac, starts, args, which, box, settings["jit"])
    else:
        problem = Function(fun, jac, arguments_of(0, args, which), starts.shape[1], *box, settings["jit"],
                           starts.dtype)  # fmt: skip
        if hasattr(opt, "check"):
            opt.check(opt, problem, None, len(lower) > 0)
        if problem.compiled:
            _check_shape(problem, starts[0])
    if not problem.compiled:
        return one_by_one(fun, starts, args, which, opts, jac, (lower, upper), tol, options, settings)
    return Pool(problem, opts, starts, args, which, lower, upper, settings).solve()


def _starts(X0: Any, args: tuple, batched: Any, methods: int | None) -> tuple[np.ndarray, tuple[bool, ...]]:
    """The starts as a (k, n) array, and which arguments belong to single problems."""
    X0 = np.asarray(X0)
    if X0.ndim == 2:
        if X0.dtype.kind not in "biuf":
            raise ValueError(f"X0 must hold real numbers, not {X0.dtype}")
        if X0.shape[1] == 0:
            raise ValueError("X0 has no columns: there is nothing to minimize over")
    elif X0.ndim > 2:
        raise ValueError(f"X0 must be of shape (k, n) or (n,), not {X0.shape}")
    which = (batched,) * len(args) if isinstance(batched, bool) else batched
    if which is None:
        which = (False,) * len(args)
        for position, arg in enumerate(args):
            if X0.ndim == 2 and hasattr(arg, "__array__") and np.shape(arg)[:1] == (len(X0),):
                raise ValueError(f"batched is not given, and args[{position}] has as many items as there are problems, "
                                 f"{len(X0)}: say whether each has its own, as in batched={(True,) * len(args)}")
    which = tuple(bool(own) for own in which)
    if len(which) != len(args):
        raise ValueError(f"batched has {len(which)} items, args has {len(args)}")
    lengths = {f"args[{k}]": len(np.asarray(arg)) if np.ndim(arg) else 0
               for k, (arg, own) in enumerate(zip(args, which, strict=True)) if own}  # fmt: skip
    if methods is not None:
        lengths = {"method": methods, **lengths}
    if X0.ndim == 2:
        lengths = {"X0": len(X0), **lengths}
    elif not lengths:
        raise ValueError(f"X0 has shape {X0.shape}: how many problems there are must be told by its first axis or by "
                         "batched args")  # fmt: skip
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ValueError(f"the number of problems is not clear: {told}")
    if X0.ndim < 2:
        X0 = np.broadcast_to(unknowns(X0, single=True), (next(iter(lengths.values())), max(X0.size, 1)))
    return np.ascontiguousarray(X0, dtype_of(X0)), which


def _native(arg: Any) -> np.ndarray:
    """A batched argument as compiled code reads it."""
    array = np.asarray(arg)
    if array.dtype.kind not in ("biufc" if array.ndim > 1 else "biuf"):
        raise TypeError(f"batched args must be arrays of numbers, not of {array.dtype}")
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def _bounds(bounds: Any, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds of shape (k, n), (1, n), or (0, n) where there are none."""
    n = starts.shape[1]
    if hasattr(bounds, "lb") and max(np.ndim(bounds.lb), np.ndim(bounds.ub)) == 2:
        low, high = (np.ascontiguousarray(np.broadcast_to(np.asarray(b, float), starts.shape))
                     for b in (bounds.lb, bounds.ub))  # fmt: skip
        if not np.all(low <= high):
            i, j = np.argwhere(~(low <= high))[0]
            raise ValueError(f"bounds: {wrong_bound(low[i, j], high[i, j])} at component {j} of problem {i}")
        return low, high
    low, high = limits_of(bounds, starts[0] if len(starts) else np.zeros(n))
    return low.reshape(-1, n), high.reshape(-1, n)


def _method(method: Any) -> Any:
    """The rule or method, which must have a compiled loop over whole objectives."""
    name = "lbfgs" if method is None or method == "auto" else method.lower() if isinstance(method, str) else method
    if isinstance(name, str) and name not in SOLVERS and name not in OPTIMIZERS:
        raise ValueError(f"method {method!r} is none of those for many problems; "
                         f"{nearest(name, [*OPTIMIZERS, *(k for k, v in SOLVERS.items() if _whole(v))])}")  # fmt: skip
    opt = named(name)
    if not _whole(opt):
        raise ValueError(f"method {method!r} is not for functions; use 'lbfgs', 'bfgs' or a first-order rule")
    if plateau_of(opt.lr) is not None:
        raise ValueError("lr=ReduceOnPlateau follows one run; for many problems use another schedule")
    return opt


def _methods(method: Any, options: dict[str, Any], tol: float | None) -> tuple[list[Any], dict[str, Any]]:
    """The rule or method of every problem (one stands for all), and the options left."""
    given = method if isinstance(method, list) else [method]
    opts, left = [], options
    for one in given:
        opt = _method(one)
        opt, left = split_options(opt, settle_rate(one, opt, options, False), tol)
        opts.append(opt)
    kinds = [(*map(type, parts_of(opt)), is_automatic(opt.lr)) for opt in opts]
    if other := next((i for i, kind in enumerate(kinds) if kind != kinds[0]), 0):
        raise ValueError(f"method: all must be of one class, but [0] is {opts[0]!r} and [{other}] is {opts[other]!r}")
    return opts, left


def _targets(given: Any, size: int) -> np.ndarray:
    """The objective that is low enough for all problems, (1,), or for each, (k,)."""
    try:
        targets = np.ravel(given if np.ndim(given) else target_of({"f_target": given})).astype(float)
    except ValueError:
        raise ValueError(f"f_target={given!r} must be a number, or {size} of them, one for each problem") from None
    if targets.size not in (1, size) or np.ndim(given) > 1 or np.isnan(targets).any():
        raise ValueError(f"f_target must be a number, or {size} of them, one for each problem; got {given!r}")
    return targets


def _rows(history: Any) -> int:
    """Most rows of the histories; 0 where nobody asks for them."""
    if history in (True, False):
        return HISTORY_ROWS if history else 0
    rows = count("history", history, 2)
    return rows + rows % 2  # as in the history of a run


def _residuals(opt, fun, jac, starts, args, which, box, jit) -> Any:
    """The residuals of the first problem whose do not raise: it tells how many there are."""
    problem = first_that_works(len(starts), lambda i: opt.problem(
        fun, jac, arguments_of(i, args, which), starts[i].astype(float), *box, jit))  # fmt: skip
    if problem.scalar:
        raise ValueError(NUMBER_NOT_RESIDUALS)
    return problem


def _check_shape(problem: Function, start: np.ndarray) -> None:
    """Raise where a user's gradient has not the shape of x: in the loops it would be an exception of every problem."""
    if problem.jac is True or callable(problem.jac):
        try:
            problem.value_and_grad(start)
        except MisshapenError:
            raise
        except Exception:  # of this problem: the others need not care
            return


def _whole(opt: Any) -> bool:
    return hasattr(solver_of(opt), "settings_for")
