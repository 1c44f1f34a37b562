"""Programs that a review found to be wrong once: each was seen to fail before it was mended."""

from __future__ import annotations

import types

import numba
import numpy as np
import pytest

import numbaopt as no
from numbaopt.autodiff import UnsupportedError

MODES = ("forward", "reverse")
pytestmark = pytest.mark.filterwarnings("ignore::numba.NumbaPerformanceWarning")  # of the functions themselves
SQUARE = np.arange(1.0, 10.0).reshape(3, 3)


@numba.njit
def reversed_operand(x, a):
    y = np.zeros(a.shape[1])
    for i in range(y.size):
        y[i] = x[0] * i / y.size
    return (a @ y[::-1]).sum()


@numba.njit
def where_broadcasts(x):
    c = x > 0
    return (np.where(np.array([True]), x, 2 * x).sum() + np.where(c, x, np.ones(1) * x[1]).sum()
            + np.where(np.outer(x, x) > 1, x, x[0]).sum() + np.where(c, 2.0, x).sum())  # fmt: skip


@numba.njit
def writes_by_flat(x, a):
    s = (a @ x).sum()
    a.flat[0] = 5.0
    return s + (a @ x).sum()


@numba.njit
def writes_the_diagonal(x, a):
    s = (a @ x).sum()
    np.fill_diagonal(a, 5.0)
    return s + (a @ x).sum()


@numba.njit
def writes_a_contiguous_alias(x, a):
    s = (a @ x).sum()
    b = np.ascontiguousarray(a)
    b[:] = 0.5
    return s + (a @ x).sum()


@numba.njit
def negative_powers(x):
    return x[0] ** -2 * x[1] ** -1 + x[2] ** -3


@numba.njit
def root_of_a_square(x):
    y = x[0] * x[0]
    return np.sqrt(y) + x[1]


@numba.njit
def conversions(x, t):
    y = np.asarray(x * 2.0)
    z = np.ascontiguousarray(y)
    z[0] = x[1]
    return y.sum() * np.asarray(t, np.int64)[1] + np.ascontiguousarray(x[::-1])[0] + np.asarray([1.0, x[0]])[1]


@numba.njit
def any_number_of_arguments(x, *more):
    return x[0] * more[0] + x[1] * more[1].sum()


@numba.njit
def endless_constants(x):
    return min(x[0] + x[1] * x[2] * 1e308, np.inf) * 1.0 + x[1]


@numba.njit
def remainder_near_a_jump(x):
    return x[0] % 0.1 + 1.0 % x[1]


CASES = {
    "reversed_operand": (reversed_operand, [1.0], (np.ones((2, 300_000)),)),
    "where_broadcasts": (where_broadcasts, [1.0, -2.0, 3.0], ()),
    "negative_powers": (negative_powers, [1.5, -2.0, 3.0], ()),
    "conversions": (conversions, [1.0, 2.0, 3.0], (np.array([1.7, 2.9]),)),
    "any_number_of_arguments": (any_number_of_arguments, [1.0, 2.0], (3.0, np.ones(2))),
    "endless_constants": (endless_constants, [1e-308, 2e-309, 1.0], ()),
    "remainder_near_a_jump": (remainder_near_a_jump, [0.35, 0.3], ()),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CASES)
def test_programs_that_were_wrong(name, mode):
    fun, x, args = CASES[name]
    x = np.array(x)
    if name == "endless_constants":
        np.testing.assert_allclose(no.grad(fun, mode)(x), [1.0, 1e308 + 1.0, 0.2])
        return
    checked = no.check_grad(fun, x, args, jac=no.grad(fun, mode))
    assert checked.error < 1e-7, str(checked)
    assert no.value_and_grad(fun, mode)(x, *args)[0] == pytest.approx(fun(x, *args), rel=1e-13)


@pytest.mark.parametrize("fun", [writes_by_flat, writes_the_diagonal, writes_a_contiguous_alias],
                         ids=lambda f: f.__name__)  # fmt: skip
def test_arguments_that_are_written_to_where_numba_does_not_look(fun):
    x = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(no.grad(fun, "reverse")(x, SQUARE.copy()), no.grad(fun, "forward")(x, SQUARE.copy()))
    plain = no.check_grad(lambda x: fun(x, SQUARE.copy()), x, jac=lambda x: no.grad(fun, "reverse")(x, SQUARE.copy()))
    assert plain.error < 1e-9, str(plain)


@pytest.mark.parametrize("mode", MODES)
def test_powers_and_roots_at_their_ends(mode):
    power = numba.njit(lambda x: x[0] ** -2 * 1e220)
    value, g = no.value_and_grad(power, mode)(np.array([1e110]))
    assert value == pytest.approx(1.0)
    assert g[0] == pytest.approx(-2e-110)
    inverse = numba.njit(lambda x: x[0] ** -1 * 1e-200)
    assert no.value_and_grad(inverse, mode)(np.array([1e-200]))[0] == pytest.approx(1.0)
    np.testing.assert_array_equal(no.grad(root_of_a_square, mode)(np.array([0.0, 1.0])), [0.0, 1.0])


def test_functions_with_a_memory_are_refused():
    @numba.njit
    def listed(x, seen):
        seen.append(1.0)
        return len(seen) * x.sum()

    @numba.njit
    def counted(x, count):
        count[0] += 1
        return count[0] * x.sum()

    with pytest.raises(ValueError, match="two runs"):
        no.grad(listed, "forward")(np.ones(17), numba.typed.List([0.0]))
    with pytest.raises(UnsupportedError, match="readonly"):
        no.grad(counted)(np.ones(17), np.zeros(1, np.int64))


@pytest.mark.parametrize("mode", MODES)
def test_memory_of_plain_arrays_of_numbers_is_not_shown(mode):
    for fun in (numba.njit(lambda x: np.concatenate((x, x)).view(np.float64)[0]),
                numba.njit(lambda x: np.repeat(x, 2).view(np.int64).sum() * 1.0)):  # fmt: skip
        with pytest.raises(UnsupportedError, match="view"):
            no.grad(fun, mode)(np.ones(3))


@pytest.mark.parametrize("mode", MODES)
def test_derivatives_of_the_wrong_shape_are_told(mode):
    vector = numba.njit(lambda u: u * u)

    @no.derivative_rule(vector)
    def _(u):
        return u * u, 2 * u  # the diagonal instead of the matrix

    with pytest.raises(ValueError, match="shape"):
        no.grad(numba.njit(lambda x: vector(x).sum()), mode)(np.ones(3))


def test_functions_behind_a_module_have_their_rules_and_twins():
    module = types.ModuleType("helpers_of_a_test")
    module.rooted = numba.njit(lambda x: np.sqrt(x))
    module.filled = numba.njit(lambda x: np.ones(2) * x[0])

    @no.derivative_rule(module.rooted)
    def _(x):
        return np.sqrt(x), 100.0

    @numba.njit
    def fun(x):
        made = module.filled(x)
        made[0] = x[1]
        return module.rooted(x[0]) + made.sum()

    np.testing.assert_array_equal(no.grad(fun)(np.array([4.0, 1.0])), [101.0, 1.0])


def test_there_is_no_gradient_of_a_gradient():
    df = no.grad(numba.njit(lambda x: (x**3).sum()))
    with pytest.raises(UnsupportedError, match="derivatives of derivatives"):
        no.grad(numba.njit(lambda x: df(x).sum()))(np.ones(2))

