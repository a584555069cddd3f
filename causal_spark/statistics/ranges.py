"""Ranges: how many rows, how many NULLs, the smallest and the largest value of each column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """Of one column: ``n`` rows, ``nulls`` among them, ``low`` and ``high`` of the rest (None if there is none)."""

    n: int
    nulls: int
    low: float | None
    high: float | None

    def __add__(self, other: Range) -> Range:
        if not isinstance(other, Range):
            return NotImplemented
        lows = [x for x in (self.low, other.low) if x is not None]
        highs = [x for x in (self.high, other.high) if x is not None]
        return Range(
            self.n + other.n,
            self.nulls + other.nulls,
            min(lows) if lows else None,
            max(highs) if highs else None,
        )

    def __radd__(self, other: object) -> Range:
        if other == 0:
            return self
        return NotImplemented


Ranges = Mapping[str, Range]
