"""Doubly robust and orthogonal estimates with cross-fitting: AIPW and the partially linear model.

Outcomes are regressed by least squares. A pass leaves Gram sums by (level, fold), and the regression for the
rows of a fold is solved from the total minus that fold: cross-fitting costs no pass of its own. Rows of a
fold then get the predictions of the other folds (Chernozhukov et al. 2018, definition 3.2, "DML2").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causal_spark.errors import StatisticError
from causal_spark.solve.logistic import aliased
from causal_spark.solve.weighting import Estimand, tilt
from causal_spark.statistics import Sums
from causal_spark.statistics.moments import Array

# least squares by level, each fold left out -------------------------------------------------------------------------


def gram(x: Array, y: Array, level: ArrayLike, fold: ArrayLike, levels: int, folds: int) -> Sums:
    """Gram sums of a block by level and fold: ``n`` (L, K), ``xx`` (L, K, p, p), ``xy`` (L, K, p, q).

    ``x`` (n, p) with a leading column of ones, ``y`` (n, q), ``level`` (n,) from 0 to L - 1 (all 0 for one regression
    over all rows), ``fold`` (n,) from 0 to K - 1. A row of level -1 belongs to no regression.
    """
    p, q = x.shape[1], y.shape[1]
    n, xx, xy = np.zeros((levels, folds)), np.zeros((levels, folds, p, p)), np.zeros((levels, folds, p, q))
    at, part = np.asarray(level), np.asarray(fold)
    for row in range(levels):
        for k in range(folds):
            chosen = (at == row) & (part == k)
            inside = x[chosen]
            n[row, k], xx[row, k], xy[row, k] = len(inside), inside.T @ inside, inside.T @ y[chosen]
    return Sums.of(n=n, xx=xx, xy=xy)


def regress(total: Sums, names: Sequence[str]) -> Array:
    """Coefficients (L, K, p, q) of least squares for each level, without the rows of each fold.

    One fold means no cross-fitting: all rows. Raises StatisticError (``outcome_collinear``) naming the level and the
    columns that repeat others among its rows, an empty level included.
    """
    levels, folds, p, q = total["xy"].shape
    beta = np.zeros((levels, folds, p, q))
    for level in range(levels):
        for k in range(folds):
            used = [other for other in range(folds) if other != k or folds == 1]
            xx, xy = total["xx"][level, used].sum(axis=0), total["xy"][level, used].sum(axis=0)
            if repeats := aliased(xx, names):
                raise StatisticError(
                    "outcome_collinear", level=level, fold=k if folds > 1 else "-", columns=", ".join(repeats)
                )
            size = np.sqrt(np.diag(xx))[:, None]
            beta[level, k] = np.linalg.solve(xx / (size * size.T), xy / size) / size
    return beta


def fitted(x: Array, beta: Array, fold: ArrayLike) -> Array:
    """Predictions (n, q) for rows ``x`` (n, p) by the coefficients (K, p, q) of their own fold."""
    part = np.asarray(fold)
    found = np.zeros((len(x), beta.shape[2]))
    for k, own in enumerate(beta):
        found[part == k] = x[part == k] @ own
    return found


def potential(x: Array, beta: Array, fold: ArrayLike) -> Array:
    """Predictions (n, L, q) of the outcome under every level, by coefficients (L, K, p, q)."""
    found = [fitted(x, own, fold) for own in beta]
    return np.stack(found, axis=1)


# augmented inverse-propensity weighting -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Augmented:
    """Means of the potential outcomes ``means`` (L, q) over the ``kept`` of ``n`` rows."""

    n: float
    kept: float
    means: Array


def augment(y: Array, level: ArrayLike, e: Array, mu: Array) -> Array:
    """Γ (n, L, q) = μ_l + 1[level = l]·(y - μ_l)/e_l (Robins, Rotnitzky & Zhao 1994; Cattaneo 2010, eq. 7).

    ``y`` (n, q), ``level`` (n,) from 0 to L - 1, ``e`` (n, L) the propensity of each level, ``mu`` (n, L, q).
    """
    own = np.asarray(level)[:, None] == np.arange(e.shape[1])
    with np.errstate(divide="ignore"):
        w = np.where(own, 1 / e, 0.0)
    return np.asarray(mu + w[:, :, None] * (y[:, None, :] - mu))


def level_sums(y: Array, level: ArrayLike, e: Array, mu: Array, keep: ArrayLike | None = None) -> Sums:
    """What a block adds to the means of all levels; ``keep`` (n,) of bool leaves rows out."""
    kept = _kept(len(y), keep)
    return Sums.of(n=len(y), kept=kept.sum(), total=augment(y, level, e, mu)[kept].sum(axis=0))


def level_solve(total: Sums) -> Augmented:
    """The means from the total of ``level_sums``; NaN without rows."""
    kept = total.number("kept")
    means = total["total"] / kept if kept else np.full_like(total["total"], np.nan)
    return Augmented(total.number("n"), kept, means)


def level_influence(
    y: Array, level: ArrayLike, e: Array, mu: Array, found: Augmented, keep: ArrayLike | None = None
) -> Array:
    """Influence (n, L, q) on each mean; that on a contrast is the difference of two. Σφ²/n² is the variance.

    Neither the propensity nor the regressions add to it, since the score is orthogonal to both where both are right.
    With one wrong the means still are, but this variance is not exact.
    """
    kept = _kept(len(y), keep)
    phi = augment(y, level, e, mu) - found.means
    return np.where(kept[:, None, None], phi, 0.0) * (found.n / found.kept)


@dataclass(frozen=True, eq=False)
class Effect:
    """Effect (q,) of a score that is linear in it, ``effect`` = Σ top / ``bottom``, over ``n`` rows."""

    n: float
    bottom: float
    effect: Array


def score(y: Array, t: ArrayLike, e: Array, mu: Array, estimand: Estimand) -> tuple[Array, Array]:
    """The orthogonal score of two levels, top (n, q) and bottom (n,): E[top - effect·bottom] = 0.

    top = h·(Γ₁ - Γ₀) + h'·(t - e)·(μ₁ - μ₀) and bottom = h + h'·(t - e) for the population of density h(e)
    (Hirano, Imbens & Ridder 2003, theorem 5). For ATT that is t·(y - μ₀) - (1 - t)·e/(1 - e)·(y - μ₀) and t, for ATO
    the bottom is (t - e)². ``e`` (n,) is the propensity of t = 1, ``mu`` (n, 2, q).
    """
    d = np.asarray(t, float)
    h, dh = tilt(e, estimand)
    with np.errstate(divide="ignore", invalid="ignore"):
        treated = np.where(d == 1, h / e, 0.0)
        control = np.where(d == 0, h / (1 - e), 0.0)
    bottom = h + dh * (d - e)
    residual = treated[:, None] * (y - mu[:, 1]) - control[:, None] * (y - mu[:, 0])
    return residual + bottom[:, None] * (mu[:, 1] - mu[:, 0]), bottom


def pair_sums(y: Array, t: ArrayLike, e: Array, mu: Array, estimand: Estimand, keep: ArrayLike | None = None) -> Sums:
    """What a block adds to the effect of two levels; ``keep`` (n,) of bool leaves rows out."""
    kept = _kept(len(y), keep)
    top, bottom = score(y, t, e, mu, estimand)
    return Sums.of(n=len(y), top=top[kept].sum(axis=0), bottom=bottom[kept].sum())


def pair_influence(
    y: Array, t: ArrayLike, e: Array, mu: Array, estimand: Estimand, found: Effect, keep: ArrayLike | None = None
) -> Array:
    """Influence (n, q) on the effect: Σφ = 0 and Σφ²/n² is its variance, as in ``level_influence``."""
    kept = _kept(len(y), keep)
    top, bottom = score(y, t, e, mu, estimand)
    return np.where(kept[:, None], top - bottom[:, None] * found.effect, 0.0) * (found.n / found.bottom)


def effect(total: Sums) -> Effect:
    """The effect from the total of ``pair_sums`` or ``partial_sums``; NaN if the bottom is not above 0."""
    bottom = total.number("bottom")
    value = total["top"] / bottom if bottom > 0 else np.full_like(total["top"], np.nan)
    return Effect(total.number("n"), bottom, value)


# the partially linear model -----------------------------------------------------------------------------------------


def partial_sums(y: Array, t: ArrayLike, fitted_y: Array, fitted_t: Array) -> Sums:
    """What a block adds to the slope of y - E[y|x] on t - E[t|x] (Robinson 1988; Chernozhukov et al. 2018, eq. 4.4).

    ``y`` and ``fitted_y`` (n, q), ``t`` and ``fitted_t`` (n,): 0/1 with a logistic fit, or numbers with least squares.
    """
    residual = np.asarray(t, float) - fitted_t
    return Sums.of(n=len(y), top=residual @ (y - fitted_y), bottom=residual @ residual)


def partial_influence(y: Array, t: ArrayLike, fitted_y: Array, fitted_t: Array, found: Effect) -> Array:
    """Influence (n, q) on the slope: Σφ = 0 and Σφ²/n² is its variance."""
    residual = (np.asarray(t, float) - fitted_t)[:, None]
    return residual * (y - fitted_y - residual * found.effect) * (found.n / found.bottom)


def _kept(n: int, keep: ArrayLike | None) -> NDArray[np.bool_]:
    return np.ones(n, bool) if keep is None else np.asarray(keep, bool)
