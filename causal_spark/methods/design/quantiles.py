"""What the history says of quantiles: their value, and the variance of a unit from the density around them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from causal_spark.errors import StatisticError
from causal_spark.methods.design.compressed import Spread
from causal_spark.methods.design.prepare import ALL
from causal_spark.methods.experiment import Metric
from causal_spark.solve.quantiles import quantile, share_variance
from causal_spark.statistics import Moments
from causal_spark.statistics.histogram import Histogram

# The interval whose width tells the density. Of another level it would tell the same, but for chance.
ALPHA = 0.05


def spreads(metric: Metric, data: Mapping[str, Any], n: float) -> list[Spread]:
    """Every quantile that ``metric`` asks for, over ``n`` units (clusters); ``data`` of the pass ``histograms``."""
    h = Histogram.from_dict(data["arms"][ALL])
    clusters = Moments.from_dict(data["clusters"][ALL]) if "clusters" in data else None
    found = []
    for place, q in enumerate(metric.quantiles):
        share = None if clusters is None else share_variance(clusters, clusters.names[1 + place], clusters.names[0])
        try:
            part = quantile(h, q, ALPHA, share)
            found.append(Spread(metric.name, q, part.estimate, part.std_error**2 * n, n))
        except StatisticError:
            found.append(Spread(metric.name, q, math.nan, math.nan, n))
    return found
