"""The effect among the units that could have met the change, diluted to all; and whether the trigger can be trusted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from causal_spark.errors import StatisticError
from causal_spark.methods.experiment import plan
from causal_spark.methods.experiment.analyses.found import Found
from causal_spark.methods.experiment.estimates import Contrast, Solver
from causal_spark.methods.experiment.trust import p_text
from causal_spark.results import Estimate
from causal_spark.solve.intervals import Test
from causal_spark.solve.lifts import lift
from causal_spark.solve.means import difference, evaluate
from causal_spark.solve.multiplicity import adjust
from causal_spark.solve.proportions import shares_test, two_proportions
from causal_spark.solve.triggered import Triggered
from causal_spark.solve.triggered import triggered as diluted
from causal_spark.statistics import Grouped, Moments
from causal_spark.statistics.grouped import BLOCK
from causal_spark.words import say

Arms = Mapping[str, Mapping[bool, Moments]]


@dataclass(frozen=True)
class Row:
    """One metric in one contrast: among the triggered; diluted with its checks, or why that cannot be."""

    block: plan.Block
    contrast: Contrast
    n: float
    difference: Test | None = None
    lift: Test | None = None
    whole: Triggered | None = None
    everyone: float = math.nan
    note: str = ""


def triggered(solver: Solver, rows: Sequence[Estimate]) -> Found:
    """Rows ``triggered difference``, ``triggered lift``, ``diluted difference``, ``diluted lift``, with the tables
    ``triggered`` and ``trigger_rates``. Raises StatisticError if nobody was triggered in an arm."""
    data = solver.compressed.more.get("triggered")
    if data is None:
        return Found()
    cells = Grouped.from_dict(data)
    rates = _rates(solver, _arms(solver, cells, plan.ROWS))
    found = [
        _row(solver, block, contrast, _arms(solver, cells, block.metric.name))
        for block in solver.blocks
        for contrast in solver.contrasts()
    ]
    uneven = {row["contrast"] for row in rates if row["flagged"]}
    estimates = [row for item in found for row in _estimates(solver, item, str(item.contrast) in uneven)]
    tables = {"triggered": pd.DataFrame(_checked(solver, found)), "trigger_rates": pd.DataFrame(rates)}
    return Found(tuple(estimates), tables)


def _arms(solver: Solver, cells: Grouped, block: str) -> Arms:
    """Moments by arm and trigger; a cell without units is empty."""
    arm, column = solver.compressed.facts["arm"], str(solver.method.triggered)
    parts = {(named[arm], named[column]): part for named, part in cells.where(**{BLOCK: block})}
    names = next((part.names for part in parts.values()), ())
    return {
        label: {flag: parts.get((label, str(int(flag))), Moments.empty(names)) for flag in (True, False)}
        for label in solver.compressed.facts["arms"]
    }


def _rates(solver: Solver, arms: Arms) -> list[dict[str, Any]]:
    """Trigger rates of the two arms of every contrast, and triggered units against the planned shares."""
    shares, alpha = solver.compressed.facts["arms"], solver.method.srm_alpha
    rows = []
    for contrast in solver.contrasts():
        pair = (contrast.treatment, contrast.control)
        hits = [arms[arm][True].n for arm in pair]
        totals = [hit + arms[arm][False].n for hit, arm in zip(hits, pair, strict=True)]
        if min(hits) < 2:
            raise StatisticError("none_triggered", n=int(min(hits)))
        (rate_t, rate_c) = (hit / n for hit, n in zip(hits, totals, strict=True))
        p_rates = two_proportions(rate_t, totals[0], rate_c, totals[1]).p_value
        p_shares = shares_test(hits, [shares[arm] for arm in pair]).p_value
        flagged = p_rates < alpha or p_shares < alpha
        row = {"contrast": str(contrast), "n_treatment": totals[0], "triggered_treatment": hits[0],
               "rate_treatment": rate_t, "n_control": totals[1], "triggered_control": hits[1], "rate_control": rate_c,
               "p_rates": p_rates, "p_shares": p_shares, "flagged": flagged}  # fmt: skip
        rows.append(row)
        if flagged:
            p = p_text(min(p for p in (p_rates, p_shares) if not math.isnan(p)))
            solver.checks.add("TRIGGER_RATIO", "warn", column=str(solver.method.triggered), threshold=alpha,
                              contrast=str(contrast), p=p, treatment=f"{rate_t:.2%}",
                              control=f"{rate_c:.2%}")  # fmt: skip
    if not any(row["flagged"] for row in rows):
        solver.checks.add("TRIGGER_RATIO", "pass", column=str(solver.method.triggered), threshold=alpha)
    return rows


def _row(solver: Solver, block: plan.Block, contrast: Contrast, arms: Arms) -> Row:
    method, planned = solver.method, solver.compressed.facts["arms"]
    pair = (contrast.treatment, contrast.control)
    t, c = (arms[arm] for arm in pair)
    n = t[True].n + c[True].n
    few = [arm for arm in pair if arms[arm][True].n < 2]
    if few:
        return Row(block, contrast, n, note=say("note_few_units", solver.language, arms=", ".join(few)))
    form = block.forms(False)[:1]
    value_t, value_c = (evaluate(part[True], form) for part in (t, c))
    among = Row(
        block, contrast, n, difference(value_t, value_c, method.alpha),
        lift(value_t, value_c, method.lift, method.alpha),
        everyone=n + t[False].n + c[False].n,
    )  # fmt: skip
    if form[0].denominator is not None:
        return replace(among, note=say("note_no_dilution", solver.language))
    whole = diluted(t, c, form[0].numerator, (planned[pair[0]], planned[pair[1]]), method.alpha)
    return replace(among, whole=whole)


def _estimates(solver: Solver, row: Row, uneven: bool) -> Iterable[Estimate]:
    """Two rows among the triggered, two for all units; NaN with its reason where there is no estimate."""
    doubt = [say("note_trigger_ratio", solver.language)] if uneven else []
    whole = row.whole
    terms: tuple[tuple[str, str, Test | None, float], ...] = (
        ("triggered difference", "ATE (triggered)", row.difference, row.n),
        ("triggered lift", "ATE (triggered)", row.lift, row.n),
        ("diluted difference", "ATE", whole.diluted if whole else None, row.everyone),
        ("diluted lift", "ATE", whole.diluted_lift if whole else None, row.everyone),
    )
    for term, estimand, test, n in terms:
        notes = [*doubt, *([row.note] if test is None else [])]
        if test is not None and math.isnan(test.p_value):
            notes.append(say("note_no_spread", solver.language))
        found = solver.row("triggered", "all", row.block, row.contrast, term, test, n, " ".join(notes))
        yield replace(found, estimand=estimand)


def _checked(solver: Solver, found: Sequence[Row]) -> list[dict[str, Any]]:
    """What dilution gained over comparing all units, and the difference among the others, which must be 0."""
    rows: list[dict[str, Any]] = []
    for item in found:
        if item.whole is None:
            continue
        one, naive, rest = item.whole.diluted, item.whole.naive, item.whole.complement
        gain = 1 - (one.std_error / naive.std_error) ** 2 if naive.std_error > 0 else math.nan
        rows.append({"outcome": item.block.metric.name, "contrast": str(item.contrast), "rate": item.whole.rate,
                     "diluted": one.estimate, "diluted_std_error": one.std_error, "naive": naive.estimate,
                     "naive_std_error": naive.std_error, "variance_reduction": gain,
                     "complement": rest.estimate, "complement_std_error": rest.std_error,
                     "complement_p": rest.p_value})  # fmt: skip
    for row, p in zip(rows, adjust([row["complement_p"] for row in rows], "holm"), strict=True):
        row |= {"complement_p_adjusted": float(p), "flagged": bool(p < solver.method.srm_alpha)}
        if row["flagged"]:
            solver.checks.add("TRIGGER_LEAK", "warn", column=row["outcome"], contrast=row["contrast"],
                              p=p_text(row["complement_p_adjusted"]))  # fmt: skip
    if rows and not any(row["flagged"] for row in rows):
        solver.checks.add("TRIGGER_LEAK", "pass", tests=len(rows))
    return rows
