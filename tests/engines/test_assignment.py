"""Assignment, many salts at once and sums by hashed bucket: plain Python and numpy on the same rows, every engine."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.sql import functions as F

from causal_spark.errors import ConfigError
from causal_spark.solve.assignment import SLOTS, arm, arm_edges, salted, slot
from causal_spark.spark.assignment import Rule, assigned, bucket_totals, counts, draw_sums, require_key
from causal_spark.spark.units import ClusterSum

N = 400
EDGES = arm_edges({"control": 0.5, "a": 0.3, "b": 0.2})


@pytest.fixture(scope="module")
def frame(spark):
    """Keys 0 … 399, negative ones among them, x of them, a group of seven."""
    n = F.col("id")
    return spark.range(N).select(
        (n * F.when(n % 2 == 0, -1).otherwise(1)).alias("id"), (n % 11).cast("double").alias("x"),
        F.concat(F.lit("é "), (n % 7).cast("string")).alias("group"),
    )  # fmt: skip


def keys() -> list[str]:
    return [str(i if i % 2 else -i) for i in range(N)]


def test_arms_are_those_of_plain_python(frame) -> None:
    """Whole numbers of any length and texts give one key one arm."""
    rule = Rule("salt é", SLOTS, EDGES, ("layer", 100_000, 600_000))
    expected = {key: arm(key, "salt é", EDGES) for key in keys() if 100_000 <= slot(salted(key, "layer")) < 600_000}
    for kind in ("bigint", "int", "string"):
        rows = assigned(frame.withColumn("id", F.col("id").cast(kind)), "id", rule).toArrow().to_pylist()
        assert {row["unit"]: row["arm"] for row in rows} == expected, kind
        assert len(rows) == len(expected)
    groups = assigned(frame, "group", Rule("s", SLOTS, EDGES), repeated=True).toArrow().to_pylist()
    assert {row["unit"]: row["arm"] for row in groups} == {f"é {i}": arm(f"é {i}", "s", EDGES) for i in range(7)}
    assert len(groups) == 7


def test_sums_of_many_salts(frame) -> None:
    found = draw_sums(frame, "id", Rule("s", SLOTS, EDGES), 5, {"x": (5.0, 2.0)}, "group")
    x = np.array([(i % 11 - 5) / 2 for i in range(N)])
    level = np.array([f"é {i % 7}" for i in range(N)])
    for draw in range(5):
        arms = np.array([arm(key, f"s/{draw}", EDGES) for key in keys()])
        for name, _ in EDGES:
            for group in (f"é {i}" for i in range(7)):
                inside = (arms == name) & (level == group)
                n, total = found.get((draw, group, name), (0, np.zeros(1)))
                assert n == inside.sum()
                assert total[0] == pytest.approx(x[inside].sum(), abs=1e-9)  # halves are whole millionths


def test_sums_by_bucket(frame) -> None:
    """Of rows, and of keys with several rows."""
    sums = [ClusterSum("n", None, ()), ClusterSum("total", "x", (), 10)]
    x = np.array([i % 11 for i in range(N)], float)
    bucket = np.array([salted(key, "b") % 16 for key in keys()])
    n, totals = bucket_totals(frame, "id", sums, 16, "b")
    assert n.tolist() == totals[:, 0].tolist() == np.bincount(bucket, minlength=16)[np.unique(bucket)].tolist()
    assert totals[:, 1].tolist() == np.bincount(bucket, x, 16)[np.unique(bucket)].tolist()
    groups = [f"é {i}" for i in range(7)]
    place = np.array([salted(group, "b") % 16 for group in groups])
    n, totals = bucket_totals(frame, "group", sums, 16, "b", clustered=True)
    assert n.tolist() == np.bincount(place, minlength=16)[np.unique(place)].tolist()
    of_group = np.bincount(np.arange(N) % 7, x)
    assert totals[:, 1].tolist() == np.bincount(place, of_group, 16)[np.unique(place)].tolist()


def test_counts_and_keys(frame) -> None:
    assert counts(frame, "group")["é 0"] == 58
    require_key(frame, "group", "units")
    with pytest.raises(ConfigError, match="double"):
        require_key(frame, "x", "units")
