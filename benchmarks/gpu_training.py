"""On a GPU: epochs of logistic regression beside torch as a CUDA graph, a JAX scan and cuML; whole gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import numbaopt as no
from numbaopt.begin import driver_of

from . import epoch
from .report import OURS, Case, Faster, Table, measured, optional
from .timing import race

ROWS, COLUMNS, RATE = 1_000_000, 100, epoch.RATE
BATCHES = (32, 256, 4096)
GRAPH, COPY, CUML, CPU = "torch, CUDA graph", "copying as many bytes", "cuML MBSGD", "numbaopt on the CPU"
RECORDED = 50  # steps of torch that are played at once
MOST = 12.0  # seconds of a race
SIZES, EPOCHS = (1_000, 10_000, 100_000, 1_000_000), 5  # of the crossover
NOTES = (
    "Adam, float32, rows in a new random order each epoch; data and state stay on the GPU between epochs.",
    f"{OURS}: one epoch as one launch, coefficients made by the CPU and moved in it.",
    f"{GRAPH}: torch.randperm, then {RECORDED} steps recorded with fused Adam and autograd, played again and again.",
    f"{epoch.JAX}, {epoch.TUNED}: as in the benchmark of epochs on the CPU, an epoch of {epoch.EPOCHS}.",
    f"{CUML}: MBSGDClassifier of one epoch with its own plain SGD, data on the GPU.",
)


def epochs(quick: bool) -> Table:
    """Epochs in batches of several sizes."""
    notes, cases = list(NOTES), []
    X, y = epoch.data(*((2_000, 20) if quick else (ROWS, COLUMNS)), np.float32)
    for batch in BATCHES[1:2] if quick else BATCHES:
        there = {OURS: ours(X, y, batch), **peers(X, y, batch, notes)}
        units = {OURS: 1, GRAPH: recorded(len(y), batch)[1] / len(y), epoch.JAX: epoch.EPOCHS,
                 epoch.TUNED: epoch.EPOCHS, CUML: 1}  # fmt: skip
        times = race(there, 2 if quick else 5, units={name: units[name] for name in there}, most=MOST)
        goals = Faster(5.0, (GRAPH,)), Faster(3.0, (epoch.JAX,)), Faster(1.0, (CUML,))
        cases.append(measured(Case(f"batch {batch}", times, goals)))
    return Table(f"One epoch on the GPU, N = {len(X):,}, D = {X.shape[1]}", cases, notes)


def gradients(quick: bool) -> Table:
    """Steps that read all rows, against copying half of them: as many bytes are moved."""
    from .gpu import copying  # late: it has these tables

    X, y = epoch.data(*((2_000, 20) if quick else (ROWS, COLUMNS)), np.float32)
    there: dict[str, Callable[[], Any]] = {OURS: ours(X, y, None, steps=10)}
    if call := copying(X[: len(X) // 2], 10):
        there[COPY] = call
    times = race(there, 2 if quick else 9, units=10, most=MOST)
    case = measured(Case("logistic, gradient descent", times, (Faster(0.8, (COPY,)),)))
    return Table(f"A step on all rows on the GPU, N = {len(X):,}, D = {X.shape[1]}, float32", [case],
                 ["A step makes margins, losses, slopes and the gradient, and judges the point."])  # fmt: skip


def crossover_of_training(quick: bool) -> Table:
    """From how many rows on the same call of `minimize` is faster on the GPU, moving the data there in it."""
    cases = []
    for rows in SIZES[:1] if quick else SIZES:
        model = no.LinearModel(*epoch.data(rows, 20 if quick else COLUMNS, np.float32), "logistic")
        for how, options in ((f"{EPOCHS} epochs, batch 256", {"batch_size": 256, "epochs": EPOCHS}),
                             ("50 steps on all rows", {"maxiter": 50, "gtol": 0.0})):  # fmt: skip
            def of(device: str, model=model, options=options) -> Callable[[], Any]:
                given = {"lr": RATE, "history": False, "device": device, **options}
                return lambda: no.minimize(model, method="adam", options=given)

            times = race({OURS: of("cuda"), CPU: of("cpu")}, 2 if quick else 5, 0.0, most=MOST)
            cases.append(measured(Case(f"{how}, N = {rows:,}", times)))
    return Table(f"Training on the GPU and on the CPU, D = {model.rows.X.shape[1]}, float32", cases, [
        "The crossover is where the ratio passes 1; each call moves its data to the GPU."])  # fmt: skip


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


def peers(X: np.ndarray, y: np.ndarray, batch: int, notes: list[str]) -> dict[str, Callable[[], Any]]:
    """Who else is installed, and ran once."""
    found: dict[str, Callable[[], Any]] = {}
    for make in (torchs_graph, jaxs, cumls):
        try:
            made = make(X, y, batch, notes)
            for call in made.values():
                call()
            found |= made
        except Exception as error:
            notes.append(f"{make.__name__}, batch {batch}: left out, {type(error).__name__}: {error}".splitlines()[0])
    return found


def jaxs(X: np.ndarray, y: np.ndarray, batch: int, notes: list[str]) -> dict[str, Callable[[], Any]]:
    """JAX's scans, as on the CPU."""
    return epoch.jax_scan(X, y, "adam", batch, notes)


def recorded(rows: int, batch: int) -> tuple[int, int]:
    """How many steps of torch are played at once, and the rows of an epoch that fill such records."""
    steps = max(1, min(RECORDED, rows // batch))
    return steps, rows // (steps * batch) * steps * batch


def torchs_graph(X: np.ndarray, y: np.ndarray, batch: int, notes: list[str]) -> dict[str, Callable[[], Any]]:
    """Some steps of the usual loop, recorded once; rows that do not fill such a record are left out."""
    if not (torch := optional("torch", notes)) or not torch.cuda.is_available():
        return {}
    rows, target = torch.from_numpy(X).cuda(), torch.from_numpy(y).cuda()
    steps, used = recorded(len(y), batch)
    step, terms, _ = torch_steps(torch, rows, target, batch, steps, capturable=True)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step(0)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for k in range(steps):
            step(k)

    def call() -> None:
        order = torch.randperm(len(y), device="cuda")
        for first in range(0, used, steps * batch):
            terms.copy_(order[first : first + steps * batch])
            graph.replay()
        torch.cuda.synchronize()

    return {GRAPH: call}


def torch_steps(torch: Any, rows: Any, target: Any, batch: int, steps: int,
                capturable: bool) -> tuple[Callable[[int], None], Any, Callable[[], np.ndarray]]:  # fmt: skip
    """``step(k)``: the usual step on batch ``k`` of the terms that are given, those terms, and where it stands."""
    w = torch.zeros(rows.shape[1], dtype=rows.dtype, device=rows.device, requires_grad=True)
    b = torch.zeros((), dtype=rows.dtype, device=rows.device, requires_grad=True)
    opt = torch.optim.Adam([w, b], lr=RATE, fused=True, capturable=capturable)
    terms = torch.arange(steps * batch, device=rows.device)

    def step(k: int) -> None:
        mine = terms[k * batch : (k + 1) * batch]
        opt.zero_grad(set_to_none=True)
        torch.nn.functional.softplus(-target[mine] * (rows[mine] @ w + b)).mean().backward()
        opt.step()

    return step, terms, lambda: np.append(w.detach().cpu().numpy(), b.item())


def cumls(X: np.ndarray, y: np.ndarray, batch: int, notes: list[str]) -> dict[str, Callable[[], Any]]:
    """cuML's own minibatches."""
    if not (optional("cuml", notes) and (cupy := optional("cupy", notes))):
        return {}
    from cuml.linear_model import MBSGDClassifier

    rows, target = cupy.asarray(X), cupy.asarray(y > 0, np.float32)
    model = MBSGDClassifier(loss="log", penalty="none", epochs=1, batch_size=batch, eta0=RATE, tol=0.0)
    return {CUML: lambda: model.fit(rows, target)}
