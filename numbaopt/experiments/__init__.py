"""Studies: every method on every problem of a TOML file, run anywhere, stored run by run; ``numbaopt run FILE``.

Needs ``numbaopt[all]``: pydantic checks the files, matplotlib draws, scikit-learn brings data.
"""

from .build import build
from .config import ExperimentError, Study, load
from .estimates import estimate
from .functions import function
from .registry import problem
from .runner import How, resume, run
from .store import Store
from .task import Task
from .tuning import Effort, tune

__all__ = [
    "Effort", "ExperimentError", "How", "Store", "Study", "Task", "build", "estimate", "function", "load",
    "problem", "resume", "run", "tune",
]  # fmt: skip
