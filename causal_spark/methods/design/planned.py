"""Size, smallest detectable effect and power of one metric under one test; each the exact inverse of the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from causal_spark.errors import StatisticError
from causal_spark.methods.design.compressed import Compressed
from causal_spark.methods.design.vocabulary import Design, quantile_label
from causal_spark.methods.experiment import plan
from causal_spark.methods.experiment.rules import Margin
from causal_spark.solve import power
from causal_spark.solve.means import evaluate
from causal_spark.solve.planning import ArmSize, arm_sizes, arrivals, duration
from causal_spark.solve.power import Split, unit_variance

QUANTILE = "quantile"
MONDAY = 3  # 1970-01-01 was a Thursday: day d since then has the weekday (d + 3) % 7, 0 = Monday


@dataclass(frozen=True)
class Subject:
    """A metric (or a quantile of it) under a test: its ``mean``, its ``variance`` for each unit (cluster), se² = Σ v/n.

    ``formula``: a key of the words. ``rho2``: R² of the covariates (CUPED), else 0. ``n``: units (clusters) of the
    historic table. ``margin``: what is tested instead of no effect, as ``goal`` says. ``variance`` NaN: not known.
    """

    metric: str
    outcome: str
    test: str
    formula: str
    mean: float
    variance: float
    rho2: float
    n: float
    goal: str = "superiority"
    margin: Margin | None = None

    @property
    def shares(self) -> bool:
        """Whether the formulas are those of proportions, whose variance follows from the mean."""
        return self.formula.startswith("z_")

    def effects(self, method: Design) -> list[tuple[float, float]]:
        """(Relative, absolute) effects to be found, or the margin to be held, without sign; NaN where the mean is 0."""
        if self.margin is not None:
            relative, absolute = self.margin.relative, self.margin.absolute
        else:
            relative, absolute = None, method.effects.get(self.outcome)
        size = abs(self.mean)
        if absolute is not None:
            return [(absolute / size if size > 0 else math.nan, absolute)]
        lifts = method.lifts if relative is None else (relative,)
        return [(lift, lift * size if size > 0 else math.nan) for lift in lifts]


def subjects(method: Design, compressed: Compressed) -> list[Subject]:
    """Every metric without its covariates, with them, and its quantiles. Raises StatisticError if one does not vary."""
    clustered, found = method.cluster is not None, []
    for block in plan.blocks(compressed.metrics):
        part, forms, metric = compressed.of(block.metric.name), block.forms(clustered), block.metric
        mean = float(evaluate(part, list(forms[:1])).value[0])
        name = test_of(block, clustered)
        tests = [(name, forms[:1]), *([("cuped", forms)] if len(forms) > 1 else [])]
        for test, used in tests:
            variance, rho2 = unit_variance(part, used)
            formula = f"z_{method.proportions}" if test == "z" else test
            formula = formula if metric.margin is None else metric.test.replace("-", "_")
            found.append(Subject(metric.name, metric.name, test, formula, mean, variance, rho2, part.n, metric.test,
                                 metric.margin))  # fmt: skip
        found += [Subject(metric.name, quantile_label(metric.name, item.q), QUANTILE, QUANTILE, item.value,
                          item.variance, 0.0, item.n)
                  for item in compressed.quantiles if item.metric == metric.name]  # fmt: skip
    return found


def test_of(block: plan.Block, clustered: bool) -> str:
    """The name of the test without covariates, as the experiment job calls it."""
    if clustered:
        return "cluster"
    return "delta" if block.metric.kind == "ratio" else "z" if block.metric.binary else "welch"


def split(method: Design) -> Split:
    """Shares of the contrast that needs the most units."""
    return Split(method.shares[method.neediest], method.shares[method.control])


def level(method: Design, subject: Subject) -> float:
    """The significance level of one contrast; against a margin each contrast has its own, as in the experiment job."""
    return method.level if subject.margin is None else method.margin_alpha


def _side(method: Design) -> float:
    return -1.0 if method.alternative == "less" else 1.0


def needed(method: Design, subject: Subject, effect: float, shares: Split, level: float) -> float:
    """Units in all arms that find ``effect`` (hold the margin); infinite if it leaves the shares between 0 and 1."""
    if subject.goal == "equivalence":
        return power.sample_size_equivalence(effect, subject.variance, None, shares, level, method.power)
    if subject.goal == "non-inferiority":
        return power.sample_size(effect, subject.variance, None, shares, level, method.power, "greater")
    if not subject.shares:
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
        return arm_sizes(lambda shares, each: needed(method, subject, effect, shares, each), method.shares,
                         method.control, level(method, subject) * len(method.treatments))  # fmt: skip
    except StatisticError:
        return None


def smallest(method: Design, subject: Subject, units: float) -> float:
    """The smallest effect (margin) that ``units`` in all arms find with the power wanted; NaN if there is none."""
    shares, alpha = split(method), level(method, subject)
    if subject.goal == "equivalence":
        return power.smallest_margin(units, subject.variance, None, shares, alpha, method.power)
    if not subject.shares:
        side = method.alternative if subject.margin is None else "greater"
        return power.mde(units, subject.variance, None, shares, alpha, method.power, side)
    base = subject.mean if method.alternative != "less" else 1 - subject.mean  # a fall of p is a rise of 1 - p
    return power.mde_proportions(base, units, shares, alpha, method.power, method.proportions, method.alternative)


def chance(method: Design, subject: Subject, effect: float, units: float) -> float:
    """The power of ``units`` in all arms to find ``effect`` (hold the margin); NaN without units, or if no share
    can be so large.
    """
    shares, alpha = split(method), level(method, subject)
    if not math.isfinite(effect):
        return math.nan
    if subject.margin is not None:
        shown = power.power_equivalence if subject.goal == "equivalence" else power.power_non_inferiority
        return shown(effect, units, subject.variance, None, shares, alpha)
    if not subject.shares:
        signed = _side(method) * effect
        return power.power(signed, units, subject.variance, None, shares, alpha, method.alternative)
    treatment = subject.mean + _side(method) * effect
    if not 0 <= treatment <= 1:
        return math.nan
    return power.power_proportions(treatment, subject.mean, units, shares, alpha, method.proportions,
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
