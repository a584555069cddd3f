"""Sizes of several arms, days until enough units have come, and growth of a running experiment."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causal_spark.errors import ConfigError, StatisticError
from causal_spark.solve.planning import arm_sizes, arrivals, duration, growth_needed
from causal_spark.solve.power import Split, power, sample_size

WEEK = [100.0, 110, 120, 130, 140, 60, 40]


def needed(split: Split, alpha: float) -> float:
    return sample_size(0.1, 1.0, 1.2, split, alpha)


def test_every_contrast_has_the_power_asked_for() -> None:
    shares = {"control": 0.4, "a": 0.4, "b": 0.2}
    plan = arm_sizes(needed, shares, "control")
    assert plan.alpha == 0.025
    assert plan.units == sum(plan.arms.values())
    for arm in ("a", "b"):
        split = Split(shares[arm], shares["control"])
        assert power(0.1, plan.units, 1.0, 1.2, split, plan.alpha) >= 0.8
    assert power(0.1, plan.units - 10, 1.0, 1.2, Split(0.2, 0.4), plan.alpha) < 0.8


def test_two_arms_need_no_correction() -> None:
    plan = arm_sizes(needed, {"control": 0.5, "a": 0.5}, "control")
    assert plan.alpha == 0.05
    assert plan.arms["a"] == math.ceil(needed(Split(), 0.05) / 2)


def test_arms_that_cannot_be_compared() -> None:
    with pytest.raises(ConfigError):
        arm_sizes(needed, {"control": 1.0}, "control")
    with pytest.raises(ConfigError):
        arm_sizes(needed, {"a": 0.5, "b": 0.5}, "control")
    with pytest.raises(StatisticError, match="is 0"):
        arm_sizes(lambda split, alpha: math.inf, {"control": 0.5, "a": 0.5}, "control")


@settings(max_examples=50, deadline=None, derandomize=True)
@given(units=st.floats(1, 5000), first=st.integers(0, 6))
def test_duration_is_the_first_day_with_enough(units: float, first: int) -> None:
    found = duration(units, WEEK, first)
    total = arrivals(WEEK, first, found.days)
    assert total[-1] >= units * (1 - 1e-12)
    assert len(total) == 1 or total[-2] < units
    assert found.weeks == -(-found.days // 7)
    assert found.units == pytest.approx(700 * found.weeks)


def test_the_first_weekday_counts() -> None:
    """From Saturday on the first two days bring 100 units, from Monday on 210."""
    assert arrivals(WEEK, 5, 2).tolist() == [60, 100]
    assert duration(200, WEEK, 0).days == 2
    assert duration(200, WEEK, 5).days == 3


def test_too_few_units_come() -> None:
    with pytest.raises(StatisticError, match="only 1,400"):
        duration(5000, WEEK, longest=14)
    for bad in ([1.0] * 6, [1.0] * 6 + [-1.0], [math.nan] * 7):
        with pytest.raises(ConfigError):
            duration(10, bad)


def test_growth_is_the_inverse_of_power() -> None:
    growth = growth_needed(lambda scale: power(0.05, 1000 * scale, 1.0))
    assert power(0.05, 1000 * (1 + growth), 1.0) == pytest.approx(0.8, rel=1e-9)
    assert growth_needed(lambda scale: power(0.5, 1000 * scale, 1.0)) == 0.0
    assert growth_needed(lambda scale: power(0.0, 1000 * scale, 1.0)) == np.inf
