"""What is left of the tables: the effects on one metric, and what each action reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from causal_spark.methods import saved
from causal_spark.results import Check

FORMAT = 1


@dataclass(frozen=True)
class Effect:
    """One estimate of one comparison of one experiment, over ``n`` units."""

    experiment: str
    contrast: str
    method: str
    estimand: str
    estimate: float
    std_error: float
    n: float


@dataclass(frozen=True)
class Touched:
    """What an action reached (NaN: unknown), whether it was launched, and when (empty: unknown).

    ``contrast`` is empty where the table has no such column.
    """

    experiment: str
    contrast: str
    reached: float
    launched: bool
    date: str


@dataclass(frozen=True)
class Compressed:
    """``effects`` in the order of their names; ``touched`` is None without a table of it."""

    effects: tuple[Effect, ...]
    touched: tuple[Touched, ...] | None
    facts: Mapping[str, Any]
    checks: tuple[Check, ...] = ()

    def to_json(self) -> str:
        """JSON text; NaN as null, numbers at full precision."""
        data = {
            "effects": [asdict(effect) for effect in self.effects],
            "touched": None if self.touched is None else [asdict(row) for row in self.touched],
            "facts": dict(self.facts),
            "checks": [asdict(check) for check in self.checks],
        }
        return saved.to_text(data, FORMAT)

    @classmethod
    def from_json(cls, text: str) -> Compressed:
        data = saved.from_text(text, FORMAT, "effects", "touched")
        return cls(
            tuple(Effect(**saved.with_nan(row)) for row in data["effects"]),
            None if data["touched"] is None else tuple(Touched(**saved.with_nan(row)) for row in data["touched"]),
            data["facts"],
            tuple(Check(**saved.with_nan(check)) for check in data["checks"]),
        )
