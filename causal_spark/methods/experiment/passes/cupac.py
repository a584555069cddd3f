"""Moments by fold and arm of an outcome and of what predicts it without that fold: one scan, for trees one more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from causal_spark.config import Filter
from causal_spark.errors import StatisticError
from causal_spark.methods import trees
from causal_spark.methods.experiment import plan
from causal_spark.methods.experiment.passes.given import Given
from causal_spark.methods.experiment.vocabulary import Metric
from causal_spark.solve.strata import PREDICTION
from causal_spark.spark import design
from causal_spark.spark.blocks import Block, with_columns
from causal_spark.spark.buckets import with_bucket
from causal_spark.spark.columns import as_text, where
from causal_spark.spark.compress import MomentsSpec, compress
from causal_spark.spark.tables import Frame, col
from causal_spark.statistics.grouped import BLOCK
from causal_spark.statistics.moments import Array

FOLDS, SALT, FOLD = 5, "cupac", "(fold)"


def cupac(given: Given) -> dict[str, Any] | None:
    """Metric → fold → arm → moments of the outcome and its features, or its prediction by trees.

    A fold is a hash of the unit. Raises ConfigError without scikit-learn, StatisticError for hardly any units.
    """
    metrics = [metric for metric in given.table.metrics if metric.cupac]
    if not metrics:
        return None
    wanted = {metric.name: _columns(metric) for metric in metrics}
    columns = list(dict.fromkeys(column for some in wanted.values() for column in some))
    arm = given.table.arm
    frame = with_bucket(given.prepared(columns, arm, given.table.unit), given.table.unit, FOLDS, SALT, FOLD)
    centres = given.centres(columns)
    blocks = {name: tuple(column.name for column in some) for name, some in wanted.items()}
    boosted = [metric for metric in metrics if metric.cupac_model == "boosted"]
    if boosted:
        frame = _predicted(given, boosted, frame)
        for name in (metric.name for metric in boosted):
            outcome = blocks[name][0]
            blocks[name] = (outcome, PREDICTION + name)
            centres[PREDICTION + name] = centres[outcome]
    spec = MomentsSpec(blocks, by=(arm, FOLD), nullable=given.nullable(columns))
    found: dict[str, Any] = {name: {} for name in wanted}
    for named, part in compress(frame, spec, centres).where():
        if str(named[arm]) in given.table.arms:
            found[str(named[BLOCK])].setdefault(str(named[FOLD]), {})[str(named[arm])] = part.to_dict()
    return found


def _columns(metric: Metric) -> tuple[plan.Column, ...]:
    """The outcome, then the features; a missing one is 0 for the linear model, for trees a value of its own."""
    nulls = "zero" if metric.cupac_model == "linear" else "drop"
    return (plan.block(metric).columns[0], *(plan.Column(name, nulls) for name in metric.cupac))


def _predicted(given: Given, metrics: Sequence[Metric], frame: Frame) -> Frame:
    """``frame`` with each metric predicted out of fold, by trees fitted to a hash sample of the tested units."""
    arm, arms = given.table.arm, tuple(given.table.arms)
    wanted = {metric.name: tuple(column.name for column in _columns(metric)) for metric in metrics}
    names = list(dict.fromkeys(name for some in wanted.values() for name in some))
    tested = design.coded(where(as_text(frame, arm), [Filter(arm, "in", arms)]), {arm: arms})
    looked = [col(name) for name in (*names, FOLD, design.own(arm))]
    rows = design.looked_at(tested, given.table.unit, given.table.ranges[""].n, trees.SAMPLE, f"{SALT}:sample", looked)
    values = {name: rows[:, i] for i, name in enumerate(names)}
    models = {
        metric.name: _models(metric, np.column_stack([values[name] for name in wanted[metric.name]]), rows[:, -2:])
        for metric in metrics
    }

    def work(block: Block) -> list[Array]:
        return [
            trees.out_of_fold(models[name], np.column_stack([block[column] for column in some[1:]]), block[FOLD])
            for name, some in wanted.items()
        ]

    return with_columns(frame, (*names, FOLD), tuple(PREDICTION + name for name in wanted), work)


def _models(metric: Metric, values: Array, keys: Array) -> list[Any]:
    """Trees of the outcome, the first of ``values``, arms made alike; ``keys``: fold and arm. NULL takes no part."""
    there = ~np.isnan(values[:, 0])
    values, (fold, arm) = values[there], keys[there].T
    target = _alike(metric, values[:, 0], arm)
    setting = f"method.metrics[{metric.name}].cupac_model"
    return trees.fitted("regressor", values[:, 1:], target, fold, FOLDS, setting, "linear")


def _alike(metric: Metric, y: Array, arm: Array) -> Callable[[Array], Array]:
    """Outcomes of some rows with the mean of every arm there moved to that of all, so that no effect is learned."""

    def target(some: Array) -> Array:
        mine, of = y[some], arm[some]
        if len(mine) < 2:
            raise StatisticError("cupac_few_units", name=metric.name, n=len(mine))
        found = mine + mine.mean()
        for one in np.unique(of):
            found[of == one] -= mine[of == one].mean()
        return np.asarray(found, float)

    return target
