"""The peers of attribution: scripts that people write for the journeys, packages that work on counted paths, and what
no form of the journeys can do without."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import Column, SparkSession

DAYS = 30
SEPARATOR = " > "
CONVERSIONS, NULLS, VALUE = "total_conversions", "total_null", "total_conversion_value"
Credits = dict[str, float]


def spark_script(spark: SparkSession, folder: Path) -> float:
    """Touches to counted paths as the public accelerators do it: windows, then an ordered list of structs by journey.

    The conversions that have a touch in the last 30 days before them.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    touches, conversions = (spark.read.parquet(str(folder / name)) for name in ("touches", "conversions"))
    events = touches.select("user_id", "ts", "channel", F.lit(0).alias("won")).unionByName(
        conversions.select("user_id", "ts", F.lit(None).cast("string").alias("channel"), F.lit(1).alias("won"))
    )
    earlier = Window.partitionBy("user_id").orderBy("ts", "won").rowsBetween(Window.unboundedPreceding, -1)
    journeys = events.withColumn("journey", F.coalesce(F.sum("won").over(earlier), F.lit(0)))
    whole = Window.partitionBy("user_id", "journey")
    journeys = journeys.withColumn("end", F.max(F.when(F.col("won") == 1, F.unix_micros("ts"))).over(whole))
    near = F.col("end").isNull() | (F.unix_micros("ts") >= F.col("end") - F.lit(DAYS * 86_400_000_000))
    steps = F.sort_array(F.collect_list(F.struct("ts", "channel"))).alias("steps")
    listed = journeys.where((F.col("won") == 0) & near).groupBy("user_id", "journey")
    paths = listed.agg(steps, F.max(F.when(F.col("end").isNotNull(), 1).otherwise(0)).alias("won"))
    named = paths.select(
        F.array_join(F.transform("steps", lambda step: step["channel"]), SEPARATOR).alias("path"), "won"
    )
    counted = named.groupBy("path").agg(F.sum("won").alias("won"), F.sum(F.lit(1) - F.col("won")).alias("lost"))
    row = counted.agg(F.sum("won").alias("won"), F.count(F.lit(1)).alias("paths")).toArrow().to_pylist()[0]
    return float(row["won"])


def packed_lists(spark: SparkSession, folder: Path) -> int:
    """The touches that stand in one sorted list of packed numbers for each person: no journeys are cut."""
    from pyspark.sql import functions as F

    touches = spark.read.parquet(str(folder / "touches")).select("user_id", _packed().alias("touch"))
    listed = touches.groupBy("user_id").agg(F.sort_array(F.collect_list("touch")).alias("touches"))
    return int(listed.agg(F.sum(F.size("touches")).alias("n")).toArrow().to_pylist()[0]["n"])


def moved(spark: SparkSession, folder: Path) -> int:
    """The touches that reach Python in the buckets of the job, where nothing is done with them."""
    import pyarrow as pa
    from pyspark.sql import functions as F

    from benchmarks import journeys
    from causal_spark.spark.journeys import bucketed

    touches = spark.read.parquet(str(folder / "touches"))
    rows = touches.select(F.col("user_id").alias("p1"), _packed().alias("w0"), F.lit(0.0).alias("v0"))
    parts = bucketed(rows, ["p1", "w0", "v0"], F.xxhash64("p1"), journeys.rows(folder / "touches"))
    counted = parts.groupBy("b").applyInArrow(lambda table: pa.table({"n": [table.num_rows]}), "n bigint")
    return int(sum(counted.toArrow().column("n").to_pylist()))


def _packed() -> Column:
    """Time and channel of a touch as one number."""
    from pyspark.sql import functions as F

    return F.unix_micros("ts") * F.lit(64) + F.pmod(F.xxhash64("channel"), F.lit(64))


def pandas_script(folder: Path) -> pd.DataFrame:
    """The same in pandas: sort, number the journeys, join their channels, count equal paths."""
    import pandas as pd

    touches, conversions = (pd.read_parquet(folder / name) for name in ("touches", "conversions"))
    rows = pd.concat([touches.assign(won=0, revenue=0.0), conversions.assign(won=1)], ignore_index=True)
    rows = rows.sort_values(["user_id", "ts", "won"], kind="stable", ignore_index=True)
    rows["journey"] = rows.groupby("user_id")["won"].cumsum() - rows["won"]
    keys = ["user_id", "journey"]
    rows["end"] = rows["ts"].where(rows["won"] == 1)
    rows["end"] = rows.groupby(keys)["end"].transform("max")
    kept = rows[(rows["won"] == 0) & ~(rows["ts"] < rows["end"] - pd.Timedelta(days=DAYS))]
    paths = kept.groupby(keys)["channel"].agg(SEPARATOR.join).rename("path")
    outcomes = rows.groupby(keys)[["won", "revenue"]].sum()
    counted = paths.to_frame().join(outcomes).assign(lost=lambda frame: 1 - frame["won"])
    counted = counted.groupby("path", as_index=False)[["won", "lost", "revenue"]].sum()
    return counted.rename(columns={"won": CONVERSIONS, "lost": NULLS, "revenue": VALUE})


def mta(paths: pd.DataFrame) -> dict[str, Callable[[], Any]]:
    """mta: its rules, its analytical chain and its Shapley value."""
    # the package imports arrow for times that are not used here; where it is missing, an empty module takes its place
    if importlib.util.find_spec("arrow") is None:
        sys.modules.setdefault("arrow", ModuleType("arrow"))
    package = importlib.import_module("mta")

    def loaded() -> Any:
        return package.MTA(paths, allow_loops=True, add_timepoints=False, normalize_by_default=False)

    return {
        "rules": lambda: loaded().first_touch().last_touch().linear("proportional").position_based(),
        "markov_1": lambda: loaded().markov(),
        "shapley": lambda: loaded().shapley(),
    }


def channel_attribution(paths: pd.DataFrame) -> dict[str, Callable[[], Any]]:
    """ChannelAttribution: first, last and linear touch, and its simulated chain."""
    package = importlib.import_module("ChannelAttribution")
    return {
        "rules": lambda: package.heuristic_models(paths, "path", CONVERSIONS, var_value=VALUE),
        "markov_1": lambda: package.markov_model(paths, "path", CONVERSIONS, var_value=VALUE, var_null=NULLS),
    }


def attribution_models(paths: pd.DataFrame) -> dict[str, Callable[[], Any]]:
    """marketing_attribution_models 2: its rules, its chain, and its Shapley value of sets of up to four channels."""
    package = importlib.import_module("mam.core")
    import pandas as pd

    both = pd.concat([paths.assign(won=True, many=paths[CONVERSIONS]), paths.assign(won=False, many=paths[NULLS])])
    counted = both.loc[both["many"] > 0, ["path", "won", "many"]]

    def loaded() -> Any:
        return package.MAM(counted, "grouped_journey", "path", "won", occurrences_colname="many",
                           path_separator=SEPARATOR)  # fmt: skip

    def rules() -> None:
        model = loaded()
        for name in ("first_click", "last_click", "linear", "position_based"):
            getattr(model, f"run_{name}")()

    return {
        "rules": rules,
        "markov_1": lambda: loaded().run_markov(),
        "shapley": lambda: loaded().run_shapley(),
    }


PACKAGES = {
    "mta": mta,
    "ChannelAttribution": channel_attribution,
    "marketing_attribution_models": attribution_models,
}
