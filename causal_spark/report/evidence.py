"""The sections of an experiment behind the effects: arm sizes, adjustment, segments, days, the time before."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from causal_spark.report import numbers, settings, trust
from causal_spark.report.cells import blocks, change_cell, lift_places, p_cell, points_places, segment_text
from causal_spark.report.effects import (
    EVERYONE,
    Change,
    Effect,
    alpha_of,
    by_segment,
    metric_facts,
    records,
    table_of,
    unit_of,
)
from causal_spark.report.parts import Cell, Column, Figure, Section, Table, clip, table
from causal_spark.report.phrases import Phrases
from causal_spark.results import Result


def srm_section(
    phrases: Phrases, result: Result, facts: Mapping[str, Any], drawn: Mapping[str, Figure]
) -> Section | None:
    """Observed and planned sizes of the arms."""
    rows = []
    for row in records(table_of(result, "srm")):
        bad = trust.is_true(row.get("flagged"))
        p = row.get("p_adjusted")
        rows.append(
            [
                Cell(segment_text(phrases, row.get("segment", EVERYONE))),
                Cell(clip(row.get("arm"), 80)),
                Cell(numbers.count(row.get("n"))),
                Cell(numbers.count(row.get("expected"))),
                Cell(numbers.percent(row.get("share"), 2)),
                Cell(numbers.percent(row.get("planned"), 2)),
                p_cell(row.get("p_value")),
                p_cell(p),
                Cell(phrases("flag_yes" if bad else "flag_no"), tone="invalid" if bad else "pass", badge=True),
            ]
        )
    if not rows:
        return None
    keys = (settings.things(facts), "expected", "observed", "planned", "p", "p_adjusted")
    columns = [Column(phrases("c_segment")), Column(phrases("c_arm"))]
    columns += [*(Column(phrases("c_" + key), "right") for key in keys), Column(phrases("c_verdict"))]
    shown = table(phrases, columns, rows, phrases("fold_srm"))
    return Section(phrases("s_srm"), phrases("s_srm_lead"), blocks(drawn.get("shares"), shown))


def cuped_section(phrases: Phrases, result: Result, main: Sequence[Effect]) -> Section | None:
    """Adjusted and unadjusted effects side by side, and the covariates."""
    pairs = [effect for effect in main if effect.raw_difference.method or effect.raw_lift.method]
    least = lift_places(pairs)
    rows = [_pair_row(phrases, effect, least) for effect in pairs]
    keys = ("raw", "adjusted", "width", "reduction")
    columns = [Column(phrases("c_metric")), *(Column(phrases("c_" + key), "right") for key in keys)]
    reduction = _reductions(result)
    for effect, row in zip(pairs, rows, strict=True):
        row.append(Cell(numbers.percent(reduction.get(effect.outcome), 1)))
    pair_table = table(phrases, columns, rows) if rows else None
    covariates = _covariate_table(phrases, result)
    if not pair_table and not covariates:
        return None
    return Section(phrases("s_cuped"), phrases("s_cuped_lead"), blocks(pair_table, covariates))


def _reductions(result: Result) -> dict[str, float]:
    rows = [row for row in records(table_of(result, "cuped")) if str(row.get("segment", EVERYONE)) == EVERYONE]
    return {str(row.get("outcome")): numbers.as_float(row.get("variance_reduction")) for row in rows}


def _pair_row(phrases: Phrases, effect: Effect, least: int | None) -> list[Cell]:
    relative = bool(effect.raw_lift.method and effect.lift.known)
    raw, adjusted = (effect.raw_lift, effect.lift) if relative else (effect.raw_difference, effect.difference)
    unit = "percent" if relative else effect.unit
    width = [change.high - change.low for change in (raw, adjusted)]
    ratio = width[1] / width[0] - 1 if all(map(math.isfinite, width)) and width[0] > 0 else math.nan
    name = Cell(clip(effect.outcome, 80), clip(effect.contrast, 80), "strong")
    cells = [change_cell(change, unit, phrases, "", least if relative else None) for change in (raw, adjusted)]
    return [name, *cells, Cell(numbers.percent(ratio, 0, True))]


def _covariate_table(phrases: Phrases, result: Result) -> Table | None:
    rows = []
    for row in records(table_of(result, "cuped")):
        flips = trust.is_true(row.get("sign_flip"))
        rows.append(
            [
                Cell(clip(row.get("outcome"), 80)),
                Cell(segment_text(phrases, row.get("segment", EVERYONE))),
                Cell(trust.before_text(phrases, result, row.get("covariate"))),
                Cell(numbers.plain(row.get("theta"), _theta_places(row.get("theta")), True)),
                Cell(numbers.plain(row.get("rho2"), 3)),
                Cell(numbers.percent(row.get("variance_reduction"), 1)),
                Cell(phrases("sign_flip" if flips else "sign_same"), tone="warn" if flips else "pass", badge=True),
            ]
        )
    columns = [Column(phrases("c_" + key)) for key in ("metric", "segment", "covariate")]
    columns += [Column(phrases("c_" + key), "right") for key in ("theta", "rho2", "reduction")]
    return table(phrases, [*columns, Column(phrases("c_sign"))], rows, phrases("fold_covariates")) if rows else None


def _theta_places(value: object) -> int | None:
    """Three digits, unless that would hide it."""
    return 3 if abs(numbers.as_float(value)) >= 0.01 else None


def segments_section(
    phrases: Phrases, result: Result, facts: Mapping[str, Any], every: Sequence[Effect], drawn: Mapping[str, Figure]
) -> Section | None:
    """Effects within segments."""
    parts = by_segment(list(every))
    if not parts:
        return None
    places = {"percent": lift_places(parts), "points": points_places(parts)}
    rows = [
        [
            Cell(clip(effect.segment, 80), "", "strong"),
            Cell(clip(effect.outcome, 80), clip(effect.contrast, 80)),
            change_cell(effect.lift, "percent", phrases, "", places["percent"]),
            change_cell(effect.difference, effect.unit, phrases, "", places.get(effect.unit)),
            p_cell(effect.main.p_value),
            p_cell(effect.main.p_adjusted),
            Cell(numbers.count(effect.main.n)),
        ]
        for effect in parts
    ]
    columns = [Column(phrases("c_segment")), Column(phrases("c_metric"))]
    columns += [Column(phrases("c_" + key), "right") for key in ("lift", "difference", "p", "p_adjusted", "n")]
    shown = table(phrases, columns, rows, phrases("fold_segments"))
    lead = phrases.joined([phrases("s_segments_lead"), *_colours(phrases, result, facts, parts)])
    return Section(phrases("s_segments"), lead, (*_named(drawn, "segments_"), shown))


def _colours(phrases: Phrases, result: Result, facts: Mapping[str, Any], parts: Sequence[Effect]) -> list[str]:
    """What a colour in a segment means: the correction is over the segments, and over success metrics only."""
    if not result.trusted:
        return [phrases("segments_stop")]
    corrected = sum(math.isfinite(effect.main.p_adjusted) for effect in parts)
    tests = sum(math.isfinite(effect.main.p_value) for effect in parts)
    method, alpha = str(facts.get("correction") or "none"), alpha_of(result, facts)
    if method == "none" or not corrected:
        expected = numbers.plain(tests * alpha, 1)
        return [phrases("segments_uncorrected", comparisons=numbers.count(tests), expected=expected)]
    name = phrases.name("correction", method)
    said: list[str] = [phrases("segments_corrected", correction=name, comparisons=numbers.count(corrected))]
    if tests > corrected:
        others = tests - corrected
        expected = numbers.plain(others * alpha, 1)
        said += [phrases("segments_others", comparisons=numbers.count(others), expected=expected)]
    return said


def _named(drawn: Mapping[str, Figure], prefix: str) -> list[Figure]:
    return [figure for name, figure in drawn.items() if name.startswith(prefix)]


def days_section(phrases: Phrases, result: Result, drawn: Mapping[str, Figure]) -> Section | None:
    """The effect by day since exposure."""
    figure = drawn.get("by_day")
    if figure is None:
        return None
    found = records(table_of(result, "by_day"))
    units = _units_of(result, found)
    places = _places_of(found, units)
    rows = []
    for row in found:
        name = str(row.get("outcome"))
        change = change_cell(Change("row", *_span(row)), units[name], phrases, "", places[name])
        head = [Cell(clip(name, 80), clip(row.get("contrast"), 80)), Cell(numbers.count(row.get("day")))]
        rows.append([*head, change, p_cell(row.get("p_value")), Cell(numbers.count(row.get("n")))])
    columns = [Column(phrases("c_metric")), Column(phrases("c_day"), "right")]
    columns += [Column(phrases("c_" + key), "right") for key in ("difference", "p", "n")]
    shown = table(phrases, columns, rows, phrases("fold_days"))
    return Section(phrases("s_days"), phrases("s_days_lead"), (figure, shown))


def _units_of(result: Result, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """How the differences of each metric are written; a covariate is written as its metric is."""
    about, names = metric_facts(result), dict.fromkeys(str(row.get("outcome")) for row in rows)
    facts = {name: about.get(name, about.get(trust.metric_before(name), {})) for name in names}
    return {name: unit_of(found.get("kind", "")) for name, found in facts.items()}


def _span(row: Mapping[str, Any]) -> tuple[float, float, float]:
    estimate, low, high = (numbers.as_float(row.get(name)) for name in ("estimate", "conf_low", "conf_high"))
    return estimate, low, high


def _places_of(rows: Sequence[Mapping[str, Any]], units: Mapping[str, str]) -> dict[str, int | None]:
    """The digits that all days of a metric share."""
    spans: dict[str, list[tuple[float, float, float]]] = {}
    for row in rows:
        spans.setdefault(str(row.get("outcome")), []).append(_span(row))
    return {name: numbers.column_places(some, units[name]) for name, some in spans.items()}


def pre_section(phrases: Phrases, result: Result, drawn: Mapping[str, Figure]) -> Section | None:
    """The same comparison before the experiment."""
    figure = drawn.get("pre_period")
    if figure is None:
        return None
    found = records(table_of(result, "pre_period"))
    units = _units_of(result, found)
    rows = []
    for row in found:
        head = Cell(trust.before_text(phrases, result, row.get("outcome")), clip(row.get("contrast"), 80))
        change = change_cell(Change("row", *_span(row)), units[str(row.get("outcome"))], phrases)
        bad = trust.is_true(row.get("flagged"))
        badge = Cell(phrases("flag_yes" if bad else "flag_no"), tone="invalid" if bad else "pass", badge=True)
        rows.append([head, change, p_cell(row.get("p_value")), p_cell(row.get("p_adjusted")), badge])
    columns = [Column(phrases("c_metric"))]
    columns += [Column(phrases("c_" + key), "right") for key in ("difference_pre", "p", "p_adjusted")]
    shown = table(phrases, [*columns, Column(phrases("c_verdict"))], rows, phrases("fold_pre"))
    return Section(phrases("s_pre"), phrases("s_pre_lead"), (figure, shown))
