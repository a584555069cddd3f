"""The sums of the arms that many salts would make, in one scan: every key is hashed for every salt where it lies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from causal_spark.errors import StatisticError
from causal_spark.spark.assignment import Rule
from causal_spark.spark.blocks import array
from causal_spark.spark.compress import MAX_ROWS
from causal_spark.spark.tables import col
from causal_spark.statistics.moments import Array

MILLION = 1_000_000
ROWS = 8_192  # looked at together, so that their hashes stay in the cache
TOGETHER = 4  # salts looked at together

Integers = NDArray[np.int64]
# The bytes of texts one after another and where each begins → a function from salts to the slot of each text: (S, n).
Slots = Callable[[NDArray[np.uint8], Integers], Callable[[Sequence[str]], Integers]]


def draw_sums(
    frame: DataFrame, key: str, rule: Rule, draws: int, columns: Mapping[str, tuple[float, float]], slots: Slots,
    strata: str | None = None, max_rows: int = MAX_ROWS,
) -> dict[str, Array]:  # fmt: skip
    """For each stratum (draws, arms, 1 + columns): keys, and Σ (x - centre)/scale, under the salts ``<salt>/<draw>``.

    ``columns``: name → centre and scale. Added as whole millionths; where Σ |x - centre| is at most n·scale, as with
    a column's own mean and deviation, they are exact below 9·10⁹ rows, so that every engine and partitioning finds
    the same sums. ``slots`` gives the slots of texts under salts. One scan, and a shuffle of one row for each
    partition, stratum, draw and arm. Raises StatisticError above ``max_rows`` of these.
    """
    salts, ends = tuple(f"{rule.salt}/{draw}" for draw in range(draws)), tuple(end for _, end in rule.edges[:-1])
    work = _Draws(salts, ends, tuple(columns.values()), slots)
    level = F.lit("") if strata is None else F.coalesce(col(strata).cast("string"), F.lit(""))
    values = [col(name).cast("double").alias(f"c{i}") for i, name in enumerate(columns)]
    rows = rule.inside(frame, key).select(col(key).cast("string").alias("k"), level.alias("s"), *values)

    def summed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        found: dict[str, Array] = {}
        for batch in batches:
            for start in range(0, batch.num_rows, ROWS):
                work.add(found, batch.slice(start, ROWS))
        for stratum, sums in found.items():
            yield work.rows(stratum, sums)

    names = [f"x{i}" for i in range(1 + len(columns))]
    schema = "s string, d int, a int, " + ", ".join(f"{name} bigint" for name in names)
    parts = rows.mapInArrow(summed, schema).groupBy("s", "d", "a").agg(*(F.sum(name).alias(name) for name in names))
    table = parts.limit(max_rows + 1).toArrow()
    if table.num_rows > max_rows:
        raise StatisticError("too_many_cells", keys=f"draw, {strata}, arm", limit=max_rows)
    return _by_stratum(table, names, (draws, len(rule.edges)))


def _by_stratum(table: pa.Table, names: Sequence[str], shape: tuple[int, int]) -> dict[str, Array]:
    levels = table.column("s").combine_chunks().dictionary_encode()
    code, draw, arm = (np.asarray(part, np.int64) for part in (levels.indices, table.column("d"), table.column("a")))
    values = np.column_stack([np.asarray(table.column(name), float) for name in names])
    values[:, 1:] /= MILLION
    found = {}
    for i, name in enumerate(levels.dictionary.to_pylist()):
        mine = code == i
        found[str(name)] = np.zeros((*shape, len(names)))
        found[str(name)][draw[mine], arm[mine]] = values[mine]
    return found


@dataclass(frozen=True)
class _Draws:
    """What is done to a block of (key, stratum, columns). ``ends``: slots before which the arms end, but for the last.

    Sums of a stratum are (salts, arms, 1 + columns), of the rows before each arm's end; the last arm has all rows.
    """

    salts: tuple[str, ...]
    ends: tuple[int, ...]
    scaled: tuple[tuple[float, float], ...]
    slots: Slots

    def add(self, found: dict[str, Array], batch: pa.RecordBatch) -> None:
        """Add a block to the sums by stratum."""
        batch, spans = _in_strata(batch)
        table, slots = self._table(batch), self.slots(*_bytes(batch.column(0)))
        shape = len(self.salts), len(self.ends) + 1, table.shape[1]
        parts = [(found.setdefault(name, np.zeros(shape)), span) for name, span in spans]
        for sums, span in parts:
            sums[:, -1] += table[span].sum(axis=0)
        before = np.empty((TOGETHER, len(self.ends), len(table)))  # 1 where a slot lies before an arm's end
        for first in range(0, len(self.salts), TOGETHER):
            salts = self.salts[first : first + TOGETHER]
            places = slots(salts)
            for arm, end in enumerate(self.ends):
                np.less(places, end, out=before[: len(salts), arm])
            flat = before[: len(salts)].reshape(-1, len(table))
            for sums, span in parts:
                inside = flat[:, span] @ table[span]
                sums[first : first + len(salts), :-1] += inside.reshape(len(salts), len(self.ends), -1)

    def _table(self, batch: pa.RecordBatch) -> Array:
        """1 and the columns in whole millionths of their scale, (n, 1 + columns); what is not there counts as 0."""
        columns = [np.ones(batch.num_rows)]
        for i, (centre, scale) in enumerate(self.scaled):
            values = np.asarray(array(batch.column(2 + i)), float)
            columns.append(np.nan_to_num(np.rint((values - centre) / scale * MILLION)))
        return np.column_stack(columns)

    def rows(self, level: str, sums: Array) -> pa.RecordBatch:
        """The sums of a stratum as whole numbers, a row for each salt and arm."""
        arms = np.diff(sums, axis=1, prepend=0.0)
        draws, count, width = arms.shape
        flat = arms.reshape(-1, width).astype(np.int64)
        columns = [[level] * len(flat), np.repeat(np.arange(draws), count), np.tile(np.arange(count), draws), *flat.T]
        kinds = [pa.string(), pa.int32(), pa.int32(), *[pa.int64()] * width]
        arrays = [pa.array(values, kind) for values, kind in zip(columns, kinds, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, names=["s", "d", "a", *(f"x{i}" for i in range(width))])


def _in_strata(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, list[tuple[str, slice]]]:
    """The rows of one stratum one after another, and which these are."""
    levels = batch.column(1).dictionary_encode()
    codes, names = np.asarray(levels.indices, np.int64), levels.dictionary.to_pylist()
    if len(names) > 1:
        order = np.argsort(codes, kind="stable")
        batch, codes = batch.take(pa.array(order)), codes[order]
    edges = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
    return batch, [(str(names[codes[i]]), slice(i, j)) for i, j in pairwise(edges)]


def _bytes(keys: pa.Array) -> tuple[NDArray[np.uint8], Integers]:
    """The bytes of texts one after another, and where each begins and the last one ends."""
    texts = keys.cast(pa.large_string())
    _, offsets, data = texts.buffers()
    places = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return np.frombuffer(data or b"", np.uint8), places
