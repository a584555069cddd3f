"""What each line of ``benchmarks.platform`` does with the suite: from a table of (unit, arm, value) to two figures."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

REPLICATES, SPLITS, SPLIT_BUCKETS, DRAWS = 200, 2_000, 32_768, 100
QUANTILES = (0.5, 0.9)
ARMS = ("control", "treatment")


def _given(frame: Any) -> Any:
    """What the passes of the experiment job are given, for the one metric of the table."""
    from causal_spark.methods.experiment import Experiment, Metric
    from causal_spark.methods.experiment.passes.given import Given
    from causal_spark.methods.experiment.settings import Bootstrap
    from causal_spark.methods.experiment.tables import UnitTable
    from causal_spark.spark import gate
    from causal_spark.statistics import Grouped

    metric = Metric("value", "mean", value="value", quantiles=QUANTILES)
    method = Experiment(
        unit="unit", arm="arm", control="control", metrics=(metric,), bootstrap=Bootstrap(replicates=REPLICATES)
    )
    table = UnitTable(frame, (metric,), "unit", "arm", gate.ranges(frame, ["value"]), dict.fromkeys(ARMS, 0.5))
    return Given(method, table, {}, Grouped((), {}))


def _bootstrap(frame: Any) -> tuple[float, float]:
    from causal_spark.methods.experiment.passes.buckets import buckets
    from causal_spark.solve.bootstrap import bootstrap, replicates

    data = buckets(_given(frame))["value"]  # type: ignore[index]
    tables = [np.array(data["arms"][arm]) for arm in ARMS]
    now = [table.sum(axis=0) for table in tables]
    again = [replicates(table, REPLICATES, 7 + place) for place, table in enumerate(tables)]
    means, each = [t[1] / t[0] for t in now], [t[:, 1] / t[:, 0] for t in again]
    test = bootstrap(means[1] - means[0], each[1] - each[0])
    return test.estimate, test.std_error


def _quantiles(frame: Any) -> tuple[float, float]:
    from causal_spark.methods.experiment.passes.histograms import histograms
    from causal_spark.solve.quantiles import quantile, quantile_difference
    from causal_spark.statistics.histogram import Histogram

    data = histograms(_given(frame))["value"]["arms"]  # type: ignore[index]
    arms = [Histogram.from_dict(data[arm]) for arm in ARMS]
    tests = []
    for q in QUANTILES:
        c, t = (quantile(h, q) for h in arms)
        tests.append(quantile_difference(t, c))
    return tests[0].estimate, tests[0].std_error


def _percentile(name: str) -> Callable[[Any], tuple[float, float]]:
    """The engine's own percentiles of the same column by arm: no standard error."""

    def work(frame: Any) -> tuple[float, float]:
        from pyspark.sql import functions as F

        found = F.array(*(getattr(F, name)("value", F.lit(q)) for q in QUANTILES)).alias("q")
        rows = {row["arm"]: row["q"] for row in frame.groupBy("arm").agg(found).toArrow().to_pylist()}
        return float(rows["treatment"][0] - rows["control"][0]), math.nan

    return work


def _splits(frame: Any) -> tuple[float, float]:
    """The rejection rate of 2,000 A/A splits and the deviation of their z."""
    from causal_spark.solve.splits import bucket_splits, validate
    from causal_spark.spark.buckets import BucketSum, bucket_sums
    from causal_spark.spark.compress import MomentsSpec, compress

    by_arm = compress(frame, MomentsSpec({"value": ("value",)}, by=("arm",), levels={"arm": ARMS}))
    whole = sum(by_arm.cells.values())
    sums = (BucketSum(None), BucketSum("value", centre=float(whole.mean[0])))  # type: ignore[union-attr]
    table = sum(bucket_sums(frame, "arm", "unit", SPLIT_BUCKETS, "splits", sums).values())
    z, _ = bucket_splits(table[:, 0], table[:, 1:], whole.covariance.ravel(), SPLITS, 7)  # type: ignore
    verdict = validate(z[:, 0])
    return verdict.rejection, verdict.spread


def _draws(frame: Any) -> tuple[float, float]:
    """The first of 100 salts whose arms are balanced, and its distance."""
    from causal_spark.methods.design import Assign, Design, Rerandomize
    from causal_spark.methods.design.assign import balanced
    from causal_spark.methods.experiment import Metric
    from causal_spark.methods.experiment.tables import UnitTable

    asked = Rerandomize(("value",), draws=DRAWS, accepted=0.2)
    metric = Metric("value", "mean", value="value")
    method = Design("unit", (metric,), assign=Assign("s", rerandomize=asked))
    drawn = balanced(method, UnitTable(frame, (metric,), "unit", "arm", {}, {}), asked)
    return float(drawn.draw), drawn.distance


TASKS: dict[str, Callable[[Any], tuple[float, float]]] = {
    "bootstrap": _bootstrap,
    "quantiles": _quantiles,
    "percentile": _percentile("percentile"),
    "percentile_approx": _percentile("percentile_approx"),
    "splits": _splits,
    "draws": _draws,
}
