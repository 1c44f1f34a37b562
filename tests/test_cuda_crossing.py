"""Runs that go from the CPU to a GPU and back, in CUDA's simulator: by ``run`` and by checkpoints."""

import numba
import numpy as np
import pytest
import scipy.sparse as sp

import numbaopt as no

if not numba.config.ENABLE_CUDASIM:
    pytest.skip("needs NUMBA_ENABLE_CUDASIM=1 NUMBA_DISABLE_JIT=1: scripts/test", allow_module_level=True)

pytestmark = pytest.mark.simulator
SPARSE = sp.random(23, 31, 0.1, format="csr", random_state=1)
Y = np.cos(np.arange(23.0))


def model(**options):
    return no.LinearModel(SPARSE, Y, **options)


CASES = {  # what the CPU puts off within an epoch: a scale and thresholds; proximal steps; nothing
    "linear": (lambda: model(l1=0.01, l2=0.1), no.SGD(lr=0.1), 2, {}),
    "rests": (lambda: model(l1=0.02), no.AdaGrad(lr=0.3), 1, {}),
    "all unknowns": (lambda: model(l2=0.01), no.Adam(lr=0.1), 2, {"average": "polyak"}),
    "lazy": (lambda: model(l1=0.02), no.Adam(lr=0.1), 2, {"lazy_update": True}),
    "lengths": (model, no.Momentum(lr=0.05), 2, {"weight_norm": True}),
}
WHERE = {"cpu": {}, "cuda": {"device": "cuda"}}


@pytest.mark.parametrize(("first", "last"), [("cpu", "cuda"), ("cuda", "cpu"), ("cuda", "cuda")])
@pytest.mark.parametrize("name", CASES)
def test_a_checkpoint_goes_on_anywhere(name, first, last, tmp_path):
    make, opt, size, options = CASES[name]
    options = {"batch_size": size, **options}
    whole = no.minimize(make(), method=opt, options={**options, "maxiter": 30})
    path = tmp_path / "run.npz"
    cut = no.minimize(make(), method=opt, options={**options, **WHERE[first], "maxiter": 17, "checkpoint": path})
    if first == "cpu" and name in ("linear", "rests"):
        assert cut.run.extra.any()  # within an epoch
    rest = no.resume(path, make(), options={"maxiter": 30, "device": last})
    assert (rest.nit, rest.status) == (30, whole.status)
    np.testing.assert_allclose(rest.x, whole.x, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(rest.history.fun, whole.history.fun, rtol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_a_run_goes_on_anywhere(name):
    make, opt, size, options = CASES[name]
    options, found = {"batch_size": size, "seed": 3, **options}, []
    for first, last in (("cpu", "cpu"), ("cpu", "cuda"), ("cuda", "cpu")):
        begun = no.minimize(make(), method=opt, options={**options, **WHERE[first], "maxiter": 17})
        stood = begun.run.x.copy()
        ended = no.minimize(make(), method=opt, options={**options, **WHERE[last], "maxiter": 11, "run": begun.run})
        np.testing.assert_array_equal(begun.run.x, stood)
        found.append((ended.x, ended.history.fun, ended.nit))
    for x, fun, steps in found[1:]:
        np.testing.assert_allclose(x, found[0][0], rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(fun, found[0][1], rtol=1e-12)
        assert steps == found[0][2] == 28


@pytest.mark.parametrize(("first", "last"), [("cpu", "cuda"), ("cuda", "cpu"), ("cuda", "cuda")])
def test_a_search_along_lines_goes_on_anywhere(first, last, tmp_path):
    path, call = tmp_path / "run.npz", {"method": "lbfgs"}
    whole = no.minimize(model(l2=0.1), **call, options={"maxiter": 6})
    no.minimize(model(l2=0.1), **call, options={"maxiter": 3, "checkpoint": path, **WHERE[first]})
    rest = no.resume(path, model(l2=0.1), options={"maxiter": 6, "device": last})
    assert (rest.nit, rest.nfev, rest.status) == (whole.nit, whole.nfev, whole.status)
    np.testing.assert_allclose(rest.x, whole.x, rtol=1e-10)
