"""
More than one minimum
=====================

`numbaopt.multistart` polishes many starts at once and tells the distinct minima, and how many starts led to each.
"""

import matplotlib.pyplot as plt
import numba

import numbaopt as no
from numbaopt.plotting import trajectories


@numba.njit
def himmelblau(x):
    return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2


wells = no.multistart(himmelblau, [(-5, 5), (-5, 5)], n_starts=64)
print(wells.message)
for x, fun, count in zip(wells.minima, wells.funs, wells.counts):
    print(x.round(3), f"{fun:.1e}", count)

# %%
# Momentum from four of the starts, over the contours; the stars are the minima that were found.
paths = {}
for k, start in enumerate(wells.starts[:4], 1):
    paths[f"start {k}"] = [start]
    no.minimize(himmelblau, start, method=no.Momentum(lr=0.002), callback=paths[f"start {k}"].append,
                options=dict(maxiter=300))  # fmt: skip
fig, ax = plt.subplots(figsize=(5.6, 5.2), layout="constrained")
trajectories(himmelblau, paths, minimum=wells.minima, ax=ax)
plt.show()
