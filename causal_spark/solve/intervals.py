"""From an estimate and its standard error to a p-value and the interval that agrees with it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from scipy import special

Alternative = Literal["two-sided", "greater", "less"]


@dataclass(frozen=True)
class Test:
    """An estimate with its test of "no effect" and its confidence interval at ``1 - alpha``."""

    estimate: float
    std_error: float
    statistic: float
    dof: float
    p_value: float
    low: float
    high: float


def critical(alpha: float, dof: float = math.inf, alternative: Alternative = "two-sided") -> float:
    """Upper quantile of t (normal for infinite ``dof``) that bounds the interval."""
    tail = alpha / 2 if alternative == "two-sided" else alpha
    return float(-special.ndtri(tail) if math.isinf(dof) else -special.stdtrit(dof, tail))


def p_value(statistic: float, dof: float = math.inf, alternative: Alternative = "two-sided") -> float:
    """p-value of a t (normal for infinite ``dof``) statistic, always from the survival function.

    That is the distribution function at minus the statistic, which is exact far out where 1 - cdf is not.
    """
    if alternative == "two-sided":
        x, factor = abs(statistic), 2.0
    else:
        x, factor = (statistic if alternative == "greater" else -statistic), 1.0
    tail = special.ndtr(-x) if math.isinf(dof) else special.stdtr(dof, -x)
    return float(factor * tail)


def bounds(low: float, high: float, alternative: Alternative) -> tuple[float, float]:
    """The interval's ends; a one-sided interval is open on the side that is not tested."""
    if alternative == "greater":
        return low, math.inf
    if alternative == "less":
        return -math.inf, high
    return low, high


def wald(
    estimate: float,
    std_error: float,
    alpha: float,
    dof: float = math.inf,
    alternative: Alternative = "two-sided",
) -> Test:
    """t test (z for infinite ``dof``) of ``estimate`` = 0 and estimate ± critical · std_error.

    A standard error that is zero or not finite gives NaN for the test and the interval: there is nothing to test.
    """
    if not (std_error > 0 and math.isfinite(std_error) and dof > 0):
        nan = math.nan
        return Test(estimate, std_error, nan, nan, nan, nan, nan)
    statistic = estimate / std_error
    half = critical(alpha, dof, alternative) * std_error
    low, high = bounds(estimate - half, estimate + half, alternative)
    return Test(estimate, std_error, statistic, dof, p_value(statistic, dof, alternative), low, high)
