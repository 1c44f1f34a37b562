"""Training from data that need not fit into memory: tables that are read chunk by chunk, ahead of the compiled loop.

>>> import numpy as np, numbaopt as no
>>> X = np.random.default_rng(0).standard_normal((1000, 3))
>>> source = no.stream.open(X, X @ [1.0, 2.0, 3.0], chunk_rows=256)  # or paths of .npy, Parquet or LIBSVM files
>>> no.stream.minimize(source, method="adam", options=dict(lr=0.1, batch_size=32)).coef.round(2)
array([1., 2., 3.])
"""

from .libsvm import Libsvm
from .parquet import Parquet
from .sources import Arrays, Chunks, Source
from .sources import open_source as open  # noqa: A004  as gzip.open
from .train import minimize, resume

__all__ = ["Arrays", "Chunks", "Libsvm", "Parquet", "Source", "minimize", "open", "resume"]
