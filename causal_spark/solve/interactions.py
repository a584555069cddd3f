"""Do two (or more) concurrent experiments change each other's effect; and does an effect differ between segments.

Statistic: ``Moments`` by (arm of experiment A, arm of experiment B, …) over the units that are in all of them; a
group-by with all arm columns as keys. Segments are the same with the segment as second key.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import stats

from causal_spark.errors import StatisticError
from causal_spark.solve.intervals import Test, wald
from causal_spark.solve.means import Values
from causal_spark.statistics.moments import Array

Cells = Mapping[tuple[str, ...], Values]


@dataclass(frozen=True)
class Interaction:
    """Wald test that no experiment changes another's effect: χ² with its dof, p, and each contrast's own test.

    ``contrasts``: arms (one of each experiment, none of them control) → the difference of differences.
    """

    statistic: float
    dof: int
    p_value: float
    contrasts: Mapping[tuple[str, ...], Test]


def interaction(cells: Cells, arms: Sequence[Sequence[str]], alpha: float = 0.05) -> Interaction:
    """``arms``: the arms of each experiment, control first; ``cells`` need a value for every combination.

    A contrast is Σ ± value over the 2^k corners of control and arm; for two experiments
    (tt - ct) - (tc - cc) (Cox 1984). Cells are independent, contrasts share them, and the joint
    test counts that in. Raises StatisticError if a combination of arms has fewer than two units.
    """
    every = list(product(*arms))
    missing = [combination for combination in every if combination not in cells or cells[combination].n < 2]
    if missing:
        raise StatisticError("no_shared_units", arms=" × ".join(missing[0]), count=len(missing))
    value = np.array([cells[combination].value[0] for combination in every])
    variance = np.array([cells[combination].vcov[0, 0] for combination in every])
    names = list(product(*(group[1:] for group in arms)))
    weights = np.array([_weights(name, every, arms) for name in names])
    estimate, vcov = weights @ value, (weights * variance) @ weights.T
    tests = {
        name: wald(float(e), math.sqrt(v) if v >= 0 else math.nan, alpha)
        for name, e, v in zip(names, estimate, np.diag(vcov), strict=True)
    }
    return Interaction(*_joint(estimate, vcov), tests)


def heterogeneity(effects: Sequence[Test]) -> tuple[float, int, float]:
    """Cochran's (1954) Q that independent effects (of segments, say) are one: χ², dof, p; NaN effects take no part."""
    known = [(t.estimate, t.std_error) for t in effects if t.std_error > 0 and math.isfinite(t.estimate)]
    if len(known) < 2:
        return math.nan, 0, math.nan
    estimate, weight = np.array([e for e, _ in known]), np.array([1 / s**2 for _, s in known])
    q = float(weight @ (estimate - weight @ estimate / weight.sum()) ** 2)
    return q, len(known) - 1, float(stats.chi2.sf(q, len(known) - 1))


def _weights(name: tuple[str, ...], every: Sequence[tuple[str, ...]], arms: Sequence[Sequence[str]]) -> list[float]:
    found = []
    for combination in every:
        signs = [
            1.0 if arm == chosen else -1.0 if arm == group[0] else 0.0
            for arm, chosen, group in zip(combination, name, arms, strict=True)
        ]
        found.append(math.prod(signs))
    return found


def _joint(estimate: Array, vcov: Array) -> tuple[float, int, float]:
    """Wald χ² of all contrasts; NaN if their covariance is singular or not finite."""
    scale = np.sqrt(np.diag(vcov))
    if not (np.isfinite(vcov).all() and (scale > 0).all()):
        return math.nan, len(estimate), math.nan
    correlation = vcov / np.outer(scale, scale)
    if np.linalg.cond(correlation) > 1e10:
        return math.nan, len(estimate), math.nan
    z = estimate / scale
    statistic = float(z @ np.linalg.solve(correlation, z))
    return statistic, len(estimate), float(stats.chi2.sf(statistic, len(estimate)))
