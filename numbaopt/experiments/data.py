"""Tables of data: scikit-learn's bundled ones by name, LIBSVM and CSV files by path; split and standardised."""

from __future__ import annotations

import bz2
import difflib
import glob
import gzip
import lzma
import re
import zlib
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .schema import ExperimentError

OPENERS: dict[str, Callable[..., Any]] = {".xz": lzma.open, ".bz2": bz2.open, ".gz": gzip.open}
DELIMITERS = (",", ";", "\t", None)  # None: any white space
LIBSVM_ENTRY = re.compile(r"\s\d+:\S")


class Data(NamedTuple):
    """Rows to train on, and rows held out (none, or more)."""

    X: Any
    y: np.ndarray
    X_test: Any
    y_test: np.ndarray
    about: str


def breast_cancer() -> tuple[np.ndarray, np.ndarray]:
    """569 tumours, 30 features, malignant or benign (UCI 17)."""
    from sklearn.datasets import load_breast_cancer

    return load_breast_cancer(return_X_y=True)


def diabetes() -> tuple[np.ndarray, np.ndarray]:
    """442 patients, 10 features, progression of the disease after a year (Efron et al., 2004)."""
    from sklearn.datasets import load_diabetes

    return load_diabetes(return_X_y=True, scaled=False)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 handwritten digits of 8 x 8 pixels (UCI 80)."""
    from sklearn.datasets import load_digits

    return load_digits(return_X_y=True)


BUNDLED = {"breast_cancer": breast_cancer, "diabetes": diabetes, "digits": digits}


def locate(data: str, folder: Path, given: str | None = None) -> str:
    """Where a data set is: a bundled one's name, or a path.

    ``given`` is a folder to look in first, or a file to take in any case.
    """
    if given is not None and not Path(given).is_dir():
        return given
    for place in ([Path(given)] if given is not None else []) + ([folder] if data not in BUNDLED else []):
        path = (place / data).expanduser()
        if path.is_file():
            return str(path)
        if path.parent.is_dir() and path.name:
            named = sorted(entry for entry in path.parent.glob(f"{glob.escape(path.name)}.*")
                           if entry.is_file() and not entry.name.startswith(f"{path.name}.t"))  # fmt: skip
            if named:
                return str(named[0])
    return data


def load_data(data: str, folder: Path, test_fraction: float, seed: int, standardize: bool) -> Data:
    """Data by name or path (relative to ``folder``), with the held-out part of a file next to it (``a9a``, ``a9a.t``).

    Without such a part, ``test_fraction`` of the rows are drawn for it.  Dense columns get mean 0 and variance 1 on the
    rows trained on; sparse ones stay as they are.
    """
    test = None
    if data in BUNDLED:
        X, y = BUNDLED[data]()
        name = data.replace("_", " ")
    else:
        path = (folder / data).expanduser()
        if not path.is_file():
            close = difflib.get_close_matches(data, BUNDLED, 1, 0.5)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ExperimentError(f"no file {str(path)!r}, and no bundled data of that name; {hint}bundled: "
                                  + ", ".join(BUNDLED))  # fmt: skip
        test, name = held_out_file(path), path.name
        (X, y), *rest = read_tables([path] if test is None else [path, test])
    if test is None:
        chosen = np.random.default_rng(seed).permutation(y.shape[0])
        n_test = round(test_fraction * y.shape[0])
        rows, held_out = np.sort(chosen[n_test:]), np.sort(chosen[:n_test])
        X_test, y_test, X, y = X[held_out], y[held_out], X[rows], y[rows]
    else:
        X_test, y_test = rest[0]
    if X_test.shape[1] != X.shape[1]:
        raise ExperimentError(f"{name} has {X.shape[1]} features, {test and test.name} has {X_test.shape[1]}")
    if standardize and isinstance(X, np.ndarray) and len(X):
        centre, spread = X.mean(axis=0), X.std(axis=0)
        spread[spread == 0] = 1.0
        X, X_test = (X - centre) / spread, (X_test - centre) / spread
    about = (f"{name}: {X.shape[0]:,} rows and {X.shape[1]:,} {'sparse ' if hasattr(X, 'tocsr') else ''}features; "
             f"held out: {X_test.shape[0]:,} rows{f' of {test.name}' if test else ''}")  # fmt: skip
    return Data(X, y, X_test, y_test, about)


def held_out_file(path: Path) -> Path | None:
    """``a9a.t`` next to ``a9a``, compressed or not; the custom of the LIBSVM collection."""
    base = path.with_suffix("") if path.suffix in OPENERS else path
    names = (base.with_name(f"{base.name}.t{packed}") for packed in (path.suffix, "", *OPENERS))
    return next((name for name in names if name.is_file() and name != path), None)


def read_tables(paths: list[Path]) -> list[tuple[Any, np.ndarray]]:
    """Features and target of each file; LIBSVM files are told by their ``index:value`` pairs, others are CSV."""
    try:
        with _open(paths[0], "rt") as lines:
            libsvm = any(LIBSVM_ENTRY.search(line) for line in islice(lines, 10))
        if not libsvm:
            return [read_csv(path) for path in paths]
        from sklearn.datasets import load_svmlight_files

        files = [_open(path, "rb") for path in paths]
        try:
            flat = load_svmlight_files(files)
        finally:
            for file in files:
                file.close()
        return list(zip(flat[::2], flat[1::2], strict=True))
    except ExperimentError:
        raise
    except (EOFError, lzma.LZMAError, zlib.error, ValueError) as error:
        raise ExperimentError(f"{' and '.join(path.name for path in paths)}: {str(error).splitlines()[0]}") from None


def read_csv(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """All columns but the last as features, the last as target: numbers, or words for classes."""
    with _open(path, "rt") as lines:
        first, *more = [line for line in islice(lines, 50) if line.strip()] or [""]
    delimiter = next((mark for mark in DELIMITERS if len(first.split(mark)) > 1), None)
    columns = len(first.split(delimiter))
    if columns < 2:
        raise ExperimentError(f"{path.name}: one column; a table needs features and, as its last column, a target")
    header = not all(map(_is_number, first.split(delimiter)[:-1]))
    if header and not more:
        raise ExperimentError(f"{path.name}: no rows but the header")
    sample = more[0] if header else first
    words = not _is_number(sample.split(delimiter)[-1])

    def table(kind: Any, usecols: Any) -> np.ndarray:
        with _open(path, "rt") as lines:
            return np.loadtxt(lines, kind, delimiter=delimiter, skiprows=int(header), usecols=usecols, ndmin=2)

    if words:
        return table(float, range(columns - 1)), np.char.strip(table(str, [columns - 1])[:, 0], " \"'")
    numbers = table(float, None)
    return np.ascontiguousarray(numbers[:, :-1]), numbers[:, -1]


def _open(path: Path, mode: str) -> Any:
    text = {"encoding": "utf-8-sig"} if "t" in mode else {}
    return OPENERS.get(path.suffix, open)(path, mode, **text)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
