"""The laws of ``Sums``: parts add in any order, and a row of numbers is the same sums again."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causal_spark.statistics import Sums

quick = settings(max_examples=50, deadline=None, derandomize=True)
SHAPES = {"b": (), "a": (3,), "c": (2, 2), "none": (0, 4)}


@st.composite
def sums(draw) -> Sums:  # type: ignore[no-untyped-def]
    """Multiples of 2⁻¹⁰ add without rounding."""
    values = {}
    for name, shape in SHAPES.items():
        size = int(np.prod(shape))
        numbers = draw(st.lists(st.integers(-(2**20), 2**20), min_size=size, max_size=size))
        values[name] = np.array(numbers, float).reshape(shape) / 1024
    return Sums.of(**values)


def same(a: Sums, b: Sums) -> bool:
    return a.shapes == b.shapes and all((a[name] == b[name]).all() for name in a.values)


@quick
@given(a=sums(), b=sums(), c=sums())
def test_merge_in_any_order(a: Sums, b: Sums, c: Sums) -> None:
    assert same((a + b) + c, a + (b + c))
    assert same(a + b, b + a)
    assert same(sum([a, b, c]), a + b + c)


@quick
@given(a=sums(), b=sums())
def test_merge_adds_names_and_changes_neither_side(a: Sums, b: Sums) -> None:
    before = a.vector.copy(), b.vector.copy()
    total = a + b
    assert all((total[name] == a[name] + b[name]).all() for name in SHAPES)
    assert (a.vector == before[0]).all() and (b.vector == before[1]).all()


@quick
@given(a=sums(), b=sums())
def test_row_of_numbers(a: Sums, b: Sums) -> None:
    """The order of the names does not matter, and rows add as sums do."""
    shuffled = Sums(dict(sorted(b.values.items(), reverse=True)))
    assert same(a.like(b.vector), b)
    assert same(a.like(a.vector + shuffled.vector), a + b)
    assert len(a.vector) == 8


@quick
@given(a=sums())
def test_round_trip_through_json(a: Sums) -> None:
    """All but the columns of an array without rows, which lists cannot hold."""
    some = Sums({name: a[name] for name in SHAPES if name != "none"})
    assert same(Sums.from_dict(json.loads(json.dumps(some.to_dict()))), some)


def test_single_numbers() -> None:
    found = Sums.of(n=3, y=[1.0, 2.0])
    assert found.number("n") == 3.0
    assert isinstance(found.number("n"), float)
    with pytest.raises(TypeError):
        found.number("y")
    with pytest.raises(KeyError):
        found["z"]


@pytest.mark.parametrize("other", [Sums.of(n=1), Sums.of(n=1, z=[1.0, 2.0]), Sums.of(n=1, y=[1.0]), Sums.of()])
def test_other_names_or_shapes_do_not_merge(other: Sums) -> None:
    """Numpy would stretch (1,) over (2,)."""
    with pytest.raises(ValueError, match="shape"):
        Sums.of(n=1, y=[1.0, 2.0]) + other


@pytest.mark.parametrize("other", [1, "n", None])
def test_only_sums_are_added(other: object) -> None:
    with pytest.raises(TypeError):
        Sums.of(n=1) + other  # type: ignore[operator]
    with pytest.raises(TypeError):
        other + Sums.of(n=1)  # type: ignore[operator]


@pytest.mark.parametrize("size", [0, 7, 9])
def test_row_of_another_length(size: int) -> None:
    whole = Sums.of(**{name: np.zeros(shape) for name, shape in SHAPES.items()})
    with pytest.raises(ValueError):
        whole.like(np.zeros(size))


def test_nothing_at_all() -> None:
    assert Sums.of().vector.shape == (0,)
    assert same(Sums.of().like([]), Sums.of())
