"""The problems that an experiment file can name, and the settings each one takes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ..minimize import minimize
from ..problems.finite_sum import FiniteSum
from ..problems.linear_model import LinearModel
from . import network
from .data import Data, load_data
from .registry import problem
from .schema import Batches, Positive
from .task import Task


@problem
class TutorialRegression(Batches):
    """The straight line of every tutorial: x uniform, y = 3 x + uniform noise, both in [0, 1)."""

    linear: ClassVar[bool] = True

    n: Annotated[int, Field(ge=2, le=10_000_000)] = 100
    slope: float = 3.0

    def task(self, folder: Path) -> Task:
        rng = np.random.default_rng(self.seed)
        X = rng.random((self.n, 1))
        y = self.slope * X[:, 0] + rng.random(self.n)
        A = np.column_stack([X, np.ones(self.n)])
        best = np.linalg.lstsq(A, y, rcond=None)[0]
        least, curvature = 0.5 * np.mean((A @ best - y) ** 2), A.T @ A / self.n

        def value(x: np.ndarray) -> float:
            return float(least + 0.5 * (x - best) @ curvature @ (x - best))

        return Task(f"linear regression: {self.n:,} points of y = {self.slope:g} x + uniform noise", LinearModel(X, y),
                    None, np.zeros(2), ("slope", "intercept"), lambda x: {}, lambda: ("least squares", best), value,
                    best[None], None)  # fmt: skip


class TableProblem(Batches):
    """A model of a table: bundled data by name, LIBSVM or CSV files by path."""

    data: str
    test_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.25
    standardize: bool = True


class LinearProblem(TableProblem):
    """A linear model."""

    linear: ClassVar[bool] = True

    l2: Annotated[float, Field(ge=0)] = 1e-3

    def table_task(self, folder: Path, kind: str, loss: str, judge: Callable[..., dict[str, float]]) -> Task:
        table = load_data(self.data, folder, self.test_fraction, self.seed, self.standardize)
        model = LinearModel(table.X, table.y, loss=loss, l2=self.l2)

        @functools.cache
        def solve() -> tuple[str, np.ndarray]:
            options = {"maxiter": 10_000, "ftol": 0, "gtol": 1e-9, "maxcor": 30}
            return "L-BFGS-B", minimize(model, method="L-BFGS-B", options=options).x

        return Task(f"{kind} regression on {table.about}", model, None, np.zeros(model.n), (),
                    lambda x: judge(model, table, x) if len(table.y_test) else {}, solve,
                    lambda x: float(model.value_and_grad(x)[0]), np.empty((0, 2)), None)  # fmt: skip


@problem
class LogisticRegression(LinearProblem):
    """Two classes, judged by accuracy and log-loss on the rows held out."""

    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "log-loss")

    data: str = "breast_cancer"

    def task(self, folder: Path) -> Task:
        return self.table_task(folder, "logistic", "logistic", held_out_classes)


@problem
class LinearRegression(LinearProblem):
    """Least squares, judged by R² and the root of the mean squared error on the rows held out."""

    metrics: ClassVar[tuple[str, ...]] = ("R2", "RMSE")

    data: str = "diabetes"

    def task(self, folder: Path) -> Task:
        return self.table_task(folder, "linear", "squared", held_out_numbers)


def held_out_classes(model: LinearModel, table: Data, x: np.ndarray) -> dict[str, float]:
    """Accuracy and log-loss on the rows held out."""
    margin = (table.X_test @ x[:-1] + x[-1]) * np.where(table.y_test == np.unique(table.y)[-1], 1.0, -1.0)
    return {"accuracy": float(np.mean(margin > 0)), "log-loss": float(np.mean(np.logaddexp(0.0, -margin)))}


def held_out_numbers(model: LinearModel, table: Data, x: np.ndarray) -> dict[str, float]:
    """R² and root-mean-square error on the rows held out."""
    squares = float(np.mean((table.X_test @ x[:-1] + x[-1] - table.y_test) ** 2))
    return {"R2": 1.0 - squares / float(np.var(table.y_test)), "RMSE": squares**0.5}


@problem
class Network(TableProblem):
    """Fully connected layers that tell classes apart, judged by accuracy; columns are divided by the largest entry."""

    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "first |g|", "last |g|")

    data: str = "digits"
    standardize: bool = False
    hidden: Annotated[list[Positive], Field(max_length=100)] = [64]
    activation: Literal["tanh", "relu"] = "tanh"
    initialization: Literal["zeros", "normal", "xavier", "he"] = "xavier"
    scale: Annotated[float, Field(ge=0)] = 0.01
    precision: Literal["float32", "float64"] = "float32"

    def task(self, folder: Path) -> Task:
        table = load_data(self.data, folder, self.test_fraction, self.seed, self.standardize)
        relu = self.activation == "relu"
        labels, y = np.unique(table.y, return_inverse=True)
        if labels.size < 2 or (labels.dtype.kind == "f" and (labels != labels.round()).any()):
            raise ValueError(f"a network tells classes apart; the target has {labels.size} values such as {labels[-1]}")
        X, X_test = (np.asarray(A.toarray() if hasattr(A, "toarray") else A, self.precision)
                     for A in (table.X, table.X_test))  # fmt: skip
        largest = max(abs(X).max(), np.finfo(X.dtype).tiny)
        X, X_test = (X, X_test) if self.standardize else (X / largest, X_test / largest)
        sizes = np.array([X.shape[1], *self.hidden, labels.size])
        terms = FiniteSum(network.network, len(X), (X, y, sizes, relu), jac=True, dtype=self.precision)
        start = functools.partial(network.initial, sizes, self.initialization, self.scale)

        def by_layer(x: np.ndarray) -> list[float]:
            g = terms.value_and_grad(x)[1].astype(float)
            return [float(np.linalg.norm(weights)) for weights, _ in network.layers(sizes, g)]

        def judge(x: np.ndarray) -> dict[str, float]:
            right = labels[network.classify(x, X_test, sizes, relu)] == table.y_test
            norms = by_layer(x)
            accuracy = {"accuracy": float(np.mean(right))} if right.size else {}
            return {**accuracy, "first |g|": norms[0], "last |g|": norms[-1]}

        how = f"normal ({self.scale:g})" if self.initialization == "normal" else self.initialization
        about = f"a network {'-'.join(map(str, sizes))}, {self.activation}, weights {how}, on {table.about}"
        return Task(about, terms, None, start(self.seed), (), judge, lambda: ("start", start(self.seed)),
                    lambda x: terms.value_and_grad(x)[0], np.empty((0, 2)), None, by_layer,
                    None if self.initialization == "zeros" else start)  # fmt: skip

    @classmethod
    def starts_at_random(cls, fields: dict[str, Any]) -> bool:
        """All weights but zeros are drawn."""
        return fields.get("initialization") != "zeros"
