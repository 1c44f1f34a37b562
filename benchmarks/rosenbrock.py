"""One iteration of Adam on the two-dimensional Rosenbrock function inside ``minimize``, its gradient jitted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
import scipy.optimize

import numbaopt as no

from .report import OURS, Case, Faster, Table, optional
from .timing import race

START = np.array([-1.2, 1.0])
RATE = 1e-9  # so small that nothing converges
JAX, SCIPY = "JAX scan", "SciPy L-BFGS-B"


@numba.njit
def rosen(x):
    """The objective."""
    return 100.0 * (x[1] - x[0] ** 2) ** 2 + (1.0 - x[0]) ** 2


@numba.njit
def rosen_grad(x):
    """Its gradient, a new array."""
    slope = x[1] - x[0] ** 2
    return np.array([-400.0 * x[0] * slope - 2.0 * (1.0 - x[0]), 200.0 * slope])


@numba.njit
def rosen_pair(x):
    """Both; the gradient as a tuple, which takes no memory."""
    slope, rest = x[1] - x[0] ** 2, 1.0 - x[0]
    return 100.0 * slope**2 + rest**2, (-400.0 * x[0] * slope - 2.0 * rest, 200.0 * slope)


def run(quick: bool = False) -> Iterator[Table]:
    """The tables."""
    notes: list[str] = []
    steps = 20_000 if quick else 1_000_000
    against, evaluations = peers(steps, notes)
    goals = (Faster(2.0, (JAX,)), Faster(100.0, (SCIPY,)))
    cases = []
    for name, fun, jac in (("jac=rosen_grad, returns an array", rosen, rosen_grad),
                           ("jac=True, returns (fun, tuple)", rosen_pair, True)):  # fmt: skip
        units = {OURS: steps, JAX: steps, SCIPY: evaluations}
        contestants = {OURS: ours(fun, jac, steps), **against}
        cases.append(Case(name, race(contestants, 3 if quick else 11, units=units), goals))
    notes.append(f"{steps:,} steps; {JAX}: over value_and_grad and optax.adam, jitted as a whole; {SCIPY}: a run over "
                 f"its {evaluations} evaluations, calls of the same jitted functions.")  # fmt: skip
    yield Table("One iteration of Adam on 2-D Rosenbrock, objective and gradient", cases, notes)


def ours(fun: Any, jac: Any, steps: int) -> Callable[[], Any]:
    """`numbaopt.minimize` for so many steps."""
    options = {"maxiter": steps, "gtol": 0.0}
    return lambda: no.minimize(fun, START, method=no.Adam(lr=RATE), jac=jac, options=options)


def peers(steps: int, notes: list[str]) -> tuple[dict[str, Callable[[], Any]], int]:
    """JAX's scan of as many steps, and SciPy's minimizer with the number of its evaluations."""

    def scipy_run() -> Any:
        return scipy.optimize.minimize(rosen, START, jac=rosen_grad, method="L-BFGS-B")

    found = {SCIPY: scipy_run}
    if (jax := optional("jax", notes)) and (optax := optional("optax", notes)):
        jax.config.update("jax_enable_x64", True)
        opt = optax.adam(RATE)
        pair = jax.value_and_grad(rosen.py_func)

        def body(stand, _):
            x, state, best = stand
            fun, g = pair(x)
            updates, state = opt.update(g, state)
            return (optax.apply_updates(x, updates), state, jax.numpy.minimum(best, fun)), None

        def loop(x):
            return jax.lax.scan(body, (x, opt.init(x), jax.numpy.inf), None, steps)[0]

        jitted, x0 = jax.jit(loop), jax.numpy.array(START)
        found[JAX] = lambda: jitted(x0)[0].block_until_ready()
    return found, scipy_run().nfev
