"""The Mann–Whitney test of two groups from two histograms.

Statistic: ``Histogram`` of the metric by arm, the one that quantiles use; merges by adding counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from causal_spark.solve.intervals import Alternative, p_value, wald
from causal_spark.statistics.histogram import Histogram


@dataclass(frozen=True)
class RankTest:
    """Mann–Whitney: ``statistic`` U of the treatment, z and p under "same distribution".

    ``superiority`` = P(treatment > control) + ½P(equal) with its own standard error and interval.
    ``unresolved``: the share of pairs that lie in one cell of several values; it moves ``superiority`` by half
    of itself at most, and is 0 for exact histograms.
    """

    statistic: float
    z: float
    p_value: float
    superiority: float
    std_error: float
    low: float
    high: float
    unresolved: float


def mann_whitney(
    treatment: Histogram, control: Histogram, alpha: float = 0.05, alternative: Alternative = "two-sided"
) -> RankTest:
    """Mann & Whitney (1947) with tie-corrected variance and midranks, no continuity correction.

    The interval of the superiority is that of Brunner & Munzel (2000), from the variance of the placements in both
    groups, so it needs no equality of shapes; test and interval differ by that. Everything equal gives NaN.
    """
    n_t, n_c = float(treatment.n), float(control.n)
    nan = math.nan
    if treatment.n == 0 or control.n == 0:
        return RankTest(nan, nan, nan, nan, nan, nan, nan, nan)
    both = treatment + control
    t, c = np.zeros(len(both.cells)), np.zeros(len(both.cells))
    t[np.searchsorted(both.cells, treatment.cells)] = treatment.counts
    c[np.searchsorted(both.cells, control.cells)] = control.counts
    low, high = both.edges
    unresolved = float((t * c)[high > low].sum() / (n_t * n_c))
    below_t, below_c = (np.cumsum(x) - x / 2 for x in (t, c))
    share = float(t @ below_c / (n_t * n_c))
    n = n_t + n_c
    ties = float((((t + c) / n) ** 3).sum() - 1 / n**2) * n**3 / (n * (n - 1)) if n > 1 else nan
    null = n_t * n_c / 12 * (n + 1 - ties)
    z = (share - 0.5) * n_t * n_c / math.sqrt(null) if null > 0 else nan
    spread_t = _variance(t, below_c / n_c, n_t)
    spread_c = _variance(c, below_t / n_t, n_c)
    test = wald(share - 0.5, math.sqrt(spread_t / n_t + spread_c / n_c), alpha, math.inf, alternative)
    p = p_value(z, math.inf, alternative)
    return RankTest(share * n_t * n_c, z, p, share, test.std_error, test.low + 0.5, test.high + 0.5, unresolved)


def _variance(weights: np.ndarray, placements: np.ndarray, n: float) -> float:
    """Sample variance of the placements of a group."""
    if n < 2:
        return math.nan
    mean = float(weights @ placements) / n
    return float(weights @ (placements - mean) ** 2) / (n - 1)
