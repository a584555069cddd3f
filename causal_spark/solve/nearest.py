"""Nearest neighbours on a line: exact matching of sorted points with replacement.

All functions take points sorted by (distance, tie key), so a result depends on the points alone. A set of nearest
points on a line is a contiguous range of them, ties included, which is what makes a sweep exact and fast.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causal_spark.statistics.moments import Array

Index = NDArray[np.int64]
Mask = NDArray[np.bool_]

# Distances that differ by less than this part of their size differ by rounding: they are ties.
ROUNDING = 1e-12
# Ranges up to this size are added up step by step.
SHORT = 8
# Members of long ranges that are laid out at a time.
BUNCH = 1 << 20


@dataclass(frozen=True, eq=False)
class Ranges:
    """For each of m focal points the matches ``low`` ≤ i < ``high`` among the candidates; empty if it has none."""

    low: Index
    high: Index

    @property
    def size(self) -> Index:
        return self.high - self.low

    @property
    def matched(self) -> Mask:
        return self.high > self.low


def nearest(
    focal: Array,
    candidates: Array,
    ratio: int = 1,
    caliper: float = math.inf,
    tolerance: float = 0.0,
    place: Index | None = None,
) -> Ranges:
    """The ``ratio`` nearest candidates of each focal point and all that tie with the last of them, within ``caliper``.

    ``focal`` (m,) and ``candidates`` (n,) are sorted. Fewer than ``ratio`` matches where the caliper allows no more.
    Squared distances that differ by no more than ``tolerance`` are ties. ``place`` (m,): how many candidates stand
    before each focal point, where that is known; equal ones may stand on either side.
    """
    k = min(ratio, len(candidates))
    if k == 0:
        nothing = np.zeros(len(focal), np.int64)
        return Ranges(nothing, nothing)
    at = np.searchsorted(candidates, focal, "left") if place is None else place
    line = np.concatenate([np.full(k + 1, -math.inf), candidates, np.full(k + 1, math.inf)])
    reach = _kth_distance(focal, line, at, k)
    reach = np.minimum(np.sqrt(reach**2 + tolerance) if tolerance > 0 else reach, caliper)
    slack = ROUNDING * (np.abs(focal) + reach)
    bottom, top = focal - reach - slack, focal + reach + slack
    if k > SHORT:
        return Ranges(np.searchsorted(candidates, bottom, "left"), np.searchsorted(candidates, top, "right"))
    low, high = at.astype(np.int64), at.astype(np.int64)
    for j in range(k):
        low -= line.take(at + (k - j)) >= bottom
        high += line.take(at + (k + 1 + j)) <= top
    wider = np.flatnonzero(line.take(at) >= bottom)
    low[wider] = np.searchsorted(candidates, bottom[wider], "left")
    wider = np.flatnonzero(line.take(at + (2 * k + 1)) <= top)
    high[wider] = np.searchsorted(candidates, top[wider], "right")
    return Ranges(low, high)


def _kth_distance(focal: Array, line: Array, at: Index, k: int) -> Array:
    """Distance (m,) of the k-th nearest candidate, at least k there are; candidate i stands at i + k + 1 of ``line``.

    The k nearest are some k in a row around the place ``at``: the smallest, over the rows, of the farther end.
    """
    found = np.asarray(line.take(at + 2 * k) - focal)
    for left in range(1, k):
        ends = np.maximum(focal - line.take(at + (k + 1 - left)), line.take(at + (2 * k - left)) - focal)
        np.minimum(found, ends, out=found)
    return np.minimum(found, focal - line.take(at + 1), out=found)


def range_sums(values: Array, ranges: Ranges) -> Array:
    """Σ of the rows ``values`` (n, q) over each range, shape (m, q); 0 over an empty one.

    Each range is added up by itself, a long one that several share in a row once: differences of running totals would
    lose digits.
    """
    size = ranges.size
    most = int(size.max(initial=0))
    if 0 < most <= SHORT and int(size.min()) == most:
        found = values.take(ranges.low, axis=0)
        for step in range(1, most):
            found += values.take(ranges.low + step, axis=0)
        return found
    found = np.zeros((len(ranges.low), values.shape[1]))
    short = np.flatnonzero((size > 0) & (size <= SHORT))
    for step in range(int(size[short].max(initial=0))):
        more = short[size[short] > step]
        found[more] += values[ranges.low[more] + step]
    long = np.flatnonzero(size > SHORT)
    if len(long):
        low, high = ranges.low[long], ranges.high[long]
        new = np.concatenate([[True], (low[1:] != low[:-1]) | (high[1:] != high[:-1])])
        ends = np.column_stack([low[new], high[new]]).ravel()
        padded = np.vstack([values, np.zeros((1, values.shape[1]))])
        found[long] = np.add.reduceat(padded, ends, axis=0)[::2][np.cumsum(new) - 1]
    return found


def range_spread(values: Array, ranges: Ranges, n: int) -> Array:
    """Of each of n candidates Σ of the rows ``values`` (m, q) of the ranges that hold it, shape (n, q).

    The transpose of ``range_sums``: what is added is positive where the values are, since no running total is taken.
    """
    found, size = np.zeros((values.shape[1], n)), ranges.size
    for most in range(1, min(int(size.max(initial=0)), SHORT) + 1):
        rows = np.flatnonzero(size == most)
        for mine, column in zip(found, values.T, strict=True):
            first = np.bincount(ranges.low.take(rows), column.take(rows), n)
            for step in range(most):
                mine[step:] += first[: n - step]
    long = np.flatnonzero(size > SHORT)
    if len(long):
        low, high = ranges.low[long], ranges.high[long]
        new = np.flatnonzero(np.concatenate([[True], (low[1:] != low[:-1]) | (high[1:] != high[:-1])]))
        total, low, size = np.add.reduceat(values[long], new, axis=0), low[new], (high - low)[new]
        bunch = np.cumsum(size) // BUNCH
        for part in np.split(np.arange(len(low)), np.flatnonzero(bunch[1:] != bunch[:-1]) + 1):
            who = np.repeat(part, size[part])
            step = np.arange(len(who)) - np.repeat(np.cumsum(size[part]) - size[part], size[part])
            for mine, column in zip(found, total[who].T, strict=True):
                mine += np.bincount(low[who] + step, column, n)
    return found.T


def uses(ranges: Ranges, n: int) -> Array:
    """How often each of n candidates is used, a match among m ties counting 1/m; shape (n,)."""
    single = ranges.size == 1
    found = np.bincount(ranges.low[single], minlength=n).astype(float)
    several = ranges.size > 1
    if several.any():
        share = 1.0 / ranges.size[several]
        change = np.bincount(ranges.low[several], share, n + 1) - np.bincount(ranges.high[several], share, n + 1)
        steps = np.cumsum(change)[:n]
        found += np.where(np.abs(steps) > 1e-9, steps, 0.0)  # what is left of a running total that returned to 0
    return found
