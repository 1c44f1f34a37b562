"""Residuals of the problems of Moré, Garbow and Hillstrom; `more_garbow_hillstrom` has their starts and minima.

Scalar loops, so that `numbaopt.autodiff` differentiates them.  The dimension n, where it is not fixed, is that of x;
where the paper leaves m >= n open too, m is fixed or, for the linear ones, 2 n.
"""

from __future__ import annotations

import math

import numpy as np

from .._jit import jit

BARD = np.array([0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39])
GAUSSIAN = np.array([0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521, 0.3989])
MEYER = np.array([34780.0, 28610.0, 23650.0, 19630.0, 16370.0, 13720.0, 11540.0, 9744.0, 8261.0, 7030.0, 6005.0, 5147.0,
                  4427.0, 3820.0, 3307.0, 2872.0])  # fmt: skip
KOWALIK_Y = np.array([0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246])
KOWALIK_U = np.array([4.0, 2.0, 1.0, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625])
OSBORNE_1 = np.array([
    0.844, 0.908, 0.932, 0.936, 0.925, 0.908, 0.881, 0.850, 0.818, 0.784, 0.751, 0.718, 0.685, 0.658, 0.628, 0.603,
    0.580, 0.558, 0.538, 0.522, 0.506, 0.490, 0.478, 0.467, 0.457, 0.448, 0.438, 0.431, 0.424, 0.420, 0.414, 0.411,
    0.406])  # fmt: skip
OSBORNE_2 = np.array([
    1.366, 1.191, 1.112, 1.013, 0.991, 0.885, 0.831, 0.847, 0.786, 0.725, 0.746, 0.679, 0.608, 0.655, 0.616, 0.606,
    0.602, 0.626, 0.651, 0.724, 0.649, 0.649, 0.694, 0.644, 0.624, 0.661, 0.612, 0.558, 0.533, 0.495, 0.500, 0.423,
    0.395, 0.375, 0.372, 0.391, 0.396, 0.405, 0.428, 0.429, 0.523, 0.562, 0.607, 0.653, 0.672, 0.708, 0.633, 0.668,
    0.645, 0.632, 0.591, 0.559, 0.597, 0.625, 0.739, 0.710, 0.729, 0.720, 0.636, 0.581, 0.428, 0.292, 0.162, 0.098,
    0.054])  # fmt: skip


@jit
def rosenbrock(x):
    r = np.empty(x.size)
    for i in range(0, x.size, 2):
        r[i] = 10.0 * (x[i + 1] - x[i] ** 2)
        r[i + 1] = 1.0 - x[i]
    return r


@jit
def freudenstein_roth(x):
    a, b = x[0], x[1]
    return np.array([-13.0 + a + ((5.0 - b) * b - 2.0) * b, -29.0 + a + ((b + 1.0) * b - 14.0) * b])


@jit
def powell_badly_scaled(x):
    return np.array([1e4 * x[0] * x[1] - 1.0, np.exp(-x[0]) + np.exp(-x[1]) - 1.0001])


@jit
def brown_badly_scaled(x):
    return np.array([x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2.0])


@jit
def beale(x):
    a, b = x[0], x[1]
    return np.array([1.5 - a * (1.0 - b), 2.25 - a * (1.0 - b**2), 2.625 - a * (1.0 - b**3)])


@jit
def jennrich_sampson(x):
    r = np.empty(10)
    for i in range(10):
        r[i] = 2.0 + 2.0 * (i + 1) - (np.exp((i + 1) * x[0]) + np.exp((i + 1) * x[1]))
    return r


@jit
def helical_valley(x):
    turns = 0.25 - np.arctan2(x[0], x[1]) / (2.0 * math.pi)  # arctan(x2 / x1) / 2 pi, + 1/2 if x1 < 0
    return np.array([10.0 * (x[2] - 10.0 * turns), 10.0 * (np.sqrt(x[0] ** 2 + x[1] ** 2) - 1.0), x[2]])


@jit
def bard(x):
    r = np.empty(15)
    for i in range(15):
        u, v = i + 1.0, 15.0 - i
        r[i] = BARD[i] - (x[0] + u / (v * x[1] + min(u, v) * x[2]))
    return r


@jit
def gaussian(x):
    r = np.empty(15)
    for i in range(15):
        t = (7.0 - i) / 2.0
        r[i] = x[0] * np.exp(-x[1] * (t - x[2]) ** 2 / 2.0) - GAUSSIAN[min(i, 14 - i)]
    return r


@jit
def meyer(x):
    r = np.empty(16)
    for i in range(16):
        r[i] = x[0] * np.exp(x[1] / (50.0 + 5.0 * i + x[2])) - MEYER[i]
    return r


@jit
def gulf(x):
    r = np.empty(99)
    for i in range(99):
        t = (i + 1) / 100.0
        y = 25.0 + (-50.0 * np.log(t)) ** (2.0 / 3.0)
        r[i] = np.exp(-(abs(y - x[1]) ** x[2]) / x[0]) - t  # the paper prints y m i x2, a misprint
    return r


@jit
def box(x):
    r = np.empty(10)
    for i in range(10):
        t = 0.1 * (i + 1)
        r[i] = np.exp(-t * x[0]) - np.exp(-t * x[1]) - x[2] * (np.exp(-t) - np.exp(-10.0 * t))
    return r


@jit
def powell_singular(x):
    r = np.empty(x.size)
    for i in range(0, x.size, 4):
        r[i] = x[i] + 10.0 * x[i + 1]
        r[i + 1] = math.sqrt(5.0) * (x[i + 2] - x[i + 3])
        r[i + 2] = (x[i + 1] - 2.0 * x[i + 2]) ** 2
        r[i + 3] = math.sqrt(10.0) * (x[i] - x[i + 3]) ** 2
    return r


@jit
def wood(x):
    a, b, c, d = x[0], x[1], x[2], x[3]
    return np.array([10.0 * (b - a**2), 1.0 - a, math.sqrt(90.0) * (d - c**2), 1.0 - c,
                     math.sqrt(10.0) * (b + d - 2.0), (b - d) / math.sqrt(10.0)])  # fmt: skip


@jit
def kowalik_osborne(x):
    r = np.empty(11)
    for i in range(11):
        u = KOWALIK_U[i]
        r[i] = KOWALIK_Y[i] - x[0] * (u**2 + u * x[1]) / (u**2 + u * x[2] + x[3])
    return r


@jit
def brown_dennis(x):
    r = np.empty(20)
    for i in range(20):
        t = (i + 1) / 5.0
        r[i] = (x[0] + t * x[1] - np.exp(t)) ** 2 + (x[2] + x[3] * np.sin(t) - np.cos(t)) ** 2
    return r


@jit
def osborne_1(x):
    r = np.empty(33)
    for i in range(33):
        t = 10.0 * i
        r[i] = OSBORNE_1[i] - (x[0] + x[1] * np.exp(-t * x[3]) + x[2] * np.exp(-t * x[4]))
    return r


@jit
def biggs_exp6(x):
    r = np.empty(13)
    for i in range(13):
        t = 0.1 * (i + 1)
        y = np.exp(-t) - 5.0 * np.exp(-10.0 * t) + 3.0 * np.exp(-4.0 * t)
        r[i] = x[2] * np.exp(-t * x[0]) - x[3] * np.exp(-t * x[1]) + x[5] * np.exp(-t * x[4]) - y
    return r


@jit
def osborne_2(x):
    r = np.empty(65)
    for i in range(65):
        t = i / 10.0
        model = x[0] * np.exp(-t * x[4])
        for k in range(3):
            model += x[k + 1] * np.exp(-((t - x[k + 8]) ** 2) * x[k + 5])
        r[i] = OSBORNE_2[i] - model
    return r


@jit
def watson(x):
    r = np.empty(31)
    for i in range(29):
        t, value, slope = (i + 1) / 29.0, 0.0, 0.0  # of the polynomial with coefficients x, by Horner's scheme
        for j in range(x.size - 1, -1, -1):
            slope = slope * t + value
            value = value * t + x[j]
        r[i] = slope - value**2 - 1.0
    r[29], r[30] = x[0], x[1] - x[0] ** 2 - 1.0
    return r


@jit
def penalty_1(x):
    n, squares = x.size, 0.0
    r = np.empty(n + 1)
    for i in range(n):
        r[i] = math.sqrt(1e-5) * (x[i] - 1.0)
        squares += x[i] ** 2
    r[n] = squares - 0.25
    return r


@jit
def penalty_2(x):
    n, squares = x.size, x.size * x[0] ** 2
    r = np.empty(2 * n)
    r[0] = x[0] - 0.2
    for i in range(1, n):
        y = np.exp((i + 1) / 10.0) + np.exp(i / 10.0)
        r[i] = math.sqrt(1e-5) * (np.exp(x[i] / 10.0) + np.exp(x[i - 1] / 10.0) - y)
        r[n - 1 + i] = math.sqrt(1e-5) * (np.exp(x[i] / 10.0) - np.exp(-0.1))
        squares += (n - i) * x[i] ** 2
    r[2 * n - 1] = squares - 1.0
    return r


@jit
def variably_dimensioned(x):
    n, total = x.size, 0.0
    r = np.empty(n + 2)
    for i in range(n):
        r[i] = x[i] - 1.0
        total += (i + 1) * (x[i] - 1.0)
    r[n], r[n + 1] = total, total**2
    return r


@jit
def trigonometric(x):
    n, cosines = x.size, 0.0
    for i in range(n):
        cosines += np.cos(x[i])
    r = np.empty(n)
    for i in range(n):
        r[i] = n - cosines + (i + 1) * (1.0 - np.cos(x[i])) - np.sin(x[i])
    return r


@jit
def brown_almost_linear(x):
    n, total, product = x.size, 0.0, 1.0
    for i in range(n):
        total += x[i]
        product *= x[i]
    r = np.empty(n)
    for i in range(n - 1):
        r[i] = x[i] + total - (n + 1)
    r[n - 1] = product - 1.0
    return r


@jit
def discrete_boundary_value(x):
    n = x.size
    h, r = 1.0 / (n + 1), np.empty(n)
    for i in range(n):
        r[i] = 2.0 * x[i] + h**2 * (x[i] + (i + 1) * h + 1.0) ** 3 / 2.0
        if i > 0:
            r[i] -= x[i - 1]
        if i < n - 1:
            r[i] -= x[i + 1]
    return r


@jit
def discrete_integral_equation(x):
    n = x.size
    h, r = 1.0 / (n + 1), np.empty(n)
    for i in range(n):
        t, integral = (i + 1) * h, 0.0
        for j in range(n):
            s = (j + 1) * h
            integral += min(s, t) * (1.0 - max(s, t)) * (x[j] + s + 1.0) ** 3
        r[i] = x[i] + h * integral / 2.0
    return r


@jit
def broyden_tridiagonal(x):
    n = x.size
    r = np.empty(n)
    for i in range(n):
        r[i] = (3.0 - 2.0 * x[i]) * x[i] + 1.0
        if i > 0:
            r[i] -= x[i - 1]
        if i < n - 1:
            r[i] -= 2.0 * x[i + 1]
    return r


@jit
def broyden_banded(x):
    n = x.size
    r = np.empty(n)
    for i in range(n):
        r[i] = x[i] * (2.0 + 5.0 * x[i] ** 2) + 1.0
        for j in range(max(0, i - 5), min(n, i + 2)):
            if j != i:
                r[i] -= x[j] * (1.0 + x[j])
    return r


@jit
def linear_full_rank(x):
    n, m, total = x.size, 2 * x.size, 0.0
    for j in range(n):
        total += x[j]
    r = np.empty(m)
    for i in range(m):
        r[i] = -2.0 / m * total - 1.0
        if i < n:
            r[i] += x[i]
    return r


@jit
def linear_rank_1(x):
    n, m, total = x.size, 2 * x.size, 0.0
    for j in range(n):
        total += (j + 1) * x[j]
    r = np.empty(m)
    for i in range(m):
        r[i] = (i + 1) * total - 1.0
    return r


@jit
def linear_rank_1_zeros(x):
    n, m, total = x.size, 2 * x.size, 0.0
    for j in range(1, n - 1):
        total += (j + 1) * x[j]
    r = np.empty(m)
    for i in range(m):
        r[i] = -1.0
        if i < m - 1:
            r[i] += i * total
    return r


@jit
def chebyquad(x):
    n = x.size
    r = np.zeros(n)
    for j in range(n):
        before, now, double = 1.0, 2.0 * x[j] - 1.0, 4.0 * x[j] - 2.0
        for i in range(n):
            r[i] += now / n
            before, now = now, double * now - before
    for i in range(1, n, 2):
        r[i] += 1.0 / ((i + 1) ** 2 - 1.0)
    return r
