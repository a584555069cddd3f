"""Names as whole numbers: of channels, and of the values of segment columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from causal_spark.spark.journeys import PERIOD
from causal_spark.spark.packed import modulus
from causal_spark.statistics.cells import Whole

NO_CODE = np.iinfo(np.int64).min
# Codes below this are looked up in a table.
DIRECT = 1 << 16


@dataclass(frozen=True, eq=False)
class Codes:
    """Sorted codes and the number each stands for, as it travels to the cluster."""

    hashes: Whole
    numbers: Whole

    def of(self, hashed: Whole) -> Whole:
        """The numbers; -1 of a code that is not known. Codes from a table are asked for by numbers of 0 or more."""
        last = int(self.hashes[-1])
        if int(self.hashes[0]) >= 0 and last < DIRECT:
            numbers = np.full(last + 2, -1, np.int64)
            numbers[self.hashes] = self.numbers
            return numbers.take(hashed, mode="clip")
        place = np.minimum(np.searchsorted(self.hashes, hashed), len(self.hashes) - 1)
        return np.where(self.hashes[place] == hashed, self.numbers[place], -1)


def codes_of(names: Mapping[int, str], order: Sequence[str], first: int = 0) -> Codes:
    """``names``: code → text; a text's number is its place in ``order``."""
    place = {name: first + i for i, name in enumerate(order)}
    kept = sorted((code, place[name]) for code, name in names.items() if name in place)
    if not kept:
        return Codes(np.array([NO_CODE]), np.array([-1]))
    return Codes(np.array([c for c, _ in kept], np.int64), np.array([n for _, n in kept], np.int64))


def short(names: Mapping[int, str], order: Sequence[str], first: int = 0) -> tuple[int, Codes]:
    """As ``codes_of`` for the remainders by the number that tells all codes apart, and that number."""
    size = modulus(list(names))
    return size, codes_of({code % size: name for code, name in names.items()}, order, first)


@dataclass(frozen=True, eq=False)
class Levels:
    """The levels of each segment column: their names, their codes as numbers from 1 on, how many the codes may be."""

    names: tuple[tuple[str, ...], ...]
    codes: tuple[Codes, ...]
    sizes: tuple[int, ...] = ()

    @classmethod
    def of(cls, known: Sequence[Mapping[int, str]]) -> Levels:
        """From code → text of each column, in the order of the texts."""
        names: list[tuple[str, ...]] = []
        coded: list[tuple[int, Codes]] = []
        first = 1
        for texts in known:
            order = sorted(texts.values())
            coded.append(short(texts, order, first))
            names.append(tuple(name or "(missing)" for name in order))
            first += len(order)
        return cls(tuple(names), tuple(codes for _, codes in coded), tuple(size for size, _ in coded))

    def every(self, columns: Sequence[str]) -> list[str]:
        """The names of all segments in the order of their numbers."""
        titles = ["period" if column == PERIOD else column for column in columns]
        return [f"{title}={name}" for title, names in zip(titles, self.names, strict=True) for name in names]
