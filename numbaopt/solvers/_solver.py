"""What a solver is: settings as a NamedTuple, like a rule's, and a class that takes steps on a run.

A method that is no rule (it needs more of a problem than one gradient a step) is a NamedTuple with

``solver``
    its `Solver` class,
``check(opt, problem, batches, bounds)``
    raises a ValueError where it cannot solve such a problem,
``ready(opt, problem)``, optional
    the settings that follow from the problem filled in: what the run, and its checkpoint, goes by,
``incremental``, optional
    whether a step is of one term, an epoch of as many as there are,
``bounded``, ``gradient``, optional
    whether it takes bounds, and needs gradients of functions.

Methods that SciPy has too mean by options and defaults what SciPy means:

``defaults``
    of `numbaopt.arguments.OPTIONS`, numbers or functions of the number of unknowns,
``tolerances``
    the options that ``tol`` sets,
``calm_steps``
    how many small changes in a row ftol and xtol ask for,
``translates``, ``elsewhere``
    SciPy's names of our options; options for which SciPy's own method is called,
``with_hessian``
    whether that is called for ``hess`` and ``hessp``, too,
``ascending``
    two fields of which the first must be below the second,
``either``
    the field that is a limit like ``maxiter``: one that is given lifts the other.

All that a run depends on stands in the arrays of `Run` (``state``: vectors like x, ``extra``: float64 numbers), so it
can be cut anywhere between steps, saved and resumed bit for bit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .._fields import called_by_scipy, checked_namedtuple
from .._interrupts import Interrupts
from .._jit import address_of
from .._packed import Packed
from ..loops import descent
from ..loops.state import CALM_STEPS, Run, run_type
from ..problems.whole import Whole

SMALLEST = 1e-6  # part of the first objective, that counts as nothing
DEFAULTS: dict[str, Any] = {
    "incremental": False, "bounded": False, "gradient": True, "defaults": {}, "tolerances": ("gtol",),
    "calm_steps": CALM_STEPS, "translates": {}, "elsewhere": (), "with_hessian": False, "either": None,
    "ascending": (),
}  # fmt: skip
SOLVERS: dict[str, Any] = {}  # methods that are no rules, by each of their names


class Job(NamedTuple):
    """What is to be minimized, by what, from where, until when."""

    problem: Any
    opt: Any
    run: Run
    limits: Any
    batches: Any
    after: tuple[Any, ...]


class Solver:
    """Takes steps on a run; the base of all.

    Parameters
    ----------
    job : Job

    Attributes
    ----------
    data, where : Packed or None, int
        What the problem's compiled functions need, and its address.
    evaluate : int
        The address of the whole objective, `loops.descent.EVALUATE`.
    """

    def __init__(self, job: Job):
        self.job, problem = job, job.problem
        if hasattr(problem, "pack"):
            self.data = problem.pack()
            self.evaluate = problem.kernels.evaluate
        else:
            self.data, self.evaluate = problem.data, problem.evaluate
        self.where = self.data.address if self.data is not None else 0
        self.callback = getattr(problem, "callback", None)
        self.interrupts = self.callback.interrupts if self.callback is not None else Interrupts()
        self.packed_run = Packed(job.run, run_type(problem.dtype))
        self.zero = problem.dtype.type(0)

    def share_passes(self) -> None:
        """Let threads share the evaluations of the whole objective, where that pays."""
        if Whole.pays(self.job.problem):
            self.whole = Whole(self.job.problem, self.data)
            self.callback = self.whole.callback
            self.evaluate, self.interrupts = self.callback.address, self.callback.interrupts

    @staticmethod
    def sizes(opt: Any, problem: Any, batches: Any = None, bounded: bool = False) -> tuple[int, int]:
        """How many vectors of state and extra numbers a run has."""
        return len(opt.slots), 0

    def point(self) -> np.ndarray:
        """Where the run stands; not its ``x`` within an epoch, where that waits for what is put off."""
        return self.job.run.x

    @staticmethod
    def fits(opt: Any, run: Run) -> bool:
        """Whether the extra numbers of a run, perhaps from a file, may be given to compiled code."""
        return True

    def fetch(self) -> None:
        """Bring into the run's arrays what slices have left elsewhere."""

    def value_and_grad(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Objective and gradient at a point, of a run that has ended."""
        found: tuple[float, np.ndarray] = self.job.problem.value_and_grad(x)
        return found

    def close(self) -> None:
        """Free what is held elsewhere."""

    def heed(self) -> None:
        """A moment at which Ctrl-C may end a step: nothing of it has been written into the run."""
        with self.interrupts.heeded():
            pass

    def take(self, steps: int, rates: np.ndarray, values: np.ndarray) -> None:
        """Take at most ``steps`` steps; the objectives that are evaluated go into ``values``, as many as have room."""
        raise NotImplementedError

    def told(self) -> dict[str, Any]:
        """What a result tells besides what all do."""
        return {}


class WholeSteps(Solver):
    """A solver whose steps are one compiled loop over the whole objective, settled by ``settings`` (float64).

    Subclasses set ``loop`` and ``settings``.
    """

    loop: Any
    settings: np.ndarray

    def __init__(self, job: Job):
        super().__init__(job)
        if job.batches is None or job.batches.whole:
            self.share_passes()

    def settings_for(self, rates: np.ndarray, first: int) -> tuple[Any, Any]:
        """The address of the settings, for steps after ``first`` with these rates; and what must be kept for it."""
        return address_of(self.settings), self.settings

    def take(self, steps: int, rates: np.ndarray, values: np.ndarray) -> None:
        """Take at most ``steps`` steps."""
        limits, (where, _keep) = self.job.limits, self.settings_for(rates, int(self.job.run.now[0].step))
        self.loop(self.packed_run.address, self.zero, steps, address_of(values), values.size, where, self.evaluate,
                  self.where, limits.gtol, limits.ftol, limits.xtol)  # fmt: skip


class PlannedSteps(WholeSteps):
    """A solver whose settings are numbers of the method: also compiled code can make them (`numbaopt.inside`).

    Subclasses give ``room(bounded)``, ``plan`` and ``memory``, the method's field that counts the pairs it keeps.
    """

    memory = ""

    def __init__(self, job: Job):
        super().__init__(job)
        self.loop = descent.compiled(job.problem.dtype, self.room(job.run.lower.size > 0).loop)
        self.settings = self.planned(job.opt, job.problem.dtype)

    @classmethod
    def planned(cls, opt: Any, dtype: Any) -> np.ndarray:
        """The settings of the loop."""
        low, high = (getattr(opt, name) for name in opt.ascending or ("lr", "lr"))
        if opt.ascending and not low < high:
            raise ValueError(f"{opt.ascending[0]}={low} must be below {opt.ascending[1]}={high}")
        return np.array([getattr(opt, item) if isinstance(item, str) else item
                         for item in cls.plan(type(opt), dtype)], np.float64)  # fmt: skip

    @staticmethod
    def room(bounded: bool) -> Any:
        """The module of `numbaopt.loops` that has the loop and its ``sizes(n, memory)``."""
        raise NotImplementedError

    @classmethod
    def plan(cls, method: Any, dtype: Any) -> tuple[Any, ...]:
        """The settings of the loop, in their order: names of fields of the method (None is NaN), or numbers."""
        raise NotImplementedError

    @classmethod
    def sizes(cls, opt: Any, problem: Any, batches: Any = None, bounded: bool = False) -> tuple[int, int]:
        """What the loop asks for."""
        found: tuple[int, int] = cls.room(bounded).sizes(problem.n, int(getattr(opt, cls.memory, 0)))
        return found


def enough(job: Job, fun: float, gap: float) -> bool:
    """Whether a duality gap is small: against the objective, or, where that vanishes, against the first one."""
    return bool(gap <= job.limits.gtol * scale_of(job, fun))


def scale_of(job: Job, fun: float) -> float:
    """What a duality gap is measured against."""
    return max(abs(fun), SMALLEST * abs(float(job.run.history[0].fun)), 1e-300)


def method(*names: str) -> Any:
    """Class decorator that makes a NamedTuple with a ``solver`` known by these names."""

    def register(cls: Any) -> Any:
        cls.names, cls.__call__ = names, called_by_scipy
        cls.slots = ()
        for name, default in DEFAULTS.items():
            setattr(cls, name, getattr(cls, name, default))
        if "lr" not in cls._fields:
            cls.lr = 1.0
        for name in names:
            SOLVERS[name] = cls
        return checked_namedtuple(cls)

    return register
