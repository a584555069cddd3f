"""Tables of ready paths: equal ones added, their steps, and bounds of their sums."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from causal_spark.spark.tables import col


def path_rows(frame: DataFrame, path: str, conversions: str, nulls: str | None, value: str | None,
              scale: float) -> DataFrame:  # fmt: skip
    """A table of ready paths with equal ones added: conversions, nulls and value in whole numbers, hash ``p1``."""
    won = F.coalesce(col(conversions).cast("bigint"), F.lit(0).cast("bigint"))
    lost = F.coalesce(col(nulls).cast("bigint"), F.lit(0).cast("bigint")) if nulls else F.lit(0).cast("bigint")
    worth = F.coalesce(col(value).cast("double"), F.lit(0.0)) if value else F.lit(0.0)
    fixed = F.round(worth * F.lit(scale)).cast("bigint")
    text = col(path).cast("string").alias("path")
    rows = frame.select(text, won.alias("n"), lost.alias("m"), fixed.alias("v0"))
    added = rows.groupBy("path").agg(F.sum("n").alias("n"), F.sum("m").alias("m"), F.sum("v0").alias("v0"))
    return added.withColumn("p1", F.xxhash64(F.lit("path"), F.col("path")))


def steps_of(frame: DataFrame, path: str, separator: str) -> DataFrame:
    """One row for each step of each path, in the column ``channel``."""
    quoted = "".join("\\" + c if c in r"\.+*?()|[]{}^$" else c for c in separator)
    return frame.select(F.explode(F.split(col(path).cast("string"), quoted)).alias("channel"))


def bounds(frame: DataFrame, columns: Sequence[str]) -> dict[str, int]:
    """A whole number that the sum of each column of 0 or more does not exceed: every value rounded up."""
    whole = [F.ceil(col(name).cast("double")).cast("decimal(38,0)") for name in columns]
    row = frame.agg(*(F.sum(value).alias(f"s{i}") for i, value in enumerate(whole))).toArrow().to_pylist()[0]
    return {name: int(row[f"s{i}"] or 0) for i, name in enumerate(columns)}
