"""Cells: whole-number sums by segment and key, with their bootstrap replicates; equal keys add."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Whole = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Block:
    """Sums of the statistic ``stat`` in r rows of whole numbers: ``keys`` (r, k), of which ``sums`` (r, c)."""

    stat: str
    keys: Whole
    sums: Whole

    def added(self) -> Block:
        """Equal keys added, in their order; the sums are integers, so it is exact in any order."""
        order = _order(self.keys)
        keys = self.keys[order]
        at = np.flatnonzero(_new(keys))
        return Block(self.stat, keys[at], _reduced(self.sums, order, at))


@dataclass(frozen=True, eq=False)
class Cells:
    """Sums of the statistic ``stat`` in r cells: ``segment`` (r,), ``key`` (r,), ``base`` (r, o) of o outcomes,
    ``replicates`` (r, o·B) with the replicates of an outcome side by side.

    ``a + b`` adds equal (segment, key) and gives them in that order; the sums are integers, so it is exact, and
    associative and commutative.
    """

    stat: str
    segment: Whole
    key: Whole
    base: Whole
    replicates: Whole

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
        return Cells.of(self.block().added(), self.base.shape[1])

    def block(self) -> Block:
        """The same rows of numbers."""
        sums = np.hstack([self.base, self.replicates]) if self.replicates.size else self.base
        return Block(self.stat, np.array([self.segment, self.key]).T, sums)

    @classmethod
    def of(cls, block: Block, outcomes: int) -> Cells:
        """The cells of a block whose first ``outcomes`` sums are those of the data."""
        segment, key = block.keys.T
        return cls(block.stat, segment, key, block.sums[:, :outcomes], block.sums[:, outcomes:])

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


def _order(keys: Whole) -> Whole:
    """The order of rows by their keys, from the first to the last; most keys are one number."""
    varied = [column for column in keys.T if len(column) and (column != column[0]).any()]
    if len(varied) > 1:
        return np.lexsort(varied[::-1])
    return np.argsort(varied[0]) if varied else np.arange(len(keys))


def _reduced(values: Whole, order: Whole, at: Whole) -> Whole:
    """Sums of the rows in ``order`` from each place in ``at`` to the next."""
    if len(at) == len(values):
        return values[order]
    found, count = np.empty((len(at), values.shape[1]), np.int64), np.diff(at, append=len(values))
    for i, column in enumerate(values.T):
        # along a column: over rows at once it is twenty times as slow
        same = (column == column[0]).all()
        found[:, i] = count * column[0] if same else np.add.reduceat(column.take(order), at)
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


def added(blocks: Iterable[Block]) -> list[Block]:
    """The sum of all blocks of each statistic; the keys of a block differ."""
    found: dict[str, list[Block]] = {}
    for block in blocks:
        found.setdefault(block.stat, []).append(block)
    return [_met(parts) if len(parts) > 1 else parts[0] for _, parts in sorted(found.items())]


def _met(parts: Sequence[Block]) -> Block:
    """The sum of blocks of one statistic, row by row; keys in order."""
    keys = np.concatenate([part.keys for part in parts])
    order = _order(keys)
    new = _new(keys[order])
    place = np.empty(len(keys), np.int64)
    place[order] = np.cumsum(new.astype(np.int64)) - 1
    sums = np.zeros((int(new.sum()), parts[0].sums.shape[1]), np.int64)
    start = 0
    for part in parts:
        sums[place[start : start + len(part.keys)]] += part.sums
        start += len(part.keys)
    return Block(parts[0].stat, keys[order[new]], sums)


def _new(keys: Whole) -> NDArray[np.bool_]:
    """Which rows differ from the one before."""
    new = np.ones(len(keys), bool)
    if len(keys):
        new[1:] = keys[1:, 0] != keys[:-1, 0]
    for column in keys.T[1:]:
        new[1:] |= column[1:] != column[:-1]
    return new
