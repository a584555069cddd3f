"""Defects that were found in other packages: for each of them, the input that shows it and what is right.

What needs a pass over a table (missing outcomes, a hash split) is tested with the engines.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from causal_spark.solve.intervals import p_value, wald
from causal_spark.solve.means import Form, Values, difference, evaluate, welch_dof
from causal_spark.solve.proportions import shares_test
from causal_spark.statistics import Moments

# D1: rows without an outcome must not count -------------------------------------------------------------------------


def test_d1_missing_outcomes_do_not_narrow_the_interval() -> None:
    """Half of the outcomes are missing: n is that of the complete rows, and the interval √2 as wide.

    Each value appears once with and once without an outcome, so the exact ratio of the two standard errors is
    √((2n - 1)/(n - 1)): the scatter doubles with n, and the divisor is n - 1.
    """
    outcome = np.random.default_rng(1).normal(size=500)
    complete = Moments.from_rows(["y"], outcome)
    doubled = complete + complete
    assert (complete.n, doubled.n) == (500, 1000)
    half, full = (evaluate(part, [Form("y")]) for part in (complete, doubled))
    ratio = math.sqrt(half.vcov[0, 0] / full.vcov[0, 0])
    assert ratio == pytest.approx(math.sqrt(999 / 499), rel=1e-12)  # rounding only
    assert ratio > 1.41


def test_d1_a_missing_value_is_never_skipped_in_silence() -> None:
    """NaN that reaches Moments must be seen in the result: neither a mean of fewer rows nor an n of more."""
    moments = Moments.from_rows(["y", "x"], [[1.0, 1.0], [np.nan, 2.0], [3.0, 4.0]])
    assert moments.n == 3
    assert math.isnan(moments.mean[0])
    assert math.isnan(moments.covariance[0, 0])
    test = difference(evaluate(moments, [Form("y")]), evaluate(moments, [Form("x")]))
    assert all(math.isnan(x) for x in (test.estimate, test.p_value, test.low, test.high))


# D2: far tails are finite and exact ---------------------------------------------------------------------------------


def log_p_student(t: float, dof: float) -> float:
    """log of the two-sided p-value of Student's t, without its distribution function.

    P(\\|T\\| > t) = I_x(a, ½) with a = dof/2, x = dof/(dof + t²), and
    I_x(a, b) = x^a (1 - x)^b / (a·B(a, b)) · Σ_k Π_{j<k} (a + b + j)/(a + 1 + j) · x^k, all terms positive.
    """
    a, b, x = dof / 2, 0.5, dof / (dof + t**2)
    term, total, k = 1.0, 1.0, 0
    while term > 1e-18 * total:
        term *= (a + b + k) / (a + 1 + k) * x
        total += term
        k += 1
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    return -a * math.log1p(t**2 / dof) + b * math.log(t**2 / (dof + t**2)) - math.log(a) - log_beta + math.log(total)


@pytest.mark.parametrize(("t", "dof"), [(2.0, 5.0), (10.0, 30.0), (40.0, 100.0), (20.0, 1e4), (38.0, 1e4), (30.0, 1e6)])
def test_d2_far_tail_of_student(t: float, dof: float) -> None:
    """log p to 1e-8 absolute: log Γ of 5e5 is 6e6, so its own last digit is 1e-9."""
    for statistic in (t, -t):
        p = p_value(statistic, dof)
        assert 0 < p < 1
        assert math.log(p) == pytest.approx(log_p_student(t, dof), abs=1e-8)


def test_d2_beyond_the_smallest_double() -> None:
    """At t = 40 with 10,000 degrees of freedom log p = -746: below every double, so 0, but never NaN or negative."""
    assert log_p_student(40.0, 1e4) < math.log(5e-324)
    for dof in (1e4, math.inf):
        assert 0.0 <= p_value(40.0, dof) < 1e-300
    assert p_value(40.0, 1e4, "less") == 1.0
    assert 0.0 <= p_value(40.0, 1e4, "greater") < 1e-300


@pytest.mark.parametrize("z", [1.0, 5.0, 9.0, 20.0, 37.0])
def test_d2_far_tail_of_the_normal(z: float) -> None:
    """Against erfc of the C library; both are good to a few units of the last digit of z²/2 ≈ 684, hence 1e-12."""
    assert p_value(z) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-12)
    assert p_value(z) > 0


def test_d2_overwhelming_effect_has_an_interval() -> None:
    """mean 1, variance 4, lift 50 %, n 10,000 an arm: t = 17.7, all parts finite."""
    treatment = Values(np.array([1.5]), np.array([[4 / 10_000]]), 10_000)
    control = Values(np.array([1.0]), np.array([[4 / 10_000]]), 10_000)
    test = difference(treatment, control)
    assert test.statistic == pytest.approx(0.5 / math.sqrt(8e-4), rel=1e-12)
    assert math.log(test.p_value) == pytest.approx(log_p_student(test.statistic, test.dof), abs=1e-8)
    assert 0 < test.low < 0.5 < test.high < math.inf


# D3: the degrees of freedom of Welch do not depend on the unit ------------------------------------------------------


@pytest.mark.parametrize(("variance", "n", "dof"), [(1e6, 1000, 1998.0), (1.0, 50, 98.0)])
def test_d3_equal_arms_have_the_pooled_dof(variance: float, n: int, dof: float) -> None:
    assert welch_dof(variance / n, n, variance / n, n) == pytest.approx(dof, rel=1e-12)


def test_d3_statistic_of_the_reported_case() -> None:
    """Variance 10⁶ and 1,000 an arm: the 5 % point is 1.96, not 12.7."""
    arm = Values(np.array([0.0]), np.array([[1e6 / 1000]]), 1000)
    test = difference(arm, arm)
    assert test.high / test.std_error == pytest.approx(1.9612, abs=5e-5)  # t.ppf(.975, 1998) as tables print it


@pytest.mark.parametrize("unit", [1e-12, 1e-6, 1e6, 1e12])
def test_d3_unit_of_the_metric(unit: float) -> None:
    """Only the scaling itself rounds: 1e-12."""
    draw = np.random.default_rng(3)
    small, large = draw.normal(5, 1, 37), draw.normal(5.5, 9, 12)

    def test_in(scale: float):  # type: ignore[no-untyped-def]
        arms = [evaluate(Moments.from_rows(["y"], x * scale), [Form("y")]) for x in (large, small)]
        return difference(*arms)

    ours, scaled = test_in(1.0), test_in(unit)
    a, b = large.var(ddof=1) / 12, small.var(ddof=1) / 37
    assert ours.dof == pytest.approx((a + b) ** 2 / (a**2 / 11 + b**2 / 36), rel=1e-12)
    for name in ("dof", "p_value", "statistic"):
        assert getattr(scaled, name) == pytest.approx(getattr(ours, name), rel=1e-12)
    for name in ("estimate", "std_error", "low", "high"):
        assert getattr(scaled, name) == pytest.approx(getattr(ours, name) * unit, rel=1e-11)


# D6: an arm with planned share 0 takes no part ----------------------------------------------------------------------


def test_d6_zero_share_arm() -> None:
    """Published: p = 2.0e-5 for 1000, 1200, 900 at shares ½, ½, 0."""
    test = shares_test([1000, 1200, 900], [0.5, 0.5, 0.0])
    alone = shares_test([1000, 1200], [0.5, 0.5])
    assert (test.statistic, test.dof, test.p_value) == (alone.statistic, 1, alone.p_value)
    assert test.p_value == pytest.approx(2.0e-5, abs=0.05e-5)
    assert test.expected[2] == 0.0


def test_d6_order_of_the_arms_is_free() -> None:
    ours = shares_test([900, 1000, 1200], [0.0, 0.5, 0.5])
    assert (ours.dof, ours.p_value) == (1, shares_test([1000, 1200], [1, 1]).p_value)


# D9: a large mean does not eat the variance -------------------------------------------------------------------------

ROWS = 1_000_000
SHIFT = 1e9


@pytest.fixture(scope="module")
def far() -> tuple[np.ndarray, float]:
    """Mean 10⁹, sd 1, a million rows on a grid of 2⁻²⁰ (so the shift is exact); and the variance before the shift."""
    z = np.round(np.random.default_rng(9).normal(size=ROWS) * 2**20) / 2**20
    return z + SHIFT, float(z.var(ddof=1))


def pilot(x: np.ndarray, centre: float) -> Moments:
    """What a pass about a pilot centre brings home."""
    d = x - centre
    return Moments.from_sums(["y"], len(x), [centre], [d.sum()], [[(d * d).sum()]])


def test_d9_the_naive_formula_fails_here(far: tuple[np.ndarray, float]) -> None:
    """The input must be hard enough to show the defect."""
    x, variance = far
    naive = ((x * x).sum() - len(x) * x.mean() ** 2) / (len(x) - 1)
    assert abs(naive / variance - 1) > 1


def test_d9_two_passes(far: tuple[np.ndarray, float]) -> None:
    """Relative 1e-10: the deviations are exact multiples of the rounding of the mean, 1e-7, which enters squared."""
    x, variance = far
    assert Moments.from_rows(["y"], x).covariance[0, 0] == pytest.approx(variance, rel=1e-10)


@pytest.mark.parametrize("off", [0.0, 0.5, -3.0, 100.0])
def test_d9_one_pass_about_a_pilot_centre(far: tuple[np.ndarray, float], off: float) -> None:
    """A centre that is ``off`` standard deviations away costs off² · 1e-16 · √n; 100 of them leave 9 digits."""
    x, variance = far
    moments = pilot(x, SHIFT + off)
    assert moments.covariance[0, 0] == pytest.approx(variance, rel=1e-9)
    assert moments.mean[0] == pytest.approx(x.mean(), rel=1e-15)


@pytest.mark.parametrize("parts", [2, 8, 1000])
def test_d9_merged_parts(far: tuple[np.ndarray, float], parts: int) -> None:
    """Means of 10⁹ are known to 1e-7, which a merge squares or multiplies with deviations of 1/√n: 1e-9."""
    x, variance = far
    for build in (lambda part: Moments.from_rows(["y"], part), lambda part: pilot(part, part[0])):
        merged = sum(build(part) for part in np.array_split(x, parts))
        assert merged.n == ROWS
        assert merged.covariance[0, 0] == pytest.approx(variance, rel=1e-9)


def test_d9_without_a_pilot_nothing_is_claimed(far: tuple[np.ndarray, float]) -> None:
    """Raw sums have lost the variance: then there is no test, and never a negative variance or an error of 0."""
    x, _ = far
    moments = pilot(x, 0.0)
    assert moments.scatter[0, 0] >= 0
    value = evaluate(moments, [Form("y")])
    assert math.isnan(difference(value, value).p_value)


def test_wald_needs_a_standard_error() -> None:
    for error in (0.0, -1.0, math.nan, math.inf):
        test = wald(1.0, error, 0.05)
        assert all(math.isnan(x) for x in (test.statistic, test.p_value, test.low, test.high))
