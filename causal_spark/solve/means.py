"""Means and ratios of means of a group, their covariance, and the comparison of two groups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from causal_spark.solve.intervals import Alternative, Test, wald
from causal_spark.statistics import Moments
from causal_spark.statistics.moments import Array


@dataclass(frozen=True)
class Form:
    """What is estimated from the columns: E[numerator], or E[numerator] / E[denominator]."""

    numerator: str
    denominator: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.numerator,) if self.denominator is None else (self.numerator, self.denominator)


@dataclass(frozen=True, eq=False)
class Values:
    """Estimates of q forms in one group: ``value`` (q,), ``vcov`` (q, q) of the estimator, ``n`` rows."""

    value: Array
    vcov: Array
    n: float

    def inflate(self, factor: float) -> Values:
        """The same estimates with their covariance times ``factor``."""
        return Values(self.value, self.vcov * factor, self.n)

    def combine(self, weights: Array, shift: float = 0.0) -> Values:
        """The linear combination weights·value + shift, as a single form."""
        w = np.asarray(weights, float)
        return Values(np.array([w @ self.value + shift]), np.array([[w @ self.vcov @ w]]), self.n)


@np.errstate(divide="ignore", invalid="ignore")
def jacobian(moments: Moments, forms: Sequence[Form]) -> Array:
    """Derivatives (q, p) of the forms with respect to the column means, at ``moments.mean``; NaN over a zero."""
    rows = np.zeros((len(forms), len(moments.names)))
    for row, form in zip(rows, forms, strict=True):
        top = moments.names.index(form.numerator)
        if form.denominator is None:
            row[top] = 1.0
            continue
        bottom = moments.names.index(form.denominator)
        size = moments.mean[bottom]
        row[top] = 1.0 / size
        row[bottom] -= moments.mean[top] / size**2
    rows[~np.isfinite(rows)] = np.nan
    return rows


def evaluate(moments: Moments, forms: Sequence[Form]) -> Values:
    """Value of each form with its covariance by the delta method: J·C·Jᵀ / n.

    Exact for means. For ratios: Deng, Knoblich & Lu (2018), eq. 2, which equals the variance of the
    linearised residual. A zero denominator gives NaN.
    """
    if moments.n == 0:
        q = len(forms)
        return Values(np.full(q, np.nan), np.full((q, q), np.nan), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = jacobian(moments, forms)
        mean = dict(zip(moments.names, moments.mean, strict=True))
        value = np.array([mean[f.numerator] / (1.0 if f.denominator is None else mean[f.denominator]) for f in forms])
        value[~np.isfinite(value)] = np.nan
        return Values(value, slope @ moments.covariance @ slope.T / moments.n, moments.n)


def welch_dof(variance_1: float, n_1: float, variance_2: float, n_2: float) -> float:
    """Degrees of freedom of Welch (1947), from the two squared standard errors; scale-free.

    Dividing by the larger variance first keeps the squares inside the range of doubles.
    """
    top = max(variance_1, variance_2)
    if not top > 0 or n_1 < 2 or n_2 < 2:
        return math.nan
    a, b = variance_1 / top, variance_2 / top
    return float((a + b) ** 2 / (a**2 / (n_1 - 1) + b**2 / (n_2 - 1)))


def difference(
    treatment: Values,
    control: Values,
    alpha: float = 0.05,
    alternative: Alternative = "two-sided",
    dof: float | None = None,
) -> Test:
    """t test and interval for the difference of two single-form groups; ``dof`` None is Welch's (1947)."""
    variance_t, variance_c = treatment.vcov[0, 0], control.vcov[0, 0]
    if dof is None:
        dof = welch_dof(variance_t, treatment.n, variance_c, control.n)
    error = math.sqrt(variance_t + variance_c) if variance_t + variance_c >= 0 else math.nan
    return wald(float(treatment.value[0] - control.value[0]), error, alpha, dof, alternative)


@dataclass(frozen=True)
class OneWay:
    """One-way analysis of variance: F with its degrees of freedom and p-value."""

    statistic: float
    dof_between: float
    dof_within: float
    p_value: float


def one_way(groups: Sequence[Moments]) -> OneWay:
    """F test that all groups (one column each) share a mean, from centred sums of squares (Fisher 1925).

    Groups without rows take no part. One group, no spare rows or no variance within gives NaN.
    """
    groups = [g for g in groups if g.n > 0] or list(groups[:1])
    total = sum(groups[1:], groups[0])
    within = float(sum(g.scatter[0, 0] for g in groups))
    between = float(sum(g.n * (g.mean[0] - total.mean[0]) ** 2 for g in groups))
    df_between, df_within = len(groups) - 1.0, total.n - len(groups)
    if not (df_between > 0 and df_within > 0 and within > 0):
        return OneWay(math.nan, df_between, df_within, math.nan)
    statistic = (between / df_between) / (within / df_within)
    return OneWay(statistic, df_between, df_within, float(stats.f.sf(statistic, df_between, df_within)))
