"""`minimize` inside compiled code: the same bits as from Python, in loops, threads and other processes."""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numba
import numpy as np
import process
import pytest

import numbaopt as no
from numbaopt._packed import type_of
from numbaopt.loops.alone import Result


@numba.njit
def rosen(x, a, shift):
    return a * (x[1] - x[0] ** 2) ** 2 + (1 - x[0] + shift[0]) ** 2


@numba.njit
def rosen_grad(x, a, shift):
    return np.array([-4 * a * x[0] * (x[1] - x[0] ** 2) - 2 * (1 - x[0] + shift[0]), 2 * a * (x[1] - x[0] ** 2)])


ARGS = (100.0, np.array([0.25]))
START = np.array([-1.2, 1.0])
CLIPPED = no.transforms.chain(no.transforms.ClipByNorm(1.0), no.Momentum(lr=0.01))
FOUND = no.schedules.Automatic(steps=10, block=50)
BOX = np.array([[-2.0, 0.5], [-np.inf, np.inf]])

CASES = {
    "default": lambda x0, args: no.minimize(rosen, x0, args, jac=rosen_grad),
    "bfgs": lambda x0, args: no.minimize(rosen, x0, args, no.BFGS(c2=0.5), rosen_grad, tol=1e-9),
    "cg": lambda x0, args: no.minimize(rosen, (-1.2, 1), args, "CG", rosen_grad, options={"maxiter": 9, "c2": 0.1}),
    "exact": lambda x0, args: no.minimize(rosen, [-1.2, 1.0], args, no.CG(), "forward"),
    "bounded": lambda x0, args: no.minimize(rosen, x0, args, "L-BFGS-B", rosen_grad, bounds=BOX),
    "rule": lambda x0, args: no.minimize(rosen, x0, args, "adam", rosen_grad, bounds=((None, 0.5), (0, 9.0)),
                                         options={"maxiter": 3000, "lr": 0.02, "gtol": 1e-3}),
    "schedule": lambda x0, args: no.minimize(rosen, x0, args, no.Nesterov(lr=no.schedules.Cosine(1e-3, 2000)),
                                             "3-point", options={"maxiter": 2500, "gtol": 1e-12}),
    "simplex": lambda x0, args: no.minimize(rosen, x0, args, "Nelder-Mead", tol=1e-6, options={"maxiter": 70,
                                                                                               "adaptive": True}),
    "trust": lambda x0, args: no.minimize(rosen, x0, args, no.TrustNCG(), rosen_grad, options={"gtol": 1e-9}),
    "found": lambda x0, args: no.minimize(rosen, x0, args, "adam", rosen_grad, options={"maxiter": 400}),
    "asked": lambda x0, args: no.minimize(rosen, x0, args, no.RMSprop(), rosen_grad,
                                          options={"maxiter": 300, "lr": None, "gtol": 1e-3}),
    "found so": lambda x0, args: no.minimize(rosen, x0, args, no.Nesterov(lr=FOUND), rosen_grad, bounds=BOX),
    "chain": lambda x0, args: no.minimize(rosen, x0, args, CLIPPED, rosen_grad, options={"ftol": 1e-5, "xtol": 1e-4}),
}  # fmt: skip


def equal(inside, outside):
    assert isinstance(inside, Result)
    for name in Result._fields:
        np.testing.assert_array_equal(getattr(inside, name), outside.get(name, np.nan), err_msg=name)  # a simplex's jac


@pytest.mark.parametrize("case", CASES)
def test_the_same_bits_as_from_python(case):
    kept = START.copy()
    outside, inside = CASES[case](START, ARGS), numba.njit(CASES[case])(START, ARGS)
    equal(inside, outside)
    assert inside.nit > 5
    assert inside.message
    np.testing.assert_array_equal(START, kept)


@numba.njit
def wave(x, t, y, weight, names):
    total = 0.0
    for i in range(t.size):
        total += weight[i, 0] * (x[0] * np.exp(-x[1] * t[i]) - y[i]) ** 2
    return total + 0.0 * len(names[0])


T = np.linspace(0, 2, 15)
WEIGHT = np.ones((4, 15)).T  # neither C-contiguous
RATES = np.linspace(0.5, 2.0, 40)
DECAYS = 3 * np.exp(-RATES[:, None] * T)


def fit_all(Y, t, weight, names):
    found, status = np.empty((len(Y), 2)), np.empty(len(Y), np.int64)
    for i in numba.prange(len(Y)):
        res = no.minimize(wave, (1.0, 1.0), (t, Y[i], weight, names), no.BFGS(), "forward", tol=1e-8)
        found[i], status[i] = res.x, res.status
    return found, status


def test_in_prange_and_in_threads():
    """All numbers are those of `minimize`, whoever asks for them at the same time."""
    parallel, serial = numba.njit(parallel=True)(fit_all), numba.njit(nogil=True)(fit_all)
    args = DECAYS, T, WEIGHT, ("some", "words")
    x, status = parallel(*args)
    assert (status == 0).all()
    np.testing.assert_allclose(x[:, 1], RATES, atol=1e-5)
    one = no.minimize(wave, (1.0, 1.0), (T, DECAYS[7], WEIGHT, args[3]), no.BFGS(), "forward", tol=1e-8)
    np.testing.assert_allclose(x[7], one.x, rtol=1e-9)
    serial(*args)
    with ThreadPoolExecutor(4) as pool:
        for again, _ in pool.map(lambda _: serial(*args), range(8)):
            np.testing.assert_array_equal(again, x)


@numba.njit
def raising(x, limit):
    if x[0] > limit:
        raise ArithmeticError("too far")
    return (x[0] - 3) ** 2


def test_exceptions_come_out_and_harm_nothing():
    @numba.njit
    def run(limit, lr):
        return no.minimize(raising, (0.0,), limit, no.SGD(lr=lr), "2-point", options={"maxiter": 500, "gtol": 1e-6})

    with pytest.raises(ArithmeticError, match="too far"):
        run(2.0, 0.1)
    np.testing.assert_allclose(run(4.0, 0.1).x, 3, atol=1e-5)
    with pytest.raises(ValueError, match=r"lr must be in \[0, inf\)"):
        run(4.0, -1.0)
    assert run(np.inf, 1e3).status == 2
    assert np.isfinite(run(np.inf, 1e3).x).all()

    @numba.njit
    def never(most):
        return no.minimize(raising, (0.0,), 4.0, "sgd", "2-point", options={"lr": 0, "maxiter": most})

    with pytest.raises(ValueError, match="maxiter must be an integer"):
        never(1.5)
    assert never(0.0).nit == 0


def test_numbers_that_do_not_fit_each_other():
    @numba.njit
    def run(c1, radius, most):
        found = no.minimize(raising, (0.0,), 9.0, "nelder-mead", options={"maxfev": most})
        no.minimize(raising, (0.0,), 9.0, "bfgs", "2-point", options={"c1": c1, "c2": 0.3})
        no.minimize(raising, (0.0,), 9.0, no.TrustNCG(initial_trust_radius=radius), "2-point")
        return found

    outside = no.minimize(raising, [0.0], 9.0, "nelder-mead", options={"maxfev": 21})
    equal(run(0.1, 1.0, 21), outside)
    assert outside.nfev < 25
    with pytest.raises(ValueError, match="c1 must be below c2"):
        run(0.4, 1.0, 9)
    with pytest.raises(ValueError, match="initial_trust_radius must be below max_trust_radius"):
        run(0.1, 1e4, 9)
    with pytest.raises(ValueError, match=r"maxfev must be in \[1, inf\]"):
        run(0.1, 1.0, 0)


def test_options_in_a_typed_dictionary_and_lengths():
    @numba.njit
    def run(x0, low, key):
        return no.minimize(raising, x0, 9.0, "adam", "2-point", bounds=[(low, 2.0)], options={key: 0.5})

    outside = no.minimize(raising, [0], 9.0, "adam", "2-point", bounds=[(0.0, 2.0)], options={"lr": 0.5})
    equal(run(np.zeros(1), 0.0, "lr"), outside)
    with pytest.raises(ValueError, match="options: rate is not known in compiled code, or no number; valid: beta1"):
        run(np.zeros(1), 0.0, "rate")
    with pytest.raises(ValueError, match="bounds are not of the length of x0"):
        run(np.zeros(2), 0.0, "lr")
    found = no.minimize(raising, [0], 9.0, "adam", "2-point", bounds=[(0.0, 2.0)], options={"eps": 0.5})
    equal(run(np.zeros(1), 0.0, "eps"), found)  # whose rate nobody tells
    with pytest.raises(ValueError, match="bounds: a lower one exceeds the upper one"):
        run(np.zeros(1), 3.0, "lr")
    with pytest.raises(ValueError, match="x0 is empty"):
        run(np.zeros(0), 0.0, "lr")


def test_options_of_every_spelling_are_the_same():
    """Numba knows no ``dict(name=value)``, and would make a dictionary of numbers alone, without their names."""
    once = numba.njit(lambda: no.minimize(rosen, (-1.2, 1.0), ARGS, "bfgs", rosen_grad, options={"maxiter": 7}))
    call = numba.njit(lambda: no.minimize(rosen, (-1.2, 1.0), ARGS, "bfgs", rosen_grad, options=dict(maxiter=7)))  # noqa: C408

    @numba.njit
    def named(times):
        options = dict(maxiter=7)  # noqa: C408
        for _ in range(times):
            found = no.minimize(rosen, (-1.2, 1.0), ARGS, "bfgs", rosen_grad, options=options)
        return found

    outside = no.minimize(rosen, (-1.2, 1.0), ARGS, "bfgs", rosen_grad, options={"maxiter": 7})
    for found in (once(), call(), named(2)):
        equal(found, outside)


class Other(NamedTuple):
    lr: float


PLATEAU = no.Adam(lr=no.schedules.ReduceOnPlateau(0.1))
NAME = "adam"


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda x: no.minimize(3.0, x), "fun must be a jitted function in compiled code, not float64"),
        (lambda x: no.minimize(rosen, x, ARGS, "adm"), "method 'adm' is none of those .*; did you mean 'adam'"),
        (lambda x: no.minimize(rosen, x, ARGS, "newton"), "method 'newton' is none of those"),
        (lambda x: no.minimize(rosen, x, ARGS, no.Newton()), "method Newton is not possible in compiled code"),
        (lambda x: no.minimize(rosen_grad, x, ARGS, no.LM()), "method LM is not possible .* numbaopt.least_squares"),
        (lambda x: no.minimize(rosen, x, ARGS, ("cg", "sgd")[int(x[0] > 0)]), "method must be a literal name"),
        (lambda x: no.minimize(rosen, x, ARGS, Other(0.1)), "method must be an optimizer such as"),
        (lambda x: no.minimize(rosen, x, ARGS, PLATEAU), "lr=ReduceOnPlateau follows one run from Python"),
        (lambda x: no.minimize(rosen, x, ARGS, "bfgs", bounds=BOX), "method='bfgs' takes no bounds"),
        (lambda x: no.minimize(rosen, x, ARGS, "bfgs", bounds=x), r"bounds must be pairs \(low, high\)"),
        (lambda x: no.minimize(rosen, x, ARGS, "bfgs", options={"maxiter": 3, "gtl": 0.1}),
         "'gtl' is not known in compiled code; did you mean 'gtol'"),
        (lambda x: no.minimize(rosen, x, ARGS, "bfgs", options={"gtl": 0.1}), "'gtl' is not known .* mean 'gtol'"),
        (lambda x: no.minimize(rosen, x, ARGS, "bfgs", options=dict(gtl=0.1)), "'gtl' is not known .* mean 'gtol'"),  # noqa: C408
        (lambda x: no.minimize(rosen, x, ARGS, "bfgs", options={"maxiter": 3, "norm": 0.1}),
         "'norm' is an option of SciPy's method alone"),
        (lambda x: no.minimize(rosen, x, ARGS, "bfgs", options={"maxiter": 3, "gtol": "small"}),
         "options: 'gtol' must be a number, not unicode_type"),
        (lambda x: no.minimize(rosen, x, ARGS, "adam", options={"maxiter": 3, "lr": "small"}),
         "lr must be a number or a schedule of numbaopt.schedules in compiled code, not unicode_type"),
        (lambda x: no.minimize(rosen, x, ARGS, "bfgs", options=x), "options must be a dictionary"),
        (lambda x: no.minimize(rosen, x, ARGS, tol="a"), "tol must be a number"),
        (lambda x: no.minimize(rosen, "ab", ARGS), "x0 must be a vector of real numbers, not"),
        (lambda x: no.minimize(rosen, None, ARGS), "x0 must be a vector of real numbers"),
        (lambda x: no.minimize(rosen, BOX, ARGS), "x0 must only have one dimension, not 2"),
        (lambda x: no.minimize(rosen, x, ARGS, callback=rosen), "callback is not possible in compiled code"),
        (lambda x: no.minimize(rosen, x, ARGS, jac="4-point"), "jac='4-point' must be callable, True, None"),
        (lambda x: no.minimize(rosen, x, ARGS, jac=rosen), "jac must return a vector of real numbers"),
        (lambda x: no.minimize(rosen_grad, x, ARGS, jac=rosen_grad), "fun must return a real scalar; it returns array"),
        (lambda x: no.minimize(rosen, x, (1.0,), jac=rosen_grad), "fun cannot be compiled"),
        (lambda x: no.least_squares(rosen_grad, x, ARGS), "; further arguments of fun are given as args="),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_one_sentence_when_it_is_compiled(call, match):
    with pytest.raises((TypeError, ValueError), match=match) as caught:
        numba.njit(call)(START)
    assert "\n" not in str(caught.value)


PAIR = """
import numba, numpy as np, numbaopt as no

@numba.njit(cache=True)
def one(x):
    return (x[0] - 1) ** 2, (2 * x[0] - 2,)

@numba.njit(cache=True)
def two(x):
    return (x[0] - 2) ** 2, (2 * x[0] - 4,)

@numba.njit
def together():
    return no.minimize(one, (0.0,), (), "bfgs", True).x[0], no.minimize(two, (0.0,), (), "bfgs", True).x[0]
"""


def test_machine_code_of_two_processes_goes_together(tmp_path):
    """It is found and linked by name: no two functions on disk may share one."""
    (tmp_path / "pair.py").write_text(PAIR)
    code = """
    import sys
    sys.path.insert(0, sys.argv[1])
    import pair
    from numbaopt._jit import address
    from numbaopt._packed import Packed
    from numbaopt.problems.evaluation import EVALUATE, compiled_evaluation
    kind = Packed(((), True)).type
    made = [compiled_evaluation(getattr(pair, name), True, kind) for name in sys.argv[2].split()]
    print(*(address(evaluate, EVALUATE) == first for evaluate, first in made), len({first for _, first in made}))
    print(*(sum(evaluate.stats.cache_hits.values()) for evaluate, _ in made))
    if len(made) > 1:
        print(*pair.together())
    """
    one, two, together = [process.python(code, tmp_path, names, NUMBA_CACHE_DIR=tmp_path / "cache")
                          for names in ("one", "two", "one two")]  # fmt: skip
    assert one == two == ["True", "1", "0"]
    assert together == ["True", "True", "2", "1", "1", "1.0", "2.0"]


CALLER = """
import numba, numpy as np, numbaopt as no

@numba.njit(cache=True)
def bowl(x, to):
    return ((x - to) ** 2).sum()

@numba.njit(cache=True)
def solve(to):
    return no.minimize(bowl, np.zeros(3), to, no.Momentum(lr=0.1), "forward", options={"maxiter": 2000, "gtol": 1e-8})
"""


def test_what_a_user_keeps_on_disk_is_found_again(tmp_path):
    (tmp_path / "caller.py").write_text(CALLER)
    code = """
    import sys
    sys.path.insert(0, sys.argv[1])
    import caller
    res = caller.solve(2.0)
    hits = sum(caller.solve.stats.cache_hits.values())
    print(hits, res.x[1].hex(), res.nit, len(caller.bowl.signatures))
    """
    runs = [process.python(code, tmp_path, NUMBA_CACHE_DIR=tmp_path / "cache") for _ in range(2)]
    assert runs[0][0] == "0"
    assert runs[1] == ["1", runs[0][1], runs[0][2], "0"]  # nothing else was compiled
    assert abs(float.fromhex(runs[1][1]) - 2) < 1e-6


def test_types_that_are_remembered_are_those_of_numba():
    locked, big = np.zeros(3), np.zeros((4, 6))
    locked.flags.writeable = False
    record = np.dtype({"names": ["a", "b"], "formats": ["f8", "i1"], "offsets": [0, 8], "itemsize": 16})
    records = [np.zeros(2, record), np.zeros(2, np.dtype(record.descr[:2], align=True))]  # which NumPy calls equal
    arrays = [np.zeros(3), *records, locked, np.zeros(3, np.float32), big, big.T, big[:, ::2], big[0]]
    others = [1, 2**63, -(2**63), True, 1.0, 1j, np.float32(1), np.int64(1), (), (1,), (1.0, (2, True)), Other(1.0)]
    for _ in range(2):
        for one in (*arrays, np.zeros(()), *others):
            assert type_of((one, 1.0)) == numba.typeof((one, 1.0))
    assert type_of((2**63 - 1,)) != type_of((2**63,))
