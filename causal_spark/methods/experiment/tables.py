"""The unit table between the gate and the passes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from causal_spark.methods.experiment import plan
from causal_spark.methods.experiment.vocabulary import Metric
from causal_spark.spark.columns import Prepared, prepare
from causal_spark.spark.tables import Frame
from causal_spark.statistics import Ranges


@dataclass(frozen=True)
class UnitTable:
    """One row per unit with its columns' ranges; ``metrics`` refer to its columns."""

    frame: Frame
    metrics: tuple[Metric, ...]
    unit: str
    arm: str
    ranges: Ranges
    arms: Mapping[str, float]
    facts: Mapping[str, Any] = field(default_factory=dict)


def prepared(
    table: UnitTable, columns: Sequence[plan.Column], caps: Mapping[plan.Column, float], keys: Sequence[str]
) -> Frame:
    """The ``keys`` and the ``columns`` under their NULL policies and caps, named ``column.name``."""
    made = []
    for column in columns:
        zero = column.nulls == "zero" and table.ranges[column.source].nulls > 0
        made.append(Prepared(column.name, column.source, zero, caps.get(column)))
    return prepare(table.frame, keys, made)


def centre(table: UnitTable, column: plan.Column, caps: Mapping[plan.Column, float]) -> float:
    """Near the values of the prepared column: 0, or the end of its range that is next to 0."""
    near = table.ranges[column.source].centre
    near = near if math.isfinite(near) else 0.0
    return min(near, caps.get(column, math.inf))
