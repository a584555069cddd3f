"""Non-inferiority, equivalence, and a declared rule from the tests of an experiment to ship / keep testing / stop.

Statistic: none beyond the fixed (or sequential) test of each metric: estimate, std_error, dof, and its interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from causal_spark.errors import ConfigError
from causal_spark.solve.intervals import Test, critical, p_value

Role = Literal["success", "guardrail", "diagnostic"]
Good = Literal["increase", "decrease"]
Verdict = Literal["ship", "keep_testing", "stop"]


def superiority(test: Test, good: Good = "increase", alpha: float = 0.025) -> Test:
    """One-sided test that the metric got better, with its one-sided interval."""
    return non_inferiority(test, 0.0, good, alpha)


def non_inferiority(test: Test, margin: float, good: Good = "increase", alpha: float = 0.025) -> Test:
    """Test that the metric is worse by less than ``margin`` ≥ 0 (Wellek 2010), on the scale of the estimate.

    The interval is one-sided at 1 - alpha and excludes the margin if and only if p < alpha.
    Raises ConfigError for a negative margin.
    """
    if not (margin >= 0 and math.isfinite(margin)):
        raise ConfigError("bad_margin", got=margin)
    sign = 1.0 if good == "increase" else -1.0
    if not (test.std_error > 0 and test.dof > 0):
        return Test(test.estimate, test.std_error, math.nan, math.nan, math.nan, math.nan, math.nan)
    statistic = (sign * test.estimate + margin) / test.std_error
    half = critical(alpha, test.dof, "greater") * test.std_error
    low, high = (test.estimate - half, math.inf) if good == "increase" else (-math.inf, test.estimate + half)
    p = p_value(statistic, test.dof, "greater")
    return Test(test.estimate, test.std_error, statistic, test.dof, p, low, high)


def equivalence(test: Test, margin: float, alpha: float = 0.05) -> Test:
    """Two one-sided tests (Schuirmann 1987) that |effect| < ``margin``; the interval is at 1 - 2·alpha.

    p = the larger of both; p < alpha if and only if the interval lies inside ±margin.
    """
    if not (margin > 0 and math.isfinite(margin)):
        raise ConfigError("bad_margin", got=margin)
    lower, upper = non_inferiority(test, margin, "increase", alpha), non_inferiority(test, margin, "decrease", alpha)
    worse = lower if not lower.p_value < upper.p_value else upper
    return Test(test.estimate, test.std_error, worse.statistic, test.dof, worse.p_value, lower.low, upper.high)


@dataclass(frozen=True)
class Reading:
    """What is known of one metric of one contrast when a decision is due.

    ``test`` on the scale of ``margin``; ``adjusted_p`` of the (two-sided) family or sequential test; ``power`` of a
    guardrail to show non-inferiority at no effect with the planned units. ``margin`` 0: none was declared; a guardrail
    then only must not be worse for sure, and a success metric must be better. A success metric with a margin wins by
    the test against it. ``equivalence``: the margin holds in both directions. ``level``: one-sided level of the test
    against the margin at this look (NaN: the rule's). ``shared``: that of a success metric where several with a margin
    share the rule's (NaN: an equal part of it).
    """

    name: str
    role: Role
    test: Test
    adjusted_p: float
    good: Good = "increase"
    margin: float = 0.0
    power: float = math.nan
    equivalence: bool = False
    level: float = math.nan
    shared: float = math.nan

    def at(self, alpha: float) -> float:
        """Its own one-sided level, or else ``alpha``."""
        return alpha if math.isnan(self.level) else self.level


@dataclass(frozen=True)
class Rule:
    """Declared before the run: ``alpha`` of success metrics, ``guardrail_alpha`` (one-sided) of guardrails,
    ``needs`` any or all of the success metrics, ``least_power`` a guardrail must have to say anything."""

    alpha: float = 0.05
    guardrail_alpha: float = 0.05
    needs: Literal["any", "all"] = "any"
    least_power: float = 0.8


@dataclass(frozen=True)
class Decision:
    """The verdict, the key of its sentence (``decision_<reason>`` in the catalogue) and the metrics it names."""

    verdict: Verdict
    reason: str
    metrics: tuple[str, ...]
    weak: tuple[str, ...] = ()


def decide(readings: Sequence[Reading], rule: Rule, complete: bool, trusted: bool = True) -> Decision:
    """The first of these that applies; ``complete``: the planned units are reached or the last look was taken.

    1. not trusted (a sample ratio mismatch, say): stop. 2. a guardrail is worse than its margin for sure, or a
    success metric got worse for sure: stop. 3. success metrics won and every guardrail is non-inferior: ship.
    4. success won, a guardrail not settled: keep testing, or stop if complete. 5. nothing won: keep testing, or stop
    if complete. ``weak`` are unsettled guardrails whose power is below the rule's; of a verdict to ship, those
    without a margin, which are not shown to be safe (reason ``won_no_margin``). Where any success metric suffices,
    those with a margin share ``guardrail_alpha`` (Bonferroni).
    """
    if not any(reading.role == "success" for reading in readings):
        raise ConfigError("no_success_metric")
    if not trusted:
        return Decision("stop", "untrusted", ())
    guardrails = [reading for reading in readings if reading.role == "guardrail"]
    broken = [r.name for r in guardrails if surely_worse(r, rule.guardrail_alpha)]
    if broken:
        return Decision("stop", "guardrail_broken", tuple(broken))
    success = [reading for reading in readings if reading.role == "success"]
    lost = [r.name for r in success if _lost(r, rule)]
    if lost:
        return Decision("stop", "success_lost", tuple(lost))
    several = sum(r.margin > 0 for r in success) if rule.needs == "any" else 1
    won = [r.name for r in success if _won(r, rule, several)]
    open_guards = [r for r in guardrails if not safe(r, rule.guardrail_alpha)]
    weak = tuple(r.name for r in open_guards if not r.power >= rule.least_power)
    if len(won) == len(success) or (won and rule.needs == "any"):
        if not open_guards:
            unmeasured = tuple(r.name for r in guardrails if r.margin == 0)
            return Decision("ship", "won_no_margin" if unmeasured else "won", tuple(won), unmeasured)
        reason = "guardrail_unsettled_end" if complete else "guardrail_unsettled"
        names = tuple(r.name for r in open_guards)
        return Decision("stop" if complete else "keep_testing", reason, names, weak)
    if complete:
        return Decision("stop", "nothing_won", tuple(r.name for r in success), weak)
    return Decision("keep_testing", "not_yet", tuple(r.name for r in success if r.name not in won), weak)


def against_margin(reading: Reading, alpha: float) -> Test:
    """The test of a reading against its margin, at its own level or else ``alpha``."""
    level = reading.at(alpha)
    if reading.equivalence:
        return equivalence(reading.test, reading.margin, level)
    return non_inferiority(reading.test, reading.margin, reading.good, level)


def safe(reading: Reading, alpha: float) -> bool:
    """Shown to be no worse than its margin; without a margin, known at all."""
    p = against_margin(reading, alpha).p_value
    return math.isfinite(p) if reading.margin == 0 else p < reading.at(alpha)


def surely_worse(reading: Reading, alpha: float) -> bool:
    """The whole one-sided interval lies beyond the margin, on the bad side or, of equivalence, on either."""
    level = reading.at(alpha)
    test = reading.test
    half = critical(level, test.dof, "greater") * test.std_error if test.dof > 0 else math.nan
    if reading.equivalence and abs(test.estimate) - half > reading.margin:
        return True
    return _toward(reading) + half < -reading.margin


def _won(reading: Reading, rule: Rule, several: int) -> bool:
    if reading.margin == 0:
        return reading.adjusted_p < rule.alpha and _toward(reading) > 0
    level = rule.guardrail_alpha / several if math.isnan(reading.shared) else reading.shared
    return against_margin(reading, rule.guardrail_alpha).p_value < level


def _lost(reading: Reading, rule: Rule) -> bool:
    if reading.margin == 0:
        return reading.adjusted_p < rule.alpha and _toward(reading) < 0
    return surely_worse(reading, rule.guardrail_alpha)


def _toward(reading: Reading) -> float:
    return reading.test.estimate if reading.good == "increase" else -reading.test.estimate
