"""What the arm of the period before leaves over in a switchback, by the time since a period began.

Statistic: ``Moments`` over cells (a region in one period) by (arm, arm of that region's period before) of the total and
the size of the metric in each stretch of the period.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from causal_spark.solve.intervals import Test, wald
from causal_spark.solve.means import Form, Values, difference, evaluate
from causal_spark.statistics import Moments

Cells = Mapping[tuple[str, str], Moments]


@dataclass(frozen=True)
class Stretch:
    """In one stretch of the periods: the ``effect`` of the arm, and the ``lag``, the effect of the arm before.

    ``cells``: how many have either arm of the contrast now and before.
    """

    effect: Test
    lag: Test
    cells: float


def carry_over(cells: Cells, treatment: str, control: str, form: Form, alpha: float = 0.05) -> Stretch:
    """Lag-1 effect of the treatment, averaged over the arm of now: ½[(R_tt - R_tc) + (R_ct - R_cc)].

    R_ab: the ``form`` over the cells with arm a that follow a cell with arm b, its variance by the delta method over
    cells. The sample analogue of the lag-1 causal effect of Bojinov & Shephard (2019), by which Bojinov, Simchi-Levi
    & Zhao (2023) find how long an effect carries over; 0 if nothing is left over. It takes arms that were drawn by lot
    in every cell. With effects that add up, ``effect`` + ``lag`` is that of an arm that is kept for good, so the
    lag is what the effect misses. t with the degrees of freedom of Satterthwaite (1946) over the four groups of cells;
    fewer than two cells in one of them give a lag of NaN, as where arms take strict turns.
    """
    arms, now = (treatment, control), dict[str, Values]()
    for arm in arms:
        parts = [cells[arm, before] for before in arms if (arm, before) in cells]
        if parts:
            now[arm] = evaluate(sum(parts[1:], parts[0]), [form])
    count = sum(value.n for value in now.values())
    effect = difference(now[treatment], now[control], alpha) if len(now) == 2 else wald(math.nan, math.nan, alpha)
    if any((arm, before) not in cells or cells[arm, before].n < 2 for arm in arms for before in arms):
        return Stretch(effect, wald(math.nan, math.nan, alpha), count)
    corners = [(evaluate(cells[arm, before], [form]), 0.5 if before == treatment else -0.5)
               for arm in arms for before in arms]  # fmt: skip
    estimate = sum(weight * float(value.value[0]) for value, weight in corners)
    error, dof = _error([value for value, _ in corners])
    return Stretch(effect, wald(estimate, error / 2, alpha, dof), count)


def _error(groups: Sequence[Values]) -> tuple[float, float]:
    """Standard error of a signed sum of independent groups, with its degrees of freedom by Satterthwaite (1946)."""
    variances = [float(group.vcov[0, 0]) for group in groups]
    total = sum(variances)
    if not total > 0:
        return math.nan if math.isnan(total) else 0.0, math.nan
    shares = [(variance / total) ** 2 / (group.n - 1) for variance, group in zip(variances, groups, strict=True)]
    return math.sqrt(total), 1 / sum(shares)
