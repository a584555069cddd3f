"""Difference and lift of two quantiles from the bounds of each: their law, their symmetric case, and many ties."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from causal_spark.solve.intervals import Alternative
from causal_spark.solve.lifts import lift
from causal_spark.solve.means import Values, difference
from causal_spark.solve.quantiles import Quantile, quantile, quantile_difference, quantile_lift
from causal_spark.statistics.histogram import Histogram

SIDES: tuple[Alternative, ...] = ("two-sided", "greater", "less")
Z = stats.norm.isf(0.025)
quick = settings(max_examples=60, deadline=None, derandomize=True)
numbers = st.floats(-20, 20).filter(lambda x: abs(x) > 0.1)
arms = st.builds(
    lambda estimate, below, above: made(estimate, below, above), numbers, st.floats(0.01, 3), st.floats(0.01, 3)
)


def made(estimate: float, below: float, above: float) -> Quantile:
    return Quantile(0.5, estimate, (below + above) / (2 * Z), estimate - below, estimate + above, 1000)


def values(x: Quantile) -> Values:
    return Values(np.array([x.estimate]), np.array([[x.std_error**2]]), x.n)


@quick
@given(t=arms, c=arms, side=st.sampled_from(SIDES))
def test_interval_excludes_0_iff_p_below_alpha(t: Quantile, c: Quantile, side: Alternative) -> None:
    """The difference, and the lift, whose test is that of the difference; a rounding of the last digit aside."""
    gap = quantile_difference(t, c, 0.05, side)
    if abs(gap.p_value - 0.05) > 1e-9:
        assert (gap.p_value < 0.05) == (gap.low > 0 or gap.high < 0)
    found = quantile_lift(t, c, 0.05, side)
    if not math.isnan(found.low) and abs(found.p_value - 0.05) > 1e-9:
        assert (found.p_value < 0.05) == (found.low > 0 or found.high < 0)


@quick
@given(t=arms, c=arms)
def test_limits_of_the_lift_are_where_the_scaled_difference_is_0(t: Quantile, c: Quantile) -> None:
    found = quantile_lift(t, c)
    if math.isnan(found.low):
        assert max(c.below, c.above) >= abs(c.estimate)
        return
    for limit in (found.low, found.high):
        factor = 1 + limit
        edges = sorted([factor * c.low, factor * c.high])
        scaled = replace(c, estimate=factor * c.estimate, low=edges[0], high=edges[1])
        gap = quantile_difference(t, scaled)
        assert min(abs(gap.low), abs(gap.high)) < 1e-8 * (abs(t.estimate) + abs(scaled.estimate))


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("control", [4.0, -4.0])
def test_symmetric_bounds_are_those_of_means(side: Alternative, control: float) -> None:
    t, c = made(5.0, 0.3, 0.3), made(control, 0.4, 0.4)
    for ours, theirs in (
        (quantile_difference(t, c, 0.05, side), difference(values(t), values(c), 0.05, side, math.inf)),
        (quantile_lift(t, c, 0.05, side), lift(values(t), values(c), "fieller", 0.05, side, math.inf)),
    ):
        for name in ("estimate", "std_error", "statistic", "p_value", "low", "high"):
            assert getattr(ours, name) == pytest.approx(getattr(theirs, name), rel=1e-12), name


def test_bounds_at_one_end() -> None:
    """One step up from [0, 1], against 0 in [0, 1]: the step is no effect, though half a width each says so."""
    t, c = made(1.0, 1.0, 0.0), made(0.0, 0.0, 1.0)
    assert quantile_difference(t, c).p_value == pytest.approx(2 * stats.norm.sf(Z / math.sqrt(2)))
    assert difference(values(t), values(c), dof=math.inf).p_value < 0.01
    far = quantile_difference(made(1.0, 0.0, 1.0), made(0.0, 1.0, 0.0))
    assert far.std_error == pytest.approx(math.sqrt(2) / (2 * Z))
    assert far.statistic == pytest.approx(1 / far.std_error)
    assert far.low == pytest.approx(1 - Z * far.std_error)


@pytest.mark.parametrize(("t", "c"), [(made(1.0, 0.0, 0.0), made(2.0, 0.0, 0.0)), (made(1, 1, 1), made(0.0, 1, 1))])
def test_no_lift(t: Quantile, c: Quantile) -> None:
    assert math.isnan(quantile_lift(t, c).low)
    assert math.isnan(quantile_lift(t, c).p_value)


def test_many_ties_raise_no_alarm() -> None:
    """200 A/A experiments on multiples of 0.1, three standard errors of the median: half widths alarm in a fifth."""
    rng = np.random.default_rng(6)
    alarms = naive = 0
    for _ in range(200):
        scale = 1 + 0.1 * rng.random()
        drawn = (np.round(10 * scale * np.exp(rng.normal(size=n))).astype(np.int64) for n in (2000, 1500))
        t, c = (quantile(Histogram.from_integers(x, scale=10), 0.5) for x in drawn)
        alarms += quantile_difference(t, c).p_value < 0.05
        naive += difference(values(t), values(c), dof=math.inf).p_value < 0.05
    assert alarms <= 20  # 99.9 % of binomial(200, 5 %)
    assert naive > 25
