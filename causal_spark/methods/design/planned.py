"""Size, smallest detectable effect and power of one metric under one test; each the exact inverse of the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from causal_spark.errors import StatisticError
from causal_spark.methods.design.compressed import Compressed
from causal_spark.methods.design.vocabulary import Design
from causal_spark.methods.experiment import plan
from causal_spark.solve import power
from causal_spark.solve.means import evaluate
from causal_spark.solve.planning import ArmSize, arm_sizes, arrivals, duration
from causal_spark.solve.power import Split, unit_variance

MONDAY = 3  # 1970-01-01 was a Thursday: day d since then has the weekday (d + 3) % 7, 0 = Monday


@dataclass(frozen=True)
class Subject:
    """A metric under a test: its ``mean``, its ``variance`` for each unit (cluster) so that se² = Σ variance/n.

    ``formula``: a key of the words. ``rho2``: of CUPED, else 0. ``n``: units (clusters) of the historic table.
    """

    outcome: str
    test: str
    formula: str
    mean: float
    variance: float
    rho2: float
    n: float

    def effects(self, method: Design) -> list[tuple[float, float]]:
        """(Relative, absolute) effects to be found, without sign; NaN where the mean is 0."""
        size = abs(self.mean)
        if self.outcome in method.effects:
            effect = method.effects[self.outcome]
            return [(effect / size if size > 0 else math.nan, effect)]
        return [(lift, lift * size if size > 0 else math.nan) for lift in method.lifts]


def subjects(method: Design, compressed: Compressed) -> list[Subject]:
    """Every metric without its covariates, and with them. Raises StatisticError if one does not vary."""
    clustered, found = method.cluster is not None, []
    for block in plan.blocks(compressed.metrics):
        part, forms = compressed.of(block.metric.name), block.forms(clustered)
        mean = float(evaluate(part, list(forms[:1])).value[0])
        name = test_of(block, clustered)
        tests = [(name, forms[:1]), *([("cuped", forms)] if len(forms) > 1 else [])]
        for test, used in tests:
            variance, rho2 = unit_variance(part, used)
            formula = f"z_{method.proportions}" if test == "z" else test
            found.append(Subject(block.metric.name, test, formula, mean, variance, rho2, part.n))
    return found


def test_of(block: plan.Block, clustered: bool) -> str:
    """The name of the test without covariates, as the experiment job calls it."""
    if clustered:
        return "cluster"
    return "delta" if block.metric.kind == "ratio" else "z" if block.metric.binary else "welch"


def split(method: Design) -> Split:
    """Shares of the contrast that needs the most units."""
    return Split(method.shares[method.neediest], method.shares[method.control])


def _side(method: Design) -> float:
    return -1.0 if method.alternative == "less" else 1.0


def needed(method: Design, subject: Subject, effect: float, shares: Split, level: float) -> float:
    """Units in all arms that find ``effect``; infinite if it leaves the shares between 0 and 1."""
    if subject.test != "z":
        signed = _side(method) * effect
        return power.sample_size(signed, subject.variance, None, shares, level, method.power, method.alternative)
    treatment = subject.mean + _side(method) * effect
    if not 0 <= treatment <= 1:
        return math.inf
    return power.sample_size_proportions(treatment, subject.mean, shares, level, method.power, method.proportions,
                                         method.alternative)  # fmt: skip


def arms_needed(method: Design, subject: Subject, effect: float) -> ArmSize | None:
    """Whole units by arm; None where no number of units finds the effect."""
    if not math.isfinite(effect):
        return None
    try:
        return arm_sizes(lambda shares, level: needed(method, subject, effect, shares, level), method.shares,
                         method.control, method.alpha)  # fmt: skip
    except StatisticError:
        return None


def smallest(method: Design, subject: Subject, units: float) -> float:
    """The smallest effect that ``units`` in all arms find with the power wanted; NaN if no share is so large."""
    shares, level = split(method), method.level
    if subject.test != "z":
        return power.mde(units, subject.variance, None, shares, level, method.power, method.alternative)
    base = subject.mean if method.alternative != "less" else 1 - subject.mean  # a fall of p is a rise of 1 - p
    return power.mde_proportions(base, units, shares, level, method.power, method.proportions, method.alternative)


def chance(method: Design, subject: Subject, effect: float, units: float) -> float:
    """The power of ``units`` in all arms to find ``effect``; NaN if it leaves the shares between 0 and 1."""
    shares, level = split(method), method.level
    if not math.isfinite(effect):
        return math.nan
    if subject.test != "z":
        signed = _side(method) * effect
        return power.power(signed, units, subject.variance, None, shares, level, method.alternative)
    treatment = subject.mean + _side(method) * effect
    if not 0 <= treatment <= 1:
        return math.nan
    return power.power_proportions(treatment, subject.mean, units, shares, level, method.proportions,
                                   method.alternative)  # fmt: skip


# time -----------------------------------------------------------------------------------------------------------------


def by_weekday(method: Design, days: Sequence[tuple[int, int]]) -> tuple[float, ...] | None:
    """New units that enter on each weekday (0 = Monday): means over the last ``recent_days`` of the table.

    Days without a new unit count as 0. None if the table spans fewer than seven days.
    """
    if not days:
        return None
    last, known = days[-1][0], dict(days)
    first = max(days[0][0], last - method.recent_days + 1)
    if last - first < 6:
        return None
    week: list[list[int]] = [[] for _ in range(7)]
    for day in range(first, last + 1):
        week[(day + MONDAY) % 7].append(known.get(day, 0))
    return tuple(method.traffic * sum(counts) / len(counts) for counts in week)


def time_needed(units: float, week: Sequence[float] | None) -> tuple[float, float]:
    """Days from a Monday on until so many units have come, and whole weeks; NaN if unknown or too long."""
    if week is None or not sum(week) > 0:
        return math.nan, math.nan
    try:
        found = duration(units, week)
    except StatisticError:
        return math.nan, math.nan
    return float(found.days), float(found.weeks)


def units_by(day: int, week: Sequence[float]) -> float:
    """Units that have come by the end of a day."""
    return float(arrivals(week, days=day)[-1])
