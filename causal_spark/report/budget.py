"""The page of a budget: where the money goes, what it should bring, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from causal_spark.report import journey_figures as draw
from causal_spark.report import numbers, provenance, trust
from causal_spark.report.effects import table_of
from causal_spark.report.parts import Answer, Cell, Column, Figure, Page, Section, Table, clip, frame_table, table
from causal_spark.report.phrases import Phrases
from causal_spark.results import Result


def page(result: Result, facts: Mapping[str, Any], phrases: Phrases) -> Page:
    """The whole page of a budget, without its markup."""
    judged = trust.judge(result)
    headline = {"stop": "headline_stop", "good": "headline_plain_good", "care": "headline_plain_care"}[judged.tone]
    sections = [
        _plan_section(phrases, result),
        _curves_section(phrases, result),
        _scenarios_section(phrases, result),
        trust.checks_section(phrases, result, "s_checks_numbers"),
        provenance.notes(phrases, result),
        provenance.computed(phrases, result, {**facts, "units": None}),
    ]
    return Page(
        title=clip(facts.get("title"), 120) or phrases("untitled"),
        eyebrow=phrases("eyebrow_budget"),
        subtitle=provenance.subtitle(facts),
        tone=judged.tone,
        headline=phrases(headline),
        scope=phrases("budget_scope"),
        reasons=trust.reasons(phrases, judged),
        answers=_answers(phrases, result, judged),
        tiles=_tiles(phrases, result),
        sections=[section for section in sections if section],
        footer=phrases("footer"),
    )


def drawings(result: Result, facts: Mapping[str, Any], phrases: Phrases) -> dict[str, str]:
    """The drawings alone: fixed file name to SVG text."""
    return {
        f"{figure.name}.svg": figure.svg for figure in (_plan_figure(phrases, result), _curves_figure(phrases, result))
    }


def _total(result: Result, outcome: str) -> tuple[float, float, float]:
    """A total with its interval."""
    frame = result.estimates
    row = frame[(frame["term"] == "(total)") & (frame["outcome"] == outcome)].iloc[0]
    return float(row["estimate"]), float(row["conf_low"]), float(row["conf_high"])


def _tiles(phrases: Phrases, result: Result) -> list[tuple[str, str]]:
    plan = table_of(result, "plan")
    return [
        (phrases("tile_spend_now"), numbers.plain(plan["spend_now"].sum())),
        (phrases("tile_spend_planned"), numbers.plain(plan["spend_planned"].sum())),
        (phrases("tile_gain"), numbers.plain(_total(result, "gain")[0], None, True)),
    ]


def _answers(phrases: Phrases, result: Result, judged: trust.Trust) -> tuple[Answer, ...]:
    gain, low, high = _total(result, "gain")
    span = numbers.interval(low, high, "number", None)
    plan = table_of(result, "plan")
    moves = plan.reindex(plan["change"].abs().sort_values(ascending=False, kind="stable").index)
    lines = [
        phrases("move_line", channel=clip(row["channel"], 60), now=numbers.plain(row["spend_now"]),
                planned=numbers.plain(row["spend_planned"]))
        for _, row in moves.head(5).iterrows()
    ]  # fmt: skip
    saves = float(plan["change"].sum()) < 0
    fewer = "gain_less" if saves else "gain_worse"
    known = "gain_sure" if low > 0 else fewer if high < 0 else "gain_unsure" if low <= 0 else "gain_unknown"
    return (
        Answer(phrases("q_trust"), phrases("trust_" + judged.tone), [("", trust.trust_lines(phrases, judged))],
               judged.tone),
        Answer(phrases("q_moves"), "", [("", [*lines, *_held(phrases, plan)])]),
        Answer(phrases("q_gain"), numbers.plain(gain, None, True), [("", [phrases(known, span=span)])]),
    )  # fmt: skip


def _held(phrases: Phrases, plan: pd.DataFrame) -> list[str]:
    """One sentence for each channel at a bound."""
    lines: list[str] = []
    for _, row in plan.iterrows():
        name = clip(row["channel"], 60)
        if row["binding"] in ("lower", "upper"):
            marginal = numbers.plain(row["marginal_planned"])
            lines.append(phrases(f"held_{row['binding']}", channel=name, marginal=marginal))
    return lines


def _plan_figure(phrases: Phrases, result: Result) -> Figure:
    plan = table_of(result, "plan")
    texts = []
    for _, row in plan.iterrows():
        bound = phrases.name("bound", row["binding"]) if row["binding"] else ""
        ends = {end: numbers.plain(row.get(f"marginal_{end}")) for end in ("now", "planned")}
        marginal = "" if row["binding"] == "no_curve" else phrases.plain("marginal_text", **ends)
        texts.append(f"{marginal} {bound}".strip())
    svg = draw.pairs(list(map(str, plan["channel"])), plan["spend_now"].tolist(), plan["spend_planned"].tolist(), texts,
                     name="plan", words=(phrases.plain("word_now"), phrases.plain("word_planned")))  # fmt: skip
    return Figure("plan", svg, phrases("fig_plan_is"), phrases.plain("fig_plan"))


def _plan_section(phrases: Phrases, result: Result) -> Section:
    return Section(
        phrases("s_plan"), phrases("s_plan_lead"), (_plan_figure(phrases, result), _plan_table(phrases, result))
    )


def _plan_table(phrases: Phrases, result: Result) -> Table:
    keys = ("spend_now", "spend_planned", "outcome_now", "outcome_planned", "marginal_now", "marginal_planned")
    rows = []
    for _, row in table_of(result, "plan").iterrows():
        bound = phrases.name("bound", row["binding"]) if row["binding"] else ""
        rows.append([Cell(clip(row["channel"], 60)), *(Cell(numbers.plain(row.get(key))) for key in keys), Cell(bound)])
    columns = [Column(phrases("c_channel")), *(Column(phrases("c_" + key), "right") for key in keys),
               Column(phrases("c_bound"))]  # fmt: skip
    return table(phrases, columns, rows)


def _curves_figure(phrases: Phrases, result: Result) -> Figure:
    plan, points, history = (table_of(result, name) for name in ("plan", "points", "history"))
    curves = []
    for channel in dict.fromkeys(points["channel"].astype(str)):
        at, past = points[points["channel"] == channel], history[history["channel"] == channel]
        mine = plan[plan["channel"] == channel].iloc[0]
        curves.append(draw.Response(channel, at["spend"].tolist(), at["outcome"].tolist(), at["conf_low"].tolist(),
                                    at["conf_high"].tolist(),
                                    list(zip(past["spend"].tolist(), past["outcome"].tolist(), strict=True)),
                                    float(mine["spend_now"]), float(mine["spend_planned"])))  # fmt: skip
    svg = draw.responses(curves, name="curves", now=phrases.plain("word_now"), planned=phrases.plain("word_planned"),
                         axis=phrases.plain("fig_curves_axis"))  # fmt: skip
    return Figure("curves", svg, phrases("fig_curves_is"), phrases.plain("fig_curves"))


def _curves_section(phrases: Phrases, result: Result) -> Section:
    folded = frame_table(phrases, table_of(result, "curves"), phrases("fold_curves"))
    return Section(phrases("s_curves"), phrases("s_curves_lead"), (_curves_figure(phrases, result), folded))


def _scenarios_section(phrases: Phrases, result: Result) -> Section:
    frame = table_of(result, "scenarios")
    rows = []
    for _, row in frame.iterrows():
        span = numbers.interval(float(row["conf_low"]), float(row["conf_high"]), "number", None)
        gain = Cell(numbers.plain(row["gain"], None, True), span)
        spend, beyond = Cell(numbers.plain(row["spend"])), Cell(clip(row["beyond_observed"], 80))
        rows.append([Cell(clip(phrases.name("scenario", row["scenario"]), 140)), spend, gain, beyond])
    columns = [Column(phrases("c_scenario")), Column(phrases("c_spend"), "right"), Column(phrases("c_gain"), "right"),
               Column(phrases("c_beyond"))]  # fmt: skip
    return Section(phrases("s_scenarios"), phrases("s_scenarios_lead"), (table(phrases, columns, rows),))
