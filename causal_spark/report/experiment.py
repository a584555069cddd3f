"""The page of an experiment: which sections it has and which tables stand in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from causal_spark.report import decided, designs, evidence, further, numbers, provenance, settings, trust, verdict
from causal_spark.report.cells import blocks, change_cell, change_places, lift_places, p_cell, points_places, reading
from causal_spark.report.drawings import every_figure
from causal_spark.report.effects import (
    ADJUSTED,
    EVERYONE,
    Effect,
    alpha_of,
    by_segment,
    effects,
    metric_facts,
    overall,
    records,
    single_look,
    table_of,
    unit_of,
)
from causal_spark.report.parts import Answer, Cell, Column, Figure, Page, Section, Table, clip, table
from causal_spark.report.phrases import Phrases
from causal_spark.results import Result


def page(result: Result, facts: Mapping[str, Any], phrases: Phrases) -> Page:
    """The whole page of an experiment, without its markup."""
    every, judged = effects(result, facts), trust.judge(result)
    main, level = overall(every), verdict.level_text(alpha_of(result, facts))
    drawn = every_figure(phrases, result, facts, every, level)
    shown = _effects_section(phrases, result, facts, main, drawn)
    causes = (trust.checks_section(phrases, result), evidence.srm_section(phrases, result, facts, drawn))
    sections = (
        *((*causes, shown) if judged.tone == "stop" else (shown, *causes)),
        decided.margins_section(phrases, result),
        decided.looks_section(phrases, result, facts, drawn),
        evidence.cuped_section(phrases, result, overall(effects(single_look(result), facts))),
        further.quantiles_section(phrases, result),
        further.methods_section(phrases, result),
        further.bayes_section(phrases, result),
        evidence.segments_section(phrases, result, facts, every, drawn),
        *designs.sections(phrases, result),
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
        scope=settings.scope(phrases, facts) if judged.tone != "stop" else "",
        reasons=trust.reasons(phrases, judged),
        answers=_answers(phrases, result, facts, judged, main),
        tiles=_tiles(phrases, result, facts, every, judged),
        sections=[section for section in sections if section],
        footer=phrases("footer"),
    )


def _answers(
    phrases: Phrases, result: Result, facts: Mapping[str, Any], judged: trust.Trust, main: Sequence[Effect]
) -> tuple[Answer, ...]:
    """The questions of a meeting; the decision, where a rule was declared, after the first of them."""
    first, *others = verdict.answers(phrases, result, facts, judged, main)
    decision = decided.answer(phrases, result)
    return (first, *([decision] if decision else []), *others)


def drawings(result: Result, facts: Mapping[str, Any], phrases: Phrases) -> dict[str, str]:
    """The drawings alone: fixed file name to SVG text."""
    level = verdict.level_text(alpha_of(result, facts))
    drawn = every_figure(phrases, result, facts, effects(result, facts), level)
    return {f"{name}.svg": figure.svg for name, figure in drawn.items()}


def _tiles(
    phrases: Phrases, result: Result, facts: Mapping[str, Any], every: Sequence[Effect], judged: trust.Trust
) -> list[tuple[str, str]]:
    named = facts.get("arms")
    arms = named if isinstance(named, (list, tuple)) else {row.get("arm") for row in records(table_of(result, "srm"))}
    segments = len({effect.segment for effect in by_segment(list(every))})
    found = {
        "units": numbers.count(facts.get("units")),
        "clusters": numbers.count(_clusters(result)) if settings.clustered(facts) else numbers.DASH,
        "arms": str(len(arms)) if arms else numbers.DASH,
        "metrics": str(len({effect.outcome for effect in every})),
        "segments": str(segments) if segments else numbers.DASH,
        "checks": f"{judged.passed} / {judged.checks}" if judged.checks else numbers.DASH,
    }
    return [(phrases("tile_" + key), value) for key, value in found.items() if value != numbers.DASH]


def _clusters(result: Result) -> float:
    """How many clusters the arms hold."""
    rows = [row for row in records(table_of(result, "srm")) if str(row.get("segment", EVERYONE)) == EVERYONE]
    return sum(numbers.as_float(row.get("n")) for row in rows) if rows else float("nan")


def _metric_cell(phrases: Phrases, effect: Effect, days: Mapping[str, str]) -> Cell:
    words = [phrases.name("role", effect.role), phrases.name("kind", effect.kind) if effect.kind else ""]
    words.append(days.get(effect.outcome, ""))
    return Cell(clip(effect.outcome, 80), " \u00b7 ".join(clip(word, 40) for word in words if word), "strong")


def _effects_section(
    phrases: Phrases, result: Result, facts: Mapping[str, Any], main: Sequence[Effect], drawn: Mapping[str, Figure]
) -> Section:
    level = verdict.level_text(alpha_of(result, facts))
    lead = phrases("s_effects_lead", level=level) if result.trusted else phrases("s_effects_stop")
    shown, arms = _effects_table(phrases, result, facts, main), _arms_table(phrases, result, facts)
    return Section(phrases("s_effects"), lead, blocks(drawn.get("effects"), shown, arms))


def _effects_table(phrases: Phrases, result: Result, facts: Mapping[str, Any], main: Sequence[Effect]) -> Table:
    """A row for each comparison; with several comparisons, the metrics become headings across the table."""
    means, days = _means(result), settings.metric_days(phrases, facts)
    places = {"percent": lift_places(main), "points": points_places(main)}
    several = len({effect.contrast for effect in main}) > 1
    rows: list[list[Cell]] = []
    last = None
    for effect in main:
        name = _metric_cell(phrases, effect, days)
        if several and effect.outcome != last:
            rows.append([name])
        last = effect.outcome
        cells = _effect_cells(phrases, result, effect, means, places)
        rows.append([Cell(clip(effect.contrast, 80)) if several else name, *cells])
    first = Column(phrases("c_contrast" if several else "c_metric"))
    columns = [Column(phrases("c_" + key), "right") for key in ("means", "lift", "difference", "p", "p_adjusted")]
    return table(phrases, [first, *columns, Column(phrases("c_reading"))], rows, "", _raw_note(phrases, main))


def _raw_note(phrases: Phrases, main: Sequence[Effect]) -> str:
    """That the means are as observed while some changes are adjusted."""
    adjusted = list(dict.fromkeys(e.outcome for e in main if e.main.method in ADJUSTED and e.main.known))
    if not adjusted:
        return ""
    if len(adjusted) == len({effect.outcome for effect in main}):
        return phrases("means_raw_all")
    return phrases("means_raw", metrics=phrases.listed(clip(name, 60) for name in adjusted[:12]))


def _effect_cells(
    phrases: Phrases, result: Result, effect: Effect,
    means: Mapping[tuple[str, str], float], places: Mapping[str, int | None],
) -> list[Cell]:  # fmt: skip
    least = places.get(effect.unit)
    return [
        _means_cell(effect, means, least),
        change_cell(effect.lift, "percent", phrases, {1: "up", -1: "down"}.get(effect.moved, ""), places["percent"]),
        change_cell(effect.difference, effect.unit, phrases, "", least),
        p_cell(effect.main.p_value),
        p_cell(effect.main.p_adjusted),
        reading(phrases, effect, result.trusted),
    ]


def _means(result: Result) -> dict[tuple[str, str], float]:
    """(metric, arm) to the mean over everyone."""
    rows = [row for row in records(table_of(result, "arms")) if str(row.get("segment", EVERYONE)) == EVERYONE]
    return {(str(row.get("outcome")), str(row.get("arm"))): numbers.as_float(row.get("mean")) for row in rows}


def _means_cell(effect: Effect, means: Mapping[tuple[str, str], float], least: int | None) -> Cell:
    arms = [arm for outcome, arm in means if outcome == effect.outcome]
    pair = next(((b, a) for a in arms for b in arms if f"{a} vs {b}" == effect.contrast), None)
    if pair is None:
        return Cell(numbers.DASH)
    show = numbers.percent if effect.unit == "points" else numbers.plain
    places = change_places(effect.difference, effect.unit, least)
    return Cell(" \u2192 ".join(show(means[effect.outcome, arm], places) for arm in pair))


def _arms_table(phrases: Phrases, result: Result, facts: Mapping[str, Any]) -> Table | None:
    about, rows = metric_facts(result), []
    digits: dict[str, int] = {}
    for (outcome, _), value in _means(result).items():
        digits[outcome] = max(digits.get(outcome, 0), numbers.places_for(value, 3) if value else 0)
    for row in records(table_of(result, "arms")):
        if str(row.get("segment", EVERYONE)) != EVERYONE:
            continue
        outcome = str(row.get("outcome"))
        points = unit_of(about.get(outcome, {}).get("kind", "")) == "points"
        mean = numbers.percent(row.get("mean"), 2) if points else numbers.plain(row.get("mean"), digits.get(outcome))
        cells = [Cell(clip(row.get("outcome"), 80)), Cell(clip(row.get("arm"), 80)), Cell(numbers.count(row.get("n")))]
        rows.append([*cells, Cell(mean), Cell(numbers.plain(row.get("std_dev"), digits.get(outcome)))])
    columns = [Column(phrases("c_metric")), Column(phrases("c_arm"))]
    columns += [Column(phrases("c_" + key), "right") for key in (settings.things(facts), "mean", "std_dev")]
    return table(phrases, columns, rows, phrases("fold_arms")) if rows else None
