"""Bootstrap and jackknife with weights from hashes: the same weights on every engine, partitioning and order.

Statistic, either of two:

- rows: ``replicate_sums`` of a block, ``Sums`` of (R,) weights and (R, p) weighted sums; a pass of
  ``accumulate`` over blocks with the 64-bit hash of the unit (of the cluster, if clusters were randomised);
- buckets (cheaper): bucket = hash of the unit modulo B (B of 1,000 or more), then any additive statistic by
  (arm, bucket): counts and sums (B, p), or histograms (B, m). ``replicates`` reweights whole buckets on the driver.
  Buckets must hold whole units. A jackknife leaves out one bucket at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causal_spark.errors import StatisticError
from causal_spark.solve.intervals import Alternative, Test, bounds, wald
from causal_spark.statistics import Sums
from causal_spark.statistics.moments import Array

Hashes = NDArray[np.uint64]
ROWS = 8192  # weighed at a time, so that the weights stay in the cache
LANES = 4  # replicates that share the 64 bits of one hash

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_THIRTY, _TWENTY_SEVEN, _THIRTY_ONE = np.uint64(30), np.uint64(27), np.uint64(31)
# How many of 65,536 equal parts have the weight 0, 1, …: Poisson(1) with mean exactly 1 and variance 1.00009.
_PARTS = (24109, 24110, 12055, 4018, 1004, 201, 33, 5, 1)
_WEIGHTS = np.repeat(np.arange(len(_PARTS), dtype=np.float64), _PARTS)


def mixed(keys: ArrayLike, salt: int) -> Hashes:
    """64 well mixed bits of each key and a salt (the finaliser of splitmix64; Steele, Lea & Flood 2014)."""
    given = np.asarray(keys)
    key = given if given.dtype == np.uint64 else given.astype(np.int64, copy=False).view(np.uint64)
    with np.errstate(over="ignore"):
        x = _finish(key + _GOLDEN)
        return _finish(x + np.uint64(salt % 2**64) * _GOLDEN)


def lanes(keys: Hashes, group: int) -> NDArray[np.uint16]:
    """Four independent uniform 16-bit numbers of each key, (n, 4): those of replicates 4·group … 4·group + 3."""
    return mixed(keys, group).astype("<u8", copy=False).view("<u2").reshape(-1, LANES)


def poisson_weights(keys: ArrayLike, replicates: int, seed: int) -> Array:
    """Poisson(1) weight of each key in each replicate, shape (n, replicates); a replicate's do not depend on R."""
    key = mixed(keys, seed)
    groups = range(-(-replicates // LANES))
    parts = [np.zeros((len(key), 0)), *(_WEIGHTS[lanes(key, group)] for group in groups)]
    return np.concatenate(parts, axis=1)[:, :replicates]


def weighted_sums(keys: Hashes, table: Array, replicates: int, values: Array) -> Array:
    """Σ over rows of values[16 bits of the key in replicate r]·row, shape (replicates, p), for ``table`` (n, p)."""
    groups = -(-replicates // LANES)
    total = np.zeros((groups, LANES, table.shape[1]))
    for start in range(0, len(table), ROWS):
        key, rows = keys[start : start + ROWS], table[start : start + ROWS]
        for group in range(groups):
            total[group] += values[lanes(key, group)].T @ rows
    return total.reshape(groups * LANES, -1)[:replicates]


def replicate_sums(keys: ArrayLike, rows: Array, replicates: int, seed: int) -> Sums:
    """Weighted sums of ``rows`` (n, p) in each Poisson-bootstrap replicate: ``weight`` (R,), ``total`` (R, p).

    ``keys`` (n,) are the 64-bit hashes of the units; rows of one unit share their weight (Chamandy et al. 2012).
    Centre the columns beforehand if they lie far from 0. Whole numbers (fixed point) whose sums stay below 2⁵³ give
    the same bits for any order and partitioning.
    """
    table = np.column_stack([np.ones(len(rows)), np.asarray(rows, float)])
    total = weighted_sums(mixed(keys, seed), table, replicates, _WEIGHTS)
    return Sums.of(weight=total[:, 0], total=total[:, 1:])


def replicates(buckets: Array, count: int, seed: int) -> Array:
    """Totals of ``count`` Poisson-bootstrap replicates over buckets: (B, …) sums → (count, …); keys are 0 … B - 1."""
    totals = np.asarray(buckets, float)
    flat = totals.reshape(len(totals), -1)
    found = weighted_sums(mixed(np.arange(len(totals)), seed), flat, count, _WEIGHTS)
    return found.reshape(count, *totals.shape[1:])


def left_out(buckets: Array) -> Array:
    """Totals without each bucket in turn, shape as ``buckets`` (B, …)."""
    totals = np.asarray(buckets, float)
    return np.asarray(totals.sum(axis=0) - totals, float)


def bootstrap(estimate: float, values: ArrayLike, alpha: float = 0.05, alternative: Alternative = "two-sided") -> Test:
    """Standard error and percentile interval of replicate ``values`` (R,) (Efron 1979).

    Two-sided p = 2·min(share ≤ 0, share ≥ 0), at least 1/(R + 1). The standard error has a Monte Carlo error of
    1/√(2R) of itself. Raises StatisticError if fewer than 50 replicates, or than 95 % of them, are finite.
    """
    all_values = np.asarray(values, float)
    x = np.sort(all_values[np.isfinite(all_values)])
    if len(x) < 50 or len(x) < 0.95 * len(all_values):
        raise StatisticError("few_replicates", finite=len(x), of=len(all_values))
    error = float(x.std(ddof=1))
    if not error > 0:
        return Test(estimate, error, math.nan, math.inf, math.nan, math.nan, math.nan)
    tail = alpha / 2 if alternative == "two-sided" else alpha
    low, high = (float(v) for v in np.quantile(x, [tail, 1 - tail]))
    below, above = ((1 + float(part.sum())) / (1 + len(x)) for part in (x <= 0, x >= 0))
    p = {"two-sided": min(1.0, 2 * min(below, above)), "greater": below, "less": above}[alternative]
    return Test(estimate, error, estimate / error, math.inf, p, *bounds(low, high, alternative))


def jackknife(estimate: float, values: ArrayLike, alpha: float = 0.05, alternative: Alternative = "two-sided") -> Test:
    """Delete-a-group jackknife: se² = (B - 1)/B·Σ(θ_b - θ̄)², t with B - 1 degrees of freedom (Kott 2001).

    ``values`` (B,): the estimate without each bucket. A value that is not finite gives NaN.
    """
    x = np.asarray(values, float)
    count = len(x)
    error = math.sqrt((count - 1) / count * float(((x - x.mean()) ** 2).sum())) if count > 1 else math.nan
    return wald(estimate, error, alpha, count - 1, alternative)


def ratio_of(top: int, bottom: int) -> Callable[[Array], Array]:
    """The statistic total[..., top] / total[..., bottom] of replicate totals; NaN over a zero."""

    def statistic(totals: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            found = totals[..., top] / totals[..., bottom]
        return np.where(np.isfinite(found), found, np.nan)

    return statistic


def _finish(x: Hashes) -> Hashes:
    x = (x ^ (x >> _THIRTY)) * _FIRST
    x = (x ^ (x >> _TWENTY_SEVEN)) * _SECOND
    return x ^ (x >> _THIRTY_ONE)
