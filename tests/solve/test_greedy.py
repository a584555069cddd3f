"""Greedy matching on a line against one-by-one loops over all pairs, and the cuts that no pair may cross."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causal_spark.solve import greedy as module
from causal_spark.solve.greedy import Order, greedy, safe_gap, separators
from tests.solve.test_nearest import calipers, lines, quick, random_lines

Pairs = list[tuple[int, int]]
ORDERS: tuple[Order, ...] = ("closest", "largest")
orders = st.sampled_from(ORDERS)
ratios = st.integers(1, 3)


# greedy matching, one by one ------------------------------------------------------------------------------------------


def closest(x: np.ndarray, t: np.ndarray, taken: set[int], caliper: float) -> Pairs:
    """Of all free pairs the closest, the lower of two as close, the first of equal points; again and again."""
    free_t, free_c = ([i for i in range(len(x)) if t[i] == kind and i not in taken] for kind in (True, False))
    found = []
    while True:
        all_pairs = itertools.product(free_t, free_c)
        gaps = [(abs(x[i] - x[j]), min(x[i], x[j]), i, j) for i, j in all_pairs if abs(x[i] - x[j]) <= caliper]
        if not gaps:
            return found
        _, _, i, j = min(gaps)
        free_t.remove(i)
        free_c.remove(j)
        found.append((i, j))


def largest(x: np.ndarray, t: np.ndarray, taken: set[int], caliper: float) -> Pairs:
    """Treated from the largest down, of equal ones the first; nearest free control, lower of two, first of equals."""
    free = [j for j in range(len(x)) if not t[j] and j not in taken]
    found = []
    for i in sorted(np.flatnonzero(t).tolist(), key=lambda i: (-x[i], i)):
        near = [(abs(x[i] - x[j]), x[j], j) for j in free if abs(x[i] - x[j]) <= caliper]
        if near:
            free.remove(min(near)[2])
            found.append((i, min(near)[2]))
    return found


def one_by_one(x: np.ndarray, t: np.ndarray, ratio: int, caliper: float, order: Order) -> Pairs:
    found: Pairs = []
    for _ in range(ratio):
        found += (closest if order == "closest" else largest)(x, t, {j for _, j in found}, caliper)
    return sorted(found)


def pairs(x: np.ndarray, t: np.ndarray, ratio: int = 1, caliper: float = math.inf, order: Order = "closest") -> Pairs:
    return sorted(zip(*(side.tolist() for side in greedy(x, t, ratio, caliper, order)), strict=True))


@pytest.mark.parametrize("rounds", [1, 2, module.ROUNDS])
@pytest.mark.parametrize("parts", [1, module.SIDE_BY_SIDE])
@quick
@given(line=lines(), ratio=ratios, caliper=calipers, order=orders)
def test_greedy_is_one_by_one(rounds, parts, line, ratio, caliper, order) -> None:  # type: ignore[no-untyped-def]
    """With one round all else goes one by one; few parts go side by side only if that is said."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROUNDS", rounds)
        patch.setattr(module, "SIDE_BY_SIDE", parts)
        assert pairs(*line, ratio, caliper, order) == one_by_one(*line, ratio, caliper, order)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("parts", [1, module.SIDE_BY_SIDE])
def test_greedy_on_random_lines(order: Order, parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SIDE_BY_SIDE", parts)
    for i, (x, t) in enumerate(random_lines(240, 34)):
        ratio, caliper = 1 + i % 3, (math.inf, 0.3, 2.0)[i // 3 % 3]
        assert pairs(x, t, ratio, caliper, order) == one_by_one(x, t, ratio, caliper, order)


def test_parts_side_by_side_are_parts_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some thousand parts, short and long, with and without ties."""
    rng = np.random.default_rng(8)
    x = np.sort(rng.normal(size=20_000))
    treated = rng.random(len(x)) < 0.45 / (1 + np.exp(-x))
    for points, caliper in ((x, math.inf), (x, 1e-4), (np.round(x, 3), math.inf)):
        monkeypatch.setattr(module, "SIDE_BY_SIDE", len(x))
        one_by_one = pairs(points, treated, 1, caliper, "largest")
        monkeypatch.setattr(module, "SIDE_BY_SIDE", 1)
        assert pairs(points, treated, 1, caliper, "largest") == one_by_one
        assert len(one_by_one) > 1_000


def test_rounds_and_heap_agree_on_long_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A staircase whose gaps grow takes one pair in each round; the treated in one clump reach far."""
    steps = np.cumsum(np.arange(1.0, 400))
    rng = np.random.default_rng(3)
    x = np.sort(rng.normal(size=3000))
    for points, treated in (
        (steps, np.arange(len(steps)) % 2 == 0),
        (x, np.abs(x) < 0.3),
        (np.round(x, 1), rng.random(3000) < 0.4),
    ):
        monkeypatch.setattr(module, "ROUNDS", 48)
        by_rounds = pairs(points, treated)
        monkeypatch.setattr(module, "ROUNDS", 1)
        assert pairs(points, treated) == by_rounds
        assert len(by_rounds) == min(treated.sum(), (~treated).sum())


@quick
@given(line=lines(), ratio=ratios, caliper=calipers, order=orders)
def test_no_one_is_used_twice_and_nothing_is_left(line, ratio, caliper, order) -> None:  # type: ignore[no-untyped-def]
    """Controls at most once, treated at most ``ratio`` times; no free pair within the caliper remains."""
    x, t = line
    found = pairs(x, t, ratio, caliper, order)
    focal, match = [i for i, _ in found], [j for _, j in found]
    assert len(set(match)) == len(match)
    assert all(focal.count(i) <= ratio and t[i] for i in focal)
    assert all(not t[j] and abs(x[i] - x[j]) <= caliper for i, j in found)
    hungry = [i for i in np.flatnonzero(t) if focal.count(i) < ratio]
    free = [j for j in np.flatnonzero(~t) if j not in match]
    assert not any(abs(x[i] - x[j]) <= caliper for i, j in itertools.product(hungry, free))


@pytest.mark.parametrize("treated", [[], [True], [False], [True, True], [False, False]])
@pytest.mark.parametrize("order", ORDERS)
def test_no_pair_without_both_arms(treated: list[bool], order: Order) -> None:
    assert pairs(np.zeros(len(treated)), np.array(treated, bool), 2, math.inf, order) == []


# separators -----------------------------------------------------------------------------------------------------------


@quick
@given(line=lines(40), ratio=ratios, caliper=calipers, order=orders)
def test_separators_are_free_and_span_nothing(line, ratio, caliper, order) -> None:  # type: ignore[no-untyped-def]
    """The places that are taken, without them; equal points are one place, of which the first are named."""
    x, t = line
    divides = separators(t, ratio)
    assert not (divides & t).any()
    found = one_by_one(x, t, ratio, caliper, order)
    for place in np.flatnonzero(divides):
        assert not any(min(x[i], x[j]) < x[place] < max(x[i], x[j]) for i, j in found)
    keep = np.flatnonzero(~divides)
    without = one_by_one(x[keep], t[keep], ratio, caliper, order)
    assert sorted((x[i], x[j]) for i, j in found) == sorted((x[keep[i]], x[keep[j]]) for i, j in without)


def test_separators_when_controls_are_plenty() -> None:
    """One treated in five: most controls cannot be reached by any matching, and every one of them is found."""
    treated = np.zeros(40, bool)
    treated[::5] = True
    assert separators(treated).sum() == 32 - 2 * 8 + 1  # all but the neighbours of the treated; the first has one
    assert separators(treated, 3).sum() == 1  # three reach from either side of four: only the end is left


def test_without_treated_points_every_control_divides() -> None:
    none = np.zeros(4, bool)
    assert separators(none).tolist() == [True] * 4


# safe gaps ------------------------------------------------------------------------------------------------------------


def counted(x: np.ndarray, t: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Controls and treated (v, 2) at each of the ``values``."""
    return np.array([[(~t[x == v]).sum(), t[x == v].sum()] for v in values], float).reshape(-1, 2)


def cells(x: np.ndarray, t: np.ndarray, width: float) -> np.ndarray:
    """Controls and treated of the cells that hold rows, in order."""
    cell = np.floor(x / width)
    return counted(cell, t, np.unique(cell))


def found_gap(x: np.ndarray, t: np.ndarray, ratio: int, first: float, last: float, width: float) -> float | None:
    """The gap in the window of the cells [first, last) of this ``width``, all else coarse."""
    cell = np.floor(x / width)
    before, inside, beyond = cell < first, (cell >= first) & (cell < last), cell >= last
    points = np.unique(x[inside])
    rows = counted(x[inside], t[inside], points)
    return safe_gap(points, rows, ratio, cells(x[before], t[before], width), cells(x[beyond], t[beyond], width))


def assert_cut_is_exact(x: np.ndarray, t: np.ndarray, ratio: int, value: float) -> None:
    """Both sides matched alone give the pairs of the whole, for both orders and any caliper."""
    place = int(np.searchsorted(x, value, "left"))
    for order, caliper in itertools.product(ORDERS, (math.inf, 1.0)):
        left = pairs(x[:place], t[:place], ratio, caliper, order)
        right = [(i + place, j + place) for i, j in pairs(x[place:], t[place:], ratio, caliper, order)]
        assert left + right == pairs(x, t, ratio, caliper, order)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(line=lines(60), ratio=ratios, width=st.sampled_from([0.5, 2.0, 5.0]), ends=st.tuples(*[st.floats(0, 1)] * 2))
def test_cut_at_a_safe_gap(line, ratio, width, ends) -> None:  # type: ignore[no-untyped-def]
    x, t = line
    if len(x):
        low, high = (math.floor((x[0] + np.ptp(x) * end) / width) for end in sorted(ends))
        value = found_gap(x, t, ratio, low, high + 1, width)
        if value is not None:
            assert value in x
            assert_cut_is_exact(x, t, ratio, value)


def test_cuts_of_random_lines() -> None:
    """Windows in lines of all kinds; gaps are found often enough for the test to mean something."""
    asked = cut = 0
    for i, (x, t) in enumerate(random_lines(500, 90)):
        if len(x) < 4:
            continue
        width = (0.1, 0.7, 3.0)[i % 3]
        middle = math.floor(np.median(x) / width)
        value = found_gap(x, t, 1 + i % 3, middle - 3, middle + 4, width)
        asked += 1
        if value is not None:
            cut += 1
            assert_cut_is_exact(x, t, 1 + i % 3, value)
    assert cut > asked / 6


def test_gap_is_the_one_nearest_the_middle() -> None:
    """Controls alone: every gap is safe, the one before the middle point is taken."""
    points, rows, none = np.arange(10.0), np.tile([1.0, 0.0], (10, 1)), np.zeros((0, 2))
    assert safe_gap(points, rows, 1, none, none) == 5.0
    assert safe_gap(points, rows, 2, none, none) == 5.0


def test_no_gap() -> None:
    none = np.zeros((0, 2))
    treated = np.tile([0.0, 1.0], (10, 1))
    assert safe_gap(np.arange(10.0), treated, 1, none, none) is None
    assert safe_gap(np.zeros(0), np.zeros((0, 2)), 1, none, none) is None
    assert safe_gap(np.zeros(1), np.ones((1, 2)), 1, none, none) is None  # the gap before the first point is no cut


def test_places_wanted_outside_count() -> None:
    """Three treated before the window use up three of its controls; in a coarse cell controls do not help them."""
    points, rows, none = np.arange(6.0), np.tile([1.0, 0.0], (6, 1)), np.zeros((0, 2))
    assert safe_gap(points, rows, 1, np.array([[0.0, 3.0]]), none) == 3.0
    assert safe_gap(points, rows, 1, np.array([[9.0, 5.0]]), none) == 5.0
    assert safe_gap(points, rows, 1, np.array([[0.0, 5.0], [2.0, 0.0], [1.0, 0.0]]), none) == 3.0
    assert safe_gap(points, rows, 1, none, np.array([[0.0, 4.0]])) == 2.0
    assert safe_gap(points, rows, 1, none, np.array([[0.0, 4.0], [2.0, 0.0]])) == 2.0
    assert safe_gap(points, rows, 1, none, np.array([[2.0, 0.0], [0.0, 4.0]])) == 3.0
    assert safe_gap(points, rows, 2, none, np.array([[0.0, 3.0]])) is None
