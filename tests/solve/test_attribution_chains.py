"""Absorbing chains: worked examples, removal by one factorisation against removal one by one, self-checks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causal_spark.errors import StatisticError
from causal_spark.solve import chains


def chain_of(paths: list[tuple[str, float, float]], channels: str) -> chains.Chain:
    """The order-1 chain of paths written as letters, each with conversions and nulls."""
    n = len(channels)
    start, moves, exits, leaving = np.zeros(n), np.zeros((n, n)), np.zeros((n, 1)), np.zeros(n)
    for path, converted, lost in paths:
        places = [channels.index(letter) for letter in path]
        start[places[0]] += converted + lost
        for a, b in pairwise(places):
            moves[a, b] += converted + lost
        exits[places[-1], 0] += converted
        leaving[places[-1]] += converted + lost
    return chains.fit(start, moves, exits, leaving)


def alone(n: int) -> list[np.ndarray]:
    return [np.array([i]) for i in range(n)]


@pytest.mark.parametrize(
    ("paths", "channels", "base", "effects", "credits"),
    [
        ([("abc", 1, 0), ("a", 0, 1), ("bc", 0, 1)], "abc", 1 / 3, [0.5, 1, 1], [0.2, 0.4, 0.4]),
        ([("g", 2, 1), ("m", 1, 0), ("gm", 1, 0)], "gm", 0.8, [0.75, 0.5], [2.4, 1.6]),
        ([("ababba", 1, 0), ("abbaa", 1, 0), ("aa", 1, 0)], "ab", 1.0, [1, 0.5], [2, 1]),
    ],
)
def test_worked_examples(paths, channels, base, effects, credits) -> None:
    found = chains.removal_effects(chain_of(paths, channels), alone(len(channels)))
    assert found.base[0] == pytest.approx(base, rel=1e-14)
    assert found.effect[:, 0] == pytest.approx(effects, rel=1e-13)
    conversions = sum(n for _, n, _ in paths)
    assert chains.shared(found.effect[:, 0], conversions) == pytest.approx(credits, rel=1e-13)


def test_given_probabilities() -> None:
    # facebook, google, email: start and steps as printed
    chain = chains.Chain(
        np.array([0.2, 0.8, 0.0]),
        np.array([[0, 0, 0.2], [0.4, 0, 0], [0, 0, 0]], float),
        np.array([[0.8], [0.6], [0.1]]),
    )
    found = chains.removal_effects(chain, alone(3))
    assert found.base[0] == pytest.approx(0.9064, rel=1e-14)
    assert found.base[0] * (1 - found.effect[:, 0]) == pytest.approx([0.48, 0.164, 0.896], rel=1e-14)
    assert found.effect[:, 0] == pytest.approx([0.470432480141218, 0.819064430714916, 0.0114739629302736], rel=1e-13)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 7), st.integers(0, 10_000))
def test_one_factorisation_is_removal_one_by_one(n: int, seed: int) -> None:
    """Against cutting a channel's states out and solving the rest; channels may own several states."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 9, (n, n)).astype(float)
    chain = chains.fit(rng.integers(1, 9, n), counts, rng.integers(0, 5, (n, 2)), rng.integers(5, 9, n))
    owners = rng.integers(0, 3, n)
    owned = [np.flatnonzero(owners == c) for c in range(3)]
    found = chains.removal_effects(chain, owned)
    for c in range(3):
        keep = np.flatnonzero(owners != c)
        rest = np.linalg.solve(np.eye(len(keep)) - chain.moves[np.ix_(keep, keep)], chain.exits[keep])
        left = chain.start[keep] @ rest
        assert found.base * (1 - np.nan_to_num(found.effect[c])) == pytest.approx(left, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text("abcd", min_size=1, max_size=6), st.integers(0, 5), st.integers(0, 5)), min_size=1))
def test_conversion_probability_is_conversions_by_journeys(paths) -> None:
    total = sum(a + b for _, a, b in paths)
    if total == 0:
        return
    found = chains.removal_effects(chain_of(paths, "abcd"), alone(4))
    assert found.base[0] == pytest.approx(sum(a for _, a, _ in paths) / total, abs=1e-12)


def test_self_loops_change_nothing_at_order_one() -> None:
    a = chain_of([("aabbc", 3, 1), ("bbb", 0, 4), ("ca", 1, 1)], "abc")
    b = chain_of([("abc", 3, 1), ("b", 0, 4), ("ca", 1, 1)], "abc")
    first, second = (chains.removal_effects(x, alone(3)).effect for x in (a, b))
    assert first == pytest.approx(second, rel=1e-13)


def test_a_chain_that_is_never_left_is_refused() -> None:
    chain = chains.Chain(np.array([1.0, 0]), np.array([[0, 1.0], [1.0, 0]]), np.zeros((2, 1)))
    with pytest.raises(StatisticError, match="no journey leaves"):
        chains.removal_effects(chain, alone(2))


def test_too_many_states_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chains, "MAX_STATES", 2)
    with pytest.raises(StatisticError, match="3 states"):
        chains.fundamental(np.zeros((3, 3)))


def test_no_conversions_give_no_effects() -> None:
    found = chains.removal_effects(chain_of([("ab", 0, 3)], "ab"), alone(2))
    assert np.isnan(found.effect).all()
    assert np.isnan(chains.shared(np.zeros(2), 3.0)).all()


def test_heldout_likelihood_prefers_the_order_that_made_the_steps() -> None:
    # steps of order 1 alternate; a chain that knows the state predicts them, one that does not cannot
    knows = {1: {2: 50.0}, 2: {1: 50.0}}
    blind = {0: {1: 50.0, 2: 50.0}}
    assert chains.heldout(knows, knows, 3) > chains.heldout(blind, blind, 3)
    expected = 50 * np.log(50.5 / 51.5) * 2
    assert chains.heldout(knows, knows, 3) == pytest.approx(expected, rel=1e-14)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 7), st.integers(0, 10_000))
def test_what_is_left_without_a_channel(n: int, seed: int) -> None:
    """Visits, worth and outcomes of the rest against the chain with those states cut out."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 9, (n, n)).astype(float)
    chain = chains.fit(rng.integers(1, 9, n), counts, rng.integers(0, 5, (n, 2)), rng.integers(5, 9, n))
    owners = rng.integers(0, 3, n)
    whole, *parts = chains.removed(chain, [np.flatnonzero(owners == c) for c in range(3)])
    assert whole.base == pytest.approx(chains.removal_effects(chain, []).base, abs=1e-14)
    for c, part in enumerate(parts):
        keep = np.flatnonzero(owners != c)
        inner = np.linalg.inv(np.eye(len(keep)) - chain.moves[np.ix_(keep, keep)])
        assert part.seen[keep] == pytest.approx(chain.start[keep] @ inner, abs=1e-12)
        assert part.worth[keep] == pytest.approx(inner @ chain.exits[keep], abs=1e-12)
        assert part.base == pytest.approx(chain.start[keep] @ inner @ chain.exits[keep], abs=1e-12)
        assert part.base + part.lost == pytest.approx(whole.base, abs=1e-12)
