"""float32 in, float32 out: runs of functions in the dtype of an x0 that is a float32 array, and of no other."""

import numba
import numpy as np
import pytest
from problems import same

import numbaopt as no
from numbaopt.loops import automatic

START = np.array([-1.2, 1.0], np.float32)
SINGLE = np.dtype(np.float32)


@numba.njit
def rosen(x, a):
    return a * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


@numba.njit
def rosen_grad(x, a):
    return np.array([-4 * a * x[0] * (x[1] - x[0] ** 2) - 2 * (1 - x[0]), 2 * a * (x[1] - x[0] ** 2)], x.dtype)


@pytest.mark.parametrize("method", ["adam", no.Nesterov(lr=2e-3), "lbfgs", "BFGS", "CG", "trust-ncg", "Nelder-Mead"])
def test_every_method(method):
    kept = START.copy()
    res = no.minimize(rosen, START, 50, method, rosen_grad)
    assert res.x.dtype == SINGLE
    assert res.get("jac", START).dtype == SINGLE
    assert res.run.state.dtype == SINGLE
    np.testing.assert_allclose(res.x, 1, atol=3e-3)
    if res.success and "jac" in res:
        assert abs(rosen_grad(res.x, 50)).max() <= max(1e-5, res.history.grad_norm[-1] * 1.01)
    if not res.success:
        assert res.status == 3  # what float32 lets a gradient reach
    np.testing.assert_array_equal(START, kept)


@pytest.mark.parametrize("bounds", [None, [(None, 0.5), (None, None)]])
def test_steps_are_those_of_step(bounds):
    opt, x = no.Adam(lr=0.01), START.copy()
    state, high = no.init_state(opt, x), np.array([0.5, np.inf], np.float32)
    for t in range(1, 51):
        no.step(opt, x, rosen_grad(x, 50), state, t)
        x = x if bounds is None else np.minimum(x, high)
    res = no.minimize(rosen, START, 50, opt, rosen_grad, bounds=bounds, options={"maxiter": 50, "gtol": 0})
    np.testing.assert_array_equal(res.run.x, x)


def test_many_problems_are_those_of_one():
    starts = np.array([[-1.2, 1.0], [0.5, -0.5], [2.0, 2.0]], np.float32)
    a = np.array([10.0, 50.0, 20.0])
    res = no.minimize_many(rosen, starts, a, True, "BFGS", rosen_grad)
    assert res.x.dtype == SINGLE
    ones = [no.minimize(rosen, x0, (scale,), "BFGS", rosen_grad) for x0, scale in zip(starts, a, strict=True)]
    np.testing.assert_array_equal(res.x, [one.x for one in ones])
    assert res.nit.tolist() == [one.nit for one in ones]
    assert no.minimize_many(rosen, START, a, True, "BFGS", rosen_grad).x.dtype == SINGLE
    assert no.minimize_many(rosen, starts.astype(float), a, True, "BFGS", rosen_grad).x.dtype == float


@pytest.mark.parametrize("call", [
    lambda x0: no.minimize(rosen, x0, 50.0, "adam", "forward", options={"maxiter": 300}),
    lambda x0: no.minimize(rosen, x0, 50.0, no.BFGS(), rosen_grad),
    lambda x0: no.minimize(rosen, x0, 50.0, no.BFGS(), "2-point"),
], ids=["a rate that is found", "bfgs", "differences"])  # fmt: skip
def test_inside_compiled_code(call):
    inside, outside = numba.njit(call)(START), call(START)
    assert inside.x.dtype == inside.jac.dtype == outside.x.dtype
    for name in ("x", "fun", "jac", "nit", "nfev", "status"):
        np.testing.assert_array_equal(getattr(inside, name), outside[name], err_msg=name)


def test_exact_gradients_and_what_else_float64_is_for():
    assert no.minimize(rosen, START, 50, "BFGS").jac.dtype == SINGLE  # exact
    assert no.minimize(rosen, START, 50, "BFGS", "2-point").x.dtype == float
    assert no.minimize(rosen, START, 50, "SLSQP", rosen_grad).x.dtype == float
    for x0 in (list(START), START.astype(np.float16), tuple(START)):
        assert no.minimize(rosen, x0, 50, "BFGS", rosen_grad).x.dtype == float
    assert no.minimize(rosen, START.astype(">f4"), 50, "BFGS", rosen_grad).x.dtype == SINGLE

    @numba.njit("float64(float64[::1])")
    def insists(x):
        return ((x - 1) ** 2).sum()

    res = no.minimize(insists, START, jac=lambda x: 2 * (x - 1))
    assert res.x.dtype == float
    np.testing.assert_allclose(res.x, 1, atol=1e-5)


def test_nobody_else_compiles_anything():
    @numba.njit
    def bowl(x):
        return ((x - 1) ** 2).sum()

    def bowl_grad(x):
        return 2 * (x - 1)

    loop = automatic.compiled(np.dtype(float))
    before = len(loop.signatures)
    no.minimize(bowl, [0.0, 0.0], (), "adam", bowl_grad)
    no.minimize(bowl, START.astype(">f8"), (), "adam", bowl_grad)
    assert (len(bowl.signatures), len(loop.signatures)) == (1, before)
    no.minimize(bowl, START, (), "adam", bowl_grad)
    no.minimize(bowl, START[::-1], (), "adam", bowl_grad)
    assert (len(bowl.signatures), len(loop.signatures)) == (2, max(before, 2))


def test_from_python_the_function_sees_it():
    seen = []

    def watched(x):
        seen.append(x.dtype)
        return float(((x - 1) ** 2).sum())

    res = no.minimize(watched, START, jac=lambda x: 2 * (x - 1), options={"jit": False})
    assert set(seen) == {SINGLE} == {res.x.dtype}
    seen.clear()
    assert no.minimize(watched, START, options={"jit": False}).x.dtype == float  # by differences
    assert set(seen) == {np.dtype(float)}

    def opaque(x):
        return float(str(watched(x)))

    with pytest.warns(RuntimeWarning, match="runs from Python"):
        assert no.minimize(opaque, START, jac=lambda x: 2 * (x - 1)).x.dtype == SINGLE


def test_a_run_goes_on_from_its_checkpoint(tmp_path):
    path, options = tmp_path / "run.npz", {"maxiter": 40, "gtol": 0.0}
    whole = no.minimize(rosen, START, 50, "BFGS", rosen_grad, options=options)
    no.minimize(rosen, START, 50, "BFGS", rosen_grad, options={**options, "maxiter": 7, "checkpoint": path})
    rest = no.resume(path, rosen, 50, rosen_grad, options={"maxiter": 40})
    assert rest.x.dtype == SINGLE
    same(whole, rest)


def test_problems_that_run_from_python_keep_what_they_find():
    def plain(x, a):
        return a * float((x[0] - 0.1) ** 2)

    starts = np.array([[0.5], [0.7]], np.float32)
    res = no.minimize_many(plain, starts, (3.0,), False, "BFGS", "3-point", options={"jit": False})
    assert res.x.dtype == float
    assert [plain(x, 3.0) for x in res.x] == res.fun.tolist()
