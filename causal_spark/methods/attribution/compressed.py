"""What is left of the events after the pass: enough to solve every model again at another level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from causal_spark.methods import saved
from causal_spark.results import Check
from causal_spark.statistics.cells import Cells

FORMAT = 1


@dataclass(frozen=True)
class Lift:
    """An experiment's estimate of what a channel caused in the same period: ``estimate`` of the outcome's total."""

    channel: str
    outcome: str
    estimate: float
    std_error: float


@dataclass(frozen=True)
class Compressed:
    """Sums by statistic, what their keys and scales mean, the costs and lifts that were read, facts and findings.

    ``tokens``: names of the codes; ``channels``: how many of them are channels as they stand in the data;
    ``segments``: names of the segment numbers but 0, which is everyone. ``scales``: of a conversion's credit, then
    of each amount. ``paths``: the most frequent ones, with conversions, nulls and amounts. ``costs`` by channel, and
    ``period_costs`` by period and channel.
    """

    cells: Mapping[str, Cells]
    tokens: tuple[str, ...]
    channels: int
    segments: tuple[str, ...]
    outcomes: tuple[str, ...]
    scales: tuple[float, ...]
    replicates: int
    facts: Mapping[str, Any]
    checks: tuple[Check, ...] = ()
    paths: tuple[tuple[str, tuple[int, ...]], ...] = ()
    costs: Mapping[str, float] | None = None
    period_costs: Mapping[str, Mapping[str, float]] | None = None
    lifts: tuple[Lift, ...] = ()

    def to_json(self) -> str:
        """JSON text; NaN as null, numbers at full precision."""
        plain = {name: getattr(self, name) for name in ("tokens", "channels", "segments", "outcomes", "scales",
                                                        "replicates", "facts", "paths", "costs",
                                                        "period_costs")}  # fmt: skip
        data = {
            **plain,
            "cells": [cells.to_dict() for cells in self.cells.values()],
            "checks": [asdict(check) for check in self.checks],
            "lifts": [asdict(lift) for lift in self.lifts],
        }
        return saved.to_text(data, FORMAT, indent=None)

    @classmethod
    def from_json(cls, text: str) -> Compressed:
        data = saved.from_text(text, FORMAT, "cells", "period_costs")
        cells = [Cells.from_dict(item) for item in data["cells"]]
        return cls(
            cells={item.stat: item for item in cells},
            tokens=tuple(data["tokens"]),
            channels=int(data["channels"]),
            segments=tuple(data["segments"]),
            outcomes=tuple(data["outcomes"]),
            scales=tuple(data["scales"]),
            replicates=int(data["replicates"]),
            facts=data["facts"],
            checks=tuple(Check(**saved.with_nan(check)) for check in data["checks"]),
            paths=tuple((path, tuple(sums)) for path, sums in data["paths"]),
            costs=data["costs"],
            period_costs=data["period_costs"],
            lifts=tuple(Lift(**saved.with_nan(lift)) for lift in data["lifts"]),
        )
