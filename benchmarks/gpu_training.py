"""On a GPU: epochs of logistic regression beside torch as a CUDA graph, a JAX scan and cuML; whole gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import numbaopt as no
from numbaopt.begin import driver_of

from . import epoch
from .report import OURS, Case, Faster, Table, optional
from .timing import race

ROWS, COLUMNS, RATE = 1_000_000, 100, epoch.RATE
BATCHES = (32, 256, 4096)
GRAPH, COPY, CUML = "torch, CUDA graph", "copying as many bytes", "cuML MBSGD"
NOTES = (
    "Adam, float32, rows in a new random order each epoch; data and state stay on the GPU between epochs.",
    f"{OURS}: one epoch as one launch, coefficients made by the CPU and moved in it.",
    f"{GRAPH}: torch.randperm, then one step recorded with fused Adam and autograd, played again for every batch.",
    f"{epoch.JAX}, {epoch.TUNED}: as in the benchmark of epochs on the CPU, an epoch of {epoch.EPOCHS}.",
    f"{CUML}: MBSGDClassifier of one epoch with its own plain SGD, data on the GPU.",
)


def epochs(quick: bool) -> Table:
    """Epochs in batches of several sizes."""
    notes, cases = list(NOTES), []
    X, y = epoch.data(*((2_000, 20) if quick else (ROWS, COLUMNS)), np.float32)
    for batch in BATCHES[1:2] if quick else BATCHES:
        there = {OURS: ours(X, y, batch), **torchs_graph(X, y, batch, notes),
                 **epoch.jax_scan(X, y, "adam", batch, notes), **cumls(X, y, batch, notes)}  # fmt: skip
        units = {name: epoch.EPOCHS if name in (epoch.JAX, epoch.TUNED) else 1 for name in there}
        times = race(there, 2 if quick else 5, units=units)
        goals = Faster(5.0, (GRAPH,)), Faster(3.0, (epoch.JAX,)), Faster(1.0, (CUML,))
        cases.append(Case(f"batch {batch}", times, goals))
    return Table(f"One epoch on the GPU, N = {len(X):,}, D = {X.shape[1]}", cases, notes)


def gradients(quick: bool) -> Table:
    """Steps that read all rows, against copying half of them: as many bytes are moved."""
    from .gpu import copying  # late: it has these tables

    X, y = epoch.data(*((2_000, 20) if quick else (ROWS, COLUMNS)), np.float32)
    there: dict[str, Callable[[], Any]] = {OURS: ours(X, y, None, steps=10)}
    if call := copying(X[: len(X) // 2], 10):
        there[COPY] = call
    times = race(there, 2 if quick else 9, units=dict.fromkeys(there, 10))
    return Table(f"A step on all rows on the GPU, N = {len(X):,}, D = {X.shape[1]}, float32",
                 [Case("logistic, gradient descent", times, (Faster(0.8, (COPY,)),))],
                 ["A step makes margins, losses, slopes and the gradient, and judges the point."])  # fmt: skip


def ours(X: np.ndarray, y: np.ndarray, batch: int | None, steps: int | None = None) -> Callable[[], Any]:
    """The slices of a run that never ends: so many steps, or an epoch, a call."""
    model, none = no.LinearModel(X, y, "logistic"), np.zeros(0)
    opt = no.Adam(lr=RATE) if batch else no.SGD(lr=RATE)
    options: dict[str, Any] = {"device": "cuda", "gtol": 0.0}
    options |= {"batch_size": batch, "epochs": 10**6, "history": False} if batch else {"maxiter": 10**9}
    driver = driver_of(model, np.zeros(model.n), opt, none, none, None, None, options)
    steps = steps or driver.batches.per_epoch
    rates, values = np.full(steps, RATE), np.empty(0)
    return lambda: driver.solver.take(steps, rates, values)


def torchs_graph(X: np.ndarray, y: np.ndarray, batch: int, notes: list[str]) -> dict[str, Callable[[], Any]]:
    """The usual step, recorded once; rows that do not fill a batch are left out."""
    if not (torch := optional("torch", notes)) or not torch.cuda.is_available():
        return {}
    rows, target = torch.from_numpy(X).cuda(), torch.from_numpy(y).cuda()
    w = torch.zeros(X.shape[1], device="cuda", requires_grad=True)
    b = torch.zeros((), device="cuda", requires_grad=True)
    opt = torch.optim.Adam([w, b], lr=RATE, fused=True, capturable=True)
    terms, side = torch.arange(batch, device="cuda"), torch.cuda.Stream()

    def step() -> None:
        opt.zero_grad(set_to_none=True)
        torch.nn.functional.softplus(-target[terms] * (rows[terms] @ w + b)).mean().backward()
        opt.step()

    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()

    def call() -> None:
        order = torch.randperm(len(y), device="cuda")
        for first in range(0, len(y) // batch * batch, batch):
            terms.copy_(order[first : first + batch])
            graph.replay()
        torch.cuda.synchronize()

    return {GRAPH: call}


def cumls(X: np.ndarray, y: np.ndarray, batch: int, notes: list[str]) -> dict[str, Callable[[], Any]]:
    """cuML's own minibatches."""
    if not (optional("cuml", notes) and (cupy := optional("cupy", notes))):
        return {}
    from cuml.linear_model import MBSGDClassifier

    rows, target = cupy.asarray(X), cupy.asarray(y > 0, np.float32)
    model = MBSGDClassifier(loss="log", penalty="none", epochs=1, batch_size=batch, eta0=RATE, tol=0.0)
    return {CUML: lambda: model.fit(rows, target)}
