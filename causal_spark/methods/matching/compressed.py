"""What is left of the table: effects with their errors, balance and overlap, enough to solve with another alpha."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from causal_spark.methods import saved
from causal_spark.results import Check

FORMAT = 1


@dataclass(frozen=True)
class Found:
    """One effect: its estimator, estimand, treatment and outcome; ``focal`` units of the estimand, ``used`` of them.

    ``bound``: how much an approximation may be off. ``error``: the kind of standard error, as a key of the words.
    ``above``, ``below``: pairs by the sign of their difference; ``rank_…``: their signed ranks.
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
    rank_sum: float = math.nan
    rank_total: float = math.nan
    rank_square: float = math.nan


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
        return saved.to_text(asdict(self), FORMAT)

    @classmethod
    def from_json(cls, text: str) -> Compressed:
        data = saved.from_text(text, FORMAT)
        return cls(
            effects=tuple(Found(**saved.with_nan(row)) for row in data["effects"]),
            balance=tuple(saved.with_nan(row) for row in data["balance"]),
            overlap=tuple(saved.with_nan(row) for row in data["overlap"]),
            propensity=tuple(saved.with_nan(row) for row in data["propensity"]),
            sizes=tuple(saved.with_nan(row) for row in data["sizes"]),
            facts=data["facts"],
            checks=tuple(Check(**saved.with_nan(row)) for row in data["checks"]),
        )
