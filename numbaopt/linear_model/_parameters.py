"""Parameters that all estimators share: their defaults, what they may be, and what they mean, once."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar, TypeVar, dataclass_transform

from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from .._fields import names_meant

BATCH_SIZE = 64

SHARED = f"""\
l1_ratio : float
    Share of the l1 norm in the penalty, in [0, 1].
fit_intercept : bool
    Whether there is an intercept.
method : str or optimizer
    Trains on all rows at a time: a method of `numbaopt.minimize` by name, a rule such as ``numbaopt.Adam(lr=0.1)``,
    or "auto": what suits loss, penalty and table.
optimizer : str or optimizer, optional
    Trains by minibatches: a rule such as "adam" or ``numbaopt.Momentum(lr=0.1)``, or a chain of transforms and a
    rule.  None: no minibatches, unless ``batch_size`` is given; then ``numbaopt.Adam(lr=0.01)``.
lr : float, schedule or function, optional
    The learning rate, in place of the optimizer's own.  Where none is given, the optimizer is None or a name, and the
    loss is one of numbers: by the scale of the first batch, so that a step of a rule such as Adam moves a typical
    prediction by at most a tenth of the spread of the targets, and one of a rule such as SGD is half of what the
    curvature allows.  The mean of these targets is where the intercept starts.
batch_size : int, optional
    Rows a step of an optimizer ({BATCH_SIZE}).
max_epochs : int
    Most passes over the rows; for a ``method``, most iterations.
tol : float, optional
    A ``method`` has converged when no component of the gradient of the objective exceeds it.  Minibatches end when for
    ``n_iter_no_change`` epochs the objective has not fallen by more than it.  Fits that end before warn.  None: fits
    end after ``max_epochs``, without a warning.
early_stopping : bool
    Whether to keep rows apart, and to end when for ``n_iter_no_change`` epochs the score on them has not risen by more
    than ``tol``.  The coefficients are those of the best score; coefficients at the start count only in a warm start.
validation_fraction : float
    Share of the rows that ``early_stopping`` keeps apart, in (0, 1).
n_iter_no_change : int
    Epochs to wait for progress.
average : {{None, "polyak", "ema"}}
    Whether the coefficients are an average of those after each step of an optimizer: with equal weights, or
    exponentially falling ones.
weight_norm : bool
    Whether each vector of coefficients is trained as a direction and a length; see `numbaopt.minimize`.  For an
    optimizer, or a rule as ``method``, without l1.
shuffle : bool
    Whether each epoch takes the rows in a new random order.
random_state : int, RandomState instance or None
    Fixes the orders of the rows and which of them are kept apart.
warm_start : bool
    Whether ``fit`` starts from the former coefficients; an optimizer also keeps its moments and its count of steps.
verbose : bool
    Whether to show a progress bar with the objective (needs tqdm).
callback : callable, optional
    Called after every epoch or iteration with an object that has the fields of a row of ``history_``, ``coef`` and
    ``intercept``; raising StopIteration ends the fit."""

CLASS_WEIGHT = """\
class_weight : dict, "balanced" or None
    Weights of the classes by label, 1 where not given; they multiply ``sample_weight``.  "balanced": all classes weigh
    the same in sum."""

ATTRIBUTES = """\
n_iter_ : int
    Epochs or iterations done; the most of all models.
n_features_in_ : int
    Columns of X.
feature_names_in_ : ndarray of shape (n_features,)
    Their names, where they are all strings.
history_ : record array
    A row an epoch or iteration: ``output`` (the row of ``coef_``, where each class has its own model), ``epoch``,
    ``loss`` (the objective), ``validation_score``, ``seconds``."""

T = TypeVar("T")


@dataclass_transform(kw_only_default=True, eq_default=False)
def estimator(cls: type[T]) -> type[T]:
    """Class decorator: fields are parameters; what the docstring has in ``<>`` is written out."""
    text = inspect.getdoc(cls) or ""
    for name, meaning in (("shared", SHARED), ("class_weight", CLASS_WEIGHT), ("attributes", ATTRIBUTES)):
        text = text.replace(f"<{name}>", meaning)
    cls.__doc__ = text
    made = dataclass(kw_only=True, eq=False, repr=False)(cls)
    made.__init__ = names_meant(made.__init__, made.__name__)  # type: ignore[method-assign]
    return made


def at_least(low: float, kind: type = Real) -> Interval:
    """The constraint of a number in [low, inf)."""
    return Interval(kind, low, None, closed="left")


RULE = [str, type, HasMethods("_replace")]


@estimator
class Parameters(BaseEstimator):
    """Parameters of all estimators."""

    alpha: float = 1e-4
    l1_ratio: float = 0.0
    fit_intercept: bool = True
    method: Any = "auto"
    optimizer: Any = None
    lr: Any = None
    batch_size: int | None = None
    max_epochs: int = 1000
    tol: float | None = 1e-4
    early_stopping: bool = False
    validation_fraction: float = 0.1
    n_iter_no_change: int = 5
    average: str | None = None
    weight_norm: bool = False
    shuffle: bool = True
    random_state: Any = None
    warm_start: bool = False
    verbose: Any = False
    callback: Any = None

    _parameter_constraints: ClassVar[dict] = {
        "alpha": [at_least(0)],
        "l1_ratio": [Interval(Real, 0, 1, closed="both")],
        "fit_intercept": ["boolean"],
        "method": RULE,
        "optimizer": [*RULE, None],
        "lr": [at_least(0), callable, None],
        "batch_size": [at_least(1, Integral), None],
        "max_epochs": [at_least(1, Integral)],
        "tol": [at_least(0), None],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [at_least(1, Integral)],
        "average": [StrOptions({"polyak", "ema"}), None],
        "weight_norm": ["boolean"],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "warm_start": ["boolean"],
        "verbose": ["verbose"],
        "callback": [callable, None],
    }

    @property
    def _stochastic(self) -> bool:
        """Whether training is by minibatches."""
        return self.optimizer is not None or self.batch_size is not None
