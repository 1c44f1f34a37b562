"""
The ways of the rules
=====================

Five rules on Rosenbrock's valley, a thousand steps each. What a rule does with a gradient is easier seen than read:
gradient descent creeps along the floor, momentum swings, AdaGrad slows down, RMSprop and Adam go on at their own pace.
"""

import matplotlib.pyplot as plt
import numba
import numpy as np

import numbaopt as no
from numbaopt.plotting import convergence, trajectories


@numba.njit
def rosen(x):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


rules = {
    "gradient descent": no.SGD(lr=1e-3),
    "momentum": no.Momentum(lr=1e-4),
    "AdaGrad": no.AdaGrad(lr=0.5),
    "RMSprop": no.RMSprop(lr=0.02),
    "Adam": no.Adam(lr=0.2),
}
start = np.array([-1.2, 1.0])
paths, results = {}, {}
for name, rule in rules.items():
    paths[name] = [start]
    results[name] = no.minimize(rosen, start, method=rule, callback=paths[name].append, options=dict(maxiter=1000))

fig, ax = plt.subplots(figsize=(6.4, 4.8), layout="constrained")
trajectories(rosen, paths, minimum=(1, 1), ax=ax)
plt.show()

# %%
fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
convergence(results, optimum=0.0, ax=ax)
plt.show()
