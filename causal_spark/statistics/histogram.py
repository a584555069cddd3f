"""Histogram: counts of whole numbers in cells that get wider with the value; exact, or to a stated resolution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causal_spark.statistics.moments import Array

Integers = NDArray[np.int64]
EXACT = 62  # every fixed-point integer of 63 bits has its own cell


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts by cell of fixed-point integers v = round(value · ``scale``).

    A cell keeps the ``bits`` + 1 leading binary digits of |v|: with b digits (the length of ``bin(|v|)``) and
    s = max(0, b - bits - 1) its number is (s << bits) + (|v| >> s), negated for negative v. So values below
    2^(bits+1) are exact, others lie in a cell narrower than 2^-bits of them, and numbers grow with the value. Only
    shifts of integers: the same cell on every engine. ``bits`` = 62 is exact. ``cells`` (m,) ascending, ``counts``
    (m,) at least 1. ``a + b`` adds counts of equal cells; both must have the same bits and scale.
    """

    bits: int
    scale: float
    cells: Integers
    counts: Integers

    @classmethod
    def empty(cls, bits: int = EXACT, scale: float = 1.0) -> Histogram:
        return cls(bits, scale, np.zeros(0, np.int64), np.zeros(0, np.int64))

    @classmethod
    def from_integers(
        cls, values: ArrayLike, bits: int = EXACT, scale: float = 1.0, counts: ArrayLike | None = None
    ) -> Histogram:
        """From fixed-point integers (n,), each counted once or ``counts`` times."""
        given = np.asarray(values, np.int64)
        return cls.from_cells(cell(given, bits), np.ones_like(given) if counts is None else counts, bits, scale)

    @classmethod
    def from_cells(cls, cells: ArrayLike, counts: ArrayLike, bits: int, scale: float = 1.0) -> Histogram:
        """From cell numbers, in any order and repeated, with their counts; as a group-by on the cluster leaves them."""
        if not 0 <= bits <= EXACT:
            raise ValueError(f"a histogram keeps 0 to {EXACT} bits, got {bits}")
        found, place = np.unique(np.asarray(cells, np.int64), return_inverse=True)
        total = np.zeros(len(found), np.int64)
        np.add.at(total, place, np.asarray(counts, np.int64))
        return cls(bits, float(scale), found[total > 0], total[total > 0])

    def __add__(self, other: Histogram) -> Histogram:
        if not isinstance(other, Histogram):
            return NotImplemented
        if (self.bits, self.scale) != (other.bits, other.scale):
            shapes = f"{self.bits} bits of 1/{self.scale:g} and {other.bits} bits of 1/{other.scale:g}"
            raise ValueError(f"Histograms of different cells cannot merge: {shapes}")
        cells = np.concatenate([self.cells, other.cells])
        return Histogram.from_cells(cells, np.concatenate([self.counts, other.counts]), self.bits, self.scale)

    def __radd__(self, other: object) -> Histogram:
        """``sum(parts)`` starts from 0."""
        if other == 0:
            return self
        return NotImplemented

    @property
    def n(self) -> int:
        return int(self.counts.sum())

    @property
    def edges(self) -> tuple[Array, Array]:
        """Lowest and highest value of each cell, two arrays (m,); equal where the cell is exact."""
        near, far = _span(np.abs(self.cells), self.bits)
        negative = self.cells < 0
        low, high = np.where(negative, -far, near), np.where(negative, -near, far)
        return low / self.scale, high / self.scale

    def coarsen(self, bits: int) -> Histogram:
        """The same counts in wider cells; equal to counting with fewer bits from the start."""
        if bits > self.bits:
            raise ValueError(f"a histogram of {self.bits} bits has no {bits}")
        near, _ = _span(np.abs(self.cells), self.bits)
        return Histogram.from_cells(cell(np.sign(self.cells) * near, bits), self.counts, bits, self.scale)

    def to_dict(self) -> dict[str, object]:
        cells, counts = self.cells.tolist(), self.counts.tolist()
        return {"bits": self.bits, "scale": self.scale, "cells": cells, "counts": counts}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Histogram:
        cells, counts = np.asarray(data["cells"], np.int64), np.asarray(data["counts"], np.int64)
        return cls(int(data["bits"]), float(data["scale"]), cells, counts)  # type: ignore[call-overload, arg-type]


def cell(values: Integers, bits: int) -> Integers:
    """Cell number of each integer (|v| < 2^63), shape as ``values``."""
    size = np.abs(values)
    shift = np.maximum(_digits(size) - bits - 1, 0)
    return np.asarray(np.sign(values) * ((shift << bits) + (size >> shift)), np.int64)


def _digits(size: Integers) -> Integers:
    """Number of binary digits; a double rounds integers of more than 53 digits, so halves are looked at apart."""
    high = size >> 32
    _, upper = np.frexp(high.astype(np.float64))
    _, lower = np.frexp((size & 0xFFFFFFFF).astype(np.float64))
    return np.where(high > 0, upper + 32, lower).astype(np.int64)


def _span(index: Integers, bits: int) -> tuple[Integers, Integers]:
    """Smallest and largest |v| of each cell number ≥ 0."""
    if bits >= EXACT:
        return index, index
    shift = np.maximum((index >> bits) - 1, 0)
    base = index - (shift << bits)
    return base << shift, ((base + 1) << shift) - 1
