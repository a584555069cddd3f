"""Moments over the cells of a switchback by arm, arm of the period before and stretch of the period: one pass."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from causal_spark.methods.experiment import plan, switchback
from causal_spark.methods.experiment.passes.given import Given
from causal_spark.methods.experiment.plan import in_stretch
from causal_spark.methods.experiment.vocabulary import CELL
from causal_spark.spark import periods, units
from causal_spark.spark.compress import MomentsSpec, compress


def carryover(given: Given) -> dict[str, Any] | None:
    """``minutes``: the edges of the stretches; ``cells``: ``Grouped`` by (arm, arm before, metric).

    Only where ``hours`` say which period follows which. Cells without one before them are left out.
    """
    edges = [] if given.method.switchback is None else switchback.stretches(given.method.switchback)
    if given.method.switchback is None or not edges:
        return None
    region, arm, count = given.method.switchback.region, given.table.arm, len(edges) - 1
    planned = plan.blocks(given.table.metrics)
    columns = list(dict.fromkeys(column for block in planned for column in block.parts[0].columns))
    wanted = {in_stretch(column.name, i): (column.name, i) for column in columns for i in range(count)}
    frame = given.prepared(columns, arm, region, CELL, periods.START, periods.ELAPSED)
    sums = {block.metric.name: [item for i in range(count) for item in _sums(block, i)] for block in planned}
    totals = units.clusters(
        periods.in_stretches(frame, wanted, edges), CELL, (arm, region, periods.START),
        [item for some in sums.values() for item in some],
    )  # fmt: skip
    cells = periods.following(totals, region, arm, edges[-1])
    blocks = {name: tuple(item.name for item in some) for name, some in sums.items()}
    found = compress(cells, MomentsSpec(blocks, by=(arm, periods.BEFORE)))
    return {"minutes": [edge / switchback.MINUTE for edge in edges], "cells": found.to_dict()}


def _sums(block: plan.Block, stretch: int) -> Iterable[units.ClusterSum]:
    """The size and the totals of a cell in one stretch, of rows that are complete."""
    own = block.parts[0].columns
    complete = tuple(in_stretch(column.name, stretch) for column in own)
    yield units.ClusterSum(in_stretch(block.size, stretch), None, complete)
    for column, name in zip(own, complete, strict=True):
        yield units.ClusterSum(in_stretch(block.total(column), stretch), name, complete, block.metric.scale)
