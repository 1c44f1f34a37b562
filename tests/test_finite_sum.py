"""Finite sums: the textbook's minibatch loop whatever the function looks like, chunks, faults, resumption."""

import warnings

import numba
import numpy as np
import pytest
from problems import same, table
from process import python

import numbaopt as no
from numbaopt.loops.shuffle import epoch_order
from numbaopt.problems import finite_sum
from numbaopt.transforms import ClipByNorm, ClipByValue, WeightDecay, chain

ROWS = 101
X, Y, _ = table(rows=ROWS)
START = np.full(7, 0.5)


@numba.njit
def fun(x, idx, X, y):
    total = 0.0
    for i in idx:
        total += 0.5 * ((X[i] * x).sum() - y[i]) ** 2
    return total / idx.size


@numba.njit
def jac(x, idx, X, y):
    g = np.zeros_like(x)
    for i in idx:
        g += ((X[i] * x).sum() - y[i]) * X[i]
    return g / idx.size


@numba.njit
def pair(x, idx, X, y):
    return fun(x, idx, X, y), jac(x, idx, X, y)


def plain(x, idx, X, y):
    return 0.5 * ((X[idx] @ x - y[idx]) ** 2).mean()


def plain_jac(x, idx, X, y):
    return (X[idx] @ x - y[idx]) @ X[idx] / len(idx)


def numpy_jac(x, idx, X, y):
    return np.asarray(plain_jac(x, idx, X, y), dtype="float64")  # nothing that Numba could compile


FORMS = {"fun and jac": (fun, jac), "pair": (pair, True), "exact": (fun, None), "3-point": (fun, "3-point"),
         "2-point": (fun, "2-point"), "plain": (fun, numpy_jac)}  # fmt: skip


def textbook(order_of, epochs, size, lr=0.1, x=START):
    """The loop of every textbook; x after every epoch."""
    path = [x]
    for epoch in range(epochs):
        order = order_of(epoch)
        for first in range(0, ROWS, size):
            x = x - lr * plain_jac(x, order[first : first + size], X, Y)
        path.append(x)
    return path


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("chunk_size", [4096, 3])
@pytest.mark.filterwarnings("ignore:the objective runs from Python")
def test_minibatch_training_equals_the_textbooks_loop(form, shuffle, chunk_size):
    function, gradient = FORMS[form]
    terms = no.FiniteSum(function, ROWS, (X, Y), gradient, chunk_size)
    options = {"lr": 0.1, "batch_size": 8, "epochs": 3, "seed": 5, "shuffle": shuffle}
    res = no.minimize(terms, START, method="sgd", options=options)
    path = textbook(lambda epoch: epoch_order(ROWS, 5, epoch, shuffle), 3, 8)
    rtol = {"3-point": 1e-8, "2-point": 1e-6}.get(form, 1e-12)
    assert res.nit == 39
    np.testing.assert_allclose(res.history.fun, [plain(x, np.arange(ROWS), X, Y) for x in path], rtol=rtol)
    np.testing.assert_allclose(res.x, path[-1], rtol=rtol)
    np.testing.assert_array_equal(res.history.epoch, [0, 1, 2, 3])


@pytest.mark.parametrize("opt", [
    no.Adam(0.05), no.Nesterov(no.schedules.Cosine(0.05, steps=40)), no.RMSprop(no.schedules.ReduceOnPlateau(0.05)),
    chain(ClipByNorm(0.1), WeightDecay(0.01), no.AdaGrad(0.1)), chain(ClipByValue(0.01), no.Lion(0.01)),
], ids=repr)  # fmt: skip
def test_a_linear_model_written_as_a_sum_takes_the_same_steps(opt):
    model, terms = no.LinearModel(X, Y, fit_intercept=False), no.FiniteSum(fun, ROWS, (X, Y), jac)
    options = {"batch_size": 16, "epochs": 6, "seed": 2}
    one, other = (no.minimize(problem, START, method=opt, options=options) for problem in (model, terms))
    np.testing.assert_allclose(one.x, other.x, rtol=1e-9)
    np.testing.assert_allclose(one.history.fun, other.history.fun, rtol=1e-9)
    np.testing.assert_array_equal(one.history.lr, other.history.lr)
    assert (one.nit, one.nfev, one.njev) == (other.nit, other.nfev, other.njev)


@pytest.mark.parametrize("batch_size", [None, 16])
def test_no_call_is_given_more_terms_than_a_chunk_and_none_is_left_out(batch_size):
    seen = []

    def watched(x, idx, X, y):
        seen.append(idx.copy())
        return plain(x, idx, X, y), plain_jac(x, idx, X, y)

    options = {"lr": 0.1, "batch_size": batch_size, "epochs": 1, "jit": False}
    res = no.minimize(no.FiniteSum(watched, ROWS, (X, Y), True, 10), START, method="sgd", options=options)
    whole = [list(range(first, min(first + 10, ROWS))) for first in range(0, ROWS, 10)]
    order = epoch_order(ROWS, 0, 0).tolist()
    batches = [order[first : first + 16] for first in range(0, ROWS, 16)]
    batches = [part for batch in batches for part in (batch[:10], batch[10:]) if part] if batch_size else []
    assert [idx.tolist() for idx in seen] == [*whole, *batches, *whole, *(whole if batch_size else [])]
    assert {idx.dtype for idx in seen} == {np.dtype(np.int64)}
    np.testing.assert_allclose(res.x, textbook(lambda _: np.array(order), 1, batch_size or ROWS)[-1], rtol=1e-12)


@pytest.mark.parametrize("size", [1, 5])
def test_accumulated_batches_make_the_step_of_a_larger_one(size):
    most = [0]

    def watched(x, idx, X, y):
        most[0] = max(most[0], idx.size)
        return plain(x, idx, X, y), plain_jac(x, idx, X, y)

    terms = no.FiniteSum(watched, ROWS, (X, Y), True, chunk_size=size)
    options = {"lr": 0.1, "epochs": 2, "seed": 3, "jit": False}
    res = no.minimize(terms, START, method="adam", options={**options, "batch_size": size, "accumulate": 20 // size})
    alone = no.FiniteSum(pair, ROWS, (X, Y), True)
    told = no.minimize(alone, START, method="adam", options={**options, "batch_size": 20})
    assert most == [size]
    assert res.nit == told.nit == 12
    np.testing.assert_allclose(res.x, told.x, rtol=1e-10)


def test_batches_that_accumulate_are_given_apart_whatever_the_chunk(tmp_path):
    @numba.njit
    def watched(x, idx, X, y, most):
        most[0] = max(most[0], idx.size) if idx.size < 100 else most[0]  # the whole objective is one chunk
        return pair(x, idx, X, y)

    most, path = np.zeros(1, int), tmp_path / "run.npz"
    terms = no.FiniteSum(watched, ROWS, (X, Y, most), True)
    terms.digest = lambda: "whatever was seen"
    options = {"lr": 0.1, "batch_size": 4, "accumulate": 6, "epochs": 4}
    once = no.minimize(terms, START, method="adam", options=options)
    no.minimize(terms, START, method="adam", options={**options, "maxiter": 7, "checkpoint": path})
    same(no.resume(path, terms, options={"epochs": 4}), once)
    assert most == 4


def test_validation_by_a_sum_of_held_out_terms():
    train, held_out = (no.FiniteSum(fun, 20, (X[rows], Y[rows] + 0.0), jac) for rows in (slice(20), slice(20, 40)))
    res = no.minimize(train, START, method="sgd", options={"lr": 0.2, "batch_size": 4, "epochs": 60,
                                                          "validation": held_out, "patience": 5})  # fmt: skip
    scores = res.history.score[1:]
    assert -held_out.value(res.x) == scores.max()
    assert scores.argmax() == len(scores) - 6 or len(scores) == 60
    with pytest.raises(ValueError, match="validation has 8 unknowns, the problem 7"):
        no.minimize(train, START, method="sgd", options={"batch_size": 4, "validation": no.LinearModel(X, Y)})


def test_calls_on_pieces_equal_one_call():
    pieces = [no.FiniteSum(pair, 50, (X[rows], Y[rows]), True) for rows in (slice(50), slice(50, 100))]
    whole, run = no.FiniteSum(pair, 100, (X[:100], Y[:100]), True), None
    options = {"lr": 0.05, "batch_size": 10, "shuffle": False, "epochs": 1, "history": False}
    for piece in pieces:
        run = no.minimize(piece, START, method="adam", options={**options, "run": run}).run
    once = no.minimize(whole, START, method="adam", options=options)
    np.testing.assert_array_equal(run.x, once.x)


def test_batches_ask_for_the_gradient_alone():
    @numba.njit
    def counted(x, idx, X, y, calls):
        calls[0] += 1
        return fun(x, idx, X, y)

    @numba.njit
    def counted_jac(x, idx, X, y, calls):
        calls[1] += 1
        return jac(x, idx, X, y)

    calls = np.zeros(2, int)
    terms = no.FiniteSum(counted, ROWS, (X, Y, calls), counted_jac)
    res = no.minimize(terms, START, method="sgd", options={"batch_size": 10, "epochs": 3})
    assert calls.tolist() == [res.nfev, res.njev] == [5, 5 + 33]


def test_whole_objective_without_batches():
    terms = no.FiniteSum(pair, ROWS, (X, Y), jac=True)
    every = np.arange(ROWS)
    res = no.minimize(terms, START, method="nesterov", options={"lr": 0.1, "maxiter": 50})
    alone = no.minimize(lambda x: pair(x, every, X, Y), START, method="nesterov", jac=True,
                        options={"lr": 0.1, "maxiter": 50})  # fmt: skip
    np.testing.assert_array_equal(res.x, alone.x)
    np.testing.assert_array_equal(res.history.fun, alone.history.fun)
    value, g = no.FiniteSum(pair, ROWS, (X, Y), True, chunk_size=7).value_and_grad(START)
    np.testing.assert_allclose(value, plain(START, every, X, Y), rtol=1e-14)
    np.testing.assert_allclose(g, plain_jac(START, every, X, Y), rtol=1e-13)


@pytest.mark.parametrize(("method", "form"), [("L-BFGS-B", "fun and jac"), (None, "pair"), ("Nelder-Mead", "pair"),
                                              ("Nelder-Mead", "fun and jac")])  # fmt: skip
def test_scipy_minimizes_sums_too(method, form):
    function, gradient = FORMS[form]
    terms = no.FiniteSum(function, ROWS, (X[:, :2].copy(), Y), gradient, chunk_size=30)
    res = no.minimize(terms, [0.0, 0.0], method=method)
    np.testing.assert_allclose(res.x, np.linalg.lstsq(X[:, :2], Y, rcond=None)[0], atol=1e-4)


@pytest.mark.parametrize("method", ["lbfgs", "auto"])
def test_compiled_quasi_newton_minimizes_sums_too(method):
    res = no.minimize(no.FiniteSum(pair, ROWS, (X, Y), True, chunk_size=30), START, method=method)
    assert res.success
    np.testing.assert_allclose(res.x, np.linalg.lstsq(X, Y, rcond=None)[0], atol=1e-4)
    with pytest.raises(ValueError, match="newton"):
        no.minimize(no.FiniteSum(pair, ROWS, (X, Y), True), START, method="newton")


def test_float32_stays_float32():
    single = no.FiniteSum(pair, ROWS, (X.astype(np.float32), Y.astype(np.float32)), True, dtype=np.float32)
    options = {"lr": 0.1, "batch_size": 8, "epochs": 3}
    res = no.minimize(single, START, method="adam", options=options)
    told = no.minimize(no.FiniteSum(pair, ROWS, (X, Y), True), START, method="adam", options=options)
    assert res.x.dtype == res.jac.dtype == np.float32
    np.testing.assert_allclose(res.x, told.x, rtol=1e-4)
    assert {kinds[0].dtype for kinds in pair.signatures} == {numba.float32, numba.float64}


def test_all_sums_share_the_loops():
    loops = finite_sum._loops(np.dtype(float))
    for function, gradient in list(FORMS.values())[:3]:
        no.minimize(no.FiniteSum(function, ROWS, (X, Y), gradient), START, method="sgd", options={"batch_size": 50})
    assert finite_sum._loops(np.dtype(float)) is loops
    assert [len(function.signatures) for function in loops.functions] == [1, 1]


def test_function_may_overwrite_what_it_is_lent():
    @numba.njit
    def vandal(x, idx, X, y):
        value, g = pair(x, idx, X, y)
        x[:] = np.nan
        idx[:] = 0
        return value, g

    options = {"lr": 0.1, "batch_size": 8, "epochs": 2}
    results = [no.minimize(no.FiniteSum(f, ROWS, (X, Y), True), START, method="sgd", options=options)
               for f in (vandal, pair)]  # fmt: skip
    same(*results)


@pytest.mark.parametrize("opt", [no.Adam(0.03), chain(ClipByNorm(1.0), no.Momentum(no.schedules.Cosine(0.1, 60)))])
@pytest.mark.parametrize("chunk_size", [1024, 5])
def test_resumed_run_equals_the_uninterrupted_one(opt, chunk_size, tmp_path):
    path = tmp_path / "run.npz"
    terms = no.FiniteSum(fun, ROWS, (X, Y), jac, chunk_size)
    options = {"batch_size": 8, "epochs": 5, "seed": 4}
    once = no.minimize(terms, START, method=opt, options=options)
    for cut in (0, 7, 26):
        no.minimize(terms, START, method=opt, options={**options, "maxiter": cut, "checkpoint": path})
        same(no.resume(path, terms, options={"epochs": 5}), once)
    with pytest.raises(ValueError, match="is of another problem"):
        no.resume(path, no.FiniteSum(fun, ROWS, (X, Y + 1), jac, chunk_size))
    with pytest.raises(ValueError, match="and 101 terms"):
        no.resume(path, no.FiniteSum(fun, ROWS - 1, (X, Y), jac, chunk_size))


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.filterwarnings("ignore:the objective runs from Python")
def test_exception_in_the_middle_comes_out_and_the_run_goes_on(compiled, tmp_path):
    armed, path = np.ones(1), tmp_path / "run.npz"

    def fragile(x, idx, X, y, armed):
        if armed[0] and idx[0] == 42:
            raise KeyError("boom")
        return pair(x, idx, X, y)

    terms = no.FiniteSum(numba.njit(fragile) if compiled else fragile, ROWS, (X, Y, armed), True)
    options = {"lr": 0.1, "batch_size": 1, "epochs": 2, "jit": compiled}
    with pytest.raises(KeyError, match="boom"):
        no.minimize(terms, START, method="adam", options={**options, "checkpoint": path})
    assert (START == 0.5).all()
    armed[0] = 0
    once = no.minimize(terms, START, method="adam", options=options)
    terms.digest = lambda: no.FiniteSum(fragile, ROWS, (X, Y, np.ones(1))).digest()  # the same but for the fuse
    same(no.resume(path, terms, options={"jit": compiled}), once)


@pytest.mark.parametrize("where", ["value", "gradient"])
def test_what_is_not_finite_ends_as_diverged(where):
    @numba.njit
    def bad(x, idx, X, y, spoil):
        value, g = pair(x, idx, X, y)
        if idx.size < 50 and x[0] != 0.5:
            value += spoil[0]
            g[3] += spoil[1]
        return value, g

    spoil = np.array([np.nan, 0.0] if where == "value" else [0.0, np.inf])
    res = no.minimize(no.FiniteSum(bad, ROWS, (X, Y, spoil), True), START, method="sgd", options={"batch_size": 20})
    assert (res.status, res.success, res.nit) == (2, False, 1)
    assert np.isfinite(res.x).all()
    assert ("component 3 of the gradient" if where == "gradient" else "the objective is nan") in res.message
    exploding = no.minimize(no.FiniteSum(fun, ROWS, (X, Y), jac), START, method="sgd",
                            options={"lr": 1e3, "batch_size": 16, "epochs": 50})  # fmt: skip
    assert exploding.status == 2
    assert "such as 100" in exploding.message


@numba.njit
def three(x, idx, X, y):
    return np.zeros(3)


def test_gradient_of_the_wrong_shape():
    for gradient in (three, lambda x, idx, X, y: np.zeros(3)):
        with pytest.raises(ValueError, match=r"shape \(3,\), x has shape \(7,\)"):
            no.minimize(no.FiniteSum(fun, ROWS, (X, Y), gradient), START, method="sgd", options={"batch_size": 9})
    with pytest.raises(ValueError, match=r"shape \(3,\), x has shape \(7,\)"):
        no.FiniteSum(fun, ROWS, (X, Y), three).value_and_grad(START)
    with pytest.raises(ValueError, match=r"shape \(3,\), x has shape \(7,\)"):
        no.minimize(no.FiniteSum(fun, ROWS, (X, Y), lambda *_: np.zeros(3)), START, method="sgd",
                    options={"batch_size": 9, "jit": False})  # fmt: skip


def test_what_cannot_be_a_sum():
    with pytest.raises(ValueError, match="must return a real scalar"):
        no.FiniteSum(jac, ROWS, (X, Y)).value_and_grad(START)
    with pytest.raises(ValueError, match=r"must return \(value, gradient\)"):
        no.FiniteSum(fun, ROWS, (X, Y), jac=True).value_and_grad(START)
    with pytest.raises(TypeError, match=r"fun\(x, idx, X, y\) cannot be called with x and 2 args"):
        no.FiniteSum(fun, ROWS, (X,), jac).value_and_grad(START)
    for keywords, match in (({"n": 0}, "n=0 must be at least 1"), ({"n": 2.5}, "n=2.5 must be an integer"),
                            ({"chunk_size": 0}, "chunk_size=0 must be at least 1"), ({"jac": "3-pont"}, "'3-point'"),
                            ({"dtype": int}, "must be float64 or float32"), ({"fun": 3}, "fun must be callable"),
                            ({"dtype": "f4", "jac": "2-point"}, "numerical gradients .* need float64")):  # fmt: skip
        with pytest.raises((TypeError, ValueError), match=match):
            no.FiniteSum(**{"fun": fun, "n": ROWS, "args": (X, Y), **keywords})
    terms = no.FiniteSum(fun, ROWS, (X, Y), jac)
    with pytest.raises(ValueError, match="x0=None is not possible: only x0 tells how many unknowns"):
        no.minimize(terms, method="adam")
    for keywords, match in (({"args": (X,)}, "^args: a FiniteSum has its own"), ({"jac": jac}, "^jac: a FiniteSum")):
        with pytest.raises(ValueError, match=match):
            no.minimize(terms, START, method="adam", **keywords)


def test_plain_functions_are_compiled_with_indices_checked():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value, _ = no.FiniteSum(fun.py_func, ROWS, (X, Y), jac.py_func).value_and_grad(START)
    np.testing.assert_allclose(value, plain(START, np.arange(ROWS), X, Y))
    with pytest.raises(IndexError):
        no.FiniteSum(lambda x, idx, y: y[idx[-1] + 1], ROWS, (Y,)).value_and_grad(START)


def test_warning_of_what_runs_from_python_points_here():
    with pytest.warns(RuntimeWarning, match="the objective runs from Python") as told:
        no.minimize(no.FiniteSum(fun, ROWS, (X, Y), numpy_jac), START, method="sgd", options={"batch_size": 50})
    assert [warning.filename for warning in told] == [__file__]


@pytest.mark.parametrize("value", [7, np.float32(0.1), True], ids=repr)
def test_any_real_number_is_an_objective(value):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        told = no.FiniteSum(lambda x, idx: value, 5, jac=lambda x, idx: x).value_and_grad([2.0])
    assert told == (value, 2.0)


@pytest.mark.process
def test_interpreter_without_jit_gives_the_same_numbers():
    code = """
import numpy as np, numbaopt as no
X = np.arange(24.0).reshape(12, 2) % 5
def fun(x, idx, X):
    total = 0.0
    for i in idx:
        total += (x[0] - X[i, 0]) ** 2 + (x[1] - X[i, 1]) ** 2
    return total / len(idx)
def jac(x, idx, X):
    a = b = 0.0
    for i in idx:
        a += 2 * (x[0] - X[i, 0])
        b += 2 * (x[1] - X[i, 1])
    return a / len(idx), b / len(idx)
terms = no.FiniteSum(fun, 12, (X,), jac, chunk_size=3)
print(no.minimize(terms, np.zeros(2), method="adam", options=dict(batch_size=5, epochs=3)).fun)
"""
    fast, slow = (np.array(python(code, NUMBA_DISABLE_JIT=flag), float) for flag in "01")
    np.testing.assert_allclose(fast, slow, rtol=1e-9)


def test_an_evaluation_that_raises_after_an_epoch_is_done_again(tmp_path):
    left = [np.inf]

    def mean(x, idx):
        left[0] -= idx.size == 64  # the whole objective
        if left[0] == 0:
            raise ZeroDivisionError
        gap = x - X[idx]
        return 0.5 * (gap**2).sum() / idx.size, gap.mean(axis=0)

    terms, path = no.FiniteSum(mean, 64, jac=True), tmp_path / "run.npz"
    options = {"lr": 0.1, "batch_size": 16, "epochs": 4, "jit": False}
    once = no.minimize(terms, START, method="sgd", options=options)
    left[0] = 3
    with pytest.raises(ZeroDivisionError):
        no.minimize(terms, START, method="sgd", options={**options, "checkpoint": path})
    again = no.resume(path, terms, options={"jit": False})
    np.testing.assert_array_equal(again.history.fun, once.history.fun)
    np.testing.assert_array_equal(again.x, once.x)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_minibatches_by_exact_gradients_are_those_by_hand(dtype):
    data = X.astype(dtype), Y.astype(dtype)
    by_hand = no.FiniteSum(fun, ROWS, data, jac, dtype=dtype)
    options = {"lr": 0.01, "batch_size": 16, "epochs": 3, "seed": 1}
    expected = no.minimize(by_hand, START, method="adam", options=options)
    for mode in (None, "ad", "reverse"):
        res = no.minimize(no.FiniteSum(fun, ROWS, data, mode, dtype=dtype), START, method="adam", options=options)
        np.testing.assert_allclose(res.x, expected.x, rtol=1e-10 if dtype is np.float64 else 1e-4)
        assert res.x.dtype == dtype


def test_a_sum_of_more_terms_than_data_is_told():
    X = np.ones((5, 2))
    terms = no.FiniteSum(numba.njit(lambda x, idx, X: (X[idx] @ x).mean()), n=6, args=(X,))
    with pytest.raises(ValueError, match="n=6: the function has no term 5: index 5 is out of bounds"):
        no.minimize(terms, np.zeros(2), method="adam", options={"batch_size": 2})
    few = no.FiniteSum(numba.njit(lambda x, idx, c: (x[0] - c[0] * idx).mean() ** 2), n=6, args=(np.ones(1),))
    assert no.minimize(few, np.zeros(1), method="adam", options={"batch_size": 2, "epochs": 1}).nit == 3
