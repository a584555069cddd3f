"""Curves, the plan and what it gains, from spend and outcome by channel and period."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from causal_spark.errors import GateError, StatisticError
from causal_spark.methods.budget.compressed import Compressed
from causal_spark.methods.budget.vocabulary import Bound, Budget
from causal_spark.methods.findings import Findings
from causal_spark.results import Estimate, Result, checks_frame, estimates_frame
from causal_spark.solve import allocation, curves
from causal_spark.solve.curves import Curve, Fit
from causal_spark.solve.intervals import critical
from causal_spark.statistics.moments import Array
from causal_spark.words import say

GRID_STEPS = 400
DRAWN_POINTS = 41


@dataclass(frozen=True, eq=False)
class Channel:
    """One channel: its past spend and outcome by period (T,), its fit and bounds. Without fit it keeps its spend."""

    name: str
    spend: Array
    outcome: Array
    fit: Fit | None
    low: float
    high: float
    step: float | None

    @property
    def now(self) -> float:
        return float(self.spend.mean())

    def outside(self, spend: float) -> bool:
        """Whether a spend lies outside what was ever spent; nothing at all is known to bring nothing."""
        return bool(spend > self.spend.max() * (1 + 1e-9) or 0 < spend < self.spend.min() * (1 - 1e-9))

    @property
    def curve(self) -> Curve:
        assert self.fit is not None
        return self.fit.curve


def solve(method: Budget, compressed: Compressed, language: str = "en") -> Result:
    """Curves of every channel, the plan, its gain with an interval, the named baselines and the questions asked.

    Raises GateError if no channel can be fitted or a bound names an unknown one, StatisticError if the goal is out
    of reach.
    """
    found = Findings(language)
    found.found = list(compressed.checks)
    channels = _channels(method, compressed, found)
    planned = [channel for channel in channels if channel.fit is not None]
    spend, price = plan(method, planned, kept_of(channels))
    solver = _Report(method, channels, planned, spend, price, found, language)
    solver.check()
    tables = {
        "checks": checks_frame(found.found),
        "plan": pd.DataFrame(solver.plan()),
        "curves": pd.DataFrame(solver.curves()),
        "points": pd.DataFrame(solver.points()),
        "history": pd.DataFrame(solver.history(compressed.periods)),
        "scenarios": pd.DataFrame(solver.scenarios()),
    }
    return Result(
        estimates=estimates_frame(solver.estimates()),
        diagnostics={name: table for name, table in tables.items() if len(table)},
        notes=tuple(f"{check.code}: {check.message}" for check in found.found if check.verdict != "pass"),
    )


def kept_of(channels: Sequence[Channel]) -> float:
    """What the channels without a curve spend in a period, and keep."""
    return float(sum(channel.now for channel in channels if channel.fit is None))


def _channels(method: Budget, compressed: Compressed, found: Findings) -> list[Channel]:
    bounds = {bound.channel: bound for bound in method.bounds}
    named = {*bounds, *(name for shift in method.what_if for name in (shift.source, shift.target))}
    for name in sorted(named - set(compressed.spend)):
        found.add("UNKNOWN_CHANNEL_NAMED", "stop", "history", name)
    found.refuse()
    channels = [_channel(method, name, compressed, bounds.get(name, Bound(name))) for name in compressed.spend]
    if not any(channel.fit for channel in channels):
        raise GateError("budget_no_curve")
    return channels


def _channel(method: Budget, name: str, compressed: Compressed, bound: Bound) -> Channel:
    x, y = np.array(compressed.spend[name]), np.array(compressed.outcome[name])
    fit = None
    if (x > 0).sum() >= method.min_periods:
        fits = [f for f in (curves.fit(x, y, family, method.carry_over) for family in method.curves) if f is not None]
        fit = curves.best(fits)
    high = method.reach * float(x.max()) if bound.high is None else bound.high
    return Channel(name, x, y, fit, bound.low, max(high, bound.low), bound.step or method.step)


def plan(method: Budget, planned: Sequence[Channel], kept: float = 0.0) -> tuple[Array, float]:
    """Spend of each channel in a period, and the marginal return that the channels away from their bounds share.

    ``kept``: what channels without a curve spend, which a given budget pays as well.
    """
    every = [channel.curve for channel in planned]
    low, high = (np.array([getattr(channel, end) for channel in planned]) for end in ("low", "high"))
    budget = sum(channel.now for channel in planned) if method.budget is None else method.budget - kept
    if budget < 0:
        raise StatisticError("budget_kept", budget=f"{method.budget:,.4g}", kept=f"{kept:,.4g}")
    if method.risk or any(channel.step for channel in planned):
        return _stepped(method, planned, budget, low, high), math.nan
    if method.goal == "budget":
        found = allocation.allocate(every, budget, low, high)
        return found.spend, found.price
    assert method.target is not None
    if method.goal == "marginal":
        found = allocation.to_marginal(every, method.target, low, high)
    else:
        found = allocation.to_average(every, _average(method), low, high)
    return found.spend, found.price


def _average(method: Budget) -> float:
    """Outcome for each unit of spend that a ROAS, or a CPA, asks for."""
    assert method.target is not None
    return method.target if method.goal == "roas" else 1 / method.target


def _stepped(method: Budget, planned: Sequence[Channel], budget: float, low: Array, high: Array) -> Array:
    """The plan in steps, of the curve less ``risk`` standard errors."""
    values = [_cautious(channel, method.risk) for channel in planned]
    widths = np.full(len(planned), budget) if method.goal == "budget" else np.where(high > low, high - low, 1.0)
    steps = np.array([c.step or width / GRID_STEPS for c, width in zip(planned, widths, strict=True)])
    if method.goal == "budget":
        return allocation.on_grid(values, budget, low, high, steps)
    assert method.target is not None
    if method.goal == "marginal":
        return allocation.on_grid_to_marginal(values, method.target, low, high, steps)
    return allocation.on_grid_to_average(values, _average(method), low, high, steps)


def _cautious(channel: Channel, risk: float) -> Any:
    def value(spend: Array) -> Array:
        if not risk:
            return channel.curve.value(spend)
        return np.array([float(channel.curve.value(s)) - risk * _error(channel, float(s)) for s in spend])

    return value


def _error(channel: Channel, spend: float) -> float:
    """Standard error of the curve at a spend; 0 where it cannot be told."""
    assert channel.fit is not None
    error = channel.fit.interval(partial(_value_at, spend=spend))
    return error if math.isfinite(error) else 0.0


def _between(curve: Curve, new: float, old: float) -> float:
    """What a curve gives more at one spend than at another."""
    return float(curve.value(new)) - float(curve.value(old))


def _value_at(curve: Curve, spend: float) -> float:
    """The outcome at a spend."""
    return float(curve.value(spend))


def _slope_at(curve: Curve, spend: float) -> float:
    """The marginal return at a spend."""
    return float(curve.slope(spend))


class _Report:
    """What is said of the plan; the mathematics is in ``causal_spark.solve``."""

    def __init__(self, method: Budget, channels: Sequence[Channel], planned: Sequence[Channel], spend: Array,
                 price: float, found: Findings, language: str) -> None:  # fmt: skip
        self.method, self.channels, self.planned = method, channels, planned
        self.spend, self.price, self.found, self.language = spend, price, found, language
        self.now = np.array([channel.now for channel in planned])
        self.kept = kept_of(channels)
        low, high = (np.array([getattr(channel, end) for channel in planned]) for end in ("low", "high"))
        self.binding = allocation.plan([channel.curve for channel in planned], spend, price, low, high).binding

    def check(self) -> None:
        for channel in self.channels:
            if channel.fit is None:
                self.found.add("NO_CURVE", "warn", "history", channel.name, least=self.method.min_periods)
            elif channel.curve.bend > 0:
                self.found.add("S_SHAPED", "warn", "history", channel.name, bend=f"{channel.curve.bend:,.4g}")
        for channel, spend in zip(self.planned, self.spend, strict=True):
            if channel.outside(float(spend)):
                least, most = channel.spend.min(), channel.spend.max()
                self.found.add("BEYOND_OBSERVED", "warn", "history", channel.name, planned=f"{spend:,.4g}",
                               least=f"{least:,.4g}", most=f"{most:,.4g}")  # fmt: skip
            if channel.fit is not None and not np.isfinite(channel.fit.vcov).all():
                self.found.add("CURVE_UNCERTAIN", "warn", "history", channel.name)

        without = {channel.name for channel in self.channels if channel.fit is None}
        for shift in self.method.what_if:
            if named := sorted(without & {shift.source, shift.target}):
                self.found.add("NO_ANSWER", "warn", "history", ", ".join(named), source=shift.source,
                               target=shift.target)  # fmt: skip

    def plan(self) -> list[dict[str, Any]]:
        """Spend now and planned, marginal and average return before and after, the bound that binds."""
        rows = []
        for channel, spend, bound in zip(self.planned, self.spend, self.binding, strict=True):
            curve, now = channel.curve, channel.now
            rows.append({
                "channel": channel.name, "spend_now": now, "spend_planned": float(spend), "change": float(spend) - now,
                "outcome_now": float(curve.value(now)), "outcome_planned": float(curve.value(spend)),
                "marginal_now": float(curve.slope(now)), "marginal_planned": float(curve.slope(spend)),
                "average_planned": float(curve.value(spend)) / spend if spend > 0 else math.nan,
                "low": channel.low, "high": channel.high, "binding": bound,
                "observed_low": float(channel.spend.min()), "observed_high": float(channel.spend.max()),
                "beyond_observed": channel.outside(float(spend)),
            })  # fmt: skip
        for channel in self.channels:
            if channel.fit is None:
                now = channel.now
                rows.append({"channel": channel.name, "spend_now": now, "spend_planned": now, "change": 0.0,
                             "outcome_now": float(channel.outcome.mean()),
                             "outcome_planned": float(channel.outcome.mean()), "binding": "no_curve"})  # fmt: skip
        return rows

    def curves(self) -> list[dict[str, Any]]:
        """Family, parameters with standard errors, carry-over and fit of every channel."""
        rows = []
        for channel in self.planned:
            fit = channel.fit
            assert fit is not None
            names = curves.FAMILIES[fit.curve.family]
            for i, name in enumerate(names):
                error = fit.interval(lambda curve, i=i: curve.parameters[i])  # type: ignore[misc]
                rows.append({"channel": channel.name, "family": fit.curve.family, "parameter": name,
                             "estimate": fit.curve.parameters[i], "std_error": error, "carry_over": fit.carry,
                             "s_shaped": fit.curve.bend > 0, "bend": fit.curve.bend, "r2": fit.r2, "aicc": fit.aicc,
                             "periods": fit.n})  # fmt: skip
        return rows

    def points(self) -> list[dict[str, Any]]:
        """Each curve with its band from no spend to its bound, for a picture."""
        rows = []
        for channel in self.planned:
            assert channel.fit is not None
            half = critical(self.method.alpha, channel.fit.dof)
            end = max(channel.high if math.isfinite(channel.high) else 0.0, float(channel.spend.max()))
            for spend in np.linspace(0, end, DRAWN_POINTS):
                value = float(channel.curve.value(spend))
                error = channel.fit.interval(partial(_value_at, spend=float(spend)))
                rows.append({"channel": channel.name, "spend": float(spend), "outcome": value,
                             "conf_low": value - half * error, "conf_high": value + half * error})  # fmt: skip
        return rows

    def history(self, periods: Sequence[str]) -> list[dict[str, Any]]:
        return [{"channel": channel.name, "period": period, "spend": float(x), "outcome": float(y)}
                for channel in self.channels
                for period, x, y in zip(periods, channel.spend, channel.outcome, strict=True)]  # fmt: skip

    def scenarios(self) -> list[dict[str, Any]]:
        """The plan, the named baseline "spend in proportion to the past outcome", and each question asked."""
        outcome = np.array([float(channel.outcome.sum()) for channel in self.planned])
        share = outcome / outcome.sum() if outcome.sum() > 0 else outcome
        cases: dict[str, Array] = {"plan": self.spend, "proportional_to_outcome": share * self.now.sum()}
        names = [channel.name for channel in self.planned]
        for shift in self.method.what_if:
            if shift.source in names and shift.target in names:
                moved = self.now.copy()
                amount = shift.share * moved[names.index(shift.source)]
                moved[names.index(shift.source)] -= amount
                moved[names.index(shift.target)] += amount
                cases[f"{shift.source} → {shift.target} ({shift.share:.0%})"] = moved
        rows = []
        for name, spend in cases.items():
            gain, error, dof = self.gain(spend)
            half = critical(self.method.alpha, dof) * error
            beyond = [c.name for c, s in zip(self.planned, spend, strict=True) if c.outside(float(s))]
            rows.append({"scenario": name, "spend": float(spend.sum()) + self.kept, "gain": gain, "std_error": error,
                         "conf_low": gain - half, "conf_high": gain + half,
                         "beyond_observed": ", ".join(beyond)})  # fmt: skip
        return rows

    def gain(self, spend: Array) -> tuple[float, float, float]:
        """Expected outcome of a spend less that of the past mean, its standard error and degrees of freedom.

        Channels are independent; the degrees of freedom of the sum are those of Satterthwaite (1946).
        """
        total, variance, spread = 0.0, 0.0, 0.0
        for channel, new, old in zip(self.planned, spend, self.now, strict=True):
            total += float(channel.curve.value(new)) - float(channel.curve.value(old))
            assert channel.fit is not None
            part = channel.fit.interval(partial(_between, new=float(new), old=float(old))) ** 2
            variance += part
            spread += part**2 / channel.fit.dof
        return total, math.sqrt(variance), variance**2 / spread if spread else math.inf

    def estimates(self) -> list[Estimate]:
        """Planned spend and its outcome by channel; the gain of the plan in total."""
        rows = []
        base: Mapping[str, Any] = {"estimand": "plan", "segment": "all", "conf_level": 1 - self.method.alpha}
        for channel, spend, old, bound in zip(self.planned, self.spend, self.now, self.binding, strict=True):
            notes = [say(f"note_bound_{bound}", self.language)] if bound else []
            curve, fit = channel.curve, channel.fit
            assert fit is not None
            common = {**base, "method": curve.family, "term": channel.name, "n": float(fit.n)}
            half = critical(self.method.alpha, fit.dof)
            rows.append(Estimate(**common, outcome="spend", contrast="plan", estimate=float(spend),
                                 note=" ".join(notes)))  # fmt: skip
            asked: dict[str, Callable[[Curve], float]] = {
                "marginal": partial(_slope_at, spend=float(spend)),
                "outcome": partial(_between, new=float(spend), old=0.0),
                "gain": partial(_between, new=float(spend), old=float(old)),
            }
            for outcome, function in asked.items():
                value, error = function(curve), fit.interval(function)
                contrast = "plan vs now" if outcome == "gain" else "plan"
                rows.append(Estimate(**common, outcome=outcome, contrast=contrast, estimate=value, std_error=error,
                                     dof=float(fit.dof), conf_low=value - half * error,
                                     conf_high=value + half * error))  # fmt: skip
        gain, error, dof = self.gain(self.spend)
        half = critical(self.method.alpha, dof)
        rows.append(Estimate(**base, method=self.method.goal, outcome="gain", contrast="plan vs now", term="(total)",
                             estimate=gain, std_error=error, dof=dof, conf_low=gain - half * error,
                             conf_high=gain + half * error))  # fmt: skip
        rows.append(Estimate(**base, method=self.method.goal, outcome="spend", contrast="plan", term="(total)",
                             estimate=float(self.spend.sum()) + self.kept))  # fmt: skip
        return rows
