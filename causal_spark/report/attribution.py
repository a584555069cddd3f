"""The page of an attribution: who gets the credit under which model, and what that does not say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from causal_spark.report import journey_figures as draw
from causal_spark.report import numbers, provenance, trust
from causal_spark.report.effects import table_of
from causal_spark.report.figures import ForestRow, forest
from causal_spark.report.marks import PERCENT, Mark
from causal_spark.report.parts import (
    Answer,
    Block,
    Cell,
    Column,
    Figure,
    Page,
    Section,
    Table,
    clip,
    frame_table,
    table,
)
from causal_spark.report.phrases import Phrases
from causal_spark.results import Result

REST = ("(unattributed)", "(baseline)")
ENDS = ("(conversion)", "(null)")
MOST = 15
# Of many models those whose returns are drawn, as far as they were asked for.
COMPARED = ("last", "markov_1", "shapley", "linear")
TYPICAL = 0.98
FOLDED = ("totals", "removal_effects", "stages", "orders", "hazards", "agreement", "path_lengths", "lags")


def page(result: Result, facts: Mapping[str, Any], phrases: Phrases) -> Page:
    """The whole page of an attribution, without its markup."""
    judged = trust.judge(result)
    headline = {"stop": "headline_stop", "good": "headline_plain_good", "care": "headline_plain_care"}[judged.tone]
    sections = [
        _credit_section(phrases, result, facts),
        _agreement_section(phrases, result),
        _returns_section(phrases, result),
        _calibration_section(phrases, result),
        _paths_section(phrases, result),
        trust.checks_section(phrases, result, "s_checks_numbers"),
        _models_section(phrases, result),
        _tables_section(phrases, result),
        provenance.notes(phrases, result),
        provenance.computed(phrases, result, {**facts, "units": None}),
    ]
    return Page(
        title=clip(facts.get("title"), 120) or phrases("untitled"),
        eyebrow=phrases("eyebrow_attribution"),
        subtitle=provenance.subtitle(facts),
        tone=judged.tone,
        headline=phrases(headline),
        scope=phrases("attribution_scope") if judged.tone != "stop" else "",
        reasons=trust.reasons(phrases, judged),
        answers=_answers(phrases, result, judged),
        tiles=_tiles(phrases, result),
        sections=[section for section in sections if section],
        footer=phrases("footer"),
    )


def drawings(result: Result, facts: Mapping[str, Any], phrases: Phrases) -> dict[str, str]:
    """The drawings alone: fixed file name to SVG text."""
    figures = [*_credit_figures(phrases, result), *_agreement_figures(phrases, result),
               *_returns_figures(phrases, result), *_path_figures(phrases, result)]  # fmt: skip
    return {f"{figure.name}.svg": figure.svg for figure in figures}


def everyone(result: Result, outcome: str | None = None) -> pd.DataFrame:
    """Credits over all journeys, of one outcome if named."""
    frame = result.estimates
    mine = frame[(frame["segment"] == "all") & (frame["estimand"] == "credit")]
    return mine if outcome is None else mine[mine["outcome"] == outcome]


def _outcomes(result: Result) -> list[str]:
    return list(dict.fromkeys(everyone(result)["outcome"].astype(str)))


def _channels(part: pd.DataFrame) -> list[str]:
    """Channels by their mean credit, the largest first, without the rests."""
    mean = part[~part["term"].isin(REST)].groupby("term")["estimate"].mean()
    return sorted(map(str, mean.index), key=lambda name: (-float(mean[name]), name))[:MOST]


def _models(part: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(part["method"].astype(str)))


def _cells(part: pd.DataFrame) -> dict[tuple[str, str], tuple[float, float, float]]:
    rows = zip(part["method"], part["term"], part["estimate"], part["conf_low"], part["conf_high"], strict=True)
    return {(str(m), str(t)): (float(e), float(low), float(high)) for m, t, e, low, high in rows}


def _named(phrases: Phrases, model: str) -> str:
    return phrases.name("model", model)


def _tiles(phrases: Phrases, result: Result) -> list[tuple[str, str]]:
    tiles = []
    for _, row in table_of(result, "totals").iterrows():
        outcome = str(row["outcome"])
        word = phrases.name("tile", outcome)
        tiles.append((str(word), numbers.plain(row["total"], 0)))
        if outcome == "conversions" and row["unattributed"] > 0:
            tiles.append((phrases("tile_unattributed"), numbers.plain(row["unattributed"], 0)))
    return tiles


def _answers(phrases: Phrases, result: Result, judged: trust.Trust) -> tuple[Answer, ...]:
    trusted = Answer(phrases("q_trust"), phrases("trust_" + judged.tone), [("", trust.trust_lines(phrases, judged))],
                     judged.tone)  # fmt: skip
    if judged.tone == "stop":
        return (trusted,)
    return (trusted, _who(phrases, result), _agree(phrases, result), _causal(phrases, result))


def _who(phrases: Phrases, result: Result) -> Answer:
    """The channel with most credit under each model."""
    part = everyone(result, "conversions")
    cells, lines, tops = _cells(part), [], []
    for model in _models(part):
        mine = {c: cells[model, c] for c in _channels(part) if (model, c) in cells}
        if not mine:
            continue
        top = max(mine, key=lambda c, m=mine: -math.inf if math.isnan(m[c][0]) else m[c][0])  # type: ignore[misc]
        value, low, high = mine[top]
        places = 0 if abs(value) >= 100 else 1
        span = "" if math.isnan(low) else f" [{numbers.plain(low, places)}, {numbers.plain(high, places)}]"
        lines.append(phrases("who_line", model=_named(phrases, model), channel=clip(top, 60),
                             value=numbers.plain(value, places) + span))  # fmt: skip
        tops.append(top)
    different = list(dict.fromkeys(tops))
    return Answer(phrases("q_who"), phrases.listed(clip(c, 40) for c in different[:3]), [("", lines)])


def _agree(phrases: Phrases, result: Result) -> Answer:
    """The channels on which the models differ most."""
    frame = table_of(result, "agreement")
    frame = frame[(frame["outcome"] == "conversions") & ~frame["channel"].isin(REST)] if len(frame) else frame
    if not len(frame) or len(_models(everyone(result, "conversions"))) < 2:
        return Answer(phrases("q_agree"), phrases("agree_one"), [])
    gaps = frame.assign(gap=frame["most"] - frame["least"]).sort_values(["gap", "channel"], ascending=[False, True])
    lines = [
        phrases("agree_line", channel=clip(row["channel"], 60), least=numbers.percent(row["least"], 1),
                least_model=_named(phrases, row["least_model"]), most=numbers.percent(row["most"], 1),
                most_model=_named(phrases, row["most_model"]))
        for _, row in gaps.head(3).iterrows()
    ]  # fmt: skip
    widest = float(gaps["gap"].iloc[0])
    return Answer(phrases("q_agree"), phrases("agree_no" if widest > 0.05 else "agree_yes"), [("", lines)])


def _causal(phrases: Phrases, result: Result) -> Answer:
    frame = table_of(result, "calibration")
    if not len(frame):
        return Answer(phrases("q_causal"), phrases("causal_no"), [("", [phrases("causal_why")])], "care")
    names = phrases.listed(clip(name, 60) for name in dict.fromkeys(frame["channel"].astype(str)))
    return Answer(phrases("q_causal"), phrases("causal_some"), [("", [phrases("causal_calibrated", names=names)])])


def _credit_figures(phrases: Phrases, result: Result) -> list[Figure]:
    figures: list[Figure] = []
    for outcome in _outcomes(result):
        part = everyone(result, outcome)
        channels, cells = _channels(part), _cells(part)
        nothing = (math.nan, math.nan, math.nan)
        every = [(_named(phrases, model), [draw.Bar(*cells.get((model, c), nothing)) for c in channels])
                 for model in _models(part)]  # fmt: skip
        for page_number in range(0, len(every), draw.MAX_PANELS):
            name = f"credit_{len(figures) + 1}"
            title = phrases.plain("fig_credit", outcome=phrases.name("tile", outcome))
            svg = draw.bars(channels, every[page_number : page_number + draw.MAX_PANELS], name=name)
            figures.append(Figure(name, svg, phrases("fig_credit_is"), title))
    return figures


def _credit_section(phrases: Phrases, result: Result, facts: Mapping[str, Any]) -> Section:
    blocks: list[Block] = [*_credit_figures(phrases, result),
              *(_credit_table(phrases, result, outcome) for outcome in _outcomes(result))]  # fmt: skip
    return Section(phrases("s_credit"), phrases("s_credit_lead"), tuple(blocks))


def _credit_table(phrases: Phrases, result: Result, outcome: str) -> Table:
    part = everyone(result, outcome)
    models, cells = _models(part), _cells(part)
    rows = []
    for channel in [*_channels(part), REST[0]]:
        row = [Cell(clip(channel, 60) if channel not in REST else phrases("unattributed"))]
        for model in models:
            value, low, high = cells.get((model, channel), (math.nan,) * 3)
            places = 0 if abs(value) >= 100 else 1
            row.append(Cell(numbers.plain(value, places), _span(low, high, places)))
        rows.append(row)
    columns = [Column(phrases("c_channel")), *(Column(_named(phrases, model), "right") for model in models)]
    return table(phrases, columns, rows, phrases("fold_credit", outcome=phrases.name("tile", outcome)))


def _agreement_figures(phrases: Phrases, result: Result) -> list[Figure]:
    part = everyone(result, "conversions")
    part = part[part["method"] != "participation"]
    models = _models(part)
    if len(models) < 2:
        return []
    channels, cells = _channels(part), _cells(part)
    shares = {}
    for model in models:
        total = float(part[part["method"] == model]["estimate"].sum())
        shares[_named(phrases, model)] = [
            cells.get((model, c), (math.nan,) * 3)[0] / total if total else math.nan for c in channels
        ]
    svg = draw.dots(channels, shares, name="agreement")
    return [Figure("agreement", svg, phrases("fig_agreement_is"), phrases.plain("fig_agreement"))]


def _agreement_section(phrases: Phrases, result: Result) -> Section | None:
    figures = _agreement_figures(phrases, result)
    return Section(phrases("s_agreement"), phrases("s_agreement_lead"), tuple(figures)) if figures else None


def _returns_figures(phrases: Phrases, result: Result) -> list[Figure]:
    frame = table_of(result, "returns")
    if not len(frame) or "roi" not in frame:
        return []
    known = list(dict.fromkeys(frame["model"].astype(str)))
    models = [*(name for name in COMPARED if name in known), *(name for name in known if name not in COMPARED)][:3]
    rows = []
    dear = frame.drop_duplicates("channel").sort_values(["cost", "channel"], ascending=[False, True])
    for channel in list(map(str, dear["channel"]))[:10]:
        for _, row in frame[(frame["channel"] == channel) & frame["model"].isin(models)].iterrows():
            value, low, high = (float(row[name]) for name in ("roi", "roi_low", "roi_high"))
            tone = "up" if low > 0 else "down" if high < 0 else ""
            rows.append(ForestRow(clip(channel, 40), _named(phrases, str(row["model"])), Mark(value, low, high, tone),
                                  text=numbers.percent(value, 0, True)))  # fmt: skip
    svg = forest(rows, name="roi", axis=phrases.plain("fig_roi_axis"), scale=PERCENT)
    return [Figure("roi", svg, phrases("fig_roi_is"), phrases.plain("fig_roi"))]


def _returns_section(phrases: Phrases, result: Result) -> Section | None:
    frame = table_of(result, "returns")
    if not len(frame):
        return None
    folded = frame_table(phrases, frame, phrases("fold_returns"))
    return Section(phrases("s_returns"), phrases("s_returns_lead"), (*_returns_figures(phrases, result), folded))


def _calibration_section(phrases: Phrases, result: Result) -> Section | None:
    frame = table_of(result, "calibration")
    if not len(frame):
        return None
    rows = []
    for _, row in frame.iterrows():
        cells = [Cell(clip(row["channel"], 60)), Cell(_named(phrases, str(row["model"]))),
                 Cell(phrases.name("tile", row["outcome"]))]  # fmt: skip
        for name in ("credit", "lift", "factor"):
            value, low, high = (float(row[name + end]) for end in ("", "_low", "_high"))
            places = 2 if name == "factor" else 0 if abs(value) >= 100 else 1
            cells.append(Cell(numbers.plain(value, places), _span(low, high, places)))
        rows.append(cells)
    columns = [Column(phrases("c_channel")), Column(phrases("c_model")), Column(phrases("c_outcome")),
               Column(phrases("c_credit"), "right"), Column(phrases("c_lift_total"), "right"),
               Column(phrases("c_factor"), "right")]  # fmt: skip
    calibrated = set(frame["channel"].astype(str))
    rest = [name for name in _channels(everyone(result, "conversions")) if name not in calibrated]
    words = [phrases("calibration_rest", names=phrases.listed(clip(name, 40) for name in rest))] if rest else []
    lead = phrases.joined([phrases("s_calibration_lead"), *words])
    return Section(phrases("s_calibration"), lead, (table(phrases, columns, rows),))


def _span(low: float, high: float, places: int) -> str:
    return "" if math.isnan(low) else f"[{numbers.plain(low, places)}, {numbers.plain(high, places)}]"


def _path_figures(phrases: Phrases, result: Result) -> list[Figure]:
    figures = []
    steps = table_of(result, "transitions")
    if len(steps):
        most = steps.groupby("origin")["count"].sum().sort_values(ascending=False)
        rows = list(map(str, most.index))[: draw.MAX_CELLS]
        targets = steps.groupby("target")["count"].sum().sort_values(ascending=False)
        ends = [name for name in ENDS if name in targets.index]
        columns = [name for name in map(str, targets.index) if name not in ENDS][: draw.MAX_CELLS - len(ends)] + ends
        grid = steps.pivot_table(index="origin", columns="target", values="share", fill_value=0.0)
        shares = grid.reindex(index=rows, columns=columns, fill_value=0.0).to_numpy()
        svg = draw.heat(rows, columns, shares, name="transitions")
        figures.append(Figure("transitions", svg, phrases("fig_transitions_is"), phrases.plain("fig_transitions")))
    panels: list[tuple[str, Sequence[float], dict[str, Sequence[float]]]] = []
    lags = table_of(result, "lags")
    for since in ("first", "last"):
        mine = lags[lags["since"] == since] if len(lags) else lags
        if len(mine):
            panels.append((phrases.plain(f"fig_lag_{since}"), mine["day"].tolist(), {since: mine["share"].tolist()}))
    if panels:
        svg = draw.lines(panels, name="lag_curve", axis=phrases.plain("fig_lag_axis"))
        figures.append(Figure("lag_curve", svg, phrases("fig_lag_is"), phrases.plain("fig_lag")))
    lengths = table_of(result, "path_lengths")
    if len(lengths):
        total = lengths["conversions"] + lengths["nulls"]
        share = np.asarray(total / max(float(total.sum()), 1.0))
        typical = np.cumsum(share) - share < TYPICAL
        lengths, share = lengths[typical], share[typical]
        both: list[tuple[str, Sequence[float], dict[str, Sequence[float]]]] = [
            (phrases.plain("fig_lengths_share"), lengths["touches"].tolist(), {"share": share.tolist()}),
            (phrases.plain("fig_lengths_rate"), lengths["touches"].tolist(), {"rate": lengths["rate"].tolist()}),
        ]
        svg = draw.lines(both, name="path_lengths", axis=phrases.plain("fig_lengths_axis"))
        figures.append(Figure("path_lengths", svg, "", phrases.plain("fig_lengths")))
    return figures


def _paths_section(phrases: Phrases, result: Result) -> Section:
    paths = table_of(result, "top_paths")
    shown = (frame_table(phrases, paths, phrases("fold_paths")),) if len(paths) else ()
    return Section(phrases("s_paths"), phrases("s_paths_lead"), (*_path_figures(phrases, result), *shown))


def _models_section(phrases: Phrases, result: Result) -> Section:
    """Each model that was used in one sentence, with what it cannot claim."""
    rows = [[Cell(_named(phrases, model)), Cell(phrases.name("model_is", model))]
            for model in _models(everyone(result))]  # fmt: skip
    columns = [Column(phrases("c_model")), Column(phrases("c_model_is"))]
    return Section(phrases("s_models"), phrases("s_models_lead"), (table(phrases, columns, rows),))


def _tables_section(phrases: Phrases, result: Result) -> Section:
    tables = [
        frame_table(phrases, table_of(result, name), clip(name)) for name in FOLDED if len(table_of(result, name))
    ]
    return Section(phrases("s_more_tables"), "", tuple(tables))
