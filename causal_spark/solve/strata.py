"""Post-stratification, and covariates that a cross-fitted model predicts (CUPAC).

Statistic: ``Moments`` by (stratum, arm), or by (fold, arm) with fold = hash of the unit modulo K, of the same columns
as without; they merge like any Moments, and the results are Moments again, so ratios, CUPED, difference and lift
work on them unchanged and no second scan is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from causal_spark.errors import StatisticError
from causal_spark.solve.linear import slopes
from causal_spark.statistics import Moments

PREDICTION = "(predicted) "
Cells = Mapping[str, Mapping[str, Moments]]


def poststratify(strata: Cells, least: int = 2) -> dict[str, Moments]:
    """Moments of each arm, reweighted to the stratum sizes of all arms together.

    mean = Σ w_s·mean_s and scatter such that covariance/n = Σ w_s²·covariance_s/n_s, with w_s the share of stratum s
    among all units (Miratrix, Sekhon & Yu 2013). Strata in which an arm has fewer than ``least`` (≥ 2) rows
    are merged into one. Raises StatisticError if an arm is still too small there.
    """
    arms = list(dict.fromkeys(arm for cells in strata.values() for arm in cells))
    kept: list[Mapping[str, Moments]] = []
    rest: list[Mapping[str, Moments]] = []
    for name in sorted(strata):
        cells = strata[name]
        large = all(arm in cells and cells[arm].n >= least for arm in arms)
        (kept if large else rest).append(cells)
    if rest:
        merged = {arm: [cells[arm] for cells in rest if arm in cells] for arm in arms}
        short = [arm for arm, parts in merged.items() if sum(part.n for part in parts) < least]
        if short:
            raise StatisticError("strata_too_small", arms=", ".join(short), least=least)
        kept.append({arm: sum(parts[1:], parts[0]) for arm, parts in merged.items()})
    total = sum(part.n for cells in kept for part in cells.values())
    weights = [sum(part.n for part in cells.values()) / total for cells in kept]
    return {arm: _weighted([cells[arm] for cells in kept], weights) for arm in arms}


def _weighted(parts: Sequence[Moments], weights: Sequence[float]) -> Moments:
    n = sum(part.n for part in parts)
    mean = sum(w * part.mean for w, part in zip(weights, parts, strict=True))
    vcov = sum(w**2 * part.covariance / part.n for w, part in zip(weights, parts, strict=True))
    return Moments(parts[0].names, n, np.asarray(mean, float), np.asarray(vcov, float) * n * (n - 1))


def cross_fit(folds: Cells, outcomes: Sequence[str], features: Sequence[str]) -> dict[str, Moments]:
    """Moments of each arm of the outcomes and their predictions (``PREDICTION`` + name), cross-fitted by folds.

    In each fold the outcomes are predicted by least squares on the features, fitted within arms on all other folds
    (Li, Tang & Bauman 2020; Jin & Ba 2021), so that a unit never helps to predict itself and the effect does not enter.
    Use each prediction as the covariate in ``cuped``. Features must be from before exposure. Needs two folds.
    """
    if len(folds) < 2:
        raise StatisticError("one_fold", folds=len(folds))
    columns, order = (*outcomes, *features), sorted(folds)
    found: dict[str, Moments] = {}
    for fold in order:
        others: dict[str, Moments] = {}
        for name in order:
            for arm, part in folds[name].items() if name != fold else ():
                others[arm] = others[arm] + part.select(columns) if arm in others else part.select(columns)
        pooled = sum(others.values(), Moments.empty(columns))
        scatter = np.asarray(sum(part.scatter for part in others.values()), float)
        q = len(outcomes)
        matrix = np.zeros((2 * q, len(columns)))
        matrix[:q, :q] = np.eye(q)
        for i in range(q):
            chosen = [i, *range(q, len(columns))]
            matrix[q + i, q:] = slopes(scatter[np.ix_(chosen, chosen)])[0]
        shift = np.concatenate([np.zeros(q), pooled.mean[:q] - matrix[q:, q:] @ pooled.mean[q:]])
        for arm, part in folds[fold].items():
            image = part.select(columns).image(matrix, (*outcomes, *(PREDICTION + name for name in outcomes)))
            moved = Moments(image.names, image.n, image.mean + shift, image.scatter)
            found[arm] = found[arm] + moved if arm in found else moved
    return found
