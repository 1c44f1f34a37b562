"""One epoch of a network with one hidden layer on pictures of digits, in minibatches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy.linalg  # noqa: F401  its BLAS is what compiled code calls; `one_thread` has to find it

import numbaopt as no
from numbaopt.experiments.network import initial, layers, network

from .report import OURS, Case, Faster, Table, optional
from .timing import race

ROWS, COLUMNS, HIDDEN, CLASSES, EPOCHS, RATE = 10_000, 784, 128, 10, 5, 1e-3
JUDGED, TORCH = "with history", "torch fused"
NOTES = (
    f"Cross-entropy of {COLUMNS}-{HIDDEN}-{CLASSES} rectifiers, Adam, float32, random pictures; one thread each.",
    f"{OURS}: minimize(FiniteSum) over {EPOCHS} epochs, history=False; '{JUDGED}' judges the whole every epoch.",
    f"{TORCH}: the usual loop in Python, autograd, Adam(fused=True).",
)


def run(quick: bool = False) -> Iterator[Table]:
    """The tables."""
    notes: list[str] = []
    rows = 1_000 if quick else ROWS
    X, y = data(rows)
    cases = []
    for batch in (32, 256):
        contestants = {OURS: ours(X, y, batch, False), JUDGED: ours(X, y, batch, True),
                       **torch_loop(X, y, batch, notes)}  # fmt: skip
        with one_thread(notes):
            times = race(contestants, 2 if quick else 7, units={OURS: EPOCHS, JUDGED: EPOCHS, TORCH: 1})
        cases.append(Case(f"batch {batch}", times, (Faster(1.0, (TORCH,)),)))
    yield Table(f"One epoch of a network, {rows:,} pictures", cases, [*notes, *NOTES])


def one_thread(notes: list[str]) -> Any:
    """A context in which the BLAS of SciPy, which compiled code calls, uses one thread."""
    import contextlib

    threadpoolctl = optional("threadpoolctl", notes)
    return threadpoolctl.threadpool_limits(1) if threadpoolctl else contextlib.nullcontext()


def data(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures and classes; what they show makes no difference to the time."""
    rng = np.random.default_rng(0)
    return rng.random((rows, COLUMNS), np.float32), rng.integers(0, CLASSES, rows)


def ours(X: np.ndarray, y: np.ndarray, batch: int, history: bool) -> Callable[[], Any]:
    """`numbaopt.minimize` on a sum."""
    sizes = np.array([COLUMNS, HIDDEN, CLASSES])
    terms = no.FiniteSum(network, len(X), (X, y, sizes, True), jac=True, dtype=X.dtype)
    start, options = initial(sizes, "he", 0.0, 0), {"batch_size": batch, "epochs": EPOCHS, "history": history}
    return lambda: no.minimize(terms, start, method=no.Adam(lr=RATE), options=options)


def torch_loop(X: np.ndarray, y: np.ndarray, batch: int, notes: list[str]) -> dict[str, Callable[[], Any]]:
    """One epoch of the usual loop, from the same weights."""
    if not (torch := optional("torch", notes)):
        return {}
    torch.set_num_threads(1)
    sizes = np.array([COLUMNS, HIDDEN, CLASSES])
    X, y, nn = torch.from_numpy(X), torch.from_numpy(y), torch.nn
    model = nn.Sequential(nn.Linear(COLUMNS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))
    with torch.no_grad():
        for layer, (weights, _) in zip(model[::2], layers(sizes, initial(sizes, "he", 0.0, 0)), strict=True):
            layer.weight.copy_(torch.from_numpy(weights.T))
            layer.bias.zero_()
    opt = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)

    def epoch() -> None:
        for terms in torch.randperm(len(y)).split(batch):
            opt.zero_grad()
            nn.functional.cross_entropy(model(X[terms]), y[terms]).backward()
            opt.step()

    return {TORCH: epoch}
