"""Additive hazards: closed forms, the conditions of a maximum, an independent optimiser, known rates found again."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

from causal_spark.solve import hazards


def masks(n: int) -> np.ndarray:
    return np.array([[bool(mask >> i & 1) for i in range(n)] for mask in range(1, 1 << n)])


def drawn(seed: int, rates: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sets, conversions and time at risk of a process with these rates."""
    rng = np.random.default_rng(seed)
    inside = masks(len(rates))
    time = rng.uniform(20, 400, len(inside))
    return inside, rng.poisson(inside @ rates * time), time


def test_channels_that_never_meet_have_the_rate_of_their_own_time() -> None:
    found = hazards.additive([[True, False], [False, True]], [6, 10], [3.0, 40.0])
    assert found == pytest.approx([2.0, 0.25], rel=1e-12)


def test_a_channel_that_adds_nothing_has_no_rate() -> None:
    """Together they convert no faster than the first one alone."""
    found = hazards.additive([[True, False], [True, True]], [20, 10], [10.0, 10.0])
    # at the maximum the second rate is 0 and the first 30 / 20
    assert found == pytest.approx([1.5, 0.0], abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_is_the_maximum(seed: int) -> None:
    """The gradient is 0 where a rate is positive and not above 0 where it is 0 (Kuhn & Tucker 1951)."""
    inside, won, time = drawn(seed, np.array([0.02, 0.0, 0.05, 0.01]))
    found = hazards.additive(inside, won, time)
    hazard = inside @ found
    slope = (won / hazard) @ inside / (time @ inside) - 1
    positive = found > 1e-4
    # steps end when 1e-10 of the conversions move: of a rate of 1e-4, one part in a million
    assert np.abs(slope[positive]).max() < 1e-5
    assert (slope[~positive] < 1e-3).all()


def test_is_what_an_optimiser_finds() -> None:
    inside, won, time = drawn(8, np.array([0.02, 0.04, 0.01]))

    def loss(rates: np.ndarray) -> float:
        hazard = inside @ rates
        return float((time * hazard - won * np.log(hazard)).sum())

    theirs = optimize.minimize(loss, np.full(3, 0.03), bounds=[(1e-9, None)] * 3, method="L-BFGS-B",
                               options={"ftol": 1e-15, "gtol": 1e-9})  # fmt: skip
    mine = hazards.additive(inside, won, time)
    assert loss(mine) <= theirs.fun + 1e-9
    assert mine == pytest.approx(theirs.x, rel=1e-4)


def test_known_rates_are_found_again() -> None:
    rates = np.array([0.2, 0.05, 0.1, 0.15])
    found = np.stack([hazards.additive(*drawn(seed, rates)) for seed in range(40)])
    error = found.std(axis=0, ddof=1) / np.sqrt(40)
    assert (np.abs(found.mean(axis=0) - rates) < 4 * error).all()


def test_several_data_sets_at_once_are_each_alone() -> None:
    inside, won, time = drawn(1, np.array([0.02, 0.04, 0.01]))
    other = np.random.default_rng(2).poisson(won)
    both = hazards.additive(inside, np.stack([won, other]), np.stack([time, time]))
    for row, each in zip(both, (won, other), strict=True):
        assert row == pytest.approx(hazards.additive(inside, each, time), rel=1e-9)


def test_no_conversions_have_no_rates() -> None:
    assert hazards.additive(masks(2), [0, 0, 0], [1.0, 1, 1]) == pytest.approx([0, 0])


def test_shares() -> None:
    found = hazards.shares(masks(2), np.array([0.3, 0.1]))
    assert found == pytest.approx(np.array([[1, 0], [0, 1], [0.75, 0.25]]))
    assert hazards.shares(masks(2), np.zeros(2))[2] == pytest.approx([0.5, 0.5])
