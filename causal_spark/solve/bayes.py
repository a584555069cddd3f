"""Bayesian reading of an effect: normal prior on the effect, and two proportions with beta priors.

Statistic: none beyond the fixed test (estimate and std_error), or successes and units of two arms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from causal_spark.errors import ConfigError, Phrase


@dataclass(frozen=True)
class Posterior:
    """``p_win`` = P(effect > 0); expected losses of choosing treatment or control; credible interval."""

    mean: float
    std_dev: float
    p_win: float
    loss_treatment: float
    loss_control: float
    low: float
    high: float


@dataclass(frozen=True)
class Prior:
    """Normal prior of the effect; ``std_dev`` infinite is flat. ``relative``: it is one of the lift."""

    mean: float = 0.0
    std_dev: float = math.inf
    relative: bool = True

    def on(self, relative: bool, control_mean: float) -> Prior:
        """The same prior for the scale that is analysed: a difference is the lift times the control mean.

        A control mean of 0 has no lift: NaN.
        """
        if relative == self.relative or math.isinf(self.std_dev):
            return Prior(self.mean if relative == self.relative else 0.0, self.std_dev, relative)
        if control_mean == 0:
            return Prior(math.nan, math.nan, relative)
        factor = 1 / control_mean if relative else control_mean
        return Prior(self.mean * factor, self.std_dev * abs(factor), relative)


def normal_posterior(estimate: float, std_error: float, prior: Prior, alpha: float = 0.05) -> Posterior:
    """Conjugate update of a normal effect (Gelman et al. 2013, ch. 2); the prior on the scale of the estimate.

    loss_treatment = E[max(0, -effect)], loss_control = E[max(0, effect)]. A standard error of 0, or a
    prior that could not be rescaled, gives NaN.
    """
    if not (std_error > 0 and math.isfinite(std_error)) or math.isnan(prior.std_dev):
        return Posterior(estimate, *(math.nan,) * 6)
    if not prior.std_dev > 0:
        raise ConfigError(
            "bad_number", where="method.prior.std_dev", got=prior.std_dev, expected=Phrase("expected_above_0")
        )
    share = 1.0 if math.isinf(prior.std_dev) else prior.std_dev**2 / (prior.std_dev**2 + std_error**2)
    mean, sd = share * estimate + (1 - share) * prior.mean, std_error * math.sqrt(share)
    z = mean / sd
    density = float(stats.norm.pdf(z))
    loss_t, loss_c = sd * density - mean * float(stats.norm.sf(z)), sd * density + mean * float(stats.norm.cdf(z))
    half = float(stats.norm.isf(alpha / 2)) * sd
    win = float(stats.norm.sf(-z))
    return Posterior(mean, sd, win, max(loss_t, 0.0), max(loss_c, 0.0), mean - half, mean + half)


def power_posterior(effect: float, std_error: float, prior: Prior, alpha: float = 0.05) -> float:
    """Probability that the credible interval will exclude 0 on either side, if the true effect is ``effect``.

    The posterior mean is normal with mean share·effect + (1 - share)·prior mean and standard deviation
    share·std_error, where share = prior variance / (prior variance + std_error²).
    """
    share = 1.0 if math.isinf(prior.std_dev) else prior.std_dev**2 / (prior.std_dev**2 + std_error**2)
    mean, sd = share * effect + (1 - share) * prior.mean, share * std_error
    half = float(stats.norm.isf(alpha / 2)) * std_error * math.sqrt(share)
    return float(stats.norm.sf((half - mean) / sd) + stats.norm.sf((half + mean) / sd))


def beta_binomial(
    success_t: float, n_t: float, success_c: float, n_c: float, prior: tuple[float, float] = (1.0, 1.0),
    alpha: float = 0.05,
) -> Posterior:  # fmt: skip
    """Posterior of the difference of two proportions with independent Beta priors, by Gauss–Legendre quadrature."""
    if not (prior[0] > 0 and prior[1] > 0):
        raise ConfigError("bad_number", where="method.prior", got=list(prior), expected=Phrase("expected_two_above_0"))
    t = stats.beta(prior[0] + success_t, prior[1] + n_t - success_t)
    c = stats.beta(prior[0] + success_c, prior[1] + n_c - success_c)
    x, w = _nodes(t, c)
    dt, dc = w * t.pdf(x), w * c.pdf(x)
    win = min(float(dt @ c.cdf(x)), 1.0)  # the quadrature is good to 1e-13
    loss_t, loss_c = float(w @ (t.cdf(x) * c.sf(x))), float(w @ (c.cdf(x) * t.sf(x)))
    sd = math.sqrt(t.var() + c.var())

    def quantile(share: float) -> float:
        return float(optimize.brentq(lambda d: float(dc @ t.cdf(x + d)) - share, -1.0, 1.0, xtol=1e-12))

    return Posterior(float(t.mean() - c.mean()), sd, win, loss_t, loss_c, quantile(alpha / 2), quantile(1 - alpha / 2))


def _nodes(*parts: object) -> tuple[np.ndarray, np.ndarray]:
    """32 nodes in each part between some quantiles of both distributions."""
    shares = np.concatenate([[1e-14, 1e-9, 1e-5], np.linspace(0.001, 0.999, 19), [1 - 1e-5, 1 - 1e-9, 1 - 1e-14]])
    cuts = np.unique(np.concatenate([[0.0, 1.0], *(part.ppf(shares) for part in parts)]))  # type: ignore[attr-defined]
    x, w = np.polynomial.legendre.leggauss(32)
    middle, half = (cuts[1:] + cuts[:-1]) / 2, np.diff(cuts) / 2
    return (middle[:, None] + half[:, None] * x).ravel(), (half[:, None] * w).ravel()
