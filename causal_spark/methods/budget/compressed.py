"""What is left of the table: spend and outcome by channel and period."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from causal_spark.methods import saved
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
        checks = [asdict(check) for check in self.checks]
        data = {"periods": self.periods, "spend": dict(self.spend), "outcome": dict(self.outcome),
                "facts": dict(self.facts), "checks": checks}  # fmt: skip
        return saved.to_text(data, FORMAT)

    @classmethod
    def from_json(cls, text: str) -> Compressed:
        data = saved.from_text(text, FORMAT, "spend")
        checks = (Check(**saved.with_nan(check)) for check in data["checks"])
        return cls(
            tuple(data["periods"]),
            {name: tuple(values) for name, values in data["spend"].items()},
            {name: tuple(values) for name, values in data["outcome"].items()},
            data["facts"],
            tuple(checks),
        )
