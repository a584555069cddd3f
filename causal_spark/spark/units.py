"""From exposures and events to one row per unit, in fixed-point integers until the last step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
EVENTS, BEFORE, ELAPSED, SINCE, SPAN = "(events)", "(events before)", "(elapsed)", "(day)", "(span)"
EVENT = "(event) "
SEPARATOR, NULL_MARK = "\u0001", "\u0002"
# Microseconds since 1970 as text of one length, so that its order is that of time; times before 1970 are no exposures.
TIME_DIGITS = 18


@dataclass(frozen=True)
class Measure:
    """One number per unit, made of its events: the sum of ``column`` (None: the count), or whether there is any.

    Events count from day ``start`` to before day ``stop`` since the unit's first exposure (negative: before it), where
    a day is 24 hours. The sum is of round(value · scale) as BIGINT.
    ``mature``: NULL for units exposed fewer days than this before ``as_of``.
    """

    name: str
    column: str | None
    start: int
    stop: int | None
    filters: tuple[Filter, ...] = ()
    any: bool = False
    scale: int = 1
    mature: int | None = None

    @property
    def always(self) -> Measure:
        """What an event adds, whenever it happens: the same for all measures that differ in their days alone."""
        return replace(self, name="", start=0, stop=None, mature=None)

    def fixed(self) -> Column:
        """The event's contribution as BIGINT; NULL outside the filters and of a NULL value."""
        chosen = condition(self.filters, EVENT)
        value = F.lit(1).cast("bigint")
        if self.column is not None and not self.any:
            value = fixed_point(col(EVENT + self.column), self.scale)
        return value if chosen is None else F.when(chosen, value)

    def total(self, value: Column) -> Column:
        """The total of the contributions, 0 where there is none."""
        return F.coalesce(F.max(value) if self.any else F.sum(value), F.lit(0).cast("bigint"))

    def inside(self, span: Column, value: Column) -> Column:
        """``value`` in the spans of days that count, NULL in others."""
        counts = span >= F.lit(self.start)
        return F.when(counts if self.stop is None else counts & (span < F.lit(self.stop)), value)

    def matured(self, as_of: int) -> Column:
        """The total, NULL for units that are not mature at ``as_of``."""
        if self.mature is None:
            return col(self.name)
        return F.when(F.col(EXPOSED) + F.lit(self.mature * DAY) <= F.lit(as_of), col(self.name)).alias(self.name)


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


def first_times(exposures: DataFrame, unit: str, time: str) -> DataFrame:
    """One row per unit: its first exposure alone."""
    return exposures.groupBy(col(unit).alias(UNIT)).agg(F.min(micros(col(time))).alias(EXPOSED))


def joined(times: DataFrame, events: DataFrame, unit: str, time: str, columns: Sequence[str], few: bool) -> DataFrame:
    """The events of the units in ``first_times``, and the time elapsed since exposure.

    ``few`` units go to where the events are, so that events need not be sent to where the units are.
    """
    used = [col(name).alias(EVENT + name) for name in columns]
    rows = events.select(col(unit).alias("(event unit)"), micros(col(time)).alias("(at)"), *used)
    pairs = rows.join(F.broadcast(times) if few else times, F.col(UNIT) == F.col("(event unit)"))
    return pairs.withColumn(ELAPSED, F.col("(at)") - F.col(EXPOSED))


def by_span(pairs: DataFrame, measures: Sequence[Measure], days: int = 0) -> DataFrame:
    """Units by SPAN, the days between which no measure begins or ends: what their events add, and how many there are.

    A span goes by its first day, spans before all others by the day before the first. Days 0 to ``days`` - 1 are spans
    by themselves.
    """
    parts = _parts(measures)
    rows = pairs.select(UNIT, _span(measures, days).alias(SPAN), *(part.fixed().alias(_sum(i)) for i, part in parts))
    sums = [part.total(F.col(_sum(i))).alias(_sum(i)) for i, part in parts]
    return rows.groupBy(UNIT, SPAN).agg(*sums, F.count(F.lit(1)).alias(EVENTS))


def _parts(measures: Sequence[Measure]) -> list[tuple[int, Measure]]:
    """The different contributions of the measures, numbered."""
    found: list[Measure] = []
    for measure in measures:
        if measure.always not in found:
            found.append(measure.always)
    return list(enumerate(found))


def _sum(part: int) -> str:
    return f"(sum {part})"


def _part(measures: Sequence[Measure], measure: Measure) -> Column:
    return F.col(next(_sum(i) for i, part in _parts(measures) if part == measure.always))


def _span(measures: Sequence[Measure], days: int) -> Column:
    day = F.floor(F.col(ELAPSED) / F.lit(DAY)).cast("bigint")
    ends = sorted({0, days, *(m.start for m in measures), *(m.stop for m in measures if m.stop is not None)})
    span = F.when((day >= 0) & (day < days), day)
    for end in reversed(ends):
        span = span.when(day >= end, F.lit(end).cast("bigint"))
    return span.otherwise(F.lit(ends[0] - 1).cast("bigint"))


def totals(
    first: DataFrame, spans: DataFrame, measures: Sequence[Measure], carried: Sequence[str], as_of: int
) -> DataFrame:
    """The unit table, from ``first_exposures`` and ``by_span`` of the same measures.

    Keys, exposure, carried columns, every measure in its fixed-point integers, event counts; zeros without events.
    """
    keys = [*map(col, (UNIT, ARM, EXPOSED, SPLIT, *carried))]
    span, none = F.col(SPAN), F.lit(0).cast("bigint")
    earliest = min([m.start for m in measures if m.start < 0], default=0)
    sums = spans.groupBy(F.col(UNIT).alias("(event unit)")).agg(
        *(m.total(m.inside(span, _part(measures, m))).alias(m.name) for m in measures),
        F.sum(EVENTS).alias(EVENTS),
        F.sum(F.when(span < F.lit(earliest), F.col(EVENTS)).otherwise(none)).alias(BEFORE),
    )
    table = first.join(sums, F.col(UNIT) == F.col("(event unit)"), "left")
    names = [*(m.name for m in measures), EVENTS, BEFORE]
    table = table.select(*keys, *(F.coalesce(col(name), none).alias(name) for name in names))
    return table.select(*keys, *(m.matured(as_of) for m in measures), EVENTS, BEFORE)


def daily(
    table: DataFrame,
    spans: DataFrame,
    measures: Sequence[Measure],
    wanted: Sequence[Measure],
    days: int,
    as_of: int,
    few: bool,
) -> DataFrame:
    """The ``wanted`` measures of the units of ``table`` by day, of days below ``days`` that are over at ``as_of``.

    From ``by_span`` of the ``measures``; a row for each day with events.
    """
    day, known = F.col(SPAN), table.select(UNIT, ARM, EXPOSED)
    values = [_part(measures, m).alias(m.name) for m in wanted]
    rows = spans.where((day >= 0) & (day < days)).select(F.col(UNIT).alias("(event unit)"), day.alias(SINCE), *values)
    found = rows.join(F.broadcast(known) if few else known, F.col(UNIT) == F.col("(event unit)"))
    over = F.col(EXPOSED) + (F.col(SINCE) + F.lit(1)) * F.lit(DAY) <= F.lit(as_of)
    return found.where(over).drop("(event unit)")


def span_name(measure: Measure, span: tuple[int, int]) -> str:
    """What a measure within a span of days is called."""
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
    """Units, units of several arms, events, events before exposure. One scan."""
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
