"""The 35 problems against what is published of them, and against their formulas written once more as NumPy arrays."""

import numpy as np
import pytest
import scipy.optimize

import numbaopt as no
from numbaopt.experiments import residuals
from numbaopt.experiments.more_garbow_hillstrom import PROBLEMS

NAMED = {problem.name: problem for problem in PROBLEMS}
# Norms of r at the start: the paper's starts are simple enough to do by hand, or MINPACK's test drivers print them.
STARTS = {
    "rosenbrock": 24.2**0.5, "freudenstein_roth": 400.5**0.5, "beale": 14.203125**0.5, "jennrich_sampson": 64.58561,
    "helical_valley": 50.0, "bard": 6.45614, "meyer": 41153.47, "box": 32.11158, "powell_singular": 215**0.5,
    "wood": 19192**0.5, "kowalik_osborne": 0.07289151, "brown_dennis": 2815.438, "osborne_1": 0.937564,
    "osborne_2": 1.446865, "watson": 30**0.5, "extended_rosenbrock": 11.0, "extended_powell_singular": 645**0.5,
    "brown_almost_linear": 16.53022, "broyden_tridiagonal": 21**0.5, "broyden_banded": 360**0.5,
    "linear_full_rank": 5.0, "chebyquad": 0.1965139,
}  # fmt: skip


def plain(function):
    """Uncompiled, so that nothing is compiled for these tests; overflow is infinity."""

    def call(x):
        with np.errstate(all="ignore"):
            return function.py_func(np.asarray(x, float))

    return call


def squares(name, x):
    """The objective of a problem."""
    return float((plain(NAMED[name].residuals)(x) ** 2).sum())


def cubes(x):
    t = np.arange(1, x.size + 1) / (x.size + 1)
    return t, (x + t + 1) ** 3


def gulf(x):
    t = np.arange(1, 100) / 100
    return np.exp(-np.abs(25 + (-50 * np.log(t)) ** (2 / 3) - x[1]) ** x[2] / x[0]) - t


def biggs_exp6(x):
    t = np.arange(1, 14) / 10
    model = x[[2, 3, 5]] * [1, -1, 1] @ np.exp(-np.outer(x[[0, 1, 4]], t))
    return model - [1, -5, 3] @ np.exp(-np.outer([1, 10, 4], t))


def gaussian(x):
    t = np.arange(7, -8, -1) / 2
    half = [0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521]
    return x[0] * np.exp(-x[1] * (t - x[2]) ** 2 / 2) - [*half, 0.3989, *half[::-1]]


def watson(x):
    p = np.polynomial.Polynomial(x)
    t = np.arange(1, 30) / 29
    return np.r_[p.deriv()(t) - p(t) ** 2 - 1, x[0], x[1] - x[0] ** 2 - 1]


def penalty_2(x):
    e, i = np.exp(x / 10), np.arange(1, x.size + 1)
    y = np.exp(i / 10) + np.exp((i - 1) / 10)
    small = np.r_[e[1:] + e[:-1] - y[1:], e[1:] - np.exp(-0.1)]
    return np.r_[x[0] - 0.2, 1e-5**0.5 * small, i[::-1] @ x**2 - 1]


def variably_dimensioned(x):
    total = np.arange(1, x.size + 1) @ (x - 1)
    return np.r_[x - 1, total, total**2]


def discrete_boundary_value(x):
    around = np.r_[0, x, 0]
    return 2 * x - around[:-2] - around[2:] + cubes(x)[1] / (x.size + 1) ** 2 / 2


def discrete_integral_equation(x):
    t, c = cubes(x)
    kernel = np.where(t[:, None] >= t, (1 - t[:, None]) * t, t[:, None] * (1 - t))
    return x + kernel @ c / (x.size + 1) / 2


def broyden_tridiagonal(x):
    around = np.r_[0, x, 0]
    return (3 - 2 * x) * x - around[:-2] - 2 * around[2:] + 1


def broyden_banded(x):
    near = np.tri(x.size, x.size, 1) - np.tri(x.size, x.size, -6) - np.eye(x.size)
    return x * (2 + 5 * x**2) + 1 - near @ (x * (1 + x))


def linear_rank_1_zeros(x):
    inner = np.arange(2, x.size) @ x[1:-1]
    return np.r_[-1, np.arange(1, 2 * x.size - 1) * inner - 1, -1]


def chebyquad(x):
    chebyshev = [np.polynomial.Chebyshev.basis(i, domain=[0, 1]) for i in range(1, x.size + 1)]
    whole = [p.integ() for p in chebyshev]
    return np.array([p(x).mean() - (q(1) - q(0)) for p, q in zip(chebyshev, whole, strict=True)])


NAIVE = {
    "powell_badly_scaled": lambda x: np.array([1e4 * x.prod() - 1, np.exp(-x).sum() - 1.0001]),
    "brown_badly_scaled": lambda x: np.r_[x - [1e6, 2e-6], x.prod() - 2],
    "gaussian": gaussian, "gulf": gulf, "biggs_exp6": biggs_exp6, "watson": watson,
    "penalty_1": lambda x: np.r_[1e-5**0.5 * (x - 1), x @ x - 0.25], "penalty_2": penalty_2,
    "variably_dimensioned": variably_dimensioned,
    "trigonometric": lambda x: (x.size - np.cos(x).sum() - np.sin(x)
                                + np.arange(1, x.size + 1) * (1 - np.cos(x))),
    "brown_almost_linear": lambda x: np.r_[x[:-1] + x.sum() - x.size - 1, x.prod() - 1],
    "discrete_boundary_value": discrete_boundary_value, "discrete_integral_equation": discrete_integral_equation,
    "broyden_tridiagonal": broyden_tridiagonal, "broyden_banded": broyden_banded,
    "linear_full_rank": lambda x: np.r_[x, 0 * x] - x.sum() / x.size - 1,
    "linear_rank_1": lambda x: np.arange(1, 2 * x.size + 1) * (np.arange(1, x.size + 1) @ x) - 1,
    "linear_rank_1_zeros": linear_rank_1_zeros, "chebyquad": chebyquad,
}  # fmt: skip

MINIMIZERS = [
    ("rosenbrock", [1, 1]), ("freudenstein_roth", [5, 4]), ("brown_badly_scaled", [1e6, 2e-6]), ("beale", [3, 0.5]),
    ("helical_valley", [1, 0, 0]), ("gulf", [50, 25, 1.5]), ("box", [1, 10, 1]), ("box", [10, 1, -1]),
    ("box", [2, 2, 0]), ("powell_singular", [0] * 4), ("wood", [1] * 4), ("biggs_exp6", [1, 10, 1, 5, 4, 3]),
    ("extended_rosenbrock", [1] * 10), ("extended_powell_singular", [0] * 12), ("variably_dimensioned", [1] * 10),
    ("brown_almost_linear", [1] * 10), ("brown_almost_linear", [0] * 9 + [11]), ("linear_full_rank", [-1] * 5),
    ("linear_rank_1", [3 / 21, 0, 0, 0, 0]), ("linear_rank_1_zeros", [9, 3 / 34, 0, 0, 9]),
]  # fmt: skip


def test_the_table_is_whole():
    assert [problem.number for problem in PROBLEMS] == list(range(1, 36))
    assert len(NAMED) == 35
    assert set(STARTS) | set(NAIVE) == set(NAMED)
    for problem in PROBLEMS:
        r = plain(problem.residuals)(problem.x0)
        assert r.shape == (problem.m,), problem.name
        assert problem.m >= len(problem.x0)
        assert np.isfinite(r).all()
        assert problem.minima == tuple(sorted(problem.minima))


@pytest.mark.parametrize("name", STARTS)
def test_starts_have_the_published_norms(name):
    assert squares(name, NAMED[name].x0) ** 0.5 == pytest.approx(STARTS[name], rel=1e-6)


@pytest.mark.parametrize("name", NAIVE)
def test_residuals_are_those_of_the_formulas(name):
    x0 = np.array(NAMED[name].x0)
    rng = np.random.default_rng(NAMED[name].number)
    sizes = [x0.size] if NAMED[name].number < 20 else [x0.size, 4, 7]
    for n in sizes:
        x = x0 * (1 + 0.1 * rng.standard_normal(x0.size)) if n == x0.size else rng.random(n)
        np.testing.assert_allclose(plain(NAMED[name].residuals)(x), NAIVE[name](x), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("name", "x"), MINIMIZERS)
def test_known_minimizers(name, x):
    value = squares(name, x)
    assert any(value == pytest.approx(least, rel=1e-10, abs=1e-20) for least in NAMED[name].minima)


def test_chebyquad_has_the_known_nodes():
    r = plain(residuals.chebyquad)
    np.testing.assert_allclose(r([0.5 - 12**-0.5, 0.5 + 12**-0.5]), 0.0, atol=1e-15)
    np.testing.assert_allclose(r([0.5 - 8**-0.5, 0.5, 0.5 + 8**-0.5]), 0.0, atol=1e-15)


def least_found(function, x0):
    """The sum of squares where SciPy's least squares end, from ``x0``."""
    tight = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15}
    return 2 * scipy.optimize.least_squares(plain(function), x0, x_scale="jac", jac="3-point", **tight).cost


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_least_squares_end_at_a_known_minimum(problem):
    value = least_found(problem.residuals, problem.x0)
    assert any(value == pytest.approx(least, rel=1e-10, abs=1e-15) for least in problem.minima)


@pytest.mark.parametrize(
    ("function", "x0", "least"),
    [
        (residuals.watson, np.zeros(9), 1.39976e-6),
        (residuals.watson, np.zeros(12), 4.72238e-10),
        (residuals.penalty_1, np.arange(1, 5), 2.24997e-5),
        (residuals.penalty_2, np.full(4, 0.5), 9.37629e-6),
        (residuals.chebyquad, np.arange(1, 8) / 8, 0.0),
        (residuals.chebyquad, np.arange(1, 10) / 10, 0.0),
        (residuals.chebyquad, np.arange(1, 11) / 11, 6.50395e-3),
    ],
)
def test_published_minima_in_other_dimensions(function, x0, least):
    assert least_found(function, x0) == pytest.approx(least, rel=1e-5, abs=1e-20)


@pytest.mark.parametrize(("name", "x"), [("bard", [0.8406667, -1e9, -1e9]),
                                         ("kowalik_osborne", [4e6, -14.0758835, -1.81e8, -1.129e8])])  # fmt: skip
def test_infima_at_infinity_are_come_near(name, x):
    assert squares(name, x) == pytest.approx(NAMED[name].minima[1], rel=1e-4)


@pytest.mark.parametrize(("x", "turns"), [([1, 1], 1 / 8), ([-1, 1], 3 / 8), ([-1, -1], 5 / 8), ([1, -1], -1 / 8),
                                          ([-1, 0], 1 / 2), ([0, 2], 1 / 4)])  # fmt: skip
def test_helical_valley_turns_as_in_the_paper(x, turns):
    assert plain(residuals.helical_valley)([*x, 0])[0] == pytest.approx(-100 * turns)


def differences(function, x):
    """The gradient by differences of sixth order."""
    g = np.empty_like(x)
    for i in range(x.size):
        e = np.zeros_like(x)
        e[i] = h = 1e-3 * max(abs(x[i]), 0.01)
        first, second, third = (function(x + k * e) - function(x - k * e) for k in (1, 2, 3))
        g[i] = (45 * first - 9 * second + third) / (60 * h)
    return g


@pytest.mark.parametrize("name", ["helical_valley", "meyer", "gulf", "watson", "discrete_integral_equation",
                                  "chebyquad"])  # fmt: skip
def test_exact_gradients(name):
    x0 = np.array(NAMED[name].x0)
    value, g = no.value_and_grad(NAMED[name].fun)(x0)
    assert value == pytest.approx(squares(name, x0), rel=1e-12)
    np.testing.assert_allclose(g, differences(lambda x: squares(name, x), x0), rtol=1e-9, atol=1e-9 * abs(g).max())


def test_compiled_residuals_divide_as_numpy_does():
    assert not np.isfinite(residuals.meyer(np.array([0.02, 4000.0, -50.0]))).all()


def test_minimize_ends_at_the_minimum():
    problem = NAMED["helical_valley"]
    res = no.minimize(problem.fun, problem.x0, method="lbfgs", tol=1e-6)
    assert res.success
    np.testing.assert_allclose(res.x, [1, 0, 0], atol=1e-6)
