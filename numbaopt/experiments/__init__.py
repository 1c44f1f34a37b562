"""Declared experiments: every method on every problem of a TOML file, with tables and pictures; ``numbaopt run FILE``.

Needs ``numbaopt[all]``: pydantic checks the files, matplotlib draws, scikit-learn brings data.
"""

from .build import build
from .config import Experiment, ExperimentError, Study, load
from .runner import How, resume, run

__all__ = ["Experiment", "ExperimentError", "How", "Study", "build", "load", "resume", "run"]
