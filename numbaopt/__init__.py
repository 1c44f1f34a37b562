"""numbaopt: optimization for people who live in NumPy, SciPy and Numba.

>>> import numpy as np, numba, numbaopt as no
>>> bowl = numba.njit(lambda x: ((x - 3) ** 2).sum())
>>> no.minimize(bowl, np.zeros(2), method="adam", options=dict(lr=0.1)).x.round(4)
array([3., 3.])
"""

from . import compiled as compiled
from . import fits as fits
from . import losses, schedules, stream, transforms
from .least_squares import least_squares
from .lr_finder import lr_finder
from .many import minimize_many
from .methods import methods
from .minimize import minimize
from .multistart import multistart
from .optimizers import (
    SGD,
    SWATS,
    AdaBelief,
    Adadelta,
    AdaGrad,
    Adam,
    Adamax,
    AdamW,
    Adan,
    AMSGrad,
    Lion,
    Momentum,
    NAdam,
    Nesterov,
    RAdam,
    RMSprop,
    Rprop,
    Yogi,
    rule,
)
from .optimizers.combined import Lookahead, Switch
from .optimizers.step import init_state, step
from .problems.finite_sum import FiniteSum
from .problems.linear_model import LinearModel
from .resume import resume
from .solvers import BFGS, CG, LBFGS, LBFGSB, LM, SAG, SAGA, SDCA, SSNAL, SVRG, NelderMead, Newton, TrustNCG

__version__ = "0.1.0"
_DERIVATIVES = ("check_grad", "derivative_rule", "grad", "hessian", "hvp", "jacobian", "value_and_grad")
__all__ = [
    "BFGS", "CG", "LBFGS", "LBFGSB", "LM", "SAG", "SAGA", "SDCA", "SGD", "SSNAL", "SVRG", "SWATS", "AMSGrad",
    "AdaBelief", "AdaGrad", "Adadelta", "Adam", "AdamW", "Adamax", "Adan", "FiniteSum", "LinearModel", "Lion",
    "Lookahead", "Momentum", "NAdam", "NelderMead", "Nesterov", "Newton", "RAdam", "RMSprop", "Rprop", "Switch",
    "TrustNCG", "Yogi", "init_state", "least_squares", "losses", "lr_finder", "methods", "minimize", "minimize_many",
    "multistart", "resume", "rule", "schedules", "step", "stream", "transforms", *_DERIVATIVES,
]  # fmt: skip


def __getattr__(name: str):
    """What is large, or changes Numba a little, is imported when it is first asked for."""
    if name in ("cuda", "linear_model", "plotting"):
        from importlib import import_module

        return import_module(f".{name}", __name__)
    if name in (*_DERIVATIVES, "autodiff"):
        from .exact import autodiff

        return autodiff if name == "autodiff" else getattr(autodiff, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_DERIVATIVES, "autodiff", "cuda", "plotting"})  # linear_model may lack scikit-learn
