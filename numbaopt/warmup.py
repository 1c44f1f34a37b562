"""Fills the disk cache, so that no first call waits for the compiler longer than for its own function.

What is compiled here depends on no function of a user's: all rules, the loops over whole objectives and over batches,
and linear models of each loss on dense and sparse rows, in float64 and, for models, float32.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np

from ._fields import nearest
from .losses import LOSSES
from .minimize import minimize
from .optimizers._rule import OPTIMIZERS
from .problems.linear_model import LinearModel
from .solvers import SOLVERS

PARTS = ("rules", "methods", "models")
OF_FUNCTIONS = ("lbfgs", "l-bfgs-b", "bfgs", "cg", "trust-ncg", "nelder-mead")
OF_MODELS = ("lbfgs", "newton", "saga")
DTYPES = (np.float64, np.float32)


def warmup(parts: Any = PARTS, tell: Callable[[str], Any] = lambda what: None) -> int:
    """Compile what most programs need, and keep it on disk.

    Parameters
    ----------
    parts : sequence of {"rules", "methods", "models"}
        What to compile: minutes for all, the first time.
    tell : callable
        ``tell(what)`` is called before each piece.

    Returns
    -------
    int
        How many pieces there were.

    Raises
    ------
    ValueError
        If there is no such part.

    Examples
    --------
    >>> from numbaopt.warmup import warmup
    >>> warmup([])
    0
    """
    count = 0
    for part in parts:
        if part not in PARTS:
            raise ValueError(f"part {part!r} is not known; {nearest(part, PARTS)}")
        for what, run in {"rules": _rules, "methods": _methods, "models": _models}[part]():
            tell(what)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                run()
            count += 1
    return count


@numba.njit
def _bowl(x):
    return (x * x).sum()


@numba.njit
def _slope(x):
    return 2.0 * x


def _rules() -> Iterator[tuple[str, Callable[[], Any]]]:
    for rule in dict.fromkeys(OPTIMIZERS.values()):
        def run(rule: Any = rule) -> None:
            minimize(_bowl, np.ones(2), method=rule(), jac=_slope, options={"maxiter": 2})

        yield f"rule {rule.__name__}", run


def _methods() -> Iterator[tuple[str, Callable[[], Any]]]:
    for name in OF_FUNCTIONS:
        for bounds in (None, [(-2.0, 2.0)] * 2) if getattr(SOLVERS[name], "bounded", False) else (None,):
            def run(name: str = name, bounds: Any = bounds) -> None:
                minimize(_bowl, np.ones(2), method=name, jac=_slope, bounds=bounds, options={"maxiter": 2})

            yield f"method {name}" + (" with bounds" if bounds else ""), run


def _models() -> Iterator[tuple[str, Callable[[], Any]]]:
    from scipy import sparse

    rows = np.random.default_rng(0).random((20, 3))
    for loss in LOSSES:
        for dtype in DTYPES:
            for kind in ("dense", "sparse"):
                def run(loss: str = loss, dtype: Any = dtype, kind: str = kind) -> None:
                    X = rows.astype(dtype)
                    y = 1.0 + np.arange(20) % (3 if loss == "multinomial" else 2)
                    model = LinearModel(X if kind == "dense" else sparse.csr_matrix(X), y, loss=loss, l2=0.1)
                    for method in OF_MODELS:
                        try:
                            minimize(model, method=method, options={"maxiter": 2})
                        except ValueError:  # a loss with kinks is for others
                            continue
                    minimize(model, method="sgd", options={"epochs": 1, "batch_size": 5, "lr": 0.01})

                yield f"{loss} loss, {np.dtype(dtype)}, {kind} rows", run
