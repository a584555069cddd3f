"""Two proportions and planned shares: parity with statsmodels and SciPy, symmetries, empty and constant arms."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep, proportions_ztest

from causal_spark.solve.intervals import Alternative, p_value
from causal_spark.solve.proportions import shares_test, two_proportions

ALTERNATIVES = get_args(Alternative)
STATSMODELS = {"two-sided": "two-sided", "greater": "larger", "less": "smaller"}
quick = settings(max_examples=40, deadline=None, derandomize=True)
sizes = st.integers(2, 100_000)


def tables(seed: int = 7) -> list[tuple[int, int, int, int]]:
    """100 tables (count, n, count, n) from 20 to 1e6 rows and shares from rare to frequent, without 0 and n."""
    draw = np.random.default_rng(seed)
    found = []
    while len(found) < 100:
        n, o = (10.0 ** draw.uniform(1.3, 6, 2)).astype(int)
        p = 10.0 ** draw.uniform(-3, -0.1)
        a, b = int(draw.binomial(n, p)), int(draw.binomial(o, p * draw.uniform(0.8, 1.2)))
        if 0 < a < n and 0 < b < o:
            found.append((a, int(n), b, int(o)))
    return found


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_parity_of_the_test(alternative: Alternative) -> None:
    for a, n, b, o in tables():
        ours = two_proportions(a / n, n, b / o, o, 0.05, alternative)
        statistic, p = proportions_ztest([a, b], [n, o], alternative=STATSMODELS[alternative])
        assert ours.statistic == pytest.approx(statistic, rel=1e-9, abs=1e-9)
        assert ours.p_value == pytest.approx(p, rel=1e-9)


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_parity_of_the_interval(alpha: float) -> None:
    """The bounds as parts of a standard error: they may be near zero."""
    for a, n, b, o in tables():
        ours = two_proportions(a / n, n, b / o, o, alpha)
        low, high = confint_proportions_2indep(a, n, b, o, method="wald", compare="diff", alpha=alpha)
        slack = 1e-9 * ours.std_error
        assert ours.low == pytest.approx(low, rel=1e-9, abs=slack)
        assert ours.high == pytest.approx(high, rel=1e-9, abs=slack)


@quick
@given(a=st.floats(0.01, 0.99), b=st.floats(0.01, 0.99), n=sizes, o=sizes)
def test_swapped_arms(a: float, b: float, n: int, o: int) -> None:
    ours, swapped = two_proportions(a, n, b, o), two_proportions(b, o, a, n)
    assert (ours.estimate, ours.statistic) == (-swapped.estimate, pytest.approx(-swapped.statistic))
    assert (ours.low, ours.high) == (pytest.approx(-swapped.high), pytest.approx(-swapped.low))


@quick
@given(a=st.floats(0.01, 0.99), b=st.floats(0.01, 0.99), n=sizes, o=sizes)
def test_failures_instead_of_successes(a: float, b: float, n: int, o: int) -> None:
    ours, other = two_proportions(a, n, b, o), two_proportions(1 - a, n, 1 - b, o)
    assert ours.statistic == pytest.approx(-other.statistic, rel=1e-6, abs=1e-9)
    assert ours.std_error == pytest.approx(other.std_error, rel=1e-9)


@quick
@given(a=st.floats(0.01, 0.99), b=st.floats(0.01, 0.99), n=sizes, o=sizes)
def test_one_sided_p_values_sum_to_one(a: float, b: float, n: int, o: int) -> None:
    total = sum(two_proportions(a, n, b, o, alternative=side).p_value for side in ("greater", "less"))
    assert total == pytest.approx(1.0, abs=1e-14)


@quick
@given(a=st.floats(0.01, 0.99), b=st.floats(0.01, 0.99), n=sizes, o=sizes, alpha=st.floats(1e-3, 0.4))
@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_interval_is_that_of_the_unpooled_error(alternative, a, b, n, o, alpha) -> None:  # type: ignore[no-untyped-def]
    """It excludes 0 iff estimate / std_error rejects; the pooled test may differ near the border."""
    test = two_proportions(a, n, b, o, alpha, alternative)
    p = p_value(test.estimate / test.std_error, alternative=alternative)
    assume(abs(p - alpha) > 1e-9)
    assert (test.low > 0 or test.high < 0) == (p < alpha)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_arms_without_variance(p: float) -> None:
    """Nobody or everybody in both arms: nothing to test."""
    test = two_proportions(p, 100, p, 200)
    assert test.estimate == 0.0
    assert all(math.isnan(x) for x in (test.statistic, test.p_value, test.low, test.high))


def test_one_arm_without_variance() -> None:
    test = two_proportions(0.0, 50, 0.1, 100)
    statistic, p = proportions_ztest([0, 10], [50, 100])
    assert (test.statistic, test.p_value) == (pytest.approx(statistic, rel=1e-12), pytest.approx(p, rel=1e-12))
    assert test.low < test.estimate < test.high


@pytest.mark.parametrize(("n", "o"), [(0, 10), (10, 0), (0, 0)])
def test_empty_arm(n: int, o: int) -> None:
    test = two_proportions(math.nan if n == 0 else 0.5, n, math.nan if o == 0 else 0.5, o)
    assert all(math.isnan(x) for x in (test.estimate, test.p_value, test.low, test.high))


# planned shares -----------------------------------------------------------------------------------------------------


def test_parity_with_the_chi_squared_of_scipy() -> None:
    draw = np.random.default_rng(2)
    for _ in range(100):
        shares = draw.uniform(0.1, 1.0, draw.integers(2, 7))
        counts = draw.multinomial(draw.integers(20, 10**7), shares / shares.sum())
        ours = shares_test(counts, shares)
        theirs = stats.chisquare(counts, shares / shares.sum() * counts.sum())
        assert ours.dof == len(shares) - 1
        assert ours.statistic == pytest.approx(theirs.statistic, rel=1e-9)
        assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-9)
        assert sum(ours.expected) == pytest.approx(counts.sum(), rel=1e-12)


def test_two_shares_are_a_binomial_z() -> None:
    """χ² with one degree of freedom is the square of (count - n·share)/√(n·share·(1 - share))."""
    ours = shares_test([5210, 4790], [0.51, 0.49])
    z = (5210 - 5100) / math.sqrt(10_000 * 0.51 * 0.49)
    assert ours.statistic == pytest.approx(z**2, rel=1e-12)
    assert ours.p_value == pytest.approx(p_value(z), rel=1e-10)


@quick
@given(counts=st.lists(st.integers(1, 10**6), min_size=2, max_size=6), unit=st.floats(1e-3, 1e3))
def test_shares_need_not_sum_to_one(counts: list[int], unit: float) -> None:
    plain, scaled = shares_test(counts, [1.0] * len(counts)), shares_test(counts, [unit] * len(counts))
    assert (scaled.statistic, scaled.p_value) == pytest.approx((plain.statistic, plain.p_value), rel=1e-6, abs=1e-9)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("counts", "shares"), [([0, 0], [0.5, 0.5]), ([10], [1.0]), ([10, 5], [1.0, 0.0]), ([3, 4], [0.0, 0.0])]
)
def test_nothing_to_compare(counts: list[int], shares: list[float]) -> None:
    ours = shares_test(counts, shares)
    assert math.isnan(ours.p_value)
    assert math.isnan(ours.statistic)


def test_missing_arm_is_a_mismatch() -> None:
    """No unit in an arm that was planned."""
    assert shares_test([1000, 0], [0.9, 0.1]).p_value < 1e-20
