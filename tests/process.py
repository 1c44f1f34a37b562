"""Runs code in other Python processes that see the same package."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numbaopt


def environment(**names):
    """The environment of a process that sees the same package."""
    return {**os.environ, "PYTHONPATH": str(Path(numbaopt.__file__).resolve().parents[1]), **names}


def start(code, *arguments, package=None, **environment):
    """Start Python on ``code``; ``package`` is the folder to import numbaopt from, None in the environment unsets."""
    root = package or Path(numbaopt.__file__).resolve().parents[1]
    names = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment, "PYTHONPATH": str(root)}
    command = [sys.executable, "-P", "-W", "always::RuntimeWarning", "-c", textwrap.dedent(code), *map(str, arguments)]
    names = {name: str(value) for name, value in names.items() if value is not None}
    return subprocess.Popen(command, env=names, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    """What the process printed, and its warnings; it must not fail."""
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, f"exit status {process.returncode}: {errors[-2000:]}"
    return out, errors


def python(code, *arguments, **options):
    """What ``code`` prints, by words."""
    return finish(start(code, *arguments, **options))[0].split()
