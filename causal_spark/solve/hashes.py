"""XXH64 of many texts under many salts in numpy; what no salt changes is worked out once for each text.

Statistic: none. Bit for bit ``assignment.salted`` and ``assignment.slot``, and so the arms that any engine assigns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from causal_spark.solve.assignment import MASK, P1, P2, P3, P4, P5, SLOTS, xxhash64

Words = NDArray[np.uint64]
Integers = NDArray[np.int64]


def slots(data: NDArray[np.uint8], offsets: Integers) -> Callable[[str], Integers]:
    """For texts in UTF-8 a function from a salt to the slot of each, (n,) of 0 to ``SLOTS`` - 1.

    ``data``: the bytes of all texts one after another; text i is ``data[offsets[i] : offsets[i + 1]]``.
    """
    texts = Texts.of(data, offsets)

    def under(salt: str) -> Integers:
        upper = texts.salted(salt).view(np.int64) >> 1
        return np.asarray(upper - (upper // SLOTS) * SLOTS, np.int64)

    return under


@dataclass(frozen=True, eq=False)
class _Equal:
    """Texts of one ``length``, at ``places``; their words (m,), multiplied as far as no salt is needed.

    ``stripes`` of 32 bytes as four words each, then ``eights`` of 8 bytes, at most one of ``four``, and single bytes.
    """

    places: NDArray[np.intp]
    length: int
    stripes: tuple[tuple[Words, ...], ...]
    eights: tuple[Words, ...]
    four: Words | None
    ones: tuple[Words, ...]

    def hashed(self, seed: int) -> Words:
        """XXH64 (Collet 2012) with a seed of 64 bits, (m,)."""
        spare = np.empty(len(self.places), np.uint64)
        h = self._striped(seed, spare) if self.stripes else np.full(len(spare), (seed + P5) & MASK, np.uint64)
        h += np.uint64(self.length)
        for word in self.eights:
            h ^= word
            _rotate(h, 27, spare)
            h *= np.uint64(P1)
            h += np.uint64(P4)
        if self.four is not None:
            h ^= self.four
            _rotate(h, 23, spare)
            h *= np.uint64(P2)
            h += np.uint64(P3)
        for byte in self.ones:
            h ^= byte
            _rotate(h, 11, spare)
            h *= np.uint64(P1)
        for shift, factor in ((33, P2), (29, P3), (32, 1)):
            np.right_shift(h, np.uint64(shift), out=spare)
            h ^= spare
            if factor > 1:
                h *= np.uint64(factor)
        return h

    def _striped(self, seed: int, spare: Words) -> Words:
        starts = (seed + P1 + P2, seed + P2, seed, seed - P1)
        lanes = [np.full(len(spare), start & MASK, np.uint64) for start in starts]
        for words in self.stripes:
            for lane, word in zip(lanes, words, strict=True):
                lane += word
                _rotate(lane, 31, spare)
                lane *= np.uint64(P1)
        h = np.zeros(len(spare), np.uint64)
        for lane, turn in zip(lanes, (1, 7, 12, 18), strict=True):
            turned = lane.copy()
            _rotate(turned, turn, spare)
            h += turned
        for lane in lanes:
            lane *= np.uint64(P2)
            h ^= _rounded(lane, spare)
            h *= np.uint64(P1)
            h += np.uint64(P4)
        return h


@dataclass(frozen=True, eq=False)
class Texts:
    """``n`` texts by their lengths."""

    n: int
    equal: tuple[_Equal, ...]

    @classmethod
    def of(cls, data: NDArray[np.uint8], offsets: Integers) -> Texts:
        """From the bytes of all texts and where each begins; the last offset is where the last one ends."""
        lengths = np.diff(offsets)
        return cls(len(lengths), tuple(
            _equal(data, offsets, np.flatnonzero(lengths == length), int(length)) for length in np.unique(lengths)
        ))  # fmt: skip

    def salted(self, salt: str) -> Words:
        """The 64-bit hash of each text under a salt, (n,)."""
        if len(self.equal) == 1:
            return self.equal[0].hashed(_seed(salt))
        found = np.zeros(self.n, np.uint64)
        for part in self.equal:
            found[part.places] = part.hashed(_seed(salt))
        return found


@cache
def _seed(salt: str) -> int:
    return xxhash64(salt.encode()) & MASK


def _equal(data: NDArray[np.uint8], offsets: Integers, places: NDArray[np.intp], length: int) -> _Equal:
    rows = data[offsets[places][:, None] + np.arange(length)]
    striped = length - length % 32

    def words(start: int, kind: str, factor: int) -> Words:
        width = np.dtype(kind).itemsize
        found = np.ascontiguousarray(rows[:, start : start + width]).view(kind).ravel().astype(np.uint64)
        return found * np.uint64(factor)

    stripes = tuple(
        tuple(words(i + 8 * lane, "<u8", P2) for lane in range(4)) for i in range(0, striped, 32)
    )  # fmt: skip
    spare = np.empty(len(places), np.uint64)
    eights = tuple(_rounded(words(i, "<u8", P2), spare) for i in range(striped, length - 7, 8))
    rest = length - length % 8
    four = words(rest, "<u4", P1) if length - rest >= 4 else None
    ones = tuple(words(i, "u1", P5) for i in range(rest + (0 if four is None else 4), length))
    return _Equal(places, length, stripes, eights, four, ones)


def _rounded(product: Words, spare: Words) -> Words:
    """A round of XXH64 on 0 and a word, given word · P2; changes ``product``."""
    _rotate(product, 31, spare)
    product *= np.uint64(P1)
    return product


def _rotate(x: Words, turn: int, spare: Words) -> None:
    """Turn the 64 bits of each number to the left, in place."""
    np.right_shift(x, np.uint64(64 - turn), out=spare)
    np.left_shift(x, np.uint64(turn), out=x)
    np.bitwise_or(x, spare, out=x)
