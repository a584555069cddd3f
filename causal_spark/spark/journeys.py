"""The journey shuffle: persons' events into buckets, each bucket into whole-number sums, the sums into one table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from causal_spark.errors import StatisticError
from causal_spark.spark.gate import micros
from causal_spark.spark.packed import Layout
from causal_spark.spark.tables import col
from causal_spark.statistics.cells import Cells, Texts, by_stat

# Rows of a bucket: what one Python worker holds at a time.
BUCKET_ROWS = 400_000
MERGERS = 8
JOINER = " / "
PERIOD = "(period)"
DAY = 86_400_000_000
SCHEMA = "stat string, segment bigint, key bigint, path string, base array<bigint>, replicates array<bigint>"
# Numbers of the merged sums that come to the driver.
MAX_NUMBERS = 40_000_000
# The person's key as text, where the rows of a table name persons.
WHO = "who"

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


def level(segment: str) -> Column:
    """The value of a segment column as text; NULL is nothing."""
    return F.coalesce(col(segment).cast("string"), F.lit(""))


def code(text: Column) -> Column:
    """A number of 64 bits for a text, the same on every engine."""
    return F.xxhash64(text)


@dataclass(frozen=True)
class Coding:
    """How an event becomes whole numbers: p1 and p2 (the person), words of packed fields, what needs 64 bits.

    The fields: t (microseconds since ``start``), k (0 touch, 1 conversion), y (1 view), c (the channel), g0, g1, …
    (segments). Texts are the remainders of their ``code`` by ``channels`` and ``segments``. ``event`` and
    ``session``: whether there is a column e (hash of the event id), s (hash of the session, 0 for none).
    """

    layout: Layout
    start: int
    channels: int
    segments: tuple[int, ...]
    event: bool
    session: bool

    @classmethod
    def of(cls, start: int, end: int, channels: int, segments: Sequence[int], event: bool, session: bool) -> Coding:
        """The coding of events from ``start`` to ``end``."""
        levels = {f"g{i}": size for i, size in enumerate(segments)}
        layout = Layout.of({"t": end - start + 1, "k": 2, "y": 2, "c": channels, **levels})
        return cls(layout, start, channels, tuple(segments), event, session)

    def columns(self, amounts: int) -> list[str]:
        """The columns of a row, without the bucket."""
        whole = [*(["e"] if self.event else []), *(["s"] if self.session else [])]
        return ["p1", "p2", *self.layout.words, *whole, *(f"v{i}" for i in range(amounts))]

    def read(self, columns: Columns) -> dict[str, NDArray]:
        """The fields of a bucket's rows; e and s are 0 where there is no column."""
        fields = self.layout.unpack(columns)
        fields["t"] = fields["t"] + np.int64(self.start)
        nothing = np.zeros(len(fields["t"]), np.int64)
        kept = {name: values for name, values in columns.items() if name not in self.layout.words}
        return {"e": nothing, "s": nothing, **kept, **fields}


def _person(person: Column, named: bool) -> list[Column]:
    """128 bits that stand for the person, so that no two persons are taken for one; ``named``: and the key itself."""
    text = person.cast("string")
    both = [F.xxhash64(F.lit("person"), text).alias("p1"), F.xxhash64(F.lit("identity"), text).alias("p2")]
    return [*([text.alias(WHO)] if named else []), *both]


@dataclass(frozen=True)
class TouchColumns:
    """The columns of the touches: ``channel`` and ``view`` (None: no views) as expressions, the others by name."""

    time: str
    channel: Column
    view: Column | None
    event: str | None
    session: str | None
    segments: tuple[str, ...]


def touch_rows(frame: DataFrame, person: Column, names: TouchColumns, coding: Coding, amounts: int,
               named: bool = False) -> DataFrame:  # fmt: skip
    """Touches as rows of ``coding``; amounts are 0."""
    fields = {
        "t": micros(col(names.time)) - F.lit(coding.start),
        "c": F.pmod(code(names.channel), F.lit(coding.channels)),
    }
    if names.view is not None:
        fields["y"] = F.when(names.view, F.lit(1)).otherwise(F.lit(0))
    for i, (name, size) in enumerate(zip(names.segments, coding.segments, strict=True)):
        fields[f"g{i}"] = F.pmod(code(level(name)), F.lit(size))
    whole = []
    if names.event is not None:
        whole.append(F.xxhash64(col(names.event).cast("string")).alias("e"))
    if names.session is not None:
        session = col(names.session).cast("string")
        whole.append(F.when(session.isNull(), F.lit(0)).otherwise(F.xxhash64(session)).cast("bigint").alias("s"))
    nothing = [F.lit(0.0).alias(f"v{i}") for i in range(amounts)]
    return frame.select(*_person(person, named), *coding.layout.pack(fields), *whole, *nothing)


def conversion_rows(frame: DataFrame, person: Column, time: str, segments: Sequence[str], coding: Coding,
                    amounts: Sequence[str], named: bool = False) -> DataFrame:  # fmt: skip
    """Conversions in the columns of ``touch_rows``; a NULL amount is 0. Of the segments they have none but their own
    period."""
    fields = {"t": micros(col(time)) - F.lit(coding.start), "k": F.lit(1)}
    for i, (name, size) in enumerate(zip(segments, coding.segments, strict=True)):
        if name == PERIOD:
            fields[f"g{i}"] = F.pmod(code(level(name)), F.lit(size))
    none = F.lit(0).cast("bigint")
    whole = [none.alias(name) for name, there in (("e", coding.event), ("s", coding.session)) if there]
    values = [F.coalesce(col(n).cast("double"), F.lit(0.0)).alias(f"v{i}") for i, n in enumerate(amounts)]
    return frame.select(*_person(person, named), *coding.layout.pack(fields), *whole, *values)


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


@dataclass(frozen=True, eq=False)
class Credited:
    """Credits of touches in rows of their bucket: ``row`` of the person (n,), ``time`` and ``end`` (n,) microseconds,
    ``channel`` (n,) and ``model`` (n,) as numbers of their names, ``credit`` (n, outcomes)."""

    row: NDArray[np.int64]
    time: NDArray[np.int64]
    channel: NDArray[np.int64]
    end: NDArray[np.int64]
    model: NDArray[np.int64]
    credit: NDArray[np.float64]


def credited(rows: DataFrame, columns: Sequence[str], work: Callable[[Columns], Credited], channels: Sequence[str],
             models: Sequence[str], credits: Sequence[str]) -> DataFrame:  # fmt: skip
    """``work`` on each bucket as a table: person, time, channel, conversion_time, model, and the columns ``credits``.

    ``rows`` have the column ``WHO``. One shuffle; the rows of a person come from one bucket.
    """
    names = list(columns)
    plain = [f"a{i}" for i in range(len(credits))]

    def bucket(table: pa.Table) -> pa.Table:
        found = work({name: _array(table.column(name)) for name in names})
        parts = [
            table.column(WHO).combine_chunks().take(pa.array(found.row)).cast(pa.string()),
            pa.array(found.time, pa.int64()),
            pa.array(channels, pa.string()).take(pa.array(found.channel)),
            pa.array(found.end, pa.int64()),
            pa.array(models, pa.string()).take(pa.array(found.model)),
            *(pa.array(np.ascontiguousarray(found.credit[:, i])) for i in range(len(plain))),
        ]
        return pa.Table.from_arrays(parts, names=["person", "t", "channel", "u", "model", *plain])

    schema = "person string, t bigint, channel string, u bigint, model string, "
    swept = rows.select("b", WHO, *names).groupBy("b")
    table = swept.applyInArrow(bucket, schema + ", ".join(f"{name} double" for name in plain))
    amounts = [F.col(name).alias(credit) for name, credit in zip(plain, credits, strict=True)]
    time, end = (F.timestamp_micros(F.col(short)) for short in ("t", "u"))
    return table.select("person", time.alias("time"), "channel", end.alias("conversion_time"), "model", *amounts)


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
                pa.repeat(pa.scalar(part.stat, pa.string()), len(part.key)),
                pa.array(part.segment, pa.int64()),
                pa.array(part.key, pa.int64()),
                _texts(part.path) if isinstance(part.path, Texts) else pa.nulls(len(part.key), pa.string()),
                _lists(part.base),
                _lists(part.replicates),
            ],
            schema=schema,
        )
        for part in parts
        if len(part.key)
    ]
    return pa.concat_tables(made) if made else schema.empty_table()


def _texts(texts: Texts) -> pa.Array:
    starts = np.ascontiguousarray(texts.starts, np.int32)
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(starts), pa.py_buffer(texts.letters))


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
    numbers = sum(len(part.flatten()) for name in ("base", "replicates") for part in table.column(name).chunks)
    if table.num_rows > max_rows or numbers > MAX_NUMBERS:
        raise StatisticError("too_many_cells", keys="channel", limit=max_rows)
    return by_stat(read_rows(table))


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


def top_paths(sums: DataFrame, width: int, most: int) -> tuple[list[tuple[str, list[int]]], int]:
    """The paths with most conversions, with their ``width`` sums, and the number of different paths."""
    totals = [F.sum(F.col("base")[i]).alias(f"s{i}") for i in range(width)]
    counted = sums.where(F.col("stat") == F.lit("path")).select("path", "base").groupBy("path").agg(*totals)
    many = counted.count()
    best = counted.orderBy(F.desc("s0"), F.desc("s1"), F.asc("path")).limit(most).toArrow().to_pylist()
    return [(str(row["path"]), [int(row[f"s{i}"]) for i in range(width)]) for row in best], many


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
