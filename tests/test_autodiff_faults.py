"""Programs that a review found to be wrong once: each was seen to fail before it was mended."""

from __future__ import annotations

import types
import warnings

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
            + np.where(np.outer(x, x) > 1, x, x[0]).sum() + np.where(c, 2.0, x).sum()
            + np.where(c, np.roll(x, 1), np.ones(3)).sum() + np.roll(x, 1).var()
            + np.where(c, np.arange(3.0), np.roll(x, 1)).sum())  # fmt: skip


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



@numba.njit
def empty_products(x, a):
    y = x * x
    z, s = a @ y, 0.0
    for i in range(y.size):
        s += y[i] * y[i]
    return s + z.sum() + (x @ a.T).sum()


@numba.njit
def written_through_a_list(x, a, others):
    z = a @ x
    others[0][:] = 0.0
    return z.sum()


@pytest.mark.parametrize("mode", MODES)
def test_products_without_rows_and_arguments_with_two_names(mode):
    x = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(no.grad(empty_products, mode)(x, np.zeros((0, 3))), 4 * x**3)
    a = SQUARE.copy()
    np.testing.assert_allclose(no.grad(written_through_a_list, mode)(x, a, numba.typed.List([a])), SQUARE.sum(axis=0))


def test_jacobians_are_of_one_run_and_by_columns():
    drawn = numba.njit(lambda x: x * np.random.rand())  # noqa: NPY002
    with pytest.raises(ValueError, match="two runs"):
        no.jacobian(drawn)(np.ones(12))
    longer = numba.njit(lambda x, seen: x[: len(seen)] * 1.0 if seen.append(1.0) is None else x)
    with pytest.raises(ValueError, match="two runs"):
        no.jacobian(longer)(np.ones(64), numba.typed.List([0.0]))
    df = no.jacobian(numba.njit(lambda x: x * 2.0))
    df(np.ones(20))
    assert {mode for mode, _ in df._compiled} == {"forward"}


@pytest.mark.parametrize("mode", MODES)
def test_rules_to_the_last_digits(mode):
    def slope(fun, x):
        return no.grad(numba.njit(fun), mode)(np.array([x]))[0]

    assert slope(lambda x: np.fmod(1.0, x[0]), 0.1) == -9.0
    assert slope(lambda x: np.expm1(x[0]), -38.0) == pytest.approx(np.exp(-38.0), rel=1e-14)
    assert slope(lambda x: np.sinc(x[0]), 1e-3) == pytest.approx(-np.pi**2 * 1e-3 / 3 * (1 - (np.pi * 1e-3) ** 2 / 10),
                                                                rel=1e-12)  # fmt: skip
    z = 0.29999
    by_hand = np.pi * (np.cos(z) - np.sin(z) / z) / z
    assert slope(lambda x: np.sinc(x[0]), z / np.pi) == pytest.approx(by_hand, rel=1e-12)
    assert slope(lambda x: np.arctan2(x[0], 1e-170), 1e-170) == pytest.approx(5e169)
    assert slope(lambda x: np.hypot(x[0], 0.0), 0.0) == 0.0


@numba.njit
def ruled(a, n):
    return a * n


@no.derivative_rule(ruled)
def _(a, n):
    return a * np.zeros(n).size, 50.0, 0.0  # n is still an integer here


RULED = (ruled, 3.0)


@pytest.mark.parametrize("mode", MODES)
def test_a_rule_counts_wherever_the_function_is_reached(mode):
    @numba.njit
    def applied(x, function):
        return function(x[0], 2)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # functions as arguments are experimental
        np.testing.assert_array_equal(no.grad(applied, mode)(np.ones(1), ruled), [50.0])
    in_a_tuple = numba.njit(lambda x: RULED[0](x[0], 2))
    np.testing.assert_array_equal(no.grad(in_a_tuple, mode)(np.ones(1)), [50.0])
    assert no.grad(ruled, mode)(1.0, 2) == 50.0


def test_rules_of_many_arguments_are_registered_at_once():
    many = numba.njit(lambda a, b, c, d, e, f, g, h: a + b + c + d + e + f + g + h)
    no.derivative_rule(many)(lambda a, b, c, d, e, f, g, h: (a + b, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0))
    fun = numba.njit(lambda x: many(x[0], x[1], 1, 2.0, x[2], 3, 4, x[0]))
    np.testing.assert_array_equal(no.grad(fun)(np.ones(3)), [9.0, 2.0, 5.0])


def test_singular_matrices_and_diagonals():
    product = numba.njit(lambda x: np.linalg.det(np.diag(x)))
    np.testing.assert_allclose(no.grad(product)(np.array([2.0, 3.0, 4.0])), [12.0, 8.0, 6.0])
    logarithm = numba.njit(lambda x: np.linalg.slogdet(x.reshape(2, 2))[1])
    with pytest.raises(np.linalg.LinAlgError):
        no.grad(logarithm, "reverse")(np.ones(4))


# ------------------------------------------------------------------------- found by random programs
@numba.njit
def results_into_arrays(x, a):
    u, w = x * 1.0, np.empty(4)
    np.add(u, a, u)
    np.sin(u, w)
    np.multiply(w, 2.0, w[::-1])
    np.power(2.0 * w * w + 1.0, a * 0.5, u)
    np.dot(np.outer(a, u), w * w, w)
    np.dot(np.outer(a, a) * 0.5, x, u)
    return (u * w).sum()


@numba.njit
def functions_that_numba_writes_for_floats(x, a):
    clipped = (np.clip(x, -0.4, x[0]) * a).sum() + np.clip(a, x[1], None).sum() + np.clip(x * a, None, x).sum()
    appended = (np.append(x, x[0]) * np.arange(5)).sum() + np.append(a, x[1])[4] + np.append(x, 2.0)[4]
    products = np.outer(x, a)
    triangles = 2.0 * np.tril(x.reshape(2, 2)).sum() + np.triu(products, 1).sum() + np.triu(products, -1)[1, 0]
    wide = np.convolve(x, a)[2] * np.convolve(a[:2], x, "same")[0] + np.convolve(x, x[:3], "valid")[1]
    places = x[np.where(x > 0.1)[0]].sum()
    return clipped + appended + triangles + wide + places


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fun", [results_into_arrays, functions_that_numba_writes_for_floats], ids=lambda f: f.__name__)
def test_programs_found_at_random(fun, mode):
    x, a = np.array([0.3, -0.2, 0.5, 0.9]), np.array([1.0, 0.5, -0.3, 0.4])
    checked = no.check_grad(fun, x, (a,), jac=no.grad(fun, mode))
    assert checked.error < 1e-9, str(checked)


@numba.njit
def simulated(p, start, data):
    """A state that begins as data and becomes a function of the unknowns, beside data that stays data."""
    u, w, fixed = start.copy(), np.copy(start), data.copy()
    total = 0.0
    for k in range(5):
        u = u + 0.1 * p[0] * u
        w[k % 3] = u[1] * p[1]
        fixed[0] += 1.0
        total += (u[0] - fixed[k % 3]) ** 2
    return total + w.sum()


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_a_copy_of_data_may_become_a_function_of_the_unknowns(mode):
    args, x = (np.arange(1.0, 4.0), np.arange(3.0)), np.array([1.0, 2.0])
    value, g = no.value_and_grad(simulated, mode)(x, *args)
    assert value == simulated(x, *args)
    for i in range(2):
        step = np.eye(2)[i] * 1e-5
        slope = (simulated(x + step, *args) - simulated(x - step, *args)) / 2e-5
        np.testing.assert_allclose(g[i], slope, rtol=1e-7)
    assert args[0].tolist() == [1.0, 2.0, 3.0]


def test_data_that_is_no_copy_is_told_to_be_copied():
    @numba.njit
    def f(p, start):
        u = start
        for _ in range(3):
            u = u + p[0] * u
        return u.sum()

    with pytest.raises(no.autodiff.UnsupportedError, match=r"begin with a copy of the data \(.copy\(\)\)"):
        no.grad(f)(np.ones(1), np.ones(2))


@numba.njit
def contiguous_after_all(x):
    u = np.ascontiguousarray(x[::-1][::-1])  # x itself
    u[:] += u
    v = np.ascontiguousarray(x[::-1])  # a copy
    v[:] *= 3.0
    return (x * x).sum() + v[0]


@pytest.mark.parametrize("mode", MODES)
def test_ascontiguousarray_is_no_copy_of_what_is_contiguous(mode):
    value, g = no.value_and_grad(contiguous_after_all, mode)(np.array([1.0, 2.0]))
    assert value == contiguous_after_all(np.array([1.0, 2.0])) == 32.0
    np.testing.assert_allclose(g, [8.0, 22.0])


@numba.njit
def guarded(x):
    a, b = np.sqrt(x), x * x  # not a number, where b is chosen
    return np.where(x > 0, a, b).sum() + np.where(x > 0, np.log(x), 0.0).sum() + np.fmax(x, np.sqrt(x)).sum()


@pytest.mark.parametrize("mode", MODES)
def test_what_is_not_chosen_has_no_derivative(mode):
    with np.errstate(invalid="ignore"):
        g = no.grad(guarded, mode)(np.array([-1.0, -2.0, 4.0]))
    np.testing.assert_allclose(g, [-1.0, -3.0, 0.25 + 0.25 + 1.0])


def test_second_derivatives_fit_the_sizes_of_unknowns():
    np.testing.assert_allclose(np.diag(no.hessian(numba.njit(lambda x: (x**4).sum()))(np.array([1e-3, 1e3]))),
                               [1.2e-5, 1.2e7], rtol=1e-7)  # fmt: skip
    product = numba.njit(lambda x: np.exp(x[0] * x[1]))
    x = np.array([1e-6, 1e4])
    e = np.exp(1e-2)
    exact = e * np.array([[1e8, 1 + 1e-2], [1 + 1e-2, 1e-12]])
    np.testing.assert_allclose(no.hessian(product)(x), exact, rtol=1e-6)
    np.testing.assert_allclose(no.hvp(product)(x, np.array([1.0, 1.0])), exact.sum(axis=1), rtol=1e-6)
    np.testing.assert_allclose(no.hvp(product)(x, np.array([0.0, 1.0])), exact[:, 1], rtol=1e-6)
    assert (no.hvp(product)(x, np.zeros(2)) == 0).all()


def test_a_ufunc_without_a_rule_is_refused():
    square = numba.vectorize(lambda z: z * z)
    with pytest.raises(UnsupportedError, match="square is a ufunc made by Numba; give it a derivative_rule"):
        no.grad(numba.njit(lambda x: square(x).sum()))(np.ones(3))


def test_the_derivative_of_a_function_is_made_once():
    assert no.grad(guarded) is no.grad(guarded)
    assert no.grad(guarded) is not no.grad(guarded, "reverse")
    assert {"grad", "hessian", "autodiff", "minimize"} <= set(dir(no))
