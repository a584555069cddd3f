"""Who gets what by salted hash, many salts at once, and sums by hashed bucket: the same on every engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, IntegralType, StringType

from causal_spark.errors import ConfigError, StatisticError
from causal_spark.spark.blocks import hashed
from causal_spark.spark.buckets import with_bucket
from causal_spark.spark.columns import fixed_point
from causal_spark.spark.compress import MAX_ROWS, label
from causal_spark.spark.tables import col, require
from causal_spark.spark.units import ClusterSum, clusters
from causal_spark.statistics.moments import Array

UNIT, ARM = "unit", "arm"
BUCKET, COUNT = "(bucket)", "(rows)"
MILLION = 1_000_000


@dataclass(frozen=True)
class Rule:
    """How a key becomes an arm: one of ``slots`` equal slots; each arm of ``edges`` ends before its slot.

    ``layer``: salt and the slots [low, high) of the layer that the experiment owns; other keys have no arm.
    """

    salt: str
    slots: int
    edges: tuple[tuple[str, int], ...]
    layer: tuple[str, int, int] | None = None

    def inside(self, frame: DataFrame, key: str) -> DataFrame:
        """The rows whose key the layer gives to the experiment."""
        if self.layer is None:
            return frame
        salt, low, high = self.layer
        place = self.place(hashed(key, salt))
        return frame.where((place >= F.lit(low)) & (place < F.lit(high)))

    def place(self, code: Column) -> Column:
        """The slot of a 64-bit hash, from its upper 63 bits."""
        return F.pmod(F.shiftright(code, 1), F.lit(self.slots).cast("bigint"))

    def arm(self, code: Column) -> Column:
        """The arm of a 64-bit hash."""
        return self._one_of(code, [name for name, _ in self.edges])

    def number(self, code: Column) -> Column:
        """The arm of a 64-bit hash as its place in ``edges``, which groups faster than a text."""
        return self._one_of(code, list(range(len(self.edges))))

    def _one_of(self, code: Column, values: Sequence[str] | Sequence[int]) -> Column:
        place = self.place(code)
        found = F.when(place < F.lit(self.edges[0][1]), F.lit(values[0]))
        for value, (_, end) in zip(values[1:], self.edges[1:], strict=True):
            found = found.when(place < F.lit(end), F.lit(value))
        return found


def require_key(frame: DataFrame, key: str, role: str) -> None:
    """A key must be a whole number or a text: of other types the canonical text depends on the engine."""
    kind: DataType = require(frame, [key], role)[key]
    if not isinstance(kind, IntegralType | StringType):
        raise ConfigError("design_key_type", role=role, column=key, type=kind.simpleString())


def assigned(frame: DataFrame, key: str, rule: Rule, repeated: bool = False) -> DataFrame:
    """One row for each key: its canonical text (``unit``) and its arm. ``repeated``: a key may have several rows."""
    kept = rule.inside(frame, key)
    rows = kept.select(col(key).cast("string").alias(UNIT), rule.arm(hashed(key, rule.salt)).alias(ARM))
    return rows.distinct() if repeated else rows


def draw_sums(
    frame: DataFrame, key: str, rule: Rule, draws: int, columns: Mapping[str, tuple[float, float]],
    strata: str | None = None, max_rows: int = MAX_ROWS,
) -> dict[tuple[int, str, str], tuple[int, Array]]:  # fmt: skip
    """Keys and Σ (x - centre)/scale of each column by (draw, stratum, arm), for the salts ``<salt>/<draw>``.

    ``columns``: name → centre and scale. Added as whole millionths, so that every engine
    and partitioning finds the same sums. One scan, in which every row is looked at once for each draw.
    Raises StatisticError above ``max_rows`` groups.
    """
    values = [fixed_point((col(name).cast("double") - F.lit(centre)) / F.lit(scale), MILLION).alias(f"x{i}")
              for i, (name, (centre, scale)) in enumerate(columns.items())]  # fmt: skip
    level = [] if strata is None else [F.coalesce(col(strata).cast("string"), F.lit("")).alias("s")]
    salts = {f"{rule.salt}/{draw}": draw for draw in range(draws)}
    every = F.explode(F.array(*map(F.lit, salts))).alias("d")
    rows = rule.inside(frame, key).select(col(key).cast("string").alias("k"), *level, *values, every)
    names, keys = [f"x{i}" for i in range(len(columns))], ["d", "a", *("s" for _ in level)]
    placed = rows.withColumn("a", rule.number(F.xxhash64("d", "k")))
    totals = [F.coalesce(F.sum(name), F.lit(0).cast("bigint")).alias(name) for name in names]
    table = placed.groupBy(*keys).agg(F.count(F.lit(1)).alias("n"), *totals).limit(max_rows + 1).toArrow()
    if table.num_rows > max_rows:
        raise StatisticError("too_many_cells", keys=f"draw, {strata}, arm", limit=max_rows)
    found = {}
    for row in table.to_pylist():
        total = np.array([row[name] for name in names], float) / MILLION
        found[salts[row["d"]], str(row.get("s", "")), rule.edges[row["a"]][0]] = int(row["n"]), total
    return found


def bucket_totals(
    frame: DataFrame, key: str, sums: Sequence[ClusterSum], buckets: int, salt: str, clustered: bool = False
) -> tuple[Array, Array]:
    """Keys (B,) and totals (B, len(sums)) of the hashed buckets that hold any, in the order of their numbers.

    ``clustered``: a key has several rows, which are added first. Whole numbers until the division by the scale.
    """
    if clustered:
        frame = clusters(frame, key, (), sums, keep=True)
        sums = [ClusterSum(item.name, item.name, (), item.scale) for item in sums]
    placed = with_bucket(frame, key, buckets, salt, BUCKET)
    table = clusters(placed, BUCKET, (), [ClusterSum(COUNT, None, ()), *sums], keep=True).toArrow()
    values = [np.asarray(table.column(i).to_numpy(zero_copy_only=False), float) for i in range(table.num_columns)]
    order = np.argsort(values[0])
    found = np.column_stack(values)[order]
    return found[:, 1], found[:, 2:]


def counts(frame: DataFrame, column: str) -> dict[str, int]:
    """Rows by the values of a column of few values."""
    table = frame.groupBy(col(column).alias("k")).agg(F.count(F.lit(1)).alias("n")).limit(MAX_ROWS).toArrow()
    return {label(row["k"]): int(row["n"]) for row in table.to_pylist()}
