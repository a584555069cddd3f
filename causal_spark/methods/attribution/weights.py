"""Bootstrap weights of persons and of counted paths, from hashes: the same wherever their rows are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import special

Whole = NDArray[np.int64]
# Persons drawn at a time, so that their hashes stay in the cache.
ROWS = 4096
# Poisson(1) of a 16-bit uniform number.
_TABLE = np.searchsorted(np.cumsum([np.exp(-1.0) / float(special.factorial(k)) for k in range(9)]),
                         (np.arange(65_536) + 0.5) / 65_536).astype(np.uint8)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Weights:
    """Bootstrap weights of persons: of their conversions and of their nulls, shape (persons, B); ``hashes`` (persons,)
    of which they were made."""

    won: NDArray[np.float64]
    lost: NDArray[np.float64]
    hashes: Whole

    @cached_property
    def held_out(self) -> NDArray[np.bool_]:
        """The half of the persons on which a chain of the other half is tried, (persons,)."""
        return np.asarray(hashed_words(self.hashes, 1)[:, 0] >> np.uint64(63) == 1)


def person_weights(hashes: Whole, replicates: int) -> Weights:
    """Poisson(1) weights by a hash of the person and the replicate: the same wherever the person's rows are."""
    made = poisson(hashes, replicates)
    return Weights(made, made, hashes)


def poisson(hashes: Whole, replicates: int) -> NDArray[np.float64]:
    """(n, replicates) independent Poisson(1) numbers, four from each 64-bit hash (splitmix64, Steele et al. 2014)."""
    found = np.empty((len(hashes), replicates))
    for start in range(0, len(hashes), ROWS):
        some = hashes[start : start + ROWS]
        bits = np.ascontiguousarray(hashed_words(some, -(-replicates // 4)), "<u8").view("<u2")
        found[start : start + ROWS] = _TABLE.take(bits.reshape(len(some), -1)[:, :replicates])
    return found


def count_weights(hashes: Whole, won: Whole, lost: NDArray[np.float64], replicates: int) -> Weights:
    """Weights of counted paths: Poisson(count), by a normal approximation (Cornish & Fisher 1938) above one."""
    bits = (hashed_words(hashes, 2 * replicates) >> np.uint64(11)).astype(float)
    z = special.ndtri((bits + 0.5) / 2.0**53)
    won_weights, lost_weights = _counts(z[:, :replicates], won.astype(float)), _counts(z[:, replicates:], lost)
    return Weights(won_weights, lost_weights, hashes)


def _counts(z: NDArray[np.float64], n: NDArray[np.float64]) -> NDArray[np.float64]:
    mean = n[:, None]
    drawn = np.rint(mean + np.sqrt(mean) * z + (z**2 - 1) / 6)
    exact = np.searchsorted(np.cumsum([np.exp(-1.0) / float(special.factorial(k)) for k in range(12)]),
                            special.ndtr(z).ravel()).reshape(z.shape)  # fmt: skip
    return np.asarray(np.where(mean == 0, 0.0, np.where(mean == 1, exact, np.maximum(drawn, 0.0))))


def hashed_words(hashes: Whole, many: int) -> NDArray[np.uint64]:
    """(n, many) hashes: splitmix64 of the hash plus a step for each word."""
    with np.errstate(over="ignore"):
        step = (np.arange(many, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        x = hashes.astype(np.uint64)[:, None] + step[None, :]
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(x ^ (x >> np.uint64(31)))
