"""Logistic regression of conversion on which channels a journey met, from counts of channel sets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from causal_spark.errors import StatisticError
from causal_spark.statistics.moments import Array


@dataclass(frozen=True, eq=False)
class Presence:
    """Coefficients on the log-odds: ``intercept`` and ``slopes`` (n,), with the covariance (n + 1, n + 1) of both."""

    intercept: float
    slopes: Array
    vcov: Array


def fit(present: ArrayLike, successes: ArrayLike, trials: ArrayLike, ridge: float = 0.5) -> Presence:
    """Newton's method for binomial counts of m channel sets: ``present`` (m, n), ``successes``, ``trials`` (m,).

    ``ridge`` is the penalty ½·ridge·Σ slope² in units of journeys: negligible with data, and what keeps a channel
    that always or never converts finite. Where all or none convert, no channel has a slope. Raises StatisticError if
    it does not converge.
    """
    x = np.column_stack([np.ones(len(np.asarray(successes))), np.asarray(present, float)])
    y, n = np.asarray(successes, float), np.asarray(trials, float)
    penalty = np.full(x.shape[1], ridge)
    penalty[0] = 0.0
    beta = np.zeros(x.shape[1])
    rate = (y.sum() + 0.5) / (n.sum() + 1)
    beta[0] = np.log(rate / (1 - rate))
    if not 0 < y.sum() < n.sum():
        return Presence(float(beta[0]), beta[1:], np.full((len(beta), len(beta)), np.nan))
    bread = np.eye(len(beta))
    for _ in range(200):
        p = 1 / (1 + np.exp(-(x @ beta)))
        bread = (x * (n * p * (1 - p))[:, None]).T @ x + np.diag(penalty)
        step = np.linalg.solve(bread, x.T @ (y - n * p) - penalty * beta)
        size = float(np.abs(step).max())
        beta = beta + step * min(1.0, 2.0 / max(size, 1e-300))
        if size < 1e-10:
            return Presence(float(beta[0]), beta[1:], np.linalg.inv(bread))
    raise StatisticError("presence_not_converged")


def lost(model: Presence, present: ArrayLike) -> Array:
    """What the probability of each set loses without each of its channels, (m, n): p(S) − p(S without it)."""
    x = np.asarray(present, float)
    odds = model.intercept + x @ model.slopes
    less = 1 / (1 + np.exp(-(odds[:, None] - x * model.slopes)))
    return np.asarray((1 / (1 + np.exp(-odds)))[:, None] - less)
