"""Empirical Bayes over many experiments: against the truth, against limits, and sums of effects."""

from __future__ import annotations

import math

import numpy as np
import pytest

from causal_spark.errors import StatisticError
from causal_spark.solve.intervals import wald
from causal_spark.solve.shrinkage import agreement, contributions, shrink, total_effect


def draw(seed: int, k: int = 60, tau: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    s = rng.uniform(0.3, 2.0, k)
    truth = rng.normal(0.2, tau, k)
    return truth, truth + s * rng.normal(size=k), s


def test_coverage_and_the_winners_curse() -> None:
    """200 portfolios of 60: intervals of all effects and of the five largest; raw winners overstate."""
    inside, winners, raw, shrunk = [], [], [], []
    for seed in range(200):
        truth, y, s = draw(seed)
        found = shrink(y, s)
        covered = (found.low <= truth) & (truth <= found.high)
        top = np.argsort(-found.mean)[:5]
        inside.append(covered.mean())
        winners.append(covered[top].mean())
        best = np.argsort(-y)[:5]
        raw.append((y - truth)[best].mean())
        shrunk.append((found.mean - truth)[best].mean())
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)
    assert np.mean(winners) == pytest.approx(0.95, abs=0.04)
    assert np.mean(raw) > 0.5
    assert abs(np.mean(shrunk)) < 0.15


def test_hyperparameters_are_recovered() -> None:
    found = [shrink(*draw(seed, 200)[1:]) for seed in range(50)]
    assert np.mean([f.tau for f in found]) == pytest.approx(1.0, abs=0.06)
    assert np.mean([f.centre for f in found]) == pytest.approx(0.2, abs=0.06)


def test_restricted_likelihood_of_equal_errors_is_the_method_of_moments() -> None:
    """With one s for all: τ² = s_y² - s² in closed form, or 0."""
    y = np.random.default_rng(1).normal(size=30) * 2
    assert shrink(y, np.full(30, 0.5)).tau ** 2 == pytest.approx(y.var(ddof=1) - 0.25, rel=1e-5)
    assert shrink(y, np.full(30, 0.5), centre=0.0).tau ** 2 == pytest.approx((y**2).mean() - 0.25, rel=1e-5)
    nothing = shrink(y, np.full(30, 5.0))
    assert nothing.tau == 0.0
    assert abs(nothing.mean - y.mean()).max() < 0.1 * abs(y - y.mean()).max()


def test_precise_effects_stay_and_units_are_free() -> None:
    _, y, s = draw(3)
    found = shrink(y, s * 1e-3)
    np.testing.assert_allclose(found.mean, y, atol=1e-4)
    np.testing.assert_allclose(found.std_dev, s * 1e-3, rtol=1e-3)
    a, b = shrink(y, s), shrink(y * 1e6, s * 1e6)
    np.testing.assert_allclose(b.mean, a.mean * 1e6, rtol=1e-6)


def test_contributions_are_in_order_and_add_up() -> None:
    _, y, s = draw(4, 20, 3.0)
    rows = contributions([f"e{i}" for i in range(20)], shrink(y, s))
    assert [row.effect for row in rows] == sorted((row.effect for row in rows), reverse=True)
    assert sum(row.share for row in rows) == pytest.approx(1.0)
    for row in rows:
        expected = "scale" if row.p_positive >= 0.975 else "stop" if row.p_positive <= 0.025 else "keep_testing"
        assert row.advice == expected
        if abs(row.p_positive - 0.975) > 1e-9 and abs(row.p_positive - 0.025) > 1e-9:
            assert (row.low > 0) == (row.advice == "scale")
    assert {row.advice for row in rows} == {"scale", "stop", "keep_testing"}


def test_contributions_are_weighted_and_turn_with_what_is_better() -> None:
    _, y, s = draw(4, 20, 3.0)
    names, weights = [f"e{i}" for i in range(20)], np.arange(20.0)
    rows = contributions(names, shrink(y, s), weights=weights)
    by = {row.name: row for row in rows}
    for i, name in enumerate(names):
        assert by[name].amount == pytest.approx(i * shrink(y, s).mean[i])
        assert by[name].share == pytest.approx(by[name].amount / sum(row.amount for row in rows))
    turned = contributions(names, shrink(-y, s), weights=weights, lower_is_better=True)
    assert [(row.name, row.advice) for row in turned] == [(row.name, row.advice) for row in rows]
    assert turned[0].effect == pytest.approx(-rows[0].effect)


def test_the_sum_of_all_knows_what_its_parts_have_in_common() -> None:
    """With one s for all the shrunk effects add up to the measured ones, and so does the error: s·√k, to the digit."""
    y = np.random.default_rng(1).normal(size=30) * 2
    found = shrink(y, np.full(30, 0.5))
    total = total_effect(found.mean, found.own, shared=found.shared)
    assert total.estimate == pytest.approx(y.sum(), rel=1e-12)
    assert total.std_error == pytest.approx(0.5 * 30**0.5, rel=1e-12)
    assert total_effect(found.mean, found.own).std_error < 0.99 * total.std_error
    np.testing.assert_allclose(found.std_dev**2, found.own**2 + (found.shared**2).sum(1), rtol=1e-12)
    zero = shrink(y, np.full(30, 0.5), centre=0.0)
    assert (zero.shared[:, 0] == 0).all()


def test_intervals_of_sums_cover() -> None:
    """400 portfolios of 25 effects with weights; each sum of all, and of what was largest as measured."""
    inside: list[list[bool]] = []
    for seed in range(400):
        truth, y, s = draw(1000 + seed, 25)
        found, weights = shrink(y, s), np.random.default_rng(seed).uniform(0.1, 3.0, 25)
        row = []
        for chosen in (np.ones(25), (y > s).astype(float)):
            w = weights * chosen
            total = total_effect(found.mean, found.own, weights=w, shared=found.shared)
            row.append(total.low <= w @ truth <= total.high)
        inside.append(row)
    # the Monte Carlo error of 400 is 0.011
    assert np.mean(inside, axis=0) == pytest.approx([0.95, 0.95], abs=0.035)


def test_sums_and_products_of_effects() -> None:
    total = total_effect([1.0, 2.0], [3.0, 4.0])
    assert (total.estimate, total.std_error) == (3.0, 5.0)
    growth = total_effect([0.1, 0.2], [0.01, 0.02], multiply=True)
    assert growth.estimate == pytest.approx(1.1 * 1.2 - 1, rel=1e-12)
    rng = np.random.default_rng(5)
    draws = (1 + rng.normal(0.1, 0.01, 200_000)) * (1 + rng.normal(0.2, 0.02, 200_000)) - 1
    assert growth.std_error == pytest.approx(draws.std(), rel=0.02)
    ends = tuple(np.quantile(draws, [0.025, 0.975]))
    assert (growth.low, growth.high) == pytest.approx(ends, abs=0.05 * draws.std())  # skewness of second order
    assert math.isnan(total_effect([-1.0], [0.1], multiply=True).estimate)


def test_a_holdout_against_its_parts() -> None:
    parts = total_effect([1.0, 2.0], [0.3, 0.4])
    test = agreement(wald(1.5, 1.2, 0.05), parts, 0.1)
    assert (test.estimate, test.std_error) == (-1.5, 1.3)
    assert test.p_value == pytest.approx(wald(1.5, 1.3, 0.1).p_value, rel=1e-12)
    assert test.high == pytest.approx(-1.5 + 1.6448536 * 1.3, rel=1e-7)
    assert math.isnan(agreement(wald(1.5, math.nan, 0.05), parts).p_value)


@pytest.mark.parametrize(
    ("y", "s"), [([1.0, 2.0], [1.0, 1.0]), ([1.0, 2.0, 3.0], [1.0, 0.0, 1.0]), ([1.0, 2.0, math.nan], [1.0] * 3)]
)
def test_too_few_effects(y: list[float], s: list[float]) -> None:
    with pytest.raises(StatisticError) as caught:
        shrink(y, s)
    assert caught.value.key == "few_effects"
