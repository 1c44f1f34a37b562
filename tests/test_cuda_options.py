"""Every option, argument, rule and loss of training on a GPU, in CUDA's simulator: as on the CPU, or refused in words.

The tables cannot be skipped: what is declared and not here fails `test_nothing_is_missing`.
"""

import contextlib
import inspect
import io
import math
import re
import warnings
from typing import NamedTuple

import numba
import numpy as np
import pytest
import scipy.sparse as sp

import numbaopt as no

if not numba.config.ENABLE_CUDASIM:
    pytest.skip("needs NUMBA_ENABLE_CUDASIM=1 NUMBA_DISABLE_JIT=1: scripts/test", allow_module_level=True)

from cuda_cases import OPTIMIZERS
from scipy.optimize import OptimizeWarning

from numbaopt.arguments import OPTIONS
from numbaopt.loops.state import NOW
from numbaopt.losses import LOSSES
from numbaopt.solvers import SOLVERS

pytestmark = [pytest.mark.simulator, pytest.mark.filterwarnings("ignore:overflow encountered")]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(29, 4))
SPARSE = sp.random(29, 11, 0.2, format="csr", random_state=1)
TARGETS = {"numbers": X @ [1.0, -2.0, 0.5, 0.0], "two classes": np.sign(X[:, 0]), "classes": np.arange(29) % 3,
           "nonnegative": np.arange(29) % 4, "positive": np.exp(X[:, 1])}  # fmt: skip
WEIGHTS = RNG.random(29)
BATCHES = {"batch_size": 8, "epochs": 2}


def model(loss="squared", table=X, **options):
    return no.LinearModel(table, TARGETS[LOSSES[loss].takes], loss=loss, **options)


def called(x):
    """A score, and a callback, of a point."""
    return -abs(x[0] - 0.3)


def stopping():
    left = iter([True, False])

    def callback(intermediate_result):
        if not next(left):
            raise StopIteration

    return callback


def often():
    def callback(x):
        seen.append(x)

    seen, callback.every = [], 2
    return callback


def former():
    return no.minimize(model(), method=no.SGD(lr=0.1), options={"batch_size": 4, "maxiter": 5}).run


@no.losses.loss
class LogCosh(NamedTuple):
    """A user's own."""

    scale: float = 1.0

    def value(c, z, y):
        return c[0] * math.log(math.cosh((z - y) / c[0]))

    def slope(c, z, y):
        return math.tanh((z - y) / c[0])


def case(options=None, *, refused="", method="", fun=model, sweep=True, **given):
    """A call of `minimize`; ``refused``: what is said on a GPU of what the CPU does."""
    return fun, method or no.SGD(lr=0.1), options or {}, given, refused, sweep


def of_sparse(**options):
    return lambda: model(table=SPARSE, **options)


WHOLE = {"maxiter": 40}
SEARCHING = ("lbfgs", "l-bfgs-b", "bfgs", "cg")
OF_OPTIONS = {
    "maxiter": [case({"maxiter": 5}), case({**BATCHES, "maxiter": 6}), case({"maxiter": 0}),
                case({"batch_size": 8, "maxiter": 0})],
    "gtol": [case({**WHOLE, "gtol": 0.3}), case({"batch_size": 8, "gtol": 0.3})],
    "ftol": [case({**WHOLE, "ftol": 0.05}), case({"batch_size": 15, "epochs": 14, "ftol": 0.5})],
    "xtol": [case({**WHOLE, "xtol": 0.05}), case({"batch_size": 15, "epochs": 12, "xtol": 0.99, "max_norm": 0.1})],
    "batch_size": [case({"batch_size": size, "maxiter": 7}) for size in (1, 5, 29, 100)] + [case({"batch_size": 0})],
    "epochs": [case(BATCHES), case({"epochs": 3})],
    "shuffle": [case({**BATCHES, "shuffle": False}), case({"maxiter": 3, "shuffle": False})],
    "seed": [case({**BATCHES, "seed": 2**40 + 1}), case({**BATCHES, "seed": -1})],
    "history": [case({**BATCHES, "history": False}), case({**BATCHES, "history": False, "maxiter": 6}),
                case({"batch_size": 8, "epochs": 7, "history": 4}), case({"maxiter": 9, "history": 4}),
                case({"maxiter": 3, "history": False})],
    "progress": [case({**BATCHES, "progress": True})],
    "disp": [case({**BATCHES, "disp": True}, sweep=False)],
    "checkpoint": [case({**BATCHES, "checkpoint": "run.npz"}), case({"checkpoint": "nowhere/run.npz"})],
    "jit": [case({**BATCHES, "jit": True}), case({**BATCHES, "jit": False})],
    "accumulate": [case({**BATCHES, "accumulate": 3}), case({"accumulate": 2, "maxiter": 3})],
    "average": [case({**more, "average": average}) for average in ("polyak", "ema")
                for more in (BATCHES, {"maxiter": 5}, {**BATCHES, "history": False})] + [case({"average": "mean"})],
    "average_from": [case({"batch_size": 8, "epochs": 3, "average": "polyak", "average_from": 1}),
                     case({"maxiter": 5, "average": "polyak", "average_from": 2})],
    "ema_decay": [case({**BATCHES, "average": "ema", "ema_decay": 0.5})],
    "max_norm": [case({**BATCHES, "max_norm": 0.3}), case({"maxiter": 5, "max_norm": 0.3}),
                 case({**BATCHES, "max_norm": 0.1}, fun=lambda: model("multinomial"))],
    "patience": [case({"batch_size": 8, "epochs": 9, "patience": 1}, method=no.SGD(lr=1.0)),
                 case({"maxiter": 9, "patience": 2}, method=no.SGD(lr=3.0)),
                 case({**BATCHES, "patience": 1, "history": False})],
    "min_delta": [case({"batch_size": 8, "epochs": 9, "patience": 2, "min_delta": 0.5})],
    "validation": [case({"batch_size": 8, "epochs": 4, "validation": model("huber")}),
                   case({"maxiter": 6, "validation": called, "patience": 2}),
                   case({"batch_size": 8, "epochs": 3, "validation": called, "history": False})],
    "run": [case({**BATCHES, "run": former}), case({"maxiter": 3, "run": former})],
    "lazy_update": [case({**BATCHES, "lazy_update": True}), case({"maxiter": 3, "lazy_update": True}),
                    case({"batch_size": 2, "maxiter": 9, "lazy_update": True}, fun=of_sparse(l1=0.01, l2=0.1)),
                    case({**BATCHES, "lazy_update": True, "average": "ema"}, fun=of_sparse()),
                    case({**BATCHES, "lazy_update": True, "weight_norm": True}, fun=of_sparse())],
    "weight_norm": [case({**BATCHES, "weight_norm": True}), case({"maxiter": 4, "weight_norm": True}),
                    case({**BATCHES, "weight_norm": True}, fun=lambda: model(l1=0.1)),
                    case({"maxiter": 4, "weight_norm": True}, bounds=[(0, 1)] * 5)],
    "f_target": [case({"batch_size": 8, "f_target": 0.5}), case({**WHOLE, "f_target": 0.5}),
                 case({**BATCHES, "f_target": 0.5, "history": False})],
    "max_evaluations": [case({**BATCHES, "max_evaluations": 2}), case({**WHOLE, "max_evaluations": 4}),
                        case({**WHOLE, "max_evaluations": 5, "average": "polyak"})],
    "max_seconds": [case({**BATCHES, "max_seconds": 1e9}), case({**BATCHES, "max_seconds": 0})],
    "device": [case({"device": "gpu"})],
}  # fmt: skip
OF_ARGUMENTS = {
    "fun": [case({"maxiter": 3}, fun=lambda: no.FiniteSum(lambda x, idx: x[0] ** 2, 3), x0=np.ones(1), method="sgd",
                 refused="minimize trains a LinearModel there, not a FiniteSum$", sweep=False),
            case({"maxiter": 3}, fun=lambda: lambda x: x @ x, x0=np.ones(2), method="sgd", sweep=False,
                 refused="minimize trains a LinearModel there, not a function; minimize_many takes functions")],
    "x0": [case(BATCHES, x0=np.arange(5.0)), case(BATCHES, x0=np.ones(3))],
    "args": [case(BATCHES, args=(1,))],
    "method": [*(case({"maxiter": 3}, method=name, refused=f"needs? a first-order rule .* {name!r}")
                 for name in {kind.names[0] for kind in SOLVERS.values()} - set(SEARCHING)),
               *(case({"maxiter": 4}, method=name, sweep=False) for name in SEARCHING),
               *(case({"maxiter": 3}, method=name, fun=lambda: model(l1=0.1), sweep=False) for name in SEARCHING),
               case({"maxiter": 9, "f_target": 0.05}, method="lbfgs", fun=of_sparse(l2=0.1), sweep=False),
               case({"maxiter": 4, "weight_norm": True}, method="lbfgs", sweep=False),
               case({"maxiter": 4, "batch_size": 3}, method="lbfgs", sweep=False),
               case({"maxiter": 4, "checkpoint": "run.npz"}, method="cg", fun=lambda: model("gamma"), sweep=False),
               case({"maxiter": 4}, method="l-bfgs-b", bounds=[(0, 0.1)] * 5, sweep=False),
               case({"maxiter": 3}, method=None, sweep=False),
               case({"maxiter": 3}, method="slsqp", refused="needs a first-order rule", sweep=False),
               case({"maxiter": 3}, method="nothing"), case({"maxiter": 3}, method="lookahead")],
    "jac": [case(BATCHES, jac=True)],
    "hess": [case(BATCHES, hess=called, sweep=False)],
    "hessp": [case(BATCHES, hessp=called, sweep=False)],
    "bounds": [case(BATCHES, bounds=[(-0.1, 0.2)] * 4 + [(None, None)]), case({"maxiter": 5}, bounds=[(0, 0.1)] * 5)],
    "constraints": [case(BATCHES, constraints=[{"type": "eq", "fun": called}], sweep=False)],
    "tol": [case(WHOLE, tol=0.3), case(BATCHES, tol=0.3)],
    "callback": [case(BATCHES, callback=stopping, sweep=False), case({"maxiter": 5}, callback=stopping, sweep=False),
                 case({"maxiter": 5}, callback=often, sweep=False)],
    "options": [case(None, method=no.SGD(lr=2.0)), case({**BATCHES, "batchsize": 3}),
                case({**BATCHES, "lr": no.schedules.Cosine(0.1, 8)}), case({**BATCHES, "lr": lambda t: 0.1 / (1 + t)}),
                case({"batch_size": 8, "epochs": 5, "lr": no.schedules.ReduceOnPlateau(1.0, patience=1)})],
}  # fmt: skip
OF_MODELS = {
    "X": [case(BATCHES, fun=of_sparse()), case(BATCHES, fun=lambda: model(table=X.astype(np.float32)))],
    "y": [case(BATCHES, fun=lambda: model("multinomial"))],
    "loss": [case(BATCHES, fun=lambda: no.LinearModel(X, X[:, 0], loss=no.losses.Huber(0.3)))],
    "l1": [case({**BATCHES, **more}, fun=make) for more in ({}, {"batch_size": None, "epochs": 3})
           for make in (lambda: model(l1=0.05), of_sparse(l1=0.05))],
    "l2": [case(BATCHES, fun=of_sparse(l2=0.1)), case({"maxiter": 4}, fun=lambda: model(l2=0.1))],
    "fit_intercept": [case(BATCHES, fun=lambda: model(fit_intercept=False)),
                      case({**BATCHES, "weight_norm": True}, fun=of_sparse(fit_intercept=False))],
    "sample_weight": [case(BATCHES, fun=of_sparse(sample_weight=WEIGHTS)),
                      case(BATCHES, fun=lambda: model("multinomial", sample_weight=WEIGHTS))],
    "intercept_l2": [case(BATCHES, fun=lambda: model(intercept_l2=0.3)),
                     case({"maxiter": 3, "weight_norm": True}, fun=lambda: model(intercept_l2=0.3, l2=0.1))],
    "classes": [case(BATCHES, fun=lambda: no.LinearModel(X, TARGETS["classes"], loss="multinomial", classes=range(4)))],
}  # fmt: skip
OF_RULES = {name: [case({"batch_size": 3, "maxiter": 9}, method=opt, sweep=False)] for name, opt in OPTIMIZERS.items()}
OF_LOSSES = {kind.names[0]: [case({**BATCHES}, fun=lambda name=kind.names[0], table=table: model(name, table))
                             for table in (X, SPARSE)] for kind in LOSSES.values()}  # fmt: skip
TABLES = {"options": OF_OPTIONS, "arguments": OF_ARGUMENTS, "models": OF_MODELS, "rules": OF_RULES, "losses": OF_LOSSES}
CASES = {f"{table}, {name}, {k}": one for table, rows in TABLES.items() for name, cases in rows.items()
         for k, one in enumerate(cases)}  # fmt: skip


class Outcome(NamedTuple):
    """What a call gave, and all it said."""

    result: object
    error: str
    warnings: list
    printed: str


def outcome(call):
    out = io.StringIO()
    with warnings.catch_warnings(record=True) as told, contextlib.redirect_stdout(out):
        warnings.simplefilter("always")
        try:
            result, error = call(), ""
        except (ValueError, TypeError, OSError) as caught:
            result, error = None, f"{type(caught).__name__}: {caught}"
    return Outcome(result, error, [str(one.message) for one in told if one.category is OptimizeWarning], out.getvalue())


def on(device, options):
    return {"device": device, **options, **({"run": former()} if options.get("run") is former else {})}


def compared(cpu, gpu, refused):
    """Whether both ran; asserts that they said the same."""
    if refused:
        assert re.search(f"ValueError: device='cuda'.*{refused}", gpu.error)
        assert gpu.error != cpu.error
        return False
    assert (gpu.error, gpu.warnings, gpu.printed) == (cpu.error, cpu.warnings, cpu.printed)
    return not gpu.error


@pytest.mark.parametrize("name", CASES)
def test_one_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, method, options, given, refused, _ = CASES[name]

    def call(device):
        fresh = {key: value() if key == "callback" else value for key, value in given.items()}
        return no.minimize(make(), method=method, options=on(device, options), **fresh)

    cpu, gpu = outcome(lambda: call("cpu")), outcome(lambda: call("cuda"))
    if not compared(cpu, gpu, refused):
        return
    gpu, cpu = gpu.result, cpu.result
    close = {"rtol": 1e-5, "atol": 1e-6} if cpu.x.dtype == np.float32 else {"rtol": 1e-11, "atol": 1e-14}
    assert gpu.x.dtype == cpu.x.dtype
    assert set(gpu) == set(cpu)
    for field in ("nit", "nfev", "njev", "status", "success", "message"):
        assert gpu[field] == cpu[field], field
    for field in ("x", "fun", "jac", "lr"):
        np.testing.assert_allclose(gpu[field], cpu[field], err_msg=field, **close)
    for field in set(cpu.history.dtype.names) - {"seconds"}:
        np.testing.assert_allclose(gpu.history[field], cpu.history[field], err_msg=field, **close)
    for field in NOW.names:
        np.testing.assert_allclose(gpu.run.now[field], cpu.run.now[field], err_msg=field, **close)
    for field in ("x", "best", "state"):
        np.testing.assert_allclose(getattr(gpu.run, field), getattr(cpu.run, field), err_msg=field, **close)


@pytest.mark.parametrize("name", [name for name, one in CASES.items() if one[5] and name.endswith("0")])
def test_a_sweep(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, method, options, given, refused, _ = CASES[name]
    given = {{"x0": "X0"}.get(key, key): value for key, value in given.items()}
    options = {"history": True, **options, "seed": [3, options.get("seed", 0)]}

    def call(device):
        return no.minimize_many(make(), method=method, options=on(device, options), **given)

    cpu, gpu = outcome(lambda: call("cpu")), outcome(lambda: call("cuda"))
    if not compared(cpu, gpu, refused):
        return
    gpu, cpu = gpu.result, cpu.result
    close = {"rtol": 1e-5, "atol": 1e-6} if cpu.x.dtype == np.float32 else {"rtol": 1e-11, "atol": 1e-14}
    for field in ("status", "nit", "nfev", "reason"):
        np.testing.assert_array_equal(gpu[field], cpu[field], err_msg=field)
    for field in ("x", "fun"):
        np.testing.assert_allclose(gpu[field], cpu[field], err_msg=field, **close)


def test_nothing_is_missing():
    declared = {"options": set(OPTIONS), "arguments": set(inspect.signature(no.minimize).parameters),
                "models": set(inspect.signature(no.LinearModel).parameters),
                "losses": {kind.names[0] for kind in LOSSES.values()}}  # fmt: skip
    assert {name: set(TABLES[name]) for name in declared} == declared
    for key, cases in OF_OPTIONS.items():
        assert any(key in options for _, _, options, *_ in cases), key
