"""A user's functions on a GPU, as the loops call them: ``evaluate`` and ``residuals`` of device functions.

The functions are computed with numbers that know their derivatives, always: where nobody asks for those, the compiler
leaves nothing of them.  So what NumPy is there is that of `autodiff`, and a gradient is exact, by forward mode.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from ...differences import SCHEMES
from ...problems.evaluation import EXACT, WITHOUT, as_dispatcher
from ...problems.function import as_scheme
from .._backend import SIMULATED
from ..functions import device

WIDTH = 4  # unknowns that are differentiated in one run of the function
MODE = "forward"
REFUSED = {"reverse": "reverse mode keeps a tape, for which a thread has no memory",
           "cs": "there are no complex unknowns"}  # fmt: skip


class Derived(NamedTuple):
    """How the derivatives of a function are found on a GPU."""

    fun: Any  # jitted
    jac: Any  # jitted, True, "forward", a scheme of differences or "without"
    n: int
    width: int  # of the numbers that `fun` is computed with for derivatives


def derived(fun: Any, jac: Any, n: int) -> Derived:
    """What `minimize_many` is given, checked."""
    jac = as_scheme(jac)
    if isinstance(jac, str) and jac in REFUSED:
        raise ValueError(f"jac={jac!r} is not possible with device='cuda': {REFUSED[jac]}; leave it out for exact "
                         "gradients by forward mode")  # fmt: skip
    if jac is None or (isinstance(jac, str) and jac in EXACT):
        jac = MODE
    jac = as_dispatcher(jac) if callable(jac) else jac
    return Derived(as_dispatcher(fun), jac, n, min(n, WIDTH) if jac == MODE else 1)


if SIMULATED:
    from types import SimpleNamespace

    from .simulated import listed, seeded, slope, twin, unwrapped, value

    def tools(width: int, n: int) -> tuple[Any, Any]:
        """``room() -> n numbers`` and ``seed(x, which) -> number``, of which ``width`` are differentiated."""
        return (lambda: np.empty(n, object)), (lambda x, which: seeded(x, which, width))

    def twin_of(function: Any, width: int) -> Any:
        made = twin(getattr(function, "py_func", function))
        return lambda p, *args: made(p, *unwrapped(args))

    def open_room(room: Any) -> None:
        pass

    cuda: Any = SimpleNamespace(local=SimpleNamespace(array=np.empty))  # the simulator's is only known to kernels
else:
    from llvmlite import ir
    from numba.core import cgutils, types

    from ...autodiff.clone import clone
    from ...autodiff.numbers import Dual, Number, NumberArray
    from ...autodiff.scalars import value  # type: ignore[assignment]
    from .._backend import cuda, intrinsic
    from .lowering import fill_new, open_room, over  # type: ignore[assignment]

    @functools.cache
    def tools(width: int, n: int) -> tuple[Any, Any]:
        """``room() -> n numbers`` and ``seed(x, which) -> number``, of which ``width`` are differentiated."""
        number = Dual(width)

        @intrinsic
        def room(typing_context):
            def codegen(context, builder, signature, args):
                where = cgutils.alloca_once(builder, ir.ArrayType(context.get_data_type(number), n))
                return over(context, builder, signature.return_type, where, n)

            return NumberArray(number, 1, "C")(), codegen

        @intrinsic
        def seed(typing_context, x, which):
            def codegen(context, builder, signature, args):
                made = number.constant(context, builder, context.cast(builder, args[0], x, types.float64))
                tangent, one = builder.extract_value(made, 1), ir.Constant(ir.DoubleType(), 1.0)
                place = context.cast(builder, args[1], which, types.intp)
                for k in range(width):
                    here = builder.icmp_signed("==", place, ir.Constant(place.type, k))
                    item = builder.select(here, one, ir.Constant(one.type, 0.0))
                    tangent = builder.insert_element(tangent, item, ir.Constant(ir.IntType(32), k))
                return builder.insert_value(made, tangent, 1)

            return number(x, which), codegen

        return room, seed

    @intrinsic
    def slope(typing_context, x, k):
        """The derivative of a number with respect to the unknown ``k`` of those that are differentiated."""

        def codegen(context, builder, signature, args):
            if not isinstance(x, Number):
                return ir.Constant(ir.DoubleType(), 0.0)
            place = builder.trunc(context.cast(builder, args[1], k, types.int64), ir.IntType(32))
            return builder.extract_element(builder.extract_value(args[0], 1), place)

        return types.float64(x, k), codegen

    @intrinsic
    def listed(typing_context, found):
        """What a function returned as a vector: an array, a tuple of numbers, or one."""
        if isinstance(found, types.Array):
            return found(found), lambda context, builder, signature, args: args[0]
        kinds = found.types if isinstance(found, types.BaseTuple) else [found]
        number = next((kind for kind in kinds if isinstance(kind, Number)), types.float64)
        made = NumberArray(number, 1, "C") if isinstance(number, Number) else types.Array(number, 1, "C")

        def codegen(context, builder, signature, args):
            items = cgutils.unpack_tuple(builder, args[0]) if isinstance(found, types.BaseTuple) else [args[0]]
            items = [context.cast(builder, *pair, number) for pair in zip(items, kinds, strict=True)]
            return fill_new(context, builder, made, items)

        return made(found), codegen

    def twin_of(function: Any, width: int) -> Any:
        """The device function that computes with numbers that carry ``width`` derivatives."""
        return device(clone(function, Dual(width)).py_func)


def _lifted(x, p, seed, first):
    for i in range(p.size):
        p[i] = seed(x[i], i - first)


def pieces(of: Derived, m: int) -> int:
    """Of how many runs of the function, or some at once, the derivatives are made; 0: they cannot be taken apart."""
    if of.jac == MODE:
        return -(-of.n // of.width)
    return (m or of.n) if isinstance(of.jac, str) and of.jac in SCHEMES else 0


def part(of: Derived, words: int) -> Any:
    """``part(x, work, g, first, every, data) -> fun`` as a device function: ``evaluate`` of `evaluation`, in `pieces`.

    Of those of the gradient it makes ``first`` and, from there on, ``every`` so many.
    """
    n, width = of.n, of.width
    if of.jac != MODE:
        return device(_by_differences(of, words))
    fun, lift, (make, seed), count = twin_of(of.fun, width), device(_lifted), tools(width, n), pieces(of, 0)

    def forward(x, work, g, first, every, data):
        room = cuda.local.array(words, np.float64)
        value_here = 0.0
        for piece in range(first, count, every):
            open_room(room)
            p, start = make(), piece * width
            lift(x, p, seed, start)
            found = fun(p, *data[0])
            value_here = value(found)
            for k in range(width):
                if start + k < n:
                    g[start + k] = slope(found, k)
        return value_here

    return device(forward)


def evaluation(of: Derived, words: int) -> Any:
    """``evaluate(x, work, g, n, data) -> fun`` as a device function; ``data`` is (args, lower, upper).

    ``words``: how many of memory a thread has for temporary arrays.
    """
    n, width, jac = of.n, of.width, of.jac
    if pieces(of, 0):
        all_of_it = part(of, words)
        return device(lambda x, work, g, n_, data: all_of_it(x, work, g, 0, 1, data))
    fun, lift, (make, seed) = twin_of(of.fun, width), device(_lifted), tools(width, n)

    def without(x, work, g, n_, data):
        room = cuda.local.array(words, np.float64)
        open_room(room)
        p = make()
        lift(x, p, seed, n)
        return value(fun(p, *data[0]))

    if jac == WITHOUT:
        return device(without)
    gradient = None if jac is True else twin_of(jac, width)

    def given(x, work, g, n_, data):
        room = cuda.local.array(words, np.float64)
        open_room(room)
        p = make()
        lift(x, p, seed, n)
        value_here = value(fun(p, *data[0]))
        lift(x, p, seed, n)
        found = listed(gradient(p, *data[0]))
        if found.size != n:
            raise ValueError("jac returned a gradient of another length than x")
        for i in range(n):
            g[i] = value(found[i])
        return value_here

    def both(x, work, g, n_, data):
        room = cuda.local.array(words, np.float64)
        open_room(room)
        p = make()
        lift(x, p, seed, n)
        pair = fun(p, *data[0])
        found = listed(pair[1])
        if found.size != n:
            raise ValueError("fun returned a gradient of another length than x")
        for i in range(n):
            g[i] = value(found[i])
        return value(pair[0])

    return device(both if gradient is None else given)


def _by_differences(of: Derived, words: int) -> Any:
    n = of.n
    fun, lift, (make, seed), scheme = twin_of(of.fun, 1), device(_lifted), tools(1, n), device(SCHEMES[of.jac])

    def plain(x, *args):
        room = cuda.local.array(words, np.float64)
        open_room(room)
        p = make()
        lift(x, p, seed, n)
        return value(fun(p, *args))

    plain = device(plain)

    def differences(x, work, g, first, every, data):
        value_here = plain(x, *data[0])
        scheme(plain, x, work, g, value_here, data[0], data[1], data[2], first, every)
        return value_here

    return differences


def residuals(of: Derived, m: int, words: int) -> Any:
    """``residuals(x, work, r, J, n, m, wanted, data)`` as a device function; see `loops.least_squares.RESIDUALS`."""
    values, derive = residual_parts(of, m, words)

    def evaluate(x, work, r, J, n_, m_, wanted, data):
        if wanted:
            derive(x, work, r, J, 0, 1, data)
        else:
            values(x, r, data)

    return device(evaluate)


def residual_parts(of: Derived, m: int, words: int) -> tuple[Any, Any]:
    """``values(x, r, data)`` and ``derive(x, work, r, J, first, every, data)``, the Jacobian in `pieces`, as `part`."""
    n, width, jac = of.n, of.width, of.jac
    plain, lift, (make, seed) = twin_of(of.fun, 1), device(_lifted), tools(1, n)
    fun, (make_wide, seed_wide) = twin_of(of.fun, width), tools(width, n)
    matrix = twin_of(jac, 1) if not isinstance(jac, str) else None
    scheme, count = SCHEMES.get(jac) if isinstance(jac, str) else None, pieces(of, m)

    def values(x, r, data):
        room = cuda.local.array(words, np.float64)
        open_room(room)
        p = make()
        lift(x, p, seed, n)
        found = listed(plain(p, *data[0]))
        if found.size != m:
            raise ValueError("fun returned another number of residuals than at x0")
        for i in range(m):
            r[i] = value(found[i])

    values = device(values)

    def forward(x, work, r, J, first, every, data):
        room = cuda.local.array(words, np.float64)
        for piece in range(first, count, every):
            open_room(room)
            p, start = make_wide(), piece * width
            lift(x, p, seed_wide, start)
            found = listed(fun(p, *data[0]))
            for k in range(width):
                if start + k < n:
                    for i in range(m):
                        J[(start + k) * m + i] = slope(found[i], k)

    def given(x, work, r, J, first, every, data):
        room = cuda.local.array(words, np.float64)
        open_room(room)
        p = make()
        lift(x, p, seed, n)
        found = matrix(p, *data[0])
        if found.shape[0] != m or found.shape[1] != n:
            raise ValueError("jac returned a matrix of another shape than (residuals, unknowns)")
        for i in range(m):
            for j in range(n):
                J[j * m + i] = value(found[i, j])

    if scheme is not None:
        derive = _columns_by_differences(jac, n, m, values)
    else:
        derive = forward if matrix is None else given
    return values, device(derive)


def _columns_by_differences(scheme: str, n: int, m: int, values: Any) -> Any:
    """Differences of one residual at a time, by the scheme for numbers."""
    step = device(SCHEMES[scheme])

    def one(x, i, r, data):
        values(x, r, data)
        return r[i]

    one = device(one)

    def differences(x, work, r, J, first, every, data):
        trial, slopes = cuda.local.array(m, np.float64), cuda.local.array(n, np.float64)
        for i in range(first, m, every):
            step(one, x, work, slopes, r[i], (i, trial, data), data[1], data[2])
            for j in range(n):
                J[j * m + i] = slopes[j]

    return differences


__all__ = ["Derived", "derived", "evaluation", "part", "pieces", "residual_parts", "residuals"]
