"""Sums of every metric by arm, segment and bucket, for bootstrap and jackknife, whatever the number of replicates."""

from __future__ import annotations

from typing import Any

from causal_spark.methods.experiment import plan
from causal_spark.methods.experiment.passes.given import Given
from causal_spark.methods.experiment.passes.segments import Rows, jobs, margins, nested
from causal_spark.spark.buckets import BucketSum, bucket_groups, spread

SALT = "bootstrap"
# Sums of all metrics, buckets, arms and segments together that the driver takes.
MAX_SUMS = 1_000_000


def buckets(given: Given) -> dict[str, Any] | None:
    """Metric → ``centres`` of its columns, and ``arms``: rows by bucket of the count and the centred column sums.
    The same of each of the ``segments``, as far as they come to ``MAX_SUMS`` sums.

    One scan where the segments' cross is small enough, else one for each segment column.
    """
    asked = given.method.bootstrap
    if asked is None:
        return None
    chosen = [b for b in plan.blocks(given.table.metrics) if not asked.metrics or b.metric.name in asked.metrics]
    columns = list(dict.fromkeys(column for block in chosen for column in block.columns))
    key, arm, size = given.method.cluster or given.table.unit, given.table.arm, asked.buckets
    wanted = {block.metric.name: _sums(given, block) for block in chosen}
    every = list(dict.fromkeys(item for sums in wanted.values() for item in sums))
    planned = jobs(given, [Rows(plan.ROWS, size, len(every))], MAX_SUMS)
    frame = given.prepared(columns, arm, key, *planned.columns)
    (found,) = margins(given, planned, lambda by: [bucket_groups(frame, [arm, *by], key, size, SALT, every)])
    whole = {label: {arm: spread(parts, size) for arm, parts in arms.items()} for label, arms in found.items()}
    return {
        name: {"centres": [item.centre for item in sums[1:]], **nested({
            label: {arm: table[:, [every.index(item) for item in sums]].tolist() for arm, table in arms.items()}
            for label, arms in whole.items()
        })}
        for name, sums in wanted.items()
    }  # fmt: skip


def _sums(given: Given, block: plan.Block) -> list[BucketSum]:
    """The count, then the block's columns; means about a number near them, ratios as they are."""
    nullable, centres = given.nullable(block.columns), given.centres(block.columns)
    complete = tuple(column.name for column in block.columns if column.name in nullable)
    divided = {column for part in block.parts if part.denominator is not None for column in part.columns}
    means = [BucketSum(c.name, complete, 0.0 if c in divided else centres[c.name]) for c in block.columns]
    return [BucketSum(None, complete), *means]
