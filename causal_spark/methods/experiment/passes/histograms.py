"""Histograms of metrics by arm and segment, for quantiles and ranks; with clusters, further passes for the quantiles'
variance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from causal_spark.errors import GateError
from causal_spark.methods.experiment import plan
from causal_spark.methods.experiment.passes.given import Given
from causal_spark.methods.experiment.passes.segments import Jobs, Rows, jobs, margins, nested
from causal_spark.methods.experiment.vocabulary import Metric
from causal_spark.solve.quantiles import cell_at
from causal_spark.spark import histograms as native
from causal_spark.spark.columns import as_label
from causal_spark.spark.histograms import Binned
from causal_spark.spark.tables import Frame
from causal_spark.statistics import Moments
from causal_spark.statistics.histogram import EXACT, Histogram, cell

MOST = 2**62
# Arms times values of a segment column, each with quantiles of its own, up to which clusters are counted in segments.
MAX_LIMITS = 200

Parts = Mapping[str, Mapping[str, Histogram]]


def histograms(given: Given) -> dict[str, Any] | None:
    """Metric → ``arms``: its histogram in each arm; ``clusters``: moments of the clusters' counts, if there are any.
    The same of each of the ``segments``, as far as they come to ``native.MAX_CELLS`` cells.

    Values are those of the metric's column under its NULL policy, before winsorising. One job where the segments' cross
    is small enough, else one for each segment column; with clusters one more, and one for each segment column.
    """
    wanted = [metric for metric in given.table.metrics if metric.quantiles or metric.ranks]
    if not wanted:
        return None
    columns = [plan.Column(metric.sources[0], metric.nulls) for metric in wanted]
    arm, cluster = given.table.arm, given.method.cluster
    binned = [_binned(given, metric, column) for metric, column in zip(wanted, columns, strict=True)]
    chosen = jobs(given, [_rows(given, *pair) for pair in zip(wanted, binned, strict=True)], native.MAX_CELLS,
                  _countable(given))  # fmt: skip
    keys = [arm, *([cluster] if cluster else []), *chosen.columns]
    frame = given.prepared(list(dict.fromkeys(columns)), *keys)
    found = [
        {label: {name: h for name, parts in arms.items() if (h := _total(parts)).n} for label, arms in of.items()}
        for of in margins(given, chosen, lambda by: native.histograms(frame, [arm, *by], binned))
    ]
    data = {
        metric.name: nested({label: {a: h.to_dict() for a, h in arms.items()} for label, arms in of.items()})
        for metric, of in zip(wanted, found, strict=True)
    }
    if cluster is not None:
        _add_clusters(given, chosen, frame, cluster, list(zip(wanted, binned, found, strict=True)), data)
    return data


def _total(parts: Sequence[Histogram]) -> Histogram:
    """Their sum in one step."""
    cells, counts = (np.concatenate([getattr(part, name) for part in parts]) for name in ("cells", "counts"))
    return Histogram.from_cells(cells, counts, parts[0].bits, parts[0].scale)


def _countable(given: Given) -> list[str]:
    """The segment columns with few enough values, if clusters are to be counted up to the quantiles of each."""
    columns = list(given.method.segments)
    if given.method.cluster is None:
        return columns
    return [c for c in columns if len(given.levels(plan.ROWS, c)) * len(given.table.arms) <= MAX_LIMITS]


def _add_clusters(
    given: Given, chosen: Jobs, frame: Frame, cluster: str, found: Sequence[tuple[Metric, Binned, Parts]],
    data: Mapping[str, Any],
) -> None:  # fmt: skip
    """How many units of each cluster have a value, and how many lie at or below each quantile's cell; a cluster that
    lies in several segments is a cluster within each of them.
    """
    for column in (None, *chosen.columns):
        levels = [plan.EVERYONE] if column is None else list(given.levels(plan.ROWS, column))
        labels = {level: level if column is None else plan.segment(column, level) for level in levels}
        limited = [
            (metric.name, item, limits)
            for metric, item, of in found
            if metric.quantiles and (limits := _limits(metric, {level: of[label] for level, label in labels.items()}))
        ]
        if not limited:
            continue
        keys = [given.table.arm, *([column] if column else [])]
        named = frame
        for key in keys:
            named = as_label(named, key)
        counts = native.cluster_counts(named, keys, cluster, [
            (item, {key if column else key[:1]: cells for key, cells in limits.items()}) for _, item, limits in limited
        ])  # fmt: skip
        for (name, _, limits), groups in zip(limited, counts, strict=True):
            for level, label in labels.items():
                place = data[name] if column is None else data[name]["segments"][label]
                place["clusters"] = _counts(groups, level if column else None, limits)


def _limits(metric: Metric, of: Parts) -> dict[tuple[str, str], list[int]]:
    """The cells of the quantiles by arm and level."""
    return {
        (arm, level): [cell_at(h, q) for q in metric.quantiles] for level, arms in of.items() for arm, h in arms.items()
    }


def _counts(
    groups: Mapping[tuple[str, ...], Moments], level: str | None, limits: Mapping[tuple[str, str], object]
) -> dict[str, Any]:
    """By arm, of one level."""
    arms = {key[0]: part for key, part in groups.items() if level is None or key[1] == level}
    return {arm: arms[arm].to_dict() for arm, where in limits if where == (level or plan.EVERYONE) and arm in arms}


def _rows(given: Given, metric: Metric, item: Binned) -> Rows:
    """Cells between the lowest and the highest value, both signs as far as they occur."""
    low, high = _ends(given, metric)
    ends = cell(np.round(np.array([low, high]) * item.scale).astype(np.int64), item.bits)
    size = plan.block(metric).size if given.method.cluster is not None else None
    return Rows(metric.name, float(ends[1] - ends[0]) + 1, size=size)


def _ends(given: Given, metric: Metric) -> tuple[float, float]:
    """The lowest and the highest value that a unit may have."""
    found = given.table.ranges[metric.sources[0]]
    ends = [0.0 if found.low is None else found.low, 1.0 if found.high is None else found.high]
    ends += [0.0] if metric.nulls == "zero" else []
    return min(ends), max(ends)


def _binned(given: Given, metric: Metric, column: plan.Column) -> Binned:
    """Exact if there cannot be more values than allowed: no more rows, or no more whole numbers in their range."""
    found, table = given.table.ranges[column.source], given.table
    counted = metric.kind == "count" and "events" in table.facts
    scale = 1 if counted or native.whole(table.frame, column.source) else metric.scale
    low, high = _ends(given, metric)
    largest = math.ceil(max(abs(low), abs(high)) * scale) + 1
    if largest >= MOST:
        raise GateError("fixed_point_overflow", column=column.source, scale=scale)
    possible = min(found.n, (high - low) * scale + 1)
    bits = EXACT if possible <= given.method.exact_values else given.method.histogram_bits
    return Binned(column.name, scale, bits, largest)
