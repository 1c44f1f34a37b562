"""The order in which an epoch visits the terms of a sum: a permutation that is computed, never stored.

A Feistel network scrambles the bits of a position with keys made from (seed, epoch); where the result falls outside the
number of terms it is scrambled again until it does not ("cycle walking").  So the term at any position of any epoch is
a pure function of (seed, epoch, position): runs can be cut anywhere, and every platform sees the same order.  All
arithmetic is on non-negative integers masked to 32 bits, the same in Python, on the CPU and on a GPU.

References
----------
Black, J., Rogaway, P. (2002). Ciphers with arbitrary finite domains. doi:10.1007/3-540-45760-7_9
"""

from __future__ import annotations

import numba
import numpy as np

from .._jit import jit

MASK = 0xFFFFFFFF
ROUNDS = 6


def _wrapping(function):
    """`jit`; in the interpreter, too, integers wrap around without a word."""
    return np.errstate(over="ignore")(function) if numba.config.DISABLE_JIT else jit(function)


@_wrapping
def mix(value):
    """A 32-bit integer hash: each bit of the result depends on every bit of ``value``."""
    value = (value ^ (value >> 16)) & MASK
    value = (value * 0x7FEB352D) & MASK
    value = value ^ (value >> 15)
    value = (value * 0x846CA68B) & MASK
    return value ^ (value >> 16)


@jit
def scramble(value, half, low_mask, high_mask, k0, k1, k2, k3, k4, k5):
    """One pass of the network over the ``low_mask`` and ``high_mask`` bits of ``value``."""
    low, high = value & low_mask, value >> half
    high ^= mix(low ^ k0) & high_mask
    low ^= mix(high ^ k1) & low_mask
    high ^= mix(low ^ k2) & high_mask
    low ^= mix(high ^ k3) & low_mask
    high ^= mix(low ^ k4) & high_mask
    low ^= mix(high ^ k5) & low_mask
    return (high << half) | low


@jit
def key_of(seed, epoch):
    """What makes the order of an epoch another one for every seed."""
    return mix(mix(seed & MASK) ^ mix((seed >> 32) & MASK) ^ mix((epoch + 0x9E3779B9) & MASK))


@jit
def fill_draws(order, count, n, seed, epoch, first):
    """As `fill_order`, but every position draws one of all ``n`` terms, with replacement."""
    key = key_of(seed, epoch)
    for p in range(count):
        place = first + p
        high = mix((key + place) & MASK)
        low = mix(high ^ mix((key ^ (place >> 32)) & MASK))
        order[p] = int((high * 2.0**-32 + (low >> 11) * 2.0**-53) * n)


@jit
def network_of(n):
    """The bits of the network's lower half, and the masks of both halves, for ``n`` terms."""
    bits = 1
    while (1 << bits) < n:
        bits += 1
    half = (bits + 1) // 2
    return half, (1 << half) - 1, (1 << (bits - half)) - 1


@jit
def keys_of(seed, epoch):
    """The keys of the network's rounds."""
    key = key_of(seed, epoch)
    return (mix((key + 1) & MASK), mix((key + 2) & MASK), mix((key + 3) & MASK), mix((key + 4) & MASK),
            mix((key + 5) & MASK), mix((key + 6) & MASK))  # fmt: skip


@jit
def term_at(place, n, network, keys):
    """The term at one position of a shuffled epoch, what `fill_order` writes there."""
    half, low, high = network
    term = scramble(place, half, low, high, keys[0], keys[1], keys[2], keys[3], keys[4], keys[5])
    while term >= n:
        term = scramble(term, half, low, high, keys[0], keys[1], keys[2], keys[3], keys[4], keys[5])
    return term


@jit
def fill_order(order, count, n, shuffle, seed, epoch, first):
    """Write the terms at the positions ``first``, ``first + 1``, ... of an epoch over ``n`` terms into ``order``."""
    if not shuffle or n < 2:
        for p in range(count):
            order[p] = first + p
        return
    half, low_mask, high_mask = network_of(n)
    k0, k1, k2, k3, k4, k5 = keys_of(seed, epoch)
    for p in range(count):
        order[p] = scramble(first + p, half, low_mask, high_mask, k0, k1, k2, k3, k4, k5)
    terms, places = np.empty(count, np.int64), np.empty(count, np.int64)  # of those that are outside
    left = np.uint64(0)
    for p in range(count):  # no branch that nobody can predict
        terms[left], places[left] = order[p], p
        left += np.uint64(order[p] >= n)
    while left > 0:
        many, left = left, np.uint64(0)
        for p in range(many):
            terms[p] = scramble(terms[p], half, low_mask, high_mask, k0, k1, k2, k3, k4, k5)
        for p in range(many):
            order[places[p]] = terms[p]
            terms[left], places[left] = terms[p], places[p]
            left += np.uint64(order[places[left]] >= n)


def epoch_order(n: int, seed: int, epoch: int, shuffle: bool = True) -> np.ndarray:
    """The order in which ``epoch`` (0, 1, ...) visits ``n`` terms, as int64."""
    order = np.empty(n, np.int64)
    fill_order(order, n, n, shuffle, seed, epoch, 0)
    return order
