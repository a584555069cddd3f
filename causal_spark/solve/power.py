"""Sample size, smallest detectable effect and power of every kind of metric; each the exact inverse of the others.

Statistic: ``Moments`` of historic units (or clusters) with the metric's columns and its covariates, as the experiment
job compresses them. ``unit_variance`` reads from them the variance per unit v of any metric kind, so that
std_error² = v_t/n_t + v_c/n_c:

- mean: the sample variance; ratio: the variance of the linearised unit value (delta method);
- CUPED: of the adjusted value, (1 - ρ²) of it; clusters: the unit is the cluster, and sizes count clusters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scipy import optimize, stats

from causal_spark.errors import ConfigError, Phrase, StatisticError
from causal_spark.solve.intervals import Alternative
from causal_spark.solve.linear import cuped
from causal_spark.solve.means import Form, evaluate
from causal_spark.statistics import Moments

Formula = Literal["unpooled", "pooled", "control"]


@dataclass(frozen=True)
class Split:
    """Planned shares of the two arms that are compared, of all units of the experiment; they may sum to less than 1."""

    treatment: float = 0.5
    control: float = 0.5

    def __post_init__(self) -> None:
        if not (self.treatment > 0 and self.control > 0 and self.treatment + self.control <= 1 + 1e-9):
            got = [self.treatment, self.control]
            expected = Phrase("expected_shares_together")
            raise ConfigError("bad_number", where="method.shares", got=got, expected=expected)

    def variance(self, v_treatment: float, v_control: float) -> float:
        """std_error² times the number of all units."""
        return v_treatment / self.treatment + v_control / self.control


EQUAL = Split()


def unit_variance(moments: Moments, forms: Sequence[Form]) -> tuple[float, float]:
    """Variance per unit of the first form, adjusted by the others (CUPED), and ρ² (0 without covariates).

    Raises StatisticError if the metric has no variance or fewer than two units.
    """
    rho2 = 0.0
    values = evaluate(moments, list(forms[:1]))
    if len(forms) > 1:
        adjustment = cuped({"all": moments}, forms)
        values, rho2 = adjustment.groups["all"], adjustment.rho2
    variance = float(values.vcov[0, 0] * values.n)
    if not (variance > 0 and math.isfinite(variance)):
        raise StatisticError("no_variance", name=" / ".join(forms[0].columns), n=f"{moments.n:,.0f}")
    return variance, rho2


def design_effect(icc: float, mean_size: float, cv_size: float = 0.0) -> float:
    """Factor on the variance per unit when clusters are randomised: 1 + ((1 + cv²)·m - 1)·icc.

    Eldridge, Ashby & Kerry (2006); m = mean cluster size, cv = its coefficient of variation.
    """
    return 1 + ((1 + cv_size**2) * mean_size - 1) * icc


# means, ratios, adjusted means, clusters ----------------------------------------------------------------------------


def power(
    effect: float, units: float, v_treatment: float, v_control: float | None = None, split: Split = EQUAL,
    alpha: float = 0.05, alternative: Alternative = "two-sided",
) -> float:  # fmt: skip
    """Probability that a z test of ``units`` in all arms finds ``effect``, in its own direction.

    Φ(|effect|/se - z), se² = (v_t/share_t + v_c/share_c)/units (Kohavi, Tang & Xu 2020, ch. 17). Rejections on the
    wrong side do not count, which is what makes ``sample_size`` and ``mde`` exact inverses. An effect against a
    one-sided alternative has the power of its sign.
    """
    if not units > 0:
        return math.nan
    error = math.sqrt(split.variance(v_treatment, _same(v_control, v_treatment)) / units)
    signed = abs(effect) if alternative == "two-sided" else effect if alternative == "greater" else -effect
    return float(stats.norm.sf(_z(alpha, alternative) - signed / error))


def sample_size(
    effect: float, v_treatment: float, v_control: float | None = None, split: Split = EQUAL,
    alpha: float = 0.05, target: float = 0.8, alternative: Alternative = "two-sided",
) -> float:  # fmt: skip
    """Units in all arms that find ``effect`` with power ``target``: (z_α + z_β)²·(v_t/share_t + v_c/share_c)/effect².

    A real number; round each arm's share up. ``effect`` 0 needs infinitely many.
    """
    _check(alpha, target)
    if effect == 0:
        return math.inf
    scale = split.variance(v_treatment, _same(v_control, v_treatment))
    return float(_sum_z(alpha, target, alternative) ** 2 * scale / effect**2)


def mde(
    units: float, v_treatment: float, v_control: float | None = None, split: Split = EQUAL,
    alpha: float = 0.05, target: float = 0.8, alternative: Alternative = "two-sided",
) -> float:  # fmt: skip
    """Smallest effect (positive) that ``units`` in all arms find with power ``target``: (z_α + z_β)·se."""
    _check(alpha, target)
    if not units > 0:
        return math.nan
    scale = split.variance(v_treatment, _same(v_control, v_treatment))
    return float(_sum_z(alpha, target, alternative) * math.sqrt(scale / units))


# Student's t, for small samples ---------------------------------------------------------------------------------------


def power_t(effect: float, per_arm: float, variance: float, alpha: float = 0.05) -> float:
    """Power of the two-sided t test of two equal arms, upper tail of the non-central t (Cohen 1988, ch. 2)."""
    dof = 2 * (per_arm - 1)
    if not (dof > 0 and variance > 0):
        return math.nan
    shift, limit = abs(effect) * math.sqrt(per_arm / (2 * variance)), float(stats.t.isf(alpha / 2, dof))
    if dof > 1e5 or shift - limit > 7:  # there the non-central t loses its digits, and the normal has them
        return float(stats.norm.sf(limit - shift))
    return float(stats.nct.sf(limit, dof, shift))


def sample_size_t(effect: float, variance: float, alpha: float = 0.05, target: float = 0.8) -> float:
    """Units per arm of the t test; the inverse of ``power_t``."""
    _check(alpha, target)
    start = sample_size(effect, variance, alpha=alpha, target=target) / 2
    if not math.isfinite(start):
        return math.inf
    return float(
        optimize.brentq(lambda n: power_t(effect, n, variance, alpha) - target, max(1.05, 0.9 * start), start + 10)
    )


# proportions --------------------------------------------------------------------------------------------------------


def power_proportions(
    p_treatment: float, p_control: float, units: float, split: Split = EQUAL, alpha: float = 0.05,
    formula: Formula = "pooled", alternative: Alternative = "two-sided",
) -> float:  # fmt: skip
    """Power of the z test of two proportions, as ``sample_size_proportions`` names its formulas; NaN without units."""
    null, other = _proportion_variances(p_treatment, p_control, split, formula)
    if not units > 0:
        return math.nan
    gap = abs(p_treatment - p_control) * math.sqrt(units)
    return float(stats.norm.sf((_z(alpha, alternative) * math.sqrt(null) - gap) / math.sqrt(other)))


def sample_size_proportions(
    p_treatment: float, p_control: float, split: Split = EQUAL, alpha: float = 0.05, target: float = 0.8,
    formula: Formula = "pooled", alternative: Alternative = "two-sided",
) -> float:  # fmt: skip
    """Units in all arms: ((z_α·√v₀ + z_β·√v₁)/(p_t - p_c))², v₁ = p_t(1-p_t)/share_t + p_c(1-p_c)/share_c.

    v₀ under no effect: ``pooled`` at the mean share of both arms (Fleiss, Levin & Paik 2003, ch. 4), the z test of
    ``two_proportions``; ``unpooled`` v₁ itself; ``control`` at p_c in both arms (E. Miller's calculator).
    """
    _check(alpha, target)
    null, other = _proportion_variances(p_treatment, p_control, split, formula)
    if p_treatment == p_control:
        return math.inf
    top = _z(alpha, alternative) * math.sqrt(null) + float(stats.norm.isf(1 - target)) * math.sqrt(other)
    return float((top / (p_treatment - p_control)) ** 2)


def mde_proportions(
    p_control: float, units: float, split: Split = EQUAL, alpha: float = 0.05, target: float = 0.8,
    formula: Formula = "pooled", alternative: Alternative = "two-sided",
) -> float:  # fmt: skip
    """Smallest increase of a share that ``units`` find with power ``target``; NaN if no increase up to 1 is found."""
    _check(alpha, target)

    def short(effect: float) -> float:
        return power_proportions(p_control + effect, p_control, units, split, alpha, formula, alternative) - target

    most = (1 - p_control) * (1 - 1e-12)
    if not (units > 0 and 0 < p_control < 1 and short(most) > 0):
        return math.nan
    return float(optimize.brentq(short, 1e-12 * most, most, xtol=1e-16, rtol=1e-14, maxiter=500))


def _proportion_variances(p_t: float, p_c: float, split: Split, formula: Formula) -> tuple[float, float]:
    if not (0 <= p_t <= 1 and 0 <= p_c <= 1):
        raise ConfigError("bad_number", where="method.effect", got=[p_t, p_c], expected=Phrase("expected_shares"))
    other = split.variance(p_t * (1 - p_t), p_c * (1 - p_c))
    mixed = (split.treatment * p_t + split.control * p_c) / (split.treatment + split.control)
    p = p_c if formula == "control" else mixed
    null = other if formula == "unpooled" else split.variance(p * (1 - p), p * (1 - p))
    if not other > 0:
        raise StatisticError("no_variance", name=Phrase("name_proportion"), n="?")
    return null, other


# non-inferiority, equivalence -----------------------------------------------------------------------------------------


def power_non_inferiority(
    margin: float, units: float, v_treatment: float, v_control: float | None = None, split: Split = EQUAL,
    alpha: float = 0.025, effect: float = 0.0,
) -> float:  # fmt: skip
    """Power of a guardrail: to show, at one-sided ``alpha``, that the metric is worse by less than ``margin`` > 0.

    ``effect`` is the true effect, positive if good. Superiority against -margin; sizes by
    ``sample_size(effect + margin, ..., alternative="greater")`` (Chow, Shao & Wang 2008, ch. 3).
    """
    if not margin > 0:
        raise ConfigError("bad_margin", got=margin)
    return power(effect + margin, units, v_treatment, v_control, split, alpha, "greater")


def power_equivalence(
    margin: float, units: float, v_treatment: float, v_control: float | None = None, split: Split = EQUAL,
    alpha: float = 0.05, effect: float = 0.0,
) -> float:  # fmt: skip
    """Power of two one-sided tests at ``alpha`` each to show |effect| < margin; Chow, Shao & Wang (2008), ch. 3.

    NaN without units.
    """
    if not margin > 0:
        raise ConfigError("bad_margin", got=margin)
    if not units > 0:
        return math.nan
    error = math.sqrt(split.variance(v_treatment, _same(v_control, v_treatment)) / units)
    z = _z(alpha, "greater")
    upper, lower = (margin - effect) / error - z, (margin + effect) / error - z
    return max(0.0, float(stats.norm.cdf(upper) - stats.norm.sf(lower)))


def sample_size_equivalence(
    margin: float, v_treatment: float, v_control: float | None = None, split: Split = EQUAL,
    alpha: float = 0.05, target: float = 0.8, effect: float = 0.0,
) -> float:  # fmt: skip
    """Units in all arms at which ``power_equivalence`` is ``target``; infinite if the true effect is not inside."""
    _check(alpha, target)
    if not margin > 0:
        raise ConfigError("bad_margin", got=margin)
    if abs(effect) >= margin:
        return math.inf

    def short(log_units: float) -> float:
        units = math.exp(log_units)
        return power_equivalence(margin, units, v_treatment, v_control, split, alpha, effect) - target

    scale = split.variance(v_treatment, _same(v_control, v_treatment)) / (margin - abs(effect)) ** 2
    return math.exp(optimize.brentq(short, math.log(scale * 1e-3), math.log(scale * 1e4), xtol=1e-13))


def smallest_margin(
    units: float, v_treatment: float, v_control: float | None = None, split: Split = EQUAL,
    alpha: float = 0.05, target: float = 0.8,
) -> float:  # fmt: skip
    """The equivalence margin at which ``power_equivalence`` is ``target`` for no effect: (z_α + z_{β/2})·se."""
    _check(alpha, target)
    if not units > 0:
        return math.nan
    error = math.sqrt(split.variance(v_treatment, _same(v_control, v_treatment)) / units)
    return (_z(alpha, "greater") + float(stats.norm.isf((1 - target) / 2))) * error


def _same(value: float | None, other: float) -> float:
    return other if value is None else value


def _z(alpha: float, alternative: Alternative) -> float:
    return float(stats.norm.isf(alpha / 2 if alternative == "two-sided" else alpha))


def _sum_z(alpha: float, target: float, alternative: Alternative) -> float:
    return _z(alpha, alternative) + float(stats.norm.isf(1 - target))


def _check(alpha: float, target: float) -> None:
    for name, value in (("alpha", alpha), ("power", target)):
        if not 0 < value < 1:
            raise ConfigError(
                "bad_number", where=f"method.{name}", got=value, expected=Phrase("expected_between", low=0, high=1)
            )
    if target <= alpha:
        raise ConfigError(
            "bad_number", where="method.power", got=target, expected=Phrase("expected_above_alpha", alpha=alpha)
        )
