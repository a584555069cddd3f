"""Linear adjustment by covariates (CUPED) and cluster-robust regression on a treatment indicator."""

from __future__ import annotations

import math
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


def cluster_factors(clusters: tuple[float, float], rows: float, correction: Correction = "CR1") -> tuple[float, float]:
    """What the arm-wise cluster variances are to be multiplied by, for each of two arms with so many ``clusters``.

    The delta method on cluster totals has the factor G_a/(G_a-1) in arm a: that is ``arm``. The sandwich of
    Liang & Zeger (1986) has none: ``CR0``. ``CR1`` has G/(G-1)·(N-1)/(N-2) over both arms with N ``rows``
    (Cameron & Miller 2015, eq. 12). Too few clusters or rows give NaN.
    """
    if correction == "arm":
        return 1.0, 1.0
    total = sum(clusters)
    if min(clusters) < 1 or total < 2 or rows <= 2:
        return math.nan, math.nan
    scale = total / (total - 1) * (rows - 1) / (rows - 2) if correction == "CR1" else 1.0
    return scale * (clusters[0] - 1) / clusters[0], scale * (clusters[1] - 1) / clusters[1]


def cluster_difference(
    treatment: Moments,
    control: Moments,
    total: str,
    size: str,
    correction: Correction = "CR1",
    rows: float | None = None,
) -> tuple[float, float]:
    """Difference of Σtotal/Σsize between two arms of clusters, and its cluster-robust standard error.

    The moments are over clusters. With ``size`` the number of rows of a cluster it is ordinary least squares on an
    intercept and the treatment; with another denominator, weighted least squares of the ratio, and ``rows`` says
    how many rows there are. ``correction`` as in ``cluster_factors``; ``arm`` is the delta method exactly.
    """
    parts = (treatment, control)
    values = [evaluate(part, [Form(total, size)]) for part in parts]
    if rows is None:
        rows = float(sum(part.n * part.mean[part.names.index(size)] for part in parts))
    factors = cluster_factors((treatment.n, control.n), rows, correction)
    variance = sum(value.vcov[0, 0] * factor for value, factor in zip(values, factors, strict=True))
    return float(values[0].value[0] - values[1].value[0]), float(np.sqrt(variance))
