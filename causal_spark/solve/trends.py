"""Effects over time: novelty on the day-since-exposure curve.

Statistic: ``Moments`` by arm over units of the columns y_0 … y_{D-1}, the metric on each day since exposure, of the
units whose D days are all over (one covariance matrix of D columns, so that the days' correlation within units is
counted). For many days let the columns be whole weeks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from causal_spark.errors import StatisticError
from causal_spark.solve.intervals import Test
from causal_spark.solve.means import Form, difference, evaluate
from causal_spark.statistics import Moments
from causal_spark.statistics.moments import Array


@dataclass(frozen=True, eq=False)
class Novelty:
    """``days``: the effect on each day; ``slope``: its change per day; ``late_early``: late half minus early half;
    ``constant``: (χ², dof, p) that all days have one effect."""

    days: tuple[Test, ...]
    slope: Test
    late_early: Test
    constant: tuple[float, int, float]


def novelty(treatment: Moments, control: Moments, columns: Sequence[str], alpha: float = 0.05) -> Novelty:
    """Does the effect change with the days since exposure; columns in order of days, at least two.

    Each contrast of days is a linear image of the moments, tested like any metric. A falling slope against the
    sign of the effect is a novelty effect, a rising one is learning. Raises StatisticError for fewer than two days.
    """
    if len(columns) < 2:
        raise StatisticError("few_days", days=len(columns))
    parts = [part.select(columns) for part in (treatment, control)]
    count = len(columns)
    centred = np.arange(count) - (count - 1) / 2
    half = count // 2
    late = np.concatenate([np.full(half, -1 / half), np.zeros(count - 2 * half), np.full(half, 1 / half)])
    tests = [_contrast(parts, weights, alpha) for weights in (*np.eye(count), centred / (centred @ centred), late)]
    gaps = np.diff(np.eye(count), axis=0)
    return Novelty(tuple(tests[:count]), tests[count], tests[count + 1], _wald_constant(parts, gaps))


def _contrast(parts: Sequence[Moments], weights: Array, alpha: float) -> Test:
    t, c = (evaluate(part.image([weights], ["contrast"]), [Form("contrast")]) for part in parts)
    return difference(t, c, alpha)


def _wald_constant(parts: Sequence[Moments], gaps: Array) -> tuple[float, int, float]:
    effect = gaps @ (parts[0].mean - parts[1].mean)
    if min(part.n for part in parts) < 2:
        return math.nan, len(effect), math.nan
    vcov = np.asarray(sum(gaps @ part.covariance @ gaps.T / part.n for part in parts), float)
    if not np.isfinite(vcov).all() or np.linalg.matrix_rank(vcov, hermitian=True) < len(effect):
        return math.nan, len(effect), math.nan
    statistic = float(effect @ np.linalg.solve(vcov, effect))
    return statistic, len(effect), float(stats.chi2.sf(statistic, len(effect)))
