"""Estimates of an experiment from its compressed data: no Spark, no scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from causal_spark.methods.experiment import analyses, trust
from causal_spark.methods.experiment.analyses.sequential import LABELS
from causal_spark.methods.experiment.checks import Checks
from causal_spark.methods.experiment.compressed import Compressed
from causal_spark.methods.experiment.estimates import Solver
from causal_spark.methods.experiment.families import corrected, corrected_beside
from causal_spark.methods.experiment.vocabulary import Experiment
from causal_spark.results import Check, Estimate, Result, checks_frame, estimates_frame
from causal_spark.words import say


def solve(method: Experiment, compressed: Compressed, language: str = "en") -> Result:
    """Everything the experiment answers: trust first, then estimates for each segment, metric and contrast.

    Raises GateError where the compressed data cannot be used at all (unknown labels, an arm without units, NaN).
    """
    checks = Checks(language)
    checks.found = list(compressed.checks)
    solver = Solver(method, compressed, checks)
    trust.check_arms(solver.cells, checks)
    trust.check_spread(solver.cells, checks)
    ratio = trust.sample_ratio(solver.cells, checks)
    before = trust.pre_period(solver.cells, checks)
    rows = [row for segment in solver.cells.segments() for row in solver.segment(segment)]
    rows = _one_look(method, corrected(method, compressed, rows), language)
    further = [analysis(solver, rows) for analysis in analyses.ANALYSES]
    beside = corrected_beside(method, compressed, [row for found in further for row in found.rows])
    beside = _one_look(method, beside, language)
    trusted = not any(check.verdict == "invalid" for check in checks.found)
    tables = {
        "checks": checks_frame(checks.found),
        "metrics": pd.DataFrame(solver.metrics()),
        "srm": pd.DataFrame(ratio),
        "arms": pd.DataFrame(solver.arms()),
        "nulls": pd.DataFrame(solver.nulls()),
        "cuped": pd.DataFrame(solver.adjustments()),
        "pre_period": pd.DataFrame(before),
        "by_day": pd.DataFrame(solver.days()),
        **{name: table for found in further for name, table in found.tables.items()},
    }
    return Result(
        estimates=estimates_frame([*rows, *beside]),
        diagnostics={name: table for name, table in tables.items() if len(table)},
        statistics={"moments": compressed.moments},
        notes=tuple(_notes(checks.found)),
        trusted=trusted,
    )


def _notes(checks: Sequence[Check]) -> list[str]:
    return [f"{check.code}: {check.message}" for check in checks if check.verdict != "pass"]


def _one_look(method: Experiment, rows: list[Estimate], language: str) -> list[Estimate]:
    """Under a plan of several looks, all rows but those of the plan say that they are for one look only."""
    if method.sequential is None:
        return rows
    note = say("note_one_look", language)
    return [r if r.method in LABELS.values() else replace(r, note=f"{r.note} {note}".strip()) for r in rows]
