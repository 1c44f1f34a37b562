"""Finite sums: any function that is a mean over terms, whole or in batches."""

from __future__ import annotations

import functools
import hashlib
import inspect
import math
import warnings
from typing import Any, NamedTuple

import numba
import numpy as np
from numba.core.dispatcher import Dispatcher

from .._jit import address, address_of, array_at, invoke_value, jit_for_address, jit_inside, pointer
from .._packed import Packed, unpacker
from ..differences import SCHEMES
from ..loops.descent import EVALUATE, evaluate_at
from ..loops.minibatch import BATCH, numbers
from ..loops.state import largest
from .evaluation import mend_message
from .function import Function, as_scheme

CHUNK_SIZE = 1024
DTYPES = (np.dtype(np.float64), np.dtype(np.float32))


class FiniteSum:
    r"""A mean over terms, given by a function that computes the mean of any of them.

    .. math:: f(x) = \frac1n \sum_{i=0}^{n-1} f_i(x), \qquad
              \mathtt{fun}(x, I) = \frac1{|I|} \sum_{i \in I} f_i(x)

    Parameters
    ----------
    fun : callable
        ``fun(x, idx, *args) -> float``, the mean of the terms whose numbers are in the int64 vector ``idx``.  As for
        functions of `numbaopt.minimize`: jitted by Numba it is compiled into the loops; else that is tried, and a
        warning says why it cannot be done.  ``x`` and ``idx`` are only lent: to keep them, copy them.
    n : int
        Number of terms: ``idx`` holds numbers from 0 to n - 1, which jitted functions usually do not check.
    args : tuple
        What ``fun`` and ``jac`` are given besides, such as a table and a target.
    jac : callable, True, {"ad", "forward", "reverse", "2-point", "3-point", "cs"} or None
        ``jac(x, idx, *args)`` returns the gradient of the same mean (batches then call it alone); True: ``fun`` returns
        (value, gradient); None: the exact gradient of ``fun`` where it has one; all as in `numbaopt.minimize`.
    chunk_size : int
        Most terms in a call: of larger batches, and of the whole objective, means over chunks are averaged by their
        numbers of terms, so that memory stays bounded.
    dtype : {float64, float32}
        Of ``x`` and its gradient; numerical gradients need float64.

    Attributes
    ----------
    n_terms : int
        Number of terms.

    Raises
    ------
    ValueError, TypeError
        If an argument is not usable; the sentence names it.

    Notes
    -----
    A model of data that is not linear is such a sum: see ``numbaopt/experiments/network.py`` for networks of layers.
    The number of unknowns is that of the starting point, which `numbaopt.minimize` therefore needs.

    Examples
    --------
    The mean of a table's rows:

    >>> import numpy as np, numba, numbaopt as no
    >>> @numba.njit
    ... def distance(x, idx, X):
    ...     gap = x - X[idx]
    ...     return 0.5 * (gap**2).sum() / idx.size, gap.sum(axis=0) / idx.size
    >>> X = np.arange(20.0).reshape(10, 2)
    >>> terms = no.FiniteSum(distance, 10, args=(X,), jac=True)
    >>> options = dict(lr=no.schedules.InverseTime(0.5, gamma=0.1), batch_size=2, epochs=50)
    >>> no.minimize(terms, np.zeros(2), method="sgd", options=options).x.round(1)
    array([ 9., 10.])
    """

    def __init__(self, fun: Any, n: int, args: tuple = (), jac: Any = None, chunk_size: int = CHUNK_SIZE,
                 dtype: Any = np.float64):  # fmt: skip
        if not callable(fun):
            raise TypeError(f"fun must be callable, not {type(fun).__name__}")
        self.fun, self.jac, self.args = fun, as_scheme(jac), args if isinstance(args, tuple) else (args,)
        self.n_terms, self.chunk_size = _positive("n", n), _positive("chunk_size", chunk_size)
        self.dtype = np.dtype(dtype)
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype={dtype!r} must be float64 or float32")
        if isinstance(self.jac, str) and self.jac in SCHEMES and self.dtype != np.float64:
            raise ValueError(f"dtype={self.dtype}: numerical gradients (jac={self.jac!r}) need float64")

    def bind(self, n: int, lower: Any = (), upper: Any = (), jit: bool | None = None) -> BoundSum:
        """The sum for a known number of unknowns, and bounds that differences must respect: what a run works on."""
        return BoundSum(self, n, np.asarray(lower, float), np.asarray(upper, float), jit)

    def value_and_grad(self, x: Any) -> tuple[float, np.ndarray]:
        """Mean of all terms, and its gradient, at ``x``.

        Examples
        --------
        >>> import numpy as np, numbaopt as no
        >>> no.FiniteSum(lambda x, idx: x[0] * np.mean(idx), 5).value_and_grad([3.0])
        (6.0, array([2.]))
        """
        x = np.ascontiguousarray(x, self.dtype)
        return self.bind(x.size).value_and_grad(x)

    def value(self, x: Any) -> float:
        """Mean of all terms at ``x``."""
        return self.bind(np.size(x)).value(np.ascontiguousarray(x, self.dtype))

    def digest(self) -> str:
        """A short hash of the arguments; of large arrays, of a part of them."""
        digest = hashlib.sha256()
        for value in self.args:
            flat = np.atleast_1d(value).reshape(-1) if isinstance(value, (np.ndarray, int, float)) else None
            told = repr(type(value)).encode() if flat is None else flat[:: 1 + (flat.nbytes >> 24)].tobytes()
            digest.update(told)
        return digest.hexdigest()[:12]

    def __repr__(self) -> str:
        return (f"FiniteSum({getattr(self.fun, '__qualname__', type(self.fun).__name__)}, {self.n_terms}, "
                f"chunk_size={self.chunk_size}, dtype={self.dtype})")  # fmt: skip


def _positive(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}={value!r} must be an integer")
    if not 1 <= value < 2**62:
        raise ValueError(f"{name}={value!r} must be at least 1")
    return int(value)


def _is_alone(fun: Any) -> bool:
    """Whether a function is jitted, so that it checks no index, and calls nothing that might do neither."""
    if not isinstance(fun, Dispatcher):
        return False
    function = fun.py_func
    used = [function.__globals__.get(name) for name in function.__code__.co_names]
    used += [cell.cell_contents for cell in function.__closure__ or ()]
    modules = [value.__name__ for value in used if inspect.ismodule(value)]
    return {"math", "numpy"}.issuperset(modules) and not any(isinstance(value, Dispatcher) for value in used)


class BoundSum(Function):
    """A `FiniteSum` with a known number of unknowns, for one run.

    At most ``at_once`` terms of a batch are given to the function at a time, if that is less than a chunk.

    To compiled code it is a `Function` whose first argument is a vector of term numbers.  The loops of this file write
    the numbers of one chunk there, and among the words of the packed arguments how many there are and whether more than
    the gradient is wanted.
    """

    def __init__(self, terms: FiniteSum, n: int, lower: np.ndarray, upper: np.ndarray, jit: bool | None):
        self.terms, self.n_terms, self.dtype = terms, terms.n_terms, terms.dtype
        self.index = np.zeros(min(terms.chunk_size, terms.n_terms), np.int64)
        short = [isinstance(arg, np.ndarray) and arg.ndim and len(arg) < terms.n_terms for arg in terms.args]
        if any(short) and _is_alone(terms.fun):
            self._look_at_last_term(n)
        super().__init__(terms.fun, terms.jac, (self.index, *terms.args), n, lower, upper, jit)
        inner, words = (self.data.address, self.data.words.view(np.int64)) if self.data else (0, np.zeros(2, np.int64))
        self.length = words[1:2]
        self._wanted = words[-1:] if callable(self.jac) else np.zeros(1, np.int64)
        self._inner, self.at_once, self.kernels = inner, self.index.size, _loops(self.dtype)

    def _look_at_last_term(self, n: int) -> None:
        """Raise where it reads beyond its data; compiled code would not notice."""
        last = np.array([self.n_terms - 1])
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                args = [arg.copy() if isinstance(arg, np.ndarray) and len(np.atleast_1d(arg)) < self.n_terms else arg
                        for arg in self.terms.args]  # fmt: skip
                self.terms.fun.py_func(np.zeros(n, self.dtype), last, *args)
        except IndexError as error:
            raise ValueError(f"n={self.n_terms}: the function has no term {self.n_terms - 1}: {error}") from None
        except Exception:  # which compiled code need not share
            return

    def arguments(self) -> tuple:
        """The terms of the chunk at hand, and what the user gave."""
        return self.index[: self.length[0]], *self.terms.args

    def pack(self) -> Packed:
        """What the loops of this file work on."""
        chunks = Chunks(self.evaluate, self._inner, self.length, self._wanted, self.index,
                        np.zeros(self.n, self.dtype), np.zeros(self.n), self.n_terms,
                        min(self.at_once, self.index.size))  # fmt: skip
        return Packed(chunks, _kind(self.dtype))

    def value_and_grad(self, x: Any) -> tuple[float, np.ndarray]:
        """Mean of all terms, and its gradient."""
        x, data = np.ascontiguousarray(x, self.dtype), self.pack()
        g = np.empty_like(x)
        try:
            return evaluate_at(self.kernels.evaluate, x, x, address_of(g), data.address), g
        except ValueError as error:
            raise mend_message(error) from None
        except StopIteration:
            error = self.callback and self.callback.take_error()
            if error is None:
                raise
            raise error from None

    def value(self, x: np.ndarray) -> float:
        """Mean of all terms, without a gradient where there is another way."""
        if self.jac is True:
            return self.value_and_grad(x)[0]
        total, size = 0.0, self.index.size
        for begin in range(0, self.n_terms, size):
            count = min(size, self.n_terms - begin)
            self.index[:count], self.length[0] = np.arange(begin, begin + count), count
            total += count / self.n_terms * super().value(x)
        return total

    def digest(self) -> str:
        """That of the terms."""
        return self.terms.digest()

    def __repr__(self) -> str:
        return repr(self.terms)


class Chunks(NamedTuple):
    """What the loops over chunks work on: addresses of the evaluation and its data, scratch, the number of terms."""

    evaluate: Any  # of the mean of a chunk, and its gradient
    data: int
    length: np.ndarray  # (1,) how many terms the evaluation is given
    wanted: np.ndarray  # (1,) whether it is asked for the mean itself
    which: np.ndarray  # (most,) their numbers
    work: np.ndarray  # (n,)
    total: np.ndarray  # (n,)
    n_terms: int
    at_once: int


class Loops(NamedTuple):
    """Addresses of the loops."""

    evaluate: Any
    batch: Any
    functions: tuple[Any, ...]


@functools.cache
def _kind(dtype: np.dtype) -> numba.types.Type:
    """Numba's type of `Chunks`."""
    one = np.zeros(1, np.int64)
    return numba.typeof(Chunks(0, 0, one, one, one, np.zeros(1, dtype), np.zeros(1), 0, 0))


@functools.cache
def _loops(dtype: np.dtype) -> Loops:
    unpack, vector = unpacker(_kind(dtype)), array_at(dtype)

    @jit_inside
    def mean(p, wanted, most, x, g, n, order, count):
        """The mean over the terms ``order[:count]``, or the first ``count`` where there is no order; its gradient."""
        index, total, fun = p.which, p.total, 0.0
        p.wanted[0] = wanted
        for i in range(n if count > most else 0):
            total[i] = 0.0
        for begin in range(0, count, most):
            size = count - begin if count - begin < most else most
            for k in range(size):
                index[k] = order[begin + k] if order.size > 0 else begin + k
            p.length[0] = size
            value = invoke_value(p.evaluate, (pointer(x), pointer(p.work), pointer(g), n, p.data))
            share = size / count  # exactly 1 where there is one chunk
            fun += share * value
            if size < count:
                for i in range(n):
                    total[i] += share * g[i]
        if count > most:
            for i in range(n):
                g[i] = total[i]
        return fun

    def batch(x, g, n, order, count, known, data):
        p, g = unpack(data), vector(g, n)
        fun, size = mean(p, 0, p.at_once, vector(x, n), g, n, numbers(order, count), count), largest(g, n)
        return fun if math.isfinite(size) else size

    def evaluate(x, work, g, n, data):
        p = unpack(data)
        return mean(p, 1, p.which.size, vector(x, n), vector(g, n), n, p.which[:0], p.n_terms)

    evaluate, batch = jit_for_address(evaluate), jit_for_address(batch)
    return Loops(address(evaluate, EVALUATE), address(batch, BATCH), (evaluate, batch))
