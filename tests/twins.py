"""Gradients of many small functions of the same arguments, cheaply: only a function's twin is compiled for each.

What runs twins (memory of the unknowns, the tape, chunks of directions) is the package's, compiled once a mode: it
calls them by address.
"""

from __future__ import annotations

import functools
from typing import Any

import numba
import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic

from numbaopt.autodiff import clone, programs
from numbaopt.autodiff._jit import jit
from numbaopt.autodiff.arrays import read_only
from numbaopt.autodiff.errors import UnsupportedError, explain
from numbaopt.autodiff.numbers import TAPED, Dual, NumberArray

NUMBERS = {"forward": Dual(programs.WIDTH), "reverse": TAPED}


def _caller(number: Any) -> Any:
    """``call(x, args, memory, tape)``: the twin whose address is the first of ``args``, called with the others."""

    @intrinsic
    def call(typing_context, x, args, memory, where):
        kinds = (x, *args.types[1:])

        def codegen(context, builder, signature, llvm):
            place, *items = (builder.extract_value(llvm[1], i) for i in range(len(args.types)))
            convention = context.call_conv
            kind = convention.get_function_type(number, kinds).as_pointer()
            status, found = convention.call_function(builder, builder.inttoptr(place, kind), number, kinds,
                                                     [llvm[0], *items])  # fmt: skip
            with cgutils.if_unlikely(builder, status.is_error):
                convention.return_status_propagate(builder, status)
            return found

        return number(x, args, types.int64, types.int64), codegen

    return call


@functools.cache
def _runner(mode: str, refer: bool) -> Any:
    call = _caller(NUMBERS[mode])
    run = jit(programs._reverse(call, 1 << 30, refer) if mode == "reverse" else programs._forward(call, NUMBERS[mode]))

    def value_and_gradient(x, args):
        g = np.empty(x.size)
        return run(x, g, args), g

    return jit(value_and_gradient)


@functools.cache
def _cloner(mode: str) -> Any:
    """One for all programs, so that the twins of what they share are compiled once."""
    return clone._Cloner(NUMBERS[mode])


def value_and_gradient(function: Any, mode: str, x: np.ndarray, args: tuple[Any, ...]) -> tuple[float, np.ndarray]:
    """What ``value_and_grad(function, mode)(x, *args)`` returns; the function must return a number with derivatives."""
    number = NUMBERS[mode]
    kinds = (NumberArray(number, 1, "C"), *(read_only(numba.typeof(a)) for a in args))
    try:
        twin = _cloner(mode).clone(function)
        twin.compile(kinds)
    except Exception as error:  # as `programs.compile_twin` does
        raise explain(function.__name__, error) from error
    compiled = twin.overloads[kinds]
    if compiled.signature.return_type != number:
        raise UnsupportedError(f"it returns {compiled.signature.return_type}")
    address = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    refer = mode == "reverse" and not clone.may_write(function, number)
    return _runner(mode, refer)(x, (address, *args))
