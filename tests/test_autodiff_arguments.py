"""What derivatives take as arguments: keywords, lists, arrays of every kind, problems; and where SciPy gets them."""

from __future__ import annotations

import numba
import numpy as np
import pandas as pd
import pytest

import numbaopt as no
from numbaopt.problems.function import Function

MODES = ("forward", "reverse")


@numba.njit
def scaled(x, a, b=2.0):
    return a * b * x[0] ** 2 + x[1] ** 3


@numba.njit
def weighted(x, w):
    return (w * x * x).sum()


@numba.njit
def rosen(x):
    return ((1 - x[:-1]) ** 2).sum() + 100 * ((x[1:] - x[:-1] ** 2) ** 2).sum()


def test_keywords_as_of_the_function_itself():
    gradient = no.grad(scaled)
    for found in (gradient([1.0, 2.0], 3.0), gradient(x=[1.0, 2.0], a=3.0), gradient([1.0, 2.0], b=2.0, a=3.0)):
        np.testing.assert_allclose(found, [12.0, 12.0])
    np.testing.assert_allclose(gradient([1.0, 2.0], 3.0, b=1.0), [6.0, 12.0])
    np.testing.assert_allclose(no.hvp(scaled)([1.0, 2.0], a=3.0, v=[1.0, 0.0]), [12.0, 0.0], atol=1e-8)
    with pytest.raises(TypeError, match="missing a required argument: 'a'"):
        gradient([1.0, 2.0])
    with pytest.raises(TypeError, match="unexpected keyword argument 'c'"):
        gradient([1.0, 2.0], 3.0, c=1.0)


def test_arrays_of_every_kind_are_one_compilation():
    gradient = no.grad(weighted)
    x, w = np.array([1.0, 2.0, 3.0]), np.array([0.5, 1.0, 2.0])
    fixed, wide = x.copy(), np.zeros((3, 2))
    fixed.flags.writeable, wide[:, 0] = False, x
    for given in (x, fixed, wide[:, 0], x[::-1][::-1], x.astype(">f8"), x.astype(int), [1, 2, 3], (1.0, 2.0, 3.0)):
        for weights in (w, np.repeat(w, 2)[::2], w.astype(">f8")):
            np.testing.assert_array_equal(gradient(given, weights), 2 * w * x)
    assert [len(compiled.signatures) for compiled in gradient._compiled.values()] == [1]
    assert gradient(x.astype(np.float32), w).dtype == np.float32
    np.testing.assert_array_equal(gradient(np.asfortranarray(wide), np.ones((3, 2))), 2 * wide)


@pytest.mark.parametrize(("x", "told"), [
    (["a"], "x must be real numbers, not of dtype"), ([[1.0], [1.0, 2.0]], "x must be an array of real numbers"),
    (np.array([1j]), "complex128"), (np.array([None]), "object"),
])  # fmt: skip
def test_what_is_no_array_of_real_numbers_is_told(x, told):
    with pytest.raises(TypeError, match=told):
        no.grad(weighted)(x, np.ones(1))


def test_arguments_of_python_objects_are_told():
    for arg in (np.array([1.0, None]), pd.Series([1.0, "a"])):
        with pytest.raises(TypeError, match=r"args\[0\] is an array of Python objects"):
            no.grad(weighted)(np.ones(2), arg)


@pytest.mark.parametrize(("derivative", "first"), [
    (no.grad, ()), (no.value_and_grad, ()), (no.hvp, ([1.0, 0.0],)),
])  # fmt: skip
def test_what_compiled_code_does_not_take_is_told(derivative, first):
    with pytest.raises(TypeError, match=r"args\[0\] is a object, which compiled code does not take; give an"):
        derivative(weighted)(np.ones(2), *first, object())


def test_columns_of_a_table_are_taken_as_arrays():
    x, w = np.ones(2), np.array([3.0, 5.0])
    np.testing.assert_array_equal(no.grad(weighted)(x, pd.Series(w)), no.grad(weighted)(x, w))
    assert no.check_grad(weighted, x, (pd.Series(w),)).error < 1e-9


@pytest.mark.parametrize("mode", MODES)
def test_jacobian_of_a_tuple(mode):
    fun = numba.njit(lambda x: (x[0] * x[1], x[1] ** 2, 3, 1.0))
    values, jacobian = no.autodiff.value_and_jacobian(fun, mode)([2.0, 3.0])
    np.testing.assert_array_equal(values, [6.0, 9.0, 3.0, 1.0])
    np.testing.assert_array_equal(jacobian, [[3.0, 2.0], [0.0, 6.0], [0.0, 0.0], [0.0, 0.0]])


def test_second_derivatives_take_lists_and_float32():
    by_hand = np.array([[12.0, 0.0], [0.0, 12.0]])
    np.testing.assert_allclose(no.hessian(scaled)([1, 2], 3.0), by_hand, atol=1e-7)
    found = no.hvp(scaled)(np.array([1, 2], np.float32), [0, 1], 3.0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_hand[1], atol=1e-6)
    with pytest.raises(ValueError, match=r"x must be a vector, not of shape \(2, 2\)"):
        no.hvp(weighted)(np.ones((2, 2)), np.ones(4), np.ones((2, 2)))


def test_check_grad_of_a_finite_sum():
    terms = numba.njit(lambda x, idx, X: ((x - X[idx]) ** 2).sum() / idx.size)
    total = no.FiniteSum(terms, 5, args=(np.arange(10.0).reshape(5, 2),))
    assert no.check_grad(total, [1.0, 2.0]).error < 1e-9
    wrong = no.check_grad(total, [1.0, 2.0], jac=lambda x: np.array([-6.0, 0.0]))
    assert wrong.worst == (1,)
    with pytest.raises(ValueError, match="args: a FiniteSum has its own"):
        no.check_grad(total, [1.0, 2.0], (3,))


def test_scipys_second_order_methods_get_second_derivatives():
    from numbaopt.scipy_methods import _second_derivatives

    for method in ("Newton-CG", "trust-krylov", "trust-exact"):
        result = no.minimize(rosen, np.zeros(4), method=method)
        assert result.success
        assert result.nhev > 0
        np.testing.assert_allclose(result.x, 1.0, atol=1e-3)
    for jac in (lambda x: x, "3-point"):  # whose gradient is not known to be exact
        problem = Function(rosen, jac, (), 4, np.empty(0), np.empty(0))
        assert _second_derivatives(problem, "trust-ncg") == (None, None)
