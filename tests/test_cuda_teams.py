"""Problems solved by teams of lanes, in CUDA's simulator: the bits of a thread each, and no lane waits for ever."""

import numba
import numpy as np
import pytest

import numbaopt as no

if not numba.config.ENABLE_CUDASIM:
    pytest.skip("needs NUMBA_ENABLE_CUDASIM=1 NUMBA_DISABLE_JIT=1: scripts/test", allow_module_level=True)

from cuda_many_cases import chain, chain_residuals

from numbaopt.cuda.many import launches as many
from numbaopt.cuda.many import solve, teams
from numbaopt.status import CONVERGED, RAISED

pytestmark = pytest.mark.simulator
N = 14
assert teams.MOST_LANES > 2
X0 = np.random.default_rng(0).uniform(-1, 1, (3, N))
SCALES = np.array([1.0, 10.0, 100.0])
CASES = {
    "in a box, history, path": (chain, "lbfgs", {"bounds": [(-2.0, 0.5)] * N}, {"history": True, "path": True}),
    "float32": (chain, no.Adam(lr=0.05), {"X0": X0.astype(np.float32)}, {}),
    "searched rate": (chain, "adam", {}, {}),
    "differences": (chain, "bfgs", {"jac": "3-point"}, {"xtol": 1e-3}),
    "gradients' differences": (chain, "trust-ncg", {}, {"maxiter": 4}),
    "residuals": (chain_residuals, "lm", {}, {}),
    "residuals' differences": (chain_residuals, "lm", {"jac": "2-point"}, {"maxiter": 4}),
}


@pytest.fixture
def lanes(monkeypatch):
    """How many lanes each call took."""
    taken = []

    def lanes_for(*given):
        taken.append(teams.lanes_for(*given))
        return taken[-1]

    monkeypatch.setattr(many, "lanes_for", lanes_for)
    return taken


def solved(fun, method, given, options):
    options = {"maxiter": 12, **options, "device": "cuda"}
    return no.minimize_many(**{"fun": fun, "X0": X0, "args": (SCALES,), "batched": True, "method": method, **given},
                            options=options)  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_team_gives_the_bits_of_a_thread(name, lanes, monkeypatch):
    monkeypatch.setattr(many, "FIRST_STEPS", 3)  # in several slices
    team = solved(*CASES[name])
    assert lanes == [teams.MOST_LANES]
    monkeypatch.setattr(many, "lanes_for", lambda *given: 1)
    thread = solved(*CASES[name])
    for field in ("x", "fun", "status", "nit", "nfev", "reason"):
        np.testing.assert_array_equal(team[field], thread[field], field)
    assert team.nit.min() > 2  # it was in several slices
    if "history" in name:
        for mine, theirs in zip((*team.history, *team.path), (*thread.history, *thread.path), strict=True):
            for key in set(mine.dtype.names or [...]) - {"seconds"}:
                np.testing.assert_array_equal(mine[key], theirs[key], str(key))


@pytest.mark.parametrize("method", ["nelder-mead", no.Adam(lr=0.05)])
def test_a_run_that_is_too_large_for_a_thread_stays_where_it_is(method, lanes, monkeypatch):
    monkeypatch.setattr(many, "FIRST_STEPS", 3)
    given = {"X0": X0[:, :3]}
    own = solved(chain, method, given, {})
    monkeypatch.setattr(many, "MOST_OWN", 0)
    there = solved(chain, method, given, {})
    assert lanes == [1, 1]
    for field in ("x", "fun", "status", "nit", "nfev", "reason"):
        np.testing.assert_array_equal(there[field], own[field], field)


@numba.njit
def walled(x, k):
    if x[k] > 1.0:
        raise ValueError("no")
    return np.sum((x - 0.5) ** 2)


@pytest.mark.parametrize("jac", ["2-point", None])
def test_one_lane_that_raises_ends_its_problem_alone(jac, lanes):
    starts = np.zeros((3, N))
    starts[1, 5] = 1.0 if jac else 2.0  # a difference there leads beyond the wall, any other does not
    res = solved(walled, "lbfgs", {"X0": starts, "args": (5,), "batched": False, "jac": jac}, {"maxiter": 50})
    assert lanes == [teams.MOST_LANES]
    assert res.status.tolist() == [CONVERGED, RAISED, CONVERGED]
    np.testing.assert_allclose(res.x[[0, 2]], 0.5, rtol=1e-5)
    np.testing.assert_array_equal(res.x[1], starts[1])


def test_arrays_that_fit_into_no_lane_are_told(monkeypatch):
    asked = []
    kernel = solve.compiled_kernel
    monkeypatch.setattr(many, "compiled_kernel", lambda plan, words: asked.append(words) or kernel(plan, words))
    monkeypatch.setattr(teams, "overflowed", lambda: True)
    starts = np.full((2, N), 2.0)
    with pytest.raises(MemoryError, match="fun makes arrays of more than 32 KiB"):
        solved(walled, "cg", {"X0": starts, "args": (5,), "batched": False}, {})
    assert asked == [64, 512, 4096]
