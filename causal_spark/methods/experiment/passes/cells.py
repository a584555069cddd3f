"""The metrics' moments by the arm and further columns: one group-by."""

from __future__ import annotations

from causal_spark.methods.experiment import plan
from causal_spark.methods.experiment.passes.given import Given
from causal_spark.spark.compress import MomentsSpec, compress
from causal_spark.statistics import Grouped


def cells(given: Given, *keys: str) -> Grouped:
    """Moments by (arm, *keys, metric) of every metric's own columns, without its covariates, and counts of units.

    Raises StatisticError if there are more combinations than a driver should hold.
    """
    table = given.table
    planned = plan.blocks(table.metrics)
    own = {block.metric.name: block.parts[0].columns for block in planned}
    columns = list(dict.fromkeys(column for mine in own.values() for column in mine))
    spec = MomentsSpec(
        {plan.ROWS: (), **{name: tuple(c.name for c in mine) for name, mine in own.items()}},
        by=(table.arm, *keys),
        nullable=given.nullable(columns),
    )
    return compress(given.prepared(columns, table.arm, *keys), spec, given.centres(columns))
