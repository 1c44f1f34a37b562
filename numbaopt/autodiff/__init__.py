"""Exact derivatives of unmodified jitted functions, in compiled code, in forward and reverse mode.

The package imports nothing but NumPy and Numba.  Functions may use

* arithmetic, comparisons, loops, branches, recursion, tuples, lists, closures, other jitted functions;
* ``math``; NumPy's ufuncs of reals, array expressions, slices, masks and temporaries;
* ``np.dot``, ``@``, sums, means, products, extrema, norms, ``where``, ``sort``, ``concatenate`` and their like;
* medians, quantiles, ``interp``, ``convolve``, ``linspace``, ``cross``, ``cov``, ``clip``, ``round``, ``nansum``, ...;
* ``np.linalg``: ``solve``, ``inv``, ``det``, ``slogdet``, ``cholesky``, ``norm``;
* whatever `derivative_rule` gives a derivative for.

Integers and truth values (``argsort``, ``searchsorted``, comparisons) have no derivative; of kinks and jumps
`numbaopt.autodiff.kinks` tells.  Anything else is refused when it is compiled, by a sentence: a derivative is never
dropped silently.  It works by types (``numbers.py``): a twin of the function (``clone.py``) is compiled for numbers
that carry derivatives along (``Dual``) or note on a tape what they were made of (``Taped``).
"""

from . import (  # noqa: F401
    arrays,
    cholesky,
    creation,
    elementwise,
    expressions,
    linalg,
    order,
    patches,
    products,
    reductions,
    scalars,
    sequences,
)
from .check import GradientCheck, check_grad
from .custom import derivative_rule
from .derivative import Derivative
from .errors import UnsupportedError
from .gradients import grad, hessian, hvp, jacobian, value_and_grad, value_and_jacobian

__all__ = [
    "Derivative", "GradientCheck", "UnsupportedError", "check_grad", "derivative_rule", "grad", "hessian", "hvp",
    "jacobian", "value_and_grad", "value_and_jacobian",
]  # fmt: skip
