"""How runs take steps: first-order rules, and methods that are no rules; one a file."""

from ._solver import SOLVERS, Job, solver_of
from .auto import choose
from .dual import SDCA
from .lbfgs import LBFGS
from .levenberg_marquardt import LM
from .multipliers import SSNAL
from .newton import Newton
from .variance_reduced import SAG, SAGA, SVRG

__all__ = ["LBFGS", "LM", "SAG", "SAGA", "SDCA", "SOLVERS", "SSNAL", "SVRG", "Job", "Newton", "choose", "solver_of"]
