"""Rules by position and age: published shares, and that every journey's shares sum to one."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causal_spark.solve import positions

sizes = st.lists(st.integers(1, 9), min_size=1, max_size=8)


def starts(lengths: list[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)])


def test_published_shares() -> None:
    one = starts([5])
    assert positions.by_position(one, "u_shape") * 12_000 == pytest.approx([4800, 800, 800, 800, 4800])
    age = 38 - np.array([0, 5, 12, 30, 38], float)
    expected = [175.19517568438746, 287.43759363174536, 574.8751872634907, 3417.0449809603247, 7545.447062460051]
    assert positions.decay(one, age, 7.0) * 12_000 == pytest.approx(expected, rel=1e-14)
    four = positions.decay(starts([4]), np.array([28.0, 21, 14, 7]), 7.0)
    assert four == pytest.approx([1 / 15, 2 / 15, 4 / 15, 8 / 15], rel=1e-14)


def test_decay_in_steps() -> None:
    """Half for each seven hours: 14 h and 12 h lie one step back, 0 h none (README of marketing_attribution_models)."""
    ages = np.array([14.0, 12, 0])
    assert positions.decay(starts([3]), ages, 7.0, step=7.0) == pytest.approx([0.25, 0.25, 0.5], rel=1e-14)
    # steps that are small beside the ages are no steps
    fine = positions.decay(starts([3]), ages, 7.0, step=1e-9)
    assert fine == pytest.approx(positions.decay(starts([3]), ages, 7.0), rel=1e-8)


@pytest.mark.parametrize(
    ("rule", "size", "expected"),
    [
        (partial(positions.by_position, rule="w_shape"), 1, [1]),
        (partial(positions.by_position, rule="w_shape"), 2, [0.5, 0.5]),
        (partial(positions.by_position, rule="w_shape"), 3, [1 / 3, 1 / 3, 1 / 3]),
        (partial(positions.by_position, rule="w_shape"), 5, [0.3, 0.05, 0.3, 0.05, 0.3]),
        (partial(positions.by_position, rule="u_shape"), 2, [0.5, 0.5]),
        (partial(positions.by_position, rule="j_shape"), 4, [0.2, 0.1, 0.1, 0.6]),
        (partial(positions.by_position, rule="inverse_j"), 2, [0.75, 0.25]),
        (lambda s: positions.custom(s, [1, 2, 1]), 3, [0.25, 0.5, 0.25]),
        (lambda s: positions.custom(s, [3, 1]), 3, [0.5, 1 / 3, 1 / 6]),
        (lambda s: positions.last_but(s, np.array([False, True])), 2, [1, 0]),
        (lambda s: positions.last_but(s, np.array([True, True])), 2, [0, 1]),
    ],
)
def test_by_hand(rule, size: int, expected: list[float]) -> None:
    assert rule(starts([size])) == pytest.approx(expected, rel=1e-14)


@settings(max_examples=60, deadline=None)
@given(sizes, st.integers(0, 99))
def test_shares_of_every_journey_sum_to_one(lengths: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    at, touches = starts(lengths), sum(lengths)
    channels, ages = rng.integers(0, 4, touches), rng.uniform(0, 1e4, touches)
    rules = [
        *(positions.by_position(at, rule) for rule in positions.BY_POSITION),
        positions.last_but(at, channels == 0), positions.custom(at, [1, 0, 5, 2]), positions.decay(at, ages, 3.0),
        positions.equal_channels(at, channels),
    ]  # fmt: skip
    for weights in rules:
        assert np.add.reduceat(weights, at[:-1]) == pytest.approx(np.ones(len(lengths)), abs=1e-12)
        amounts = rng.integers(-5, 1 << 40, len(lengths))
        parts = positions.whole_parts(weights, at, amounts)
        assert (np.add.reduceat(parts, at[:-1]) == amounts).all()
        # every touch is off by half a unit, the last one by half a unit for each touch
        journey = positions.places(at)[0]
        assert np.abs(parts - weights * amounts[journey]).max() <= 5 + 1e-3
    for i, size in enumerate(lengths):
        # a journey's shares are its own affair, to the bit
        mine = slice(at[i], at[i + 1])
        alone = positions.decay(starts([size]), ages[mine], 3.0)
        assert (alone == positions.decay(at, ages, 3.0)[mine]).all()


def test_transforms_of_a_path() -> None:
    path = np.array([3, 0, 1, 1, 2, 3, 2, 2])  # D A B B C D C C
    at = starts([8])
    assert path[positions.collapsed(at, path)].tolist() == [3, 0, 1, 2, 3, 2]
    new, rank, size = positions.distinct(at, path)
    assert path[new].tolist() == [3, 0, 1, 2]
    assert rank.tolist() == [1, 2, 3, 4]
    assert set(size) == {4}
    assert positions.times(at, path)[new].tolist() == [2, 1, 2, 3]


def test_collapse_stops_at_the_border_of_a_journey() -> None:
    assert positions.collapsed(starts([2, 2]), np.array([1, 1, 1, 2])).tolist() == [True, False, True, True]


def test_participation_counts_each_channel_once() -> None:
    assert positions.participation(starts([3]), np.array([1, 2, 1])).tolist() == [1, 1, 0]


def test_no_journeys() -> None:
    nothing, none = np.array([0]), np.zeros(0, np.int64)
    assert len(positions.by_position(nothing, "linear")) == len(positions.distinct(nothing, none)[0]) == 0
    assert len(positions.whole_parts(none, nothing, none)) == len(positions.last_but(nothing, none)) == 0
