"""`least_squares` inside compiled code: the same bits as from Python."""

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest

import numbaopt as no
from numbaopt.loops.alone import Fit


@numba.njit
def decay(x, t, y):
    return x[0] * np.exp(-x[1] * t) + x[2] - y


@numba.njit
def slopes(x, t, y):
    matrix = np.empty((t.size, 3))
    for i in range(t.size):
        e = np.exp(-x[1] * t[i])
        matrix[i, 0], matrix[i, 1], matrix[i, 2] = e, -x[0] * t[i] * e, 1.0
    return matrix


@numba.njit
def pair(x):
    return 10 * (x[1] - x[0] ** 2), 1 - x[0]


T = np.linspace(0, 4, 30)
Y = 2.5 * np.exp(-1.3 * T) + 0.5 + 0.01 * np.cos(40 * T)
Y[7] += 1.0
START = np.array([1.0, 1.0, 0.0])
BOX = (np.zeros(3), np.array([2.0, 9.0, 9.0]))
OPT = no.LM(factor=10.0, x_scale=(1.0, 2.0, 3.0))

CASES = {
    "default": lambda x0, t, y: no.least_squares(decay, x0, args=(t, y)),
    "robust": lambda x0, t, y: no.least_squares(decay, x0, slopes, BOX, loss="soft_l1", f_scale=0.1, xtol=1e-12,
                                                args=(t, y)),
    "differences": lambda x0, t, y: no.least_squares(decay, x0, "3-point", (-np.inf, (2.0, 3.0, 4)), OPT, args=(t, y),
                                                     max_nfev=4),
    "scaled": lambda x0, t, y: no.least_squares(decay, (1, 1, 0.0), slopes, method="lm", gtol=None,
                                                x_scale=(1.0, 1.0, 2.0), args=(t, y)),
    "numbers": lambda x0, t, y: no.least_squares(pair, [-1.2, 1.0], "forward", x_scale="jac"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_same_bits_as_from_python(case):
    kept = START.copy()
    outside, inside = CASES[case](START, T, Y), numba.njit(CASES[case])(START, T, Y)
    assert isinstance(inside, Fit)
    for name in Fit._fields:
        np.testing.assert_array_equal(getattr(inside, name), outside[name], err_msg=name)
    assert inside.nfev > 3
    np.testing.assert_array_equal(START, kept)


def test_in_prange_and_in_threads():
    def fit_all(Y, t):
        found, status = np.empty((len(Y), 3)), np.empty(len(Y), np.int64)
        for i in numba.prange(len(Y)):
            res = no.least_squares(decay, (1.0, 1.0, 0.0), slopes, args=(t, Y[i]))
            found[i], status[i] = res.x, res.status
        return found, status

    data = Y + np.linspace(0, 1, 40)[:, None]
    parallel, serial = numba.njit(parallel=True)(fit_all), numba.njit(nogil=True)(fit_all)
    x, status = parallel(data, T)
    assert (status > 0).all()
    with ThreadPoolExecutor(4) as pool:
        for again, _ in pool.map(lambda _: serial(data, T), range(8)):
            np.testing.assert_array_equal(again, x)
    one = no.least_squares(decay, [1.0, 1.0, 0.0], slopes, args=(T, data[7]))
    np.testing.assert_allclose(x[7], one.x, rtol=1e-9)


def test_misuse_and_exceptions_come_out():
    @numba.njit
    def run(x0, low, gtol, f_scale, kind):
        return no.least_squares(trouble, x0, "2-point", (low, np.inf), gtol=gtol, ftol=0.0, xtol=None, loss="huber",
                                f_scale=f_scale, args=(kind,))  # fmt: skip

    x0, good = np.array([3.0, 4.0]), (0.0, 1e-8, 1.0, 0)
    assert run(x0, *good).success
    for given, match in [((np.zeros(0), *good), "x0 is empty"), ((x0, 5.0, *good[1:]), "x0 is outside of its bounds"),
                         ((x0, np.nan, *good[1:]), "bounds: a lower one"), ((x0, 0.0, 0.0, 1.0, 0), "ftol, xtol and"),
                         ((x0, 0.0, -1.0, 1.0, 0), "ftol, xtol and"), ((x0, 0.0, 1e-8, 0.0, 0), "f_scale must be in"),
                         ((x0, *good[:3], 1), "Residuals are not finite at x0"),
                         ((x0, *good[:3], 2), "of a user")]:  # fmt: skip
        with pytest.raises(ValueError, match=match):
            run(*given)
    np.testing.assert_allclose(run(x0, *good).x, [1.0, 0.0], atol=1e-6)


@numba.njit
def trouble(x, kind):
    if kind == 2 and x[0] < 2.9:
        raise ValueError("of a user")
    return np.array([x[0] - 1.0, x[1] if kind != 1 else np.nan])


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda x: no.least_squares(3.0, x), "fun must be a jitted function in compiled code, not float64"),
        (lambda x: no.least_squares(pair, x, method="trf"), "method must be None, 'lm' or an LM in compiled code"),
        (lambda x: no.least_squares(pair, x, loss="hubr"), "loss must be one of the literal names 'linear'"),
        (lambda x: no.least_squares(pair, x, jac=True), "jac=True is not possible"),
        (lambda x: no.least_squares(pair, x, bounds=x), r"bounds must be \(lower, upper\)"),
        (lambda x: no.least_squares(pair, x, bounds=(0.0, "a")), "bounds must be a number or a vector, not"),
        (lambda x: no.least_squares(pair, x, x_scale="a"), "x_scale must be a number or a vector, not"),
        (lambda x: no.least_squares(pair, x, ftol="a"), "ftol must be a number, not"),
        (lambda x: no.least_squares(pair, x, diff_step=0.1), "diff_step is not possible in compiled code"),
        (lambda x: no.least_squares(pair, x, options={"jit": True}), "options is not possible in compiled code"),
        (lambda x: no.least_squares(pair, x, args=(1.0,)), "fun cannot be compiled"),
        (lambda x: no.least_squares(pair, "ab"), "x0 must be a vector of real numbers, not"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_when_it_is_compiled(call, match):
    with pytest.raises((TypeError, ValueError), match=match) as caught:
        numba.njit(call)(START)
    assert "\n" not in str(caught.value)
