"""Absorbing Markov chains of journeys: conversion probability, expected value, removal effects, held-out likelihood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg

from causal_spark.errors import StatisticError
from causal_spark.statistics.moments import Array

# States of a dense solve: the inverse of 4,000 states is 128 MB.
MAX_STATES = 4_000
# Below this reciprocal condition number I − Q has a set of states that is never left.
SINGULAR = 1e-14
Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Chain:
    """Transition probabilities between n states, of the start (n,), and what leaving is worth.

    ``moves`` (n, n); ``exits`` (n, k): expected amount of each of k outcomes when a visit to the state is the last
    one (for conversions: the probability to convert there). What is missing of a row of ``moves`` leaves.
    """

    start: Array
    moves: Array
    exits: Array


def fit(start: ArrayLike, moves: ArrayLike, exits: ArrayLike, leaving: ArrayLike) -> Chain:
    """The chain of maximum likelihood from counts.

    ``start`` (n,): journeys that begin in a state; ``moves`` (n, n): steps; ``leaving`` (n,): journeys that end in
    it, converted or not; ``exits`` (n, k): the outcomes' amounts of those. In such a chain the probability to
    convert from the start is conversions / journeys exactly.
    """
    first, steps = np.asarray(start, float), np.asarray(moves, float)
    ended = np.asarray(leaving, float)
    total = steps.sum(axis=1) + ended
    share = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)[:, None]
    whole = first.sum()
    return Chain(first / whole if whole > 0 else first, steps * share, np.asarray(exits, float) * share)


@dataclass(frozen=True, eq=False)
class Removal:
    """``base`` (k,): expected outcomes of a journey from the start; ``effect`` (c, k): the share lost without c."""

    base: Array
    effect: Array


def removal_effects(chain: Chain, owned: Sequence[Indices]) -> Removal:
    """1 − outcome without the states of a channel / outcome, for every channel (Anderl et al. 2016), exactly.

    ``owned``: the states of each channel. Journeys that reach a removed state are lost. With N = (I − Q)⁻¹ and
    h = N·exits, the outcome of journeys that meet the states D is s·N[:, D] N[D, D]⁻¹ h[D] (Kemeny & Snell 1960,
    ch. 3), so one factorisation serves all channels, of any order.

    Raises StatisticError for a set of states that is never left, or more than 4,000 states.
    """
    visits = fundamental(chain.moves)
    worth = visits @ chain.exits
    base = chain.start @ worth
    seen = chain.start @ visits
    effect = np.full((len(owned), chain.exits.shape[1]), np.nan)
    for c, states in enumerate(owned):
        lost = np.zeros_like(base)
        if len(states):
            lost = seen[states] @ np.linalg.solve(visits[np.ix_(states, states)], worth[states])
        np.divide(lost, base, out=effect[c], where=base != 0)
    return Removal(base, effect)


@dataclass(frozen=True, eq=False)
class Rest:
    """A chain without some states: ``base`` (k,) outcomes from the start, ``lost`` (k,) to those states, expected
    visits from the start ``seen`` (n,) and outcomes from each state ``worth`` (n, k); 0 in the states removed."""

    base: Array
    lost: Array
    seen: Array
    worth: Array


def removed(chain: Chain, owned: Sequence[Indices]) -> list[Rest]:
    """The chain, and the chain without the states of each channel, from one factorisation.

    N without D is N − N[:, D] N[D, D]⁻¹ N[D, :]. Raises StatisticError as ``removal_effects``.
    """
    visits = fundamental(chain.moves)
    worth, seen = visits @ chain.exits, chain.start @ visits
    base = chain.start @ worth
    found = [Rest(base, np.zeros_like(base), seen, worth)]
    for states in owned:
        if not len(states):
            found.append(found[0])
            continue
        inner = linalg.lu_factor(visits[np.ix_(states, states)])
        meets = linalg.lu_solve(inner, worth[states])
        lost = seen[states] @ meets
        less = seen - linalg.lu_solve(inner, seen[states], trans=1) @ visits[states]
        left = worth - visits[:, states] @ meets
        less[states], left[states] = 0.0, 0.0
        found.append(Rest(base - lost, lost, less, left))
    return found


def fundamental(moves: Array) -> Array:
    """N = (I − Q)⁻¹: expected visits to each state from each state. Raises StatisticError if the chain is singular."""
    n = len(moves)
    if n > MAX_STATES:
        raise StatisticError("too_many_states", states=n, limit=MAX_STATES)
    if n == 0:
        return np.zeros((0, 0))
    left = np.eye(n) - moves
    factors, pivots, failed = linalg.lapack.dgetrf(left)
    condition, _ = linalg.lapack.dgecon(factors, np.abs(left).sum(axis=0).max())
    if failed or not condition > SINGULAR:
        raise StatisticError("singular_chain")
    return np.asarray(linalg.lu_solve((factors, pivots), np.eye(n)))


def shared(effects: Array, total: float) -> Array:
    """``total`` in proportion to the removal effects (c,); NaN where none has an effect."""
    whole = effects.sum()
    return np.asarray(effects / whole * total) if whole > 0 else np.full(len(effects), np.nan)


def heldout(train: Mapping[int, Mapping[int, float]], test: Mapping[int, Mapping[int, float]], nexts: int) -> float:
    """Log-likelihood of the steps ``test`` under the chain fitted to ``train``: state → next → count.

    Probabilities are (count + ½) / (total + ½ · nexts) (Krichevsky & Trofimov 1981), so that a step that was
    never seen in training costs, but not infinitely.
    """
    total = 0.0
    for state, steps in test.items():
        known = train.get(state, {})
        size = sum(known.values()) + 0.5 * nexts
        total += sum(n * np.log((known.get(step, 0.0) + 0.5) / size) for step, n in steps.items() if n)
    return float(total)
