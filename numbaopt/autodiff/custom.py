"""Derivatives that users know: of their own functions, or of others that Numba can call but nobody can look into."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numba
from numba.core import errors, types
from numba.core.dispatcher import Dispatcher
from numba.extending import intrinsic, overload, register_jitable
from numba.np.ufunc.dufunc import DUFunc

from . import scalars
from .arrays import empty, size_of, taped, values
from .blocks import node_of, tape_of
from .errors import misfit
from .numbers import Dual, Number, NumberArray, is_real, number_in, unpack, value_of
from .rules import Rule
from .scalars import lift
from .statements import add_term, begin_statement, end_statement, set_edge
from .stubs import chosen_by_type, stub
from .tape import EDGE

_RULES: dict[Any, Any] = {}
_COUNT = [0]  # registrations so far


def derivative_rule(function: Any) -> Callable[[Any], Any]:
    r"""Decorator that gives the derivative of a function for use by `grad` and its relatives, in both modes.

    .. math:: (f(a, b, \dots),\; \partial f / \partial a,\; \partial f / \partial b, \dots)

    Parameters
    ----------
    function : jitted function or ufunc made by ``numba.vectorize``
        Wherever differentiated code calls it, the rule is used.

    Returns
    -------
    decorator
        For a function of the same arguments that returns the value, then one derivative an argument: of a number with
        respect to a number a number, else an array whose shape is the value's followed by the argument's.  What stands
        for arguments that are no floats (counts, flags) is not looked at.

    Raises
    ------
    TypeError
        If ``function`` is neither jitted nor a ufunc of Numba's, or the rule takes other arguments.

    Examples
    --------
    >>> import numba, numpy as np
    >>> from numbaopt import autodiff
    >>> @numba.njit
    ... def cube_root(x):
    ...     return np.sign(x) * abs(x) ** (1 / 3)
    >>> @autodiff.derivative_rule(cube_root)
    ... def rule(x):
    ...     y = cube_root(x)
    ...     return y, 1 / (3 * y * y)
    >>> f = numba.njit(lambda x: cube_root(x[0]) + x[1])
    >>> autodiff.grad(f)(np.array([8.0, 1.0])).round(6)
    array([0.083333, 1.      ])
    """
    if not isinstance(function, (Dispatcher, DUFunc)):
        raise TypeError(f"function={function!r} must be a function jitted by Numba or a ufunc made by numba.vectorize")

    def register(rule: Any) -> Any:
        jitted = rule if isinstance(rule, Dispatcher) else numba.njit(error_model="numpy")(rule)
        if isinstance(function, Dispatcher):
            taken, wanted = jitted.py_func.__code__.co_argcount, function.py_func.__code__.co_argcount
            if taken != wanted:
                raise TypeError(f"the rule of {function.__name__} takes {taken} arguments, the function {wanted}")
        _RULES[function] = jitted
        _COUNT[0] += 1
        _stand_in.cache_clear()
        return rule

    return register


def stamp() -> int:
    """A number that changes whenever a rule is registered."""
    return _COUNT[0]


def registered() -> tuple[Any, ...]:
    """All functions and their rules: machine code that is kept on disk depends on them."""
    return tuple(_RULES.items())


def has_rule(value: Any) -> bool:
    """Whether a user gave a derivative for a value that a function refers to."""
    return isinstance(value, (Dispatcher, DUFunc)) and value in _RULES


def stand_in(function: Any, number: Number) -> Any:
    """What a differentiated function calls in the place of ``function``."""
    return _stand_in(function, number)


@functools.cache
def _stand_in(function: Any, number: Number) -> Any:
    rule = _RULES[function]
    count = rule.py_func.__code__.co_argcount
    name = function.__name__ if function.__name__.isidentifier() else "function_with_a_rule"
    elementwise = isinstance(function, DUFunc)
    if elementwise:
        item = stub(name, *(f"a{i}" for i in range(count)))
        scalars.register(item, Rule(rule.py_func, count, True, False))
    else:
        item = _of_numbers(rule.py_func, number)

    def choose(kinds: tuple[Any, ...]) -> Any:
        if not any(map(number_in, kinds)):
            return _calling(function, count)
        if elementwise:
            return _calling(item, count)
        if all(isinstance(kind, Number) or is_real(kind) for kind in kinds):
            return _calling(item, count, "(", ",)")
        return _of_arrays(rule, kinds, number)

    return _named(name, count, choose)


def caller(function: Any, number: Number) -> Any:
    """A function that calls what stands in for one with a rule: where that has to be a function of its own."""
    return _calling(stand_in(function, number), _RULES[function].py_func.__code__.co_argcount)


def _of_numbers(rule: Any, number: Number) -> Any:
    """An intrinsic that applies a rule to a tuple of numbers; those without derivatives keep their types."""

    @intrinsic
    def item(typing_context, args):
        def codegen(context, builder, signature, llvm):
            values = [builder.extract_value(llvm[0], i) for i in range(len(args))]
            plain = [value_of(context, builder, k, v) if isinstance(k, Number) else v
                     for k, v in zip(args.types, values, strict=True)]  # fmt: skip
            kinds = [types.float64 if isinstance(k, Number) else types.unliteral(k) for k in args.types]
            made = types.UniTuple(types.float64, 1 + len(kinds))(*kinds)
            value, *slopes = unpack(builder, scalars.call_rule(context, builder, rule, made, plain), 1 + len(kinds))
            terms = [(slope, v) for slope, v, k in zip(slopes, values, args.types, strict=True)
                     if isinstance(k, Number)]  # fmt: skip
            return number.combine(context, builder, value, terms, True)

        return number(args), codegen

    return item


def _named(name: str, count: int, choose: Any) -> Any:
    """A function of so many arguments, of which compiled code knows the version that ``choose(types)`` returns."""
    names = ", ".join(f"a{i}" for i in range(count))
    space = {"choose": choose, "__name__": __name__}
    exec(f"def chosen({names}):\n    return choose(({names},))", space)  # noqa: S102
    made = stub(name, *names.split(", "))
    overload(made)(space["chosen"])
    return made


def _calling(function: Any, count: int, before: str = "", after: str = "") -> Any:
    """A function of so many arguments that calls another with them."""
    names = ", ".join(f"a{i}" for i in range(count))
    space = {"function": function}
    exec(f"def call({names}):\n    return function({before}{names}{after})", space)  # noqa: S102
    return space["call"]


def _of_arrays(rule: Any, kinds: tuple[Any, ...], number: Any) -> Any:
    """The code that applies a rule to arrays: every item of the value gets a term for every item of the arguments."""
    floats = [kind.copy(dtype=types.float64, layout="C", readonly=False) if isinstance(kind, NumberArray)
              else types.float64 if number_in(kind) else types.unliteral(kind) for kind in kinds]  # fmt: skip
    rule.compile(tuple(floats))
    found = rule.overloads[tuple(floats)].signature.return_type
    if not isinstance(found, types.BaseTuple) or len(found) != 1 + len(kinds):
        raise errors.TypingError(misfit(rule, len(kinds)))
    names = ", ".join(f"a{i}" for i in range(len(kinds)))
    plain = ", ".join(f"values(a{i})" if number_in(kind) else f"a{i}" for i, kind in enumerate(kinds))
    active = [i for i, kind in enumerate(kinds) if number_in(kind)]
    dependent = "".join(f"(a{i}, found[{i + 1}]), " for i in active)
    space = {"rule": rule, "values": values, "apply": _applier(number)}
    exec(f"def build({names}):\n    found = rule({plain})\n    return apply(found[0], ({dependent}))", space)  # noqa: S102
    return space["build"]


def _applier(number: Any) -> Any:
    """``apply(value, ((argument, derivative), ...))``: the value with its derivatives, a number or an array."""
    one = _forward_item(number) if isinstance(number, Dual) else _reverse_item

    def apply(y, dependent):
        raise NotImplementedError

    @overload(apply)
    def _(y, dependent):
        if not isinstance(y, types.Array):

            def build_one(y, dependent):
                _check_sizes(1, dependent)
                return one(y, 0, dependent)

            return build_one

        def build(y, dependent):
            _check_sizes(y.size, dependent)
            made = empty(y.shape, number)
            for k, item in enumerate(y.flat):
                made.flat[k] = one(item, k, dependent)
            return made

        return build

    return apply


def _forward_item(number: Any) -> Any:
    def build(y, k, dependent):
        return _add_terms(lift(y, number), k, dependent)

    return register_jitable(build)


@register_jitable
def _reverse_item(y, k, dependent):
    where, count = _tape_and_size(dependent)
    place = begin_statement(where, count)
    if place == 0:
        return taped(y, 0, 0)
    _set_edges(place, k, dependent)
    return taped(y, end_statement(where, place, count), where)


@chosen_by_type("size", "dependent")
def _check_sizes(size, dependent):
    """An error where a derivative is not of the size that value and argument ask for."""
    if len(dependent) == 0:
        return lambda size, dependent: None

    def build(size, dependent):
        a, derivative = dependent[0]
        if size_of(derivative) != size * size_of(a):
            raise ValueError("a derivative_rule returned a derivative of another shape than the value's followed by "
                             "the argument's")  # fmt: skip
        _check_sizes(size, dependent[1:])

    return build


@chosen_by_type("made", "k", "dependent")
def _add_terms(made, k, dependent):
    """A `Dual` with the terms of all arguments added; one argument after the other, for their types differ."""
    if len(dependent) == 0:
        return lambda made, k, dependent: made

    def build(made, k, dependent):
        a, derivative = dependent[0]
        for j in range(size_of(a)):
            made = add_term(made, _slope(derivative, k, j, size_of(a)), _item(a, j))
        return _add_terms(made, k, dependent[1:])

    return build


@chosen_by_type("place", "k", "dependent")
def _set_edges(place, k, dependent):
    """The edges of a statement, in the same way."""
    if len(dependent) == 0:
        return lambda place, k, dependent: None

    def build(place, k, dependent):
        a, derivative = dependent[0]
        for j in range(size_of(a)):
            set_edge(place, j, _slope(derivative, k, j, size_of(a)), node_of(_item(a, j)))
        _set_edges(place + EDGE * size_of(a), k, dependent[1:])

    return build


@chosen_by_type("dependent")
def _tape_and_size(dependent):
    """The tape that any argument is on, and how many numbers they all are."""
    if len(dependent) == 0:
        return lambda dependent: (0, 0)

    def build(dependent):
        a, (where, count) = dependent[0][0], _tape_and_size(dependent[1:])
        here = tape_of(a)
        return (where if here == 0 else here), count + size_of(a)

    return build


@chosen_by_type("derivative", "k", "j", "size")
def _slope(derivative, k, j, size):
    """The derivative of item ``k`` of the value with respect to item ``j`` of an argument of so many."""
    if isinstance(derivative, types.Array):
        return lambda derivative, k, j, size: derivative.flat[k * size + j]
    return lambda derivative, k, j, size: derivative


@chosen_by_type("a", "j")
def _item(a, j):
    """Item ``j`` of an array in C order, or a number itself."""
    return (lambda a, j: a.flat[j]) if isinstance(a, types.Array) else (lambda a, j: a)
