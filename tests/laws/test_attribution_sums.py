"""Laws of the journeys and their sums: they depend on the events alone, not on buckets, order or company."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causal_spark.errors import StatisticError
from causal_spark.methods.attribution import Attribution, Compressed, solve
from causal_spark.methods.attribution.levels import Codes
from causal_spark.methods.attribution.ordered import KEYS, Reader, in_order
from causal_spark.methods.attribution.weights import poisson
from causal_spark.statistics.cells import Cells, by_stat
from tests.journey_buckets import Plain, credit, journeys_of, of_events

METHOD = Attribution(
    models=("first", "last", "linear", "time_decay", "markov_1", "markov_2", "shapley", "shapley_rate"),
    person="p", time="t", channel="c", value="v", window_days=30, replicates=6,
)  # fmt: skip
people = st.sampled_from("abcdefg")
days = st.integers(0, 400).map(lambda quarter: quarter / 4)
touched = st.lists(st.tuples(people, days, st.sampled_from(["x", "y", "z", "w"])), min_size=1, max_size=40)
bought = st.lists(st.tuples(people, days, st.integers(0, 900).map(lambda cents: cents / 100)), max_size=12)


def same(a: Compressed, b: Compressed) -> None:
    assert a.cells.keys() == b.cells.keys()
    for name, cells in a.cells.items():
        for part in ("segment", "key", "base", "replicates"):
            assert (getattr(cells, part) == getattr(b.cells[name], part)).all(), (name, part)
    assert a.paths == b.paths
    assert a.facts == b.facts


@settings(max_examples=15, deadline=None)
@given(touched, bought, st.integers(2, 9))
def test_buckets_and_row_order_change_no_bit(touches, conversions, buckets) -> None:
    same(of_events(METHOD, touches, conversions, buckets=1),
         of_events(METHOD, touches, conversions, buckets=buckets, seed=buckets))  # fmt: skip


def test_ties_in_time_have_one_order() -> None:
    tied = [("ann", 1, channel, event) for event, channel in enumerate("xyzwxy")]
    bought_twice = [("ann", 1, 1.0), ("ann", 1, 2.0), ("ann", 2, 3.0)]
    method = replace(METHOD, event_id="e")
    first = of_events(method, tied, bought_twice)
    for seed in range(8):
        same(first, of_events(method, tied, bought_twice, seed=seed))
    assert first.cells["total"].base[:, 0].tolist() == [1, 2]  # the touches of a moment come before its conversions


@settings(max_examples=15, deadline=None)
@given(touched, bought)
def test_every_touch_and_conversion_is_in_one_journey(touches, conversions) -> None:
    """All touches are in journeys when nothing is too old or too young, and every conversion has its own."""
    method = replace(METHOD, window_days=3_000, censoring="count")
    made = of_events(method, touches, conversions)
    lengths = made.cells["length"].base
    total = made.cells["total"].base.sum(axis=0)
    assert total[0] == len(conversions)
    shown = journeys_of(made)
    assert sum(len(path.split(" > ")) * (won + lost) for path, (won, lost) in shown.items()) == len(touches)
    assert lengths[:, 0].sum() == sum(won for won, _ in shown.values())


@settings(max_examples=10, deadline=None)
@given(touched, bought)
def test_credit_and_unattributed_are_the_total(touches, conversions) -> None:
    result = solve(replace(METHOD, replicates=0), of_events(replace(METHOD, replicates=0), touches, conversions))
    for model in METHOD.models:
        for outcome, total in (("conversions", len(conversions)), ("value", sum(v for _, _, v in conversions))):
            values = credit(result, model, outcome)
            if all(np.isfinite(list(values.values()))):
                # two decimals of value as fixed point 2⁻⁴⁴ and a linear solve
                assert sum(values.values()) == pytest.approx(total, rel=1e-9, abs=1e-9), model


def one(touches, conversions, as_of: float = 1e4, **changes) -> dict[str, tuple[float, float]]:
    method = replace(METHOD, models=("last",), replicates=0, **changes)
    return journeys_of(of_events(method, touches, conversions, as_of))


A = [("ann", 1, "x"), ("ann", 5, "y"), ("ann", 9, "z")]


def test_each_conversion_has_its_own_journey() -> None:
    assert one(A, [("ann", 6, 1.0), ("ann", 10, 1.0)]) == {"x > y": (1, 0), "z": (1, 0)}
    assert one(A, [("ann", 6, 1.0), ("ann", 10, 1.0)], reuse_touches=True) == {"x > y": (1, 0), "x > y > z": (1, 0)}


def test_touches_after_the_conversion_are_never_credited() -> None:
    assert one(A, [("ann", 6, 1.0)]) == {"x > y": (1, 0), "z": (0, 1)}
    assert one(A, [("ann", 5, 1.0)]) == {"x > y": (1, 0), "z": (0, 1)}  # at the same time counts


def test_windows_in_days_and_touches() -> None:
    assert one(A, [("ann", 10, 1.0)], window_days=5) == {"y > z": (1, 0), "x": (0, 1)}
    assert one(A, [("ann", 10, 1.0)], max_touches=2) == {"y > z": (1, 0)}
    views = [("ann", 1, "x", None, "view"), ("ann", 2, "y", None, "click"), ("ann", 9, "z", None, "view")]
    assert one(views, [("ann", 10, 1.0)], type="k", view_days=3) == {"y > z": (1, 0)}
    assert one(views, [("ann", 10, 1.0)], type="k", window_days=3, view_days=30) == {"x > z": (1, 0)}


def test_journeys_without_conversion_end_where_the_window_does() -> None:
    apart = [("bob", 0, "x"), ("bob", 2, "y"), ("bob", 50, "z")]
    assert one(apart, []) == {"x > y": (0, 1), "z": (0, 1)}


def test_a_journey_without_conversion_is_open_for_the_longest_window() -> None:
    """Views count for 60 days here, so a touch of 40 days ago may still be credited."""
    apart = [("bob", 0, "x", None, "view"), ("bob", 40, "y", None, "view"), ("bob", 101, "z", None, "click")]
    longer = {"type": "k", "window_days": 30, "view_days": 60}
    assert one(apart, [], as_of=200, **longer) == {"x > y": (0, 1), "z": (0, 1)}
    assert one(apart, [], as_of=150, **longer) == {"x > y": (0, 1)}
    assert one(apart, [("bob", 99, 1.0)], as_of=200, **longer) == {"y": (1, 0), "x": (0, 1), "z": (0, 1)}


def test_young_journeys_are_no_nulls() -> None:
    apart = [("bob", 0, "x"), ("bob", 50, "z")]
    assert one(apart, [], as_of=60) == {"x": (0, 1)}
    assert one(apart, [], as_of=60, censoring="count") == {"x": (0, 1), "z": (0, 1)}
    assert one(apart, [], as_of=80) == {"x": (0, 1), "z": (0, 1)}


def test_equal_touches_count_once_by_their_id() -> None:
    twice = [("ann", 1, "x", 7), ("ann", 1, "x", 7), ("ann", 1, "x", 8)]
    assert one(twice, [("ann", 2, 1.0)], event_id="e") == {"x > x": (1, 0)}
    assert one(twice, [("ann", 2, 1.0)]) == {"x > x > x": (1, 0)}


def test_an_id_counts_once_wherever_it_stands_again() -> None:
    """Delivered again an hour later, or under another channel; another person's, and rows without an id, are others."""
    again = [("ann", 1.0, "x", 7), ("ann", 1.04, "x", 7), ("ann", 2.0, "y", 7), ("ann", 2.5, "z"), ("ann", 2.5, "z")]
    assert one(again, [("ann", 3, 1.0)], event_id="e") == {"x > z > z": (1, 0)}
    bought = [("ann", 3.0, 10.0, "o1"), ("ann", 3.1, 12.0, "o1"), ("ann", 9.0, 5.0), ("ann", 9.0, 5.0)]
    result = solve(replace(METHOD, conversion_id="o"), of_events(replace(METHOD, conversion_id="o"), again, bought))
    totals = result.diagnostics["totals"].set_index("outcome")["total"]
    assert (totals["conversions"], totals["value"]) == (3, 20.0)


def test_old_views_leave_before_the_last_touches_are_taken() -> None:
    touches = [("ann", 0, "x", None, "click"), ("ann", 5, "y", None, "view"), ("ann", 6, "y", None, "view")]
    assert one(touches, [("ann", 20, 1.0)], type="k", view_days=1, max_touches=2) == {"x": (1, 0)}
    again = {"type": "k", "view_days": 1, "max_touches": 1, "reuse_touches": True}
    assert one(touches, [("ann", 6.5, 1.0), ("ann", 20, 1.0)], **again) == {"y": (1, 0), "x": (1, 0)}


def test_the_segment_is_that_of_a_touch_in_the_journey() -> None:
    """A view too old to be credited was in another region."""
    touches = [("ann", 0, "x", None, "view", "DE"), ("ann", 10, "x", None, "click", "FR")]
    method = replace(METHOD, models=("last",), type="k", view_days=1, segments=("region",), replicates=0)
    frame = solve(method, of_events(method, touches, [("ann", 11, 1.0)])).estimates
    mine = frame[(frame["outcome"] == "conversions") & (frame["term"] == "x")].set_index("segment")["estimate"]
    assert mine["region=FR"] == pytest.approx(1.0, rel=1e-12) and mine["region=DE"] == 0


def test_sessions_are_one_touch() -> None:
    near = [("ann", 1.0, "x"), ("ann", 1.01, "x"), ("ann", 1.02, "y"), ("ann", 1.5, "y")]
    assert one(near, [("ann", 2, 1.0)], session_minutes=30) == {"x > y > y": (1, 0)}


VISITS = [("ann", 1.0, "x", None, "click", "", "s1"), ("ann", 1.2, "y", None, "click", "", "s1"),
          ("ann", 2.0, "z", None, "click", "", "s2"), ("ann", 2.1, "w", None, "click", "", None),
          ("ann", 2.2, "w", None, "click", "", None), ("bob", 2.2, "w", None, "click", "", "s1")]  # fmt: skip


def test_touches_of_a_session_are_its_first_or_last() -> None:
    bought_later = [("ann", 3, 1.0)]
    assert one(VISITS, bought_later, session="s") == {"x > z > w > w": (1, 0), "w": (0, 1)}
    assert one(VISITS, bought_later, session="s", session_touch="last") == {"y > z > w > w": (1, 0), "w": (0, 1)}
    assert one(VISITS, bought_later) == {"x > y > z > w > w": (1, 0), "w": (0, 1)}


def test_a_conversion_cuts_a_session_in_two() -> None:
    for touch in ("first", "last"):
        assert one(VISITS[:2], [("ann", 1.1, 1.0)], session="s", session_touch=touch) == {"x": (1, 0), "y": (0, 1)}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 3), st.integers(0, 1)), max_size=30),
       st.sampled_from([1, 5_000_000_000_000]), st.integers(0, 9))  # fmt: skip
def test_rows_are_in_the_order_of_all_their_keys(rows, step, seed) -> None:
    """Also persons whose hashes differ in their lowest bits, or in the second hash alone, and times that tie."""
    table = np.array(rows, np.int64).reshape(-1, 4)[np.random.default_rng(seed).permutation(len(rows))]
    columns = {name: np.zeros(len(table), np.int64) for name in KEYS}
    columns |= {"p1": table[:, 0] - 2, "p2": table[:, 1], "t": table[:, 2] * step, "k": table[:, 3]}
    same_code = Codes(np.array([0]), np.array([0]))
    found, fields = in_order(columns, Reader(Plain(int(columns["t"].max(initial=0))), same_code, (), ()))
    assert sorted(found) == list(range(len(table)))
    # persons stand in the order of mixed bits of their hashes; each person's rows are together, and in order
    person = list(zip(columns["p1"][found], columns["p2"][found], strict=True))
    assert len([1 for i, who in enumerate(person) if i == 0 or who != person[i - 1]]) == len(set(person))
    place = {who: i for i, who in reversed(list(enumerate(person)))}
    of_each = np.array([place[who] for who in zip(columns["p1"], columns["p2"], strict=True)], np.int64)
    expected = np.lexsort([*(columns[name] for name in reversed(KEYS[2:])), of_each])
    for name in KEYS:
        assert (columns[name][found] == columns[name][expected]).all()
        assert (fields[name] == columns[name][found]).all()


def test_channels_that_leave_the_end() -> None:
    assert one(A, [("ann", 10, 1.0)], drop_last=("z",)) == {"x > y": (1, 0)}
    assert one([("ann", 1, "z")], [], drop_last=("z",)) == {}


def test_a_conversion_without_touches_is_unattributed() -> None:
    method = replace(METHOD, models=("last",), replicates=0)
    result = solve(method, of_events(method, A, [("eve", 3, 5.0), ("ann", 10, 2.0)]))
    assert credit(result, "last") == {"x": 0, "y": 0, "z": 1, "(unattributed)": 1}
    assert credit(result, "last", "value")["(unattributed)"] == 5


def test_direct_is_passed_over_however_often_it_came() -> None:
    rows = [("ann", 1, "x"), ("ann", 2, "direct"), ("ann", 3, "direct")]
    for change, name in (("none", "x"), ("frequency", "x (1)")):
        method = replace(METHOD, models=("last_non_direct",), replicates=0, transform=change)
        assert credit(solve(method, of_events(method, rows, [("ann", 4, 1.0)])), "last_non_direct")[name] == 1


def test_more_tokens_than_bits_are_refused() -> None:
    method = replace(METHOD, models=("shapley_rate",), transform="frequency")
    with pytest.raises(StatisticError, match="63 channels"):
        of_events(method, [("ann", i, f"c{i}") for i in range(7)], [])


def test_segments_are_those_of_the_first_touch() -> None:
    method = replace(METHOD, models=("last",), replicates=0, segments=("region",))
    rows = [("ann", 1, "x", None, "click", "north"), ("ann", 2, "y", None, "click", "south"),
            ("bob", 1, "x", None, "click", "south")]  # fmt: skip
    result = solve(method, of_events(method, rows, [("ann", 3, 1.0), ("bob", 3, 1.0)]))
    assert credit(result, "last", segment="region=north") == {"x": 0, "y": 1, "(unattributed)": 0}
    assert credit(result, "last", segment="region=south") == {"x": 1, "y": 0, "(unattributed)": 0}


def test_a_person_of_many_touches() -> None:
    """100,000 touches and 1,000 conversions of one person: ranges, not pairs."""
    many = [("ann", i / 100, "xyzw"[i % 4]) for i in range(100_000)]
    bought_often = [("ann", i, 1.0) for i in range(1, 1000)]
    made = of_events(replace(METHOD, models=("linear",), max_touches=100), many, bought_often)
    assert made.cells["total"].base[:, 0].sum() == 999


def test_poisson_weights_have_mean_and_variance_one_and_no_correlation() -> None:
    hashes = np.random.default_rng(1).integers(-(2**62), 2**62, 20_000)
    weights = poisson(hashes, 10)
    # 200,000 draws: the standard error of the mean is 0.0022, of the variance about 0.0039
    assert abs(weights.mean() - 1) < 0.01
    assert abs(weights.var() - 1) < 0.02
    assert np.abs(np.corrcoef(weights.T) - np.eye(10)).max() < 0.03
    assert (poisson(hashes[5:6], 10) == weights[5:6]).all()


cells = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(-9, 9)), max_size=8)


def made_of(rows) -> Cells:
    array = np.array(rows, np.int64).reshape(-1, 3)
    return Cells("s", array[:, 0], array[:, 1], array[:, 2:], np.zeros((len(array), 0), np.int64))


@settings(max_examples=60, deadline=None)
@given(cells, cells, cells)
def test_cells_add_like_numbers(a, b, c) -> None:
    x, y, z = made_of(a), made_of(b), made_of(c)
    one_way, other = (x + y) + z, z + (y + x)
    whole = by_stat([made_of([*a, *b, *c])])["s"]
    for part in ("segment", "key", "base"):
        assert (getattr(one_way, part) == getattr(other, part)).all()
        assert (getattr(one_way, part) == getattr(whole, part)).all()
    again = Cells.from_dict(one_way.to_dict())
    assert (again.base == one_way.base).all() and again.stat == "s"


def test_cells_of_different_shape_do_not_add() -> None:
    with pytest.raises(ValueError):
        made_of([(0, 0, 1)]) + Cells("other", *(np.zeros(0, np.int64),) * 2, *(np.zeros((0, 1), np.int64),) * 2)
