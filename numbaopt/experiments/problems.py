"""Problems of data that a study can name, and the settings each one takes: linear models and networks."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator
from scipy.special import logsumexp

from .._fields import nearest
from ..losses import LOSSES
from ..minimize import minimize
from ..problems.finite_sum import FiniteSum
from ..problems.linear_model import LinearModel as Objective
from . import network
from .data import Data, File, Source, as_source, load_data
from .registry import problem
from .schema import Batches, ExperimentError, Positive, Tolerance
from .task import Task

SMALL = 1_000_000  # rows times unknowns: sooner solved by L-BFGS than Newton's method is compiled


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

        return Task(f"linear regression: {self.n:,} points of y = {self.slope:g} x + uniform noise", Objective(X, y),
                    None, np.zeros(2), ("slope", "intercept"), lambda x: {}, lambda: ("least squares", best), value,
                    best[None], None)  # fmt: skip


class TableProblem(Batches):
    """A model of a table (see `data`); columns of variance 1, or all divided by the largest entry, or as they are."""

    data: Source
    test_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.25
    standardize: bool | Literal["largest"] = True

    _source = field_validator("data", mode="before")(as_source)

    def table(self, folder: Path, standardize: Any, dtype: str) -> Data:
        """The rows, split and scaled."""
        return load_data(self.data, folder, self.test_fraction, self.seed, standardize, np.dtype(dtype).type)


class LinearProblem(TableProblem):
    """A linear model, judged on the rows held out by what suits its targets; with l1 by what is not zero, too."""

    linear: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "log-loss", "R2", "RMSE", "nonzeros")

    l1: Tolerance = 0.0
    l2: Tolerance = 1e-3
    intercept: bool = True
    precision: Literal["float32", "float64"] = "float64"

    def loss_of(self) -> tuple[Any, str]:
        """The loss, and what the model is called."""
        raise NotImplementedError

    def task(self, folder: Path) -> Task:
        """The model, ready to be trained."""
        table, (loss, what) = self.table(folder, self.standardize, self.precision), self.loss_of()
        model = Objective(table.X, table.y, loss=loss, l1=self.l1, l2=self.l2, fit_intercept=self.intercept)

        @functools.cache
        def solve() -> tuple[str, np.ndarray]:
            small = model.n_terms * model.n < SMALL
            if small and self.l1 == 0 and hasattr(model.loss, "curvature"):
                options = {"maxiter": 10_000, "ftol": 0, "gtol": 1e-9, "maxcor": 30}
                return "optimum", minimize(model, method="L-BFGS-B", options=options).x
            return "optimum", minimize(model, method="auto", tol=1e-9 if small else 1e-6).x

        def judge(x: np.ndarray) -> dict[str, float]:
            told = held_out(model, table, x) if len(table.y_test) else {}
            return told | ({"nonzeros": float(np.count_nonzero(x[: model.n_penalised]))} if self.l1 else {})

        return Task(f"{what} on {table.about}", model, None, np.zeros(model.n), (), judge, solve,
                    lambda x: float(model.value(x)), np.empty((0, 2)), None)  # fmt: skip


@problem
class LogisticRegression(LinearProblem):
    """Two classes, judged by accuracy and log-loss on the rows held out."""

    data: Source = File(file="breast_cancer")

    def loss_of(self) -> tuple[Any, str]:
        """Logistic."""
        return "logistic", "logistic regression"


@problem
class LinearRegression(LinearProblem):
    """Least squares, judged by R² and the root of the mean squared error on the rows held out."""

    data: Source = File(file="diabetes")

    def loss_of(self) -> tuple[Any, str]:
        """Squared."""
        return "squared", "linear regression"


@problem
class LinearModel(LinearProblem):
    """Any loss of `numbaopt.losses` by name, or as a table: ``loss = { loss = "huber", delta = 2.0 }``."""

    data: Source = File(file="diabetes")
    loss: str | dict[str, Any] = "squared"

    @field_validator("loss")
    @classmethod
    def _known(cls, loss: Any) -> Any:
        loss_named(loss)
        return loss

    def loss_of(self) -> tuple[Any, str]:
        """What the file says."""
        loss = loss_named(self.loss)
        return loss, f"a linear model with {type(loss).names[0].replace('_', ' ')} loss"


def loss_named(told: str | dict[str, Any]) -> Any:
    """The loss of a name or table."""
    fields = {"loss": told} if isinstance(told, str) else told
    name = str(fields.get("loss", "")).lower()
    if name not in LOSSES:
        raise ExperimentError(f"loss = {fields.get('loss')!r} is not a known loss; {nearest(name, LOSSES)}")
    try:
        return LOSSES[name](**{key: value for key, value in fields.items() if key != "loss"})
    except (TypeError, ValueError) as error:
        raise ExperimentError(f"loss: {error}") from None


def held_out(model: Objective, table: Data, x: np.ndarray) -> dict[str, float]:
    """Accuracy (and log-loss, where margins mean probabilities), or R² and root-mean-square error."""
    coef, intercept = model.split(x)
    margins, y = table.X_test @ coef.T + intercept, table.y_test
    if model.classes is None:
        margins = np.exp(margins) if model.loss.takes in ("nonnegative", "positive") else margins  # a logarithmic link
        squares = float(np.mean((margins - y) ** 2))
        return {"R2": 1.0 - squares / max(float(np.var(y)), 1e-300), "RMSE": squares**0.5}
    known = np.isin(y, model.classes)
    right = np.searchsorted(model.classes, y).clip(max=len(model.classes) - 1)
    scores = margins if model.many else np.column_stack([-0.5 * margins, 0.5 * margins])
    told = {"accuracy": float(np.mean(known & (scores.argmax(axis=1) == right)))}
    if model.loss.names[0] in ("logistic", "multinomial") and known.all():
        told["log-loss"] = float(np.mean(logsumexp(scores, axis=1) - scores[np.arange(len(y)), right]))
    return told


@problem
class Network(TableProblem):
    """Fully connected layers that tell classes apart, judged by accuracy; columns are divided by the largest entry."""

    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "first |g|", "last |g|")

    data: Source = File(file="digits")
    standardize: bool | Literal["largest"] = "largest"
    hidden: Annotated[list[Positive], Field(max_length=100)] = [64]
    activation: Literal["tanh", "relu"] = "tanh"
    initialization: Literal["zeros", "normal", "xavier", "he"] = "xavier"
    scale: Annotated[float, Field(ge=0)] = 0.01
    precision: Literal["float32", "float64"] = "float32"

    def task(self, folder: Path) -> Task:
        table = self.table(folder, self.standardize or "largest", self.precision)
        relu = self.activation == "relu"
        labels, y = np.unique(table.y, return_inverse=True)
        if labels.size < 2 or (labels.dtype.kind == "f" and (labels != labels.round()).any()):
            raise ValueError(f"a network tells classes apart; the target has {labels.size} values such as {labels[-1]}")
        X, X_test = (np.asarray(A.toarray() if hasattr(A, "toarray") else A) for A in (table.X, table.X_test))
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
