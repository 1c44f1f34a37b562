"""What users bring: problems, rules, losses and schedules of their own, for files to name.

A plugin is a Python file named on the command line (``numbaopt run FILE --plugin MINE.py``), or an entry point of the
group ``numbaopt.experiments`` of an installed package, which names a module.  Importing it registers what it defines:
`problem` and `function` here, `numbaopt.rule`, `numbaopt.losses.loss`, `numbaopt.schedules.schedule`.  A study's file
itself never names code.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from .schema import ExperimentError, Limits

GROUP = "numbaopt.experiments"
PROBLEMS: dict[str, type[Limits]] = {}


def problem(cls: type[Limits]) -> type[Limits]:
    """Class decorator: the problem is known by its class's name in snake case."""
    name = "".join(f"_{c.lower()}" if c.isupper() else c for c in cls.__name__).lstrip("_")
    return register(name, cls)


def register(name: str, cls: type[Limits]) -> type[Limits]:
    """Let files name a problem; the same class of a file read again replaces itself."""
    taken = PROBLEMS.get(name)
    if taken is not None and (taken.__module__, taken.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(f"the name {name!r} is taken by {taken.__module__}.{taken.__qualname__}")
    PROBLEMS[name] = cls
    return cls


def load_plugins(files: Any = ()) -> None:
    """Import installed plugins, then these files; each once in a process, a changed file again.

    Raises
    ------
    ExperimentError
        If a file cannot be imported, or two have the same name; the sentence names it.
    """
    _load_installed()
    named: dict[str, Path] = {}
    for file in files:
        path = Path(file).expanduser().absolute()
        if named.setdefault(path.name, path).resolve() != path.resolve():
            raise ExperimentError(f"--plugin {file}: {named[path.name]} has the same name; rename one of them")
        try:
            _load_file(path, hashlib.sha256(path.read_bytes()).hexdigest())
        except OSError as error:
            raise ExperimentError(f"--plugin {file}: {(error.strerror or str(error)).lower()}") from None


def check_named(plugins: Any, spec: dict[str, Any]) -> None:
    """Refuse a run, of a folder that may come from anyone, whose code is in files other than these."""
    named = {Path(plugin).expanduser().resolve() for plugin in plugins}
    for plugin in spec["places"]["plugins"]:
        if Path(plugin).resolve() not in named:
            raise ExperimentError(f"its code is in {plugin}, which is only run where it is named, by --plugin")


@functools.cache
def _load_installed() -> None:
    for point in entry_points(group=GROUP):
        try:
            point.load()
        except Exception as error:
            raise ExperimentError(f"the plugin {point.name!r} ({point.value}) cannot be imported: "
                                  f"{type(error).__name__}: {error}") from None  # fmt: skip


@functools.cache
def _load_file(path: Path, digest: str) -> None:
    if path.suffix != ".py":
        raise ExperimentError(f"--plugin {path}: a plugin is a Python file (.py)")
    name = f"numbaopt_plugin_{path.stem}"
    spec: Any = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module  # NamedTuple classes and pickles look their module up
    try:
        # not from bytecode, which Python takes for that of a file of the same size and second
        code = spec.loader.source_to_code(spec.loader.get_data(str(path)), str(path))
        exec(code, module.__dict__)  # noqa: S102  named on the command line
    except Exception as error:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        raise ExperimentError(f"--plugin {path}: {type(error).__name__}: {error}") from None
