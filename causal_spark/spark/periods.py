"""Time cut into periods within regions: the cell of each row, and how far into its period a row is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from causal_spark.spark.gate import micros
from causal_spark.spark.tables import col

# Microseconds since the period began.
ELAPSED = "(in period)"
# When the period began, in microseconds since 1970; the arm of the region's period before.
START, BEFORE = "(period begins)", "(arm before)"
_START_BEFORE = "(period before begins)"


@dataclass(frozen=True)
class Cut:
    """Periods of ``length`` microseconds of the column ``time``; one begins at ``origin`` (microseconds since 1970)."""

    time: str
    length: int
    origin: int


def with_cells(frame: DataFrame, region: str, period: str, name: str) -> DataFrame:
    """The column ``name``: region and period as one text, NULL where one of them is."""
    return frame.withColumn(name, _cell(col(region), col(period)))


def with_cut_cells(frame: DataFrame, region: str, cut: Cut, name: str) -> DataFrame:
    """As ``with_cells`` with the beginning of the period, and ``ELAPSED`` and ``START``."""
    time = micros(col(cut.time))
    frame = frame.withColumn(ELAPSED, F.pmod(time - F.lit(cut.origin), F.lit(cut.length)))
    frame = frame.withColumn(START, time - F.col(ELAPSED))
    return frame.withColumn(name, _cell(col(region), F.col(START)))


def _cell(region: Column, period: Column) -> Column:
    """Two texts as one, the first with its length, so that no two pairs give the same."""
    text = region.cast("string")
    return F.concat(F.length(text).cast("string"), F.lit(":"), text, F.lit(":"), period.cast("string"))


def early(frame: DataFrame, span: int) -> tuple[int, int]:
    """All rows, and those of the first ``span`` microseconds of their period."""
    asked = (F.count(F.lit(1)), F.count(F.when(F.col(ELAPSED) < F.lit(span), 1)))
    row = frame.agg(*asked).toArrow()
    return int(row.column(0)[0].as_py()), int(row.column(1)[0].as_py())


def after(frame: DataFrame, span: int) -> DataFrame:
    """The other rows; those without a time stay, for the gate to find."""
    return frame.where(F.col(ELAPSED).isNull() | (F.col(ELAPSED) >= F.lit(span)))


def in_stretches(frame: DataFrame, wanted: Mapping[str, tuple[str, int]], edges: Sequence[int]) -> DataFrame:
    """``frame`` with the columns ``wanted`` (name → column and stretch): the value in that stretch, else NULL.

    Stretch i are the rows with ``ELAPSED`` in [edge i, edge i + 1).
    """
    elapsed, inside = F.col(ELAPSED), []
    for start, stop in pairwise(edges):
        inside.append((elapsed >= F.lit(start)) & (elapsed < F.lit(stop)))
    return frame.select("*", *(F.when(inside[i], col(column)).alias(name) for name, (column, i) in wanted.items()))


def following(cells: DataFrame, region: str, arm: str, length: int) -> DataFrame:
    """Of one row for each cell: the cells whose region has another a period of ``length`` before, with the arm of that.

    The arm is the column ``BEFORE``, as text. One shuffle of the cells by region.
    """
    window = Window.partitionBy(col(region)).orderBy(F.col(START))
    before = F.lag(F.col(START)).over(window)
    found = cells.select("*", F.lag(col(arm).cast("string")).over(window).alias(BEFORE), before.alias(_START_BEFORE))
    return found.where(F.col(_START_BEFORE) == F.col(START) - F.lit(length)).drop(_START_BEFORE)
