"""
Data larger than memory
=======================

`numbaopt.stream` trains on ``.npy``, Parquet and LIBSVM files chunk by chunk: one chunk is trained on while a thread
reads the next. Rows are shuffled within chunks and chunks among each other.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import numbaopt as no

# %%
# A table on disk, eight megabytes for the sake of the example:
folder = Path(tempfile.mkdtemp())
rng = np.random.default_rng(0)
X = rng.standard_normal((100_000, 10))
np.save(folder / "X.npy", X)
np.save(folder / "y.npy", X[:, 0] - 2 * X[:, 1] + rng.logistic(size=100_000) > 0)

source = no.stream.open(folder / "X.npy", folder / "y.npy", chunk_rows=10_000)
print(source)

# %%
# The progressive loss is that of each batch before the step that it causes, so it tells of rows not seen before.
fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
for method, lr in (("sgd", 0.3), ("adam", 0.003)):
    rate = no.schedules.Cosine(lr, steps=10 * source.steps_per_epoch(64))
    res = no.stream.minimize(source, method=method, loss="logistic", options=dict(lr=rate, batch_size=64, epochs=10))
    ax.plot(res.history.epoch, res.history.fun, "o-", label=method)
ax.set(xlabel="epoch", ylabel="progressive loss")
ax.legend()
plt.show()
print(res.coef.round(2))
