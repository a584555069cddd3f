"""Sweeps over neighbouring rows: blocks of a line cut at explicit points, border rows carried, the sort inside.

Rows are placed by a number (the *point*) inside a group of equal keys. Cells of equal width are counted once; a plan
gathers cells into blocks; each block goes to one numpy function as a whole. What a row's block is depends on the
counts alone, so that no result depends on partitions, engines or the order of rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from causal_spark.errors import StatisticError
from causal_spark.spark.blocks import hashed
from causal_spark.spark.compress import MAX_ROWS
from causal_spark.spark.design import LOGIT, UNIT, propensity
from causal_spark.spark.session import Engine
from causal_spark.spark.tables import col
from causal_spark.statistics.moments import Array

Whole = NDArray[np.int64]
Mask = NDArray[np.bool_]

POINT, TREATED, TIE, GROUP, CELL, BLOCK = "(point)", "(treated)", "(tie)", "(group)", "(cell)", "(block)"
LAST = "(last tie)"
NUMBER, HOME, SHARED, CUT = "(group number)", "(home)", "(shared)", "(cut)"
CELLS = 1 << 15  # of equal width over the whole line
ROWS = 400_000  # wanted in one block
WINDOW = 4_000  # rows looked at for a place to cut
WHOLE = 1_000_000  # most rows of a group that no cut may divide


@dataclass(frozen=True, eq=False)
class Line:
    """Counts of the cells that hold rows, sorted by (group, cell); ``low`` and ``width`` place the cells.

    ``groups`` (g,) are the exact-match keys as text; ``number``, ``cell``, ``treated``, ``controls`` have shape (c,).
    """

    groups: tuple[str, ...]
    number: Whole
    cell: Whole
    treated: Whole
    controls: Whole
    low: float
    width: float


@dataclass(frozen=True)
class Spread:
    """The smallest and the largest point and their standard deviation (ddof 1)."""

    low: float
    high: float
    deviation: float


def on_line(frame: DataFrame, distance: str, treatment: str) -> DataFrame:
    """``frame`` with its point: the logit, the propensity, or the column ``distance``; and the arm as 0 or 1."""
    point = {"logit": F.col(LOGIT), "propensity": propensity()}.get(distance)
    point = col(distance).cast("double") if point is None else point
    return frame.withColumn(POINT, point).withColumn(TREATED, col(treatment).cast("int"))


def spread(frame: DataFrame, deviation: bool = True) -> Spread:
    """One scan; without the ``deviation`` (then 0) where nobody asks for it."""
    last = F.stddev_samp(POINT) if deviation else F.lit(0.0)
    row = frame.agg(F.min(POINT), F.max(POINT), last).toArrow()
    low, high, found = (row.column(i)[0].as_py() for i in range(3))
    return Spread(float(low or 0.0), float(high or 0.0), float(found or 0.0))


def placed(frame: DataFrame, salt: str, exact: Sequence[str] = (), ties: str | None = None) -> DataFrame:
    """``frame`` with the tie key (a hash of the unit, or the column ``ties``) and the group of its ``exact`` columns.

    Rows that the column ``ties`` does not tell apart are put in order by the hash, LAST. The group is the columns'
    values as text; NULL is a value. Without such columns all rows are one group, and there is no column GROUP.
    """
    parts = [F.coalesce(F.concat(F.lit("="), col(name).cast("string")), F.lit("-")) for name in exact]
    frame = frame.withColumn(GROUP, F.concat_ws("\u0001", *parts)) if parts else frame
    if ties is None:
        return frame.withColumn(TIE, hashed(UNIT, salt))
    return frame.withColumn(TIE, col(ties).cast("bigint")).withColumn(LAST, hashed(UNIT, salt))


def line(frame: DataFrame, low: float, high: float) -> Line:
    """Count rows by group, cell and arm: one scan. ``low`` and ``high`` bound the points.

    Raises StatisticError if group × cell × arm give more than a driver should hold.
    """
    width = max((high - low) / CELLS, 1e-300)
    treated = F.col(TREATED).cast("bigint")
    exact = [GROUP] if GROUP in frame.columns else []
    counted = _celled(frame, low, width).groupBy(*exact, CELL).agg(F.count(F.lit(1)).alias("n"), F.sum(treated))
    table = counted.limit(MAX_ROWS * 5 + 1).toArrow()
    if table.num_rows > MAX_ROWS * 5:
        raise StatisticError("too_many_cells", keys="matching.exact", limit=MAX_ROWS * 5)
    groups, number = _numbered(table.column(0)) if exact else (("",), np.zeros(table.num_rows, np.int64))
    cell, n, t = (column.to_numpy().astype(np.int64) for column in table.columns[len(exact) :])
    order = np.lexsort([cell, number])
    return Line(groups, number[order], cell[order], t[order], (n - t)[order], low, width)


def _numbered(texts: pa.ChunkedArray) -> tuple[tuple[str, ...], Whole]:
    """The different texts in order, and the number of each row's."""
    coded = texts.combine_chunks().dictionary_encode()
    found = coded.dictionary.to_pylist()
    place = {text: i for i, text in enumerate(sorted(found))}
    return tuple(place), np.array([place[text] for text in found], np.int64)[coded.indices.to_numpy()]


def _celled(frame: DataFrame, low: float, width: float) -> DataFrame:
    cell = F.floor((F.col(POINT) - F.lit(low)) / F.lit(width)).cast("bigint")
    return frame.withColumn(CELL, F.least(F.greatest(cell, F.lit(0)), F.lit(CELLS)))


@dataclass(frozen=True, eq=False)
class Plan:
    """Which block every cell goes to: rows of the mapping table joined to the frame. Shapes (m,).

    A cell with ``home`` False is a guest: its rows are looked at as neighbours only. ``shared`` cells have guests
    elsewhere. Rows at ``cut`` or beyond belong to the next block.
    """

    line: Line
    entry: Whole
    block: Whole
    home: Mask
    shared: Mask
    cut: Array


def with_guests(line: Line, neighbours: int, reach: float = 0.0, rows: int = ROWS) -> Plan:
    """Blocks of about ``rows`` rows that also see, on either side, cells with ``neighbours`` rows of each arm.

    ``reach``: how far beyond those rows others may still tie with them; they are seen too.
    """
    if len(line.cell) == 0:
        return whole(line)
    block = _blocks(line, rows)
    entries: list[tuple[int, int, bool]] = [(i, int(b), True) for i, b in enumerate(block)]
    starts = np.flatnonzero(np.concatenate([[True], block[1:] != block[:-1]]))
    for start, stop in zip(starts, [*starts[1:], len(block)], strict=True):
        number = int(block[start])
        for first, last in _runs(line, int(start), int(stop)):
            entries += [(i, number, False) for i in _beyond(line, first, -1, neighbours, reach)]
            entries += [(i, number, False) for i in _beyond(line, last, 1, neighbours, reach)]
    entry, owner, home = (np.array(part) for part in zip(*sorted(entries), strict=True))
    shared = np.bincount(entry, minlength=len(block))[entry] > 1
    return Plan(line, entry, owner, home, shared, np.full(len(entry), np.inf))


def _blocks(line: Line, rows: int) -> Whole:
    """Number of the block of every cell: whole groups together while they are small, large groups cut."""
    if len(line.cell) == 0:
        return np.zeros(0, np.int64)
    n = line.treated + line.controls
    before = np.cumsum(n) - n
    size = np.bincount(line.number, n)[line.number]
    start = before[np.searchsorted(line.number, line.number)]
    large = size > rows
    bunch = np.where(large, before - start, start) // rows
    ends = (bunch[1:] != bunch[:-1]) | (large[1:] != large[:-1])
    ends |= (line.number[1:] != line.number[:-1]) & large[1:]
    return np.concatenate([[0], np.cumsum(ends)])


def _runs(line: Line, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """First and last cell of the groups that a block's cells ``start`` ≤ i < ``stop`` may share with other blocks."""
    numbers = line.number[start:stop]
    first_end = start + int(np.searchsorted(numbers, numbers[0], "right")) - 1
    last_start = start + int(np.searchsorted(numbers, numbers[-1], "left"))
    yield start, first_end
    if last_start > start:
        yield last_start, stop - 1


def _beyond(line: Line, at: int, step: int, neighbours: int, reach: float) -> Iterator[int]:
    """The cells on one side of ``at``, in its group, that hold ``neighbours`` rows of both arms, and ``reach`` more."""
    treated = controls = 0
    i, enough = at + step, None
    while 0 <= i < len(line.cell) and line.number[i] == line.number[at]:
        if enough is not None and (abs(int(line.cell[i] - line.cell[enough])) - 1) * line.width > reach:
            return
        yield i
        treated, controls = treated + int(line.treated[i]), controls + int(line.controls[i])
        if enough is None and treated >= neighbours and controls >= neighbours:
            enough = i
        i += step


def whole(line: Line, most: int = WHOLE) -> Plan:
    """A block for each bunch of whole groups, for work that no cut may divide.

    Raises StatisticError if a group has more than ``most`` rows.
    """
    largest = int(np.bincount(line.number, line.treated + line.controls).max(initial=0))
    if largest > most:
        raise StatisticError("group_too_large", rows=f"{largest:,}", limit=f"{most:,}")
    n = len(line.cell)
    return Plan(line, np.arange(n), _blocks(line, most), np.ones(n, bool), np.zeros(n, bool), np.full(n, np.inf))


Gap = Callable[[Array, Array, int, Array, Array], float | None]


def at_gaps(
    frame: DataFrame, line: Line, gap: Gap, ratio: int, engine: Engine, focal: int = 1, rows: int = ROWS
) -> Plan:
    """Blocks divided where no pair of a greedy matching can cross, found by ``gap`` in windows around the wanted cuts.

    ``focal``: the arm that looks for ``ratio`` matches each. One more scan, of the windows' rows only. Where focal rows
    outnumber ``1/ratio`` of the others for long there
    may be no such place; blocks then grow together.
    """
    if focal == 0:
        line = replace(line, treated=line.controls, controls=line.treated)
    wanted = _blocks(line, rows)
    same = line.number[1:] == line.number[:-1]
    cuts = np.flatnonzero((wanted[1:] != wanted[:-1]) & same) + 1
    windows = [_window(line, int(at)) for at in cuts]
    place, points, counts = _points(frame, line, windows, engine, focal)
    found: dict[int, float] = {}
    for start, first, last, stop in windows:
        inside = (place >= first) & (place < last)
        cells = np.column_stack([line.controls, line.treated]).astype(float)
        value = gap(points[inside], counts[inside], ratio, cells[start:first], cells[last:stop])
        if value is not None:
            cell = math.floor((value - line.low) / line.width)
            at = np.flatnonzero(line.cell[first:last] == cell)
            found |= {first + int(i): value for i in at}
    return _cut(line, wanted, found)


def _cut(line: Line, wanted: Whole, cuts: dict[int, float]) -> Plan:
    """Blocks that end at the ``cuts`` (entry of the cell → value), and at ends of groups where wanted."""
    n = len(line.cell)
    cut = np.full(n, np.inf)
    for place, value in cuts.items():
        cut[place] = value
    ends = np.zeros(n, bool)
    ends[1:] = (line.number[1:] != line.number[:-1]) & (wanted[1:] != wanted[:-1])
    ends[1:] |= np.isfinite(cut[:-1])
    block = np.cumsum(ends)
    return Plan(line, np.arange(n), block, np.ones(n, bool), np.zeros(n, bool), cut)


def _window(line: Line, at: int) -> tuple[int, int, int, int]:
    """Entries [first, last) around a wanted cut, about WINDOW rows on either side, inside its group [start, stop)."""
    start, stop = (int(np.searchsorted(line.number, line.number[at], side)) for side in ("left", "right"))
    filled = np.concatenate([[0], np.cumsum((line.treated + line.controls)[start:stop])])
    middle = filled[at - start]
    first = start + max(0, int(np.searchsorted(filled, middle - WINDOW, "right")) - 1)
    last = start + min(stop - start, int(np.searchsorted(filled, middle + WINDOW, "left")))
    return start, first, last, stop


def _points(
    frame: DataFrame, line: Line, windows: Sequence[tuple[int, int, int, int]], engine: Engine, focal: int
) -> tuple[Array, Array, Array]:
    """Distinct points in the windows, sorted: entry (w,), point (w,), rows (w, 2) of the others and the focal arm."""
    wanted = sorted({i for _, first, last, _ in windows for i in range(first, last)})
    if not wanted:
        return np.zeros(0), np.zeros(0), np.zeros((0, 2))
    entry = np.array(wanted)
    none = np.zeros(len(entry), bool)
    plan = Plan(line, entry, entry, ~none, none, np.full(len(entry), np.inf))
    looks = (F.col(TREATED) == F.lit(focal)).cast("bigint")
    rows = assigned(frame, plan, engine).groupBy(BLOCK, POINT)
    table = rows.agg(F.sum(looks).alias("t"), F.count(F.lit(1)).alias("n")).toArrow()
    place, point, ones, n = (table.column(i).to_numpy() for i in range(4))
    order = np.lexsort([point, place])
    return place[order], point[order], np.column_stack([n - ones, ones])[order]


def assigned(frame: DataFrame, plan: Plan, engine: Engine) -> DataFrame:
    """The frame's rows with their block; rows of shared cells once for each block that looks at them."""
    line = plan.line
    table = pa.table(
        {
            "(g)": pa.array([line.groups[i] for i in line.number[plan.entry]], pa.string()),
            "(c)": pa.array(line.cell[plan.entry], pa.int64()),
            NUMBER: pa.array(line.number[plan.entry], pa.int64()),
            "(b)": pa.array(plan.block, pa.int64()),
            HOME: pa.array(plan.home.astype(bool)),
            SHARED: pa.array(plan.shared.astype(bool)),
            CUT: pa.array(plan.cut, pa.float64()),
        }
    )
    one = len(line.groups) == 1
    mapping = F.broadcast(engine.spark.createDataFrame(table.drop_columns(["(g)"]) if one else table))
    rows = _celled(frame, line.low, line.width)
    matches = F.col(CELL) == F.col("(c)")
    matches = matches if one else matches & (F.col(GROUP) == F.col("(g)"))
    beyond = F.when(F.col(POINT) >= F.col(CUT), F.lit(1)).otherwise(F.lit(0))
    return rows.join(mapping, matches).withColumn(BLOCK, (F.col("(b)") + beyond).cast("bigint"))
