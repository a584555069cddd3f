"""Who is matched with whom in a block of points on a line: the rules, the pairs and the weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np

from causal_spark.solve import metric
from causal_spark.solve.greedy import Order, greedy
from causal_spark.solve.metric import Links
from causal_spark.solve.nearest import Index, Mask, Ranges, nearest, uses
from causal_spark.statistics.moments import Array

Estimand = Literal["ATT", "ATC", "ATE"]
# Matches of one unit that are listed as pairs.
MAX_TIES = 20


@dataclass(frozen=True, eq=False)
class Points:
    """n points sorted by (group, point, tie). ``home`` False: only looked at; ``shared``: looked at elsewhere too.

    ``outcomes`` (n, q), ``covariates`` (n, p), ``propensity`` (n,) for the correction of an estimated score.
    """

    point: Array
    treated: Mask
    group: Array
    home: Mask
    shared: Mask
    outcomes: Array
    covariates: Array
    propensity: Array

    def take(self, rows: slice) -> Points:
        if rows == slice(0, len(self.point)):
            return self
        return Points(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    @cached_property
    def arms(self) -> tuple[Index, Index]:
        """The rows of the controls, and of the treated."""
        return np.flatnonzero(~self.treated), np.flatnonzero(self.treated)

    def groups(self) -> list[slice]:
        """The rows of each group."""
        if len(self.group) == 0:
            return []
        if self.group[0] == self.group[-1]:
            return [slice(0, len(self.group))]
        starts = [0, *(np.flatnonzero(self.group[1:] != self.group[:-1]) + 1).tolist(), len(self.group)]
        return [slice(a, b) for a, b in pairwise(starts)]


@dataclass(frozen=True, eq=False)
class Rules:
    """How points are matched. ``caliper`` in units of the point, ``tolerance`` (of ties) in their square.

    ``neighbours``: same-arm rows behind a variance; ``sample``: the sums for the effect in this very sample are wanted,
    and not those for the population alone; ``estimated``: the sums of Abadie & Imbens (2016) are wanted.
    ``main``: the covariates whose balance is told, with their cut points ``cuts``. ``metric`` (r, p) maps covariates to
    a space in which they are near each other; the caliper is then on the point.
    """

    estimand: Estimand = "ATT"
    ratio: int = 1
    caliper: float = math.inf
    tolerance: float = 0.0
    order: Order = "closest"
    neighbours: int = 2
    sample: bool = True
    estimated: bool = False
    main: tuple[int, ...] = ()
    cuts: tuple[Array, ...] = ()
    metric: Array | None = None

    @property
    def sides(self) -> tuple[int, ...]:
        """The arms whose units look for matches: 1 the treated, 0 the controls."""
        return {"ATT": (1,), "ATC": (0,), "ATE": (1, 0)}[self.estimand]


def shares(matches: Ranges | Links, n: int) -> Array:
    """K: the sum of shares with which each candidate is used."""
    return uses(matches, n) if isinstance(matches, Ranges) else matches.uses(n)


def pairs_without_replacement(points: Points, rules: Rules) -> tuple[Index, Index]:
    """Focal units and their matches in one group, as indices."""
    treated = points.treated if rules.sides[0] else ~points.treated
    return greedy(points.point, treated, rules.ratio, rules.caliper, rules.order)


@dataclass(frozen=True, eq=False)
class Matches:
    """Pairs by the indices of the ``treated`` and the ``control`` with their ``share``, shapes (r,); ``weight`` (n,).

    Of the matches of a unit no more than ``MAX_TIES`` are listed, the first in order; shares are those of all.
    """

    treated: Index
    control: Index
    share: Array
    weight: Array


def matches(points: Points, rules: Rules, replace: bool) -> Matches:
    """The pairs of the focal units at home, and the points' weights; those of a shared point add up over blocks."""
    none = np.zeros(0, np.int64)
    found: list[tuple[Index, Index, Array]] = [(none, none, np.zeros(0))]
    weight = np.zeros(len(points.point))
    for rows in points.groups():
        mine, own = points.take(rows), weight[rows]
        for side in rules.sides:
            focal, match, share = _used(mine, rules, side, own) if replace else _taken(mine, rules, own)
            t, c = (focal, match) if side else (match, focal)
            found.append((t + rows.start, c + rows.start, share))
    t, c, share = (np.concatenate(part) for part in zip(*found, strict=True))
    return Matches(t, c, share, weight)


def _taken(points: Points, rules: Rules, weight: Array) -> tuple[Index, Index, Array]:
    """Pairs of a group without replacement and their shares; ``weight`` (n,) is filled in."""
    focal, match = pairs_without_replacement(points, rules)
    share = 1.0 / np.bincount(focal, minlength=len(weight))[focal]
    weight[match], weight[focal] = share, 1.0
    return focal, match, share


def _used(points: Points, rules: Rules, side: int, weight: Array) -> tuple[Index, Index, Array]:
    """Listed pairs of a group with replacement and their shares; the uses of all are added to ``weight`` (n,)."""
    focal, candidates, ranges = linked(points, rules, side)
    weight[candidates] += shares(ranges, len(candidates))
    weight[focal[ranges.matched]] += 1.0
    if isinstance(ranges, Links):
        return focal[ranges.focal], candidates[ranges.match], 1.0 / ranges.size[ranges.focal]
    size = np.minimum(ranges.size, MAX_TIES)
    who = np.repeat(np.arange(len(focal)), size)
    step = np.arange(len(who)) - np.repeat(np.cumsum(size) - size, size)
    return focal[who], candidates[ranges.low[who] + step], 1.0 / ranges.size[who]


def linked(points: Points, rules: Rules, side: int) -> tuple[Index, Index, Ranges | Links]:
    """The focal units at home, the candidates, and which of these each focal unit is matched with."""
    own, candidates = points.arms[side], points.arms[1 - side]
    home = np.flatnonzero(points.home.take(own))
    focal, place = own.take(home), (own - np.arange(len(own))).take(home)
    x, y = points.point.take(focal), points.point.take(candidates)
    if rules.metric is None:
        return focal, candidates, nearest(x, y, rules.ratio, rules.caliper, rules.tolerance, place)
    z = points.covariates @ rules.metric.T
    return focal, candidates, metric.nearest(z[focal], z[candidates], x, y, rules.ratio, rules.caliper)
