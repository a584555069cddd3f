"""What is left of the table after the pass: enough to solve again with another alpha, contrast or lift."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from causal_spark.config import convert, parse_json
from causal_spark.errors import ConfigError
from causal_spark.methods.experiment.vocabulary import Metric
from causal_spark.results import Check
from causal_spark.statistics import Grouped

FORMAT = 1


@dataclass(frozen=True)
class Compressed:
    """Moments by arm, segment and metric; moments by arm and day; metrics as prepared; facts and findings."""

    moments: Grouped
    metrics: tuple[Metric, ...]
    facts: Mapping[str, Any]
    checks: tuple[Check, ...] = ()
    days: Grouped | None = None

    def to_json(self) -> str:
        """JSON text; NaN as null, numbers at full precision."""
        data = {
            "format": FORMAT,
            "moments": self.moments.to_dict(),
            "days": None if self.days is None else self.days.to_dict(),
            "metrics": [asdict(metric) for metric in self.metrics],
            "facts": dict(self.facts),
            "checks": [asdict(check) for check in self.checks],
        }
        return json.dumps(_without_nan(data), ensure_ascii=False, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Compressed:
        data = parse_json(text, "statistics.json")
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ConfigError("statistics_unreadable", expected=FORMAT)
        return cls(
            moments=Grouped.from_dict(data["moments"]),
            metrics=convert(tuple[Metric, ...], data["metrics"], "statistics.metrics"),
            facts=data["facts"],
            checks=tuple(Check(**_with_nan(check)) for check in data["checks"]),
            days=None if data["days"] is None else Grouped.from_dict(data["days"]),
        )


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _with_nan(check: Mapping[str, Any]) -> dict[str, Any]:
    return {key: math.nan if value is None else value for key, value in check.items()}
