"""Grouped: one statistic for each key; margins come from merging, not from another scan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from causal_spark.statistics.moments import Moments

Key = tuple[str | None, ...]

# The key part that names the block of columns, unlike the name of any column, and the text that stands for NULL.
BLOCK = "(block)"
MISSING = "(missing)"


@dataclass(frozen=True)
class Grouped:
    """Moments by key. ``by`` names the parts of a key; a part that is None stands for "all values".

    ``a + b`` merges the statistics of equal keys.
    """

    by: tuple[str, ...]
    cells: Mapping[Key, Moments]

    def __add__(self, other: Grouped) -> Grouped:
        if not isinstance(other, Grouped):
            return NotImplemented
        if self.by != other.by:
            raise ValueError(f"Grouped by different keys cannot merge: {self.by} and {other.by}")
        cells = dict(self.cells)
        for key, part in other.cells.items():
            cells[key] = cells[key] + part if key in cells else part
        return Grouped(self.by, cells)

    def __radd__(self, other: object) -> Grouped:
        if other == 0:
            return self
        return NotImplemented

    def margin(self, keep: tuple[str, ...]) -> Grouped:
        """Merge over every key part that is not in ``keep``; the keys keep their length, None where merged."""
        cells: dict[Key, Moments] = {}
        for key, part in self.cells.items():
            short = tuple(k if name in keep else None for name, k in zip(self.by, key, strict=True))
            cells[short] = cells[short] + part if short in cells else part
        return Grouped(self.by, cells)

    def where(self, **fixed: str | None) -> Iterator[tuple[dict[str, str | None], Moments]]:
        """The cells whose named key parts equal the given values, each with its key as a dict."""
        for key, part in self.cells.items():
            named = dict(zip(self.by, key, strict=True))
            if all(named[name] == value for name, value in fixed.items()):
                yield named, part

    def to_dict(self) -> dict[str, object]:
        rows = sorted(self.cells.items(), key=lambda item: tuple((k is not None, k or "") for k in item[0]))
        return {"by": list(self.by), "cells": [{"key": list(key), **part.to_dict()} for key, part in rows]}

    @classmethod
    def from_dict(cls, data: dict[str, object]) -> Grouped:
        cells = {tuple(row["key"]): Moments.from_dict(row) for row in data["cells"]}  # type: ignore[attr-defined]
        return cls(tuple(data["by"]), cells)  # type: ignore[arg-type]
