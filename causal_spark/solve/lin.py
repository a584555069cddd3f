"""Regression adjustment with slopes of each arm (Lin 2013) and its heteroskedasticity-robust standard errors.

Statistic, scan 1: ``Moments`` by arm of (outcome, covariates), as CUPED uses them; ``fit_arms`` needs no more and
gives the estimate and its moment-based standard error. Scan 2, only for HC2 and HC3: ``leverage_sums`` of a block of
rows of one arm, ``Sums`` of three numbers by arm; they add.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from causal_spark.solve.linear import slopes
from causal_spark.solve.means import Values
from causal_spark.statistics import Moments, Sums
from causal_spark.statistics.moments import Array

Kind = Literal["HC0", "HC2", "HC3"]


@dataclass(frozen=True, eq=False)
class ArmFit:
    """Regression of the outcome on k covariates in one arm, read at the mean covariates of all arms.

    ``value`` = mean - slope·(mean_x - centre); ``std_error`` from the residual variance of the arm (n - k - 1).
    ``inverse`` (k, k): of the centred scatter of the covariates; ``shift`` (k,) = centre - mean_x.
    """

    n: float
    mean: float
    mean_x: Array
    slope: Array
    inverse: Array
    shift: Array
    value: float
    std_error: float

    def values(self, std_error: float | None = None) -> Values:
        """For ``difference`` and ``lift``, with the moment-based or another standard error."""
        error = self.std_error if std_error is None else std_error
        return Values(np.array([self.value]), np.array([[error**2]]), self.n)


def fit_arms(arms: Mapping[str, Moments]) -> dict[str, ArmFit]:
    """Fit each arm; the first column of the moments is the outcome, the rest are the covariates.

    The difference of two values is the coefficient of the treatment in the fully interacted regression with
    covariates centred at the mean of all arms (Lin 2013). Collinear covariates share their slope by the
    pseudo-inverse; an arm with n ≤ k + 1 rows has no standard error (NaN).
    """
    parts = list(arms.values())
    centre = sum(parts[1:], parts[0]).mean[1:]
    return {name: _fit(part, centre) for name, part in arms.items()}


def _fit(part: Moments, centre: Array) -> ArmFit:
    slope, _ = slopes(part.scatter)
    scatter = part.scatter[1:, 1:]
    scale = np.sqrt(np.clip(np.diag(scatter), 0.0, None))
    safe = np.where(scale > 0, scale, 1.0)
    scaled = scatter / np.outer(safe, safe)
    inverse = np.linalg.pinv(scaled, rcond=1e-10, hermitian=True) / np.outer(safe, safe)
    shift = centre - part.mean[1:]
    residual = float(part.scatter[0, 0] - slope @ part.scatter[1:, 0])
    dof = part.n - 1 - np.linalg.matrix_rank(scaled, tol=1e-10, hermitian=True)
    variance = max(residual, 0.0) / dof if dof > 0 else math.nan
    error = math.sqrt(variance * (1 / part.n + float(shift @ inverse @ shift))) if part.n > 0 else math.nan
    value = float(part.mean[0] + slope @ shift)
    return ArmFit(part.n, float(part.mean[0]), part.mean[1:], slope, inverse, shift, value, error)


def leverage_sums(fit: ArmFit, y: Array, x: Array) -> Sums:
    """Σ (g e)²/(1 - h)^k over rows of the arm, for k = 0, 1, 2: ``HC0``, ``HC2``, ``HC3``; y (n,), x (n, k).

    e = residual, h = leverage, g = the row's weight in the arm's value (MacKinnon & White 1985).
    """
    found = leverage_by_fit([fit], np.zeros(len(y), np.int64), y, x)
    return Sums.of(**{kind: value[0] for kind, value in found.values.items()})


def leverage_by_fit(fits: Sequence[ArmFit], of: NDArray[np.int64], y: Array, x: Array) -> Sums:
    """``leverage_sums`` of several arms (of several segments) at once, each sum of shape (fits,).

    ``of`` (n,): the place among the ``fits`` of the one that a row belongs to.
    """
    names = ("n", "mean", "mean_x", "slope", "inverse", "shift")
    n, mean, mean_x, slope, inverse, shift = (np.array([getattr(fit, name) for fit in fits])[of] for name in names)
    d = x - mean_x
    e = y - mean - (d * slope).sum(axis=1)
    spread = np.einsum("ni,nij->nj", d, inverse)
    h = 1 / n + (spread * d).sum(axis=1)
    part = ((1 / n + (spread * shift).sum(axis=1)) * e) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        rest = np.where(1 - h > 1e-12, 1 - h, np.nan)
        kinds = {"HC0": part, "HC2": part / rest, "HC3": part / rest**2}
    return Sums.of(**{kind: np.bincount(of, values, len(fits)) for kind, values in kinds.items()})


def robust(fit: ArmFit, sums: Sums, kind: Kind = "HC2") -> Values:
    """The arm's value with its HC standard error; the difference of arms is that of the interacted regression.

    A row that alone decides a coefficient (leverage 1) gives NaN.
    """
    return fit.values(math.sqrt(sums.number(kind)))
