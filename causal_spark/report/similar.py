"""How alike the compared units are: balance, overlap, sizes, and how strong a hidden cause would have to be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from causal_spark.report import balances, numbers
from causal_spark.report.balances import Dots, Histogram
from causal_spark.report.cells import blocks
from causal_spark.report.compared import finite
from causal_spark.report.effects import records, table_of
from causal_spark.report.parts import Cell, Column, Figure, Section, Table, Terms, clip, round_or_nan, table
from causal_spark.report.phrases import Phrases
from causal_spark.report.settings import method_of
from causal_spark.results import Result

BEFORE = "unadjusted"
TOLERABLE = 0.25  # beyond it two groups are not alike (Stuart 2010, §4.1)
TONES = {"balanced": "pass", "nearly": "warn", "unbalanced": "invalid"}
MAX_TREATMENTS = 12
Row = Mapping[str, Any]


def limits(facts: Mapping[str, Any]) -> tuple[float, float]:
    """Where a difference is worth a warning, and where there is no comparison, in standard deviations."""
    good = numbers.as_float(method_of(facts).get("smd"))
    good = good if good > 0 else 0.1
    return good, max(TOLERABLE, good)


def by_treatment(result: Result, name: str) -> dict[str, list[Row]]:
    """The rows of a diagnostic table for each treatment, in order."""
    found: dict[str, list[Row]] = {}
    for row in records(table_of(result, name)):
        found.setdefault(str(row.get("treatment")), []).append(row)
    return found


def worst(rows: Sequence[Row], estimator: str) -> tuple[str, float]:
    """The covariate with the largest difference after an estimator, and its size; NaN if none is known."""
    sizes = [
        (abs(numbers.as_float(row.get("smd"))), str(row.get("covariate")))
        for row in rows
        if str(row.get("estimator")) == estimator and finite(row.get("smd"))
    ]
    size, name = max(sizes, default=(math.nan, ""))
    return name, size


# balance ------------------------------------------------------------------------------------------------------------


def balance_figures(phrases: Phrases, result: Result, facts: Mapping[str, Any]) -> list[Figure]:
    """A love plot for each treatment, the covariate that differed most on top."""
    parts = list(by_treatment(result, "balance").items())[:MAX_TREATMENTS]
    found = []
    for index, (treatment, rows) in enumerate(parts):
        series = list(dict.fromkeys(str(row.get("estimator")) for row in rows))
        series = [name for name in (BEFORE, *series) if name in series]
        series = list(dict.fromkeys(series))
        sizes = {(str(r.get("covariate")), str(r.get("estimator"))): abs(numbers.as_float(r.get("smd"))) for r in rows}
        labels = list(dict.fromkeys(str(row.get("covariate")) for row in rows))
        dots = [Dots(label, [sizes.get((label, name), math.nan) for name in series]) for label in labels]
        dots.sort(key=lambda dot: -dot.values[0] if finite(dot.values[0]) else math.inf)
        words = [phrases.plain("legend_before") if name == BEFORE else phrases.name("method", name) for name in series]
        name = f"balance_{index + 1}"
        svg = balances.love(dots, words, limits(facts), name=name, axis=phrases.plain("axis_smd"))
        title = clip(treatment, 120) if len(parts) > 1 else ""
        found.append(Figure(name, svg, _love_caption(phrases, dots), title))
    return found


def _love_caption(phrases: Phrases, dots: Sequence[Dots]) -> str:
    said = []
    if any(value > balances.WIDEST for dot in dots for value in dot.values):
        said.append(phrases("cap_beyond"))
    if len(dots) > balances.MAX_ROWS:
        said.append(phrases("figure_rows_shown", shown=balances.MAX_ROWS, rows=len(dots)))
    return phrases.joined(said) if said else ""


def balance_section(
    phrases: Phrases, result: Result, facts: Mapping[str, Any], drawn: Mapping[str, Figure]
) -> Section | None:
    """How alike the groups are before and after; None without a balance table."""
    shown = _balance_table(phrases, result)
    if shown is None:
        return None
    good, bad = limits(facts)
    figures = [figure for name, figure in drawn.items() if name.startswith("balance_")]
    lead = phrases("s_balance_lead", good=numbers.short(good), bad=numbers.short(bad))
    return Section(phrases("s_balance"), lead, blocks(*figures, shown))


def _balance_table(phrases: Phrases, result: Result) -> Table | None:
    rows: list[list[Cell]] = []
    parts = by_treatment(result, "balance")
    for treatment, some in parts.items():
        if len(parts) > 1:
            rows.append([Cell(clip(treatment, 80), "", "strong")])
        rows += [_balance_cells(phrases, row) for row in some]
    keys = ("mean_treated", "mean_control", "smd", "variance_ratio", "ks", "ecdf_mean")
    columns = [Column(phrases("c_covariate")), Column(phrases("c_estimator"))]
    columns += [Column(phrases("c_" + key), "right") for key in keys] + [Column(phrases("c_verdict"))]
    return table(phrases, columns, rows, phrases("fold_balance"), phrases("balance_note")) if rows else None


def _balance_cells(phrases: Phrases, row: Row) -> list[Cell]:
    verdict = str(row.get("verdict"))
    means = [numbers.as_float(row.get(name)) for name in ("mean_treated", "mean_control")]
    size = max([abs(mean) for mean in means if math.isfinite(mean)] + [0.0])
    digits = numbers.places_for(size, 4) if size else 0
    return [
        Cell(clip(row.get("covariate"), 80)),
        Cell(clip(phrases.name("method", row.get("estimator")), 60)),
        *(Cell(numbers.plain(mean, digits)) for mean in means),
        Cell(numbers.plain(row.get("smd"), 3, True)),
        *(Cell(numbers.plain(row.get(name), digits)) for name, digits in (("variance_ratio", 2), ("ks", 3))),
        Cell(numbers.plain(row.get("ecdf_mean"), 3)),
        Cell(clip(phrases.name("balance", verdict), 40), tone=TONES.get(verdict, "muted"), badge=True),
    ]


# overlap ------------------------------------------------------------------------------------------------------------


def overlap_figure(phrases: Phrases, result: Result) -> Figure | None:
    """Treated and untreated units by propensity, a panel for each treatment; None without a table ``overlap``."""
    parts = list(by_treatment(result, "overlap").items())[:MAX_TREATMENTS]
    if not parts:
        return None
    panels = [
        Histogram(
            name,
            [numbers.as_float(row.get("treated")) for row in rows],
            [numbers.as_float(row.get("control")) for row in rows],
        )
        for name, rows in parts
    ]
    words = {key: phrases.plain("legend_" + key) for key in ("treated", "control")}
    svg = balances.mirrored(panels, name="overlap", axis=phrases.plain("axis_propensity"), **words)
    return Figure("overlap", svg, phrases("cap_overlap"))


def overlap_section(phrases: Phrases, result: Result, drawn: Mapping[str, Figure]) -> Section | None:
    """The scores of both groups and the model behind them; None without either."""
    shown = blocks(drawn.get("overlap"), _model_table(phrases, result))
    return Section(phrases("s_overlap"), phrases("s_overlap_lead"), shown) if shown else None


def _model_table(phrases: Phrases, result: Result) -> Table | None:
    """The coefficients of the model of the treatment; rows without an error are facts of other kinds."""
    rows: list[list[Cell]] = []
    parts = by_treatment(result, "propensity")
    for treatment, some in parts.items():
        cells = [
            [
                Cell(clip(row.get("term"), 80)),
                Cell(numbers.plain(row.get("coefficient"), None, True)),
                Cell(numbers.plain(row.get("std_error"))),
            ]
            for row in some
            if finite(row.get("std_error"))
        ]
        rows += [[Cell(clip(treatment, 80), "", "strong")]] if cells and len(parts) > 1 else []
        rows += cells
    columns = [Column(phrases("c_term"))]
    columns += [Column(phrases("c_" + key), "right") for key in ("coefficient", "std_error")]
    return table(phrases, columns, rows, phrases("fold_propensity"), phrases("propensity_note")) if rows else None


# sizes --------------------------------------------------------------------------------------------------------------


def sizes_section(phrases: Phrases, result: Result) -> Section | None:
    """Units matched and used by each estimator; None without any."""
    rows: list[list[Cell]] = []
    parts = by_treatment(result, "sizes")
    caliper = any(finite(row.get("caliper")) for some in parts.values() for row in some)
    for treatment, some in parts.items():
        if len(parts) > 1:
            rows.append([Cell(clip(treatment, 80), "", "strong")])
        rows += [_size_cells(phrases, row, caliper) for row in some]
    keys = ("focal", "matched", "used", "ess", *(["caliper"] if caliper else []))
    columns = [Column(phrases("c_estimator")), *(Column(phrases("c_" + key), "right") for key in keys)]
    return Section(phrases("s_sizes"), phrases("s_sizes_lead"), (table(phrases, columns, rows),)) if rows else None


def _size_cells(phrases: Phrases, row: Row, caliper: bool) -> list[Cell]:
    focal, matched, ess = (numbers.as_float(row.get(name)) for name in ("focal", "matched", "ess"))
    share = numbers.percent(matched / focal) if focal > 0 else ""
    within = numbers.as_float(row.get("caliper"))
    return [
        Cell(clip(phrases.name("method", row.get("estimator")), 60)),
        Cell(numbers.count(focal)),
        Cell(numbers.count(matched), share, "" if matched == focal else "strong"),
        Cell(numbers.count(row.get("used"))),
        Cell(numbers.plain(ess, 0 if ess >= 1000 or ess == round_or_nan(ess) else 1)),
        *([Cell(numbers.plain(within) if math.isfinite(within) else numbers.DASH)] if caliper else []),
    ]


# sensitivity --------------------------------------------------------------------------------------------------------


def sensitivity_section(phrases: Phrases, result: Result) -> Section | None:
    """The table, and a sentence for each measure in it."""
    parts = by_treatment(result, "sensitivity")
    every = [row for some in parts.values() for row in some]
    measures = {
        "e_value": ("e_value", "e_value_limit", numbers.plain),
        "gamma": ("gamma", "", numbers.plain),
        "robustness": ("robustness_value", "robustness_value_alpha", numbers.percent),
    }
    known = [key for key, (main, _, _) in measures.items() if any(main in row for row in every)]
    if not known:
        return None
    rows: list[list[Cell]] = []
    for treatment, some in parts.items():
        if len(parts) > 1:
            rows.append([Cell(clip(treatment, 80), "", "strong")])
        for row in some:
            cells = [Cell(clip(phrases.name("method", row.get("estimator")), 60)), Cell(clip(row.get("outcome"), 80))]
            rows.append([*cells, *(_measure_cell(phrases, row, *measures[key]) for key in known)])
    columns = [Column(phrases("c_estimator")), Column(phrases("c_outcome"))]
    columns += [Column(phrases("word_" + key), "right") for key in known]
    said = Terms([(phrases("word_" + key), phrases(f"word_{key}_is")) for key in known])
    return Section(phrases("s_sensitivity"), phrases("s_sensitivity_lead"), (table(phrases, columns, rows), said))


def _measure_cell(phrases: Phrases, row: Row, main: str, limit: str, show: Any) -> Cell:
    if not finite(row.get(main)):
        return Cell(numbers.DASH)
    digits = 2 if show is numbers.plain else 1
    nearer = row.get(limit) if limit else None
    return Cell(show(row[main], digits), phrases("of_interval", value=show(nearer, digits)) if finite(nearer) else "")
