"""The laws of the histogram: merging is exact, cells are nested and ordered, and a coarse cell is as wide as stated."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from causal_spark.statistics.histogram import EXACT, Histogram, cell

BITS = (0, 1, 5, 10, 40, EXACT)
LARGEST = 2**63 - 1
quick = settings(max_examples=60, deadline=None, derandomize=True)
integers = st.one_of(st.integers(-100, 100), st.integers(-LARGEST, LARGEST))
tables = st.lists(integers, max_size=40)
bits = st.sampled_from(BITS)


def build(rows: list[int], keep: int) -> Histogram:
    return Histogram.from_integers(np.array(rows, np.int64), keep, 8.0)


def same(a: Histogram, b: Histogram) -> bool:
    return json.dumps(a.to_dict()) == json.dumps(b.to_dict())


@quick
@given(a=tables, b=tables, c=tables, keep=bits)
def test_merge_is_exact(a: list[int], b: list[int], c: list[int], keep: int) -> None:
    """Counts are integers, so every law holds with ``==``."""
    x, y, z = (build(rows, keep) for rows in (a, b, c))
    assert same((x + y) + z, x + (y + z))
    assert same(x + y, y + x)
    assert same(x + y, build(a + b, keep))
    assert same(x + Histogram.empty(keep, 8.0), x)
    assert same(sum([x, y]), x + y)  # type: ignore[arg-type]
    assert (x + y).n == len(a) + len(b)


@quick
@given(a=tables, keep=bits, fewer=bits)
def test_coarsening_is_counting_with_fewer_bits(a: list[int], keep: int, fewer: int) -> None:
    keep, fewer = max(keep, fewer), min(keep, fewer)
    assert same(build(a, keep).coarsen(fewer), build(a, fewer))


@quick
@given(value=integers, keep=bits)
@example(value=2**53 + 1, keep=EXACT)
@example(value=2**54 - 1, keep=10)
@example(value=LARGEST, keep=0)
@example(value=-LARGEST, keep=40)
def test_cell_holds_its_value(value: int, keep: int) -> None:
    """Width below 2^-bits of the value. The edges are doubles: 1e-15 relative is their rounding."""
    h = build([value], keep)
    low, high = (float(edge[0]) * 8.0 for edge in h.edges)
    slack = 1e-15 * abs(value)
    assert low - slack <= value <= high + slack
    assert high - low <= 2.0**-keep * abs(value) + 2 * slack
    if abs(value) < 2 ** min(keep + 1, 53):
        assert low == high == value


@quick
@given(a=integers, b=integers, keep=bits)
@example(a=2**40 - 1, b=2**40, keep=3)
@example(a=2**60, b=2**60 + 1, keep=61)
def test_cells_grow_with_the_value(a: int, b: int, keep: int) -> None:
    first, second = cell(np.array(sorted([a, b]), np.int64), keep)
    assert first <= second
    if a == b:
        assert first == second


def test_neighbouring_cells_have_neighbouring_numbers() -> None:
    """No number is skipped: cells are the rows of a table, not a sparse code."""
    for keep in (0, 2, 6):
        found = np.unique(cell(np.arange(-5000, 5001), keep))
        np.testing.assert_array_equal(np.diff(found), 1)


def test_counts_and_repeated_cells_add_up() -> None:
    h = Histogram.from_cells([3, 1, 3, 2], [1, 4, 2, 0], 10)
    assert (h.cells.tolist(), h.counts.tolist(), h.n) == ([1, 3], [4, 3], 7)
    weighted = Histogram.from_integers([5, 5, -7], counts=[1, 2, 3])
    assert (weighted.cells.tolist(), weighted.counts.tolist()) == ([-7, 5], [3, 3])


def test_round_trip_through_json() -> None:
    x = build([5, -3, 2**61, 5], 10)
    back = Histogram.from_dict(json.loads(json.dumps(x.to_dict())))
    assert same(back, x)
    assert same(back + x, x + x)


def test_only_equal_shapes_merge() -> None:
    x = build([1], 10)
    for other in (build([1], 11), Histogram.empty(10, 9.0)):
        with pytest.raises(ValueError, match="merge"):
            x + other
    for stranger in (1, "text", None):
        with pytest.raises(TypeError):
            x + stranger
    with pytest.raises(ValueError, match="bits"):
        x.coarsen(12)
    with pytest.raises(ValueError, match="bits"):
        Histogram.from_cells([1], [1], 63)
