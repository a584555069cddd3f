"""p-values, critical values and the interval that agrees with the test."""

from __future__ import annotations

import math
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from causal_spark.solve.intervals import Alternative, critical, p_value, wald

ALTERNATIVES = get_args(Alternative)
quick = settings(max_examples=40, deadline=None, derandomize=True)
statistics = st.floats(-30, 30)
dofs = st.one_of(st.just(math.inf), st.floats(1, 1e6))
alphas = st.floats(1e-4, 0.5)


@quick
@given(statistic=statistics, dof=dofs)
def test_one_sided_p_values_sum_to_one(statistic: float, dof: float) -> None:
    total = p_value(statistic, dof, "greater") + p_value(statistic, dof, "less")
    assert total == pytest.approx(1.0, abs=1e-14)


@quick
@given(statistic=statistics, dof=dofs)
def test_two_sided_is_twice_the_smaller_side(statistic: float, dof: float) -> None:
    smaller = min(p_value(statistic, dof, "greater"), p_value(statistic, dof, "less"))
    assert p_value(statistic, dof) == pytest.approx(2 * smaller, rel=1e-14)
    assert p_value(statistic, dof) == p_value(-statistic, dof)
    assert 0 <= p_value(statistic, dof) <= 1


@quick
@given(alpha=alphas, dof=dofs)
@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_critical_value_has_p_alpha(alternative: Alternative, alpha: float, dof: float) -> None:
    bound = critical(alpha, dof, alternative)
    side = "less" if alternative == "less" else alternative
    assert p_value(-bound if side == "less" else bound, dof, alternative) == pytest.approx(alpha, rel=1e-9)


def test_large_dof_is_the_normal() -> None:
    assert critical(0.05) == pytest.approx(1.959963984540054, rel=1e-14)
    assert critical(0.05, 1e9) == pytest.approx(critical(0.05), rel=1e-8)
    assert p_value(3.0, 1e9) == pytest.approx(p_value(3.0), rel=1e-7)


@quick
@given(
    estimate=st.floats(-5, 5),
    error=st.floats(1e-3, 10),
    alpha=alphas,
    dof=dofs,
)
@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_interval_excludes_zero_iff_p_below_alpha(
    alternative: Alternative, estimate: float, error: float, alpha: float, dof: float
) -> None:
    test = wald(estimate, error, alpha, dof, alternative)
    if abs(test.p_value - alpha) < 1e-9:  # on the border rounding decides
        return
    assert (test.low > 0 or test.high < 0) == (test.p_value < alpha)
    assert test.low <= estimate <= test.high


@quick
@given(estimate=st.floats(-5, 5), error=st.floats(1e-3, 10), alpha=alphas, dof=dofs)
def test_one_sided_interval_is_open(estimate: float, error: float, alpha: float, dof: float) -> None:
    greater, less = (wald(estimate, error, alpha, dof, side) for side in ("greater", "less"))
    both = wald(estimate, error, 2 * alpha if alpha < 0.5 else 0.999, dof)
    assert (greater.high, less.low) == (math.inf, -math.inf)
    if alpha < 0.5:
        assert (greater.low, less.high) == (pytest.approx(both.low), pytest.approx(both.high))


@pytest.mark.parametrize("error", [0.0, math.nan, math.inf, -1.0])
@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_nothing_to_test_is_nan(alternative: Alternative, error: float) -> None:
    test = wald(1.0, error, 0.05, 10.0, alternative)
    assert test.estimate == 1.0
    assert all(math.isnan(x) for x in (test.statistic, test.dof, test.p_value, test.low, test.high))


@pytest.mark.parametrize("dof", [0.0, -1.0, math.nan])
def test_no_degrees_of_freedom_is_nan(dof: float) -> None:
    assert math.isnan(wald(1.0, 1.0, 0.05, dof).p_value)


def test_agrees_with_scipy() -> None:
    for dof in (1.0, 3.7, 40.0, 1e4):
        for t in (-3.0, 0.0, 1.1, 8.0):
            assert p_value(t, dof, "greater") == pytest.approx(stats.t.sf(t, dof), rel=1e-14)
            assert p_value(t, dof, "less") == pytest.approx(stats.t.cdf(t, dof), rel=1e-14)
