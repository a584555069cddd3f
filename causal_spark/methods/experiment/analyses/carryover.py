"""Does the arm of the period before still act in a switchback, and for how long."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise
from typing import Any

import pandas as pd

from causal_spark.methods.experiment import plan
from causal_spark.methods.experiment.analyses.found import Found
from causal_spark.methods.experiment.estimates import Contrast, Solver
from causal_spark.methods.experiment.trust import p_text
from causal_spark.results import Estimate
from causal_spark.solve.carryover import Cells, carry_over
from causal_spark.solve.multiplicity import adjust
from causal_spark.statistics import Grouped
from causal_spark.words import say

Row = dict[str, Any]


def carryover(solver: Solver, rows: Sequence[Estimate]) -> Found:
    """The table ``carryover``: by stretch of the periods the effect, and what the arm before leaves over."""
    data = solver.compressed.more.get("carryover")
    if data is None:
        return Found()
    cells = Grouped.from_dict(data["cells"])
    found = [
        row
        for block in solver.blocks
        for contrast in solver.contrasts()
        for row in _rows(solver, block, contrast, _cells(cells, block.metric.name), data["minutes"])
    ]
    _judge(solver, found)
    return Found(tables={"carryover": pd.DataFrame(found)})


def _cells(cells: Grouped, block: str) -> Cells:
    """By (arm, arm before), the two keys of the pass."""
    return {(str(key[0]), str(key[1])): part for key, part in cells.cells.items() if key[-1] == block}


def _rows(
    solver: Solver, block: plan.Block, contrast: Contrast, cells: Cells, minutes: Sequence[float]
) -> Iterable[Row]:
    for i, (start, stop) in enumerate(pairwise(minutes)):
        found = carry_over(cells, contrast.treatment, contrast.control, block.stretch_form(i), solver.method.alpha)
        yield {"outcome": block.metric.name, "contrast": str(contrast), "from_minutes": start, "to_minutes": stop,
               "effect": found.effect.estimate, "effect_std_error": found.effect.std_error,
               "lag": found.lag.estimate, "std_error": found.lag.std_error, "conf_low": found.lag.low,
               "conf_high": found.lag.high, "p_value": found.lag.p_value, "p_adjusted": math.nan,
               "n": found.cells, "flagged": False}  # fmt: skip


def _judge(solver: Solver, found: Sequence[Row]) -> None:
    """Lags corrected over all metrics, contrasts and stretches; the last stretch that is flagged says how long."""
    alpha, doubt = solver.method.srm_alpha, False
    for row, p in zip(found, adjust([row["p_value"] for row in found], "holm"), strict=True):
        row |= {"p_adjusted": float(p), "flagged": bool(p < alpha)}
    for (outcome, contrast), some in groupby(found, lambda row: (row["outcome"], row["contrast"])):
        rows = list(some)
        flagged = [row for row in rows if row["flagged"]]
        if all(math.isnan(row["p_value"]) for row in rows):
            doubt = True
            solver.checks.add("CARRY_OVER_UNKNOWN", "warn", column=outcome, contrast=contrast)
        elif flagged:
            doubt, minutes = True, f"{flagged[-1]['to_minutes']:g}"
            todo = "carry_over_to_the_end" if flagged[-1] is rows[-1] else "carry_over_burn_in"
            solver.checks.add("CARRY_OVER", "warn", column=outcome, threshold=alpha, contrast=contrast,
                              p=p_text(min(row["p_adjusted"] for row in flagged)), minutes=minutes,
                              todo=say(todo, solver.language, minutes=minutes))  # fmt: skip
    if found and not doubt:
        solver.checks.add("CARRY_OVER", "pass", threshold=alpha, tests=len(found))
