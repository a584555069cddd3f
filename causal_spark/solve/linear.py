"""Linear adjustment by covariates (CUPED) and cluster-robust regression on a treatment indicator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from causal_spark.solve.means import Form, Values, evaluate, jacobian
from causal_spark.statistics import Moments
from causal_spark.statistics.moments import Array

ThetaOf = Literal["within", "all"]
Correction = Literal["CR0", "CR1", "arm"]


@dataclass(frozen=True, eq=False)
class Adjustment:
    """CUPED: ``theta`` (k,), ``rho2`` = squared multiple correlation, adjusted value of each group by name.

    The variance of the adjusted estimator is ``1 - rho2`` times the unadjusted one when groups are alike.
    """

    theta: Array
    rho2: float
    groups: Mapping[str, Values]


def slopes(covariance: Array) -> tuple[Array, float]:
    """Regression of the first variable on the rest, from their (q, q) covariance: slopes (q - 1,) and R².

    Columns are scaled first; a covariate without variance, or one that repeats others up to
    a condition number of 1e10, gets slope 0 through the pseudo-inverse. A covariance that is not finite
    (a ratio with denominator 0) gives NaN.
    """
    if not np.isfinite(covariance).all():
        return np.full(len(covariance) - 1, np.nan), np.nan
    scale = np.sqrt(np.clip(np.diag(covariance), 0.0, None))
    safe = np.where(scale > 0, scale, 1.0)
    correlation = covariance / np.outer(safe, safe)
    theta = np.linalg.pinv(correlation[1:, 1:], rcond=1e-10, hermitian=True) @ correlation[1:, 0]
    rho2 = float(np.clip(theta @ correlation[1:, 0], 0.0, 1.0))
    return theta * safe[0] / safe[1:] * (scale[1:] > 0), rho2


def cuped(groups: Mapping[str, Moments], forms: Sequence[Form], theta_of: ThetaOf = "within") -> Adjustment:
    """Adjust the first form of every group by the others (Deng, Xu, Kohavi & Walker 2013, eq. 4–5).

    ``theta_of`` says where θ is estimated: ``within`` groups (the coefficient of the analysis of covariance;
    a treatment effect cannot enter it) or over ``all`` rows as if there were no groups. Ratios are
    linearised at the pooled means. All groups share θ and are centred at the pooled covariate values,
    so adjusted values stay on the scale of the metric.
    """
    parts = list(groups.values())
    pooled = sum(parts[1:], parts[0])
    slope = jacobian(pooled, forms)
    scatter = pooled.scatter if theta_of == "all" else sum(part.scatter for part in parts)
    theta, rho2 = slopes(slope @ scatter @ slope.T)
    centre = evaluate(pooled, forms).value[1:]
    weights = np.concatenate([[1.0], -theta])
    adjusted = {name: evaluate(part, forms).combine(weights, float(theta @ centre)) for name, part in groups.items()}
    return Adjustment(theta, rho2, adjusted)


def cluster_difference(
    treatment: Moments, control: Moments, total: str, size: str, correction: Correction = "CR1"
) -> tuple[float, float]:
    """Difference of means over rows in clusters, and its cluster-robust standard error.

    The moments are over clusters: ``total`` is the column of cluster sums Σy, ``size`` that of cluster
    sizes. It is ordinary least squares on an intercept and the treatment, with the sandwich of
    Liang & Zeger (1986): CR0 without correction; CR1 times G/(G-1)·(N-1)/(N-2) (Cameron & Miller 2015, eq. 12);
    ``arm`` times G_a/(G_a-1) in each arm, which is the delta method for Σy/Σsize exactly.
    """
    if not (treatment.n > 0 and control.n > 0):
        return np.nan, np.nan
    means, squares = [], []
    clusters, rows = treatment.n + control.n, 0.0
    for part in (treatment, control):
        values = evaluate(part, [Form(total, size)])
        means.append(values.value[0])
        factor = 1.0 if correction == "arm" else (part.n - 1) / part.n
        squares.append(values.vcov[0, 0] * factor)
        rows += part.n * part.mean[part.names.index(size)]
    scale = clusters / (clusters - 1) * (rows - 1) / (rows - 2) if correction == "CR1" else 1.0
    return float(means[0] - means[1]), float(np.sqrt(scale * sum(squares)))
