"""What is left of the table after the pass: enough to solve again with another alpha, contrast or lift."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from causal_spark.config import convert
from causal_spark.methods import saved
from causal_spark.methods.experiment.vocabulary import Metric
from causal_spark.results import Check
from causal_spark.statistics import Grouped

FORMAT = 2


@dataclass(frozen=True)
class Compressed:
    """Moments by arm, segment and metric; moments by arm and day; metrics as prepared; facts and findings.

    ``more``: plain data of further passes by their name.
    """

    moments: Grouped
    metrics: tuple[Metric, ...]
    facts: Mapping[str, Any]
    checks: tuple[Check, ...] = ()
    days: Grouped | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """JSON text; NaN as null, numbers at full precision."""
        data = {
            "moments": self.moments.to_dict(),
            "days": None if self.days is None else self.days.to_dict(),
            "metrics": [asdict(metric) for metric in self.metrics],
            "facts": dict(self.facts),
            "checks": [asdict(check) for check in self.checks],
            "more": dict(self.more),
        }
        return saved.to_text(data, FORMAT)

    @classmethod
    def from_json(cls, text: str) -> Compressed:
        data = saved.from_text(text, FORMAT)
        return cls(
            moments=Grouped.from_dict(data["moments"]),
            metrics=convert(tuple[Metric, ...], data["metrics"], "statistics.metrics"),
            facts=data["facts"],
            checks=tuple(Check(**saved.with_nan(check)) for check in data["checks"]),
            days=None if data["days"] is None else Grouped.from_dict(data["days"]),
            more=data.get("more", {}),
        )
