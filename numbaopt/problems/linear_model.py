"""Linear models of a table of data, dense or sparse: what is minimized, whole or in batches."""

from __future__ import annotations

import functools
import hashlib
from typing import Any

import numpy as np

from .._fields import names_meant
from .._jit import address_of
from .._packed import Packed
from ..loops.descent import evaluate_at
from ..losses import as_loss
from ..losses._loss import constants
from ..losses.targets import TAKES
from .kernels import (
    LinearData,
    Loops,
    Shared,
    data_type,
    loops,
    loss_functions,
    row_functions,
    slope_function,
    sums_by_tile,
)
from .rows import as_rows
from .validation import check_finite, check_matrix, check_target, check_weights
from .whole import Whole

TILE_BYTES = 1 << 17  # rows that are read twice should still be in the cache the second time
CHUNKS = 16  # at most, of rows whose sums are added up apart; more where each would take long
LONG_CHUNK = 1 << 25  # stored numbers times margins a row
CHUNK_NUMBERS = 1 << 16  # stored numbers that are worth a chunk


class LinearModel:
    r"""The training objective of a linear model.

    .. math:: \frac1n \sum_i w_i\, \ell(x_i^\top \beta + b,\; y_i) + \frac{\lambda_2}{2} \|\beta\|^2
        + \lambda_1 \|\beta\|_1

    A minimizer's unknowns are the coefficients :math:`\beta`, then the intercept :math:`b`; with K classes
    (``"multinomial"``) the coefficients of the first class, of the second, ..., then K intercepts.

    Parameters
    ----------
    X : array or sparse matrix of shape (n_samples, n_features)
        float32 data are trained in float32, all others in float64.  C-contiguous arrays (also read-only ones and memory
        maps) are used as they are; sparse matrices of any format become CSR.
    y : array of shape (n_samples,)
        What the loss takes: numbers, counts, or classes of any kind; of two classes the one that sorts last is
        positive.
    loss : str or loss
        A name or an instance from `numbaopt.losses`: squared, huber, epsilon_insensitive, quantile, logistic, hinge,
        squared_hinge, poisson, gamma, multinomial.
    l1, l2 : float
        :math:`\lambda_1` and :math:`\lambda_2`, in [0, inf).  l1 is met by proximal steps, which leave exact zeros.
    fit_intercept : bool
        Whether there is a :math:`b`.
    sample_weight : array of shape (n_samples,), optional
        :math:`w_i`, not negative, not all zero.  A batch's gradient is the mean of its weighted terms.
    intercept_l2 : float
        Adds :math:`\tfrac12` times itself :math:`b^2`; by default the intercept is not penalised.
    classes : array, optional
        The classes in order, where ``y`` may lack some of them.

    Attributes
    ----------
    n_terms, n_features, n_outputs, n : int
        Rows, columns, margins a row (classes of a multinomial model, else 1), unknowns.
    classes : ndarray or None
        The classes in order.

    Raises
    ------
    ValueError
        In scikit-learn's words, if the data are not finite, do not fit each other, or are malformed.

    Examples
    --------
    >>> import numpy as np, numbaopt as no
    >>> X = np.linspace(-1, 1, 20)[:, None]
    >>> model = no.LinearModel(X, 3 * X[:, 0] + 1)
    >>> res = no.minimize(model, method="nesterov", options=dict(lr=0.5, gtol=1e-8))
    >>> res.x.round(6)
    array([3., 1.])
    >>> res = no.minimize(model, method="adam", options=dict(lr=0.1, batch_size=5, epochs=200, seed=1))
    >>> bool(abs(res.x - [3, 1]).max() < 1e-2)
    True
    """

    @functools.partial(names_meant, name="LinearModel")
    def __init__(self, X: Any, y: Any, loss: Any = "squared", l1: float = 0.0, l2: float = 0.0,
                 fit_intercept: bool = True, sample_weight: Any = None, intercept_l2: float = 0.0,
                 classes: Any = None):  # fmt: skip
        self.loss = as_loss(loss)
        for name, value in (("l1", l1), ("l2", l2), ("intercept_l2", intercept_l2)):
            if not 0 <= value < np.inf:
                raise ValueError(f"{name}={value!r} must be in [0, inf)")
        self.l1, self.l2, self.intercept_l2 = float(l1), float(l2), float(intercept_l2)
        self.X = check_matrix(X)
        self.rows, self.n_terms, self.n_features = as_rows(self.X)
        read = TAKES[self.loss.takes]
        if classes is not None and "classes" not in self.loss.takes:
            raise ValueError(f"classes={classes!r}: loss={self.loss.names[0]!r} takes {self.loss.takes}, not classes")
        told = {} if classes is None else {"classes": classes}
        self.y, self.classes = read(check_target(y, self.n_terms), self.loss.names[0], **told)
        self.sample_weight = check_weights(sample_weight, self.n_terms)
        self.fit_intercept, self.many = bool(fit_intercept), bool(getattr(self.loss, "many", False))
        self.n_outputs = len(self.classes) if self.many and self.classes is not None else 1
        self.dtype = np.dtype(np.float32 if self.X.dtype == np.float32 else np.float64)
        with np.errstate(over="ignore"):
            self.y, self.sample_weight = (np.ascontiguousarray(v, self.dtype) for v in (self.y, self.sample_weight))
        check_finite(self.y, "y")  # float32 may not hold it
        check_finite(self.sample_weight, "sample_weight")
        self.n = self.n_outputs * (self.n_features + self.fit_intercept)
        self.n_penalised = self.n_outputs * self.n_features
        self._spare: list[Any] = []  # packed data between calls of value_and_grad; one a thread at work

    def pack(self, parts: np.ndarray | None = None, funs: np.ndarray | None = None) -> Packed:
        """The data with fresh scratch, for the loops of one run; threads of one share ``parts`` and ``funs``."""
        kind: Any = type(self.loss)
        numbers = np.array([constants(self.loss)], float)
        return self.packed(numbers, loss_functions(kind, self.dtype, numbers.size), parts, funs)

    def packed(self, numbers: np.ndarray, loss: Any, parts: np.ndarray | None, funs: np.ndarray | None) -> Packed:
        """`pack`, with the ``numbers`` and the functions of a loss."""
        stored = self.rows[0].size
        bytes_a_row = stored * self.dtype.itemsize / self.n_terms
        tile = int(min(max(TILE_BYTES // max(bytes_a_row, 1), 16), 512, self.n_terms))
        most = max(CHUNKS, stored * self.n_outputs // LONG_CHUNK)
        chunks = max(1, min(most, stored // CHUNK_NUMBERS, stored // (6 * self.n), self.n_terms // tile))
        chunk = -(-self.n_terms // (chunks * tile)) * tile
        chunks = -(-self.n_terms // chunk)
        storage: Any = type(self.rows)
        rows = row_functions(storage, self.dtype, self.many)
        shared = Shared(
            z=np.zeros((self.n_outputs + 2 * self.many, tile), self.dtype), target=np.zeros(tile, self.dtype),
            weight=np.ones(tile, self.dtype), order=np.zeros(tile, np.int64),
            parts=np.empty((chunks, self.n)) if parts is None else parts,
            funs=np.zeros(chunks) if funs is None else funs, y=self.y, weights=self.sample_weight,
            constants=numbers, outputs=self.n_outputs, n_columns=self.n_features,
            chunk=chunk, l1=self.l1, l2=self.l2, intercept_l2=self.intercept_l2, margins=rows.margins,
            gather=rows.gather, gather_part=rows.gather_part, values=loss.values, slopes=loss.slopes,
            part=self.kernels.part, combine=self.kernels.combine)  # fmt: skip
        return Packed(LinearData(shared, self.rows), data_type(self.dtype, storage))

    def slope_of_one(self) -> tuple[Any, Any]:
        """`kernels.slope_function` of the loss."""
        kind: Any = type(self.loss)
        return slope_function(kind, self.dtype, len(constants(self.loss)))

    @property
    def kind(self) -> Any:
        """What the time of a step depends on, beside the method and the batches."""
        return type(self.loss), self.dtype, type(self.rows), self.n_terms, self.n_outputs, self.rows[0].size

    @property
    def kernels(self) -> Loops:
        """The compiled loops over rows."""
        return loops(self.dtype, sums_by_tile(type(self.rows), self.dtype))

    def split(self, x: Any) -> tuple[np.ndarray, Any]:
        """Coefficients (n_features,) and intercept of the unknowns ``x``; (classes, n_features) and (classes,)."""
        coef, intercept = x[: self.n_penalised], x[self.n_penalised :]
        if not self.fit_intercept:
            intercept = np.zeros(self.n_outputs, x.dtype)
        return (coef.reshape(self.n_outputs, -1), intercept) if self.many else (coef, intercept[0])

    def join(self, coef: Any, intercept: Any = 0.0) -> np.ndarray:
        """The unknowns with these coefficients and intercepts; the way back from `split`."""
        x = np.zeros(self.n, self.dtype)
        x[: self.n_penalised] = np.ravel(coef)
        x[self.n_penalised :] = np.ravel(intercept) if self.fit_intercept else ()
        return x

    def value_and_grad(self, x: Any) -> tuple[float, np.ndarray]:
        """Objective and gradient at ``x``; the gradient leaves out the term of l1.

        Examples
        --------
        >>> import numbaopt as no
        >>> no.LinearModel([[1.0], [2.0]], [1.0, 3.0]).value_and_grad([0.0, 0.0])
        (2.5, array([-3.5, -2. ]))
        """
        g = np.empty(self.n, self.dtype)
        return self._evaluate(x, g), g

    def value(self, x: Any) -> float:
        """Objective at ``x``."""
        return self._evaluate(x, None)

    def _evaluate(self, x: Any, g: np.ndarray | None) -> float:
        """The objective, and its gradient into ``g`` where there is one."""
        x = np.ascontiguousarray(x, self.dtype)
        if x.shape != (self.n,):
            raise ValueError(f"x has shape {x.shape}, the model has {self.n} unknowns")
        try:
            data, whole = self._spare.pop()
        except IndexError:
            data = self.pack()
            whole = Whole(self, data) if Whole.pays(self) else None
        if whole is None:
            value = evaluate_at(self.kernels.evaluate, x, x, address_of(g), data.address)
        else:
            value = whole.evaluate(x, x, g, self.n, data.address)
        self._spare.append((data, whole))
        return float(value)

    def digest(self) -> str:
        """A short hash of the data; of large data, of a part of them."""
        digest = hashlib.sha256()
        for part in (*self.rows, self.y, self.sample_weight):
            digest.update(np.ascontiguousarray(part[:: 1 + (part.nbytes >> 24)]).data)
        return digest.hexdigest()[:12]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_spare": []}

    def __repr__(self) -> str:
        penalties = "".join(f", {k}={v}" for k in ("l1", "l2", "intercept_l2") if (v := getattr(self, k)) or k == "l2")
        fields = [f"{k}={v!r}" for k, v in zip(self.loss._fields, self.loss, strict=True)]
        loss = self.loss.names[0] + (f"({', '.join(fields)})" if fields else "")
        return (f"LinearModel(X {self.n_terms}x{self.n_features} {type(self.rows).__name__} {self.dtype}, "
                f"loss={loss!r}{penalties}, fit_intercept={self.fit_intercept})")  # fmt: skip
