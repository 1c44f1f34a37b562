"""What an optimizer is: a NamedTuple of hyper-parameters whose class holds two pure scalar functions.

``prepare(opt, lr, t)``
    Every coefficient of step ``t`` (1, 2, ...) as a tuple of floats, computed in float64 from the hyper-parameters and
    the step's learning rate.
``update(c, x, g, s, i)``
    The new value of one coordinate with value ``x`` and gradient ``g``: the coefficients come as the tuple ``c`` in the
    dtype of ``x``, the state of coordinate ``i`` is read from and written to ``s[slot, i]``.  State starts at zero.
``scale(c, s, i)``, optional
    By how much the rule, having seen a steady gradient of 1 for long, moves coordinate ``i``; after ``update``.
    Penalties that need a proximal step (l1) are applied in this metric.

``term(c, x, g, s, i)`` and ``finish(c, total, s)``, optional
    For a rule that needs sums over all coordinates before it moves any: what coordinate ``i`` contributes, a tuple of
    numbers (summed in float64), and the coefficients that ``update`` gets, as many as ``prepare`` returns.  ``finish``
    is called once a step and may keep a number for all coordinates in the first place of a slot, ``s[slot, 0]``.

``rests(opt)``, optional
    Whether a coordinate without a gradient keeps value and state from the second step on, and ``scale`` is in
    proportion to the first coefficient.  On sparse data only the coordinates of a batch are then looked at.
``linear``, optional
    Whether ``update``, where the rule rests, is ``x - c[0] * g``.

``update`` sees neither hyper-parameters nor (in arithmetic) literals, so float32 stays float32 everywhere, and no loop
ever knows a schedule or a hyper-parameter.  From these two functions follow the vector step, the step inside a user's
``@njit`` code, and every loop (see ``_program.py``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import register_jitable

from .._fields import called_by_scipy, checked_namedtuple

OPTIMIZERS: dict[str, type] = {}  # every rule, by each of its names


def rule(*names: Any) -> Any:
    """Class decorator that makes a NamedTuple with ``slots``, ``prepare`` and ``update`` an optimizer.

    Parameters
    ----------
    *names : str
        Names for ``method=`` of `numbaopt.minimize`, in any case; the class's own name is always one.

    Examples
    --------
    Gradient descent that follows only the sign of the gradient, usable in every loop:

    >>> from typing import NamedTuple
    >>> import numpy as np
    >>> import numbaopt as no
    >>> @no.rule()
    ... class SignDescent(NamedTuple):
    ...     lr: float = 0.01
    ...     slots = ()
    ...     def prepare(opt, lr, t):
    ...         return (lr,)
    ...     def update(c, x, g, s, i):
    ...         return x - c[0] if g > 0 else x + c[0]
    >>> x = np.array([1.0, -1.0])
    >>> no.step(SignDescent(lr=0.25), x, g=x.copy(), state=no.init_state(SignDescent(), x), t=1)
    >>> x
    array([ 0.75, -0.75])
    """

    if len(names) == 1 and isinstance(names[0], type):
        return rule()(names[0])  # written without parentheses

    def register(cls: Any) -> Any:
        if "lr" not in getattr(cls, "_fields", ()):
            raise TypeError(f"{cls.__name__} must be a NamedTuple with a field 'lr'")
        for need in ("slots", "prepare", "update"):
            if not hasattr(cls, need):
                raise TypeError(f"{cls.__name__} has no {need!r}: a rule needs slots, prepare(opt, lr, t) and "
                                "update(c, x, g, s, i)")  # fmt: skip
        if not (isinstance(cls.slots, (tuple, list)) and all(isinstance(name, str) for name in cls.slots)):
            like = f"({cls.slots!r},)" if isinstance(cls.slots, str) else "('m', 'v')"
            raise TypeError(f"{cls.__name__}.slots={cls.slots!r} must be a tuple of names, such as {like} or ()")
        cls.slots = tuple(cls.slots)
        checked_namedtuple(cls)
        cls.__call__ = called_by_scipy
        cls.names = tuple(dict.fromkeys(name.lower() for name in (cls.__name__, *names)))
        for name in cls.names:
            taken = OPTIMIZERS.get(name)
            if taken is not None and (taken.__module__, taken.__qualname__) != (cls.__module__, cls.__qualname__):
                raise ValueError(f"the name {name!r} is taken by {taken.__module__}.{taken.__qualname__}")
            OPTIMIZERS[name] = cls
        return cls

    return register


_TRIED: set[type] = set()  # rules and transforms whose functions are known to work
NUMBERS = (int, float, np.number, np.bool_)
GETS_NUMBERS = "it gets the numbers of one coordinate, no arrays"


def count_coefficients(part: Any) -> int:
    """How many coefficients a rule or a transform prepares; TypeError where its functions cannot be used.

    Compiled code checks no index, so a rule that forgets a slot would write to memory of others: it is tried first.
    """
    if getattr(part, "in_epochs", False):
        raise ValueError("Switch(at_epoch=...) counts epochs, which only training a model has; give at=, in steps")
    try:
        coefficients = part.prepare(part, 0.1, 1)
    except Exception as error:
        raise TypeError(f"{type(part).__name__}.prepare fails: {type(error).__name__}: {error}") from None
    if not isinstance(coefficients, tuple) or not all(isinstance(one, NUMBERS) for one in coefficients):
        raise TypeError(f"{type(part).__name__}.prepare must return a tuple of numbers, not {coefficients!r}")
    if type(part) not in _TRIED:
        _try(type(part), coefficients)
        _TRIED.add(type(part))
    return len(coefficients)


def _try(cls: Any, coefficients: tuple) -> None:
    """Call the functions of a rule or transform in the interpreter, which checks indices and tells what they return."""
    c, state = tuple(map(np.float64, coefficients)), np.zeros((len(getattr(cls, "slots", ())), 1))
    name = next((name for name in ("update", "apply") if hasattr(cls, name)), None)
    for g in map(np.float64, (1.0, -1.0) if name else ()):
        own = (state, 0) if name == "update" else ()
        try:
            with np.errstate(all="ignore"):
                if hasattr(cls, "finish"):
                    c = finished(cls, c, cls.term(c, np.float64(1.0), g, *own), own[:1])
                told = getattr(cls, str(name))(c, np.float64(1.0), g, *(own or (0,)))
        except (ArithmeticError, ValueError):  # of these numbers only
            continue
        except IndexError as error:
            slots = f"slots names {len(state)} vectors of state, " if own else ""
            raise TypeError(f"{cls.__name__}.{name}: {error} ({slots}prepare returns {len(c)} coefficients)") from None
        except Exception as error:
            raise TypeError(f"{cls.__name__}.{name} fails: {type(error).__name__}: {error}; {GETS_NUMBERS}") from None
        if name == "update" and not isinstance(told, NUMBERS):
            raise TypeError(f"{cls.__name__}.update must return the new value of the coordinate, a number, "
                            f"not {told!r}")  # fmt: skip
        if name == "apply" and not _are_two_numbers(told):
            raise TypeError(f"{cls.__name__}.apply must return the new value and the new gradient of the coordinate, "
                            f"two numbers as in `return x, g`, not {told!r}")  # fmt: skip


def _are_two_numbers(told: Any) -> bool:
    return isinstance(told, tuple) and len(told) == 2 and all(isinstance(one, NUMBERS) for one in told)


def finished(cls: Any, c: tuple, total: Any, state: tuple) -> tuple:
    """The coefficients of ``update`` or ``apply`` where they are made from sums."""
    needs_tuple = hasattr(cls, "update")
    if not (isinstance(total, tuple) or (isinstance(total, NUMBERS) and not needs_tuple)):
        raise TypeError(f"term must return a {'' if needs_tuple else 'number or a '}tuple of numbers, not {total!r}")
    finished = cls.finish(c, total, *state)
    if not isinstance(finished, tuple) or len(finished) != len(c):
        raise TypeError(f"finish must return as many coefficients as prepare, {len(c)}, not {finished!r}")
    return tuple(map(np.float64, finished))


@register_jitable
def decay(weight_decay: float, decoupled: bool, lr: float) -> tuple[float, float]:
    """Coefficients of weight decay: what to add of x to the gradient, and what to multiply x with."""
    if decoupled:
        return 0.0, 1.0 - lr * weight_decay
    return weight_decay, 1.0


@register_jitable
def bias_correction(beta: float, t: int) -> float:
    """:math:`1 - \\beta^t`; where the power is below rounding, beta^t <= exp(-t (1 - beta)), that of 0 is soon found.

    The base is chosen, not the result: LLVM computes a power on both sides of a branch.
    """
    base = beta if t * (1.0 - beta) < 40.0 else 0.0
    return 1.0 - base ** float(t)
