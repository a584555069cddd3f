"""The propensity of one treatment: fitted to the rows, or taken from a column."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from causal_spark.errors import StatisticError
from causal_spark.methods import trees
from causal_spark.methods.matching.prepare import SAMPLE, Table
from causal_spark.methods.matching.vocabulary import Observational
from causal_spark.solve import logistic
from causal_spark.spark import design
from causal_spark.spark.blocks import Block, accumulate, with_columns
from causal_spark.spark.tables import Frame, col
from causal_spark.statistics import Sums
from causal_spark.statistics.moments import Array

PATTERNS = 50_000
CLIP = 0.01  # of a boosted propensity: trees may say 0 or 1
FEW = 0.05  # share of distinct rows in the sample below which the whole design is counted by pattern


@dataclass(frozen=True, eq=False)
class Score:
    """A frame with its LOGIT, and the fit behind it (None if the user gave the propensity)."""

    frame: Frame
    fit: logistic.Logistic | None


# What is known of a fit before any pass over all rows: the fit itself, or the point where the passes begin.
Begun = logistic.Logistic | Array


def begin(method: Observational, table: Table, treatment: str) -> Begun | None:
    """Where the fit of ``treatment`` begins; None if no logistic model is to be fitted.

    Maximum likelihood on the driver if all rows or all patterns fit there, else that of a sample as a start. Raises
    StatisticError for separation or collinearity, naming the columns.
    """
    if not method.needs_score or method.score is not None or method.propensity.model == "boosted":
        return None
    names, x, t = _names(table), with_constant(table.sample), table.arms[treatment]
    if table.rows <= SAMPLE or len(x) >= table.rows:
        return logistic.fit(x, t, names)
    if _few_patterns(x):
        counted = design.patterns(table.frame, table.x, treatment, PATTERNS)
        if counted is not None:
            return _on_patterns(*counted, names)
    try:
        return logistic.fit(x, t, names).beta
    except StatisticError:  # in the sample only; the passes over all rows decide
        return np.zeros(len(names))


def score(
    method: Observational,
    table: Table,
    treatment: str,
    begun: Begun | None,
    first: Sums | None,
    keep: Callable[[Frame], Frame],
) -> Score:
    """The propensity of ``treatment`` (a column t…) as the column LOGIT; ``keep`` stages a frame.

    ``first``: the likelihood where the fit has ``begun``, if a pass over all rows has told it.
    Raises StatisticError for separation or collinearity, naming the columns.
    """
    if method.score is not None:
        return Score(design.with_given_score(table.frame, design.own(method.score)), None)
    if begun is None:
        return Score(keep(boosted(table, treatment, method.folds)), None)
    fit = begun if isinstance(begun, logistic.Logistic) else _passes(table, treatment, begun, first)
    return Score(design.with_logit(table.frame, table.x, fit.beta), fit)


def _passes(table: Table, treatment: str, start: Array, first: Sums | None) -> logistic.Logistic:
    """Newton steps from ``start``, a pass over all rows for each; none for the ``first``, where it is known."""
    known = {} if first is None else {start.tobytes(): first}

    def evaluate(beta: Array) -> Sums:
        return known.get(beta.tobytes()) or likelihood(table.frame, table.x, treatment, beta)

    return logistic.maximise(evaluate, _names(table), start)


def _names(table: Table) -> tuple[str, ...]:
    return ("(constant)", *table.labels)


def boosted(table: Table, treatment: str, folds: int) -> Frame:
    """Gradient-boosted trees (scikit-learn) fitted to a sample without each fold, applied to the rows of that fold."""
    names = (*table.x, treatment, design.FOLD)
    looked = [col(name) for name in names]
    values = design.looked_at(table.frame, design.UNIT, table.rows, trees.SAMPLE, "design", looked)
    x, t, fold = values[:, :-2], values[:, -2], values[:, -1]

    def treated(others: Array) -> Array:
        if len(np.unique(t[others])) < 2:
            raise StatisticError("propensity_one_group", treated=f"{t.sum():g}", control=f"{len(t) - t.sum():g}")
        return np.asarray(t[others])

    models = trees.fitted("classifier", x, treated, fold, folds, "method.propensity.model", "logistic")
    columns = table.x

    def work(block: Block) -> list[Array]:
        e = trees.out_of_fold(models, matrix(block, columns)[:, 1:], block[design.FOLD])
        return [np.asarray(special.logit(np.clip(e, CLIP, 1 - CLIP)))]

    return with_columns(table.frame, (*columns, design.FOLD), (design.LOGIT,), work)


def likelihood(frame: Frame, x: tuple[str, ...], treatment: str, beta: Array) -> Sums:
    """One pass over all rows at ``beta``."""

    def work(block: Block) -> Sums:
        return logistic.contribution(matrix(block, x), block[treatment], beta)

    return accumulate(frame, [*x, treatment], work)


def _few_patterns(x: Array) -> bool:
    """Whether few rows of the sample ``x`` (n, p) differ; columns by themselves mostly tell that they are many."""
    few = FEW * len(x)
    return all(len(np.unique(column)) <= few for column in x.T) and len(np.unique(x, axis=0)) <= few


def _on_patterns(x: Array, rows: Array, treated: Array, names: tuple[str, ...]) -> logistic.Logistic:
    """Each pattern twice, as treated and as control, weighted by how many rows are."""
    twice = with_constant(np.vstack([x, x]))
    t = np.concatenate([np.ones(len(x)), np.zeros(len(x))])
    weight = np.concatenate([treated, rows - treated])
    used = weight > 0
    return logistic.fit(twice[used], t[used], names, weight[used])


def matrix(block: Block, names: tuple[str, ...]) -> Array:
    """The design of a block with its leading column of ones, shape (n, p + 1), each column in one piece."""
    found = np.ones((len(names) + 1, len(next(iter(block.values())))))
    for i, name in enumerate(names):
        found[i + 1] = block[name]
    return found.T


def with_constant(x: Array) -> Array:
    return np.hstack([np.ones((len(x), 1)), x])
