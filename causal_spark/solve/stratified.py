"""Effects within strata, averaged over the population of the estimand (Cochran 1968; Iacus, King & Porro 2012)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from causal_spark.statistics.moments import Array

Estimand = Literal["ATT", "ATC", "ATE"]


@dataclass(frozen=True, eq=False)
class Cells:
    """Rows ``n`` (s, 2), means and sample variances (s, 2, c) of c columns by stratum and arm, controls first."""

    labels: tuple[str, ...]
    n: Array
    mean: Array
    variance: Array


@dataclass(frozen=True, eq=False)
class Effect:
    """Effects and standard errors (q,); treated and control rows used, of all; strata used, of all."""

    estimate: Array
    std_error: Array
    used: Array
    rows: Array
    strata: int
    all_strata: int


@dataclass(frozen=True, eq=False)
class Stratified:
    """The effects of the first q columns, and weighted means and variances (2, c - q) of the others after weighting."""

    effect: Effect
    means: Array
    variances: Array
    ess: Array
    apart: Array


def solve(cells: Cells, outcomes: int, estimand: Estimand) -> Stratified:
    """Strata with both arms, weighted by their treated rows (ATT), controls (ATC) or all (ATE).

    Var = Σ (w/Σw)²·(s₁²/n₁ + s₀²/n₀) given the strata; an arm with one row in a stratum has its arm's pooled variance,
    NaN if there is none.
    ``apart`` (c,): Σ w·|x̄₁ - x̄₀| / Σ w within strata, which tells what the strata leave unadjusted. Raises
    ValueError if no stratum holds both arms.
    """
    both = (cells.n > 0).all(axis=1)
    if not both.any():
        raise ValueError("no stratum holds both arms")
    n, mean, variance = cells.n[both], cells.mean[both], cells.variance[both]
    spare = np.maximum(n - 1, 0)[:, :, None]
    total = spare.sum(axis=0)
    pooled = np.where(total > 0, (spare * variance).sum(axis=0) / np.maximum(total, 1), np.nan)
    known = np.where(spare > 0, variance, pooled)
    weight = {"ATT": n[:, 1], "ATC": n[:, 0], "ATE": n.sum(axis=1)}[estimand]
    share = weight / weight.sum()
    gap = mean[:, 1] - mean[:, 0]
    error = np.sqrt(((share**2)[:, None] * (known / n[:, :, None]).sum(axis=1)).sum(axis=0))
    means = np.einsum("s,sac->ac", share, mean)
    squares = np.einsum("s,sac->ac", share, np.where(spare > 0, variance, 0.0) * (spare / n[:, :, None]) + mean**2)
    factor = share[:, None] / n
    ess = 1.0 / (factor**2 * n).sum(axis=0)
    effect = Effect(
        (share @ gap)[:outcomes], error[:outcomes], n.sum(axis=0), cells.n.sum(axis=0), len(n), len(cells.n)
    )
    return Stratified(effect, means[:, outcomes:], (squares - means**2)[:, outcomes:], ess, share @ np.abs(gap))


def residual_bias(cells: Cells, outcome: int, score: int, apart: float) -> float:
    """How much strata of a score can leave unadjusted: |slope| of the controls' outcome on the score × ``apart``.

    The slope is that of least squares through the strata's control means; columns by number.
    """
    there = cells.n[:, 0] > 0
    n, y, x = cells.n[there, 0], cells.mean[there, 0, outcome], cells.mean[there, 0, score]
    centred = x - np.average(x, weights=n)
    spread = float(n @ centred**2)
    return abs(float(n @ (centred * y)) / spread) * apart if spread > 0 else float("nan")
