"""Compiled programs that run a function's twin: forward mode chunk by chunk, reverse mode with a tape."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
from numba.core import cgutils, types
from numba.core.errors import NumbaWarning
from numba.extending import intrinsic, overload, register_jitable

from . import custom, memory
from .arrays import note_arguments, numbers_at, parts, read_only, size_of, store_unknown, tangent
from .blocks import node_of
from .clone import clone, may_write
from .creation import from_tuple
from .errors import UnsupportedError, explain
from .numbers import REAL, TAPED, Dual, Number, NumberArray
from .scalars import value
from .tape import (
    BASE,
    COUNT,
    TOP,
    WORD,
    WORDS,
    allocate,
    load_float,
    load_word,
    release,
    stack_of,
    store_float,
    store_word,
    sweep,
)

WIDTH = 8  # derivatives at a time in forward mode: two vector registers
SMALL = 16  # unknowns whose numbers fit on the stack
FIRST_BYTES = 1 << 14  # of a tape that nothing is known of
NOT_A_FUNCTION = "two runs at the same x returned different values: the function changes or draws something"

def _caller(compiled: Any, made: Any, result: Any) -> Any:
    """An intrinsic that calls a twin and, where it raises, first frees memory: ``call(x, args, memory, tape)``."""

    @intrinsic
    def call(typing_context, x, args, memory, where):
        def codegen(context, builder, signature, llvm):
            items = [builder.extract_value(llvm[1], i) for i in range(len(signature.args[1]))]
            wanted = list(made.args[1:])
            if wanted and isinstance(wanted[-1], (types.StarArgTuple, types.StarArgUniTuple)):
                last = len(wanted) - 1
                items = [*items[:last], context.make_tuple(builder, wanted[-1], items[last:])]
            items += [context.get_dummy_value()] * (len(wanted) - len(items))  # arguments left out
            context.active_code_library.add_linking_library(compiled.library)
            status, found = context.call_internal_no_propagate(builder, compiled.fndesc, made, [llvm[0], *items])
            with cgutils.if_unlikely(builder, status.is_error):
                with builder.if_then(builder.icmp_unsigned("!=", llvm[2], WORD(0))):
                    context.nrt.free(builder, builder.inttoptr(llvm[2], cgutils.voidptr_t))
                with builder.if_then(builder.icmp_unsigned("!=", llvm[3], WORD(0))):
                    words = builder.inttoptr(llvm[3], WORD.as_pointer())
                    base = builder.load(builder.gep(words, [WORD(BASE)]))
                    context.nrt.free(builder, builder.inttoptr(base, cgutils.voidptr_t))
                context.nrt.decref(builder, signature.args[1], llvm[1])
                context.call_conv.return_status_propagate(builder, status)
            return context.cast(builder, found, made.return_type, result)

        return result(x, args, types.int64, types.int64), codegen

    return call


@intrinsic
def _as_read_only(typing_context, args):
    """The same arguments, typed so that nobody can write to their float arrays."""
    def codegen(context, builder, signature, llvm):
        context.nrt.incref(builder, args, llvm[0])
        return llvm[0]

    return read_only(args)(args), codegen


@intrinsic
def _remembered(typing_context, which):
    """The address of a word that a compiled function keeps between calls; 0 at first."""

    def codegen(context, builder, signature, args):
        found = cgutils.add_global_variable(builder.module, WORD, builder.module.get_unique_name("remembered"))
        found.initializer, found.linkage = WORD(0), "internal"
        return builder.ptrtoint(found, WORD)

    return types.int64(which), codegen


def compile_twin(function: Any, number: Number, x: Any, args: Any) -> tuple[Any, Any]:
    """The compiled twin of a function for types of arguments, and its signature; `UnsupportedError` says why not."""
    unknowns = NumberArray(number, x.ndim, "C") if isinstance(x, types.Array) else number
    kinds = (unknowns, *map(_argument(number), args))
    first: Exception | None = None
    for lifts in (False, True):
        try:
            twin = clone(function, number, lifts)
            _, kinds = twin.fold_argument_types(kinds, {})
            with warnings.catch_warnings():  # the function's own compilation has told
                warnings.simplefilter("ignore", NumbaWarning)
                twin.compile(tuple(kinds))
            compiled = twin.overloads[tuple(kinds)]
            return compiled, compiled.signature
        except Exception as error:  # numba's passes raise all sorts of things on what they do not know
            first = first or error
            if "Cannot unify" not in str(error):
                break
    assert first is not None
    raise explain(function.__name__, first) from first


def _argument(number: Number) -> Any:
    def convert(kind: Any) -> Any:
        if isinstance(kind, types.Dispatcher):
            return types.Dispatcher(clone(kind.dispatcher, number))
        return read_only(kind)

    return convert


def program(function: Any, mode: str, tape_bytes: int, vector: bool = False) -> Any:
    """A function for compiled code that runs the twin of ``function``.

    ``run(x, g, args) -> value`` writes derivatives into the flat ``g``; for a ``vector`` of results it is ``run(x,
    args) -> (values, jacobian)``.  It closes over all that decides what it computes, so that a cache can tell.
    """
    decided = function, mode, WIDTH, tape_bytes, custom.registered()
    number = TAPED if mode == "reverse" else Dual(WIDTH)

    def of_value(x, g, args):
        raise NotImplementedError(decided)

    def of_vector(x, args):
        raise NotImplementedError(decided)

    def choose(x, g, args):
        compiled, made = compile_twin(function, number, x, args)
        if not isinstance(made.return_type, (Number, *REAL)):
            raise _returned(function, made, "a real number")
        call = _caller(compiled, made, number)
        refer = _plain(args) and not may_write(function, number)
        return _reverse(call, tape_bytes, refer) if mode == "reverse" else _forward(call, number)

    def choose_vector(x, args):
        compiled, made = compile_twin(function, number, x, args)
        result = made.return_type
        if isinstance(result, types.BaseTuple) and all(isinstance(kind, (Number, *REAL)) for kind in result.types):
            call = _stacking(_caller(compiled, made, result), result, number)
        elif isinstance(result, types.Array) and isinstance(result.dtype, (Number, types.Float)):
            call = _caller(compiled, made, result)
        else:
            raise _returned(function, made, "an array or a tuple of real numbers")
        refer = _plain(args) and not may_write(function, number)
        return _reverse_rows(call, tape_bytes, refer) if mode == "reverse" else _forward_columns(call, number)

    run = of_vector if vector else of_value
    overload(run, strict=False)(choose_vector if vector else choose)
    return run


def _stacking(call: Any, kind: Any, number: Any) -> Any:
    """A twin that returns a tuple as one that returns a vector."""
    stacked = register_jitable(from_tuple(kind, number))
    return register_jitable(lambda x, args, memory, where: stacked(call(x, args, memory, where)))


def _plain(kind: Any) -> bool:
    """Whether types of arguments hold no arrays that could be written to by another name, as lists of arrays do."""
    if isinstance(kind, types.BaseTuple):
        return all(map(_plain, kind.types))
    return isinstance(kind, (types.Array, types.Number, types.Boolean, types.NoneType, types.UnicodeType, types.Literal,
                             types.Dispatcher, types.Omitted))  # fmt: skip


def _returned(function: Any, made: Any, wanted: str) -> UnsupportedError:
    kind = re.sub(r"Dual\(\d+\)|Taped", "float64", str(made.return_type))
    other = "numbaopt.jacobian" if "array" in kind or "uple" in kind else "numbaopt.grad"
    return explain(function.__name__, UnsupportedError(f"derivatives: it returns {kind}, not {wanted} (see {other})"))


def _forward(call: Any, number: Any) -> Any:
    width = number.width
    numbers_for, stack = _unknowns(number), stack_of(SMALL * (width + 1))

    def run(x, g, args):
        n = size_of(x)
        taken = np.int64(0)
        space = stack()
        if n > SMALL:
            taken = space = _allocated(8 * n * (width + 1))
        fixed = _as_read_only(args)
        found, changed = 0.0, False
        for first in range(0, max(n, 1), width):
            result = call(numbers_for(x, space, first, np.int64(0)), fixed, taken, np.int64(0))
            again = value(result)
            if first > 0 and differ(again, found):
                changed = True
                break
            found = again
            for k in range(min(width, n - first)):
                g[first + k] = tangent(result, k)
        if taken != 0:
            release(taken)
        if changed:
            raise ValueError(NOT_A_FUNCTION)
        return found

    return run


@register_jitable
def differ(a, b):
    """Whether two numbers are different, NaN being NaN."""
    return a != b and (a == a or b == b)


def _forward_columns(call: Any, number: Any) -> Any:
    width = number.width
    numbers_for = _unknowns(number)

    def run(x, args):
        n = size_of(x)
        taken = _allocated(8 * max(n, 1) * (width + 1))
        fixed = _as_read_only(args)
        found, jacobian, changed = np.empty(0), np.empty((0, n)), False
        for first in range(0, max(n, 1), width):
            result = call(numbers_for(x, taken, first, np.int64(0)), fixed, taken, np.int64(0))
            if first == 0:
                found, jacobian = np.full(result.size, np.nan), np.zeros((result.size, n))
            if result.size != found.size:
                changed = True
                break
            for i, item in enumerate(result.flat):
                changed = changed or (first > 0 and differ(value(item), found[i]))
                found[i] = value(item)
                for k in range(min(width, n - first)):
                    jacobian[i, first + k] = slope_of(item, k)
        release(taken)
        if changed:
            raise ValueError(NOT_A_FUNCTION)
        return found, jacobian

    return run


def slope_of(item, k):
    """A derivative of a number, 0 of a float."""
    raise NotImplementedError


@overload(slope_of)
def _choose_slope_of(item, k):
    return (lambda item, k: tangent(item, k)) if isinstance(item, Dual) else (lambda item, k: 0.0)


@register_jitable
def note_nothing(where, args):
    """Leave a tape without knowledge of arguments: all operands are copied."""
    store_word(where + 8 * COUNT, 0)


def _unknowns(number: Any) -> Any:
    """The unknowns as numbers of a kind, made of ``x`` in given memory: they are nodes on a tape, or directions."""
    behind = 1 if number is TAPED else 0

    def build(x, space, first, where):
        raise NotImplementedError

    def choose(x, space, first, where):
        if not isinstance(x, types.Array):

            def of_scalar(x, space, first, where):
                flat = numbers_at(space, (1,), number)
                store_unknown(flat, 0, np.float64(x), behind - first, where)
                return flat[0]

            return of_scalar

        def of_array(x, space, first, where):
            flat = numbers_at(space, (x.size,), number)
            for i, item in enumerate(x.flat):
                store_unknown(flat, i, np.float64(item), i - first + behind, where)
            return numbers_at(space, x.shape, number)

        return of_array

    overload(build)(choose)
    return build


@register_jitable
def _allocated(size):
    """The address of fresh memory."""
    where = allocate(size)
    if where == 0:
        raise MemoryError("no memory for derivatives")
    return where


@intrinsic
def _sweep(typing_context, where, unknowns, adjoint, memory):
    """`tape.sweep`; where a function of a block raises, memory is freed first."""
    made = types.none(*(types.int64,) * 3)

    def codegen(context, builder, signature, llvm):
        sweep.compile(made.args)
        compiled = sweep.overloads[made.args]
        context.active_code_library.add_linking_library(compiled.library)
        status, _ = context.call_internal_no_propagate(builder, compiled.fndesc, made, llvm[:3])
        with cgutils.if_unlikely(builder, status.is_error):
            words = builder.inttoptr(llvm[0], WORD.as_pointer())
            for address in (builder.load(builder.gep(words, [WORD(BASE)])), llvm[2], llvm[3]):
                context.nrt.free(builder, builder.inttoptr(address, cgutils.voidptr_t))
            context.call_conv.return_status_propagate(builder, status)
        return context.get_dummy_value()

    return types.void(*(types.int64,) * 4), codegen


def _reverse(call: Any, tape_bytes: int, refer: bool) -> Any:
    note = note_arguments if refer else note_nothing
    header, numbers_for = stack_of(WORDS), _unknowns(TAPED)

    def run(x, g, args):
        n = size_of(x)
        where, needed = header(), _remembered(0)
        space, room = memory.begin(where, n, min(max(load_word(needed), FIRST_BYTES), tape_bytes), tape_bytes)
        note(where, args)
        result = call(numbers_for(x, space, 0, where), _as_read_only(args), space, where)
        found, last, _ = parts(result)
        adjoint, size = memory.adjoints(where, space)
        store_word(needed, load_word(where + 8 * TOP) - load_word(where + 8 * BASE) + FIRST_BYTES)
        if last > 0:
            store_float(adjoint + 8 * last, 1.0)
            _sweep(where, n, adjoint, space)
        for k in range(n):
            g[k] = load_float(adjoint + 8 * (k + 1))
        memory.end(where, space, room, adjoint, size)
        return found

    return run


def _reverse_rows(call: Any, tape_bytes: int, refer: bool) -> Any:
    note = note_arguments if refer else note_nothing
    header, numbers_for = stack_of(WORDS), _unknowns(TAPED)

    def run(x, args):
        n = size_of(x)
        where = header()
        space, room = memory.begin(where, n, min(FIRST_BYTES, tape_bytes), tape_bytes)
        note(where, args)
        result = call(numbers_for(x, space, 0, where), _as_read_only(args), space, where)
        found, jacobian = np.empty(result.size), np.zeros((result.size, n))
        adjoint, size = memory.adjoints(where, space)
        for i, item in enumerate(result.flat):
            found[i] = value(item)
            last = node_of(item)
            if last > 0:
                memory.clear(where, adjoint)
                store_float(adjoint + 8 * last, 1.0)
                _sweep(where, n, adjoint, space)
                for k in range(n):
                    jacobian[i, k] = load_float(adjoint + 8 * (k + 1))
        memory.end(where, space, room, adjoint, size)
        return found, jacobian

    return run
