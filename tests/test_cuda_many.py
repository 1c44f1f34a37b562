"""`minimize_many(device="cuda")`: the CPU's answers in the simulator, kernels compiled for a GPU, faults in words."""

import gc
import weakref

import numba
import numpy as np
import pytest
from cuda_many_cases import FITS, answers, cases, chain, chain_residuals, misfit, residuals
from numba import typeof, types
from process import finish, start

import numbaopt as no
from numbaopt.arguments import settings_of
from numbaopt.cuda._backend import DeviceMemoryError, NoDeviceError, why_not
from numbaopt.cuda.functions import device
from numbaopt.cuda.many import launches as many
from numbaopt.cuda.many.teams import lanes_for
from numbaopt.status import AT_TARGET, CONVERGED, OUT_OF_EVALUATIONS

pytest.importorskip("numba_cuda")
LOOSE = {"cg": 1e-7, "trust-ncg": 1e-4,  # steps from differences of gradients, or of lengths that rounding decides
         "evaluations": 1e-10}  # differences, and not at a minimum


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """Each case in the simulator, in a process of its own: it takes the place of CUDA and of the compiler."""
    out = tmp_path_factory.mktemp("simulated") / "answers.npz"
    code = "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); runpy.run_module('cuda_many_cases', {}, '__main__')"
    finish(start(code, __file__.rpartition("/")[0], out, NUMBA_ENABLE_CUDASIM=1, NUMBA_DISABLE_JIT=1))  # fmt: skip
    return np.load(out)


def test_the_same_answers_as_on_the_cpu(simulated):
    told = answers()
    assert set(simulated) == set(told)
    for name, expected in told.items():
        case, _, field = name.partition("/")
        if field == "fun":
            np.testing.assert_allclose(simulated[name], expected, 1e-9, 1e-9, err_msg=name)
        elif field == "x":
            np.testing.assert_allclose(simulated[name], expected, LOOSE.get(case, 1e-12), 1e-12, err_msg=name)
        else:
            np.testing.assert_array_equal(simulated[name], expected, name)
    assert simulated["fails/status"].tolist() == told["fails/status"].tolist() == [0, 4, 2, 0]
    assert (simulated["targets/reason"] == AT_TARGET).tolist() == [True, False, True]
    assert (simulated["evaluations/reason"] == OUT_OF_EVALUATIONS).all()


# ---------------------------------------------------------------------------------------------- for a GPU
def kernel_of(fun, method, *, X0, args=(), batched=False, jac=None, bounds=None, words=64, **options):
    """The kernel of a call, and the types of what it is given."""
    from numbaopt.cuda.many.launches import ANSWERS, RECORDS, Many, compiled_kernel
    from numbaopt.many import _bounds, _methods, _rows, _starts

    starts, which = _starts(X0, args, (batched,) * len(args) if isinstance(batched, bool) else batched, None)
    opts, options = _methods(method, options, None)
    settings = settings_of(opts[0], None, options, starts.shape[1])
    settings |= {"rows": _rows(options.get("history", False)), "path": "history" in options}
    settings |= {"f_target": np.array([-np.inf])}
    made = Many(fun, jac, opts, starts, args, which, *_bounds(bounds, starts), settings)
    given = tuple(np.moveaxis(arg, 0, -1).copy() if own and arg.ndim > 1 else arg
                  for arg, own in zip(made.args, which, strict=True))  # fmt: skip
    real = made.plan.dtype
    kept = np.zeros((1, 1), real), np.zeros((1, 1)), np.zeros((1, 1), np.int64)
    kept = np.zeros((1, 1)) if made.plan.in_place else kept
    arrays = (made.starts, (made.lower, made.upper), tuple(getattr(made, name) for name in ANSWERS), made.records, kept,
              np.zeros((1, 1), RECORDS["history"]), np.zeros((1, 1, 1), real), made.kinds, made.targets, made.template,
              made.tables, given)  # fmt: skip
    signature = (types.int64, typeof(made.kinds), types.boolean, types.int64, *map(_type, arrays), types.int64,
                 *(types.float64,) * 3)  # fmt: skip
    return compiled_kernel(made.plan, words), signature


def _type(value):
    if isinstance(value, tuple):
        return types.BaseTuple.from_types([_type(item) for item in value])
    return typeof(value)


def compiled(tmp_path, *args, **options):
    from ptx import compiled

    from numbaopt.cuda.many.compiling import compiling

    kernel, signature = kernel_of(*args, **options)
    with compiling():
        return compiled(kernel, signature, tmp_path)


@numba.njit
def rosen(x):
    total = 0.0
    for i in range(x.size - 1):
        total += 100 * (x[i + 1] - x[i] ** 2) ** 2 + (1 - x[i]) ** 2
    return total


ONES = np.ones((3, 3))


METHODS = [
    ("lbfgs", 2, "f8"), ("lbfgs", 10, "f8"), ("lbfgs", 3, "f4"), ("bfgs", 3, "f8"), ("cg", 3, "f8"), ("adam", 3, "f8"),
    ("trust-ncg", 3, "f8"), ("nelder-mead", 3, "f8"), (no.Adam(lr=0.1), 3, "f8"), (no.Adam(lr=0.1), 10, "f4"),
]


@pytest.mark.parametrize(("method", "n", "dtype"), METHODS)
def test_every_method_compiles_without_spills(tmp_path, method, n, dtype):
    report = compiled(tmp_path, rosen, method, X0=np.ones((3, n), dtype))
    print(f"{method} n={n} {dtype}: {report.registers} registers, {report.stack} bytes of stack")
    assert report.spills == 0 or n > 3
    assert ".extern .func" not in report.ptx


CURVES = {"bounds": [(0.0, 2.0)] * 2, "X0": np.ones((3, 2)), "args": FITS[0], "batched": FITS[1], "words": 512}


def test_fits_of_residuals_compile(tmp_path):
    report = compiled(tmp_path, residuals, "lm", **CURVES)
    assert report.spills == 0
    assert ".extern .func" not in report.ptx


TEAMS = [
    (chain, "lbfgs", {"X0": np.ones((3, 50)), "bounds": [(0.0, 2.0)] * 50, "history": True}),
    (chain, no.Adam(lr=0.1), {"X0": np.ones((3, 40), "f4")}),
    (chain, "bfgs", {"X0": np.ones((3, 6)), "jac": "3-point"}),
    (chain_residuals, "lm", {"X0": np.ones((3, 20)), "words": 512}),
]


@pytest.mark.parametrize(("fun", "method", "given"), TEAMS)
def test_teams_compile_without_spills(tmp_path, fun, method, given):
    report = compiled(tmp_path, fun, method, args=(np.ones(3),), batched=True, **given)
    print(f"{method} n={given['X0'].shape[1]}: {report.registers} registers, {report.stack} bytes of stack")
    assert report.spills == 0
    assert report.ptx.count("bar.warp.sync") >= 2 + 2 * 2  # of those that serve, of those that lead
    assert ".extern .func" not in report.ptx


@pytest.mark.parametrize(("pieces", "nbytes", "problems", "lanes"), [
    (3, 1 << 20, 10, 1),  # too few pieces
    (4, 1 << 12, 10, 8), (8, 1 << 12, 10, 16), (16, 1 << 12, 10, 32), (100, 1 << 12, 10, 32),  # a lane a piece, and one
    (100, 1 << 11, 1024, 32), (100, 1 << 11, 4096, 8), (100, 1 << 11, 10_000, 1),  # the GPU is kept busy anyway
    (100, 1 << 15, 1_000_000, 16), (4, 1 << 20, 1_000_000, 8),  # threads' runs lie in no cache
])  # fmt: skip
def test_how_many_lanes_a_problem_takes(pieces, nbytes, problems, lanes):
    assert lanes_for(pieces, nbytes, problems) == lanes


def test_histories_and_paths_compile(tmp_path):
    report = compiled(tmp_path, rosen, no.Adam(lr=0.1), X0=ONES, history=100)
    assert report.spills == 0
    assert ".extern .func" not in report.ptx


@pytest.mark.parametrize("case", ["at once", "both", "differences", "mixture", "lm given", "lm of a tuple",
                                  "lm of a list", "clipped", "axes"])
def test_users_functions_compile(tmp_path, case):
    given = cases()[case]
    options = dict(given.pop("options", {}))
    fun, method = given.pop("fun"), given.pop("method", None)
    given["X0"] = np.asarray(given["X0"])
    report = compiled(tmp_path, fun, method, words=512, **given, **options)
    assert ".extern .func" not in report.ptx


@numba.njit
def appends(x):
    found = []
    for v in x:
        found.append(v)
    return found[0]


@numba.njit
def decomposes(x):
    return np.linalg.eigvals(np.outer(x, x)).sum()


@numba.njit
def power(x, k):
    return x * power(x, k - 1) if k > 0 else 1.0 + 0.0 * x


@numba.njit
def calls_itself(x):
    return power(x[0], 4)


@pytest.mark.parametrize(("fun", "told"), [
    (appends, r"Unknown attribute 'append' .*test_cuda_many.py, line \d+"), (decomposes, "there is no eigvals for"),
    (calls_itself, "a function calls itself"),
])  # fmt: skip
def test_what_a_gpu_cannot_do_is_told(tmp_path, fun, told):
    with pytest.raises(TypeError, match=f"device='cuda': fun cannot be compiled for a GPU: {told}"):
        compiled(tmp_path, fun, "lbfgs", X0=ONES)


@pytest.mark.parametrize(("told", "given"), [
    (r"jac='reverse' is not possible with device='cuda'", {"jac": "reverse"}),
    (r"jit=False is not possible: what runs on a GPU is compiled", {"options": {"jit": False}}),
    (r"option device='gpu' must be 'cpu' or 'cuda'", {"options": {"device": "gpu"}}),
    (r"args\[0\] is a str, which a GPU does not take", {"fun": lambda x, a: x[0], "args": ("a",)}),
    (r"takes no bounds", {"method": "cg", "bounds": [(0, 1)] * 3}),
    (r"fun returns a number", {"method": "lm"}),
    (r"14,000 unknowns are too many: .* which holds 13,107", {"X0": np.ones((2, 14_000))}),
])  # fmt: skip
def test_wrong_calls(told, given):
    given = {"fun": rosen, "X0": ONES, **given}
    with pytest.raises((ValueError, TypeError), match=told):
        no.minimize_many(**{**given, "options": {"device": "cuda", **given.get("options", {})}})


@pytest.mark.skipif(why_not() is None, reason="there is a GPU")
def test_without_a_gpu_it_is_said():
    with pytest.raises(NoDeviceError, match="device='cuda'"):
        no.minimize_many(rosen, ONES, options={"device": "cuda"})


@pytest.mark.parametrize("room", [5_000, 100])
def test_out_of_memory_fewer_problems_are_solved_at_once(monkeypatch, room):
    launched = []

    def launch(self, low, high, end, bar):
        launched.append((low, high))
        if high - low > room:
            raise type("CudaAPIError", (Exception,), {"code": 2})("[2] Call to cuMemAlloc results in ...")
        self.status[low:high] = CONVERGED

    monkeypatch.setattr(many, "require", lambda what: None)
    for name in ("on_device", "release"):
        monkeypatch.setattr(many, name, lambda *given: given)
    monkeypatch.setattr(many.cuda, "stream", object)
    monkeypatch.setattr(many.Many, "_launch", launch)
    call = lambda: no.minimize_many(rosen, np.ones((12_345, 3)), options={"device": "cuda"})  # noqa: E731
    if room < many.LEAST:
        with pytest.raises(DeviceMemoryError, match=r"^device='cuda', 512 problems at once: the GPU has no room left"):
            call()
    else:
        assert call().success.all()
        solved = [item for item in launched if item[1] - item[0] <= room]
        assert [low for low, _ in solved] == [0, *(high for _, high in solved[:-1])]
        assert (launched[0], solved[-1][1]) == ((0, 12_345), 12_345)


def test_a_users_function_is_not_kept_for_ever():
    def helper(x):
        return 2 * x

    def fun(x):
        return helper(x[0])

    device(fun)
    there = weakref.ref(fun)
    del fun
    gc.collect()
    assert there() is None


@pytest.mark.gpu
@pytest.mark.skipif(why_not() is not None, reason="there is no GPU")
def test_a_gpu_answers_as_the_cpu_does():
    told, found = answers(), answers(device="cuda")
    for name, expected in told.items():
        case, _, field = name.partition("/")
        if field in ("x", "fun"):
            np.testing.assert_allclose(found[name], expected, max(1e-5, LOOSE.get(case, 0)), 1e-6, err_msg=name)
        elif field == "status":
            np.testing.assert_array_equal(found[name], expected, name)
    rng = np.random.default_rng(1)
    t, truth = np.linspace(0, 2, 20), np.column_stack([rng.uniform(1, 3, 300_000), rng.uniform(0.5, 2, 300_000)])
    y = truth[:, :1] * np.exp(-truth[:, 1:] * t)
    res = no.minimize_many(misfit, [1.0, 1.0], (t, y), (False, True), tol=1e-9, options={"device": "cuda"})
    assert res.success.mean() > 0.999
    np.testing.assert_allclose(res.x[res.success], truth[res.success], 1e-5)
