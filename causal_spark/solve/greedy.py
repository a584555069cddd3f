"""Greedy matching without replacement on a line, and where such a line may be cut.

Points come sorted by (distance, tie key), so a result depends on the points alone.
"""

from __future__ import annotations

import heapq
import math
from typing import Literal

import numpy as np

from causal_spark.solve.nearest import Index, Mask
from causal_spark.statistics.moments import Array

Order = Literal["closest", "largest"]

# Rounds in which what can be taken at once is; what remains then goes one by one.
ROUNDS = 48
# Parts of a line that are matched side by side while there are so many of them.
SIDE_BY_SIDE = 200


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
    total = np.cumsum(change) + (start - change)
    least = np.minimum.accumulate(total)
    return np.asarray(total - np.minimum(least, 0.0, out=least))


def greedy(
    points: Array, treated: Mask, ratio: int = 1, caliper: float = math.inf, order: Order = "closest"
) -> tuple[Index, Index]:
    """Greedy matching without replacement of ``points`` (n,) sorted by (point, tie key): treated and their controls.

    ``closest``: of all pairs the closest first (Rassen et al. 2012). ``largest``: treated points from the last to the
    first, each with the nearest control that is left, the lower one of two as near. Of a ``ratio`` above 1
    every treated point gets its first control before any gets its second. Of equal points the first is taken first.
    """
    rounds: list[tuple[Index, Index]] = []
    apart = separators(treated, ratio)
    free, part = ~apart, np.cumsum(apart).astype(np.int64)
    tied = bool((points[1:] == points[:-1]).any())
    for _ in range(ratio):
        index = np.flatnonzero(free)
        x, kind = points[index], treated[index]
        t, c = _closest(x, kind, caliper, tied) if order == "closest" else _largest(x, kind, part[index], caliper, tied)
        t, c = index[t], index[c]
        rounds.append((_first_of_equals(points, treated, t) if tied else t, c))
        free[c] = False
    controls = _joined([c for _, c in rounds])
    found = _joined([t for t, _ in rounds])
    return found, _first_of_equals(points, ~treated, controls) if tied else controls


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


def _closest(points: Array, treated: Mask, caliper: float, in_order: bool) -> tuple[Index, Index]:
    """Rounds in which pairs of mutually nearest free points are taken: the pairs of the one-by-one order.

    They come in that order only if ``in_order``.
    """
    alive = np.arange(len(points))
    found: list[tuple[Index, Index]] = []
    for step in range(ROUNDS):
        a, b = _mutual(points[alive], treated[alive], caliper, 2 << step)
        if len(a) == 0:
            break
        found.append((alive[a], alive[b]))
        keep = np.ones(len(alive), bool)
        keep[a] = keep[b] = False
        alive = alive[keep]
    else:
        a, b = _closest_chain(points[alive], treated[alive], caliper)
        found.append((alive[a], alive[b]))
    a, b = (_joined([pair[side] for pair in found]) for side in (0, 1))
    if in_order:
        one_by_one = np.lexsort([a, points[b] - points[a]])
        a, b = a[one_by_one], b[one_by_one]
    return np.where(treated[a], a, b), np.where(treated[a], b, a)


def _mutual(x: Array, treated: Mask, caliper: float, most: int) -> tuple[Index, Index]:
    """Pairs (lower, upper) of points nearest to each other, of sorted points in runs of one kind.

    Where two runs meet, their ends are paired from the inside out, at most ``most`` of them: a pair is taken if its
    gap is below that to the run before and not above that to the run after, whatever else is taken.
    """
    ends = np.flatnonzero(treated[1:] != treated[:-1])
    if len(ends) == 0:
        return ends, ends
    size = np.diff(ends, prepend=-1, append=len(x) - 1)
    pairs = np.minimum(np.minimum(size[:-1], size[1:]), most)
    step = np.arange(pairs.sum()) - np.repeat(np.cumsum(pairs) - pairs, pairs)
    end = np.repeat(ends, pairs)
    lower, upper = end - step, end + step + 1
    before = np.repeat(np.concatenate([[-math.inf], x[ends[:-1]]]), pairs)
    after = np.repeat(np.concatenate([x[ends[1:] + 1], [math.inf]]), pairs)
    left, right = x[lower], x[upper]
    gap = right - left
    best = np.flatnonzero((gap <= caliper) & (gap < left - before) & (gap <= after - right))
    return lower[best], upper[best]


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


def _largest(points: Array, treated: Mask, part: Index, caliper: float, in_order: bool) -> tuple[Index, Index]:
    """Treated points in descending order; free controls on either side by union-find, O(n α(n)).

    No pair spans two ``part``s: the first points of all parts are matched side by side, then the second ones …, and
    what is left of long parts goes one by one. The pairs come in descending order only if ``in_order``.
    """
    controls, focal = np.flatnonzero(~treated), np.flatnonzero(treated)[::-1]
    if len(controls) == 0 or len(focal) == 0:
        return focal[:0], controls[:0]
    slots = _Slots(points[controls], points[focal], np.searchsorted(controls, focal), caliper)
    own = part[focal]
    start = np.flatnonzero(np.concatenate([[True], own[1:] != own[:-1]]))
    size = np.diff(start, append=len(own))
    done = 0
    while done < ROUNDS and (size > done).sum() >= SIDE_BY_SIDE:
        slots.side_by_side(start[size > done] + done)
        done += 1
    rank = np.arange(len(own)) - np.repeat(start, size)
    slots.one_by_one(np.flatnonzero(rank >= done))
    t, c = (_joined([pair[side] for pair in slots.found]) for side in (0, 1))
    descending = np.argsort(t) if in_order else slice(None)
    return focal[t[descending]], controls[c[descending]]


class _Slots:
    """Free controls at ``x`` (n,), as seen from ``targets`` (m,) before which ``place`` of them stand.

    Control i is slot i + 1 of ``down`` and slot i of ``up``, each leading to the next free one on that side.
    """

    def __init__(self, x: Array, targets: Array, place: Index, caliper: float) -> None:
        self.x, self.targets, self.place, self.caliper = x, targets, place, caliper
        self.down, self.up = np.arange(len(x) + 1), np.arange(len(x) + 1)
        self.found: list[tuple[Index, Index]] = []

    def side_by_side(self, which: Index) -> None:
        """Targets of different parts take their nearest controls, which are different ones."""
        target, n = self.targets[which], len(self.x)
        left, right = _roots(self.down, self.place[which]) - 1, _roots(self.up, self.place[which])
        to_left = np.where(left >= 0, target - self.x[left], math.inf)
        to_right = np.where(right < n, self.x[np.minimum(right, n - 1)] - target, math.inf)
        gap = np.minimum(to_left, to_right)
        taken = np.flatnonzero((gap <= self.caliper) & (gap < math.inf))
        control = np.where(to_left <= to_right, left, right)[taken]
        self.down[control + 1], self.up[control] = control, control + 1
        self.found.append((which[taken], control))

    def one_by_one(self, which: Index) -> None:
        if len(which) == 0:
            return
        x, n, down, up = self.x.tolist(), len(self.x), self.down.tolist(), self.up.tolist()
        found: list[tuple[int, int]] = []
        for k, target, place in zip(
            which.tolist(), self.targets[which].tolist(), self.place[which].tolist(), strict=True
        ):
            left, right = _root(down, place) - 1, _root(up, place)
            to_left = target - x[left] if left >= 0 else math.inf
            to_right = x[right] - target if right < n else math.inf
            if min(to_left, to_right) > self.caliper or (left < 0 and right >= n):
                continue
            taken = left if to_left <= to_right else right
            down[taken + 1], up[taken] = taken, taken + 1
            found.append((k, taken))
        pairs = np.array(found, np.int64).reshape(-1, 2)
        self.found.append((pairs[:, 0], pairs[:, 1]))


def _roots(parent: Index, slots: Index) -> Index:
    """The free slots that ``slots`` lead to."""
    while True:
        beyond = parent[slots]
        if (beyond == slots).all():
            return slots
        slots = beyond


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
