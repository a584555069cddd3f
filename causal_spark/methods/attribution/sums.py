"""What survives of a bucket of journeys: whole-number sums by statistic, segment and key, with bootstrap replicates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from causal_spark.errors import StatisticError
from causal_spark.methods.attribution import exposures, paths
from causal_spark.methods.attribution.journeys import DAY, OFTEN, WHOLE, Journeys, offsets
from causal_spark.methods.attribution.vocabulary import HAZARD, MAX_ORDER, MAX_SET, PRESENCE, SETS, Attribution
from causal_spark.methods.attribution.weights import Weights
from causal_spark.solve import positions
from causal_spark.statistics.cells import Cells

Whole = NDArray[np.int64]
# Sums of credit fill at most so many bits; replicates are kept this many bits coarser, so that their products with
# bootstrap weights are exact in doubles.
BITS, COARSE = 58, 13
FINEST = 44
HALF_BITS = 26
HALF = 1 << HALF_BITS
# Keys up to here are counted in a table as large as the greatest of them.
DENSE = 1 << 20
# Statistics without replicates: descriptions.
UNREPLICATED = ("length", "lag", "half")
# Chains of a higher order than this have so many cells that their replicates are fewer: so many numbers in all, and
# none if not at least ten replicates fit.
REPLICATED_ORDER = 2
NUMBERS, LEAST = 6_000_000, 10
# Lengths and days from these on are one class.
LONGEST_PATH, LONGEST_LAG = 50, 366


@dataclass(frozen=True)
class Plan:
    """Which statistics a run needs, and the fixed-point scales: of a conversion's credit, of each amount."""

    rules: tuple[str, ...]
    orders: tuple[int, ...]
    auto: int
    ordered: bool
    sets: bool
    hazard: bool
    direct: tuple[int, ...]
    half_life: float
    decay_step: float | None
    positions: tuple[float, ...]
    tokens: int
    channels: int
    replicates: int
    conversion_scale: float
    amount_scales: tuple[float, ...]
    paths: bool
    cells: int
    window: int
    as_of: int

    @property
    def outcomes(self) -> int:
        return 1 + len(self.amount_scales)

    def bare(self) -> Plan:
        """Without models: totals, lengths and lags alone."""
        return replace(self, rules=(), orders=(), ordered=False, sets=False, hazard=False, replicates=0, paths=False)

    def drawn(self, stat: str) -> int:
        """Replicates of a statistic: of a long chain only as many as its cells leave room for."""
        if stat.startswith(UNREPLICATED):
            return 0
        if not stat.startswith("markov_") or int(stat[-1]) <= REPLICATED_ORDER:
            return self.replicates
        cells = min((self.tokens + 1) ** int(stat[-1]) * (self.tokens + 2), self.cells)
        most = NUMBERS // (cells * (1 + self.outcomes))
        return min(self.replicates, most) if most >= LEAST else 0


def plan(method: Attribution, direct: tuple[int, ...], tokens: int, conversions: float, totals: Sequence[float],
         events: int = 1 << 40, as_of: int = 0) -> Plan:  # fmt: skip
    """``conversions`` and ``totals``: bounds of what all conversions and the absolute amounts sum to; ``events``: of
    the rows, over all segments; ``as_of``: the end of the data.

    Raises StatisticError if a model of channel sets gets more tokens than an integer has bits.
    """
    if tokens > MAX_SET and any(model in SETS for model in method.models):
        raise StatisticError("too_many_players", players=tokens, limit=MAX_SET)
    return Plan(
        rules=method.rules,
        orders=method.orders,
        auto=method.max_order if "markov_auto" in method.models else 0,
        ordered="shapley_ordered" in method.models,
        sets=any(model in PRESENCE for model in method.models),
        hazard=HAZARD in method.models,
        direct=direct,
        half_life=method.half_life_days * DAY,
        decay_step=None if method.decay_step_days is None else method.decay_step_days * DAY,
        positions=method.positions,
        tokens=tokens,
        channels=tokens // OFTEN if method.change == "frequency" else tokens,
        replicates=method.replicates,
        conversion_scale=power_of_two(max(conversions, 1.0)),
        amount_scales=tuple(power_of_two(total) for total in totals),
        paths=method.top_paths > 0,
        cells=max(2 * events, 1),
        window=round(method.window_days * DAY),
        as_of=as_of,
    )


def power_of_two(bound: float) -> float:
    """The scale at which a sum of ``bound`` still fits."""
    return float(2.0 ** min(FINEST, BITS - int(np.ceil(np.log2(max(bound, 1e-9))))))


def summed(journeys: Journeys, weights: Weights, wanted: Plan) -> Iterator[Cells]:
    """Every statistic of a bucket, over all journeys and within each segment column."""
    groups = [np.zeros(len(journeys.person), np.int64), *journeys.segments.T]
    for name, key, journey, amounts in _entries(journeys, weights.held_out, wanted):
        if wanted.drawn(name):
            key, journey, amounts = _by_person(key, journey, amounts, weights)
        yield _part(name, groups[0], key, journey, amounts, journeys, weights, wanted)
        for group in groups[1:]:
            inside = group[journey] >= 0
            yield _part(name, group, key[inside], journey[inside], amounts[inside], journeys, weights, wanted)
    if wanted.paths:
        yield paths.counted(journeys, wanted.tokens)


def _by_person(key: Whole, journey: Whole, amounts: Whole, weights: Weights) -> tuple[Whole, Whole, Whole]:
    """The entries in the order of their persons; they come in a few runs that are in it."""
    order = np.argsort(weights.row[journey], kind="stable")
    return key[order], journey[order], amounts[order]


Entry = tuple[str, Whole, Whole, Whole]


def _entries(journeys: Journeys, held_out: NDArray[np.bool_], wanted: Plan) -> Iterator[Entry]:
    """Statistic, and for each of its entries: key, journey, and what it adds (conversions, nulls, amounts)."""
    every = np.arange(len(journeys.person))
    whole = np.column_stack([journeys.conversions, journeys.nulls, journeys.amounts])
    yield "total", (journeys.sizes == 0).astype(np.int64), every, whole
    some = journeys.chosen(journeys.sizes > 0)
    index = np.flatnonzero(journeys.sizes > 0)
    yield "length", np.minimum(some.sizes, LONGEST_PATH), index, whole[index]
    yield from _lags(some, index)
    won = some.conversions > 0
    for name, key, journey, amounts in _credits(some.chosen(won), wanted):
        yield name, key, index[won][journey], amounts
    for order in wanted.orders:
        key, journey, amounts = steps(some, order, wanted.tokens)
        yield f"markov_{order}", key, index[journey], amounts
        if order <= wanted.auto:
            half = held_out[index[journey]]
            yield f"half_{order}", key[half], index[journey[half]], amounts[half]
    if wanted.sets:
        yield "sets", _sets(some), index, whole[index]
    if wanted.hazard:
        key, journey, amounts = exposures.intervals(some, wanted.window, wanted.as_of)
        yield "hazard", key, index[journey], amounts


def _lags(some: Journeys, index: Whole) -> Iterator[Entry]:
    """Days from the first and from the last touch to the conversion."""
    won = some.conversions > 0
    ends = {"lag_first": some.starts[:-1], "lag_last": some.starts[1:] - 1}
    for name, place in ends.items():
        day = np.minimum(some.ages[place[won]] // DAY, LONGEST_LAG)
        amounts = np.zeros((int(won.sum()), 2 + some.amounts.shape[1]), np.int64)
        amounts[:, 0] = some.conversions[won]
        yield name, day, index[won], amounts


def _credits(won: Journeys, wanted: Plan) -> Iterator[Entry]:
    """The touches' credit under each rule, and of shapley_ordered by (rank of the channel in the journey, channel)."""
    journey = positions.places(won.starts)[0]
    totals = whole_totals(won, wanted)
    for rule in dict.fromkeys((*wanted.rules, *(("shapley",) if wanted.ordered else ()))):
        share = rule_weights(rule, won, wanted)
        parts = parts_of(rule, share, won, totals)
        some = parts.any(axis=1)
        if rule in wanted.rules:
            yield f"rule:{rule}", won.codes[some], journey[some], _with_nulls(parts[some])
        if rule == "shapley" and wanted.ordered:
            new, rank, _ = positions.distinct(won.starts, won.codes)
            yield "stage", rank * wanted.tokens + won.codes[new], journey[new], _with_nulls(parts[new])


def whole_totals(won: Journeys, wanted: Plan) -> Whole:
    """Conversions and amounts of each journey in the fixed point of credits."""
    return np.column_stack([np.rint(won.conversions * wanted.conversion_scale).astype(np.int64), won.amounts])


def parts_of(rule: str, share: NDArray[np.float64], won: Journeys, totals: Whole) -> Whole:
    """What each touch gets of its journey's ``totals``; but for participation the parts sum to them.

    Shape (touches, outcomes).
    """
    if rule != "participation":
        columns = [positions.whole_parts(share, won.starts, totals[:, i]) for i in range(totals.shape[1])]
    else:
        journey = positions.places(won.starts)[0]
        columns = [np.rint(share * totals[journey, i]).astype(np.int64) for i in range(totals.shape[1])]
    return np.asarray(np.column_stack(columns), np.int64)


def _with_nulls(parts: Whole) -> Whole:
    """A column of zeros for the nulls, after the conversions."""
    return np.insert(parts, 1, 0, axis=1)


def rule_weights(rule: str, won: Journeys, wanted: Plan) -> NDArray[np.float64]:
    """Each touch's share of its journey under a rule."""
    if rule in positions.ENDS:
        return positions.ends(won.starts, positions.ENDS[rule])
    if rule == "last_non_direct":
        return positions.last_but(won.starts, np.isin(won.codes % max(wanted.channels, 1), wanted.direct))
    if rule == "custom":
        return positions.custom(won.starts, np.array(wanted.positions))
    if rule == "time_decay":
        return positions.decay(won.starts, won.ages, wanted.half_life, wanted.decay_step)
    if rule == "participation":
        return positions.participation(won.starts, won.codes)
    if rule == "shapley":
        return positions.equal_channels(won.starts, won.codes)
    plain = {"first": positions.first, "last": positions.last, "linear": positions.linear,
             "w_shape": positions.w_shape}  # fmt: skip
    return plain[rule](won.starts)


def steps(some: Journeys, order: int, tokens: int) -> tuple[Whole, Whole, Whole]:
    """Steps of a chain of ``order``: key = state · (tokens + 2) + next, its journey, what it adds.

    A state is the last ``order`` channels (fewer at the start) in base tokens + 1; ``next`` is a channel, or tokens
    for a conversion and tokens + 1 for a null at the end.
    """
    journey, place, size = positions.places(some.starts)
    base = tokens + 1
    state = np.zeros(len(journey), np.int64)
    for back in range(min(order, MAX_ORDER), 0, -1):
        earlier = np.zeros(len(journey), np.int64)
        there = place >= back
        earlier[there] = some.codes[np.flatnonzero(there) - back] + 1
        state = state * base + earlier
    counts = np.column_stack([some.conversions, some.nulls, np.zeros_like(some.amounts)])
    final = place == size - 1
    closing = (state[final] * base + some.codes[final] + 1) % base**order
    won, lost = some.conversions > 0, some.nulls > 0
    nothing = np.zeros_like(some.amounts)
    end_won = np.column_stack([some.conversions, np.zeros_like(some.nulls), some.amounts])[won]
    end_lost = np.column_stack([np.zeros_like(some.conversions), some.nulls, nothing])[lost]
    every = np.arange(len(some.person))
    key = np.concatenate([state * (tokens + 2) + some.codes, closing[won] * (tokens + 2) + tokens,
                          closing[lost] * (tokens + 2) + tokens + 1])  # fmt: skip
    return key, np.concatenate([journey, every[won], every[lost]]), np.vstack([counts[journey], end_won, end_lost])


def _sets(some: Journeys) -> Whole:
    """The channels of each journey as the bits of one integer."""
    if not len(some.person):
        return np.zeros(0, np.int64)
    return np.asarray(np.bitwise_or.reduceat(np.left_shift(np.int64(1), some.codes), some.starts[:-1]), np.int64)


def _part(name: str, group: Whole, key: Whole, journey: Whole, amounts: Whole, journeys: Journeys, weights: Weights,
          wanted: Plan) -> Cells:  # fmt: skip
    """Entries, in the order of their persons, summed by (segment, key), the data and each bootstrap replicate."""
    segments, keys, row = _rows(group[journey], key)
    outcomes, drawn = amounts.shape[1], wanted.drawn(name)
    base = np.column_stack([_added(row, amounts[:, o], len(keys)) for o in range(outcomes)])
    made = np.zeros((len(keys), outcomes, drawn), np.int64)
    person = weights.row[journey]
    for o in range(outcomes if drawn else 0):
        unit = _unit(name, journeys, amounts[:, o], journey, o)
        some = unit != 0
        if some.any():
            chosen = (weights.lost if o == 1 else weights.won)[:, :drawn]
            made[:, o] = _replicated(unit[some], row[some], person[some], len(keys), chosen)
    return Cells(name, segments, keys, base, made.reshape(len(keys), outcomes * drawn))


def _rows(segment: Whole, key: Whole) -> tuple[Whole, Whole, Whole]:
    """The different (segment, key) in their order, and which of them each entry has."""
    width = int(key.max(initial=0)) + 1
    space = width * (int(segment.max(initial=0)) + 1)
    if space > DENSE:
        pairs = np.lexsort((key, segment))
        segments, keys = segment[pairs], key[pairs]
        new = np.ones(len(keys), bool)
        new[1:] = (segments[1:] != segments[:-1]) | (keys[1:] != keys[:-1])
        row = np.empty(len(keys), np.int64)
        row[pairs] = np.cumsum(new) - 1
        return segments[new], keys[new], row
    both = segment * width + key
    there = np.bincount(both, minlength=space) > 0
    found = np.flatnonzero(there)
    return found // width, found % width, (np.cumsum(there) - 1)[both]


def _added(row: Whole, amount: Whole, rows: int) -> Whole:
    """Σ amount by row, exactly: doubles hold the sums of the upper and of the lower half of the bits."""
    upper = amount >> HALF_BITS
    low = np.bincount(row, amount & (HALF - 1), rows).astype(np.int64)
    return low if not upper.any() else np.bincount(row, upper, rows).astype(np.int64) * HALF + low


def _unit(name: str, journeys: Journeys, amount: Whole, journey: Whole, outcome: int) -> NDArray[np.float64]:
    """What one conversion, or one null, of the entry's journey adds to a replicate: amounts and credit coarser."""
    if outcome == 1:
        return np.rint(amount / np.maximum(journeys.nulls[journey] / WHOLE, 1.0))
    coarse = 2.0**COARSE if outcome > 1 or name.startswith(("rule:", "stage")) else 1.0
    return np.rint(amount / (np.maximum(journeys.conversions[journey], 1).astype(float) * coarse))


def _replicated(unit: NDArray[np.float64], row: Whole, person: Whole, rows: int, drawn: NDArray[np.float64]) -> Whole:
    """Σ unit · weight by row for every replicate; the numbers are whole and small enough to be exact.

    ``person`` is in order: each person's weights are read once, and the sums of all rows stay in the cache.
    """
    starts = offsets(np.bincount(person, minlength=len(drawn)))
    matrix = sparse.csc_array((unit, row, starts), shape=(rows, len(drawn)))
    return np.asarray(np.rint(matrix @ np.ascontiguousarray(drawn)), np.int64)
