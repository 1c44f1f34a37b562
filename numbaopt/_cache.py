"""Compiled code on disk: one self-verifying file per compiled signature.

Numba's own cache keeps an index file and numbered data files without a lock, knows a function only by its own source
file, and never hits when a function closes over another compiled one.  Here the *name* of an entry is a hash of all
that determines its machine code (``fingerprint``, signature, target, versions), and its content carries a checksum.
Two processes can then only ever write the same thing under the same name, a stale entry is simply never looked for,
and a damaged one is dropped and compiled again.

A fingerprint covers what a function is made of: for the package's own functions the sources of the whole package
(a rule edited in one file must not live on in a loop cached from another), for a user's functions their bytecode,
constants and every global or closed-over value they use, down to the last helper.  Where that cannot be known for
sure, the function is compiled in every process and never stored.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import os
import pickle
import re
import secrets
import stat
import sys
import tempfile
import types as pytypes
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.core.bytecode import FunctionIdentity
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.dispatcher import Dispatcher
from numba.core.serialize import dumps
from numba.extending import _Intrinsic

PACKAGE = Path(__file__).resolve().parent
FORMAT = "numbaopt-cache-1"
FUNCTIONS = ("prepare", "update", "scale", "apply", "term", "finish", "after", "rate", "value", "slope", "curvature",
             "bend", "implicit_slope", "lipschitz")  # of rules, transforms, schedules and losses
KNOWN_MODULES = {"builtins", "cmath", "math", "numba", "numbaopt", "numpy", "operator"}


def _number_anew() -> None:
    """Let the names of functions compiled from now on be those of no other process.

    A name ends with a number that Numba counts from 1.  Where one process loads what several have written, names must
    tell functions apart: the code found by a name is the first that was loaded.
    """
    FunctionIdentity._unique_ids = itertools.count(secrets.randbits(62))


_number_anew()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_number_anew)


class UnknownError(Exception):
    """What a function depends on cannot be told; its machine code must not outlive the process."""


@functools.cache
def package_stamp() -> str:
    """Hash of all of the package's Python sources."""
    digest = hashlib.sha256()
    for file in sorted(PACKAGE.rglob("*.py")):
        digest.update(str(file.relative_to(PACKAGE)).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def fingerprint(function: Any) -> str:
    """Hash of everything that decides what a function computes or a type means.

    Raises `UnknownError` where that cannot be told.
    """
    digest = hashlib.sha256()
    for word in _describe(function, {}):
        digest.update(word.encode())
        digest.update(b"\0")
    return digest.hexdigest()


def _describe(value: Any, seen: dict[int, int], foreign: bool = False):
    """Yield words that describe ``value``; ``foreign`` is true inside functions that are not the package's own."""
    if value is None or value is Ellipsis or isinstance(value, (bool, int, float, complex, str, bytes)):
        yield f"{type(value).__name__} {value!r}"
    elif isinstance(value, (np.ndarray, np.generic)) and not value.dtype.hasobject:
        array = np.asarray(value)
        yield f"array {array.dtype.str} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}"
    elif isinstance(value, (tuple, frozenset)):
        yield f"{type(value).__module__}.{type(value).__qualname__} {len(value)}"
        for item in sorted(value, key=repr) if isinstance(value, frozenset) else value:
            yield from _describe(item, seen, foreign)
        if hasattr(value, "_fields"):
            yield from _describe(type(value), seen, foreign)
    elif isinstance(value, Dispatcher):
        options = {k: sorted(v) if isinstance(v, (set, frozenset)) else v for k, v in value.targetoptions.items()}
        yield f"jitted {sorted(options.items(), key=str)}"
        yield from _describe_function(value.py_func, seen)
    elif isinstance(value, pytypes.CodeType):
        yield value.co_code.hex()
        yield " ".join((*value.co_names, "/", *value.co_varnames, "/", *value.co_freevars))
        for constant in value.co_consts:
            yield from _describe(constant, seen, foreign)
    elif isinstance(value, pytypes.FunctionType) and not foreign:
        yield from _describe_function(value, seen)
    elif isinstance(value, pytypes.ModuleType) and value.__name__.partition(".")[0] in KNOWN_MODULES:
        yield f"module {value.__name__}"
    elif isinstance(value, numba.core.types.Dispatcher):
        yield from _describe(value.dispatcher, seen, foreign)
    elif isinstance(value, numba.core.types.Type):
        yield f"type {value}"  # of a named tuple without its fields
        if isinstance(value, numba.core.types.BaseNamedTuple):
            yield from _describe(value.instance_class, seen, foreign)
        if isinstance(value, numba.core.types.BaseTuple):
            for item in value:
                yield from _describe(item, seen, foreign)
    elif isinstance(value, _Intrinsic):
        yield from _describe_function(value._defn, seen)
    elif _is_named(value):
        yield f"name {value.__module__}.{value.__name__}"
    elif isinstance(value, type) and issubclass(value, tuple) and hasattr(value, "_fields"):
        yield f"namedtuple {value.__module__}.{value.__qualname__} {value._fields}"
        yield from _describe(tuple(value._field_defaults.values()), seen, foreign)
        for name in ("slots", *FUNCTIONS):
            if hasattr(value, name):
                yield from _describe(getattr(value, name), seen, False)
    elif isinstance(value, np.ufunc):
        yield f"ufunc {value.__name__}"
    else:
        raise UnknownError(f"{type(value).__name__} {value!r}")


def _is_named(value: Any) -> bool:
    """Whether a known module and a name in it lead to ``value``."""
    module, name = getattr(value, "__module__", None), getattr(value, "__name__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module.partition(".")[0] not in KNOWN_MODULES:
        return False
    return getattr(sys.modules.get(module), name, None) is value


def _describe_function(function: pytypes.FunctionType, seen: dict[int, int]):
    if id(function) in seen:
        yield f"function {seen[id(function)]} of those above"
        return
    seen[id(function)] = len(seen)
    own = (function.__module__ or "").partition(".")[0] == "numbaopt"
    yield f"function {function.__module__}.{function.__qualname__}"
    if own:
        yield package_stamp()
    else:
        yield from _describe(function.__code__, seen, True)
        for name in sorted(_global_names(function.__code__) & function.__globals__.keys()):
            yield name
            yield from _describe(function.__globals__[name], seen, True)
    yield from _describe(function.__defaults__, seen, not own)
    for cell in function.__closure__ or ():
        yield from _describe(cell.cell_contents, seen, not own)


def _global_names(code: pytypes.CodeType) -> set[str]:
    inner = (c for c in code.co_consts if isinstance(c, pytypes.CodeType))
    return set(code.co_names).union(*map(_global_names, inner))


def _usable(folder: Path) -> bool:
    """Whether compiled code may be kept in ``folder``: it can be written, and by nobody whom we do not trust."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.name == "posix" and folder.stat().st_mode & stat.S_IWOTH:
            return False
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


@functools.cache
def folder() -> Path | None:
    """Where compiled code is kept: ``NUMBA_CACHE_DIR``, else beside the package, else the user's cache folder."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    candidates = [Path(chosen).absolute() / "numbaopt"] if chosen else [PACKAGE / "__pycache__"]
    if not chosen:
        from numba.misc.appdirs import AppDirs

        candidates.append(Path(AppDirs(appname="numbaopt", appauthor=False).user_cache_dir))
    for candidate in candidates:
        if candidate.is_absolute() and _usable(candidate):
            return candidate
    tried = " and ".join(map(str, candidates))
    warnings.warn(
        f"numbaopt keeps no compiled code: {tried} cannot be written, or anybody may write there. "
        "Every process will compile anew; set NUMBA_CACHE_DIR to a folder of your own.",
        RuntimeWarning,
        stacklevel=2,
    )
    return None


def _kinds(signature: Any) -> tuple[Any, ...]:
    """The types in what Numba calls a signature: a tuple of types when it looks, a signature when it stores."""
    return tuple(signature.args) if hasattr(signature, "args") else tuple(signature)


class DiskCache(_Cache):
    """The cache of one dispatcher, in the form that Numba's ``Dispatcher`` asks for."""

    def __init__(self, py_func: Callable[..., Any], options: Any):
        self._name = re.sub(r"\W+", "_", f"{py_func.__module__}.{py_func.__qualname__}")[-80:]
        self._py_func, self._options = py_func, repr(options)

    @property
    def cache_path(self) -> str:
        return str(folder())

    def enable(self) -> None: ...

    def disable(self) -> None: ...

    def flush(self) -> None:
        where = folder()
        for file in where.glob(f"{self._name}-*.nbo") if where else ():
            file.unlink(missing_ok=True)

    def _file(self, signature: Any, codegen: Any) -> Path | None:
        where = folder()
        if where is None or self._py_func.__module__ not in sys.modules:  # Numba could not load it again
            return None
        try:  # anew for every signature: Numba freezes a global when it compiles
            made_of = fingerprint(self._py_func), *(fingerprint(kind) for kind in _kinds(signature))
        except UnknownError:
            return None
        key = (FORMAT, package_stamp(), numba.__version__, np.__version__, sys.version, codegen.magic_tuple(),
               self._options, made_of)  # fmt: skip
        return where / f"{self._name}-{hashlib.sha256(repr(key).encode()).hexdigest()[:32]}.nbo"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        target_context.refresh()
        file = self._file(sig, target_context.codegen())
        try:
            blob = file.read_bytes() if file else b""
        except OSError:
            return None
        if not file:
            return None
        try:
            if hashlib.sha256(blob[32:]).digest() != blob[:32]:
                raise ValueError("checksum")
            return CompileResult._rebuild(target_context, *pickle.loads(blob[32:]))
        except Exception as error:  # whatever is wrong with an entry, the remedy is the same
            warnings.warn(
                f"numbaopt: {file.name} in the compile cache is damaged ({error}); it is dropped and compiled again.",
                RuntimeWarning,
                stacklevel=2,
            )
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        file = self._file(sig, data.library.codegen)
        if file is None or data.library.has_dynamic_globals or any(not lifted.can_cache for lifted in data.lifted):
            return
        reduced = data._reduce()
        if any(found.globals.get("__name__") not in sys.modules for found in (reduced[2], *reduced[-1])):
            return  # it calls code that stands in no module, which Numba could not load again
        payload = dumps(reduced)
        temporary = None
        try:
            with tempfile.NamedTemporaryFile(dir=file.parent, prefix=".", suffix=".tmp", delete=False) as temporary:
                temporary.write(hashlib.sha256(payload).digest() + payload)
            os.replace(temporary.name, file)
        except OSError as error:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    os.unlink(temporary.name)
            warnings.warn(f"numbaopt: compiled code could not be kept: {error}.", RuntimeWarning, stacklevel=2)
