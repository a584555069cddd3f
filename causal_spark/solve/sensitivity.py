"""How strong an unmeasured confounder would have to be: E-values, Rosenbaum's Γ, robustness values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from causal_spark.errors import ConfigError
from causal_spark.solve.intervals import Test, critical, wald

Scale = Literal["risk_ratio", "rare_odds_ratio", "odds_ratio", "smd"]


# E-values -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EValue:
    """E-value of the estimate, and of the confidence limit nearer the null: 1 if the interval holds the null."""

    estimate: float
    limit: float


def e_value(estimate: float, low: float = math.nan, high: float = math.nan, scale: Scale = "risk_ratio") -> EValue:
    """RR + √(RR(RR - 1)) of the risk ratio or its inverse, whichever is above 1 (VanderWeele & Ding 2017, table 1).

    The smallest risk ratio that an unmeasured confounder must have with both the treatment and the outcome, beyond
    the covariates, to explain the estimate away. ``estimate`` and the interval ``low``, ``high`` are on ``scale``:
    a risk ratio; an odds ratio of an outcome that less than 15 % have (``rare_odds_ratio``, taken as it is) or of
    any other (``odds_ratio``, its square root); or a standardised mean difference d (``smd``, exp(0.91 d)).
    NaN for a ratio below 0, and for the limit where there is no interval.
    """
    ratio = _risk_ratio(estimate, scale)
    nearer = max(_risk_ratio(low, scale), 1.0) if ratio >= 1 else min(_risk_ratio(high, scale), 1.0)
    return EValue(_e_value(ratio), _e_value(nearer) if ratio >= 0 else math.nan)


def _risk_ratio(value: float, scale: Scale) -> float:
    if scale == "smd":
        with np.errstate(over="ignore"):
            return float(np.exp(0.91 * value))
    if scale == "odds_ratio":
        return math.copysign(math.sqrt(abs(value)), value)
    return value


def _e_value(ratio: float) -> float:
    if not ratio >= 0:
        return math.nan
    if ratio == 0:
        return math.inf
    away = max(ratio, 1 / ratio)
    return away + math.sqrt(away) * math.sqrt(away - 1)


# Rosenbaum's Γ ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SignedRanks:
    """Of the pairs whose difference is not zero: how many, the sum of the ranks of the positive ones, Σrank, Σrank²."""

    pairs: int
    statistic: float
    total: float
    square: float


def signed_ranks(differences: ArrayLike) -> SignedRanks:
    """Wilcoxon's signed ranks of the differences of pairs (n,), treated minus control.

    Zeros are dropped, equal absolute differences share their mean rank. A NaN makes everything NaN.
    The bounds below are for an effect above zero; for one below, give the differences with their signs changed.
    """
    d = np.asarray(differences, float)
    d = d[d != 0]
    ranks = stats.rankdata(np.abs(d))
    return SignedRanks(len(d), float(ranks @ (d > 0)), float(ranks.sum()), float(ranks @ ranks))


def signed_rank_p(ranks: SignedRanks, gamma: float = 1.0) -> float:
    """Largest one-sided p-value if hidden bias multiplies the odds of treatment within a pair by at most ``gamma``.

    With p⁺ = Γ/(1 + Γ) the statistic has at most the mean p⁺Σrank and then the variance p⁺(1 - p⁺)Σrank²; normal
    approximation without continuity correction (Rosenbaum 2002, §4.3.3). Γ = 1 is Wilcoxon's test. No pairs: NaN.
    """
    share = _share(gamma)
    variance = share * (1 - share) * ranks.square
    return float(stats.norm.sf((ranks.statistic - share * ranks.total) / math.sqrt(variance))) if variance else math.nan


def signed_rank_gamma(ranks: SignedRanks, alpha: float = 0.05) -> float:
    """Largest Γ at which ``signed_rank_p`` ≤ ``alpha``; NaN if it is above already without hidden bias.

    (W - pS)² = z² p(1 - p) Q is a quadratic in p, and p falls as Γ grows, so nothing needs to be searched.
    """
    w, s = ranks.statistic, ranks.total
    z = float(stats.norm.isf(alpha))
    spread = z * z * ranks.square
    if not s > 0:
        return math.nan
    root = z * math.sqrt(ranks.square) * math.sqrt(spread + 4 * w * (s - w))
    return _odds((2 * w * s + spread - root) / (2 * (s * s + spread)))


def mcnemar_p(treated_only: int, control_only: int, gamma: float = 1.0) -> float:
    """``signed_rank_p`` for a 0/1 outcome: the exact binomial tail of the discordant pairs (Rosenbaum 2002, §4.3.2).

    ``treated_only`` is the number of pairs in which the treated unit alone has the outcome, ``control_only`` the
    other way round. Γ = 1 is McNemar's exact test, one-sided; for signs of differences it is the sign test.
    """
    pairs = treated_only + control_only
    return float(stats.binom.sf(treated_only - 1, pairs, _share(gamma))) if pairs else math.nan


def mcnemar_gamma(treated_only: int, control_only: int, alpha: float = 0.05) -> float:
    """Largest Γ at which ``mcnemar_p`` ≤ ``alpha``: the odds of the lower limit of Clopper & Pearson (1934).

    NaN if the p-value is above ``alpha`` already without hidden bias.
    """
    return _odds(float(special.betaincinv(treated_only, control_only + 1, alpha))) if treated_only else math.nan


def _share(gamma: float) -> float:
    if not 1 <= gamma < math.inf:
        raise ConfigError("sensitivity_gamma", got=gamma)
    return gamma / (1 + gamma)


def _odds(share: float) -> float:
    """The odds of a ``share`` as a Γ: NaN below 1 (a rounding below it counts as 1)."""
    if not share >= 0.5 * (1 - 1e-12):
        return math.nan
    return max(share / (1 - share), 1.0) if share < 1 else math.inf


# omitted variables of a regression ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Robustness:
    """Partial R² of the treatment with the outcome, and the robustness values of the estimate and of its test."""

    partial_r2: float
    value: float
    value_alpha: float


@dataclass(frozen=True)
class Confounder:
    """Strength of an unmeasured confounder, given the covariates: its partial R² with the treatment, and with the
    outcome given the treatment as well."""

    r2_treatment: float
    r2_outcome: float


def partial_r2(estimate: float, std_error: float, dof: float) -> float:
    """t²/(t² + dof) of a coefficient with its classical standard error (Cinelli & Hazlett 2020, §4.1); else NaN."""
    if not _usable(std_error, dof):
        return math.nan
    statistic = estimate / std_error
    return statistic**2 / (statistic**2 + dof)


def robustness(estimate: float, std_error: float, dof: float, q: float = 1.0, alpha: float = 0.05) -> Robustness:
    """Robustness values of a regression coefficient (Cinelli & Hazlett 2020, eq. 19–20).

    ``value``: a confounder whose partial R² with treatment and outcome are both below it cannot lower the estimate by
    the share ``q``; ``value_alpha``: nor make it differ from (1 - q)·estimate by less than what is significant at
    ``alpha``. 0: it is not significant as it is. Where the test is helped most by a confounder weaker in the outcome
    than in the treatment (|f| above 1/f*), the latter is (f² - f*²)/(1 + f²) (Cinelli & Hazlett 2025).
    ``std_error`` is the classical one of least squares with ``dof`` residual degrees of freedom; NaN if it is not
    positive, or dof is not above 1 and finite.
    """
    if not _usable(std_error, dof):
        return Robustness(math.nan, math.nan, math.nan)
    f = q * abs(estimate / std_error) / math.sqrt(dof)
    needed = critical(alpha, dof - 1) / math.sqrt(dof - 1)
    if f * needed > 1 and f > needed:
        tested = (f * f - needed * needed) / (1 + f * f)
    else:
        tested = _equal_strength(max(f - needed, 0.0))
    return Robustness(partial_r2(estimate, std_error, dof), _equal_strength(f), tested)


def _equal_strength(f: float) -> float:
    """The r with r²/(1 - r) = f²: (√(f⁴ + 4f²) - f²)/2, written so that a large f loses no digits."""
    return 2 / (1 + math.sqrt(1 + 4 / (f * f))) if f * f > 0 else 0.0


def adjusted(estimate: float, std_error: float, dof: float, confounder: Confounder, alpha: float = 0.05) -> Test:
    """What the estimate, its error, test and interval would be with the ``confounder`` in the regression.

    Bias se·√dof·√(R²_y R²_d/(1 - R²_d)), towards zero and past it, and error se·√((1 - R²_y)/(1 - R²_d)·dof/(dof - 1))
    (Cinelli & Hazlett 2020, eq. 11–12); one degree of freedom less. NaN as in ``robustness``, and without a test where
    R²_y is 1. ConfigError for an R² outside of 0 to 1.
    """
    d = _checked("r2_treatment", confounder.r2_treatment)
    y = confounder.r2_outcome if confounder.r2_outcome == 1 else _checked("r2_outcome", confounder.r2_outcome)
    if not _usable(std_error, dof):
        return wald(math.nan, math.nan, alpha)
    bias = std_error * math.sqrt(dof * y * d / (1 - d))
    error = std_error * math.sqrt((1 - y) / (1 - d) * dof / (dof - 1))
    return wald(estimate - math.copysign(bias, estimate), error, alpha, dof - 1)


def benchmark(covariate: Confounder, times_treatment: float = 1.0, times_outcome: float = 1.0) -> Confounder:
    """Bounds of a confounder so many times as strong as a ``covariate`` (Cinelli & Hazlett 2020, §4.4, appendix B).

    ``covariate`` holds its partial R² with the treatment given the other covariates, and with the outcome given these
    and the treatment. The bound of the outcome is at most 1. ConfigError for an R² outside of 0 to 1, and for a factor
    that would explain all of the treatment.
    """
    d, y = _checked("r2_treatment", covariate.r2_treatment), _checked("r2_outcome", covariate.r2_outcome)
    bound = times_treatment * d / (1 - d)
    if bound >= 1:
        raise ConfigError("sensitivity_benchmark", times=times_treatment, r2=d, most=(1 - d) / d)
    # Partial R² of the confounder with the covariate, both given the treatment, which makes them dependent.
    shared = times_treatment * d * d / ((1 - times_treatment * d) * (1 - d))
    factor = (math.sqrt(times_outcome) + math.sqrt(shared)) / math.sqrt(1 - shared)
    return Confounder(bound, min(factor * factor * y / (1 - y), 1.0))


def _usable(std_error: float, dof: float) -> bool:
    return 0 < std_error < math.inf and 1 < dof < math.inf


def _checked(where: str, r2: float) -> float:
    if r2 < 0 or r2 >= 1:
        raise ConfigError("sensitivity_r2", where=where, got=r2)
    return r2
