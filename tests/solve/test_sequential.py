"""Group-sequential bounds: size, order, agreement of bounds, intervals and p-values, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from causal_spark.errors import ConfigError
from causal_spark.solve.sequential import (
    SPENDINGS,
    Plan,
    classical,
    crossing,
    group_sequential,
    repeated,
    repeated_p_value,
    require_same_plan,
    spend,
)

quick = settings(max_examples=15, deadline=None, derandomize=True)
spendings = st.sampled_from(SPENDINGS)
sides = st.sampled_from(["two-sided", "greater", "less"])
gaps = st.lists(st.floats(0.02, 1.0), min_size=1, max_size=7)


def limits(fractions, plan: Plan) -> list[float]:  # type: ignore[no-untyped-def]
    return [look.bound for look in group_sequential(fractions, plan)]


@quick
@given(spending=spendings, alternative=sides, gap=gaps, alpha=st.sampled_from([0.001, 0.05, 0.2]))
def test_size_is_what_was_spent(spending, alternative, gap, alpha) -> None:  # type: ignore[no-untyped-def]
    """The bounds, integrated again, spend what the plan says; brentq and quadrature leave 1e-9."""
    fractions = np.cumsum(gap) / sum(gap)
    plan = Plan(1000, alpha, spending, alternative=alternative)
    looks = group_sequential(fractions, plan)
    upper, lower = crossing(fractions, [look.bound for look in looks], 0.0, alternative)
    np.testing.assert_allclose(np.cumsum(upper + lower), [look.spent for look in looks], atol=1e-9)
    assert looks[-1].spent == pytest.approx(alpha, rel=1e-12)


def test_second_look_by_another_quadrature() -> None:
    """P(|z₁| < c₁, z₂ > c₂) by scipy's adaptive quadrature, 1e-10."""
    plan = Plan(1.0)
    first, second = group_sequential([0.2, 0.4], plan)

    def density(s: float) -> float:
        return float(stats.norm.pdf(s) * stats.norm.sf((second.bound * math.sqrt(0.4) - s * math.sqrt(0.2)) / 0.2**0.5))

    inside, _ = integrate.quad(density, -first.bound, first.bound, epsabs=1e-14)
    assert 2 * inside == pytest.approx(second.spent - first.spent, rel=1e-8)


def test_size_against_the_multivariate_normal() -> None:
    """Three looks one-sided; scipy's integration of the joint normal is good to 1e-5."""
    fractions = np.array([0.3, 0.55, 1.0])
    bounds = limits(fractions, Plan(1, 0.025, "pocock", alternative="greater"))
    vcov = np.sqrt(np.minimum.outer(fractions, fractions) / np.maximum.outer(fractions, fractions))
    stay = stats.multivariate_normal(cov=vcov, seed=1).cdf(bounds)
    assert 1 - stay == pytest.approx(0.025, abs=2e-5)


@pytest.mark.parametrize("looks", [5, 14, 30])
@pytest.mark.parametrize("spending", SPENDINGS)
def test_size_at_many_looks(looks: int, spending: str) -> None:
    fractions = np.arange(1, looks + 1) / looks
    bounds = limits(fractions, Plan(1, 0.05, spending))  # type: ignore[arg-type]
    upper, lower = crossing(fractions, bounds, 0.0, "two-sided")
    assert upper.sum() + lower.sum() == pytest.approx(0.05, abs=1e-8)


def test_size_by_simulation_with_twenty_looks() -> None:
    """20,000 paths: the standard error of 5 % is 0.0015, four of them are 0.0062."""
    fractions = np.arange(1, 21) / 20
    bounds = np.array(limits(fractions, Plan(1)))
    steps = np.random.default_rng(5).normal(size=(20_000, 20)) / math.sqrt(20)
    z = np.cumsum(steps, axis=1) / np.sqrt(fractions)
    assert (np.abs(z) > bounds).any(axis=1).mean() == pytest.approx(0.05, abs=0.0062)
    assert (np.abs(z) > 1.96).any(axis=1).mean() > 0.2


def test_power_by_simulation() -> None:
    """Drift 3 with Pocock's bounds at four looks; 40,000 paths, four standard errors."""
    fractions, bounds = np.arange(1, 5) / 4, classical(4, "pocock")
    upper, lower = crossing(fractions, bounds, 3.0, "two-sided")
    steps = np.random.default_rng(6).normal(3 / 4, 0.5, (40_000, 4))
    z = np.cumsum(steps, axis=1) / np.sqrt(fractions)
    first = np.argmax(np.abs(z) > bounds, axis=1)
    stopped = (np.abs(z) > bounds).any(axis=1)
    counts = np.bincount(first[stopped], minlength=4) / 40_000
    np.testing.assert_allclose(upper + lower, counts, atol=4 * 0.5 / 200)
    assert lower.sum() < 1e-4


def test_many_narrow_looks() -> None:
    """Daily looks over a year, the first with 0.1 % of the units: increasing, finite, and of the right size."""
    fractions = np.linspace(0.001, 1, 60)
    looks = group_sequential(fractions, Plan(1, spending="power"))
    upper, lower = crossing(fractions, [look.bound for look in looks], 0.0, "two-sided")
    assert upper.sum() + lower.sum() == pytest.approx(0.05, abs=1e-7)


def test_a_bound_does_not_depend_on_later_looks() -> None:
    plan = Plan(1)
    assert limits([0.2, 0.5, 1.0], plan)[:2] == limits([0.2, 0.5], plan)


def test_one_look_is_the_fixed_test() -> None:
    for spending in SPENDINGS:
        assert limits([1.0], Plan(1, 0.05, spending)) == [pytest.approx(1.959963984540054, rel=1e-10)]  # type: ignore
        assert limits([1.0], Plan(1, 0.05, spending, alternative="less")) == [pytest.approx(1.6448536269514722)]  # type: ignore


def test_more_units_than_planned() -> None:
    """What is left is spent at the first look beyond the plan; then nothing is left to reject with."""
    looks = group_sequential([0.5, 1.4, 2.0], Plan(1))
    assert looks[1].spent == pytest.approx(0.05)
    assert looks[2].bound == math.inf
    assert looks[2].nominal == 0.0
    upper, lower = crossing([0.5, 1.4, 2.0], [look.bound for look in looks], 0.0, "two-sided")
    assert upper.sum() + lower.sum() == pytest.approx(0.05, abs=1e-9)


def test_spending_is_increasing_from_0_to_alpha() -> None:
    for spending in SPENDINGS:
        for alternative in ("two-sided", "greater"):
            plan = Plan(1, 0.05, spending, alternative=alternative)  # type: ignore[arg-type]
            values = [spend(t, plan) for t in np.linspace(0, 1.5, 31)]
            assert values[0] == 0
            assert values[-1] == pytest.approx(0.05, rel=1e-12)
            assert (np.diff(values) >= -1e-15).all()


@quick
@given(z=st.lists(st.floats(-5, 5), min_size=1, max_size=4), spending=spendings, alternative=sides)
def test_repeated_p_value_agrees_with_the_bounds(z, spending, alternative) -> None:  # type: ignore[no-untyped-def]
    fractions = np.arange(1, len(z) + 1) / 4
    plan = Plan(1, 0.05, spending, alternative=alternative)
    looks = group_sequential(fractions, plan)
    toward = {"two-sided": np.abs(z), "greater": np.array(z), "less": -np.array(z)}[alternative]
    crossed = any(value >= look.bound for value, look in zip(toward, looks, strict=True))
    p = repeated_p_value(z, fractions, plan)
    if abs(p - 0.05) > 1e-6:
        assert (p < 0.05) == crossed


def test_repeated_p_value_of_one_look_is_the_fixed_one() -> None:
    assert repeated_p_value([2.5], [1.0], Plan(1)) == pytest.approx(2 * stats.norm.sf(2.5), rel=1e-8)
    assert math.isnan(repeated_p_value([math.nan], [1.0], Plan(1)))
    assert repeated_p_value([0.0], [1.0], Plan(1)) == 1.0


def test_repeated_interval_excludes_0_iff_the_bound_is_crossed() -> None:
    plan = Plan(1)
    looks = group_sequential([0.4], plan)
    for z in (looks[0].bound * 0.999, looks[0].bound * 1.001):
        test = repeated(z * 0.3, 0.3, looks, plan)
        assert (test.low > 0) == (z > looks[0].bound)
        assert (test.p_value < looks[0].nominal) == (test.low > 0)
    one_sided = Plan(1, alternative="greater")
    assert repeated(1.0, 0.3, group_sequential([0.4], one_sided), one_sided).high == math.inf
    for error in (0.0, math.nan, math.inf):
        assert math.isnan(repeated(1.0, error, looks, plan).low)


@pytest.mark.parametrize("fractions", [[0.5, 0.4], [0.5, 0.5], [0.0], [-0.1], [math.nan], [0.2, 0.5, math.inf]])
def test_looks_out_of_order_are_refused(fractions: list[float]) -> None:
    with pytest.raises(ConfigError) as caught:
        group_sequential(fractions, Plan(1))
    assert caught.value.key == "look_out_of_order"
    assert caught.value.values["number"] == len(fractions)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"spending": "obf"}, "unknown_spending"),
        ({"alpha": 0.0}, "bad_number"),
        ({"alpha": 1.0}, "bad_number"),
        ({"units": 0.0}, "bad_number"),
        ({"units": math.inf}, "bad_number"),
        ({"rho": 0.0}, "bad_number"),
    ],
)
def test_bad_plans_are_refused(changes: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Plan(**{"units": 10.0, **changes})  # type: ignore[arg-type]
    assert caught.value.key == key


def test_a_plan_may_not_change_after_the_first_look() -> None:
    stored = Plan(1000)
    require_same_plan(None, stored, 0)
    require_same_plan(stored, Plan(1000), 3)
    with pytest.raises(ConfigError, match="no sequential plan is stored"):
        require_same_plan(None, stored, 1)
    with pytest.raises(ConfigError, match="alpha, spending") as caught:
        require_same_plan(stored, Plan(1000, 0.1, "pocock"), 1)
    assert "alpha=0.05" in str(caught.value)
