"""Moments of every metric by stratum and arm, for post-stratification: one scan."""

from __future__ import annotations

from typing import Any

from causal_spark.methods.experiment import plan
from causal_spark.methods.experiment.passes.given import Given
from causal_spark.spark.compress import MomentsSpec, compress
from causal_spark.statistics.grouped import BLOCK

MAX_STRATA = 5_000


def strata(given: Given) -> dict[str, Any] | None:
    """Metric → stratum → arm → moments of its columns. Raises StatisticError for too many strata."""
    if given.method.strata is None:
        return None
    planned = plan.blocks(given.table.metrics)
    columns = list(dict.fromkeys(column for block in planned for column in block.columns))
    arm, stratum = given.table.arm, given.method.strata
    spec = MomentsSpec(
        {block.metric.name: tuple(column.name for column in block.columns) for block in planned},
        by=(arm, stratum), nullable=given.nullable(columns),
    )  # fmt: skip
    grouped = compress(given.prepared(columns, arm, stratum), spec, given.centres(columns), MAX_STRATA)
    found: dict[str, Any] = {block.metric.name: {} for block in planned}
    for named, part in grouped.where():
        if str(named[arm]) in given.table.arms:
            found[str(named[BLOCK])].setdefault(str(named[stratum]), {})[str(named[arm])] = part.to_dict()
    return found
