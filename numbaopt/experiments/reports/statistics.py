"""What differences between methods may be taken for more than chance."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

from ..words import p_value

LEVEL = 0.05
FEWEST_PROBLEMS = 5  # fewer leave the chi-squared distribution of Friedman's statistic a guess
EXACT_SEEDS = 13  # up to which all signs are tried


def quantiles(values: np.ndarray, parts: tuple[float, ...]) -> np.ndarray:
    """Quantiles along the first axis, interpolated like NumPy's, where runs that failed count as infinitely bad.

    Parameters
    ----------
    values : array of shape (k, ...)
        NaN and inf are taken for inf.
    parts : tuple of float
        Between 0 and 1.

    Returns
    -------
    array of shape (len(parts), ...)

    Examples
    --------
    >>> import numpy as np
    >>> from numbaopt.experiments.reports.statistics import quantiles
    >>> quantiles(np.array([3.0, 1.0, np.nan]), (0.0, 0.5, 0.75)).tolist()
    [1.0, 3.0, inf]
    """
    values = np.sort(np.where(np.isnan(values), np.inf, values), axis=0)
    places = np.asarray(parts) * (len(values) - 1)
    low, weight = np.floor(places).astype(int), places % 1
    below, above = values[low], values[np.minimum(low + 1, len(values) - 1)]
    weight = weight.reshape(-1, *[1] * (values.ndim - 1))
    span = np.where(np.isfinite(above), above, 0.0) - np.where(np.isfinite(below), below, 0.0)
    return np.where((weight > 0) & ~np.isfinite(above), np.inf, below + weight * span)


def holm(p_values: np.ndarray) -> np.ndarray:
    """P-values adjusted for their number by Holm's step-down method.

    References
    ----------
    S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979),
    65-70.

    Examples
    --------
    >>> from numbaopt.experiments.reports.statistics import holm
    >>> [round(float(p), 9) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    p_values = np.asarray(p_values, float)
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * np.arange(p_values.size, 0, -1)), 1.0)
    return adjusted


def signed_rank(a: np.ndarray, b: np.ndarray) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test for pairs; inf in a pair is worse than any number.

    Pairs that are equal say nothing and are left out.  Up to 13 pairs the distribution is exact, also with ties; beyond
    it is sampled with a fixed seed.

    Parameters
    ----------
    a, b : array of shape (k,)
        Paired values; inf and NaN stand for runs that failed.

    Returns
    -------
    float
        NaN where all pairs are equal.

    Examples
    --------
    >>> import numpy as np
    >>> from numbaopt.experiments.reports.statistics import signed_rank
    >>> signed_rank(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), np.array([2.0, 4.0, 6.0, 8.0, np.inf, np.inf]))
    0.03125
    """
    pairs = np.array([a, b], float)
    finite = pairs[np.isfinite(pairs)]
    worst = 3.0 * np.abs(finite).max(initial=0.0) + 1.0  # so that its differences are larger than all others
    pairs[~np.isfinite(pairs)] = worst
    differences = pairs[0] - pairs[1]
    differences = differences[differences != 0]
    if not differences.size:
        return float("nan")
    ranks = stats.rankdata(np.abs(differences))
    return _signs(ranks, float(ranks[differences > 0].sum()))


def _signs(ranks: np.ndarray, observed: float) -> float:
    """How often random signs give a sum of positive ranks as far from its mean as the observed one."""
    exact = ranks.size <= EXACT_SEEDS
    if exact:
        signs = (np.arange(2**ranks.size)[:, None] >> np.arange(ranks.size)) & 1
    else:
        signs = np.random.default_rng(0).integers(0, 2, (2**EXACT_SEEDS, ranks.size))
    far = np.abs(signs @ ranks - ranks.sum() / 2) >= abs(observed - ranks.sum() / 2) - 1e-9
    return float(far.mean() if exact else (far.sum() + 1) / (far.size + 1))


def fewest_pairs(comparisons: int) -> int:
    """Pairs below which no signed-rank test can be significant among so many after Holm's correction."""
    return int(np.ceil(np.log2(2 * max(comparisons, 1) / LEVEL)))


class Comparison(NamedTuple):
    """Methods over problems.

    Attributes
    ----------
    mean_ranks : array of shape (k,)
        1 is best.
    p_value : float
        Of Friedman's test (of the sign test, where there are two methods) that all are the same; NaN where the
        problems are too few.
    critical_difference : float
        By how much mean ranks differ significantly, by Nemenyi's test; NaN where the test above does not reject.
    said : str
        What was tested, and what came of it.
    """

    mean_ranks: np.ndarray
    p_value: float
    critical_difference: float
    said: str


def critical_difference(methods: int, problems: int, level: float = LEVEL) -> float:
    r"""Nemenyi's critical difference of mean ranks, :math:`q_\alpha \sqrt{k (k + 1) / (6 N)}`.

    References
    ----------
    J. Demšar, "Statistical comparisons of classifiers over multiple data sets", Journal of Machine Learning Research 7
    (2006), 1-30.

    Examples
    --------
    >>> from numbaopt.experiments.reports.statistics import critical_difference
    >>> round(critical_difference(methods=4, problems=14), 2)
    1.25
    """
    q = stats.studentized_range.ppf(1 - level, methods, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(methods * (methods + 1) / (6 * problems)))


def compare(ranks: np.ndarray) -> Comparison:
    """Friedman's test of the ranks of methods on problems, then Nemenyi's.

    Parameters
    ----------
    ranks : array of shape (problems, methods)
        Ranks within each problem, 1 for the best, means where methods are equal.

    Returns
    -------
    Comparison

    Examples
    --------
    >>> import numpy as np
    >>> from numbaopt.experiments.reports.statistics import compare
    >>> compare(np.array([[1.0, 2.0, 3.0]])).said
    'Not tested: one problem; Friedman’s test needs 5 or more.'
    """
    problems, methods = ranks.shape
    mean = ranks.mean(axis=0)
    count = "one problem" if problems == 1 else f"{problems} problems"
    if methods < 2:
        return Comparison(mean, np.nan, np.nan, "Not tested: there is nothing to compare one method with.")
    if methods == 2:
        return _two(ranks, mean, count)
    if problems < FEWEST_PROBLEMS:
        said = f"Not tested: {count}; Friedman’s test needs {FEWEST_PROBLEMS} or more."
        return Comparison(mean, np.nan, np.nan, said)
    if np.ptp(ranks, axis=1).max() == 0:
        return Comparison(mean, 1.0, np.nan, f"On all {count} the {methods} methods are equal.")
    statistic, p = stats.friedmanchisquare(*ranks.T)
    test = (f"Friedman’s test on the ranks of {methods} methods on {count}: χ²({methods - 1}) = {statistic:.2f}, "
            f"p {_sign(float(p))}.")  # fmt: skip
    if p >= LEVEL:
        return Comparison(mean, float(p), np.nan, f"{test} No difference between the methods is significant at 5 %.")
    distance = critical_difference(methods, problems)
    said = (f"{test} By Nemenyi’s test, which corrects for all pairs, two methods differ at 5 % where their mean ranks "
            f"are {distance:.2f} or more apart.")  # fmt: skip
    return Comparison(mean, float(p), distance, said)


def _two(ranks: np.ndarray, mean: np.ndarray, count: str) -> Comparison:
    wins = int((ranks[:, 0] < ranks[:, 1]).sum())
    losses = int((ranks[:, 0] > ranks[:, 1]).sum())
    if wins + losses < fewest_pairs(1):
        said = (f"Not tested: {wins + losses} of {count} tell the two methods apart; the sign test needs "
                f"{fewest_pairs(1)}.")  # fmt: skip
        return Comparison(mean, np.nan, np.nan, said)
    p = float(stats.binomtest(wins, wins + losses).pvalue)
    said = f"Sign test on {count}: {wins} to {losses}, p {_sign(p)}."
    return Comparison(mean, p, np.nan, said)


def _sign(p: float) -> str:
    told = p_value(p)
    return told if told.startswith("<") else f"= {told}"


def cliques(mean_ranks: np.ndarray, distance: float) -> list[tuple[int, int]]:
    """Largest groups of neighbours in the order of ranks that do not differ: first and last places, counted from 0."""
    ranks = np.sort(mean_ranks)
    ends = np.searchsorted(ranks, ranks + distance, side="left") - 1
    groups = [(first, int(last)) for first, last in enumerate(ends) if last > first]
    return [(first, last) for place, (first, last) in enumerate(groups) if place == 0 or last > groups[place - 1][1]]
