"""Credits of an attribution as its page shows them: the tables by model, by segment and beside experiments."""

from __future__ import annotations

import math

import pandas as pd

from causal_spark.report import numbers
from causal_spark.report.effects import table_of
from causal_spark.report.parts import Cell, Column, Section, Table, clip, table
from causal_spark.report.phrases import Phrases
from causal_spark.results import Result

REST = ("(unattributed)", "(baseline)")
MOST = 15


def everyone(result: Result, outcome: str | None = None) -> pd.DataFrame:
    """Credits over all journeys, of one outcome if named."""
    frame = result.estimates
    mine = frame[(frame["segment"] == "all") & (frame["estimand"] == "credit")]
    return mine if outcome is None else mine[mine["outcome"] == outcome]


def outcomes_of(result: Result) -> list[str]:
    """The outcomes of a result in their order."""
    return list(dict.fromkeys(everyone(result)["outcome"].astype(str)))


def channels_of(part: pd.DataFrame) -> list[str]:
    """Channels by their mean credit, the largest first, without the rests."""
    mean = part[~part["term"].isin(REST)].groupby("term")["estimate"].mean()
    return sorted(map(str, mean.index), key=lambda name: (-float(mean[name]), name))


def models_of(part: pd.DataFrame) -> list[str]:
    """The models of some estimates in their order."""
    return list(dict.fromkeys(part["method"].astype(str)))


def cells_of(part: pd.DataFrame) -> dict[tuple[str, str], tuple[float, float, float]]:
    """Credit and interval by (model, channel)."""
    rows = zip(part["method"], part["term"], part["estimate"], part["conf_low"], part["conf_high"], strict=True)
    return {(str(m), str(t)): (float(e), float(low), float(high)) for m, t, e, low, high in rows}


def named(phrases: Phrases, model: str) -> str:
    return phrases.name("model", model)


def credit_table(phrases: Phrases, result: Result, outcome: str) -> Table:
    """Channels by models: credits of one outcome with their intervals."""
    part = everyone(result, outcome)
    models, cells = models_of(part), cells_of(part)
    rows = []
    for channel in [*channels_of(part), REST[0]]:
        row = [Cell(clip(channel, 60) if channel not in REST else phrases("unattributed"))]
        for model in models:
            row.append(credit_cell(*cells.get((model, channel), (math.nan,) * 3)))
        rows.append(row)
    columns = [Column(phrases("c_channel")), *(Column(named(phrases, model), "right") for model in models)]
    return table(phrases, columns, rows, phrases("fold_credit", outcome=phrases.name("tile", outcome)))


def segments_section(phrases: Phrases, result: Result) -> Section | None:
    """Credit within each value of the segment columns; periods stand in a table of their own."""
    frame = result.estimates
    kept = (frame["estimand"] == "credit") & (frame["segment"] != "all") & ~frame["segment"].str.startswith("period=")
    if not kept.any():
        return None
    tables = [_segment_table(phrases, frame[kept & (frame["outcome"] == outcome)], outcome)
              for outcome in outcomes_of(result)]  # fmt: skip
    return Section(phrases("s_credit_segments"), phrases("s_credit_segments_lead"), tuple(tables))


def _segment_table(phrases: Phrases, part: pd.DataFrame, outcome: str) -> Table:
    models, rows = models_of(part), []
    for segment, mine in part.groupby("segment", sort=False):
        cells = cells_of(mine)
        for channel in channels_of(mine):
            values = (cells.get((model, channel), (math.nan,) * 3) for model in models)
            rows.append([Cell(clip(segment, 80)), Cell(clip(channel, 60)), *(credit_cell(*value) for value in values)])
    columns = [Column(phrases("c_segment")), Column(phrases("c_channel")),
               *(Column(named(phrases, model), "right") for model in models)]  # fmt: skip
    return table(phrases, columns, rows, phrases("fold_credit_segments", outcome=phrases.name("tile", outcome)))


def credit_cell(value: float, low: float, high: float) -> Cell:
    """A credit with its interval."""
    places = 0 if abs(value) >= 100 else 1
    return Cell(numbers.plain(value, places), span(low, high, places))


def calibration_section(phrases: Phrases, result: Result) -> Section | None:
    """Lifts of experiments beside the credit they scale, with the factors; None without lifts."""
    frame = table_of(result, "calibration")
    if not len(frame):
        return None
    rows = []
    for _, row in frame.iterrows():
        cells = [Cell(clip(row["channel"], 60)), Cell(named(phrases, str(row["model"]))),
                 Cell(phrases.name("tile", row["outcome"]))]  # fmt: skip
        for name in ("credit", "lift", "factor"):
            value, low, high = (float(row[name + end]) for end in ("", "_low", "_high"))
            places = 2 if name == "factor" else 0 if abs(value) >= 100 else 1
            cells.append(Cell(numbers.plain(value, places), span(low, high, places)))
        rows.append(cells)
    columns = [Column(phrases("c_channel")), Column(phrases("c_model")), Column(phrases("c_outcome")),
               Column(phrases("c_credit"), "right"), Column(phrases("c_lift_total"), "right"),
               Column(phrases("c_factor"), "right")]  # fmt: skip
    calibrated = set(frame["channel"].astype(str))
    rest = [name for name in channels_of(everyone(result, "conversions")) if name not in calibrated]
    more = [phrases("and_more", more=len(rest) - MOST)] if len(rest) > MOST else []
    told = phrases.listed([*(clip(name, 40) for name in rest[:MOST]), *more])
    words = [phrases("calibration_rest", names=told)] if rest else []
    lead = phrases.joined([phrases("s_calibration_lead"), *words])
    return Section(phrases("s_calibration"), lead, (table(phrases, columns, rows),))


def span(low: float, high: float, places: int) -> str:
    return "" if math.isnan(low) else f"[{numbers.plain(low, places)}, {numbers.plain(high, places)}]"
