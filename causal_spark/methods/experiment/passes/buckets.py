"""Sums of every metric by arm and bucket, for bootstrap and jackknife: one scan, whatever the number of replicates."""

from __future__ import annotations

from typing import Any

from causal_spark.methods.experiment import plan
from causal_spark.methods.experiment.passes.given import Given
from causal_spark.spark.buckets import BucketSum, bucket_sums

SALT = "bootstrap"


def buckets(given: Given) -> dict[str, Any] | None:
    """Metric → ``centres`` of its columns, and ``arms``: rows by bucket of the count and the centred column sums."""
    asked = given.method.bootstrap
    if asked is None:
        return None
    chosen = [b for b in plan.blocks(given.table.metrics) if not asked.metrics or b.metric.name in asked.metrics]
    columns = list(dict.fromkeys(column for block in chosen for column in block.columns))
    key = given.method.cluster or given.table.unit
    frame = given.prepared(columns, given.table.arm, key)
    wanted = {block.metric.name: _sums(given, block) for block in chosen}
    every = list(dict.fromkeys(item for sums in wanted.values() for item in sums))
    found = bucket_sums(frame, given.table.arm, key, asked.buckets, SALT, every)
    return {
        name: {
            "centres": [item.centre for item in sums[1:]],
            "arms": {
                arm: found[arm][:, [every.index(item) for item in sums]].tolist()
                for arm in given.table.arms if arm in found
            },
        }
        for name, sums in wanted.items()
    }  # fmt: skip


def _sums(given: Given, block: plan.Block) -> list[BucketSum]:
    """The count, then the block's columns; means about a number near them, ratios as they are."""
    nullable, centres = given.nullable(block.columns), given.centres(block.columns)
    complete = tuple(column.name for column in block.columns if column.name in nullable)
    divided = {column for part in block.parts if part.denominator is not None for column in part.columns}
    means = [BucketSum(c.name, complete, 0.0 if c in divided else centres[c.name]) for c in block.columns]
    return [BucketSum(None, complete), *means]
