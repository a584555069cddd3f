"""The page of an attribution: who gets the credit under which model, and what that does not say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from causal_spark.report import credits, numbers, provenance, trust
from causal_spark.report import journey_figures as draw
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
    clip,
    frame_table,
    table,
)
from causal_spark.report.phrases import Phrases
from causal_spark.results import Result

ENDS = ("(conversion)", "(null)")
PLACES = {"(start)": "place_start", "(conversion)": "place_conversion", "(null)": "place_null"}
MOST_ROI = 10
# Of many models those whose returns are drawn, as far as they were asked for.
COMPARED = ("last", "markov_1", "shapley", "linear")
TYPICAL = 0.98
FOLDED = ("totals", "removal_effects", "stages", "orders", "hazards", "agreement", "path_lengths", "lags",
          "credits_by_period")  # fmt: skip


def page(result: Result, facts: Mapping[str, Any], phrases: Phrases) -> Page:
    """The whole page of an attribution, without its markup."""
    judged = trust.judge(result)
    headline = {"stop": "headline_stop", "good": "headline_plain_good", "care": "headline_plain_care"}[judged.tone]
    sections = [
        _credit_section(phrases, result, facts),
        credits.segments_section(phrases, result),
        _agreement_section(phrases, result),
        _returns_section(phrases, result),
        credits.calibration_section(phrases, result),
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
    part = credits.everyone(result, "conversions")
    cells, lines, tops = credits.cells_of(part), [], []
    for model in credits.models_of(part):
        mine = {c: cells[model, c] for c in credits.channels_of(part) if (model, c) in cells}
        if not mine:
            continue
        top = max(mine, key=lambda c, m=mine: -math.inf if math.isnan(m[c][0]) else m[c][0])  # type: ignore[misc]
        value, low, high = mine[top]
        places = 0 if abs(value) >= 100 else 1
        span = "" if math.isnan(low) else f" [{numbers.plain(low, places)}, {numbers.plain(high, places)}]"
        lines.append(phrases("who_line", model=credits.named(phrases, model), channel=clip(top, 60),
                             value=numbers.plain(value, places) + span))  # fmt: skip
        tops.append(top)
    different = list(dict.fromkeys(tops))
    return Answer(phrases("q_who"), phrases.listed(clip(c, 40) for c in different[:3]), [("", lines)])


def _agree(phrases: Phrases, result: Result) -> Answer:
    """The channels on which the models differ most."""
    frame = table_of(result, "agreement")
    frame = frame[(frame["outcome"] == "conversions") & ~frame["channel"].isin(credits.REST)] if len(frame) else frame
    if not len(frame) or len(credits.models_of(credits.everyone(result, "conversions"))) < 2:
        return Answer(phrases("q_agree"), phrases("agree_one"), [])
    gaps = frame.assign(gap=frame["most"] - frame["least"]).sort_values(["gap", "channel"], ascending=[False, True])
    lines = [
        phrases("agree_line", channel=clip(row["channel"], 60), least=numbers.percent(row["least"], 1),
                least_model=credits.named(phrases, row["least_model"]), most=numbers.percent(row["most"], 1),
                most_model=credits.named(phrases, row["most_model"]))
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


def _caption(phrases: Phrases, key: str, shown: int, rows: int) -> str:
    """How to read a figure, and how many of its channels are drawn if not all."""
    more = [phrases("channels_shown", shown=shown, rows=rows)] if rows > shown else []
    return phrases.joined([phrases(key), *more])


def _credit_figures(phrases: Phrases, result: Result) -> list[Figure]:
    figures: list[Figure] = []
    for outcome in credits.outcomes_of(result):
        part = credits.everyone(result, outcome)
        every_channel, cells = credits.channels_of(part), credits.cells_of(part)
        channels = every_channel[: credits.MOST]
        nothing = (math.nan, math.nan, math.nan)
        every = [(credits.named(phrases, model), [draw.Bar(*cells.get((model, c), nothing)) for c in channels])
                 for model in credits.models_of(part)]  # fmt: skip
        for page_number in range(0, len(every), draw.MAX_PANELS):
            name = f"credit_{len(figures) + 1}"
            title = phrases.plain("fig_credit", outcome=phrases.name("tile", outcome))
            svg = draw.bars(channels, every[page_number : page_number + draw.MAX_PANELS], name=name)
            caption = _caption(phrases, "fig_credit_is", credits.MOST, len(every_channel))
            figures.append(Figure(name, svg, caption, title))
    return figures


def _credit_section(phrases: Phrases, result: Result, facts: Mapping[str, Any]) -> Section:
    blocks: list[Block] = [*_credit_figures(phrases, result),
              *(credits.credit_table(phrases, result, outcome) for outcome in credits.outcomes_of(result))]  # fmt: skip
    return Section(phrases("s_credit"), phrases("s_credit_lead"), tuple(blocks))


def _agreement_figures(phrases: Phrases, result: Result) -> list[Figure]:
    part = credits.everyone(result, "conversions")
    part = part[part["method"] != "participation"]
    models = credits.models_of(part)
    if len(models) < 2:
        return []
    every, cells = credits.channels_of(part), credits.cells_of(part)
    channels = every[: credits.MOST]
    shares = {}
    for model in models:
        total = float(part[part["method"] == model]["estimate"].sum())
        shares[credits.named(phrases, model)] = [
            cells.get((model, c), (math.nan,) * 3)[0] / total if total else math.nan for c in channels
        ]
    svg = draw.dots(channels, shares, name="agreement")
    caption = _caption(phrases, "fig_agreement_is", credits.MOST, len(every))
    return [Figure("agreement", svg, caption, phrases.plain("fig_agreement"))]


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
    for channel in list(map(str, dear["channel"]))[:MOST_ROI]:
        for _, row in frame[(frame["channel"] == channel) & frame["model"].isin(models)].iterrows():
            value, low, high = (float(row[name]) for name in ("roi", "roi_low", "roi_high"))
            tone = "up" if low > 0 else "down" if high < 0 else ""
            mark, model = Mark(value, low, high, tone), credits.named(phrases, str(row["model"]))
            rows.append(ForestRow(clip(channel, 40), model, mark, text=numbers.percent(value, 0, True)))
    svg = forest(rows, name="roi", axis=phrases.plain("fig_roi_axis"), scale=PERCENT)
    caption = _caption(phrases, "fig_roi_is", MOST_ROI, len(dear))
    return [Figure("roi", svg, caption, phrases.plain("fig_roi"))]


def _returns_section(phrases: Phrases, result: Result) -> Section | None:
    frame = table_of(result, "returns")
    if not len(frame):
        return None
    folded = frame_table(phrases, frame, phrases("fold_returns"))
    return Section(phrases("s_returns"), phrases("s_returns_lead"), (*_returns_figures(phrases, result), folded))


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
        origins, ends_in = ([_place(phrases, name) for name in names] for names in (rows, columns))
        svg = draw.heat(origins, ends_in, shares, name="transitions")
        cut = [phrases("figure_rows_shown", shown=len(rows), rows=len(most))] if len(rows) < len(most) else []
        caption = phrases.joined([phrases("fig_transitions_is"), *cut])
        figures.append(Figure("transitions", svg, caption, phrases.plain("fig_transitions")))
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


def _place(phrases: Phrases, name: str) -> str:
    """A channel, or where journeys begin and end in words."""
    return phrases.plain(PLACES[name]) if name in PLACES else name


def _paths_section(phrases: Phrases, result: Result) -> Section:
    paths = table_of(result, "top_paths")
    shown = (frame_table(phrases, paths, phrases("fold_paths")),) if len(paths) else ()
    return Section(phrases("s_paths"), phrases("s_paths_lead"), (*_path_figures(phrases, result), *shown))


def _models_section(phrases: Phrases, result: Result) -> Section:
    """Each model that was used in one sentence, with what it cannot claim."""
    rows = [[Cell(credits.named(phrases, model)), Cell(phrases.name("model_is", model))]
            for model in credits.models_of(credits.everyone(result))]  # fmt: skip
    columns = [Column(phrases("c_model")), Column(phrases("c_model_is"))]
    return Section(phrases("s_models"), phrases("s_models_lead"), (table(phrases, columns, rows),))


def _tables_section(phrases: Phrases, result: Result) -> Section:
    tables = [
        frame_table(phrases, table_of(result, name), clip(name)) for name in FOLDED if len(table_of(result, name))
    ]
    return Section(phrases("s_more_tables"), "", tuple(tables))
