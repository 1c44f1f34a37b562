"""`minimize_many` on a GPU: a problem a thread, all arrays of its run in registers or the thread's own memory.

The loops are those of the CPU.  How many unknowns, vectors of state and residuals there are is known when a kernel is
compiled, so that nothing is left of loops over few unknowns.
"""

from __future__ import annotations

import contextlib
import functools
import re
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numba import from_dtype

from .._jit import invoke, invoke_quietly, jit, pointer, short_reason
from .._schedule import rates as rates_of
from ..arguments import count, most_evaluations, nonnegative
from ..automatic import is_automatic
from ..differences import SCHEMES, evaluations
from ..loops import automatic, descent, least_squares
from ..loops.many import begin, note, settle
from ..loops.state import CALM_STEPS, Run, new_run
from ..optimizers._program import hyper_parameters, program
from ..pool import _bar, arguments_of, result_of
from ..problems.evaluation import FLOAT64
from ..solvers import solver_of
from ..status import RAISED, STOPPED
from ._backend import SIMULATED, DeviceMemoryError, configured, cuda, kernel, release, require, told
from .functions import device
from .memory import RECORDS, records_in
from .objectives import Derived, derived, evaluation, residuals

BLOCK = 128  # threads
FIRST, MOST, LEAST = 1 << 15, 1 << 20, 1 << 10  # problems of a launch
LAUNCH_SECONDS = 0.2  # of a launch, after which Ctrl-C is heeded
TABLE_BYTES = 1 << 26  # of coefficients, up to which the CPU computes them for all steps
ROOM, ROOM_GROWTH, LARGEST_ROOM = 64, 8, 1 << 12  # words of a thread's memory for temporary arrays
NO_ROOM = -100  # status of a problem that needs more


class Plan(NamedTuple):
    """What a kernel is compiled for; equal plans share one."""

    of: Derived
    m: int  # residuals; 0: an objective
    loop: Any
    program: Any  # of a first-order rule, or None
    way: str  # "planned", "table" (of coefficients), "steady" or "scheduled" (a thread's own), "automatic"
    dtype: np.dtype
    slots: int
    extra: int
    bounded: bool
    keeps_previous: bool
    shapes: tuple[int, ...]  # of the arguments: -1 shared, else axes of a problem's own


def _kind(dtype: Any) -> Any:
    return np.dtype(dtype).type if SIMULATED else from_dtype(np.dtype(dtype))


# ------------------------------------------------------------------------------------------ parts of the kernel
def _own(shapes: tuple[int, ...]) -> Any:
    """``own(args, i)``: the arguments of problem ``i``, whose axis is the last one."""
    if not shapes:
        return device(lambda args, i: ())
    first, rest = _PARTS[shapes[0]], _own(shapes[1:])
    return device(lambda args, i: (first(args[0], i),) + rest(args[1:], i))  # noqa: RUF005


_PARTS = {
    -1: device(lambda arg, i: arg), 0: device(lambda arg, i: arg[i]), 1: device(lambda arg, i: arg[:, i]),
    2: device(lambda arg, i: arg[:, :, i]), 3: device(lambda arg, i: arg[:, :, :, i]),
}  # fmt: skip


def _nothing(hyper, rates, t, out, k):
    pass


if SIMULATED:
    def repeated(values, i, size):
        return np.broadcast_to(values[i], (size,))

    def overflowed():
        return False

    allowed = contextlib.nullcontext
else:
    from numba.core import types
    from numba.np.arrayobj import populate_array

    from ._backend import intrinsic
    from .lowering import allowed, overflowed  # type: ignore[assignment]

    @intrinsic
    def repeated(typing_context, values, i, size):
        """``values[i]`` as a vector of that size."""
        made = types.Array(values.dtype, 1, "A")

        def codegen(context, builder, signature, args):
            source = context.make_array(values)(context, builder, args[0])
            array = context.make_array(made)(context, builder)
            populate_array(array, data=builder.gep(source.data, [args[1]]), shape=[args[2]],
                           strides=[context.get_constant(types.intp, 0)], itemsize=source.itemsize,
                           meminfo=None)  # fmt: skip
            return array._getvalue()

        return made(values, types.intp, types.intp), codegen


def _settings(way: str, compiled: Any) -> Any:
    """``settings(tables, kind, steps, fields, coefficients)``: those of a problem's loop; the last two are its own."""
    if way == "planned":
        return device(lambda tables, kind, steps, fields, coefficients: tables[0][kind])
    step, nothing, ahead = device(compiled.sweep), device(_nothing), 1
    fill = nothing if way == "table" else device(compiled.fill)

    def table(tables, kind, steps, fields, coefficients):
        return descent.Settings(tables[0][kind : kind + 1], tables[1][kind], 0, tables[2][kind], steps, nothing, step)

    def scheduled(tables, kind, steps, fields, coefficients):
        return descent.Settings(tables[0][kind : kind + 1], tables[1][kind], 0, coefficients, ahead, fill, step)

    def steady(tables, kind, steps, fields, coefficients):
        rates = repeated(tables[1], kind, steps)
        return descent.Settings(tables[0][kind : kind + 1], rates, 0, coefficients, ahead, fill, step)

    def found(tables, kind, steps, fields, coefficients):
        for j in range(automatic.FIELDS):
            fields[j] = tables[1][kind, j]
        return descent.Settings(tables[0][kind : kind + 1], fields, 0, coefficients, ahead, fill, step)

    return device({"table": table, "scheduled": scheduled, "steady": steady, "automatic": found}[way])


@functools.lru_cache(maxsize=64)
def compiled_kernel(plan: Plan, words: int) -> Any:
    """The kernel ``(starts, lower, upper, x, fun, status, nit, nfev, kinds, template, tables, args, maxiter, gtol,
    ftol, xtol)``, compiled when it is first launched; ``words`` of memory a thread for temporary arrays.
    """
    n, real, dtype, double = plan.of.n, _kind(plan.dtype), plan.dtype.type(0), _kind(FLOAT64)
    now_of, history_of, words_of = records_in("now"), records_in("history"), RECORDS["now"].itemsize // 8
    two_rows = 2 * RECORDS["history"].itemsize // 8
    rows, slots, numbers, extra_numbers = max(1, plan.slots), plan.slots, max(1, plan.extra), plan.extra
    keeps, bounds = (n if plan.keeps_previous else 0), (n if plan.bounded else 0)
    width = plan.program.width if plan.way in ("scheduled", "steady", "automatic") else 1
    fields_size, zero = automatic.FIELDS + 1, dtype
    evaluate = residuals(plan.of, plan.m, words) if plan.m else evaluation(plan.of, words)
    own, loop, settings_of = _own(plan.shapes), device(plan.loop), _settings(plan.way, plan.program)
    begins, notes, settles = device(begin), device(note), device(settle)

    def one(run, settings, args, maxiter, values, gtol, ftol, xtol):
        data = args, run.lower, run.upper
        loop(run, zero, maxiter, values, 0, settings, evaluate, data, gtol, ftol, xtol)

    one, quietly = device(one), device(invoke_quietly)

    def solve(starts, lower, upper, x, fun, status, nit, nfev, reason, kinds, targets, template, tables, args, maxiter,
              gtol, ftol, xtol):  # fmt: skip
        i = cuda.grid(1)
        if i < starts.shape[0]:
            here, g, work = cuda.local.array(n, real), cuda.local.array(n, real), cuda.local.array(n, real)
            best, previous = cuda.local.array(n, real), cuda.local.array(n, real)
            low, high = cuda.local.array(n, real), cuda.local.array(n, real)
            state, extra = cuda.local.array((rows, n), real), cuda.local.array(numbers, double)
            now, history = now_of(cuda.local.array(words_of, double)), history_of(cuda.local.array(two_rows, double))
            fields = cuda.local.array(fields_size, double)
            coefficients = cuda.local.array((1, width), real)
            now[0] = template[0]
            now[0].f_target = targets[i]
            run = Run(here, g, work, best, previous[:keeps], state[:slots], extra[:extra_numbers], low[:bounds],
                      high[:bounds], now, history)  # fmt: skip
            begins(run, i, starts, lower, upper)
            settings = settings_of(tables, kinds[i], maxiter, fields, coefficients)
            failed = quietly(one, (run, settings, own(args, i), maxiter, fields, gtol, ftol, xtol))
            settles(now[0], maxiter)
            if failed != 0:
                now[0].status = NO_ROOM if overflowed() else RAISED
            notes(run, i, x, fun, status, nit, nfev, reason)

    return kernel(solve)


# ------------------------------------------------------------------------------------------------- on the host
class Many:
    """The problems, what they share on the device, and the answers so far."""

    def __init__(self, fun: Any, jac: Any, opts: list[Any], starts: np.ndarray, args: tuple, which: tuple[bool, ...],
                 lower: np.ndarray, upper: np.ndarray, settings: dict[str, Any]):  # fmt: skip
        for name in ("path", "rows"):
            if settings[name]:
                told = "history" if name == "rows" else name
                raise ValueError(f"option {told!r} is not possible with device='cuda'; leave it out")
        self.size, n = starts.shape
        self.args, self.which, self.progress = _checked(args), which, bool(settings["progress"])
        distinct = {repr(opt): opt for opt in opts}
        opts_here, order = list(distinct.values()), {name: k for k, name in enumerate(distinct)}
        self.kinds = np.resize([order[repr(opt)] for opt in opts], self.size).astype(np.int64)
        opt, bounded, of = opts_here[0], len(lower) > 0, derived(fun, jac, n)
        m = self._residuals(of, starts) if hasattr(opt, "problem") else 0
        whole = m > 0 or (isinstance(of.jac, str) and of.jac in SCHEMES)
        dtype = FLOAT64 if whole else np.dtype(starts.dtype)
        self.starts, self.lower, self.upper = (table.astype(dtype, copy=False) for table in (starts, lower, upper))
        self.maxiter = count("maxiter", 10_000 if settings["maxiter"] is None else settings["maxiter"])
        self.tolerances = tuple(nonnegative(key, 1e-5 if settings[key] is None else settings[key])
                                for key in ("gtol", "ftol", "xtol"))  # fmt: skip
        problem = _Shape(n, m, dtype)
        if m == 0 and hasattr(opt, "check"):
            opt.check(opt, problem, None, bounded)
        sizes = {solver_of(one).sizes(one, problem, None, bounded) for one in opts_here}
        if len(sizes) > 1:
            raise ValueError("method: all must need the same memory, such as the same number of pairs")
        slots, extra = sizes.pop()
        loop, way, made, self.tables = _tables(opts_here, problem, bounded, self.maxiter)
        self.plan = Plan(of, m, loop, made, way, dtype, slots, extra, bounded, self.tolerances[2] > 0, tuple(
            np.ndim(arg) - 1 if own else -1 for arg, own in zip(self.args, which, strict=True)))  # fmt: skip
        self.per_gradient = evaluations(of.jac, n) if isinstance(of.jac, str) and of.jac in SCHEMES else 0
        none = np.zeros(0, dtype)
        template = new_run(np.zeros(n, dtype), 0, none, none, 2, False).now
        template["calm_steps"] = getattr(opt, "calm_steps", CALM_STEPS)
        template["max_evaluations"] = most_evaluations(settings, 1 + self.per_gradient)
        self.targets = np.broadcast_to(settings["f_target"], self.size)
        self.template = template.view(RECORDS["now"])
        self.x, self.fun = self.starts.copy(), np.full(self.size, np.nan)
        self.status = np.full(self.size, STOPPED)
        self.nit, self.nfev, self.reason = np.zeros((3, self.size), np.int64)

    def _residuals(self, of: Derived, starts: np.ndarray) -> int:
        """How many residuals there are, by the first problem whose do not raise."""
        errors: list[Exception] = []
        if of.jac is True:
            raise ValueError("jac=True is not possible: fun returns the residuals, jac(x, *args) their Jacobian")
        for i in range(min(self.size, 10)):
            try:
                found = of.fun(starts[i].astype(float), *arguments_of(i, self.args, self.which))
            except Exception as error:
                errors.append(error)
                continue
            if np.ndim(found) == 0:
                raise ValueError("fun returns a number: method='lm' sums the squares of a vector of residuals; for an "
                                 "objective take another method")  # fmt: skip
            return len(found)
        raise errors[0]

    def solve(self) -> Any:
        """Launch after launch, between which Ctrl-C is heeded."""
        require("device='cuda'")
        bar, low, size = (_bar(self.size) if self.progress else None), 0, FIRST
        try:
            with told("device='cuda', args"):
                shared = _on_device((self.tables, tuple(None if own else arg for arg, own in zip(
                    self.args, self.which, strict=True))))  # fmt: skip
            while low < self.size:
                high, start = min(low + size, self.size), time.perf_counter()
                try:
                    with told(f"device='cuda', {high - low:,} problems at once"):
                        self._launch(low, high, shared)
                except DeviceMemoryError:
                    if size <= LEAST:
                        raise
                    size //= 4
                    continue
                took = time.perf_counter() - start
                size = min(2 * size, MOST) if took < LAUNCH_SECONDS / 2 else size
                size = max(LEAST, size // 2) if took > 2 * LAUNCH_SECONDS else size
                if bar is not None:
                    bar.update(high - low)
                low = high
        except KeyboardInterrupt as interrupt:
            interrupt.result = self.result()
            raise
        finally:
            release()
            if bar is not None:
                bar.close()
        return self.result()

    def _launch(self, low: int, high: int, shared: Any) -> None:
        """Solve the problems ``low`` to ``high``."""
        tables, args = shared
        mine = tuple(_turned(arg[low:high]) if own else there
                     for arg, own, there in zip(self.args, self.which, args, strict=True))  # fmt: skip
        several = len(self.lower) > 1
        limits = [_on_device(b[low:high] if several else b) for b in (self.lower, self.upper)]
        starts, kinds, targets, template = (_on_device(a) for a in (
            self.starts[low:high], self.kinds[low:high], np.ascontiguousarray(self.targets[low:high]), self.template))
        answers = self.x, self.fun, self.status, self.nit, self.nfev, self.reason
        outputs = [cuda.device_array((high - low, *a.shape[1:]), a.dtype) for a in answers]
        room = _room(self.plan)
        while True:
            words = room[0]
            grid, block = -(-(high - low) // BLOCK), min(BLOCK, high - low) if SIMULATED else BLOCK
            with compiling():
                configured(compiled_kernel(self.plan, words), grid, block, 16 * BLOCK)(
                    starts, *limits, *outputs, kinds, targets, template, tables, mine, self.maxiter, *self.tolerances)
            status = outputs[2].copy_to_host()
            if not np.any(status == NO_ROOM):
                break
            if words >= LARGEST_ROOM:
                raise MemoryError(f"device='cuda': fun makes arrays of more than {8 * words >> 10} KiB, which a thread "
                                  "has no memory for")  # fmt: skip
            room[0] = words * ROOM_GROWTH
        for there, here in zip(outputs, answers, strict=True):
            here[low:high] = there.copy_to_host()

    def result(self) -> Any:
        """The answers as SciPy tells of one."""
        return result_of(self.x, self.fun, self.status, self.nit, self.nfev * (1 + self.per_gradient), self.reason)


@functools.lru_cache(maxsize=64)
def _room(plan: Plan) -> list[int]:
    """How many words a thread of a kernel turned out to need: one number, which grows."""
    return [ROOM]


class _Shape(NamedTuple):
    """What solvers ask of a problem."""

    n: int
    m: int
    dtype: np.dtype


def _tables(opts: list[Any], problem: _Shape, bounded: bool, steps: int) -> tuple[Any, str, Any, tuple]:
    """The loop, the way that its settings are made, the rule's program, and the tables they are made of."""
    opt, dtype = opts[0], problem.dtype
    if problem.m:
        settings = [solver_of(one).planned(one, problem.n, problem.m, steps) for one in opts]
        return least_squares.least_squares, "planned", None, (np.array(settings),)
    if hasattr(opt, "solver"):
        settings = [one.solver.planned(one, dtype) for one in opts]
        return opt.solver.room(bounded).loop, "planned", None, (np.array(settings),)
    made, hyper = program(opt, dtype), np.concatenate([hyper_parameters(one) for one in opts])
    if is_automatic(opt.lr):
        return automatic.descend, "automatic", made, (hyper, np.array([one.lr for one in opts], np.float64))
    steps = max(1, steps)
    if len(opts) * steps * made.width * dtype.itemsize <= TABLE_BYTES:
        rates = np.array([rates_of(one.lr, 0, steps) for one in opts])
        coefficients = np.zeros((len(opts), steps, made.width), dtype)
        for k in range(len(opts)):
            coefficients_at(made.prepare, hyper[k : k + 1], rates[k], coefficients[k])
        return descent.descend, "table", made, (hyper, rates, coefficients)
    if all(isinstance(one.lr, (int, float)) for one in opts):
        return descent.descend, "steady", made, (hyper, np.array([float(one.lr) for one in opts]))
    return descent.descend, "scheduled", made, (hyper, np.array([rates_of(one.lr, 0, steps) for one in opts]))


@jit
def coefficients_at(prepare, hyper, rates, out):
    """The coefficients of all steps, as the CPU computes them."""
    invoke(prepare, (pointer(hyper), pointer(rates), 1, pointer(out), rates.size))


def _checked(args: tuple) -> tuple:
    """The arguments, which must be arrays or numbers, or tuples of such."""
    def one(position: int, arg: Any) -> Any:
        if isinstance(arg, tuple):
            items = [one(position, item) for item in arg]
            return type(arg)(*items) if hasattr(arg, "_fields") else tuple(items)
        if isinstance(arg, np.ndarray) and arg.dtype.kind in "biuf":
            return np.ascontiguousarray(arg, arg.dtype.newbyteorder("="))
        if isinstance(arg, (bool, int, float, np.number, np.bool_)):
            return arg
        raise TypeError(f"args[{position}] is a {type(arg).__name__}, which a GPU does not take; give an array of "
                        "real numbers, a number or a tuple of such")  # fmt: skip

    return tuple(one(*item) for item in enumerate(args))


def _on_device(value: Any) -> Any:
    """Arrays, also those in tuples, in the memory of the device."""
    if isinstance(value, tuple):
        items = [_on_device(item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    return cuda.to_device(value) if isinstance(value, np.ndarray) else value


def _turned(arg: np.ndarray) -> Any:
    """A batched argument on the device, the problems' axis last: neighbouring threads read neighbouring words."""
    if arg.ndim == 1:
        return _on_device(arg)
    rows = arg.reshape(len(arg), -1)
    there = _on_device(rows)
    made = cuda.device_array((rows.shape[1], len(rows)), rows.dtype)
    if rows.size:
        block = min(BLOCK, len(rows)) if SIMULATED else BLOCK
        configured(_turn(), -(-len(rows) // block), block)(there, made)
    return made.reshape(*arg.shape[1:], len(arg))


@functools.cache
def _turn() -> Any:
    def turn(rows, columns):
        i = cuda.grid(1)
        if i < rows.shape[0]:
            for j in range(rows.shape[1]):
                columns[j, i] = rows[i, j]

    return kernel(turn)


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """Around a launch: what the package allows; errors of the compiler in one sentence."""
    try:
        with allowed():
            yield
    except Exception as error:
        if told := reason(error):
            raise TypeError(f"device='cuda': fun cannot be compiled for a GPU: {told}") from error
        raise


def reason(error: BaseException) -> str | None:
    """Why a user's functions cannot be compiled for a GPU, where that is what an error says."""
    from numba.core.errors import NumbaError

    if "Undefined reference" in str(error):
        return str(error).strip().splitlines()[0]
    if "insert_unresolved_ref" in str(error):  # which numba-cuda has not
        return "a function calls itself"
    if not isinstance(error, (NumbaError, KeyError, NotImplementedError)):
        return None
    text = str(error)
    if "_quietly" in text:  # where the loop is called
        text = text.partition("raised a specific error:")[2]
    text = re.sub(r"\b[A-Z]\w*Error: ", "", re.sub(r"\x1b\[[0-9;]*m", "", text))
    told = short_reason(NumbaError(text))
    return re.sub(r"No implementation of function Function\(<.*?(\w+)( at \w+)?>\) found for signature",
                  r"there is no \1 for these arguments", told)  # fmt: skip


__all__ = ["Many", "Plan", "compiled_kernel", "compiling"]
