"""Sums by group and bucket; a bucket holds whole units, or clusters of units, by the hash of their key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import and_

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from causal_spark.spark.blocks import hashed, joined
from causal_spark.spark.compress import labelled, together
from causal_spark.spark.tables import col
from causal_spark.statistics.histogram import Integers
from causal_spark.statistics.moments import Array

# Buckets that have rows (m,), and their sums (m, p).
Filled = tuple[Integers, Array]


@dataclass(frozen=True)
class BucketSum:
    """Σ (``column`` - ``centre``), without a column the count, over rows in which all of ``complete`` are there."""

    column: str | None
    complete: tuple[str, ...] = ()
    centre: float = 0.0

    def over(self, short: dict[str, str]) -> Column:
        """The sum on columns of ``short`` names."""
        value = F.lit(1.0) if self.column is None else F.col(short[self.column]) - F.lit(self.centre)
        there = [F.col(short[name]).isNotNull() for name in self.complete]
        return F.coalesce(F.sum(F.when(joined(there, and_), value) if there else value), F.lit(0.0))


def bucket_sums(
    frame: DataFrame, group: str, key: str, buckets: int, salt: str, sums: Sequence[BucketSum]
) -> dict[str, Array]:
    """For each group's label the sums by bucket, shape (``buckets``, len(sums)); a bucket without rows holds zeros.

    bucket = hash of ``key`` modulo ``buckets``. One group-by.
    """
    found = bucket_groups(frame, [group], key, buckets, salt, sums)
    return {label: spread([part], buckets) for (label,), part in sorted(found.items())}


def bucket_groups(
    frame: DataFrame, keys: Sequence[str], unit: str, buckets: int, salt: str, sums: Sequence[BucketSum]
) -> dict[tuple[str, ...], Filled]:
    """For each group of ``keys``, by their labels, the buckets that have rows and their ``sums``.

    bucket = hash of ``unit`` modulo ``buckets``. One group-by.
    """
    names = dict.fromkeys(name for item in sums for name in (item.column, *item.complete) if name)
    short = {name: f"c{i}" for i, name in enumerate(names)}
    groups = {name: f"g{j}" for j, name in enumerate(keys)}
    numbers = [col(name).cast("double").alias(alias) for name, alias in short.items()]
    rows = frame.select(
        *(col(name).alias(alias) for name, alias in groups.items()), _bucket(unit, buckets, salt).alias("b"), *numbers
    )
    asked = [item.over(short).alias(f"s{i}") for i, item in enumerate(sums)]
    table = rows.groupBy(*groups.values(), "b").agg(*asked).toArrow()
    values = np.column_stack([np.asarray(table.column(f"s{i}"), float) for i in range(len(sums))])
    place = np.asarray(table.column("b"), np.int64)
    labels = [labelled(table.column(alias)) for alias in groups.values()]
    found = {}
    for mine in together(*(codes for _, codes in labels)):
        found[tuple(texts[codes[mine[0]]] for texts, codes in labels)] = (place[mine], values[mine])
    return found


def spread(parts: Sequence[Filled], buckets: int) -> Array:
    """The sums of all ``parts`` by bucket, shape (``buckets``, p); a bucket without rows holds zeros."""
    found = np.zeros((buckets, parts[0][1].shape[1]))
    for place, sums in parts:
        found[place] += sums
    return found


def with_bucket(frame: DataFrame, key: str, buckets: int, salt: str, name: str) -> DataFrame:
    """``frame`` with the bucket of each row, 0 to ``buckets`` - 1, as the column ``name``."""
    return frame.withColumn(name, _bucket(key, buckets, salt))


def _bucket(key: str, buckets: int, salt: str) -> Column:
    return F.pmod(hashed(key, salt), F.lit(buckets)).cast("int")
