"""The loss of several classes at once: its rows have a margin for every class."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .._math import exp
from ._loss import loss


@loss("softmax", "cross_entropy")
class Multinomial(NamedTuple):
    r""":math:`\log \sum_k e^{z_k} - z_y`, the cross-entropy of the softmax of the margins; without overflow.

    Its functions work on the margins ``z`` of a tile of rows at a time: ``z[k, j]`` is that of row j for class k, in
    two rows more there is room for the largest and the sum.
    """

    takes = "classes"
    many = True  # margins a row

    def value(c, z, target, weight, count):
        k_count, total = z.shape[0] - 2, 0.0
        for j in range(count):
            top = z[0, j]
            for k in range(1, k_count):
                top = z[k, j] if z[k, j] > top else top
            part = 0.0
            for k in range(k_count):
                part += exp(np.float64(z[k, j] - top))
            total += weight[j] * (np.log(part) + np.float64(top) - np.float64(z[np.intp(target[j]), j]))
        return total

    def slope(c, z, target, weight, count):
        """Put the slopes in the margins' place."""
        k_count = z.shape[0] - 2
        top, total = z[k_count], z[k_count + 1]
        for j in range(count):
            top[j] = z[0, j]
            total[j] = 0
        for k in range(1, k_count):
            for j in range(count):
                top[j] = z[k, j] if z[k, j] > top[j] else top[j]
        for k in range(k_count):
            for j in range(count):
                z[k, j] = exp(z[k, j] - top[j])
                total[j] += z[k, j]
        for j in range(count):
            total[j] = weight[j] / total[j]
        for k in range(k_count):
            for j in range(count):
                z[k, j] *= total[j]
        for j in range(count):
            z[np.intp(target[j]), j] -= weight[j]

    def curvature(c, z, target, weight, h, count):
        """The weighted probabilities of row j into ``h[j * K : (j + 1) * K]``: all that `bend` must know."""
        k_count = z.shape[0] - 2
        for j in range(count):
            top, total = z[0, j], 0.0
            for k in range(1, k_count):
                top = z[k, j] if z[k, j] > top else top
            for k in range(k_count):
                h[j * k_count + k] = exp(np.float64(z[k, j] - top))
                total += h[j * k_count + k]
            for k in range(k_count):
                h[j * k_count + k] *= weight[j] / total

    def bend(z, h, count):
        """The second derivatives times z, in the place of z: (diag(h) - h h' / w) z, w the sum of h, for every row."""
        k_count = z.shape[0] - 2
        for j in range(count):
            weight, mean = 0.0, 0.0
            for k in range(k_count):
                weight += h[j * k_count + k]
                mean += h[j * k_count + k] * z[k, j]
            mean = mean / weight if weight > 0 else 0.0
            for k in range(k_count):
                z[k, j] = h[j * k_count + k] * (z[k, j] - mean)

    def lipschitz(loss):
        return 0.5
