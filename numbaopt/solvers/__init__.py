"""How runs take steps: first-order rules, and methods that are no rules; one a file."""

from ._solver import SOLVERS, Job
from .auto import choose
from .bfgs import BFGS
from .conjugate_gradients import CG
from .dual import SDCA
from .first_order import solver_of
from .lbfgs import LBFGS, LBFGSB
from .levenberg_marquardt import LM
from .multipliers import SSNAL
from .newton import Newton
from .simplex import NelderMead
from .trust_region import TrustNCG
from .variance_reduced import SAG, SAGA, SVRG

__all__ = [
    "BFGS", "CG", "LBFGS", "LBFGSB", "LM", "SAG", "SAGA", "SDCA", "SOLVERS", "SSNAL", "SVRG", "Job", "NelderMead",
    "Newton", "TrustNCG", "choose", "solver_of",
]  # fmt: skip
