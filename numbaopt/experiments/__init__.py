"""Declared experiments: every method on every problem of a TOML file, with tables and pictures; ``numbaopt run FILE``.

Needs ``numbaopt[all]``: pydantic checks the files, matplotlib draws, scikit-learn brings data.
"""

from .build import build
from .config import Experiment, ExperimentError, Study, load
from .estimates import estimate
from .functions import function
from .registry import problem
from .runner import run
from .task import Task

__all__ = ["Experiment", "ExperimentError", "Study", "Task", "build", "estimate", "function", "load", "problem", "run"]
