"""Sums over Arrow blocks: those of numpy on all rows, on every engine and however the rows are cut."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from causal_spark.spark import blocks
from causal_spark.spark.tables import col
from causal_spark.statistics import Sums

N = 1_000
# Sums of 1,000 doubles in another order differ by a few units of the 16th digit.
RTOL = 1e-12


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(8)
    frame = pd.DataFrame(
        {
            "unit": [f"u{i}" for i in range(N)],
            "number": rng.integers(0, 1 << 60, N),
            "few": rng.integers(0, 9, N).astype("int32"),
            "yes": rng.random(N) < 0.3,
            "x": rng.normal(1e3, 1.0, N),
            "half": pd.array(rng.integers(0, 5, N), dtype="Int64"),
            "town": rng.choice(["a", "b", "c", "d"], N),
            "odd `name`": rng.normal(size=N),
        }
    )
    frame.loc[::7, "half"] = pd.NA
    return frame


@pytest.fixture(scope="module", params=[1, 5])
def table(request, spark, rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("blocks")
    for i in range(request.param):
        part = pa.Table.from_pandas(rows.iloc[i :: request.param], preserve_index=False)
        money = pa.array([Decimal(int(v)) / 4 for v in part["few"].to_pylist()], pa.decimal128(9, 2))
        pq.write_table(part.append_column("money", money), folder / f"{i}.parquet")
    return spark.read.parquet(f"file://{folder}")


def test_sums_are_those_of_all_rows(table, rows) -> None:
    def work(block: blocks.Block) -> Sums:
        x, few = block["x"], block["few"]
        return Sums.of(
            n=len(x), x=x.sum(), outer=np.stack([x, few]) @ np.stack([x, few]).T, odd=block["odd `name`"].sum()
        )

    found = blocks.accumulate(table, ["x", "few", "odd `name`"], work)
    both = rows[["x", "few"]].to_numpy(float)
    assert found.number("n") == N
    np.testing.assert_allclose(found["outer"], both.T @ both, rtol=RTOL)
    np.testing.assert_allclose(found["odd"], rows["odd `name`"].sum(), rtol=RTOL)


def test_no_rows_leave_the_sums_of_nothing(table) -> None:
    found = blocks.accumulate(
        table.where("few > 99"), ["x"], lambda block: Sums.of(n=len(block["x"]), x=block["x"].sum())
    )
    assert found.number("n") == found.number("x") == 0


def test_values_come_as_the_columns_say(table, rows) -> None:
    """Whole numbers exactly, NULL as NaN, booleans and decimals as doubles, texts as they are."""

    def work(block: blocks.Block) -> Sums:
        assert block["number"].dtype == np.int64
        kinds = {name: block[name].dtype.kind for name in ("few", "yes", "money", "half")} if len(block["x"]) else {}
        assert not kinds or (kinds["few"] == "i" and kinds["yes"] == kinds["money"] == kinds["half"] == "f")
        return Sums.of(
            low=(block["number"] % 1_000_003).sum(), gone=np.isnan(block["half"]).sum(), yes=block["yes"].sum(),
            half=np.nansum(block["half"]), money=block["money"].sum(), a=(block["town"] == "a").sum(),
        )  # fmt: skip

    found = blocks.accumulate(table, ["number", "few", "x", "half", "yes", "money", "town"], work)
    assert found.number("low") == (rows["number"] % 1_000_003).sum()
    assert found.number("gone") == rows["half"].isna().sum()
    assert found.number("half") == rows["half"].sum()
    assert found.number("yes") == rows["yes"].sum()
    assert found.number("money") == rows["few"].sum() / 4
    assert found.number("a") == (rows["town"] == "a").sum()


def test_a_column_made_of_blocks_stands_beside_the_others(table, rows) -> None:
    made = blocks.with_columns(table, ["x", "few"], ["made"], lambda block: [block["x"] * 2 + block["few"]])
    assert made.columns == [*table.columns, "made"]
    found = made.select("unit", "made", "town").toArrow().to_pandas().set_index("unit").loc[rows["unit"]]
    np.testing.assert_array_equal(found["made"], rows["x"] * 2 + rows["few"])
    assert found["town"].tolist() == rows["town"].tolist()


def test_a_hash_is_the_same_on_every_engine_and_for_every_type_of_key(table) -> None:
    found = table.where("unit IN ('u0', 'u1')").select("unit", blocks.hashed("unit", "salt").alias("h")).toArrow()
    assert {row["unit"]: row["h"] for row in found.to_pylist()} == HASHES
    whole = table.sparkSession.range(3).select("id", blocks.hashed("id", "salt").alias("h")).toArrow().to_pylist()
    text = (
        table.sparkSession.range(3)
        .selectExpr("CAST(id AS STRING) AS id")
        .select(blocks.hashed("id", "salt").alias("h"))
    )
    assert {row["h"] for row in whole} == set(text.toArrow().column("h").to_pylist())


HASHES = {"u0": 6157124885432567939, "u1": -8858100916054374140}


def test_a_part_is_chosen_by_the_key_alone(table, rows) -> None:
    part = blocks.hashed_part(table, "unit", N, 200, "s").select("unit").toArrow().column("unit").to_pylist()
    assert abs(len(part) - 200) < 60  # binomial, 4 standard errors
    again = blocks.hashed_part(table.where("few < 5"), "unit", N, 200, "s").select("unit").toArrow()
    assert set(again.column("unit").to_pylist()) == set(part) & set(rows[rows["few"] < 5]["unit"])
    assert blocks.hashed_part(table, "unit", N, N, "s").count() == N
    other = blocks.hashed_part(table, "unit", N, 200, "t").select("unit").toArrow().column("unit").to_pylist()
    assert set(other) != set(part)


def test_linear_is_the_sum_of_products_however_many(table, rows, engine) -> None:
    """Hundreds of columns: a client refuses expressions that are nested as deep."""
    names = ["x", "few", "half"] * 100
    coefficients = np.random.default_rng(0).normal(size=300)
    frame = table.where("half IS NOT NULL").select("unit", blocks.linear(0.25, names, coefficients).alias("v"))
    found = frame.toArrow().to_pandas().set_index("unit")["v"]
    known = rows[rows["half"].notna()]
    x = known[["x", "few", "half"]].to_numpy(float)
    wanted = 0.25 + x @ coefficients.reshape(100, 3).sum(axis=0)
    # Terms of the size of 1,000 that nearly cancel.
    np.testing.assert_allclose(found[known["unit"]], wanted, atol=1e-9)
    assert hash(tuple(found[known["unit"]].iloc[:20])) == hash(tuple(by_pairs(x[:20], coefficients)))


def by_pairs(x: np.ndarray, coefficients: np.ndarray) -> list[float]:
    """The additions in the order that is promised: bit for bit the same on every engine."""
    parts = [np.full(len(x), 0.25), *(c * x[:, i % 3] for i, c in enumerate(coefficients))]
    while len(parts) > 1:
        parts = [parts[i] + parts[i + 1] if i + 1 < len(parts) else parts[i] for i in range(0, len(parts), 2)]
    return [float(v) for v in parts[0]]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_joining_keeps_every_part_once_and_in_order(count) -> None:
    parts = [f"p{i}" for i in range(count)]
    assert blocks.joined(parts, lambda a, b: a + b) == "".join(parts)


def test_squares_of_cluster_sums(table, rows) -> None:
    def work(block: blocks.Block) -> np.ndarray:
        return np.column_stack([(block["x"] - 1e3) / 3, block["few"] / 9])

    squares, groups = blocks.clustered_squares(table, ["x", "few"], "town", 2, work)
    values = pd.DataFrame({"a": (rows["x"] - 1e3) / 3, "b": rows["few"] / 9, "town": rows["town"]})
    totals = values.groupby("town")[["a", "b"]].sum()
    assert groups == 4
    # Each of 1,000 values is rounded to a millionth.
    np.testing.assert_allclose(squares, (totals**2).sum(), rtol=1e-4)
    rounded = (values[["a", "b"]] * 1e6).round().groupby(values["town"]).sum() / 1e6
    np.testing.assert_allclose(squares, (rounded**2).sum(), rtol=RTOL)


def test_a_table_of_whole_millionths() -> None:
    table = blocks.fixed(np.array(["a", None, "b"], object), np.array([[0.1, -1 / 3], [2.0, 0.0], [math.pi, 1e-7]]))
    assert table.to_pydict() == {
        "g": ["a", None, "b"], "s0": [100_000, 2_000_000, 3_141_593], "s1": [-333_333, 0, 0]
    }  # fmt: skip
    assert blocks.fixed_schema(2) == "g string, s0 bigint, s1 bigint"


def test_names_are_taken_as_they_are(table) -> None:
    found = blocks.accumulate(
        table.select(col("odd `name`")), ["odd `name`"], lambda b: Sums.of(n=len(b["odd `name`"]))
    )
    assert found.number("n") == N
