"""Markov chains of the counted steps: removal effects, of the data and of each bootstrap replicate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causal_spark.errors import StatisticError
from causal_spark.solve import chains
from causal_spark.statistics.moments import Array

# Chains of a higher order or of more states are not solved again for every replicate.
SOLVED_ORDER, SOLVED_STATES = 2, 300


@dataclass(frozen=True, eq=False)
class Steps:
    """What the keys of a Markov statistic mean: rows and columns of its chain. State 0 is the start."""

    states: NDArray[np.int64]
    origin: NDArray[np.int64]
    target: NDArray[np.int64]
    opening: NDArray[np.bool_]
    closing: NDArray[np.bool_]
    ending: NDArray[np.bool_]
    owned: tuple[NDArray[np.int64], ...]

    @classmethod
    def of(cls, key: NDArray[np.int64], order: int, tokens: int) -> Steps:
        base = tokens + 1
        state, step = key // (tokens + 2), key % (tokens + 2)
        states = np.unique(state[state > 0])
        moves = step < tokens
        after = np.where(moves, (state * base + step + 1) % base**order, 0)
        states = np.union1d(states, after[moves])
        digits = np.stack([states // base**i % base for i in range(order)])
        owned = tuple(np.flatnonzero((digits == c + 1).any(axis=0)) for c in range(tokens))
        origin, target = np.searchsorted(states, state), np.searchsorted(states, after)
        return cls(states, origin, target, (state == 0) & moves, (state > 0) & moves, ~moves, owned)

    def chain(self, sums: Array, nulls: bool) -> chains.Chain:
        """The chain of sums (r, o); without nulls of the journeys that converted alone."""
        n = len(self.states)
        if n > chains.MAX_STATES:
            raise StatisticError("too_many_states", states=n, limit=chains.MAX_STATES)
        steps = sums[:, 0] + (sums[:, 1] if nulls else 0.0)
        start, leaving, moves = np.zeros(n), np.zeros(n), np.zeros((n, n))
        exits = np.zeros((n, sums.shape[1] - 1))
        np.add.at(start, self.target[self.opening], steps[self.opening])
        np.add.at(moves, (self.origin[self.closing], self.target[self.closing]), steps[self.closing])
        np.add.at(leaving, self.origin[self.ending], steps[self.ending])
        np.add.at(exits, self.origin[self.ending], np.delete(sums, 1, axis=1)[self.ending])
        return chains.fit(start, moves, exits, leaving)


@dataclass(frozen=True, eq=False)
class Effects:
    """``value`` (c, k): removal effects; ``replicates`` (B, c, k); ``linear``: those are of the first order."""

    value: Array
    replicates: Array
    linear: bool


def effects(shape: Steps, order: int, base: Array, replicates: Array, nulls: bool) -> Effects:
    """The removal effects of sums (r, o) and of their replicates (B, r, o): solved again, or if that is too much work
    by their derivatives (``linear_effects``)."""
    if order > SOLVED_ORDER or len(shape.states) > SOLVED_STATES:
        value, made = linear_effects(shape, base, replicates, nulls)
        return Effects(value, made, linear=True)
    value = chains.removal_effects(shape.chain(base, nulls), shape.owned).effect
    solved = [chains.removal_effects(shape.chain(made, nulls), shape.owned).effect for made in replicates]
    return Effects(value, np.stack(solved) if solved else np.zeros((0, *value.shape)), linear=False)


def linear_effects(shape: Steps, base: Array, replicates: Array, nulls: bool) -> tuple[Array, Array]:
    """Removal effects (c, k), and those of the replicates (B, c, k) to the first order in their change of the counts.

    With u the expected visits, h the worth of the states, P = s·h, n_i the steps out of state i and F the journeys
    (of the chain, or of what is left of it without a channel), the counts change P by
    Σ δ(start → j) (h_j − P)/F + Σ δ(i → j) (u_i/n_i) (h_j − h_i) + Σ (u_i/n_i) (δ outcome − h_i δ end): the delta
    method, evaluated for each replicate.
    """
    whole, *parts = chains.removed(shape.chain(base, nulls), shape.owned)
    value = np.full((len(parts), len(whole.base)), np.nan)
    change = replicates - base
    flow = change[..., 0] + (change[..., 1] if nulls else 0.0)
    outcomes = np.delete(change, 1, axis=-1)
    counts = base[:, 0] + (base[:, 1] if nulls else 0.0)
    first = _changes(shape, whole, counts, flow, outcomes)
    made = np.full((len(replicates), *value.shape), np.nan)
    some = whole.base != 0
    for c, part in enumerate(parts):
        value[c, some] = part.lost[some] / whole.base[some]
        moved = _changes(shape, part, counts, flow, outcomes)
        left = 1.0 - value[c, some]
        made[:, c, some] = value[c, some] - (moved[:, some] - left * first[:, some]) / whole.base[some]
    return value, made


def _changes(shape: Steps, rest: chains.Rest, counts: Array, flow: Array, outcomes: Array) -> Array:
    """The first-order change of a chain's outcomes, (B, k), for changes of steps (B, r) and outcomes (B, r, k)."""
    n = len(shape.states)
    passed = np.bincount(shape.origin[~shape.opening], counts[~shape.opening], n)
    visits = np.divide(rest.seen, passed, out=np.zeros(n), where=passed > 0)
    weight = np.zeros((len(counts), rest.worth.shape[1]))
    journeys = max(float(counts[shape.opening].sum()), 1e-300)
    weight[shape.opening] = (rest.worth[shape.target[shape.opening]] - rest.base) / journeys
    i, j = shape.origin[shape.closing], shape.target[shape.closing]
    weight[shape.closing] = visits[i, None] * (rest.worth[j] - rest.worth[i])
    ends = shape.origin[shape.ending]
    weight[shape.ending] = -visits[ends, None] * rest.worth[ends]
    return np.asarray(flow @ weight + np.einsum("brk,r->bk", outcomes[:, shape.ending], visits[ends]), float)
