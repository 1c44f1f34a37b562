"""Calls of `minimize_many` that a GPU must answer as the CPU does; as a program it asks the simulator."""

import math
import sys

import numba
import numpy as np
from scipy.optimize import Bounds

import numbaopt as no

T = np.linspace(0, 2, 6)
RNG = np.random.default_rng(0)
TRUTH = np.column_stack([RNG.uniform(1, 3, 3), RNG.uniform(0.5, 2, 3)])
Y = TRUTH[:, :1] * np.exp(-TRUTH[:, 1:] * T)
OWN = np.random.default_rng(1).normal(size=(3, 3, 2))
BOX = [(0.0, 2.0), (0.0, 1.5)]
FITS = ((T, Y), (False, True))


@numba.njit
def model(a, b, t):
    return a * np.exp(-b * t)


@numba.njit
def misfit(p, t, y):
    total = 0.0
    for i in range(t.size):
        total += (model(p[0], p[1], t[i]) - y[i]) ** 2
    return total


@numba.njit
def misfit_at_once(p, t, y):
    r = p[0] * np.exp(-p[1] * t) - y
    return (r**2).sum()


@numba.njit
def misfit_grad(p, t, y):
    g = np.zeros(2)
    for i in range(t.size):
        e = np.exp(-p[1] * t[i])
        r = 2 * (p[0] * e - y[i])
        g[0] += r * e
        g[1] -= r * p[0] * t[i] * e
    return g


@numba.njit
def misfit_and_grad(p, t, y):
    return misfit(p, t, y), misfit_grad(p, t, y)


@numba.njit
def residuals(p, t, y):
    return p[0] * np.exp(-p[1] * t) - y


@numba.njit
def residuals_one_by_one(p, t, y):
    r = np.empty(t.size)
    for i in range(t.size):
        r[i] = p[0] * math.exp(-p[1] * t[i]) - y[i]
    return r


@numba.njit
def residuals_jac(p, t, y):
    J = np.empty((t.size, 2))
    for i in range(t.size):
        J[i, 0] = np.exp(-p[1] * t[i])
        J[i, 1] = -p[0] * t[i] * J[i, 0]
    return J


@numba.njit
def rosenbrock_residuals(x):
    return 10 * (x[1] - x[0] ** 2), 1 - x[0]


@numba.njit
def rosenbrock_list(x):
    scales = [10.0, 1.0]
    return np.array([scales[0] * (x[1] - x[0] ** 2), scales[1] * (1 - x[0])])


@numba.njit
def chain(x, scale):
    total = 0.0
    for i in range(x.size - 1):
        total += scale * (x[i + 1] - x[i] ** 2) ** 2 + (1 - x[i]) ** 2
    return total


@numba.njit
def chain_residuals(x, scale):
    r = np.empty(2 * x.size - 2)
    for i in range(x.size - 1):
        r[2 * i], r[2 * i + 1] = math.sqrt(scale) * (x[i + 1] - x[i] ** 2), 1 - x[i]
    return r


@numba.njit
def fails(x, which):
    if which == 1:
        raise ValueError("no")
    if which == 2:
        return np.nan
    return (x[0] - which) ** 2 + x[1] ** 2


@numba.njit
def mixture(x, a, pair):
    """What users write: kinks, tests, unpacking, helpers, shared tuples."""
    u, v = x
    value = abs(u - a) + max(v, 0.1 * v) ** 2 + np.maximum(u, v) + np.hypot(u - 1, v + 2) + np.log1p(u * u)
    if np.isfinite(value) and u > 0:
        value += np.sqrt(1 + v * v) + math.lgamma(2 + u)
    return value + pair[0] * u**2 + pair[1][0] * v**4


@numba.njit
def corner(x, table):
    """Arguments of many axes."""
    return (x[0] - table[1, 0, 2, 0]) ** 2 + (x[1] - table[:, 0, 1, 0].sum()) ** 2


@numba.njit
def assigns(x, A):
    """Slices, of itself too, in-place operators, a matrix of the problem's own."""
    v = np.zeros_like(x)
    v += x
    v[1:] = v[:-1]
    v[:1] *= A[0, 0]
    v[1] -= x.min()
    w = np.dot(A, x)
    w[:2] = v
    return (w * w).sum() + ((x - 1.0) ** 2).sum()


def cases():
    """The keyword arguments of each call, by a name."""
    found = {}
    for method in ("lbfgs", "l-bfgs-b", "bfgs", "cg", "trust-ncg", "nelder-mead", "adam", "sgd", "rprop"):
        options = {"lr": 0.01} if method in ("sgd", "rprop") else {}
        found[method] = {"fun": misfit, "X0": np.ones((3, 2)), "args": FITS[0], "batched": FITS[1], "method": method,
                             "options": dict(options, maxiter=25)}  # fmt: skip
        if method not in ("bfgs", "cg", "trust-ncg"):
            found[f"{method} in a box"] = dict(found[method], bounds=BOX)
    fits = {"X0": np.ones((3, 2)), "args": FITS[0], "batched": FITS[1], "options": {"maxiter": 25}}
    found["schedule"] = dict(fits, fun=misfit, method=no.Adam(lr=no.schedules.Cosine(0.1, 25)))
    found["list"] = dict(fits, fun=misfit, method=[no.Adam(lr=0.01 * k) for k in (1, 2, 3)])
    clipped = no.transforms.chain(no.transforms.ClipByNorm(0.1), no.Adam(lr=0.05))
    found["clipped"] = dict(fits, fun=misfit, method=clipped)
    found["at once"] = dict(fits, fun=misfit_at_once)
    found["given"] = dict(fits, fun=misfit, jac=misfit_grad)
    found["both"] = dict(fits, fun=misfit_and_grad, jac=True)
    found["differences"] = dict(fits, fun=misfit, jac="3-point", method="bfgs")
    found["own box"] = dict(fits, fun=misfit, bounds=Bounds(np.zeros((3, 2)), np.array([[2.0, 2], [1, 1], [3, 3]])))
    found["targets"] = dict(fits, fun=misfit, options={"maxiter": 25, "f_target": [0.05, -1.0, 1e-3]})
    found["evaluations"] = dict(found["differences"], options={"max_evaluations": 30})
    found["float32"] = dict(fits, fun=misfit, method=no.Adam(lr=0.05), X0=np.ones((3, 2), np.float32))
    fits["method"] = "lm"
    found["lm"] = dict(fits, fun=residuals)
    found["lm in a box"] = dict(fits, fun=residuals_one_by_one, bounds=BOX)
    found["lm given"] = dict(fits, fun=residuals, jac=residuals_jac)
    found["lm differences"] = dict(fits, fun=residuals, jac="2-point")
    found["lm of a tuple"] = {"fun": rosenbrock_residuals, "X0": [[-1.2, 1.0], [3.0, 0.5]], "method": "lm"}
    found["lm of a list"] = dict(found["lm of a tuple"], fun=rosenbrock_list)
    found["assigns"] = {"fun": assigns, "X0": TRUTH, "args": (OWN,), "batched": True, "options": {"maxiter": 25}}
    found["fails"] = {"fun": fails, "X0": np.ones((4, 2)), "args": (np.arange(4),), "batched": True}
    found["team"] = {"fun": chain, "X0": np.full((3, 14), 0.9), "args": (np.array([1.0, 3.0, 9.0]),), "batched": True,
                     "method": "lbfgs", "options": {"maxiter": 25}}  # fmt: skip
    found["team's residuals"] = dict(found["team"], fun=chain_residuals, method="lm")
    found["axes"] = {"fun": corner, "X0": np.ones((2, 2)), "args": (np.arange(12.0).reshape(2, 2, 1, 3, 1),),
                     "batched": True}  # fmt: skip
    args = np.array([0.5, 1.0]), (0.1, np.array([0.2]))
    found["mixture"] = {"fun": mixture, "X0": np.array([[0.3, 0.4], [-1.0, 2.0]]), "args": args,
                        "batched": (True, False), "method": no.Adam(lr=0.01), "options": {"maxiter": 25}}  # fmt: skip
    return found


def answers(**options):
    """What `minimize_many` returns for each case, by the case's name and the field's."""
    found = {}
    for name, given in cases().items():
        given["options"] = {**given.get("options", {}), **options}
        res = no.minimize_many(**given)
        found |= {f"{name}/{field}": res[field] for field in ("x", "fun", "status", "nit", "nfev", "reason")}
    return found


if __name__ == "__main__":
    sys.setswitchinterval(1e-5)  # the simulator waits for its threads in a loop
    np.savez(sys.argv[1], **answers(device="cuda"))
