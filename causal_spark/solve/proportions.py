"""Two proportions, and counts against planned shares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from causal_spark.solve.intervals import Alternative, Test, p_value, wald


def two_proportions(
    p_t: float, n_t: float, p_c: float, n_c: float, alpha: float = 0.05, alternative: Alternative = "two-sided"
) -> Test:
    """z test with the pooled variance, interval with the unpooled one (Fleiss, Levin & Paik 2003, §3.2).

    The standard error returned is the unpooled one, to which the interval belongs. An arm without rows gives NaN.
    """
    if not (n_t > 0 and n_c > 0):
        return wald(math.nan, math.nan, alpha, math.inf, alternative)
    pooled = (p_t * n_t + p_c * n_c) / (n_t + n_c)
    null_error = math.sqrt(max(pooled * (1 - pooled) * (1 / n_t + 1 / n_c), 0.0))
    error = math.sqrt(max(p_t * (1 - p_t) / n_t + p_c * (1 - p_c) / n_c, 0.0))
    test = wald(p_t - p_c, error, alpha, math.inf, alternative)
    if null_error == 0:
        return test
    statistic = (p_t - p_c) / null_error
    return Test(p_t - p_c, error, statistic, math.inf, p_value(statistic, math.inf, alternative), test.low, test.high)


@dataclass(frozen=True)
class GoodnessOfFit:
    """Pearson's χ² with degrees of freedom and p-value; ``expected`` counts per category."""

    statistic: float
    dof: int
    p_value: float
    expected: tuple[float, ...]


def shares_test(counts: Sequence[float], shares: Sequence[float]) -> GoodnessOfFit:
    """Pearson's χ² (1900) of counts against planned shares, the test of a sample ratio mismatch.

    A category with planned share 0 takes no part: neither its count nor a degree of freedom.
    Needs a positive total and at least two positive shares, else NaN.
    """
    planned = np.asarray(shares, float)
    observed = np.where(planned > 0, np.asarray(counts, float), 0.0)
    total, dof = observed.sum(), int((planned > 0).sum()) - 1
    expected = planned / (planned.sum() or 1.0) * total
    if total <= 0 or dof < 1:
        return GoodnessOfFit(math.nan, max(dof, 0), math.nan, tuple(expected))
    kept = planned > 0
    statistic = float(((observed - expected)[kept] ** 2 / expected[kept]).sum())
    return GoodnessOfFit(statistic, dof, float(stats.chi2.sf(statistic, dof)), tuple(expected))
