"""Experiments with every extra, a design and a portfolio, one after another in one session.

``python platform_run.py TABLES OUT [ENGINE]``: reads ``TABLES/units``, ``TABLES/estimates`` and ``TABLES/reach``,
writes ``OUT/<name>`` for each run. Without ENGINE it is submitted, and the session is that of the cluster.
"""

from __future__ import annotations

import sys
from typing import Any

from causal_spark import job

ARMS = {"unit": "unit", "arm": "arm", "control": "control", "shares": {"control": 0.5, "treatment": 0.5}}
REVENUE = {"name": "revenue", "kind": "revenue", "value": "revenue"}
CTR = {"name": "ctr", "kind": "ratio", "numerator": "clicks", "denominator": "views"}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "extras": ("experiment", {
        **ARMS, "strata": "country", "bootstrap": {"replicates": 200}, "bayes": {"prior_sd": 0.1},
        "metrics": [{**REVENUE, "covariates": ["before"], "quantiles": [0.5, 0.9], "ranks": True}, CTR],
    }),
    "predicted": ("experiment", {
        **ARMS, "adjustment": "lin", "hc": "HC3", "segments": ["country"],
        "metrics": [{**REVENUE, "cupac": ["before", "age"]},
                    {"name": "clicks", "kind": "count", "value": "clicks", "covariates": ["before", "age"]}],
    }),
    "shops": ("experiment", {
        **ARMS, "arm": "shop_arm", "cluster": "shop", "bootstrap": {"method": "jackknife", "buckets": 50},
        "metrics": [{**REVENUE, "quantiles": [0.9]}],
    }),
    "design": ("design", {
        "unit": "unit", "metrics": [{**REVENUE, "covariates": ["before", "age"], "quantiles": [0.9]}, CTR],
        "sizes": [40_000], "aa": {"splits": 500},
        "assign": {"salt": "s", "rerandomize": {"covariates": ["before", "age"], "draws": 50, "accepted": 0.2,
                                                "strata": "country"}},
    }),
    "portfolio": ("portfolio", {"outcome": "revenue"}),
}  # fmt: skip


def main(tables: str, out: str, engine: str | None = None) -> None:
    if engine is None:
        from pyspark.sql import SparkSession

        SparkSession.builder.appName("platform").getOrCreate()
    for name, (kind, method) in RUNS.items():
        roles = ("estimates", "reach") if kind == "portfolio" else ("units",)
        data = {"job": kind, "input": {role: {"table": f"{tables}/{role}"} for role in roles}, "method": method,
                "output": {"path": f"{out}/{name}"}, "tracking": {"enabled": False}}  # fmt: skip
        job.run(data, kind, engine)


if __name__ == "__main__":
    main(*sys.argv[1:])
