"""
Minimize inside compiled code
=============================

`numbaopt.minimize` is the same call inside a function jitted by Numba, also in ``prange``. Here it is the inner problem
of a dynamic programme: how much of one's wealth to consume, for every level of wealth, again and again.
"""

import matplotlib.pyplot as plt
import numba
import numpy as np

import numbaopt as no

wealth = np.linspace(0.1, 10, 100)


@numba.njit
def loss(x, owned, wealth, value):
    """Less the value of consuming the share sigmoid(x[0]): log utility now, the discounted value of the rest later."""
    share = 1 / (1 + np.exp(-x[0]))
    left = 1.05 * (1 - share) * owned
    return -np.log(share * owned) - 0.95 * np.interp(left, wealth, value)


@numba.njit
def bellman(wealth, value):
    better, share = np.empty_like(value), np.empty_like(value)
    for i in range(wealth.size):
        res = no.minimize(loss, (0.0,), (wealth[i], wealth, value), no.BFGS(), "3-point", tol=1e-6)
        better[i], share[i] = -res.fun, 1 / (1 + np.exp(-res.x[0]))
    return better, share


# %%
# Twenty sweeps are two thousand minimizations. With ``@numba.njit(parallel=True)`` and ``numba.prange`` in the place of
# ``range`` all threads share them.
value = np.zeros_like(wealth)
fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
for sweep in range(1, 21):
    value, share = bellman(wealth, value)
    if sweep in (1, 2, 5, 10, 20):
        ax.plot(wealth, value, label=f"after {sweep}")
ax.set(xlabel="wealth", ylabel="value")
ax.legend(title="sweeps")
plt.show()
