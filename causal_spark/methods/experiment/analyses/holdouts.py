"""All tested arms together against each arm that was held out: what everything launched since did as a whole."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from causal_spark.methods.experiment import plan
from causal_spark.methods.experiment.adjusted import Adjusted
from causal_spark.methods.experiment.analyses.found import Found
from causal_spark.methods.experiment.estimates import Contrast, Solver
from causal_spark.methods.experiment.trust import p_text
from causal_spark.results import Estimate
from causal_spark.solve.multiplicity import adjust
from causal_spark.solve.proportions import shares_test
from causal_spark.statistics import Moments


def holdouts(solver: Solver, rows: Sequence[Estimate]) -> Found:
    """Rows ``holdout difference`` and ``holdout lift``, CUPED and its twin where a metric has covariates."""
    if not solver.method.holdout_effect:
        return Found()
    launched = " + ".join(solver.compressed.facts["arms"])
    found = []
    for holdout in solver.method.holdouts:
        _check_size(solver, holdout)
        for block in solver.blocks:
            arms = _merged(solver, block, holdout, launched)
            made = solver.compare("all", block, Contrast(launched, holdout), arms, _adjusted(solver, block, arms))
            found += [replace(row, term=f"holdout {row.term}") for row in made]
    return Found(tuple(_corrected(solver, found)))


def _merged(solver: Solver, block: plan.Block, holdout: str, launched: str) -> dict[str, Moments]:
    """Two groups: the tested arms as one, and the holdout if it has units."""
    tested = list(solver.cells.arms("all", block.metric.name).values())
    apart = {name: part for name, part in solver.cells.holdouts(block.metric.name).items() if name == holdout}
    return {launched: sum(tested[1:], tested[0]), **apart}


def _adjusted(solver: Solver, block: plan.Block, arms: Mapping[str, Moments]) -> Adjusted | None:
    """CUPED on the covariates; strata, folds and leverages are of the tested arms only."""
    found = solver.adjustment(arms, block) if len(arms) == 2 else None
    return None if found is None else Adjusted("cuped", found.groups)


def _check_size(solver: Solver, holdout: str) -> None:
    """The holdout against its planned share, if one was planned."""
    shares, counts = solver.method.shares or {}, solver.cells.counts()
    share = shares.get(holdout, 0.0)
    if not 0 < share < 1:
        return
    tested = sum(counts.get(arm, 0) for arm in solver.compressed.facts["arms"])
    others = sum(shares[arm] for arm in solver.compressed.facts["arms"])
    n = counts.get(holdout, 0)
    p = shares_test([tested, n], [others, share]).p_value
    verdict = "warn" if p < solver.method.srm_alpha else "pass"
    planned = share / (share + others)
    solver.checks.add("HOLDOUT_RATIO", verdict, column=holdout, count=n, share=n / max(n + tested, 1),
                      threshold=solver.method.srm_alpha, p=p_text(p), planned=f"{planned:.2%}")  # fmt: skip


def _corrected(solver: Solver, rows: Sequence[Estimate]) -> list[Estimate]:
    """p adjusted over the success metrics and holdouts; twins are no tests, a lift shares the p of its difference."""
    success = {metric.name for metric in solver.compressed.metrics if metric.role == "success"}
    cuped = {(row.outcome, row.contrast) for row in rows if row.method == "cuped"}

    def counts(row: Estimate) -> bool:
        return row.outcome in success and (row.method == "cuped") == ((row.outcome, row.contrast) in cuped)

    family = [row for row in rows if row.term == "holdout difference" and counts(row)]
    values = adjust([row.p_value for row in family], solver.method.correction)
    adjusted = {(row.outcome, row.contrast): float(p) for row, p in zip(family, values, strict=True)}
    return [
        replace(row, p_adjusted=adjusted.get((row.outcome, row.contrast), math.nan)) if counts(row) else row
        for row in rows
    ]
