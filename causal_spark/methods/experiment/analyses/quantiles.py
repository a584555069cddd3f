"""Effects on quantiles: difference and lift of each quantile asked for, over everyone, from histograms by arm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from causal_spark.errors import StatisticError
from causal_spark.methods.experiment.analyses.found import Found
from causal_spark.methods.experiment.estimates import Contrast, Solver
from causal_spark.methods.experiment.plan import Block
from causal_spark.results import Estimate
from causal_spark.solve.intervals import Test
from causal_spark.solve.lifts import lift
from causal_spark.solve.means import difference
from causal_spark.solve.quantiles import Quantile, quantile, share_variance
from causal_spark.statistics import Moments
from causal_spark.statistics.histogram import Histogram
from causal_spark.words import say

METHOD, ESTIMAND = "quantile", "QTE"


@dataclass(frozen=True)
class Part:
    """The quantile of one arm, or the reason why there is none."""

    found: Quantile | None
    reason: str = ""


def histograms(solver: Solver, metric: str) -> dict[str, Histogram]:
    """The histograms of a metric by arm; empty if none was asked for."""
    arms = solver.compressed.more.get("histograms", {}).get(metric, {}).get("arms", {})
    return {arm: Histogram.from_dict(data) for arm, data in arms.items()}


def quantiles(solver: Solver, rows: Sequence[Estimate]) -> Found:
    """Rows ``p90 difference`` and ``p90 lift``, and the table ``quantiles`` of each arm."""
    made: list[Estimate] = []
    table: list[dict[str, Any]] = []
    for block in solver.blocks:
        if not block.metric.quantiles:
            continue
        arms = histograms(solver, block.metric.name)
        for place, q in enumerate(block.metric.quantiles):
            parts = {arm: _part(solver, block, h, q, place, arm) for arm, h in arms.items()}
            table += [_row(block, arm, q, part.found) for arm, part in parts.items() if part.found]
            for contrast in solver.contrasts():
                made += _effects(solver, block, contrast, q, parts)
    return Found(tuple(made), {"quantiles": pd.DataFrame(table)} if table else {})


def label(q: float, term: str) -> str:
    """``p99.9 lift``."""
    return f"p{100 * q:.10g} {term}"


def _part(solver: Solver, block: Block, h: Histogram, q: float, place: int, arm: str) -> Part:
    variance = None
    if solver.clustered:
        clusters = Moments.from_dict(solver.compressed.more["histograms"][block.metric.name]["clusters"][arm])
        variance = share_variance(clusters, clusters.names[1 + place], clusters.names[0])
        if math.isnan(variance):
            return Part(None, say("note_few_units", solver.language, arms=arm))
    try:
        return Part(quantile(h, q, solver.method.alpha, variance))
    except StatisticError as error:
        return Part(None, error.text(solver.language))


def _effects(solver: Solver, block: Block, contrast: Contrast, q: float, parts: Mapping[str, Part]) -> list[Estimate]:
    few = [arm for arm in (contrast.treatment, contrast.control) if arm not in parts]
    if few:
        reason = say("note_few_units", solver.language, arms=", ".join(few))
        return _rows(solver, block, contrast, q, None, None, math.nan, [reason])
    pair = parts[contrast.treatment], parts[contrast.control]
    t, c = (part.found for part in pair)
    if t is None or c is None:
        reason = next(part.reason for part in pair if part.reason)
        return _rows(solver, block, contrast, q, None, None, math.nan, [reason])
    alpha, side = solver.method.alpha, solver.method.alternative
    absolute = difference(t.values, c.values, alpha, side, math.inf)
    relative = lift(t.values, c.values, solver.method.lift, alpha, side, math.inf)
    notes = []
    if math.isnan(absolute.p_value):
        notes.append(say("note_quantile_tied", solver.language))
    resolution = max(t.resolution, c.resolution)
    if resolution > 0:
        notes.append(say("note_resolution", solver.language, resolution=f"{resolution:.3g}"))
    return _rows(solver, block, contrast, q, absolute, relative, t.n + c.n, notes)


def _rows(solver: Solver, block: Block, contrast: Contrast, q: float, absolute: Test | None, relative: Test | None,
          n: float, notes: Sequence[str]) -> list[Estimate]:  # fmt: skip
    lifted = list(notes)
    if relative is not None and math.isnan(relative.low) and absolute is not None and not math.isnan(absolute.p_value):
        lifted.append(say("note_lift_unbounded", solver.language))
    rows = [
        solver.row(METHOD, "all", block, contrast, label(q, term), test, n, " ".join(said))
        for term, test, said in (("difference", absolute, notes), ("lift", relative, lifted))
    ]
    return [replace(row, estimand=ESTIMAND) for row in rows]


def _row(block: Block, arm: str, q: float, found: Quantile) -> dict[str, Any]:
    return {"outcome": block.metric.name, "arm": arm, "quantile": q, "estimate": found.estimate,
            "std_error": found.std_error, "conf_low": found.low, "conf_high": found.high, "n": found.n,
            "resolution": found.resolution}  # fmt: skip
