"""Quantiles from histograms: order statistics, coverage with and without clusters, and the exact bootstrap law."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causal_spark.errors import ConfigError, StatisticError
from causal_spark.solve.quantiles import (
    bootstrap_difference,
    bootstrap_distribution,
    cell_at,
    least_n,
    quantile,
    quantile_difference,
    quantile_of_counts,
    share_variance,
)
from causal_spark.statistics import Moments
from causal_spark.statistics.histogram import Histogram

quick = settings(max_examples=60, deadline=None, derandomize=True)
shares = st.floats(0.05, 0.95)


def exact(values: np.ndarray, scale: float = 1e6) -> Histogram:
    return Histogram.from_integers(np.round(values * scale).astype(np.int64), scale=scale)


@quick
@given(values=st.lists(st.integers(-1000, 1000), min_size=100, max_size=300), q=shares)
def test_estimate_is_the_order_statistic(values: list[int], q: float) -> None:
    """Numpy's inverted_cdf is the order statistic of rank ceil(q·n)."""
    found = quantile(Histogram.from_integers(values), q)
    assert found.estimate == np.quantile(values, q, method="inverted_cdf")
    assert found.low <= found.estimate <= found.high
    assert found.resolution == 0.0


@quick
@given(values=st.lists(st.integers(-(10**9), 10**9), min_size=100, max_size=200), q=shares, keep=st.integers(3, 12))
def test_a_sketch_is_within_its_resolution(values: list[int], q: float, keep: int) -> None:
    """Both lie in the same cell, so they differ by at most its width; doubles of 1e9 need 1e-6."""
    fine, coarse = (quantile(Histogram.from_integers(values, bits), q) for bits in (62, keep))
    assert abs(fine.estimate - coarse.estimate) <= 2 * coarse.resolution + 1e-6
    assert coarse.resolution <= 2.0**-keep * abs(fine.estimate)


def test_scale_is_that_of_the_values() -> None:
    values = np.random.default_rng(1).lognormal(size=500)
    a, b = quantile(exact(values, 1e6), 0.7), quantile(exact(values * 100, 1e4), 0.7)
    assert (b.estimate, b.std_error) == pytest.approx((100 * a.estimate, 100 * a.std_error), rel=1e-12)


@pytest.mark.parametrize("q", [0.1, 0.5, 0.95])
def test_coverage_of_a_difference(q: float) -> None:
    """400 A/A experiments of 600 and 400 skewed values; the band is 95 % ± four standard errors of 1.1 %."""
    rng = np.random.default_rng(11)
    inside, errors, estimates = 0, [], []
    for _ in range(400):
        t, c = (quantile(exact(rng.lognormal(0, 1, n)), q) for n in (600, 400))
        test = quantile_difference(t, c)
        inside += test.low <= 0 <= test.high
        errors.append(test.std_error)
        estimates.append(test.estimate)
    assert 0.906 <= inside / 400 <= 0.994
    assert np.mean(errors) / np.std(estimates) == pytest.approx(1.0, abs=0.17)


def test_coverage_with_clusters() -> None:
    """Units with 1 to 9 events that resemble each other; without the clusters the interval is far too narrow."""
    rng = np.random.default_rng(12)
    truth = float(np.quantile(_events(rng, 200_000)[0], 0.5))
    inside = narrow = 0
    for _ in range(300):
        values, units = _events(rng, 300)
        h = exact(values)
        plain = quantile(h, 0.5)
        below = np.bincount(units, values <= plain.estimate)
        rows = np.column_stack([below, np.bincount(units)])
        wide = quantile(h, 0.5, share_variance=share_variance(Moments.from_rows(["b", "n"], rows), "b", "n"))
        inside += wide.low <= truth <= wide.high
        narrow += plain.low <= truth <= plain.high
    assert 0.90 <= inside / 300 <= 0.99
    assert narrow / 300 < 0.85


def _events(rng: np.random.Generator, units: int) -> tuple[np.ndarray, np.ndarray]:
    sizes = rng.integers(1, 10, units)
    unit = np.repeat(np.arange(units), sizes)
    return np.exp(np.repeat(rng.normal(size=units), sizes) + 0.3 * rng.normal(size=len(unit))), unit


# the bootstrap without resampling -----------------------------------------------------------------------------------


def test_bootstrap_law_by_resampling() -> None:
    """2000 Poisson-bootstrap medians of 300 values: mean and spread within four Monte Carlo errors."""
    rng = np.random.default_rng(3)
    values = np.sort(rng.exponential(size=301))
    found = quantile_of_counts(rng.poisson(1.0, (2000, 301)).astype(float), values, 0.5)
    points, mass = bootstrap_distribution(exact(values), 0.5)
    mean = mass @ points
    spread = math.sqrt(mass @ (points - mean) ** 2)
    assert mean == pytest.approx(found.mean(), abs=4 * spread / math.sqrt(2000))
    assert spread == pytest.approx(found.std(), rel=4 / math.sqrt(4000) + 0.02)
    assert mass.sum() == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("side", ["two-sided", "greater", "less"])
def test_bootstrap_difference_agrees_with_woodruff(side: str) -> None:
    rng = np.random.default_rng(4)
    t, c = exact(rng.lognormal(0.1, 1, 3000)), exact(rng.lognormal(0, 1, 2500))
    ours = bootstrap_difference(t, c, 0.5, 0.05, side)  # type: ignore[arg-type]
    theirs = quantile_difference(quantile(t, 0.5), quantile(c, 0.5), 0.05, side)  # type: ignore[arg-type]
    assert ours.estimate == theirs.estimate
    assert ours.std_error == pytest.approx(theirs.std_error, rel=0.15)
    for a, b in ((ours.low, theirs.low), (ours.high, theirs.high)):
        assert a == b or abs(a - b) < 0.4 * ours.std_error


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_percentiles_of_the_law(alpha: float) -> None:
    """Against a control that is one value, the interval's ends are quantiles of the treatment's law."""
    t, c = exact(np.random.default_rng(6).exponential(size=400)), exact(np.full(400, 2.0))
    points, mass = bootstrap_distribution(t, 0.7)
    total = np.cumsum(mass)
    for side, tail in (("two-sided", alpha / 2), ("greater", alpha), ("less", alpha)):
        found = bootstrap_difference(t, c, 0.7, alpha, side)  # type: ignore[arg-type]
        low, high = points[np.searchsorted(total, [tail, 1 - tail])] - 2.0
        assert found.low == (low if side != "less" else -math.inf)
        assert found.high == (high if side != "greater" else math.inf)
    assert found.p_value == pytest.approx(mass[points >= 2.0].sum(), rel=1e-9)


@pytest.mark.parametrize("scale", [1, 100])
def test_the_law_of_a_difference_is_that_of_all_pairs(scale: int) -> None:
    """Every value against every other, with ties: the ends of the interval are differences of two values."""
    rng = np.random.default_rng(8)
    t, c = exact(rng.poisson(9, 500) / scale), exact(rng.poisson(8, 300) / scale)
    (x, p), (y, q) = (bootstrap_distribution(h, 0.6) for h in (t, c))
    gaps, mass = np.subtract.outer(x, y).ravel(), np.multiply.outer(p, q).ravel()
    order = np.argsort(gaps, kind="stable")
    low, high = gaps[order][np.searchsorted(np.cumsum(mass[order]), [0.025, 0.975])]
    found = bootstrap_difference(t, c, 0.6)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12, abs=1e-12)
    assert found.std_error == pytest.approx(math.sqrt(mass @ (gaps - mass @ gaps) ** 2), rel=1e-9)
    tails = mass[gaps <= 0].sum(), mass[gaps >= 0].sum()
    assert found.p_value == pytest.approx(min(1.0, 2 * min(tails)), rel=1e-9)


def test_thinning_changes_little() -> None:
    rng = np.random.default_rng(5)
    t, c = exact(rng.normal(5, 1, 40_000)), exact(rng.normal(5, 1, 40_000))
    fine, thin = (bootstrap_difference(t, c, 0.5, most=most) for most in (3000, 300))
    assert (thin.low, thin.high) == pytest.approx((fine.low, fine.high), abs=0.02 * fine.std_error)


def test_quantiles_of_replicates() -> None:
    counts = np.array([[1.0, 1, 2], [0, 0, 5], [0, 0, 0]])
    found = quantile_of_counts(counts, np.array([10.0, 20, 30]), 0.5)
    assert found[:2].tolist() == [20, 30]
    assert math.isnan(found[2])


# refusals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("q", [0.0, 1.0, -0.5, 50.0, math.nan])
def test_quantiles_lie_between_0_and_1(q: float) -> None:
    for call in (lambda: quantile(exact(np.arange(10.0)), q), lambda: least_n(q),
                 lambda: bootstrap_distribution(exact(np.arange(10.0)), q)):  # fmt: skip
        with pytest.raises(ConfigError, match="between 0 and 1"):
            call()


def test_too_few_values() -> None:
    with pytest.raises(StatisticError, match="at least 381"):
        quantile(exact(np.arange(380.0)), 0.99)
    assert quantile(exact(np.arange(381.0)), 0.99).n == 381
    with pytest.raises(StatisticError):
        quantile(Histogram.empty(), 0.5)


def test_nothing_varies() -> None:
    found = quantile(exact(np.full(100, 3.0)), 0.5)
    assert found.estimate == 3.0
    assert math.isnan(found.std_error)
    assert math.isnan(quantile_difference(found, found).p_value)
    assert math.isnan(bootstrap_difference(exact(np.full(9, 1.0)), exact(np.full(9, 1.0)), 0.5).p_value)
    assert math.isnan(bootstrap_difference(Histogram.empty(), exact(np.full(9, 1.0)), 0.5).estimate)


def test_a_share_too_uncertain_has_no_interval() -> None:
    found = quantile(exact(np.arange(1000.0)), 0.9, share_variance=0.01)
    assert math.isnan(found.low)
    assert math.isnan(found.std_error)


@quick
@given(values=st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=60), q=shares, keep=st.integers(3, 62))
def test_the_cell_of_a_quantile_holds_it(values: list[int], q: float, keep: int) -> None:
    """At least q·n values lie at or below the cell, fewer below it."""
    h = Histogram.from_integers(values, keep)
    at = cell_at(h, q)
    assert h.counts[h.cells <= at].sum() >= q * len(values) * (1 - 1e-9)
    assert h.counts[h.cells < at].sum() < q * len(values) * (1 + 1e-9)
