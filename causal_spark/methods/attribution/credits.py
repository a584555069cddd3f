"""Credits of every model from the sums of a segment: the data and each bootstrap replicate alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from causal_spark.errors import StatisticError
from causal_spark.methods.attribution.compressed import Compressed
from causal_spark.methods.attribution.sums import COARSE
from causal_spark.methods.attribution.vocabulary import RULES, Attribution
from causal_spark.solve import chains, games, presence
from causal_spark.statistics.cells import Cells

Array = NDArray[np.float64]
# Beyond these sizes only the estimate is solved, not its replicates.
REPLICATED_ORDER = 2
REPLICATED_STATES, REPLICATED_PLAYERS, REPLICATED_FITS = 300, 12, 1_000_000
EXACT_PLAYERS = 20
WHOLE = 1e6


@dataclass(frozen=True, eq=False)
class Credit:
    """``value`` (c, k): credit of each token for each outcome; ``replicates`` (B, c, k), B = 0 where not solved.

    ``std_error`` (c, k): given where it is not the replicates' (Monte Carlo). ``effects`` (c, k): removal effects,
    ``effect_replicates`` (B, c, k). ``notes``: keys of sentences.
    """

    value: Array
    replicates: Array
    std_error: Array | None = None
    effects: Array | None = None
    effect_replicates: Array | None = None
    notes: tuple[str, ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Sums:
    """The cells of one statistic and segment in their own units: ``key`` (r,), ``base`` (r, o), ``replicates``
    (B, r, o); o is conversions, nulls, amounts."""

    key: NDArray[np.int64]
    base: Array
    replicates: Array


class Segment:
    """The sums of one segment and what the models make of them."""

    def __init__(self, method: Attribution, compressed: Compressed, segment: int) -> None:
        self.method, self.compressed, self.segment = method, compressed, segment
        self.tokens = len(compressed.tokens)
        totals = self.sums("total")
        self.total = totals.base.sum(axis=0)
        self.attributed, self.attributed_replicates = self._total(totals, 0)
        self.unattributed, self.unattributed_replicates = self._total(totals, 1)

    def _total(self, totals: Sums, key: int) -> tuple[Array, Array]:
        """Outcomes (k,) and their replicates (B, k) of the attributed (0) or the unattributed (1) journeys."""
        mine = totals.key == key
        whole, made = totals.base[mine].sum(axis=0), totals.replicates[:, mine].sum(axis=1)
        return _outcomes(whole), _outcomes(made)

    def cells(self, stat: str) -> Cells | None:
        cells = self.compressed.cells.get(stat)
        return None if cells is None else cells.within(self.segment)

    def sums(self, stat: str) -> Sums:
        """A statistic in its own units; without cells where there are none."""
        cells = self.cells(stat)
        width = 2 + len(self.compressed.outcomes) - 1
        if cells is None:
            return Sums(np.zeros(0, np.int64), np.zeros((0, width)), np.zeros((0, 0, width)))
        shared = stat.startswith(("rule:", "stage"))
        conversion, *amounts = self.compressed.scales
        units = np.array([conversion if shared else 1.0, WHOLE, *amounts])
        coarse = np.array([2.0**COARSE if shared else 1.0, 1.0, *([2.0**COARSE] * len(amounts))])
        r = len(cells.key)
        made = cells.replicates.reshape(r, width, -1) if cells.replicates.size else np.zeros((r, width, 0))
        return Sums(cells.key, cells.base / units, np.moveaxis(made, 2, 0) * (coarse / units))

    def credit(self, model: str) -> Credit:
        """The credit of one model. ``markov_auto`` is the order of the highest held-out likelihood."""
        if model in RULES:
            return self._rule(model)
        if model == "shapley_ordered":
            return self._ordered()
        if model.startswith("markov"):
            order = self.order() if model == "markov_auto" else int(model[-1])
            return self._markov(order)
        return self._rate() if model == "shapley_rate" else self._logistic()

    def _rule(self, model: str) -> Credit:
        sums = self.sums(f"rule:{model}")
        return Credit(self._spread(sums.key, _outcomes(sums.base)), self._spread(sums.key, _outcomes(sums.replicates)))

    def _ordered(self) -> Credit:
        sums = self.sums("stage")
        channel = sums.key % self.tokens
        value = self._spread(channel, _outcomes(sums.base))
        stages = [(int(key // self.tokens), int(key % self.tokens), row)
                  for key, row in zip(sums.key, _outcomes(sums.base), strict=True)]  # fmt: skip
        return Credit(value, self._spread(channel, _outcomes(sums.replicates)), extra={"stages": stages})

    def _spread(self, token: NDArray[np.int64], values: Array) -> Array:
        """(…, r, k) sums by row to (…, c, k) by token."""
        found = np.zeros((*values.shape[:-2], self.tokens, values.shape[-1]))
        for row, place in enumerate(token):
            found[..., place, :] += values[..., row, :]
        return found

    def _markov(self, order: int) -> Credit:
        sums = self.sums(f"markov_{order}")
        shape = Steps.of(sums.key, order, self.tokens)
        found = chains.removal_effects(shape.chain(sums.base, self.method.nulls), shape.owned)
        value = _shared(found.effect, self.attributed)
        if len(shape.states) > REPLICATED_STATES or order > REPLICATED_ORDER:
            return Credit(value, self._none(), effects=found.effect, notes=("note_large_chain",))
        effects = [chains.removal_effects(shape.chain(made, self.method.nulls), shape.owned).effect
                   for made in sums.replicates]  # fmt: skip
        credits = [_shared(effect, whole) for effect, whole in zip(effects, self.attributed_replicates, strict=True)]
        return Credit(value, self._stacked(credits), effects=found.effect, effect_replicates=self._stacked(effects))

    def base_of(self, order: int) -> float:
        """P(conversion from start) of the fitted chain with nulls: conversions / journeys, or something is wrong."""
        sums = self.sums(f"markov_{order}")
        shape = Steps.of(sums.key, order, self.tokens)
        return float(chains.removal_effects(shape.chain(sums.base, True), []).base[0])

    def order(self) -> int:
        """The order whose chain, fitted to one half of the persons, predicts the other half best."""
        scores = self.likelihoods()
        return max(scores, key=lambda k: (scores[k], -k)) if scores else 1

    def likelihoods(self) -> dict[int, float]:
        """Held-out log-likelihood of each order, both halves tried on each other."""
        scores = {}
        for order in range(1, self.method.max_order + 1):
            whole, half = self.sums(f"markov_{order}"), self.sums(f"half_{order}")
            if not len(half.key):
                continue
            n = dict(zip(whole.key.tolist(), whole.base[:, :2].sum(axis=1).tolist(), strict=True))
            mine = dict(zip(half.key.tolist(), half.base[:, :2].sum(axis=1).tolist(), strict=True))
            a = _nested(mine, self.tokens)
            b = _nested({key: count - mine.get(key, 0.0) for key, count in n.items()}, self.tokens)
            scores[order] = chains.heldout(a, b, self.tokens + 2) + chains.heldout(b, a, self.tokens + 2)
        return scores

    def _rate(self) -> Credit:
        sums = self.sums("sets")
        notes = () if sums.base[:, 1].sum() > 0 else ("note_no_nulls",)
        if self.tokens > EXACT_PLAYERS:
            return self._rate_sampled(sums, notes)
        value = self._rates(sums.key, sums.base)
        if self.tokens > REPLICATED_PLAYERS:
            return Credit(value, self._none(), notes=(*notes, "note_many_players"))
        return Credit(value, self._stacked([self._rates(sums.key, made) for made in sums.replicates]), notes=notes)

    def _rates(self, masks: NDArray[np.int64], sums: Array) -> Array:
        journeys = sums[:, 0] + sums[:, 1]
        columns = [games.rate_game(masks, amount, journeys, self.tokens) for amount in _outcomes(sums).T]
        return np.asarray(np.column_stack(columns) * journeys.sum())

    def _rate_sampled(self, sums: Sums, notes: tuple[str, ...]) -> Credit:
        journeys = sums.base[:, 0] + sums.base[:, 1]
        pairs = max(self.method.permutations // 2, 2)
        found = [games.rate_game_sampled(sums.key, amount, journeys, self.tokens, pairs)
                 for amount in _outcomes(sums.base).T]  # fmt: skip
        value, error = (np.column_stack([getattr(f, name) for f in found]) for name in ("value", "std_error"))
        whole = journeys.sum()
        return Credit(value * whole, self._none(), std_error=error * whole, notes=(*notes, "note_sampled"))

    def _logistic(self) -> Credit:
        sums = self.sums("sets")
        inside = games.members(sums.key, self.tokens)
        notes = () if sums.base[:, 1].sum() > 0 else ("note_no_nulls",)
        value = _by_presence(inside, sums.base)
        if len(inside) * self.tokens**2 > REPLICATED_FITS:
            return Credit(value, self._none(), notes=(*notes, "note_many_players"))
        return Credit(value, self._stacked([_by_presence(inside, made) for made in sums.replicates]), notes=notes)

    def _none(self) -> Array:
        return np.zeros((0, self.tokens, len(self.compressed.outcomes)))

    def _stacked(self, values: Sequence[Array]) -> Array:
        return np.stack(values) if len(values) else self._none()


def _outcomes(sums: Array) -> Array:
    """The columns of the outcomes: all but the nulls."""
    return np.delete(sums, 1, axis=-1)


def _shared(effects: Array, totals: Array) -> Array:
    """Each outcome's total in proportion to the removal effects."""
    return np.column_stack([chains.shared(effects[:, k], float(totals[k])) for k in range(len(totals))])


def _by_presence(inside: NDArray[np.bool_], sums: Array) -> Array:
    """Each set's outcomes shared in proportion to what the logistic model loses without a channel (none below 0)."""
    model = presence.fit(inside, sums[:, 0], sums[:, 0] + sums[:, 1])
    lost = np.maximum(presence.lost(model, inside), 0.0)
    whole = lost.sum(axis=1, keepdims=True)
    equal = inside / np.maximum(inside.sum(axis=1, keepdims=True), 1)
    share = np.where(whole > 0, lost / np.where(whole > 0, whole, 1.0), equal)
    return np.asarray(share.T @ _outcomes(sums))


def _nested(counts: Mapping[int, float], tokens: int) -> dict[int, dict[int, float]]:
    """State → next → count."""
    found: dict[int, dict[int, float]] = {}
    for key, count in counts.items():
        found.setdefault(key // (tokens + 2), {})[key % (tokens + 2)] = count
    return found


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
        np.add.at(exits, self.origin[self.ending], _outcomes(sums)[self.ending])
        return chains.fit(start, moves, exits, leaving)
