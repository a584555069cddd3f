"""The effects of many experiments out of their tidy tables: one group-by, whatever else the tables hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from causal_spark.config import Filter
from causal_spark.errors import StatisticError
from causal_spark.spark.columns import condition
from causal_spark.spark.runs import TRUSTED
from causal_spark.spark.tables import col


@dataclass(frozen=True)
class Group:
    """``rows`` rows of a table that have their ``keys`` in common; ``values``: the least of each number, or NaN."""

    keys: tuple[str | None, ...]
    chosen: bool
    trusted: bool
    rows: int
    values: tuple[float, ...]


def groups(
    frame: DataFrame, key: str, others: Sequence[str], chosen: Sequence[Filter], values: Sequence[str], max_rows: int
) -> list[Group]:
    """Rows by ``key`` and, where all of ``chosen`` hold, by ``others``, as text; sorted.

    The rows of a key for which ``chosen`` does not hold are one group whose other keys are None. A NaN counts as no
    number. ``trusted`` is the value of the column of that name, true where there is none. One scan, one shuffle.
    Raises StatisticError above ``max_rows`` groups.
    """
    asked = condition(chosen)
    hit = F.lit(True) if asked is None else F.coalesce(asked, F.lit(False))
    trusted = F.coalesce(col(TRUSTED).cast("boolean"), F.lit(False)) if TRUSTED in frame.columns else F.lit(True)
    keys = [col(key).cast("string").alias("k0")]
    keys += [F.when(hit, col(name).cast("string")).alias(f"k{i + 1}") for i, name in enumerate(others)]
    numbers = [F.when(hit, _number(name)).alias(f"v{i}") for i, name in enumerate(values)]
    names = [f"k{i}" for i in range(len(keys))] + ["hit", "trusted"]
    least = [F.min(f"v{i}").alias(f"v{i}") for i in range(len(numbers))]
    rows = frame.select(*keys, hit.alias("hit"), trusted.alias("trusted"), *numbers).groupBy(*names)
    found = rows.agg(F.count(F.lit(1)).alias("n"), *least).limit(max_rows + 1).toArrow()
    if found.num_rows > max_rows:
        raise StatisticError("too_many_cells", keys=", ".join([key, *others]), limit=max_rows)
    made = [
        Group(
            tuple(row[f"k{i}"] for i in range(len(keys))),
            bool(row["hit"]),
            bool(row["trusted"]),
            int(row["n"]),
            tuple(math.nan if row[f"v{i}"] is None else float(row[f"v{i}"]) for i in range(len(numbers))),
        )
        for row in found.to_pylist()
    ]
    return sorted(made, key=lambda group: (*(part or "" for part in group.keys), group.chosen, group.trusted))


def _number(name: str) -> Column:
    """A column as double, NULL instead of NaN: engines differ on where NaN stands in an order."""
    value = col(name).cast("double")
    return F.when(F.isnan(value), F.lit(None).cast("double")).otherwise(value)
