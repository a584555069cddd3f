"""A/A validation: sums by hashed bucket in one scan, then thousands of splits of whole buckets on the driver."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from causal_spark.methods.design.planned import test_of
from causal_spark.methods.design.prepare import ALL, ARM, fits
from causal_spark.methods.design.vocabulary import Design
from causal_spark.methods.experiment import plan
from causal_spark.methods.experiment.tables import UnitTable, prepared
from causal_spark.solve.linear import cuped
from causal_spark.solve.means import Form, jacobian
from causal_spark.solve.power import unit_variance
from causal_spark.solve.splits import bucket_splits
from causal_spark.spark.assignment import bucket_totals
from causal_spark.spark.units import ClusterSum
from causal_spark.statistics import Grouped, Moments
from causal_spark.statistics.grouped import BLOCK
from causal_spark.statistics.moments import Array

BUCKETS, SALT, SEED = 32_768, "a/a", 1

Zs = tuple[str, str, tuple[float, ...]]


def splits(method: Design, table: UnitTable, moments: Grouped, caps: Mapping[str, float]) -> tuple[Zs, ...]:
    """z of every split, for each metric and test. Raises GateError if sums could overflow."""
    assert method.aa is not None
    planned, clustered = plan.blocks(table.metrics), method.cluster is not None
    columns = list(dict.fromkeys(column for block in planned for column in block.columns))
    capped = {c: caps[c.name] for c in columns if c.name in caps}
    for block in planned:
        for column in block.columns:
            fits(table.ranges[column.source], column.source, block.metric.scale)
    nullable = {c.name for c in columns if c.nulls == "drop" and table.ranges[c.source].nulls > 0}
    sums = [item for block in planned for item in _sums(block, nullable)]
    frame = prepared(table, columns, capped, [method.key])
    n, totals = bucket_totals(frame, method.key, sums, BUCKETS, SALT, clustered)
    place = {item.name: i for i, item in enumerate(sums)}
    found: list[Zs] = []
    for block in planned:
        part = next(part for named, part in moments.where(**{BLOCK: block.metric.name}) if named[ARM] == ALL)
        rows = n if clustered else totals[:, place[block.size]]
        names = part.names if clustered else [block.total(c) for c in block.columns]
        mine = totals[:, [place[name] for name in names]]
        found += _of_block(method, block, part, rows, mine)
    return tuple(found)


def _sums(block: plan.Block, nullable: set[str]) -> Iterator[ClusterSum]:
    complete = tuple(c.name for c in block.columns if c.name in nullable)
    yield ClusterSum(block.size, None, complete)
    yield from (ClusterSum(block.total(c), c.name, complete, block.metric.scale) for c in block.columns)


def _of_block(method: Design, block: plan.Block, part: Moments, n: Array, totals: Array) -> Iterator[Zs]:
    """Splits of the linearised values of a metric, without and with its covariates."""
    assert method.aa is not None
    clustered = method.cluster is not None
    forms = block.forms(clustered)
    tests = [(test_of(block, clustered), forms[:1]), *([("cuped", forms)] if len(forms) > 1 else [])]
    values = np.column_stack([_linear(part, used, n, totals) for _, used in tests])
    variance = np.array([unit_variance(part, used)[0] for _, used in tests])
    share = method.shares[method.neediest]
    share /= share + method.shares[method.control]
    kept = n > 0
    z, _ = bucket_splits(n[kept], values[kept], variance, method.aa.splits, SEED, share)
    for i, (test, _) in enumerate(tests):
        yield block.metric.name, test, tuple(float(value) for value in z[:, i])


def _linear(part: Moments, forms: Sequence[Form], n: Array, totals: Array) -> Array:
    """Σ over each bucket of the linearised value less its mean, less what the covariates explain; (B,)."""
    weights = np.array([1.0])
    if len(forms) > 1:
        weights = np.concatenate([weights, -cuped({ALL: part}, forms).theta])
    values = (totals - n[:, None] * part.mean) @ jacobian(part, list(forms)).T @ weights
    return np.asarray(values, float)
