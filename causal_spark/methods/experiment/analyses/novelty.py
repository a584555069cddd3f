"""Does the effect change with the days since exposure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from causal_spark.methods.experiment import plan
from causal_spark.methods.experiment.analyses.found import Found
from causal_spark.methods.experiment.estimates import Contrast, Solver
from causal_spark.methods.experiment.trust import p_text
from causal_spark.results import Estimate
from causal_spark.solve.multiplicity import adjust
from causal_spark.solve.trends import Novelty
from causal_spark.solve.trends import novelty as trend
from causal_spark.statistics import Grouped, Moments
from causal_spark.statistics.grouped import BLOCK
from causal_spark.words import say


def novelty(solver: Solver, rows: Sequence[Estimate]) -> Found:
    """The table ``novelty``: slope of the effect over stretches of days, late against early, and one joint test."""
    data = solver.compressed.more.get("novelty")
    if data is None:
        return Found()
    cells = Grouped.from_dict(data)
    found: list[dict[str, Any]] = []
    for block in solver.blocks:
        arms = _arms(solver, cells, block.metric.name)
        for contrast in solver.contrasts():
            parts = [arms[arm] for arm in (contrast.treatment, contrast.control) if arm in arms and arms[arm].n > 1]
            if len(parts) == 2:
                test = trend(parts[0], parts[1], parts[0].names, solver.method.alpha)
                found.append(_row(solver, block, contrast, test, parts[0].n + parts[1].n))
    _judge(solver, found)
    return Found(tables={"novelty": pd.DataFrame(found)})


def _arms(solver: Solver, cells: Grouped, block: str) -> dict[str, Moments]:
    arm = solver.compressed.facts["arm"]
    return {str(named[arm]): part for named, part in cells.where(**{BLOCK: block})}


def _row(solver: Solver, block: plan.Block, contrast: Contrast, test: Novelty, n: float) -> dict[str, Any]:
    """``slope`` and ``late_early`` are of the effect on a stretch of ``stretch_days`` days."""
    (start, stop), *_ = plan.stretches(solver.method.by_day or 0)
    statistic, dof, p = test.constant
    return {"outcome": block.metric.name, "contrast": str(contrast), "stretches": len(test.days),
            "stretch_days": stop - start, "mean_effect": float(np.mean([day.estimate for day in test.days])),
            "slope": test.slope.estimate, "std_error": test.slope.std_error, "conf_low": test.slope.low,
            "conf_high": test.slope.high, "p_value": test.slope.p_value, "p_adjusted": math.nan,
            "late_early": test.late_early.estimate, "late_early_p": test.late_early.p_value,
            "statistic": statistic, "dof": dof, "constant_p": p, "n": n, "flagged": False}  # fmt: skip


def _judge(solver: Solver, found: Sequence[dict[str, Any]]) -> None:
    """Slopes corrected over all metrics and contrasts; a slope against the effect is a fading one."""
    alpha = solver.method.srm_alpha
    for row, p in zip(found, adjust([row["p_value"] for row in found], "holm"), strict=True):
        row |= {"p_adjusted": float(p), "flagged": bool(p < alpha)}
        if row["flagged"]:
            way = "trend_fades" if row["slope"] * row["mean_effect"] < 0 else "trend_grows"
            solver.checks.add("NOVELTY", "warn", column=row["outcome"], threshold=alpha, contrast=row["contrast"],
                              way=say(way, solver.language), p=p_text(row["p_adjusted"]))  # fmt: skip
    if found and not any(row["flagged"] for row in found):
        solver.checks.add("NOVELTY", "pass", threshold=alpha, tests=len(found))
