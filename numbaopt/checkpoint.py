"""A run on disk: one npz file without pickles, written whole or not at all, with a version and a checksum."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from . import transforms
from ._fields import nearest
from ._schedule import SCHEDULES
from .loops.state import NOW, RECORD, Run
from .optimizers._rule import OPTIMIZERS
from .optimizers.after import AFTER
from .optimizers.combined import MAKERS
from .schedules import Plateau
from .solvers import SOLVERS

FORMAT = "numbaopt-checkpoint-5"


def describe(value: Any) -> Any:
    """An optimizer, transform or schedule as JSON-able data; `revive` is the way back."""
    if hasattr(value, "describe"):  # of a combined rule, what it is made of
        return {k: v if k == "class" else describe(v) for k, v in value.describe().items()}
    if hasattr(value, "_fields"):
        return {"class": type(value).__name__, **{k: describe(v) for k, v in zip(value._fields, value, strict=True)}}
    if isinstance(value, tuple):
        return [describe(item) for item in value]
    if value is not None and not isinstance(value, (bool, int, float)):
        raise ValueError(f"lr={value!r} cannot be written to a checkpoint; use a schedule from numbaopt.schedules")
    return value


def revive(data: Any) -> Any:
    """The object that `describe` told of; only optimizers, transforms and schedules that are known come to life."""
    if isinstance(data, list):
        return tuple(map(revive, data))
    if not isinstance(data, dict):
        return data
    fields = {k: revive(v) for k, v in data.items() if k != "class"}
    name = str(data.get("class"))
    if name == "Chain":
        return transforms.chain(*fields["parts"])
    if name in MAKERS:
        return MAKERS[name](**fields)
    solvers = {cls.__name__.lower(): cls for cls in SOLVERS.values()}
    classes = {**transforms.TRANSFORMS, **AFTER, **SCHEDULES, **OPTIMIZERS, **solvers}
    if name.lower() not in classes:
        raise ValueError(f"{name!r} is not known here (import the module that defines it); {nearest(name, OPTIMIZERS)}")
    return classes[name.lower()](**fields)


def _digest(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


def write_atomically(path: Path, write: Any) -> None:
    """Let ``write(file)`` fill a new file beside ``path`` and put it in its place in one move."""
    path = Path(os.path.realpath(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: there is no folder {path.parent}")
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as temporary:
        try:
            write(temporary)
            temporary.flush()
            os.fsync(temporary.fileno())
        except BaseException:
            os.unlink(temporary.name)
            raise
    os.replace(temporary.name, path)


def save(path: str | os.PathLike, run: Run, settings: dict[str, Any]) -> None:
    """Write a run and the ``settings`` (JSON-able) that its continuation needs."""
    arrays = {name: np.asarray(value) for name, value in run._asdict().items()}
    arrays["settings"] = np.frombuffer(json.dumps({"format": FORMAT, **settings}).encode(), np.uint8)
    arrays["digest"] = np.frombuffer(_digest(arrays).encode(), np.uint8)
    write_atomically(Path(path), lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]


def _is_run(run: Run) -> bool:
    """Whether compiled code, which checks nothing, may be given these arrays."""
    n, dtype = run.x.size, run.x.dtype
    shapes = {"x": (n,), "g": (n,), "work": (n,), "best": (n,), "state": (len(run.state), n), "now": (1,),
              "extra": (run.extra.size,),
              "history": (2 * max(1, run.history.size // 2),)}  # fmt: skip
    dtypes = {"now": NOW, "history": RECORD, "extra": np.dtype(float)}
    for name, array in run._asdict().items():
        shape = shapes.get(name, (n,) if array.size else (0,))  # previous, lower and upper may be empty
        if array.shape != shape or array.dtype != dtypes.get(name, dtype) or not array.flags.c_contiguous:
            return False
    now = run.now[0]
    least = {"step": 0, "evaluations": 0, "stride": 1, "due": 0, "calm": 0, "calm_steps": 1}
    fits = (-1 <= now["shown"] < len(run.state) and 0 <= now["penalised"] <= n and now["outputs"] >= 1
            and now["penalised"] % now["outputs"] == 0 and 0 <= now["origin"] <= now["step"])  # fmt: skip
    return (fits and dtype in (np.float32, np.float64) and n > 0 and run.lower.size == run.upper.size
            and 0 <= now["records"] <= run.history.size and all(now[k] >= v for k, v in least.items()))  # fmt: skip


def _are_settings(settings: dict[str, Any]) -> bool:
    def numbers(name: str, count: int, *kinds: type) -> bool:
        value = settings.get(name)
        return isinstance(value, list) and len(value) == count and all(type(item) in kinds for item in value)

    batches = settings.get("batches", ())
    if batches is not None and not (
        numbers("batches", 7, int, bool) and min(batches) >= 0 and 1 <= batches[1] <= batches[0] and batches[5] >= 1
    ):
        return False
    if not (isinstance(settings.get("after"), list) and numbers("waited", 3, int, float)):
        return False
    return (numbers("limits", 5, int, float) and type(settings["limits"][0]) is int
            and numbers("plateau", len(Plateau._fields), int, float) and type(settings.get("seconds")) is float
            and isinstance(settings.get("optimizer"), dict) and "model" in settings)  # fmt: skip


def load(path: str | os.PathLike) -> tuple[Run, dict[str, Any]]:
    """Read a run and its settings; raises ValueError naming the file where it is not a whole, known checkpoint."""
    try:
        with open(path, "rb") as stream:
            file = np.load(stream, allow_pickle=False)
            arrays = {name: file[name] for name in getattr(file, "files", ())}  # of a .npy file it is an array
        if not {"digest", "settings"} <= set(arrays):
            raise ValueError("it is no checkpoint of numbaopt")
        told = bytes(arrays.pop("digest")).decode()
        settings = json.loads(bytes(arrays["settings"]))
        if not isinstance(settings, dict) or settings.get("format") != FORMAT:
            raise ValueError(f"its format is {settings.get('format') if isinstance(settings, dict) else settings!r}, "
                             f"this version reads {FORMAT}")  # fmt: skip
        if told != _digest(arrays):
            raise ValueError("its checksum does not match")
        del arrays["settings"]
        if set(arrays) != set(Run._fields) or not _is_run(Run(**arrays)):
            raise ValueError("its arrays are not those of a run")
        if not _are_settings(settings):
            raise ValueError("its settings are not those of a run")
    except FileNotFoundError:
        raise
    except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        if "pickle" in str(error):
            error = ValueError("it is no checkpoint of numbaopt")
        raise ValueError(f"{os.fspath(path)} is not a usable checkpoint: {error}") from None
    for name in ("now", "history"):
        arrays[name] = arrays[name].view(np.dtype((np.record, arrays[name].dtype)))
    return Run(**arrays), settings
