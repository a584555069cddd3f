"""Credit of single touches: the shares of the rules, and the credit of other models spread over a channel's touches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from causal_spark.methods.attribution.compressed import Compressed
from causal_spark.methods.attribution.credits import Array, Segment
from causal_spark.methods.attribution.entries import parts_of, rule_weights, whole_totals
from causal_spark.methods.attribution.journeys import Journeys, Whole
from causal_spark.methods.attribution.plan import Plan
from causal_spark.methods.attribution.vocabulary import RULES, SPREAD, Attribution
from causal_spark.spark.journey_sums import Credited


@dataclass(frozen=True, eq=False)
class Shares:
    """How each model shares a conversion: by a rule, times a factor for the touch's channel if the model is none.

    ``rules``: model → rule. ``factors``: model → (channels, outcomes).
    """

    rules: Mapping[str, str]
    factors: Mapping[str, Array]


def shares(method: Attribution, compressed: Compressed) -> Shares:
    """The rule of each model, and what its channels' credit is to their linear credit (0 where that is 0).

    So a touch of channel c gets credit(c) · its linear credit / linear credit(c): the touches of a channel sum to the
    channel's credit, but those of a journey need not sum to its conversion.
    """
    cells = {name: replace(part, replicates=part.replicates[:, :0]) for name, part in compressed.cells.items()}
    segment = Segment(method, replace(compressed, cells=cells, replicates=0), 0)
    rules: dict[str, str] = {model: model if model in RULES else SPREAD for model in method.models}
    if "shapley_ordered" in rules:
        rules["shapley_ordered"] = "shapley"
    factors: dict[str, Array] = {}
    for model in (model for model, rule in rules.items() if rule == SPREAD and model != SPREAD):
        linear = segment.credit(SPREAD).value
        factors[model] = np.divide(segment.credit(model).value, linear, out=np.zeros_like(linear), where=linear != 0)
    return Shares(rules, factors)


def credited(made: Journeys, rows: Whole, wanted: Plan, by: Shares) -> Credited:
    """The touches of a bucket's converting journeys that get credit; ``rows``: of each person, its row."""
    won = made.chosen((made.conversions > 0) & (made.sizes > 0))
    journey = won.journey
    scales = np.array([wanted.conversion_scale, *wanted.amount_scales])
    found = []
    for number, (model, rule) in enumerate(by.rules.items()):
        parts = parts_of(rule, rule_weights(rule, won, wanted), won, whole_totals(won, wanted)) / scales
        if model in by.factors:
            parts = parts * by.factors[model][won.codes]
        some = np.flatnonzero(parts.any(axis=1))
        found.append((some, np.full(len(some), number), parts[some]))
    touch, model_number = (np.concatenate([part[i] for part in found]) for i in range(2))
    end = won.ends[journey[touch]]
    return Credited(rows[won.person[journey[touch]]], won.times[touch], won.codes[touch], end, model_number,
                    np.concatenate([part[2] for part in found]))  # fmt: skip
