"""
A rule of your own
==================

A rule is a NamedTuple with a field ``lr`` and two scalar functions. It then works in every loop: whole objectives,
minibatches, sparse rows, `numbaopt.step`, `numbaopt.minimize_many`. :doc:`/own` tells the whole story.
"""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numba

import numbaopt as no
from numbaopt.plotting import convergence


@no.rule()
class SignMomentum(NamedTuple):
    lr: float = 0.001
    momentum: float = 0.9

    slots = ("m",)  # names of its vectors of state, which begin at zero

    def prepare(opt, lr, t):  # the coefficients of step t = 1, 2, ...
        return lr, opt.momentum

    def update(c, x, g, s, i):  # the new value of one coordinate
        s[0, i] = c[1] * s[0, i] + g
        return x - c[0] if s[0, i] > 0 else x + c[0]


@numba.njit
def rosen(x):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


# %%
# Its steps never become shorter by themselves, so a schedule must see to that; Adam gets the same one.
lr = no.schedules.Cosine(0.02, steps=1000)
options = dict(maxiter=1000, gtol=0)
results = {
    "SignMomentum": no.minimize(rosen, [-1.2, 1.0], method=SignMomentum(lr=lr), options=options),
    "Adam": no.minimize(rosen, [-1.2, 1.0], method=no.Adam(lr=lr), options=options),
}
fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
convergence(results, ax=ax)
plt.show()
