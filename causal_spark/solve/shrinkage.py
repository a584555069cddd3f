"""Many experiments at once: empirical-Bayes shrinkage of their effects, and what they add up to.

Statistic: none; the tidy ``estimates`` of finished experiments (estimate and std_error of one metric, one scale).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import optimize, stats

from causal_spark.errors import StatisticError
from causal_spark.solve.intervals import Test, wald
from causal_spark.statistics.moments import Array

Advice = Literal["scale", "keep_testing", "stop"]


@dataclass(frozen=True, eq=False)
class Shrunk:
    """Normal prior N(``centre``, ``tau``²) of the effects, estimated from all of them; posteriors of each, (k,).

    ``std_dev`` counts the prior's uncertainty in (Morris 1983); ``p_positive`` = P(effect > 0).
    """

    centre: float
    tau: float
    mean: Array
    std_dev: Array
    low: Array
    high: Array
    p_positive: Array


def shrink(
    estimates: Sequence[float], std_errors: Sequence[float], alpha: float = 0.05, centre: float | None = None
) -> Shrunk:
    """Empirical-Bayes estimates: selecting winners by them does not overstate their effect (Efron 2011).

    τ by restricted maximum likelihood, ``centre`` estimated unless given (0: no effect on average). Needs three
    effects, each with a positive standard error. The interval counts the estimation of centre and τ in to first order:
    variance s²(1 - B) + B²·var(centre) + 2B²/(k - r)·(y - centre)², B = s²/(s² + τ²) (Morris 1983).
    """
    y, s = np.asarray(estimates, float), np.asarray(std_errors, float)
    if len(y) < 3 or not ((s > 0) & np.isfinite(s) & np.isfinite(y)).all():
        raise StatisticError("few_effects", count=int(((s > 0) & np.isfinite(s) & np.isfinite(y)).sum()), least=3)
    tau2 = _restricted(y, s, centre)
    weight = 1 / (s**2 + tau2)
    middle = float(weight @ y / weight.sum()) if centre is None else centre
    v_middle = 1 / weight.sum() if centre is None else 0.0
    b = s**2 * weight
    spare = len(y) - (1 if centre is None else 0)
    keep = b * max(spare - 2, 0) / spare  # Morris' factor, which corrects the curvature of B
    mean = middle + (1 - keep) * (y - middle)
    variance = s**2 * (1 - b) + b**2 * v_middle + 2 / spare * b**2 * (y - middle) ** 2
    sd = np.sqrt(np.minimum(variance, s**2 + v_middle))
    half = stats.norm.isf(alpha / 2) * sd
    return Shrunk(middle, math.sqrt(tau2), mean, sd, mean - half, mean + half, stats.norm.sf(-mean / sd))


def _restricted(y: Array, s: Array, centre: float | None) -> float:
    """τ² of largest restricted likelihood (Harville 1977); 0 if that is at the border."""

    def loss(tau2: float) -> float:
        weight = 1 / (s**2 + tau2)
        middle = weight @ y / weight.sum() if centre is None else centre
        reduced = 0.5 * math.log(weight.sum()) if centre is None else 0.0
        return float(0.5 * (weight @ (y - middle) ** 2 - np.log(weight).sum()) + reduced)

    scale = float(np.mean(s**2) + np.var(y) + (0.0 if centre is None else (np.mean(y) - centre) ** 2))
    grid = np.concatenate([[0.0], scale * np.logspace(-6, 1, 57)])
    values = [loss(g) for g in grid]
    best = int(np.argmin(values))
    if best == 0:
        return 0.0
    ends = (grid[best - 1], grid[min(best + 1, len(grid) - 1)])
    found = optimize.minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-12 * scale})
    return float(found.x)


def total_effect(
    estimates: Sequence[float], std_errors: Sequence[float], alpha: float = 0.05, multiply: bool = False
) -> Test:
    """What independent effects add up to: Σ differences, or with ``multiply`` Π(1 + lift) - 1 by logs.

    Give shrunk effects of shipped actions, not raw winners. A lift of -1 or less gives NaN.
    """
    y, s = np.asarray(estimates, float), np.asarray(std_errors, float)
    if not multiply:
        return wald(float(y.sum()), float(np.sqrt((s**2).sum())), alpha)
    if not (y > -1).all():
        return wald(math.nan, math.nan, alpha)
    log = wald(float(np.log1p(y).sum()), float(np.sqrt(((s / (1 + y)) ** 2).sum())), alpha)
    error = log.std_error * math.exp(log.estimate)
    ends = math.expm1(log.low), math.expm1(log.high)
    return Test(math.expm1(log.estimate), error, log.statistic, log.dof, log.p_value, *ends)


def agreement(together: Test, parts: Test, alpha: float = 0.05) -> Test:
    """Does a long-run holdout find what the experiments promised: effect of all actions together minus their sum.

    ``together``: everyone against the holdout, an ordinary comparison; ``parts``: ``total_effect`` of the (shrunk)
    effects of what was shipped, on the same scale and independent of it. Below 0: effects fade or cancel.
    """
    return wald(together.estimate - parts.estimate, math.hypot(together.std_error, parts.std_error), alpha)


@dataclass(frozen=True)
class Contribution:
    """What one action added: the shrunk effect with its interval, its share of the sum of all, and what to do."""

    name: str
    raw: float
    effect: float
    std_dev: float
    low: float
    high: float
    p_positive: float
    share: float
    advice: Advice


def contributions(
    names: Sequence[str], estimates: Sequence[float], std_errors: Sequence[float], alpha: float = 0.05,
    centre: float | None = None,
) -> tuple[Contribution, ...]:  # fmt: skip
    """Every action by its shrunk effect, largest first; ties by name.

    ``scale`` if P(effect > 0) ≥ 1 - alpha/2, ``stop`` if ≤ alpha/2, else ``keep_testing``. Shares are of the sum of
    shrunk effects, and NaN if that sum is 0. Effects must be on one scale: of the target metric, over the same units.
    """
    found = shrink(estimates, std_errors, alpha, centre)
    total = float(found.mean.sum())
    rows = []
    for i, name in enumerate(names):
        p = float(found.p_positive[i])
        advice: Advice = "scale" if p >= 1 - alpha / 2 else "stop" if p <= alpha / 2 else "keep_testing"
        effect = float(found.mean[i])
        ends = float(found.low[i]), float(found.high[i])
        share = effect / total if total != 0 else math.nan
        rows.append(Contribution(name, float(estimates[i]), effect, float(found.std_dev[i]), *ends, p, share, advice))
    return tuple(sorted(rows, key=lambda row: (-row.effect, row.name)))
