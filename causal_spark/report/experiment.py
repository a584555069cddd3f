"""The page of an experiment: which sections it has and which tables stand in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from causal_spark.report import evidence, numbers, provenance, trust, verdict
from causal_spark.report.cells import blocks, change_cell, reading
from causal_spark.report.drawings import every_figure
from causal_spark.report.effects import (
    EVERYONE,
    Effect,
    alpha_of,
    by_segment,
    effects,
    metric_facts,
    overall,
    records,
    table_of,
)
from causal_spark.report.parts import Cell, Column, Figure, Page, Section, Table, clip, table
from causal_spark.report.phrases import Phrases
from causal_spark.results import Result


def page(result: Result, facts: Mapping[str, Any], phrases: Phrases) -> Page:
    """The whole page of an experiment, without its markup."""
    every, judged = effects(result, facts), trust.judge(result)
    main, level = overall(every), verdict.level_text(alpha_of(result, facts))
    drawn = every_figure(phrases, result, every, level)
    shown = _effects_section(phrases, result, main, drawn, level)
    causes = (trust.checks_section(phrases, result), evidence.srm_section(phrases, result, drawn))
    sections = (
        *((*causes, shown) if judged.tone == "stop" else (shown, *causes)),
        evidence.cuped_section(phrases, result, main),
        evidence.segments_section(phrases, every, drawn),
        evidence.days_section(phrases, result, drawn),
        evidence.pre_section(phrases, result, drawn),
        *provenance.closing(phrases, result, facts),
    )
    return Page(
        title=clip(facts.get("title"), 120) or phrases("untitled"),
        eyebrow=phrases("eyebrow_experiment"),
        subtitle=provenance.subtitle(facts),
        tone=judged.tone,
        headline=verdict.headline(phrases, judged, main),
        reasons=trust.reasons(phrases, judged),
        answers=verdict.answers(phrases, result, facts, judged, main),
        tiles=_tiles(phrases, result, facts, every, judged),
        sections=[section for section in sections if section],
        footer=phrases("footer"),
    )


def drawings(result: Result, facts: Mapping[str, Any], phrases: Phrases) -> dict[str, str]:
    """The drawings alone: fixed file name to SVG text."""
    level = verdict.level_text(alpha_of(result, facts))
    drawn = every_figure(phrases, result, effects(result, facts), level)
    return {f"{name}.svg": figure.svg for name, figure in drawn.items()}


def _tiles(
    phrases: Phrases, result: Result, facts: Mapping[str, Any], every: Sequence[Effect], judged: trust.Trust
) -> list[tuple[str, str]]:
    named = facts.get("arms")
    arms = named if isinstance(named, (list, tuple)) else {row.get("arm") for row in records(table_of(result, "srm"))}
    segments = len({effect.segment for effect in by_segment(list(every))})
    found = {
        "units": numbers.count(facts.get("units")),
        "arms": str(len(arms)) if arms else numbers.DASH,
        "metrics": str(len({effect.outcome for effect in every})),
        "segments": str(segments) if segments else numbers.DASH,
        "checks": f"{judged.passed} / {judged.checks}" if judged.checks else numbers.DASH,
    }
    return [(phrases("tile_" + key), value) for key, value in found.items() if value != numbers.DASH]


def _metric_cell(phrases: Phrases, effect: Effect) -> Cell:
    words = [phrases.name("role", effect.role), phrases.name("kind", effect.kind) if effect.kind else ""]
    return Cell(clip(effect.outcome, 80), " \u00b7 ".join(clip(word, 40) for word in words if word), "strong")


def _effects_section(
    phrases: Phrases, result: Result, main: Sequence[Effect], drawn: Mapping[str, Figure], level: str
) -> Section:
    lead = phrases("s_effects_lead", level=level) if result.trusted else phrases("s_effects_stop")
    shown = _effects_table(phrases, result, main)
    return Section(phrases("s_effects"), lead, blocks(drawn.get("effects"), shown, _arms_table(phrases, result)))


def _effects_table(phrases: Phrases, result: Result, main: Sequence[Effect]) -> Table:
    """A row for each comparison; with several comparisons, the metrics become headings across the table."""
    means = _means(result)
    several = len({effect.contrast for effect in main}) > 1
    rows: list[list[Cell]] = []
    last = None
    for effect in main:
        name = _metric_cell(phrases, effect)
        if several and effect.outcome != last:
            rows.append([name])
        last = effect.outcome
        rows.append(
            [Cell(clip(effect.contrast, 80)) if several else name, *_effect_cells(phrases, result, effect, means)]
        )
    first = Column(phrases("c_contrast" if several else "c_metric"))
    columns = [Column(phrases("c_" + key), "right") for key in ("means", "lift", "difference", "p", "p_adjusted")]
    return table(phrases, [first, *columns, Column(phrases("c_reading"))], rows)


def _effect_cells(
    phrases: Phrases, result: Result, effect: Effect, means: Mapping[tuple[str, str], float]
) -> list[Cell]:
    return [
        _means_cell(effect, means),
        change_cell(effect.lift, "percent", phrases, {1: "up", -1: "down"}.get(effect.moved, "")),
        change_cell(effect.difference, effect.unit, phrases),
        Cell(numbers.p_value(effect.main.p_value)),
        Cell(numbers.p_value(effect.main.p_adjusted)),
        reading(phrases, effect, result.trusted),
    ]


def _means(result: Result) -> dict[tuple[str, str], float]:
    """(metric, arm) to the mean over everyone."""
    rows = [row for row in records(table_of(result, "arms")) if str(row.get("segment", EVERYONE)) == EVERYONE]
    return {(str(row.get("outcome")), str(row.get("arm"))): numbers.as_float(row.get("mean")) for row in rows}


def _means_cell(effect: Effect, means: Mapping[tuple[str, str], float]) -> Cell:
    arms = [arm for outcome, arm in means if outcome == effect.outcome]
    pair = next(((b, a) for a in arms for b in arms if f"{a} vs {b}" == effect.contrast), None)
    if pair is None:
        return Cell(numbers.DASH)
    show = numbers.percent if effect.unit == "points" else numbers.plain
    change = effect.difference
    places = numbers.interval_places(change.estimate, change.low, change.high, effect.unit)
    return Cell(" \u2192 ".join(show(means[effect.outcome, arm], places) for arm in pair))


def _arms_table(phrases: Phrases, result: Result) -> Table | None:
    about, rows = metric_facts(result), []
    for row in records(table_of(result, "arms")):
        if str(row.get("segment", EVERYONE)) != EVERYONE:
            continue
        kind = str(about.get(str(row.get("outcome")), {}).get("kind", ""))
        mean = numbers.percent if kind == "proportion" else numbers.plain
        cells = [Cell(clip(row.get("outcome"), 80)), Cell(clip(row.get("arm"), 80)), Cell(numbers.count(row.get("n")))]
        rows.append([*cells, Cell(mean(row.get("mean"))), Cell(numbers.plain(row.get("std_dev")))])
    columns = [Column(phrases("c_metric")), Column(phrases("c_arm"))]
    columns += [Column(phrases("c_" + key), "right") for key in ("n", "mean", "std_dev")]
    return table(phrases, columns, rows, phrases("fold_arms")) if rows else None
