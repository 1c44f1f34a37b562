"""What has no derivative here is refused when it is compiled, in two lines; a derivative is never dropped silently."""

from __future__ import annotations

import math
import re
import warnings

import numba
import numpy as np
import pytest

import numbaopt as no
from numbaopt.autodiff import UnsupportedError

MODES = ("forward", "reverse")


def reinterpreted(x):
    return float(x.view(np.int64)[0])


def written_argument(x, work):
    work[0] = x.size
    return x[0] * work[0]


def written_through_a_view(x, work):
    part = work[1:]
    part[:] = 2.0
    return x[0] * work[1]


def stored_in_a_float_argument(x, work):
    work[0] = x[0]
    return work[0]


def complex_numbers(x):
    return abs(complex(x[0], x[1]))


def integers_of_an_array(x):
    return float(x.astype(np.int64).sum())


def addresses(x):
    return x[0] * x.ctypes.data


def from_buffer(x):
    return np.frombuffer(x)[0]


def carray_of(x):
    return numba.carray(x.ctypes, (2,))[0]


def unknown_function(x):
    return math.frexp(x[0])[0]


def narrowed(x):
    return np.float32(x[0]) * 2.0


def object_mode(x):
    with numba.objmode(y="float64"):
        y = float(x[0])
    return y


def vector_returned(x):
    return x * 2.0


def imaginary(x):
    return x.imag[0]


WORK = {written_argument, written_through_a_view, stored_in_a_float_argument}
REFUSED = [reinterpreted, written_argument, written_through_a_view, stored_in_a_float_argument, complex_numbers,
           integers_of_an_array, addresses, from_buffer, carray_of, unknown_function, narrowed, object_mode,
           vector_returned, imaginary]  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("function", REFUSED, ids=lambda f: f.__name__)
def test_refused_in_two_lines(function, mode):
    args = (np.zeros(3),) if function in WORK else ()
    with pytest.raises(UnsupportedError) as told:
        no.grad(numba.njit(function), mode)(np.array([1.0, 2.0]), *args)
    first, second = str(told.value).splitlines()
    assert first.startswith(f"{function.__name__} cannot be differentiated: ")
    if function is not vector_returned:
        assert re.search(r'\(File "[^"]*test_autodiff_refused.py", line \d+\)$', first)
    assert "derivative_rule" in second


@pytest.mark.parametrize(("function", "what"), [
    (written_argument, "Cannot modify readonly array"), (reinterpreted, "view"), (unknown_function, "frexp"),
    (complex_numbers, "complex"), (integers_of_an_array, "astype"), (vector_returned, "not a real number"),
])  # fmt: skip
def test_the_sentence_names_the_cause(function, what):
    with pytest.raises(UnsupportedError, match=what):
        no.grad(numba.njit(function))(np.array([1.0, 2.0]), *((np.zeros(3),) if function in WORK else ()))


def test_minimize_falls_back_to_differences_with_one_warning():
    fun = numba.njit(lambda x: 0.0 * math.frexp(x[0])[0] + ((x - 1.0) ** 2).sum())
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        res = no.minimize(fun, np.zeros(3), method="lbfgs")
    assert res.success
    assert res.nfev == 7 * res.njev
    assert len(seen) == 1
    assert "frexp" in str(seen[0].message)
    assert "central differences" in str(seen[0].message)
    assert seen[0].filename == __file__
    for jac in ("ad", "forward", "reverse"):
        with pytest.raises(TypeError, match="frexp"):
            no.minimize(fun, np.zeros(3), method="lbfgs", jac=jac)


def test_an_objective_from_python_has_no_exact_gradient():
    def fun(x):
        return float(str(float((x**2).sum())))

    with pytest.raises(TypeError, match="jac='ad'"):
        no.minimize(fun, np.zeros(2), method="adam", jac="ad")
    with pytest.raises(TypeError, match="jac='ad'"):
        no.minimize(lambda x: (x**2).sum(), np.zeros(2), method="adam", jac="ad", options={"jit": False})


def test_derivative_rules_that_do_not_fit():
    with pytest.raises(TypeError, match="function="):
        no.derivative_rule(np.sin)
    inner = numba.njit(lambda a, b: a * b)
    with pytest.raises(TypeError, match="takes 1 arguments, the function 2"):
        no.derivative_rule(inner)(lambda a: (a, 1.0))


@numba.njit
def quantile_loss(z, q):
    return max(q * z, (q - 1) * z)


@numba.vectorize
def softplus(z):
    return np.log1p(np.exp(z))


@numba.njit
def projection(A, b, k):
    return k * (A @ b)


@no.derivative_rule(quantile_loss)
def _(z, q):
    return quantile_loss(z, q), (q if z > 0 else q - 1), 77.0  # a wrong derivative shows that the rule is used


@no.derivative_rule(softplus)
def _(z):
    return np.log1p(np.exp(z)), 1 / (1 + np.exp(-z))


@no.derivative_rule(projection)
def _(A, b, k):
    m, n = A.shape
    slopes = np.zeros((m, m, n))
    for i in range(m):
        slopes[i, i] = k * b
    return k * (A @ b), slopes, k * A, 0.0


@pytest.mark.parametrize("mode", MODES)
def test_derivative_rules(mode):
    scalar = numba.njit(lambda x: quantile_loss(x[0], x[1]) + quantile_loss(3.0, 0.5))
    np.testing.assert_array_equal(no.grad(scalar, mode)(np.array([2.0, 0.25])), [0.25, 77.0])
    x = np.array([0.5, -1.0, 2.0, 0.25])
    for fun in (numba.njit(lambda x: softplus(x).sum() * softplus(x[0]) + softplus(1.0)),
                numba.njit(lambda x: (projection(x.reshape(2, 2), x[:2], 2) ** 2).sum()),
                numba.njit(lambda x: (projection(np.ones((2, 2)), x[:2] * x[2:], 3) ** 2).sum())):  # fmt: skip
        checked = no.check_grad(fun, x, jac=no.grad(fun, mode))
        assert checked.error < 1e-9, str(checked)


def test_a_rule_that_is_registered_later_counts_from_then_on():
    inner = numba.njit(lambda z: z * z)
    outer = numba.njit(lambda x: inner(x[0]))
    df = no.grad(outer)
    assert df(np.array([3.0])) == [6.0]
    first = no.minimize(outer, [3.0], method="sgd", options={"maxiter": 1, "lr": 0.0})
    no.derivative_rule(inner)(lambda z: (z * z, 5.0))
    assert df(np.array([3.0])) == [5.0]
    second = no.minimize(outer, [3.0], method="sgd", options={"maxiter": 1, "lr": 0.0})
    assert (first.jac[0], second.jac[0]) == (6.0, 5.0)
