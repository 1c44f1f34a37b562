"""Files that are read piece by piece, and must not change meanwhile."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

SAMPLES, SAMPLE = 64, 4096  # pieces of a file that its digest looks at, and their bytes


class File:
    """A file as it was when this was made.

    Files are read, never mapped: of a file that shrinks under a map, the operating system tells by a signal that kills
    the process, and a map counts against the limit of address space.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self._stamp = _stamp(os.stat(self.path))
        self.size = self._stamp[0]

    def __str__(self) -> str:
        return str(self.path)

    def open(self) -> Any:
        """The file, opened for reading bytes without a buffer."""
        file = open(self.path, "rb", buffering=0)  # noqa: SIM115  the caller closes it
        try:
            self._check_unchanged(file)
        except ValueError:
            file.close()
            raise
        return file

    def _check_unchanged(self, file: Any) -> None:
        if _stamp(os.fstat(file.fileno())) != self._stamp:
            raise ValueError(f"{self.path} has changed since the stream was opened; open it again")

    def read_into(self, memory: Any, offset: int) -> None:
        """Fill ``memory`` with the bytes from ``offset`` on."""
        view = memoryview(memory).cast("B")
        with self.open() as file:
            file.seek(offset)
            done = 0
            while done < len(view):
                count = file.readinto(view[done:])
                if not count:
                    self._check_unchanged(file)  # it may have been cut off while it was open here
                    raise ValueError(f"{self.path} is truncated: it ends at byte {offset + done}, "
                                     f"{len(view) - done} bytes too early")  # fmt: skip
                done += count

    def digest(self) -> str:
        """A short hash of the size and of pieces all over the file."""
        digest = hashlib.sha256(str(self.size).encode())
        last = max(self.size - SAMPLE, 0)
        with self.open() as file:
            for k in range(SAMPLES):
                file.seek(last * k // (SAMPLES - 1))
                digest.update(file.read(SAMPLE))
        return digest.hexdigest()[:12]


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns
