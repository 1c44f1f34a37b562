"""Derivatives of ``np.linalg``: systems of every form, singular matrices, sizes at which blocks and products begin."""

from __future__ import annotations

import numba
import numpy as np
import pytest

import numbaopt as no

MODES = ("forward", "reverse")
SQUARE = np.random.default_rng(0).standard_normal((5, 5))
DEFINITE = SQUARE @ SQUARE.T + 4 * np.eye(5)
POINT = np.array([0.5, -1.0, 2.0, 0.25, 0.7])


@numba.njit
def systems(x, a):
    b = a + np.outer(x, x)
    s = (np.linalg.solve(b, x) ** 2).sum() + (np.linalg.solve(a, x) ** 2).sum()
    s += (np.linalg.solve(b, np.outer(x, x * x)[:, 1:4]) ** 2).sum()  # neither is contiguous in the next
    return s + (np.linalg.solve(b.T, a[0]) ** 2).sum() + (np.linalg.solve(b[::-1], a[::-1, :2]) ** 2).sum()


@numba.njit
def factors(x, a):
    b = a + np.outer(x, x)
    l = np.linalg.cholesky(b)  # noqa: E741
    s = (l**3 * a).sum() + np.linalg.inv(b[::-1]).sum()
    sign, logarithm = np.linalg.slogdet(b[::-1])
    return s + sign * logarithm + np.linalg.det(b[::-1]) * 1e-4


@pytest.mark.filterwarnings("ignore::numba.NumbaPerformanceWarning")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fun", [systems, factors], ids=lambda f: f.__name__)
def test_against_differences(fun, mode):
    checked = no.check_grad(fun, POINT, (DEFINITE,), jac=no.grad(fun, mode))
    assert checked.error < 1e-9, str(checked)
    assert no.value_and_grad(fun, mode)(POINT, DEFINITE)[0] == pytest.approx(fun(POINT, DEFINITE), rel=1e-13)


def minors(m):
    """The cofactors, each by a determinant of its own."""
    n = len(m)
    return np.array([[(-1.0) ** (i + j) * np.linalg.det(np.delete(np.delete(m, i, 0), j, 1)) for j in range(n)]
                     for i in range(n)])  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_determinants_of_every_rank(mode):
    df = no.grad(numba.njit(lambda x: np.linalg.det(x)), mode)
    for n in range(1, 6):
        for rank in range(n + 1):
            rng = np.random.default_rng(10 * n + rank)
            m = rng.integers(-3, 4, (n, rank)) @ rng.integers(-3, 4, (rank, n)) * 1.0
            expected = minors(m)
            np.testing.assert_allclose(df(m), expected, atol=1e-12 * max(1.0, np.abs(expected).max()))
    nearly = np.array([[1.0, 2.0], [0.5, 1.0 + 1e-15]])
    np.testing.assert_allclose(df(nearly), [[1.0 + 1e-15, -0.5], [-2.0, 1.0]], rtol=1e-13)


@pytest.mark.parametrize("mode", MODES)
def test_sizes_beyond_a_block_and_float32(mode):
    rng = np.random.default_rng(1)
    for n in (70, 150):
        b = rng.standard_normal((n, n))
        a, g, x = b @ b.T / n + np.eye(n), rng.standard_normal((n, n)), np.array([0.3])
        one = numba.njit(lambda x, a, g: (np.linalg.solve(a * np.exp(x[0]), g) * g).sum())
        solved = (np.linalg.solve(a * np.exp(0.3), g) * g).sum()
        np.testing.assert_allclose(no.grad(one, mode)(x, a, g), -solved, rtol=1e-11)
        root = numba.njit(lambda x, a, g: (np.linalg.cholesky(a * np.exp(x[0])) * g).sum())
        np.testing.assert_allclose(no.grad(root, mode)(x, a, g), 0.5 * root(x, a, g), rtol=1e-11)
        single = no.grad(one, mode)(x.astype(np.float32), a, g)
        assert single.dtype == np.float32
        np.testing.assert_allclose(single, -solved, rtol=1e-5)
        narrow = no.grad(one, mode)(x, a.astype(np.float32), g.astype(np.float32))
        np.testing.assert_allclose(narrow, -solved, rtol=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_matrices_that_have_no_derivative_are_told(mode):
    refused = {
        "singular": (numba.njit(lambda x: np.linalg.inv(x).sum()), np.ones((2, 2))),
        "singular ": (numba.njit(lambda x: np.linalg.slogdet(x)[1]), np.ones((2, 2))),
        "definite": (numba.njit(lambda x: np.linalg.cholesky(x).sum()), -np.eye(2)),
        "infs or NaNs": (numba.njit(lambda x: np.linalg.det(x)), np.full((2, 2), np.nan)),
        "square": (numba.njit(lambda x: np.linalg.det(x)), np.ones((2, 3))),
    }
    for word, (fun, x) in refused.items():
        df = no.grad(fun, mode)
        for _ in range(2):
            with pytest.raises(np.linalg.LinAlgError, match=word.strip()):
                df(x)
    empty = no.value_and_grad(numba.njit(lambda x: np.linalg.det(x)), mode)(np.empty((0, 0)))
    assert empty[0] == 1.0
