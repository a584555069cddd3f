"""The rows of ``estimates`` put together: one effect per metric, segment and contrast."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from causal_spark.report import numbers
from causal_spark.results import Result

EVERYONE = "all"
LOOKS = ("group_sequential", "always_valid")  # methods that hold at every look of a plan
UNITS = dict.fromkeys(("proportion", "conversion", "retention"), "points")  # metrics of 0 and 1
# The terms of an effect; others stand in sections of their own, and never in its place, as do the methods beside it.
TERMS = ("difference", "lift")
BESIDE = ("quantile", "mann_whitney", "bootstrap", "jackknife")
# Methods of main rows that are adjusted by what was known before.
ADJUSTED = ("cuped", "lin", "strata", "cuped_strata", "cupac")


@dataclass(frozen=True)
class Change:
    """One row of ``estimates``, as numbers."""

    method: str
    estimate: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p_value: float = math.nan
    p_adjusted: float = math.nan
    n: float = math.nan
    note: str = ""

    @property
    def known(self) -> bool:
        """True if there is a finite estimate."""
        return math.isfinite(self.estimate)

    @property
    def p(self) -> float:
        """The p-value that decides: corrected where there is a correction."""
        return self.p_value if math.isnan(self.p_adjusted) else self.p_adjusted


NOTHING = Change("")


@dataclass(frozen=True)
class Effect:
    """The effect on one metric: absolute, relative, and the same without adjustment where there is one.

    ``moved`` is -1, 0 or 1: the direction of a change that is significant after correction.
    ``hinted`` is True when only the uncorrected test is significant.
    """

    outcome: str
    segment: str
    contrast: str
    kind: str
    role: str
    difference: Change
    lift: Change
    raw_difference: Change
    raw_lift: Change
    moved: int = 0
    hinted: bool = False

    @property
    def main(self) -> Change:
        """The row that carries the test: the difference, or the lift where there is no difference."""
        return self.difference if self.difference.method else self.lift

    @property
    def unit(self) -> str:
        """How an absolute difference is written: ``points`` for 0/1 metrics, else ``number``."""
        return unit_of(self.kind)

    @property
    def note(self) -> str:
        """Why something is missing."""
        return self.difference.note if not self.difference.known else self.lift.note


def unit_of(kind: object) -> str:
    """``points`` for metrics of 0 and 1, ``number`` for all others."""
    return UNITS.get(str(kind), "number")


def table_of(result: Result, name: str) -> pd.DataFrame:
    """A diagnostic table, or an empty frame if the job did not make it."""
    frame = result.diagnostics.get(name)
    return pd.DataFrame() if frame is None else frame


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dictionaries, in order."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def metric_facts(result: Result) -> dict[str, dict[str, Any]]:
    """Metric name to its row of the ``metrics`` table."""
    return {str(row.get("outcome")): row for row in records(table_of(result, "metrics"))}


def alpha_of(result: Result, facts: Mapping[str, Any]) -> float:
    """The significance level: from the facts, else from the level of the intervals, else 0.05."""
    levels = result.estimates["conf_level"].dropna().tolist()[:1]
    asked = [numbers.as_float(facts.get("alpha")), *(round(1.0 - level, 12) for level in levels)]
    return next((alpha for alpha in asked if 0 < alpha < 1), 0.05)


def effects(result: Result, facts: Mapping[str, Any]) -> list[Effect]:
    """All effects in the order of ``estimates``; those of a run that is not trusted never count as moved."""
    groups: dict[tuple[str, str, str], dict[str, list[Change]]] = {}
    for row in records(result.estimates):
        if row["term"] not in TERMS or row["method"] in BESIDE:
            continue
        key = (str(row["outcome"]), str(row["segment"]), str(row["contrast"]))
        groups.setdefault(key, {}).setdefault(str(row["term"]), []).append(change_of(row))
    known, alpha = metric_facts(result), alpha_of(result, facts)
    found = []
    for (outcome, segment, contrast), terms in groups.items():
        about = known.get(outcome, {})
        kind, role = str(about.get("kind", "")), str(about.get("role", "success"))
        difference, raw_difference = _main_and_twin(terms.get("difference", []))
        lift, raw_lift = _main_and_twin(terms.get("lift", []))
        effect = Effect(outcome, segment, contrast, kind, role, difference, lift, raw_difference, raw_lift)
        found.append(_judged(effect, alpha) if result.trusted else effect)
    return found


def single_look(result: Result) -> Result:
    """The result without the rows of a plan of several looks."""
    kept = ~result.estimates["method"].astype(str).isin(LOOKS)
    return replace(result, estimates=result.estimates[kept])


def change_of(row: Mapping[str, Any]) -> Change:
    """A row of ``estimates`` as numbers."""
    names = {"estimate": "estimate", "low": "conf_low", "high": "conf_high", "n": "n"}
    names |= {"p_value": "p_value", "p_adjusted": "p_adjusted"}
    values = {field: numbers.as_float(row[name]) for field, name in names.items()}
    return Change(method=str(row["method"]), note=str(row["note"] or ""), **values)


def _main_and_twin(rows: list[Change]) -> tuple[Change, Change]:
    """The primary row and its unadjusted twin: the primary holds at every look, is corrected, is adjusted, or
    comes first; with a plan of several looks the rows of a single look stand back."""
    planned = [row for row in rows if row.method in LOOKS]
    rows = [row for row in rows if row.method not in LOOKS]
    if len(rows) < 2:
        return (planned or rows or [NOTHING])[0], NOTHING
    corrected = [row for row in rows if math.isfinite(row.p_adjusted)]
    adjusted = [row for row in rows if row.method in ADJUSTED]
    main = (corrected or adjusted or rows)[0]
    return (planned or [main])[0], next(row for row in rows if row is not main)


def _judged(effect: Effect, alpha: float) -> Effect:
    main = effect.main
    if not main.known or math.isnan(main.p):
        return effect
    direction = (main.estimate > 0) - (main.estimate < 0)
    if main.p <= alpha:
        return replace(effect, moved=direction)
    return replace(effect, hinted=main.p_value <= alpha)


def overall(every: list[Effect]) -> list[Effect]:
    """The effects on everyone."""
    return [effect for effect in every if effect.segment == EVERYONE]


def by_segment(every: list[Effect]) -> list[Effect]:
    """The effects within segments."""
    return [effect for effect in every if effect.segment != EVERYONE]
