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
def innermost(a):
    return math.frexp(a)[0]


def in_a_helper(x):
    return innermost(x[0])


def along_an_axis(x):
    return np.nanvar(x.reshape(1, 2), 0)[0]


def unsupported_arguments(x):
    return np.linspace(x, x, 3)[0, 0]


def of_no_module(x):
    return np.nosuch(x)


def of_two_types(x):
    y = x
    if x[0] < 0:
        y = np.zeros(2, np.int64)
    return y[0] * 1.0


def over_a_tuple(x):
    total = 0.0
    for part in (1.0, x[0]):
        total += part
    return total


@pytest.mark.parametrize(("function", "first_line"), [
    (over_a_tuple, "a loop over a tuple of which not all items have derivatives; add 0 * x[0] to those without (File"),
    (unknown_function, "frexp has no derivative here (File"), (in_a_helper, "frexp has no derivative here (File"),
    (along_an_axis, "np.nanvar and np.nanstd with axis, dtype or out (File"),
    (unsupported_arguments, "linspace has no derivative here for the arguments (array(float64 with derivatives, 1d, "),
    (of_no_module, "module 'numpy' has no attribute 'nosuch'"), (of_two_types, "Cannot unify array(float64 with"),
])  # fmt: skip
def test_sentences_are_in_the_words_of_the_user(function, first_line):
    with pytest.raises(UnsupportedError) as told:
        no.grad(numba.njit(function))(np.array([1.0, 2.0]))
    assert first_line in str(told.value)
    assert not re.search(r"Dual|Taped|_with_|stand_in|<function", str(told.value))


def product(a, b):
    return a * b


@pytest.mark.parametrize("rule", [
    lambda a, b: a * b, lambda a, b: (a * b, b), lambda a, b: (a * b, b, a, 0.0), lambda a, b: (a * b, b, "a"),
], ids=["value", "short", "long", "text"])  # fmt: skip
@pytest.mark.parametrize("mode", MODES)
def test_a_rule_that_returns_something_else_is_told(rule, mode):
    inner = numba.njit(product)
    no.derivative_rule(inner)(rule)
    calls = [numba.njit(lambda x: inner(x[0], x[1]))]
    if mode == "forward" and rule.__code__.co_consts != (None, "a"):  # arrays take one derivative each, of any kind
        calls.append(numba.njit(lambda x: inner(x, x).sum()))
    for fun in calls:
        with pytest.raises(UnsupportedError, match=r"the derivative_rule at line \d+ of test_autodiff_refused.py must "
                                                   r"return the value and 2 derivatives"):  # fmt: skip
            no.grad(fun, mode)(np.array([1.0, 2.0]))


@pytest.mark.parametrize("mode", MODES)
def test_printed_is_the_value(mode, capfd):
    def talkative(x):
        print(x[0], "and", 2 * x)
        return x[0] * x[1]

    np.testing.assert_array_equal(no.grad(numba.njit(talkative), mode)(np.array([1.0, 2.0])), [2.0, 1.0])
    assert capfd.readouterr() == ("1.0 and [2. 4.]\n", "")


def test_methods_are_told():
    class Model:
        def loss(self, x):
            return x[0]

    with pytest.raises(TypeError, match="is a method; write a function"):
        no.grad(Model().loss)


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
