"""Histograms of metrics by arm, for quantiles and ranks; with clusters, a second pass for the quantiles' variance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from causal_spark.errors import GateError
from causal_spark.methods.experiment import plan
from causal_spark.methods.experiment.passes.given import Given
from causal_spark.methods.experiment.vocabulary import Metric
from causal_spark.solve.quantiles import cell_at
from causal_spark.spark import histograms as native
from causal_spark.spark.histograms import Binned
from causal_spark.spark.tables import Frame
from causal_spark.statistics.histogram import EXACT, Histogram

MOST = 2**62


def histograms(given: Given) -> dict[str, Any] | None:
    """Metric → ``arms``: its histogram in each arm; ``clusters``: moments of the clusters' counts, if there are any.

    Values are those of the metric's column under its NULL policy, before winsorising. One job; with clusters a second.
    """
    wanted = [metric for metric in given.table.metrics if metric.quantiles or metric.ranks]
    if not wanted:
        return None
    columns = [plan.Column(metric.sources[0], metric.nulls) for metric in wanted]
    keys = [given.table.arm, *([given.method.cluster] if given.method.cluster else [])]
    frame = given.prepared(list(dict.fromkeys(columns)), *keys)
    binned = [_binned(given, metric, column) for metric, column in zip(wanted, columns, strict=True)]
    found = [_tested(given, arms) for arms in native.histograms(frame, given.table.arm, binned)]
    data: dict[str, Any] = {
        metric.name: {"arms": {arm: h.to_dict() for arm, h in arms.items()}}
        for metric, arms in zip(wanted, found, strict=True)
    }
    if given.method.cluster is not None:
        _add_clusters(given, frame, given.method.cluster, list(zip(wanted, binned, found, strict=True)), data)
    return data


def _add_clusters(
    given: Given, frame: Frame, cluster: str, found: Sequence[tuple[Metric, Binned, Mapping[str, Histogram]]],
    data: dict[str, Any],
) -> None:  # fmt: skip
    """How many units of each cluster have a value, and how many lie at or below each quantile's cell."""
    limited = [
        (metric.name, item, {arm: [cell_at(h, q) for q in metric.quantiles] for arm, h in arms.items()})
        for metric, item, arms in found
        if metric.quantiles and arms
    ]
    if not limited:
        return
    pairs = [(item, limits) for _, item, limits in limited]
    counts = native.cluster_counts(frame, given.table.arm, cluster, pairs)
    for (name, _, limits), arms in zip(limited, counts, strict=True):
        data[name]["clusters"] = {arm: part.to_dict() for arm, part in arms.items() if arm in limits}


def _tested(given: Given, arms: Mapping[str, Histogram]) -> dict[str, Histogram]:
    """Only the arms in the test that have values."""
    return {arm: arms[arm] for arm in given.table.arms if arm in arms and arms[arm].n}


def _binned(given: Given, metric: Metric, column: plan.Column) -> Binned:
    """Exact if there cannot be more values than allowed: no more rows, or no more whole numbers in their range."""
    found, table = given.table.ranges[column.source], given.table
    counted = metric.kind == "count" and "events" in table.facts
    scale = 1 if counted or native.whole(table.frame, column.source) else metric.scale
    ends = [0.0 if found.low is None else found.low, 1.0 if found.high is None else found.high]
    ends += [0.0] if metric.nulls == "zero" else []
    largest = math.ceil(max(map(abs, ends)) * scale) + 1
    if largest >= MOST:
        raise GateError("fixed_point_overflow", column=column.source, scale=scale)
    possible = min(found.n, (max(ends) - min(ends)) * scale + 1)
    bits = EXACT if possible <= given.method.exact_values else given.method.histogram_bits
    return Binned(column.name, scale, bits, largest)
