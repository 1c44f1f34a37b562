"""One epoch of logistic regression, Adam and SGD, of tables of three shapes, in shuffled minibatches."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np

import numbaopt as no
from numbaopt.loops.shuffle import epoch_order
from numbaopt.problems.rows import prefetch_item

from .report import OURS, Case, Faster, Table, figure, optional
from .timing import Times, race, ratio

SHAPES = ((200_000, 50), (1_000_000, 10), (100_000, 784))
BATCHES = (1, 32, 256, 4096)
EPOCHS, MORE_EPOCHS, RATE = 2, 6, 1e-3
AHEAD = 64  # rows between asking for one and adding it up
SAMPLE = 20_000  # steps of torch that are timed, of an epoch's many
JAX, TUNED, SKLEARN, TORCH, READING = "JAX scan", "JAX tuned", "sklearn SGD", "torch fused", "reading X"
MORE, SHUFFLED = "one epoch more", "reading rows"
ASKED = {JAX: 3.0, TORCH: 10.0, SKLEARN: 5.0}
NOTES = (
    f"{OURS}: minimize(model) over {EPOCHS} epochs, history=False.",
    f"{JAX}: optax in a lax.scan over batches, jax.grad, epochs and permutations jitted as a whole.",
    f"{TUNED}: the same with NumPy's permutation, which is faster, and the gradient written out by hand.",
    f"{SKLEARN}: SGDClassifier(loss='log_loss', max_iter={EPOCHS}, tol=None), one row a step whatever the batch.",
    f"{TORCH}: the usual loop in Python, autograd, fused Adam or SGD, one thread; some of an epoch's steps.",
    f"{READING}: X.sum(), one streaming pass over the data.",
    f"{MORE}: what each epoch beyond {EPOCHS} adds: no start, no objective at the end.",
    f"{SHUFFLED}: a bare loop that adds up all numbers row by row, in the order of an epoch: the memory's own limit.",
)


def run(quick: bool = False) -> Iterator[Table]:
    """A table a shape, then geometric means."""
    notes: list[str] = []
    ratios: dict[str, list[float]] = {}
    for rows, columns in SHAPES[:1] if quick else SHAPES:
        rows = 5_000 if quick else rows
        cases = []
        for dtype in (np.float64, np.float32):
            X, y = data(rows, columns, dtype)
            sklearn = sklearn_sgd(X, y, notes)
            for rule in ("adam", "sgd"):
                for batch in BATCHES[1:3] if quick else BATCHES:
                    times = times_of(X, y, rule, batch, sklearn, notes, 1 if quick else 3)
                    for name in set(times) - {OURS, MORE, SHUFFLED}:
                        ratios.setdefault(name, []).append(ratio(times[name], times[OURS]).value)
                    goals = [Faster(1.0, (JAX, TUNED, SKLEARN, TORCH))]
                    if batch >= 32 and columns >= 50:
                        goals.append(Faster(0.5, (READING,)))
                    cases.append(Case(f"{np.dtype(dtype)}, {rule}, batch {batch}", times, tuple(goals)))
        yield Table(f"One epoch of logistic regression, N = {rows:,}, D = {columns}", cases, [*notes, *NOTES])
    means = []
    for name, found in sorted(ratios.items()):
        mean = figure(math.exp(sum(map(math.log, found)) / len(found)))
        asked = f", asked {figure(ASKED[name])}x" if name in ASKED else ""
        means.append(f"{name}: {mean}x in geometric mean over all cases{asked}")
    yield Table("One epoch of logistic regression, in sum", [], means)


def data(rows: int, columns: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """A table and labels -1 and 1 that depend on it."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((rows, columns), dtype)
    z = X @ rng.standard_normal(columns, dtype) + rng.standard_normal(rows, dtype)
    return X, np.where(z > 0, 1.0, -1.0).astype(dtype)


def times_of(X: np.ndarray, y: np.ndarray, rule: str, batch: int, sklearn: dict[str, Any], notes: list[str],
             rounds: int) -> dict[str, Times]:  # fmt: skip
    """All contestants on one case, in seconds an epoch."""
    order = epoch_order(len(X), 0, 0)
    contestants = {OURS: ours(X, y, rule, batch, EPOCHS), MORE: ours(X, y, rule, batch, MORE_EPOCHS),
                   READING: lambda: X.sum(), SHUFFLED: lambda: add_up(X, order), **jax_scan(X, y, rule, batch, notes),
                   **sklearn}  # fmt: skip
    units: dict[str, float] = {**dict.fromkeys(contestants, EPOCHS), MORE: 1, READING: 1, SHUFFLED: 1}
    torch, part = torch_loop(X, y, rule, batch, notes)
    contestants.update(torch)
    times = race(contestants, rounds, units={**units, TORCH: part})
    calls = zip(times[MORE].seconds, times[OURS].seconds, strict=True)
    times[MORE] = Times(tuple((long - EPOCHS * short) / (MORE_EPOCHS - EPOCHS) for long, short in calls))
    return times


def ours(X: np.ndarray, y: np.ndarray, rule: str, batch: int, epochs: int) -> Callable[[], Any]:
    """`numbaopt.minimize` on a model."""
    model = no.LinearModel(X, y, "logistic")
    options = {"lr": RATE, "batch_size": batch, "epochs": epochs, "history": False}
    return lambda: no.minimize(model, method=rule, options=options)


@numba.njit(fastmath=True)
def add_up(X, order):
    """The sum of all numbers, row by row, later rows asked for early."""
    total, width, line = 0.0, X.shape[1], 64 // X.itemsize
    for j in range(order.size):
        if j + AHEAD < order.size:
            first = order[j + AHEAD] * width
            for k in range(first, first + width, line):
                prefetch_item(X, k)
            prefetch_item(X, first + width - 1)
        row, here = X[order[j]], X.dtype.type(0)
        for k in range(width):
            here += row[k]
        total += here
    return total


def jax_scan(X: np.ndarray, y: np.ndarray, rule: str, batch: int, notes: list[str]) -> dict[str, Callable[[], Any]]:
    """Epochs in jitted functions; rows that do not fill a batch are left out."""
    if not ((jax := optional("jax", notes)) and (optax := optional("optax", notes))):
        return {}
    jax.config.update("jax_enable_x64", True)
    jnp, opt, (rows, columns) = jax.numpy, {"adam": optax.adam, "sgd": optax.sgd}[rule](RATE), X.shape

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


def torch_loop(X: np.ndarray, y: np.ndarray, rule: str, batch: int,
               notes: list[str]) -> tuple[dict[str, Callable[[], Any]], float]:  # fmt: skip
    """Some steps of the usual loop, and what part of an epoch they are."""
    if not (torch := optional("torch", notes)):
        return {}, 1.0
    torch.set_num_threads(1)  # more only wait for each other on so little work
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    w = torch.zeros(X.shape[1], dtype=X.dtype, requires_grad=True)
    b = torch.zeros((), dtype=X.dtype, requires_grad=True)
    opt = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[rule]([w, b], lr=RATE, fused=True)
    used = min(max(SAMPLE if batch > 1 else SAMPLE // 20, 50 * batch), len(y)) // batch * batch or len(y)

    def steps() -> None:
        for terms in torch.randperm(len(y))[:used].split(batch):
            opt.zero_grad()
            torch.nn.functional.softplus(-y[terms] * (X[terms] @ w + b)).mean().backward()
            opt.step()

    return {TORCH: steps}, used / len(y)
