"""Data sets: bundled and from OpenML by name, made by seeded generators, files by path; split and scaled.

In a study's file ``data`` is a name, a path, or a table::

    data = "breast_cancer"                                   # bundled with scikit-learn
    data = "a9a"                                             # a file in the study's folder or in --data DIR, whatever
                                                             # its ending; a9a.t beside it holds the rows held out
    data = { file = "wine.csv", target = "quality" }
    data = { openml = "adult", version = 2 }                 # downloaded by scikit-learn, which keeps it
    data = { generator = "classification", rows = 10000, columns = 50, density = 0.01, seed = 3 }

or the name of such a table under ``[data.NAME]``.
"""

from __future__ import annotations

import functools
import glob
import hashlib
import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field

from .._fields import nearest
from .readers import OPENERS, Table, held_out_file, read
from .schema import Count, ExperimentError, Positive, Strict, check

LARGEST = 2**31  # numbers in a table that is made


class Data(NamedTuple):
    """Rows to train on, and rows held out (none, or more)."""

    X: Any
    y: np.ndarray
    X_test: Any
    y_test: np.ndarray
    about: str


def breast_cancer() -> Table:
    """569 tumours, 30 features, malignant or benign (UCI 17)."""
    from sklearn.datasets import load_breast_cancer

    return load_breast_cancer(return_X_y=True)


def diabetes() -> Table:
    """442 patients, 10 features, progression of the disease after a year (Efron et al., 2004)."""
    from sklearn.datasets import load_diabetes

    return load_diabetes(return_X_y=True, scaled=False)


def digits() -> Table:
    """1,797 handwritten digits of 8 x 8 pixels (UCI 80)."""
    from sklearn.datasets import load_digits

    return load_digits(return_X_y=True)


def iris() -> Table:
    """150 flowers of three kinds, 4 features (UCI 53)."""
    from sklearn.datasets import load_iris

    return load_iris(return_X_y=True)


def wine() -> Table:
    """178 wines of three growers, 13 features (UCI 109)."""
    from sklearn.datasets import load_wine

    return load_wine(return_X_y=True)


BUNDLED = {"breast_cancer": breast_cancer, "diabetes": diabetes, "digits": digits, "iris": iris, "wine": wine}


class Source(Strict):
    """Where a table comes from."""

    key: ClassVar[str]

    def tables(self) -> list[Table]:
        """The table, and the rows held out where the source tells."""
        raise NotImplementedError

    @property
    def about(self) -> str:
        """What it is called."""
        return str(getattr(self, self.key))

    def files(self) -> list[Path]:
        """The files that it is read from."""
        return []


class Picked(Source):
    """Of a table that exists, ``rows`` of its rows at random, and one class (``positive``) against the rest."""

    rows: Positive | None = None
    positive: str | int | float | bool | None = None

    def picked(self, tables: list[Table]) -> list[Table]:
        """The tables as asked for."""
        X, y = tables[0]
        if self.rows is not None and self.rows < len(y):
            chosen = np.sort(np.random.default_rng(0).permutation(len(y))[: self.rows])
            tables = [(X[chosen], y[chosen]), *tables[1:]]
        if self.positive is None:
            return tables
        classes = np.unique(tables[0][1])
        wanted = self.positive if classes.dtype.kind in "biuf" else str(self.positive)
        if wanted not in classes.tolist():
            raise ExperimentError(f"{self.about}: positive = {self.positive!r} is no class; valid: "
                                  f"{', '.join(map(str, classes[:20].tolist()))}")  # fmt: skip
        return [(X, np.where(y == wanted, 1.0, -1.0)) for X, y in tables]


class File(Picked):
    """A table in a file, or one that is bundled."""

    key: ClassVar[str] = "file"

    file: str
    target: str | None = None

    @property
    def about(self) -> str:
        """The file's name."""
        return self.file.replace("_", " ") if self.file in BUNDLED else Path(self.file).name

    def tables(self) -> list[Table]:
        """From the disk, or from scikit-learn."""
        if self.file in BUNDLED:
            return self.picked([BUNDLED[self.file]()])
        return self.picked(read(Path(self.file), self.target))

    def files(self) -> list[Path]:
        """The file, and that of the rows held out."""
        if self.file in BUNDLED:
            return []
        path = Path(self.file)
        return [path, *filter(None, [held_out_file(path)])]


class OpenML(Picked):
    """A table of OpenML, by name and version, or by number."""

    key: ClassVar[str] = "openml"

    openml: str | int
    version: Positive | Literal["active"] = "active"
    target: str | None = None

    def tables(self) -> list[Table]:
        """From scikit-learn's cache, else downloaded."""
        from sklearn.datasets import fetch_openml

        named: dict[str, Any] = {"data_id": self.openml}
        if isinstance(self.openml, str):
            named = {"name": self.openml, "version": self.version}
        try:
            X, y = fetch_openml(**named, target_column=self.target or "default-target", return_X_y=True,
                                as_frame=False, parser="auto")  # fmt: skip
        except OSError as error:
            raise ExperimentError(f"openml = {self.openml!r} cannot be fetched ({error}): the first time it needs the "
                                  "network; files by path do not") from None  # fmt: skip
        except ValueError as error:
            raise ExperimentError(f"openml = {self.openml!r}: {str(error).splitlines()[0]}") from None
        return self.picked([(X, y)])


class Generated(Source):
    r"""Normal features and a linear rule, drawn from ``seed``.

    Coefficients :math:`\beta` of Euclidean norm ``signal`` on ``informative`` columns (all), the others nothing;
    features of unit variance whose covariance has the condition number ``condition``, or, with ``density`` below 1,
    sparse ones.  Targets: :math:`x^\top \beta + \mathrm{noise}\, \varepsilon` for ``"regression"``; for
    ``"classification"`` the class of the largest :math:`x^\top \beta_k + g`, g Gumbel's, which is a logistic model; for
    ``"counts"`` Poisson with mean :math:`\exp(x^\top \beta)`.  ``flip``: the part of classes replaced at random.
    """

    key: ClassVar[str] = "generator"

    generator: Literal["classification", "regression", "counts"]
    rows: Annotated[int, Field(ge=2, le=100_000_000)] = 1000
    columns: Positive = 20
    informative: Positive | None = None
    classes: Annotated[int, Field(ge=2, le=1000)] = 2
    signal: Annotated[float, Field(ge=0)] = 3.0
    noise: Annotated[float, Field(ge=0)] = 0.5
    flip: Annotated[float, Field(ge=0, le=1)] = 0.0
    condition: Annotated[float, Field(ge=1, le=1e15)] = 1.0
    density: Annotated[float, Field(gt=0, le=1)] = 1.0
    seed: Count = 0

    @property
    def about(self) -> str:
        """What is made."""
        return f"generated {self.generator}"

    def tables(self) -> list[Table]:
        """As the docstring says."""
        if self.rows * self.columns * self.density > LARGEST:
            raise ExperimentError(f"a generated table of {self.rows} x {self.columns} is too large; at most {LARGEST} "
                                  "numbers")  # fmt: skip
        rng = np.random.default_rng(self.seed)
        X = self._features(rng)
        outputs = self.classes if self.generator == "classification" else 1
        B = np.zeros((self.columns, outputs))
        used = min(self.informative or self.columns, self.columns)
        B[rng.permutation(self.columns)[:used]] = rng.standard_normal((used, outputs))
        margins = X @ (B * (self.signal / np.linalg.norm(B, axis=0)))
        if self.generator == "regression":
            return [(X, margins[:, 0] + self.noise * rng.standard_normal(self.rows))]
        if self.generator == "counts":
            return [(X, rng.poisson(np.exp(np.minimum(margins[:, 0], 20.0))).astype(float))]
        y = (margins + rng.gumbel(size=margins.shape)).argmax(axis=1)
        wrong = rng.random(self.rows) < self.flip
        y[wrong] = rng.integers(self.classes, size=wrong.sum())
        return [(X, y)]

    def _features(self, rng: np.random.Generator) -> Any:
        if self.density < 1:
            from scipy.sparse import random

            return random(self.rows, self.columns, self.density, "csr", random_state=rng, data_rvs=rng.standard_normal)
        X = rng.standard_normal((self.rows, self.columns))
        if self.condition > 1:
            spread = np.geomspace(1.0, self.condition**-0.5, self.columns)
            axes = np.linalg.qr(rng.standard_normal((self.columns, self.columns)))[0]
            X = X @ (spread[:, None] * axes.T) / np.sqrt(np.mean(spread**2))
        return X


SOURCES: tuple[Any, ...] = (File, OpenML, Generated)


def as_source(data: Any) -> Any:
    """What ``data`` says in a study's file, as a source; a name or path is a `File`."""
    if isinstance(data, Source):
        return data
    if isinstance(data, str):
        return File(file=data)
    chosen = [source for source in SOURCES if isinstance(data, dict) and source.key in data]
    if len(chosen) != 1:
        raise ExperimentError(f"data = {data!r} must be a name, a path, or a table with one of the keys "
                              f"{', '.join(source.key for source in SOURCES)}")  # fmt: skip
    return check(chosen[0], data, "data")


def locate(source: Source, folder: Path, given: str | None = None) -> Source:
    """The source with the path of its file: looked for in ``given`` and ``folder``, whatever its ending.

    ``given`` is a folder to look in first, or a file to take in the place of any source.
    """
    if given is not None and not Path(given).is_dir():
        return File(file=given)
    if not isinstance(source, File):
        return source
    places = [Path(given)] if given is not None else []
    for place in places if source.file in BUNDLED else [*places, folder]:
        if (found := _find(place, source.file)) is not None:
            return source.model_copy(update={"file": str(found)})
    if source.file in BUNDLED:
        return source
    where = " or ".join(repr(str(place)) for place in [*places, folder])
    raise ExperimentError(f"there is no file {source.file!r} in {where} (--data DIR looks elsewhere), and no bundled "
                          f"data of that name; {nearest(source.file, BUNDLED)}")  # fmt: skip


def _find(place: Path, name: str) -> Path | None:
    path = Path(os.path.abspath((place / name).expanduser()))
    if path.is_file():
        return path
    held_out = tuple(f"{path.name}.t{packed}" for packed in ("", *OPENERS))
    found = sorted(entry for entry in path.parent.glob(f"{glob.escape(path.name)}.*")
                   if entry.is_file() and entry.name not in held_out)  # fmt: skip
    if len(found) > 1:
        several = " or ".join(repr(entry.name) for entry in found)
        raise ExperimentError(f"{name!r} may be {several} in {str(path.parent)!r}: name one of them")
    return found[0] if found else None


def digests(source: Source) -> dict[str, str]:
    """What the files of a source hold, by their names."""
    return {path.name: digest(path) for path in source.files()}


def digest(path: Path) -> str:
    """A hash of a file's content."""
    told = path.stat()
    return _digest(path, told.st_size, told.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _digest(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def load_data(data: Any, folder: Path, test_fraction: float = 0.25, seed: int = 0, standardize: Any = True,
              dtype: Any = np.float64) -> Data:  # fmt: skip
    """A source's rows to train on and rows held out.

    Where the source tells of none, ``test_fraction`` of the rows are drawn for those.  ``standardize``: dense columns
    get mean 0 and variance 1 on the rows trained on, sparse ones stay as they are; ``"largest"``: all are divided by
    the largest entry.
    """
    source = locate(as_source(data), folder)
    (X, y), *rest = source.tables()
    if rest:
        X_test, y_test = rest[0]
    else:
        chosen = np.random.default_rng(seed).permutation(y.shape[0])
        n_test = round(test_fraction * y.shape[0])
        rows, held_out = np.sort(chosen[n_test:]), np.sort(chosen[:n_test])
        X_test, y_test, X, y = X[held_out], y[held_out], X[rows], y[rows]
    if standardize == "largest" and X.shape[0]:
        largest = max(float(abs(X).max()), float(np.finfo(dtype).tiny))
        X, X_test = (A.astype(dtype) * dtype(1 / largest) if hasattr(A, "tocsr") else A.astype(dtype) / dtype(largest)
                     for A in (X, X_test))  # fmt: skip
    elif standardize and isinstance(X, np.ndarray) and len(X):
        centre, spread = X.mean(axis=0), X.std(axis=0)
        spread[spread == 0] = 1.0
        X, X_test = (X - centre) / spread, (X_test - centre) / spread
    X, X_test = X.astype(dtype, copy=False), X_test.astype(dtype, copy=False)
    files, sparse = source.files(), "sparse " if hasattr(X, "tocsr") else ""
    about = (f"{source.about}: {X.shape[0]:,} rows and {X.shape[1]:,} {sparse}features; held out: "
             f"{X_test.shape[0]:,} rows{f' of {files[1].name}' if len(files) > 1 else ''}")  # fmt: skip
    return Data(X, y, X_test, y_test, about)
