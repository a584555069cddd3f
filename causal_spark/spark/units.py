"""From exposures and events to one row per unit, in fixed-point integers until the last step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from causal_spark.config import Filter
from causal_spark.spark.columns import condition, fixed_point
from causal_spark.spark.compress import count
from causal_spark.spark.gate import micros
from causal_spark.spark.tables import col
from causal_spark.statistics import Counts

DAY = 86_400_000_000
# Columns of our own, beside those that carry the names of the user's segments and metrics.
UNIT, ARM, EXPOSED, SPLIT = "(unit)", "(arm)", "(exposed)", "(in several arms)"
EVENTS, BEFORE, ELAPSED, SINCE = "(events)", "(events before)", "(elapsed)", "(day)"
EVENT = "(event) "
SEPARATOR, NULL_MARK = "\u0001", "\u0002"
# Microseconds since 1970 as text of one length, so that its order is that of time; times before 1970 are no exposures.
TIME_DIGITS = 18


@dataclass(frozen=True)
class Measure:
    """One number per unit, made of its events: the sum of ``column`` (None: the count), or whether there is any.

    Events count from ``start`` to before ``stop`` microseconds after the unit's first exposure
    (negative: before it). The sum is of round(value · scale) as BIGINT.
    ``mature``: NULL for units exposed less than this long before ``as_of``.
    """

    name: str
    column: str | None
    start: int
    stop: int | None
    filters: tuple[Filter, ...] = ()
    any: bool = False
    scale: int = 1
    mature: int | None = None

    def fixed(self) -> Column:
        """The event's contribution as BIGINT; NULL outside the window and the filters, or of a NULL value."""
        elapsed = F.col(ELAPSED)
        inside = elapsed >= F.lit(self.start)
        if self.stop is not None:
            inside = inside & (elapsed < F.lit(self.stop))
        chosen = condition(self.filters, EVENT)
        if chosen is not None:
            inside = inside & chosen
        if self.column is None or self.any:
            return F.when(inside, F.lit(1).cast("bigint"))
        return F.when(inside, fixed_point(col(EVENT + self.column), self.scale))

    def total(self, value: Column) -> Column:
        """The unit's total of the contributions, 0 where there is none."""
        return F.coalesce(F.max(value) if self.any else F.sum(value), F.lit(0).cast("bigint"))

    def matured(self, as_of: int) -> Column:
        """The total, NULL for units that are not mature at ``as_of``."""
        if self.mature is None:
            return col(self.name)
        return F.when(F.col(EXPOSED) + F.lit(self.mature) <= F.lit(as_of), col(self.name)).alias(self.name)


def first_exposures(exposures: DataFrame, unit: str, arm: str, time: str, carried: Mapping[str, str]) -> DataFrame:
    """One row per unit: first exposure, its arm and the ``carried`` columns (new name → column) as of then.

    Ties in time are settled by arm, then by the carried values, so the row does not depend on any order.
    The earliest row is the least text: the minimum of a struct is twenty times as slow on an embedded engine.
    """
    values = [col(arm), *(col(name) for name in carried.values())]
    time_text = F.lpad(micros(col(time)).cast("string"), TIME_DIGITS, "0")
    row = F.concat(time_text, *(part for value in values for part in (F.lit(SEPARATOR), _text(value))))
    rows = exposures.select(col(unit).alias(UNIT), col(arm).cast("string").alias("a"), row.alias("row"))
    found = rows.groupBy(UNIT).agg(F.min("row").alias("row"), (F.min("a") != F.max("a")).alias(SPLIT))
    parts = found.select(UNIT, SPLIT, F.split("row", SEPARATOR).alias("parts"))
    return parts.select(
        UNIT,
        SPLIT,
        F.col("parts").getItem(0).cast("bigint").alias(EXPOSED),
        *(_value(F.col("parts").getItem(i + 1)).alias(name) for i, name in enumerate((ARM, *carried))),
    )


def _text(value: Column) -> Column:
    """A value inside a row of text; the separator cannot stand in it, NULL has its own mark."""
    return F.coalesce(F.translate(value.cast("string"), SEPARATOR + NULL_MARK, "  "), F.lit(NULL_MARK))


def _value(text: Column) -> Column:
    return F.when(text != F.lit(NULL_MARK), text)


def distinct_events(events: DataFrame, event: str, columns: Sequence[str]) -> DataFrame:
    """Equal rows of one event, as far as ``columns`` show it, count once."""
    return events.select(*map(col, dict.fromkeys([event, *columns]))).distinct()


def joined(first: DataFrame, events: DataFrame, unit: str, time: str, columns: Sequence[str]) -> DataFrame:
    """Every unit with its events (one row without events if it has none) and the time elapsed since exposure."""
    used = [col(name).alias(EVENT + name) for name in columns]
    rows = events.select(col(unit).alias("(event unit)"), micros(col(time)).alias("(at)"), *used)
    pairs = first.join(rows, F.col(UNIT) == F.col("(event unit)"), "left")
    return pairs.withColumn(ELAPSED, F.col("(at)") - F.col(EXPOSED))


def totals(pairs: DataFrame, measures: Sequence[Measure], carried: Sequence[str], as_of: int) -> DataFrame:
    """The unit table: keys, exposure, carried columns, every measure in its fixed-point integers, event counts."""
    keys = [*map(col, (UNIT, ARM, EXPOSED, SPLIT, *carried))]
    rows = pairs.select(*keys, ELAPSED, *(m.fixed().alias(m.name) for m in measures))
    earliest = min([m.start for m in measures if m.start < 0], default=0)
    before = F.when(F.col(ELAPSED) < F.lit(earliest), F.lit(1).cast("bigint"))
    table = rows.groupBy(*keys).agg(
        *(m.total(col(m.name)).alias(m.name) for m in measures),
        F.count(ELAPSED).alias(EVENTS),
        F.count(before).alias(BEFORE),
    )
    return table.select(*keys, *(m.matured(as_of) for m in measures), EVENTS, BEFORE)


def daily(pairs: DataFrame, measures: Sequence[Measure], days: int, as_of: int) -> DataFrame:
    """Every measure by unit and whole day since exposure, of days below ``days`` that are over at ``as_of``."""
    day = F.col(SINCE)
    over = F.col(EXPOSED) + (day + F.lit(1)) * F.lit(DAY) <= F.lit(as_of)
    rows = pairs.withColumn(SINCE, F.floor(F.col(ELAPSED) / F.lit(DAY)).cast("bigint"))
    rows = rows.where((day >= 0) & (day < days) & over)
    rows = rows.select(UNIT, ARM, EXPOSED, SINCE, *(m.fixed().alias(m.name) for m in measures))
    return rows.groupBy(UNIT, ARM, EXPOSED, SINCE).agg(*(m.total(col(m.name)).alias(m.name) for m in measures))


def span_name(measure: Measure, span: tuple[int, int]) -> str:
    return f"{measure.name} (days {span[0]} to {span[1] - 1})"


def stretched(days: DataFrame, measures: Sequence[Measure], spans: Sequence[tuple[int, int]], as_of: int) -> DataFrame:
    """From ``daily`` to one row per unit: its measures in spans [from, to) of days, if all of them are over."""
    grown = F.col(EXPOSED) + F.lit(spans[-1][1] * DAY) <= F.lit(as_of)
    since = F.col(SINCE)
    asked = [
        m.total(F.when((since >= F.lit(start)) & (since < F.lit(stop)), col(m.name))).alias(span_name(m, (start, stop)))
        for m in measures
        for start, stop in spans
    ]
    return days.where(grown).groupBy(UNIT, ARM).agg(*asked)


def decimals(table: DataFrame, measures: Sequence[Measure]) -> DataFrame:
    """The measures in their own units again: fixed-point integers divided by their scale."""
    others = [name for name in table.columns if name not in {m.name for m in measures}]
    return table.select(
        *(col(name) for name in others),
        *((col(m.name).cast("double") / F.lit(float(m.scale))).alias(m.name) for m in measures),
    )


@dataclass(frozen=True)
class Summary:
    """Counts over the unit table: units, those in several arms, events, and events that were too early to count."""

    units: int
    split: int
    events: int
    before: int


def summary(table: DataFrame) -> Summary:
    row = table.agg(
        F.count(F.lit(1)).alias("units"),
        F.sum(F.when(F.col(SPLIT), 1).otherwise(0)).alias("split"),
        F.sum(EVENTS).alias("events"),
        F.sum(BEFORE).alias("before"),
    ).toArrow().to_pylist()[0]  # fmt: skip
    return Summary(*(int(row[name] or 0) for name in ("units", "split", "events", "before")))


def in_one_arm(table: DataFrame) -> DataFrame:
    """Only the units that stand in one arm."""
    return table.where(~F.col(SPLIT))


def by_age(table: DataFrame, days: int, as_of: int) -> Counts:
    """Units by arm and whole days since exposure, ages past ``days`` counted as ``days``."""
    age = F.floor((F.lit(as_of) - F.col(EXPOSED)) / F.lit(DAY))
    return count(table.select(ARM, F.least(age, F.lit(days)).cast("bigint").alias("age")), [ARM, "age"])


@dataclass(frozen=True)
class ClusterSum:
    """A cluster total: the sum over rows in which all of ``complete`` are there, of ``column`` (None: of 1)."""

    name: str
    column: str | None
    complete: tuple[str, ...]
    scale: int = 1


def clusters(
    frame: DataFrame, cluster: str, by: Sequence[str], sums: Sequence[ClusterSum], keep: bool = False
) -> DataFrame:
    """One row per cluster and group with the totals, summed in fixed-point integers; its key is there if ``keep``."""
    wanted = []
    for item in sums:
        value = F.lit(1).cast("bigint") if item.column is None else fixed_point(col(item.column), item.scale)
        if item.complete:
            there = reduce(lambda a, b: a & b, (col(name).isNotNull() for name in item.complete))
            value = F.when(there, value)
        wanted.append(F.coalesce(F.sum(value), F.lit(0).cast("bigint")).alias(item.name))
    grouped = frame.groupBy(col(cluster), *map(col, by)).agg(*wanted)
    return grouped.select(
        *map(col, (cluster, *by) if keep else by),
        *((col(item.name).cast("double") / F.lit(float(item.scale))).alias(item.name) for item in sums),
    )
