"""Thousands of salted splits of the same units: A/A validation, and re-randomisation by covariate balance.

Statistic, either of two, both independent of order and partitioning:

- buckets (one native group-by, any number of salts): bucket = hash of the unit modulo B; (B, 1 + p) of n and
  Σ(x - c) by bucket, and Σ(x - c)² or Moments over all units for the variance. Whole buckets are split on the driver.
- rows: ``split_sums`` of a block with the 64-bit hash of the unit: ``Sums`` of treated counts, sums and squares for
  every salt; a pass of ``accumulate``. Exact splits of units, S hashes for each row.
With clusters the hash is the cluster's, and a row of the statistic is a cluster.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from causal_spark.errors import StatisticError
from causal_spark.solve.bootstrap import mixed, weighted_sums
from causal_spark.statistics import Moments, Sums
from causal_spark.statistics.moments import Array

BAND = 0.999  # of the exact binomial band of the rejection rate
KS_FLOOR = 1e-3


def split_sums(keys: ArrayLike, rows: Array, splits: int, seed: int, share: float = 0.5) -> Sums:
    """``n`` (S,), ``total`` (S, p) and ``square`` (S, p) of the treated rows of each split, and of all rows.

    ``rows`` (n, p), centred by the caller about one pilot centre; control = all - treated. ``share`` of the
    treatment, rounded to a multiple of 2⁻¹⁶. Whole numbers (fixed point) whose squares sum to less than 2⁵³ give
    the same bits for any order and partitioning.
    """
    x = np.asarray(rows, float)
    p = x.shape[1]
    table = np.column_stack([np.ones(len(x)), x, x**2])
    found = weighted_sums(mixed(keys, seed), table, splits, _treated(share))
    whole = table.sum(axis=0)
    return Sums.of(
        n=found[:, 0], total=found[:, 1 : p + 1], square=found[:, p + 1 :],
        all_n=whole[0], all_total=whole[1 : p + 1], all_square=whole[p + 1 :],
    )  # fmt: skip


def _treated(share: float) -> Array:
    """1 for the lowest of 65,536 equal parts, 0 for the others."""
    return (np.arange(1 << 16) < round(share * (1 << 16))).astype(float)


def split_statistics(sums: Sums) -> tuple[Array, Array, Array]:
    """Welch's z (S, p), its two-sided p-values (S, p), and the treated share (S,) of each split."""
    n_t, n = sums["n"][:, None], sums.number("all_n")
    n_c = n - n_t
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_t, mean_c = sums["total"] / n_t, (sums["all_total"] - sums["total"]) / n_c
        v_t = (sums["square"] - n_t * mean_t**2) / (n_t - 1)
        v_c = (sums["all_square"] - sums["square"] - n_c * mean_c**2) / (n_c - 1)
        z = (mean_t - mean_c) / np.sqrt(v_t / n_t + v_c / n_c)
    z[~np.isfinite(z)] = np.nan
    return z, 2 * stats.norm.sf(np.abs(z)), sums["n"] / n


def bucket_splits(
    n: Array, totals: Array, variance: Array, splits: int, seed: int, share: float = 0.5
) -> tuple[Array, Array]:
    """z and p (S, p) of splits of whole buckets: ``n`` (B,), ``totals`` (B, p) = Σ(x - mean), unit ``variance`` (p,).

    The z of units with pooled variance. Buckets hold random units, so their split is one of units; the spread of z
    differs from 1 by about 1/√(2B) (0.4 % at B = 32,768), which is the resolution of the verdict.
    """
    table = np.column_stack([n, totals])
    found = weighted_sums(mixed(np.arange(len(table)), seed), table, splits, _treated(share))
    n_t, whole = found[:, :1], table.sum(axis=0)
    n_c = whole[0] - n_t
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = found[:, 1:] / n_t - (whole[1:] - found[:, 1:]) / n_c
        z = gap / np.sqrt(np.asarray(variance, float) * (1 / n_t + 1 / n_c))
    z[~np.isfinite(z)] = np.nan
    return z, 2 * stats.norm.sf(np.abs(z))


@dataclass(frozen=True)
class Validation:
    """A/A verdict of one metric: rejection rate at alpha with the band it must lie in, and uniformity of p.

    ``spread``: standard deviation of z, 1 if the standard error is right. ``trusted``: rate inside the band, and
    Kolmogorov–Smirnov p above 0.001.
    """

    splits: int
    rejection: float
    band: tuple[float, float]
    ks_p: float
    spread: float
    trusted: bool


def validate(z: ArrayLike, alpha: float = 0.05) -> Validation:
    """Judge the A/A z-values (S,) of one metric. Raises StatisticError below 200 finite splits."""
    given = np.asarray(z, float)
    x = given[np.isfinite(given)]
    if len(x) < 200:
        raise StatisticError("few_splits", finite=len(x), least=200)
    p = 2 * stats.norm.sf(np.abs(x))
    rate = float((p < alpha).mean())
    low, high = (stats.binom.ppf(tail, len(x), alpha) / len(x) for tail in ((1 - BAND) / 2, (1 + BAND) / 2))
    ks = float(stats.kstest(p, "uniform").pvalue)
    spread = float(x.std(ddof=1))
    return Validation(len(x), rate, (float(low), float(high)), ks, spread, bool(low <= rate <= high and ks > KS_FLOOR))


# re-randomisation -----------------------------------------------------------------------------------------------------


def mahalanobis(treatment: Moments, control: Moments) -> float:
    """Distance of the covariate means of two arms, M = d'·cov(d)⁻¹·d, about χ² with p degrees of freedom.

    Morgan & Rubin (2012), covariance pooled over both arms; covariates without variance take no part.
    """
    n = treatment.n + control.n
    if min(treatment.n, control.n) < 1 or n < 3:
        return math.nan
    d = treatment.mean - control.mean
    pooled = (treatment + control).covariance * (1 / treatment.n + 1 / control.n)
    scale = np.sqrt(np.diag(pooled))
    kept = scale > 0
    if not kept.any():
        return math.nan
    correlation = (pooled / np.outer(np.where(kept, scale, 1), np.where(kept, scale, 1)))[np.ix_(kept, kept)]
    u = d[kept] / scale[kept]
    return float(u @ np.linalg.pinv(correlation, rcond=1e-10, hermitian=True) @ u)


def imbalance(n: Array, means: Array, whole: Moments) -> tuple[Array, int]:
    """How far each of D assignments is from balance, (D,), and the degrees of freedom of its distribution.

    Σ over arms of n_a·(m_a - m)'·C⁻¹·(m_a - m), about χ² with rank(C)·(A - 1) degrees of freedom; of two arms it is
    ``mahalanobis``. ``n`` (D, A) units, ``means`` (D, A, p) of the covariates, ``whole``: Moments of all units.
    Covariates without variance take no part; an empty arm, or no covariate left, gives NaN. Strata add up.
    """
    covariance = whole.covariance
    scale = np.sqrt(np.clip(np.diag(covariance), 0.0, None))
    kept = scale > 0
    if not kept.any():
        return np.full(len(n), np.nan), 0
    correlation = (covariance / np.outer(np.where(kept, scale, 1), np.where(kept, scale, 1)))[np.ix_(kept, kept)]
    inverse = np.linalg.pinv(correlation, rcond=1e-10, hermitian=True)
    rank = int(np.linalg.matrix_rank(correlation, tol=1e-10 * len(correlation), hermitian=True))
    u = (means - whole.mean)[..., kept] / scale[kept]
    distance = (n * np.einsum("dap,pq,daq->da", u, inverse, u)).sum(axis=1)
    distance[(n < 1).any(axis=1)] = np.nan
    return distance, rank * (n.shape[1] - 1)


def acceptance(covariates: int, accepted: float = 0.01) -> float:
    """The distance below which a share ``accepted`` of all splits lies."""
    return float(stats.chi2.ppf(accepted, covariates))


def rerandomise(distances: Sequence[float], covariates: int, accepted: float = 0.01) -> int:
    """Index of the first salt whose distance (the sum over strata, if stratified) is accepted.

    The first and not the best one, so that the p-value of a randomisation test can be computed over accepted splits.
    Raises StatisticError if none is.
    """
    limit = acceptance(covariates, accepted)
    for index, distance in enumerate(distances):
        if distance <= limit:
            return index
    raise StatisticError("no_split_accepted", salts=len(distances), accepted=accepted)
