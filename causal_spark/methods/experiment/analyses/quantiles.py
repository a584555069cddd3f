"""Effects on quantiles: difference and lift of each quantile asked for, in each segment, from histograms by arm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from causal_spark.errors import StatisticError
from causal_spark.methods.experiment.analyses.found import Found
from causal_spark.methods.experiment.analyses.within import absent, within
from causal_spark.methods.experiment.estimates import Contrast, Solver
from causal_spark.methods.experiment.plan import Block
from causal_spark.results import Estimate
from causal_spark.solve.intervals import Test
from causal_spark.solve.quantiles import Quantile, quantile, quantile_difference, quantile_lift, share_variance
from causal_spark.statistics import Moments
from causal_spark.statistics.histogram import Histogram
from causal_spark.words import say

METHOD, ESTIMAND = "quantile", "QTE"


@dataclass(frozen=True)
class Part:
    """The quantile of one arm, or the reason why there is none."""

    found: Quantile | None
    reason: str = ""


@dataclass(frozen=True)
class Where:
    """What the rows of one quantile share: the solver, the segment and the metric."""

    solver: Solver
    segment: str
    block: Block

    @property
    def data(self) -> Mapping[str, Any]:
        """The histograms of the metric, and of clusters the moments of their counts."""
        found: Mapping[str, Any] = self.solver.compressed.more.get("histograms", {}).get(self.block.metric.name, {})
        return found

    @property
    def arms(self) -> dict[str, Histogram]:
        """The histograms by arm; empty if there are none."""
        arms = within(self.data, self.segment).get("arms", {})
        return {arm: Histogram.from_dict(data) for arm, data in arms.items()}

    @property
    def absent(self) -> str:
        """Why this segment has no histograms; empty if it has."""
        return absent(self.solver, self.data, self.segment, "note_segment_cells")


def quantiles(solver: Solver, rows: Sequence[Estimate]) -> Found:
    """Rows ``p90 difference`` and ``p90 lift``, and the table ``quantiles`` of each arm."""
    made: list[Estimate] = []
    table: list[dict[str, Any]] = []
    for where in (Where(solver, segment, block) for segment in solver.cells.segments() for block in solver.blocks):
        wanted = where.block.metric.quantiles
        arms = where.arms if wanted else {}
        for place, q in enumerate(wanted):
            parts = {arm: _part(where, h, q, place, arm) for arm, h in arms.items()}
            table += [_row(where, arm, q, part.found) for arm, part in parts.items() if part.found]
            for contrast in solver.contrasts():
                made += _effects(where, contrast, q, parts)
    return Found(tuple(made), {"quantiles": pd.DataFrame(table)} if table else {})


def label(q: float, term: str) -> str:
    """``p99.9 lift``."""
    return f"p{100 * q:.10g} {term}"


def _part(where: Where, h: Histogram, q: float, place: int, arm: str) -> Part:
    solver, variance = where.solver, None
    if solver.clustered:
        data = within(where.data, where.segment).get("clusters", {}).get(arm)
        if data is not None:
            clusters = Moments.from_dict(data)
            variance = share_variance(clusters, clusters.names[1 + place], clusters.names[0])
        if variance is None or math.isnan(variance):
            return Part(None, say("note_few_units", solver.language, arms=arm))
    try:
        return Part(quantile(h, q, solver.method.alpha, variance))
    except StatisticError as error:
        return Part(None, error.text(solver.language))


def _effects(where: Where, contrast: Contrast, q: float, parts: Mapping[str, Part]) -> list[Estimate]:
    solver = where.solver
    if where.absent:
        return _rows(where, contrast, q, None, None, math.nan, [where.absent])
    few = [arm for arm in (contrast.treatment, contrast.control) if arm not in parts]
    if few:
        reason = say("note_few_units", solver.language, arms=", ".join(few))
        return _rows(where, contrast, q, None, None, math.nan, [reason])
    pair = parts[contrast.treatment], parts[contrast.control]
    t, c = (part.found for part in pair)
    if t is None or c is None:
        reason = next(part.reason for part in pair if part.reason)
        return _rows(where, contrast, q, None, None, math.nan, [reason])
    alpha, side = solver.method.alpha, solver.method.alternative
    absolute, relative = quantile_difference(t, c, alpha, side), quantile_lift(t, c, alpha, side)
    notes = []
    few = [arm for arm, one in ((contrast.treatment, t), (contrast.control, c)) if math.isnan(one.low)]
    if few:
        notes.append(say("note_quantile_few_clusters", solver.language, arms=", ".join(few)))
    elif math.isnan(absolute.p_value):
        notes.append(say("note_quantile_tied", solver.language))
    resolution = max(t.resolution, c.resolution)
    if resolution > 0:
        notes.append(say("note_resolution", solver.language, resolution=f"{resolution:.3g}"))
    return _rows(where, contrast, q, absolute, relative, t.n + c.n, notes)


def _rows(where: Where, contrast: Contrast, q: float, absolute: Test | None, relative: Test | None, n: float,
          notes: Sequence[str]) -> list[Estimate]:  # fmt: skip
    lifted = list(notes)
    if relative is not None and math.isnan(relative.low) and absolute is not None and not math.isnan(absolute.p_value):
        lifted.append(say("note_lift_unbounded", where.solver.language))
    rows = [
        where.solver.row(METHOD, where.segment, where.block, contrast, label(q, term), test, n, " ".join(said))
        for term, test, said in (("difference", absolute, notes), ("lift", relative, lifted))
    ]
    return [replace(row, estimand=ESTIMAND) for row in rows]


def _row(where: Where, arm: str, q: float, found: Quantile) -> dict[str, Any]:
    return {"segment": where.segment, "outcome": where.block.metric.name, "arm": arm, "quantile": q,
            "estimate": found.estimate, "std_error": found.std_error, "conf_low": found.low, "conf_high": found.high,
            "n": found.n, "resolution": found.resolution}  # fmt: skip
