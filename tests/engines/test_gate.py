"""Ranges, keys, quantiles and the unit table, on every engine."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F

from causal_spark.config import Filter
from causal_spark.spark import columns, gate, units
from causal_spark.spark.quantiles import quantiles
from causal_spark.spark.tables import col

UTC = dt.UTC


def moment(day: float) -> dt.datetime:
    return dt.datetime(2026, 1, 1, tzinfo=UTC) + dt.timedelta(days=day)


def micros(day: float) -> int:
    return round(moment(day).timestamp() * 1e6)


def test_ranges_count_nulls_and_nans_and_give_times_in_microseconds(spark, tmp_path) -> None:
    table = pa.table(
        {
            "y": pa.array([1.0, math.nan, 3.0, None], pa.float64()),
            "k": pa.array([5, None, 7, 9], pa.int64()),
            "t": pa.array([moment(0), moment(1), None, moment(0.5)], pa.timestamp("us", "UTC")),
            "s": pa.array(["a", None, None, "b"]),
        }
    )
    pq.write_table(table, tmp_path / "x.parquet")
    frame = spark.read.parquet(str(tmp_path / "x.parquet"))
    found = gate.ranges(frame, ["y", "k", "t", "s"], nan=["y"])
    assert found[""].n == 4
    assert (found["y"].nulls, found["y"].nans, found["y"].low) == (1, 1, 1.0)
    assert (found["k"].nulls, found["k"].low, found["k"].high) == (1, 5.0, 9.0)
    assert (found["t"].nulls, found["t"].low, found["t"].high) == (1, micros(0), micros(1))
    assert (found["s"].nulls, found["s"].low) == (2, None)


def test_repeated_and_split_keys_are_counted(spark) -> None:
    frame = spark.createDataFrame([(1, "a"), (1, "b"), (2, "a"), (2, "a"), (3, "b"), (None, "a")], "u long, g string")
    found = gate.keys(frame, "u", "g", rows=6)
    assert (found.keys, found.repeated, found.in_several_groups, found.share) == (3, 2, 1, 1.0)
    left = gate.without_split_keys(frame, "u", "g")
    assert sorted(row["u"] for row in left.where("u is not null").collect()) == [2, 2, 3]


def test_a_hash_sample_of_the_keys_finds_repeats_in_proportion(spark, monkeypatch) -> None:
    monkeypatch.setattr(gate, "KEYS_CHECKED", 1_000)
    frame = spark.range(8_000).select(F.pmod("id", F.lit(4_000)).alias("u"), F.lit("a").alias("g"))
    found = gate.keys(frame, "u", "g", rows=8_000)
    assert found.share == 1 / 8
    assert found.repeated == found.keys
    # A hash sample of 4,000 keys at 1/8 has 500 ± 21.
    assert abs(found.keys - 500) < 5 * 21


@pytest.mark.parametrize("q", [0.5, 0.9, 0.999, 1 - 1e-9])
def test_quantiles_are_order_statistics_of_the_non_zero_values(spark, q) -> None:
    rng = np.random.default_rng(1)
    y = np.concatenate([rng.lognormal(0, 2, 4_000), np.zeros(3_000), -rng.lognormal(0, 1, 500)])
    frame = spark.createDataFrame(pd.DataFrame({"y": y, "tie": np.floor(np.abs(y))}))
    for name, values in (("y", y), ("tie", np.floor(np.abs(y)))):
        kept = np.sort(values[values != 0])
        wanted = kept[math.ceil(q * len(kept) - 1e-6) - 1]
        assert quantiles(frame, {name: q})[name] == wanted


def test_a_quantile_of_nothing_is_nan(spark) -> None:
    frame = spark.createDataFrame(pd.DataFrame({"y": [0.0, 0.0]}))
    assert math.isnan(quantiles(frame, {"y": 0.5})["y"])


def test_a_crowded_cell_is_read_at_its_upper_edge(spark) -> None:
    y = np.linspace(1.0, 1.005, 500)
    found = quantiles(spark.createDataFrame(pd.DataFrame({"y": y})), {"y": 0.5}, max_rows=100)["y"]
    assert found == y[-1]
    assert abs(found / np.median(y) - 1) < 2 ** (1 / 64) - 1


# xxhash64 with Spark's seed 42, of ("salt", text) and of the long alone.
PINNED = [
    (975982019914672433, -7001672635703045582),
    (7459876538937431976, -3341702809300393011),
    (6009900291355082029, 3188756510806108107),
]


def test_xxhash64_of_texts_is_the_same_everywhere(spark) -> None:
    """Pinned values: an assignment must not change with the engine."""
    frame = spark.createDataFrame([("a", 1), ("用户", 2), ("", 3)], "s string, k long")
    row = frame.select(F.xxhash64(F.lit("salt"), "s").alias("h"), F.xxhash64("k").alias("n")).collect()
    assert [(r["h"], r["n"]) for r in row] == PINNED


def events_frame(spark, rows):
    table = pa.table(
        {
            "u": pa.array([r[0] for r in rows], pa.int64()),
            "t": pa.array([moment(r[1]) for r in rows], pa.timestamp("us", "UTC")),
            "kind": pa.array([r[2] for r in rows]),
            "amount": pa.array([r[3] for r in rows], pa.float64()),
        }
    )
    return spark.createDataFrame(table)


def exposures_frame(spark, rows):
    table = pa.table(
        {
            "u": pa.array([r[0] for r in rows], pa.int64()),
            "arm": pa.array([r[1] for r in rows]),
            "t": pa.array([moment(r[2]) for r in rows], pa.timestamp("us", "UTC")),
            "country": pa.array([r[3] for r in rows], pa.string()),
        }
    )
    return spark.createDataFrame(table)


def test_the_first_exposure_counts_and_ties_do_not_depend_on_order(spark) -> None:
    rows = [
        (1, "b", 3, "DE"),
        (1, "b", 2, None),
        (2, "a", 1, "CN"),
        (3, "b", 5, "X"),
        (3, "a", 5, "Y"),
        (2, "a", 1, "BR"),
    ]
    for order in (rows, rows[::-1]):
        first = units.first_exposures(exposures_frame(spark, order), "u", "arm", "t", {"country": "country"})
        found = {r[units.UNIT]: (r[units.ARM], r[units.EXPOSED], r["country"], r[units.SPLIT]) for r in first.collect()}
        assert found == {
            1: ("b", micros(2), None, False),
            2: ("a", micros(1), "BR", False),
            3: ("a", micros(5), "Y", True),
        }


def test_events_become_units_in_their_windows(spark) -> None:
    exposures = exposures_frame(spark, [(1, "a", 10, "DE"), (2, "b", 10, "DE"), (3, "a", 18, "DE")])
    events = events_frame(
        spark,
        [
            (1, 10.0, "buy", 1.10),  # at the moment of exposure: after it
            (1, 11.0, "buy", 2.205),
            (1, 11.5, "view", None),
            (1, 9.9, "buy", 50.0),  # before exposure, inside the covariate window
            (1, 1.0, "buy", 70.0),  # before that window
            (1, 17.0, "buy", 999.0),  # the window of 7 days is over at this very moment
            (2, 16.999, "buy", 4.0),
            (9, 11.0, "buy", 1e6),  # nobody we know
        ],
    )
    buy = (Filter("kind", "==", "buy"),)
    week = 7
    measures = [
        units.Measure("revenue", "amount", 0, week, buy, scale=1000, mature=week),
        units.Measure("before", "amount", -5, 0, buy, scale=1000),
        units.Measure("any", None, 0, None, buy, any=True),
        units.Measure("events", None, 0, None),
    ]
    first, times = units.first_exposures(exposures, "u", "arm", "t", {}), units.first_times(exposures, "u", "t")
    pairs = units.joined(times, events, "u", "t", ["amount", "kind"], few=False)
    renamed = [m if m.name != "events" else units.Measure("count", None, 0, None) for m in measures]
    table = units.totals(first, units.by_span(pairs, renamed), renamed, [], as_of=micros(20))
    whole = {r[units.UNIT]: r.asDict() for r in table.collect()}
    assert whole[1]["revenue"] == 1100 + 2205
    assert whole[1]["before"] == 50_000
    assert (whole[1]["any"], whole[1]["count"]) == (1, 4)
    assert (whole[1][units.EVENTS], whole[1][units.BEFORE]) == (6, 1)
    assert whole[2]["revenue"] == 4000
    assert whole[3]["revenue"] is None, "exposed two days before the end: not mature for a week's revenue"
    assert (whole[3]["any"], whole[3]["count"], whole[3][units.EVENTS]) == (0, 0, 0)
    back = {r[units.UNIT]: r["revenue"] for r in units.decimals(table, renamed).collect()}
    assert back == {1: 3.305, 2: 4.0, 3: None}
    near = units.joined(times, events, "u", "t", ["amount", "kind"], few=True)
    spans = units.by_span(near, renamed, days=3)
    finer = units.totals(first, spans, renamed, [], as_of=micros(20))
    assert {r[units.UNIT]: r.asDict() for r in finer.collect()} == whole, "days by themselves change no total"
    wanted = [replace(m, start=0, stop=None, mature=None) for m in (renamed[0], renamed[3])]
    days = units.daily(table, spans, renamed, wanted, 3, micros(12), few=True)
    found = {(r[units.UNIT], r[units.SINCE]): (r["revenue"], r["count"]) for r in days.collect()}
    assert found == {(1, 0): (1100, 1), (1, 1): (2205, 2)}, "days that are over, of units with events"


def test_filters_of_every_kind(spark) -> None:
    frame = spark.createDataFrame([(1, "a"), (2, "b"), (3, None)], "k long, s string")
    cases = [
        (Filter("k", "==", 2), [2]), (Filter("k", "!=", 2), [1, 3]), (Filter("k", "<", 2), [1]),
        (Filter("k", "<=", 2), [1, 2]), (Filter("k", ">", 2), [3]), (Filter("k", ">=", 2), [2, 3]),
        (Filter("s", "in", ["a", "b"]), [1, 2]), (Filter("s", "not_in", ["a"]), [2]),
        (Filter("s", "is_null"), [3]), (Filter("s", "not_null"), [1, 2]),
    ]  # fmt: skip
    for item, wanted in cases:
        chosen = columns.condition([item])
        assert sorted(r["k"] for r in frame.where(chosen).collect()) == wanted, item
    both = columns.condition([Filter("k", ">", 1), Filter("s", "not_null")])
    assert [r["k"] for r in frame.where(both).collect()] == [2]


@pytest.mark.parametrize("name", ["x`y", "a.b", "revenue (€)", "收入", "with space", "sel'ect"])
def test_columns_of_any_name(spark, name) -> None:
    frame = spark.createDataFrame(pa.table({name: [1.0, 2.0]}))
    assert gate.ranges(frame, [name])[name].high == 2.0
    assert frame.agg(F.sum(col(name)).alias("s")).collect()[0]["s"] == 3.0


def test_cluster_totals_are_sums_of_fixed_point_integers(spark) -> None:
    frame = spark.createDataFrame(
        pd.DataFrame({"c": [1, 1, 2, 2], "arm": list("aabb"), "y": [0.1, 0.2, np.nan, 5.0], "x": [1.0, 2, 3, 4]})
    )
    sums = [
        units.ClusterSum("size", None, ("y",)),
        units.ClusterSum("Σy", "y", ("y",), 10),
        units.ClusterSum("Σx", "x", ("y",), 10),
    ]
    found = {r["arm"]: (r["size"], r["Σy"], r["Σx"]) for r in units.clusters(frame, "c", ["arm"], sums).collect()}
    assert found == {"a": (2.0, 0.3, 3.0), "b": (1.0, 5.0, 4.0)}
