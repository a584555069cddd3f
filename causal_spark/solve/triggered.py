"""Triggered analysis: the effect among the units that could be affected, and what it means for all units.

Statistic: ``Moments`` by (arm, triggered 0/1), the trigger counterfactual: known in both arms. Counts of all units by
arm come from the same cells. The triggered comparison is the ordinary one on the cells with trigger 1; those with
trigger 0 are an A/A test of the trigger.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from causal_spark.errors import StatisticError
from causal_spark.solve.intervals import Test, wald
from causal_spark.solve.means import Form, difference, evaluate
from causal_spark.solve.proportions import GoodnessOfFit, shares_test, two_proportions
from causal_spark.statistics import Moments


@dataclass(frozen=True)
class Triggered:
    """Effects per triggered unit, and diluted to a unit of all (difference and lift); checks of the trigger.

    ``rate``: triggered units / all units. ``naive``: the comparison of all units, for its wider interval.
    ``complement``: difference among the others, which must be 0. ``rates``: trigger rates of the arms compared;
    ``shares``: triggered units against the planned shares.
    """

    triggered: Test
    diluted: Test
    diluted_lift: Test
    naive: Test
    rate: float
    complement: Test
    rates: Test
    shares: GoodnessOfFit


def triggered(
    treatment: Mapping[bool, Moments], control: Mapping[bool, Moments], column: str,
    shares: tuple[float, float] = (0.5, 0.5), alpha: float = 0.05,
) -> Triggered:  # fmt: skip
    """Triggered and diluted effects of the mean of ``column``; arms by whether the unit was triggered.

    Diluted difference = rate·difference; its variance rate²·se² + difference²·rate(1 - rate)/N counts the rate as
    estimated (Deng & Hu 2015; Deng et al. 2021). Diluted lift: against the mean of all control units with
    the delta method, the numerator's and the control mean's covariance counted in. Raises StatisticError if no
    unit was triggered in an arm.
    """
    form = [Form(column)]
    if treatment[True].n < 2 or control[True].n < 2:
        raise StatisticError("none_triggered", n=int(min(treatment[True].n, control[True].n)))
    t, c = evaluate(treatment[True], form), evaluate(control[True], form)
    effect = difference(t, c, alpha)
    all_t, all_c = treatment[True] + treatment[False], control[True] + control[False]
    total = all_t.n + all_c.n
    rate = (t.n + c.n) / total
    variance = (rate * effect.std_error) ** 2 + effect.estimate**2 * rate * (1 - rate) / total
    diluted = wald(rate * effect.estimate, math.sqrt(variance), alpha, effect.dof)
    rates = two_proportions(t.n / all_t.n, all_t.n, c.n / all_c.n, all_c.n, alpha)
    everyone = evaluate(all_c, form)
    return Triggered(
        effect,
        diluted,
        _diluted_lift(diluted, float(everyone.value[0]), float(everyone.vcov[0, 0]), rate, c.vcov[0, 0], alpha),
        difference(evaluate(all_t, form), everyone, alpha),
        rate,
        difference(evaluate(treatment[False], form), evaluate(control[False], form), alpha),
        rates,
        shares_test([t.n, c.n], shares),
    )


def _diluted_lift(diluted: Test, base: float, v_base: float, rate: float, v_triggered: float, alpha: float) -> Test:
    """diluted / base - the control's triggered units lower the one and raise the other by rate·(their mean)."""
    if not (base != 0 and diluted.std_error > 0):
        return wald(math.nan, math.nan, alpha)
    ratio = diluted.estimate / base
    shared = -(rate**2) * v_triggered
    variance = (diluted.std_error**2 - 2 * ratio * shared + ratio**2 * v_base) / base**2
    return wald(ratio, math.sqrt(variance), alpha, diluted.dof)
