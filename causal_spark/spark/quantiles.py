"""Exact quantiles of columns in two scans of each, without a row on the driver."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from causal_spark.errors import StatisticError
from causal_spark.spark.blocks import joined
from causal_spark.spark.compress import MAX_ROWS
from causal_spark.spark.tables import col

# Cells per doubling of the value: the first scan places a quantile within 1.1 %.
CELLS = 64


def quantiles(frame: DataFrame, wanted: Mapping[str, float], max_rows: int = MAX_ROWS) -> dict[str, float]:
    """For each column the order statistic of rank ceil(q·m) among its m values that are neither NULL nor 0.

    For each column, scan 1 counts values in logarithmic cells (about 10,000 at most), scan 2 counts the values
    of the one cell that holds the rank; each scan of all columns is one job.
    A cell with more than ``max_rows`` distinct values is read at its upper edge (1.1 % wide).
    A column without such values gives NaN.
    """
    cells = _counts([_tally(frame, i, _cell(name)) for i, name in enumerate(wanted)])
    held: dict[str, tuple[float, int]] = {}
    for i, (name, q) in enumerate(wanted.items()):
        rows = sum(n for _, n in cells.get(i, []))
        if rows:
            held[name] = _holder(cells[i], max(1, _ceil(q * rows)), name)
    inside = [
        _tally(frame.where(_cell(name) == F.lit(int(cell))), i, col(name).cast("double")).limit(max_rows + 1)
        for i, (name, (cell, _)) in enumerate(held.items())
    ]
    values = _counts(inside)
    found = dict.fromkeys(wanted, math.nan)
    for i, (name, (_, rank)) in enumerate(held.items()):
        several = len(values.get(i, [])) > max_rows
        found[name] = _largest(frame, name, held[name][0]) if several else _holder(values.get(i, []), rank, name)[0]
    return found


def _tally(frame: DataFrame, place: int, value: Column) -> DataFrame:
    """Rows of each ``value`` that is not NULL, marked with the column's place."""
    there = frame.select(value.alias("v")).where(F.col("v").isNotNull())
    return there.groupBy("v").agg(F.count(F.lit(1)).alias("n")).select(F.lit(place).alias("i"), "v", "n")


def _counts(tallies: Sequence[DataFrame]) -> dict[int, list[tuple[float, int]]]:
    """By place the values in order with their rows: one job for all tallies."""
    found: dict[int, list[tuple[float, int]]] = {}
    if tallies:
        table = joined(tallies, lambda a, b: a.unionAll(b)).toArrow()
        for place, value, n in sorted(zip(*(column.to_pylist() for column in table.columns), strict=True)):
            found.setdefault(place, []).append((value, n))
    return found


def _holder(counts: Sequence[tuple[float, int]], rank: int, name: str) -> tuple[float, int]:
    """The value that holds the ``rank``, and the rank among the rows of that value."""
    for value, n in counts:
        if n >= rank:
            return value, rank
        rank -= n
    raise StatisticError("quantile_lost", column=name)


def _largest(frame: DataFrame, name: str, cell: float) -> float:
    inside = frame.where(_cell(name) == F.lit(int(cell)))
    return float(inside.agg(F.max(col(name).cast("double")).alias("x")).toArrow().column("x")[0].as_py())


def _cell(name: str) -> Column:
    """A cell number that grows with the value."""
    x = col(name).cast("double")
    place = F.floor(F.log2(F.abs(x)) * CELLS).cast("long") + F.lit(1100 * CELLS)
    return F.when(x > 0, place).when(x < 0, -place)


def _ceil(x: float) -> int:
    """Ceiling that forgives the last digits of q·m: 0.999·1000 is rank 999."""
    return int(-((-x + 1e-9 * max(1.0, x)) // 1))
