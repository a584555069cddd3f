"""Wilcoxon's signed ranks of pair differences that lie in many places: counts in cells add up, ranks come of them.

Differences are fixed-point numbers. While a block has few different ones its cells are exact; else a cell is narrower
than 2⁻⁸ of its value and those in it share their mean rank, as ties do. The test is valid either way: given the cells,
the signs alone are random.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from causal_spark.solve.sensitivity import SignedRanks
from causal_spark.statistics.histogram import EXACT, Histogram
from causal_spark.statistics.moments import Array

BITS = 8
DISTINCT = 2_000
# Columns of a record.
OUTCOME, CELL_BITS, CELL, COUNT = range(4)


def scale(spread: float) -> float:
    """A power of two that makes differences of at most ``spread`` integers of at most 2⁴⁸, which a double holds."""
    return 2.0 ** min(48 - math.ceil(math.log2(spread)), 1000) if spread > 0 else 1.0


def records(differences: Array, scales: Sequence[float]) -> Array:
    """How often each cell holds one of the ``differences`` (m, q), times ``scales`` (q,): (r, 4), none for zero."""
    found = [np.zeros((0, 4))]
    for i, factor in enumerate(scales):
        values, counts = np.unique(np.rint(differences[:, i] * factor).astype(np.int64), return_counts=True)
        bits = EXACT if len(values) <= DISTINCT else BITS
        cells = Histogram.from_integers(values, bits, factor, counts)
        n = len(cells.cells)
        found.append(np.column_stack([np.full(n, i), np.full(n, bits), cells.cells, cells.counts]).astype(float))
    return np.vstack(found)


def solve(found: Array, scales: Sequence[float]) -> list[SignedRanks]:
    """The signed ranks of each outcome, from the records of all blocks.

    Of a 0/1 outcome, and of any whose differences are all of one size, there are no ranks but signs: no pairs then.
    """
    return [_ranks(_merged(found[found[:, OUTCOME] == i], factor)) for i, factor in enumerate(scales)]


def _merged(rows: Array, factor: float) -> Histogram:
    """One histogram, in the widest cells that a block has used."""
    bits = int(rows[:, CELL_BITS].min(initial=EXACT))
    total = Histogram.empty(bits, factor)
    for own in np.unique(rows[:, CELL_BITS]).astype(int):
        mine = rows[rows[:, CELL_BITS] == own]
        total += Histogram.from_cells(mine[:, CELL], mine[:, COUNT], int(own), factor).coarsen(bits)
    return total


def _ranks(total: Histogram) -> SignedRanks:
    signs = total.cells != 0
    cells, counts = total.cells[signs], total.counts[signs].astype(float)
    size, place = np.unique(np.abs(cells), return_inverse=True)
    if len(size) < 2:
        return SignedRanks(0, np.nan, np.nan, np.nan)
    n = np.bincount(place, counts)
    rank = np.cumsum(n) - (n - 1) / 2
    above = counts * (cells > 0)
    return SignedRanks(int(n.sum()), float(rank[place] @ above), float(rank @ n), float(rank**2 @ n))
