"""`numbaopt.minimize` inside compiled code: the same call in functions jitted by Numba, in ``prange`` and in threads.

Loop, objective and rule become parts of the caller's machine code, each compiled on its own before; they meet by
address (``loops/alone.py``) as they do for callers in Python, so that the numbers are the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.core.dispatcher import Dispatcher
from numba.extending import overload

from ._jit import array, jit_inside, linked, native, short_reason
from ._packed import count_words, store
from .differences import SCHEMES, evaluations
from .inside import absent, method_of
from .loops.alone import solve
from .loops.descent import EVALUATE
from .minimize import minimize
from .optimizers._program import cast_all
from .problems.evaluation import EXACT, RefusedError, compiled_evaluation
from .problems.function import as_scheme, frames_inside

REAL = (types.Integer, types.Float, types.Boolean)
VECTOR = array(np.float64)
PAIRS = "bounds must be pairs (low, high), as in ((0.0, 1.0), (None, 2.0)) or an array of shape (n, 2)"


# Inlined, so that nothing of ``fun`` is left but its code: Numba keeps no function on disk that hands another one on.
@overload(minimize, prefer_literal=True, jit_options={"error_model": "numpy", "nogil": True, "forceinline": True})
def _minimize(fun, x0=None, args=(), method=None, jac=None, hess=None, hessp=None, bounds=None, constraints=(),
              tol=None, callback=None, options=None):  # fmt: skip
    if not isinstance(fun, types.Dispatcher):
        raise TypeError(f"fun must be a jitted function in compiled code, not {fun}")
    for name, kind in (("hess", hess), ("hessp", hessp), ("constraints", constraints), ("callback", callback)):
        if not (absent(kind) or kind == () or (isinstance(kind, types.BaseTuple) and len(kind) == 0)):
            raise TypeError(f"{name} is not possible in compiled code; leave it out")
    if not (absent(tol) or isinstance(tol, types.Number)):
        raise TypeError(f"tol must be a number, not {tol}")
    bounded = not absent(bounds)
    start, limits, chosen = _start(x0), _limits(bounds), method_of(method, options, tol, bounded)
    pack, kind, evaluate, per_unknown = _objective(fun.dispatcher, jac, args, bounded)
    read, check, most, count, calm_steps = chosen.read, chosen.check, chosen.most, chosen.count, chosen.calm_steps
    sizes, arrange, ready, values, (free, within) = (chosen.sizes, chosen.arrange, chosen.ready, chosen.open,
                                                     chosen.loops)  # fmt: skip
    words = max(1, count_words(kind))

    def impl(fun, x0=None, args=(), method=None, jac=None, hess=None, hessp=None, bounds=None, constraints=(),
             tol=None, callback=None, options=None):  # fmt: skip
        x = start(x0)
        lower, upper = limits(bounds, x.size)
        given = values(options)
        numbers = read(method, given, tol)
        check(numbers)
        data = np.empty(words, np.int64)
        packed = pack(args, lower, upper)
        store(packed, data)
        rows, extra = sizes(x.size, numbers, lower.size > 0)
        work = arrange(method, given, numbers)
        ends = most(numbers, x.size), numbers[count], numbers[count + 1], numbers[count + 2]
        loop = within() if lower.size > 0 else free()
        return solve(x, lower, upper, rows, extra, calm_steps, ends, loop, evaluate(), data, per_unknown, ready(), work)

    return impl


def _objective(fun: Any, jac: Any, args: Any, bounded: bool) -> tuple[Callable[..., Any], Any, Any, int]:
    """How arguments are packed and their Numba type; the address of the evaluation; its cost; see `Function`."""
    jac, whole = _scheme(jac), isinstance(args, (tuple, types.BaseTuple))
    items = types.BaseTuple.from_types(tuple(map(types.unliteral, args if whole else (args,))))
    try:
        evaluate = None
        if jac in EXACT:
            evaluate = _exact(fun, jac, items)
            jac = jac if evaluate is not None else "3-point"
        numerical = isinstance(jac, str) and jac in SCHEMES
        kind = types.Tuple((items, VECTOR, VECTOR) if numerical else (items, types.boolean))
        if evaluate is None:
            evaluate = compiled_evaluation(fun, jac, kind)[0]
    except RefusedError as error:
        raise ValueError(str(error)) from None
    except Exception as error:  # Numba raises all sorts of things on what it does not know
        raise TypeError(str(error) if type(error) is TypeError else
                        f"fun cannot be compiled: {short_reason(error)}") from None  # fmt: skip
    items_of = jit_inside(lambda args: args) if whole else jit_inside(lambda args: (args,))

    def pack(args, lower, upper):
        return items_of(args), lower, upper

    def pack_plain(args, lower, upper):
        return items_of(args), True

    packer = jit_inside(pack if numerical else pack_plain)
    return packer, kind, linked(evaluate, EVALUATE), evaluations(jac, 1) if numerical else 0


def _scheme(jac: Any) -> Any:
    """What ``jac`` is by its Numba type, as `Function` knows it."""
    if absent(jac):
        return "ad"
    if isinstance(jac, types.Dispatcher):
        return jac.dispatcher
    if not isinstance(jac, types.Literal):
        raise TypeError(f"jac must be a jitted function, True, None or a literal name such as 'forward', not {jac}")
    return as_scheme(jac.literal_value) or "ad"


def _exact(fun: Dispatcher, jac: str, items: Any) -> Any:
    """The evaluation with the exact gradient; None, and a warning, where there is none and nobody insists."""
    from .exact import UnsupportedError

    try:
        return compiled_evaluation(fun, jac, types.Tuple((items, types.boolean)))[0]
    except UnsupportedError as error:
        fun.compile((VECTOR, *items))  # what cannot be compiled is told as without derivatives
        if jac != "ad":
            raise TypeError(f"jac={jac!r}: {error}") from None
        warnings.warn(f"{str(error).splitlines()[0]}; central differences take the place of the exact gradient",
                      RuntimeWarning, stacklevel=frames_inside())  # fmt: skip
        return None


def _start(x0: Any) -> Any:
    """``start(x0)``: a new float64 vector."""
    if isinstance(x0, types.BaseTuple) and len(x0) and all(isinstance(item, REAL) for item in x0.types):
        return jit_inside(lambda x0: _copy(cast_all(x0, 0.0)))
    if isinstance(x0, (types.List, types.ListType, types.Array)) and isinstance(x0.dtype, REAL):
        if isinstance(x0, types.Array) and x0.ndim != 1:
            raise ValueError(f"x0 must only have one dimension, not {x0.ndim}")
        return _copy
    if isinstance(x0, REAL):
        return jit_inside(lambda x0: _copy((float(x0),)))
    raise TypeError("x0 must be a vector of real numbers" + ("" if absent(x0) else f", not {x0}"))


@jit_inside
def _copy(values):
    if len(values) == 0:
        raise ValueError("x0 is empty: there is nothing to minimize over")
    x = np.empty(len(values))
    for i in range(len(values)):
        x[i] = values[i]
    return x


def _limits(bounds: Any) -> Any:
    """``limits(bounds, n)``: lower and upper bounds as vectors, or two empty ones."""
    if absent(bounds):
        return _no_limits
    if isinstance(bounds, types.Array) and bounds.ndim == 2 and isinstance(bounds.dtype, REAL):
        return jit_inside(lambda bounds, n: _sides(bounds.shape[0] * (bounds.shape[1] == 2), bounds, n))
    if isinstance(bounds, types.BaseTuple) and len(bounds) and all(_is_pair(pair) for pair in bounds):
        return jit_inside(lambda bounds, n: _sides(len(bounds), _flat(bounds), n))
    if isinstance(bounds, (types.List, types.ListType)) and _is_pair(bounds.dtype):
        return jit_inside(lambda bounds, n: _sides(len(bounds), bounds, n))
    raise TypeError(PAIRS)


def _is_pair(kind: Any) -> bool:
    return isinstance(kind, types.BaseTuple) and len(kind) == 2 and all(absent(k) or isinstance(k, REAL) for k in kind)


@jit_inside
def _no_limits(bounds, n):
    return np.empty(0), np.empty(0)


@native(lambda bounds: bounds)
def _flat(typing_context, bounds):
    """A tuple of pairs of numbers as one of pairs of float64; None is infinite."""
    pair = types.UniTuple(types.float64, 2)
    made = types.UniTuple(pair, len(bounds))

    def codegen(context, builder, signature, values):
        pairs = []
        for k, kinds in enumerate(signature.args[0]):
            ends = []
            for j, kind in enumerate(kinds):
                end = builder.extract_value(builder.extract_value(values[0], k), j)
                ends.append(context.get_constant(types.float64, (-np.inf, np.inf)[j]) if absent(kind) else
                            context.cast(builder, end, types.unliteral(kind), types.float64))  # fmt: skip
            pairs.append(context.make_tuple(builder, pair, ends))
        return context.make_tuple(builder, made, pairs)

    return made(bounds), codegen


@jit_inside
def _sides(count, pairs, n):
    if count != n:
        raise ValueError("bounds are not of the length of x0")
    lower, upper, finite = np.empty(n), np.empty(n), False
    for i in range(n):
        lower[i], upper[i] = pairs[i][0], pairs[i][1]
        if not lower[i] <= upper[i]:
            raise ValueError("bounds: a lower one exceeds the upper one")
        finite = finite or lower[i] > -np.inf or upper[i] < np.inf
    if not finite:
        return lower[:0].copy(), upper[:0].copy()
    return lower, upper

