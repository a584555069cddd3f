"""What survives of a bucket of journeys: whole-number sums by statistic, segment and key, with bootstrap replicates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, special

from causal_spark.errors import StatisticError
from causal_spark.methods.attribution.journeys import DAY, OFTEN, WHOLE, Journeys
from causal_spark.methods.attribution.vocabulary import MAX_ORDER, MAX_SET, RULES, SETS, Attribution
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
# Statistics without replicates: descriptions, and chains of too many states to solve again and again.
UNREPLICATED = ("length", "lag", "half", "markov_3", "markov_4")
# Lengths and days from these on are one class.
LONGEST_PATH, LONGEST_LAG = 50, 366
SHOWN_PATH = 50
# Poisson(1) of a 16-bit uniform number.
_TABLE = np.searchsorted(np.cumsum([np.exp(-1.0) / float(special.factorial(k)) for k in range(9)]),
                         (np.arange(65_536) + 0.5) / 65_536).astype(float)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """Which statistics a run needs, and the fixed-point scales: of a conversion's credit, of each amount."""

    rules: tuple[str, ...]
    orders: tuple[int, ...]
    auto: int
    ordered: bool
    sets: bool
    direct: int
    half_life: float
    positions: tuple[float, ...]
    tokens: int
    channels: int
    replicates: int
    conversion_scale: float
    amount_scales: tuple[float, ...]
    paths: bool

    @property
    def outcomes(self) -> int:
        return 1 + len(self.amount_scales)

    def divisors(self, stat: str) -> NDArray[np.float64]:
        """What the sums of a statistic are divided by: conversions, nulls, amounts."""
        share = self.conversion_scale if stat.startswith(("rule:", "stage")) else 1.0
        return np.array([share, WHOLE, *self.amount_scales])


def plan(method: Attribution, direct: int, tokens: int, conversions: float, totals: Sequence[float]) -> Plan:
    """``conversions`` and ``totals``: bounds of what all conversions and the absolute amounts sum to.

    Raises StatisticError if a model of channel sets gets more tokens than an integer has bits.
    """
    sets = any(model in SETS for model in method.models)
    if sets and tokens > MAX_SET:
        raise StatisticError("too_many_players", players=tokens, limit=MAX_SET)
    return Plan(
        rules=tuple(model for model in method.models if model in RULES),
        orders=method.orders,
        auto=method.max_order if "markov_auto" in method.models else 0,
        ordered="shapley_ordered" in method.models,
        sets=sets,
        direct=direct,
        half_life=method.half_life_days * DAY,
        positions=method.positions,
        tokens=tokens,
        channels=tokens // OFTEN if method.change == "frequency" else tokens,
        replicates=method.replicates,
        conversion_scale=power_of_two(max(conversions, 1.0)),
        amount_scales=tuple(power_of_two(total) for total in totals),
        paths=method.top_paths > 0,
    )


def power_of_two(bound: float) -> float:
    """The scale at which a sum of ``bound`` still fits."""
    return float(2.0 ** min(FINEST, BITS - int(np.ceil(np.log2(max(bound, 1e-9))))))


@dataclass(frozen=True, eq=False)
class Weights:
    """Bootstrap weights of each journey's row: of its conversions and of its nulls, shape (persons, B).

    ``held_out`` (J,): the half of the journeys, by person, on which a chain of the other half is tried.
    """

    row: Whole
    won: NDArray[np.float64]
    lost: NDArray[np.float64]
    held_out: NDArray[np.bool_]


def person_weights(hashes: Whole, row: Whole, replicates: int) -> Weights:
    """Poisson(1) weights by a hash of the person and the replicate: the same wherever the person's rows are."""
    made = poisson(hashes, replicates)
    return Weights(row, made, made, (_words(hashes, 1)[:, 0] >> np.uint64(63) == 1)[row])


def poisson(hashes: Whole, replicates: int) -> NDArray[np.float64]:
    """(n, replicates) independent Poisson(1) numbers, four from each 64-bit hash (splitmix64, Steele et al. 2014)."""
    words = _words(hashes, -(-replicates // 4))
    pieces = np.ascontiguousarray(words, "<u8").view("<u2").reshape(len(hashes), -1)[:, :replicates]
    return np.asarray(_TABLE[pieces])


def count_weights(hashes: Whole, won: Whole, lost: NDArray[np.float64], row: Whole, replicates: int) -> Weights:
    """Weights of counted paths: Poisson(count), by a normal approximation (Cornish & Fisher 1938) above one."""
    words = (_words(hashes, 2 * replicates) >> np.uint64(11)).astype(float)
    z = special.ndtri((words + 0.5) / 2.0**53)
    won_weights, lost_weights = _counts(z[:, :replicates], won.astype(float)), _counts(z[:, replicates:], lost)
    return Weights(row, won_weights, lost_weights, np.zeros(len(row), bool))


def _counts(z: NDArray[np.float64], n: NDArray[np.float64]) -> NDArray[np.float64]:
    mean = n[:, None]
    drawn = np.rint(mean + np.sqrt(mean) * z + (z**2 - 1) / 6)
    exact = np.searchsorted(np.cumsum([np.exp(-1.0) / float(special.factorial(k)) for k in range(12)]),
                            special.ndtr(z).ravel()).reshape(z.shape)  # fmt: skip
    return np.asarray(np.where(mean == 0, 0.0, np.where(mean == 1, exact, np.maximum(drawn, 0.0))))


def _words(hashes: Whole, many: int) -> NDArray[np.uint64]:
    """(n, many) hashes: splitmix64 of the hash plus a step for each word."""
    with np.errstate(over="ignore"):
        step = (np.arange(many, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        x = hashes.astype(np.uint64)[:, None] + step[None, :]
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(x ^ (x >> np.uint64(31)))


def summed(journeys: Journeys, weights: Weights, wanted: Plan) -> Iterator[Cells]:
    """Every statistic of a bucket, over all journeys and within each segment column."""
    groups = [np.zeros(len(journeys.person), np.int64), *journeys.segments.T]
    for name, key, journey, amounts in _entries(journeys, weights.held_out, wanted):
        for group in groups:
            inside = group[journey] >= 0
            yield _part(name, group, key[inside], journey[inside], amounts[inside], journeys, weights, wanted)
    if wanted.paths:
        yield _paths(journeys)


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
    totals = np.column_stack([np.rint(won.conversions * wanted.conversion_scale).astype(np.int64), won.amounts])
    for rule in (*wanted.rules, *(("shapley",) if "shapley" not in wanted.rules else ())):
        share = rule_weights(rule, won, wanted)
        parts = _parts(share, won, totals, exact=rule != "participation")
        some = parts.any(axis=1)
        if rule in wanted.rules:
            yield f"rule:{rule}", won.codes[some], journey[some], _with_nulls(parts[some])
        if rule == "shapley" and wanted.ordered:
            new, rank, _ = positions.distinct(won.starts, won.codes)
            yield "stage", rank * wanted.tokens + won.codes[new], journey[new], _with_nulls(parts[new])


def _parts(share: NDArray[np.float64], won: Journeys, totals: Whole, exact: bool) -> Whole:
    if exact:
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
        return positions.last_but(won.starts, won.codes % max(wanted.channels, 1) == wanted.direct)
    if rule == "custom":
        return positions.custom(won.starts, np.array(wanted.positions))
    if rule == "time_decay":
        return positions.decay(won.starts, won.ages, wanted.half_life)
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
    found = np.zeros(len(some.person), np.int64)
    journey = positions.places(some.starts)[0]
    np.bitwise_or.at(found, journey, np.left_shift(np.int64(1), some.codes))
    return found


def _part(name: str, group: Whole, key: Whole, journey: Whole, amounts: Whole, journeys: Journeys,
          weights: Weights, wanted: Plan) -> Cells:  # fmt: skip
    """Sums over equal (segment, key), of the data and of every replicate."""
    segments, keys, row = _rows(group[journey], key)
    outcomes = amounts.shape[1]
    base = np.column_stack([_added(row, amounts[:, o], len(keys)) for o in range(outcomes)])
    made = np.zeros((len(keys), outcomes, wanted.replicates), np.int64)
    if wanted.replicates and not name.startswith(UNREPLICATED):
        for o, unit in enumerate(_units(name, journeys, amounts, journey).T):
            drawn = weights.lost if o == 1 else weights.won
            made[:, o] = _replicated(unit, row, weights.row[journey], len(keys), drawn)
    return Cells(name, segments, keys, base, made.reshape(len(keys), outcomes * wanted.replicates))


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
    if not amount.any():
        return np.zeros(rows, np.int64)
    low = np.bincount(row, amount & (HALF - 1), rows).astype(np.int64)
    return np.asarray(np.bincount(row, amount >> HALF_BITS, rows).astype(np.int64) * HALF + low, np.int64)


def _units(name: str, journeys: Journeys, amounts: Whole, journey: Whole) -> NDArray[np.float64]:
    """What one conversion, or one null, of the entry's journey adds to a replicate: amounts and credit coarser."""
    won = np.maximum(journeys.conversions[journey], 1).astype(float)
    lost = np.maximum(journeys.nulls[journey] / WHOLE, 1.0)
    coarse = 2.0**COARSE
    share = coarse if name.startswith(("rule:", "stage")) else 1.0
    columns = [amounts[:, 0] / (won * share), amounts[:, 1] / lost]
    columns += [amounts[:, o] / (won * coarse) for o in range(2, amounts.shape[1])]
    return np.rint(np.column_stack(columns))


def _replicated(unit: NDArray[np.float64], row: Whole, person: Whole, rows: int, drawn: NDArray[np.float64]) -> Whole:
    """Σ unit · weight by row for every replicate; the numbers are whole and small enough to be exact."""
    some = unit != 0
    matrix = sparse.csr_array((unit[some], (row[some], person[some])), shape=(rows, len(drawn)))
    return np.asarray(np.rint(matrix @ drawn), np.int64)


def _paths(journeys: Journeys) -> Cells:
    """Equal paths counted, as texts of their codes; what follows the 50th touch is cut."""
    some = journeys.chosen(journeys.sizes > 0)
    _, first, inverse = np.unique(_path_hash(some), return_index=True, return_inverse=True)
    whole = np.column_stack([some.conversions, some.nulls, some.amounts])
    base = np.zeros((len(first), whole.shape[1]), np.int64)
    np.add.at(base, np.asarray(inverse, np.int64), whole)
    texts = []
    for begin, size in zip(some.starts[first], some.sizes[first], strict=True):
        shown = some.codes[begin : begin + min(size, SHOWN_PATH)].tolist()
        texts.append(" ".join(map(str, shown)) + (" +" if size > SHOWN_PATH else ""))
    zeros = np.zeros(len(first), np.int64)
    return Cells("path", zeros, zeros, base, np.zeros((len(first), 0), np.int64), texts)


def _path_hash(some: Journeys) -> NDArray[np.uint64]:
    """A hash of each journey's channels in their order."""
    place = positions.places(some.starts)[1]
    with np.errstate(over="ignore"):
        mixed = _words(some.codes + (place << 32), 1)[:, 0]
    if not len(mixed):
        return np.zeros(0, np.uint64)
    return np.asarray(np.add.reduceat(mixed, some.starts[:-1]), np.uint64)
