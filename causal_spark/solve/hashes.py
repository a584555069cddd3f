"""XXH64 of many texts under many salts in numpy; what no salt changes is worked out once for each text.

Statistic: none. Bit for bit ``assignment.salted`` and ``assignment.slot``, and so the arms that any engine assigns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from causal_spark.solve.assignment import MASK, P1, P2, P3, P4, P5, SLOTS, xxhash64

Words = NDArray[np.uint64]
Integers = NDArray[np.int64]

_1, _2, _3, _4, _5 = (np.uint64(prime) for prime in (P1, P2, P3, P4, P5))


def slots(data: NDArray[np.uint8], offsets: Integers) -> Callable[[Sequence[str]], Integers]:
    """For n texts in UTF-8 a function from S salts to the slots, (S, n) of 0 to ``SLOTS`` - 1.

    ``data``: the bytes of all texts one after another; text i is ``data[offsets[i] : offsets[i + 1]]``.
    """
    texts = Texts.of(data, offsets)

    def under(salts: Sequence[str]) -> Integers:
        found = texts.salted(salts).view(np.int64)
        found >>= 1
        part = found // SLOTS
        part *= SLOTS
        found -= part
        return found

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

    def hashed(self, seeds: Words) -> Words:
        """XXH64 (Collet 2012) with each of the ``seeds`` (S, 1): (S, m)."""
        spare = np.empty((len(seeds), len(self.places)), np.uint64)
        h = self._striped(seeds, spare) if self.stripes else np.repeat(seeds + _5, len(self.places), axis=1)
        h += np.uint64(self.length)
        for word in self.eights:
            h ^= word
            _rotate(h, 27, spare)
            h *= _1
            h += _4
        if self.four is not None:
            h ^= self.four
            _rotate(h, 23, spare)
            h *= _2
            h += _3
        for byte in self.ones:
            h ^= byte
            _rotate(h, 11, spare)
            h *= _1
        for shift, prime in ((33, _2), (29, _3)):
            np.right_shift(h, shift, out=spare)
            h ^= spare
            h *= prime
        np.right_shift(h, 32, out=spare)
        h ^= spare
        return h

    def _striped(self, seeds: Words, spare: Words) -> Words:
        starts = (seeds + _1 + _2, seeds + _2, seeds, seeds - _1)
        lanes = [np.repeat(start, len(self.places), axis=1) for start in starts]
        for words in self.stripes:
            for lane, word in zip(lanes, words, strict=True):
                lane += word
                _rotate(lane, 31, spare)
                lane *= _1
        h = np.zeros_like(spare)
        for lane, turn in zip(lanes, (1, 7, 12, 18), strict=True):
            turned = lane.copy()
            _rotate(turned, turn, spare)
            h += turned
        for lane in lanes:
            lane *= _2
            h ^= _rounded(lane, spare)
            h *= _1
            h += _4
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

    def salted(self, salts: Sequence[str]) -> Words:
        """The 64-bit hash of each text under each salt, (S, n)."""
        seeds = np.array([[_seed(salt)] for salt in salts], np.uint64)
        if len(self.equal) == 1:
            return self.equal[0].hashed(seeds)
        found = np.zeros((len(salts), self.n), np.uint64)
        for part in self.equal:
            found[:, part.places] = part.hashed(seeds)
        return found


@cache
def _seed(salt: str) -> int:
    return xxhash64(salt.encode()) & MASK


def _equal(data: NDArray[np.uint8], offsets: Integers, places: NDArray[np.intp], length: int) -> _Equal:
    rows = data[offsets[places][:, None] + np.arange(length)]
    striped, rest = length - length % 32, length - length % 8

    def words(start: int, kind: str, prime: np.uint64) -> Words:
        part = np.ascontiguousarray(rows[:, start : start + np.dtype(kind).itemsize])
        return part.view(kind).ravel().astype(np.uint64) * prime

    stripes = tuple(tuple(words(i + 8 * lane, "<u8", _2) for lane in range(4)) for i in range(0, striped, 32))
    spare = np.empty(len(places), np.uint64)
    eights = tuple(_rounded(words(i, "<u8", _2), spare) for i in range(striped, rest, 8))
    four = words(rest, "<u4", _1) if length - rest >= 4 else None
    ones = tuple(words(i, "u1", _5) for i in range(rest + (0 if four is None else 4), length))
    return _Equal(places, length, stripes, eights, four, ones)


def _rounded(product: Words, spare: Words) -> Words:
    """A round of XXH64 on 0 and a word, given word · P2; changes ``product``."""
    _rotate(product, 31, spare)
    product *= _1
    return product


def _rotate(x: Words, turn: int, spare: Words) -> None:
    """Turn the 64 bits of each number to the left, in place."""
    np.right_shift(x, 64 - turn, out=spare)
    np.left_shift(x, turn, out=x)
    np.bitwise_or(x, spare, out=x)
