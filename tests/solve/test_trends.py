"""Novelty on the day curve."""

from __future__ import annotations

import math

import numpy as np
import pytest

from causal_spark.errors import StatisticError
from causal_spark.solve.trends import novelty
from causal_spark.statistics import Moments

DAYS = tuple(f"d{i}" for i in range(7))


def arm(rng: np.random.Generator, n: int, curve: np.ndarray) -> Moments:
    """Units whose days are strongly alike (correlation 0.8)."""
    return Moments.from_rows(DAYS, 2 * rng.normal(size=(n, 1)) + rng.normal(size=(n, 7)) + curve)


def test_size_with_correlated_days() -> None:
    """500 constant effects: each of the three tests rejects 5 % ± four standard errors of 1 %."""
    rng = np.random.default_rng(1)
    found = [novelty(arm(rng, 200, np.full(7, 0.4)), arm(rng, 200, np.zeros(7)), DAYS) for _ in range(500)]
    for p in ([f.slope.p_value for f in found], [f.late_early.p_value for f in found], [f.constant[2] for f in found]):
        assert 0.011 < np.mean(np.array(p) < 0.05) < 0.09


def test_a_fading_effect_is_found() -> None:
    rng = np.random.default_rng(2)
    curve = 1.5 * np.exp(-np.arange(7) / 2)
    found = novelty(arm(rng, 2000, curve), arm(rng, 2000, np.zeros(7)), DAYS)
    assert found.slope.high < 0
    assert found.late_early.estimate == pytest.approx(curve[4:].mean() - curve[:3].mean(), abs=0.15)
    assert found.constant[2] < 1e-10
    assert found.constant[1] == 6
    assert [test.estimate for test in found.days] == pytest.approx(curve.tolist(), abs=0.3)


def test_slope_is_that_of_a_line_through_the_days() -> None:
    rng = np.random.default_rng(3)
    found = novelty(arm(rng, 50, np.zeros(7)), arm(rng, 60, np.zeros(7)), DAYS)
    assert found.slope.estimate == pytest.approx(np.polyfit(range(7), [t.estimate for t in found.days], 1)[0], rel=1e-9)


def test_the_joint_test_does_not_depend_on_the_order_of_days() -> None:
    rng = np.random.default_rng(4)
    arms = arm(rng, 90, np.zeros(7)), arm(rng, 60, np.zeros(7))
    assert novelty(*arms, DAYS).constant == pytest.approx(novelty(*arms, DAYS[::-1]).constant, rel=1e-9)


def test_even_and_few_days() -> None:
    rng = np.random.default_rng(5)
    arms = arm(rng, 90, np.zeros(7)), arm(rng, 60, np.zeros(7))
    two = novelty(*arms, DAYS[:2])
    assert two.slope.estimate == pytest.approx(two.late_early.estimate, rel=1e-12)
    assert two.slope.p_value == pytest.approx(two.constant[2], rel=0.1)
    with pytest.raises(StatisticError, match="two days"):
        novelty(*arms, DAYS[:1])
    constant = Moments.constant(DAYS, 10, 1.0)
    assert math.isnan(novelty(constant, constant, DAYS).constant[2])
    assert math.isnan(novelty(Moments.constant(DAYS, 1, 1.0), arms[0], DAYS).constant[2])
