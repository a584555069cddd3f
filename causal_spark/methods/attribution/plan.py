"""Which statistics a run of attribution needs, and in which whole numbers its sums are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from causal_spark.errors import StatisticError
from causal_spark.methods.attribution.journeys import DAY, OFTEN
from causal_spark.methods.attribution.vocabulary import HAZARD, MAX_SET, PRESENCE, SETS, Attribution
from causal_spark.spark.compress import MAX_ROWS

# Sums of credit fill at most so many bits.
BITS, FINEST = 58, 44
# Statistics without replicates: descriptions.
UNREPLICATED = ("length", "lag", "half")
# Chains of a higher order than this have so many cells that their replicates are fewer: so many numbers in all, but
# ten replicates at least.
REPLICATED_ORDER = 2
NUMBERS, LEAST = 6_000_000, 10


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
        cells: int = min((self.tokens + 1) ** int(stat[-1]) * (self.tokens + 2), self.cells)
        return min(self.replicates, max(NUMBERS // (cells * (1 + self.outcomes)), LEAST))


def plan(method: Attribution, direct: tuple[int, ...], tokens: int, conversions: float, totals: Sequence[float],
         events: int = 1 << 40, as_of: int = 0) -> Plan:  # fmt: skip
    """``conversions`` and ``totals``: bounds of what all conversions and the absolute amounts sum to; ``events``: of
    the rows, over all segments (more than ``MAX_ROWS`` cells are refused where they meet); ``as_of``: the end of the
    data.

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
        cells=min(max(2 * events, 1), MAX_ROWS),
        window=round(method.reach_days * DAY),
        as_of=as_of,
    )


def power_of_two(bound: float) -> float:
    """The scale at which a sum of ``bound`` still fits."""
    return float(2.0 ** min(FINEST, BITS - int(np.ceil(np.log2(max(bound, 1e-9))))))
