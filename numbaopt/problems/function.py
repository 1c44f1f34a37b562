"""General objectives: any function of a vector, jitted or plain, with or without a gradient."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Hashable
from typing import Any

import numba
import numpy as np
from numba.core.dispatcher import Dispatcher

from .._fields import nearest
from .._jit import address_of, array, short_reason
from .._packed import Packed
from .._warnings import warn_user
from ..differences import SCHEMES, evaluations
from ..loops.descent import evaluate_at
from .callback import Callback
from .evaluation import (
    EXACT,
    FLOAT64,
    WITHOUT,
    RefusedError,
    as_dispatcher,
    compiled_evaluation,
    mend_message,
    require_real,
    return_type,
)
from .reach import check_reach

WITHOUT_ARGS = numba.typeof(((), True))  # of what is packed; to ask for it each time would take longer than the rest


class Evaluated:
    """A function ``fun(x, *args)`` with derivatives, ready for the loops: compiled if it can be, else called back.

    Parameters
    ----------
    fun, jac, args
        As in `numbaopt.minimize`.
    n : int
        Number of unknowns.
    lower, upper : ndarray
        Bounds that differences must respect, or empty.
    jit : bool, optional
        True: what cannot be compiled is an error. False: do not try. None: try, else warn and run from Python.
    dtype : dtype, optional
        Of the unknowns, if ``fun`` takes it and no differences are needed; else float64.

    Attributes
    ----------
    evaluate : int
        For the loops: an address, of compiled code or of a `Callback`.
    callback : Callback or None
        Where the objective could not be compiled.
    compiled : bool
    """

    dtype = FLOAT64
    insists = True  # on its dtype, where differences would need float64
    what = "objective"

    def __init__(self, fun: Any, jac: Any, args: tuple, n: int, lower: np.ndarray, upper: np.ndarray,
                 jit: bool | None = None, dtype: np.dtype | None = None):  # fmt: skip
        if not callable(fun):
            streams = "; numbaopt.stream.minimize takes it" if hasattr(fun, "steps_per_epoch") else ""
            raise TypeError(f"fun must be callable or a problem such as LinearModel, not {type(fun).__name__}{streams}")
        self.fun, self.jac, self.args, self.n = fun, as_scheme(jac), args, n
        check_call("fun", fun, args)
        if callable(self.jac):
            check_call("jac", self.jac, args)
        if not numba.config.DISABLE_JIT:
            check_reach(fun, n, args)
        self.lower, self.upper = lower, upper
        if dtype not in (None, FLOAT64) and self._may_be(dtype, jit):
            self.dtype, self.insists = np.dtype(dtype), False
        self.data: Packed | None = None
        self.callback: Callback | None = None
        self.compiled = jit is not False and not numba.config.DISABLE_JIT and self._compile(jit)
        if not self.compiled and self.jac in EXACT:
            raise TypeError(f"jac={self.jac!r} needs a compiled {self.what}; give its derivatives, or jac='3-point'")
        if self.jac is None:
            self._use_differences()
        if not self.compiled:
            self.evaluate: Any = self._in_python
        if not self.compiled and not numba.config.DISABLE_JIT:
            self.callback = self._call_back()
            self.evaluate = self.callback.address

    def __repr__(self) -> str:
        return f"the function {getattr(self.fun, '__name__', type(self.fun).__name__)!r}"

    @property
    def per_gradient(self) -> int:
        """How many more evaluations of the objective a gradient takes."""
        return evaluations(self.jac, self.n) if isinstance(self.jac, str) and self.jac in SCHEMES else 0

    @property
    def kind(self) -> Any:
        """Of evaluations that take the same time: the function and the shapes of its arguments; None: not known."""
        try:
            return self.compiled and (self._keep, tuple(map(_size, self.args)))
        except TypeError:
            return None

    def _may_be(self, dtype: np.dtype, jit: bool | None) -> bool:
        """Whether the objective takes unknowns of ``dtype``, and its gradient needs no differences."""
        given = self.jac is True or callable(self.jac) or self.jac == WITHOUT
        if not given and (jit is False or self.jac not in (None, *EXACT)):
            return False
        try:
            kinds = numba.typeof(native_layout(self.args))
        except TypeError:  # it runs from Python
            return given
        if jit is False or numba.config.DISABLE_JIT or takes(self.fun, dtype, kinds):
            return True
        return given and not takes(self.fun, FLOAT64, kinds)  # it runs from Python

    def _use_differences(self) -> None:
        if not self.insists:
            self.dtype = FLOAT64
        if self.dtype != FLOAT64:
            raise ValueError(f"dtype={self.dtype}: gradients by differences need float64; give a gradient")
        self.jac = "3-point"

    def _compile_exact(self, native: tuple) -> Any:
        """The evaluation with the exact gradient; None (and one warning) where there is none and nobody insists."""
        from ..exact import UnsupportedError

        mode = EXACT.get(self.jac) or self._mode()
        packed = Packed((native, True), None if native else WITHOUT_ARGS)
        try:
            found = packed, self._evaluation(mode, packed.type)
        except UnsupportedError as error:
            # what cannot be compiled, or returns no number, is told as without derivatives
            self._require(return_type(as_dispatcher(self.fun), (array(self.dtype), *numba.typeof(native))))
            if self.jac is not None:
                raise
            warn_user(f"{str(error).splitlines()[0]}; central differences take the place of the exact gradient")
            self._use_differences()
            return None
        self.jac = mode
        return found

    def _compile(self, jit_required: bool | None) -> bool:
        """Compile the evaluation; False (and one warning) where that cannot be done."""
        try:
            native, found = native_layout(self.args), None
            if self.jac is None or self.jac in EXACT:
                found = self._compile_exact(native)
            if found is None:
                packed = Packed((native, self.lower, self.upper) if self.per_gradient else (native, True))
                found = packed, self._evaluation(self.jac, packed.type)
            packed, compiled = found
        except RefusedError as error:
            raise ValueError(str(error)) from None
        except Exception as error:  # numba's passes raise all sorts of things on what they do not know
            if isinstance(self.jac, str) and self.jac in EXACT:
                raise TypeError(f"jac={self.jac!r}: {_told(error)}") from error
            reason = short_reason(error)
            if jit_required or (isinstance(self.fun, Dispatcher) and _fails(self.fun, self.dtype, self.args)):
                raise TypeError(f"fun cannot be compiled: {reason}") from error
            if callable(self.jac) and isinstance(self.fun, Dispatcher):  # which has just been compiled
                reason = f"jac cannot be compiled: {reason}"
            warn_user(f"the {self.what} runs from Python, far slower than compiled code, because {reason}")
            return False
        self.data = packed
        self._keep, self.evaluate = compiled
        return True

    def arguments(self) -> tuple:
        """What ``fun`` and ``jac`` are given besides ``x``, by callers in Python."""
        return self.args

    def _mode(self) -> str:
        """The mode of exact derivatives that suits the number of unknowns."""
        from ..exact import FORWARD_UP_TO

        return "forward" if self.n <= FORWARD_UP_TO else "reverse"

    def _require(self, kind: Any) -> None:
        """Raise unless ``fun`` may return this type."""
        require_real(kind, False)

    def _evaluation(self, jac: Any, packed: Any) -> tuple[Any, Any]:
        """The compiled evaluation, and its address."""
        return compiled_evaluation(self.fun, jac, packed, self.dtype)

    def _call_back(self) -> Callback:
        """The evaluation from Python, at an address."""
        return Callback(self._in_python, self.dtype)

    def _in_python(self, *arrays: Any) -> Any:
        """What the compiled evaluation does, for functions that Numba cannot compile."""
        raise NotImplementedError


class Function(Evaluated):
    """An objective ``fun(x, *args) -> float`` with a gradient; see `Evaluated`."""

    def value_and_grad(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Objective and gradient at ``x``, for callers in Python."""
        x, g = np.ascontiguousarray(x, self.dtype), np.empty(self.n, self.dtype)
        if self.data is not None:
            try:
                return evaluate_at(self.evaluate, x, np.empty_like(x), address_of(g), self.data.address), g
            except ValueError as error:
                raise mend_message(error) from None
        return self._in_python(x, np.empty_like(x), g, self.n, None), g

    def value(self, x: np.ndarray) -> float:
        """Objective at ``x``, for callers in Python."""
        if self.jac is True:
            return self.value_and_grad(x)[0]
        args = self.arguments()
        fun, args = (as_dispatcher(self.fun), native_layout(args)) if self.compiled else (self.fun, args)
        return _as_scalar(fun(np.array(x, self.dtype), *args))

    def _in_python(self, x: Any, work: Any, g: Any, n: int, data: Any) -> float:
        """What the compiled evaluation does, for objectives that Numba cannot compile."""
        fun, args = self.fun, self.arguments()
        if self.jac is True:
            value, gradient = fun(x.copy(), *args)
            value = _as_scalar(value)
        else:
            value = _as_scalar(fun(x.copy(), *args))
            if self.jac == WITHOUT:
                return value
            if isinstance(self.jac, str):
                scheme = getattr(SCHEMES[self.jac], "py_func", SCHEMES[self.jac])
                scheme(lambda z, *a: _as_number(fun(z.copy(), *a)), x, work, g, value, args, self.lower, self.upper)
                return value
            gradient = self.jac(x.copy(), *args)
        gradient = np.asarray(gradient, self.dtype)
        if gradient.shape != x.shape:
            raise ValueError(f"jac returned a gradient of shape {gradient.shape}, x has shape {x.shape}")
        g[:] = gradient
        return value


def check_call(name: str, function: Any, args: tuple) -> None:
    """Raise where a function cannot be called with x and these arguments."""
    check = _check_count if isinstance(function, Hashable) else _check_count.__wrapped__
    check(name, function, len(args))


@functools.lru_cache(maxsize=256)
def _check_count(name: str, function: Any, count: int) -> None:
    try:
        signature = inspect.signature(getattr(function, "py_func", function))
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*(None,) * (1 + count))
    except TypeError as error:
        raise TypeError(f"{name}{signature} cannot be called with x and {count} args: {error}") from None


def _size(arg: Any) -> Any:
    """The shape of an array, the value of all else that can be compared."""
    if isinstance(arg, tuple):
        return tuple(map(_size, arg))
    if not isinstance(arg, (np.ndarray, np.generic, int, float, str)):
        raise TypeError
    return arg.item() if isinstance(arg, np.ndarray) and arg.ndim == 0 else getattr(arg, "shape", ()) or arg


def _told(error: Exception) -> str:
    """An error's own sentences, if it is one of ours; else the one line of Numba's that counts."""
    return str(error) if isinstance(error, TypeError) else short_reason(error)


def needed(opt: Any, jac: Any) -> Any:
    """``jac``, or that none is needed by a method."""
    return jac if getattr(opt, "gradient", True) or as_scheme(jac) is True else WITHOUT


NO_ARGS = "; further arguments of fun are given as args=(...)"  # where jac is such a tuple: least_squares has jac first


def as_scheme(jac: Any) -> Any:
    """How the gradient is found: a function, True, a name of `EXACT` or of a numerical scheme, None: not decided."""
    if jac is None or jac is False:
        return None
    if isinstance(jac, tuple):
        raise TypeError(f"jac must be callable, True, None or a name, not a tuple{NO_ARGS}")
    names = (*EXACT, *SCHEMES)
    if jac is True or callable(jac) or (isinstance(jac, str) and jac in (*names, WITHOUT)):
        return jac
    raise ValueError(f"jac={jac!r} must be callable, True, None or one of {', '.join(map(repr, names))}"
                     + (f"; {nearest(jac, names)}" if isinstance(jac, str) else ""))  # fmt: skip


def _as_number(value: Any) -> Any:
    value = np.asarray(value)
    if value.size != 1:
        raise ValueError(f"fun must return a scalar; it returned an array of shape {value.shape}")
    return value.reshape(())[()]


def _as_scalar(value: Any) -> float:
    try:
        return float(_as_number(value))
    except TypeError:
        raise TypeError(f"fun must return a real number, not {type(value).__name__}") from None


def native_layout(args: tuple) -> tuple:
    """Arrays of any layout and byte order, and what turns into one, as C-contiguous native ones; all else as it is.

    A TypeError names what compiled code cannot be given.
    """

    def one(position: int, given: Any) -> Any:
        value = given
        if hasattr(value, "__array__") and not isinstance(value, (np.ndarray, np.generic)):  # of pandas, and others
            value = np.asarray(value)
            if value.dtype.kind not in "biufc":
                raise TypeError(f"args[{position}] is a {type(given).__name__} of {value.dtype}, which compiled code "
                                "does not take; give one of numbers")  # fmt: skip
        if isinstance(value, np.ndarray) and value.ndim:
            return np.ascontiguousarray(value, value.dtype.newbyteorder("="))
        try:
            if isinstance(value, (list, set)):  # which Numba would copy, and warns that it will not for long
                raise TypeError
            numba.typeof(value)
        except (ValueError, TypeError):
            raise TypeError(f"args[{position}] is a {type(value).__name__}, which compiled code does not take; give an "
                            "array, a number or a tuple of such") from None  # fmt: skip
        return value

    return tuple(one(*item) for item in enumerate(args))


def takes(fun: Any, dtype: Any, kinds: Any) -> bool:
    """Whether ``fun`` can be called with unknowns of ``dtype`` and arguments of these Numba types."""
    try:
        return_type(as_dispatcher(fun), (array(dtype), *kinds))
    except Exception:  # see above
        return False
    return True


def _fails(function: Any, dtype: Any, args: tuple) -> bool:
    """Whether a jitted function cannot be called with these arguments, from Python no more than from here."""
    try:
        return not takes(function, dtype, numba.typeof(native_layout(args)))
    except TypeError:  # which names the argument
        return True
