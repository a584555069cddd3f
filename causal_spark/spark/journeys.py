"""The rows of the journey shuffle: persons' events as whole numbers, in buckets; and the small tables beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import IntegralType

from causal_spark.errors import StatisticError
from causal_spark.spark.compress import label
from causal_spark.spark.gate import micros
from causal_spark.spark.packed import Layout
from causal_spark.spark.tables import col
from causal_spark.statistics import Range, Ranges

# Rows of a bucket: what one Python worker holds at a time. The embedded engine takes time by rows and buckets alike.
BUCKET_ROWS = 400_000
# Buckets for each part of the shuffle: few, since engines look through a part once for each of its buckets.
TOGETHER, MOST_PARTS = 2, 4_096
JOINER = " / "
PERIOD = "(period)"
DAY = 86_400_000_000
# Bits of a person's second hash: at least so many beside other fields, else so many in a word of their own.
LEAST_BITS, MORE_BITS = 8, 32
# The person's key as text, where the rows of a table name persons.
WHO = "who"

Columns = Mapping[str, NDArray]


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
    return F.xxhash64(filled(text))


def filled(text: Column) -> Column:
    """``text``, nothing where it is NULL: the embedded engine cannot hash a column that a file says is constant."""
    return F.coalesce(text, F.lit(""))


@dataclass(frozen=True)
class Coding:
    """How an event becomes whole numbers: p1 (the person), words of packed fields, what needs 64 bits.

    The fields: t (microseconds since ``start``, up to ``span``), k (0 touch, 1 conversion), y (1 view), c (the
    channel), g0, g1, … (segments), p2 (more of the person). Texts are the remainders of their ``code`` by ``channels``
    and ``segments``. ``event``, ``session``, ``drawn``: whether there is a column e (hash of the event or conversion
    id, 0 for none), s (hash of the session, 0 for none), h (hash of the person, of which random numbers are made).

    ``numbered``: persons are whole numbers, and p1 is that number. Else it is a hash, and p2 some bits of a second one,
    so that two of n persons are taken for one with probability n² / 2^(65 + bits); h is p1 then.
    """

    layout: Layout
    start: int
    span: int
    channels: int
    segments: tuple[int, ...]
    event: bool
    session: bool
    numbered: bool
    drawn: bool

    @classmethod
    def of(cls, start: int, end: int, channels: int, segments: Sequence[int], *, views: bool, event: bool,
           session: bool, numbered: bool, drawn: bool) -> Coding:  # fmt: skip
        """The coding of events from ``start`` to ``end``."""
        levels = {f"g{i}": size for i, size in enumerate(segments)}
        sizes = {"t": end - start + 1, "k": 2, "y": 1 + views, "c": channels, **levels}
        if not numbered:
            room = Layout.of(sizes).room
            sizes["p2"] = 1 << (room if room >= LEAST_BITS else MORE_BITS)
        return cls(Layout.of(sizes), start, end - start, channels, tuple(segments), event, session, numbered, drawn)

    def columns(self, amounts: int) -> list[str]:
        """The columns of a row, without the bucket."""
        whole = {"h": self.numbered and self.drawn, "e": self.event, "s": self.session}
        return ["p1", *(name for name, there in whole.items() if there), *self.layout.words,
                *(f"v{i}" for i in range(amounts))]  # fmt: skip

    def read(self, columns: Columns) -> dict[str, NDArray]:
        """The fields of a bucket's rows, t as microseconds since 1970."""
        fields = self.layout.unpack(columns)
        fields["t"] += np.int64(self.start)
        return {**{name: values for name, values in columns.items() if name not in self.layout.words}, **fields}

    def times(self, columns: Columns) -> NDArray[np.int64]:
        """Microseconds since ``start``."""
        return self.layout.field(columns, "t")

    def person(self, person: Column, named: bool) -> list[Column]:
        """The columns of the person; ``named``: and the key itself, as text."""
        text = person.cast("string")
        hashed = F.xxhash64(F.lit("person"), filled(text))
        first = person.cast("bigint") if self.numbered else hashed
        return [*([text.alias(WHO)] if named else []), first.alias("p1"),
                *([hashed.alias("h")] if self.numbered and self.drawn else [])]  # fmt: skip

    def more(self, person: Column) -> dict[str, Column]:
        """The field p2, if there is one."""
        if self.numbered:
            return {}
        text = filled(person.cast("string"))
        return {"p2": F.pmod(F.xxhash64(F.lit("identity"), text), F.lit(1 << self.layout.places["p2"].bits))}

    def bucket(self) -> Column:
        """What tells the bucket of a row: a hash of the person."""
        return F.xxhash64("p1") if self.numbered else F.col("p1")


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
    if coding.event:
        whole.append(_identified_by(names.event).alias("e"))
    if names.session is not None:
        whole.append(_identified_by(names.session).alias("s"))
    nothing = [F.lit(0.0).alias(f"v{i}") for i in range(amounts)]
    packed = coding.layout.pack(fields | coding.more(person))
    return frame.select(*coding.person(person, named), *packed, *whole, *nothing)


def _identified_by(name: str | None) -> Column:
    """The hash of a column's text; 0 of NULL, and without a column."""
    if name is None:
        return F.lit(0).cast("bigint")
    text = col(name).cast("string")
    return code(text) * text.isNotNull().cast("bigint")


def conversion_rows(frame: DataFrame, person: Column, time: str, event: str | None, segments: Sequence[str],
                    coding: Coding, amounts: Sequence[str], named: bool = False) -> DataFrame:  # fmt: skip
    """Conversions in the columns of ``touch_rows``; a NULL amount is 0. ``event``: the column of their ids. Of the
    segments they have none but their own period."""
    fields = {"t": micros(col(time)) - F.lit(coding.start), "k": F.lit(1)}
    for i, (name, size) in enumerate(zip(segments, coding.segments, strict=True)):
        if name == PERIOD:
            fields[f"g{i}"] = F.pmod(code(level(name)), F.lit(size))
    ids = (("e", coding.event, event), ("s", coding.session, None))
    whole = [_identified_by(column).alias(name) for name, there, column in ids if there]
    values = [F.coalesce(col(n).cast("double"), F.lit(0.0)).alias(f"v{i}") for i, n in enumerate(amounts)]
    packed = coding.layout.pack(fields | coding.more(person))
    return frame.select(*coding.person(person, named), *packed, *whole, *values)


def identified(frame: DataFrame, identity: DataFrame | None, person: str, alias: str, owner: str) -> DataFrame:
    """``frame`` with ``(person)``: the owner of its key in the identity table, or the key itself."""
    if identity is None:
        return frame.withColumn("(person)", col(person))
    known = identity.select(col(alias).cast("string").alias("(alias)"), col(owner).cast("string").alias("(owner)"))
    known = known.groupBy("(alias)").agg(F.min("(owner)").alias("(owner)"))
    joined = frame.join(known, col(person).cast("string") == F.col("(alias)"), "left")
    return joined.withColumn("(person)", F.coalesce(F.col("(owner)"), col(person).cast("string")))


def bucketed(rows: DataFrame, columns: Sequence[str], key: Column, total: int) -> DataFrame:
    """``b``, a bucket by the hash ``key`` of about 400,000 rows, and the ``columns``, few buckets to a part."""
    buckets = max(1, -(-total // BUCKET_ROWS))
    parts = min(max(1, buckets // TOGETHER), MOST_PARTS)
    return rows.select(F.pmod(key, F.lit(buckets)).alias("b"), *columns).repartition(parts, F.col("b"))


def numbered(frame: DataFrame, person: str) -> bool:
    """Whether the persons of a table are whole numbers."""
    return any(item.name == person and isinstance(item.dataType, IntegralType) for item in frame.schema.fields)


@dataclass(frozen=True)
class Seen:
    """What one scan of the touches tells: ranges of person and time, touches by channel, and the ``code`` and text of
    what gets credit, with its channel."""

    ranges: Ranges
    channels: Mapping[str, int]
    names: tuple[tuple[int, str, str], ...]


def seen(frame: DataFrame, person: str, time: str, channel: str, others: Sequence[str], max_rows: int) -> Seen:
    """Group by channel and what gets credit. Raises StatisticError beyond ``max_rows`` groups."""
    moment = col(time)
    asked = [F.count(F.lit(1)).alias("n"), F.count(col(person)).alias("p"), F.count(moment).alias("t"),
             F.min(moment).alias("a"), F.max(moment).alias("b")]  # fmt: skip
    found = frame.groupBy(col(channel).cast("string").alias("k"), token(channel, others).alias("x")).agg(*asked)
    ends = [micros(F.col(name)).alias(name) for name in ("a", "b")]
    table = found.select("k", "x", code(F.col("x")).alias("c"), "n", "p", "t", *ends).limit(max_rows + 1).toArrow()
    if table.num_rows > max_rows:
        raise StatisticError("too_many_cells", keys="channel", limit=max_rows)
    rows = table.to_pylist()
    total, persons, times = (sum(row[name] for row in rows) for name in ("n", "p", "t"))
    low, high = ([row[name] for row in rows if row[name] is not None] for name in ("a", "b"))
    ranges = {"": Range(total, 0, None, None), person: Range(total, total - persons, None, None),
              time: Range(total, total - times, float(min(low)) if low else None,
                          float(max(high)) if high else None)}  # fmt: skip
    channels: dict[str, int] = {}
    for row in rows:
        channels[label(row["k"])] = channels.get(label(row["k"]), 0) + row["n"]
    names = tuple((int(row["c"]), str(row["x"]), label(row["k"])) for row in rows if row["x"] is not None)
    return Seen(ranges, channels, names)


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
