"""What is declared before the first look: margins, the rule that decides, and the plan of several looks."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, cast

from causal_spark.errors import ConfigError, Phrase
from causal_spark.solve.intervals import Alternative
from causal_spark.solve.sequential import Plan, Spending

_KEY = re.compile(r"[\w][\w .:/-]{0,127}")


@dataclass(frozen=True)
class Margin:
    """How much worse is still acceptable: a share of the size of the control mean (``relative``), or an
    ``absolute`` difference."""

    relative: float | None = None
    absolute: float | None = None

    def __post_init__(self) -> None:
        if (self.relative is None) == (self.absolute is None):
            raise ConfigError("margin_scale")
        if not (self.size > 0 and math.isfinite(self.size)):
            raise ConfigError("bad_margin", got=self.size)

    @property
    def size(self) -> float:
        return float(self.absolute if self.relative is None else self.relative)  # type: ignore[arg-type]

    @property
    def scale(self) -> str:
        return "absolute" if self.relative is None else "relative"


@dataclass(frozen=True)
class DecisionRule:
    """When to ship. ``needs``: any or all of the success metrics must win; ``least_power``: a guardrail with less
    says nothing yet; ``units``: planned units in the tested arms, of a run without a sequential plan (omitted: the
    run is the planned end)."""

    needs: Literal["any", "all"] = "any"
    least_power: float = 0.8
    units: int | None = None

    def __post_init__(self) -> None:
        if self.units is not None and self.units < 2:
            raise _bad("decision.units", self.units, Phrase("expected_whole_least", least=2))


@dataclass(frozen=True)
class Sequential:
    """A plan of several looks. ``key`` names the experiment: its looks are the tracked runs with this key.

    ``units``: planned units in the tested arms, at which all of alpha is spent (group) or the interval is narrowest
    (always_valid). ``kind``: group-sequential bounds, or a confidence sequence that holds at any look.
    ``spending`` says how alpha is spent (kind group): obrien-fleming, obrien-fleming-total, pocock, or power with the
    exponent ``rho``.
    """

    key: str
    units: int
    kind: Literal["group", "always_valid"] = "group"
    spending: str = "obrien-fleming"
    rho: float = 2.0

    def __post_init__(self) -> None:
        if not _KEY.fullmatch(self.key):
            raise ConfigError("bad_experiment_key", got=self.key)


def planned(sequential: Sequential, alpha: float, alternative: Alternative) -> Plan:
    """The plan with the alpha and alternative of the method; raises ConfigError for what no plan can have."""
    spending = cast(Spending, sequential.spending)  # Plan refuses what is none, and names the families
    return Plan(float(sequential.units), alpha, spending, sequential.rho, alternative)


def _bad(field: str, got: object, expected: Phrase) -> ConfigError:
    return ConfigError("bad_number", where=f"method.{field}", got=got, expected=expected)


def check_levels(margin_alpha: float, rule: DecisionRule | None) -> None:
    """``margin_alpha`` is a level, and the power asked of guardrails lies between it and 1."""
    if not 0 < margin_alpha < 0.5:
        raise _bad("margin_alpha", margin_alpha, Phrase("expected_between", low=0, high=0.5))
    if rule is not None and not margin_alpha < rule.least_power < 1:
        expected = Phrase("expected_between", low=f"{margin_alpha:g}", high=1)
        raise _bad("decision.least_power", rule.least_power, expected)
