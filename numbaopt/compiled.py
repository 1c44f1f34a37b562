"""`numbaopt.minimize` inside compiled code: the same call in functions jitted by Numba, in ``prange`` and in threads.

Loop, objective and rule become parts of the caller's machine code, each compiled on its own before; they meet by
address (``loops/alone.py``) as they do for callers in Python, so that the numbers are the same.
"""

from __future__ import annotations

import functools
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core.compiler import Compiler
from numba.core.dispatcher import Dispatcher
from numba.extending import overload

from ._jit import array, jit_inside, linked, native, short_reason
from ._packed import count_words, store
from ._warnings import warn_user
from .differences import SCHEMES, evaluations
from .inside import method_of, needs_gradient
from .inside_numbers import absent
from .loops.alone import solve
from .loops.descent import EVALUATE
from .minimize import minimize
from .optimizers._program import cast_all
from .problems.evaluation import FLOAT64, WITHOUT, RefusedError, compiled_evaluation
from .problems.function import NO_ARGS, as_scheme, takes

REAL = (types.Integer, types.Float, types.Boolean)
VECTOR = array(np.float64)
PAIRS = "bounds must be pairs (low, high), as in ((0.0, 1.0), (None, 2.0)) or an array of shape (n, 2)"


class Joined(Compiler):
    """Numba's compiler, for code that is optimised as a part of its callers' and not alone."""

    def __init__(self, typing_context, target_context, *arguments):
        from .exact import Library

        super().__init__(typing_context, target_context, *arguments)
        self.state.library = Library(self.state.targetctx.codegen(), "joined")
        self.state.library.enable_object_caching()


# Inlined, so that nothing of ``fun`` is left but its code: Numba keeps no function on disk that hands another one on.
OPTIONS: Any = {"error_model": "numpy", "nogil": True, "forceinline": True, "no_cpython_wrapper": True,
           "no_cfunc_wrapper": True, "pipeline_class": Joined}  # fmt: skip


@overload(minimize, prefer_literal=True, jit_options=OPTIONS)
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
    gradient = needs_gradient(method)
    dtype, pack, kind, evaluate, per_unknown = _objective(fun.dispatcher, jac, args, gradient, dtype_of(x0))
    start, limits, chosen = start_of(x0, dtype), _limits(bounds, dtype), method_of(method, options, tol, bounded, dtype)
    read, check, most, count, calm_steps = chosen.read, chosen.check, chosen.most, chosen.count, chosen.calm_steps
    sizes, arrange, values, way = chosen.sizes, chosen.arrange, chosen.open, chosen.way
    (loop, other), (rates, others) = chosen.loops, chosen.rates
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
        within = lower.size > 0
        rows, extra = sizes(x.size, numbers, within)
        work = arrange(method, given, numbers)
        ends = most(numbers, x.size), numbers[count], numbers[count + 1], numbers[count + 2]
        first = way(method, given, within) == 0
        found = solve(x, lower, upper, rows, extra, calm_steps, ends, loop() if first else other(), evaluate(), data,
                      per_unknown, rates() if first else others(), work)  # fmt: skip
        for i in range(0 if gradient else x.size):
            found.jac[i] = np.nan
        return found

    return impl


def _objective(fun: Any, jac: Any, args: Any, gradient: bool, dtype: np.dtype) -> tuple[Any, ...]:
    """The dtype of the unknowns; how arguments are packed, and their Numba type; the address of the evaluation; its
    cost; see `Function`.
    """
    jac, (items, items_of) = scheme_of(jac), items_in(args)
    jac = jac if gradient or jac is True else WITHOUT
    if dtype != FLOAT64:
        dtype = FLOAT64 if jac in SCHEMES or not takes(fun, dtype, items) else dtype
    jac, kind, evaluate = evaluated(compiled_evaluation, fun, jac, items, dtype)
    numerical = jac in SCHEMES
    dtype = FLOAT64 if numerical else dtype
    return dtype, packer_of(items_of, numerical), kind, linked(evaluate, EVALUATE), evaluations(jac, 1) * numerical


def evaluated(made_by: Any, fun: Dispatcher, jac: Any, items: Any, dtype: np.dtype) -> tuple[Any, Any, Any]:
    """How derivatives are had, the Numba type of what is packed, and what ``made_by(fun, jac, kind, dtype)`` makes.

    Where the exact derivative cannot be had and nobody insists, differences in float64 take its place.
    """
    from .exact import UnsupportedError

    def made(jac, dtype):
        kind = types.Tuple((items, VECTOR, VECTOR) if jac in SCHEMES else (items, types.boolean))
        return jac, kind, made_by(fun, jac, kind, dtype)[0]

    try:
        try:
            return made(jac, dtype)
        except UnsupportedError as error:
            fun.compile((array(dtype), *items))  # what cannot be compiled is told as without derivatives
            if jac != "ad":
                raise TypeError(f"jac={jac!r}: {error}") from None
            warn_user(f"{str(error).splitlines()[0]}; central differences take the place of the exact gradient")
            return made("3-point", FLOAT64)
    except RefusedError as error:
        raise ValueError(str(error)) from None
    except Exception as error:  # Numba raises all sorts of things on what it does not know
        raise TypeError(str(error) if type(error) is TypeError else
                        f"fun cannot be compiled: {short_reason(error)}") from None  # fmt: skip


def packer_of(items_of: Any, numerical: bool) -> Any:
    """``pack(args, lower, upper)``, for compiled code: what an evaluation needs besides x."""

    def pack(args, lower, upper):
        return items_of(args), lower, upper

    def pack_plain(args, lower, upper):
        return items_of(args), True

    return jit_inside(pack if numerical else pack_plain)


def items_in(args: Any) -> tuple[Any, Any]:
    """The types of all further arguments, and a function for compiled code that makes a tuple of them."""
    whole = isinstance(args, (tuple, types.BaseTuple))
    items = types.BaseTuple.from_types(tuple(map(types.unliteral, args if whole else (args,))))
    return items, jit_inside(lambda args: args) if whole else jit_inside(lambda args: (args,))


def scheme_of(jac: Any) -> Any:
    """What ``jac`` is by its Numba type, as `Function` knows it."""
    if absent(jac):
        return "ad"
    if isinstance(jac, types.Dispatcher):
        return jac.dispatcher
    if not isinstance(jac, types.Literal):
        told = NO_ARGS if isinstance(jac, types.BaseTuple) else ""
        raise TypeError("jac must be a jitted function, True, None or a literal name such as 'forward', "
                        f"not {jac}{told}")  # fmt: skip
    return as_scheme(jac.literal_value) or "ad"


def dtype_of(x0: Any) -> np.dtype:
    """Of the unknowns: float32 where x0 is such an array."""
    single = isinstance(x0, types.Array) and x0.dtype == types.float32
    return np.dtype(np.float32) if single else FLOAT64


def start_of(x0: Any, dtype: np.dtype = FLOAT64) -> Any:
    """``start(x0)``: a new vector."""
    copy = _copier(dtype)
    if isinstance(x0, types.BaseTuple) and len(x0) and all(isinstance(item, REAL) for item in x0.types):
        return jit_inside(lambda x0: copy(cast_all(x0, 0.0)))
    if isinstance(x0, (types.List, types.ListType, types.Array)) and isinstance(x0.dtype, REAL):
        if isinstance(x0, types.Array) and x0.ndim != 1:
            raise ValueError(f"x0 must only have one dimension, not {x0.ndim}")
        return copy
    if isinstance(x0, REAL):
        return jit_inside(lambda x0: copy((float(x0),)))
    raise TypeError("x0 must be a vector of real numbers" + ("" if absent(x0) else f", not {x0}"))


@functools.cache
def _copier(dtype: np.dtype) -> Any:
    number = numba.from_dtype(dtype)

    def copy(values):
        if len(values) == 0:
            raise ValueError("x0 is empty: there is nothing to minimize over")
        x = np.empty(len(values), number)
        for i in range(len(values)):
            x[i] = values[i]
        return x

    return jit_inside(copy)


def _limits(bounds: Any, dtype: np.dtype = FLOAT64) -> Any:
    """``limits(bounds, n)``: lower and upper bounds as vectors, or two empty ones."""
    if dtype != FLOAT64:
        limits, copy = _limits(bounds), _converter(dtype)
        return jit_inside(lambda bounds, n: copy(limits(bounds, n)))
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


def _converter(dtype: np.dtype) -> Any:
    number = numba.from_dtype(dtype)
    return jit_inside(lambda limits: (limits[0].astype(number), limits[1].astype(number)))


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
            raise ValueError("bounds: a lower one exceeds the upper one, or one is not a number")
        finite = finite or lower[i] > -np.inf or upper[i] < np.inf
    if not finite:
        return lower[:0].copy(), upper[:0].copy()
    return lower, upper

