"""Histograms of fixed-point integers by group, natively; and how many rows of each cluster lie at or below a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import and_

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType, IntegralType

from causal_spark.errors import StatisticError
from causal_spark.spark.blocks import joined
from causal_spark.spark.columns import fixed_point
from causal_spark.spark.compress import MomentsSpec, compress, labelled, together
from causal_spark.spark.tables import col
from causal_spark.statistics import Moments
from causal_spark.statistics.grouped import BLOCK
from causal_spark.statistics.histogram import EXACT, Histogram

# Cells of all groups and columns together that the driver takes.
MAX_CELLS = 1_000_000


@dataclass(frozen=True)
class Binned:
    """A column in whole numbers of 1/``scale``, |v| ≤ ``largest``, in the cells of a histogram of ``bits``."""

    column: str
    scale: int
    bits: int
    largest: int

    def value(self) -> Column:
        return fixed_point(col(self.column), self.scale)

    def cell(self, value: Column) -> Column:
        """The cell number of ``value`` as in ``statistics.histogram``: comparisons and shifts by literals only."""
        if self.bits >= EXACT:
            return value
        last = max(max(self.largest, 1).bit_length() - self.bits - 1, 0)
        index = self._cell(F.abs(value), 0, last)
        return F.when(value < F.lit(0), -index).otherwise(index)

    def _cell(self, size: Column, first: int, last: int) -> Column:
        """Of sizes that lose ``first`` to ``last`` digits, found by halving."""
        if first == last:
            return F.shiftright(size, first) + F.lit(first << self.bits) if first else size
        middle = (first + last + 1) // 2
        smaller, larger = self._cell(size, first, middle - 1), self._cell(size, middle, last)
        return F.when(size < F.lit(1 << (self.bits + middle)), smaller).otherwise(larger)


def whole(frame: DataFrame, column: str) -> bool:
    """Whether a column holds whole numbers by its type."""
    return isinstance(frame.schema[column].dataType, IntegralType | BooleanType)


def histograms(
    frame: DataFrame, keys: Sequence[str], wanted: Sequence[Binned], max_cells: int = MAX_CELLS
) -> list[dict[tuple[str, ...], Histogram]]:
    """For each column of ``wanted`` its histogram in each group of ``keys``, by their labels; NULLs are left out.

    A group-by of each column on (keys, cell), in one job: twice as fast as one over rows exploded by column. Raises
    StatisticError above ``max_cells`` cells.
    """
    counted = [_counted(frame, keys, item, i) for i, item in enumerate(wanted)]
    table = joined(counted, lambda a, b: a.unionAll(b)).limit(max_cells + 1).toArrow()
    if table.num_rows > max_cells:
        raise StatisticError("too_many_histogram_cells", limit=max_cells)
    labels = [labelled(table.column(f"g{j}")) for j in range(len(keys))]
    cells, counts = (np.asarray(table.column(name), np.int64) for name in ("c", "n"))
    place = np.asarray(table.column("i"), np.int64)
    found: list[dict[tuple[str, ...], Histogram]] = [{} for _ in wanted]
    for rows in together(place, *(codes for _, codes in labels)):
        key = tuple(names[codes[rows[0]]] for names, codes in labels)
        item = wanted[place[rows[0]]]
        found[place[rows[0]]][key] = Histogram.from_cells(cells[rows], counts[rows], item.bits, item.scale)
    return found


def _counted(frame: DataFrame, keys: Sequence[str], item: Binned, place: int) -> DataFrame:
    groups = [f"g{j}" for j in range(len(keys))]
    chosen = [col(name).alias(short) for name, short in zip(keys, groups, strict=True)]
    values = frame.select(*chosen, item.value().alias("v")).where(F.col("v").isNotNull())
    cells = values.select(*groups, item.cell(F.col("v")).alias("c"))
    counted = cells.groupBy(*groups, "c").agg(F.count(F.lit(1)).alias("n"))
    return counted.select(F.lit(place).alias("i"), *groups, "c", "n")


def cluster_counts(
    frame: DataFrame, keys: Sequence[str], cluster: str,
    wanted: Sequence[tuple[Binned, Mapping[tuple[str, ...], Sequence[int]]]],
) -> list[dict[tuple[str, ...], Moments]]:  # fmt: skip
    """Moments over clusters, by the labels of ``keys`` (columns of text), of the rows with a value and of those at or
    below each limit, in this order.

    ``wanted``: a column, and for each group the cells that are its limits. One shuffle by cluster, of whole numbers,
    for all columns.
    """
    groups = [f"g{j}" for j in range(len(keys))]
    values = [*(col(name).alias(short) for name, short in zip(keys, groups, strict=True)), col(cluster).alias("k")]
    cells, sums = [*map(F.col, groups), F.col("k")], list[Column]()
    blocks: dict[str, tuple[str, ...]] = {}
    for i, (item, limits) in enumerate(wanted):
        values.append(item.value().alias(f"v{i}"))
        cells.append(item.cell(F.col(f"v{i}")).alias(f"c{i}"))
        sums.append(F.count(f"c{i}").alias(f"n{i}"))
        several = len(next(iter(limits.values())))
        for k in range(several):
            limit = _by_group(groups, {names: each[k] for names, each in limits.items()})
            sums.append(F.count(F.when(F.col(f"c{i}") <= limit, 1)).alias(f"b{i}_{k}"))
        blocks[str(i)] = (f"n{i}", *(f"b{i}_{k}" for k in range(several)))
    totals = frame.select(*values).select(*cells).groupBy(*groups, "k").agg(*sums)
    found: list[dict[tuple[str, ...], Moments]] = [{} for _ in wanted]
    for named, part in compress(totals, MomentsSpec(blocks, by=tuple(groups))).where():
        found[int(str(named[BLOCK]))][tuple(str(named[short]) for short in groups)] = part
    return found


def _by_group(groups: Sequence[str], limits: Mapping[tuple[str, ...], int]) -> Column:
    """The limit of a row's group; NULL for a group without one."""
    conditions = [
        joined([F.col(short) == F.lit(text) for short, text in zip(groups, labels, strict=True)], and_)
        for labels in limits
    ]
    (first, value), *others = zip(conditions, limits.values(), strict=True)
    chosen = F.when(first, F.lit(value))
    for condition, limit in others:
        chosen = chosen.when(condition, F.lit(limit))
    return chosen
