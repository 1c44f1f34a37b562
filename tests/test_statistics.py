"""The arithmetic of reports, profiles and tests of significance, against plain references."""


import numpy as np
import pytest
from scipy import stats

from numbaopt.experiments.reports import statistics
from numbaopt.experiments.reports.profiles import data_profile, first_hit, performance_profile

INF = np.inf


class TestProfiles:
    def test_first_hit(self):
        values = np.array([10.0, np.nan, 3.0, INF, 1.0, 5.0])
        hits = [first_hit(values, 10.0, 0.0, tolerance) for tolerance in (0.5, 0.3, 0.29, 0.1, 0.09)]
        assert hits == [2, 2, 4, 4, None]
        assert first_hit(np.array([2.0, 2.0]), 2.0, 2.0, 0.1) == 0  # begins at the optimum
        assert first_hit(np.array([np.nan]), np.nan, 0.0, 0.1) is None

    def test_by_hand(self):
        """Three problems, two solvers: ratios 1 and 2, 3 and 1, 1 and none."""
        costs = np.array([[2.0, 4.0], [9.0, 3.0], [5.0, INF]])
        ratios, parts = performance_profile(costs)
        np.testing.assert_allclose(ratios, [1, 2, 3])
        np.testing.assert_allclose(parts, [[2 / 3, 1 / 3], [2 / 3, 2 / 3], [1, 2 / 3]])
        budgets, parts = data_profile(costs, units=np.array([2.0, 3.0, 5.0]))
        np.testing.assert_allclose(budgets, [0, 1, 2, 3])
        np.testing.assert_allclose(parts, [[0, 0], [2 / 3, 1 / 3], [2 / 3, 2 / 3], [1, 2 / 3]])

    def test_against_loops(self):
        rng = np.random.default_rng(0)
        costs = rng.integers(1, 20, (30, 4)).astype(float)
        costs[rng.random(costs.shape) < 0.3] = INF
        costs[7] = INF  # a problem that nobody solves counts for all
        units = rng.integers(1, 5, 30).astype(float)
        for (at, parts), scaled in ((performance_profile(costs), False), (data_profile(costs, units), True)):
            for place, part in zip(at, parts, strict=True):
                for solver in range(4):
                    solved = 0
                    for p in range(30):
                        limit = place * units[p] if scaled else place * min(costs[p])
                        solved += bool(costs[p, solver] <= limit * (1 + 1e-12) and costs[p, solver] < INF)
                    assert part[solver] == pytest.approx(solved / 30)

    def test_weights_are_repetitions(self):
        costs = np.array([[2.0, 4.0], [9.0, 3.0], [5.0, INF]])
        many = np.repeat(costs, [1, 2, 3], axis=0)
        for profile in (performance_profile, data_profile):
            for one, other in zip(profile(costs, weights=np.array([1.0, 2.0, 3.0])), profile(many), strict=True):
                np.testing.assert_allclose(one, other)

    def test_nobody_solves_anything(self):
        ratios, parts = performance_profile(np.full((2, 3), INF))
        assert ratios.tolist() == [1.0]
        assert not parts.any()

    @pytest.mark.parametrize("costs", [[[1.0, -1.0]], [[0.0]], [[np.nan]], [1.0], np.empty((0, 2))])
    def test_what_is_no_table_of_costs(self, costs):
        with pytest.raises(ValueError, match="positive"):
            performance_profile(np.asarray(costs))


class TestStatistics:
    def test_quantiles(self):
        rng = np.random.default_rng(0)
        for size in (1, 2, 5, 8):
            values = rng.normal(size=(size, 3))
            np.testing.assert_allclose(statistics.quantiles(values, (0.0, 0.25, 0.5, 0.9, 1.0)),
                                       np.quantile(values, (0.0, 0.25, 0.5, 0.9, 1.0), axis=0))  # fmt: skip
        values = np.array([1.0, np.nan, 3.0, INF])
        assert statistics.quantiles(values, (0.0, 1 / 3, 0.5, 1.0)).tolist() == [1.0, 3.0, INF, INF]

    def test_holm(self):
        p = np.array([0.01, 0.2, 0.013, 0.5, 0.02])
        expected = [0.05, 0.4, 0.052, 0.5, 0.06]  # 5 × 0.01, 4 × 0.013, 3 × 0.02, 2 × 0.2, 0.5
        np.testing.assert_allclose(statistics.holm(p), expected)
        assert statistics.holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]
        assert statistics.holm(np.array([])).size == 0

    def test_signed_rank_is_scipys(self):
        rng = np.random.default_rng(1)
        for size in (1, 5, 6, 10, 13):
            a, b = rng.normal(size=(2, size)) + np.array([[0.5], [0.0]])
            assert statistics.signed_rank(a, b) == pytest.approx(stats.wilcoxon(a, b, method="exact").pvalue)
        a, b = rng.integers(0, 4, (2, 9)).astype(float)  # ties and zeros
        kept = a != b
        every = stats.PermutationMethod(n_resamples=10**6)
        assert statistics.signed_rank(a, b) == pytest.approx(stats.wilcoxon(a[kept], b[kept], method=every).pvalue)
        a, b = rng.normal(size=(2, 40)) + np.array([[0.3], [0.0]])
        assert statistics.signed_rank(a, b) == pytest.approx(stats.wilcoxon(a, b, method="exact").pvalue, abs=0.02)
        assert statistics.signed_rank(a, b) == statistics.signed_rank(a, b)

    def test_runs_that_failed_are_worst(self):
        good, bad = np.arange(8.0), np.arange(8.0) + 1
        bad[3:] = INF
        assert statistics.signed_rank(good, bad) == 2 / 2**8
        assert np.isnan(statistics.signed_rank(np.array([1.0, INF]), np.array([1.0, INF])))

    def test_fewest_pairs(self):
        for comparisons in (1, 2, 5, 11):
            size = statistics.fewest_pairs(comparisons)
            low, high = np.arange(size), np.arange(size) + 1.0
            enough, few = statistics.signed_rank(low, high), statistics.signed_rank(low[1:], high[1:])
            assert enough * comparisons <= 0.05 < few * comparisons

    def test_critical_differences(self):
        """Demšar's table of q at 5 %, for 2 to 10 methods."""
        table = [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]
        for methods, q in enumerate(table, 2):
            found = statistics.critical_difference(methods, 12) * np.sqrt(6 * 12 / (methods * (methods + 1)))
            assert found == pytest.approx(q, abs=1e-3)

    def test_friedman(self):
        rng = np.random.default_rng(0)
        ranks = stats.rankdata(rng.normal(size=(12, 4)) + np.arange(4), axis=1)
        found = statistics.compare(ranks)
        assert found.p_value == pytest.approx(stats.friedmanchisquare(*ranks.T).pvalue)
        assert found.critical_difference == statistics.critical_difference(4, 12)
        np.testing.assert_allclose(found.mean_ranks, ranks.mean(axis=0))
        equal = statistics.compare(stats.rankdata(rng.normal(size=(6, 3)), axis=1))
        assert equal.p_value > 0.05
        assert np.isnan(equal.critical_difference)
        assert "No difference" in equal.said

    def test_too_little_is_not_tested(self):
        assert statistics.compare(np.ones((3, 1))).said == "Not tested: there is nothing to compare one method with."
        few = statistics.compare(np.array([[1.0, 2.0, 3.0]] * 4))
        assert np.isnan(few.p_value)
        assert few.said.startswith("Not tested: 4 problems")
        assert statistics.compare(np.full((7, 3), 2.0)).said == "On all 7 problems the 3 methods are equal."

    def test_two_methods_get_the_sign_test(self):
        ranks = np.array([[1.0, 2.0]] * 7 + [[2.0, 1.0]] + [[1.5, 1.5]])
        assert statistics.compare(ranks).p_value == pytest.approx(2 * (1 + 8) / 2**8)
        assert "7 to 1" in statistics.compare(ranks).said
        assert statistics.compare(ranks[:5]).said.startswith("Not tested: 5 of 5 problems")

    def test_cliques(self):
        assert statistics.cliques(np.array([1.0, 1.5, 2.6, 4.0]), 1.2) == [(0, 1), (1, 2)]
        assert statistics.cliques(np.array([3.0, 1.0, 2.0]), 5.0) == [(0, 2)]
        assert statistics.cliques(np.array([1.0, 3.0]), 1.0) == []
