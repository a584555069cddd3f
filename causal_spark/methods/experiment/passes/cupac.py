"""Moments of outcome and features by fold and arm, from which a cross-fitted prediction follows: one scan."""

from __future__ import annotations

from typing import Any

from causal_spark.methods.experiment import plan
from causal_spark.methods.experiment.passes.given import Given
from causal_spark.spark.buckets import with_bucket
from causal_spark.spark.compress import MomentsSpec, compress
from causal_spark.statistics.grouped import BLOCK

FOLDS, SALT, FOLD = 5, "cupac", "(fold)"


def cupac(given: Given) -> dict[str, Any] | None:
    """Metric → fold → arm → moments of the outcome and its features; a fold is a hash of the unit."""
    wanted = {
        metric.name: (plan.block(metric).columns[0], *(plan.Column(name, "zero") for name in metric.cupac))
        for metric in given.table.metrics if metric.cupac
    }  # fmt: skip
    if not wanted:
        return None
    columns = list(dict.fromkeys(column for some in wanted.values() for column in some))
    arm = given.table.arm
    frame = with_bucket(given.prepared(columns, arm, given.table.unit), given.table.unit, FOLDS, SALT, FOLD)
    blocks = {name: tuple(column.name for column in some) for name, some in wanted.items()}
    spec = MomentsSpec(blocks, by=(arm, FOLD), nullable=given.nullable(columns))
    found: dict[str, Any] = {name: {} for name in wanted}
    for named, part in compress(frame, spec, given.centres(columns)).where():
        if str(named[arm]) in given.table.arms:
            found[str(named[BLOCK])].setdefault(str(named[FOLD]), {})[str(named[arm])] = part.to_dict()
    return found
