"""Networks: back-propagation against a textbook forward pass, first weights, and the experiments on them."""

import numpy as np
import pytest
from files import written
from scipy.special import logsumexp

import numbaopt as no
from numbaopt.experiments import ExperimentError, Store, load, run
from numbaopt.experiments.network import classify, count_unknowns, initial, layers, network
from numbaopt.experiments.progress import Quiet, Tables
from numbaopt.transforms import ClipByNorm, ClipByValue, chain

RNG = np.random.default_rng(0)
ROWS = 30
SIZES = np.array([5, 4, 6, 3])
X, Y = RNG.standard_normal((ROWS, 5)), RNG.integers(0, 3, ROWS)
POINT = RNG.standard_normal(count_unknowns(SIZES))


def scores(x, X, relu):
    """The forward pass of every textbook."""
    for k, (weights, bias) in enumerate(layers(SIZES, x)):
        if k > 0:
            X = np.maximum(X, 0) if relu else np.tanh(X)
        X = X @ weights + bias
    return X


def loss(x, idx, relu):
    z = scores(x, X[idx], relu)
    return np.mean(logsumexp(z, axis=1) - z[np.arange(len(idx)), Y[idx]])


@pytest.mark.parametrize("relu", [True, False])
def test_value_and_gradient(relu):
    idx = RNG.permutation(ROWS)[:20]
    value, g = network(POINT, idx, X, Y, SIZES, relu)
    steps = 1e-6 * np.eye(POINT.size)
    slope = [(loss(POINT + h, idx, relu) - loss(POINT - h, idx, relu)) / 2e-6 for h in steps]
    np.testing.assert_allclose(value, loss(POINT, idx, relu), rtol=1e-13)
    np.testing.assert_allclose(g, slope, rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(classify(POINT, X, SIZES, relu), scores(POINT, X, relu).argmax(axis=1))


def test_large_scores_do_not_overflow_and_nan_stays_nan():
    value, g = network(1e3 * POINT, np.arange(ROWS), X, Y, SIZES, True)
    assert np.isfinite(value)
    assert np.isfinite(g).all()
    broken = POINT.copy()
    broken[0] = np.nan
    assert np.isnan(network(broken, np.arange(ROWS), X, Y, SIZES, True)[0])


def test_training_follows_a_loop_in_numpy():
    terms = no.FiniteSum(network, ROWS, (X, Y, SIZES, False), jac=True, chunk_size=7)
    res = no.minimize(terms, POINT, method="sgd", options={"lr": 0.5, "batch_size": 10, "epochs": 2, "shuffle": False})
    x = POINT
    for first in 2 * [0, 10, 20]:
        x = x - 0.5 * network(x, np.arange(first, first + 10), X, Y, SIZES, False)[1]
    np.testing.assert_allclose(res.x, x, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(res.fun, loss(x, np.arange(ROWS), False), rtol=1e-10)


@pytest.mark.parametrize(("kind", "spread"), [("zeros", 0), ("normal", 0.3), ("xavier", (2 / 500) ** 0.5),
                                              ("he", (2 / 300) ** 0.5)])  # fmt: skip
def test_first_weights(kind, spread):
    (weights, bias), _ = layers(np.array([300, 200, 2]), initial(np.array([300, 200, 2]), kind, 0.3, 1))
    assert weights.shape == (300, 200)
    assert weights.std() == pytest.approx(spread, rel=0.02)
    assert not bias.any()


EXPERIMENT = """
[methods]
SGD = { method = "sgd", lr = 0.1 }
clipped = { method = "sgd", lr = 0.1, clip_norm = 1.0, clip_value = 0.5 }
Adam = { method = "adam", lr = 0.005 }
[problems.he]
problem = "network"
activation = "relu"
initialization = "he"
hidden = [64]
batch_size = 32
epochs = 15
methods = { Adam = {} }
[problems.deep]
problem = "network"
activation = "relu"
initialization = "normal"
scale = 0.5
hidden = [64, 64, 64, 64, 64, 64]
batch_size = 32
epochs = 3
precision = "float64"
methods = { SGD = {}, clipped = {} }
"""


def test_experiment_on_digits(tmp_path):
    experiment, out, lines = load(written(tmp_path, EXPERIMENT)), tmp_path / "out", []
    assert experiment.trials[1].methods["clipped"].optimizer == chain(ClipByNorm(1.0), ClipByValue(0.5), no.SGD(0.1))
    run(experiment, out, show=lambda store: Tables(store, lines.append))
    assert "[he] A network 64-64-10, relu, weights he, on digits: 1,348 rows" in "\n".join(lines)
    with Store.open(out) as store:
        adam, exploded, clipped = store.runs()
    assert adam.metrics["accuracy"] > 0.96
    assert exploded.code == 2
    assert exploded.metrics["first |g|"] > 100  # at the start: there was no better point
    assert clipped.code != 2
    assert clipped.metrics["accuracy"] > exploded.metrics["accuracy"] + 0.3
    assert clipped.spec["method"]["clip_norm"] == 1.0


def test_a_table_of_words_and_its_classes(tmp_path):
    written(tmp_path, "".join(f"{k % 7},{k % 5},{'abc'[k % 7 // 3]}\n" for k in range(140)), "t.csv")
    text = """
        [methods]
        Adam = { method = "adam", lr = 0.05 }
        [problems.p]
        problem = "network"
        data = "t.csv"
        hidden = [8]
        batch_size = 10
        epochs = 30
        precision = "float64"
    """
    run(load(written(tmp_path, text)), tmp_path / "out", show=Quiet)
    with Store.open(tmp_path / "out") as store:
        assert store.runs()[0].metrics["accuracy"] == 1


@pytest.mark.parametrize(("more", "message"), [
    ("data = 't.csv'", "a network tells classes apart; the target has 15 values such as 18.5"),
    ("hidden = [0]", "problems.p.hidden.0 = 0: input should be greater than or equal to 1"),
    ("activation = 'relux'", "problems.p.activation = 'relux' is not known; did you mean 'relu'?"),
    ("methods = { gd = { clip_norm = -1.0 } }", "methods.gd.clip_norm: ClipByNorm(limit=-1.0"),
    ("methods = { gd = { clip_nrm = 1.0 } }", "did you mean 'clip_norm'?"),
])  # fmt: skip
def test_faults_are_told_in_a_sentence(tmp_path, more, message):
    written(tmp_path, "".join(f"{k},{k + 0.5}\n" for k in range(20)), "t.csv")
    text = f"[methods]\ngd = {{method='gd'}}\n[problems.p]\nproblem = 'network'\n{more}"
    with pytest.raises(ExperimentError) as error:
        run(load(written(tmp_path, text)), tmp_path / "out", show=Quiet)
    assert message in str(error.value)
