"""Quantiles of a group and their difference between two groups, with standard errors, from a histogram.

Statistic, scan 1: ``Histogram`` of the fixed-point values by arm (segment): group-by of (arm, cell) with a count;
merges by adding. Exact while the distinct values fit on the driver (bits = 62); else declare fewer bits, and each
estimate is uncertain by ``resolution``, half the width of its cell.
Clusters (several events of a unit, several units of a cluster), scan 2, once the quantile x of each arm is known:
``Moments`` over units of the two columns (events at or below x, events); their ratio's variance is ``share_variance``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from causal_spark.errors import ConfigError, StatisticError
from causal_spark.solve.intervals import Alternative, Test, bounds, critical, p_value
from causal_spark.solve.means import Form, evaluate
from causal_spark.statistics import Moments
from causal_spark.statistics.histogram import Histogram
from causal_spark.statistics.moments import Array

LIKELY = 1e-14  # mass of a bootstrap distribution that may be left out
Law = tuple[Array, Array, Array]  # ascending values, their probabilities, the sums of these up to each, from 0 on


@dataclass(frozen=True)
class Quantile:
    """The quantile of one group, its standard error and interval; ``resolution`` = half the width of its cell."""

    q: float
    estimate: float
    std_error: float
    low: float
    high: float
    n: float
    resolution: float = 0.0

    @property
    def below(self) -> float:
        return self.estimate - self.low

    @property
    def above(self) -> float:
        return self.high - self.estimate


def least_n(q: float, alpha: float = 0.05) -> float:
    """Units below which the order statistics hold no interval for the quantile: z²·max(q/(1-q), (1-q)/q)."""
    _check(q)
    return critical(alpha) ** 2 * max(q / (1 - q), (1 - q) / q)


def quantile(h: Histogram, q: float, alpha: float = 0.05, share_variance: float | None = None) -> Quantile:
    """The order statistic of rank ceil(q·n), with the interval of Woodruff (1952).

    Bounds are the order statistics at q ± z·√V, where V = q(1-q)/n, or ``share_variance``, the cluster-robust
    variance of the share at or below the quantile (Deng, Knoblich & Lu 2018): the standard error is then
    σ_iid·σ_cluster/σ_independent, since it scales with √V. std_error = (high - low)/2z; NaN where bounds coincide.
    Raises ConfigError for q outside (0, 1), StatisticError below ``least_n`` units.
    """
    _check(q)
    variance = q * (1 - q) / max(h.n, 1) if share_variance is None else share_variance
    least = least_n(q, alpha)
    if h.n < least:
        raise StatisticError("quantile_few_units", q=f"{q:g}", n=h.n, least=math.ceil(least))
    z = critical(alpha)
    half = z * math.sqrt(variance)
    middle, low, high = (_at(h, share) for share in (q, q - half, q + half))
    if share_variance is not None and not (half < min(q, 1 - q)):
        low, high = (math.nan, math.nan), (math.nan, math.nan)
    error = (high[0] - low[0]) / (2 * z)
    return Quantile(q, middle[0], error if error > 0 else math.nan, low[0], high[0], float(h.n), middle[1])


def from_bounds(q: float, estimate: float, low: float, high: float, n: float, alpha: float = 0.05) -> Quantile:
    """A quantile whose bounds were read at the shares q ± z·√(q(1-q)/(n-1)); those here are of q(1-q)/n."""
    factor = math.sqrt((n - 1) / n)
    low, high = estimate - (estimate - low) * factor, estimate + (high - estimate) * factor
    return Quantile(q, estimate, (high - low) / (2 * critical(alpha)), low, high, n)


def quantile_difference(
    treatment: Quantile, control: Quantile, alpha: float = 0.05, alternative: Alternative = "two-sided"
) -> Test:
    """Difference of two quantiles by the bounds of each (Zou & Donner 2008, eq. 10), which need not be symmetric.

    low = d - √((t - t_low)² + (c_high - c)²), high = d + √((t_high - t)² + (c - c_low)²). Of values with many ties the
    quantile stands at one end of its bounds, and an error of half their width would be too small for the other.
    ``alpha`` must be that of the bounds. The statistic is d over the distance to the side of 0 in units of the normal
    quantile, so that test and interval agree. NaN where a quantile has no error.
    """
    estimate, error = treatment.estimate - control.estimate, math.hypot(treatment.std_error, control.std_error)
    if not error > 0:
        return Test(estimate, error, math.nan, math.nan, math.nan, math.nan, math.nan)
    z = critical(alpha, alternative=alternative)
    down, up = (math.hypot(*_reach(treatment, control, side, alpha, z)) for side in (-1, 1))
    toward = down if alternative == "greater" or (alternative == "two-sided" and estimate > 0) else up
    statistic = estimate * z / toward
    p = p_value(statistic, alternative=alternative)
    return Test(estimate, error, statistic, math.inf, p, *bounds(estimate - down, estimate + up, alternative))


def quantile_lift(
    treatment: Quantile, control: Quantile, alpha: float = 0.05, alternative: Alternative = "two-sided"
) -> Test:
    """Lift of a quantile: all R - 1 for which t - R·c is not excluded by the bounds of both (Donner & Zou 2012).

    Tests the difference, as ``fieller`` does of means. The interval is NaN where a bound of the control is as far as 0.
    """
    t, c = (treatment, control) if control.estimate >= 0 else (_negated(treatment), _negated(control))
    test = quantile_difference(t, c, alpha, alternative)
    if c.estimate == 0 or math.isnan(test.p_value):
        estimate = t.estimate / c.estimate - 1 if c.estimate else math.nan
        return Test(estimate, math.nan, math.nan, math.nan, math.nan, math.nan, math.nan)
    ratio, z = t.estimate / c.estimate, critical(alpha, alternative=alternative)
    error = math.hypot(t.std_error, ratio * c.std_error) / c.estimate
    ends = [_ratio_limit(t, c, side, alpha, z) - 1 for side in (-1, 1)]
    low, high = (math.nan, math.nan) if any(map(math.isnan, ends)) else bounds(ends[0], ends[1], alternative)
    return Test(ratio - 1, error, test.statistic, math.inf, test.p_value, low, high)


def _reach(t: Quantile, c: Quantile, side: int, alpha: float, z: float) -> tuple[float, float]:
    """How far treatment and control reach to a side of their difference, at the critical value ``z``.

    Where both stand at the end of their bounds, the errors stand in.
    """
    reach = (t.below, c.above) if side < 0 else (t.above, c.below)
    scale = z / critical(alpha)
    if max(reach) > 0:
        return reach[0] * scale, reach[1] * scale
    return t.std_error * z, c.std_error * z


def _ratio_limit(t: Quantile, c: Quantile, side: int, alpha: float, z: float) -> float:
    """The R at which one limit of t - R·c is 0; of a negative R the control reaches to the other side."""
    found = math.nan
    for control in (c, _mirrored(c)):
        a, b = _reach(t, control, side, alpha, z)
        rest = c.estimate**2 - b**2
        if not rest > 0:
            return math.nan
        root = math.sqrt(a**2 * rest + (t.estimate * b) ** 2)
        found = (t.estimate * c.estimate + side * root) / rest
        if found >= 0:
            break
    return found


def _negated(x: Quantile) -> Quantile:
    return replace(x, estimate=-x.estimate, low=-x.high, high=-x.low)


def _mirrored(x: Quantile) -> Quantile:
    """The bounds on the other sides of the estimate."""
    return replace(x, low=x.estimate - x.above, high=x.estimate + x.below)


def share_variance(clusters: Moments, below: str, events: str) -> float:
    """Variance of Σbelow/Σevents over clusters by the delta method: what ``quantile`` takes for clustered events."""
    return float(evaluate(clusters, [Form(below, events)]).vcov[0, 0])


def clustered_error(iid: float, cluster: float, independent: float) -> float:
    """Standard error of a clustered quantile from that of independent events: iid·cluster/independent.

    ``cluster`` and ``independent`` are standard errors of the share at or below it (Deng, Knoblich & Lu 2018).
    """
    return iid * cluster / independent if independent > 0 else math.nan


def bootstrap_distribution(h: Histogram, q: float) -> tuple[Array, Array]:
    """Values and probabilities of the Poisson-bootstrap quantile of independent rows, without resampling.

    The index of the bootstrap quantile is about binomial(n + 1, q) (Schultzberg & Ankargren 2022), so the
    probability of a cell is that of the ranks it holds. Cells are read at their middle.
    """
    _check(q)
    if h.n == 0:
        return np.zeros(0), np.zeros(0)
    reached = stats.binom.cdf(np.cumsum(h.counts), h.n + 1, q)
    reached[-1] = 1.0
    mass = np.diff(reached, prepend=0.0)
    kept = mass > LIKELY
    low, high = h.edges
    return ((low + high) / 2)[kept], mass[kept] / mass[kept].sum()


def bootstrap_difference(
    treatment: Histogram, control: Histogram, q: float, alpha: float = 0.05,
    alternative: Alternative = "two-sided", most: int = 2000,
) -> Test:  # fmt: skip
    """Difference of two quantiles with the percentile interval of the resampling-free bootstrap.

    For independent rows. Distributions of more than ``most`` cells are thinned to cells of equal probability.
    The standard error is the distribution's standard deviation, the p-value twice the smaller tail at 0.
    """
    estimate = _at(treatment, q)[0] - _at(control, q)[0]
    t, c = (_law(*_thin(*bootstrap_distribution(h, q), most)) for h in (treatment, control))
    if not (len(t[0]) and len(c[0])):
        return Test(estimate, math.nan, math.nan, math.inf, math.nan, math.nan, math.nan)
    error = math.sqrt(sum(float(mass @ (values - mass @ values) ** 2) for values, mass, _ in (t, c)))
    if not error > 0:
        return Test(estimate, math.nan, math.nan, math.inf, math.nan, math.nan, math.nan)
    tail = alpha / 2 if alternative == "two-sided" else alpha
    low = _gap_at(t, c, tail) if alternative != "less" else -math.inf
    high = _gap_at(t, c, 1 - tail) if alternative != "greater" else math.inf
    below, above = _reached(t, c, 0.0), _reached(c, t, 0.0)
    p = {"two-sided": min(1.0, 2 * min(below, above)), "greater": below, "less": above}[alternative]
    return Test(estimate, error, estimate / error, math.inf, p, low, high)


def _law(values: Array, mass: Array) -> Law:
    return values, mass, np.concatenate([[0.0], np.cumsum(mass)])


def _reached(t: Law, c: Law, gap: float) -> float:
    """P(T - C ≤ ``gap``) of independent T and C."""
    return float(c[1] @ t[2][np.searchsorted(t[0], gap + c[0], side="right")])


def _gap_at(t: Law, c: Law, share: float) -> float:
    """The smallest value of T - C that is not exceeded with probability ``share``, found by halving."""
    low, high = float(t[0][0] - c[0][-1]), float(t[0][-1] - c[0][0])
    if _reached(t, c, low) >= share:
        return low
    for _ in range(64):
        middle = low + (high - low) / 2
        low, high = (low, middle) if _reached(t, c, middle) >= share else (middle, high)
    at = np.searchsorted(t[0], high + c[0])
    near = np.concatenate([t[0][np.clip(at - k, 0, len(t[0]) - 1)] - c[0] for k in (0, 1)])
    return float(near[np.argmin(np.abs(near - high))])


def quantile_of_counts(counts: Array, values: Array, q: float) -> Array:
    """The order statistic of rank ceil(q·n) in each row of ``counts`` (r, m) of ascending ``values`` (m,); shape (r,).

    For replicates of a bucketed bootstrap or jackknife; a row without counts gives NaN.
    """
    _check(q)
    total = np.cumsum(np.asarray(counts, float), axis=1)
    rank = np.maximum(np.ceil(q * total[:, -1] * (1 - 1e-12)), 1.0)
    place = (total < rank[:, None]).sum(axis=1)
    found = np.asarray(values, float)[np.minimum(place, len(values) - 1)]
    return np.where(total[:, -1] == 0, np.nan, found)


def _thin(values: Array, mass: Array, most: int) -> tuple[Array, Array]:
    if len(values) <= most:
        return values, mass
    place = np.minimum((np.cumsum(mass) * most).astype(np.int64), most - 1)
    weight, total = np.zeros(most), np.zeros(most)
    np.add.at(weight, place, mass)
    np.add.at(total, place, mass * values)
    kept = weight > 0
    return total[kept] / weight[kept], weight[kept]


def cell_at(h: Histogram, q: float) -> int:
    """Number of the cell that holds the order statistic of rank ceil(q·n), of a histogram that is not empty."""
    _check(q)
    return int(h.cells[_place(h, q)[0]])


def half_width(h: Histogram, q: float) -> float:
    """Half the width of the cell that holds the quantile: how far it may be off; 0 where the cell is exact."""
    _check(q)
    return _at(h, q)[1]


def _place(h: Histogram, share: float) -> tuple[int, int]:
    """Which cell holds the order statistic of rank ceil(share·n), within 1..n, and how many it is in that cell."""
    exact = share * h.n
    rank = min(max(math.ceil(exact - 1e-9 * max(1.0, abs(exact))), 1), h.n)
    total = np.cumsum(h.counts)
    place = int(np.searchsorted(total, rank))
    return place, int(rank - (total[place] - h.counts[place]))


def _at(h: Histogram, share: float) -> tuple[float, float]:
    """Order statistic of rank ceil(share·n), within 1..n, and half the width of its cell."""
    if h.n == 0:
        return math.nan, math.nan
    place, inside = _place(h, share)
    low, high = (float(edge[place]) for edge in h.edges)
    return low + (high - low) * float((inside - 0.5) / h.counts[place]), (high - low) / 2


def _check(q: float) -> None:
    if not 0 < q < 1:
        raise ConfigError("bad_quantile", where="q", got=q)
