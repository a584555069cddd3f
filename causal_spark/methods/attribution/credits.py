"""Credits of every model from the sums of a segment: the data and each bootstrap replicate alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from causal_spark.methods.attribution import markov
from causal_spark.methods.attribution.compressed import Compressed
from causal_spark.methods.attribution.sums import COARSE
from causal_spark.methods.attribution.vocabulary import HAZARD, RULES, Attribution
from causal_spark.solve import chains, games, hazards, presence
from causal_spark.statistics.cells import Cells

Array = NDArray[np.float64]
# Of a model that is slow to solve only so many replicates are as these operations allow, but ten at least.
WORK, LEAST = 4e8, 10
FIT_STEPS, EM_STEPS = 10, 200
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
        slow = {"shapley_rate": self._rate, "logistic": self._logistic, HAZARD: self._hazard}
        return slow[model]()

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
        shape = markov.Steps.of(sums.key, order, self.tokens)
        found = markov.effects(shape, order, sums.base, sums.replicates, self.method.nulls)
        drawn = self.attributed_replicates[: len(found.replicates)]
        credits = [_shared(effect, whole) for effect, whole in zip(found.replicates, drawn, strict=True)]
        notes = ("note_linear_chain",) if found.linear and credits else ()
        return Credit(_shared(found.value, self.attributed), self._stacked(credits), effects=found.value,
                      effect_replicates=found.replicates, notes=notes)  # fmt: skip

    def base_of(self, order: int) -> float:
        """P(conversion from start) of the fitted chain with nulls: conversions / journeys, or something is wrong."""
        sums = self.sums(f"markov_{order}")
        shape = markov.Steps.of(sums.key, order, self.tokens)
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
        made = sums.replicates[: self._some(self.tokens * 2.0**self.tokens * len(self.compressed.outcomes))]
        replicates = [self._rates(sums.key, each) for each in made]
        return Credit(self._rates(sums.key, sums.base), self._stacked(replicates), notes=notes)

    def _some(self, work: float) -> int:
        """How many replicates are solved, of ``work`` operations each."""
        return max(LEAST, int(WORK / max(work, 1.0)))

    def _rates(self, masks: NDArray[np.int64], sums: Array) -> Array:
        journeys = sums[:, 0] + sums[:, 1]
        columns = [games.rate_game(masks, amount, journeys, self.tokens) for amount in _outcomes(sums).T]
        return np.asarray(np.column_stack(columns) * journeys.sum())

    def _rate_sampled(self, sums: Sums, notes: tuple[str, ...]) -> Credit:
        pairs = max(self.method.permutations // 2, 2)
        k = len(self.compressed.outcomes)
        many = self._some(2.0 * pairs * len(sums.key) * k)
        every = np.moveaxis(np.concatenate([sums.base[None], sums.replicates[:many]]), 0, -1)
        journeys = every[:, 0] + every[:, 1]
        found = [games.rate_game_sampled(sums.key, amount, journeys, self.tokens, pairs)
                 for amount in np.moveaxis(np.delete(every, 1, axis=1), 1, 0)]  # fmt: skip
        values = np.stack([part.value for part in found], axis=1) * journeys.sum(axis=0)
        error = np.stack([part.std_error[:, 0] for part in found], axis=1) * journeys[:, 0].sum()
        if len(sums.replicates) > 1:
            error = np.hypot(error, values[..., 1:].std(axis=-1, ddof=1))
            notes = (*notes, "note_sampled_both")
        else:
            notes = (*notes, "note_sampled")
        return Credit(values[..., 0], self._none(), std_error=error, notes=notes)

    def _logistic(self) -> Credit:
        sums = self.sums("sets")
        inside = games.members(sums.key, self.tokens)
        notes = () if sums.base[:, 1].sum() > 0 else ("note_no_nulls",)
        many = self._some(FIT_STEPS * len(inside) * self.tokens**2)
        replicates = [_by_presence(inside, made) for made in sums.replicates[:many]]
        return Credit(_by_presence(inside, sums.base), self._stacked(replicates), notes=notes)

    def _hazard(self) -> Credit:
        """Each set's outcomes shared by the channels' rates; the time at risk stands where other sums have nulls."""
        sums = self.sums("hazard")
        inside = games.members(sums.key, self.tokens)
        rates = hazards.additive(inside, sums.base[:, 0], sums.base[:, 1])
        some = sums.replicates[: self._some(EM_STEPS * 2.0 * len(inside) * self.tokens)]
        made = hazards.additive(inside, some[..., 0], some[..., 1], start=rates, tolerance=1e-7)
        credits = [hazards.shares(inside, each).T @ _outcomes(drawn) for each, drawn in zip(made, some, strict=True)]
        value = hazards.shares(inside, rates).T @ _outcomes(sums.base)
        return Credit(np.asarray(value), self._stacked(credits), extra={"rates": rates, "rate_replicates": made})

    def _none(self) -> Array:
        return np.zeros((0, self.tokens, len(self.compressed.outcomes)))

    def _stacked(self, values: Sequence[Array]) -> Array:
        return np.stack(values) if len(values) else self._none()


def _outcomes(sums: Array) -> Array:
    """The columns of the outcomes: all but the nulls."""
    return np.delete(sums, 1, axis=-1)


def _shared(effects: Array, totals: Array) -> Array:
    """Each outcome's total in proportion to the removal effects; nothing of nothing."""
    none = np.zeros(len(effects))
    return np.column_stack([chains.shared(effects[:, k], float(whole)) if whole else none
                            for k, whole in enumerate(totals)])  # fmt: skip


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
