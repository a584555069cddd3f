"""A/A validation: sums by hashed bucket in one scan, then thousands of splits of whole buckets on the driver."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from causal_spark.methods.design.planned import test_of
from causal_spark.methods.design.prepare import ALL, ARM
from causal_spark.methods.design.vocabulary import Design
from causal_spark.methods.experiment import plan
from causal_spark.methods.experiment.tables import UnitTable, prepared
from causal_spark.solve.linear import cuped
from causal_spark.solve.means import Form, jacobian
from causal_spark.solve.power import unit_variance
from causal_spark.solve.splits import bucket_splits
from causal_spark.spark.buckets import BucketSum, bucket_sums
from causal_spark.spark.units import ClusterSum, clusters
from causal_spark.statistics import Grouped, Moments
from causal_spark.statistics.grouped import BLOCK
from causal_spark.statistics.moments import Array

BUCKETS, SALT, SEED = 32_768, "a/a", 1

Zs = tuple[str, str, tuple[float, ...]]


def splits(method: Design, table: UnitTable, moments: Grouped, caps: Mapping[str, float]) -> tuple[Zs, ...]:
    """z of every split, for each metric and test. One group-by; with clusters, one by cluster before it."""
    planned, clustered = plan.blocks(table.metrics), method.cluster is not None
    columns = list(dict.fromkeys(column for block in planned for column in block.columns))
    nullable = {c.name for c in columns if c.nulls == "drop" and table.ranges[c.source].nulls > 0}
    complete = {block.metric.name: tuple(c.name for c in block.columns if c.name in nullable) for block in planned}
    frame = prepared(table, columns, {c: caps[c.name] for c in columns if c.name in caps}, [ARM, method.key])
    if clustered:
        totals = [item for block in planned for item in _totals(block, complete[block.metric.name])]
        frame, complete = clusters(frame, method.key, (ARM,), totals, keep=True), {}
    wanted: dict[str, list[BucketSum]] = {}
    parts = {str(named[BLOCK]): part for named, part in moments.where() if named[ARM] == ALL}
    for block in planned:
        name, part = block.metric.name, parts[block.metric.name]
        there = complete.get(name, ())
        sums = (BucketSum(c, there, float(mean)) for c, mean in zip(part.names, part.mean, strict=True))
        wanted[name] = [BucketSum(None, there), *sums]
    every = list(dict.fromkeys(item for sums in wanted.values() for item in sums))
    found = bucket_sums(frame, ARM, method.key, BUCKETS, SALT, every)[ALL]
    zs: list[Zs] = []
    for block in planned:
        mine = found[:, [every.index(item) for item in wanted[block.metric.name]]]
        zs += _of_block(method, block, parts[block.metric.name], mine[:, 0], mine[:, 1:])
    return tuple(zs)


def _totals(block: plan.Block, complete: tuple[str, ...]) -> Iterator[ClusterSum]:
    """A cluster's size and totals, as its moments have them."""
    yield ClusterSum(block.size, None, complete)
    yield from (ClusterSum(block.total(c), c.name, complete, block.metric.scale) for c in block.columns)


def _of_block(method: Design, block: plan.Block, part: Moments, n: Array, totals: Array) -> Iterator[Zs]:
    """Splits of the linearised values of a metric, without and with its covariates."""
    assert method.aa is not None
    clustered = method.cluster is not None
    forms = block.forms(clustered)
    tests = [(test_of(block, clustered), forms[:1]), *([("cuped", forms)] if len(forms) > 1 else [])]
    values = np.column_stack([_linear(part, used, totals) for _, used in tests])
    variance = np.array([unit_variance(part, used)[0] for _, used in tests])
    share = method.shares[method.neediest]
    share /= share + method.shares[method.control]
    kept = n > 0
    z, _ = bucket_splits(n[kept], values[kept], variance, method.aa.splits, SEED, share)
    for i, (test, _) in enumerate(tests):
        yield block.metric.name, test, tuple(float(value) for value in z[:, i])


def _linear(part: Moments, forms: Sequence[Form], totals: Array) -> Array:
    """Σ over each bucket of the linearised value less its mean, less what the covariates explain; (B,).

    ``totals`` (B, p): Σ over each bucket of the columns less their means.
    """
    weights = np.array([1.0])
    if len(forms) > 1:
        weights = np.concatenate([weights, -cuped({ALL: part}, forms).theta])
    return np.asarray(totals @ jacobian(part, list(forms)).T @ weights, float)
