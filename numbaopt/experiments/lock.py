"""Who writes a study: one process at a time, named in a file of its folder."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .schema import ExperimentError

try:
    import fcntl
except ImportError:  # Windows: the file says who holds it, and nothing else does
    fcntl = None  # type: ignore[assignment]

FILE = "study.lock"


class Lock:
    """The right to write a study, for the time of a ``with``.

    The system takes the lock from a process that ends, however it ends.  Where it cannot tell (a holder on another
    machine, a file system without locks), the file is believed.

    Raises
    ------
    ExperimentError
        Where another process holds it, which the sentence names.

    Examples
    --------
    >>> import tempfile
    >>> from numbaopt.experiments.lock import Lock
    >>> folder = tempfile.mkdtemp()
    >>> with Lock(folder):
    ...     try:
    ...         Lock(folder).__enter__()
    ...     except ValueError as error:
    ...         print("is held by process" in str(error))
    True
    """

    def __init__(self, folder: str | os.PathLike):
        self.path = Path(folder) / FILE
        self.handle = -1

    def __enter__(self) -> Lock:
        try:
            self.handle = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
            if not stat.S_ISREG(os.fstat(self.handle).st_mode):
                raise ExperimentError(f"{self.path} is not a file")
        except OSError as error:
            self._close()
            if self.path.is_symlink():
                raise ExperimentError(f"{self.path} is a symbolic link; name the place itself") from None
            raise ExperimentError(f"{self.path}: {(error.strerror or str(error)).lower()}") from None
        try:
            self._take()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        with contextlib.suppress(OSError):
            os.ftruncate(self.handle, 0)
        self._close()

    def _take(self) -> None:
        locked = fcntl is not None
        if fcntl is not None:
            try:
                fcntl.flock(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self._held(self._holder()) from None
            except OSError:  # no locks here
                locked = False
        holder = self._holder()
        elsewhere = holder.get("host", socket.gethostname()) != socket.gethostname()
        if holder and (elsewhere or (not locked and _lives(holder.get("pid")))):
            raise self._held(holder)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        told = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": now})
        try:
            os.ftruncate(self.handle, 0)
            os.pwrite(self.handle, told.encode(), 0)
        except OSError as error:
            raise ExperimentError(f"{self.path}: {(error.strerror or str(error)).lower()}") from None

    def _holder(self) -> dict[str, Any]:
        """What the file says; nothing where it says nothing that can be read."""
        try:
            told = json.loads(os.pread(self.handle, 4096, 0) or b"{}")
            return told if isinstance(told, dict) else {}
        except (ValueError, OSError):
            return {}

    def _held(self, holder: dict[str, Any]) -> ExperimentError:
        who = f"process {holder.get('pid', 'unknown')} on {holder.get('host', 'this machine')}"
        since = f" since {holder['since']}" if "since" in holder else ""
        return ExperimentError(f"{self.path.parent} is held by {who}{since}; wait for it, or, if it no longer runs, "
                               f"delete {self.path}")  # fmt: skip

    def _close(self) -> None:
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1


def _lives(pid: Any) -> bool:
    """Whether a process of this machine runs; where it cannot be known, yes."""
    if not isinstance(pid, int) or pid <= 0:
        return False
    if os.name == "nt":  # a signal would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
