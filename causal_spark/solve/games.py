"""Shapley values of cooperative games: exact over all coalitions, in closed form, or by antithetic permutations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from causal_spark.errors import StatisticError
from causal_spark.statistics.moments import Array

# Players of a game given by all its coalitions: 2²⁴ worths are 134 MB.
MAX_PLAYERS = 24
Masks = NDArray[np.int64]


def shapley(worth: ArrayLike) -> Array:
    """Shapley (1953) values (n,) of a game by its ``worth`` (2ⁿ,): bit i of the index says that player i takes part.

    φᵢ = Σ over S without i of |S|! (n − |S| − 1)! / n! · (v(S ∪ i) − v(S)). O(n 2ⁿ).
    Raises StatisticError beyond 24 players.
    """
    v = np.asarray(worth, float)
    n = players(len(v))
    weight = _weights(n)[np.bitwise_count(np.arange(len(v) // 2, dtype=np.uint32))] if n else np.zeros(0)
    values = np.zeros(n)
    for i in range(n):
        # coalitions without i, in the order in which bit i is cut out of their index
        pairs = v.reshape(-1, 2, 1 << i)
        values[i] = weight @ (pairs[:, 1, :] - pairs[:, 0, :]).ravel()
    return values


def players(coalitions: int) -> int:
    """n of a table of 2ⁿ coalitions. Raises StatisticError if it is no power of two, or n is above 24."""
    n = coalitions.bit_length() - 1
    if coalitions != 1 << max(n, 0):
        raise ValueError(f"a game of {coalitions} coalitions is not one of all subsets")
    if n > MAX_PLAYERS:
        raise StatisticError("too_many_players", players=n, limit=MAX_PLAYERS)
    return n


def _weights(n: int) -> Array:
    """|S|! (n − |S| − 1)! / n! for |S| = 0 … n − 1."""
    return np.array([1.0 / (n * math.comb(n - 1, size)) for size in range(n)])


def subset_sums(masks: Sequence[int] | Masks, amounts: ArrayLike, n: int) -> Array:
    """Σ of ``amounts`` (m,) or (m, k) over all ``masks`` inside S, for every S of n players: (2ⁿ,) or (2ⁿ, k).

    The zeta transform (Yates 1937): O(n 2ⁿ), whatever the number of masks.
    """
    if n > MAX_PLAYERS:
        raise StatisticError("too_many_players", players=n, limit=MAX_PLAYERS)
    given = np.asarray(amounts, float)
    sums = np.zeros((1 << n, *given.shape[1:]))
    np.add.at(sums, np.asarray(masks, np.int64), given)
    for i in range(n):
        pairs = sums.reshape(-1, 2, 1 << i, *given.shape[1:])
        pairs[:, 1] += pairs[:, 0]
    return sums


def rates(successes: Array, trials: Array) -> Array:
    """successes / trials, 0 where there are no trials: a coalition that nobody saw has no rate to speak of."""
    return np.divide(successes, trials, out=np.zeros(np.broadcast_shapes(successes.shape, trials.shape)),
                     where=trials > 0)  # fmt: skip


def rate_game(masks: Sequence[int] | Masks, successes: ArrayLike, trials: ArrayLike, n: int) -> Array:
    """Shapley values (n,) of v(S) = successes / trials of the journeys that stay inside S; v(∅) = 0.

    ``masks``, ``successes`` and ``trials`` (m,): the channels of a journey as bits, its conversions, all of it.
    The values sum to the overall rate; a channel that lowers the rate has a negative one. (Zhao, Mahboobi & Bagheri
    2018 discuss the choice of worth.)
    """
    inside = subset_sums(masks, np.column_stack([np.asarray(successes, float), np.asarray(trials, float)]), n)
    worth = rates(inside[:, 0], inside[:, 1])
    worth[0] = 0.0
    return shapley(worth)


def members(masks: Sequence[int] | Masks, n: int) -> NDArray[np.bool_]:
    """Which player is in which mask, shape (m, n); masks may be wider than 64 bits."""
    return np.array([[bool(mask >> i & 1) for i in range(n)] for mask in map(int, masks)], bool).reshape(-1, n)


def equal_split(present: ArrayLike, amounts: ArrayLike) -> Array:
    """Each coalition's amount shared equally among its members: (n,) from ``present`` (m, n), ``amounts`` (m,).

    It is the exact Shapley value of v(S) = amount of the coalitions inside S (and of "any member in S"): each
    amount is the unanimity game of its coalition, whose value is an equal split (Shapley 1953, § 4).
    """
    inside = np.asarray(present, bool)
    size = np.maximum(inside.sum(axis=1), 1)
    return np.asarray((np.asarray(amounts, float) / size) @ inside, float)


@dataclass(frozen=True, eq=False)
class Sampled:
    """Shapley values (n, …) from ``pairs`` of permutations, with their Monte-Carlo standard errors (n, …)."""

    value: Array
    std_error: Array
    pairs: int


def rate_game_sampled(
    masks: Sequence[int] | Masks, successes: ArrayLike, trials: ArrayLike, n: int, pairs: int = 1000, seed: int = 7
) -> Sampled:
    """As ``rate_game`` for any number of players, by ``pairs`` of a permutation and its reverse.

    ``successes`` and ``trials``: (m,), or (m, R) for R data sets on the same permutations.

    Along a permutation a journey comes inside when its last channel does, so one pass gives n marginal
    contributions. The standard error is that of the mean over pairs (Castro et al. 2009; antithetic pairs:
    Lomeli et al. 2019).
    """
    inside = members(masks, n)
    won, seen = np.asarray(successes, float), np.asarray(trials, float)
    some = inside.any(axis=1)
    inside, won, seen = inside[some], won[some], seen[some]
    rng = np.random.default_rng(seed)
    mean = np.zeros((n, *won.shape[1:]))
    squares = np.zeros_like(mean)
    for pair in range(pairs):
        order = rng.permutation(n)
        both = (_marginals(inside, won, seen, order) + _marginals(inside, won, seen, order[::-1])) / 2
        apart = both - mean
        mean += apart / (pair + 1)
        squares += apart * (both - mean)
    error = np.sqrt(squares / (pairs - 1) / pairs) if pairs > 1 else np.full_like(mean, np.nan)
    return Sampled(mean, error, pairs)


def _marginals(inside: NDArray[np.bool_], won: Array, seen: Array, order: NDArray[np.int64]) -> Array:
    """What each player adds to the rate when the players join in ``order``."""
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    last = np.where(inside, place, -1).max(axis=1, initial=-1)
    joined = sparse.csr_array((np.ones(len(last)), (last, np.arange(len(last)))), shape=(len(order), len(last)))
    worth = rates(np.cumsum(joined @ won, axis=0), np.cumsum(joined @ seen, axis=0))
    return np.asarray(np.diff(worth, axis=0, prepend=np.zeros((1, *worth.shape[1:])))[place])
