"""Native column expressions of what a configuration may say: filters, NULL policies, caps, fixed point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DecimalType, DoubleType, FloatType, TimestampNTZType, TimestampType

from causal_spark.config import Filter
from causal_spark.spark.tables import col
from causal_spark.statistics.grouped import MISSING

# Types whose values Python writes in another way than the engine.
TWO_WAYS = TimestampType | TimestampNTZType | DecimalType | DoubleType | FloatType


def where(frame: DataFrame, filters: Sequence[Filter]) -> DataFrame:
    """The rows for which all filters hold."""
    chosen = condition(filters)
    return frame if chosen is None else frame.where(chosen)


def condition(filters: Sequence[Filter], prefix: str = "") -> Column | None:
    """All filters as one Boolean column; None if there is none. ``prefix``: what the columns' names begin with."""
    return reduce(lambda a, b: a & b, (_condition(item, prefix) for item in filters)) if filters else None


def _condition(item: Filter, prefix: str) -> Column:
    column, value = col(prefix + item.column), item.value
    if item.op in ("in", "not_in"):
        inside = column.isin([F.lit(v) for v in value])
        return inside if item.op == "in" else ~inside
    compared = {
        "==": lambda: column == F.lit(value), "!=": lambda: column != F.lit(value),
        "<": lambda: column < F.lit(value), "<=": lambda: column <= F.lit(value),
        ">": lambda: column > F.lit(value), ">=": lambda: column >= F.lit(value),
        "is_null": column.isNull, "not_null": column.isNotNull,
    }  # fmt: skip
    return compared[item.op]()


@dataclass(frozen=True)
class Prepared:
    """A column as double under a new ``name``: NULL as 0 if ``zero``, values above ``cap`` set to it."""

    name: str
    source: str
    zero: bool = False
    cap: float | None = None

    def value(self) -> Column:
        # least(x, cap) would turn NULL into the cap.
        value = col(self.source).cast("double")
        if self.cap is not None:
            value = F.when(value > F.lit(self.cap), F.lit(self.cap)).otherwise(value)
        return F.coalesce(value, F.lit(0.0)) if self.zero else value


def prepare(frame: DataFrame, keys: Sequence[str], columns: Sequence[Prepared]) -> DataFrame:
    """Only the keys and the prepared columns."""
    return frame.select(*map(col, dict.fromkeys(keys)), *(column.value().alias(column.name) for column in columns))


def fixed_point(value: Column, scale: int) -> Column:
    """round(value · scale) as BIGINT: sums of it are the same for any order, partitioning and retry."""
    return F.round(value.cast("double") * F.lit(float(scale))).cast("bigint")


def as_text(frame: DataFrame, name: str) -> DataFrame:
    """``frame`` with the column ``name`` as text."""
    return frame.withColumn(name, col(name).cast("string"))


def constant(frame: DataFrame, name: str, value: str) -> DataFrame:
    """``frame`` with a column that holds one text in every row."""
    return frame.withColumn(name, F.lit(value))


def as_label(frame: DataFrame, name: str) -> DataFrame:
    """``frame`` with the column ``name`` as the text that ``compress.label`` gives its values, NULL named too."""
    value = col(name)
    text = value.cast("string")
    if isinstance(frame.schema[name].dataType, DoubleType | FloatType):
        whole = (F.floor(value) == value) & (F.abs(value) < F.lit(1e16))
        text = F.when(whole, F.concat(value.cast("bigint").cast("string"), F.lit(".0"))).otherwise(text)
    return frame.withColumn(name, F.coalesce(text, F.lit(MISSING)))


def labelled(frame: DataFrame, names: Sequence[str]) -> DataFrame:
    """``frame`` with one text for each value of the columns ``names``, whichever pass groups by them."""
    kinds = {item.name: item.dataType for item in frame.schema.fields} if names else {}
    for name in names:
        if isinstance(kinds[name], TWO_WAYS):
            frame = as_label(frame, name)
    return frame
