"""Power, size and MDE invert each other; parity with statsmodels; every kind of metric."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.power import NormalIndPower, TTestIndPower

from causal_spark.errors import ConfigError, StatisticError
from causal_spark.solve.means import Form
from causal_spark.solve.power import (
    Split,
    design_effect,
    mde,
    mde_proportions,
    power,
    power_equivalence,
    power_non_inferiority,
    power_proportions,
    power_t,
    sample_size,
    sample_size_equivalence,
    sample_size_proportions,
    sample_size_t,
    smallest_margin,
    unit_variance,
)
from causal_spark.statistics import Moments

quick = settings(max_examples=60, deadline=None, derandomize=True)
splits = st.tuples(st.floats(0.01, 0.5), st.floats(0.01, 0.5)).map(lambda pair: Split(*pair))
sides = st.sampled_from(["two-sided", "greater", "less"])
variances = st.floats(1e-6, 1e6)
alphas, targets = st.floats(1e-4, 0.2), st.floats(0.3, 0.999)


@quick
@given(effect=st.floats(1e-3, 1e3), v=variances, w=variances, split=splits, alpha=alphas, target=targets, side=sides)
def test_size_power_and_mde_are_inverses(effect, v, w, split, alpha, target, side) -> None:  # type: ignore[no-untyped-def]
    """Closed forms: rounding only."""
    n = sample_size(effect, v, w, split, alpha, target, side)
    assert mde(n, v, w, split, alpha, target, side) == pytest.approx(effect, rel=1e-12)
    signed = -effect if side == "less" else effect
    assert power(signed, n, v, w, split, alpha, side) == pytest.approx(target, rel=1e-10)


@quick
@given(p=st.floats(0.01, 0.9), up=st.floats(0.01, 0.09), split=splits, target=targets,
       formula=st.sampled_from(["pooled", "unpooled", "control"]))  # fmt: skip
def test_proportions_are_inverses(p, up, split, target, formula) -> None:  # type: ignore[no-untyped-def]
    """The root is found to the last digits of the share; the units carry them twice, hence 1e-9."""
    n = sample_size_proportions(p + up, p, split, 0.05, target, formula)
    assert power_proportions(p + up, p, n, split, 0.05, formula) == pytest.approx(target, rel=1e-10)
    assert mde_proportions(p, n, split, 0.05, target, formula) == pytest.approx(up, rel=1e-9)


@pytest.mark.parametrize("ratio", [0.25, 1.0, 3.0])
@pytest.mark.parametrize("side", ["two-sided", "larger"])
def test_parity_with_statsmodels(ratio: float, side: str) -> None:
    """Their two-sided power counts the wrong side as well; it is taken off."""
    effect, per_control = 0.1, 2000.0
    split = Split(ratio / (1 + ratio), 1 / (1 + ratio))
    theirs = NormalIndPower().power(effect, per_control, 0.05, ratio, side)
    if side == "two-sided":
        theirs -= stats.norm.sf(stats.norm.isf(0.025) + effect * math.sqrt(per_control * ratio / (1 + ratio)))
    ours = power(effect, per_control * (1 + ratio), 1.0, None, split, 0.05,
                 "two-sided" if side == "two-sided" else "greater")  # fmt: skip
    assert ours == pytest.approx(theirs, abs=1e-12)


def test_student_parity_with_statsmodels() -> None:
    for effect, n in ((0.2, 50), (0.5, 64), (0.8, 20), (1.5, 4)):
        theirs = TTestIndPower().power(effect, n, 0.05, alternative="larger")
        assert power_t(effect * 3, n, 9.0, 0.1) == pytest.approx(theirs, rel=1e-10)
    assert power_t(0.5, sample_size_t(0.5, 1.0, 0.01, 0.9), 1.0, 0.01) == pytest.approx(0.9, rel=1e-9)


def test_far_power_of_student_is_a_number() -> None:
    """D2: mean 1, variance 4, lift 50 %, 10,000 units: the non-central t of other tools gives NaN."""
    for n in (10.0, 1e3, 1e4, 1e6, 1e9):
        assert 0 <= power_t(0.5, n, 4.0) <= 1
    assert power_t(0.5, 1e4, 4.0) == 1.0
    assert power_t(1e-3, 1e7, 4.0) == pytest.approx(power(1e-3, 2e7, 4.0), rel=1e-3)
    assert math.isnan(power_t(0.5, 1.0, 4.0))


def test_power_is_the_share_of_rejections() -> None:
    """10,000 z tests with unequal arms and variances; four standard errors."""
    rng = np.random.default_rng(1)
    n_t, n_c, v_t, v_c, effect = 300, 900, 4.0, 1.0, 0.3
    gap = rng.normal(effect, math.sqrt(v_t / n_t + v_c / n_c), 10_000)
    found = (gap / math.sqrt(v_t / n_t + v_c / n_c) > 1.96).mean()
    split = Split(0.2, 0.6)  # another arm has the rest
    assert power(effect, 1500, v_t, v_c, split) == pytest.approx(found, abs=4 * 0.005)


# the variance of every kind of metric ---------------------------------------------------------------------------------


def table(n: int = 400) -> np.ndarray:
    rng = np.random.default_rng(3)
    views = rng.poisson(3, n) + 1.0
    clicks = rng.binomial(views.astype(int), 0.3).astype(float)
    x = rng.normal(size=n)
    return np.column_stack([x * 2 + rng.normal(size=n) + 5, x, clicks, views])


def test_unit_variance_of_each_kind() -> None:
    rows = table()
    y, x, clicks, views = rows.T
    moments = Moments.from_rows(["y", "x", "clicks", "views"], rows)
    assert unit_variance(moments, [Form("y")]) == (pytest.approx(y.var(ddof=1), rel=1e-12), 0.0)
    residual = (clicks - clicks.mean() / views.mean() * views) / views.mean()
    assert unit_variance(moments, [Form("clicks", "views")])[0] == pytest.approx(residual.var(ddof=1), rel=1e-12)
    adjusted, rho2 = unit_variance(moments, [Form("y"), Form("x")])
    assert rho2 == pytest.approx(np.corrcoef(y, x)[0, 1] ** 2, rel=1e-12)
    assert adjusted == pytest.approx(y.var(ddof=1) * (1 - rho2), rel=1e-12)


def test_clusters_as_units_equal_the_design_effect() -> None:
    """Equal clusters of 10 with intraclass correlation 0.25: both ways of planning agree (0.3 covers the draw)."""
    rng = np.random.default_rng(4)
    icc, m, count = 0.25, 10, 4000
    y = rng.normal(size=(count, 1)) * math.sqrt(icc) + rng.normal(size=(count, m)) * math.sqrt(1 - icc)
    clusters = Moments.from_rows(["total", "size"], np.column_stack([y.sum(1), np.full(count, m)]))
    per_cluster, _ = unit_variance(clusters, [Form("total", "size")])
    assert per_cluster * m == pytest.approx(design_effect(icc, m), rel=0.1)
    assert design_effect(0.1, 1) == 1
    assert design_effect(0.05, 20, 0.5) == pytest.approx(1 + (1.25 * 20 - 1) * 0.05)


@pytest.mark.parametrize("rows", [[[1.0], [1.0], [1.0]], [[1.0]], np.zeros((0, 1))])
def test_no_variance_is_refused(rows: object) -> None:
    with pytest.raises(StatisticError, match="no variance"):
        unit_variance(Moments.from_rows(["y"], rows), [Form("y")])  # type: ignore[arg-type]


# non-inferiority and equivalence --------------------------------------------------------------------------------------


def test_power_of_a_guardrail() -> None:
    n = sample_size(0.1 + 0.02, 1.0, alpha=0.025, alternative="greater")
    assert power_non_inferiority(0.1, n, 1.0, effect=0.02) == pytest.approx(0.8, rel=1e-10)
    assert power_non_inferiority(0.1, n, 1.0, effect=-0.1) == pytest.approx(0.025, rel=1e-10)


@quick
@given(margin=st.floats(0.01, 5), v=st.floats(0.01, 100), target=targets, inside=st.floats(-0.9, 0.9))
def test_equivalence_is_an_inverse(margin, v, target, inside) -> None:  # type: ignore[no-untyped-def]
    n = sample_size_equivalence(margin, v, target=target, effect=inside * margin)
    assert power_equivalence(margin, n, v, effect=inside * margin) == pytest.approx(target, rel=1e-9)
    n = sample_size_equivalence(margin, v, target=target)
    assert smallest_margin(n, v, target=target) == pytest.approx(margin, rel=1e-9)


def test_equivalence_by_simulation() -> None:
    rng = np.random.default_rng(2)
    error = math.sqrt(4 / 1000)
    gap = rng.normal(0.05, error, 20_000)
    inside = ((gap - 1.6449 * error > -0.2) & (gap + 1.6449 * error < 0.2)).mean()
    assert power_equivalence(0.2, 1000, 1.0, effect=0.05) == pytest.approx(inside, abs=0.015)
    assert sample_size_equivalence(0.2, 1.0, effect=0.2) == math.inf
    assert power_equivalence(0.2, 10, 1.0) == 0.0


# refusals -------------------------------------------------------------------------------------------------------------


def test_no_effect_needs_infinitely_many() -> None:
    assert sample_size(0.0, 1.0) == math.inf
    assert sample_size_t(0.0, 1.0) == math.inf
    assert sample_size_proportions(0.2, 0.2) == math.inf
    assert math.isnan(mde(0, 1.0))
    assert math.isnan(smallest_margin(0, 1.0))
    assert math.isnan(power(0.1, 0, 1.0))
    assert math.isnan(mde_proportions(0.5, 4))
    for share in (0.0, 1.0, 1.5, -0.5):
        assert math.isnan(mde_proportions(share, 1e6))


@pytest.mark.parametrize("margin", [0.0, -0.1, math.nan])
def test_margins_have_a_sign(margin: float) -> None:
    for call in (power_non_inferiority, power_equivalence):
        with pytest.raises(ConfigError, match="margin"):
            call(margin, 100, 1.0)
    with pytest.raises(ConfigError, match="margin"):
        sample_size_equivalence(margin, 1.0)


@pytest.mark.parametrize("arguments", [{"alpha": 0.0}, {"alpha": 1.0}, {"target": 1.0}, {"target": 0.01}])
def test_bad_levels_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        sample_size(0.1, 1.0, **arguments)


@pytest.mark.parametrize("shares", [(0.0, 0.5), (0.7, 0.6), (-0.1, 0.5)])
def test_bad_shares_are_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(ConfigError):
        Split(*shares)


def test_shares_outside_0_and_1_are_refused() -> None:
    with pytest.raises(ConfigError):
        sample_size_proportions(1.2, 0.5)
    with pytest.raises(StatisticError):
        sample_size_proportions(1.0, 1.0)


def test_without_units_nothing_is_found() -> None:
    found = [
        power(0.1, 0, 1.0), power_proportions(0.25, 0.2, 0), power_non_inferiority(0.1, 0, 1.0),
        power_equivalence(0.1, 0, 1.0), mde(0, 1.0), mde_proportions(0.2, 0), smallest_margin(0, 1.0),
    ]  # fmt: skip
    assert all(map(math.isnan, found))
