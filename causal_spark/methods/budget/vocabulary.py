"""What an analyst says of a budget: the fields are the YAML keys and the MLflow parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from causal_spark.config import Filter
from causal_spark.errors import ConfigError, Phrase

Family = Literal["log", "power", "michaelis_menten", "hill"]


@dataclass(frozen=True)
class Bound:
    """Least and most spend of one channel in a period, and the step in which it is bought."""

    channel: str
    low: float = 0.0
    high: float | None = None
    step: float | None = None

    def __post_init__(self) -> None:
        ends = (self.low, math.inf if self.high is None else self.high)
        if not (0 <= ends[0] <= ends[1]) or (self.step is not None and not self.step > 0):
            got = [self.low, self.high, self.step]
            expected = Phrase("expected_bound")
            raise ConfigError("bad_number", where=f"method.bounds[{self.channel}]", got=got, expected=expected)


@dataclass(frozen=True)
class Shift:
    """A question "what if": the ``share`` of one channel's spend moves to another."""

    source: str
    target: str
    share: float

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1 or self.source == self.target:
            where = f"method.what_if[{self.source}]"
            raise ConfigError("bad_number", where=where, got=self.share, expected=Phrase("expected_share"))


@dataclass(frozen=True)
class Budget:
    """A plan of steady spend in each period from response curves of the past.

    ``channel``, ``period``, ``spend``, ``outcome``: columns of the table, one row or several for a channel and period.
    ``curves``: families to choose from for each channel. ``carry_over``: spend may act on later periods too.
    ``goal``: budget (a fixed ``budget`` for a period; omitted, the mean of the past), roas or cpa (a ``target``
    average), or marginal (a ``target`` outcome of the last unit spent). ``bounds``: of single channels; ``reach``:
    others may spend at most so many times their largest past spend. ``risk``: standard errors of the outcome that
    count against a channel. ``step``: spend is planned in whole steps. ``min_periods``: channels with fewer periods of
    spend keep what they have.
    """

    channel: str = "channel"
    period: str = "period"
    spend: str = "spend"
    outcome: str = "outcome"
    where: tuple[Filter, ...] = ()
    curves: tuple[Family, ...] = ("log", "power", "michaelis_menten", "hill")
    carry_over: bool = False
    goal: Literal["budget", "roas", "cpa", "marginal"] = "budget"
    budget: float | None = None
    target: float | None = None
    bounds: tuple[Bound, ...] = ()
    step: float | None = None
    reach: float = 1.5
    risk: float = 0.0
    what_if: tuple[Shift, ...] = ()
    min_periods: int = 8
    alpha: float = 0.05

    def __post_init__(self) -> None:
        if not self.curves or len(set(self.curves)) < len(self.curves):
            raise ConfigError("budget_curves", got=", ".join(self.curves) or Phrase("got_nothing"))
        if (self.goal == "budget") != (self.target is None):
            raise ConfigError("budget_target", goal=self.goal)
        if self.goal != "budget" and self.budget is not None:
            raise ConfigError("budget_not_fixed", goal=self.goal)
        for key in ("budget", "target", "step", "reach"):
            number = getattr(self, key)
            if number is not None and not (0 < number < math.inf):
                raise ConfigError("bad_number", where=f"method.{key}", got=number, expected=Phrase("expected_above_0"))
        if not 0 <= self.risk < math.inf:
            raise ConfigError(
                "bad_number", where="method.risk", got=self.risk, expected=Phrase("expected_not_negative")
            )
        if not 0 < self.alpha < 1:
            raise ConfigError(
                "bad_number", where="method.alpha", got=self.alpha, expected=Phrase("expected_between", low=0, high=1)
            )
        if not 4 <= self.min_periods <= 10_000:
            expected = Phrase("expected_whole_between", low=4, high=10_000)
            raise ConfigError("bad_number", where="method.min_periods", got=self.min_periods, expected=expected)
        names = [bound.channel for bound in self.bounds]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError("repeated_channel", where="method.bounds", name=name)
