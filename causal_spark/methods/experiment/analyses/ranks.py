"""The Mann–Whitney test of a metric's values in each segment, from the histograms that quantiles use."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from causal_spark.methods.experiment.analyses.found import Found
from causal_spark.methods.experiment.analyses.quantiles import Where
from causal_spark.methods.experiment.estimates import Contrast, Solver
from causal_spark.results import Estimate
from causal_spark.solve.intervals import Test
from causal_spark.solve.ranks import mann_whitney
from causal_spark.statistics.histogram import Histogram
from causal_spark.words import say

METHOD, TERM = "mann_whitney", "superiority"


def ranks(solver: Solver, rows: Sequence[Estimate]) -> Found:
    """Rows ``superiority``: P(treatment > control) + ½P(equal), which is ½ if the arms are alike."""
    made = []
    for where in (Where(solver, segment, block) for segment in solver.cells.segments() for block in solver.blocks):
        if where.block.metric.ranks:
            arms = where.arms
            made += [_row(where, contrast, arms) for contrast in solver.contrasts()]
    return Found(tuple(made))


def _row(where: Where, contrast: Contrast, arms: Mapping[str, Histogram]) -> Estimate:
    solver, segment, block = where.solver, where.segment, where.block
    few = [arm for arm in (contrast.treatment, contrast.control) if arm not in arms or arms[arm].n < 2]
    if where.absent or few:
        note = where.absent or say("note_few_units", solver.language, arms=", ".join(few))
        return replace(solver.row(METHOD, segment, block, contrast, TERM, None, math.nan, note), estimand=TERM)
    t, c = arms[contrast.treatment], arms[contrast.control]
    found = mann_whitney(t, c, solver.method.alpha, solver.method.alternative)
    test = Test(found.superiority, found.std_error, found.z, math.inf, found.p_value, found.low, found.high)
    notes = [say("note_no_spread", solver.language)] if math.isnan(found.p_value) else []
    if found.unresolved > 0:
        notes.append(say("note_unresolved", solver.language, share=f"{found.unresolved / 2:.2g}"))
    row = solver.row(METHOD, segment, block, contrast, TERM, test, t.n + c.n, " ".join(notes))
    return replace(row, estimand=TERM)
