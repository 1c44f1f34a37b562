"""One epoch of logistic regression with Adam, 200,000 shuffled rows of 50 columns, in minibatches."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import numbaopt as no

from .report import OURS, Case, Faster, Table, optional
from .timing import race

ROWS, COLUMNS, EPOCHS, RATE = 200_000, 50, 5, 1e-3
JUDGED, JAX, TUNED, SKLEARN, TORCH = "with history", "JAX scan", "JAX tuned", "sklearn SGD", "torch fused"
NOTES = (
    f"{OURS}: minimize(model) over {EPOCHS} epochs, history=False; '{JUDGED}' judges the whole objective every epoch.",
    f"{JAX}: optax.adam, jax.grad in a lax.scan over batches, epochs and permutations jitted as a whole.",
    f"{TUNED}: the same with NumPy's permutation, which is faster, and the gradient written out by hand.",
    f"{SKLEARN}: SGDClassifier(loss='log_loss', max_iter={EPOCHS}, tol=None), one row a step.",
    f"{TORCH}: the usual loop in Python, autograd, Adam(fused=True), one epoch, one thread.",
)


def run(quick: bool = False) -> Iterator[Table]:
    """The tables."""
    notes: list[str] = []
    rows = 10_000 if quick else ROWS
    goals = (Faster(1.5, (JAX, TUNED)), Faster(3.0, (SKLEARN,)))
    cases = []
    for dtype in (np.float64, np.float32):
        X, y = data(rows, dtype)
        for batch in (32, 256):
            contestants = {OURS: ours(X, y, batch, False), JUDGED: ours(X, y, batch, True),
                           **jax_scan(X, y, batch, notes), **sklearn_sgd(X, y, notes)}  # fmt: skip
            units = dict.fromkeys(contestants, EPOCHS)
            if not quick:
                contestants.update(torch_loop(X, y, batch, notes))
            times = race(contestants, 2 if quick else 7, units={**units, TORCH: 1})
            cases.append(Case(f"{np.dtype(dtype)}, batch {batch}", times, goals))
    yield Table(f"One epoch of logistic regression, N = {rows:,}, D = {COLUMNS}", cases, [*notes, *NOTES])


def data(rows: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """A table and labels -1 and 1 that depend on it."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((rows, COLUMNS))
    y = np.where(X @ rng.standard_normal(COLUMNS) + rng.standard_normal(rows) > 0, 1.0, -1.0)
    return X.astype(dtype), y.astype(dtype)


def ours(X: np.ndarray, y: np.ndarray, batch: int, history: bool) -> Callable[[], Any]:
    """`numbaopt.minimize` on a model."""
    model = no.LinearModel(X, y, "logistic")
    options = {"batch_size": batch, "epochs": EPOCHS, "history": history}
    return lambda: no.minimize(model, method=no.Adam(lr=RATE), options=options)


def jax_scan(X: np.ndarray, y: np.ndarray, batch: int, notes: list[str]) -> dict[str, Callable[[], Any]]:
    """Epochs in jitted functions; rows that do not fill a batch are left out."""
    if not ((jax := optional("jax", notes)) and (optax := optional("optax", notes))):
        return {}
    jax.config.update("jax_enable_x64", True)
    jnp, opt, (rows, columns) = jax.numpy, optax.adam(RATE), X.shape

    def objective(w, X, y):
        return jax.nn.softplus(-y * (X @ w[:-1] + w[-1])).mean()

    def by_hand(w, X, y):
        slope = -y * jax.nn.sigmoid(-y * (X @ w[:-1] + w[-1])) / batch
        return jnp.append(slope @ X, slope.sum())

    def epoch(gradient, stand, order, X, y):
        def step(stand, terms):
            updates, state = opt.update(gradient(stand[0], X[terms], y[terms]), stand[1])
            return (optax.apply_updates(stand[0], updates), state), None

        return jax.lax.scan(step, stand, order[: rows // batch * batch].reshape(-1, batch))

    def train(stand, key, X, y):
        def one(stand, key):
            return epoch(jax.grad(objective), stand, jax.random.permutation(key, rows), X, y)

        return jax.lax.scan(one, stand, jax.random.split(key, EPOCHS))[0][0]

    w, X, y, rng = jnp.zeros(columns + 1, X.dtype), jnp.array(X), jnp.array(y), np.random.default_rng(0)
    whole, tuned = jax.jit(train), jax.jit(functools.partial(epoch, by_hand))

    def call_tuned() -> None:
        stand = w, opt.init(w)
        for _ in range(EPOCHS):
            stand, _ = tuned(stand, rng.permutation(rows), X, y)
        stand[0].block_until_ready()

    return {JAX: lambda: whole((w, opt.init(w)), jax.random.key(0), X, y).block_until_ready(), TUNED: call_tuned}


def sklearn_sgd(X: np.ndarray, y: np.ndarray, notes: list[str]) -> dict[str, Callable[[], Any]]:
    """scikit-learn's stochastic gradient descent."""
    if not optional("sklearn", notes):
        return {}
    from sklearn.linear_model import SGDClassifier

    model = SGDClassifier(loss="log_loss", max_iter=EPOCHS, tol=None, random_state=0)
    return {SKLEARN: lambda: model.fit(X, y)}


def torch_loop(X: np.ndarray, y: np.ndarray, batch: int, notes: list[str]) -> dict[str, Callable[[], Any]]:
    """One epoch of the usual loop."""
    if not (torch := optional("torch", notes)):
        return {}
    torch.set_num_threads(1)  # more only wait for each other on so little work
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    w = torch.zeros(X.shape[1], dtype=X.dtype, requires_grad=True)
    b = torch.zeros((), dtype=X.dtype, requires_grad=True)
    opt = torch.optim.Adam([w, b], lr=RATE, fused=True)

    def epoch() -> None:
        for terms in torch.randperm(len(y)).split(batch):
            opt.zero_grad()
            torch.nn.functional.softplus(-y[terms] * (X[terms] @ w + b)).mean().backward()
            opt.step()

    return {TORCH: epoch}
