"""Exact quantiles of a column in two scans of it, without a row on the driver."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from causal_spark.errors import StatisticError
from causal_spark.spark.compress import MAX_ROWS
from causal_spark.spark.tables import col

# Cells per doubling of the value: the first scan places a quantile within 1.1 %.
CELLS = 64


def quantiles(frame: DataFrame, wanted: Mapping[str, float], max_rows: int = MAX_ROWS) -> dict[str, float]:
    """For each column the order statistic of rank ceil(q·m) among its m values that are neither NULL nor 0.

    For each column, scan 1 counts values in logarithmic cells (about 10,000 at most), scan 2 counts the values
    of the one cell that holds the rank.
    A cell with more than ``max_rows`` distinct values is read at its upper edge (1.1 % wide).
    A column without such values gives NaN.
    """
    return {name: _quantile(frame, name, q, max_rows) for name, q in wanted.items()}


def _quantile(frame: DataFrame, name: str, q: float, max_rows: int) -> float:
    counted = frame.select(_cell(name).alias("cell")).where(F.col("cell").isNotNull())
    table = counted.groupBy("cell").agg(F.count(F.lit(1)).alias("n")).toArrow()
    cells = sorted(zip(table.column("cell").to_pylist(), table.column("n").to_pylist(), strict=True))
    rank = max(1, _ceil(q * sum(n for _, n in cells)))
    for cell, n in cells:
        if n >= rank:
            return _within(frame, name, cell, rank, max_rows)
        rank -= n
    return float("nan")


def _cell(name: str) -> Column:
    """A cell number that grows with the value."""
    x = col(name).cast("double")
    place = F.floor(F.log2(F.abs(x)) * CELLS).cast("long") + F.lit(1100 * CELLS)
    return F.when(x > 0, place).when(x < 0, -place)


def _ceil(x: float) -> int:
    """Ceiling that forgives the last digits of q·m: 0.999·1000 is rank 999."""
    return int(-((-x + 1e-9 * max(1.0, x)) // 1))


def _within(frame: DataFrame, name: str, cell: int, rank: int, max_rows: int) -> float:
    x = col(name).cast("double")
    inside = frame.select(x.alias("x")).where(_cell(name) == F.lit(cell))
    table = inside.groupBy("x").agg(F.count(F.lit(1)).alias("n")).limit(max_rows + 1).toArrow()
    counts = sorted(zip(table.column("x").to_pylist(), table.column("n").to_pylist(), strict=True))
    if len(counts) > max_rows:
        top = inside.agg(F.max("x").alias("x")).toArrow().column("x")[0].as_py()
        return float(top)
    before = 0
    for value, n in counts:
        before += n
        if before >= rank:
            return float(value)
    raise StatisticError("quantile_lost", column=name)
