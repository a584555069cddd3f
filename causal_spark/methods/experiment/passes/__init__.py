"""Further passes over the prepared unit table: what the analyses need beyond moments.

A pass gives plain data, which is kept in ``statistics.json``, or None if it was not asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from causal_spark.methods.experiment.passes.buckets import buckets
from causal_spark.methods.experiment.passes.carryover import carryover
from causal_spark.methods.experiment.passes.cupac import cupac
from causal_spark.methods.experiment.passes.given import Given
from causal_spark.methods.experiment.passes.histograms import histograms
from causal_spark.methods.experiment.passes.interactions import interactions
from causal_spark.methods.experiment.passes.leverage import leverage
from causal_spark.methods.experiment.passes.triggered import triggered

Pass = Callable[[Given], Any]
PASSES: Mapping[str, Pass] = {
    "histograms": histograms,
    "buckets": buckets,
    "leverage": leverage,
    "cupac": cupac,
    "triggered": triggered,
    "interactions": interactions,
    "carryover": carryover,
}


def further(given: Given) -> dict[str, Any]:
    """The data of every pass that was asked for, by its name."""
    found = {name: work(given) for name, work in PASSES.items()}
    return {name: data for name, data in found.items() if data is not None}
