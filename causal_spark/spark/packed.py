"""Small whole numbers side by side in one BIGINT: a row that travels through a shuffle costs by its columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import add

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column
from pyspark.sql import functions as F

from causal_spark.spark.blocks import joined

BITS = 63  # of a BIGINT that is never negative


@dataclass(frozen=True)
class Place:
    """Where a field stands: its word, the bits below it in that word, and its own bits."""

    word: int
    shift: int
    bits: int


@dataclass(frozen=True)
class Layout:
    """The places of named fields in words of 63 bits, the columns w0, w1, … of a table."""

    places: Mapping[str, Place]

    @classmethod
    def of(cls, sizes: Mapping[str, int]) -> Layout:
        """A layout for fields whose values are 0 … size - 1; each goes into the first word that has room."""
        used: list[int] = []
        places = {}
        for name, size in sizes.items():
            bits = max(size - 1, 0).bit_length()
            if bits > BITS:
                raise ValueError(f"{name} has {bits} bits, a word {BITS}")
            word = next((i for i, taken in enumerate(used) if taken + bits <= BITS), len(used))
            used += [0] * (word == len(used))
            places[name] = Place(word, used[word], bits)
            used[word] += bits
        return cls(places)

    @property
    def words(self) -> list[str]:
        """The names of the columns."""
        return [f"w{i}" for i in range(1 + max((place.word for place in self.places.values()), default=-1))]

    @property
    def room(self) -> int:
        """The free bits of the word that has most of them."""
        used = [0] * len(self.words)
        for place in self.places.values():
            used[place.word] += place.bits
        return BITS - min(used)

    def pack(self, values: Mapping[str, Column]) -> list[Column]:
        """The columns of words; a field without a value is 0."""
        parts: dict[int, list[Column]] = {i: [F.lit(0).cast("bigint")] for i in range(len(self.words))}
        for name, value in values.items():
            place = self.places[name]
            parts[place.word].append(value.cast("bigint") * F.lit(1 << place.shift).cast("bigint"))
        return [joined(parts[i], add).alias(name) for i, name in enumerate(self.words)]

    def unpack(self, columns: Mapping[str, NDArray]) -> dict[str, NDArray[np.int64]]:
        """The fields of rows of words."""
        return {name: self.field(columns, name) for name in self.places}

    def field(self, columns: Mapping[str, NDArray], name: str) -> NDArray[np.int64]:
        """One field of rows of words."""
        place = self.places[name]
        word = np.asarray(columns[f"w{place.word}"], np.int64)
        if not place.bits:
            return np.zeros(len(word), np.int64)
        above = word >> np.int64(place.shift) if place.shift else word
        return above & np.int64((1 << place.bits) - 1)


def modulus(codes: Sequence[int]) -> int:
    """A number that the n different ``codes`` divided by it leave n different remainders of.

    So texts become numbers of few bits without a table of them on the cluster. From n²/8 on some fifty tries do.
    """
    different = np.unique(np.asarray(codes, np.int64))
    n = len(different)
    found = max(n, n * n // 8, 1)
    while len(np.unique(np.mod(different, found))) < n:
        found += 1
    return found
