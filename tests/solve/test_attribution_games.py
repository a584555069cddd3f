"""Shapley values: textbook games, the axioms, closed forms against all coalitions, sampling against the exact value."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from causal_spark.errors import StatisticError
from causal_spark.solve import games

worths = st.integers(1, 6).flatmap(lambda n: arrays(float, 1 << n, elements=st.floats(-100, 100)))


def by_permutations(worth: np.ndarray) -> np.ndarray:
    """The definition: the mean marginal contribution over all orders."""
    n = len(worth).bit_length() - 1
    total = np.zeros(n)
    for order in permutations(range(n)):
        coalition = 0
        for player in order:
            total[player] += worth[coalition | 1 << player] - worth[coalition]
            coalition |= 1 << player
    return total / math.factorial(n)


def game(n: int, **named: float) -> np.ndarray:
    """Worths by the letters of the players a, b, c …"""
    worth = np.zeros(1 << n)
    for letters, value in named.items():
        worth[sum(1 << "abc".index(x) for x in letters)] = value
    return worth


@pytest.mark.parametrize(
    ("worth", "expected"),
    [
        (game(3, a=7, b=6, c=4, ab=15, ac=7, bc=9, abc=19), [23 / 3, 49 / 6, 19 / 6]),
        (game(3, ac=1, bc=1, abc=1), [1 / 6, 1 / 6, 2 / 3]),
    ],
)
def test_published_games(worth: np.ndarray, expected: list[float]) -> None:
    assert games.shapley(worth) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ({"a": 0.18, "b": 0.04, "c": 0.08, "ab": 0.10, "ac": 0.26, "bc": 0.07, "abc": 0.27}, [0.45, 0.215, 0.335]),
        ({"a": 0.2, "b": 0.1, "c": 0.17, "ab": 0.17, "ac": 0.3, "bc": 0, "abc": 0.06}, [0.455, 0.205, 0.34]),
    ],
)
def test_subset_sums_of_published_ratios(ratios: dict[str, float], expected: list[float]) -> None:
    masks = [sum(1 << "abc".index(x) for x in letters) for letters in ratios]
    worth = games.subset_sums(masks, list(ratios.values()), 3)
    assert games.shapley(worth) == pytest.approx(expected, rel=1e-13)


@settings(max_examples=60, deadline=None)
@given(worths)
def test_is_the_mean_over_orders_and_efficient(worth: np.ndarray) -> None:
    found = games.shapley(worth)
    # 720 sums of doubles of size up to 200
    assert found == pytest.approx(by_permutations(worth), abs=1e-10)
    assert found.sum() == pytest.approx(worth[-1] - worth[0], abs=1e-10)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 7), st.data())
def test_equal_split_is_the_shapley_value_of_two_games(n: int, data: st.DataObject) -> None:
    masks = data.draw(st.lists(st.integers(1, (1 << n) - 1), min_size=1, max_size=12))
    amounts = np.array(data.draw(st.lists(st.integers(0, 99), min_size=len(masks), max_size=len(masks))), float)
    found = games.equal_split(games.members(masks, n), amounts)
    inside = games.subset_sums(masks, amounts, n)
    touched = amounts.sum() - inside[::-1]  # any touch in S: all but the journeys inside the complement
    assert found == pytest.approx(games.shapley(inside), abs=1e-10)
    assert found == pytest.approx(games.shapley(touched), abs=1e-10)


def test_rate_game_by_hand() -> None:
    # v(a) = 1/10, v(b) = 4/10, v(ab) = (1 + 4 + 5)/30
    found = games.rate_game([1, 2, 3], [1, 4, 5], [10, 10, 10], 2)
    whole = 10 / 30
    assert found == pytest.approx([(0.1 + whole - 0.4) / 2, (0.4 + whole - 0.1) / 2], rel=1e-14)


@pytest.mark.parametrize("n", [6, 12])
def test_sampled_within_four_standard_errors(n: int) -> None:
    rng = np.random.default_rng(n)
    masks = rng.integers(1, 1 << n, 200)
    seen = rng.integers(5, 500, 200)
    won = rng.binomial(seen, 0.02 + 0.2 * games.members(masks, n)[:, 0])
    exact = games.rate_game(masks, won, seen, n)
    found = games.rate_game_sampled(masks, won, seen, n, pairs=400, seed=3)
    assert (np.abs(found.value - exact) < 4 * found.std_error).all()
    assert found.value.sum() == pytest.approx(won.sum() / seen.sum(), rel=1e-12)


def test_a_permutation_and_its_reverse_are_exact_for_two_players() -> None:
    found = games.rate_game_sampled([1, 2, 3], [1, 4, 5], [10, 10, 10], 2, pairs=5)
    assert found.value == pytest.approx(games.rate_game([1, 2, 3], [1, 4, 5], [10, 10, 10], 2), rel=1e-14)
    assert found.std_error == pytest.approx([0, 0], abs=1e-15)


def test_several_data_sets_on_the_same_permutations_are_each_alone() -> None:
    rng = np.random.default_rng(4)
    masks, seen = rng.integers(1, 1 << 8, 60), rng.integers(5, 90, (60, 3))
    won = rng.binomial(seen, 0.2)
    both = games.rate_game_sampled(masks, won, seen, 8, pairs=30, seed=2)
    for r in range(3):
        alone = games.rate_game_sampled(masks, won[:, r], seen[:, r], 8, pairs=30, seed=2)
        assert both.value[:, r] == pytest.approx(alone.value, abs=1e-14)
        assert both.std_error[:, r] == pytest.approx(alone.std_error, abs=1e-14)


def test_sampling_takes_more_players_than_bits() -> None:
    masks = [1 << 70, 1 << 3, 1 << 70 | 1 << 3]
    found = games.rate_game_sampled(masks, [1, 2, 3], [10, 10, 10], 80, pairs=20)
    assert found.value.sum() == pytest.approx(6 / 30, rel=1e-12)
    assert (found.value[[i for i in range(80) if i not in (3, 70)]] == 0).all()


def test_too_many_players_and_broken_tables_are_refused() -> None:
    with pytest.raises(StatisticError):
        games.subset_sums([1], [1.0], 25)
    with pytest.raises(ValueError):
        games.shapley(np.zeros(6))


def test_no_players() -> None:
    assert games.shapley(np.zeros(1)).shape == (0,)
