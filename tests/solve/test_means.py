"""Means, ratios and their comparison: parity with SciPy, symmetries, and what cannot be estimated."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from causal_spark.solve.intervals import Alternative
from causal_spark.solve.means import Form, Values, difference, evaluate, jacobian, one_way, welch_dof
from causal_spark.statistics import Moments

ALTERNATIVES = get_args(Alternative)
MIRROR = {"two-sided": "two-sided", "greater": "less", "less": "greater"}
quick = settings(max_examples=40, deadline=None, derandomize=True)
means = st.floats(-100, 100)
variances = st.floats(1e-4, 100)
sizes = st.integers(2, 10_000)


def value(mean: float, variance: float, n: int) -> Values:
    """One mean with the squared standard error of ``n`` rows of that variance."""
    return Values(np.array([mean]), np.array([[variance / n]]), n)


def column(x: np.ndarray) -> Values:
    return evaluate(Moments.from_rows(["y"], x), [Form("y")])


def samples() -> list[tuple[np.ndarray, np.ndarray]]:
    """100 pairs of samples: sizes 2 to 400, four shapes, other spreads, means between 0 and 1e5 spreads."""
    draw = np.random.default_rng(100)
    pairs = []
    for i in range(100):
        a, b = (draw.normal(size=draw.integers(2, 400)) for _ in range(2))
        shapes = (lambda x: x, np.exp, lambda x: (x > 0.8) * np.exp(x), lambda x: np.round(x * 3))
        a, b = shapes[i % 4](a), shapes[i % 4](b) * draw.uniform(0.1, 10) + draw.normal()
        if np.ptp(a) > 0 and np.ptp(b) > 0:
            centre = 10.0 ** draw.integers(0, 6)
            pairs.append((a + centre, b + centre))
    return pairs


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_parity_with_scipy(alternative: Alternative) -> None:
    """Relative 1e-9; the statistic and the bounds as parts of a standard error, since they may be near zero."""
    pairs = samples()
    assert len(pairs) > 90
    for a, b in pairs:
        ours = difference(column(a), column(b), 0.1, alternative)
        theirs = stats.ttest_ind(a, b, equal_var=False, alternative=alternative)
        interval = theirs.confidence_interval(0.9)
        assert ours.statistic == pytest.approx(theirs.statistic, rel=1e-9, abs=1e-9)
        assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-9)
        assert ours.dof == pytest.approx(theirs.df, rel=1e-9)
        slack = 1e-9 * ours.std_error
        assert ours.low == pytest.approx(interval.low, rel=1e-9, abs=slack)
        assert ours.high == pytest.approx(interval.high, rel=1e-9, abs=slack)


@quick
@given(m=means, k=means, v=variances, w=variances, n=sizes, o=sizes, alpha=st.floats(1e-3, 0.4))
@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_interval_excludes_zero_iff_p_below_alpha(alternative, m, k, v, w, n, o, alpha) -> None:  # type: ignore
    test = difference(value(m, v, n), value(k, w, o), alpha, alternative)
    if abs(test.p_value - alpha) > 1e-9:
        assert (test.low > 0 or test.high < 0) == (test.p_value < alpha)


@quick
@given(m=means, k=means, v=variances, w=variances, n=sizes, o=sizes)
@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_swapped_arms_change_the_sign(alternative, m, k, v, w, n, o) -> None:  # type: ignore[no-untyped-def]
    a, b = value(m, v, n), value(k, w, o)
    ours, swapped = difference(a, b, 0.05, alternative), difference(b, a, 0.05, MIRROR[alternative])
    assert (ours.estimate, ours.statistic) == (-swapped.estimate, -swapped.statistic)
    assert (ours.low, ours.high) == (-swapped.high, -swapped.low)
    assert (ours.std_error, ours.dof, ours.p_value) == pytest.approx((swapped.std_error, swapped.dof, swapped.p_value))


@quick
@given(m=means, k=means, v=variances, w=variances, n=sizes, o=sizes, unit=st.sampled_from([1e-9, 0.01, 60.0, 1e12]))
def test_unit_of_the_metric_is_free(m, k, v, w, n, o, unit) -> None:  # type: ignore[no-untyped-def]
    ours = difference(value(m, v, n), value(k, w, o))
    scaled = difference(value(m * unit, v * unit**2, n), value(k * unit, w * unit**2, o))
    assert (scaled.dof, scaled.p_value) == pytest.approx((ours.dof, ours.p_value), rel=1e-6)
    assert scaled.std_error == pytest.approx(ours.std_error * unit, rel=1e-12)


@quick
@given(v=variances, w=variances, n=sizes, o=sizes)
def test_dof_of_welch_lies_between_its_bounds(v: float, w: float, n: int, o: int) -> None:
    dof = welch_dof(v / n, n, w / o, o)
    assert min(n, o) - 1 - 1e-9 <= dof <= (n + o - 2) * (1 + 1e-12)
    assert welch_dof(1e-300 * v / n, n, 1e-300 * w / o, o) == pytest.approx(dof, rel=1e-12)


def test_dof_when_one_arm_is_constant() -> None:
    assert welch_dof(0.0, 50, 2.0, 7) == 6


# what cannot be estimated -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 100])
def test_zero_variance_has_no_p_value(n: int) -> None:
    """Two constant arms, equal or not: neither p = 1 nor p = 0."""
    for other in (3.0, 4.0):
        arms = [evaluate(Moments.constant(["y"], n, x), [Form("y")]) for x in (3.0, other)]
        test = difference(*arms)
        assert test.estimate == 3.0 - other
        assert all(math.isnan(x) for x in (test.statistic, test.p_value, test.low, test.high))


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_rows_have_no_p_value(n: int) -> None:
    enough = column(np.array([1.0, 2.0, 4.0]))
    few = column(np.array([5.0] * n))
    for test in (difference(few, enough), difference(enough, few)):
        assert math.isnan(test.estimate) == (n == 0)
        assert all(math.isnan(x) for x in (test.std_error, test.dof, test.p_value, test.low, test.high))


@pytest.mark.filterwarnings("error")
def test_zero_denominator_is_nan() -> None:
    part = Moments.from_rows(["clicks", "views"], [[0, 0], [0, 0], [0, 0]])
    ratio = evaluate(part, [Form("clicks", "views"), Form("clicks")])
    assert math.isnan(ratio.value[0])
    assert ratio.value[1] == 0.0
    assert math.isnan(ratio.vcov[0, 0])
    assert math.isnan(difference(ratio, ratio).p_value)


# forms --------------------------------------------------------------------------------------------------------------

NAMES = ("a", "b", "c")
FORMS = (Form("a"), Form("b", "c"), Form("c"), Form("a", "b"), Form("b", "b"))


def some(n: int = 50) -> np.ndarray:
    return np.random.default_rng(4).gamma(3.0, size=(n, 3)) @ [[1, 0.3, 0], [0, 1, 0.4], [0, 0, 1]]


def test_jacobian_is_the_derivative() -> None:
    """Central differences with a step of 1e-6 are good to 1e-9."""
    moments = Moments.from_rows(NAMES, some())
    ours = jacobian(moments, FORMS)

    def at(mean: np.ndarray) -> np.ndarray:
        return evaluate(Moments(NAMES, moments.n, mean, moments.scatter), FORMS).value

    for i in range(3):
        step = np.eye(3)[i] * 1e-6
        np.testing.assert_allclose(ours[:, i], (at(moments.mean + step) - at(moments.mean - step)) / 2e-6, atol=1e-8)


def test_values_and_their_covariance_row_by_row() -> None:
    """The delta method = the covariance of the linearised rows (x - ratio·y)/mean(y)."""
    rows = some()
    a, b, c = rows.T
    linear = np.column_stack(
        [a, (b - b.mean() / c.mean() * c) / c.mean(), c, (a - a.mean() / b.mean() * b) / b.mean(), 0 * a]
    )
    ours = evaluate(Moments.from_rows(NAMES, rows), FORMS)
    np.testing.assert_allclose(ours.vcov, np.cov(linear.T) / len(rows), rtol=1e-11, atol=1e-16)
    expected = [a.mean(), b.mean() / c.mean(), c.mean(), a.mean() / b.mean(), 1.0]
    np.testing.assert_allclose(ours.value, expected, rtol=1e-14)
    assert ours.n == len(rows)


def test_combination_of_forms() -> None:
    ours = evaluate(Moments.from_rows(NAMES, some()), FORMS[:3])
    weights = np.array([1.0, -2.0, 0.5])
    mixed = ours.combine(weights, 3.0)
    assert mixed.value[0] == pytest.approx(weights @ ours.value + 3.0, rel=1e-14)
    assert mixed.vcov[0, 0] == pytest.approx(weights @ ours.vcov @ weights, rel=1e-14)


# analysis of variance -----------------------------------------------------------------------------------------------


def test_one_way_is_that_of_scipy() -> None:
    draw = np.random.default_rng(6)
    for _ in range(50):
        groups = [draw.normal(draw.normal(), 2, draw.integers(1, 60)) for _ in range(draw.integers(2, 6))]
        groups.append(draw.normal(size=5))
        ours = one_way([Moments.from_rows(["y"], g) for g in groups])
        theirs = stats.f_oneway(*groups)
        assert ours.statistic == pytest.approx(theirs.statistic, rel=1e-9)
        assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-9)


def test_one_way_of_two_groups_is_student() -> None:
    a, b = some()[:20, 0], some()[20:, 1]
    ours = one_way([Moments.from_rows(["y"], g) for g in (a, b)])
    theirs = stats.ttest_ind(a, b)
    assert ours.statistic == pytest.approx(theirs.statistic**2, rel=1e-10)
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-10)


def test_one_way_ignores_empty_groups() -> None:
    full = [Moments.from_rows(["y"], g) for g in ([1, 2, 3.0], [1, 2, 4.0])]
    with_empty = [full[0], Moments.empty(["y"]), full[1]]
    assert one_way(with_empty) == one_way(full)


@pytest.mark.parametrize(
    "groups",
    [
        [[1, 1, 1.0], [2, 2.0]],  # no variance within
        [[1.0], [2.0], [3.0]],  # no spare rows
        [[1, 2, 3.0]],  # one group
        [[], []],
    ],
)
def test_one_way_that_cannot_be(groups: list[list[float]]) -> None:
    result = one_way([Moments.from_rows(["y"], g) for g in groups])
    assert math.isnan(result.statistic)
    assert math.isnan(result.p_value)
