"""One epoch of logistic regression with Adam over a file, read chunk by chunk, against only reading it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import numbaopt as no

from .epoch import data
from .report import OURS, Case, Faster, Table, optional
from .timing import race

ROWS, COLUMNS, BATCH, PARTS = 200_000, 50, 256, 10  # the file holds the same table several times
READING, UNJUDGED, LOADED = "only reading", "without history", "sklearn, only reading"
NOTES = (
    f"{OURS}: stream.minimize over one epoch, shuffled, batches of {BATCH}, the progressive loss noted.",
    f"{UNJUDGED}: the same with history=False.",
    f"{READING}: the same chunks in the same order, read and dropped.",
    "cold: the file is taken out of the system's cache before each turn, as it must be when memory is smaller.",
    f"{LOADED}: load_svmlight_file, which needs all of it in memory.",
)


def run(quick: bool = False) -> Iterator[Table]:
    """The tables."""
    notes: list[str] = []
    rows, parts = (20_000, 2) if quick else (ROWS, PARTS)
    X, y = data(rows, COLUMNS, np.float32)
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        files = _npy(Path(folder), X, y, parts)
        source = no.stream.open(*files)
        for cold in (True, False) if hasattr(os, "posix_fadvise") else (False,):
            before = (lambda: [_forget(file) for file in files]) if cold else (lambda: None)
            times = race(_contestants(source, before), 2 if quick else 7)
            size = parts * X.nbytes / 1e6
            cases.append(Case(f".npy, {size:,.0f} MB, {'cold' if cold else 'warm'}", times,
                              (Faster(1 / 1.5, (READING,)),) if cold else ()))  # fmt: skip
        path = _libsvm(Path(folder), X, y, rows // 20)
        source = no.stream.open(path, n_features=X.shape[1], zero_based=False)
        contestants = _contestants(source, lambda: None)
        if optional("sklearn", notes):
            from sklearn.datasets import load_svmlight_file

            contestants[LOADED] = lambda: load_svmlight_file(str(path), n_features=X.shape[1], zero_based=False)
        times = race(contestants, 2 if quick else 7)
        cases.append(
            Case(f"LIBSVM text, {path.stat().st_size / 1e6:,.0f} MB, warm", times, (Faster(1 / 1.5, (READING,)),))
        )
    yield Table(f"One epoch over a file, D = {X.shape[1]}, float32", cases, [*notes, *NOTES])


def _contestants(source: no.stream.Source, before: Callable[[], Any]) -> dict[str, Callable[[], Any]]:
    order = np.random.default_rng(0).permutation(source.n_chunks)

    def train(history: bool) -> None:
        before()
        no.stream.minimize(source, method="adam", loss="logistic", classes=[-1, 1],
                           options={"batch_size": BATCH, "epochs": 1, "history": history})  # fmt: skip

    def read() -> None:
        before()
        for chunk in order:
            source.read(int(chunk))

    return {OURS: lambda: train(True), UNJUDGED: lambda: train(False), READING: read}


def _npy(folder: Path, X: np.ndarray, y: np.ndarray, parts: int) -> tuple[Path, Path]:
    """The table ``parts`` times over, written without ever being in memory."""
    with open(folder / "X.npy", "wb") as file:
        shape = (parts * X.shape[0], X.shape[1])
        np.lib.format.write_array_header_1_0(file, {"descr": X.dtype.str, "fortran_order": False, "shape": shape})
        for _ in range(parts):
            file.write(X)  # type: ignore[arg-type]
    np.save(folder / "y.npy", np.tile(y, parts))
    return folder / "X.npy", folder / "y.npy"


def _libsvm(folder: Path, X: np.ndarray, y: np.ndarray, rows: int) -> Path:
    lines = (" ".join([f"{t:.0f}", *(f"{j}:{v:.6g}" for j, v in enumerate(x, 1))])
             for x, t in zip(X[:rows], y[:rows], strict=True))  # fmt: skip
    text = "\n".join(lines) + "\n"
    (folder / "X.svm").write_text(10 * text)
    return folder / "X.svm"


def _forget(path: Path) -> None:
    """Take a file out of the system's cache."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(file)
