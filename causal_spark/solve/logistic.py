"""Logistic regression from sums over blocks of rows: Newton steps, separation and collinearity refused by name.

A fit is a walk: ``begin`` says where to evaluate first, a pass over all rows adds up ``contribution`` at
``walk.point``, and ``follow`` turns the total into the next point, until ``walk.done``. ``maximise`` is that loop
for one model; several models (one for each fold, say) can walk side by side in the same passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg, special

from causal_spark.errors import StatisticError
from causal_spark.statistics import Sums
from causal_spark.statistics.moments import Array

CONVERGED = 1e-12
"""A squared Newton decrement below this is rounding: the next step is 1e-6 of a standard error, the one after 1e-12."""
PASSES = 100
ALIASED = 1e-10
"""Share of a column's variance that the columns before it must leave: a Gram matrix serves to condition 1e5."""
SINGULAR = 1e-15
FLAT, SHRINKS = 1e-4, 0.1
LOADING, GAIN = 0.1, 0.1


# the model ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Logistic:
    """Maximum likelihood: ``beta`` (p,), ``information`` (p, p) = Σ w·e·(1 - e)·x·xᵀ, ``loglik``, passes made."""

    beta: Array
    information: Array
    loglik: float
    iterations: int
    converged: bool


def predict(x: Array, beta: Array) -> Array:
    """Probabilities (n,) for the design ``x`` (n, p)."""
    return np.asarray(special.expit(x @ beta))


def contribution(x: Array, t: ArrayLike, beta: Array, weight: ArrayLike | None = None) -> Sums:
    """Log-likelihood of a block of rows and its derivatives at ``beta`` (p,).

    ``x`` (n, p) with a leading column of ones, ``t`` (n,) of 0 and 1, ``weight`` (n,) how often a row counts.
    Gives ``n`` = Σw, ``treated`` = Σw·t, ``loglik``, ``gradient`` (p,) and ``information`` (p, p).
    """
    d = np.asarray(t, float)
    w = np.ones(len(d)) if weight is None else np.asarray(weight, float)
    eta = x @ beta
    # One exponential for all: with s = exp(-|eta|) the smaller of e and 1 - e is s/(1 + s), and no digit is lost.
    small = np.exp(-np.abs(eta))
    larger = 1.0 / (1.0 + small)
    smaller = small * larger
    e = np.where(eta >= 0, larger, smaller)
    return Sums.of(
        n=w.sum(),
        treated=w @ d,
        loglik=w @ (d * eta - np.maximum(eta, 0.0) - np.log1p(small)),
        gradient=x.T @ (w * (d - e)),
        information=x.T @ (x * (w * (larger * smaller))[:, None]),
    )


def follow(walk: Walk, sums: Sums, names: Sequence[str]) -> Walk:
    """The walk after a pass at ``walk.point`` that gave the total ``sums`` of ``contribution``.

    Raises StatisticError: no row or only one group (``propensity_one_group``), a column that repeats others
    (``propensity_collinear``), columns that separate the groups, so that no finite maximum exists
    (``propensity_separated``, Albert & Anderson 1984). A walk that did not begin at 0 and finds a flat likelihood at
    once goes back to 0 first.
    """
    n, treated = sums.number("n"), sums.number("treated")
    if not 0 < treated < n:
        raise StatisticError("propensity_one_group", treated=f"{treated:g}", control=f"{n - treated:g}")
    if walk.passes == 0 and aliased(sums["information"], names):
        if walk.point.any():
            return begin(np.zeros_like(walk.point))
        raise StatisticError("propensity_collinear", columns=", ".join(aliased(sums["information"], names)))
    after = advance(walk, sums.number("loglik"), sums["gradient"], sums["information"])
    if after.flat:
        raise StatisticError("propensity_separated", columns=", ".join(after.heaviest(names)))
    return after


def maximise(evaluate: Callable[[Array], Sums], names: Sequence[str], start: Array | None = None) -> Logistic:
    """The fit, where ``evaluate(beta)`` is one pass: the total of ``contribution`` at ``beta`` over all rows.

    ``names`` (p,) of the columns, the constant first; ``start`` (p,) a guess, as from a subsample. Newton's method
    with halved steps; raises what ``follow`` raises.
    """
    walk = begin(np.zeros(len(names)) if start is None else start)
    while not walk.done:
        walk = follow(walk, evaluate(walk.point), names)
    return finish(walk)


def finish(walk: Walk) -> Logistic:
    """The result of a walk that is done."""
    return Logistic(walk.point, walk.curvature, walk.value, walk.passes, walk.converged)


def fit(
    x: Array,
    t: ArrayLike,
    names: Sequence[str],
    weight: ArrayLike | None = None,
    start: Array | None = None,
) -> Logistic:
    """The fit to rows in memory: a subsample, or distinct rows of covariates with how often each occurs."""
    return maximise(lambda beta: contribution(x, t, beta, weight), names, start)


# Newton's method on a concave function ------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Walk:
    """Newton's method between passes: ``point`` (p,) is where the function is to be evaluated next.

    ``base`` is the best point so far, with its ``value``, ``curvature`` (minus the Hessian) and squared
    ``decrement`` gᵀ·H⁻¹·g; ``step``, a ``part`` of Newton's, leads from it to ``point``. ``scale`` (p,) is the size
    of each column, from the first curvature. ``flat``: the function rises for ever, in the direction ``step``.
    """

    point: Array
    base: Array
    step: Array
    curvature: Array
    scale: Array
    value: float = -math.inf
    decrement: float = math.inf
    passes: int = 0
    part: float = 1.0
    done: bool = False
    converged: bool = False
    flat: bool = False

    def heaviest(self, names: Sequence[str]) -> tuple[str, ...]:
        """The columns that make up the direction ``step``; the constant only if there is nothing else."""
        load = np.abs(self.step) * self.scale
        if len(load) > 1 and load[1:].any():
            load[0] = 0.0
        return tuple(name for name, size in zip(names, load, strict=True) if size >= LOADING * load.max())


def begin(start: Array) -> Walk:
    """A walk that has not been anywhere; the first pass is to be made at ``start`` (p,)."""
    p = len(start)
    return Walk(np.asarray(start, float), np.asarray(start, float), np.zeros(p), np.full((p, p), np.nan), np.ones(p))


def advance(walk: Walk, value: float, gradient: Array, curvature: Array) -> Walk:
    """One step from the value, gradient (p,) and minus Hessian (p, p) at ``walk.point``.

    A step that gains too little is halved. Near a maximum the squared decrement of Newton's method falls like its
    square (Boyd & Vandenberghe 2004, §9.5.3), by a factor of about λ²/4m where m is the number of rows that carry
    information in the worst direction. On a ridge that rises for ever each step has length 1 and the decrement
    falls by e: so a small decrement that hardly shrinks says that less than a thousandth of a row holds the maximum.
    """
    passes = walk.passes + 1
    if walk.passes and not _gains(walk, value, gradient, curvature):
        stuck = passes >= PASSES or not (np.abs(walk.step) > 1e-12 * (1.0 + np.abs(walk.base))).any()
        step, part = walk.step / 2, walk.part / 2
        return replace(walk, point=walk.base + step, step=step, part=part, passes=passes, done=stuck)
    scale = np.sqrt(np.diag(curvature)) if walk.passes == 0 else walk.scale
    step = newton_step(gradient, curvature)
    if step is None:
        return replace(walk, passes=passes, scale=scale, done=True, flat=True)
    decrement = float(gradient @ step)
    flat = walk.part == 1 and decrement < FLAT and decrement > SHRINKS * walk.decrement
    converged = decrement < CONVERGED and not flat
    return Walk(
        point=walk.point + step,
        base=walk.point,
        step=step,
        curvature=curvature,
        scale=scale,
        value=value,
        decrement=decrement,
        passes=passes,
        done=converged or flat or passes >= PASSES,
        converged=converged,
        flat=flat,
    )


def _gains(walk: Walk, value: float, gradient: Array, curvature: Array) -> bool:
    """Whether ``point`` gains a tenth of what the slope at ``base`` promised (Armijo 1966), up to rounding."""
    if not (math.isfinite(value) and np.isfinite(gradient).all() and np.isfinite(curvature).all()):
        return False
    return value >= walk.value + GAIN * walk.part * walk.decrement - 1e-12 * max(1.0, abs(walk.value))


def newton_step(gradient: Array, curvature: Array) -> Array | None:
    """H⁻¹·g by Cholesky of the scaled curvature; None if that is singular."""
    scale = np.sqrt(np.clip(np.diag(curvature), 0.0, None))
    if not (scale > 0).all():
        return None
    try:
        factor = linalg.cho_factor(curvature / np.outer(scale, scale), lower=True)
    except linalg.LinAlgError:
        return None
    if np.diag(factor[0]).min() ** 2 < SINGULAR:
        return None
    return np.asarray(linalg.cho_solve(factor, gradient / scale) / scale)


def aliased(gram: Array, names: Sequence[str], limit: float = ALIASED) -> tuple[str, ...]:
    """Names of the columns that repeat earlier ones, or vary so little besides them that a Gram cannot tell.

    ``gram`` (p, p) = Σ w·x·xᵀ, of columns about 0 and a constant. First the sweep in order, where a column
    must leave a share ``limit`` of its own sum of squares; then columns are taken, the last first, that load on an
    eigenvalue of what is left below ``limit`` of the largest: the design has condition 1e5 at most.
    """
    size = np.sqrt(np.clip(np.diag(gram), 0.0, None))
    safe = np.where(size > 0, size, 1.0)
    scaled = gram / np.outer(safe, safe)
    left, kept = scaled.copy(), []
    for j in range(len(names)):
        if not left[j, j] > limit:
            continue
        kept.append(j)
        left[j + 1 :, j + 1 :] -= np.outer(left[j + 1 :, j], left[j + 1 :, j]) / left[j, j]
    while len(kept) > 1:
        values, vectors = np.linalg.eigh(scaled[np.ix_(kept, kept)])
        if values[0] > limit * values[-1]:
            break
        kept.pop(int(np.flatnonzero(np.abs(vectors[:, 0]) > LOADING * np.abs(vectors[:, 0]).max())[-1]))
    return tuple(name for j, name in enumerate(names) if j not in kept)
