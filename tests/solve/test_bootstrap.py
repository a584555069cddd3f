"""Bootstrap and jackknife: weights that depend on the key alone, and standard errors against theory."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from causal_spark.errors import StatisticError
from causal_spark.solve.bootstrap import (
    bootstrap,
    jackknife,
    left_out,
    mixed,
    poisson_weights,
    ratio_of,
    replicate_sums,
    replicates,
)
from causal_spark.solve.means import Form, evaluate
from causal_spark.solve.quantiles import quantile, quantile_of_counts
from causal_spark.statistics import Moments
from causal_spark.statistics.histogram import Histogram, cell

KEYS = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, 20_000)


def test_weights_are_poisson() -> None:
    """χ² of 400,000 weights on 0 … 5 and more; mean and variance within four standard errors."""
    w = poisson_weights(KEYS, 20, seed=1)
    counts = np.bincount(np.minimum(w.ravel().astype(int), 6), minlength=7)
    expected = np.append(stats.poisson.pmf(range(6), 1), stats.poisson.sf(5, 1)) * w.size
    assert stats.chisquare(counts, expected).pvalue > 1e-4
    assert w.mean() == pytest.approx(1.0, abs=4 / math.sqrt(w.size))
    assert w.var() == pytest.approx(1.0, abs=4 * math.sqrt(3 / w.size))


def test_replicates_and_keys_are_uncorrelated() -> None:
    """Also those that share a hash, and consecutive keys; the largest of 780 correlations, 5/√n."""
    for keys in (KEYS, np.arange(20_000)):
        w = poisson_weights(keys, 40, seed=2)
        correlation = np.corrcoef(w.T) - np.eye(40)
        assert abs(correlation).max() < 5 / math.sqrt(20_000)
        assert abs(np.corrcoef(w[1:, 0], w[:-1, 0])[0, 1]) < 5 / math.sqrt(20_000)


def test_a_weight_depends_on_its_key_replicate_and_seed_alone() -> None:
    w = poisson_weights(KEYS[:50], 9, seed=3)
    order = np.random.default_rng(1).permutation(50)
    np.testing.assert_array_equal(poisson_weights(KEYS[:50][order], 9, 3), w[order])
    np.testing.assert_array_equal(poisson_weights(KEYS[:50], 6, 3), w[:, :6])
    assert (poisson_weights(KEYS[:50], 9, 4) != w).any()
    assert poisson_weights(KEYS[:0], 9, 3).shape == (0, 9)


def test_hashes_are_these_on_every_machine() -> None:
    """Fixed values: a change of them would change every bootstrap that was ever published."""
    signed, unsigned = np.array([0, 1, -1]), np.array([0, 1, 2**64 - 1], np.uint64)
    np.testing.assert_array_equal(mixed(signed, 7), mixed(unsigned, 7))
    assert poisson_weights(np.arange(6), 4, 11).astype(int).tolist() == EXPECTED


@settings(max_examples=30, deadline=None, derandomize=True)
@given(cut=st.integers(0, 300))
def test_blocks_add_up(cut: int) -> None:
    """Sums of integers times integer weights: exact."""
    rows = np.random.default_rng(5).integers(-50, 50, (300, 2)).astype(float)
    whole = replicate_sums(KEYS[:300], rows, 7, 1)
    parts = replicate_sums(KEYS[:cut], rows[:cut], 7, 1) + replicate_sums(KEYS[cut:300], rows[cut:], 7, 1)
    np.testing.assert_array_equal(parts.vector, whole.vector)
    weights = poisson_weights(KEYS[:300], 7, 1)
    np.testing.assert_array_equal(whole["total"], weights.T @ rows)
    np.testing.assert_array_equal(whole["weight"], weights.sum(axis=0))


# standard errors against theory -------------------------------------------------------------------------------------


def bucketed(n: int = 60_000, count: int = 2000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows (clicks, views), their bucket, and the sums by bucket (count, 3) of n, clicks and views."""
    rng = np.random.default_rng(6)
    views = rng.poisson(3, n) + 1.0
    clicks = rng.binomial(views.astype(int), rng.beta(2, 5, n)).astype(float)
    bucket = (mixed(np.arange(n), 1) % np.uint64(count)).astype(int)
    table = np.column_stack([np.bincount(bucket, w, count) for w in (np.ones(n), clicks, views)])
    return np.column_stack([clicks, views]), bucket, table


def test_ratio_by_buckets_bootstrap_and_jackknife() -> None:
    """Against the delta method; 2000 buckets and 2000 replicates leave 1.6 % each, four of both are 9 %."""
    rows, _, table = bucketed()
    theory = evaluate(Moments.from_rows(["c", "v"], rows), [Form("c", "v")])
    error = math.sqrt(theory.vcov[0, 0])
    ratio = ratio_of(1, 2)
    estimate = float(ratio(table.sum(axis=0)))
    assert estimate == pytest.approx(theory.value[0], rel=1e-12)
    boot = bootstrap(estimate, ratio(replicates(table, 2000, 9)))
    knife = jackknife(estimate, ratio(left_out(table)))
    for test in (boot, knife):
        assert test.std_error == pytest.approx(error, rel=0.09)
        assert test.low == pytest.approx(estimate - 1.96 * error, abs=0.25 * error)
        assert test.high == pytest.approx(estimate + 1.96 * error, abs=0.25 * error)


def test_quantile_by_buckets() -> None:
    """Histograms by bucket; against Woodruff, whose own error is some per cent."""
    rows, bucket, _ = bucketed(20_000, 1000)
    values = (rows[:, 1] * 1000 + np.arange(20_000) % 997).astype(np.int64)
    h = Histogram.from_integers(values, 7)
    cells = np.searchsorted(h.cells, cell(values, 7))
    table = np.zeros((1000, len(h.cells)))
    np.add.at(table, (bucket, cells), 1)
    low, high = h.edges
    found = quantile_of_counts(replicates(table, 400, 5), (low + high) / 2, 0.6)
    assert bootstrap(0.0, found).std_error == pytest.approx(quantile(h, 0.6).std_error, rel=0.25)


def test_jackknife_of_a_mean_is_its_standard_error() -> None:
    """Buckets of one row each: exactly s/√n."""
    x = np.random.default_rng(7).normal(3, 2, 40)
    table = np.column_stack([np.ones(40), x])
    test = jackknife(float(x.mean()), ratio_of(1, 0)(left_out(table)))
    assert test.std_error == pytest.approx(x.std(ddof=1) / math.sqrt(40), rel=1e-12)
    assert test.dof == 39


def test_percentile_interval_and_p_value() -> None:
    values = np.random.default_rng(8).normal(2.0, 1.0, 5000)
    test = bootstrap(2.0, values)
    assert (test.low, test.high) == pytest.approx((2 - 1.96, 2 + 1.96), abs=0.15)
    assert test.p_value == pytest.approx(2 * stats.norm.sf(2), abs=0.015)
    assert (test.std_error, test.statistic) == pytest.approx((values.std(ddof=1), 2.0 / values.std(ddof=1)), rel=1e-12)
    assert bootstrap(2.0, values, alternative="greater").high == math.inf
    assert bootstrap(9.0, values + 7).p_value == pytest.approx(2 / 5001)


def test_what_cannot_be() -> None:
    with pytest.raises(StatisticError, match="10 of 10"):
        bootstrap(0.0, np.ones(10))
    with pytest.raises(StatisticError, match="90 of 100"):
        bootstrap(0.0, np.append(np.arange(90.0), [math.nan] * 10))
    assert math.isnan(bootstrap(1.0, np.ones(100)).p_value)
    assert math.isnan(jackknife(1.0, [1.0]).std_error)
    assert jackknife(1.0, [0.0, 2.0]).std_error == 1.0
    assert math.isnan(jackknife(1.0, [1.0, 1.0]).p_value)
    assert np.isnan(ratio_of(0, 1)(np.array([[1.0, 0.0]]))).all()


EXPECTED = [[1, 0, 0, 2], [0, 1, 1, 0], [2, 2, 0, 2], [1, 0, 0, 2], [0, 0, 1, 1], [1, 1, 0, 3]]
