"""The journey shuffle: persons' events into buckets, each bucket into whole-number sums, the sums into one table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from causal_spark.errors import StatisticError
from causal_spark.spark.gate import micros
from causal_spark.spark.tables import col
from causal_spark.statistics.cells import Cells, by_stat

# Rows of a bucket: what one Python worker holds at a time.
BUCKET_ROWS = 400_000
MERGERS = 8
JOINER = " / "
PERIOD = "(period)"
DAY = 86_400_000_000
SCHEMA = "stat string, segment bigint, key bigint, path string, base array<bigint>, replicates array<bigint>"
# Numbers of the merged sums that come to the driver.
MAX_NUMBERS = 40_000_000

Columns = Mapping[str, NDArray]


Work = Callable[[Columns], Iterable[Cells]]


def token(channel: str, others: Sequence[str]) -> Column:
    """What gets credit, as text: the channel, or the channel and the other columns joined."""
    if not others:
        return col(channel).cast("string")
    return F.concat_ws(JOINER, *(F.coalesce(col(name).cast("string"), F.lit("")) for name in (channel, *others)))


def in_periods(frame: DataFrame, time: str, unit: str) -> DataFrame:
    """``frame`` with ``(period)``: the first day (text, UTC) of the day, week (from Monday) or month of ``time``."""
    moment, day = micros(col(time)), F.lit(DAY)
    days = ((moment - F.pmod(moment, day)) / day).cast("int")
    if unit == "week":  # 1970 began on a Thursday
        days = days - F.pmod(days + F.lit(3), F.lit(7))
    date = F.date_add(F.lit("1970-01-01").cast("date"), days)
    first = F.trunc(date, unit) if unit == "month" else date
    return frame.withColumn(PERIOD, first.cast("string"))


def code(text: Column) -> Column:
    """A number of 64 bits for a text, the same on every engine."""
    return F.xxhash64(text)


def _person(person: Column) -> list[Column]:
    """128 bits that stand for the person, so that no two persons are taken for one."""
    text = person.cast("string")
    return [F.xxhash64(F.lit("person"), text).alias("p1"), F.xxhash64(F.lit("identity"), text).alias("p2")]


def touch_rows(frame: DataFrame, person: Column, time: str, named: Column, event: str | None, view: Column | None,
               segments: Sequence[str], amounts: int) -> DataFrame:  # fmt: skip
    """Touches as numbers: person, microseconds, channel, tie by event id, whether a view, segments."""
    tie = F.xxhash64(col(event).cast("string")) if event else F.lit(0).cast("bigint")
    seen = F.when(view, F.lit(1)).otherwise(F.lit(0)) if view is not None else F.lit(0)
    levels = [code(F.coalesce(col(name).cast("string"), F.lit(""))).alias(f"g{i}") for i, name in enumerate(segments)]
    nothing = [F.lit(0.0).alias(f"v{i}") for i in range(amounts)]
    return frame.select(*_person(person), micros(col(time)).alias("t"), F.lit(0).cast("bigint").alias("k"),
                        tie.alias("e"), code(named).alias("c"), seen.cast("bigint").alias("y"),
                        *levels, *nothing)  # fmt: skip


def conversion_rows(frame: DataFrame, person: Column, time: str, segments: Sequence[str], amounts: Sequence[str]
                    ) -> DataFrame:  # fmt: skip
    """Conversions as numbers, in the columns of ``touch_rows``; a NULL amount is 0. Of the segments they have none but
    their own period."""
    zero = F.lit(0).cast("bigint")
    levels = [(code(col(name)) if name == PERIOD else zero).alias(f"g{i}") for i, name in enumerate(segments)]
    values = [F.coalesce(col(n).cast("double"), F.lit(0.0)).alias(f"v{i}") for i, n in enumerate(amounts)]
    return frame.select(*_person(person), micros(col(time)).alias("t"), F.lit(1).cast("bigint").alias("k"),
                        zero.alias("e"), zero.alias("c"), zero.alias("y"),
                        *levels, *values)  # fmt: skip


def identified(frame: DataFrame, identity: DataFrame | None, person: str, alias: str, owner: str) -> DataFrame:
    """``frame`` with ``(person)``: the owner of its key in the identity table, or the key itself."""
    if identity is None:
        return frame.withColumn("(person)", col(person).cast("string"))
    known = identity.select(col(alias).cast("string").alias("(alias)"), col(owner).cast("string").alias("(owner)"))
    known = known.groupBy("(alias)").agg(F.min("(owner)").alias("(owner)"))
    joined = frame.join(known, col(person).cast("string") == F.col("(alias)"), "left")
    return joined.withColumn("(person)", F.coalesce(F.col("(owner)"), col(person).cast("string")))


def bucketed(rows: DataFrame, key: str, total: int) -> DataFrame:
    """``rows`` with ``b``, a bucket by the hash ``key``: about 400,000 rows in each."""
    buckets = max(1, -(-total // BUCKET_ROWS))
    return rows.withColumn("b", F.pmod(F.col(key), F.lit(buckets)))


def sweep(rows: DataFrame, columns: Sequence[str], work: Work) -> DataFrame:
    """``work`` on each bucket's ``columns``, as one table of sums. One shuffle; every number in it is whole."""
    names = list(columns)

    def bucket(table: pa.Table) -> pa.Table:
        held = {name: _array(table.column(name)) for name in names}
        return _table(work(held))

    return rows.select("b", *names).groupBy("b").applyInArrow(bucket, SCHEMA)


def _array(column: pa.ChunkedArray) -> NDArray:
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return np.asarray(column.to_pylist(), object)
    return np.asarray(column.to_numpy())


def _table(parts: Iterable[Cells]) -> pa.Table:
    schema = pa.schema([("stat", pa.string()), ("segment", pa.int64()), ("key", pa.int64()), ("path", pa.string()),
                        ("base", pa.list_(pa.int64())), ("replicates", pa.list_(pa.int64()))])  # fmt: skip
    made = [
        pa.Table.from_arrays(
            [
                pa.array([part.stat] * len(part.key), pa.string()),
                pa.array(part.segment, pa.int64()),
                pa.array(part.key, pa.int64()),
                pa.array(list(part.path) if len(part.path) else [None] * len(part.key), pa.string()),
                _lists(part.base),
                _lists(part.replicates),
            ],
            schema=schema,
        )
        for part in parts
        if len(part.key)
    ]
    return pa.concat_tables(made) if made else schema.empty_table()


def _lists(values: NDArray[np.int64]) -> pa.ListArray:
    rows, width = values.shape
    starts = pa.array(np.arange(rows + 1, dtype=np.int32) * np.int32(width), pa.int32())
    return pa.ListArray.from_arrays(starts, pa.array(values.ravel(), pa.int64()))


def merged(sums: DataFrame, max_rows: int) -> dict[str, Cells]:
    """The sums of all buckets by (stat, segment, key), on the driver. Raises StatisticError if they are too many."""
    chosen = sums.where(F.col("stat") != F.lit("path"))
    chosen = chosen.withColumn("b", F.pmod(F.xxhash64("stat", "segment", "key"), F.lit(MERGERS)))

    def merge(table: pa.Table) -> pa.Table:
        return _table(by_stat(read_rows(table)).values())

    table = chosen.groupBy("b").applyInArrow(merge, SCHEMA).limit(max_rows + 1).toArrow()
    numbers = sum(_width(table.column(name)) for name in ("base", "replicates")) * table.num_rows
    if table.num_rows > max_rows or numbers > MAX_NUMBERS:
        raise StatisticError("too_many_cells", keys="channel", limit=max_rows)
    return by_stat(read_rows(table))


def _width(column: pa.ChunkedArray) -> int:
    return len(column[0]) if len(column) else 0


def read_rows(table: pa.Table) -> list[Cells]:
    """A table of sums, cut by statistic."""
    stats = np.asarray(table.column("stat").to_pylist(), object)
    segment, key = (np.asarray(table.column(name).to_numpy(), np.int64) for name in ("segment", "key"))
    found = []
    for stat in sorted(set(stats)):
        mask = stats == stat
        picked = table.filter(pa.array(mask))
        base, replicates = (_matrix(picked.column(name)) for name in ("base", "replicates"))
        found.append(Cells(stat, segment[mask], key[mask], base, replicates))
    return found


def _matrix(column: pa.ChunkedArray) -> NDArray[np.int64]:
    lists = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    values = np.asarray(lists.flatten().to_numpy(zero_copy_only=False), np.int64)
    return values.reshape(len(lists), -1) if len(lists) and len(values) else np.zeros((len(lists), 0), np.int64)


def top_paths(sums: DataFrame, most: int) -> tuple[list[tuple[str, list[int]]], int]:
    """The paths with most conversions, with their sums, and the number of different paths."""
    width = F.size("base")
    paths = sums.where(F.col("stat") == F.lit("path")).select("path", "base", width.alias("w"))
    first = paths.agg(F.max("w").alias("w")).toArrow().to_pylist()[0]["w"]
    if first is None:
        return [], 0
    totals = [F.sum(F.col("base")[i]).alias(f"s{i}") for i in range(int(first))]
    counted = paths.groupBy("path").agg(*totals)
    many = counted.count()
    best = counted.orderBy(F.desc("s0"), F.desc("s1"), F.asc("path")).limit(most).toArrow().to_pylist()
    return [(str(row["path"]), [int(row[f"s{i}"]) for i in range(int(first))]) for row in best], many


def path_rows(frame: DataFrame, path: str, conversions: str, nulls: str | None, value: str | None,
              scale: float) -> DataFrame:  # fmt: skip
    """A table of ready paths with equal ones added: conversions, nulls and value in whole numbers, hash ``p1``."""
    won = F.coalesce(col(conversions).cast("bigint"), F.lit(0).cast("bigint"))
    lost = F.coalesce(col(nulls).cast("bigint"), F.lit(0).cast("bigint")) if nulls else F.lit(0).cast("bigint")
    worth = F.coalesce(col(value).cast("double"), F.lit(0.0)) if value else F.lit(0.0)
    fixed = F.round(worth * F.lit(scale)).cast("bigint")
    text = col(path).cast("string").alias("path")
    rows = frame.select(text, won.alias("n"), lost.alias("m"), fixed.alias("v0"))
    added = rows.groupBy("path").agg(F.sum("n").alias("n"), F.sum("m").alias("m"), F.sum("v0").alias("v0"))
    return added.withColumn("p1", F.xxhash64(F.lit("path"), F.col("path")))


def steps_of(frame: DataFrame, path: str, separator: str) -> DataFrame:
    """One row for each step of each path, in the column ``channel``."""
    quoted = "".join("\\" + c if c in r"\.+*?()|[]{}^$" else c for c in separator)
    return frame.select(F.explode(F.split(col(path).cast("string"), quoted)).alias("channel"))


def labels(frame: DataFrame, text: Column, max_rows: int) -> dict[int, str]:
    """The different values of ``text`` by their code. Raises StatisticError beyond ``max_rows`` of them."""
    found = frame.select(text.alias("x")).groupBy("x").agg(F.count(F.lit(1)).alias("n"))
    table = found.select("x", code(F.col("x")).alias("c")).limit(max_rows + 1).toArrow()
    if table.num_rows > max_rows:
        raise StatisticError("too_many_cells", keys="channel", limit=max_rows)
    return {int(row["c"]): str(row["x"]) for row in table.to_pylist() if row["x"] is not None}


def totals(frame: DataFrame, key: str, amount: str, max_rows: int) -> dict[str, float]:
    """The sum of ``amount`` by ``key``, in hundred-thousandths; NULL amounts are 0."""
    fixed = F.round(F.coalesce(col(amount).cast("double"), F.lit(0.0)) * F.lit(1e5)).cast("decimal(38,0)")
    found = frame.select(col(key).cast("string").alias("k"), fixed.alias("v")).groupBy("k").agg(F.sum("v").alias("v"))
    table = found.limit(max_rows + 1).toArrow()
    if table.num_rows > max_rows:
        raise StatisticError("too_many_cells", keys=key, limit=max_rows)
    rows = sorted((str(row["k"]), int(row["v"])) for row in table.to_pylist() if row["k"] is not None)
    return {name: value / 1e5 for name, value in rows}


def small(frame: DataFrame, columns: Sequence[str], max_rows: int) -> list[tuple[object, ...]]:
    """The rows of a small table. Raises StatisticError above ``max_rows`` of them."""
    table = frame.select(*map(col, columns)).limit(max_rows + 1).toArrow()
    if table.num_rows > max_rows:
        raise StatisticError("too_many_cells", keys=columns[0], limit=max_rows)
    return [tuple(row[name] for name in columns) for row in table.to_pylist()]


def bounds(frame: DataFrame, columns: Sequence[str]) -> dict[str, int]:
    """A whole number that the sum of each column of 0 or more does not exceed: every value rounded up."""
    whole = [F.ceil(col(name).cast("double")).cast("decimal(38,0)") for name in columns]
    row = frame.agg(*(F.sum(value).alias(f"s{i}") for i, value in enumerate(whole))).toArrow().to_pylist()[0]
    return {name: int(row[f"s{i}"] or 0) for i, name in enumerate(columns)}
