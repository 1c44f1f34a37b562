"""
A thousand fits at once
=======================

`numbaopt.minimize_many` solves independent problems that differ in their starts and arguments: in compiled code, by all
threads, each stopping on its own and with the bits it would have alone.
"""

import matplotlib.pyplot as plt
import numba
import numpy as np

import numbaopt as no


@numba.njit
def misfit(p, t, y):
    return ((p[0] * np.exp(-p[1] * t) - y) ** 2).sum()


# %%
# Every row of ``Y`` is one decay curve; ``batched`` says that ``t`` is for all and each problem has its own row.
rng = np.random.default_rng(0)
t = np.linspace(0, 2, 50)
rates = rng.uniform(0.5, 2.0, 1000)
Y = 3 * np.exp(-rates[:, None] * t) + 0.05 * rng.standard_normal((1000, 50))
fits = no.minimize_many(misfit, [1.0, 1.0], args=(t, Y), batched=(False, True))
print(fits.message)

# %%
fig, ax = plt.subplots(figsize=(4.2, 4.0), layout="constrained")
ax.plot(rates, fits.x[:, 1], ".", markersize=3)
ax.axline((1, 1), slope=1, color="0.5", linewidth=0.8)
ax.set(xlabel="true rate", ylabel="fitted rate")
plt.show()
