"""Counts: additive sums by key (cells, transitions, coalitions, histograms)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Key = tuple[object, ...]


@dataclass(frozen=True)
class Counts:
    """Sums by key. ``by`` names the parts of a key, ``sums`` names the columns of a value.

    ``a + b`` adds the values of equal keys; integers stay integers, so the merge is exact.
    """

    by: tuple[str, ...]
    sums: tuple[str, ...]
    cells: Mapping[Key, tuple[float, ...]]

    def __add__(self, other: Counts) -> Counts:
        if not isinstance(other, Counts):
            return NotImplemented
        if (self.by, self.sums) != (other.by, other.sums):
            raise ValueError(f"Counts of different shape cannot merge: {self.by} {self.sums}, {other.by} {other.sums}")
        cells = dict(self.cells)
        for key, values in other.cells.items():
            old = cells.get(key)
            cells[key] = values if old is None else tuple(a + b for a, b in zip(old, values, strict=True))
        return Counts(self.by, self.sums, cells)

    def __radd__(self, other: object) -> Counts:
        if other == 0:
            return self
        return NotImplemented

    def margin(self, keep: tuple[str, ...]) -> Counts:
        """Sums over all key parts that are not in ``keep``."""
        index = [self.by.index(name) for name in keep]
        cells: dict[Key, tuple[float, ...]] = {}
        for key, values in self.cells.items():
            short = tuple(key[i] for i in index)
            old = cells.get(short)
            cells[short] = values if old is None else tuple(a + b for a, b in zip(old, values, strict=True))
        return Counts(keep, self.sums, cells)

    def to_dict(self) -> dict[str, object]:
        rows = sorted(self.cells.items(), key=lambda item: repr(item[0]))
        return {
            "by": list(self.by),
            "sums": list(self.sums),
            "cells": [{"key": list(key), "values": list(values)} for key, values in rows],
        }

    @classmethod
    def from_dict(cls, data: dict[str, object]) -> Counts:
        cells = {_frozen(row["key"]): tuple(row["values"]) for row in data["cells"]}  # type: ignore[attr-defined]
        return cls(tuple(data["by"]), tuple(data["sums"]), cells)  # type: ignore[arg-type]


def _frozen(key: list[object]) -> Key:
    """A key as JSON holds it (lists) as it was (tuples, also inside: a path or a coalition)."""
    return tuple(_frozen(part) if isinstance(part, list) else part for part in key)
