"""Margins and the declared rule: ship, keep testing or stop, for each contrast, and why."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from causal_spark.methods.experiment.analyses import sequential
from causal_spark.methods.experiment.analyses.found import Found
from causal_spark.methods.experiment.analyses.sequential import Series
from causal_spark.methods.experiment.estimates import Contrast, Solver
from causal_spark.methods.experiment.rules import DecisionRule
from causal_spark.methods.experiment.vocabulary import Metric
from causal_spark.results import Estimate
from causal_spark.solve.decision import Decision, Reading, Rule, against_margin, decide, safe, surely_worse
from causal_spark.solve.intervals import Test
from causal_spark.solve.power import (
    power_equivalence,
    power_non_inferiority,
    sample_size,
    sample_size_equivalence,
)
from causal_spark.words import say

Cell = tuple[str, str]  # metric, contrast
FIRM = ("untrusted", "guardrail_broken")  # reasons that also stop a run before its planned end
NOTHING = Estimate("", "", "", "", "", "")


def decisions(solver: Solver, rows: Sequence[Estimate]) -> Found:
    """Rows and table of the looks, margins, and the decision. The last analysis: it asks what all checks found."""
    series = sequential.looked(solver)
    desk = Desk(solver, rows, series)
    tables = {
        "looks": sequential.table(solver, series),
        "margins": desk.margins(),
        "decision": [] if solver.method.decision is None else [desk.decided(one) for one in solver.contrasts()],
    }
    frames = {name: pd.DataFrame(found) for name, found in tables.items() if found}
    return Found(tuple(sequential.rows(solver, series)) if series else (), frames)


@dataclass(frozen=True)
class Measured:
    """A reading of one metric and contrast with the units at hand and planned (NaN), and what power they have."""

    metric: Metric
    contrast: Contrast
    reading: Reading
    n: float
    planned: float
    power: float
    needed: float


class Desk:
    """Reads the main rows over all units, and the looks where there is a plan."""

    def __init__(self, solver: Solver, rows: Iterable[Estimate], series: Iterable[Series]) -> None:
        self.solver, self.method = solver, solver.method
        self.rule = solver.method.decision or DecisionRule()
        self.series: Mapping[Cell, Series] = {(s.seen.outcome, s.seen.contrast): s for s in series}
        self.rows: dict[tuple[str, str, str], Estimate] = {}
        for row in rows:  # the first row of a cell is the main one, its unadjusted twin follows
            if row.segment == "all":
                self.rows.setdefault((row.outcome, row.contrast, row.term), row)

    def measured(self, metric: Metric, contrast: Contrast) -> Measured:
        cell = (metric.name, str(contrast))
        row = self.rows.get((*cell, "difference"), NOTHING)
        test = self._test(metric, cell, row)
        series = self.series.get(cell)
        levels = (math.nan, math.nan) if series is None else (series.level, series.shared)
        planned = self._planned(contrast)
        margin = 0.0 if metric.margin is None else metric.margin.size
        both = metric.test == "equivalence"
        power, later, needed = self._powers(margin, both, test.std_error, row.n, planned)
        reading = Reading(
            metric.name, metric.role, test, row.p_adjusted if series is None else series.p_adjusted, metric.good,
            margin, power if math.isnan(later) else later, both, *levels,
        )  # fmt: skip
        return Measured(metric, contrast, reading, row.n, planned, power, needed)

    def _test(self, metric: Metric, cell: Cell, row: Estimate) -> Test:
        """The difference, or the lift with its delta-method error, as the margin is given.

        A relative margin is a share of the size of the control mean: the lift over one below 0 is turned.
        """
        relative = metric.margin is not None and metric.margin.scale == "relative"
        found = self.rows.get((*cell, "lift"), NOTHING) if relative else row
        error = found.std_error if row.dof > 0 else math.nan
        statistic = found.estimate / error if error > 0 else math.nan
        test = Test(found.estimate, error, statistic, row.dof, found.p_value, found.conf_low, found.conf_high)
        if not found.estimate * row.estimate < 0:
            return test
        return replace(test, estimate=-test.estimate, statistic=-statistic, low=-test.high, high=-test.low)

    def _planned(self, contrast: Contrast) -> float:
        plan = self.method.sequential
        units = self.rule.units if plan is None else plan.units
        shares = self.solver.compressed.facts["arms"]
        return math.nan if units is None else units * (shares[contrast.treatment] + shares[contrast.control])

    def _powers(self, margin: float, both: bool, error: float, n: float, planned: float) -> tuple[float, float, float]:
        """Power against the margin at no effect with the units at hand, with those planned, and the units it takes."""
        if not (margin > 0 and error > 0 and n > 0):
            return math.nan, math.nan, math.nan
        variance = error**2 * n / 4  # of a unit, were both arms equal in size: std_error² = 4 · variance / n
        level, target = self.method.margin_alpha, self.rule.least_power
        power = power_equivalence if both else power_non_inferiority
        later = power(margin, planned, variance, alpha=level) if planned > 0 else math.nan
        if both:
            needed = sample_size_equivalence(margin, variance, alpha=level, target=target)
        else:
            needed = sample_size(margin, variance, alpha=level, target=target, alternative="greater")
        return power(margin, n, variance, alpha=level), later, needed

    def margins(self) -> list[dict[str, Any]]:
        """Every metric with a margin; the guardrails without one too, if a rule was declared."""
        ruled = self.method.decision is not None
        metrics = [m for m in self.method.metrics if m.margin is not None or (ruled and m.role == "guardrail")]
        return [self._margin(self.measured(m, contrast)) for m in metrics for contrast in self.solver.contrasts()]

    def _margin(self, one: Measured) -> dict[str, Any]:
        reading, metric, alpha = one.reading, one.metric, self.method.margin_alpha
        test = against_margin(reading, alpha)
        return {
            "outcome": metric.name, "role": metric.role, "contrast": str(one.contrast), "good": metric.good,
            "test": metric.test, "scale": "absolute" if metric.margin is None else metric.margin.scale,
            "margin": math.nan if metric.margin is None else reading.margin, "estimate": test.estimate,
            "std_error": test.std_error, "dof": test.dof, "p_value": test.p_value if metric.margin else math.nan,
            "conf_low": test.low, "conf_high": test.high, "level": reading.at(alpha), "state": _state(reading, alpha),
            "n": one.n, "power": one.power, "planned": one.planned,
            "power_planned": reading.power if one.planned > 0 else math.nan, "units_needed": one.needed,
        }  # fmt: skip

    def decided(self, contrast: Contrast) -> dict[str, Any]:
        """The decision on one contrast as a row, with its reason as a sentence."""
        readings = [self.measured(metric, contrast) for metric in self.method.metrics]
        complete = self._complete(readings)
        trusted = not any(check.verdict == "invalid" for check in self.solver.checks.found)
        rule = Rule(self.method.alpha, self.method.margin_alpha, self.rule.needs, self.rule.least_power)
        found = decide([one.reading for one in readings], rule, complete, trusted)
        if not complete and self.method.sequential is None and found.reason not in FIRM:
            found = Decision("keep_testing", "too_early", ())
        names = {"metrics": found.metrics, "weak": found.weak}
        texts = {name: say("report_list_and", self.solver.language).join(value) for name, value in names.items()}
        row = {"contrast": str(contrast), "verdict": found.verdict, "reason": found.reason}
        sentence = self._sentence(found, texts)
        return {**row, "sentence": sentence, **texts, "complete": complete, "trusted": trusted}

    def _sentence(self, found: Decision, texts: Mapping[str, str]) -> str:
        said = [say(f"decision_{found.reason}", self.solver.language, metrics=texts["metrics"])]
        if found.weak and found.verdict != "ship":
            said.append(say("decision_weak", self.solver.language, metrics=texts["weak"]))
        return say("report_gap", self.solver.language).join(said)

    def _complete(self, readings: Sequence[Measured]) -> bool:
        """The planned units are reached by every success metric; a run without any plan is its own end."""
        success = [one for one in readings if one.metric.role == "success"]
        return not any(math.isfinite(one.planned) and not one.n >= one.planned * (1 - 1e-9) for one in success)


def _state(reading: Reading, alpha: float) -> str:
    """safe, open or worse than the margin; no_margin; unknown."""
    if surely_worse(reading, alpha):
        return "worse"
    if not math.isfinite(against_margin(reading, alpha).p_value):
        return "unknown"
    if reading.margin == 0:
        return "no_margin"
    return "safe" if safe(reading, alpha) else "open"
