"""Balance of covariates between two groups, before and after matching or weighting, from sums that add."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causal_spark.statistics import Sums
from causal_spark.statistics.moments import ROUNDING, Array

Denominator = Literal["treated", "control", "pooled"]
Verdict = Literal["balanced", "nearly", "unbalanced", "unknown"]
CELLS = 1024  # of equal width between the first and the last cut point


@dataclass(frozen=True)
class Balance:
    """Balance of one covariate.

    ``smd`` is the standardised mean difference, treated minus control; ``variance_ratio`` treated over control;
    ``ks`` the largest and ``ecdf_mean`` the mean distance of the two weighted distribution functions. NaN: ``smd``
    if the covariate does not vary in the groups of the denominator, ``variance_ratio`` of a binary covariate and
    where a group has no spread or fewer than two rows, everything that needs a group without weight.
    """

    mean_treated: float
    mean_control: float
    smd: float
    variance_ratio: float
    ks: float
    ecdf_mean: float


# the pass -----------------------------------------------------------------------------------------------------------


def cut_points(values: ArrayLike, most: int = 200) -> Array:
    """Cut points of a covariate from a sample of it: every value if there are at most ``most``, else so many quantiles.

    Quantiles are sample values, the smallest and the largest among them, each once. Two values or one give one
    cut point, which declares the covariate binary (see ``sums``). NaNs are left out; no value at all gives 0.
    """
    known = np.asarray(values, float)
    known = known[~np.isnan(known)]
    distinct = np.unique(known)
    if len(distinct) <= 2:
        return distinct[:1] if len(distinct) else np.zeros(1)
    if len(distinct) <= most:
        return distinct
    return np.unique(np.quantile(known, np.linspace(0, 1, most), method="inverted_cdf"))


def sums(x: Array, t: Array, w: Array, cuts: Sequence[Array], centre: ArrayLike) -> Sums:
    """What one block of rows adds: ``x`` (n, p) covariates, ``t`` (n,) 1 treated or 0, ``w`` (n,) weights ≥ 0.

    ``cuts`` holds, for each covariate, increasing cut points, at least one; they bound the bins (…, c₁], (c₁, c₂], …,
    (c_m, …). A covariate with a single cut point is binary. ``centre`` (p,) is a pilot centre. Row 0 of every sum
    is the control group, row 1 the treated: rows of positive weight, Σw and Σw², all (2,); Σw(x - c) and
    Σw(x - c)², (2, p); and the weighted histograms one after another, (2, Σ(m + 1)). A NaN, even in a row of weight 0,
    makes its covariate NaN.
    """
    treated = np.asarray(t) == 1
    weight = np.asarray(w, float)
    by_group = np.stack([np.where(treated, 0.0, weight), np.where(treated, weight, 0.0)])
    centred = x - np.asarray(centre, float)
    histograms = []
    for column, points in zip(x.T, cuts, strict=True):
        bins = len(points) + 1
        place = _places(column, points) + bins * treated
        histograms.append(np.bincount(place, weight, 2 * bins).reshape(2, bins))
    return Sums.of(
        rows=(by_group > 0).sum(axis=1),
        weight=by_group.sum(axis=1),
        weight2=(by_group**2).sum(axis=1),
        first=by_group @ centred,
        second=by_group @ centred**2,
        histogram=np.concatenate([np.zeros((2, 0)), *histograms], axis=1),
    )


def _places(column: Array, points: Array) -> NDArray[np.intp]:
    """How many ``points`` (m,) are below each value of ``column`` (n,): ``np.searchsorted`` without its branches.

    Cells of equal width, whose number never falls as values rise, say how many points lie in lower cells; what is left
    is a bisection among the points of one cell, seldom more than a step. NaN gives 0.
    """
    spread = float(points[-1] - points[0])
    scale = CELLS / spread if spread > 0 else 0.0
    held = np.bincount(_cells(points, points[0], scale), minlength=CELLS + 3)
    step = 1 << int(held.max()).bit_length()
    padded = np.append(points, np.full(step, np.inf))
    values = np.ascontiguousarray(column)
    place = (np.cumsum(held) - held).take(_cells(values, points[0], scale))
    while step := step >> 1:
        place += (padded.take(place + (step - 1)) < values) * step
    return place


def _cells(values: Array, first: float, scale: float) -> NDArray[np.intp]:
    """Number of the cell: 0 below the ``first`` point, and for NaN."""
    with np.errstate(invalid="ignore", over="ignore"):
        place = (values - first) * scale + 1.0
    return np.fmin(np.fmax(place, 0.0), CELLS + 2.0).astype(np.intp)


# the mathematics ----------------------------------------------------------------------------------------------------


def solve(
    adjusted: Sums, unadjusted: Sums, cuts: Sequence[Array], centre: ArrayLike, denominator: Denominator = "treated"
) -> tuple[Balance, ...]:
    """Balance of each covariate in the ``adjusted`` sample; give the ``unadjusted`` sums twice for "before".

    The denominator of the standardised mean difference is always that of the unadjusted sample, so that a change
    of it is a change of the means: the standard deviation of the treated, of the controls, or
    √((s₁² + s₀²)/2) (Rosenbaum & Rubin 1985; Stuart 2010). Variances are those of ``variances``. The distances of
    the distribution functions are exact at the cut points, hence exact if these are all values of the covariate;
    else ``ks`` is too small by at most the largest share of a group in one bin, and ``ecdf_mean`` is the mean over
    the cut points. For a binary covariate both are the difference of the proportions.
    """
    binary = np.array([len(points) == 1 for points in cuts], bool)
    spread, before = variances(adjusted, binary), variances(unadjusted, binary)
    with np.errstate(divide="ignore", invalid="ignore"):
        means = np.asarray(centre, float) + adjusted["first"] / adjusted["weight"][:, None]
        scale = np.sqrt({"control": before[0], "treated": before[1], "pooled": before.mean(axis=0)}[denominator])
        smd = np.where(scale > 0, (means[1] - means[0]) / scale, np.nan)
        ratio = np.where((spread > 0).all(axis=0) & ~binary, spread[1] / spread[0], np.nan)
        # Each group's last cumulated sum is its own total: the function ends at 1 whatever the roundings.
        ends = np.cumsum([len(points) + 1 for points in cuts])[:-1]
        functions = [np.cumsum(part, axis=1) for part in np.split(adjusted["histogram"], ends, axis=1)]
        distances = [np.abs(np.diff(f / f[:, -1:], axis=0))[0, :-1] for f in functions[: len(cuts)]]
    found = []
    for j, distance in enumerate(distances):
        known = np.isfinite(means[:, j]).all()
        apart = (float(distance.max()), float(distance.mean())) if known else (np.nan, np.nan)
        found.append(Balance(float(means[1, j]), float(means[0, j]), float(smd[j]), float(ratio[j]), *apart))
    return tuple(found)


def variances(found: Sums, binary: Array) -> Array:
    """Weighted variance of each covariate in both groups, (2, p), control first.

    Σw(x - x̄)² · Σw / ((Σw)² - Σw²), unbiased for weights that say how reliable a row is, the formula of MatchIt
    and cobalt; equal weights give the usual variance with ddof 1. A ``binary`` (p,) covariate has Σw(x - x̄)²/Σw,
    which for 0/1 is p̂(1 - p̂). What is left of a sum of squares below 1e-11 of it is rounding: no spread.
    """
    weight, second = found["weight"][:, None], found["second"]
    with np.errstate(divide="ignore", invalid="ignore"):
        scatter = second - found["first"] ** 2 / weight
        scatter = np.where(scatter <= ROUNDING * second, 0.0, scatter)
        reliability = weight / (weight**2 - found["weight2"][:, None])
        return np.asarray(scatter * np.where(binary, 1 / weight, reliability))


def effective_sizes(found: Sums) -> tuple[float, float]:
    """Effective sample size (Σw)²/Σw² of the treated and of the controls (Kish 1965); 0 for a group without weight."""
    control, treated = (
        float(w**2 / w2) if w2 > 0 else 0.0 for w, w2 in zip(found["weight"], found["weight2"], strict=True)
    )
    return treated, control


def ecdf_difference(x: ArrayLike, t: ArrayLike, w: ArrayLike) -> tuple[float, float]:
    """Largest and mean distance of the weighted distribution functions of a covariate, from its values.

    The mean is over the distinct values, as in MatchIt; of two distinct values only the lower counts, so that it
    is the difference of the proportions. Exact, for n that fits in memory; a group without weight gives NaN.
    """
    order = np.argsort(np.asarray(x, float), kind="stable")
    values, treated = np.asarray(x, float)[order], np.asarray(t)[order] == 1
    weight = np.asarray(w, float)[order]
    groups = np.stack([np.where(treated, 0.0, weight), np.where(treated, weight, 0.0)])
    totals = groups.sum(axis=1, keepdims=True)
    if not (totals > 0).all():
        return np.nan, np.nan
    last = np.append(values[1:] != values[:-1], True)
    distance = np.abs(np.diff(np.cumsum(groups / totals, axis=1), axis=0))[0, last]
    if len(distance) == 2:
        distance = distance[:1]
    return float(distance.max()), float(distance.mean())


def verdict(
    balance: Balance, good: float = 0.1, tolerable: float = 0.25, ratios: tuple[float, float] = (0.5, 2.0)
) -> Verdict:
    """``balanced`` if |SMD| ≤ ``good``, ``nearly`` if ≤ ``tolerable``, else ``unbalanced`` (Stuart 2010, §4.1).

    A variance ratio outside ``ratios`` is unbalanced whatever the means (Rubin 2001); one that is NaN is no
    objection. Without an SMD there is no verdict: ``unknown``.
    """
    size = abs(balance.smd)
    if np.isnan(size):
        return "unknown"
    if size > tolerable or balance.variance_ratio < ratios[0] or balance.variance_ratio > ratios[1]:
        return "unbalanced"
    return "balanced" if size <= good else "nearly"
