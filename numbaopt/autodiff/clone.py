"""A function's twin that computes with `Number`: the same bytecode among other globals.

Nothing of the function is rewritten.  NumPy is replaced by the stand-in of `creation`, jitted helpers by their own
twins, functions with a registered derivative by what applies it.
"""

from __future__ import annotations

import functools
import types as pytypes
from typing import Any

import numpy as np
from numba.core.dispatcher import Dispatcher
from numba.np.ufunc.dufunc import DUFunc
from numba.np.ufunc.gufunc import GUFunc

from . import custom
from ._jit import jit_inside
from .creation import lifting_copy, numpy_for
from .errors import UnsupportedError
from .numbers import Number

KEPT = ("fastmath", "error_model", "boundscheck")  # of the options of a user's function
REFUSED = {"carray", "farray", "objmode"}
AROUND = {"flat", "fill_diagonal", "nditer", "ascontiguousarray", "asfortranarray"}  # they write where nobody may
KNOWN = {"numpy", "numba", "math", "cmath", "builtins", "operator"}


def may_write(function: Any, number: Number) -> bool:
    """Whether a function, or one that it calls, uses what can write to arrays that Numba knows to be read-only."""
    return bool(_twins(function, number, custom.stamp())[1] & AROUND)


def clone(function: Any, number: Number, lifts: bool = False) -> Any:
    """The twin of a jitted function for one kind of numbers; of the same function always the same.

    It ``lifts`` copies of float64 arrays to numbers with derivatives: what begins as data and becomes a function of the
    unknowns, such as the state of a simulation, must be of one type.
    """
    return _twins(function, number, custom.stamp(), lifts)[0]


@functools.lru_cache(maxsize=1024)
def _twins(function: Any, number: Number, registered: int, lifts: bool = False) -> tuple[Any, set[str]]:
    cloner = _Cloner(number, lifts)
    return cloner.clone(function), cloner.names


class _Cloner:
    """Makes the twins of a function and of all it calls, each once."""

    def __init__(self, number: Number, lifts: bool = False):
        self.number = number
        self.names_in_twin = {"copy": lifting_copy(number)} if lifts else {}
        self.known: dict[Any, Any] = {}
        self.modules: dict[str, Any] = {}
        self.names: set[str] = set()  # that any function refers to
        self.numpy, replaced = numpy_for(number)
        self.functions = {id(getattr(np, name)): stand_in for name, stand_in in replaced.items()}

    def clone(self, dispatcher: Any) -> Any:
        """The twin of a jitted function."""
        if dispatcher in self.known:
            return self.known[dispatcher]
        if custom.has_rule(dispatcher):
            return jit_inside(custom.caller(dispatcher, self.number))
        function = dispatcher.py_func
        names = _names(function.__code__)
        self.names |= names
        for name in names & REFUSED:
            code = function.__code__
            raise UnsupportedError(f"derivatives: {name} hides what an array was made of\n"
                                   f'File "{code.co_filename}", line {code.co_firstlineno}')  # fmt: skip
        variables = dict(function.__globals__)
        cells = tuple(pytypes.CellType() for _ in function.__closure__ or ())
        code = function.__code__
        code = code.replace(co_names=tuple(self.names_in_twin.get(name, name) for name in code.co_names))
        twin = pytypes.FunctionType(code, variables, function.__name__, function.__defaults__, cells)
        twin.__kwdefaults__, twin.__module__ = function.__kwdefaults__, function.__module__
        twin.__qualname__ = f"{function.__qualname__}__{self.number}"
        options = {k: v for k, v in dispatcher.targetoptions.items() if k in KEPT}
        made = jit_inside(twin, **{"error_model": "python", **options})
        self.known[dispatcher] = made  # before its globals are looked at: it may call itself
        for name in names & variables.keys():
            variables[name] = self.substitute(variables[name], name)
        for cell, old, name in zip(cells, function.__closure__ or (), function.__code__.co_freevars, strict=True):
            try:
                cell.cell_contents = self.substitute(old.cell_contents, name)
            except ValueError:  # empty still
                continue
        return made

    def module(self, module: Any) -> Any:
        """The stand-in of a user's module: with twins of the functions that are asked for by name."""
        if module.__name__.partition(".")[0] in KNOWN:
            return module
        if module.__name__ not in self.modules:
            made = self.modules[module.__name__] = pytypes.ModuleType(f"{module.__name__}_with_derivatives")
            made.__dict__.update({k: v for k, v in module.__dict__.items() if not k.startswith("__")})
        made = self.modules[module.__name__]
        for name in self.names & module.__dict__.keys():
            made.__dict__[name] = self.substitute(module.__dict__[name], name)
        return made

    def substitute(self, value: Any, name: str) -> Any:
        """What stands in the twin for a global or closed-over value."""
        if value is np:
            return self.numpy
        if isinstance(value, pytypes.ModuleType):
            return self.module(value)
        if custom.has_rule(value):
            return custom.stand_in(value, self.number)
        if isinstance(value, Dispatcher):
            return self.clone(value)
        if isinstance(value, (DUFunc, GUFunc)):
            raise UnsupportedError(f"derivatives: {name} is a ufunc made by Numba; give it a derivative_rule")
        if type(value) is tuple:
            return tuple(self.clone(item) if isinstance(item, Dispatcher) else self.substitute(item, name)
                         for item in value)  # fmt: skip
        if id(value) in self.functions:
            return self.functions[id(value)]
        return value


def _names(code: pytypes.CodeType) -> set[str]:
    inner = (constant for constant in code.co_consts if isinstance(constant, pytypes.CodeType))
    return set(code.co_names).union(*map(_names, inner))
