"""Moments of every metric by stratum and arm, for post-stratification: a margin of the main pass."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from causal_spark.errors import StatisticError
from causal_spark.methods.experiment import plan
from causal_spark.methods.experiment.tables import UnitTable
from causal_spark.methods.experiment.vocabulary import Experiment
from causal_spark.solve.strata import Cells
from causal_spark.statistics import Grouped, Moments
from causal_spark.statistics.grouped import BLOCK

MAX_STRATA = 5_000
SMALL = "(small strata)"


def strata(method: Experiment, table: UnitTable, moments: Grouped) -> dict[str, Any] | None:
    """Metric → stratum → arm → moments of its columns; small strata are one. ``moments``: with those by stratum.

    Raises StatisticError for too many strata.
    """
    if method.strata is None:
        return None
    others = [name for name in method.segments if name != method.strata]
    found: dict[str, dict[str, dict[str, Moments]]] = {metric.name: {} for metric in table.metrics}
    for named, part in moments.where():
        stratum = named[method.strata]
        if named[BLOCK] == plan.ROWS or stratum is None or any(named[name] is not None for name in others):
            continue
        if str(named[table.arm]) in table.arms:
            found[str(named[BLOCK])].setdefault(stratum, {})[str(named[table.arm])] = part
    if max(sum(map(len, cells.values())) for cells in found.values()) > MAX_STRATA:
        raise StatisticError("too_many_cells", keys=f"{table.arm}, {method.strata}", limit=MAX_STRATA)
    return {
        metric: {
            label: {name: part.to_dict() for name, part in parts.items()}
            for label, parts in _merged(cells, table.arms, method.min_segment).items()
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
