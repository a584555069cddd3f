"""The sections of special designs: triggered units, concurrent experiments, trends over days, holdouts, switchbacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from causal_spark.report import numbers
from causal_spark.report.cells import blocks, change_cell, p_cell
from causal_spark.report.effects import NOTHING, Change, change_of, metric_facts, records, table_of, unit_of
from causal_spark.report.parts import Cell, Column, Section, Table, clip, table
from causal_spark.report.phrases import Phrases
from causal_spark.report.trust import is_true
from causal_spark.results import Result

Changes = Mapping[tuple[str, str], Mapping[str, Change]]


def sections(phrases: Phrases, result: Result) -> tuple[Section | None, ...]:
    """One for each design that was asked for."""
    return (
        _triggered(phrases, result),
        _holdouts(phrases, result),
        _interactions(phrases, result),
        _novelty(phrases, result),
        _carryover(phrases, result),
    )


def _changes(result: Result, *terms: str) -> Changes:
    """(metric, comparison) to its changes by term; of several methods the first, which is the main one."""
    found: dict[tuple[str, str], dict[str, Change]] = {}
    for row in records(result.estimates):
        if row["term"] in terms:
            mine = found.setdefault((str(row["outcome"]), str(row["contrast"])), {})
            mine.setdefault(str(row["term"]), change_of(row))
    return found


def _unit(result: Result, outcome: str) -> str:
    return unit_of(metric_facts(result).get(outcome, {}).get("kind", ""))


def _head(outcome: object, contrast: object) -> Cell:
    return Cell(clip(outcome, 80), clip(contrast, 160), "strong")


def _badge(phrases: Phrases, row: Mapping[str, Any]) -> Cell:
    bad = is_true(row.get("flagged"))
    return Cell(phrases("flag_yes" if bad else "flag_no"), tone="warn" if bad else "pass", badge=True)


def _columns(phrases: Phrases, *right: str, last: str = "") -> list[Column]:
    found = [Column(phrases("c_metric")), *(Column(phrases("c_" + key), "right") for key in right)]
    return [*found, Column(phrases("c_" + last))] if last else found


def _triggered(phrases: Phrases, result: Result) -> Section | None:
    terms = ("triggered difference", "triggered lift", "diluted difference", "diluted lift")
    rows = []
    for (outcome, contrast), changes in _changes(result, *terms).items():
        unit = _unit(result, outcome)
        cells = [
            change_cell(changes.get(term, NOTHING), "percent" if term.endswith("lift") else unit, phrases)
            for term in terms
        ]
        p = changes.get("diluted difference", NOTHING).p_value
        rows.append([_head(outcome, contrast), *cells, p_cell(p)])
    if not rows:
        return None
    columns = _columns(phrases, "triggered", "triggered_lift", "diluted", "diluted_lift", "p")
    shown = blocks(table(phrases, columns, rows), _gains(phrases, result), _rates(phrases, result))
    return Section(phrases("s_triggered"), phrases("s_triggered_lead"), shown)


def _gains(phrases: Phrases, result: Result) -> Table | None:
    """What looking at the triggered alone gained, and what the others show."""
    rows = [
        [
            _head(row.get("outcome"), row.get("contrast")),
            Cell(numbers.percent(row.get("variance_reduction"), 1)),
            Cell(numbers.plain(row.get("complement"))),
            p_cell(row.get("complement_p_adjusted")),
            _badge(phrases, row),
        ]
        for row in records(table_of(result, "triggered"))
    ]
    columns = _columns(phrases, "reduction", "complement", "p_adjusted", last="verdict")
    return table(phrases, columns, rows, phrases("fold_triggered")) if rows else None


def _rates(phrases: Phrases, result: Result) -> Table | None:
    rows = []
    for row in records(table_of(result, "trigger_rates")):
        both = [numbers.percent(row.get(name), 2) for name in ("rate_control", "rate_treatment")]
        p = [p_cell(row.get(name)) for name in ("p_rates", "p_shares")]
        rows.append([Cell(clip(row.get("contrast"), 160)), Cell(" \u2192 ".join(both)), *p, _badge(phrases, row)])
    columns = [Column(phrases("c_contrast"))]
    columns += [Column(phrases("c_" + key), "right") for key in ("rates", "p_rates", "p_shares")]
    return table(phrases, [*columns, Column(phrases("c_verdict"))], rows, phrases("fold_rates")) if rows else None


def _holdouts(phrases: Phrases, result: Result) -> Section | None:
    rows = []
    for (outcome, contrast), changes in _changes(result, "holdout difference", "holdout lift").items():
        difference = changes.get("holdout difference", NOTHING)
        rows.append([
            _head(outcome, contrast),
            change_cell(changes.get("holdout lift", NOTHING), "percent", phrases),
            change_cell(difference, _unit(result, outcome), phrases),
            p_cell(difference.p_value), p_cell(difference.p_adjusted), Cell(numbers.count(difference.n)),
        ])  # fmt: skip
    if not rows:
        return None
    columns = _columns(phrases, "lift", "difference", "p", "p_adjusted", "n")
    return Section(phrases("s_holdouts"), phrases("s_holdouts_lead"), (table(phrases, columns, rows),))


def _interactions(phrases: Phrases, result: Result) -> Section | None:
    joint = [
        [
            _head(row.get("outcome"), row.get("experiments")),
            p_cell(row.get("p_value")),
            p_cell(row.get("p_adjusted")),
            Cell(numbers.count(row.get("n"))),
            _badge(phrases, row),
        ]
        for row in records(table_of(result, "interactions"))
    ]
    if not joint:
        return None
    columns = _columns(phrases, "p", "p_adjusted", "n", last="verdict")
    shown = blocks(table(phrases, columns, joint), _contrasts(phrases, result))
    return Section(phrases("s_interactions"), phrases("s_interactions_lead"), shown)


def _contrasts(phrases: Phrases, result: Result) -> Table:
    rows: list[Sequence[Cell]] = []
    for (outcome, contrast), changes in _changes(result, "interaction").items():
        change = changes["interaction"]
        cells = [
            change_cell(change, _unit(result, outcome), phrases),
            p_cell(change.p_value),
            p_cell(change.p_adjusted),
        ]
        rows.append([_head(outcome, contrast), *cells])
    return table(phrases, _columns(phrases, "interaction", "p", "p_adjusted"), rows, phrases("fold_interactions"))


def _novelty(phrases: Phrases, result: Result) -> Section | None:
    rows = []
    for row in records(table_of(result, "novelty")):
        slope = change_of({"method": "trend", "estimate": row.get("slope"), "note": "", **row})
        days = phrases(
            "stretches", count=numbers.count(row.get("stretches")), days=numbers.count(row.get("stretch_days"))
        )
        rows.append([
            _head(row.get("outcome"), row.get("contrast")), Cell(days),
            change_cell(slope, _unit(result, str(row.get("outcome"))), phrases),
            p_cell(slope.p_value), p_cell(slope.p_adjusted), _badge(phrases, row),
        ])  # fmt: skip
    if not rows:
        return None
    columns = [Column(phrases("c_metric")), Column(phrases("c_days"))]
    columns += [Column(phrases("c_" + key), "right") for key in ("slope", "p", "p_adjusted")]
    shown = table(phrases, [*columns, Column(phrases("c_verdict"))], rows)
    return Section(phrases("s_novelty"), phrases("s_novelty_lead"), (shown,))


def _carryover(phrases: Phrases, result: Result) -> Section | None:
    rows = []
    for row in records(table_of(result, "carryover")):
        unit = _unit(result, str(row.get("outcome")))
        lag = change_of({"method": "lag", "estimate": row.get("lag"), "note": "", **row})
        start, stop = (numbers.plain(row.get(name), 0) for name in ("from_minutes", "to_minutes"))
        rows.append([
            _head(row.get("outcome"), row.get("contrast")), Cell(phrases("since", start=start, stop=stop)),
            Cell(phrases.with_unit(numbers.FORMATTERS[unit](row.get("effect"), None, True), unit)),
            change_cell(lag, unit, phrases),
            p_cell(lag.p_value), p_cell(lag.p_adjusted), _badge(phrases, row),
        ])  # fmt: skip
    if not rows:
        return None
    columns = [Column(phrases("c_metric")), Column(phrases("c_since"))]
    columns += [Column(phrases("c_" + key), "right") for key in ("effect_then", "lag", "p", "p_adjusted")]
    shown = table(phrases, [*columns, Column(phrases("c_verdict"))], rows)
    return Section(phrases("s_carryover"), phrases("s_carryover_lead"), (shown,))
