"""Which drawings an experiment has, and what is drawn in each. The file names are fixed, never data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from causal_spark.report import decided, figures, numbers, settings
from causal_spark.report.cells import change_places, lift_places
from causal_spark.report.effects import (
    EVERYONE,
    Change,
    Effect,
    by_segment,
    metric_facts,
    overall,
    records,
    table_of,
    unit_of,
)
from causal_spark.report.figures import Band, ForestRow, Share
from causal_spark.report.marks import PLAIN, Mark, Scale
from causal_spark.report.parts import Figure, clip
from causal_spark.report.phrases import Phrases
from causal_spark.report.trust import before_text, is_true
from causal_spark.results import Result

ACROSS = 4
MAX_CONTRASTS = 4
MAX_METRICS = 12


def mark(change: Change, moved: int = 0) -> Mark:
    """An estimate for a drawing, coloured by its direction if it is significant."""
    return Mark(change.estimate, change.low, change.high, {1: "up", -1: "down"}.get(moved, ""))


def change_text(change: Change, unit: str, least: int | None = None) -> str:
    """``+3.2%  [+1.1%, +5.3%]``; a dash for what was not estimated."""
    if not change.known:
        return numbers.DASH
    places = change_places(change, unit, least)
    spread = numbers.interval(change.low, change.high, unit, places)
    return f"{numbers.FORMATTERS[unit](change.estimate, places, True)}  {spread}".strip()


def effects_figure(phrases: Phrases, every: Sequence[Effect]) -> Figure | None:
    """The forest plot of relative changes, each with its unadjusted twin where there is one."""
    shown = [effect for effect in overall(list(every)) if effect.lift.method]
    if not shown:
        return None
    several = len({effect.contrast for effect in shown}) > 1
    least = lift_places(shown)
    twins = any(effect.raw_lift.method for effect in shown)
    rows = [
        ForestRow(
            effect.outcome,
            effect.contrast if several else "",
            mark(effect.lift, effect.moved),
            mark(effect.raw_lift) if effect.raw_lift.method else None,
            change_text(effect.lift, "percent", least),
        )
        for effect in shown
    ]
    words = (phrases.plain("legend_adjusted"), phrases.plain("legend_raw")) if twins else ()
    svg = figures.forest(rows, name="effects", axis=phrases.plain("axis_lift"), legend=words)
    captions: list[str] = [] if several else [phrases("cap_effects", contrast=clip(shown[0].contrast, 80))]
    captions += [phrases("cap_effects_twin")] if twins else []
    captions += [_missing(phrases, [row.mark for row in rows])]
    if len(rows) > figures.MAX_FOREST_ROWS:
        captions.append(phrases("figure_rows_shown", shown=figures.MAX_FOREST_ROWS, rows=len(rows)))
    return Figure("effects", svg, phrases.joined(caption for caption in captions if caption))


def _missing(phrases: Phrases, marks: Sequence[Mark | None]) -> str:
    """What the cross means, if there is one."""
    return phrases("cap_missing") if any(m and not math.isfinite(m.estimate) for m in marks) else ""


def segment_figures(phrases: Phrases, every: Sequence[Effect]) -> list[Figure]:
    """For each comparison and each four metrics: small forest plots, a line for each segment."""
    parts = [effect for effect in by_segment(list(every)) if effect.lift.method]
    cells = {(e.outcome, e.segment, e.contrast): mark(e.lift, e.moved) for e in every if e.lift.method}
    contrasts = list(dict.fromkeys(e.contrast for e in parts))[:MAX_CONTRASTS]
    found: list[Figure] = []
    for contrast in contrasts:
        here = [e for e in parts if e.contrast == contrast]
        outcomes = list(dict.fromkeys(e.outcome for e in here))[:MAX_METRICS]
        segments = list(dict.fromkeys(e.segment for e in here))
        caption = phrases("cap_segments")
        if len(segments) > figures.MAX_FOREST_ROWS - 1:
            shown = figures.MAX_FOREST_ROWS - 1
            caption = phrases.joined([caption, phrases("figure_rows_shown", shown=shown, rows=len(segments))])
        across = math.ceil(len(outcomes) / math.ceil(len(outcomes) / ACROSS))
        for start in range(0, len(outcomes), across):
            chunk = outcomes[start : start + across]
            name = f"segments_{len(found) + 1}"
            lines = [EVERYONE, *segments]
            marks = [[cells.get((outcome, line, contrast)) for outcome in chunk] for line in lines]
            labels = [phrases.plain("everyone"), *segments]
            svg = figures.matrix(chunk, labels, marks, name=name, axis=phrases.plain("axis_lift"))
            missing = "" if start else _missing(phrases, list(cells.values()))
            caption = phrases.joined([caption, missing]) if missing else caption
            title = "" if start else clip(contrast, 120)
            found.append(Figure(name, svg, caption if start + across >= len(outcomes) else "", title))
    return found


def days_figure(phrases: Phrases, result: Result, level: str) -> Figure | None:
    """Small multiples of the effect by day since exposure, a line for each comparison."""
    frame, about = table_of(result, "by_day"), metric_facts(result)
    if frame.empty:
        return None
    panels = []
    for outcome in list(dict.fromkeys(frame["outcome"].astype(str)))[:MAX_METRICS]:
        kind = str(about.get(outcome, {}).get("kind", ""))
        here = frame[frame["outcome"].astype(str) == outcome]
        contrasts = list(dict.fromkeys(here["contrast"].astype(str)))[:MAX_CONTRASTS]
        bands = [_band(here[here["contrast"].astype(str) == contrast], contrast) for contrast in contrasts]
        points = unit_of(kind) == "points"
        title = f"{clip(outcome, 32)} ({phrases.plain('unit_points')})" if points else outcome
        panels.append((title, bands, Scale(100.0) if points else PLAIN))
    svg = figures.curves(panels, name="by_day", axis=phrases.plain("axis_day"))
    caption = phrases("cap_days", level=level)
    return Figure("by_day", svg, phrases("cap_days_fewer", caption=caption) if _fewer(frame) else caption)


def _fewer(frame: pd.DataFrame) -> bool:
    """True if a later day holds fewer units than an earlier one."""
    if not {"outcome", "contrast", "day", "n"} <= set(frame.columns):
        return False
    parts = frame.sort_values("day").groupby(["outcome", "contrast"])["n"]
    return bool((parts.last() < parts.first()).any())


def _band(frame: pd.DataFrame, contrast: str) -> Band:
    names = ("day", "estimate", "conf_low", "conf_high")
    rows = [[numbers.as_float(row.get(name)) for name in names] for row in records(frame)]
    dated = sorted((row for row in rows if math.isfinite(row[0])), key=lambda row: row[0])
    day, estimate, low, high = ([row[place] for row in dated] for place in range(4))
    return Band(contrast, day, estimate, low, high)


def shares_figure(phrases: Phrases, result: Result, things: str = "units") -> Figure | None:
    """The observed share of each arm beside the planned one, over everyone."""
    rows = [row for row in records(table_of(result, "srm")) if str(row.get("segment", EVERYONE)) == EVERYONE]
    if not rows:
        return None
    bars = []
    for row in rows:
        share, planned = numbers.as_float(row.get("share")), numbers.as_float(row.get("planned"))
        values = {"share": numbers.percent(share, 2), "planned": numbers.percent(planned, 2)}
        key = "share_text" if math.isfinite(planned) else "share_text_short"
        text = phrases.plain(key, **values, n=numbers.count(row.get("n")), things=phrases.plain("things_" + things))
        bars.append(Share(str(row.get("arm")), share, planned, text, is_true(row.get("flagged"))))
    words = phrases.plain("legend_planned"), phrases.plain("legend_observed")
    return Figure("shares", figures.shares(bars, name="shares", planned=words[0], observed=words[1]))


def pre_period_figure(phrases: Phrases, result: Result) -> Figure | None:
    """Differences before the experiment, each in units of its standard error."""
    rows = records(table_of(result, "pre_period"))
    if not rows:
        return None
    several = len({str(row.get("contrast")) for row in rows}) > 1
    lines = []
    for row in rows:
        error = numbers.as_float(row.get("std_error"))
        names = ("estimate", "conf_low", "conf_high")
        estimate, low, high = (numbers.as_float(row.get(name)) / error if error > 0 else math.nan for name in names)
        tone = "alarm" if is_true(row.get("flagged")) else ""
        sub = str(row.get("contrast")) if several else ""
        text = f"p {numbers.p_value(row.get('p_value'))}"
        label = before_text(phrases, result, row.get("outcome"))
        lines.append(ForestRow(label, sub, Mark(estimate, low, high, tone), None, text))
    axis = phrases.plain("axis_errors")
    svg = figures.forest(lines, name="pre_period", axis=axis, scale=PLAIN)
    return Figure("pre_period", svg, phrases("cap_pre"))


def every_figure(
    phrases: Phrases, result: Result, facts: Mapping[str, Any], every: Sequence[Effect], level: str
) -> Mapping[str, Figure]:
    """All drawings of an experiment that its tables allow, by their fixed names."""
    drawn: list[Any] = [
        effects_figure(phrases, every),
        shares_figure(phrases, result, settings.things(facts)),
        *segment_figures(phrases, every),
        days_figure(phrases, result, level),
        pre_period_figure(phrases, result),
        decided.looks_figure(phrases, result, facts),
    ]
    return {figure.name: figure for figure in drawn if figure}
