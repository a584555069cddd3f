"""Cells of histograms by native shifts, and sums by hashed bucket, against numpy on every engine."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from causal_spark.errors import StatisticError
from causal_spark.solve.assignment import salted
from causal_spark.spark.buckets import BucketSum, bucket_sums
from causal_spark.spark.histograms import Binned, cluster_counts, histograms
from causal_spark.statistics import Moments
from causal_spark.statistics.histogram import EXACT, Histogram, cell

# Whole numbers on both sides of every power of two that a double holds exactly.
POWERS = [2**k + d for k in range(52) for d in (-1, 0, 1)]
VALUES = np.array(sorted({0, *POWERS, *(-value for value in POWERS)}), np.int64)


def table(spark):
    pandas = pd.DataFrame({"g": np.where(np.arange(len(VALUES)) % 3, "a", "b"), "x": VALUES.astype(float)})
    pandas["x"] = pandas["x"].where(np.arange(len(VALUES)) % 50 > 0)
    return spark.createDataFrame(pandas.astype({"x": "float64"})), pandas


@pytest.mark.parametrize("bits", [4, 10, EXACT])
def test_cells_are_those_of_numpy(spark, bits) -> None:
    from pyspark.sql import functions as F

    frame, pandas = table(spark)
    frame = frame.withColumn("x", F.when(~F.isnan("x"), F.col("x")))
    largest = int(np.abs(VALUES).max())
    (found,) = histograms(frame, ["g"], [Binned("x", 1, bits, largest)])
    for name in ("a", "b"):
        mine = pandas[pandas["g"] == name]["x"].dropna().to_numpy().astype(np.int64)
        assert found[name,].to_dict() == Histogram.from_integers(mine, bits).to_dict()


def test_too_many_cells_are_refused(spark) -> None:
    frame, _ = table(spark)
    with pytest.raises(StatisticError, match="more than 20 cells"):
        histograms(frame.where("x > 0"), ["g"], [Binned("x", 1, EXACT, 2**53)], max_cells=20)


def test_clusters_are_counted_up_to_their_groups_limit(spark, engine) -> None:
    if engine != "sail":
        pytest.skip("the same native expressions as above")
    rng = np.random.default_rng(2)
    pandas = pd.DataFrame({"k": rng.integers(0, 40, 900), "x": np.round(rng.normal(0, 30, 900), 2)})
    pandas["g"] = np.where(pandas["k"] % 2, "a", "b")
    item = Binned("x", 100, 5, 20_000)
    cells = cell(np.round(pandas["x"] * 100).to_numpy().astype(np.int64), 5)
    limits = {("a",): [int(np.median(cells)), 0], ("b",): [3, int(cells.max())]}
    (found,) = cluster_counts(spark.createDataFrame(pandas), ["g"], "k", [(item, limits)])
    for name, ends in limits.items():
        mine = (pandas["g"] == name[0]).to_numpy()
        rows = np.column_stack([np.ones(mine.sum()), *(cells[mine] <= end for end in ends)])
        sums = np.column_stack([np.bincount(pandas["k"][mine], column) for column in rows.T])
        wanted = Moments.from_rows(found[name].names, sums[sums[:, 0] > 0])
        assert found[name].n == wanted.n == 20
        np.testing.assert_allclose(found[name].mean, wanted.mean, rtol=1e-12)
        np.testing.assert_allclose(found[name].scatter, wanted.scatter, rtol=1e-9, atol=1e-9)


def test_buckets_hold_whole_units(spark) -> None:
    """Sums of complete rows about a centre, by the documented hash of the key."""
    rng = np.random.default_rng(3)
    pandas = pd.DataFrame({"u": np.repeat(np.arange(300), 2), "g": rng.integers(0, 2, 600), "x": rng.normal(size=600)})
    pandas["y"] = np.where(rng.random(600) < 0.2, None, 2.0)
    frame = spark.createDataFrame(pandas, "u bigint, g int, x double, y double")
    sums = [BucketSum(None), BucketSum(None, ("y",)), BucketSum("x", ("y",), 0.5)]
    found = bucket_sums(frame, "g", "u", 7, "salt", sums)
    place = np.array([salted(str(u), "salt") % 7 for u in pandas["u"]])
    whole = pandas["y"].notna().to_numpy()
    for name in (0, 1):
        mine = (pandas["g"] == name).to_numpy()
        assert found[str(name)][:, 0].tolist() == np.bincount(place[mine], minlength=7).tolist()
        kept = mine & whole
        assert found[str(name)][:, 1].tolist() == np.bincount(place[kept], minlength=7).tolist()
        wanted = np.bincount(place[kept], pandas["x"][kept] - 0.5, 7)
        np.testing.assert_allclose(found[str(name)][:, 2], wanted, rtol=1e-12, atol=1e-12)
