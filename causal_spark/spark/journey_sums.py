"""The sums of the journeys' buckets: each bucket's rows into whole numbers, and those of all buckets into one table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from zlib import crc32

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from causal_spark.errors import StatisticError
from causal_spark.spark.journeys import WHO
from causal_spark.statistics.cells import Block, added

# Groups in which sums of equal keys meet, and rows of the input for each of more groups.
MERGERS, MERGED_ROWS = 8, 8_000_000
# Numbers of one row that travels; keys that differ in the bits above these may be in different groups.
PIECE, NEAR = 1 << 18, 10
# Numbers of the merged sums that come to the driver from one group.
MAX_NUMBERS = 40_000_000
TOO_MANY = "(too many)"
SCHEMA = "b int, stat string, k int, c int, numbers array<bigint>"
_ARROW = pa.schema([("b", pa.int32()), ("stat", pa.string()), ("k", pa.int32()), ("c", pa.int32()),
                    ("numbers", pa.list_(pa.int64()))])  # fmt: skip

Columns = Mapping[str, NDArray]
Work = Callable[[Columns], Iterable[Block]]
Finish = Callable[[Block], Iterable[Block]]


def sweep(rows: DataFrame, columns: Sequence[str], work: Work, total: int) -> DataFrame:
    """``work`` on each bucket's ``columns``, as one table of sums. One shuffle; every number in it is whole.

    ``rows`` as of ``journeys.bucketed``, ``total`` of them. A row of the result holds many sums of one statistic.
    """
    names, mergers = list(columns), max(MERGERS, total // MERGED_ROWS)

    def bucket(table: pa.Table) -> pa.Table:
        return _table(work({name: array(table.column(name)) for name in names}), mergers)

    return rows.groupBy("b").applyInArrow(bucket, SCHEMA)


def merged(sums: DataFrame, finish: Finish, max_rows: int) -> list[Block]:
    """The sums of all buckets by statistic and keys, on the driver. Raises StatisticError if they are too many.

    ``finish``: what is left of a statistic's sums where those of equal keys have met, before they come to the driver.
    One shuffle.
    """

    def merge(table: pa.Table) -> pa.Table:
        blocks = [left for block in added(_blocks(table)) for left in finish(block)]
        numbers = sum(block.keys.size + block.sums.size for block in blocks)
        if sum(len(block.keys) for block in blocks) > max_rows or numbers > MAX_NUMBERS:
            blocks = [Block(TOO_MANY, np.zeros((1, 1), np.int64), np.zeros((1, 1), np.int64))]
        return _table(blocks, 1)

    blocks = added(_blocks(sums.groupBy("b").applyInArrow(merge, SCHEMA).toArrow()))
    if any(block.stat == TOO_MANY for block in blocks) or sum(len(block.keys) for block in blocks) > max_rows:
        raise StatisticError("too_many_cells", keys="channel", limit=max_rows)
    return blocks


def array(column: pa.ChunkedArray) -> NDArray:
    """A column as numpy has it."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return np.asarray(column.to_pylist(), object)
    return np.asarray(column.to_numpy())


def _table(blocks: Iterable[Block], mergers: int) -> pa.Table:
    rows = [(b, piece) for block in blocks for b, part in _parted(block, mergers) for piece in _pieces(part)]
    numbers = [np.concatenate([piece.keys.ravel("F"), piece.sums.ravel("F")]) for _, piece in rows]
    starts = np.cumsum([0, *map(len, numbers)])
    flat = np.concatenate([np.zeros(0, np.int64), *numbers])
    return pa.Table.from_arrays(
        [
            pa.array([b for b, _ in rows], pa.int32()),
            pa.array([piece.stat for _, piece in rows], pa.string()),
            pa.array([piece.keys.shape[1] for _, piece in rows], pa.int32()),
            pa.array([piece.keys.shape[1] + piece.sums.shape[1] for _, piece in rows], pa.int32()),
            pa.ListArray.from_arrays(pa.array(starts, pa.int32()), pa.array(flat)),
        ],
        schema=_ARROW,
    )


def _parted(block: Block, mergers: int) -> Iterator[tuple[int, Block]]:
    """The group of each row by its statistic and keys: small keys have one group, so that they travel together."""
    first = crc32(block.stat.encode()) % mergers
    mixed = np.zeros(len(block.keys), np.uint64)
    with np.errstate(over="ignore"):
        for key in block.keys.T:
            mixed = (mixed + (key >> NEAR).astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    place = (mixed >> np.uint64(32)).astype(np.int64) % mergers
    if not place.any():
        yield first, block
        return
    order = np.argsort(place)
    ends = np.searchsorted(place[order], np.arange(mergers + 1))
    for i in range(mergers):
        if ends[i] < ends[i + 1]:
            mine = order[ends[i] : ends[i + 1]]
            yield (first + i) % mergers, Block(block.stat, block.keys[mine], block.sums[mine])


def _pieces(block: Block) -> Iterator[Block]:
    """Parts of at most ``PIECE`` numbers, but of one row at least."""
    rows = max(PIECE // (block.keys.shape[1] + block.sums.shape[1]), 1)
    for start in range(0, len(block.keys), rows):
        yield Block(block.stat, block.keys[start : start + rows], block.sums[start : start + rows])


def _blocks(table: pa.Table) -> Iterator[Block]:
    """The blocks of a table of sums."""
    stats, keys, columns = (table.column(name).to_pylist() for name in ("stat", "k", "c"))
    lists = (piece for chunk in table.column("numbers").chunks for piece in _lists(chunk))
    for stat, many, width, numbers in zip(stats, keys, columns, lists, strict=True):
        rows = numbers.reshape(width, -1).T
        yield Block(stat, rows[:, :many], rows[:, many:])


def _lists(chunk: pa.ListArray) -> Iterator[NDArray[np.int64]]:
    offsets, values = chunk.offsets.to_numpy(), chunk.values.to_numpy()
    for start, end in pairwise(offsets):
        yield np.asarray(values[start:end], np.int64)


@dataclass(frozen=True, eq=False)
class Credited:
    """Credits of touches in rows of their bucket: ``row`` of the person (n,), ``time`` and ``end`` (n,) microseconds,
    ``channel`` (n,) and ``model`` (n,) as numbers of their names, ``credit`` (n, outcomes)."""

    row: NDArray[np.int64]
    time: NDArray[np.int64]
    channel: NDArray[np.int64]
    end: NDArray[np.int64]
    model: NDArray[np.int64]
    credit: NDArray[np.float64]


def credited(rows: DataFrame, columns: Sequence[str], work: Callable[[Columns], Credited], channels: Sequence[str],
             models: Sequence[str], credits: Sequence[str]) -> DataFrame:  # fmt: skip
    """``work`` on each bucket as a table: person, time, channel, conversion_time, model, and the columns ``credits``.

    ``rows`` have the column ``WHO``. One shuffle; the rows of a person come from one bucket.
    """
    names = list(columns)
    plain = [f"a{i}" for i in range(len(credits))]

    def bucket(table: pa.Table) -> pa.Table:
        found = work({name: array(table.column(name)) for name in names})
        parts = [
            table.column(WHO).combine_chunks().take(pa.array(found.row)).cast(pa.string()),
            pa.array(found.time, pa.int64()),
            pa.array(channels, pa.string()).take(pa.array(found.channel)),
            pa.array(found.end, pa.int64()),
            pa.array(models, pa.string()).take(pa.array(found.model)),
            *(pa.array(np.ascontiguousarray(found.credit[:, i])) for i in range(len(plain))),
        ]
        return pa.Table.from_arrays(parts, names=["person", "t", "channel", "u", "model", *plain])

    schema = "person string, t bigint, channel string, u bigint, model string, "
    table = rows.groupBy("b").applyInArrow(bucket, schema + ", ".join(f"{name} double" for name in plain))
    amounts = [F.col(name).alias(credit) for name, credit in zip(plain, credits, strict=True)]
    time, end = (F.timestamp_micros(F.col(short)) for short in ("t", "u"))
    return table.select("person", time.alias("time"), "channel", end.alias("conversion_time"), "model", *amounts)
