"""Tables in files: LIBSVM text, CSV, Parquet, NumPy archives, and archives of idx files as MNIST's."""

from __future__ import annotations

import bz2
import csv
import gzip
import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from .schema import ExperimentError, unknown

OPENERS: dict[str, Callable[..., Any]] = {".xz": lzma.open, ".bz2": bz2.open, ".gz": gzip.open}
DELIMITERS = (",", ";", "\t", None)  # None: any white space
LIBSVM_ENTRY = re.compile(r"\s\d+:\S")
IDX_KINDS = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
ARCHIVES = (".tar", ".tgz", ".tar.gz", ".tar.xz", ".tar.bz2")
Table = tuple[Any, np.ndarray]  # features and target


def read(path: Path, target: str | None = None) -> list[Table]:
    """The table of a file; a second one where the file, or one beside it (``a9a``, ``a9a.t``), brings rows held out.

    Parameters
    ----------
    path : Path
    target : str, optional
        The name of the target's column in CSV and Parquet files; the last one by default.
    """
    name = path.name.lower()
    try:
        if name.endswith(".npz"):
            tables = _read_npz(path)
        elif name.endswith((".parquet", ".pq")):
            tables = [_read_parquet(path, target)]
        elif name.endswith(ARCHIVES):
            tables = _read_idx(path)
        else:
            held_out = held_out_file(path)
            tables = read_tables([path] if held_out is None else [path, held_out], target)
    except (ValueError, KeyError, EOFError, csv.Error, lzma.LZMAError, zlib.error, zipfile.BadZipFile,
            tarfile.TarError) as error:  # fmt: skip
        if isinstance(error, ExperimentError):
            raise
        raise ExperimentError(f"{path.name}: {str(error).splitlines()[0]}") from None
    for X, y in tables:
        if X.ndim != 2 or y.ndim != 1 or X.shape[0] != len(y):
            raise ExperimentError(f"{path.name}: features {X.shape} and target {y.shape} do not fit")
        if X.shape[1] != tables[0][0].shape[1]:
            raise ExperimentError(f"{path.name} has {tables[0][0].shape[1]} features, the rows held out {X.shape[1]}")
    return tables


def held_out_file(path: Path) -> Path | None:
    """``a9a.t`` next to ``a9a``, compressed or not; the custom of the LIBSVM collection."""
    base = path.with_suffix("") if path.suffix in OPENERS else path
    names = (base.with_name(f"{base.name}.t{packed}") for packed in (path.suffix, "", *OPENERS))
    return next((name for name in names if name.is_file() and name != path), None)


def read_tables(paths: list[Path], target: str | None = None) -> list[Table]:
    """Features and target of each text file; LIBSVM files are told by their ``index:value`` pairs, others are CSV."""
    with _open(paths[0], "rt") as lines:
        libsvm = any(LIBSVM_ENTRY.search(line) for line in islice(lines, 10))
    if not libsvm:
        return [read_csv(path, target) for path in paths]
    from sklearn.datasets import load_svmlight_files

    files = [_open(path, "rb") for path in paths]
    try:
        flat = load_svmlight_files(files)
    finally:
        for file in files:
            file.close()
    return list(zip(flat[::2], flat[1::2], strict=True))


def read_csv(path: Path, target: str | None = None) -> Table:
    """All columns but the target as features; the target may be numbers, or words for classes.

    Words may stand in double quotes; nothing is a comment.
    """
    with _open(path, "rt") as lines:
        begin = [(at, line) for at, line in enumerate(islice(lines, 50)) if line.strip()] or [(0, "")]
    first = begin[0][1]
    delimiter = next((mark for mark in DELIMITERS if (mark or " ") in first and len(_words(first, mark)) > 1), None)
    names, *more = [_words(line, delimiter) for _, line in begin]
    if len(names) < 2:
        raise ExperimentError(f"{path.name}: one column; a table needs features and a target")
    if more and len(more[0]) != len(names):
        raise ExperimentError(f"{path.name}: {len(names)} words in the first line, {len(more[0])} in the next one; a "
                              "table begins with names of columns, or with numbers")  # fmt: skip
    header = sum(map(_is_number, names)) < len(names) - 1 or target in names
    at = len(names) - 1
    if target is not None:
        if not header or target not in names:
            raise unknown("column", f"{path.name}: {target}", target, names if header else ["(it has no header)"])
        at = names.index(target)
    if header and not more:
        raise ExperimentError(f"{path.name}: no rows but the header")
    words = not _is_number((more[0] if header else names)[at])
    skipped = begin[0][0] + header

    def table(kind: Any, usecols: Any) -> np.ndarray:
        with _open(path, "rt") as lines:
            return np.loadtxt(lines, kind, comments=None, delimiter=delimiter, skiprows=skipped, usecols=usecols,
                              ndmin=2, quotechar='"')  # fmt: skip

    features = [k for k in range(len(names)) if k != at]
    if words:
        return table(float, features), np.char.strip(table(str, [at])[:, 0], " \"'")
    numbers = table(float, None)
    return np.ascontiguousarray(np.delete(numbers, at, axis=1)), numbers[:, at]


def _words(line: str, delimiter: str | None) -> list[str]:
    """The words of a line of CSV, without their quotes."""
    words = next(csv.reader([line.strip("\r\n")], delimiter=delimiter or " ", skipinitialspace=True), [])
    return [word.strip(" \"'\t") for word in words if delimiter or word]


def _read_parquet(path: Path, target: str | None) -> Table:
    from pyarrow import ArrowException, parquet

    try:
        table = parquet.read_table(path)
    except ArrowException as error:
        raise ExperimentError(f"{path.name}: {str(error).splitlines()[0]}") from None
    names = table.column_names
    target = names[-1] if target is None and names else target
    if target not in names:
        raise unknown("column", f"{path.name}: {target}", str(target), names)
    columns = {name: table.column(name).to_numpy() for name in names}
    y = columns.pop(target)
    if bad := next((name for name, column in columns.items() if column.dtype.kind not in "biuf"), None):
        raise ExperimentError(f"{path.name}: the column {bad!r} is not of numbers: leave it out, or encode it")
    y = y if y.dtype.kind in "biuf" else y.astype(str)
    return np.column_stack([column.astype(float) for column in columns.values()]), y


def _read_npz(path: Path) -> list[Table]:
    """``X`` and ``y`` (``x_train``, ``y_train``), or ``data indices indptr shape`` of a CSR matrix and ``y``."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name.lower(): file[name] for name in file.files}
    if {"data", "indices", "indptr", "shape", "y"} <= set(arrays):
        from scipy.sparse import csr_matrix

        parts = arrays["data"].astype(float), arrays["indices"], arrays["indptr"]
        return [(csr_matrix(parts, shape=tuple(arrays["shape"].tolist())), arrays["y"])]
    for x, y in (("x", "y"), ("x_train", "y_train")):
        if {x, y} <= set(arrays):
            tables = [(arrays[x], arrays[y]), (arrays.get("x_test"), arrays.get("y_test"))]
            return [(X.reshape(len(X), -1), y) for X, y in tables if X is not None and y is not None]
    raise ExperimentError(f"{path.name} holds {', '.join(sorted(arrays)) or 'nothing'}; a table is X and y, or data, "
                          "indices, indptr, shape and y")  # fmt: skip


def _read_idx(path: Path) -> list[Table]:
    """Images and labels of MNIST's files, the ``t10k`` ones as rows held out."""
    with tarfile.open(path) as archive:
        found = {Path(member.name).name.removesuffix(".gz"): member for member in archive if member.isfile()}

        def array(part: str, what: str) -> np.ndarray:
            name = next((name for name in found if name.startswith(f"{part}-{what}")), None)
            file = archive.extractfile(found[name]) if name else None
            if name is None or file is None:
                raise ExperimentError(f"{path.name}: no {part}-{what}-idx file such as MNIST's in it")
            content = file.read()
            return parse_idx(gzip.decompress(content) if found[name].name.endswith(".gz") else content, name)

        parts = ["train"] + (["t10k"] if any(name.startswith("t10k-images") for name in found) else [])
        return [(X.reshape(len(X), -1), array(part, "labels"))
                for part, X in ((part, array(part, "images")) for part in parts)]  # fmt: skip


def parse_idx(content: bytes, name: str) -> np.ndarray:
    """The array of an idx file: two zeros, the kind of number, how many dimensions, their sizes, the numbers."""
    begin = 4 + 4 * content[3] if len(content) > 3 else 4
    if len(content) < begin or content[:2] != b"\0\0" or content[2] not in IDX_KINDS:
        raise ExperimentError(f"{name} is no idx file")
    sizes = np.frombuffer(content[4:begin], ">i4").astype(int)
    kind = np.dtype(IDX_KINDS[content[2]])
    if len(content) - begin != sizes.prod() * kind.itemsize:
        raise ExperimentError(f"{name}: an idx file of {sizes.tolist()} numbers has another length")
    return np.frombuffer(content, kind, offset=begin).reshape(sizes).astype(kind.newbyteorder("="))


def _open(path: Path, mode: str) -> Any:
    text = {"encoding": "utf-8-sig"} if "t" in mode else {}
    return OPENERS.get(path.suffix, open)(path, mode, **text)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
