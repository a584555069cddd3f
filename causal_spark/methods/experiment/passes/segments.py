"""Segments in the passes beyond moments: which of their columns take part, and how many jobs it takes.

What a pass leaves is additive, so everyone is the sum over the values of one segment column, never another scan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from causal_spark.methods.experiment import plan
from causal_spark.methods.experiment.passes.given import Given
from causal_spark.statistics import Moments

T = TypeVar("T")
Groups = Mapping[tuple[str, ...], T]


@dataclass(frozen=True)
class Rows:
    """What a group-by on arm, segments and cell leaves of one block: at most ``cells`` rows of ``numbers`` a group."""

    block: str
    cells: float
    numbers: int = 1
    size: str | None = None

    def most(self, given: Given, by: Sequence[str]) -> float:
        """Numbers that come to the driver at most: a group has no more rows than units, and no more than cells."""
        whole = list(given.levels(self.block).get(plan.EVERYONE, {}).values())
        every = sum(map(self._units, whole))
        if not by:
            return self.numbers * sum(min(self._units(part), self.cells) for part in whole)
        kept = [[part for arms in given.levels(self.block, column).values() for part in arms.values()] for column in by]
        # of segments that are too small to be kept only their units are known
        rest = sum(every - sum(map(self._units, parts)) for parts in kept)
        if len(by) == 1:
            return self.numbers * (sum(min(self._units(part), self.cells) for part in kept[0]) + rest)
        groups = len(whole) * math.prod(len(given.levels(self.block, column)) for column in by)
        return self.numbers * min(every, groups * self.cells + rest)

    def _units(self, part: Moments) -> float:
        return part.n if self.size is None else part.n * float(part.mean[part.names.index(self.size)])


@dataclass(frozen=True)
class Jobs:
    """``columns`` that take part; ``keys`` of each group-by: one over all of them where that is small enough."""

    columns: tuple[str, ...]
    keys: tuple[tuple[str, ...], ...]


def jobs(given: Given, rows: Sequence[Rows], most: float, columns: Sequence[str] | None = None) -> Jobs:
    """The segment columns, in the order declared, that together leave no more than ``most`` numbers."""

    def size(by: Sequence[str]) -> float:
        return sum(item.most(given, by) for item in rows)

    taken: list[str] = []
    total = size(())
    for column in given.method.segments if columns is None else columns:
        more = size((column,))
        if total + more <= most:
            taken.append(column)
            total += more
    together = len(taken) < 2 or size(taken) <= most
    return Jobs(tuple(taken), (tuple(taken),) if together else tuple((column,) for column in taken))


def margins(
    given: Given, chosen: Jobs, work: Callable[[tuple[str, ...]], Sequence[Groups[T]]]
) -> list[dict[str, dict[str, list[T]]]]:
    """For each statistic of ``work(keys)``: segment → arm of the test → the parts of which it is the sum.

    ``work`` gives the statistics by (arm, value of each key). Segments too small to be kept are in everyone only.
    """
    kept = {column: given.levels(plan.ROWS, column) for column in chosen.columns}
    labels = [plan.segment(column, level) for column, levels in kept.items() for level in levels]
    found: list[dict[str, dict[str, list[T]]]] = []
    for place, keys in enumerate(chosen.keys):
        every = work(keys)
        found = found or [{label: {} for label in (plan.EVERYONE, *labels)} for _ in every]
        for mine, groups in zip(found, every, strict=True):
            for (arm, *levels), part in groups.items():
                named = [plan.segment(k, v) for k, v in zip(keys, levels, strict=True) if v in kept[k]]
                for label in [*([] if place else [plan.EVERYONE]), *named]:
                    mine[label].setdefault(arm, []).append(part)
    return [{label: _ordered(given, arms) for label, arms in mine.items()} for mine in found]


def nested(of: Mapping[str, Mapping[str, object]]) -> dict[str, object]:
    """``arms`` of everyone, and ``segments`` with the ``arms`` of each; how it is kept in ``statistics.json``."""
    parts = {label: {"arms": dict(arms)} for label, arms in of.items()}
    return {**parts.pop(plan.EVERYONE), "segments": parts}


def _ordered(given: Given, arms: Mapping[str, list[T]]) -> dict[str, list[T]]:
    return {arm: arms[arm] for arm in given.table.arms if arm in arms}
