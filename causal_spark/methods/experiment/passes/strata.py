"""Moments of every metric by stratum and arm, for post-stratification: one scan."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from causal_spark.methods.experiment import plan
from causal_spark.methods.experiment.passes.given import Given
from causal_spark.solve.strata import Cells
from causal_spark.spark.compress import MomentsSpec, compress
from causal_spark.statistics import Moments
from causal_spark.statistics.grouped import BLOCK

MAX_STRATA = 5_000
SMALL = "(small strata)"


def strata(given: Given) -> dict[str, Any] | None:
    """Metric → stratum → arm → moments of its columns; small strata are one. Raises StatisticError for too many."""
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
    found: dict[str, dict[str, dict[str, Moments]]] = {block.metric.name: {} for block in planned}
    for named, part in grouped.where():
        if str(named[arm]) in given.table.arms:
            found[str(named[BLOCK])].setdefault(str(named[stratum]), {})[str(named[arm])] = part
    return {
        metric: {
            label: {name: part.to_dict() for name, part in arms.items()}
            for label, arms in _merged(cells, given.table.arms, given.method.min_segment).items()
        }
        for metric, cells in found.items()
    }


def _merged(cells: Cells, arms: Collection[str], least: int) -> dict[str, Mapping[str, Moments]]:
    """Strata in which an arm has fewer than ``least`` units become one, so that none of them is in the statistics."""
    small = {label for label, parts in cells.items() if any(arm not in parts or parts[arm].n < least for arm in arms)}
    kept: dict[str, Mapping[str, Moments]] = {label: parts for label, parts in cells.items() if label not in small}
    rest = {arm: [cells[label][arm] for label in sorted(small) if arm in cells[label]] for arm in arms}
    if small:
        kept[SMALL] = {arm: sum(parts[1:], parts[0]) for arm, parts in rest.items() if parts}
    return kept
