"""What the journeys of a bucket add to each statistic, entry by entry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from causal_spark.methods.attribution import exposures
from causal_spark.methods.attribution.journeys import DAY, Journeys, Mask, Real, Whole, columns
from causal_spark.methods.attribution.plan import Plan
from causal_spark.methods.attribution.weights import Weights
from causal_spark.solve import positions

# Lengths and days from these on are one class.
LONGEST_PATH, LONGEST_LAG = 50, 366
# Journeys by channels are counted in a table if it is at most so many times as large as the touches are many.
DENSE = 8


@dataclass(frozen=True, eq=False)
class Entries:
    """Entries of the statistics ``stats``: ``key`` (n,), ``journey`` (n,) (None: each touch is an entry), and what each
    adds, ``amounts`` (n, o): conversions, nulls, amounts. ``shared``: these are the journeys', (J, o), and each of a
    journey's entries adds them."""

    stats: tuple[str, ...]
    key: Whole
    journey: Whole | None
    amounts: Whole
    shared: bool = False

    def of(self, values: NDArray, made: Journeys) -> NDArray:
        """The journeys' ``values`` (J,) for each entry (n,)."""
        return values.take(made.journey if self.journey is None else self.journey)

    def chosen(self, kept: Mask, made: Journeys) -> Entries:
        """Some of the entries."""
        journey = (made.journey if self.journey is None else self.journey)[kept]
        amounts = self.amounts if self.shared else self.amounts[kept]
        return Entries(self.stats, self.key[kept], journey, amounts, self.shared)


Found = Iterator[tuple[Journeys, Entries]]


def of_journeys(made: Journeys, weights: Weights, wanted: Plan) -> Found:
    """The entries of all statistics, each with the journeys it counts."""
    yield made, Entries(("total",), (made.sizes == 0).astype(np.int64), _every(made), _whole(made))
    some = made.chosen(made.sizes > 0)
    if not len(some.codes):
        return
    yield some, Entries(("length",), np.minimum(some.sizes, LONGEST_PATH), _every(some), _whole(some))
    won = some.chosen(some.conversions > 0)
    if len(won.codes):
        for part in (*_lags(won), *_credits(won, wanted)):
            yield won, part
    for order in wanted.orders:
        for part in steps(some, order, wanted.tokens):
            yield some, part
            if order <= wanted.auto:
                half = part.chosen(part.of(weights.held_out[some.person], some), some)
                yield some, replace(half, stats=(f"half_{order}",))
    if wanted.sets:
        yield some, Entries(("sets",), _sets(some), _every(some), _whole(some))
    if wanted.hazard:
        yield some, Entries(("hazard",), *exposures.intervals(some, wanted.window, wanted.as_of))


def _every(made: Journeys) -> Whole:
    return np.arange(len(made.person))


def _whole(made: Journeys) -> Whole:
    """Conversions, nulls and amounts of each journey."""
    return columns(made.conversions, made.nulls, *made.amounts.T)


def _lags(won: Journeys) -> Iterator[Entries]:
    """Days from the first and from the last touch to the conversion."""
    amounts = np.zeros((len(won.person), 2 + won.amounts.shape[1]), np.int64)
    amounts[:, 0] = won.conversions
    for name, touch in (("lag_first", won.starts[:-1]), ("lag_last", won.starts[1:] - 1)):
        days = (won.ends - won.times[touch]) // DAY
        yield Entries((name,), np.minimum(days, LONGEST_LAG), _every(won), amounts)


def _credits(won: Journeys, wanted: Plan) -> Iterator[Entries]:
    """The credit under each rule, and of shapley_ordered by (rank of the channel in the journey, channel)."""
    totals = whole_totals(won, wanted)
    pairs = _pairs(won, wanted.tokens)
    yield from _by_position([rule for rule in wanted.rules if rule in positions.BY_POSITION], won, totals, pairs)
    yield from _by_channel(won, totals, wanted, pairs)
    for rule in wanted.rules:
        if rule in ("time_decay", "custom"):
            parts = parts_of(rule, rule_weights(rule, won, wanted), won, totals)
            yield Entries((f"rule:{rule}",), won.codes, None, _with_nulls(parts))
        elif rule == "last_non_direct":
            touch = positions.last_but_at(won.starts, _direct(won, wanted))
            yield Entries((f"rule:{rule}",), won.codes[touch], _every(won), _with_nulls(totals))
    if wanted.ordered:
        new, rank, channels = positions.distinct(won.starts, won.codes)
        key, journey, closing = rank * wanted.tokens + won.codes[new], won.journey[new], rank == channels
        each = _part(1.0 / channels[closing], totals)
        yield Entries(("stage",), key, journey, _with_nulls(each), shared=True)
        rest = totals - channels[closing][:, None] * each
        yield Entries(("stage",), key[closing], _every(won), _with_nulls(rest))


Pairs = tuple[Whole, Whole, Whole]


def _pairs(won: Journeys, tokens: int) -> Pairs:
    """Each journey with each of its channels, and how often it has it."""
    both, space = won.journey * tokens + won.codes, len(won.person) * tokens
    if space <= DENSE * len(both):
        counts = np.bincount(both, minlength=space)
        found = np.flatnonzero(counts)
        times = counts[found]
    else:
        found, times = np.unique(both, return_counts=True)
    return found // tokens, found % tokens, times


def _by_position(rules: Sequence[str], won: Journeys, totals: Whole, pairs: Pairs) -> Iterator[Entries]:
    """Rules that know positions alone: what every touch of a journey gets, which rules share, and what the first, the
    middle and the last touch get beside it. Each part is rounded by itself, and the last touch takes what is left."""
    n, start, end = won.sizes[:, None], won.starts[:-1], won.starts[1:] - 1
    first, middle, last = (won.codes[touch] for touch in (start, start + won.sizes // 2, end))
    evens: list[tuple[Whole, list[str]]] = []
    for rule in rules:
        shape, stats = positions.profile(rule, won.sizes), (f"rule:{rule}",)
        even, head = (_part(share, totals) for share in (shape.other, shape.first))
        head = np.where(n > 1, head, even)
        peak = even if shape.peak is None else np.where(n > 2, _part(shape.peak, totals), even)
        given = (n - 1) * even + (head - even) + (peak - even)
        parts = [(last, totals - given - even), (first, head - even), (middle, peak - even)]
        amounts = np.concatenate([part for _, part in parts])
        some = np.flatnonzero(amounts.any(axis=1))
        yield Entries(stats, np.concatenate([code for code, _ in parts])[some], some % len(n),
                      _with_nulls(amounts[some]))  # fmt: skip
        known = next((names for part, names in evens if np.array_equal(part, even)), None)
        if known is None:
            evens.append((even, list(stats)))
        else:
            known += stats
    journey, code, times = pairs
    for even, names in evens:
        if even.any():
            yield Entries(tuple(names), code, journey, _with_nulls(even[journey] * times[:, None]))


def _by_channel(won: Journeys, totals: Whole, wanted: Plan, pairs: Pairs) -> Iterator[Entries]:
    """The rules that know which channels a journey has: the same to each, or all to each."""
    journey, code, _ = pairs
    if "participation" in wanted.rules:
        yield Entries(("rule:participation",), code, journey, _with_nulls(totals), shared=True)
    if "shapley" in wanted.rules:
        channels = np.bincount(journey, minlength=len(totals))
        each = _part(1.0 / channels, totals)
        yield Entries(("rule:shapley",), code, journey, _with_nulls(each), shared=True)
        rest = totals - channels[:, None] * each
        yield Entries(("rule:shapley",), won.codes[won.starts[1:] - 1], _every(won), _with_nulls(rest))


def _part(share: Real, totals: Whole) -> Whole:
    """A share (J,) of each of the totals (J, k), rounded."""
    return np.asarray(np.rint(share[:, None] * totals), np.int64)


def whole_totals(won: Journeys, wanted: Plan) -> Whole:
    """Conversions and amounts of each journey in the fixed point of credits."""
    return np.column_stack([np.rint(won.conversions * wanted.conversion_scale).astype(np.int64), won.amounts])


def parts_of(rule: str, share: Real, won: Journeys, totals: Whole) -> Whole:
    """What each touch gets of its journey's ``totals``; but for participation the parts sum to them.

    Shape (touches, outcomes).
    """
    if rule != "participation":
        parts = [positions.whole_parts(share, won.starts, totals[:, i]) for i in range(totals.shape[1])]
    else:
        parts = [np.rint(share * totals[won.journey, i]).astype(np.int64) for i in range(totals.shape[1])]
    return columns(*parts)


def _with_nulls(parts: Whole) -> Whole:
    """A column of zeros for the nulls, after the conversions."""
    return columns(parts[:, 0], np.zeros(len(parts), np.int64), *parts.T[1:])


def rule_weights(rule: str, won: Journeys, wanted: Plan) -> Real:
    """Each touch's share of its journey under a rule."""
    if rule == "last_non_direct":
        return positions.last_but(won.starts, _direct(won, wanted))
    if rule == "custom":
        return positions.custom(won.starts, np.array(wanted.positions))
    if rule == "time_decay":
        return positions.decay(won.starts, won.ages, wanted.half_life, wanted.decay_step)
    if rule == "participation":
        return positions.participation(won.starts, won.codes)
    if rule == "shapley":
        return positions.equal_channels(won.starts, won.codes)
    return positions.by_position(won.starts, rule)


def _direct(won: Journeys, wanted: Plan) -> Mask:
    """Which touches are of a channel that last_non_direct passes over."""
    passed = np.isin(np.arange(wanted.tokens) % max(wanted.channels, 1), wanted.direct)
    return np.asarray(passed.take(won.codes), bool)


def steps(some: Journeys, order: int, tokens: int) -> Iterator[Entries]:
    """Steps of a chain of ``order``: key = state · (tokens + 2) + next.

    A state is the last ``order`` channels (fewer at the start) in base tokens + 1; ``next`` is a channel, or tokens
    for a conversion and tokens + 1 for a null at the end.
    """
    name, base, amounts = (f"markov_{order}",), tokens + 1, _whole(some)
    state, n = np.zeros(1, np.int64), len(some.codes)
    for back in range(min(order, n), 0, -1):
        earlier = np.zeros(n, np.int64)
        np.add(some.codes[:-back], 1, out=earlier[back:])
        for place in range(back):  # where the journey does not reach back so far, nor the short ones before it
            earlier[np.minimum(some.starts[:-1] + place, n - 1)] = 0
        state = earlier if back == order else state * base + earlier
    moved = amounts.copy()
    moved[:, 2:] = 0
    key = state * (tokens + 2)
    key += some.codes
    yield Entries(name, key, None, moved, shared=True)
    final = some.starts[1:] - 1
    closing = (state[final] * base + some.codes[final] + 1) % base**order * (tokens + 2) + tokens
    for outcome, kept in enumerate(([0, *range(2, amounts.shape[1])], [1])):
        ended = np.flatnonzero(amounts[:, outcome] > 0)
        adds = np.zeros((len(ended), amounts.shape[1]), np.int64)
        adds[:, kept] = amounts[ended][:, kept]
        yield Entries(name, closing[ended] + outcome, ended, adds)


def _sets(some: Journeys) -> Whole:
    """The channels of each journey as the bits of one integer."""
    return np.asarray(np.bitwise_or.reduceat(np.left_shift(np.int64(1), some.codes), some.starts[:-1]), np.int64)
