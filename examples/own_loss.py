"""
A loss of your own
==================

A loss is a NamedTuple of its parameters with two scalar functions of a row's margin ``z`` and target ``y``. What it
needs besides, loops over rows of every storage and dtype, is there already. With a ``curvature`` it also has Newton's
method.
"""

import math
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np

import numbaopt as no


@no.losses.loss
class LogCosh(NamedTuple):
    """Quadratic near zero, linear far away, and smooth between."""

    scale: float = 1.0

    def value(c, z, y):
        return c[0] * math.log(math.cosh((z - y) / c[0]))

    def slope(c, z, y):
        return math.tanh((z - y) / c[0])

    def curvature(c, z, y):
        return (1 - math.tanh((z - y) / c[0]) ** 2) / c[0]


# %%
# A line through points of which some are far off, by squares and by the new loss:
rng = np.random.default_rng(0)
X = rng.uniform(-1, 1, (80, 1))
y = 2 * X[:, 0] + 1 + 0.1 * rng.standard_normal(80)
y[X[:, 0] > 0.8] -= 4
fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
ax.plot(X[:, 0], y, ".", color="0.6")
for name, loss in (("squared", "squared"), ("log_cosh", LogCosh(scale=0.1))):
    model = no.LinearModel(X, y, loss=loss)
    slope, intercept = no.minimize(model, method="newton").x
    ax.axline((0, intercept), slope=slope, label=f"{name}: {slope:.2f} x + {intercept:.2f}", color=f"C{len(ax.lines)}")
ax.legend()
plt.show()
