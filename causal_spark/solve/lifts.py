"""The relative lift of a treatment mean over a control mean, three ways."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from causal_spark.solve.intervals import Alternative, Test, bounds, critical, p_value, wald
from causal_spark.solve.means import Values, welch_dof

LiftMethod = Literal["fieller", "log", "delta"]


def lift(
    treatment: Values,
    control: Values,
    method: LiftMethod = "fieller",
    alpha: float = 0.05,
    alternative: Alternative = "two-sided",
    dof: float | None = None,
) -> Test:
    """treatment / control - 1 with its interval and test; ``dof`` None is Welch's (for ``log`` that of
    the logarithms), ``math.inf`` the normal.

    The standard error is always that of the delta method. ``fieller`` tests the difference itself, so that
    interval and test agree with the absolute comparison by construction; ``log`` and ``delta`` each test
    their own scale. A control mean of zero gives NaN.
    """
    m_t, m_c = float(treatment.value[0]), float(control.value[0])
    v_t, v_c = float(treatment.vcov[0, 0]), float(control.vcov[0, 0])
    if dof is None:
        logarithmic = method == "log" and m_t > 0 and m_c > 0
        square_t, square_c = (m_t**2, m_c**2) if logarithmic else (1.0, 1.0)
        dof = welch_dof(v_t / square_t, treatment.n, v_c / square_c, control.n)
    nan = math.nan
    if not (m_c != 0 and math.isfinite(m_c) and math.isfinite(m_t) and v_t + v_c > 0 and dof > 0):
        estimate = m_t / m_c - 1 if m_c != 0 else nan
        return Test(estimate, nan, nan, nan, nan, nan, nan)
    estimate = (m_t - m_c) / m_c
    error = math.sqrt(v_t / m_c**2 + (m_t / m_c**2) ** 2 * v_c)
    if method == "fieller":
        return _fieller(m_t, v_t, m_c, v_c, alpha, alternative, dof, estimate, error)
    if method == "log":
        return _log_ratio(m_t, v_t, m_c, v_c, alpha, alternative, dof, estimate, error)
    return wald(estimate, error, alpha, dof, alternative)


def _fieller(
    m_t: float, v_t: float, m_c: float, v_c: float,
    alpha: float, alternative: Alternative, dof: float, estimate: float, error: float,
) -> Test:  # fmt: skip
    """Fieller (1954): all lifts ρ that (m_t - (1 + ρ) m_c) / se does not reject, independent groups.

    With g = q² v_c / m_c² ≥ 1 the control mean itself is not distinguishable from zero and the set is
    unbounded: the interval is NaN.
    """
    statistic = (m_t - m_c) / math.sqrt(v_t + v_c) * math.copysign(1.0, m_c)
    p = p_value(statistic, dof, alternative)
    q = critical(alpha, dof, alternative)
    g = q**2 * v_c / m_c**2
    if g >= 1:
        return Test(estimate, error, statistic, dof, p, math.nan, math.nan)
    ratio = m_t / m_c
    half = q / abs(m_c) * math.sqrt(v_t * (1 - g) + ratio**2 * v_c)
    low, high = bounds((ratio - half) / (1 - g) - 1, (ratio + half) / (1 - g) - 1, alternative)
    return Test(estimate, error, statistic, dof, p, low, high)


def _log_ratio(
    m_t: float, v_t: float, m_c: float, v_c: float,
    alpha: float, alternative: Alternative, dof: float, estimate: float, error: float,
) -> Test:  # fmt: skip
    """Normal theory for log(m_t / m_c); needs both means positive."""
    if m_t <= 0 or m_c <= 0:
        return Test(estimate, error, math.nan, math.nan, math.nan, math.nan, math.nan)
    log = wald(math.log(m_t / m_c), math.sqrt(v_t / m_t**2 + v_c / m_c**2), alpha, dof, alternative)
    with np.errstate(over="ignore"):
        low, high = float(np.expm1(log.low)), float(np.expm1(log.high))
    return Test(estimate, error, log.statistic, dof, log.p_value, *bounds(low, high, alternative))
