"""Sums over blocks of rows: what SQL cannot say in a few sums is said in numpy, on Arrow blocks, where the rows are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import add
from typing import TypeVar

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, IntegralType, StructField, StructType

from causal_spark.spark.tables import col
from causal_spark.statistics import Sums
from causal_spark.statistics.moments import Array

Block = Mapping[str, Array]
Work = Callable[[Block], Sums]
T = TypeVar("T")


def accumulate(frame: DataFrame, columns: Sequence[str], work: Work) -> Sums:
    """Σ over all blocks of ``work(block)``, where a block holds the ``columns`` of some rows as arrays, shape (n,).

    Numbers come as double (NULL as NaN), whole numbers as they are if none is NULL, texts as objects. ``work`` must
    give Sums of the same shapes for every block, also for one without rows, and not depend on how rows are cut
    into blocks. One scan, no shuffle; a partition leaves one row of doubles.
    """
    empty = work(_nothing(frame, columns))
    chosen = frame.select(*(col(name).alias(f"c{i}") for i, name in enumerate(columns)))

    def total(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        found = empty
        for batch in batches:
            if batch.num_rows:
                found = found + work(dict(zip(columns, map(array, batch.columns), strict=True)))
        yield pa.RecordBatch.from_arrays([pa.array([found.vector.tolist()], pa.list_(pa.float64()))], names=["sums"])

    rows = chosen.mapInArrow(total, "sums array<double>").toArrow().column("sums").to_pylist()
    return sum((empty.like(row) for row in rows), empty)


def with_columns(
    frame: DataFrame, columns: Sequence[str], new: Sequence[str], work: Callable[[Block], Sequence[Array]]
) -> DataFrame:
    """``frame`` with the ``new`` columns of doubles, made of blocks of ``columns`` where the rows are."""
    names = frame.columns
    place = {column: names.index(column) for column in columns}
    plain = frame.toDF(*(f"c{i}" for i in range(len(names))))  # classic Spark takes no quoted name here
    schema = StructType([*plain.schema.fields, *(StructField(f"n{i}", DoubleType()) for i in range(len(new)))])

    def add(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            made = work({column: array(batch.column(i)) for column, i in place.items()})
            for i, values in enumerate(made):
                batch = batch.append_column(f"n{i}", pa.array(values, pa.float64()))
            yield batch

    return plain.mapInArrow(add, schema).toDF(*names, *new)


def array(column: pa.Array) -> Array:
    """A column of a block as numpy: doubles with NaN for NULL, whole numbers as int64, the rest as objects."""
    kind = column.type
    if pa.types.is_integer(kind) and column.null_count == 0:
        column = column.cast(pa.int64())
    elif any(
        test(kind) for test in (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    ):
        column = column.cast(pa.float64())
    found: Array = column.to_numpy(zero_copy_only=False)
    return found


def _nothing(frame: DataFrame, columns: Sequence[str]) -> Block:
    kinds = {item.name: item.dataType for item in frame.schema.fields}
    return {name: np.zeros(0, np.int64) if isinstance(kinds[name], IntegralType) else np.zeros(0) for name in columns}


def linear(constant: float, names: Sequence[str], coefficients: Array) -> Column:
    """constant + Σ coefficient · column: additions in one order are the same bits on every engine."""
    products = [F.lit(float(b)) * col(name).cast(DoubleType()) for name, b in zip(names, coefficients, strict=True)]
    return joined([F.lit(float(constant)), *products], add)


def joined(parts: Sequence[T], join: Callable[[T, T], T]) -> T:
    """All ``parts`` joined in pairs, pairs of pairs …: clients refuse expressions that are nested some 50 deep."""
    while len(parts) > 1:
        parts = [join(*parts[i : i + 2]) if i + 1 < len(parts) else parts[i] for i in range(0, len(parts), 2)]
    return parts[0]


def hashed(unit: str, salt: str) -> Column:
    """A number of 64 bits that depends on the unit's key and the salt alone, the same on every engine."""
    return F.xxhash64(F.lit(salt), col(unit).cast("string"))


def hashed_part(frame: DataFrame, unit: str, rows: int, wanted: int, salt: str) -> DataFrame:
    """About ``wanted`` of the ``rows``, chosen by a hash of the unit; all of them if there are no more."""
    buckets = max(1, rows // wanted)
    return frame if buckets == 1 else frame.where(F.pmod(hashed(unit, salt), F.lit(buckets)) == F.lit(0))


def clustered_squares(
    frame: DataFrame, columns: Sequence[str], cluster: str, size: int, work: Callable[[Block], Array]
) -> tuple[Array, float]:
    """Σ over clusters of the squared cluster sums of ``work(block)`` (n, size), and the number of clusters.

    Values are summed as fixed-point integers of a millionth, so they must be of the size of 1.
    """
    chosen = frame.select(col(cluster).alias("g"), *(col(name).alias(f"c{i}") for i, name in enumerate(columns)))

    def scores(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            found = work(dict(zip(columns, map(array, batch.columns[1:]), strict=True)))
            yield from fixed(batch.column(0), found).to_batches()

    return cluster_squares(chosen.mapInArrow(scores, fixed_schema(size)), size)


def correction(groups: float) -> float:
    """G/(G - 1); NaN for a single cluster, which says nothing of how clusters differ."""
    return groups / (groups - 1.0) if groups > 1 else math.nan


def fixed(clusters: Array | pa.Array, values: Array) -> pa.Table:
    """Rows of a cluster's name and its ``values`` (n, k) in whole millionths."""
    names = clusters if isinstance(clusters, pa.Array) else pa.array(clusters.tolist(), pa.string())
    parts = {f"s{k}": pa.array(np.round(values[:, k] * 1e6).astype(np.int64)) for k in range(values.shape[1])}
    return pa.table({"g": names, **parts})


def fixed_schema(size: int) -> str:
    """The schema of a row of whole-number sums, in order."""
    return "g string, " + ", ".join(f"s{k} bigint" for k in range(size))


def cluster_squares(rows: DataFrame, size: int) -> tuple[Array, float]:
    """Σ over clusters of the squares of their sums (size,), of rows made by ``fixed``, and the number of clusters."""
    sums = rows.groupBy("g").agg(*(F.sum(f"s{k}").alias(f"s{k}") for k in range(size)))
    doubles = [(F.col(f"s{k}").cast("double") / F.lit(1e6)) for k in range(size)]
    row = sums.agg(F.count(F.lit(1)), *(F.sum(value * value) for value in doubles)).toArrow()
    values = [row.column(i)[0].as_py() or 0.0 for i in range(row.num_columns)]
    return np.array(values[1:], float), float(values[0])
