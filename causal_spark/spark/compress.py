"""One distributed pass that turns a table into moments, in the cheapest form for its size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations_with_replacement

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType, DataType, IntegralType

from causal_spark.errors import StatisticError
from causal_spark.spark.tables import col
from causal_spark.statistics import Counts, Grouped, Moments
from causal_spark.statistics.grouped import BLOCK, MISSING, Key
from causal_spark.statistics.histogram import Integers
from causal_spark.statistics.moments import Array

MAX_ROWS = 200_000
# Past about this many sums Spark's generated method leaves the JIT and a pass without group-by collapses.
MAX_PRODUCTS = 80
# Squared distance of mean and centre, in variances, from which digits are lost: the pass is then repeated.
MAX_SHIFT = 1e4
# Share of the group that is found by subtraction below which its digits suffer.
MIN_REFERENCE = 0.05


@dataclass(frozen=True)
class MomentsSpec:
    """What a method needs from a table, as plain data; ``a | b`` needs both, in the same pass.

    ``blocks``: name → numeric columns whose joint moments are wanted (no columns: only the count).
    ``by``: columns that form the groups. ``levels``: the labels expected of a column of ``by``.
    ``segments``: further columns; moments are given over all their values and for each value of each one.
    ``nullable``: columns that may hold NULL; a block counts only rows in which all its columns are there.
    """

    blocks: Mapping[str, tuple[str, ...]]
    by: tuple[str, ...] = ()
    levels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    segments: tuple[str, ...] = ()
    nullable: frozenset[str] = frozenset()

    def __or__(self, other: MomentsSpec) -> MomentsSpec:
        if (self.by, dict(self.levels)) != (other.by, dict(other.levels)):
            raise StatisticError("specs_differ", left=self.by, right=other.by)
        for name in self.blocks.keys() & other.blocks.keys():
            if self.blocks[name] != other.blocks[name]:
                raise StatisticError("specs_differ", left=self.blocks[name], right=other.blocks[name])
        segments = self.segments + tuple(name for name in other.segments if name not in self.segments)
        return MomentsSpec(
            {**self.blocks, **other.blocks}, self.by, self.levels, segments, self.nullable | other.nullable
        )

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for block in self.blocks.values() for name in block))

    @property
    def sums(self) -> tuple[Sum, ...]:
        """The distinct sums of all blocks; blocks without NULLs share theirs."""
        found: dict[Sum, None] = {}
        for name, columns in self.blocks.items():
            owner = self.owner(name)
            if owner is not None:
                found[Sum(owner, ())] = None
            for column in columns:
                found[Sum(owner, (column,))] = None
            for pair in combinations_with_replacement(columns, 2):
                found[Sum(owner, pair)] = None
        return tuple(found)

    def owner(self, block: str) -> str | None:
        """The block itself if rows may drop out of it, None if it is over all rows."""
        return block if self.nullable.intersection(self.blocks[block]) else None


@dataclass(frozen=True)
class Sum:
    """Σ of a product of centred columns (1, one or two factors) over the complete rows of ``block``."""

    block: str | None
    factors: tuple[str, ...]


def compress(
    frame: DataFrame, spec: MomentsSpec, centres: Mapping[str, float] | None = None, max_rows: int = MAX_ROWS
) -> Grouped:
    """The moments that ``spec`` asks for, keyed by (*by, *segments, block).

    One scan: products with 0/1 group indicators where there are few sums and no segments, else one group-by
    over the full cross of ``by`` and ``segments``, whose margins merge on the driver; a cross of more than
    ``max_rows`` cells falls back to a scan for each segment column. ``centres``: a number near the values of a
    column, about which it is summed (0 where none is given). The pass is repeated about the means it found if a
    centre turns out to have been so far off that digits were lost.

    Raises StatisticError if one segment column alone has more than ``max_rows`` cells.
    """
    known = {**dict.fromkeys(spec.columns, 0.0), **(centres or {})}
    grouped = _pass(frame, spec, known, max_rows)
    better = _recentre(grouped, spec, known)
    return grouped if better is None else _pass(frame, spec, better, max_rows)


def _recentre(grouped: Grouped, spec: MomentsSpec, centres: Mapping[str, float]) -> dict[str, float] | None:
    """Better centres, if the ones used lost digits in some column."""
    better = dict(centres)
    for name, columns in spec.blocks.items():
        if not columns:
            continue
        parts = [part for key, part in grouped.where(**{BLOCK: name}) if not any(key[s] for s in spec.segments)]
        whole = sum(parts, Moments.empty(columns))
        for i, column in enumerate(columns):
            shift, spread = (whole.mean[i] - centres[column]) ** 2, whole.scatter[i, i] / max(whole.n, 1.0)
            scale = max(abs(centres[column]), abs(whole.mean[i])) * 1e-15
            if math.isfinite(shift) and shift > max(MAX_SHIFT * spread, scale**2):
                better[column] = float(whole.mean[i])
    return None if better == centres else better


def _pass(frame: DataFrame, spec: MomentsSpec, centres: Mapping[str, float], max_rows: int) -> Grouped:
    if _few_products(spec):
        found = _products(frame, spec, centres)
        if found is not None:
            return found
    return _groups(frame, spec, centres, max_rows)


def _few_products(spec: MomentsSpec) -> bool:
    single = len(spec.by) == 1 and spec.by[0] in spec.levels
    if not single or spec.segments or spec.nullable.intersection(spec.columns):
        return False
    groups = len(spec.levels[spec.by[0]])
    return groups >= 2 and 1 + groups + groups * len(spec.sums) <= MAX_PRODUCTS


def _products(frame: DataFrame, spec: MomentsSpec, centres: Mapping[str, float]) -> Grouped | None:
    """Without group-by: total sums, and sums of products with the 0/1 indicator of every level but the first.

    The first level's moments come by subtraction. None where that would be wrong or imprecise: rows of other
    labels, or a first level with few of the rows.
    """
    group = spec.by[0]
    found = _indicators(group, spec.levels[group], frame.schema[group].dataType)
    if found is None:
        return None
    levels, flags, counts = found
    centred = {name: f"c{i}" for i, name in enumerate(spec.columns)}
    asked = [F.count(F.lit(1)), *counts]
    for k in range(len(levels)):
        for item in spec.sums:
            product = _product(item, centred)
            asked.append(F.sum(product if k == 0 else F.col(f"t{k}") * product))
    row = frame.select(*flags, *_centred(centred, centres)).agg(*asked).toArrow()
    values = np.array([row.column(i)[0].as_py() or 0.0 for i in range(row.num_columns)], float)
    n, sizes = values[0], _sizes(values[1 : 1 + len(counts)], len(levels))
    if n == 0 or sizes.sum() != n or sizes[0] < MIN_REFERENCE * n:
        return None
    sums = values[1 + len(counts) :].reshape(len(levels), len(spec.sums))
    sums[0] -= sums[1:].sum(axis=0)
    cells: dict[Key, Moments] = {}
    for level, size, mine in zip(levels, sizes, sums, strict=True):
        cells |= {(level, block): part for block, part in _moments(spec, centres, size, mine)}
    return Grouped((group, BLOCK), cells)


def _indicators(
    group: str, levels: tuple[str, ...], kind: DataType
) -> tuple[tuple[str, ...], list[Column], list[Column]] | None:
    """Levels in order, 0/1 columns t0, t1 … and the sums that tell the sizes; None if the type has no such level.

    Of a column of numbers with the levels 0 and 1 the column is its own indicator, which saves every comparison:
    of whole numbers Σt² = Σt exactly if all are 0 or 1.
    """
    literals = {level: _literal(level, kind) for level in levels}
    if any(literal is None for literal in literals.values()):
        return None
    if isinstance(kind, IntegralType) and set(literals.values()) == {0, 1}:
        ordered = tuple(sorted(levels, key=int))
        t = F.col("t1")
        return ordered, [col(group).cast("double").alias("t1")], [F.count(t), F.sum(t), F.sum(t * t)]
    flags = [(col(group) == F.lit(literals[level])).cast("double").alias(f"t{k}") for k, level in enumerate(levels)]
    return levels, flags, [F.sum(f"t{k}") for k in range(len(levels))]


def _sizes(counts: Array, levels: int) -> Array:
    """Rows of each level from the sums of ``_indicators``; no rows at all if the column is no 0/1 indicator."""
    if len(counts) == levels:
        return counts
    there, ones, squares = counts
    return np.array([there - ones, ones]) if ones == squares else np.zeros(2)


def _centred(names: Mapping[str, str], centres: Mapping[str, float]) -> list[Column]:
    """The columns less their centres, as doubles under short names."""
    values = {name: col(name).cast("double") for name in names}
    return [
        (values[name] - F.lit(centres[name]) if centres[name] else values[name]).alias(short)
        for name, short in names.items()
    ]


def _literal(level: str, kind: DataType) -> str | int | bool | None:
    """``level`` as a value of the column's own type, so that no row needs a cast; None if it cannot be one."""
    if isinstance(kind, IntegralType):
        return int(level) if level.lstrip("-").isdigit() else None
    if isinstance(kind, BooleanType):
        return {"true": True, "false": False}.get(level)
    return level if kind.simpleString() == "string" else None


def _product(item: Sum, centred: Mapping[str, str]) -> Column:
    product = F.col(centred[item.factors[0]])
    for name in item.factors[1:]:
        product = product * F.col(centred[name])
    return product


def _groups(frame: DataFrame, spec: MomentsSpec, centres: Mapping[str, float], max_rows: int) -> Grouped:
    """By group-by. All margins come from one scan if the cross of all keys is small enough."""
    keys = (*spec.by, *spec.segments)
    cross = _cells(frame, spec, centres, keys, max_rows)
    margins = [spec.by, *((*spec.by, segment) for segment in spec.segments)]
    by = (*keys, BLOCK)
    if cross is not None:
        whole = Grouped(by, cross)
        cells: dict[Key, Moments] = {}
        for margin in margins:
            cells |= whole.margin((*margin, BLOCK)).cells
        return Grouped(by, cells)
    cells = {}
    for margin in margins:
        part = _cells(frame, spec, centres, margin, max_rows)
        if part is None:
            raise StatisticError("too_many_cells", keys=", ".join(margin), limit=max_rows)
        for key, moments in part.items():
            named = dict(zip((*margin, BLOCK), key, strict=True))
            cells[tuple(named.get(name) for name in by)] = moments
    return Grouped(by, cells)


def _cells(
    frame: DataFrame, spec: MomentsSpec, centres: Mapping[str, float], keys: tuple[str, ...], max_rows: int
) -> dict[Key, Moments] | None:
    """Moments by (*keys, block) of one group-by; None if there are more than ``max_rows`` groups."""
    table = _group_sums(frame, spec, centres, keys).limit(max_rows + 1).toArrow()
    if table.num_rows > max_rows:
        return None
    labels = [[label(value) for value in table.column(i).to_pylist()] for i in range(len(keys))]
    values = _matrix(table, len(keys))
    cells: dict[Key, Moments] = {}
    for row in range(table.num_rows):
        key = tuple(column[row] for column in labels)
        for block, part in _moments(spec, centres, values[row, 0], values[row, 1:]):
            cells[(*key, block)] = part
    return cells


def count(frame: DataFrame, by: Sequence[str], max_rows: int = MAX_ROWS) -> Counts:
    """Rows by the values of ``by``, as text; NULL is named. Raises StatisticError above ``max_rows`` groups."""
    keys = [col(name).alias(f"k{i}") for i, name in enumerate(by)]
    table = frame.groupBy(*keys).agg(F.count(F.lit(1)).alias("n")).limit(max_rows + 1).toArrow()
    if table.num_rows > max_rows:
        raise StatisticError("too_many_cells", keys=", ".join(by), limit=max_rows)
    columns = [table.column(i).to_pylist() for i in range(len(by))]
    rows = zip(*columns, table.column("n").to_pylist(), strict=True)
    return Counts(tuple(by), ("rows",), {tuple(map(label, row[:-1])): (int(row[-1]),) for row in rows})


def label(value: object) -> str:
    """A group's value as text; NULL is named, so that it cannot be taken for "all values"."""
    if value is None:
        return MISSING
    return str(value).lower() if isinstance(value, bool) else str(value)


def labelled(column: pa.ChunkedArray) -> tuple[list[str], Integers]:
    """The labels of a column's values, and for each row the place of its label."""
    found = column.combine_chunks().dictionary_encode(null_encoding="encode")
    return [label(value) for value in found.dictionary.to_pylist()], np.asarray(found.indices, np.int64)


def together(*codes: Integers) -> Iterator[Integers]:
    """The places of the rows that are equal in all ``codes``, group by group."""
    order = np.lexsort(codes)
    changed = np.any([np.diff(code[order]) != 0 for code in codes], axis=0)
    yield from (rows for rows in np.split(order, np.flatnonzero(changed) + 1) if len(rows))


def _matrix(table: pa.Table, skip: int) -> Array:
    """The sums as (rows, sums); a NULL sum is one over no rows, hence 0."""
    if table.num_rows == 0:
        return np.zeros((0, table.num_columns - skip))
    columns = [table.column(i).cast(pa.float64()).fill_null(0.0).to_numpy() for i in range(skip, table.num_columns)]
    return np.column_stack(columns)


def _group_sums(frame: DataFrame, spec: MomentsSpec, centres: Mapping[str, float], keys: tuple[str, ...]) -> DataFrame:
    centred = {name: f"c{i}" for i, name in enumerate(spec.columns)}
    groups = [col(name).alias(f"k{i}") for i, name in enumerate(keys)]
    columns = _centred(centred, centres)
    asked = [F.count(F.lit(1)).alias("n")]
    for i, item in enumerate(spec.sums):
        asked.append(_group_sum(spec, item, centred).alias(f"s{i}"))
    return frame.select(*groups, *columns).groupBy(*(f"k{i}" for i in range(len(keys)))).agg(*asked)


def _group_sum(spec: MomentsSpec, item: Sum, centred: Mapping[str, str]) -> Column:
    """A product with a NULL factor is NULL and drops out of a sum; other columns of the block must be looked at."""
    if item.block is None:
        return F.sum(_product(item, centred))
    needed = [name for name in spec.blocks[item.block] if name in spec.nullable and name not in item.factors]
    there = [F.col(centred[name]).isNotNull() for name in needed]
    if not item.factors:
        return F.count(F.when(_all(there), F.lit(1)))
    product = _product(item, centred)
    return F.sum(F.when(_all(there), product) if there else product)


def _all(conditions: list[Column]) -> Column:
    whole = conditions[0]
    for condition in conditions[1:]:
        whole = whole & condition
    return whole


def _moments(
    spec: MomentsSpec, centres: Mapping[str, float], rows: float, sums: Array
) -> Iterator[tuple[str, Moments]]:
    """The blocks' moments from one group's sums."""
    place = {item: i for i, item in enumerate(spec.sums)}
    for block, columns in spec.blocks.items():
        owner = spec.owner(block)
        n = rows if owner is None else sums[place[Sum(owner, ())]]
        first = np.array([sums[place[Sum(owner, (name,))]] for name in columns], float)
        second = np.zeros((len(columns), len(columns)))
        for (i, a), (j, b) in combinations_with_replacement(enumerate(columns), 2):
            second[i, j] = second[j, i] = sums[place[Sum(owner, (a, b))]]
        yield block, Moments.from_sums(columns, float(n), [centres[name] for name in columns], first, second)
