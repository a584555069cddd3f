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
Numbers = Sequence[float] | Array
LEAST = 3


@dataclass(frozen=True, eq=False)
class Shrunk:
    """Normal prior N(``centre``, ``tau``²) of the effects, estimated from all of them; posteriors of each, (k,).

    ``std_dev`` counts the prior's uncertainty in (Morris 1983); ``p_positive`` = P(effect > 0). What the posteriors
    have in common through the prior: their covariance is diag(``own``²) + ``shared`` ``shared``ᵀ, ``shared`` (k, 2).
    """

    centre: float
    tau: float
    mean: Array
    std_dev: Array
    low: Array
    high: Array
    p_positive: Array
    own: Array
    shared: Array


def shrink(estimates: Numbers, std_errors: Numbers, alpha: float = 0.05, centre: float | None = None) -> Shrunk:
    """Empirical-Bayes estimates: selecting winners by them does not overstate their effect (Efron 2011).

    τ by restricted maximum likelihood, ``centre`` estimated unless given (0: no effect on average). Needs three
    effects, each with a positive standard error. The interval counts the estimation of centre and τ in to first order:
    variance s²(1 - B) + B²·var(centre) + 2B²/(k - r)·(y - centre)², B = s²/(s² + τ²) (Morris 1983).
    """
    y, s = np.asarray(estimates, float), np.asarray(std_errors, float)
    usable = (s > 0) & np.isfinite(s) & np.isfinite(y)
    if len(y) < LEAST or not usable.all():
        raise StatisticError("few_effects", count=int(usable.sum()), least=LEAST)
    tau2 = _restricted(y, s, centre)
    weight = 1 / (s**2 + tau2)
    middle = float(weight @ y / weight.sum()) if centre is None else centre
    v_middle = 1 / weight.sum() if centre is None else 0.0
    b = s**2 * weight
    spare = len(y) - (1 if centre is None else 0)
    keep = b * max(spare - 2, 0) / spare  # Morris' factor, which corrects the curvature of B
    mean = middle + (1 - keep) * (y - middle)
    own = s * np.sqrt(1 - b)
    shared = np.column_stack([b * math.sqrt(v_middle), math.sqrt(2 / spare) * b * (y - middle)])
    variance = own**2 + (shared**2).sum(1)
    sd = np.sqrt(np.minimum(variance, s**2 + v_middle))
    half = stats.norm.isf(alpha / 2) * sd
    chance = stats.norm.sf(-mean / sd)
    return Shrunk(middle, math.sqrt(tau2), mean, sd, mean - half, mean + half, chance, own, shared)


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
    estimates: Numbers, std_errors: Numbers, alpha: float = 0.05, multiply: bool = False,
    weights: Numbers | None = None, shared: Array | None = None,
) -> Test:  # fmt: skip
    """What effects add up to: Σ w·difference, or with ``multiply`` Π(1 + w·lift) - 1 by logs.

    ``weights`` w (k,): the units an effect reached, of lifts the share of the metric; default 1. ``std_errors`` are of
    independent errors; ``shared`` (k, m) adds errors in common: variance Σ(w·s)² + ‖sharedᵀw‖². Give the ``mean``,
    ``own`` and ``shared`` of shrunk effects, not raw winners. A factor of 0 or less gives NaN.
    """
    y, s = np.asarray(estimates, float), np.asarray(std_errors, float)
    w = np.ones(len(y)) if weights is None else np.asarray(weights, float)
    common = np.zeros((len(y), 1)) if shared is None else shared
    if not multiply:
        return wald(float(w @ y), _spread(w, s, common), alpha)
    if not (w * y > -1).all():
        return wald(math.nan, math.nan, alpha)
    log = wald(float(np.log1p(w * y).sum()), _spread(w / (1 + w * y), s, common), alpha)
    error = log.std_error * math.exp(log.estimate)
    ends = math.expm1(log.low), math.expm1(log.high)
    return Test(math.expm1(log.estimate), error, log.statistic, log.dof, log.p_value, *ends)


def _spread(w: Array, s: Array, shared: Array) -> float:
    """Standard error of the sum of w times effects."""
    return math.sqrt(float(((w * s) ** 2).sum() + ((w @ shared) ** 2).sum()))


def agreement(together: Test, parts: Test, alpha: float = 0.05) -> Test:
    """Does a long-run holdout find what the experiments promised: effect of all actions together minus their sum.

    ``together``: everyone against the holdout, an ordinary comparison; ``parts``: ``total_effect`` of the (shrunk)
    effects of what was shipped, on the same scale and independent of it. Below 0: effects fade or cancel.
    """
    return wald(together.estimate - parts.estimate, math.hypot(together.std_error, parts.std_error), alpha)


@dataclass(frozen=True)
class Contribution:
    """What one action added: the shrunk effect with its interval, its share of the sum of all, and what to do.

    ``place``: where the action stood in the input; ``amount``: weight times effect.
    """

    name: str
    place: int
    effect: float
    std_dev: float
    low: float
    high: float
    p_positive: float
    amount: float
    share: float
    advice: Advice


def contributions(
    names: Sequence[str], found: Shrunk, alpha: float = 0.05, weights: Numbers | None = None,
    lower_is_better: bool = False,
) -> tuple[Contribution, ...]:  # fmt: skip
    """Every action by what it added (weight times shrunk effect), the best first; ties by effect, then by name.

    ``scale`` if P(effect is for the better) ≥ 1 - alpha/2, ``stop`` if ≤ alpha/2, else ``keep_testing``. Shares are of
    the sum, and NaN if that is 0. Effects must be on one scale: of the target metric, over the same units.
    """
    w = np.ones(len(names)) if weights is None else np.asarray(weights, float)
    amounts = w * found.mean
    total, sign = float(amounts.sum()), -1 if lower_is_better else 1
    rows = []
    for i, name in enumerate(names):
        effect, sd, amount = float(found.mean[i]), float(found.std_dev[i]), float(amounts[i])
        ends = float(found.low[i]), float(found.high[i])
        p, share = float(found.p_positive[i]), amount / total if total != 0 else math.nan
        rows.append(Contribution(name, i, effect, sd, *ends, p, amount, share, advise(sign * effect, sd, alpha)))
    return tuple(sorted(rows, key=lambda row: (-sign * row.amount, -sign * row.effect, row.name)))


def advise(effect: float, std_dev: float, alpha: float) -> Advice:
    """What to do with an action by the posterior of its effect for the better."""
    chances = stats.norm.sf([-effect / std_dev, effect / std_dev])
    return "scale" if chances[1] <= alpha / 2 else "stop" if chances[0] <= alpha / 2 else "keep_testing"
