"""From effects with their errors to tests, intervals, returns, sensitivity and verdicts. No Spark."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from causal_spark.methods.findings import Findings
from causal_spark.methods.matching.compressed import Compressed, Found
from causal_spark.methods.matching.vocabulary import Observational
from causal_spark.results import Estimate, Result, checks_frame, estimates_frame
from causal_spark.solve import sensitivity
from causal_spark.solve.intervals import wald
from causal_spark.words import say

PLAIN = ("unadjusted", "regression")


def solve(method: Observational, compressed: Compressed, language: str = "en") -> Result:
    """Estimates (terms difference, incremental, roi), diagnostics and checks."""
    checks = Findings(language)
    checks.found = list(compressed.checks)
    rows = [row for found in compressed.effects for row in _estimates(method, found, compressed, language)]
    _balance_checks(method, compressed, checks)
    _placebo_checks(method, rows, checks)
    tables = {
        "checks": checks_frame(checks.found),
        "balance": pd.DataFrame([dict(row) for row in compressed.balance]),
        "overlap": pd.DataFrame([dict(row) for row in compressed.overlap]),
        "propensity": pd.DataFrame([dict(row) for row in compressed.propensity]),
        "sizes": pd.DataFrame([dict(row) for row in compressed.sizes]),
        "sensitivity": pd.DataFrame(list(_sensitivity(method, compressed))),
    }
    return Result(
        estimates=estimates_frame(rows),
        diagnostics={name: table for name, table in tables.items() if len(table)},
        notes=tuple(f"{check.code}: {check.message}" for check in checks.found if check.verdict != "pass"),
        trusted=not any(check.verdict in ("invalid", "stop") for check in checks.found),
    )


def _estimates(method: Observational, found: Found, compressed: Compressed, language: str) -> Iterator[Estimate]:
    test = wald(found.estimate, found.std_error, method.alpha, alternative=method.alternative)
    placebo = found.outcome in method.placebo_outcomes
    notes = [say(f"error_{found.error}", language)]
    if not math.isnan(found.bound):
        notes.append(say("note_bound", language, bound=f"{found.bound:.4g}"))
    if math.isnan(found.std_error):
        notes.append(say("note_no_error", language))
    if placebo:
        notes.append(say("note_placebo", language))
    row = Estimate(
        found.estimator,
        found.estimand,
        found.outcome,
        "all",
        found.treatment,
        "difference",
        test.estimate,
        test.std_error,
        test.statistic,
        math.inf,
        test.p_value,
        math.nan,
        test.low,
        test.high,
        1 - method.alpha,
        found.focal,
        " ".join(notes),
    )
    yield row
    if found.estimator in PLAIN or placebo or found.estimand not in ("ATT",):
        return
    units = found.used
    yield replace(
        row, term="incremental", estimate=row.estimate * units, std_error=row.std_error * units,
        conf_low=row.conf_low * units, conf_high=row.conf_high * units,
        note=say("note_incremental", language, units=f"{units:,.0f}"),
    )  # fmt: skip
    spend = (method.spend or {}).get(found.treatment)
    if spend and found.outcome == method.value:
        # the spend is that on all treated units; the part of those trimmed or without a match is left out with them
        plain = (row for row in compressed.effects if row.estimator == "unadjusted")
        reached = next(row.focal for row in plain if row.treatment == found.treatment)
        factor = reached / spend
        test = wald(
            found.estimate * factor - 1.0, found.std_error * factor, method.alpha, alternative=method.alternative
        )
        yield replace(
            row, term="roi", estimate=test.estimate, std_error=test.std_error, statistic=test.statistic,
            p_value=test.p_value, conf_low=test.low, conf_high=test.high,
            note=say("note_roi", language, spend=f"{spend * units / reached:,.0f}"),
        )  # fmt: skip


def _balance_checks(method: Observational, compressed: Compressed, checks: Findings) -> None:
    """The worst covariate after each estimator: within ``smd`` passes, beyond 0.25 the first estimator is invalid."""
    worst: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in compressed.balance:
        key = row["treatment"], row["estimator"]
        known = row["estimator"] not in PLAIN and not math.isnan(row["smd"])
        if known and (key not in worst or abs(row["smd"]) > abs(worst[key]["smd"])):
            worst[key] = row
    for (treatment, estimator), row in worst.items():
        size = abs(row["smd"])
        beyond = "invalid" if estimator == method.estimators[0] else "warn"
        verdict = "pass" if size <= method.smd else "warn" if size <= max(0.25, method.smd) else beyond
        checks.add(
            "BALANCE",
            verdict,
            treatment,
            row["covariate"],
            estimator=estimator,
            smd=f"{row['smd']:.3f}",
            limit=f"{method.smd:g}",
        )


def _placebo_checks(method: Observational, rows: list[Estimate], checks: Findings) -> None:
    for row in rows:
        if row.outcome in method.placebo_outcomes and row.term == "difference" and row.method not in PLAIN:
            moved = row.p_value < method.alpha
            checks.add(
                "PLACEBO",
                "invalid" if moved else "pass",
                row.contrast,
                row.outcome,
                estimator=row.method,
                p=f"{row.p_value:.3g}",
            )


def _sensitivity(method: Observational, compressed: Compressed) -> Iterator[dict[str, Any]]:
    """E-value of every effect, Γ where there are pairs, robustness value of the regression."""
    spread = compressed.facts["deviations"]
    for found in compressed.effects:
        if found.estimator == "unadjusted" or found.outcome in method.placebo_outcomes:
            continue
        test = wald(found.estimate, found.std_error, method.alpha)
        deviation = spread.get(found.treatment, {}).get(found.outcome, math.nan)
        row: dict[str, Any] = {"treatment": found.treatment, "outcome": found.outcome, "estimator": found.estimator}
        if deviation > 0:
            value = sensitivity.e_value(test.estimate / deviation, test.low / deviation, test.high / deviation, "smd")
            row |= {"e_value": value.estimate, "e_value_limit": value.limit}
        if not math.isnan(found.above):
            row["gamma"] = _gamma(found, method.alpha)
        if found.estimator == "regression":
            dof = compressed.facts["dof"]
            robust = sensitivity.robustness(found.estimate, found.std_error, dof, alpha=method.alpha)
            row |= {
                "partial_r2": robust.partial_r2,
                "robustness_value": robust.value,
                "robustness_value_alpha": robust.value_alpha,
            }
        yield row


def _gamma(found: Found, alpha: float) -> float:
    """Γ of the signed ranks of the pairs; of their signs for a 0/1 outcome (McNemar) and for sets of several."""
    up = found.estimate >= 0
    if not math.isnan(found.rank_total):
        statistic = found.rank_sum if up else found.rank_total - found.rank_sum
        pairs = int(found.above + found.below)
        ranks = sensitivity.SignedRanks(pairs, statistic, found.rank_total, found.rank_square)
        return sensitivity.signed_rank_gamma(ranks, alpha)
    more, less = (found.above, found.below) if up else (found.below, found.above)
    return sensitivity.mcnemar_gamma(int(more), int(less), alpha)
