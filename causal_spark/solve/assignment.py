"""Assignment by a salted hash of the canonical key, in plain Python: what the cluster assigns, any service can repeat.

Statistic: none. On the cluster: ``xxhash64(lit(salt), key)`` of the key as text; ``slot`` of the 64-bit hash is the
same integer arithmetic there (``pmod(shiftright(hash, 1), SLOTS)``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from causal_spark.errors import ConfigError

SLOTS = 1_000_000
MASK = 2**64 - 1
P1, P2, P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
P4, P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5


def xxhash64(data: bytes, seed: int = 42) -> int:
    """XXH64 of bytes (Collet 2012) as a signed 64-bit number, as Spark's ``xxhash64`` gives for a text in UTF-8."""
    length, i, seed = len(data), 0, seed & MASK
    if length >= 32:
        lanes = [(seed + P1 + P2) & MASK, (seed + P2) & MASK, seed, (seed - P1) & MASK]
        while i + 32 <= length:
            for k in range(4):
                lanes[k] = _round(lanes[k], int.from_bytes(data[i + 8 * k : i + 8 * k + 8], "little"))
            i += 32
        h = sum(_rotate(lane, turn) for lane, turn in zip(lanes, (1, 7, 12, 18), strict=True)) & MASK
        for lane in lanes:
            h = ((h ^ _round(0, lane)) * P1 + P4) & MASK
    else:
        h = (seed + P5) & MASK
    h = (h + length) & MASK
    while i + 8 <= length:
        h = (_rotate(h ^ _round(0, int.from_bytes(data[i : i + 8], "little")), 27) * P1 + P4) & MASK
        i += 8
    if i + 4 <= length:
        h = (_rotate(h ^ (int.from_bytes(data[i : i + 4], "little") * P1 & MASK), 23) * P2 + P3) & MASK
        i += 4
    for byte in data[i:]:
        h = _rotate(h ^ (byte * P5 & MASK), 11) * P1 & MASK
    h = (h ^ (h >> 33)) * P2 & MASK
    h = (h ^ (h >> 29)) * P3 & MASK
    h ^= h >> 32
    return h - 2**64 if h >= 2**63 else h


def _rotate(x: int, turn: int) -> int:
    return ((x << turn) | (x >> (64 - turn))) & MASK


def _round(lane: int, word: int) -> int:
    return _rotate((lane + word * P2) & MASK, 31) * P1 & MASK


def salted(key: str, salt: str) -> int:
    """The 64-bit hash of a canonical key under a salt; equals ``xxhash64(lit(salt), key)`` of Spark and Sail."""
    return xxhash64(key.encode(), xxhash64(salt.encode()))


def slot(hashed: int) -> int:
    """One of ``SLOTS`` equal slots, from the upper 63 bits."""
    return (hashed >> 1) % SLOTS


def fnv1a(text: str) -> int:
    """32-bit FNV-1a of UTF-8 bytes (Fowler, Noll & Vo)."""
    h = 0x811C9DC5
    for byte in text.encode():
        h = (h ^ byte) * 0x01000193 % 2**32
    return h


def fnv_bucket(seed: str, key: str) -> float:
    """Position in [0, 1) to four decimals by FNV-1a twice: version 2 of the bucketing of a feature-flag SDK."""
    return fnv1a(str(fnv1a(seed + key))) % 10_000 / 10_000


@dataclass(frozen=True)
class Layer:
    """Experiments that exclude each other: each owns a range [low, high) of the layer's slots, as shares of 1."""

    salt: str
    ranges: Mapping[str, tuple[float, float]]

    def __post_init__(self) -> None:
        taken = sorted((low, high, name) for name, (low, high) in self.ranges.items())
        for low, high, name in taken:
            if not 0 <= low < high <= 1:
                raise ConfigError("bad_number", where=f"layer.{name}", got=[low, high], expected="0 ≤ low < high ≤ 1")
        for (_, high, first), (low, _, second) in pairwise(taken):
            if low < high:
                raise ConfigError("layer_overlap", first=first, second=second)

    def experiment(self, key: str) -> str | None:
        """The experiment that owns the unit, or None."""
        place = slot(salted(key, self.salt))
        for name, (low, high) in self.ranges.items():
            if round(low * SLOTS) <= place < round(high * SLOTS):
                return name
        return None


def arm_edges(shares: Mapping[str, float]) -> tuple[tuple[str, int], ...]:
    """Each arm with the slot before which it ends, in the order given; the last one ends at ``SLOTS``."""
    if not shares or any(share < 0 for share in shares.values()) or abs(sum(shares.values()) - 1) > 1e-6:
        raise ConfigError("shares_sum", total=round(sum(shares.values()), 6))
    edges, total = [], 0.0
    for arm, share in shares.items():
        total += share
        edges.append((arm, round(total * SLOTS)))
    edges[-1] = (edges[-1][0], SLOTS)
    return tuple(edges)


def arm(key: str, salt: str, edges: Sequence[tuple[str, int]]) -> str:
    """The arm of a unit; ``edges`` from ``arm_edges``."""
    place = slot(salted(key, salt))
    return next(name for name, end in edges if place < end)
