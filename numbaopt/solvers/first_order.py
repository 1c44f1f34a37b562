"""Every rule: steps from one gradient each, of the whole objective or of a minibatch."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from .._jit import address_of
from .._packed import Packed
from ..automatic import is_automatic
from ..loops import automatic, descent, epochs, minibatch, sparse
from ..optimizers._program import hyper_parameters, parts_of, program
from ..problems.kernels import shared_at
from ._solver import Job, WholeSteps

AHEAD = 128  # steps whose coefficients are computed at a time; they should stay in the first cache
ROWS_BYTES = 1 << 20  # of a batch: read twice, they should still be in the cache the second time
SPARSE = 4  # a dense step on so many unknowns costs as much as a sparse one on each


def way_of(job: Job) -> str:
    """How steps are taken: "whole", "dense" (batches, all unknowns), "linear" or "touched" (see `loops.sparse`).

    It depends on the problem and the options alone.
    """
    problem, batches, (*before, rule) = job.problem, job.batches, parts_of(job.opt)
    if batches is None:
        return "whole"
    if not _sparse(problem):
        return "dense"
    if is_lazy(problem, batches):
        check_lazy(job)
        return "touched"
    met = batches.size * max(1.0, problem.rows[0].size / problem.n_terms)  # unknowns, by a step
    few = SPARSE * met <= problem.n_features
    now = job.run.now[0]
    everywhere = job.run.lower.size or now.max_norm > 0 or now.shown >= 0 or not job.run.extra.size
    if before or everywhere or not (hasattr(rule, "rests") and type(rule).rests(rule)):
        return "dense"
    if getattr(rule, "linear", False):
        return "linear" if few or met * (4 + problem.dtype.itemsize) <= ROWS_BYTES else "dense"
    return "touched" if few and problem.l2 == 0 else "dense"


def check_rate(job: Job) -> None:
    """Refuse what a rate that is found on the way cannot do."""
    if is_automatic(job.opt.lr) and job.batches is not None:
        raise ValueError(f"lr={job.opt.lr!r} needs the whole objective in every step; give minibatches a rate")
    if is_automatic(job.opt.lr) and job.run.now[0].shown >= 0:
        raise ValueError(f"lr={job.opt.lr!r} begins again and again, which leaves no average; give a rate")


def rate_found(job: Job) -> dict[str, Any]:
    """What a result tells of the rate that was found, which is not that of a trial at the end."""
    return {"lr": automatic.found(job.run)} if is_automatic(job.opt.lr) else {}


def is_lazy(problem: Any, batches: Any) -> bool:
    """Whether a step moves only the unknowns that its batch meets, because the user wants that."""
    return batches is not None and batches.lazy and _sparse(problem)


def check_lazy(job: Job) -> None:
    """Refuse options for which a step needs all unknowns."""
    now = job.run.now[0]
    for told, asked in (("average", now.shown >= 0), ("max_norm", now.max_norm > 0)):
        if asked:
            raise ValueError(f"lazy_update=True: {told} needs all unknowns in every step; leave one of them out")
    for part in parts_of(job.opt):
        if hasattr(part, "finish"):
            raise ValueError(f"lazy_update=True: {type(part).__name__} needs the whole gradient in every step; leave "
                             "one of them out")  # fmt: skip


def _sparse(problem: Any) -> bool:
    return getattr(getattr(problem, "rows", None), "sparse", False)


@functools.cache
def sparse_steps(way: str, dtype: np.dtype, storage: Any, many: bool, single: bool) -> epochs.Functions:
    """The compiled steps that meet only the unknowns of a batch; ``single``: "linear", of one row with one margin."""
    if way == "linear":
        return sparse.linear(dtype, storage, many, single, shared_at(dtype))
    return sparse.touched(dtype, storage, many, shared_at(dtype))


class FirstOrder(WholeSteps):
    """The loops `descend`, `train` and `pass_over`, with the program of a rule and of what comes after it."""

    def __init__(self, job: Job):
        super().__init__(job)
        check_rate(job)
        dtype, self.way, compiled = job.problem.dtype, way_of(job), program(job.opt, job.problem.dtype, job.after)
        self.hyper = hyper_parameters(job.opt, job.after)
        self.coefficients = np.empty((AHEAD, compiled.width), dtype)
        if job.batches is not None:
            self.order = np.zeros(max(1, minibatch.LOOK_AHEAD // job.batches.size) * job.batches.size, np.int64)
        if self.way in ("linear", "touched"):
            self._prepare_sparse(compiled)
            return
        # compiled here, so that no slice is timed with it
        self.addresses: tuple[Any, ...] = compiled.prepare, compiled.advance
        if is_automatic(job.opt.lr):
            self.numbers = np.concatenate([np.array(job.opt.lr, np.float64), np.zeros(AHEAD)])
            self.loop = automatic.compiled(dtype)
            return
        if job.run.extra.any():
            raise ValueError("run: it ended within an epoch of sparse data, and so can go on only with the same "
                             "options on sparse data")  # fmt: skip
        self.loop = (descent if self.way == "whole" else minibatch).compiled(dtype)
        if self.way == "dense":
            self.batch = job.problem.kernels.batch

    def _prepare_sparse(self, compiled: Any) -> None:
        job, problem = self.job, self.job.problem
        rows, size, dtype = problem.rows, job.batches.size, problem.dtype
        storage: Any = type(rows)
        single = self.way == "linear" and size == 1 and not problem.many
        made = sparse_steps(self.way, dtype, storage, problem.many, single)
        self.addresses, self.loop = (made.begin, made.sweep, made.settle), epochs.compiled(dtype)
        slopes = np.zeros((problem.n_outputs, size if size > self.data.value.shared.target.size else 0), dtype)
        self.slope: tuple[int, Any] = problem.slope_of_one() if single else (0, None)
        batch = sparse.Batch(self.where, rows, size, slopes, self.slope[0])
        if self.way == "linear":
            self.own = Packed(batch, sparse.batch_type(dtype, storage))
            return
        first = sum(compiled.counts[: compiled.rule])
        pay = compiled.pay if problem.l1 > 0 and not job.batches.lazy else 0
        own = sparse.Touch(
            batch, np.zeros(problem.n_features, np.int32), np.zeros(problem.n, np.int64), np.zeros(problem.n, dtype),
            self.coefficients, address_of(self.hyper), compiled.prepare, compiled.advance_some, pay, rate=1 + first,
            exact=not job.batches.lazy, distinct=size == 1)  # fmt: skip
        self.own = Packed(own, sparse.touch_type(dtype, storage))

    @staticmethod
    def sizes(opt: Any, problem: Any, batches: Any = None, bounded: bool = False) -> tuple[int, int]:
        """The vectors of the rule; on sparse rows what is owed to the unknowns (see `loops.sparse`)."""
        if is_automatic(opt.lr):
            return len(opt.slots) + 1, automatic.NUMBERS
        owed = 0
        if batches is not None and _sparse(problem) and not batches.lazy:
            owed = 2 + (problem.n if problem.l1 > 0 else 0)
        return len(opt.slots), owed

    def point(self) -> np.ndarray:
        """The unknowns with all that is owed to them."""
        if self.way in ("linear", "touched"):
            return epochs.settled(self.job.run, self.addresses[-1], self.packed_run.address, self.own.address)
        return self.job.run.x

    def told(self) -> dict[str, Any]:
        """The rate that was found."""
        return rate_found(self.job)

    def settings_for(self, rates: np.ndarray, first: int) -> tuple[Any, Any]:
        """The address of the settings of `descend`, for steps after ``first`` with these rates, and their owner."""
        if is_automatic(self.job.opt.lr):
            rates = self.numbers
        settings = descent.Settings(address_of(self.hyper), address_of(rates), first, address_of(self.coefficients),
                                    AHEAD, *self.addresses)  # fmt: skip
        packed = Packed(settings, descent.SETTINGS)
        return packed.address, packed

    def take(self, steps: int, rates: np.ndarray, values: np.ndarray) -> None:
        """Take at most ``steps`` steps."""
        limits, b = self.job.limits, self.job.batches
        run, rate = (self.packed_run.address, self.zero), address_of(rates)
        prepared = address_of(self.hyper), rate, steps, address_of(self.coefficients), AHEAD
        if b is None:
            super().take(steps, rates, values)
            return
        order, judged = (address_of(self.order), self.order.size), (b.whole, limits.gtol, limits.ftol)
        if self.way == "dense":
            self.loop(*run, *prepared, *order, *self.addresses, self.batch, self.evaluate, self.where, b.n, b.size,
                      b.shuffle, b.seed, *judged)  # fmt: skip
        else:
            self.loop(*run, rate, steps, *order, *self.addresses, self.own.address, self.evaluate, self.where, b.n,
                      b.size, int(b.shuffle), b.seed, *judged)  # fmt: skip


def solver_of(opt: Any, device: str | None = None) -> Any:
    """The class that takes the steps of an optimizer, on the CPU or on another device."""
    if device == "cuda":  # imported late: the core never needs a GPU
        if hasattr(opt, "solver"):
            from ..cuda.training.whole import evaluating

            return evaluating(opt.solver)
        if is_automatic(opt.lr):
            from ..cuda.training.searching import SearchingSteps

            return SearchingSteps
        from ..cuda.training.slices import DeviceSteps

        return DeviceSteps
    return getattr(opt, "solver", FirstOrder)
