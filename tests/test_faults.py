"""What a person may rely on when things go wrong, asked of every method and of every verb for functions."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import process
import pytest

import numbaopt as no
from numbaopt.status import RAISED

METHODS = {"adam": {"lr": 0.05}, "nesterov": {}, "lbfgs": {}, "BFGS": {}, "CG": {}, "trust-ncg": {}, "Nelder-Mead": {}}
START = np.array([-1.2, 1.0])
CALLS = np.zeros(1, np.int64)  # evaluations so far; an argument, as compiled code does not see other globals change
EVERY = pytest.mark.parametrize("method", METHODS)


@numba.njit
def rosen(x, calls, after, kind):
    calls[0] += 1
    if calls[0] > after:
        if kind == 0:
            raise ArithmeticError("in the middle")
        return np.nan
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


@numba.njit
def rosen_grad(x, calls, after, kind):
    return np.array([-400 * x[0] * (x[1] - x[0] ** 2) - 2 * (1 - x[0]), 200 * (x[1] - x[0] ** 2)])


@numba.njit
def residuals(x, calls, after, kind):
    calls[0] += 1
    if calls[0] > after:
        if kind == 0:
            raise ArithmeticError("in the middle")
        return np.full(2, np.nan)
    return np.array([10 * (x[1] - x[0] ** 2), 1 - x[0]])


@numba.njit
def residuals_jac(x, calls, after, kind):
    return np.array([[-20 * x[0], 10.0], [-1.0, 0.0]])


def run(method, after=1 << 60, kind=0, **more):
    """One call of a method, ``fit`` for residuals, from evaluation 0."""
    CALLS[0] = 0
    args = (CALLS, after, kind)
    if method == "fit":
        return no.least_squares(residuals, START, residuals_jac, args=args, **more)
    return no.minimize(rosen, START, args, method, rosen_grad, options=METHODS[method], **more)


@pytest.mark.parametrize("method", [*METHODS, "fit"])
def test_an_objective_that_raises_or_is_nan_in_the_middle(method):
    """Rows 4 and 13: the same exception, the next call works; NaN is no success and x is the best point seen."""
    whole, kept = run(method), START.copy()
    np.testing.assert_allclose(whole.x, 1, atol=0.05)
    for after in (4, 9):
        with pytest.raises(ArithmeticError, match="in the middle"):
            run(method, after)
        broken = run(method, after, 1)
        assert not broken.success
        assert np.isfinite(broken.x).all()
        (a, b), best = broken.x, 100 * (START[1] - START[0] ** 2) ** 2 + (1 - START[0]) ** 2
        assert 100 * (b - a**2) ** 2 + (1 - a) ** 2 <= best
    again = run(method)
    np.testing.assert_array_equal(again.x, whole.x)
    assert again.nfev == whole.nfev
    np.testing.assert_array_equal(START, kept)
    if method == "fit":
        with pytest.raises(ValueError, match="Residuals are not finite at x0: component 0 is nan"):
            run(method, 0, 1)
        return
    at_start = run(method, 0, 1)
    assert at_start.status == 2
    assert "starting point (step 0) the objective is" in at_start.message


def test_many_problems_of_which_some_raise():
    args = (np.zeros(1, np.int64), np.array([1 << 60, 6, 1 << 60, 0]), np.array([0, 0, 1, 1]))
    with numba_threads(1):  # they share a counter
        for method, options in METHODS.items():
            args[0][0] = -(1 << 40)
            res = no.minimize_many(rosen, START, args, (False, True, True), method, rosen_grad, options=options)
            assert res.status[0] in (0, 1, 3), method
        args[0][0] = 0
        res = no.minimize_many(rosen, START, args, (False, True, True), "BFGS", rosen_grad)
    assert res.status[[0, 2]].tolist() == [0, 0]
    assert res.status[1] == RAISED
    assert res.status[3] == 2


class numba_threads:
    def __init__(self, count):
        self.count, self.before = count, numba.get_num_threads()

    def __enter__(self):
        numba.set_num_threads(self.count)

    def __exit__(self, *_):
        numba.set_num_threads(self.before)


def longer(x, calls, after, kind):
    return np.zeros(3)


@pytest.mark.parametrize("jac", [longer, numba.njit(longer)], ids=["plain", "jitted"])
def test_a_gradient_of_the_wrong_shape_is_an_error_everywhere(jac):
    """Row 5."""
    args, told = (CALLS, 1 << 60, 0), r"jac returned a gradient of shape \(3,\), x has shape \(2,\)"
    for method, options in METHODS.items():
        if method != "Nelder-Mead":  # which asks for none
            with pytest.raises(ValueError, match=told):
                no.minimize(rosen, START, args, method, jac, options=options)
    with pytest.raises(ValueError, match=told):
        no.minimize_many(rosen, START, (CALLS, np.full(3, 1 << 60), 0), (False, True, False), "BFGS", jac)
    with pytest.raises(ValueError, match=r"a matrix of shape \(2, 3\), for 2 residuals and 2 unknowns|one dimension"):
        no.least_squares(residuals, START, lambda x, *args: np.zeros((2, 3)), args=args)


def vector(x):
    return x * 2.0


VERBS = {
    "minimize": lambda fun, x0, **more: no.minimize(fun, x0, **more),
    "minimize_many": lambda fun, x0, **more: no.minimize_many(fun, x0, **more),
    "least_squares": lambda fun, x0, **more: no.least_squares(fun, x0, **more),
}


@pytest.mark.parametrize("verb", VERBS)
def test_unusable_starts_and_objectives(verb):
    """Row 6."""
    starts = {"complex": np.ones((2, 2), complex), "object": np.array([[None, 1.0]]), "str": np.array([["a", "b"]]),
              "empty": np.zeros((2, 0)), "deep": np.ones((2, 2, 2))}  # fmt: skip
    for name, x0 in starts.items():
        with pytest.raises((TypeError, ValueError), match=r"(?i)x0") as caught:
            VERBS[verb](vector, x0 if verb == "minimize_many" or name == "deep" else x0[0])
        assert "\n" not in str(caught.value)
    if verb != "least_squares":
        with pytest.raises((TypeError, ValueError), match="must return a real scalar"):
            VERBS[verb](vector, np.ones((2, 2)) if verb == "minimize_many" else np.ones(2))
    with pytest.raises(TypeError, match="fun must be callable"):
        VERBS[verb](3.0, np.ones((2, 2)) if verb == "minimize_many" else np.ones(2))


@pytest.mark.parametrize("verb", VERBS)
def test_what_cannot_be_compiled_runs_with_one_warning(verb):
    """Row 14."""

    def opaque(x):
        r = np.array([float(str(x[0] - 1)), x[1] + 2])
        return r if verb == "least_squares" else (r**2).sum()

    x0, jit = np.zeros((1, 2)) if verb == "minimize_many" else np.zeros(2), {"options": {"jit": True}}
    with pytest.warns(RuntimeWarning) as told:
        res = VERBS[verb](opaque, x0)
    np.testing.assert_allclose(np.ravel(res.x), [1, -2], atol=1e-5)
    assert len(told) == 1
    assert "runs from Python" in str(told[0].message)
    assert "\n" not in str(told[0].message)
    with pytest.raises(TypeError, match="cannot be compiled"):
        VERBS[verb](opaque, x0, **jit)


@numba.njit
def slow(x, work):
    total, waste = 0.0, 0.0
    for i in range(x.size - 1):
        total += 100 * (x[i + 1] - x[i] ** 2) ** 2 + (1 - x[i]) ** 2
    for k in range(work):
        waste += np.sin(total + k)
    return total + 1e-300 * waste


@numba.njit
def slow_grad(x, work):
    g = np.zeros(x.size)
    for i in range(x.size - 1):
        g[i] -= 400 * x[i] * (x[i + 1] - x[i] ** 2) + 2 * (1 - x[i])
        g[i + 1] += 200 * (x[i + 1] - x[i] ** 2)
    return g


@numba.njit
def slow_residuals(x, work):
    waste = slow(x, work)
    r = np.empty(2 * (x.size - 1))
    for i in range(x.size - 1):
        r[2 * i], r[2 * i + 1] = 10 * (x[i + 1] - x[i] ** 2) + 1e-300 * waste, 1 - x[i]
    return r


WORK = 500_000  # some 10 ms
FOREVER = {"xatol": 0.0, "fatol": 0.0, "maxiter": 10**6}
LONG = {
    **{method: lambda x0, most, work, method=method, options=options: no.minimize(
        slow, x0, work, method, slow_grad,
        options={**options, **(FOREVER if method == "Nelder-Mead" else {"gtol": 0.0}), "maxiter": most})
       for method, options in METHODS.items()},
    "fit": lambda x0, most, work: no.least_squares(slow_residuals, x0, "2-point", args=(work // 4,), max_nfev=most),
    "many": lambda x0, most, work: no.minimize_many(slow, np.tile(x0, (20, 1)), work, False, "BFGS", slow_grad,
                                                    options={"maxiter": most}),
    "multistart": lambda x0, most, work: no.multistart(slow, [(-2, 2)] * x0.size, 32, work, method="adam",
                                                       jac=slow_grad, options={"lr": 0.01, "maxiter": most}),
}  # fmt: skip


@pytest.mark.parametrize("method", LONG)
def test_ctrl_c_is_heeded_in_every_loop(method):
    """Row 15."""
    x0 = np.tile(START, 10)
    LONG[method](x0, 1, 1)  # compiles
    before, sent = signal.signal(signal.SIGINT, signal.default_int_handler), []

    def send():
        time.sleep(0.2)
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    sender = threading.Thread(target=send)
    try:
        sender.start()
        with pytest.raises(KeyboardInterrupt) as caught:
            LONG[method](x0, 10**6, WORK)
        took = time.perf_counter() - sent[0]
    finally:
        sender.join()
        signal.signal(signal.SIGINT, before)
    assert took < 2.0  # on a machine at work with other things; alone it is a slice of some 20 ms
    assert np.isfinite(caught.value.result.x).all()


RACE = """
import pathlib, sys, time
sys.path.insert(0, sys.argv[1])
import numba, numpy as np, numbaopt as no, users

pathlib.Path(sys.argv[2]).touch()
while len(list(pathlib.Path(sys.argv[1]).glob("ready*"))) < int(sys.argv[3]):
    time.sleep(0.001)
t = np.linspace(0, 2, 20)
y = 3 * np.exp(-t) + 0.01 * np.cos(9 * t)
X = np.sin(np.outer(1 + t, [1.0, 2.0, 3.0]))
opt, options = no.SGD(lr=1e-3), {"maxiter": 500, "gtol": 1e-5}
"""
PARTS = {
    "minimize": """
one = no.minimize(users.rosen, [-1.2, 1.0], 10.0, opt, "forward", options=options)
inside = numba.njit(lambda a: no.minimize(users.rosen, (-1.2, 1.0), a, opt, "forward", options={"maxiter": 500}).x)
assert (inside(10.0) == one.x).all()
told = one.x, one.jac
""",
    "minimize_many": """
many = no.minimize_many(users.rosen, [-1.2, 1.0], np.linspace(1, 10, 9), True, opt, "forward", options=options)
told = many.x, many.fun
""",
    "least_squares": """
fit = no.least_squares(users.decay, [1.0, 1.0], "2-point", args=(t, y))
told = fit.x, fit.jac
""",
    "value_and_grad": """
value, gradient = no.value_and_grad(users.misfit)(np.ones(3), X, y)
told = value, gradient, no.grad(users.misfit, mode="forward")(np.ones(3), X, y)
""",
    "LinearModel": """
model = no.LinearModel(X, y, loss="huber")
whole, batches = (no.minimize(model, method="adam", options={"lr": 0.1, "epochs": 9, **more})
                  for more in ({}, {"batch_size": 4}))
told = whole.x, batches.x, batches.jac
""",
}
TOLD = "print(*(value.hex() for array in told for value in np.ravel(array).tolist()))"
USERS = """
import numba, numpy as np

@numba.njit(cache=True)
def rosen(x, a):
    return a * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2

@numba.njit(cache=True)
def decay(x, t, y):
    return x[0] * np.exp(-x[1] * t) - y

@numba.njit(cache=True)
def misfit(x, X, y):
    return ((X @ x - y) ** 2).sum()
"""


def raced(code, folder, cache, processes):
    """What so many processes print that begin at once with one cache, and their warnings."""
    for former in folder.glob("ready*"):
        former.unlink()
    running = [process.start(code, folder, folder / f"ready{k}", processes, NUMBA_CACHE_DIR=cache)
               for k in range(processes)]  # fmt: skip
    return list(map(process.finish, running))


@pytest.mark.process
@pytest.mark.parametrize("part", PARTS)
def test_cold_and_damaged_caches(part, tmp_path):
    """Rows 21 and 22: processes at once, every entry cut short: the same bits."""
    processes, rounds = map(int, os.environ.get("NUMBAOPT_RACES", "2x1").split("x"))
    (tmp_path / "users.py").write_text(USERS)
    code, found = RACE + PARTS[part] + TOLD, set()
    for turn in range(rounds):
        cache = tmp_path / f"cache{turn}"
        found.update(raced(code, tmp_path, cache, processes))
        assert len(found) == 1, turn
    ((first, errors),) = found
    assert errors == ""
    entries = sorted(cache.glob("**/*.nbo"))
    assert entries
    for entry in entries:
        entry.write_bytes(entry.read_bytes()[: entry.stat().st_size // 2])
    ((damaged, errors),) = raced(code, tmp_path, cache, 1)
    assert damaged == first
    assert 0 < errors.count("RuntimeWarning") == errors.count("in the compile cache is damaged") <= len(entries)


def test_threads_may_call_everything_at_once():
    """Row 24: also what each of them is the first to compile."""

    @numba.njit
    def bowl(x, to):
        return ((x - to) ** 2).sum()

    @numba.njit
    def apart(x, to):
        return x - to

    @numba.njit(nogil=True)
    def inside(to):
        return no.minimize(bowl, (0.0, 0.0), to, "bfgs", "forward").x

    calls = [lambda: no.minimize(bowl, np.zeros(2), 3.0, "bfgs", "forward").x, lambda: inside(3.0),
             lambda: no.minimize_many(bowl, np.zeros((30, 2)), (np.full(30, 3.0),), True, "bfgs", "forward").x[17],
             lambda: no.least_squares(apart, np.zeros(2), "2-point", args=(3.0,)).x]  # fmt: skip
    with ThreadPoolExecutor(8) as pool:
        found = [[job.result() for job in jobs] for jobs in
                 [[pool.submit(call) for call in calls] for _ in range(12)]]  # fmt: skip
    for one in found:
        for k in range(3):
            np.testing.assert_array_equal(one[k], found[0][0])
        np.testing.assert_allclose(one[3], 3.0, rtol=1e-9)
