"""What a result should tell of where it comes from: versions, machine, code, load."""

from __future__ import annotations

import functools
import os
import platform
import socket
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numba

PACKAGES = ("numbaopt", "numba", "numpy", "scipy", "scikit-learn")
SPARE = 0.5  # processes that run anyway


def about(own: int, share: int = 1) -> dict[str, Any]:
    """Of a run that begins now, where ``own`` processes of ours compute and this one makes ``share`` runs at once.

    ``timed`` tells whether its time means anything: nobody else computed on the cores that it had.
    """
    load, cores = load_average(), available_cores()
    others = 0.0 if load is None else max(0.0, load - own)
    timed = share == 1 and own + others <= cores + SPARE
    return {**_machine(), "threads": numba.get_num_threads(), "cores": cores, "load": load, "processes": own,
            "timed": timed, **({"batched": share} if share > 1 else {}),
            "started": datetime.now(UTC).isoformat(timespec="seconds")}  # fmt: skip


def load_average() -> float | None:
    """Processes that computed or waited to, over the last minute; None where the system does not tell."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def _machine() -> dict[str, Any]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package.replace("-", "_")] = version(package)
        except PackageNotFoundError:
            pass
    return {**versions, "python": platform.python_version(), "system": f"{platform.system()} {platform.release()}",
            "cpu": _cpu(), "host": socket.gethostname()}  # fmt: skip


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@functools.cache
def commit(folder: str) -> str:
    """The git commit that a folder is in, with ``+`` where tracked files differ from it; nothing outside of git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", folder, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        name = git("rev-parse", "HEAD")
        return name + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return ""
