"""What tests share: objectives, compiled once, a table, and when two results are the same."""

import numba
import numpy as np


@numba.njit
def rosen(x):
    return 100.0 * (x[1] - x[0] ** 2) ** 2 + (1.0 - x[0]) ** 2


@numba.njit
def rosen_grad(x):
    g = np.empty(2)
    g[0] = -400.0 * x[0] * (x[1] - x[0] ** 2) - 2.0 * (1.0 - x[0])
    g[1] = 200.0 * (x[1] - x[0] ** 2)
    return g


@numba.njit
def bowl(x):
    return ((x - 3.0) ** 2).sum()


@numba.njit
def bowl_grad(x):
    return 2.0 * (x - 3.0)


def table(rows=240, columns=7, seed=0, dtype=np.float64):
    """A seeded regression table with a known answer, and labels."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((rows, columns)).astype(dtype)
    z = X @ np.linspace(-1, 1, columns) + 0.5
    return X, z + 0.1 * rng.standard_normal(rows), np.where(z + 0.5 * rng.standard_normal(rows) > 0, 1.0, -1.0)


def same(a, b):
    """Fail unless two results agree to the last bit."""
    np.testing.assert_array_equal(a.x, b.x)
    np.testing.assert_array_equal(a.jac, b.jac)
    for name in ("step", "fun", "grad_norm", "lr"):
        np.testing.assert_array_equal(a.history[name], b.history[name])
    assert (a.nit, a.nfev, a.njev, a.status, a.fun) == (b.nit, b.nfev, b.njev, b.status, b.fun)
