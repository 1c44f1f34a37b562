"""How runs take steps: first-order rules, and methods that are no rules; one a file."""

from ._solver import SOLVERS, Job, solver_of
from .newton import Newton

__all__ = ["SOLVERS", "Job", "Newton", "solver_of"]
