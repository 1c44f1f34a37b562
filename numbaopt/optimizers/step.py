"""One step of any optimizer: the same call from Python and from ``@njit``."""

from __future__ import annotations

import functools
from threading import get_ident
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numba.extending import overload

from .._fields import nearest
from .._jit import EXACT, array, invoke, jit, jit_inside, pointer, precompile
from .._schedule import rate, rates
from .._threads import SHARE, in_parts
from ..automatic import Automatic, is_automatic
from ..schedules import ReduceOnPlateau, plateau_of
from ._program import (
    Program,
    cast_all,
    hyper_parameters,
    join_measure,
    join_prepare,
    join_update,
    parts_of,
    program,
    sums_of,
)
from ._rule import OPTIMIZERS, count_coefficients


def init_state(opt, x):
    """The state of a fresh optimizer for a vector: zeros, one row a slot.

    Parameters
    ----------
    opt : optimizer
        For example ``numbaopt.Adam()``.
    x : ndarray
        float32 or float64, of any shape.

    Returns
    -------
    state : ndarray of shape (number of slots, x.size), dtype of ``x``

    Examples
    --------
    >>> import numpy as np, numbaopt as no
    >>> no.init_state(no.Adam(), np.ones(3))
    array([[0., 0., 0.],
           [0., 0., 0.]])
    """
    require_optimizer(opt)
    if not isinstance(x, np.ndarray):
        raise TypeError(_not_an_array("init_state", "x", x))
    return np.zeros((len(opt.slots), x.size), x.dtype)


def step(opt, x, g, state, t):
    """Take step ``t`` in place, without allocating: ``x`` and ``state`` are overwritten.

    Parameters
    ----------
    opt : optimizer
        A rule such as ``numbaopt.Adam(lr=0.1)``, or a chain of transforms and a rule.
    x, g : ndarray
        Unknowns and gradient: C-contiguous, of one shape, both float32 or both float64.
    state : ndarray
        From `init_state`.
    t : int
        Number of the step: 1, 2, ...

    Raises
    ------
    TypeError, ValueError
        If the arrays do not fit each other; ``ValueError`` also for a rate that follows the objective
        (``ReduceOnPlateau``, ``Automatic``), of which a single step knows nothing.

    Notes
    -----
    From Python, vectors of more than 2**17 coordinates are shared among Numba's number of threads
    (``numba.set_num_threads``); inside compiled code a step is serial.

    Examples
    --------
    >>> import numpy as np, numbaopt as no
    >>> opt, x = no.Momentum(lr=0.1), np.array([1.0, 2.0])
    >>> state = no.init_state(opt, x)
    >>> for t in range(1, 101):
    ...     no.step(opt, x, 2 * x, state, t)
    >>> bool(abs(x).max() < 0.02)
    True
    """
    try:
        take, prepare, advance, hyper, lr, row, reduces, slots = _bound(opt, x.dtype, get_ident())
        if x.shape != g.shape or state.shape != (slots, x.size) or not isinstance(t, (int, np.integer)) or t < 1:
            raise TypeError
        if x.ndim != 1:
            x, g = _flat(x), _flat(g)
        if lr is None:
            lr = rates(opt.lr, int(t) - 1, 1)
        if x.size < 2 * SHARE or reduces:
            take(prepare, advance, hyper, lr, t, row, x, g, state, 0, x.size)
        else:
            in_parts(lambda low, high: take(prepare, advance, hyper, lr, t, row.copy(), x, g, state, low, high), x.size)
    except (TypeError, AttributeError):
        _explain(opt, x, g, state, t)
        if g.flags.writeable:
            raise
        step(opt, x, g.copy(), state, t)  # what is compiled expects arrays that could be written to


def _flat(array: np.ndarray) -> np.ndarray:
    if not array.flags.c_contiguous:
        raise TypeError
    return array.reshape(-1)


@functools.cache
def compiled_step(dtype: np.dtype) -> Any:
    """A step of any program, compiled once a dtype, for callers in Python."""

    def take(prepare, advance, hyper, lr, t, row, x, g, state, low, high):
        invoke(prepare, (pointer(hyper), pointer(lr), t, pointer(row), 1))
        invoke(advance, (pointer(row), 0, pointer(x), pointer(g), pointer(state), x.size, low, high))

    whole, real, vector, matrix = types.intp, array(np.float64), array(dtype), array(dtype, 2)
    kinds = (whole, whole, array(np.float64, 2), real, whole, matrix, vector, vector, matrix, whole, whole)
    return precompile(jit(take), kinds, final=True)


class _Bound(NamedTuple):
    take: Any
    prepare: Any
    advance: Any
    hyper: np.ndarray
    lr: np.ndarray | None
    row: np.ndarray
    reduces: bool
    slots: int


@functools.lru_cache(maxsize=256)
def _bound(opt: Any, dtype: np.dtype, thread: int) -> _Bound:
    """All that a step needs besides its arrays; one row of coefficients a thread."""
    require_optimizer(opt)
    if dtype not in (np.float32, np.float64):
        raise TypeError
    if plateau_of(opt.lr) is not None or is_automatic(opt.lr):
        raise ValueError(f"lr: {opt.lr!r} follows the objective, which step() does not know; use minimize()")
    compiled: Program = program(opt, dtype)
    row = np.empty((1, compiled.width), dtype)
    lr = np.array([opt.lr]) if isinstance(opt.lr, float) else None
    return _Bound(compiled_step(dtype), compiled.prepare, compiled.advance, hyper_parameters(opt), lr, row,
                  compiled.reduces, len(opt.slots))  # fmt: skip


def require_optimizer(opt: Any) -> None:
    if isinstance(opt, type) or not (hasattr(opt, "slots") and hasattr(opt, "lr")):
        raise TypeError(f"opt: {opt!r} is not an optimizer such as numbaopt.Adam()")


def _not_an_array(verb: str, name: str, value: Any) -> str:
    """The error for what is no NumPy array; of one of a GPU it says which verb takes it."""
    told = f"{verb}: {name} must be a NumPy array, not {type(value).__name__}"
    if getattr(value, "is_cuda", False) or hasattr(value, "__cuda_array_interface__"):
        return f"{told}; numbaopt.cuda.{verb} takes those of a GPU"
    return told + (": x.detach().numpy() shares its memory" if hasattr(value, "detach") else "")


def _explain(opt: Any, x: Any, g: Any, state: Any, t: Any) -> None:
    """Say in one sentence which argument of `step` is wrong."""
    require_optimizer(opt)
    for name, value in (("x", x), ("g", g), ("state", state)):
        if not isinstance(value, np.ndarray):
            raise TypeError(_not_an_array("step", name, value))
        if value.dtype not in (np.float32, np.float64) or value.dtype != x.dtype:
            raise TypeError(f"step: {name} has dtype {value.dtype}; x, g and state must all be float32 or all float64")
        if not value.flags.c_contiguous or (name != "g" and not value.flags.writeable):
            raise ValueError(f"step: {name} must be C-contiguous" + (" and writeable" if name != "g" else ""))
    if g.shape != x.shape:
        raise ValueError(f"step: g has shape {g.shape}, x has shape {x.shape}")
    if state.shape != (len(opt.slots), x.size):
        raise ValueError(f"step: state has shape {state.shape}; init_state gives {(len(opt.slots), x.size)}")
    if not isinstance(t, (int, np.integer)) or t < 1:
        raise ValueError(f"step: t={t!r} must be an integer, 1 for the first step")


def _classes_of(opt: types.Type) -> tuple[tuple[type, ...], bool] | None:
    """The classes of the parts of an optimizer's Numba type, and whether it is a chain; None for any other type."""
    if not isinstance(opt, types.BaseNamedTuple):
        return None
    if "parts" in opt.fields:
        return tuple(part.instance_class for part in opt.types[0]), True
    return ((opt.instance_class,), False) if hasattr(opt.instance_class, "update") else None


def follows_objective(kind: Any) -> bool:
    """Whether there is a `ReduceOnPlateau` or `Automatic` in the schedule of an optimizer's Numba type."""
    while isinstance(kind, types.BaseNamedTuple):
        if kind.instance_class in (ReduceOnPlateau, Automatic):
            return True
        kind = kind.types[kind.fields.index("lr")] if "lr" in kind.fields else None
    return False


@overload(init_state)
def _init_state(opt, x):
    found = _classes_of(opt)
    if found is None:
        return None
    rows = len(found[0][-1].slots)
    return lambda opt, x: np.zeros((rows, x.size), x.dtype)


@overload(step, jit_options={"error_model": "numpy", "nogil": True})
def _step(opt, x, g, state, t):
    found = _classes_of(opt)
    if found is None:
        return None
    classes, chained = found
    if follows_objective(opt.types[0][-1] if chained else opt):
        raise TypingError("step: a rate that follows the objective, which step() does not know; use minimize()")
    counts = tuple(count_coefficients(part()) for part in classes)
    sums = sums_of(classes, counts)
    prepare, update, measure = join_prepare(classes), join_update(classes, counts), join_measure(sums)
    last = len(classes) - 1

    def coefficients(opt, x, t):
        parts = opt.parts
        return cast_all(prepare(parts, rate(parts[last].lr, t - 1.0, 1.0), t), x[0])

    def coefficients_plain(opt, x, t):
        return cast_all(prepare((opt,), rate(opt.lr, t - 1.0, 1.0), t), x[0])

    make = jit_inside(coefficients if chained else coefficients_plain, fastmath=EXACT)
    before = measure if measure is not None else jit_inside(lambda c, x, g, s: c)

    def sweep(c, x, g, state):
        for i in range(x.size):
            x[i] = update(c, x[i], g[i], state, i)

    run = jit_inside(sweep, fastmath=EXACT)

    rows = len(classes[-1].slots)

    def impl(opt, x, g, state, t):
        if g.shape != x.shape:
            raise ValueError("step: g must have the shape of x")
        if state.shape != (rows, x.size):
            raise ValueError("step: state must have the shape that init_state gives")
        if x.size:
            y, h = x.reshape(-1), g.reshape(-1)
            run(before(make(opt, y, t), y, h, state), y, h, state)

    return impl


def as_optimizer(method: Any) -> Any:
    """An optimizer instance from a name in any case, a class, or an instance."""
    if isinstance(method, str):
        if method.lower() not in OPTIMIZERS:
            raise ValueError(f"unknown optimizer {method!r}; {nearest(method, OPTIMIZERS)}")
        method = OPTIMIZERS[method.lower()]
    if isinstance(method, type) and hasattr(method, "update"):
        method = method()
    require_optimizer(method)
    return method


__all__ = ["as_optimizer", "init_state", "parts_of", "step"]
