"""The design of a method as native columns ``x0``, ``x1`` … of a frame, beside keys, treatments and outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add, and_

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType, DataType, NumericType

from causal_spark.spark.blocks import array, hashed, hashed_part, joined, linear
from causal_spark.spark.tables import col
from causal_spark.statistics.grouped import MISSING
from causal_spark.statistics.moments import Array

UNIT, FOLD, CLUSTER, SCORE, LOGIT = "(unit)", "(fold)", "(cluster)", "(score)", "(logit)"


def own(name: str) -> str:
    """A name for the table's column ``name`` beside those of the design, which it might have."""
    return f"({name} of the table)"


def beside(frame: DataFrame, names: Sequence[str]) -> DataFrame:
    """``frame`` with the columns ``names`` also under their ``own`` names."""
    return frame.select("*", *(col(name).alias(own(name)) for name in names))


def number(name: str) -> Column:
    """The column as a double."""
    return col(name).cast("double")


def coded(frame: DataFrame, levels: Mapping[str, Sequence[object]]) -> DataFrame:
    """``frame`` with the place of the text of each column among its ``levels``, as a double, under its ``own`` name."""
    for name, texts in levels.items():
        places = [(col(name).cast("string") == F.lit(text)).cast("double") * F.lit(i) for i, text in enumerate(texts)]
        frame = frame.withColumn(own(name), joined(places, add))
    return frame


@dataclass(frozen=True)
class Factor:
    """A column as it is (NULL as ``fill``), or 1 where it equals the text ``level``, or 1 where it is missing."""

    column: str
    level: str | None = None
    missing: bool = False
    fill: float = 0.0


@dataclass(frozen=True)
class Term:
    """A column of the design: the product of its factors. ``main``: a covariate itself, of which balance is told."""

    label: str
    factors: tuple[Factor, ...]
    main: bool = True


@dataclass(frozen=True)
class Scaled:
    """A term less ``centre``, over ``scale``."""

    term: Term
    centre: float
    scale: float


def terms(
    covariates: Mapping[str, Sequence[Factor]], squares: Sequence[str], interactions: Sequence[Sequence[str]]
) -> tuple[Term, ...]:
    """Main terms of each covariate by name, squares of numeric ones, products of every factor of a pair."""
    found = [Term(label(factor), (factor,)) for factors in covariates.values() for factor in factors]
    for name in squares:
        found += [
            Term(f"{name}²", (factor, factor), main=False)
            for factor in covariates[name]
            if factor.level is None and not factor.missing
        ]
    for a, b in interactions:
        found += [
            Term(f"{label(left)} · {label(right)}", (left, right), main=False)
            for left in covariates[a]
            for right in covariates[b]
        ]
    return tuple(found)


def label(factor: Factor) -> str:
    """The name of a factor in tables and reports."""
    if factor.missing:
        return f"{factor.column} (missing)"
    return factor.column if factor.level is None else f"{factor.column}={factor.level}"


def scaled(found: Sequence[Term], sample: Array) -> tuple[Scaled, ...]:
    """Terms with centre and scale from a ``sample`` (n, p) of their values.

    Both are rounded, and found from sorted values, so that they are the same numbers whatever the order of the rows.
    """
    result = []
    for term, values in zip(found, np.sort(sample, axis=0).T, strict=True):
        spread = float(values.std()) if len(values) else 0.0
        centre = float(f"{values.mean():.3g}") if len(values) else 0.0
        result.append(Scaled(term, centre, 2.0 ** round(np.log2(spread)) if spread > 0 else 1.0))
    return tuple(result)


def is_number(kind: DataType) -> bool:
    return isinstance(kind, NumericType | BooleanType)


def value(term: Term) -> Column:
    """The term as a double; never NULL."""
    return reduce(lambda a, b: a * b, (_factor(factor) for factor in term.factors))


def _factor(factor: Factor) -> Column:
    column = col(factor.column)
    if factor.missing:
        return column.isNull().cast("double")
    if factor.level is None:
        return F.coalesce(column.cast("double"), F.lit(factor.fill))
    return (F.coalesce(column.cast("string"), F.lit(MISSING)) == F.lit(factor.level)).cast("double")


def looked_at(frame: DataFrame, unit: str, rows: int, wanted: int, salt: str, columns: Sequence[Column]) -> Array:
    """Values (n, p) of the ``columns`` in a hash sample of about ``wanted`` units, in order of the hash."""
    chosen = hashed_part(frame, unit, rows, wanted, salt)
    key = hashed(unit, salt).alias("key")
    table = chosen.select(key, *(column.alias(f"s{i}") for i, column in enumerate(columns))).toArrow()
    order = np.argsort(table.column("key").to_numpy(), kind="stable")
    found = [array(table.column(i + 1).combine_chunks()).astype(float)[order] for i in range(len(columns))]
    return np.column_stack(found) if found else np.zeros((table.num_rows, 0))


def designed(
    frame: DataFrame,
    unit: str,
    design: Sequence[Scaled],
    numbers: Mapping[str, str],
    kept: Sequence[str],
    cluster: str | None,
    folds: int,
    salt: str,
) -> DataFrame:
    """One row per unit: keys, the standardised design x0 …, ``numbers`` (name → column) as doubles, ``kept`` columns.

    FOLD is a hash of the unit (of the cluster if there is one, whose units stay together) modulo ``folds``.
    """
    x = [((value(item.term) - F.lit(item.centre)) / F.lit(item.scale)).alias(f"x{i}") for i, item in enumerate(design)]
    fold = F.pmod(hashed(cluster or unit, f"{salt}:fold"), F.lit(folds)).cast("bigint").alias(FOLD)
    own = [col(cluster).cast("string").alias(CLUSTER)] if cluster else []
    return frame.select(
        col(unit).alias(UNIT), fold, *own, *x,
        *(col(source).cast("double").alias(name) for name, source in numbers.items()), *map(col, dict.fromkeys(kept)),
    )  # fmt: skip


def with_logit(frame: DataFrame, names: Sequence[str], beta: Array) -> DataFrame:
    """The linear predictor β₀ + Σ β·x of a fit, the constant first, added in one order with rounded coefficients.

    Ten digits are kept of a coefficient: sums over other partitions differ in later ones, matches must not.
    """
    rounded = [float(f"{b:.10g}") for b in beta]
    return frame.withColumn(LOGIT, linear(rounded[0], names, np.array(rounded[1:])))


def with_given_score(frame: DataFrame, score: str) -> DataFrame:
    """The logit of a column of probabilities."""
    return frame.withColumn(LOGIT, F.log(col(score) / (F.lit(1.0) - col(score))))


def propensity() -> Column:
    """e = 1 / (1 + exp(-logit)), rounded to a grid of 2⁻⁴⁴: engines differ in the last bit of an exponential."""
    e = F.lit(1.0) / (F.lit(1.0) + F.exp(-F.col(LOGIT)))
    return F.floor(e * F.lit(2.0**44) + F.lit(0.5)) / F.lit(2.0**44)


def patterns(frame: DataFrame, names: Sequence[str], treatment: str, most: int) -> tuple[Array, Array, Array] | None:
    """Distinct rows of the design (m, p) with rows and treated rows (m,); None if there are more than ``most``."""
    grouped = frame.groupBy(*map(col, names)).agg(
        F.count(F.lit(1)).alias("n"), F.sum(col(treatment).cast("bigint")).alias("t")
    )
    table = grouped.limit(most + 1).toArrow()
    if table.num_rows > most:
        return None
    columns = [array(column.combine_chunks()).astype(float) for column in table.columns]
    order = np.lexsort(columns[: len(names)][::-1])
    x = np.column_stack(columns[: len(names)])[order]
    return x, columns[-2][order], columns[-1][order]


def overlap(frame: DataFrame, treatment: str, bins: int) -> list[dict[str, float]]:
    """Rows by arm in equal cells of the propensity, with the smallest and largest logit of each: one scan."""
    e = F.lit(1.0) / (F.lit(1.0) + F.exp(-F.col(LOGIT)))
    cell = F.least(F.floor(e * F.lit(float(bins))), F.lit(bins - 1)).cast("int").alias("cell")
    rows = frame.select(cell, col(treatment).cast("int").alias("arm"), LOGIT)
    found = rows.groupBy("cell", "arm").agg(
        F.count(F.lit(1)).alias("n"), F.min(LOGIT).alias("low"), F.max(LOGIT).alias("high")
    )
    return sorted(found.toArrow().to_pylist(), key=lambda row: (row["cell"], row["arm"]))


def treated_above(frame: DataFrame, treatment: str, logit: float) -> int:
    """Treated rows whose logit is above ``logit``: one scan."""
    return frame.where((col(treatment) == F.lit(1.0)) & (F.col(LOGIT) > F.lit(logit))).count()


def inside(frame: DataFrame, low: float, high: float) -> DataFrame:
    """The rows whose logit lies in [low, high]."""
    return frame.where((F.col(LOGIT) >= F.lit(low)) & (F.col(LOGIT) <= F.lit(high)))


def binary_counts(frame: DataFrame, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """For each column how many rows are 0 and how many are 1, in one aggregation."""
    if not names:
        return {}
    asked = []
    for i, name in enumerate(names):
        asked += [F.count(F.when(number(name) == F.lit(float(k)), 1)).alias(f"n{i}_{k}") for k in (0, 1)]
    row = frame.agg(*asked).toArrow().to_pylist()[0]
    return {name: (int(row[f"n{i}_0"]), int(row[f"n{i}_1"])) for i, name in enumerate(names)}


def complete(frame: DataFrame, names: Sequence[str]) -> DataFrame:
    """The rows in which none of the columns is NULL."""
    return frame.where(joined([col(name).isNotNull() for name in names], and_))


def with_arm(frame: DataFrame, treatment: str) -> DataFrame:
    """``frame`` with its treatment as a whole number, so that the arms read 0 and 1."""
    return frame.withColumn(treatment, col(treatment).cast("int"))


def equal_cells(frame: DataFrame, name: str, low: float, high: float, cells: int) -> DataFrame:
    """``frame`` with the number of the cell of equal width that holds its logit."""
    width = max((high - low) / cells, 1e-300)
    return frame.withColumn(name, _cell(F.col(LOGIT), low, width, cells))


def _cell(value: Column, low: float, width: float, cells: int) -> Column:
    place = F.least(F.greatest((value - F.lit(low)) / F.lit(width), F.lit(0.0)), F.lit(cells - 1.0))
    return F.floor(place).cast("int")


def between(frame: DataFrame, name: str, cuts: Sequence[float]) -> DataFrame:
    """``frame`` with the number of cut points at or below its logit."""
    return frame.withColumn(name, joined([F.lit(0), *((F.col(LOGIT) >= F.lit(cut)).cast("int") for cut in cuts)], add))


def focal_quantiles(
    frame: DataFrame, treatment: str, parts: int, low: float, high: float, estimand: str, cells: int = 20_000
) -> list[float]:
    """Logits that cut the estimand's population into ``parts`` of equal size, to a cell of 1/20,000 of the range."""
    arm = {"ATT": 1, "ATC": 0}.get(estimand)
    rows = frame if arm is None else frame.where(col(treatment) == F.lit(float(arm)))
    width = max((high - low) / cells, 1e-300)
    counted = rows.select(_cell(F.col(LOGIT), low, width, cells).alias("cell")).groupBy("cell")
    table = counted.agg(F.count(F.lit(1)).alias("n")).toArrow()
    order = np.argsort(table.column("cell").to_numpy())
    cell, n = table.column("cell").to_numpy()[order], np.cumsum(table.column("n").to_numpy()[order])
    wanted = n[-1] * np.arange(1, parts) / parts if len(n) else np.zeros(0)
    return sorted({low + (int(cell[np.searchsorted(n, rank)]) + 1) * width for rank in wanted})


def coarsened(frame: DataFrame, name: str, columns: Sequence[tuple[str, float, float, int]]) -> DataFrame:
    """``frame`` with the text of the cells of equal width that hold its columns (column, low, high, cells)."""
    parts = [
        _cell(col(column), low, max((high - low) / cells, 1e-300), cells).cast("string")
        if high > low
        else (col(column) > F.lit(low)).cast("int").cast("string")
        for column, low, high, cells in columns
    ]
    return frame.withColumn(name, F.concat_ws(",", *parts))
