"""Functions as problems: classic ones by name, the 35 of Moré, Garbow and Hillstrom, and those of users."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, create_model, model_validator
from scipy.optimize import least_squares

from ..minimize import minimize
from . import more_garbow_hillstrom as mgh
from .formulas import FORMULAS, Formula, curvatures, everywhere, minimum, quadratic, quadratic_gradient
from .registry import problem, register
from .schema import Limits
from .task import Task

SUMS_OF_SQUARES = {problem.name: problem for problem in mgh.PROBLEMS}
MOST_SHOWN = 4  # unknowns whose values are in tables


class FunctionProblem(Limits):
    """A function of x, judged by the distance to its nearest minimum and how far it is above its least value.

    ``start`` is a point or ``"random"``: uniform in the function's box, another one for every seed.
    """

    metrics: ClassVar[tuple[str, ...]] = ("distance", "above")
    formula: ClassVar[Formula]

    start: list[float] | Literal["random"] | None = None

    @model_validator(mode="after")
    def _fits(self) -> Any:
        if isinstance(self.start, list) and len(self.start) != self.n_unknowns:
            raise ValueError(f"start = {self.start!r} has {len(self.start)} numbers, not {self.n_unknowns}")
        return self

    @property
    def n_unknowns(self) -> int:
        """The dimension."""
        return getattr(self, "dimension", self.formula.dimension)

    @classmethod
    def starts_at_random(cls, fields: dict[str, Any]) -> bool:
        """Where the file says so."""
        return fields.get("start") == "random"

    def task(self, folder: Path) -> Task:
        """The function, ready to be minimized."""
        return function_task(self.formula, self.n_unknowns, self.start, self.seed)


def function_task(formula: Formula, n: int, start: Any, seed: int, args: tuple[Any, ...] = ()) -> Task:
    """A formula with n unknowns as a task."""
    stars = formula.minima_of(n)

    def value(x: np.ndarray) -> float:
        return float(formula.fun(np.asarray(x, float), *args))

    @functools.cache
    def solve() -> tuple[str, np.ndarray]:
        if len(stars):
            return "minimum", stars[0]
        return "by L-BFGS", minimize(formula.fun, formula.start_of(n), args, "lbfgs", formula.jac).x

    def judge(x: np.ndarray) -> dict[str, float]:
        if not len(stars):
            return {}
        away = np.linalg.norm(stars - x, axis=1).min()
        return {"distance": float(away), "above": value(x) - value(stars[0])}

    def draw(seed: int) -> np.ndarray:
        return np.random.default_rng(seed).uniform(*formula.box, n)

    x0 = draw(seed) if start == "random" else formula.start_of(n) if start is None else np.array(start, float)
    about = formula.about if n == 2 and not formula.any_dimension else f"{formula.about}, {n:,} unknowns"
    low, high = formula.box
    return Task(about, formula.fun, formula.jac, x0, names(n), judge, solve, value, stars if n == 2 else _no_points(),
                (formula.view or (low, high, low, high)) if n == 2 else None,
                start=draw if start == "random" else None, args=args)  # fmt: skip


def names(n: int) -> tuple[str, ...]:
    """What a few unknowns are called."""
    return tuple(f"x{i + 1}" for i in range(n)) if n <= MOST_SHOWN else ()


def _no_points() -> np.ndarray:
    return np.empty((0, 2))


def _register(name: str, formula: Formula) -> None:
    sizes = Annotated[int, Field(ge=formula.least, le=1_000_000)]
    fields: dict[str, Any] = {"dimension": (sizes, formula.dimension)} if formula.any_dimension else {}
    cls: Any = create_model(name, __base__=FunctionProblem, __module__=formula.fun.__module__, __doc__=formula.about,
                            **fields)  # fmt: skip
    cls.formula = formula
    register(name, cls)


def function(fun: Any = None, *, start: Any = None, name: str | None = None, about: str | None = None,
             minima: Any = (), jac: Any = None, box: tuple[float, float] = (-1.0, 1.0), dimension: int | None = None,
             view: tuple[float, float, float, float] | None = None) -> Callable[[Any], Any]:  # fmt: skip
    """Decorator that lets files name a function of yours, in a plugin (see `registry`): ``@function(start=...)``.

    Parameters
    ----------
    start : sequence of float, or callable
        Where to start; ``start(n)`` where the dimension may be chosen.
    name : str
        By default the function's own.
    about : str
        What it is; by default the first line of its docstring, or its name.
    minima : sequence of points, or callable
        Its global minima, or ``minima(n)``; without, its reference is what L-BFGS finds.
    jac : callable
        Its gradient; without, the exact one is derived.
    box : (float, float)
        Where random starts lie, in every coordinate.
    dimension : int
        By default that of ``start``, or 2.
    view : (left, right, bottom, top)
        What pictures show; by default the box.

    Examples
    --------
    >>> import numba
    >>> from numbaopt.experiments import function
    >>> @function(start=[3.0, -2.0], minima=[[0.0, 0.0]])
    ... @numba.njit
    ... def bowl(x):
    ...     return (x**2).sum()
    >>> from numbaopt.experiments.registry import PROBLEMS
    >>> PROBLEMS["bowl"]().task(".").x0
    array([ 3., -2.])
    """

    if fun is not None or start is None:
        raise TypeError("function needs a start: @function(start=[0.0, 0.0]), or @function(start=np.zeros) where files "
                        "may choose the dimension")  # fmt: skip

    def let_name(fun: Any) -> Any:
        n = dimension if dimension is not None else 2 if callable(start) else len(start)
        own = name or fun.__name__
        told = about or (fun.__doc__ or own).strip().splitlines()[0].rstrip(".")
        _register(own, Formula(fun, told, start, minima, box, n, jac, view))
        return fun

    return let_name


for _name, _formula in FORMULAS.items():
    _register(_name, _formula)


@problem
class Quadratic(FunctionProblem):
    """A quadratic with curvatures from 1 to ``condition``, along the axes or (``rotated``) what ``seed`` draws."""

    formula: ClassVar[Formula] = Formula(quadratic, "", everywhere(1.0), minimum(0.0), jac=quadratic_gradient)

    dimension: Annotated[int, Field(ge=1, le=2000)] = 2
    condition: Annotated[float, Field(ge=1, le=1e15)] = 100.0
    rotated: bool = False

    def task(self, folder: Path) -> Task:
        """The quadratic, ready to be minimized."""
        turned = ", turned" if self.rotated else ""
        formula = self.formula._replace(about=f"a quadratic of condition {self.condition:g}{turned}")
        A = curvatures(self.dimension, self.condition, self.rotated, self.seed)
        return function_task(formula, self.dimension, self.start, self.seed, (A,))


@problem
class MoreGarbowHillstrom(Limits):
    """One of the 35 sums of squares of Moré, Garbow and Hillstrom, judged by how far it is above its least value."""

    metrics: ClassVar[tuple[str, ...]] = ("above",)

    function: Literal[tuple(SUMS_OF_SQUARES)] = "helical_valley"  # type: ignore[valid-type]

    def task(self, folder: Path) -> Task:
        """The sum of squares, ready to be minimized."""
        chosen = SUMS_OF_SQUARES[self.function]
        x0 = np.array(chosen.x0)
        best = least_squares(chosen.residuals, x0, x_scale="jac", xtol=1e-15, ftol=1e-15, gtol=1e-15).x
        return Task(f"{chosen.name.replace('_', ' ')}: a sum of {chosen.m} squares, {x0.size} unknowns", chosen.fun,
                    None, x0, names(x0.size), lambda x: {"above": float(chosen.fun(x)) - chosen.minima[0]},
                    lambda: ("least squares", best), chosen.fun, best[None] if x0.size == 2 else _no_points(),
                    None)  # fmt: skip
