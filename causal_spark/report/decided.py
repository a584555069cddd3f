"""The parts of an experiment's page that say what to do: the decision, the margins, the looks under a plan."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from causal_spark.report import look_figures, numbers, settings, trust
from causal_spark.report.cells import blocks, change_cell, p_cell
from causal_spark.report.effects import Change, alpha_of, metric_facts, records, table_of, unit_of
from causal_spark.report.look_figures import Path
from causal_spark.report.parts import Answer, Cell, Column, Figure, Section, Table, clip, table
from causal_spark.report.phrases import Phrases
from causal_spark.results import Result
from causal_spark.words import say

TONES = {"ship": "good", "keep_testing": "care", "stop": "stop"}
STATES = {"safe": "pass", "worse": "invalid", "open": "warn"}
MAX_PANELS = 12


def answer(phrases: Phrases, result: Result) -> Answer | None:
    """The decision on each contrast with its reason; None where no rule was declared."""
    rows = records(table_of(result, "decision"))
    if not rows:
        return None
    words = {str(row["contrast"]): say(f"decision_{row['verdict']}", phrases.language) for row in rows}
    one = len(set(words.values())) == 1
    short = next(iter(words.values())) if one else phrases.listed(
        phrases("decided_each", contrast=clip(contrast, 60), verdict=word) for contrast, word in words.items()
    )  # fmt: skip
    tones = {TONES[str(row["verdict"])] for row in rows}
    groups = [(clip(row["contrast"], 120) if len(rows) > 1 else "", [clip(row["sentence"])]) for row in rows]
    return Answer(phrases("q_decide"), short, groups, tones.pop() if len(tones) == 1 else "care")


def margins_section(phrases: Phrases, result: Result) -> Section | None:
    """Every guardrail and margin with its interval, power and standing."""
    about = metric_facts(result)
    rows = [_margin_row(phrases, row, about) for row in records(table_of(result, "margins"))]
    if not rows:
        return None
    columns = [Column(phrases("c_" + key)) for key in ("metric", "test")]
    columns += [Column(phrases("c_" + key), "right") for key in ("margin", "effect_interval", "p", "power")]
    planned = any(numbers.as_float(row.get("planned")) > 0 for row in records(table_of(result, "margins")))
    columns += [Column(phrases("c_power_planned"), "right")] if planned else []
    columns += [Column(phrases("c_units_needed"), "right"), Column(phrases("c_state"))]
    rows = rows if planned else [[*row[:6], *row[7:]] for row in rows]
    return Section(phrases("s_margins"), phrases("s_margins_lead"), (table(phrases, columns, rows),))


def _margin_row(phrases: Phrases, row: Mapping[str, Any], about: Mapping[str, Mapping[str, Any]]) -> list[Cell]:
    unit = "percent" if row["scale"] == "relative" else unit_of(about.get(str(row["outcome"]), {}).get("kind"))
    estimate, low, high = (numbers.as_float(row[name]) for name in ("estimate", "conf_low", "conf_high"))
    change = Change("row", estimate, low, high)
    margin = numbers.as_float(row["margin"])
    shown = (
        numbers.DASH if math.isnan(margin) else phrases.with_unit(numbers.FORMATTERS[unit](margin, None, False), unit)
    )
    state = str(row["state"])
    return [
        Cell(clip(row["outcome"], 80), clip(row["contrast"], 80), "strong"),
        Cell(phrases.name("test", row["test"]), phrases.name("good", row["good"])),
        Cell(shown),
        change_cell(change, unit, phrases),
        p_cell(row["p_value"]),
        Cell(numbers.percent(row["power"], 0)),
        Cell(numbers.percent(row["power_planned"], 0)),
        Cell(numbers.count(row["units_needed"])),
        Cell(phrases.name("state", state), tone=STATES.get(state, "muted"), badge=True),
    ]


def looks_section(
    phrases: Phrases, result: Result, facts: Mapping[str, Any], drawn: Mapping[str, Figure]
) -> Section | None:
    """z at every look against its bound, and the looks in numbers."""
    shown = _looks_table(phrases, result)
    if shown is None:
        return None
    plan = settings.method_of(facts).get("sequential")
    kind = phrases.name("sequential", plan.get("kind")) if isinstance(plan, Mapping) else ""
    lead = phrases("s_looks_lead", kind=kind, alpha=f"{alpha_of(result, facts) * 100:g}%")
    return Section(phrases("s_looks"), lead, blocks(drawn.get("looks"), shown))


def _looks_table(phrases: Phrases, result: Result) -> Table | None:
    rows = []
    for row in records(table_of(result, "looks")):
        hit = trust.is_true(row.get("crossed"))
        rows.append([
            Cell(clip(row["outcome"], 80), clip(row["contrast"], 80), "strong"),
            Cell(numbers.count(row["look"]), clip(row["date"], 40)[:10]),
            Cell(numbers.count(row["n"])),
            Cell(numbers.percent(row["fraction"], 1)),
            Cell(numbers.plain(row["statistic"], 3, True)),
            Cell(numbers.plain(row["bound"], 3)),
            p_cell(row["nominal"]) if row["nominal"] else Cell("0"),
            p_cell(row["spent"]),
            p_cell(row["p_value"]),
            Cell(phrases("look_crossed" if hit else "look_open"), tone="pass" if hit else "muted", badge=True),
        ])  # fmt: skip
    keys = ("look", "n", "fraction", "z", "z_bound", "nominal", "spent", "p_looks")
    columns = [Column(phrases("c_metric")), *(Column(phrases("c_" + key), "right") for key in keys)]
    return table(phrases, [*columns, Column(phrases("c_verdict"))], rows, phrases("fold_looks")) if rows else None


def looks_figure(phrases: Phrases, result: Result, facts: Mapping[str, Any]) -> Figure | None:
    """A panel for each metric and contrast: z at every look between the bounds."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in records(table_of(result, "looks")):
        found.setdefault((str(row["outcome"]), str(row["contrast"])), []).append(row)
    if not found:
        return None
    several = len({contrast for _, contrast in found}) > 1
    side = str(facts.get("alternative") or "two-sided")
    panels = []
    for (outcome, contrast), rows in list(found.items())[:MAX_PANELS]:
        x, z, bound = ([numbers.as_float(row[name]) for row in rows] for name in ("fraction", "statistic", "bound"))
        panels.append(Path(f"{outcome}, {contrast}" if several else outcome, x, z, bound, side))
    words = (phrases.plain("legend_z"), phrases.plain("legend_bound"))
    svg = look_figures.looks(panels, name="looks", axis=phrases.plain("axis_fraction"), legend=words)
    caption = phrases("fig_looks")
    if len(found) > MAX_PANELS:
        caption = phrases.joined([caption, phrases("figure_rows_shown", shown=MAX_PANELS, rows=len(found))])
    return Figure("looks", svg, caption)
