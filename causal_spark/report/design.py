"""The page of a design: how large, how long, what can be found, and whether the metrics can be trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from causal_spark.report import journey_figures as draw
from causal_spark.report import numbers, provenance, settings, trust
from causal_spark.report.effects import records, table_of
from causal_spark.report.parts import Answer, Block, Cell, Column, Figure, Page, Section, clip, frame_table, table
from causal_spark.report.phrases import Phrases
from causal_spark.results import Result

MOST_LINES = 8
LINES = {"superiority": "line", "non-inferiority": "margin", "equivalence": "equal"}

Row = dict[str, Any]


def page(result: Result, facts: Mapping[str, Any], phrases: Phrases) -> Page:
    """The whole page of a design, without its markup."""
    judged = trust.judge(result)
    headline = {"stop": "headline_stop", "good": "headline_plain_good", "care": "headline_plain_care"}[judged.tone]
    things = phrases("design_things_of_" + settings.things(facts))
    sections = [
        _sizes_section(phrases, result),
        _detectable_section(phrases, result),
        _power_section(phrases, result),
        _aa_section(phrases, result),
        _assigned_section(phrases, result),
        _variance_section(phrases, result),
        _arrivals_section(phrases, result),
        trust.checks_section(phrases, result),
        provenance.notes(phrases, result),
        provenance.computed(phrases, result, facts),
    ]
    return Page(
        title=clip(facts.get("title"), 120) or phrases("untitled"),
        eyebrow=phrases("design_eyebrow"),
        subtitle=provenance.subtitle(facts),
        tone=judged.tone,
        headline=phrases(headline),
        scope=_scope(phrases, result, facts, things),
        reasons=trust.reasons(phrases, judged),
        answers=_answers(phrases, result, things),
        tiles=_tiles(phrases, result, facts),
        sections=[section for section in sections if section],
        footer=phrases("footer"),
    )


def drawings(result: Result, facts: Mapping[str, Any], phrases: Phrases) -> dict[str, str]:
    """The drawings alone: fixed file name to SVG text."""
    made = (_detectable_figure(phrases, result), _p_values_figure(phrases, result))
    return {f"{figure.name}.svg": figure.svg for figure in made if figure}


def _scope(phrases: Phrases, result: Result, facts: Mapping[str, Any], things: str) -> str:
    rows = records(table_of(result, "detectable"))
    level = {row["goal"] == "superiority": numbers.short(row["alpha"]) for row in rows}
    power = numbers.percent(rows[0]["power"], 0) if rows else ""
    said = [phrases("design_scope", things=things, power=power)]
    if True in level:
        side = phrases.name("alternative", facts.get("alternative"))
        said.append(phrases("design_scope_effects", alternative=side, alpha=level[True]))
    if False in level:
        said.append(phrases("design_scope_margins", alpha=level[False]))
    return phrases.joined(said)


def _tiles(phrases: Phrases, result: Result, facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    tiles: list[tuple[str, str]] = [(phrases("design_tile_history"), numbers.count(facts.get("units")))]
    week = table_of(result, "arrivals")
    if len(week):
        tiles.append((phrases("design_tile_week"), numbers.count(week["units"].sum())))
    judged = records(table_of(result, "aa"))
    if judged:
        tiles.append((phrases("design_tile_trusted"), _trusted(phrases, judged)))
    return tiles


def _trusted(phrases: Phrases, judged: Sequence[Row]) -> str:
    good = sum(trust.is_true(row["trusted"]) for row in judged)
    return phrases("design_aa_short", trusted=good, all=len(judged))


def _best(rows: Sequence[Row]) -> list[Row]:
    """Of each metric the rows of the test with covariates, where there is one."""
    adjusted = {row["outcome"] for row in rows if row["test"] == "cuped"}
    return [row for row in rows if row["test"] == "cuped" or row["outcome"] not in adjusted]


def _answers(phrases: Phrases, result: Result, things: str) -> tuple[Answer, ...]:
    needs = [_need(phrases, row, things) for row in _best(records(table_of(result, "sizes")))]
    finds = [_find(phrases, row, things) for row in _best(records(table_of(result, "detectable")))]
    judged = sorted(records(table_of(result, "aa")), key=lambda row: trust.is_true(row["trusted"]))
    verdicts = [phrases("design_aa_line", metric=clip(row["outcome"], 60), test=_test(phrases, row),
                        verdict=row["verdict"]) for row in judged]  # fmt: skip
    tone = "" if not judged else "good" if all(trust.is_true(row["trusted"]) for row in judged) else "care"
    return (
        Answer(phrases("design_q_long"), "", [("", needs[: 2 * MOST_LINES])]),
        Answer(phrases("design_q_find"), "", [("", finds[:MOST_LINES])]),
        Answer(phrases("design_q_metric"), _trusted(phrases, judged) if judged else "",
               [("", verdicts[:MOST_LINES] or [phrases("design_aa_none")])], tone),
    )  # fmt: skip


def _need(phrases: Phrases, row: Row, things: str) -> str:
    values = {"metric": clip(row["outcome"], 60), "lift": _lift(row)}
    if not math.isfinite(row["units"]):
        return phrases("design_need_none", **values, why=row["note"])
    weeks = row.get("weeks", math.nan)
    late = phrases("design_need_late", why=row["note"]) if row["note"] else ""
    time = phrases("design_need_time", weeks=numbers.count(weeks)) if math.isfinite(weeks) else late
    return phrases(
        f"design_need_{LINES[row['goal']]}", **values, units=numbers.count(row["units"]), things=things, time=time
    )


def _find(phrases: Phrases, row: Row, things: str) -> str:
    if not math.isfinite(row["effect"]):
        return phrases("design_find_none", metric=clip(row["outcome"], 60), why=row["note"])
    key = "design_find_line" if row["goal"] == "superiority" else "design_find_margin"
    return phrases(key, metric=clip(row["outcome"], 60), when=_when(phrases, row, things),
                   lift=numbers.percent(row["lift"]), effect=numbers.plain(row["effect"]))  # fmt: skip


def _when(phrases: Phrases, row: Row, things: str) -> str:
    units = numbers.count(row["units"])
    if math.isfinite(row["days"]):
        return phrases("design_when_days", days=numbers.count(row["days"]), units=units, things=things)
    return phrases("design_when_units", units=units, things=things)


def _lift(row: Row) -> str:
    """The relative effect, or the absolute one where there is none."""
    return numbers.percent(row["lift"]) if math.isfinite(row["lift"]) else numbers.plain(row["effect"])


def _test(phrases: Phrases, row: Row) -> str:
    """The test, and what it shows if that is not an effect."""
    name, goal = phrases.name("method", row["test"]), row.get("goal", "superiority")
    return name if goal == "superiority" else f"{name} ({phrases.name('test', goal)})"


def _heads(phrases: Phrases, left: Sequence[str], right: Sequence[str], last: Sequence[str] = ()) -> list[Column]:
    """Columns of words on the left, of numbers on the right, then words again."""
    return [*(Column(phrases(key)) for key in left), *(Column(phrases(key), "right") for key in right),
            *(Column(phrases(key)) for key in last)]  # fmt: skip


def _named(phrases: Phrases, row: Row) -> list[Cell]:
    return [Cell(clip(row["outcome"], 80), "", "strong"), Cell(_test(phrases, row))]


def _formula(phrases: Phrases, row: Row) -> Cell:
    return Cell(phrases.name("design_formula", row["formula"]), clip(row.get("note"), 160))


NAMES = ("c_metric", "design_c_test")
EFFECT = ("design_c_effect_lift", "design_c_effect_absolute")


def _sizes_section(phrases: Phrases, result: Result) -> Section | None:
    rows = [
        [*_named(phrases, row), Cell(numbers.percent(row["lift"])), Cell(numbers.plain(row["effect"])),
         Cell(numbers.count(row["units"])), Cell(numbers.count(row["days"])), Cell(numbers.count(row["weeks"])),
         _formula(phrases, row)]
        for row in records(table_of(result, "sizes"))
    ]  # fmt: skip
    columns = _heads(phrases, NAMES, (*EFFECT, "c_units", "c_days", "design_c_weeks"), ("design_c_formula",))
    lead = phrases("design_s_sizes_needed_lead")
    return Section(phrases("design_s_sizes_needed"), lead, (table(phrases, columns, rows),)) if rows else None


def _detectable_section(phrases: Phrases, result: Result) -> Section | None:
    rows = [
        [*_named(phrases, row), Cell(numbers.count(row["days"])), Cell(numbers.count(row["units"])),
         Cell(numbers.percent(row["lift"])), Cell(numbers.plain(row["effect"])), _formula(phrases, row)]
        for row in records(table_of(result, "detectable"))
    ]  # fmt: skip
    columns = _heads(phrases, NAMES, ("c_days", "c_units", *EFFECT), ("design_c_formula",))
    figure = _detectable_figure(phrases, result)
    blocks: list[Block] = [*([figure] if figure else []), table(phrases, columns, rows)]
    return Section(phrases("design_s_detectable"), phrases("design_s_detectable_lead"), blocks)


def _detectable_figure(phrases: Phrases, result: Result) -> Figure | None:
    """A curve of the smallest relative effect for each metric, with and without covariates."""
    every = [row for row in records(table_of(result, "curve")) if math.isfinite(row["lift"])]
    if not every:
        return None
    axis = "days" if math.isfinite(every[0]["days"]) else "units"
    panels = []
    for outcome in dict.fromkeys(str(row["outcome"]) for row in every):
        mine = [row for row in every if str(row["outcome"]) == outcome]
        tests = {_test(phrases, row): row["test"] for row in mine}
        series = {name: [100 * row["lift"] for row in mine if row["test"] == test] for name, test in tests.items()}
        shown = [row[axis] for row in mine if row["test"] == mine[0]["test"]]
        panels.append((outcome, shown, {name: line for name, line in series.items() if len(line) == len(shown)}))
    svg = draw.lines(panels, name="detectable", axis=phrases.plain("design_axis_" + axis), percent=False)
    return Figure("detectable", svg, phrases("design_fig_detectable_" + axis), phrases.plain("design_fig_detectable"))


def _power_section(phrases: Phrases, result: Result) -> Section | None:
    rows = [
        [*_named(phrases, row), Cell(numbers.count(row["days"])), Cell(numbers.count(row["units"])),
         Cell(numbers.percent(row["lift"])), Cell(numbers.plain(row["effect"])), Cell(numbers.percent(row["power"], 1))]
        for row in records(table_of(result, "power"))
    ]  # fmt: skip
    columns = _heads(phrases, NAMES, ("c_days", "c_units", *EFFECT, "design_c_power"))
    lead = phrases("design_s_power_lead")
    return Section(phrases("design_s_power"), lead, (table(phrases, columns, rows),)) if rows else None


def _aa_section(phrases: Phrases, result: Result) -> Section | None:
    rows = []
    for row in records(table_of(result, "aa")):
        good = trust.is_true(row["trusted"])
        band = f"{numbers.percent(row.get('band_low'))} \u2013 {numbers.percent(row.get('band_high'))}"
        rows.append([*_named(phrases, row), Cell(phrases("design_yes" if good else "design_no"), "",
                                                 "pass" if good else "warn", True),
                     Cell(numbers.count(row["splits"])), Cell(numbers.percent(row.get("rejection"))), Cell(band),
                     Cell(numbers.p_value(row.get("ks_p"))), Cell(numbers.plain(row.get("spread"), 3))])  # fmt: skip
    if not rows:
        return None
    keys = ("splits", "rejection", "band", "uniform", "spread")
    columns = _heads(phrases, (*NAMES, "design_c_trusted"), tuple("design_c_" + key for key in keys))
    figure = _p_values_figure(phrases, result)
    blocks: list[Block] = [*([figure] if figure else []), table(phrases, columns, rows)]
    return Section(phrases("design_s_aa"), phrases("design_s_aa_lead"), blocks)


def _p_values_figure(phrases: Phrases, result: Result) -> Figure | None:
    every = _best(records(table_of(result, "p_values")))
    if not every:
        return None
    panels = []
    for outcome in dict.fromkeys(str(row["outcome"]) for row in every):
        mine = [row for row in every if str(row["outcome"]) == outcome]
        middle = [(row["low"] + row["high"]) / 2 for row in mine]
        panels.append((outcome, middle, {outcome: [row["share"] for row in mine]}))
    svg = draw.lines(panels, name="p_values", axis=phrases.plain("design_axis_p"))
    return Figure("p_values", svg, phrases("design_fig_p_values_is"), phrases.plain("design_fig_p_values"))


def _assigned_section(phrases: Phrases, result: Result) -> Section | None:
    found = records(table_of(result, "assigned"))
    if not found:
        return None
    rows = [[Cell(clip(row["arm"], 80)), Cell(numbers.count(row["n"])), Cell(numbers.percent(row["share"], 2)),
             Cell(numbers.percent(row["planned"], 2))] for row in found]  # fmt: skip
    columns = _heads(phrases, ("c_arm",), ("c_units", "c_share", "c_planned"))
    first = found[0]
    key = "design_s_assigned_lead" if first["draws"] == 1 else "design_s_assigned_balanced"
    values = {} if first["draws"] == 1 else {
        "draws": numbers.count(first["draws"]), "distance": numbers.plain(first["distance"]),
        "limit": numbers.plain(first["limit"]),
    }  # fmt: skip
    left = table_of(result, "covariates")
    folded = [frame_table(phrases, left, phrases("design_fold_covariates_left"))] if len(left) else []
    lead = phrases(key, salt=clip(first["salt"], 120), **values)
    return Section(phrases("design_s_assigned"), lead, (table(phrases, columns, rows), *folded))


def _variance_section(phrases: Phrases, result: Result) -> Section:
    found = records(table_of(result, "metrics"))
    clustered = "design_effect" in table_of(result, "metrics").columns
    more = ("design_effect", "icc") if clustered else ()
    rows = [
        [*_named(phrases, row), *(Cell(numbers.plain(row[key])) for key in ("mean", "variance")),
         Cell(numbers.plain(row["rho2"], 3)), Cell(numbers.percent(row["variance_kept"], 1)),
         *(Cell(numbers.plain(row[key], 3)) for key in more)]
        for row in found
    ]  # fmt: skip
    keys = ("c_mean", "design_c_variance", "c_rho2", "design_c_kept", *("design_c_" + key for key in more))
    columns = _heads(phrases, NAMES, keys)
    return Section(
        phrases("design_s_variance"), phrases("design_s_variance_lead"), (table(phrases, columns, rows),)
    )  # fmt: skip


def _arrivals_section(phrases: Phrases, result: Result) -> Section | None:
    rows = [[Cell(phrases.name("design_weekday", int(row["weekday"]))), Cell(numbers.count(row["units"]))]
            for row in records(table_of(result, "arrivals"))]  # fmt: skip
    columns = _heads(phrases, ("design_c_weekday",), ("c_units",))
    return Section(phrases("design_s_arrivals"), "", (table(phrases, columns, rows),)) if rows else None
