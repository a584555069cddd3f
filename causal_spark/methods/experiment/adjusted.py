"""The adjusted value of a metric in each arm: CUPED, Lin's regression, post-stratification, a predicted covariate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from causal_spark.errors import StatisticError
from causal_spark.methods.experiment import plan
from causal_spark.methods.experiment.compressed import Compressed
from causal_spark.methods.experiment.plan import Block
from causal_spark.methods.experiment.vocabulary import Experiment
from causal_spark.solve.lin import fit_arms, robust
from causal_spark.solve.linear import Adjustment, cuped
from causal_spark.solve.means import Form, Values, evaluate
from causal_spark.solve.strata import PREDICTION, cross_fit, poststratify
from causal_spark.statistics import Moments, Sums
from causal_spark.statistics.moments import Array
from causal_spark.words import say

LABELS = ("cuped", "lin", "strata", "cuped_strata", "cupac")


@dataclass(frozen=True, eq=False)
class Adjusted:
    """Values by arm under the name of the method, empty with the reason in ``note`` if there are none.

    ``covariates`` with their ``theta`` and ``rho2``, where the method has them.
    """

    label: str
    groups: Mapping[str, Values]
    covariates: tuple[str, ...] = ()
    theta: Array | None = None
    rho2: float = math.nan
    note: str = ""


def label(method: Experiment, segment: str, block: Block) -> str | None:
    """How a metric is adjusted in a segment; None if it is not. Strata and predictions are of everyone only."""
    several = len(block.parts) > 1
    if segment == "all" and method.strata is not None:
        return "cuped_strata" if several else "strata"
    if segment == "all" and block.metric.cupac:
        return "cupac"
    if not several:
        return None
    return "lin" if method.adjustment == "lin" and linear(block) else "cuped"


def linear(block: Block) -> bool:
    """Whether a metric and its covariates are means, which a regression of units can adjust."""
    return len(block.parts) > 1 and all(part.denominator is None for part in block.parts)


def linear_columns(block: Block) -> tuple[str, ...]:
    """The outcome, then the covariates."""
    return tuple(part.numerator.name for part in block.parts)


def adjusted(
    method: Experiment, compressed: Compressed, segment: str, block: Block, arms: Mapping[str, Moments], language: str
) -> Adjusted | None:
    """The adjusted values of the ``arms``; None if there is nothing to adjust by, or there are too few units for it."""
    name = label(method, segment, block)
    if name in ("strata", "cuped_strata"):
        return _stratified(method, compressed.more["strata"][block.metric.name], block, name, language)
    if name == "cupac":
        return _predicted(method, compressed.more["cupac"][block.metric.name], block)
    plain = by_covariates(method, block, arms)
    if name is None or plain is None:
        return None
    covariates = tuple(part.label for part in block.parts[1:])
    if name == "cuped":
        return Adjusted(name, plain.groups, covariates, plain.theta, plain.rho2)
    fits = fit_arms({arm: part.select(linear_columns(block)) for arm, part in arms.items()})
    data = compressed.more["leverage"][block.metric.name]
    sums = data if segment == plan.EVERYONE else data["segments"].get(segment)
    if sums is not None:
        found = {arm: robust(fit, Sums.of(**sums["arms"][arm]), method.hc) for arm, fit in fits.items()}
        return Adjusted(name, found, covariates, plain.theta, plain.rho2)
    note = say("note_lin_segment", language)
    return Adjusted(name, {arm: fit.values() for arm, fit in fits.items()}, covariates, plain.theta, plain.rho2, note)


def by_covariates(method: Experiment, block: Block, arms: Mapping[str, Moments]) -> Adjustment | None:
    """CUPED on the metric's covariates; None without any, or with hardly more units than covariates."""
    if len(block.parts) < 2 or sum(part.n for part in arms.values()) < len(block.parts) + 2:
        return None
    return cuped(arms, block.forms(method.cluster is not None), method.theta)


def _stratified(method: Experiment, data: Mapping[str, Any], block: Block, name: str, language: str) -> Adjusted:
    """Moments reweighted to the sizes of the strata, then as without strata."""
    try:
        arms = poststratify(_read(data))
    except StatisticError as error:
        return Adjusted(name, {}, note=error.text(language))
    forms = block.forms(False)
    if name == "strata":
        return Adjusted(name, {arm: evaluate(part, forms) for arm, part in arms.items()})
    found = cuped(arms, forms, method.theta)
    return Adjusted(name, found.groups, tuple(part.label for part in block.parts[1:]), found.theta, found.rho2)


def _predicted(method: Experiment, data: Mapping[str, Any], block: Block) -> Adjusted:
    """CUPED on the prediction that the other folds give from the features."""
    folds = _read(data)
    outcome = block.parts[0].numerator.name
    others = [name for name in next(iter(next(iter(folds.values())).values())).names if name != outcome]
    if block.metric.cupac_model == "linear":
        arms, prediction = cross_fit(folds, [outcome], others), PREDICTION + outcome
    else:
        arms, prediction = _over_folds(folds), others[0]
    found = cuped(arms, [Form(outcome), Form(prediction)], method.theta)
    return Adjusted("cupac", found.groups, (PREDICTION + ", ".join(block.metric.cupac),), found.theta, found.rho2)


def _over_folds(folds: Mapping[str, Mapping[str, Moments]]) -> dict[str, Moments]:
    """The moments of each arm, of folds whose rows are predicted already."""
    found: dict[str, Moments] = {}
    for fold in sorted(folds):
        for arm, part in folds[fold].items():
            found[arm] = found[arm] + part if arm in found else part
    return found


def _read(data: Mapping[str, Any]) -> dict[str, dict[str, Moments]]:
    return {key: {arm: Moments.from_dict(part) for arm, part in arms.items()} for key, arms in data.items()}
