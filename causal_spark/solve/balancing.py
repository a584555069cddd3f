"""Entropy balancing (Hainmueller 2012): the weights nearest to equal ones that meet the target's moments exactly.

The weights of a group are w = exp(λ₀ + λᵀ(c - m)), where c are the columns of a row besides the constant and m their
target; λ maximises the concave dual -log Σ exp(λᵀ(c - m)) (his eq. 8). λ₀ is what the pass before found for -log Σ, so
that blocks agree on a shift of the exponent; a step that overflows in spite of it is halved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from causal_spark.errors import StatisticError
from causal_spark.solve.logistic import Walk, advance, aliased, begin
from causal_spark.statistics import Sums
from causal_spark.statistics.moments import Array

Estimand = Literal["ATE", "ATT", "ATC"]

SHARE = 0.3
"""What a moment must hold of the worst one's part in an infeasible target to be named with it."""


@dataclass(frozen=True, eq=False)
class Target:
    """Moments to be met: ``mean`` (p,) of the design over the ``size`` rows of the estimand's population.

    ``groups`` (2,) of bool says whether the controls and the treated are to be weighted; the other is the target.
    """

    estimand: Estimand
    mean: Array
    size: float
    groups: tuple[bool, bool]


@dataclass(frozen=True, eq=False)
class Dual:
    """Weights of one group: ``lam`` (p,), the first the normaliser, so that Σ exp(lam·(1, c - m)) = 1.

    ``size`` rows, effective sample size ``ess``, passes made.
    """

    lam: Array
    size: float
    ess: float
    iterations: int
    converged: bool


@dataclass(frozen=True, eq=False)
class Balance:
    """The weights of both groups, controls first; None for the group that is itself the target."""

    target: Target
    duals: tuple[Dual | None, Dual | None]


# the target ---------------------------------------------------------------------------------------------------------


def moments(x: Array, t: ArrayLike) -> Sums:
    """Rows (2,) and sums (2, p) of the design of both groups, controls first: ``x`` (n, p), ``t`` (n,)."""
    groups = _groups(t)
    return Sums.of(rows=groups.sum(axis=1), first=groups @ x)


def target(total: Sums, estimand: Estimand) -> Target:
    """The moments of the estimand's population, from the total of ``moments``.

    Raises StatisticError if a group has no row (``propensity_one_group``).
    """
    rows, first = total["rows"], total["first"]
    if not rows.all():
        raise StatisticError("propensity_one_group", treated=f"{rows[1]:g}", control=f"{rows[0]:g}")
    chosen = {"ATE": [0, 1], "ATT": [1], "ATC": [0]}[estimand]
    size = float(rows[chosen].sum())
    return Target(estimand, first[chosen].sum(axis=0) / size, size, (estimand != "ATC", estimand != "ATT"))


# the dual -----------------------------------------------------------------------------------------------------------


def contribution(x: Array, mask: ArrayLike, lam: Array, mean: Array) -> Sums:
    """What a block adds to the dual at ``lam`` (p,): ``n`` rows, Σw, Σw², Σw·(c - m) (p - 1,) and Σw·(c - m)(c - m)ᵀ.

    ``x`` (n, p) with a leading column of ones, ``mask`` (n,) of bool the rows of the group, ``mean`` (p,) the target.
    """
    rows = np.asarray(mask, bool)
    c = x[rows, 1:] - mean[1:]
    with np.errstate(over="ignore", invalid="ignore"):
        w = np.exp(lam[0] + c @ lam[1:])
        return Sums.of(n=rows.sum(), total=w.sum(), square=w @ w, first=w @ c, second=c.T @ (c * w[:, None]))


@dataclass(frozen=True, eq=False)
class DualWalk:
    """Newton's method on the dual between passes: ``lam`` (p,) is where ``contribution`` is to be added up next."""

    walk: Walk
    shift: float
    size: float = math.nan
    ess: float = math.nan

    @property
    def lam(self) -> Array:
        return np.concatenate([[self.shift], self.walk.point])

    @property
    def done(self) -> bool:
        return self.walk.done


def start(columns: int) -> DualWalk:
    """The walk from equal weights over a design of ``columns`` columns, the constant counted."""
    return DualWalk(begin(np.zeros(columns - 1)), 0.0)


def follow(walk: DualWalk, sums: Sums, names: Sequence[str]) -> DualWalk:
    """The walk after a pass at ``walk.lam`` that gave the total ``sums`` of ``contribution``.

    Raises StatisticError: no row (``balance_no_rows``), moments that repeat others in this group
    (``balance_collinear``), or no weights > 0 that meet the target (``balance_infeasible``). The last is proved: at its
    optimum log Σ exp(λᵀ(c - m)) is the entropy of the weights, so a value below 0 at any λ says that all rows lie
    on one side of the target. On the boundary, where only zero weights could do, the dual is flat.
    """
    n, total = sums.number("n"), sums.number("total")
    if not n:
        raise StatisticError("balance_no_rows")
    with np.errstate(all="ignore"):
        level = float(np.log(total)) - walk.shift
        gap = sums["first"] / total
        spread = sums["second"] / total - np.outer(gap, gap)
        ess = float(total / sums["square"] * total)
    if walk.walk.passes == 0 and (repeats := aliased(spread, names[1:])):
        raise StatisticError("balance_collinear", columns=", ".join(repeats))
    if level < -1e-9:
        raise _infeasible(-walk.walk.point * gap if total > 0 else np.abs(walk.walk.point * walk.walk.scale), names)
    # times n, a decrement counts rows, as ``advance`` takes it
    after = advance(walk.walk, -level * n, -gap * n, spread * n)
    if after.flat:
        raise _infeasible(np.abs(after.step) * after.scale, names)
    if after.part < 1:
        return replace(walk, walk=after)
    return DualWalk(after, -level + (after.decrement / n / 2 if after.converged else 0.0), n, ess)


def maximise(evaluate: Callable[[Array], Sums], names: Sequence[str]) -> Dual:
    """The weights of a group, where ``evaluate(lam)`` is one pass: the total of ``contribution`` at ``lam``.

    ``names`` (p,) of the columns, the constant first. Raises what ``follow`` raises.
    """
    walk = start(len(names))
    while not walk.done:
        walk = follow(walk, evaluate(walk.lam), names)
    return finish(walk)


def finish(walk: DualWalk) -> Dual:
    """The result of a walk that is done."""
    return Dual(walk.lam, walk.size, walk.ess, walk.walk.passes, walk.walk.converged)


def _infeasible(load: Array, names: Sequence[str]) -> StatisticError:
    heavy = [name for name, size in zip(names[1:], load, strict=True) if size >= SHARE * load.max()]
    return StatisticError("balance_infeasible", columns=", ".join(heavy))


# the estimate -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Balanced:
    """Two means for each of q outcomes under the weights, and what their influence needs.

    ``effect`` (q,) = ``means[1] - means[0]`` (2, q). By group, controls first (2,): ``rows``, effective sample size
    ``ess``. ``slope`` (2, p - 1, q) is the weighted regression of the outcomes on the moments, 0 in the group that is
    the target. ``imbalance`` (2, p - 1) = weighted mean minus target.
    """

    balance: Balance
    n: float
    rows: Array
    means: Array
    effect: Array
    ess: Array
    imbalance: Array
    slope: Array


def weights(x: Array, t: ArrayLike, balance: Balance) -> Array:
    """Weights (n,) that sum to the size of the target's population in each group; 1 for the target's own rows."""
    aim = balance.target
    groups = _groups(t)
    w = np.ones(len(x))
    for rows, dual in zip(groups > 0, balance.duals, strict=True):
        if dual is not None:
            w[rows] = aim.size * np.exp(dual.lam[0] + (x[rows, 1:] - aim.mean[1:]) @ dual.lam[1:])
    return w


def sums(x: Array, t: ArrayLike, y: Array, balance: Balance) -> Sums:
    """What a block adds to the estimate: ``x`` (n, p), ``t`` (n,), ``y`` (n, q)."""
    groups = _groups(t)
    w = groups * weights(x, t, balance)
    c = x[:, 1:] - balance.target.mean[1:]
    return Sums.of(
        rows=groups.sum(axis=1),
        total=w.sum(axis=1),
        square=(w * w).sum(axis=1),
        outcome=w @ y,
        first=w @ c,
        second=np.stack([c.T @ (c * row[:, None]) for row in w]),
        cross=np.stack([c.T @ (y * row[:, None]) for row in w]),
    )


def solve(total: Sums, balance: Balance) -> Balanced:
    """The estimate from the total of ``sums``."""
    weight = total["total"]
    means = total["outcome"] / weight[:, None]
    slope = np.zeros_like(total["cross"])
    for group, dual in enumerate(balance.duals):
        if dual is not None:
            # the moments are met, Σ w·(c - m) = 0: neither side needs to be centred
            slope[group] = np.linalg.solve(total["second"][group], total["cross"][group])
    return Balanced(
        balance=balance,
        n=float(total["rows"].sum()),
        rows=total["rows"],
        means=means,
        effect=means[1] - means[0],
        ess=weight**2 / total["square"],
        imbalance=total["first"] / weight[:, None],
        slope=slope,
    )


def influence(x: Array, t: ArrayLike, y: Array, found: Balanced) -> Array:
    """Influence (n, q) of each row on the effect: Σφ = 0, and Σφ²/n² is the variance of the M-estimator.

    λ and the target's moments count as estimated: with γ the weighted regression of y on the moments c, a row's part
    in a group's mean is w·(y - μ - γᵀ(c - m)), and γᵀ(c - m) over the size of the target if it belongs to it (the
    linearisation of Zhao & Percival 2017, theorem 1, or of a calibrated total, Deville & Särndal 1992, §3).
    """
    aim, d = found.balance.target, _groups(t)
    c = x[:, 1:] - aim.mean[1:]
    member = np.ones(len(x)) if aim.estimand == "ATE" else d[1 if aim.estimand == "ATT" else 0]
    w = weights(x, t, found.balance)
    parts = []
    for group in (0, 1):
        own, size = d[group] * w, aim.size
        fitted = c @ found.slope[group]
        residual = y - found.means[group] - fitted
        parts.append((own[:, None] * residual + member[:, None] * fitted) / size)
    return np.asarray(found.n * (parts[1] - parts[0]))


def _groups(t: ArrayLike) -> Array:
    """Indicators (2, n) of the controls and the treated."""
    d = np.asarray(t, float)
    return np.stack([1 - d, d])
