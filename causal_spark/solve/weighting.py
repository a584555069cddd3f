"""Weighting by the propensity: effects of a 0/1 treatment, with the estimated propensity counted in the error.

Weighted means of both groups, μ = Σ w·y / Σ w (Hájek) or over the size of the population (Horvitz–Thompson). Every
estimand is a population with density h(e) against all rows (Li, Morgan & Zaslavsky 2018, table 1), and weights
h/e for the treated and h/(1 - e) for the rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causal_spark.solve.logistic import Logistic
from causal_spark.statistics import Sums
from causal_spark.statistics.moments import Array

Estimand = Literal["ATE", "ATT", "ATC", "ATO"]


def tilt(e: Array, estimand: Estimand) -> tuple[Array, Array]:
    """h(e) of the estimand's population and its derivative by e, each (n,): 1, e, 1 - e, e·(1 - e)."""
    one, none = np.ones_like(e), np.zeros_like(e)
    return {
        "ATE": (one, none),
        "ATT": (e, one),
        "ATC": (1 - e, -one),
        "ATO": (e * (1 - e), 1 - 2 * e),
    }[estimand]


def weights(e: Array, t: ArrayLike, estimand: Estimand) -> Array:
    """Weights (n,) that make both groups look like the estimand's population: h/e or h/(1 - e)."""
    treated = np.asarray(t) == 1
    one = np.ones_like(e)
    with np.errstate(divide="ignore"):
        match estimand:
            case "ATE":
                return np.where(treated, 1 / e, 1 / (1 - e))
            case "ATT":
                return np.where(treated, one, e / (1 - e))
            case "ATC":
                return np.where(treated, (1 - e) / e, one)
            case "ATO":
                return np.where(treated, 1 - e, e)


def slopes(e: Array, t: ArrayLike, estimand: Estimand) -> Array:
    """Derivative (n,) of ``weights`` by the linear predictor log(e/(1 - e))."""
    treated = np.asarray(t) == 1
    none = np.zeros_like(e)
    with np.errstate(divide="ignore"):
        down, up = -(1 - e) / e, e / (1 - e)
    return {
        "ATE": np.where(treated, down, up),
        "ATT": np.where(treated, none, up),
        "ATC": np.where(treated, down, none),
        "ATO": np.where(treated, -1, 1) * e * (1 - e),
    }[estimand]


def stabilised(e: Array, t: ArrayLike, share: float) -> Array:
    """ATE weights (n,) times the ``share`` of a row's own group (Robins, Hernán & Brumback 2000): their mean is near 1.

    Means within a group, and so Hájek's estimate, are the same as with ``weights``.
    """
    return weights(e, t, "ATE") * np.where(np.asarray(t) == 1, share, 1 - share)


# trimming -----------------------------------------------------------------------------------------------------------


def within(e: Array, low: float, high: float) -> NDArray[np.bool_]:
    """Rows (n,) of bool whose propensity lies in [low, high]."""
    return (e >= low) & (e <= high)


def common_support(extremes: ArrayLike) -> tuple[float, float]:
    """Bounds of the propensity that both groups reach: the larger minimum, the smaller maximum.

    ``extremes`` (2, 2): [minimum, maximum] of the controls, then of the treated.
    """
    ends = np.asarray(extremes, float)
    return float(ends[:, 0].max()), float(ends[:, 1].min())


def crump(edges: ArrayLike, counts: ArrayLike) -> float:
    """α of the trimming [α, 1 - α] that makes the variance of the trimmed effect least; 0: nothing need go.

    Crump, Hotz, Imbens & Mitnik (2009), theorem 1 and corollary 1, with g = 1/(e·(1 - e)): the set {g ≤ γ} that
    minimises E[g | g ≤ γ] / P(g ≤ γ), where γ = 2·E[g | g ≤ γ]. From a histogram of the propensity: ``edges``
    (k + 1,), ``counts`` (k,); every bin stands for its middle, so α is good to about the width of a bin. No
    rows give NaN.
    """
    ends, rows = np.asarray(edges, float), np.asarray(counts, float)
    middle = ((ends[:-1] + ends[1:]) / 2)[rows > 0]
    rows = rows[rows > 0]
    if len(rows) == 0:
        return math.nan
    g = 1 / (middle * (1 - middle))
    order = np.argsort(g, kind="stable")
    kept, total = np.cumsum(rows[order]), np.cumsum((rows * g)[order])
    best = int(np.argmin(total / kept**2))
    gamma = 2 * total[best] / kept[best]
    if gamma >= g.max():
        return 0.0
    return float(0.5 - math.sqrt(0.25 - 1 / gamma))


# the estimate -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Weighted:
    """Two weighted means for each of q outcomes and what their influence needs.

    ``effect`` (q,) = ``means[1] - means[0]`` (2, q). By group (2,), controls first: rows ``kept``, sum of
    weights ``total``, effective sample size ``ess`` = (Σw)²/Σw² (Kish 1965), ``largest`` weight. ``n`` counts all rows,
    kept or trimmed. ``norms`` (2,) are what Σ w·y was divided by, ``gradient`` (p, q) is the derivative of the
    effect by the coefficients of the propensity. A group without rows or weight gives NaN.
    """

    estimand: Estimand
    normalised: bool
    n: float
    kept: Array
    means: Array
    effect: Array
    total: Array
    ess: Array
    largest: Array
    norms: Array
    gradient: Array


def sums(x: Array, t: ArrayLike, e: Array, y: Array, estimand: Estimand, keep: ArrayLike | None = None) -> Sums:
    """What a block of rows adds to the estimate: ``x`` (n, p), ``t`` (n,), ``e`` (n,), ``y`` (n, q).

    ``keep`` (n,) of bool leaves rows out of the means; they stay rows of the propensity model. A propensity that is
    given, not estimated, needs no ``x``: let it have no columns.
    """
    groups, w, dw, h, dh = _parts(t, e, estimand, keep)
    weighted, moved = groups * w, groups * dw
    return Sums.of(
        n=len(e),
        kept=groups.sum(axis=1),
        total=weighted.sum(axis=1),
        square=(weighted * w).sum(axis=1),
        outcome=weighted @ y,
        total_slope=moved @ x,
        outcome_slope=np.stack([x.T @ (row[:, None] * y) for row in moved]),
        size=h.sum(),
        size_slope=dh @ x,
    )


def solve(total: Sums, estimand: Estimand, normalised: bool = True, extremes: ArrayLike | None = None) -> Weighted:
    """The estimate from the total of ``sums``; ``normalised`` is Hájek's, otherwise Horvitz–Thompson's.

    ``extremes`` (2, 2), [minimum, maximum] of the kept propensities of the controls, then of the treated, give the
    largest weight of each group, since a weight rises or falls with the propensity; without them it is NaN.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        norms = total["total"] if normalised else np.full(2, total.number("size"))
        norms = np.where((norms > 0) & (total["kept"] > 0), norms, np.nan)
        slope = total["total_slope"] if normalised else np.stack([total["size_slope"]] * 2)
        means = total["outcome"] / norms[:, None]
        gradients = (total["outcome_slope"] - slope[:, :, None] * means[:, None, :]) / norms[:, None, None]
        ess = total["total"] ** 2 / total["square"]
    return Weighted(
        estimand=estimand,
        normalised=normalised,
        n=total.number("n"),
        kept=total["kept"],
        means=means,
        effect=means[1] - means[0],
        total=total["total"],
        ess=ess,
        largest=np.full(2, np.nan) if extremes is None else _largest(extremes, estimand),
        norms=norms,
        gradient=gradients[1] - gradients[0],
    )


def influence(
    x: Array,
    t: ArrayLike,
    e: Array,
    y: Array,
    found: Weighted,
    propensity: Logistic | None,
    keep: ArrayLike | None = None,
) -> Array:
    """Influence (n, q) of each row on the effect: Σφ = 0, and Σφ²/n² is the variance of the M-estimator.

    The score of the logistic propensity is stacked on the two means (Lunceford & Davidian 2004, §3): the row's part
    is its weighted residual plus gradientᵀ·information⁻¹·x·(t - e). ``propensity`` None takes the weights as
    given. The bounds of trimming are taken as given. Rows of a cluster may be added up before squaring.
    """
    groups, w, _, h, _ = _parts(t, e, found.estimand, keep)
    own = groups * w
    if found.normalised:
        parts = own[:, :, None] * (y - found.means[:, None, :])
    else:
        parts = own[:, :, None] * y - h[:, None] * found.means[:, None, :]
    parts = parts / found.norms[:, None, None]
    phi = parts[1] - parts[0]
    if propensity is not None:
        bread = np.linalg.solve(propensity.information, found.gradient)
        phi = phi + (np.asarray(t, float) - e)[:, None] * (x @ bread)
    return np.asarray(found.n * phi)


def _parts(
    t: ArrayLike, e: Array, estimand: Estimand, keep: ArrayLike | None
) -> tuple[Array, Array, Array, Array, Array]:
    """Indicators of the kept rows of both groups (2, n), weight and slope, population and its slope.

    Who is in the population of ATT and ATC is known, so their size is counted, not estimated from e. Rows that
    are left out have weight 0, however large 1/e would be.
    """
    d = np.asarray(t, float)
    kept = np.ones(len(d)) if keep is None else np.asarray(keep, float)
    groups = np.stack([(1 - d) * kept, d * kept])
    inside = kept > 0
    w = np.where(inside, weights(e, t, estimand), 0.0)
    dw = np.where(inside, slopes(e, t, estimand), 0.0)
    if estimand in ("ATT", "ATC"):
        h, dh = groups[1 if estimand == "ATT" else 0], np.zeros(len(d))
    else:
        density, by_e = tilt(e, estimand)
        h, dh = density * kept, by_e * e * (1 - e) * kept
    return groups, w, dw, h, dh


def _largest(extremes: ArrayLike, estimand: Estimand) -> Array:
    ends = np.asarray(extremes, float)
    return np.array([weights(row, np.full(2, group), estimand).max() for group, row in enumerate(ends)])
