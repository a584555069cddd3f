"""Cells: whole-number sums by segment and key, with their bootstrap replicates; equal keys add."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Whole = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Texts(Sequence[str]):
    """Many texts of plain letters in one array: ``letters`` (all of them, as bytes), ``starts`` (texts + 1,)."""

    letters: NDArray[np.uint8]
    starts: Whole

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, place: int) -> str:  # type: ignore[override]
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        place %= len(self)
        return self.letters[self.starts[place] : self.starts[place + 1]].tobytes().decode("ascii")


@dataclass(frozen=True, eq=False)
class Cells:
    """Sums of the statistic ``stat`` in r cells: ``segment`` (r,), ``key`` (r,), ``base`` (r, o) of o outcomes,
    ``replicates`` (r, o·B) with the replicates of an outcome side by side. ``path`` (r,): texts, of paths only.

    ``a + b`` adds equal (segment, key) and gives them in that order; the sums are integers, so it is exact, and
    associative and commutative.
    """

    stat: str
    segment: Whole
    key: Whole
    base: Whole
    replicates: Whole
    path: Sequence[str] = ()

    def __add__(self, other: Cells) -> Cells:
        if not isinstance(other, Cells):
            return NotImplemented
        widths = [(x.stat, x.base.shape[1], x.replicates.shape[1]) for x in (self, other)]
        if widths[0] != widths[1]:
            raise ValueError(f"Cells of different shape cannot merge: {widths[0]} and {widths[1]}")
        return _joined((self, other)).added()

    def __radd__(self, other: object) -> Cells:
        """``sum(parts)`` starts from 0."""
        if other == 0:
            return self.added()
        return NotImplemented

    def added(self) -> Cells:
        """Equal (segment, key) added, in their order."""
        order = np.lexsort((self.key, self.segment))
        segment, key = self.segment[order], self.key[order]
        new = np.ones(len(key), bool)
        new[1:] = (segment[1:] != segment[:-1]) | (key[1:] != key[:-1])
        at = np.flatnonzero(new)
        return Cells(self.stat, segment[at], key[at], _reduced(self.base[order], at),
                     _reduced(self.replicates[order], at))  # fmt: skip

    def within(self, segment: int) -> Cells:
        """The cells of one segment."""
        mine = self.segment == segment
        return Cells(self.stat, self.segment[mine], self.key[mine], self.base[mine], self.replicates[mine])

    def to_dict(self) -> dict[str, object]:
        return {name: getattr(self, name).tolist() for name in ("segment", "key", "base", "replicates")} | {
            "stat": self.stat, "widths": [self.base.shape[1], self.replicates.shape[1]]}  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Cells:
        widths: list[int] = data["widths"]  # type: ignore[assignment]
        segment, key = (np.asarray(data[name], np.int64) for name in ("segment", "key"))
        tables = [np.asarray(data[name], np.int64).reshape(len(key), width)
                  for name, width in zip(("base", "replicates"), widths, strict=True)]  # fmt: skip
        return cls(str(data["stat"]), segment, key, tables[0], tables[1])


def _reduced(values: Whole, at: Whole) -> Whole:
    """Sums of the rows from each place in ``at`` to the next."""
    if len(at) == len(values):
        return values
    found = np.empty((len(at), values.shape[1]), np.int64)
    for column in range(values.shape[1]):
        # along a contiguous column: over rows at once it is twenty times as slow
        found[:, column] = np.add.reduceat(np.ascontiguousarray(values[:, column]), at)
    return found


def _joined(parts: Sequence[Cells]) -> Cells:
    segment, key, base, replicates = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("segment", "key", "base", "replicates")
    )
    return Cells(parts[0].stat, segment, key, base, replicates)


def by_stat(parts: Iterable[Cells]) -> dict[str, Cells]:
    """The sum of all parts of each statistic."""
    found: dict[str, list[Cells]] = {}
    for part in parts:
        found.setdefault(part.stat, []).append(part)
    return {stat: _joined(of_it).added() for stat, of_it in sorted(found.items())}
