"""Hazards of conversion that add up over the channels a journey has met, from times at risk by set of channels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from causal_spark.statistics.moments import Array

# A rate that belongs at 0 creeps there: the likelihood does not care, the steps end.
MOST_STEPS = 20_000


def additive(present: ArrayLike, events: ArrayLike, time: ArrayLike, start: ArrayLike | None = None,
             tolerance: float = 1e-10) -> Array:  # fmt: skip
    """Rates β (…, n) ≥ 0 of λ(S) = Σ β_c over the channels c of S, by maximum likelihood.

    ``present`` (m, n): the channels of each set; ``events`` and ``time`` (…, m): conversions and time at risk in it,
    of one data set (m,) or of several at once (R, m). Aalen's additive hazard (1989) with an indicator for each
    channel met, constant effects and no baseline. EM steps of Zhang, Wei & Ren (2014, § 4), without their decay: a
    conversion in S belongs to c with probability β_c / λ(S), and β_c = conversions that belong to c / time with c.
    The log-likelihood Σ d log λ(S) − T λ(S) is concave, so there is no other maximum. Ends when no channel's
    conversions move by more than ``tolerance`` of all. ``start``: rates to begin with; the same for all if omitted.
    """
    inside = np.asarray(present, float)
    won, risk = np.atleast_2d(np.asarray(events, float)), np.atleast_2d(np.asarray(time, float))
    exposed = risk @ inside
    total = won.sum(axis=1, keepdims=True)
    level = np.divide(total, exposed.sum(axis=1, keepdims=True), out=np.zeros_like(total), where=total > 0)
    rates = np.where(exposed > 0, level if start is None else np.maximum(np.asarray(start, float), level * 1e-6), 0.0)
    moving = np.flatnonzero(total[:, 0] > 0)
    before = np.full(rates.shape, np.inf)
    for _ in range(MOST_STEPS):
        if not len(moving):
            break
        mine, time_of = rates[moving], exposed[moving]
        hazard = mine @ inside.T
        credit = mine * (np.divide(won[moving], hazard, out=np.zeros_like(hazard), where=hazard > 0) @ inside)
        rates[moving] = np.divide(credit, time_of, out=np.zeros_like(credit), where=time_of > 0)
        moved = np.abs(credit - before[moving]).max(axis=1) > tolerance * total[moving, 0]
        before[moving] = credit
        moving = moving[moved]
    return rates if np.ndim(events) > 1 else rates[0]


def shares(present: ArrayLike, rates: Array) -> Array:
    """β_c / λ(S) of each set's channels, (m, n); equal shares where no channel of the set has a rate."""
    inside = np.asarray(present, float)
    parts = inside * rates
    whole = parts.sum(axis=1, keepdims=True)
    equal = inside / np.maximum(inside.sum(axis=1, keepdims=True), 1.0)
    return np.where(whole > 0, parts / np.where(whole > 0, whole, 1.0), equal)
