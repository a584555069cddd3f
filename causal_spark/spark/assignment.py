"""Who gets what by salted hash: the same on every engine, of every type of key."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, IntegralType, StringType

from causal_spark.errors import ConfigError
from causal_spark.spark.blocks import hashed
from causal_spark.spark.compress import MAX_ROWS, label
from causal_spark.spark.tables import col, require

UNIT, ARM = "unit", "arm"


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
        place = self.place(code)
        (first, end), *others = self.edges
        found = F.when(place < F.lit(end), F.lit(first))
        for name, end in others:
            found = found.when(place < F.lit(end), F.lit(name))
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


def counts(frame: DataFrame, column: str) -> dict[str, int]:
    """Rows by the values of a column of few values."""
    table = frame.groupBy(col(column).alias("k")).agg(F.count(F.lit(1)).alias("n")).limit(MAX_ROWS).toArrow()
    return {label(row["k"]): int(row["n"]) for row in table.to_pylist()}
