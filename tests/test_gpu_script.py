"""The script for a machine with a GPU, with a stand-in for Python: what it runs, what it keeps, how it ends."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "gpu"
pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(os.name == "nt" or shutil.which("timeout") is None, reason="needs bash and timeout"),
]
STANDS_IN = """#!/usr/bin/env bash
echo "ran $*"
case "$*" in
    *{failing}*) exit 3 ;;
    *--markdown*) printf 'words\\n**A title**\\n| a | b |\\n- a note\\n' ;;
esac
"""


def ran(tmp_path, *arguments, failing="nothing"):
    python = tmp_path / "python"
    python.write_text(STANDS_IN.format(failing=failing), encoding="utf-8")
    python.chmod(0o755)
    done = subprocess.run(["bash", SCRIPT, tmp_path / "logs", *arguments], env={**os.environ, "PYTHON": str(python)},
                          text=True, capture_output=True, timeout=60)  # fmt: skip
    return done.returncode, [line for line in done.stdout.splitlines() if line.startswith("ran ")], done.stdout


def test_a_machine_that_cannot_be_used_is_told_first(tmp_path):
    status, calls, _ = ran(tmp_path, failing="benchmarks.gpu")
    assert (status, calls) == (1, ["ran -m benchmarks.gpu"])


def test_what_fails_costs_no_other_and_tables_are_kept(tmp_path):
    status, calls, said = ran(tmp_path, failing="pytest")
    assert status == 1
    assert len(calls) == 8
    assert "-m gpu tests/test_cuda_gpu.py" in calls[1]
    assert calls[2] == "ran -m benchmarks gpu.fits --markdown"
    assert said.splitlines()[-1].startswith("Failed: tests. Tables: ")
    assert (tmp_path / "logs/tables.md").read_text().splitlines() == 6 * ["**A title**", "| a | b |", "- a note"]
    assert "words" in (tmp_path / "logs/sums.log").read_text()


def test_parts_are_chosen(tmp_path):
    status, calls, said = ran(tmp_path, "steps", "sums")
    assert (status, [call.split()[3] for call in calls[1:]]) == (0, ["gpu.steps", "gpu.sums"])
    assert "Failed: none" in said


def test_it_knows_the_parts_of_the_benchmark():
    from benchmarks.__main__ import GPU

    line = next(line for line in SCRIPT.read_text().splitlines() if "parts=(tests" in line)
    assert sorted(line.partition("parts=(tests ")[2].rstrip(")").split()) == sorted(GPU)
