"""Ranges: how many rows, NULLs and NaNs, the smallest and the largest value of each column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Range:
    """Of one column: ``n`` rows, ``nulls`` and ``nans`` among them, ``low`` and ``high`` (None if all are NULL)."""

    n: int
    nulls: int
    low: float | None
    high: float | None
    nans: int = 0

    @property
    def centre(self) -> float:
        """A number about which sums lose no digits: the middle of a range far from 0, else its end near 0.

        Where 0 lies in the range it is 0, which keeps sums of whole numbers exact.
        """
        if self.low is None or self.high is None:
            return 0.0
        near = min(max(0.0, self.low), self.high)
        return (self.low + self.high) / 2 if self.high - self.low < abs(near) else near

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
            self.nans + other.nans,
        )

    def __radd__(self, other: object) -> Range:
        if other == 0:
            return self
        return NotImplemented

    def to_dict(self) -> dict[str, object]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Range:
        return cls(**data)  # type: ignore[arg-type]


Ranges = Mapping[str, Range]
