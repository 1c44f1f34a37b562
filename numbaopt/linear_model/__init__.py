"""scikit-learn's linear models, trained by numbaopt: the same interface, true minibatches, every rule, honest curves.

>>> import numpy as np
>>> from numbaopt.linear_model import LinearRegression
>>> X = np.linspace(-1, 1, 20)[:, None]
>>> LinearRegression().fit(X, 3 * X[:, 0] + 1).coef_.round(4)
array([3.])
"""

try:
    import sklearn  # noqa: F401
except ImportError as error:
    raise ImportError("numbaopt.linear_model needs scikit-learn: pip install 'numbaopt[sklearn]'") from error

from ._classifiers import LinearSVC, LogisticRegression, SGDClassifier
from ._huber import HuberRegressor
from ._regressors import LinearRegression, PoissonRegressor, SGDRegressor

__all__ = [
    "HuberRegressor", "LinearRegression", "LinearSVC", "LogisticRegression", "PoissonRegressor", "SGDClassifier",
    "SGDRegressor",
]  # fmt: skip
