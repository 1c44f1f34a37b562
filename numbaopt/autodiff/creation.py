"""NumPy as a differentiated function sees it: what makes float arrays makes arrays of numbers with derivatives.

Such functions see neither unknowns nor derivatives, so their results could not be written to.  A copy of the module
with those few functions replaced takes NumPy's place among the globals of the function (see `clone`).
"""

from __future__ import annotations

import functools
import types as pytypes
from typing import Any

import numpy as np
from numba.core import errors, types
from numba.extending import overload, overload_method, register_jitable

from .arrays import empty, filled
from .numbers import Number, number_in
from .scalars import lift, select
from .stubs import left_out


def is_float64(dtype: Any) -> bool:
    """Whether a ``dtype`` argument asks for the default, float64 or what an array of numbers calls its own."""
    if dtype is None or dtype in (float, np.float64) or isinstance(dtype, (types.NoneType, types.Omitted)):
        return not isinstance(dtype, types.Omitted) or is_float64(dtype.value)
    if isinstance(dtype, (types.DType, types.NumberClass)):
        return dtype.dtype == types.float64 or isinstance(dtype.dtype, Number)
    return isinstance(dtype, types.Function) and dtype.typing_key is float


def _floats(kind: Any) -> bool:
    """Whether an array, or a nested list or tuple, holds float64 or numbers with derivatives."""
    if isinstance(kind, (types.Array, types.List, types.ListType)):
        return _floats(kind.dtype)
    if isinstance(kind, types.BaseTuple):
        return any(map(_floats, kind.types))
    return kind == types.float64 or isinstance(kind, Number)


@functools.cache
def numpy_for(number: Number) -> tuple[Any, dict[str, Any]]:
    """The stand-in for NumPy under one kind of numbers, and the functions in it that are not NumPy's."""
    replaced: dict[str, Any] = {}

    def stands_for(python: Any) -> Any:
        """Decorator: the overload of a function that stands for NumPy's of the same name, with this signature."""

        def register(choose: Any) -> Any:
            replaced[python.__name__] = python
            overload(python)(choose)
            return choose

        return register

    def maker(name: str, fill: Any) -> None:
        numpys = getattr(np, name)

        def stub(shape, dtype=float):
            raise NotImplementedError

        def like(a, dtype=None):
            raise NotImplementedError

        stub.__name__, like.__name__ = name, f"{name}_like"
        numpys_like = getattr(np, like.__name__)

        def choose(shape, dtype=float):
            if not is_float64(dtype):
                return lambda shape, dtype=float: numpys(shape, dtype)
            if fill is None:
                return lambda shape, dtype=float: empty(shape, number)
            return lambda shape, dtype=float: filled(shape, fill, number)

        def choose_like(a, dtype=None):
            if not (_floats(a) and is_float64(dtype)):
                if isinstance(dtype, (types.NoneType, types.Omitted)) or dtype is None:
                    return lambda a, dtype=None: numpys_like(a)
                return lambda a, dtype=None: numpys_like(a, dtype)
            shape_of = _shape_of(a)
            if fill is None:
                return lambda a, dtype=None: empty(shape_of(a), number)
            return lambda a, dtype=None: filled(shape_of(a), fill, number)

        stands_for(stub)(choose)
        stands_for(like)(choose_like)

    for name, fill in (("empty", None), ("zeros", 0.0), ("ones", 1.0)):
        maker(name, fill)

    def full(shape, fill_value, dtype=None):
        raise NotImplementedError

    @stands_for(full)
    def _(shape, fill_value, dtype=None):
        if is_float64(dtype) and (_floats(fill_value) or not left_out(dtype)):
            return lambda shape, fill_value, dtype=None: filled(shape, fill_value, number)
        if left_out(dtype):
            return lambda shape, fill_value, dtype=None: np.full(shape, fill_value)
        return lambda shape, fill_value, dtype=None: np.full(shape, fill_value, dtype)

    def full_like(a, fill_value, dtype=None):
        raise NotImplementedError

    @stands_for(full_like)
    def _(a, fill_value, dtype=None):
        if _floats(a) and is_float64(dtype):
            return lambda a, fill_value, dtype=None: filled(a.shape, fill_value, number)
        if left_out(dtype):
            return lambda a, fill_value, dtype=None: np.full_like(a, fill_value)
        return lambda a, fill_value, dtype=None: np.full_like(a, fill_value, dtype)

    def eye(N, M=None, k=0, dtype=float):
        raise NotImplementedError

    @stands_for(eye)
    def _(N, M=None, k=0, dtype=float):
        if not is_float64(dtype):
            return lambda N, M=None, k=0, dtype=float: np.eye(N, M, k, dtype)
        square = left_out(M)

        def build(N, M=None, k=0, dtype=float):
            columns = N if square else M
            made = filled((N, columns), 0.0, number)
            for i in range(max(0, -k), min(N, columns - k)):
                made[i, i + k] = lift(1.0, number)
            return made

        return build

    def identity(n, dtype=None):
        raise NotImplementedError

    @stands_for(identity)
    def _(n, dtype=None):
        if is_float64(dtype):
            return lambda n, dtype=None: eye(n)
        return lambda n, dtype=None: np.identity(n, dtype)

    def array(a, dtype=None):
        raise NotImplementedError

    @stands_for(array)
    def _(a, dtype=None):
        if not (_floats(a) and is_float64(dtype)):
            return _forward(np.array, dtype)
        if isinstance(a, types.Array):
            return lambda a, dtype=None: a.copy()
        inner = a[0] if isinstance(a, types.BaseTuple) else a.dtype
        if isinstance(a, types.BaseTuple) and not isinstance(inner, (types.List, types.ListType)):
            return from_tuple(a, number)
        if isinstance(inner, (types.List, types.ListType, types.BaseTuple)):

            def rows(a, dtype=None):
                made = empty((len(a), len(a[0])), number)
                for i in range(len(a)):
                    for j in range(len(a[0])):
                        made[i, j] = a[i][j]
                return made

            return rows

        def items(a, dtype=None):
            made = empty(len(a), number)
            for i in range(len(a)):
                made[i] = a[i]
            return made

        return items

    def converter(name: str) -> None:
        numpys = getattr(np, name)

        def convert(a, dtype=None):
            raise NotImplementedError

        def convert_layout(a):
            raise NotImplementedError

        def choose(a, dtype=None):
            if isinstance(a, types.Array) and number_in(a) and is_float64(dtype):
                return lambda a, dtype=None: a
            if isinstance(a, types.Array) or not _floats(a):
                return _forward(numpys, dtype)
            return lambda a, dtype=None: array(a, dtype)

        def choose_layout(a):
            if not number_in(a):
                return lambda a: numpys(a)
            if name == "ascontiguousarray":
                return (lambda a: a) if a.layout == "C" else (lambda a: numpys(a))  # itself, where it is contiguous
            raise errors.TypingError(f"np.{name} of numbers with derivatives")

        stub, chosen = (convert, choose) if name == "asarray" else (convert_layout, choose_layout)
        stub.__name__ = name
        stands_for(stub)(chosen)

    for name in ("asarray", "ascontiguousarray", "asfortranarray"):
        converter(name)

    def frombuffer(buffer, dtype=float):
        raise NotImplementedError

    @stands_for(frombuffer)
    def _(buffer, dtype=float):
        if number_in(buffer):
            raise errors.TypingError("np.frombuffer cannot see numbers with derivatives")
        return lambda buffer, dtype=float: np.frombuffer(buffer, dtype)

    def where(condition, x=None, y=None):
        raise NotImplementedError

    @stands_for(where)
    def _(condition, x=None, y=None):
        if left_out(x):
            return lambda condition, x=None, y=None: np.nonzero(condition)
        if number_in(x) or number_in(y):
            return lambda condition, x=None, y=None: select(condition, x, y)
        return lambda condition, x=None, y=None: np.where(condition, x, y)

    def dot(a, b, out=None):
        raise NotImplementedError

    @stands_for(dot)
    def _(a, b, out=None):
        if left_out(out):
            return lambda a, b, out=None: np.dot(a, b)
        _check_mutable(out)
        if not any(map(number_in, (a, b, out))):
            return lambda a, b, out=None: np.dot(a, b, out)

        def build(a, b, out=None):
            out[:] = np.dot(a, b)
            return out

        return build

    module = pytypes.ModuleType("numpy_with_derivatives")
    module.__dict__.update({k: v for k, v in np.__dict__.items() if not k.startswith("__")})
    module.__dict__.update(replaced)
    return module, replaced


@functools.cache
def lifting_copy(number: Number) -> str:
    """The name of a method of arrays, and of a function in NumPy's place: a copy, of float64 as numbers."""
    name = "copy_as_" + "".join(filter(str.isalnum, str(number)))

    @overload_method(types.Array, name)
    def _(a):
        return (lambda a: lifted(a)) if a.dtype == types.float64 else (lambda a: a.copy())

    def lifted(a):
        raise NotImplementedError

    @overload(lifted)
    def _(a):
        if not (isinstance(a, types.Array) and a.dtype == types.float64):
            return lambda a: np.copy(a)

        def build(a):
            made = empty(a.shape, number)
            for i in np.ndindex(a.shape):
                made[i] = a[i]
            return made

        return build

    numpy_for(number)[0].__dict__[name] = lifted
    return name


def _check_mutable(out: Any) -> None:  # not where it is called: Numba's messages quote the source around that
    if not out.mutable:
        raise errors.TypingError(f"Cannot modify readonly array of type: {out}")


def _forward(function: Any, dtype: Any) -> Any:
    if left_out(dtype):
        return lambda a, dtype=None: function(a)
    return lambda a, dtype=None: function(a, dtype)


def _shape_of(kind: Any) -> Any:
    if isinstance(kind, types.Array):
        return register_jitable(lambda a: a.shape)
    return register_jitable(lambda a: len(a))


def from_tuple(kind: Any, number: Any) -> Any:
    """Items of tuples of mixed types can only be told apart by literal indices."""
    shape: tuple[int, ...] = (len(kind),)
    if isinstance(kind[0], types.BaseTuple):
        shape = len(kind), len(kind[0])
    lines = "".join(f"    made[{', '.join(map(str, place))}] = a[{']['.join(map(str, place))}]\n"
                    for place in np.ndindex(shape))  # fmt: skip
    names = {"empty": empty, "number": number}
    exec(f"def build(a, dtype=None):\n    made = empty({shape}, number)\n{lines}    return made", names)  # noqa: S102
    return names["build"]
