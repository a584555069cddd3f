"""The rows of an observational comparison put together: one for each treatment, outcome and estimator."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from causal_spark.report import numbers
from causal_spark.report.effects import EVERYONE, NOTHING, Change, Effect, alpha_of, records
from causal_spark.report.settings import method_of
from causal_spark.results import Result

COMPARISONS = ("unadjusted", "regression")  # shown beside the estimates, never as an effect


@dataclass(frozen=True)
class Line:
    """What one estimator says of one treatment and outcome; ``times``: the terms incremental and roi, where they are.

    ``effect.moved`` is 0 unless the run is trusted and the estimate an adjusted one.
    """

    treatment: str
    outcome: str
    estimator: str
    estimand: str
    effect: Effect
    times: Mapping[str, Change]
    placebo: bool

    @property
    def comparison(self) -> bool:
        return self.estimator in COMPARISONS

    @property
    def change(self) -> Change:
        return self.effect.difference

    @property
    def pair(self) -> tuple[str, str]:
        return self.treatment, self.outcome


def lines(result: Result, facts: Mapping[str, Any]) -> list[Line]:
    """All lines in the order of ``estimates``."""
    terms: dict[tuple[str, str, str, str], dict[str, Change]] = {}
    for row in records(result.estimates):
        key = (str(row["contrast"]), str(row["outcome"]), str(row["method"]), str(row["estimand"]))
        terms.setdefault(key, {})[str(row["term"])] = _change(row)
    placebos, alpha = set(texts(method_of(facts).get("placebo_outcomes"))), alpha_of(result, facts)
    found = []
    for (treatment, outcome, estimator, estimand), changes in terms.items():
        change = changes.pop("difference", NOTHING)
        moved = 0 if estimator in COMPARISONS or not result.trusted else _direction(change, alpha)
        effect = Effect(outcome, EVERYONE, treatment, "", "success", change, NOTHING, NOTHING, NOTHING, moved)
        found.append(Line(treatment, outcome, estimator, estimand, effect, changes, outcome in placebos))
    return found


def _change(row: Mapping[str, Any]) -> Change:
    estimate, low, high, p = (numbers.as_float(row[name]) for name in ("estimate", "conf_low", "conf_high", "p_value"))
    size, note = numbers.as_float(row["n"]), str(row["note"] or "")
    return Change(str(row["method"]), estimate, low, high, p, n=size, note=note)


def _direction(change: Change, alpha: float) -> int:
    if not (change.known and change.p_value <= alpha):
        return 0
    return (change.estimate > 0) - (change.estimate < 0)


def texts(value: object) -> tuple[str, ...]:
    """A list of a configuration as texts; anything else is empty."""
    return tuple(str(item) for item in value) if isinstance(value, (list, tuple)) else ()


def adjusted(every: Sequence[Line]) -> list[Line]:
    """The estimates of effects: without those for comparison, and without placebo outcomes."""
    return [line for line in every if not line.comparison and not line.placebo]


def leading(every: Sequence[Line], facts: Mapping[str, Any]) -> list[Line]:
    """For each treatment and outcome the estimator that was named first; it is the one told in words."""
    asked = {name: place for place, name in enumerate(texts(method_of(facts).get("estimators")))}
    first: dict[tuple[str, str], Line] = {}
    for line in sorted(adjusted(every), key=lambda line: asked.get(line.estimator, len(asked))):
        first.setdefault(line.pair, line)
    return [first[pair] for pair in dict.fromkeys(line.pair for line in adjusted(every))]


def names(every: Sequence[Line], field: str) -> list[str]:
    """The values of a field (``treatment``, ``outcome``, ``estimator``), each once, in order."""
    return list(dict.fromkeys(str(getattr(line, field)) for line in every))


def places(some: Sequence[Line]) -> int | None:
    """The digits that the effects on one outcome share."""
    spans = ((line.change.estimate, line.change.low, line.change.high) for line in some if line.change.known)
    return numbers.column_places(spans, "number")


def finite(value: object) -> bool:
    """Whether a cell holds a number."""
    return math.isfinite(numbers.as_float(value))
