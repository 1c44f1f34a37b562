"""What numba-cuda does not compile by itself but users' objectives need: NumPy's ufuncs, temporary arrays, numbers with
derivatives in memory.

A kernel has no memory to hand out, so each thread has a piece of its own, `ROOM`: an array that the evaluation opens
anew each time.  Where it ends and what is left of it stand in the block's dynamic shared memory, two words a thread.
All of it holds only while the package compiles (`allowed`); other kernels compile as ever.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import overload
from numba.np.arrayobj import populate_array

from ...autodiff.arrays import empty
from ...autodiff.numbers import DOUBLE, Dual, DualModel, NumberArray, number_in
from ...autodiff.stubs import register_for
from .._backend import BUILT_IN, INSTALL, NoDeviceError, intrinsic

WORD = ir.IntType(64)
WORDS_A_THREAD = 2  # of dynamic shared memory: the first free byte, the end
_here = threading.local()


@contextlib.contextmanager
def allowed() -> Iterator[None]:
    """While the package compiles: arrays may be made, and returned."""
    _install()
    before, _here.on = getattr(_here, "on", False), True
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Context.call_conv is deprecated", DeprecationWarning)
            warnings.filterwarnings("ignore", ".* is faster on contiguous arrays")  # which those of a problem are not
            yield
    finally:
        _here.on = before


# ---------------------------------------------------------------------------------------------------- memory
def _slots(builder: Any) -> tuple[Any, Any]:
    """Pointers to this thread's two words of the block's dynamic shared memory."""
    module, kind = builder.module, ir.ArrayType(WORD, 0)
    name = "numbaopt_room"
    shared = module.globals.get(name)
    if shared is None:
        shared = cgutils.add_global_variable(module, kind, name, 3)
        shared.linkage, shared.align = "external", 8
    read = ir.FunctionType(ir.IntType(32), [])
    index, count = (builder.zext(builder.call(cgutils.get_or_insert_function(
        module, read, f"llvm.nvvm.read.ptx.sreg.{which}.x"), []), WORD) for which in ("tid", "ntid"))  # fmt: skip
    zero = ir.Constant(WORD, 0)
    return builder.gep(shared, [zero, index]), builder.gep(shared, [zero, builder.add(index, count)])


@intrinsic
def open_room(typing_context, room):
    """Let this thread's arrays be made in the array ``room`` from now on; what was made before is lost."""

    def codegen(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        first = builder.ptrtoint(array.data, WORD)
        free, end = _slots(builder)
        builder.store(first, free)
        builder.store(builder.add(first, builder.mul(builder.extract_value(array.shape, 0), array.itemsize)), end)
        return context.get_dummy_value()

    return types.void(room), codegen


@intrinsic
def overflowed(typing_context):
    """Whether an array did not fit into the thread's memory."""

    def codegen(context, builder, signature, args):
        free, end = _slots(builder)
        return builder.icmp_unsigned(">", builder.load(free), builder.load(end))

    return types.boolean(), codegen


def _take(context: Any, builder: Any, nbytes: Any) -> Any:
    """LLVM code: the address of so many bytes of the thread's memory; an exception where that is too small."""
    whole = builder.and_(builder.add(nbytes, ir.Constant(WORD, 7)), ir.Constant(WORD, -8))
    free, end = _slots(builder)
    first = builder.load(free)
    builder.store(builder.add(first, whole), free)
    with builder.if_then(builder.icmp_unsigned(">", builder.load(free), builder.load(end)), likely=False):
        context.fndesc.call_conv.return_user_exc(builder, MemoryError, ("no room for an array",))
    return first


def _make(context: Any, builder: Any, kind: Any, shapes: Any, populate: Any) -> Any:
    """LLVM code: a new array in the thread's memory."""
    made = context.make_array(kind)(context, builder)
    size = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(kind.dtype)))
    strides, total = [], size
    for extent in list(shapes)[::-1] if kind.layout == "C" else shapes:
        strides.append(total)
        total = builder.mul(total, extent)
    strides = strides[::-1] if kind.layout == "C" else strides
    first = _take(context, builder, total)
    populate(made, data=builder.inttoptr(first, made.data.type), shape=cgutils.pack_array(builder, shapes, ty=WORD),
             strides=cgutils.pack_array(builder, strides, ty=WORD), itemsize=size, meminfo=None)  # fmt: skip
    return made


def over(context: Any, builder: Any, kind: Any, where: Any, count: int) -> Any:
    """LLVM code: the vector of ``count`` items at a pointer."""
    made = context.make_array(kind)(context, builder)
    size = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(kind.dtype)))
    populate_array(made, data=builder.bitcast(where, made.data.type), shape=[context.get_constant(types.intp, count)],
                   strides=[size], itemsize=size, meminfo=None)  # fmt: skip
    return made._getvalue()


def fill_new(context: Any, builder: Any, kind: Any, items: list[Any]) -> Any:
    """LLVM code: a new vector of these items."""
    made = _make(context, builder, kind, [context.get_constant(types.intp, len(items))], populate_array)
    for k, item in enumerate(items):
        context.pack_value(builder, kind.dtype, item, builder.gep(made.data, [ir.Constant(WORD, k)]))
    return made._getvalue()


# ---------------------------------------------------------------------------------------------------- ufuncs
def _sign(x):
    return x if x != x else (x > 0.0) - (x < 0.0)


def _logaddexp(a, b):
    if a == b:
        return a + 0.6931471805599453
    top, under = (a, b) if a > b else (b, a)
    return a + b if top - under != top - under else top + math.log1p(math.exp(under - top))


def _cbrt(x):
    return math.copysign(math.pow(abs(x), 1.0 / 3.0), x)


def _mod(a, b):
    rest = math.fmod(a, b)
    return rest + b if rest != 0.0 and (rest < 0.0) != (b < 0.0) else rest


_REAL = {
    np.sqrt: lambda x: math.sqrt(x), np.exp: lambda x: math.exp(x), np.absolute: lambda x: abs(x),
    np.fabs: lambda x: abs(x), np.sign: _sign, np.floor: lambda x: float(math.floor(x)),
    np.ceil: lambda x: float(math.ceil(x)), np.trunc: lambda x: float(math.trunc(x)), np.square: lambda x: x * x,
    np.cbrt: _cbrt, np.log1p: lambda x: math.log1p(x), np.expm1: lambda x: math.expm1(x),
    np.exp2: lambda x: math.pow(2.0, x), np.reciprocal: lambda x: 1.0 / x, np.negative: lambda x: -x,
    np.positive: lambda x: x, np.add: lambda a, b: a + b, np.subtract: lambda a, b: a - b,
    np.multiply: lambda a, b: a * b, np.power: lambda a, b: math.pow(a, b), np.float_power: lambda a, b: math.pow(a, b),
    np.logaddexp: _logaddexp, np.logaddexp2: lambda a, b: _logaddexp(a * 0.6931471805599453, b * 0.6931471805599453)
    / 0.6931471805599453, np.floor_divide: lambda a, b: (a - _mod(a, b)) / b, np.remainder: _mod,
    np.rint: lambda x: x if abs(x) >= 4503599627370496.0 else math.copysign(
        (abs(x) + 4503599627370496.0) - 4503599627370496.0, x), np.fmod: lambda a, b: math.fmod(a, b),
    np.copysign: lambda a, b: math.copysign(a, b),
}  # fmt: skip
_TRUTH = {np.isfinite: lambda x: math.isfinite(x), np.isinf: lambda x: math.isinf(x),
          np.signbit: lambda x: math.copysign(1.0, x) < 0.0}  # fmt: skip
_INTEGER = {np.add: lambda a, b: a + b, np.subtract: lambda a, b: a - b, np.multiply: lambda a, b: a * b,
            np.negative: lambda x: -x, np.absolute: lambda x: x if x > 0 else -x,
            np.square: lambda x: x * x}  # fmt: skip


def _lowered(function: Any) -> Any:
    from ..functions import device

    made = device(function).py_func if hasattr(device(function), "py_func") else function

    def codegen(context, builder, signature, args):
        return context.compile_internal(builder, made, signature, args)

    return codegen


def _add_ufuncs() -> None:
    known = importlib.import_module("numba.cuda.ufuncs").ufunc_db()
    for table, inputs, output in ((_REAL, "d", "d"), (_REAL, "f", "f"), (_TRUTH, "d", "?"), (_INTEGER, "l", "l")):
        for ufunc, function in table.items():
            loops = known.setdefault(ufunc, {})
            loops.setdefault(f"{inputs * ufunc.nin}->{output}", _lowered(function))


# ----------------------------------------------------------------------------------- numbers with derivatives
class InMemory(DualModel):
    """A `Dual` whose memory is an array of float64: a packed struct would be read byte by byte."""

    def __init__(self, manager, kind):
        super().__init__(manager, kind)
        self.width, self.stored = kind.width, ir.ArrayType(DOUBLE, 1 + kind.width)

    def get_data_type(self):
        return self.stored

    def as_data(self, builder, value):
        made = builder.insert_value(ir.Constant(self.stored, ir.Undefined), builder.extract_value(value, 0), 0)
        tangent = builder.extract_value(value, 1)
        for k in range(self.width):
            item = builder.extract_element(tangent, ir.Constant(ir.IntType(32), k))
            made = builder.insert_value(made, item, 1 + k)
        return made

    def from_data(self, builder, data):
        kind: Any = self.get_value_type()
        tangent = ir.Constant(kind.elements[1], ir.Undefined)
        for k in range(self.width):
            item = builder.extract_value(data, 1 + k)
            tangent = builder.insert_element(tangent, item, ir.Constant(ir.IntType(32), k))
        made = builder.insert_value(ir.Constant(kind, ir.Undefined), builder.extract_value(data, 0), 0)
        return builder.insert_value(made, tangent, 1)


@intrinsic
def _new(typing_context, shape, kind):
    sizes = shape.count if isinstance(shape, types.BaseTuple) else 1
    made = NumberArray(kind.instance_type, sizes, "C")

    def codegen(context, builder, signature, args):
        given, of = signature.args[0], args[0]
        extents = ([builder.extract_value(of, i) for i in range(sizes)] if isinstance(given, types.BaseTuple) else [of])
        kinds = given.types if isinstance(given, types.BaseTuple) else [given]
        extents = [context.cast(builder, *pair, types.intp) for pair in zip(extents, kinds, strict=True)]
        return _make(context, builder, made, extents, populate_array)._getvalue()

    return made(shape, kind), codegen


@overload(empty, target="cuda")
def _empty(shape, kind):
    return lambda shape, kind: _new(shape, kind)


# ---------------------------------------------------------------------------------------------- installation
class _Permissive:
    """A target's context to which arrays may be returned, and whose memory is the thread's."""

    enable_nrt = True

    def __init__(self, context: Any):
        self._context = context
        self.nrt = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def allocate(self, builder: Any, nbytes: Any) -> Any:
        """LLVM code: room for what is assigned to a slice of itself."""
        return builder.inttoptr(_take(self._context, builder, nbytes), ir.IntType(8).as_pointer())

    def free(self, builder: Any, where: Any) -> None:
        """Nothing: room is given back when the evaluation ends."""


_installed = False


def _install() -> None:
    global _installed
    if _installed:
        return
    if BUILT_IN:
        raise NoDeviceError(f"device='cuda': users' functions need numba-cuda, not Numba's own numba.cuda: {INSTALL}")
    _installed = True
    from numba.cuda.models import register_model
    from numba.cuda.target import CUDATargetContext

    register_model(Dual)(InMemory)
    register_for("cuda")
    _add_ufuncs()
    for name in ("numba.np.arrayobj", "numba.cuda.np.arrayobj"):
        module = importlib.import_module(name)
        _patch_memory(module, CUDATargetContext)
    in_place = importlib.import_module("numba.cuda.typing.npydecl").NumpyRulesInplaceArrayOperator
    in_place.generic = _of_plain_arrays(in_place.generic)
    passes = importlib.import_module("numba.cuda.core.typed_passes").BaseTypeInference
    run = passes.run_pass

    def run_pass(self, state):
        if not getattr(_here, "on", False):
            return run(self, state)
        context, state.targetctx = state.targetctx, _Permissive(state.targetctx)
        try:
            return run(self, state)
        finally:
            state.targetctx = context

    passes.run_pass = run_pass


def _of_plain_arrays(generic: Any) -> Any:
    """numba-cuda's types of ``a += b``, which know no number with derivatives and fail where they should pass."""
    return lambda self, args, kws: None if any(map(number_in, args)) else generic(self, args, kws)


def _patch_memory(module: Any, target: type) -> None:
    empty, populate, copied = module._empty_nd_impl, module.populate_array, module.maybe_copy_source

    def make(context, builder, kind, shapes):
        if not (getattr(_here, "on", False) and isinstance(context, target)):
            return empty(context, builder, kind, shapes)
        return _make(context, builder, kind, shapes, populate)

    def copy(context, *rest):
        here = getattr(_here, "on", False) and isinstance(context, target)
        return copied(_Permissive(context) if here else context, *rest)

    module._empty_nd_impl, module.maybe_copy_source = make, copy


__all__ = ["WORDS_A_THREAD", "allowed", "fill_new", "open_room", "over", "overflowed"]
