"""
Fit a curve
===========

`numbaopt.least_squares` takes what ``scipy.optimize.least_squares`` takes. The residuals are an ordinary jitted
function; their Jacobian is exact and compiled, and with a robust loss a few wild points do no harm.
"""

import matplotlib.pyplot as plt
import numba
import numpy as np

import numbaopt as no


@numba.njit
def residuals(x, t, y):
    return x[0] * np.exp(-x[1] * t) + x[2] - y


rng = np.random.default_rng(0)
t = np.linspace(0, 4, 60)
y = 2.5 * np.exp(-1.3 * t) + 0.5 + 0.05 * rng.standard_normal(60)
y[::12] += 1.5  # outliers

# %%
# The same problem by squares, and by the loss ``soft_l1``, to which a residual beyond ``f_scale`` counts as an outlier.
# Amplitude and rate may not be negative.
bounds = ([0, 0, -np.inf], np.inf)
plain = no.least_squares(residuals, [1.0, 1.0, 0.0], args=(t, y), bounds=bounds)
robust = no.least_squares(residuals, [1.0, 1.0, 0.0], args=(t, y), bounds=bounds, loss="soft_l1", f_scale=0.1)
print(robust.message)
print("x    ", robust.x.round(3))
print("sigma", np.sqrt(np.diag(robust.covariance)).round(3))

# %%
fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
ax.plot(t, y, ".", color="0.6", label="data")
for name, fit, line in (("squares", plain, "--"), ("soft_l1", robust, "-")):
    ax.plot(t, fit.x[0] * np.exp(-fit.x[1] * t) + fit.x[2], line, label=name)
ax.set(xlabel="t", ylabel="y")
ax.legend()
plt.show()
