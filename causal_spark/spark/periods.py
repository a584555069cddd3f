"""Time cut into periods within regions: the cell of each row, and how far into its period a row is."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from causal_spark.spark.gate import micros
from causal_spark.spark.tables import col

# Microseconds since the period began.
ELAPSED = "(in period)"


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
    """As ``with_cells`` with the beginning of the period, and ``ELAPSED``."""
    time = micros(col(cut.time))
    frame = frame.withColumn(ELAPSED, F.pmod(time - F.lit(cut.origin), F.lit(cut.length)))
    return frame.withColumn(name, _cell(col(region), time - F.col(ELAPSED)))


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
