"""Strata instead of pairs: a fine grid of the score, quantile subclasses, coarsened exact matching. One group-by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from causal_spark.errors import StatisticError
from causal_spark.methods.matching.prepare import Table
from causal_spark.methods.matching.score import Score
from causal_spark.methods.matching.vocabulary import Observational
from causal_spark.solve import stratified
from causal_spark.spark import design
from causal_spark.spark.compress import MomentsSpec, compress
from causal_spark.statistics.grouped import BLOCK
from causal_spark.statistics.moments import Array

STRATUM = "(stratum)"


@dataclass(frozen=True, eq=False)
class Stratified:
    """What one estimator found, and a bound of what strata of the score leave unadjusted (q,), NaN for CEM."""

    name: str
    found: stratified.Stratified
    bound: Array


def estimate(
    method: Observational,
    table: Table,
    treatment: str,
    score: Score | None,
    bounds: tuple[float, float],
    lines: tuple[float, float],
) -> list[Stratified]:
    """The stratified estimators of ``method``; ``lines`` are the smallest and largest logit."""
    found = []
    for name in method.estimators:
        if name in ("grid", "subclass") and score is not None:
            frame = design.inside(score.frame, *bounds)
            if name == "grid":
                frame = design.equal_cells(frame, STRATUM, *lines, method.cells)
            else:
                cuts = design.focal_quantiles(frame, treatment, method.subclasses, *lines, method.estimand)
                frame = design.between(frame, STRATUM, cuts)
            found.append(_solve(name, method, table, treatment, frame))
        if name == "cem":
            frame = table.frame if method.trim is None or score is None else design.inside(score.frame, *bounds)
            frame = design.coarsened(frame, STRATUM, [(table.x[i], *_cells(method, table, i)) for i in table.main])
            found.append(_solve(name, method, table, treatment, frame))
    return found


def _cells(method: Observational, table: Table, index: int) -> tuple[float, float, int]:
    """Ends and number of the equal cells of a main column; a 0/1 column has two."""
    cuts = table.cuts[table.main.index(index)]
    factor = table.design[index].term.factors[0]
    bins = next(item.bins for item in method.columns if item.name == factor.column)
    low, high = float(cuts[0]), float(cuts[-1])
    return (low, low, 2) if len(cuts) == 1 or factor.level is not None else (low, high, bins)


def _solve(name: str, method: Observational, table: Table, treatment: str, frame: Any) -> Stratified:
    """Moments of outcomes, main covariates and the score by stratum and arm."""
    outcomes = len(method.every_outcome)
    columns = [*(f"y{i}" for i in range(outcomes)), *(table.x[i] for i in table.main)]
    columns += [] if name == "cem" else [design.LOGIT]
    spec = MomentsSpec({column: (column,) for column in columns}, by=(STRATUM, treatment))
    centres = {f"y{i}": centre for i, centre in enumerate(table.centres)}
    cells = _arrays(compress(design.with_arm(frame, treatment), spec, centres), columns, treatment)
    try:
        found = stratified.solve(cells, outcomes, "ATT" if method.estimand == "ATO" else method.estimand)
    except ValueError as error:
        raise StatisticError("no_common_stratum", estimator=name) from error
    last = len(columns) - 1
    bound = [stratified.residual_bias(cells, i, last, float(found.apart[last])) for i in range(outcomes)]
    return Stratified(name, found, np.full(outcomes, np.nan) if name == "cem" else np.array(bound))


def _arrays(grouped: Any, columns: list[str], treatment: str) -> stratified.Cells:
    """Counts (s, 2), means and sample variances (s, 2, c) of the strata in order."""
    labels = sorted({str(key[0]) for key in grouped.cells})
    place = {label: i for i, label in enumerate(labels)}
    n = np.zeros((len(labels), 2))
    mean, variance = np.zeros((len(labels), 2, len(columns))), np.zeros((len(labels), 2, len(columns)))
    for j, column in enumerate(columns):
        for named, part in grouped.where(**{BLOCK: column}):
            at = place[str(named[STRATUM])], int(str(named[treatment]))
            n[at] = part.n
            mean[at][j] = part.mean[0]
            variance[at][j] = part.scatter[0, 0] / max(part.n - 1, 1)
    return stratified.Cells(tuple(labels), n, mean, variance)
