"""What must be known of a table before its numbers may be used, in two Spark jobs: ranges, and keys."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DateType, DoubleType, FloatType, NumericType, TimestampNTZType, TimestampType

from causal_spark.spark.tables import col
from causal_spark.statistics import Range, Ranges

# Up to this many rows every key is checked; beyond, the keys of a hash sample of about this many rows.
KEYS_CHECKED = 2_000_000


def ranges(frame: DataFrame, columns: Sequence[str], nan: Collection[str] = ()) -> Ranges:
    """Rows, NULLs, minimum and maximum of each column in one aggregation; "" holds the row count alone.

    Times come as microseconds since 1970 (UTC), booleans as 0 and 1; of other types only NULLs are counted.
    A parquet reader may answer minimum and maximum from the file's footers, where NaN does not show; in the
    columns ``nan`` NaNs are counted, which costs a scan.
    """
    kinds = {item.name: item.dataType for item in frame.schema.fields}
    asked = [F.count(F.lit(1)).alias("n")]
    for i, name in enumerate(columns):
        kind = kinds[name]
        asked.append(F.count(col(name)).alias(f"n{i}"))
        if isinstance(kind, NumericType | TimestampType | TimestampNTZType | DateType):
            asked += [F.min(col(name)).alias(f"a{i}"), F.max(col(name)).alias(f"b{i}")]
        if name in nan and isinstance(kind, FloatType | DoubleType):
            asked.append(F.count(F.when(F.isnan(col(name)), 1)).alias(f"x{i}"))
    inner = frame.agg(*asked)
    times = TimestampType | TimestampNTZType | DateType
    timed = [i for i, name in enumerate(columns) if isinstance(kinds[name], times)]
    for i in timed:
        for end in ("a", "b"):
            inner = inner.withColumn(f"{end}{i}", micros(F.col(f"{end}{i}")))
    row = inner.toArrow().to_pylist()[0]
    total = int(row["n"])
    found = {"": Range(total, 0, None, None)}
    for i, name in enumerate(columns):
        low, high = row.get(f"a{i}"), row.get(f"b{i}")
        found[name] = Range(
            total,
            total - int(row[f"n{i}"]),
            None if low is None else float(low),
            None if high is None else float(high),
            int(row.get(f"x{i}") or 0),
        )
    return found


def fractions(frame: DataFrame, columns: Sequence[str]) -> dict[str, int]:
    """How many values of each column are no whole numbers, in one aggregation; NULL is none of them."""
    values = {name: col(name).cast("double") for name in columns}
    counted = [F.count(F.when(value != F.floor(value), 1)).alias(f"f{i}") for i, value in enumerate(values.values())]
    row = frame.agg(*counted).toArrow()
    return {name: int(row.column(i)[0].as_py()) for i, name in enumerate(columns)}


def amounts_of_none(frame: DataFrame, amount: str, count: str) -> int:
    """Rows with an ``amount`` above 0 and a ``count`` of 0 or NULL, in one aggregation."""
    none = F.coalesce(col(count).cast("double"), F.lit(0.0)) == F.lit(0.0)
    row = frame.agg(F.count(F.when((col(amount) > F.lit(0)) & none, 1)).alias("n")).toArrow()
    return int(row.column(0)[0].as_py())


def micros(time: Column) -> Column:
    """Microseconds since 1970 (UTC) of a timestamp with or without time zone."""
    return F.unix_micros(time.cast("timestamp"))


@dataclass(frozen=True)
class Keys:
    """Of the keys looked at: how many, how many stand in several rows, how many of those in several groups.

    ``share`` is the part of all keys that was looked at (1 = every key), by a hash of the key.
    """

    keys: int
    repeated: int
    in_several_groups: int
    share: float


def keys(frame: DataFrame, key: str, group: str, rows: int, every: bool = False, unique: bool = True) -> Keys:
    """How often ``key`` repeats, and across ``group``s, in one group-by; two if a key that should be ``unique`` is not.

    Of more than 2 M ``rows`` a hash sample of the keys is looked at unless ``every``: k repeated keys
    are missed with probability (1 - share)^k, so what can pass unseen is too small to matter.
    """
    buckets = 1 if every else max(1, rows // KEYS_CHECKED)
    looked = frame.select(col(key).alias("k"), col(group).alias("g")).where(F.col("k").isNotNull())
    if buckets > 1:
        looked = looked.where(F.pmod(F.xxhash64("k"), F.lit(buckets)) == F.lit(0))
    n = F.count(F.lit(1)).alias("n")
    if unique:
        found = _tally(looked.groupBy("k").agg(n, F.lit(False).alias("several")), 1.0 / buckets)
        if found.repeated == 0:
            return found
    return _tally(looked.groupBy("k").agg(n, (F.min("g") != F.max("g")).alias("several")), 1.0 / buckets)


def _tally(per_key: DataFrame, share: float) -> Keys:
    row = per_key.agg(
        F.count(F.lit(1)).alias("keys"),
        F.sum(F.when(F.col("n") > 1, 1).otherwise(0)).alias("repeated"),
        F.sum(F.when(F.col("several"), 1).otherwise(0)).alias("several"),
    ).toArrow()
    keys, repeated, several = (int(row.column(i)[0].as_py() or 0) for i in range(3))
    return Keys(keys, repeated, several, share)


def without_split_keys(frame: DataFrame, key: str, group: str) -> DataFrame:
    """``frame`` without the keys that stand in more than one group."""
    split = frame.groupBy(col(key).alias("split_key")).agg((F.min(col(group)) != F.max(col(group))).alias("several"))
    split = split.where(F.col("several")).select("split_key")
    return frame.join(split, col(key) == F.col("split_key"), "left_anti")
