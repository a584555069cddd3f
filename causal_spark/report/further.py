"""What stands beside the effects on means: effects on quantiles, and the same comparisons by further methods."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from causal_spark.report import numbers
from causal_spark.report.cells import blocks, change_cell, p_cell
from causal_spark.report.effects import BESIDE, EVERYONE, NOTHING, Change, change_of, records, table_of
from causal_spark.report.parts import Cell, Column, Section, Table, clip, table
from causal_spark.report.phrases import Phrases
from causal_spark.results import Result

QUANTILE = "quantile"


def quantiles_section(phrases: Phrases, result: Result) -> Section | None:
    """Effects on quantiles, one line for each metric, comparison and quantile; below the same within segments, and the
    quantiles of each arm.
    """
    pairs: dict[tuple[str, str, str, str], dict[str, Change]] = {}
    for row in records(result.estimates):
        if row["method"] == QUANTILE:
            name, _, term = str(row["term"]).partition(" ")
            key = (str(row["segment"]), str(row["outcome"]), str(row["contrast"]), name)
            pairs.setdefault(key, {})[term] = change_of(row)
    if not pairs:
        return None
    rows = {key: _quantile_row(phrases, key, changes) for key, changes in pairs.items()}
    columns = [Column(phrases("c_metric")), Column(phrases("c_est_quantile"))]
    columns += [Column(phrases("c_" + key), "right") for key in ("lift", "difference", "p", "p_adjusted")]
    shown = _two_tables(
        phrases, [*columns, Column(phrases("c_est_remark"))], [(key[0], row) for key, row in rows.items()]
    )
    return Section(
        phrases("s_est_quantiles"), phrases("s_est_quantiles_lead"), (*shown, *blocks(_arms(phrases, result)))
    )


def _quantile_row(phrases: Phrases, key: tuple[str, str, str, str], changes: Mapping[str, Change]) -> list[Cell]:
    _, outcome, contrast, name = key
    absolute, relative = changes.get("difference", NOTHING), changes.get("lift", NOTHING)
    both = ((relative, "percent"), (absolute, "number"))
    cells = [change_cell(c, unit, phrases) if c.known else Cell(numbers.DASH) for c, unit in both]
    tests = [p_cell(absolute.p_value), p_cell(absolute.p_adjusted)]
    metric = Cell(clip(outcome, 80), clip(contrast, 80), "strong")
    return [metric, Cell(name), *cells, *tests, Cell(clip(absolute.note, 160))]


def _two_tables(phrases: Phrases, columns: Sequence[Column], rows: Sequence[tuple[str, list[Cell]]]) -> list[Table]:
    """The rows of everyone, and folded those within segments under the segment's name; each row with its segment."""
    shown = [table(phrases, columns, [row for segment, row in rows if segment == EVERYONE])]
    parts: list[list[Cell]] = []
    last = EVERYONE
    for segment, row in rows:
        if segment == EVERYONE:
            continue
        parts += [] if segment == last else [[Cell(clip(segment, 80), tone="strong")]]
        parts.append(row)
        last = segment
    return [*shown, table(phrases, columns, parts, phrases("fold_est_segments"))] if parts else shown


def _arms(phrases: Phrases, result: Result) -> Table | None:
    rows = []
    for row in records(table_of(result, "quantiles")):
        if str(row.get("segment", EVERYONE)) != EVERYONE:
            continue
        value, low, high = (numbers.as_float(row[name]) for name in ("estimate", "conf_low", "conf_high"))
        names = [Cell(clip(row["outcome"], 80)), Cell(f"p{100 * numbers.as_float(row['quantile']):.10g}")]
        shown = _level_cell(value, low, high)
        rows.append([*names, Cell(clip(row["arm"], 80)), shown, Cell(numbers.count(row["n"]))])
    columns = [Column(phrases("c_" + key)) for key in ("metric", "est_quantile", "arm")]
    columns += [Column(phrases("c_" + key), "right") for key in ("est_value", "units")]
    return table(phrases, columns, rows, phrases("fold_est_quantiles")) if rows else None


def methods_section(phrases: Phrases, result: Result) -> Section | None:
    """The same comparisons by ranks and by resampling, one line for a difference and its lift; folded those within
    segments.
    """
    found: dict[tuple[str, ...], dict[str, Change]] = {}
    for row in records(result.estimates):
        if row["method"] in BESIDE[1:]:
            quantile, _, term = str(row["term"]).rpartition(" ")
            key = *(str(row[name]) for name in ("segment", "method", "outcome", "contrast")), quantile
            found.setdefault(key, {})[term] = change_of(row)
    if not found:
        return None
    columns = [Column(phrases("c_" + key)) for key in ("metric", "est_method", "est_what")]
    columns += [Column(phrases("c_" + key), "right") for key in ("lift", "est_value", "p", "p_adjusted")]
    rows = [(key[0], _method_row(phrases, key, changes)) for key, changes in found.items()]
    rows.sort(key=lambda pair: (pair[0] != EVERYONE, pair[0]))
    shown = _two_tables(phrases, [*columns, Column(phrases("c_est_remark"))], rows)
    return Section(phrases("s_est_methods"), phrases("s_est_methods_lead"), shown)


def _method_row(phrases: Phrases, key: tuple[str, ...], changes: Mapping[str, Change]) -> list[Cell]:
    _, method, outcome, contrast, quantile = key
    relative = changes.get("lift", NOTHING)
    if "superiority" in changes:
        change, what = changes["superiority"], phrases.plain("est_term_superiority")
        value = _level_cell(change.estimate, change.low, change.high)
    else:
        change, what = changes.get("difference", NOTHING), quantile or phrases.plain("est_term_mean")
        value = change_cell(replace(change, note=""), "number", phrases)
    lift = change_cell(replace(relative, note=""), "percent", phrases) if relative.known else Cell(numbers.DASH)
    named = [Cell(clip(outcome, 80), clip(contrast, 80), "strong"), Cell(clip(phrases.name("method", method), 80))]
    tests = [p_cell(change.p_value), p_cell(change.p_adjusted)]
    return [*named, Cell(clip(what, 80)), lift, value, *tests, Cell(clip(change.note, 160))]


def bayes_section(phrases: Phrases, result: Result) -> Section | None:
    """The chance that the treatment is better, and what a wrong choice would cost, for everyone."""
    rows = [row for row in records(table_of(result, "bayes")) if str(row["segment"]) == EVERYONE]
    lines = [_bayes_row(phrases, row) for row in rows]
    if not lines:
        return None
    columns = [Column(phrases("c_metric")), Column(phrases("c_est_what"))]
    columns += [Column(phrases("c_est_" + key), "right") for key in ("win", "value", "loss")]
    return Section(phrases("s_est_bayes"), phrases("s_est_bayes_lead"), (table(phrases, columns, lines),))


def _bayes_row(phrases: Phrases, row: Mapping[str, Any]) -> list[Cell]:
    term, unit = str(row["term"]), "percent" if row["term"] == "lift" else "number"
    mean, low, high = (numbers.as_float(row[name]) for name in ("mean", "cred_low", "cred_high"))
    show = numbers.FORMATTERS[unit]
    losses = (show(row[name], None, False) for name in ("loss_treatment", "loss_control"))
    return [
        Cell(clip(row["outcome"], 80), clip(row["contrast"], 80), "strong"),
        Cell(phrases.plain("est_term_" + term), clip(phrases.name("est_prior", row["method"]), 80)),
        Cell(_chance(numbers.as_float(row["p_win"]))),
        change_cell(Change("bayes", mean, low, high), unit, phrases),
        Cell(" / ".join(losses)),
    ]


def _level_cell(value: float, low: float, high: float) -> Cell:
    """A level, not a change: without signs, above its interval."""
    if math.isnan(value):
        return Cell(numbers.DASH)
    places = numbers.interval_places(value, low, high, "number")
    ends = f"{numbers.plain(low, places)} \u2026 {numbers.plain(high, places)}"
    return Cell(numbers.plain(value, places), "" if math.isnan(low) else ends)


def _chance(share: float) -> str:
    """A chance that is never shown as certain."""
    return "> 99.9%" if share > 0.999 else "< 0.1%" if share < 0.001 else numbers.percent(share, 1)
