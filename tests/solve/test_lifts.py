"""The relative lift: Fieller by its definition, agreement with the absolute test, scale and degenerate means."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from statsmodels.stats.proportion import confint_proportions_2indep

from causal_spark.solve.intervals import Alternative, critical, p_value
from causal_spark.solve.lifts import LiftMethod, lift
from causal_spark.solve.means import Values, difference

ALTERNATIVES = get_args(Alternative)
METHODS = get_args(LiftMethod)
quick = settings(max_examples=40, deadline=None, derandomize=True)
positive = st.floats(0.5, 50)
signed = st.one_of(positive, positive.map(lambda x: -x))
errors = st.floats(1e-3, 0.5)
sizes = st.integers(3, 5000)


def value(mean: float, error: float, n: float = 400) -> Values:
    return Values(np.array([mean]), np.array([[error**2]]), n)


@quick
@given(m=signed, k=signed, s=errors, r=errors, n=sizes, o=sizes, alpha=st.floats(1e-3, 0.4))
@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_fieller_excludes_zero_iff_p_below_alpha(alternative, m, k, s, r, n, o, alpha) -> None:  # type: ignore
    test = lift(value(m, s, n), value(k, r, o), "fieller", alpha, alternative)
    if math.isnan(test.low) or abs(test.p_value - alpha) < 1e-9:
        return
    assert (test.low > 0 or test.high < 0) == (test.p_value < alpha)


@quick
@given(m=positive, k=positive, s=errors, r=errors, n=sizes, o=sizes, alpha=st.floats(1e-3, 0.4))
@pytest.mark.parametrize("method", ["log", "delta"])
@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_other_lifts_exclude_zero_iff_p_below_alpha(alternative, method, m, k, s, r, n, o, alpha) -> None:  # type: ignore
    test = lift(value(m, s, n), value(k, r, o), method, alpha, alternative)
    if abs(test.p_value - alpha) > 1e-9:
        assert (test.low > 0 or test.high < 0) == (test.p_value < alpha)


@quick
@given(m=signed, k=positive, s=errors, r=errors, n=sizes, o=sizes)
@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_fieller_agrees_with_the_absolute_test(alternative, m, k, s, r, n, o) -> None:  # type: ignore[no-untyped-def]
    a, b = value(m, s, n), value(k, r, o)
    relative, absolute = lift(a, b, alternative=alternative), difference(a, b, alternative=alternative)
    assert relative.statistic == pytest.approx(absolute.statistic, rel=1e-12)
    assert relative.dof == absolute.dof
    assert relative.p_value == pytest.approx(absolute.p_value, rel=1e-9, abs=1e-300)


@quick
@given(m=signed, k=signed, s=errors, r=errors, alpha=st.floats(1e-3, 0.4), dof=st.floats(3, 1e4))
def test_fieller_by_its_definition(m: float, k: float, s: float, r: float, alpha: float, dof: float) -> None:
    """At each end of the interval the statistic of m = (1 + ρ)·k is the critical value, inside it is smaller."""
    test = lift(value(m, s), value(k, r), "fieller", alpha, dof=dof)
    q = critical(alpha, dof)
    if q * r >= abs(k) * 0.999:
        return

    def statistic(rho: float) -> float:
        return abs(m - (1 + rho) * k) / math.hypot(s, (1 + rho) * r)

    for end in (test.low, test.high):
        assert statistic(end) == pytest.approx(q, rel=1e-6)
    assert statistic((test.low + test.high) / 2) < q
    assert test.low < test.estimate < test.high


def test_fieller_by_root_finding() -> None:
    """One case of the definition solved without the formula."""
    m, s, k, r, dof = 3.0, 0.4, 2.0, 0.25, 55.0
    q = critical(0.05, dof)
    test = lift(value(m, s), value(k, r), dof=dof)

    def border(rho: float) -> float:
        return (m - (1 + rho) * k) ** 2 - q**2 * (s**2 + ((1 + rho) * r) ** 2)

    assert test.low == pytest.approx(brentq(border, -0.5, 0.5, xtol=1e-14), rel=1e-10)
    assert test.high == pytest.approx(brentq(border, 0.5, 3.0, xtol=1e-14), rel=1e-10)


@quick
@given(m=positive, k=positive, s=errors, r=errors, n=sizes, o=sizes, unit=st.sampled_from([1e-9, 0.01, 60.0, 1e12]))
@pytest.mark.parametrize("method", METHODS)
def test_scale_of_the_metric_is_free(method, m, k, s, r, n, o, unit) -> None:  # type: ignore[no-untyped-def]
    ours = lift(value(m, s, n), value(k, r, o), method)
    scaled = lift(value(m * unit, s * unit, n), value(k * unit, r * unit, o), method)
    # the unit rounds the means by 1e-16, that is up to 1e-11 of a standard error: so much the parts may differ
    for name in ("estimate", "low", "high", "std_error"):
        expected = getattr(ours, name)
        assert getattr(scaled, name) == pytest.approx(expected, rel=1e-9, abs=1e-9 * ours.std_error, nan_ok=True)
    assert scaled.statistic == pytest.approx(ours.statistic, rel=1e-9, abs=1e-9)
    assert (scaled.p_value, scaled.dof) == pytest.approx((ours.p_value, ours.dof), rel=1e-6)


@quick
@given(m=signed, k=signed, s=errors, r=errors)
@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_sign_of_the_metric_is_free(alternative, m, k, s, r) -> None:  # type: ignore[no-untyped-def]
    """Costs written as negative numbers have the same lift, on the same side."""
    ours = lift(value(m, s), value(k, r), "fieller", alternative=alternative)
    negative = lift(value(-m, s), value(-k, r), "fieller", alternative=alternative)
    for name in ("estimate", "low", "high", "statistic", "p_value", "std_error"):
        assert getattr(negative, name) == pytest.approx(getattr(ours, name), nan_ok=True)


def test_negative_control_mean() -> None:
    """-2 against -1 is twice as much: lift +1, and 'greater' is the side that is significant."""
    arms = value(-2.0, 0.05), value(-1.0, 0.05)
    both = lift(*arms)
    assert both.estimate == 1.0
    assert 0 < both.low < 1 < both.high
    assert lift(*arms, alternative="greater").p_value < 1e-6
    assert lift(*arms, alternative="less").p_value > 1 - 1e-6
    assert math.isnan(lift(*arms, method="log").p_value)
    assert lift(*arms, method="log").estimate == 1.0


@pytest.mark.parametrize("method", METHODS)
def test_one_sided_p_values_sum_to_one(method: LiftMethod) -> None:
    arms = value(2.0, 0.3), value(1.7, 0.2)
    total = sum(lift(*arms, method, alternative=side).p_value for side in ("greater", "less"))
    assert total == pytest.approx(1.0, abs=1e-14)


@quick
@given(m=positive, k=positive, s=errors, r=errors, n=sizes, o=sizes)
def test_log_lift_of_swapped_arms(m: float, k: float, s: float, r: float, n: int, o: int) -> None:
    """(1 + lift)(1 + swapped lift) = 1, and so for the ends: only the logarithm is symmetric."""
    ours, swapped = lift(value(m, s, n), value(k, r, o), "log"), lift(value(k, r, o), value(m, s, n), "log")
    assert (1 + ours.estimate) * (1 + swapped.estimate) == pytest.approx(1.0)
    assert (1 + ours.low) * (1 + swapped.high) == pytest.approx(1.0)
    assert ours.p_value == pytest.approx(swapped.p_value, rel=1e-7)
    assert ours.dof == pytest.approx(swapped.dof, rel=1e-12)


def test_log_ratio_of_proportions_is_that_of_statsmodels() -> None:
    """100 random tables, relative 1e-9; theirs is the normal with the variance p(1 - p)/n."""
    draw = np.random.default_rng(3)
    for _ in range(100):
        n, o = draw.integers(30, 5000, 2)
        a, b = draw.integers(1, n), draw.integers(1, o)
        p, r = a / n, b / o
        arms = value(p, math.sqrt(p * (1 - p) / n), n), value(r, math.sqrt(r * (1 - r) / o), o)
        ours = lift(*arms, "log", dof=math.inf)
        low, high = confint_proportions_2indep(a, n, b, o, method="log", compare="ratio", correction=False)
        assert (1 + ours.low, 1 + ours.high) == pytest.approx((low, high), rel=1e-9)


def test_delta_standard_error_by_simulation_free_formula() -> None:
    """Gradient of m/k: (1/k, -m/k²), and every method reports this standard error."""
    m, s, k, r = 3.0, 0.4, 2.0, 0.25
    gradient = np.array([1 / k, -m / k**2])
    expected = math.sqrt(gradient**2 @ [s**2, r**2])
    assert [lift(value(m, s), value(k, r), method).std_error for method in METHODS] == pytest.approx([expected] * 3)


# what cannot be estimated -------------------------------------------------------------------------------------------


def test_fieller_unbounded_has_no_interval() -> None:
    """The control mean is not distinguishable from zero: the test of the difference stays, the interval goes."""
    test = lift(value(1.0, 0.3), value(0.3, 0.2))
    assert math.isnan(test.low)
    assert math.isnan(test.high)
    assert 0 < test.p_value < 1
    assert test.estimate == pytest.approx(0.7 / 0.3)
    q = critical(0.05, test.dof)
    for k, bounded in ((q * 0.2 * 1.001, True), (q * 0.2 * 0.999, False)):
        assert math.isnan(lift(value(1.0, 0.3), value(k, 0.2), dof=test.dof).low) != bounded


@pytest.mark.parametrize("method", METHODS)
def test_zero_control_mean(method: LiftMethod) -> None:
    test = lift(value(1.0, 0.3), value(0.0, 0.2), method)
    assert all(math.isnan(x) for x in (test.estimate, test.std_error, test.p_value, test.low, test.high))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("m", [1.0, 1.5])
def test_zero_variance(method: LiftMethod, m: float) -> None:
    test = lift(value(m, 0.0), value(1.0, 0.0), method)
    assert test.estimate == m - 1
    assert all(math.isnan(x) for x in (test.p_value, test.low, test.high))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [0, 1])
def test_too_few_rows(method: LiftMethod, n: int) -> None:
    few = Values(np.array([np.nan if n == 0 else 1.0]), np.array([[np.nan]]), n)
    for arms in ((few, value(1.0, 0.1)), (value(1.0, 0.1), few)):
        test = lift(*arms, method)
        assert all(math.isnan(x) for x in (test.p_value, test.low, test.high))


def test_treatment_mean_zero_or_negative() -> None:
    zero = lift(value(0.0, 0.1), value(1.0, 0.1))
    assert (zero.estimate, zero.p_value < 1e-6) == (-1.0, True)
    assert zero.low < -1 < zero.high < 0
    assert math.isnan(lift(value(0.0, 0.1), value(1.0, 0.1), "log").p_value)


def test_log_interval_may_overflow() -> None:
    """Means that are nothing against their errors: the interval is everything, not an error."""
    test = lift(value(1.0, 1000.0), value(1.0, 1000.0), "log")
    assert (test.low, test.high) == (-1.0, math.inf)
    assert test.p_value == pytest.approx(1.0)


def test_log_uses_the_dof_of_the_logarithms() -> None:
    """Welch's formula with the relative errors: here 0.1 and 0.01, so nearly the dof of the first arm alone."""
    test = lift(value(1.0, 0.1, 11), value(100.0, 1.0, 1000), "log")
    assert test.dof == pytest.approx((0.01 + 0.0001) ** 2 / (0.01**2 / 10 + 0.0001**2 / 999))
    assert lift(value(1.0, 0.1, 11), value(100.0, 1.0, 1000), "delta").dof > 900


def test_normal_by_request() -> None:
    test = lift(value(2.0, 0.3), value(1.7, 0.2), "delta", dof=math.inf)
    assert test.p_value == pytest.approx(p_value(test.estimate / test.std_error), rel=1e-14)
