"""Sweeps over the blocks of a plan: rows meet by one shuffle, are put in order, and go to one numpy function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame, GroupedData
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_type
from pyspark.sql.types import StructType

from causal_spark.spark.blocks import Block, array
from causal_spark.spark.design import UNIT
from causal_spark.spark.neighbours import BLOCK, HOME, LAST, NUMBER, POINT, SHARED, TIE, TREATED, Plan, assigned
from causal_spark.spark.session import Engine
from causal_spark.spark.tables import col
from causal_spark.statistics import Sums
from causal_spark.statistics.moments import Array

Sweep = Callable[[Block], tuple[Sums, Array]]


def sweep(frame: DataFrame, plan: Plan, columns: Sequence[str], engine: Engine, work: Sweep) -> tuple[Sums, Array]:
    """Σ of what ``work`` leaves of every block, and its border records one under the other.

    ``work`` gets POINT and the ``columns`` as arrays, TREATED, HOME and SHARED as booleans and NUMBER, sorted by
    (group, point). Equal points are in order of TIE and LAST where these are among the columns; where they are not,
    rows that differ are in an order of their values, so that no sum depends on how rows came.
    ``work`` gives Sums of the same shapes for every block and an (r, k) array of records.
    Blocks are added up in their order. One shuffle by block; the memory of a task is that of its block.
    """
    empty, none = work(_nothing(columns))
    names = tuple(columns)

    def one(table: pa.Table) -> pa.Table:
        found, records = work(_sorted(table, names))
        lists = [pa.array([part.tolist()], pa.list_(pa.float64())) for part in (found.vector, records.ravel())]
        number = pa.array([table.column("block")[0].as_py()], pa.int64())
        return pa.Table.from_arrays([number, *lists], names=["block", "sums", "records"])

    schema = "block bigint, sums array<double>, records array<double>"
    table = _grouped(frame, plan, columns, engine).applyInArrow(one, schema).toArrow().sort_by("block")
    total = sum((empty.like(row) for row in table.column("sums").to_pylist()), empty)
    flat = [np.asarray(row, float).reshape(-1, none.shape[1]) for row in table.column("records").to_pylist()]
    return total, np.vstack([none, *flat])


def sweep_with_rows(
    frame: DataFrame,
    plan: Plan,
    columns: Sequence[str],
    engine: Engine,
    work: Callable[[Block], tuple[Sums, Array, pa.Table]],
    schema: str,
    keep: Callable[[DataFrame], DataFrame],
) -> tuple[Sums, Array, DataFrame]:
    """As ``sweep``, and the rows of ``schema`` that ``work`` makes besides: one shuffle for both.

    The rows are written once: ``keep`` gives the frame that is read back. A block's number, sums and records travel as
    a list in a row of its own.
    """
    empty, none, _ = work(_nothing(columns))
    names, size = tuple(columns), len(empty.vector)

    def one(table: pa.Table) -> pa.Table:
        found, records, rows = work(_sorted(table, names))
        number = float(table.column("block")[0].as_py())
        left = pa.array([[number, *found.vector.tolist(), *records.ravel().tolist()]], pa.list_(pa.float64()))
        own = [pa.nulls(1, kind) for kind in rows.schema.types]
        first = pa.Table.from_arrays([*own, left], names=[*rows.column_names, "left"])
        return pa.concat_tables([first, rows.append_column("left", pa.nulls(rows.num_rows, left.type))])

    kept = keep(_grouped(frame, plan, columns, engine).applyInArrow(one, f"{schema}, left array<double>"))
    lists = where_known(kept, "left", True).select("left").toArrow().column("left").to_pylist()
    lists.sort(key=lambda row: row[0])
    total = sum((empty.like(row[1 : 1 + size]) for row in lists), empty)
    flat = [np.asarray(row[1 + size :], float).reshape(-1, none.shape[1]) for row in lists]
    return total, np.vstack([none, *flat]), where_known(kept, "left", False).drop("left")


def rows_of(
    frame: DataFrame,
    plan: Plan,
    columns: Sequence[str],
    engine: Engine,
    work: Callable[[Block], pa.Table],
    schema: StructType | str,
) -> DataFrame:
    """The rows that ``work`` makes of every block (as in ``sweep``), as a table on the cluster."""
    names = tuple(columns)
    return _grouped(frame, plan, columns, engine).applyInArrow(lambda table: work(_sorted(table, names)), schema)


# Blocks for each part of the shuffle: few, since engines look through a part once for each of its blocks.
TOGETHER = 2
# TREATED, HOME and SHARED travel as one small number.
_FLAGS = {TREATED: 1, HOME: 2, SHARED: 4}


def _nothing(columns: Sequence[str]) -> Block:
    """A block without rows."""
    flags = {name: np.zeros(0, bool) for name in _FLAGS}
    return {**{name: np.zeros(0) for name in (*columns, POINT)}, NUMBER: np.zeros(0, np.int64), **flags}


def _grouped(frame: DataFrame, plan: Plan, columns: Sequence[str], engine: Engine) -> GroupedData:
    """The rows by block: each of ``columns`` and of the keys that vary, under short names."""
    rows = assigned(frame, plan, engine)
    flags = sum((col(name).cast("int") * F.lit(bit) for name, bit in _FLAGS.items()), F.lit(0)).cast("tinyint")
    sent = [POINT, *([NUMBER] if len(plan.line.groups) > 1 else [])]
    chosen = [col(name).alias(name) for name in sent] + [col(name).alias(f"c{i}") for i, name in enumerate(columns)]
    sent_rows = rows.select(F.col(BLOCK).alias("block"), flags.alias("flags"), *chosen)
    parts = max(1, len(np.unique(plan.block)) // TOGETHER)
    return sent_rows.repartition(parts, F.col("block")).groupBy("block")


def _sorted(table: pa.Table, columns: Sequence[str]) -> Block:
    """A block as arrays in order of group and point, and equal points in that of ``sweep``."""
    names = {POINT: POINT, "flags": "flags", **{name: f"c{i}" for i, name in enumerate(columns)}}
    several = NUMBER in table.column_names
    names |= {NUMBER: NUMBER} if several else {}
    found = {name: array(table.column(source).combine_chunks()) for name, source in names.items()}
    order = np.argsort(found[POINT])
    point = found[POINT].take(order)
    if several or bool((point[1:] == point[:-1]).any()):
        ties = [name for name in (LAST, TIE) if name in found]
        keys = [found[name] for name in ties] if ties else [_mixed(found)]
        order = np.lexsort([*keys, found[POINT], *([found[NUMBER]] if several else [])])
    wanted = [name for name in found if name not in (TIE, LAST, "flags")]
    block: dict[str, Any] = {name: found[name].take(order) for name in wanted}
    flags = found["flags"].astype(np.uint8).take(order)
    block |= {name: (flags & bit) > 0 for name, bit in _FLAGS.items()}
    return block if several else block | {NUMBER: np.zeros(len(order), np.int64)}


def _mixed(found: Mapping[str, Array]) -> NDArray[np.uint64]:
    """A number for each row that depends on all its values, to put rows in an order by them."""
    mixed = np.zeros(len(found[POINT]), np.uint64)
    for name in sorted(found):
        values = found[name]
        bits = np.ascontiguousarray(values if values.dtype.itemsize == 8 else values.astype(np.int64)).view(np.uint64)
        mixed = (mixed ^ bits) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return mixed


def unit_type(frame: DataFrame) -> tuple[str, Callable[[Array], pa.Array]]:
    """The type of the unit's key in a schema, and what makes an Arrow array of keys."""
    kind = next(item.dataType for item in frame.schema.fields if item.name == UNIT)
    arrow = to_arrow_type(kind)
    return kind.simpleString(), lambda keys: pa.array(keys if keys.dtype.kind in "iO" else keys.tolist(), arrow)


def added_up(frame: DataFrame, by: Sequence[str], value: str, part: str) -> DataFrame:
    """One row for each key: the values of rows that are a ``part`` added up, others alone in their key as they are."""
    names = [col(name) for name in (*by, value)]
    parts = frame.where(col(part)).groupBy(*names[:-1]).agg(F.sum(col(value)).alias(value))
    return frame.where(~col(part)).select(*names).unionAll(parts)


def where_known(frame: DataFrame, column: str, known: bool) -> DataFrame:
    """The rows in which ``column`` is there, or those in which it is not."""
    return frame.where(col(column).isNotNull() if known else col(column).isNull())


def keyed(frame: DataFrame, treated: str, control: str) -> DataFrame:
    """Rows of one of two keys as unit, treated (1 or 0), weight and part."""
    unit = F.coalesce(col(treated), col(control)).alias("unit")
    return frame.select(unit, col(treated).isNotNull().cast("int").alias("treated"), "weight", "part")
