"""Training of linear models on a GPU: what a run's slices are launched with, and when its arrays come back.

The data go to the GPU once.  A slice is one launch; between slices only the small record of where a run stands and its
history move, all else where somebody asks (`DeviceSteps.fetch`).
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import types

from ..._interrupts import Interrupts
from ..._jit import address_of, invoke, jit, precompile
from ...automatic import is_automatic
from ...losses._loss import constants
from ...optimizers._program import hyper_parameters, program
from ...problems.rows import DenseRows
from ...solvers._searching import Searching
from ...solvers._solver import Job, Solver
from ...solvers.first_order import FirstOrder, check_lazy, check_rate, is_lazy
from ...status import RUNNING
from .._backend import SIMULATED, configured, cuda, release, require, told
from ..groups import BLOCK, WARP, WARPS
from ..memory import RECORDS
from .descent import numbers_of, trainer
from .rows import MOST_PARTS, Shape, tile_of, width_of_lanes
from .warps import pieces_of

DEVICE = "device='cuda'"
SMALL = 16 if SIMULATED else 1 << 14  # stored numbers of a step that one block reads as soon as the grid has met
TEAMS, MANY_TEAMS = 128, 512  # blocks of the grid at most: of steps over batches, of steps over all terms
FEW_NUMBERS = 0.25  # of a batch, a column, are worth a sum of its own: rows are waited for, sums are not
FEW_UNKNOWNS = 1 << 10  # so many unknowns share their sums among the threads of a warp


class Layout(NamedTuple):
    """How the work of a model is shared; it depends on model and batches alone, and with it every bit."""

    shape: Shape
    whole: bool  # whether the grid trains one model, or a block each
    teams: int  # blocks that have work
    lanes: int  # threads a coordinate
    chunk: int  # rows of a batch that a block sums at a time
    whole_chunk: int
    chunks: int  # at most
    whole_chunks: int
    normed: bool  # whether the unknowns are directions and lengths


def layout(problem: Any, batches: Any, models: int = 1) -> Layout:
    """How training is shared among threads."""
    model = data_of(problem)
    n, terms, stored = model.n, model.n_terms, model.rows[0].size * model.n_outputs
    numbers, size = stored / terms, terms if batches is None else batches.size
    dense = isinstance(model.rows, DenseRows)
    held = dense and not model.many and terms < 1 << 31
    wide, pieces = pieces_of(model.n_features, model.dtype) if held else (0, 0)
    whole = models == 1 and size * numbers > SMALL
    most = (MANY_TEAMS if batches is None else TEAMS) if whole else 1

    def chunk(rows: int, numbers_a_column: float) -> int:
        chunks = max(1, min(most, int(rows * numbers / (numbers_a_column * n)), -(-rows // 8)))
        return -(-rows // chunks)

    one, every = chunk(size, FEW_NUMBERS), chunk(terms, 1.0)
    if pieces:
        parts = 1
    elif dense:
        parts = max(1, min(MOST_PARTS, BLOCK // n))
    else:  # a power of two, as the number of warps is
        parts = 1 << (max(1, min(WARPS, int(one * numbers / n))).bit_length() - 1)
    row_bytes = int(model.n_features if dense else 2 * numbers / model.n_outputs) * model.dtype.itemsize + 1
    shape = Shape(model.dtype, type(model.rows), type(model.loss), len(constants(model.loss)), model.n_outputs,
                  width_of_lanes(numbers / model.n_outputs), parts, wide, pieces,
                  1 if pieces else tile_of(model.n_outputs, model.dtype, row_bytes),
                  marks=is_lazy(model, batches))  # fmt: skip
    if shape.tile == 0:
        raise ValueError(f"{DEVICE}: {model.n_outputs} classes are too many; a block's shared memory holds the margins "
                         f"of at most {(24 << 10) // model.dtype.itemsize - 2}")  # fmt: skip
    chunks, whole_chunks = -(-size // one), -(-terms // every)
    lanes = WARP if whole and n <= FEW_UNKNOWNS else 1
    return Layout(shape, whole, max(chunks, whole_chunks), lanes, one, every, chunks, whole_chunks,
                  normed=model is not problem)  # fmt: skip


def data_of(problem: Any) -> Any:
    """The model whose rows are passed over, of one in other unknowns."""
    return getattr(problem, "model", problem)


def signature(made: Any, shape: Shape) -> tuple[Any, ...]:
    """The types of a kernel's arguments."""
    real, double, whole = numba.from_dtype(shape.dtype), types.float64, types.int64

    def array(kind: Any, ndim: int) -> Any:
        return types.Array(kind, ndim, "C")

    table, vector = array(real, 2), array(real, 1)
    rows = ((table, array(types.int32, 1), array(whole, 1)) if shape.storage is DenseRows
            else (vector, array(types.int32, 1), array(whole, 1)))  # fmt: skip
    return (*(table,) * 4, array(real, 3), vector, vector, array(numba.from_dtype(RECORDS["now"]), 1),
            array(numba.from_dtype(RECORDS["history"]), 2), *rows, vector, vector, array(double, 2),
            array(double, 3), array(double, 2), array(whole, 2), array(whole, 2), table, table, array(double, 3),
            array(whole, 2), array(real, 3),
            array(double, 2), array(double, 2), array(whole, 1), *(whole,) * 3, types.boolean, types.boolean,
            whole, whole, *(double,) * 5)  # fmt: skip


def refuse(problem: Any, opt: Any) -> None:
    """Say what does not run on a GPU."""
    if not (hasattr(data_of(problem), "rows") and hasattr(problem, "n_outputs")):
        kind = "FiniteSum" if hasattr(problem, "n_terms") else "function; minimize_many takes functions"
        raise ValueError(f"{DEVICE}: minimize trains a LinearModel there, not a {kind}")
    if not (hasattr(opt, "slots") and issubclass(getattr(opt, "solver", Searching), Searching)):
        name = opt if isinstance(opt, str) else getattr(type(opt), "names", [type(opt).__name__])[0]
        raise ValueError(f"{DEVICE} needs a first-order rule such as method='adam' or 'sgd', or 'lbfgs', 'L-BFGS-B', "
                         f"'bfgs' or 'cg', not {name!r}")  # fmt: skip


class DeviceSteps(Solver):
    """Every rule on a linear model, by one kernel a slice."""

    def __init__(self, job: Job):
        require(DEVICE)
        if hasattr(job.opt, "solver"):
            raise ValueError(f"{DEVICE}: many runs at once need a first-order rule such as method='adam' or 'sgd', not "
                             f"{job.opt.names[0]!r}")  # fmt: skip
        if is_lazy(job.problem, job.batches):
            check_lazy(job)
        check_rate(job)
        if job.run.extra.any() and not is_automatic(job.opt.lr):  # within an epoch on the CPU, which owes steps
            job.run.x[:] = FirstOrder(job).point()
            job.run.extra[:] = 0
        self.job, self.callback, self.interrupts = job, None, Interrupts()
        self.program = program(job.opt, job.problem.dtype, job.after)
        self.hyper = hyper_parameters(job.opt, job.after)
        self.training = self.trained()

    def trained(self) -> Training | None:
        """The training of this run."""
        job = self.job
        return Training(job.problem, self.program, job.batches, job.limits, [job.run])

    sizes = staticmethod(FirstOrder.sizes)  # a run may go on elsewhere

    def take(self, steps: int, rates: np.ndarray, values: np.ndarray) -> None:
        """Take at most ``steps`` steps."""
        launch([self], steps, [rates], [values])

    def coefficients(self, rates: np.ndarray) -> np.ndarray:
        """The rows of coefficients of the next steps."""
        return coefficients(self.program, self.hyper, rates, int(self.job.run.now[0].step))

    @property
    def seed(self) -> int:
        """That of the orders of epochs."""
        return 0 if self.job.batches is None else self.job.batches.seed

    def value_and_grad(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Those of the kernel, with which the run was judged."""
        assert self.training is not None
        fun, g = self.training.evaluate(x[None])
        return float(fun[0]), g[0]

    def fetch(self) -> None:
        """Bring the run's arrays here."""
        if self.training is not None:
            self.training.fetch()

    def close(self) -> None:
        """Free what stands on the GPU."""
        if self.training is not None:
            self.training.close()


def launch(solvers: list[DeviceSteps], steps: int, rates: list[np.ndarray], values: list[np.ndarray]) -> None:
    """Take at most ``steps`` steps of every run of a training, at its own rates."""
    table = np.stack([one.coefficients(rate[:steps]) for one, rate in zip(solvers, rates, strict=True)])
    found, training = np.empty((len(values), max(one.size for one in values))), solvers[0].training
    assert training is not None
    training.launch(table, np.stack([rate[:steps] for rate in rates]), np.array([one.seed for one in solvers]), steps,
                    found)  # fmt: skip
    for here, there in zip(values, found, strict=True):
        here[:] = there[: here.size]


class Training:
    """Runs of one model on the GPU: a kernel, and the arrays it is launched with.

    Parameters
    ----------
    problem : LinearModel or WeightNorm
    made : Program
    batches : Batches or None
    limits : Limits
    runs : list of Run
        Of one kind; as many as there are, each is trained by a block of its own.
    """

    def __init__(self, problem: Any, made: Any, batches: Any, limits: Any, runs: list[Any]):
        self.model, self.made, self.batches, self.limits, self.runs = data_of(problem), made, batches, limits, runs
        plan = self.layout = layout(problem, batches, len(runs))
        self.kernel = trainer(plan.shape, made, plan.whole, plan.lanes, plan.normed)
        self.blocks = plan.teams if plan.whole else len(runs)
        if not SIMULATED:
            with told(DEVICE):
                compiled = self.kernel.compile(signature(made, plan.shape))
                if plan.whole:
                    self.blocks = min(self.blocks, compiled.max_cooperative_grid_blocks(BLOCK))
        elif plan.whole:
            self.blocks = 1
        self.held: dict[str, Any] = {}
        self.current = True  # whether the runs' arrays on this machine are those of the GPU
        try:
            self._move()
        except BaseException:
            self.close()
            raise

    def _move(self) -> None:
        model, plan, k, first = self.model, self.layout, len(self.runs), self.runs[0]
        for name in ("x", "g", "best", "previous", "state"):
            self._hold(name, np.stack([getattr(run, name) for run in self.runs]))
        self._hold("lower", first.lower)
        self._hold("upper", first.upper)
        for name in ("now", "history"):
            self._hold(name, self._records(name))
        dense, shape = isinstance(model.rows, DenseRows), plan.shape
        rows = ((model.rows.X, np.zeros(1, np.int32), np.zeros(1, np.int64)) if dense
                else (getattr(model.rows, "values", np.zeros(1, model.dtype)), *model.rows[-2:]))  # fmt: skip
        for name, array in zip(("X", "columns", "row_starts"), rows, strict=True):
            self._hold(name, array)
        self._hold("y", model.y)
        self._hold("weights", model.sample_weight)
        self._hold("constants", np.array([constants(model.loss)], float).reshape(1, -1))
        chunks, own = max(plan.chunks, plan.whole_chunks), (k, model.n if plan.normed else 0)
        for name, extent, kind in (
            ("parts", (k, chunks * shape.parts, model.n), np.float64), ("funs", (k, plan.whole_chunks), np.float64),
            ("bad", (k, 2), np.int64), ("met", (k, model.n_features if shape.marks else 0), np.int64),
            ("inner", own, model.dtype), ("inner_slope", own, model.dtype),
            ("partial", (k, max(1, self.blocks) + 1, numbers_of(self.made)), np.float64),  # the last is told to all
            ("better", (k, 1), np.int64),
        ):  # fmt: skip
            self._hold(name, np.zeros(extent, kind))

    def _records(self, name: str) -> np.ndarray:
        found = np.concatenate([getattr(run, name)[None] for run in self.runs])
        return (found[:, 0] if name == "now" else found).view(RECORDS[name])

    def _hold(self, name: str, array: np.ndarray) -> None:
        with told(f"{DEVICE}: {name}", array.nbytes):
            self.held[name] = cuda.to_device(np.ascontiguousarray(array))

    def launch(self, table: np.ndarray, rates: np.ndarray, seeds: np.ndarray, steps: int, values: np.ndarray,
               limits: Any = None) -> None:  # fmt: skip
        """Take at most ``steps`` steps of every run, with rows of coefficients and rates of their own."""
        self.current = False
        with told(DEVICE, table.nbytes):
            for name in ("now", "history"):  # which the driver may have changed
                self.held[name].copy_to_device(self._records(name))
            self._run(table, rates, seeds, steps, values, limits or self.limits, self.batches)
            for name in ("now", "history"):
                found = self.held[name].copy_to_host()
                for run, mine in zip(self.runs, found, strict=True):
                    getattr(run, name)[:] = mine

    def evaluate(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Objectives and gradients at a point a run, once all have ended: the kernel's own, as it judges epochs."""
        self.fetch()
        now, none = self._records("now"), np.zeros((len(points), 0))
        for name, value in (("status", RUNNING), ("awaiting", 1), ("shown", -1), ("keeps_best", 0), ("due", 1 << 62)):
            now[name] = value
        with told(DEVICE):
            self.held["x"].copy_to_device(np.ascontiguousarray(points))
            self.held["now"].copy_to_device(now)
            self._run(np.zeros((*none.shape, self.made.width), self.model.dtype), none, np.zeros(len(points)), 0, none,
                      self.limits, None)  # fmt: skip
            return self.held["now"].copy_to_host()["fun"], self.held["g"].copy_to_host()

    def _run(self, table: np.ndarray, rates: np.ndarray, seeds: np.ndarray, steps: int, values: np.ndarray,
             limits: Any, b: Any) -> None:  # fmt: skip
        plan, model, seen = self.layout, self.model, cuda.to_device(np.ascontiguousarray(values))
        configured(self.kernel, self.blocks, BLOCK)(
            *self.held.values(), cuda.to_device(np.ascontiguousarray(table)),
            cuda.to_device(np.ascontiguousarray(rates, np.float64)), seen, cuda.to_device(seeds.astype(np.int64)),
            steps, model.n_terms, 0 if b is None else b.size, b is not None and b.shuffle, b is None or b.whole,
            plan.chunk, plan.whole_chunk, model.l2, model.intercept_l2, limits.gtol, limits.ftol,
            limits.xtol if b is None else 0.0)  # fmt: skip
        if values.size:
            values[:] = seen.copy_to_host()

    def send(self, *names: str) -> None:
        """Bring arrays of all runs to the GPU, which were changed here."""
        for name in names:
            self.held[name].copy_to_device(np.stack([getattr(run, name) for run in self.runs]))

    def begin_again(self, at_best: bool, based_there: bool) -> None:
        """Let the rule of the only run begin again at the best point, or at the last row of the state.

        ``based_there``: first the best point is written into that row.
        """
        if not self.runs[0].now[0].keeps_best:
            self.send("best")
        x, best, state = (self.held[name][0] for name in ("x", "best", "state"))
        if based_there:
            state[-1].copy_to_device(best)
        x.copy_to_device(best if at_best else state[-1])
        if len(state) > 1:
            state[:-1].copy_to_device(np.zeros((len(state) - 1, len(x)), self.model.dtype))
        self.current = False

    def fetch(self) -> None:
        """Bring the arrays of all runs here."""
        if self.current:
            return
        for name in ("x", "g", "best", "state"):
            with told(f"{DEVICE}: {name}"):
                found = self.held[name].copy_to_host()
            for run, mine in zip(self.runs, found, strict=True):
                if name != "best" or run.now[0].keeps_best:
                    getattr(run, name)[:] = mine
        self.current = True

    def close(self) -> None:
        """Free what stands on the GPU."""
        self.held.clear()
        release()


def coefficients(made: Any, hyper: np.ndarray, rates: np.ndarray, first: int) -> np.ndarray:
    """The rows of coefficients of the steps after ``first``."""
    rates, table = np.ascontiguousarray(rates, np.float64), np.empty((rates.size, made.width), made.dtype)
    _fill()(made.prepare, address_of(hyper), address_of(rates), first + 1, address_of(table), rates.size)
    return table


@functools.cache
def _fill() -> Any:
    return precompile(_prepare, (types.intp,) * 6, final=True)


@jit
def _prepare(prepare, hyper, rates, t, out, k):
    invoke(prepare, (hyper, rates, t, out, k))


__all__ = ["DeviceSteps", "Layout", "Training", "launch", "layout", "refuse", "signature"]
