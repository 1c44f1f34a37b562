"""Training takes no copy of the data: peak memory beyond them, in a process of its own."""

import sys

import pytest
from process import python

CODE = """
import sys
import numpy as np, scipy.sparse as sp, numbaopt as no

def status(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name + ":")) * 1024

def train(X, y, kind):
    model = no.LinearModel(X, y, "logistic", l2=1e-3)
    if kind == "saga":
        no.minimize(model, method="saga", options={"epochs": 1, "lr": 0.01})
    elif kind == "estimator":
        from numbaopt.linear_model import SGDClassifier
        SGDClassifier(loss="logistic", batch_size=256, max_epochs=1, tol=None).fit(X, y)
    else:
        no.minimize(model, method=kind, options={"batch_size": 256, "epochs": 1})

kind, storage, rows, columns = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
rng = np.random.default_rng(0)
X = rng.standard_normal((rows, columns), np.float32).astype(float)
y = np.where(X[:, 0] > 0, 1.0, -1.0)
if storage == "csr":
    X = sp.csr_array(np.where(X > 0.5, X, 0.0))
train(X[:5000], y[:5000], kind)  # compiles
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak is now what there is
before = status("VmRSS")
train(X, y, kind)
print(status("VmHWM") - before, X.data.nbytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("kind", "storage"), [("adam", "dense"), ("sgd", "csr"), ("saga", "dense"),
                                               ("estimator", "dense")])  # fmt: skip
def test_peak_memory_beyond_the_data(kind, storage):
    rows, columns = 250_000, 60
    beyond, data = map(int, python(CODE, kind, storage, rows, columns))
    # two batches, some vectors of unknowns, some of terms (targets as classes, slopes of SAGA, a permutation)
    allowed = 2 * 256 * columns * 8 + 50 * columns * 8 + 6 * rows * 8
    assert beyond < allowed + (4 << 20) < data
