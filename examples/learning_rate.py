"""
Find a learning rate
====================

`numbaopt.lr_finder` takes a few steps at each of many rates, and shows which of them descend and where a rule diverges.
A function minimized by a rule's name needs no rate at all: `numbaopt.minimize` then finds one on the way
(`numbaopt.schedules.Automatic` tells how).
"""

import matplotlib.pyplot as plt
import numba
import numpy as np

import numbaopt as no
from numbaopt.plotting import lr_curve


@numba.njit
def valley(x):
    """A quadratic whose curvatures are 1, ..., 100, with its minimum 0 at 1."""
    return 0.5 * (np.linspace(1, 100, x.size) * (x - 1) ** 2).sum()


x0 = np.linspace(-1, 0.5, 20)
curves = {name: no.lr_finder(valley, x0, name) for name in ("gd", "momentum", "adam")}
fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
lr_curve(curves, ax=ax)
plt.show()

# %%
# Gradient descent diverges where the rate exceeds 2 divided by the largest curvature, here 0.02: its line ends there.
#
# With no rate told:
for name in curves:
    res = no.minimize(valley, x0, method=name)
    print(f"{name:>8}: fun {res.fun:.1e} after {res.nfev} evaluations. {res.message}")
