"""Peers of the matching benchmark: packages, a script in pandas and scikit-learn, a cross join in Spark.

All but psmpy match on the logit of the same score, one to one with replacement, and give the effect on the treated.
None gives a standard error that holds for matching.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Peer:
    """``work`` gives the effect of at most ``most`` rows, if ``package`` is there. ``exact``: it matches our units."""

    work: Callable[[Path, str], float]
    package: str
    most: int
    tasks: tuple[str, ...] = ("replace",)
    exact: bool = True

    @property
    def missing(self) -> bool:
        return find_spec(self.package) is None


def _frame(path: Path) -> Any:
    import pandas as pd

    frame = pd.read_parquet(path, columns=["unit", "treated", "score", "y"])
    return frame.assign(logit=np.log(frame["score"] / (1 - frame["score"])))


def _script(path: Path, task: str) -> float:
    """What an analyst writes: the nearest of the untreated by a tree."""
    from sklearn.neighbors import NearestNeighbors

    frame = _frame(path)
    treated, control = frame[frame["treated"] == 1], frame[frame["treated"] == 0]
    tree = NearestNeighbors(n_neighbors=1).fit(control[["logit"]].to_numpy())
    _, place = tree.kneighbors(treated[["logit"]].to_numpy())
    return float((treated["y"].to_numpy() - control["y"].to_numpy()[place[:, 0]]).mean())


def _causalml(path: Path, task: str) -> float:
    from causalml.match import NearestNeighborMatch

    asked = NearestNeighborMatch(caliper=1e6, replace=task == "replace", ratio=1, shuffle=False)
    rows = asked.match(_frame(path), "treated", ["logit"])
    means = rows.groupby("treated")["y"].mean()
    return float(means[1] - means[0])


def _dowhy(path: Path, task: str) -> float:
    from dowhy import CausalModel

    model = CausalModel(_frame(path), "treated", "y", common_causes=["score"])
    estimand = model.identify_effect(proceed_when_unidentifiable=True)
    found = model.estimate_effect(
        estimand, "backdoor.propensity_score_matching", target_units="att",
        method_params={"init_params": {"propensity_score_column": "logit"}},
    )  # fmt: skip
    return float(found.value)


def _psmpy(path: Path, task: str) -> float:
    """It fits its own propensity, and keeps arrays of treated × controls."""
    from psmpy import PsmPy

    frame = _frame(path)
    found = PsmPy(frame[["unit", "treated", "score"]].copy(), treatment="treated", indx="unit", exclude=[])
    found.logistic_ps(balance=False)
    found.kdtree_matched(matcher="propensity_logit", replacement=True, caliper=None)
    pairs, y = found.matched_ids.dropna(), frame.set_index("unit")["y"]
    return float((y[pairs["unit"]].to_numpy() - y[pairs["matched_ID"].astype(int)].to_numpy()).mean())


def _cross_join(path: Path, task: str) -> float:
    """The usual Spark script: every treated row against every control, a window over the distance."""
    from pyspark.sql import SparkSession, Window
    from pyspark.sql import functions as F

    spark = SparkSession.builder.master("local[*]").config("spark.ui.enabled", "false").getOrCreate()
    rows = spark.read.parquet(str(path)).withColumn("logit", F.log(F.col("score") / (1 - F.col("score"))))
    treated = rows.where("treated = 1").select("unit", F.col("logit").alias("l1"), F.col("y").alias("y1"))
    control = rows.where("treated = 0").select(F.col("logit").alias("l0"), F.col("y").alias("y0"))
    nearest = Window.partitionBy("unit").orderBy(F.abs(F.col("l1") - F.col("l0")))
    ranked = treated.crossJoin(control).withColumn("rank", F.row_number().over(nearest))
    found = ranked.where("rank = 1").agg(F.avg(F.col("y1") - F.col("y0"))).first()
    assert found is not None
    return float(found[0])


PEERS = {
    "pandas + scikit-learn": Peer(_script, "sklearn", 5_000_000),
    "causalml": Peer(_causalml, "causalml", 1_000_000, ("replace", "closest"), exact=False),
    "dowhy": Peer(_dowhy, "dowhy", 1_000_000),
    "psmpy": Peer(_psmpy, "psmpy", 1_000_000, exact=False),
    "cross join": Peer(_cross_join, "pyspark", 100_000),
}
