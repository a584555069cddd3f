"""Histograms of fixed-point integers by group, natively; and how many rows of each cluster lie at or below a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType, IntegralType

from causal_spark.errors import StatisticError
from causal_spark.spark.blocks import joined
from causal_spark.spark.columns import fixed_point
from causal_spark.spark.compress import MomentsSpec, compress
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
    frame: DataFrame, group: str, wanted: Sequence[Binned], max_cells: int = MAX_CELLS
) -> list[dict[str, Histogram]]:
    """For each column of ``wanted`` its histogram in each group, by the group's label; NULLs are left out.

    A group-by of each column on (group, cell), in one job: twice as fast as one over rows exploded by column. Raises
    StatisticError above ``max_cells`` cells.
    """
    counted = [_counted(frame, group, item, i) for i, item in enumerate(wanted)]
    table = joined(counted, lambda a, b: a.unionAll(b)).limit(max_cells + 1).toArrow()
    if table.num_rows > max_cells:
        raise StatisticError("too_many_histogram_cells", limit=max_cells)
    labels = table.column("g").combine_chunks().dictionary_encode()
    place, code = (np.asarray(part) for part in (table.column("i"), labels.indices))
    cells, counts = (np.asarray(table.column(name), np.int64) for name in ("c", "n"))
    found: list[dict[str, Histogram]] = []
    for i, item in enumerate(wanted):
        parts = {}
        for k, label in enumerate(labels.dictionary.to_pylist()):
            mine = (place == i) & (code == k)
            parts[label] = Histogram.from_cells(cells[mine], counts[mine], item.bits, item.scale)
        found.append(parts)
    return found


def _counted(frame: DataFrame, group: str, item: Binned, place: int) -> DataFrame:
    values = frame.select(col(group).cast("string").alias("g"), item.value().alias("v")).where(F.col("v").isNotNull())
    cells = values.select("g", item.cell(F.col("v")).alias("c"))
    return cells.groupBy("g", "c").agg(F.count(F.lit(1)).alias("n")).select(F.lit(place).alias("i"), "g", "c", "n")


def cluster_counts(
    frame: DataFrame, group: str, cluster: str, wanted: Sequence[tuple[Binned, Mapping[str, Sequence[int]]]]
) -> list[dict[str, Moments]]:
    """Moments over clusters, by group, of the rows with a value and of those at or below each limit, in this order.

    ``wanted``: a column, and for each group the cells that are its limits. One shuffle by cluster, of whole numbers,
    for all columns.
    """
    values = [col(group).cast("string").alias("g"), col(cluster).alias("k")]
    cells, sums = [F.col("g"), F.col("k")], list[Column]()
    blocks: dict[str, tuple[str, ...]] = {}
    for i, (item, limits) in enumerate(wanted):
        values.append(item.value().alias(f"v{i}"))
        cells.append(item.cell(F.col(f"v{i}")).alias(f"c{i}"))
        sums.append(F.count(f"c{i}").alias(f"n{i}"))
        several = len(next(iter(limits.values())))
        for k in range(several):
            limit = _by_group({name: each[k] for name, each in limits.items()})
            sums.append(F.count(F.when(F.col(f"c{i}") <= limit, 1)).alias(f"b{i}_{k}"))
        blocks[str(i)] = (f"n{i}", *(f"b{i}_{k}" for k in range(several)))
    totals = frame.select(*values).select(*cells).groupBy("g", "k").agg(*sums)
    found: list[dict[str, Moments]] = [{} for _ in wanted]
    for named, part in compress(totals, MomentsSpec(blocks, by=("g",))).where():
        found[int(str(named[BLOCK]))][str(named["g"])] = part
    return found


def _by_group(limits: Mapping[str, int]) -> Column:
    first, *others = limits.items()
    chosen = F.when(F.col("g") == F.lit(first[0]), F.lit(first[1]))
    for label, limit in others:
        chosen = chosen.when(F.col("g") == F.lit(label), F.lit(limit))
    return chosen
