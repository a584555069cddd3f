"""Nearest neighbours on a line against one-by-one loops over all pairs."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causal_spark.solve import nearest as nearest_module
from causal_spark.solve.nearest import SHORT, Ranges, nearest, range_spread, range_sums, uses

quick = settings(max_examples=100, deadline=None, derandomize=True)
calipers = st.sampled_from([math.inf, 0.0, 1.0, 2.5, 7.0])


@st.composite
def lines(draw, most: int = 24) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[no-untyped-def]
    """Sorted points and who is treated. Multiples of 1/2 on a short or a long line: many ties, or few, all exact."""
    n, span = draw(st.integers(0, most)), draw(st.sampled_from([3, 12, 100, 10_000]))
    points = draw(st.lists(st.integers(-span, span), min_size=n, max_size=n))
    treated = draw(st.lists(st.integers(0, 9), min_size=n, max_size=n))
    share = draw(st.integers(1, 9))
    return np.sort(np.array(points, float) / 2), np.array(treated, int) < share


def random_lines(number: int, most: int = 60) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Lines with and without ties, of every share of treated, some with the treated in clumps."""
    rng = np.random.default_rng(51)
    for i in range(number):
        n = int(rng.integers(0, most))
        x = np.sort(rng.normal(size=n) if i % 3 else rng.integers(0, int(rng.integers(1, 60)), n).astype(float))
        share = rng.choice([0.1, 0.3, 0.5, 0.7])
        chance = share if i % 2 else np.where(np.sin(3 * x) > 0, min(1.6 * share, 1.0), 0.2 * share)
        yield x, rng.random(n) < chance


# with replacement -----------------------------------------------------------------------------------------------------


def matches(focal: float, candidates: np.ndarray, ratio: int, caliper: float, tolerance: float) -> list[int]:
    """All within the caliper whose squared distance is not beyond that of the ``ratio``-th nearest."""
    distance = np.abs(candidates - focal)
    inside = np.flatnonzero(distance <= caliper)
    if len(inside) == 0:
        return []
    kth = np.sort(distance)[min(ratio, len(distance)) - 1]
    bound = math.inf if kth > caliper else kth**2 + tolerance
    return [int(i) for i in inside if distance[i] ** 2 <= bound * (1 + 1e-9)]  # rounding of squares


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    line=lines(),
    ratio=st.integers(1, 5),
    caliper=calipers,
    tolerance=st.sampled_from([0.0, 0.3, 1.0, 5.0]),
)
def test_nearest_are_those_of_all_pairs(line, ratio, caliper, tolerance) -> None:  # type: ignore[no-untyped-def]
    x, t = line
    focal, candidates = x[t], x[~t]
    found = nearest(focal, candidates, ratio, caliper, tolerance)
    for i, value in enumerate(focal):
        assert list(range(found.low[i], found.high[i])) == matches(value, candidates, ratio, caliper, tolerance)
    assert (found.matched == (found.size > 0)).all()


def test_equal_distances_are_ties_in_spite_of_rounding() -> None:
    """0.3 - 0.2 and 0.2 - 0.1 differ in the last bit; so do the distances of points far from 0."""
    for shift in (0.0, 1e6):
        focal, candidates = np.array([0.2]) + shift, np.array([0.1, 0.3]) + shift
        assert nearest(focal, candidates).size.tolist() == [2]
    assert nearest(np.array([0.2]), np.array([0.1, 0.3 + 1e-9])).size.tolist() == [1]


def test_caliper_is_inclusive() -> None:
    assert nearest(np.array([0.3]), np.array([0.1, 0.5]), 1, 0.2).size.tolist() == [2]
    assert nearest(np.array([0.3]), np.array([0.1, 0.5]), 1, 0.19).size.tolist() == [0]


def test_tolerance_never_reaches_beyond_the_caliper() -> None:
    found = nearest(np.array([0.0]), np.array([1.0, 1.4, 1.6]), 1, 1.5, 10.0)
    assert (found.low[0], found.high[0]) == (0, 2)


@quick
@given(line=lines(), ratio=st.integers(1, 3))
def test_neighbours_of_the_same_arm(line, ratio) -> None:  # type: ignore[no-untyped-def]
    """The point itself is always there, and besides it the nearest others with their ties."""
    x, _ = line
    found = nearest(x, x, ratio + 1)
    for i in range(len(x)):
        others = np.delete(x, i)
        expected = len(matches(x[i], others, ratio, math.inf, 0.0)) if len(others) else 0
        assert found.low[i] <= i < found.high[i]
        assert found.size[i] - 1 == expected


@pytest.mark.parametrize(("focal", "candidates"), [(0, 0), (0, 3), (3, 0)])
def test_nothing_to_match(focal: int, candidates: int) -> None:
    found = nearest(np.arange(focal, dtype=float), np.arange(candidates, dtype=float), 2)
    assert found.size.tolist() == [0] * focal
    assert range_sums(np.ones((candidates, 2)), found).tolist() == [[0.0, 0.0]] * focal
    assert uses(found, candidates).tolist() == [0.0] * candidates


@st.composite
def ranges(draw) -> tuple[int, Ranges]:  # type: ignore[no-untyped-def]
    """As ``nearest`` gives them: of rising ends, some empty, some overlapping, some reaching the last candidate."""
    n, m = draw(st.integers(1, 30)), draw(st.integers(0, 20))
    low = np.sort(np.array(draw(st.lists(st.integers(0, n), min_size=m, max_size=m)), np.int64))
    size = np.array(draw(st.lists(st.integers(0, 6), min_size=m, max_size=m)), np.int64)
    return n, Ranges(low, np.minimum(low + size, n))


@quick
@given(drawn=ranges())
def test_sums_and_uses_of_ranges(drawn: tuple[int, Ranges]) -> None:
    n, chosen = drawn
    values = np.random.default_rng(n).normal(size=(n, 2)) + 1e8  # running totals would lose eight digits
    by_hand, share = np.zeros((len(chosen.low), 2)), np.zeros(n)
    for i, (low, high) in enumerate(zip(chosen.low, chosen.high, strict=True)):
        by_hand[i] = values[low:high].sum(axis=0)
        share[low:high] += 1 / max(high - low, 1)
    np.testing.assert_allclose(range_sums(values, chosen), by_hand, rtol=1e-15)
    np.testing.assert_allclose(uses(chosen, n), share, atol=1e-12)  # some twenty fractions in a running total
    assert uses(chosen, n).sum() == pytest.approx(chosen.matched.sum(), abs=1e-12)


@quick
@given(drawn=ranges(), longer=st.integers(0, 3 * SHORT))
def test_spread_is_the_transpose_of_sums(drawn: tuple[int, Ranges], longer: int) -> None:
    n, some = drawn
    chosen = Ranges(some.low, np.minimum(some.high + longer * some.matched, n))
    values = np.random.default_rng(n).random((len(chosen.low), 2))
    by_hand = np.zeros((n, 2))
    for i, (low, high) in enumerate(zip(chosen.low, chosen.high, strict=True)):
        by_hand[low:high] += values[i]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest_module, "BUNCH", 15)  # long ranges are laid out in several goes
        np.testing.assert_allclose(range_spread(values, chosen, n), by_hand, rtol=1e-14)


@quick
@given(line=lines(), ratio=st.integers(1, SHORT + 2), caliper=calipers, tolerance=st.sampled_from([0.0, 1.0]))
def test_where_the_place_is_known(line, ratio, caliper, tolerance) -> None:  # type: ignore[no-untyped-def]
    """Counted over the whole line, equal candidates stand before or behind a focal point; the matches are the same."""
    x, t = line
    place = (np.cumsum(~t) - ~t)[t]
    known = nearest(x[t], x[~t], ratio, caliper, tolerance, place)
    searched = nearest(x[t], x[~t], ratio, caliper, tolerance)
    assert known.size.tolist() == searched.size.tolist()
    assert known.low[known.matched].tolist() == searched.low[searched.matched].tolist()
