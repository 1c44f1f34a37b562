"""Many runs of one model on a GPU: a block a run, a launch a slice for all."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..._interrupts import Interrupts
from ...automatic import is_automatic
from ...result import keeps
from ...run import Driver, fitting
from ...status import RAISED, RUNNING
from .slices import DEVICE, DeviceSteps, Training, launch


class Lane(DeviceSteps):
    """One of the runs: its training is that of all, given when all are there."""

    def trained(self) -> None:
        """Not yet."""
        if is_automatic(self.job.opt.lr):
            raise ValueError(f"{DEVICE}: lr=None is found by one run at a time; tell many runs their rates")
        self.known: dict[bytes, tuple[float, np.ndarray]] = {}  # objectives and gradients, by the point

    def value_and_grad(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Those of one launch for all runs."""
        return self.known[x.tobytes()] if x.tobytes() in self.known else self.job.problem.value_and_grad(x)


def train(drivers: list[Driver], tell: Callable[[int], Any]) -> None:
    """Take slices of all runs until the last has ended; ``tell`` is told how many have."""
    lanes: list[Lane] = [driver.solver for driver in drivers]
    first, interrupts, size = lanes[0], Interrupts(), 1
    if other := next((i for i, lane in enumerate(lanes) if lane.program is not first.program), 0):
        raise ValueError(f"{DEVICE}: method: all must be of one class, but [0] is {drivers[0].opt!r} and [{other}] is "
                         f"{drivers[other].opt!r}")  # fmt: skip
    training = Training(first.job.problem, first.program, first.job.batches, first.job.limits,
                        [lane.job.run for lane in lanes])  # fmt: skip
    for lane in lanes:
        lane.training = training
    try:
        while going := _going(drivers, size):
            steps = min(wanted for _, wanted in going)
            with interrupts:
                took = _slice(drivers, [driver for driver, _ in going], steps)
            tell(sum(driver.now.status != RUNNING for driver in drivers))
            size = fitting(size, steps, took)
        training.fetch()
        _evaluate(drivers, training)
    except KeyboardInterrupt:
        training.fetch()
        raise
    finally:
        training.close()


def _evaluate(drivers: list[Driver], training: Training) -> None:
    """Evaluate what `result_of` will ask for: where runs stand, within an epoch, and what they return."""
    within = [driver.point for driver in drivers] if any(driver.within_epoch for driver in drivers) else []
    for points in (within, [driver.run.best if keeps(driver) else driver.point for driver in drivers]):
        if points:
            for driver, point, fun, g in zip(drivers, points, *training.evaluate(np.stack(points)), strict=True):
                driver.solver.known[point.tobytes()] = float(fun), g


def _going(drivers: list[Driver], size: int) -> list[tuple[Driver, int]]:
    """The runs that go on, which all stand at the same step, and how many each may take."""
    going = []
    for driver in drivers:
        with _alone(driver):
            if (steps := driver.wanted(size)) is not None:
                going.append((driver, steps))
    return going


def _slice(drivers: list[Driver], going: list[Driver], steps: int) -> float:
    """Take ``steps`` steps of all that go on; returns the seconds."""
    stood = [(int(driver.now.evaluations), int(driver.now.step)) for driver in going]
    values = {id(driver): np.empty(0) for driver in drivers}
    for driver in going:
        with _alone(driver):
            values[id(driver)] = driver.prepare(steps, int(driver.now.step))
    rates = [driver.lr if driver.lr.size >= steps else np.zeros(steps) for driver in drivers]  # of ended ones any
    begin = time.perf_counter()
    launch([driver.solver for driver in drivers], steps, rates, list(values.values()))
    took = time.perf_counter() - begin
    for driver, (evaluated, step) in zip(going, stood, strict=True):
        with _alone(driver):
            driver.note(values[id(driver)], evaluated, step, took)
            driver.look(step)
    return took


@contextlib.contextmanager
def _alone(driver: Driver) -> Iterator[None]:
    """What a user's schedule or score raises ends this run, and no other."""
    try:
        yield
    except Exception:
        driver.now.status = RAISED


__all__ = ["Lane", "train"]
