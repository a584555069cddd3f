"""The page of an observational comparison: the question, the verdict, the effects, and how alike the units are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from causal_spark.report import figures, numbers, provenance, settings, similar, told, trust, verdict
from causal_spark.report.cells import blocks, change_cell, p_cell, reading
from causal_spark.report.compared import Line, leading, lines, names, places, texts
from causal_spark.report.drawings import change_text, mark
from causal_spark.report.effects import Change, alpha_of, records, table_of
from causal_spark.report.figures import ForestRow
from causal_spark.report.marks import PERCENT, PLAIN, Mark
from causal_spark.report.parts import Cell, Column, Figure, Lines, Page, Section, Table, Terms, clip, table
from causal_spark.report.phrases import Phrases
from causal_spark.results import Result

MAX_OUTCOMES = 12
FOLDED = 16  # rows of a table that is folded behind its drawing
ASSUMPTIONS = ("unconfounded", "positivity", "before", "no_interference", "one_treatment")
WORDS = ("smd", "propensity", "ess", "interval", "p")


def page(result: Result, facts: Mapping[str, Any], phrases: Phrases) -> Page:
    """The whole page of an observational comparison, without its markup."""
    every, judged = lines(result, facts), trust.judge(result)
    main, drawn = leading(every, facts), _figures(phrases, result, facts, every)
    shown = (_effects_section(phrases, result, facts, every, drawn), _returns_section(phrases, every, drawn))
    checks = trust.checks_section(phrases, result)
    sections = (
        *((checks, *shown) if judged.tone == "stop" else shown),
        similar.balance_section(phrases, result, facts, drawn),
        similar.overlap_section(phrases, result, drawn),
        similar.sizes_section(phrases, result),
        similar.sensitivity_section(phrases, result),
        *(() if judged.tone == "stop" else (checks,)),
        provenance.notes(phrases, result),
        *_closing(phrases, result, facts, every),
    )
    return Page(
        title=clip(facts.get("title"), 120) or phrases("untitled"),
        eyebrow=phrases("eyebrow_matching"),
        subtitle=told.question(phrases, every, facts) + "\n" + provenance.subtitle(facts),
        tone=judged.tone,
        headline=told.headline(phrases, judged, main),
        scope=told.scope(phrases, judged, main),
        reasons=trust.reasons(phrases, judged),
        answers=told.answers(phrases, result, facts, judged, every, main),
        tiles=_tiles(phrases, result, facts, every, judged),
        sections=[section for section in sections if section],
        footer=phrases("footer"),
    )


def drawings(result: Result, facts: Mapping[str, Any], phrases: Phrases) -> dict[str, str]:
    """The drawings alone: fixed file name to SVG text."""
    drawn = _figures(phrases, result, facts, lines(result, facts))
    return {f"{name}.svg": figure.svg for name, figure in drawn.items()}


def _figures(phrases: Phrases, result: Result, facts: Mapping[str, Any], every: Sequence[Line]) -> dict[str, Figure]:
    drawn = [
        *_effect_figures(phrases, every),
        _returns_figure(phrases, leading(every, facts)),
        *similar.balance_figures(phrases, result, facts),
        similar.overlap_figure(phrases, result),
    ]
    return {figure.name: figure for figure in drawn if figure}


def _tiles(
    phrases: Phrases, result: Result, facts: Mapping[str, Any], every: Sequence[Line], judged: trust.Trust
) -> list[tuple[str, str]]:
    before = [row for row in records(table_of(result, "sizes")) if str(row.get("estimator")) == similar.BEFORE]
    treatments = names(every, "treatment")
    found = {
        "units": numbers.count(facts.get("units")),
        "treated": numbers.count(before[0].get("focal")) if len(before) == 1 else numbers.DASH,
        "treatments": str(len(treatments)) if len(treatments) > 1 else numbers.DASH,
        "outcomes": str(len({line.outcome for line in every if not line.placebo})),
        "estimators": str(len({line.estimator for line in every if not line.comparison})),
        "checks": f"{judged.passed} / {judged.checks}" if judged.checks else numbers.DASH,
    }
    return [(phrases("tile_" + key), value) for key, value in found.items() if value != numbers.DASH]


# effects ------------------------------------------------------------------------------------------------------------


def _effect_figures(phrases: Phrases, every: Sequence[Line]) -> list[Figure]:
    """For each outcome a forest plot of all treatments and estimators."""
    found = []
    for index, outcome in enumerate(names(every, "outcome")[:MAX_OUTCOMES]):
        some = [line for line in every if line.outcome == outcome]
        least = places(some)
        rows = [
            ForestRow(
                line.treatment,
                _figure_name(phrases, line),
                mark(line.change, line.effect.moved),
                None,
                change_text(line.change, "number", least),
            )
            for line in some
        ]
        axis = phrases.plain("axis_effect", outcome=clip(outcome, 40))
        name = f"effects_{index + 1}"
        svg = figures.forest(rows, name=name, axis=axis, scale=PLAIN)
        title = _on(phrases, some[0]) if len(names(every, "outcome")) > 1 else ""
        found.append(Figure(name, svg, _rows_shown(phrases, len(rows)), title))
    return found


def _on(phrases: Phrases, line: Line) -> str:
    return phrases("on_placebo" if line.placebo else "on_outcome", outcome=clip(line.outcome, 80))


def _figure_name(phrases: Phrases, line: Line) -> str:
    word = phrases.name("method", line.estimator)
    return phrases.plain("for_comparison", estimator=word) if line.comparison else word


def _rows_shown(phrases: Phrases, rows: int) -> str:
    if rows <= figures.MAX_FOREST_ROWS:
        return ""
    return phrases("figure_rows_shown", shown=figures.MAX_FOREST_ROWS, rows=rows)


def _effects_section(
    phrases: Phrases, result: Result, facts: Mapping[str, Any], every: Sequence[Line], drawn: Mapping[str, Figure]
) -> Section:
    level = verdict.level_text(alpha_of(result, facts))
    lead = phrases("s_compared_lead", level=level) if result.trusted else phrases("s_compared_stop")
    some = [figure for name, figure in drawn.items() if name.startswith("effects_")]
    return Section(phrases("s_effects"), lead, blocks(*some, _effects_table(phrases, result, every)))


def _effects_table(phrases: Phrases, result: Result, every: Sequence[Line]) -> Table | None:
    """A heading for each treatment and outcome, under it a line for each estimator."""
    rows: list[list[Cell]] = []
    for pair in dict.fromkeys(line.pair for line in every):
        some = [line for line in every if line.pair == pair]
        rows.append([Cell(clip(pair[0], 80), _on(phrases, some[0]), "strong")])
        rows += [_effect_cells(phrases, result, line, places(some)) for line in some]
    columns = [Column(phrases("c_estimator")), Column(phrases("c_estimand"))]
    columns += [Column(phrases("c_" + key), "right") for key in ("effect", "p", "n")]
    summary = phrases("fold_effects") if len(rows) > FOLDED else ""
    return table(phrases, [*columns, Column(phrases("c_reading"))], rows, summary) if rows else None


def _effect_cells(phrases: Phrases, result: Result, line: Line, least: int | None) -> list[Cell]:
    tone = {1: "up", -1: "down"}.get(line.effect.moved, "")
    return [
        Cell(clip(phrases.name("method", line.estimator), 60), clip(line.change.note, 160)),
        Cell(clip(line.estimand, 20) or numbers.DASH, clip(phrases.name("about", line.estimand or "none"), 60)),
        change_cell(line.change, "number", phrases, tone, least),
        p_cell(line.change.p_value),
        Cell(numbers.count(line.change.n)),
        _reading(phrases, result, line),
    ]


def _reading(phrases: Phrases, result: Result, line: Line) -> Cell:
    """The badge that says what a reader may say."""
    if line.comparison:
        return Cell(phrases("reading_comparison"), tone="muted", badge=True)
    if line.placebo and result.trusted and line.change.known:
        key, tone = ("placebo_moved", "invalid") if line.effect.moved else ("placebo_still", "pass")
        return Cell(phrases("reading_" + key), tone=tone, badge=True)
    return reading(phrases, line.effect, result.trusted)


# returns ------------------------------------------------------------------------------------------------------------


def _returns_figure(phrases: Phrases, main: Sequence[Line]) -> Figure | None:
    """The return on spend of each treatment by the leading estimator."""
    paid = [(line, line.times["roi"]) for line in main if "roi" in line.times]
    if not paid:
        return None
    rows = [
        ForestRow(
            line.treatment,
            phrases.name("method", line.estimator),
            Mark(change.estimate, change.low, change.high, _return_tone(change)) if line.effect.moved else mark(change),
            None,
            change_text(change, "percent"),
        )
        for line, change in paid
    ]
    svg = figures.forest(rows, name="returns", axis=phrases.plain("axis_roi"), scale=PERCENT)
    return Figure("returns", svg, _rows_shown(phrases, len(rows)))


def _return_tone(change: Change) -> str:
    """In colour if the whole interval is on one side of paying for itself."""
    return "up" if change.low > 0 else "down" if change.high < 0 else ""


def _returns_section(phrases: Phrases, every: Sequence[Line], drawn: Mapping[str, Figure]) -> Section | None:
    some = [line for line in every if line.times]
    if not some:
        return None
    paid = any("roi" in line.times for line in some)
    rows = [_return_cells(phrases, line, paid) for line in some]
    columns = [Column(phrases("c_" + key)) for key in ("treatment", "outcome", "estimator")]
    columns += [Column(phrases("c_" + key), "right") for key in ("incremental", *(["roi"] if paid else []))]
    summary = phrases("fold_effects") if len(rows) > FOLDED else ""
    lead = phrases("s_paid_lead") if paid else phrases("s_incremental_lead")
    title = phrases("s_paid") if paid else phrases("s_incremental")
    return Section(title, lead, blocks(drawn.get("returns"), table(phrases, columns, rows, summary)))


def _return_cells(phrases: Phrases, line: Line, paid: bool) -> list[Cell]:
    notes = " ".join(change.note for change in line.times.values())
    cells = [
        Cell(clip(line.treatment, 80), "", "strong"),
        Cell(clip(line.outcome, 80)),
        Cell(clip(phrases.name("method", line.estimator), 60), clip(notes, 160)),
    ]
    units = (("incremental", "number"), *((("roi", "percent"),) if paid else ()))
    for term, unit in units:
        found = line.times.get(term)
        cells.append(change_cell(found, unit, phrases) if found else Cell(numbers.DASH))
    return cells


# the end of the page ------------------------------------------------------------------------------------------------


def _closing(phrases: Phrases, result: Result, facts: Mapping[str, Any], every: Sequence[Line]) -> list[Section | None]:
    assumed = [phrases("assume_" + key) for key in ASSUMPTIONS]
    assumed += [phrases("assume_several")] if len(names(every, "treatment")) > 1 else []
    words = [(phrases(f"word_{key}"), phrases(f"word_{key}_is")) for key in WORDS]
    return [
        Section(phrases("s_assumptions"), phrases("s_assumptions_lead"), (Lines(assumed),)),
        _computed(phrases, result, facts),
        Section(phrases("s_glossary"), "", (Terms(words),)) if every else None,
    ]


def _computed(phrases: Phrases, result: Result, facts: Mapping[str, Any]) -> Section | None:
    """The facts of the run that all jobs share, with the settings of this one before them."""
    shared = {key: value for key, value in facts.items() if key not in ("method", "units", "correction")}
    found = provenance.computed(phrases, result, shared)
    mine = _settings(phrases, result, facts)
    if not mine:
        return found
    return Section(phrases("s_computed"), "", (Terms(mine, compact=True), *(found.blocks if found else ())))


def _settings(phrases: Phrases, result: Result, facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was set, in the words of the configuration."""
    method = settings.method_of(facts)
    lists = {key: texts(method.get(key)) for key in ("treatments", "outcomes", "placebo_outcomes")}
    lists["covariates"] = tuple(_columns(method.get("covariates")))
    found: dict[str, str] = {k: phrases.listed(clip(name, 60) for name in some) for k, some in lists.items()}
    found |= {key: clip(method.get(key), 80) for key in ("estimand", "score")}
    found["clusters"] = clip(method.get("cluster"), 80)
    if "matching" in texts(method.get("estimators")):
        found["matching"] = _matching(method.get("matching"))
    trim = method.get("trim")
    found["trim"] = clip(trim if isinstance(trim, str) else ", ".join(texts(trim)), 80)
    known = [(phrases("fact_" + key), value) for key, value in found.items() if value]
    wanted = {phrases("fact_unit"), phrases("fact_where")}
    return [*(pair for pair in settings.pairs(phrases, result, facts, False) if pair[0] in wanted), *known]


def _columns(value: object) -> list[str]:
    """The names of covariates, given as texts or as settings."""
    every = value if isinstance(value, (list, tuple)) else ()
    return [str(item.get("name")) if isinstance(item, Mapping) else str(item) for item in every]


def _matching(value: object) -> str:
    """``distance logit, ratio 1, order closest``: the settings of the matching as they were given."""
    rules = value if isinstance(value, Mapping) else {}
    keys = ("distance", "caliper", "caliper_scale", "ratio", "replace", "order", "exact")
    if rules.get("caliper") is None:
        keys = tuple(key for key in keys if not key.startswith("caliper"))
    if rules.get("replace"):
        keys = tuple(key for key in keys if key != "order")
    said = {key: ", ".join(texts(rules[key])) if key == "exact" else str(rules[key]) for key in keys if key in rules}
    return clip(", ".join(f"{key} {text}" for key, text in said.items() if text), 200)
