"""
Exact gradients
===============

`numbaopt.grad` differentiates a jitted function as it stands, loops and branches included, and its result is compiled.
`numbaopt.check_grad` compares with differences.
"""

import matplotlib.pyplot as plt
import numba
import numpy as np

import numbaopt as no


@numba.njit
def action(x, steps):
    """Of a pendulum that begins with x (angle, speed): kinetic less potential energy, summed over explicit steps."""
    angle, speed, total = x[0], x[1], 0.0
    for _ in range(steps):
        speed -= 0.01 * np.sin(angle)
        angle += 0.01 * speed
        total += 0.01 * (0.5 * speed**2 + np.cos(angle))
    return total


gradient = no.grad(action)
x = np.array([1.0, 0.5])
print("gradient", gradient(x, 1000))
print(no.check_grad(action, x, args=(1000,)))

# %%
# It can be called inside jitted code, too:


@numba.njit
def largest_slope(points):
    largest = 0.0
    for i in range(len(points)):
        largest = max(largest, np.abs(gradient(points[i], 1000)).max())
    return largest


print("largest", largest_slope(np.random.default_rng(0).standard_normal((100, 2))))

# %%
# How the action depends on the angle of the start, and its derivative:
angles = np.linspace(-4, 4, 201)
both = no.value_and_grad(action)
values, slopes = zip(*[(value, slope[0]) for value, slope in (both(np.array([a, 0.5]), 1000) for a in angles)])
fig, (above, below) = plt.subplots(2, sharex=True, figsize=(6.4, 4.2), layout="constrained")
above.plot(angles, values)
below.plot(angles, slopes, color="C1")
above.set(ylabel="action")
below.set(xlabel="angle at the start", ylabel="its derivative")
plt.show()

# %%
# A function that Numba can call but nobody can look into gets a derivative by hand; what uses it is differentiated as
# before.


@numba.njit
def cube_root(x):
    return np.sign(x) * abs(x) ** (1 / 3)


@no.derivative_rule(cube_root)
def _(x):
    y = cube_root(x)
    return y, 1 / (3 * y * y)


@numba.njit
def f(x):
    return cube_root(x[0]) * x[1]


print("gradient", no.grad(f)(np.array([8.0, 1.0])))
