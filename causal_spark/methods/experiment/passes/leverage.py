"""The sums that robust standard errors of Lin's regression need once the slopes are known: one scan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from causal_spark.methods.experiment import plan
from causal_spark.methods.experiment.adjusted import linear, linear_columns
from causal_spark.methods.experiment.passes.given import Given
from causal_spark.solve.lin import ArmFit, fit_arms, leverage_sums
from causal_spark.spark.blocks import Block, Work, accumulate
from causal_spark.spark.columns import as_text
from causal_spark.statistics import Sums
from causal_spark.statistics.moments import Array

Fits = Sequence[tuple[str, tuple[str, ...], Mapping[str, ArmFit]]]


def leverage(given: Given) -> dict[str, Any] | None:
    """Metric → arm → ``HC0``, ``HC2``, ``HC3``, over everyone, of the metrics that a regression adjusts."""
    chosen = [block for block in plan.blocks(given.table.metrics) if linear(block)]
    if given.method.adjustment != "lin" or not chosen:
        return None
    fits = [
        (block.metric.name, linear_columns(block), fit_arms(
            {arm: part.select(linear_columns(block)) for arm, part in given.arms(block.metric.name).items()}))
        for block in chosen
    ]  # fmt: skip
    columns = list(dict.fromkeys(column for block in chosen for column in block.columns))
    frame = as_text(given.prepared(columns, given.table.arm), given.table.arm)
    found = accumulate(frame, [given.table.arm, *(c.name for c in columns)], _work(given.table.arm, fits))
    return {
        name: {arm: {kind: found.number(f"{i}/{j}/{kind}") for kind in ("HC0", "HC2", "HC3")}
               for j, arm in enumerate(mine)}
        for i, (name, _, mine) in enumerate(fits)
    }  # fmt: skip


def _work(arm: str, fits: Fits) -> Work:
    """What is done to a block of rows: a row counts in its arm if all columns of the metric are there."""

    def work(block: Block) -> Sums:
        labels = np.asarray(block[arm], object)
        sums: dict[str, Array] = {}
        for i, (_, names, mine) in enumerate(fits):
            rows = np.column_stack([np.asarray(block[name], float) for name in names])
            whole = ~np.isnan(rows).any(axis=1)
            for j, (label, fit) in enumerate(mine.items()):
                part = rows[whole & np.array(labels == label, bool)]
                found = leverage_sums(fit, part[:, 0], part[:, 1:])
                sums |= {f"{i}/{j}/{kind}": value for kind, value in found.values.items()}
        return Sums(sums)

    return work
