"""Triggered analysis: diluted effects against the truth, and checks of the trigger."""

from __future__ import annotations

import math

import numpy as np
import pytest

from causal_spark.errors import StatisticError
from causal_spark.solve.triggered import triggered
from causal_spark.statistics import Moments


def arm(rng: np.random.Generator, n: int, rate: float, effect: float) -> dict[bool, Moments]:
    hit = rng.random(n) < rate
    y = rng.normal(4, 1, n) + hit * (1 + effect)
    return {flag: Moments.from_rows(["y"], y[hit == flag]) for flag in (True, False)}


def test_coverage_of_difference_and_lift() -> None:
    """600 experiments with 20 % triggered and effect 0.5; four standard errors of 0.9 %; mean se within 10 %."""
    rng = np.random.default_rng(1)
    truth, base = 0.2 * 0.5, 4 + 0.2
    inside, lifts, estimates, errors = 0, 0, [], []
    for _ in range(600):
        found = triggered(arm(rng, 500, 0.2, 0.5), arm(rng, 500, 0.2, 0.0), "y")
        inside += found.diluted.low <= truth <= found.diluted.high
        lifts += found.diluted_lift.low <= truth / base <= found.diluted_lift.high
        estimates.append((found.diluted.estimate, found.diluted_lift.estimate))
        errors.append((found.diluted.std_error, found.diluted_lift.std_error))
        assert found.naive.std_error > found.diluted.std_error
    assert 0.914 < inside / 600 < 0.986
    assert 0.914 < lifts / 600 < 0.986
    assert np.mean(errors, axis=0) / np.std(estimates, axis=0) == pytest.approx([1, 1], abs=0.12)


def test_everyone_triggered_is_the_plain_comparison() -> None:
    rng = np.random.default_rng(2)
    arms = [arm(rng, 300, 1.0, effect) for effect in (0.3, 0.0)]
    found = triggered(*arms, "y")
    assert found.rate == 1.0
    assert found.diluted.estimate == pytest.approx(found.naive.estimate, rel=1e-12)
    assert found.diluted.std_error == pytest.approx(found.naive.std_error, rel=1e-12)
    t, c = (part[True] for part in arms)
    assert found.diluted_lift.estimate == pytest.approx(t.mean[0] / c.mean[0] - 1, rel=1e-12)
    v_t, v_c = (part.covariance[0, 0] / part.n for part in (t, c))
    delta = math.sqrt(v_t / c.mean[0] ** 2 + (t.mean[0] / c.mean[0] ** 2) ** 2 * v_c)
    assert found.diluted_lift.std_error == pytest.approx(delta, rel=1e-12)
    assert math.isnan(found.complement.p_value)


def test_a_trigger_that_the_treatment_moves_is_seen() -> None:
    rng = np.random.default_rng(3)
    found = triggered(arm(rng, 4000, 0.3, 0.0), arm(rng, 4000, 0.2, 0.0), "y")
    assert found.rates.p_value < 1e-6
    assert found.shares.p_value < 1e-6
    clean = triggered(arm(rng, 4000, 0.2, 0.5), arm(rng, 4000, 0.2, 0.0), "y")
    assert min(clean.rates.p_value, clean.shares.p_value, clean.complement.p_value) > 1e-3


def test_nobody_triggered() -> None:
    rng = np.random.default_rng(4)
    with pytest.raises(StatisticError, match="triggered"):
        triggered(arm(rng, 100, 0.0, 0.0), arm(rng, 100, 0.5, 0.0), "y")
