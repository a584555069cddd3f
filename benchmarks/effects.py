"""From moments to differences and their standard errors, in plain Python: what everybody's numbers are compared by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

# (arm, segment) → rows, and mean and sample variance of each metric; segment "all" is every row.
Cell = tuple[float, Sequence[float], Sequence[float]]
Cells = dict[tuple[str, str], Cell]
# segment → for each metric the difference and its standard error
Effects = dict[str, list[list[float]]]

ALL = "all"


def effects(cells: Cells, levels: tuple[str, str]) -> Effects:
    """Welch's difference of means, second level against the first, for each segment and for all rows."""
    segments = sorted({segment for _, segment in cells})
    whole = dict(cells)
    if ALL not in segments:
        for level in levels:
            whole[level, ALL] = _merged([cells[level, segment] for segment in segments if (level, segment) in cells])
        segments.append(ALL)
    return {segment: _welch(whole[levels[0], segment], whole[levels[1], segment]) for segment in segments}


def _welch(control: Cell, treatment: Cell) -> list[list[float]]:
    n0, mean0, var0 = control
    n1, mean1, var1 = treatment
    return [
        [b - a, math.sqrt(v / n0 + w / n1)] for a, b, v, w in zip(mean0, mean1, var0, var1, strict=True)
    ]  # fmt: skip


def _merged(cells: Sequence[Cell]) -> Cell:
    """Pairwise merge (Chan, Golub & LeVeque 1983, eq. 2.1)."""
    n, mean, scatter = 0.0, [0.0] * len(cells[0][1]), [0.0] * len(cells[0][1])
    for m, means, variances in cells:
        total = n + m
        for i, (value, variance) in enumerate(zip(means, variances, strict=True)):
            delta = value - mean[i]
            scatter[i] += variance * (m - 1) + delta * delta * n * m / total
            mean[i] += delta * m / total
        n = total
    return n, mean, [s / (n - 1) for s in scatter]


def deviation(found: Effects, reference: Effects, rows: int) -> float:
    """Largest relative difference: of a standard error by itself, of an estimate by the outcome's own spread.

    An estimate near zero has no digits of its own, so it is measured by itself or the deviation of its outcome,
    whichever is larger.
    """
    if found.keys() != reference.keys():
        return math.inf
    worst = 0.0
    for segment, theirs in reference.items():
        for (estimate, error), (estimate0, error0) in zip(found[segment], theirs, strict=True):
            spread = max(abs(estimate0), error0 * math.sqrt(rows) / 2)
            worst = max(worst, abs(estimate - estimate0) / spread, abs(error - error0) / error0)
    return worst


def sums_deviation(found: Mapping[str, float], reference: Mapping[str, float]) -> float:
    """Largest relative difference of the floors' sums."""
    return max(abs(found[name] - value) / abs(value) for name, value in reference.items())
