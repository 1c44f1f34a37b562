"""Speed against peers, measured side by side in one process: ``python -m benchmarks --help``."""

import os

# Before NumPy is imported: threads of a BLAS that wait for each other on a busy machine would slow SciPy down unfairly.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
