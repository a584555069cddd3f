"""Rows of unit and day to rows of units, and how many units were new on each day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from causal_spark.spark.columns import fixed_point
from causal_spark.spark.compress import count
from causal_spark.spark.gate import micros
from causal_spark.spark.tables import col

DAY = 86_400_000_000
FIRST = "(first day)"


@dataclass(frozen=True)
class Total:
    """What a unit's days add up to in ``column``: its sum (``any``: its largest value), called ``name``.

    ``before``: of the days before the outcomes begin, else of the days from then on.
    """

    name: str
    column: str
    scale: int
    any: bool = False
    before: bool = False


def by_unit(
    frame: DataFrame, unit: str, time: str, totals: Sequence[Total], since: int | None, carried: Sequence[str] = ()
) -> DataFrame:
    """One row for each unit seen from ``since`` (microseconds since 1970) on: key, first such time, totals.

    Summed in fixed-point integers; NULL where a unit has no value. ``carried``: columns that hold one value for a
    unit; of several the least one.
    """
    inside = F.lit(True) if since is None else micros(col(time)) >= F.lit(since)
    wanted = [F.min(F.when(inside, col(time))).alias(FIRST), *(F.min(col(name)).alias(name) for name in carried)]
    for item in totals:
        value = F.when(~inside if item.before else inside, fixed_point(col(item.column), item.scale))
        wanted.append((F.max(value) if item.any else F.sum(value)).alias(item.name))
    grouped = frame.groupBy(col(unit)).agg(*wanted).where(col(FIRST).isNotNull())
    decimals = ((col(item.name).cast("double") / F.lit(float(item.scale))).alias(item.name) for item in totals)
    return grouped.select(col(unit), col(FIRST), *map(col, carried), *decimals)


def new_by_day(frame: DataFrame, time: str, cluster: str | None = None) -> tuple[tuple[int, int], ...]:
    """(Day since 1970 in UTC, units first seen on it), in order; clusters if ``cluster`` names their column."""
    if cluster is not None:
        frame = frame.groupBy(col(cluster)).agg(F.min(col(time)).alias(time))
    found = count(frame.select(_day(col(time)).alias("day")), ["day"])
    return tuple(sorted((int(str(day)), int(n)) for (day,), (n,) in found.cells.items()))


def _day(time: Column) -> Column:
    return F.floor(micros(time) / F.lit(DAY)).cast("bigint")
