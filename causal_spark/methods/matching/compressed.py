"""What is left of the table: effects with their errors, balance and overlap, enough to solve with another alpha."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from causal_spark.config import parse_json
from causal_spark.errors import ConfigError
from causal_spark.results import Check

FORMAT = 1


@dataclass(frozen=True)
class Found:
    """One effect: its estimator, estimand, treatment and outcome; ``focal`` units of the estimand, ``used`` of them.

    ``bound``: how much an approximation may be off. ``error``: the kind of standard error, as a key of the words.
    """

    estimator: str
    estimand: str
    treatment: str
    outcome: str
    estimate: float
    std_error: float
    focal: float
    used: float
    error: str
    bound: float = math.nan
    above: float = math.nan
    below: float = math.nan


@dataclass(frozen=True)
class Compressed:
    """Effects; tables of balance, overlap, score, sizes as rows; facts and findings."""

    effects: tuple[Found, ...]
    balance: tuple[Mapping[str, Any], ...] = ()
    overlap: tuple[Mapping[str, Any], ...] = ()
    propensity: tuple[Mapping[str, Any], ...] = ()
    sizes: tuple[Mapping[str, Any], ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()

    def to_json(self) -> str:
        """JSON text; NaN as null, numbers at full precision."""
        return json.dumps(_without_nan({"format": FORMAT, **asdict(self)}), ensure_ascii=False, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Compressed:
        data = parse_json(text, "statistics.json")
        if not isinstance(data, dict) or data.pop("format", None) != FORMAT:
            raise ConfigError("statistics_unreadable", expected=FORMAT)
        return cls(
            effects=tuple(Found(**_with_nan(row)) for row in data["effects"]),
            balance=tuple(_with_nan(row) for row in data["balance"]),
            overlap=tuple(_with_nan(row) for row in data["overlap"]),
            propensity=tuple(_with_nan(row) for row in data["propensity"]),
            sizes=tuple(_with_nan(row) for row in data["sizes"]),
            facts=data["facts"],
            checks=tuple(Check(**_with_nan(row)) for row in data["checks"]),
        )


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _with_nan(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: math.nan if value is None else value for key, value in row.items()}
