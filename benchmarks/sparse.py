"""One epoch of logistic regression on sparse tables: gradient descent, AdaGrad, SAGA, in small batches."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import numbaopt as no

from .report import OURS, Case, Faster, Table, optional
from .suboptimality import tables as real_tables
from .timing import race

EPOCHS, L2 = 5, 1e-5
ADAGRAD, SKLEARN, WABBIT, SKLEARN_SAGA = "AdaGrad", "sklearn SGD", "Vowpal Wabbit", "sklearn SAGA"
NOTES = (
    f"{OURS}: minimize(model, 'sgd') in {EPOCHS} epochs, l2 = {L2:g}, history=False; {ADAGRAD}: 'adagrad' without l2.",
    f"{SKLEARN}: SGDClassifier(loss='log_loss', alpha={L2:g}, max_iter={EPOCHS}, tol=None), one row a step.",
    f"{WABBIT}: --sgd --loss_function logistic, {EPOCHS} passes over its own cache file, one row a step.",
    "Tables are generated; the environment variable NUMBAOPT_DATA names a folder of real ones (see suboptimality).",
)


def run(quick: bool = False) -> Iterator[Table]:
    """The tables."""
    notes: list[str] = []
    cases, incremental = [], []
    rounds, units = (1, EPOCHS) if quick else (7, EPOCHS)
    for name, (X, y) in tables(quick).items():
        title = f"{name} ({X.shape[0]:,} x {X.shape[1]:,}, {X.nnz / X.shape[0]:.0f} a row)"
        peers = {**sklearn_sgd(X, y, notes), **vowpal_wabbit(X, y, notes)}
        for batch in (1, 32, 256):
            contestants = {OURS: ours(X, y, "sgd", L2, batch_size=batch),
                           ADAGRAD: ours(X, y, "adagrad", 0.0, batch_size=batch), **peers}  # fmt: skip
            goals = (Faster(3.0, (SKLEARN, WABBIT)),)
            cases.append(Case(f"{title}, batch {batch}", race(contestants, rounds, units=units), goals))
        contestants = {OURS: ours(X, y, "saga", L2), **sklearn_saga(X, y, notes)}
        incremental.append(Case(title, race(contestants, rounds, units=units), (Faster(1.0, (SKLEARN_SAGA,)),)))
    yield Table("One epoch of logistic regression on sparse rows", cases, [*notes, *NOTES])
    about = f"{SKLEARN_SAGA}: LogisticRegression(solver='saga')."
    yield Table("One epoch of SAGA on sparse rows", incremental, [*notes, about])


def tables(quick: bool) -> dict[str, tuple[Any, np.ndarray]]:
    """Rows of categories, words, numbers at random; real ones of the first two where there are some."""
    real = {k: v for k, v in real_tables(quick).items() if k in ("a9a", "farm_ads")}
    made = {"categories": categories(1500 if quick else 30_000), "words": words(200 if quick else 4_000)}
    return {**(real or made), "wide": wide(1000, 10_000) if quick else wide(100_000, 1_000_000)}


def _labelled(columns: np.ndarray, values: np.ndarray, width: int, rng: Any) -> tuple[Any, np.ndarray]:
    """CSR of as many entries in every row, and labels that depend on it."""
    import scipy.sparse as sp

    rows, per_row = columns.shape
    starts = np.arange(0, rows * per_row + 1, per_row, dtype=np.int32)
    X = sp.csr_matrix((values.ravel(), columns.ravel().astype(np.int32), starts), (rows, width))
    z = X @ rng.standard_normal(width)
    return X, np.where(z + 0.3 * z.std() * rng.standard_normal(rows) > 0, 1.0, -1.0)


def categories(rows: int) -> tuple[Any, np.ndarray]:
    """14 categories, one of 9 each."""
    rng = np.random.default_rng(0)
    columns = np.arange(14) * 9 + rng.integers(0, 9, (rows, 14))
    return _labelled(columns, np.ones(columns.shape), 126, rng)


def words(rows: int) -> tuple[Any, np.ndarray]:
    """200 words out of 55,000, some far more frequent than others."""
    rng = np.random.default_rng(1)
    likely = 1.0 / np.arange(1, 55_001)
    drawn = [np.sort(rng.choice(likely.size, 200, replace=False, p=likely / likely.sum())) for _ in range(rows)]
    columns = rng.permutation(likely.size)[np.array(drawn)]
    return _labelled(np.sort(columns, axis=1), np.ones(columns.shape), likely.size, rng)


def wide(rows: int, width: int) -> tuple[Any, np.ndarray]:
    """100 numbers in every row, in columns at random."""
    rng = np.random.default_rng(2)
    columns = np.sort(rng.integers(0, width, (rows, 100)), axis=1)
    return _labelled(columns, rng.standard_normal(columns.shape), width, rng)


def ours(X: Any, y: np.ndarray, method: str, l2: float, **options: Any) -> Callable[[], Any]:
    """`numbaopt.minimize` on a model."""
    model = no.LinearModel(X, y, "logistic", l2=l2)
    rate = {} if method == "saga" else {"lr": 0.05}
    return lambda: no.minimize(model, method=method, options={"epochs": EPOCHS, "history": False, **rate, **options})


def sklearn_sgd(X: Any, y: np.ndarray, notes: list[str]) -> dict[str, Callable[[], Any]]:
    """scikit-learn's stochastic gradient descent."""
    if not optional("sklearn", notes):
        return {}
    from sklearn.linear_model import SGDClassifier

    model = SGDClassifier(loss="log_loss", alpha=L2, max_iter=EPOCHS, tol=None, random_state=0)
    return {SKLEARN: lambda: model.fit(X, y)}


def sklearn_saga(X: Any, y: np.ndarray, notes: list[str]) -> dict[str, Callable[[], Any]]:
    """scikit-learn's SAGA."""
    if not optional("sklearn", notes):
        return {}
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1 / (L2 * len(y)), solver="saga", max_iter=EPOCHS, tol=1e-30, random_state=0)

    def fit():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(X, y)

    return {SKLEARN_SAGA: fit}


def vowpal_wabbit(X: Any, y: np.ndarray, notes: list[str]) -> dict[str, Callable[[], Any]]:
    """Vowpal Wabbit on its own binary form of the rows, written here once; rows come in their order."""
    if not (module := optional("vowpalwabbit", notes)):
        return {}
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with open(folder / "rows.txt", "w") as file:
        for i in range(X.shape[0]):
            part = slice(X.indptr[i], X.indptr[i + 1])
            pairs = " ".join(f"{c}:{v:.9g}" for c, v in zip(X.indices[part], X.data[part], strict=True))
            file.write(f"{y[i]:+.0f} |x {pairs}\n")
    bits = max(10, int(np.ceil(np.log2(X.shape[1] + 1))))
    command = (f"--quiet --loss_function logistic --sgd --holdout_off -l 0.05 --l2 {L2} --passes {EPOCHS} -b {bits} "
               f"-d {folder / 'rows.txt'} --cache_file {folder / 'rows.cache'}")  # fmt: skip
    return {WABBIT: lambda: module.Workspace(command).finish()}
