"""Assignment and the sums of many salts at once: plain Python and numpy on the same rows, every engine."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.sql import functions as F

from causal_spark.errors import ConfigError, StatisticError
from causal_spark.solve.assignment import SLOTS, arm, arm_edges, salted, slot
from causal_spark.solve.hashes import slots
from causal_spark.spark.assignment import Rule, assigned, counts, require_key
from causal_spark.spark.draws import draw_sums

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
    """Keys of several lengths, more salts than are multiplied at once, with strata, a layer and without."""
    x = np.array([(i % 11 - 5) / 2 for i in range(N)])
    level = np.array([f"é {i % 7}" for i in range(N)])
    inside = np.array([100_000 <= slot(salted(key, "layer")) < 900_000 for key in keys()])
    rule = Rule("s", SLOTS, EDGES, ("layer", 100_000, 900_000))
    found = draw_sums(frame, "id", rule, 20, {"x": (5.0, 2.0)}, slots, "group")
    whole = draw_sums(frame, "id", rule, 20, {"x": (5.0, 2.0)}, slots)
    assert set(found) == set(level)
    for draw in range(20):
        arms = np.array([arm(key, f"s/{draw}", EDGES) for key in keys()])
        for place, (name, _) in enumerate(EDGES):
            mine = inside & (arms == name)
            assert whole[""][draw, place].tolist() == [mine.sum(), x[mine].sum()]  # halves are whole millionths
            for group, sums in found.items():
                some = mine & (level == group)
                assert sums[draw, place].tolist() == [some.sum(), x[some].sum()]


def test_too_many_sums_are_refused(frame) -> None:
    with pytest.raises(StatisticError, match="draw, group, arm"):
        draw_sums(frame, "id", Rule("s", SLOTS, EDGES), 5, {}, slots, "group", max_rows=104)


def test_counts_and_keys(frame) -> None:
    assert counts(frame, "group")["é 0"] == 58
    require_key(frame, "group", "units")
    with pytest.raises(ConfigError, match="double"):
        require_key(frame, "x", "units")
