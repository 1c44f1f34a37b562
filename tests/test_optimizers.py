"""Every rule against its textbook oracle, PyTorch, optax and the golden trajectories: all from one table."""

import copy
import inspect
import json
import math
import pickle
from pathlib import Path
from typing import NamedTuple

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from peers import optax_path, torch_path
from rules_table import CASES, NOT_OURS

import numbaopt as no
from numbaopt.optimizers import OPTIMIZERS

STEPS, SIZE = 200, 7
GOLDEN_GRADIENTS = [1, -0.5, 2, 0.25, -1, 0.5, -2, 1]
GOLDEN = {
    f"{file.stem}: {key}": path
    for file in (Path(__file__).parent / "golden").glob("*.json")
    for key, path in json.loads(file.read_text()).items()
}
OURS = sorted({cls for cls in OPTIMIZERS.values() if cls.__module__.startswith("numbaopt.")}, key=str)

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
every_rule = pytest.mark.parametrize("cls", OURS, ids=lambda cls: cls.__name__)


def random_problem(seed=0):
    """A start and gradients whose sizes differ by coordinate, with some exact zeros."""
    rng = np.random.default_rng(seed)
    gradients = rng.standard_normal((STEPS, SIZE)) * 10.0 ** np.linspace(-2, 2, SIZE)
    gradients[rng.random((STEPS, SIZE)) < 0.03] = 0.0
    gradients[0] = np.abs(gradients[0]) + 1e-3
    return rng.standard_normal(SIZE), gradients


def steps(opt, x0, gradients, dtype=np.float64):
    """The iterates of `numbaopt.step` from Python."""
    x, gradients, path = np.array(x0, dtype), np.asarray(gradients, dtype), []
    state = no.init_state(opt, x)
    for t, g in enumerate(gradients, 1):
        no.step(opt, x, g, state, t)
        path.append(x.copy())
    return np.array(path)


def agrees(path, expected, tolerance):
    assert_allclose(path, expected, rtol=tolerance, atol=tolerance)


# ---- nothing is missing ----------------------------------------------------------------------------------------------


def test_the_package_has_every_classic_rule():
    classics = """SGD Momentum Nesterov AdaGrad RMSprop Adadelta Adam AdamW AMSGrad Adamax NAdam RAdam AdaBelief Yogi
                  Lion Adan Rprop"""
    assert set(classics.split()) <= {cls.__name__ for cls in OURS}


@every_rule
def test_no_rule_and_no_option_skips_the_table(cls):
    cases = [case for case in CASES if case.cls is cls]
    assert any(not case.options for case in cases), "its defaults are not compared with an oracle"
    defaults = cls._field_defaults
    tried = {name for case in cases for name, value in case.options.items() if value != defaults[name]}
    assert tried == set(cls._fields) - {"lr"}, "an option that no case sets"


def test_no_golden_trajectory_is_skipped():
    used = [key for case in CASES for key in case.golden]
    assert sorted([*used, *NOT_OURS]) == sorted(GOLDEN)


@every_rule
def test_defaults_are_those_promised(cls):
    (oracle,) = {case.oracle for case in CASES if case.cls is cls}
    parameters = inspect.signature(oracle).parameters.values()
    assert cls._field_defaults == {p.name: p.default for p in parameters if p.default is not p.empty}


@every_rule
def test_every_name_finds_the_rule(cls):
    assert getattr(no, cls.__name__) is cls
    assert cls.__name__.lower() in cls.names
    assert all(OPTIMIZERS[name] is cls for name in cls.names)


# ---- the same numbers ------------------------------------------------------------------------------------------------


@every_case
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 1e-4)])
def test_equals_the_oracle(case, dtype, tolerance):
    x0, gradients = (np.asarray(a, dtype) for a in random_problem())
    path = steps(case.cls(lr=case.lr, **case.options), x0, gradients, dtype)
    assert path.dtype == dtype
    agrees(path, naive.run(case.oracle, x0, gradients, case.lr, **case.options), tolerance)


@every_case
def test_equals_the_oracle_when_the_rate_changes(case):
    x0, gradients = random_problem(1)
    path = steps(case.cls(lr=no.schedules.InverseTime(case.lr, 0.1), **case.options), x0, gradients)
    agrees(path, naive.run(case.oracle, x0, gradients, lambda k: case.lr / (1 + 0.1 * k), **case.options), 1e-10)


@pytest.mark.parametrize(("case", "key"), [(case, key) for case in CASES for key in case.golden],
                         ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_equals_the_golden_trajectory(case, key):
    lr = no.schedules.MultiStep(case.lr, (3,), 0.1) if "lr drop" in key or "from t=4" in key else case.lr
    path = steps(case.cls(lr=lr, **case.options), [1.0], np.reshape(GOLDEN_GRADIENTS, (-1, 1)))
    assert_allclose(path[:, 0], GOLDEN[key], rtol=1e-13, atol=1e-15)


@pytest.mark.peer
@pytest.mark.parametrize("case", [case for case in CASES if case.torch], ids=lambda case: case.name)
def test_equals_torch(case, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch, "get_default_dtype", lambda: torch.float64)  # NAdam keeps its product in this
    x0, gradients = random_problem()
    expected = torch_path(lambda optim, parameters: case.torch(optim, parameters, case.lr), x0, gradients)
    agrees(steps(case.cls(lr=case.lr, **case.options), x0, gradients), expected, 1e-10)


@pytest.mark.peer
@pytest.mark.parametrize("case", [case for case in CASES if case.optax], ids=lambda case: case.name)
def test_equals_optax(case):
    x0, gradients = random_problem()
    expected = optax_path(lambda optax: case.optax(optax, case.lr), x0, gradients)
    agrees(steps(case.cls(lr=case.lr, **case.options), x0, gradients), expected, 1e-10)


# ---- no surprises ----------------------------------------------------------------------------------------------------


@every_rule
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_gradient_never_gives_nan(cls, dtype):
    """Centered RMSprop's variance is zero in the limit: rounding must not take it below."""
    options = {"centered": True, "alpha": 0.9} if cls is no.RMSprop else {}
    path = steps(cls(**options), [1.0, -1.0], np.full((1000, 2), 0.1), dtype)
    assert np.isfinite(path).all()


@every_rule
def test_a_coordinate_that_never_has_a_gradient_never_moves(cls):
    gradients = np.zeros((50, 2))
    gradients[:, 1] = 1.0
    options = {name: 0.0 for name in ("weight_decay", "initial_accumulator") if name in cls._fields}
    path = steps(cls(**options), [1.0, 1.0], gradients)
    assert (path[:, 0] == 1.0).all()
    assert (path[1:, 1] < 1.0).all()


@every_rule
def test_zero_rate_is_no_step_and_step_one_starts_afresh(cls):
    x0, gradients = random_problem(2)
    if cls is not no.Rprop:  # its rate is only the first length
        assert (steps(cls(lr=0.0), x0, gradients) == x0).all()
    assert_allclose(steps(cls(), x0, gradients), steps(cls(), x0, gradients), rtol=0, atol=0)


def test_late_steps_keep_their_precision():
    """The corrections at t = 10**6, and the closed form of NAdam's product, are those of the definition."""
    for t in (1, 10, 1000, 100_000):
        for decay, beta1 in ((4e-3, 0.9), (1.0, 0.9), (1e-7, 0.999)):
            product = math.prod(beta1 * (1 - 0.5 * 0.96 ** (i * decay)) for i in range(1, t + 1))
            mu, mu_next = (beta1 * (1 - 0.5 * 0.96 ** (i * decay)) for i in (t, t + 1))
            root = math.sqrt(1 - 0.999**t)
            opt = no.NAdam(momentum_decay=decay, beta1=beta1)
            gradient, moment = opt.prepare(opt, 0.5, t)[:2]
            assert_allclose(gradient, 0.5 * root * (1 - mu) / (1 - product), rtol=1e-12)
            assert_allclose(moment, 0.5 * root * mu_next / (1 - product * mu_next), rtol=1e-12)


# ---- ranges ----------------------------------------------------------------------------------------------------------

RANGES = {
    "alpha": "[0, 1)", "beta1": "[0, 1)", "beta2": "[0, 1)", "beta3": "[0, 1)", "momentum": "[0, 1)", "rho": "[0, 1)",
    "dampening": "[0, 1]", "eta_minus": "(0, 1)", "eta_plus": "(1, inf)", "eps": "[0, inf)", "eps_root": "[0, inf)",
    "eps_switch": "[0, inf)",
    "initial_accumulator": "[0, inf)", "lr": "[0, inf)", "lr_decay": "[0, inf)", "momentum_decay": "[0, inf)",
    "step_max": "[0, inf)", "step_min": "[0, inf)", "weight_decay": "[0, inf)",
}  # fmt: skip
NUMBERS = [(cls, name) for cls in OURS for name in cls._fields if not isinstance(cls._field_defaults[name], bool)]
FLAGS = [(cls, name) for cls in OURS for name in cls._fields if isinstance(cls._field_defaults[name], bool)]


def inside(value, interval):
    low, high = (float(end) for end in interval[1:-1].split(","))
    return low < value < high or (value == low and interval[0] == "[") or (value == high and interval[-1] == "]")


@given(st.sampled_from(NUMBERS), st.one_of(st.floats(), st.floats(-2, 3), st.integers(-3, 3)))
def test_a_number_out_of_its_range_is_an_error_that_names_it(field, value):
    cls, name = field
    interval = RANGES[name]
    if inside(value, interval):
        made = getattr(cls(**{name: value}), name)
        assert made == value
        assert type(made) is float
    else:
        with pytest.raises(ValueError, match=name) as error:
            cls(**{name: value})
        assert str(error.value) == f"{cls.__name__}({name}={value!r}): {name} must be in {interval}"


@pytest.mark.parametrize(("cls", "name"), NUMBERS, ids=lambda v: v if isinstance(v, str) else v.__name__)
def test_what_is_no_number_is_an_error_that_names_it(cls, name):
    for value in ("0.5", None, [0.5], 1j, np.array([0.5, 0.5]), True):
        with pytest.raises((TypeError, ValueError), match=rf"^{cls.__name__}\({name}=.*{name} must be ") as error:
            cls(**{name: value})
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(("cls", "name"), FLAGS, ids=lambda v: v if isinstance(v, str) else v.__name__)
def test_flags_are_true_or_false(cls, name):
    assert getattr(cls(**{name: np.True_}), name) is True
    for value in ("yes", None, 2, 0.5):
        with pytest.raises(TypeError, match=rf"^{cls.__name__}\({name}=.*{name} must be True or False"):
            cls(**{name: value})


def test_unknown_fields_name_the_valid_ones():
    with pytest.raises(TypeError, match=r"Adam has no field 'bta1'; did you mean 'beta1'\? valid: beta1, beta2"):
        no.Adam(bta1=0.9)
    with pytest.raises(TypeError, match="positional"):
        no.Lion(0.1, 0.9, 0.9, 0.0, 0.0)


@every_rule
def test_an_optimizer_is_a_value(cls):
    opt = cls(lr=0.25)
    assert opt == cls(lr=np.float32(0.25)) != cls(lr=0.5)
    assert hash(opt) == hash(cls(lr=0.25))
    assert opt._replace(lr=0.5) == cls(lr=0.5)
    assert copy.deepcopy(opt) == pickle.loads(pickle.dumps(opt)) == opt
    assert repr(opt).startswith(f"{cls.__name__}(lr=0.25")
    with pytest.raises(ValueError, match="lr must be in"):
        opt._replace(lr=-1)


def test_rules_with_equal_fields_are_not_equal():
    fields = no.Adam()._asdict()
    assert no.Adam(**fields) != no.AMSGrad(**fields)
    assert len({no.Adam(**fields), no.AdamW(**fields), no.AMSGrad(**fields)}) == 3


# ---- making a rule ---------------------------------------------------------------------------------------------------


def test_a_rule_must_be_complete_and_its_name_free():
    class NoRate(NamedTuple):
        eta: float = 0.1

    with pytest.raises(TypeError, match="NoRate must be a NamedTuple with a field 'lr'"):
        no.rule()(NoRate)

    class NoUpdate(NamedTuple):
        lr: float = 0.1

        slots = ()
        prepare = staticmethod(lambda opt, lr, t: (lr,))

    with pytest.raises(TypeError, match="NoUpdate has no 'update': a rule needs slots, prepare"):
        no.rule()(NoUpdate)

    class Adam(NoUpdate):
        update = staticmethod(lambda c, x, g, s, i: x)

    with pytest.raises(ValueError, match=r"the name 'adam' is taken by numbaopt\.optimizers\.adam\.Adam"):
        no.rule()(Adam)
    assert OPTIMIZERS["adam"] is no.Adam


MISTAKES = {
    "slot": ({"update": lambda c, x, g, s, i: x - c[0] * s[0, i]}, r"update: .*\(slots names 0 vectors of state, "),
    "coefficient": ({"update": lambda c, x, g, s, i: x - c[1] * g}, r"update: .* prepare returns 1 coefficients\)"),
    "no result": ({"update": lambda c, x, g, s, i: None}, "update must return the new value"),
    "attribute": ({"update": lambda c, x, g, s, i: x - g.foo}, "update fails: AttributeError"),
    "no tuple": ({"prepare": lambda opt, lr, t: lr}, "prepare must return a tuple of numbers, not 0.1"),
    "field": ({"prepare": lambda opt, lr, t: (opt.beta,)}, "prepare fails: AttributeError"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_rule_is_tried_before_it_is_compiled(mistake):
    parts, text = MISTAKES[mistake]
    right = {"slots": (), "prepare": lambda opt, lr, t: (lr,), "update": lambda c, x, g, s, i: x - c[0] * g}

    class Mistaken(NamedTuple):
        lr: float = 0.1

    for name, part in {**right, **parts}.items():
        setattr(Mistaken, name, part if name == "slots" else staticmethod(part))
    rule = no.rule(Mistaken)  # also without parentheses
    assert OPTIMIZERS.pop("mistaken") is rule
    x = np.ones(3)
    with pytest.raises(TypeError, match=f"^Mistaken.{text}") as error:
        no.step(rule(), x, x.copy(), no.init_state(rule(), x), 1)
    assert "\n" not in str(error.value)


def test_a_rate_need_not_be_hashable():
    class Rate:
        __hash__ = None

        def __call__(self, t):
            return 0.1

    result = no.minimize(lambda x: (x**2).sum(), [1.0], method="sgd", jac=lambda x: 2 * x, options={"lr": Rate()})
    assert result.success
