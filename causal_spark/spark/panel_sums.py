"""Sums of a few columns by two keys, in whole numbers."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from causal_spark.errors import StatisticError
from causal_spark.spark.tables import col

SCALE = 1e6


def sums_by(frame: DataFrame, keys: Sequence[str], columns: Sequence[str], max_rows: int
            ) -> dict[tuple[str, ...], tuple[float, ...]]:  # fmt: skip
    """Σ of each column by the keys' values as text; added as whole millionths, so that no order of rows shows.

    Raises StatisticError above ``max_rows`` groups.
    """
    groups = [col(name).cast("string").alias(f"k{i}") for i, name in enumerate(keys)]
    fixed = [F.round(col(name).cast("double") * F.lit(SCALE)).cast("decimal(38,0)").alias(f"v{i}")
             for i, name in enumerate(columns)]  # fmt: skip
    totals = [F.sum(f"v{i}").alias(f"v{i}") for i in range(len(columns))]
    table = frame.select(*groups, *fixed).groupBy(*(f"k{i}" for i in range(len(keys)))).agg(*totals)
    found = table.limit(max_rows + 1).toArrow()
    if found.num_rows > max_rows:
        raise StatisticError("too_many_cells", keys=", ".join(keys), limit=max_rows)
    return {
        tuple(str(row[f"k{i}"]) for i in range(len(keys))): tuple(
            int(row[f"v{i}"] or 0) / SCALE for i in range(len(columns))
        )
        for row in found.to_pylist()
    }
