"""Nearest neighbours on a line: exact matching of sorted points, with and without replacement.

All functions take points sorted by (distance, tie key), so a result depends on the points alone. A set of nearest
points on a line is a contiguous range of them, ties included, which is what makes a sweep exact and fast.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from causal_spark.statistics.moments import Array

Index = NDArray[np.int64]
Mask = NDArray[np.bool_]
Order = Literal["closest", "largest"]

# Distances that differ by less than this part of their size differ by rounding: they are ties.
ROUNDING = 1e-12
# Rounds in which all locally closest pairs are taken at once; what remains then is a chain and goes one by one.
ROUNDS = 48
# Ranges up to this size are added up step by step.
SHORT = 8


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
    focal: Array, candidates: Array, ratio: int = 1, caliper: float = math.inf, tolerance: float = 0.0
) -> Ranges:
    """The ``ratio`` nearest candidates of each focal point and all that tie with the last of them, within ``caliper``.

    ``focal`` (m,) and ``candidates`` (n,) are sorted. Fewer than ``ratio`` matches where the caliper allows no more.
    Squared distances that differ by no more than ``tolerance`` are ties.
    """
    if len(candidates) == 0:
        nothing = np.zeros(len(focal), np.int64)
        return Ranges(nothing, nothing)
    reach = _kth_distance(focal, candidates, ratio)
    reach = np.where(reach <= caliper, np.minimum(np.sqrt(reach**2 + tolerance), caliper), caliper)
    slack = ROUNDING * (np.abs(focal) + np.where(np.isfinite(reach), reach, 0.0))
    low = np.searchsorted(candidates, focal - reach - slack, "left")
    high = np.searchsorted(candidates, focal + reach + slack, "right")
    return Ranges(low.astype(np.int64), np.maximum(high, low).astype(np.int64))


def _kth_distance(focal: Array, candidates: Array, k: int) -> Array:
    """Distance of the k-th nearest candidate (the farthest if there are fewer), shape (m,)."""
    n = len(candidates)
    place = np.searchsorted(candidates, focal, "left")
    steps = np.arange(-k, k)
    index = place[:, None] + steps
    inside = (index >= 0) & (index < n)
    distance = np.where(inside, np.abs(focal[:, None] - candidates[np.clip(index, 0, n - 1)]), np.inf)
    if k == 1:
        return np.asarray(distance.min(axis=1))
    kth = min(k, n) - 1
    return np.asarray(np.partition(distance, kth, axis=1)[:, kth])


def range_sums(values: Array, ranges: Ranges) -> Array:
    """Σ of the rows ``values`` (n, q) over each range, shape (m, q); 0 over an empty one.

    Each range is added up by itself, a long one that several share in a row once: differences of running totals would
    lose digits.
    """
    found = np.zeros((len(ranges.low), values.shape[1]))
    size = ranges.size
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


def separators(treated: Mask, ratio: int = 1) -> Mask:
    """Controls that no greedy nearest-available matching can use, and that no pair spans; shape (n,).

    If a treated point takes a control to its right, all controls between are taken by points between (each by at
    most ``ratio``), so that scanning from there more places are wanted than there are controls. A control with no
    such surplus on either side can be left out, and divides the line into independent parts.
    """
    change = np.where(treated, float(ratio), -1.0)
    before = _surplus(change)
    after = _surplus(change[::-1])[::-1]
    return np.asarray(~treated & (before <= 0) & (after <= 0))


def _surplus(change: Array, start: float = 0.0) -> Array:
    """The running surplus s ← max(0, s + change) just before each point, scanning from the left; shape (n,)."""
    total = np.concatenate([[start], start + np.cumsum(change)])[:-1]
    return np.asarray(total - np.minimum(np.minimum.accumulate(total), 0.0))


def greedy(
    points: Array, treated: Mask, ratio: int = 1, caliper: float = math.inf, order: Order = "closest"
) -> tuple[Index, Index]:
    """Greedy matching without replacement of ``points`` (n,) sorted by (point, tie key): treated and their controls.

    ``closest``: of all pairs the closest first (Rassen et al. 2012). ``largest``: treated points from the last to the
    first, each with the nearest control that is left, the lower one of two as near. Of a ``ratio`` above 1
    every treated point gets its first control before any gets its second. Of equal points the first is taken first.
    """
    rounds: list[tuple[Index, Index]] = []
    free = np.ones(len(points), bool)
    free[separators(treated, ratio)] = False
    match = _closest if order == "closest" else _largest
    for _ in range(ratio):
        index = np.flatnonzero(free)
        t, c = match(points[index], treated[index], caliper)
        rounds.append((_first_of_equals(points, treated, index[t]), index[c]))
        free[index[c]] = False
    controls = _joined([c for _, c in rounds])
    return _joined([t for t, _ in rounds]), _first_of_equals(points, ~treated, controls)


def _first_of_equals(points: Array, kind: Mask, taken: Index) -> Index:
    """``taken`` points of a ``kind`` in the order of taking: of equal ones the first is taken first."""
    members = np.flatnonzero(kind)
    start = np.searchsorted(points[members], points[taken], "left")
    order = np.argsort(start, kind="stable")
    run = start[order]
    rank = np.arange(len(run)) - np.searchsorted(run, run, "left")
    found = np.empty_like(taken)
    found[order] = members[run + rank]
    return found


def _closest(points: Array, treated: Mask, caliper: float) -> tuple[Index, Index]:
    """Rounds in which every pair of mutually nearest free points is taken: the pairs of the one-by-one order."""
    alive = np.arange(len(points))
    first: list[Index] = []
    second: list[Index] = []
    for _ in range(ROUNDS):
        x, t = points[alive], treated[alive]
        gap = np.where(t[1:] != t[:-1], x[1:] - x[:-1], np.inf)
        gap[gap > caliper] = np.inf
        left, right = _to_opposite(x, t), _to_opposite(-x[::-1], t[::-1])[::-1]
        best = np.flatnonzero((gap < left[:-1]) & (gap <= right[1:]) & (gap < np.inf))
        if len(best) == 0:
            break
        first.append(alive[best])
        second.append(alive[best + 1])
        keep = np.ones(len(alive), bool)
        keep[best] = keep[best + 1] = False
        alive = alive[keep]
    else:
        a, b = _closest_chain(points[alive], treated[alive], caliper)
        first.append(alive[a])
        second.append(alive[b])
    a, b = _joined(first), _joined(second)
    one_by_one = np.lexsort([a, points[b] - points[a]])
    a, b = a[one_by_one], b[one_by_one]
    return np.where(treated[a], a, b), np.where(treated[a], b, a)


def _to_opposite(x: Array, treated: Mask) -> Array:
    """Distance of each point to the nearest point of the other kind before it; infinite if there is none."""
    place = np.arange(len(x))
    last_treated = np.maximum.accumulate(np.where(treated, place, -1))
    last_control = np.maximum.accumulate(np.where(treated, -1, place))
    other = np.where(treated, last_control, last_treated)
    return np.where(other >= 0, x - x[other], np.inf)


def _closest_chain(points: Array, treated: Mask, caliper: float) -> tuple[Index, Index]:
    """The same one pair at a time: a heap of neighbouring pairs over a linked list, O(n log n)."""
    x, t, n = points.tolist(), treated.tolist(), len(points)
    before, after = list(range(-1, n - 1)), [*range(1, n), -1]
    heap = [(x[i + 1] - x[i], i, i + 1) for i in range(n - 1) if t[i] != t[i + 1] and x[i + 1] - x[i] <= caliper]
    heapq.heapify(heap)
    gone = bytearray(n)
    pairs: list[tuple[int, int]] = []
    while heap:
        _, i, j = heapq.heappop(heap)
        if gone[i] or gone[j]:
            continue
        gone[i] = gone[j] = 1
        pairs.append((i, j))
        left, right = before[i], after[j]
        if left >= 0:
            after[left] = right
        if right >= 0:
            before[right] = left
        if left >= 0 and right >= 0 and t[left] != t[right] and x[right] - x[left] <= caliper:
            heapq.heappush(heap, (x[right] - x[left], left, right))
    found = np.array(pairs, np.int64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _largest(points: Array, treated: Mask, caliper: float) -> tuple[Index, Index]:
    """Treated points in descending order; free controls on either side by union-find, O(n α(n))."""
    controls, focal = np.flatnonzero(~treated), np.flatnonzero(treated)
    place = np.searchsorted(controls, focal)  # the first control after each treated point
    x, n = points[controls].tolist(), len(controls)
    down, up = list(range(n + 1)), list(range(n + 1))  # of slots: control i is slot i + 1 of down and slot i of up
    found: list[tuple[int, int]] = []
    targets = points[focal].tolist()
    for k in range(len(focal) - 1, -1, -1):
        left, right = _root(down, int(place[k])) - 1, _root(up, int(place[k]))
        to_left = targets[k] - x[left] if left >= 0 else math.inf
        to_right = x[right] - targets[k] if right < n else math.inf
        if min(to_left, to_right) > caliper or (left < 0 and right >= n):
            continue
        taken = left if to_left <= to_right else right
        down[taken + 1], up[taken] = taken, taken + 1
        found.append((k, taken))
    pairs = np.array(found, np.int64).reshape(-1, 2)
    return focal[pairs[:, 0]], controls[pairs[:, 1]]


def _root(parent: list[int], slot: int) -> int:
    """The free slot that ``slot`` leads to; paths are halved on the way."""
    while parent[slot] != slot:
        parent[slot] = parent[parent[slot]]
        slot = parent[slot]
    return slot


def _joined(parts: list[Index]) -> Index:
    return np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64)


def safe_gap(points: Array, rows: Array, ratio: int, before: Array, beyond: Array) -> float | None:
    """The point nearest the middle such that no pair of a greedy matching lies on both sides of the gap before it.

    ``points`` (n,) distinct and sorted, with ``rows`` (n, 2) controls and treated at each; ``before`` and ``beyond``
    (·, 2) rows of the cells on either side, in order. Rows of one point match each other first, so a point counts as a
    whole. None if there is no such gap.
    """
    left, right = _incoming(before, ratio), _incoming(beyond[::-1], ratio)
    change = ratio * np.asarray(rows[:, 1], float) - np.asarray(rows[:, 0], float)
    before = _surplus(change, left)
    after = np.maximum(_surplus(change[::-1], right)[::-1] + change, 0.0)
    gaps = np.flatnonzero((before <= 0) & (after <= 0))
    gaps = gaps[gaps > 0]
    if len(gaps) == 0:
        return None
    return float(points[gaps[np.argmin(np.abs(gaps - len(points) / 2))]])


def _incoming(rows: Array, ratio: int) -> float:
    """A bound on the surplus of wanted places after these cells: in each, controls are passed before the treated."""
    steps = np.column_stack([-rows[:, 0], ratio * rows[:, 1]]).ravel()
    return float(_surplus(np.append(steps, 0.0))[-1])
