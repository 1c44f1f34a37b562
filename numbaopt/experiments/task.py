"""A problem ready to be minimized."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from ..minimize import minimize


@dataclasses.dataclass(frozen=True)
class Task:
    """A problem ready to be minimized, and how its answers are shown.

    Attributes
    ----------
    about : str
        The problem in words.
    fun, jac, x0, args
        What `numbaopt.minimize` takes; `solved_by` calls it.
    unknowns : tuple of str
        Names of the unknowns, where there are few enough to show.
    judge : callable
        ``judge(x)``: what else to show of an answer, by name.
    solve : callable
        ``solve()``: the answer itself, and where it is from; called once, when somebody asks for the `reference`.
    value : callable
        ``value(x)``, the objective.
    minima : array of shape (m, 2)
        For pictures.
    domain : tuple or None
        What pictures show: left, right, bottom, top.
    by_layer : callable or None
        Norms of a network's gradient, layer by layer.
    start : callable or None
        ``start(seed)`` where the problem starts at random; ``x0`` is that of its own seed.
    """

    about: str
    fun: Any
    jac: Any
    x0: np.ndarray
    unknowns: tuple[str, ...]
    judge: Callable[[np.ndarray], dict[str, float]]
    solve: Callable[[], tuple[str, np.ndarray]]
    value: Callable[[np.ndarray], float]
    minima: np.ndarray
    domain: tuple[float, float, float, float] | None
    by_layer: Callable[[np.ndarray], list[float]] | None = None
    start: Callable[[int], np.ndarray] | None = None
    args: tuple[Any, ...] = ()

    @property
    def reference(self) -> tuple[str, np.ndarray]:
        """The answer itself, and where it is from."""
        return self.solve()

    def solved_by(self, method: Any, options: dict[str, Any], callback: Any = None) -> Any:
        """The result of `numbaopt.minimize`."""
        return minimize(self.fun, self.x0, self.args, method, self.jac, callback=callback, options=options)
