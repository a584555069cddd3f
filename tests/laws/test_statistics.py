"""The laws of every statistic: the merge of disjoint parts is the statistic of the whole, in any order and any tree.

One test for each law, generic over all statistics: a new one adds an entry to ``KINDS`` and no test.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causal_spark.solve.means import Form, difference, evaluate
from causal_spark.statistics import Counts, Grouped, Moments, Range

NAMES = ("y", "x", "z")
BY = ("arm", "country")
LABELS = ("a", "b", None)

# Rounding of one merge is about 1e-16 of (spread + distance of the means); the rows here lie within 1e4, so a chain of
# some hundred merges stays below 1e-12 of the largest deviation squared. Counts and ranges are exact.
TOLERANCE = 1e-12

Row = tuple[float, float, float, int, int]  # y, x, z (multiples of 2⁻¹⁰), and two labels


def close_moments(a: Moments, b: Moments, tolerance: float = TOLERANCE) -> bool:
    """Equal names and n; mean and scatter within ``tolerance`` of the scale of the data."""
    size = max(float(np.abs(a.mean).max(initial=0.0)), float(np.sqrt(np.abs(a.scatter).max(initial=0.0))), 1.0)
    return (
        a.names == b.names
        and a.n == b.n
        and bool(np.abs(a.mean - b.mean).max(initial=0.0) <= tolerance * size)
        and bool(np.abs(a.scatter - b.scatter).max(initial=0.0) <= tolerance * size**2)
    )


def moments(rows: list[Row]) -> Moments:
    return Moments.from_rows(NAMES, [row[:3] for row in rows])


def moments_by_sums(rows: list[Row]) -> Moments:
    """As a pass brings them home: sums about a pilot centre that is not the mean."""
    centre = np.array([1.0, -2.0, 3.0])
    d = np.array([row[:3] for row in rows], float).reshape(-1, 3) - centre
    return Moments.from_sums(NAMES, len(d), centre, d.sum(axis=0), d.T @ d)


def key(row: Row) -> tuple[str | None, str | None]:
    return LABELS[row[3]], LABELS[row[4]]


def counts(rows: list[Row]) -> Counts:
    """Fixed-point sums, as the house wants them before a shuffle: integers."""
    cells: dict[Any, tuple[float, ...]] = {}
    for row in rows:
        n, total = cells.get(key(row), (0, 0))
        cells[key(row)] = (n + 1, total + round(row[0] * 1024))
    return Counts(BY, ("n", "y"), cells)


def grouped(rows: list[Row]) -> Grouped:
    keys = {key(row) for row in rows}
    return Grouped(BY, {k: moments([row for row in rows if key(row) == k]) for k in keys})


def close_grouped(a: Grouped, b: Grouped) -> bool:
    same = a.by == b.by and a.cells.keys() == b.cells.keys()
    return same and all(close_moments(a.cells[k], b.cells[k]) for k in a.cells)


def value_range(rows: list[Row]) -> Range:
    """Label 2 stands for a NULL in y."""
    known = [row[0] for row in rows if row[3] != 2]
    return Range(len(rows), len(rows) - len(known), min(known, default=None), max(known, default=None))


def equal(a: Any, b: Any) -> bool:
    return bool(a == b)


@dataclass(frozen=True)
class Kind:
    """A statistic: how it is made from rows, when two are the same, and one of another shape that must not merge."""

    build: Callable[[list[Row]], Any]
    same: Callable[[Any, Any], bool]
    other: Any = None


KINDS = {
    "Moments": Kind(moments, close_moments, Moments.empty(("y", "x"))),
    "Moments from sums": Kind(moments_by_sums, close_moments, Moments.empty(("x", "y", "z"))),
    "Counts": Kind(counts, equal, Counts(BY, ("n",), {})),
    "Counts by other keys": Kind(counts, equal, Counts(("arm",), ("n", "y"), {})),
    "Grouped": Kind(grouped, close_grouped, Grouped(("country", "arm"), {})),
    "Range": Kind(value_range, equal),
}
every = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())

numbers = st.integers(-(2**20), 2**20).map(lambda i: i / 1024)
labels = st.integers(0, 2)
tables = st.lists(st.tuples(numbers, numbers, numbers, labels, labels), max_size=40)
quick = settings(max_examples=40, deadline=None, derandomize=True)


@every
@quick
@given(a=tables, b=tables, c=tables)
def test_merge_is_associative(kind: Kind, a: list[Row], b: list[Row], c: list[Row]) -> None:
    x, y, z = kind.build(a), kind.build(b), kind.build(c)
    assert kind.same((x + y) + z, x + (y + z))


@every
@quick
@given(a=tables, b=tables)
def test_merge_is_commutative(kind: Kind, a: list[Row], b: list[Row]) -> None:
    x, y = kind.build(a), kind.build(b)
    assert kind.same(x + y, y + x)


@every
@quick
@given(a=tables)
def test_no_rows_are_the_identity(kind: Kind, a: list[Row]) -> None:
    x, nothing = kind.build(a), kind.build([])
    assert kind.same(x + nothing, x)
    assert kind.same(nothing + x, x)
    assert kind.same(sum([x]), x)  # sum starts from 0
    assert kind.same(nothing + nothing, nothing)


@every
@quick
@given(a=tables, b=tables)
def test_merge_is_the_union_of_rows(kind: Kind, a: list[Row], b: list[Row]) -> None:
    assert kind.same(kind.build(a) + kind.build(b), kind.build(a + b))


@every
@quick
@given(a=tables, b=tables)
def test_merge_changes_neither_side(kind: Kind, a: list[Row], b: list[Row]) -> None:
    x, y = kind.build(a), kind.build(b)
    before = [json.dumps(part.to_dict()) for part in (x, y)]
    _ = x + y
    assert [json.dumps(part.to_dict()) for part in (x, y)] == before


@every
@quick
@given(a=tables)
def test_round_trip_through_json(kind: Kind, a: list[Row]) -> None:
    """Exact: a double survives JSON by its shortest decimal."""
    x = kind.build(a)
    text = json.dumps(x.to_dict(), allow_nan=False)
    back = type(x).from_dict(json.loads(text))
    assert kind.same(back, x)
    assert json.dumps(back.to_dict()) == text
    assert kind.same(back + x, x + x)


@every
@pytest.mark.parametrize("stranger", [1, "text", None, 0.5])
def test_only_statistics_of_one_kind_merge(kind: Kind, stranger: object) -> None:
    x = kind.build([(1.0, 2.0, 3.0, 0, 1)])
    with pytest.raises(TypeError):
        x + stranger
    with pytest.raises(TypeError):
        stranger + x  # type: ignore[operator]


@pytest.mark.parametrize("kind", [k for k in KINDS.values() if k.other is not None], ids=lambda k: k.other.names
                         if isinstance(k.other, Moments) else k.other.by)  # fmt: skip
def test_other_names_refuse_to_merge(kind: Kind) -> None:
    for rows in ([], [(1.0, 2.0, 3.0, 0, 1)]):
        for a, b in ((kind.build(rows), kind.other), (kind.other, kind.build(rows))):
            with pytest.raises(ValueError, match="merge"):
                a + b


def split_tree(rows: list[Row], build: Callable[[list[Row]], Any], draw: np.random.Generator) -> Any:
    """Cut the rows in two at a random place, again and again, merge on the way back, sides in random order."""
    if len(rows) < 2 or draw.random() < 0.1:
        return build(rows)
    cut = int(draw.integers(0, len(rows) + 1))
    if cut in (0, len(rows)):
        return build(rows[:cut]) + build(rows[cut:])
    left, right = split_tree(rows[:cut], build, draw), split_tree(rows[cut:], build, draw)
    return left + right if draw.random() < 0.5 else right + left


@every
def test_any_split_tree_is_the_whole(kind: Kind) -> None:
    """1,000 random trees over random rows in random order; data with mean/sd up to 100."""
    draw = np.random.default_rng(20)
    for _ in range(1000):
        n = int(draw.integers(1, 40))
        values = np.round((draw.normal(size=(n, 3)) + draw.uniform(-100, 100, 3)) * 1024) / 1024
        rows: list[Row] = [(*v, *k) for v, k in zip(values.tolist(), draw.integers(0, 3, (n, 2)).tolist(), strict=True)]
        whole = kind.build(rows)
        shuffled = [rows[i] for i in draw.permutation(n)]
        assert kind.same(split_tree(shuffled, kind.build, draw), whole)


# margins are merges -------------------------------------------------------------------------------------------------


@quick
@given(a=tables)
@pytest.mark.parametrize("keep", [(), ("arm",), ("country",), BY])
def test_margin_of_grouped_is_a_merge(keep: tuple[str, ...], a: list[Row]) -> None:
    margin = grouped(a).margin(keep)
    keys = {tuple(k if name in keep else None for name, k in zip(BY, key(row), strict=True)) for row in a}
    assert margin.by == BY
    assert margin.cells.keys() == keys
    for k in keys:
        rows = [r for r in a if all(x == y for x, y, name in zip(key(r), k, BY, strict=True) if name in keep)]
        assert close_moments(margin.cells[k], moments(rows))
    assert close_grouped(margin, margin.margin(keep))


@quick
@given(a=tables, b=tables)
@pytest.mark.parametrize("keep", [(), ("arm",), ("country",), ("country", "arm")])
def test_margin_of_counts_is_a_sum(keep: tuple[str, ...], a: list[Row], b: list[Row]) -> None:
    margin = counts(a).margin(keep)
    assert margin.by == keep
    total = [sum(values[i] for values in margin.cells.values()) for i in range(2)]
    assert total == [len(a), sum(round(row[0] * 1024) for row in a)]
    for k, values in margin.cells.items():
        rows = [r for r in a if tuple(dict(zip(BY, key(r), strict=True))[name] for name in keep) == k]
        assert values == (len(rows), sum(round(r[0] * 1024) for r in rows))
    assert counts(a + b).margin(keep) == margin + counts(b).margin(keep)  # a margin commutes with the merge


@quick
@given(a=tables)
def test_where_picks_cells(a: list[Row]) -> None:
    whole = grouped(a)
    for label in LABELS:
        picked = list(whole.where(arm=label))
        assert {named["country"] for named, _ in picked} == {k[1] for k in whole.cells if k[0] == label}
        assert sum(part.n for _, part in picked) == sum(1 for row in a if key(row)[0] == label)


@pytest.mark.parametrize("path", [("a", ("b", "c")), (("a",), None), ((), 3)])
def test_keys_of_counts_may_hold_tuples(path: tuple[object, ...]) -> None:
    """A coalition or a path is a tuple inside the key; JSON knows only lists."""
    ours = Counts(("x", "y"), ("n",), {path: (1,)})
    assert Counts.from_dict(json.loads(json.dumps(ours.to_dict()))) == ours


# the algebra of moments ---------------------------------------------------------------------------------------------

matrices = st.lists(st.lists(st.integers(-3, 3), min_size=3, max_size=3), min_size=1, max_size=4)


@quick
@given(a=tables, b=tables, matrix=matrices)
def test_image_commutes_with_merge(a: list[Row], b: list[Row], matrix: list[list[int]]) -> None:
    names = [f"f{i}" for i in range(len(matrix))]
    whole = (moments(a) + moments(b)).image(matrix, names)
    assert close_moments(whole, moments(a).image(matrix, names) + moments(b).image(matrix, names))
    columns = np.array([row[:3] for row in a + b], float).reshape(-1, 3) @ np.array(matrix, float).T
    assert close_moments(whole, Moments.from_rows(names, columns))


@quick
@given(a=tables)
def test_image_composes_and_select_is_an_image(a: list[Row]) -> None:
    m = moments(a)
    first, second = [[1, 2, 0], [0, 1, -1]], [[1, 1], [2, 0], [0, 3]]
    twice = m.image(first, "pq").image(second, "uvw")
    assert close_moments(twice, m.image(np.array(second) @ np.array(first), "uvw"))
    assert close_moments(m.select(["z", "y"]), m.image([[0, 0, 1], [1, 0, 0]], ["z", "y"]), 0.0)


@quick
@given(parts=st.lists(tables, min_size=1, max_size=6))
def test_scatter_is_symmetric_and_positive(parts: list[list[Row]]) -> None:
    """Up to rounding: no eigenvalue below -1e-13 of the largest."""
    for build in (moments, moments_by_sums):
        scatter = sum(build(rows) for rows in parts).scatter  # type: ignore[union-attr]
        np.testing.assert_allclose(scatter, scatter.T, rtol=1e-13)
        values = np.linalg.eigvalsh(scatter)
        assert values[0] >= -1e-13 * max(values[-1], 1.0)
        assert (np.diag(scatter) >= 0).all()


@quick
@given(a=tables)
def test_covariance_is_that_of_numpy(a: list[Row]) -> None:
    covariance = moments(a).covariance
    if len(a) < 2:
        assert np.isnan(covariance).all()
    else:
        theirs = np.cov(np.array([row[:3] for row in a]).T)
        np.testing.assert_allclose(covariance, theirs, rtol=1e-12, atol=1e-12 * np.abs(theirs).max())


@quick
@given(n=st.integers(0, 50), value=numbers, a=tables)
def test_constant_rows(n: int, value: float, a: list[Row]) -> None:
    """``constant`` stands for rows that were never seen: units without an event."""
    ours = moments(a) + Moments.constant(NAMES, n, value)
    rows: list[Row] = [*a, *[(value, value, value, 0, 0)] * n]
    assert close_moments(ours, moments(rows))


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="shapes"):
        Moments(("a", "b"), 1.0, np.zeros(2), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="shapes"):
        Moments(("a", "b"), 1.0, np.zeros(3), np.zeros((2, 2)))


# a large mean or another unit -----------------------------------------------------------------------------------------


def two_arms(scale: float, shift: float, parts: int) -> tuple[Moments, Moments]:
    """Two arms on a grid of 2⁻¹⁰, so that the shift itself is exact; merged from ``parts`` parts each."""
    draw = np.random.default_rng(17)
    arms = []
    for effect, n in ((1.0, 40), (0.0, 30)):
        x = draw.normal(5.0 + effect, 2.0, n)
        table = np.round(np.column_stack([x, 0.5 * x + draw.normal(size=n), draw.normal(size=n)]) * 1024) / 1024
        pieces = np.array_split(table * scale + shift, parts)
        arms.append(sum(Moments.from_rows(NAMES, piece) for piece in pieces))
    return arms[0], arms[1]


@pytest.mark.parametrize("parts", [1, 7, 20])
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 1e9), (1e6, 0.0), (1e6, 1e9), (1e-6, 0.0)])
def test_shift_and_scale(scale: float, shift: float, parts: int) -> None:
    """Variance, covariance, t and p within 1e-6.

    At a shift of 1e9 a double holds the mean to 1.2e-7, which is 3e-7 of the standard error here (0.45).
    """
    ours, theirs = two_arms(1.0, 0.0, 1), two_arms(scale, shift, parts)
    for plain, moved in zip(ours, theirs, strict=True):
        spread = np.sqrt(np.outer(*[np.diag(plain.covariance)] * 2))
        assert np.abs(moved.covariance / scale**2 - plain.covariance).max() <= 1e-6 * spread.min()
    tests = [difference(*(evaluate(arm, [Form("y")]) for arm in arms)) for arms in (ours, theirs)]
    assert tests[1].statistic == pytest.approx(tests[0].statistic, rel=1e-6)
    assert tests[1].p_value == pytest.approx(tests[0].p_value, rel=1e-6)
    assert tests[1].dof == pytest.approx(tests[0].dof, rel=1e-6)
