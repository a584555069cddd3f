"""The queries somebody would write by hand for the statistics of an experiment, in every form worth trying.

A form takes the DataFrame and the table's description and gives cells; all forms give the same numbers. The centres
are literals that the author is supposed to know, which spares them the look that ``compress`` takes for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from benchmarks.data import Table
from benchmarks.effects import ALL, Cell, Cells

Form = Callable[[DataFrame, Table], Cells]
AT_ONCE = 10  # metrics in one pass of the forms that make several


def floor(frame: DataFrame, table: Table) -> dict[str, float]:
    """The engine's own sum of the same columns."""
    row = frame.agg(*(F.sum(name).alias(name) for name in table.columns)).toArrow().to_pylist()[0]
    return {name: float(row[name]) for name in table.columns}


def group_by(frame: DataFrame, table: Table) -> Cells:
    """count, avg, var_samp by arm."""
    return _group_by(frame, table, [table.arm])


def group_by_segments(frame: DataFrame, table: Table) -> Cells:
    """count, avg, var_samp by arm and segment."""
    return _group_by(frame, table, [table.arm, str(table.segment)])


def _group_by(frame: DataFrame, table: Table, keys: Sequence[str]) -> Cells:
    asked = [F.count(F.lit(1)).alias("n")]
    for i, name in enumerate(table.columns):
        asked += [F.avg(name).alias(f"a{i}"), F.var_samp(name).alias(f"v{i}")]
    cells: Cells = {}
    for row in frame.groupBy(*keys).agg(*asked).toArrow().to_pylist():
        segment = row[keys[1]] if len(keys) > 1 else ALL
        index = range(len(table.columns))
        cells[str(row[table.arm]), segment] = (row["n"], [row[f"a{i}"] for i in index], [row[f"v{i}"] for i in index])
    return cells


def centred(frame: DataFrame, table: Table) -> Cells:
    """Σ(y − c), Σ(y − c)² by arm."""
    return _centred(frame, table, [table.arm])


def centred_segments(frame: DataFrame, table: Table) -> Cells:
    """Σ(y − c), Σ(y − c)² by arm and segment."""
    return _centred(frame, table, [table.arm, str(table.segment)])


def _centred(frame: DataFrame, table: Table, keys: Sequence[str]) -> Cells:
    asked = [F.count(F.lit(1)).alias("n")]
    for i in range(len(table.columns)):
        asked += [F.sum(f"c{i}").alias(f"s{i}"), F.sum(F.col(f"c{i}") * F.col(f"c{i}")).alias(f"q{i}")]
    cells: Cells = {}
    for row in frame.select(*keys, *_shifted(table)).groupBy(*keys).agg(*asked).toArrow().to_pylist():
        segment = row[keys[1]] if len(keys) > 1 else ALL
        first = [row[f"s{i}"] for i in range(len(table.columns))]
        second = [row[f"q{i}"] for i in range(len(table.columns))]
        cells[str(row[table.arm]), segment] = _cell(table, row["n"], first, second)
    return cells


def products(frame: DataFrame, table: Table) -> Cells:
    """No group-by: sums, and sums of products with the arm as 0/1; the first arm comes by subtraction."""
    row = frame.select(_flag(table), *_shifted(table)).agg(*_product_sums(table)).toArrow().to_pylist()[0]
    return _from_products(table, row, ALL)


def products_by_segment(frame: DataFrame, table: Table) -> Cells:
    """Group by the segment alone; inside, sums and products with the arm as 0/1."""
    key = str(table.segment)
    asked = frame.select(key, _flag(table), *_shifted(table)).groupBy(key).agg(*_product_sums(table))
    cells: Cells = {}
    for row in asked.toArrow().to_pylist():
        cells |= _from_products(table, row, row[key])
    return cells


def conditional(frame: DataFrame, table: Table) -> Cells:
    """No group-by: count_if, and sums of ``when(arm = …)``."""
    asked = []
    for k, literal in enumerate(table.literals):
        mine = F.col(table.arm) == F.lit(literal)
        asked.append(F.sum(F.when(mine, 1).otherwise(0)).alias(f"n{k}"))
        for i in range(len(table.columns)):
            c = F.col(f"c{i}")
            asked += [F.sum(F.when(mine, c)).alias(f"s{k}_{i}"), F.sum(F.when(mine, c * c)).alias(f"q{k}_{i}")]
    row = frame.select(table.arm, *_shifted(table)).agg(*asked).toArrow().to_pylist()[0]
    index = range(len(table.columns))
    return {
        (level, ALL): _cell(table, row[f"n{k}"], [row[f"s{k}_{i}"] for i in index], [row[f"q{k}_{i}"] for i in index])
        for k, level in enumerate(table.levels)
    }


def split(form: Form) -> Form:
    """``form`` on a few columns at a time: several passes of queries short enough to stay compiled."""

    def several(frame: DataFrame, table: Table) -> Cells:
        found = [form(frame, part) for part in _parts(table)]
        cells: Cells = {}
        for key, (n, _, _) in found[0].items():
            means = [value for part in found for value in part[key][1]]
            cells[key] = (n, means, [value for part in found for value in part[key][2]])
        return cells

    return several


def _parts(table: Table) -> list[Table]:
    bounds = [(first, first + AT_ONCE) for first in range(0, len(table.columns), AT_ONCE)]
    return [replace(table, columns=table.columns[i:j], centres=table.centres[i:j]) for i, j in bounds]


def naive(frame: DataFrame, table: Table) -> Cells:
    """The script of a first afternoon: for each metric one job by arm and one by arm and segment."""
    found: dict[tuple[str, str], tuple[float, list[float], list[float]]] = {}
    for name in table.columns:
        for keys in ((table.arm,), (table.arm, str(table.segment))):
            asked = frame.groupBy(*keys).agg(F.count(name), F.avg(name), F.stddev(name))
            for row in asked.collect():
                n, mean, deviation = row[len(keys) :]
                cell = found.setdefault((row[0], row[1] if len(keys) > 1 else ALL), (n, [], []))
                cell[1].append(mean)
                cell[2].append(deviation**2)
    return dict(found)


def _shifted(table: Table) -> list[Column]:
    pairs = zip(table.columns, table.centres, strict=True)
    return [(F.col(name).cast("double") - F.lit(centre)).alias(f"c{i}") for i, (name, centre) in enumerate(pairs)]


def _flag(table: Table) -> Column:
    return (F.col(table.arm) == F.lit(table.literals[1])).cast("double").alias("t")


def _product_sums(table: Table) -> list[Column]:
    t = F.col("t")
    asked = [F.count(F.lit(1)).alias("n"), F.sum(t).alias("n1")]
    for i in range(len(table.columns)):
        c = F.col(f"c{i}")
        asked += [F.sum(c).alias(f"s{i}"), F.sum(c * c).alias(f"q{i}")]
        asked += [F.sum(t * c).alias(f"s1_{i}"), F.sum(t * c * c).alias(f"q1_{i}")]
    return asked


def _from_products(table: Table, row: dict[str, float], segment: str) -> Cells:
    index = range(len(table.columns))
    first, second = [row[f"s1_{i}"] for i in index], [row[f"q1_{i}"] for i in index]
    rest = [row[f"s{i}"] - first[i] for i in index], [row[f"q{i}"] - second[i] for i in index]
    return {
        (table.levels[0], segment): _cell(table, row["n"] - row["n1"], *rest),
        (table.levels[1], segment): _cell(table, row["n1"], first, second),
    }


def _cell(table: Table, n: float, first: Sequence[float], second: Sequence[float]) -> Cell:
    means = [centre + s / n for centre, s in zip(table.centres, first, strict=True)]
    return n, means, [(q - s * s / n) / (n - 1) for s, q in zip(first, second, strict=True)]


def forms(layout: str, metrics: int) -> dict[str, Form]:
    """The candidates for a layout, by name."""
    found: dict[str, Form]
    if layout == "all":
        found = {"group-by": group_by, "centred": centred, "products": products, "conditional": conditional}
        if metrics > AT_ONCE:
            found |= {"products, ten metrics a pass": split(products)}
        return found
    found = {
        "group-by": group_by_segments,
        "centred": centred_segments,
        "products by segment": products_by_segment,
    }
    if metrics > AT_ONCE:
        found |= {"centred, ten metrics a pass": split(centred_segments)}
    return found
