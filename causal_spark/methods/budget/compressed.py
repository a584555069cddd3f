"""What is left of the table: spend and outcome by channel and period."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from causal_spark.config import parse_json
from causal_spark.errors import ConfigError
from causal_spark.results import Check

FORMAT = 1


@dataclass(frozen=True)
class Compressed:
    """``spend`` and ``outcome`` of each channel, one number for each of the ``periods`` in their order."""

    periods: tuple[str, ...]
    spend: Mapping[str, tuple[float, ...]]
    outcome: Mapping[str, tuple[float, ...]]
    facts: Mapping[str, Any]
    checks: tuple[Check, ...] = ()

    def to_json(self) -> str:
        """JSON text; NaN as null, numbers at full precision."""
        checks = [{key: None if value != value else value for key, value in asdict(check).items()}
                  for check in self.checks]  # fmt: skip
        data = {"format": FORMAT, "periods": self.periods, "spend": dict(self.spend), "outcome": dict(self.outcome),
                "facts": dict(self.facts), "checks": checks}  # fmt: skip
        return json.dumps(data, ensure_ascii=False, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Compressed:
        data = parse_json(text, "statistics.json")
        if not isinstance(data, dict) or data.get("format") != FORMAT or "spend" not in data:
            raise ConfigError("statistics_unreadable", expected=FORMAT)
        checks = (Check(**_with_nan(check)) for check in data["checks"])
        return cls(
            tuple(data["periods"]),
            {name: tuple(values) for name, values in data["spend"].items()},
            {name: tuple(values) for name, values in data["outcome"].items()},
            data["facts"],
            tuple(checks),
        )


def _with_nan(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: math.nan if value is None else value for key, value in row.items()}
