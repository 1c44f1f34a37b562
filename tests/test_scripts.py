"""The script for SLURM arrays, with stand-ins for Python and SLURM: what it starts, and what it does at the end."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "slurm_array"
pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(os.name == "nt" or shutil.which("bash") is None, reason="needs bash"),
]


@pytest.fixture
def submitted(tmp_path):
    """Start the script as SLURM would, with a program that runs the given shell code in the place of Python."""
    running = []

    def start(python, *files, task=0):
        (tmp_path / "bin").mkdir()
        (tmp_path / ".venv" / "bin").mkdir(parents=True)
        for path, code in ((".venv/bin/python", python), ("bin/scontrol", 'echo scontrol "$@"')):
            (tmp_path / path).write_text(f"#!/usr/bin/env bash\n{code}\n", encoding="utf-8")
            (tmp_path / path).chmod(0o755)
        environment = {
            **os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "SLURM_SUBMIT_DIR": str(tmp_path),
            "SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "3",
        }  # fmt: skip
        running.append(subprocess.Popen(["bash", SCRIPT, *files], env=environment, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT))  # fmt: skip
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_task_runs_its_own_study_with_its_cores(submitted):
    process = submitted('echo "$@"', "a.toml", "b c.toml", task=1)
    assert process.communicate(timeout=30)[0] == "-m numbaopt run b c.toml --jobs 3 --quiet\n"
    assert process.returncode == 0


@pytest.mark.parametrize("code", [1, 2])
def test_the_exit_code_of_a_study_comes_out(submitted, code):
    process = submitted(f"exit {code}", "a.toml")
    assert process.communicate(timeout=30)[0] == ""
    assert process.returncode == code


def test_more_tasks_than_studies_are_told(submitted):
    process = submitted("echo", "a.toml", task=1)
    assert "there are more tasks than studies" in process.communicate(timeout=30)[0]
    assert process.returncode == 1


def test_when_time_is_up_the_task_is_queued_again(submitted, tmp_path):
    study = f"trap 'exit 143' TERM; touch '{tmp_path / 'up'}'; for _ in {{1..300}}; do sleep 0.1; done"
    process = submitted(study, "a.toml")
    while not (tmp_path / "up").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30)[0] == "scontrol requeue 7_0\n"
    assert process.returncode == 0
