"""``statistics.json``: plain data as text and back, the same for every job."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from causal_spark.config import parse_json
from causal_spark.errors import ConfigError


def to_text(data: Mapping[str, Any], version: int, indent: int | None = 1) -> str:
    """JSON text with its ``format`` first; numbers at full precision, NaN and infinities as null."""
    return json.dumps(_without_nan({"format": version, **data}), ensure_ascii=False, indent=indent)


def from_text(text: str, version: int, *needed: str) -> dict[str, Any]:
    """The data of ``to_text``. Raises ConfigError for another version, or if a ``needed`` key is missing."""
    data = parse_json(text, "statistics.json")
    if not isinstance(data, dict) or data.pop("format", None) != version or any(key not in data for key in needed):
        raise ConfigError("statistics_unreadable", expected=version)
    return data


def with_nan(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of numbers and texts in which null is NaN again."""
    return {key: math.nan if value is None else value for key, value in row.items()}


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
