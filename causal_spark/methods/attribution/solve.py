"""Credits, intervals, returns and calibration from the compressed sums: no Spark, no scan."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from causal_spark.methods.attribution import periods, tables
from causal_spark.methods.attribution.compressed import Compressed
from causal_spark.methods.attribution.credits import Array, Credit, Segment
from causal_spark.methods.attribution.vocabulary import Attribution
from causal_spark.methods.findings import Findings
from causal_spark.results import Estimate, Result, checks_frame, estimates_frame
from causal_spark.solve.intervals import critical
from causal_spark.words import say

UNATTRIBUTED = "(unattributed)"
FEW = 100
# The only model whose credit may be negative.
SIGNED = ("shapley_rate",)


def solve(method: Attribution, compressed: Compressed, language: str = "en") -> Result:
    """Credits of every model, segment and outcome; then what they mean for cost and against experiments.

    Raises StatisticError for a singular chain or a model beyond its size.
    """
    found = Findings(language)
    found.found = list(compressed.checks)
    rows: list[Estimate] = []
    solved: dict[str, Credit] = {}
    for number, name in enumerate(("all", *compressed.segments)):
        segment = Segment(method, compressed, number)
        for model in method.models:
            credit = segment.credit(model)
            rows += _estimates(method, compressed, segment, name, model, credit, language)
            if number == 0:
                solved[model] = credit
                _sum_rule(model, segment, credit)
        if number == 0:
            _check(method, compressed, segment, found)
    whole = Segment(method, compressed, 0)
    diagnostics = tables.diagnostics(method, compressed, whole, solved)
    estimates = estimates_frame(rows)
    for name, table in (("returns", tables.returns(compressed, estimates)),
                        ("calibration", tables.calibration(method, compressed, estimates)),
                        ("agreement", tables.agreement(estimates)),
                        ("credits_by_period", periods.credits_by_period(method, compressed, estimates))):  # fmt: skip
        diagnostics[name] = pd.DataFrame(table)
    incremental = [*tables.incremental(method, compressed, estimates, say("note_calibrated", language))]
    diagnostics = {"checks": checks_frame(found.found), **diagnostics}
    return Result(
        estimates=estimates_frame([*rows, *incremental]),
        diagnostics={name: table for name, table in diagnostics.items() if len(table)},
        notes=tuple(f"{check.code}: {check.message}" for check in found.found if check.verdict != "pass"),
        trusted=not any(check.verdict == "invalid" for check in found.found),
    )


def _estimates(method: Attribution, compressed: Compressed, segment: Segment, name: str, model: str, credit: Credit,
               language: str) -> Iterator[Estimate]:  # fmt: skip
    """One row for each outcome and channel, and what no channel has."""
    note = _note(compressed, model, credit, language)
    errors = credit.std_error if credit.std_error is not None else spread(credit.replicates)
    n = float(segment.attributed[0])
    for k, outcome in enumerate(compressed.outcomes):
        for c, channel in enumerate(compressed.tokens):
            error = math.nan if errors is None else float(errors[c, k])
            yield _row(method, model, outcome, name, channel, float(credit.value[c, k]), error, n, note)
        rest = spread(segment.unattributed_replicates)
        yield _row(method, model, outcome, name, UNATTRIBUTED, float(segment.unattributed[k]),
                   math.nan if rest is None else float(rest[k]), n, note)  # fmt: skip


def _note(compressed: Compressed, model: str, credit: Credit, language: str) -> str:
    """What must be known of a model's rows."""
    notes = [*credit.notes, *(("note_participation",) if model == "participation" else ())]
    if not compressed.replicates and credit.std_error is None:
        notes.append("note_no_replicates")
    if compressed.replicates and compressed.facts.get("source") == "paths":
        notes.append("note_paths")
    told = [say(key, language) for key in dict.fromkeys(notes)]
    made = len(credit.replicates)
    if 1 < made < compressed.replicates:
        told.append(say("note_fewer_replicates", language, count=made, asked=compressed.replicates,
                        share=f"{1 / math.sqrt(2 * (made - 1)):.0%}"))  # fmt: skip
    return " ".join(told)


def spread(replicates: Array) -> Array | None:
    """The standard deviation over replicates, (B, …) → (…); None below two."""
    return replicates.std(axis=0, ddof=1) if len(replicates) > 1 else None


def _row(method: Attribution, model: str, outcome: str, segment: str, channel: str, value: float, error: float,
         n: float, note: str) -> Estimate:  # fmt: skip
    """Estimate ± critical · standard error, not below 0 where the credit cannot be."""
    if not (error > 0 and math.isfinite(error)):
        low = high = math.nan
    else:
        half = critical(method.alpha) * error
        low, high = value - half, value + half
        low = low if model in SIGNED else max(low, min(0.0, value))
    return Estimate(model, "credit", outcome, segment, "", channel, estimate=value, std_error=error, conf_low=low,
                    conf_high=high, conf_level=1 - method.alpha, n=n, note=note)  # fmt: skip


def _sum_rule(model: str, segment: Segment, credit: Credit) -> None:
    """Credits + unattributed = total, for every outcome; participation counts more than once by its definition."""
    if model == "participation" or not np.isfinite(credit.value).all():
        return
    whole = credit.value.sum(axis=0) + segment.unattributed
    total = np.delete(segment.total, 1)
    # 1e-9 of the total: what a linear solve and sums of 1e5 doubles may lose
    assert (np.abs(whole - total) <= 1e-9 * np.maximum(np.abs(total), 1.0)).all(), (model, whole, total)


def _check(method: Attribution, compressed: Compressed, whole: Segment, found: Findings) -> None:
    attributed, missed = float(whole.attributed[0]), float(whole.unattributed[0])
    share = missed / max(attributed + missed, 1.0)
    found.add("UNATTRIBUTED", "warn" if missed else "pass", "conversions", count=missed, share=share)
    censored = compressed.facts.get("censored", 0)
    if censored and method.censoring != "count":
        found.add("CENSORED", "warn", "touches", count=censored, how=method.censoring)
    if attributed < FEW:
        found.add("FEW_CONVERSIONS", "warn", "conversions", count=attributed, least=FEW)
    if attributed and any(model.startswith("markov") for model in method.models):
        journeys = whole.sums("markov_1").base
        ended = _ends(whole)
        assert abs(whole.base_of(1) - ended) <= 1e-9 * max(ended, 1e-300) or not len(journeys)
        found.add("CHAIN_IDENTITY", "pass")
    found.add("SUM_RULE", "pass")


def _ends(whole: Segment) -> float:
    """Conversions / journeys among those with a touch."""
    totals = whole.sums("total")
    mine = totals.base[totals.key == 0].sum(axis=0)
    return float(mine[0] / (mine[0] + mine[1]))
