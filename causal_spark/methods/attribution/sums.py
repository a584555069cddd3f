"""What survives of a bucket of journeys: whole-number sums by statistic, segment and key, with bootstrap replicates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from scipy import sparse

from causal_spark.methods.attribution import paths
from causal_spark.methods.attribution.entries import Entries, of_journeys
from causal_spark.methods.attribution.journeys import WHOLE, Journeys, Real, Whole, columns, offsets
from causal_spark.methods.attribution.plan import Plan
from causal_spark.methods.attribution.weights import Weights
from causal_spark.statistics.cells import Block, Cells, added

# Replicates are kept this many bits coarser than the data, so that their products with bootstrap weights are exact in
# doubles.
COARSE = 13
HALF_BITS = 26
HALF = 1 << HALF_BITS
# Keys up to here are counted in a table as large as the greatest of them.
DENSE = 1 << 20


def summed(parts: Sequence[Journeys], weights: Weights, wanted: Plan) -> Iterator[Block]:
    """Every statistic of a bucket, over all journeys and within each segment column; at last the counted paths."""
    yield from added(part.block() for made in parts for part in _cells(made, weights, wanted))
    if wanted.paths:
        for made in parts:
            yield from paths.counted(made.chosen(made.sizes > 0), wanted.tokens)


def _cells(made: Journeys, weights: Weights, wanted: Plan) -> Iterator[Cells]:
    """The parts of the statistics in one of the bucket's journeys."""
    for journeys, entries in of_journeys(made, weights, wanted):
        found = [_summed(entries, None, journeys, weights, wanted)]
        for group in journeys.segments.T:
            segment = entries.of(group, journeys)
            inside = segment >= 0
            found.append(_summed(entries.chosen(inside, journeys), segment[inside], journeys, weights, wanted))
        yield from (replace(cells, stat=stat) for stat in entries.stats for cells in found if cells is not None)


def _summed(entries: Entries, segment: Whole | None, made: Journeys, weights: Weights, wanted: Plan) -> Cells | None:
    """Entries summed by (segment, key), the data and each bootstrap replicate; None if there are none."""
    if not len(entries.key):
        return None
    stat, amounts, rows = entries.stats[0], entries.amounts, _Rows(entries.key, segment)
    outcomes, drawn = amounts.shape[1], wanted.drawn(stat)
    base = columns(*(_added(rows, amounts[:, o], entries, made) for o in range(outcomes)))
    found = np.zeros((len(rows.count), outcomes, drawn), np.int64)
    if drawn:
        person = entries.of(made.person, made)
        for o in range(outcomes):
            unit = _unit(stat, made, entries, o)
            if unit.any():
                chosen = (weights.lost if o == 1 else weights.won)[:, :drawn]
                each = entries.of(unit, made) if entries.shared else unit
                found[:, o] = _replicated(each, rows.row, person, len(rows.count), chosen)
    segments, keys = rows.names
    return Cells(stat, segments, keys, base, found.reshape(len(keys), outcomes * drawn))


class _Rows:
    """The different (segment, key) of entries: their ``names`` in order, the entries of each (``count``), and which of
    them each entry has (``row``)."""

    def __init__(self, key: Whole, segment: Whole | None) -> None:
        width, segments = int(key.max()) + 1, 1 if segment is None else int(segment.max()) + 1
        known = pairs = None
        if width * segments > DENSE:  # keys by their rank, so that products fit into 64 bits
            known, key = np.unique(key, return_inverse=True)
            width = len(known)
        both = key if segment is None else segment * width + key
        if width * segments > DENSE:
            pairs, both = np.unique(both, return_inverse=True)
        counts = np.bincount(both)
        found = np.flatnonzero(counts)
        self.count, self._both, self._found, self._space = counts[found], both, found, len(counts)
        pair = found if pairs is None else pairs[found]
        self.names = pair // width, pair % width if known is None else known[pair % width]

    @cached_property
    def row(self) -> Whole:
        if len(self._found) == self._space:
            return self._both
        place = np.zeros(self._space, np.int64)
        place[self._found] = np.arange(len(self._found))
        return np.asarray(place[self._both])


def _added(rows: _Rows, amount: Whole, entries: Entries, made: Journeys) -> Whole:
    """Σ amount by row, exactly: doubles hold the sums of the upper and of the lower half of the bits."""
    least, most = int(amount.min()), int(amount.max())
    if least == most:
        return rows.count * least
    halves = [(amount & (HALF - 1), 1)]
    if least < 0 or most >= HALF:
        halves.append((amount >> HALF_BITS, HALF))
    found = np.zeros(len(rows.count), np.int64)
    for half, scale in halves:
        each = half.astype(float)
        each = entries.of(each, made) if entries.shared else each
        found += np.bincount(rows.row, each, len(found)).astype(np.int64) * scale
    return found


def _unit(stat: str, made: Journeys, entries: Entries, outcome: int) -> Real:
    """What one conversion, or one null, of a journey adds to a replicate: amounts and credit coarser."""
    amount, many = entries.amounts[:, outcome], made.nulls / WHOLE if outcome == 1 else made.conversions
    each = np.maximum(many, 1.0) if entries.shared else entries.of(np.maximum(many, 1.0), made)
    coarse = 2.0**COARSE if outcome > 1 or (outcome == 0 and stat.startswith(("rule:", "stage"))) else 1.0
    return np.asarray(np.rint(amount / (each * coarse)))


def _replicated(unit: Real, row: Whole, person: Whole, rows: int, drawn: Real) -> Whole:
    """Σ unit · weight by row for every replicate; the numbers are whole and small enough to be exact.

    In the order of the persons each one's weights are read once, and the sums of all rows stay in the cache.
    """
    if (person[1:] < person[:-1]).any():
        order = np.argsort(person)
        unit, row, person = unit[order], row[order], person[order]
    starts = offsets(np.bincount(person, minlength=len(drawn)))
    matrix = sparse.csc_array((unit, row, starts), shape=(rows, len(drawn)))
    return np.asarray(np.rint(matrix @ np.ascontiguousarray(drawn)), np.int64)
