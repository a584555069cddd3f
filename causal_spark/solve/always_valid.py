"""Inference that holds at every look: normal-mixture e-values, p-values and confidence sequences.

Statistic: none beyond the fixed test. A look needs the estimate, its standard error, and (to choose τ) the number of
units so far and planned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import optimize, special

from causal_spark.errors import ConfigError, Phrase
from causal_spark.solve.intervals import Alternative, bounds


@dataclass(frozen=True)
class AlwaysValid:
    """An estimate with its e-value, the p-value min(1, 1/e) and a bound of the confidence sequence."""

    estimate: float
    std_error: float
    tau: float
    e_value: float
    p_value: float
    low: float
    high: float


def mixing_variance(variance: float, n: float, planned: float, alpha: float = 0.05, sides: int = 2) -> float:
    """τ, the variance of the effect in the mixture, that makes the sequence narrow at ``planned`` units.

    τ = ρ²·V·n with ρ² = (-2 ln α + ln(1 - 2 ln α)) / planned (Waudby-Smith et al. 2021, eq. 9), where V = ``variance``
    is std_error² at ``n`` units. V·n hardly changes between looks, so τ is fixed by the plan; a one-sided sequence
    takes 2α.
    """
    if not (planned > 0 and 0 < alpha < 1):
        raise ConfigError(
            "bad_number", where="method.sequential.units", got=planned, expected=Phrase("expected_above_0")
        )
    log = -2 * math.log(min(alpha * (3 - sides), 1.0))
    return (log + math.log1p(log)) / planned * variance * n


def always_valid(
    estimate: float, std_error: float, tau: float, alpha: float = 0.05, alternative: Alternative = "two-sided"
) -> AlwaysValid:
    """Mixture sequential test of effect 0 and its confidence sequence (Robbins 1970; Johari et al. 2017).

    Two-sided with V = std_error²: e = √(V/(V+τ))·exp(τd²/(2V(V+τ))), half-width √(V(V+τ)/τ·(2 ln(1/α) + ln((V+τ)/V))).
    One-sided: the mixture over effects of the tested sign only, so that e stays small under any effect of the other.
    ``τ`` must not depend on the data of the looks. A standard error of 0, or not finite, gives NaN.
    """
    if not (std_error > 0 and math.isfinite(std_error) and tau > 0 and math.isfinite(estimate)):
        nan = math.nan
        return AlwaysValid(estimate, std_error, tau, nan, nan, nan, nan)
    v = std_error**2
    if alternative == "two-sided":
        log_e = _log_e(estimate, v, tau)
        half = math.sqrt(v * (v + tau) / tau * (2 * math.log(1 / alpha) + math.log1p(tau / v)))
    else:
        log_e = _log_e_one_sided(estimate if alternative == "greater" else -estimate, v, tau)
        half = _one_sided_width(v, tau, alpha)
    low, high = bounds(estimate - half, estimate + half, alternative)
    e = math.exp(min(log_e, 700.0))
    return AlwaysValid(estimate, std_error, tau, e, min(1.0, math.exp(-log_e)) if log_e > 0 else 1.0, low, high)


def _log_e(d: float, v: float, tau: float) -> float:
    return -0.5 * math.log1p(tau / v) + tau * d * d / (2 * v * (v + tau))


def _log_e_one_sided(d: float, v: float, tau: float) -> float:
    scaled = d * math.sqrt(tau / (v * (v + tau)))
    return _log_e(d, v, tau) + math.log(2) + float(special.log_ndtr(scaled))


def _one_sided_width(v: float, tau: float, alpha: float) -> float:
    root = math.sqrt(v * (v + tau) / tau)
    most = root * math.sqrt(2 * math.log(2 / alpha) + math.log1p(tau / v))
    least = -20 * root

    def excess(d: float) -> float:
        return _log_e_one_sided(d, v, tau) + math.log(alpha)

    return float(optimize.brentq(excess, least, most, xtol=1e-14 * most))
