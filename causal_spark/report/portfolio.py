"""The page of a portfolio: what each action added, how much of it was luck, what to scale and what to stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from causal_spark.report import figures, numbers, provenance, settings, trust
from causal_spark.report.effects import records, table_of
from causal_spark.report.figures import ForestRow
from causal_spark.report.marks import PERCENT, PLAIN, Mark
from causal_spark.report.parts import Answer, Cell, Column, Figure, Lines, Page, Section, Table, Terms, clip, table
from causal_spark.report.phrases import Phrases
from causal_spark.results import Result

ADVICE = ("scale", "stop", "keep_testing")
TONES = {"scale": "pass", "stop": "invalid", "keep_testing": "muted", "unknown": "warn"}
ASSUMPTIONS = ("complete", "apart", "alike", "lasting", "prior")
WORDS = ("shrunk", "winners_curse", "interval_shrunk")
MAX_LINES = 8
# Where an estimate and the ends of its interval stand.
MEASURED, SHRUNK = ("naive", "naive_low", "naive_high"), ("effect", "low", "high")
ADDED, TOTAL = ("contribution", "contribution_low", "contribution_high"), ("total", "low", "high")

Row = Mapping[str, Any]
Keys = tuple[str, str, str]


def page(result: Result, facts: Mapping[str, Any], phrases: Phrases) -> Page:
    """The whole page of a portfolio, without its markup."""
    judged = trust.judge(result)
    rows = records(table_of(result, "actions"))
    counted = {advice: sum(row["advice"] == advice for row in rows) for advice in ADVICE}
    sections = [
        _effects_section(phrases, result, rows),
        _totals_section(phrases, result),
        _prior_section(phrases, result),
        trust.checks_section(phrases, result),
        Section(phrases("s_assumptions"), phrases("s_assumptions_lead"),
                (Lines([phrases("assume_portfolio_" + key) for key in ASSUMPTIONS]),)),
        _computed(phrases, result, facts),
        Section(phrases("s_glossary"), "", (Terms([(phrases(f"word_{k}"), phrases(f"word_{k}_is")) for k in WORDS]),)),
    ]  # fmt: skip
    return Page(
        title=clip(facts.get("title"), 120) or phrases("untitled"),
        eyebrow=phrases("eyebrow_portfolio"),
        subtitle=provenance.subtitle(facts),
        tone=judged.tone,
        headline=phrases("headline_portfolio", **counted),
        scope=phrases("portfolio_scope", outcome=clip(settings.method_of(facts).get("outcome"), 80)),
        reasons=trust.reasons(phrases, judged),
        answers=_answers(phrases, result, rows, judged),
        tiles=_tiles(phrases, result, rows),
        sections=[section for section in sections if section],
        footer=phrases("footer"),
    )


def drawings(result: Result, facts: Mapping[str, Any], phrases: Phrases) -> dict[str, str]:
    """The drawings alone: fixed file name to SVG text."""
    figure = _figure(phrases, result, records(table_of(result, "actions")))
    return {f"{figure.name}.svg": figure.svg}


def _unit(result: Result) -> str:
    """How effects are written: lifts as percentages."""
    return "percent" if table_of(result, "prior")["term"].iloc[0] == "lift" else "number"


def _shown(value: object, unit: str, places: int | None = None) -> str:
    return numbers.FORMATTERS[unit](value, places, True)


def _three(row: Row, keys: Keys) -> tuple[float, float, float]:
    estimate, low, high = (numbers.as_float(row.get(key)) for key in keys)
    return estimate, low, high


def _places(rows: Sequence[Row], keys: Keys, unit: str) -> int | None:
    """The digits of a column of estimates with their intervals."""
    return numbers.column_places((_three(row, keys) for row in rows), unit)


def _span(row: Row, keys: Keys, unit: str, places: int | None) -> tuple[str, str]:
    """An estimate and its interval."""
    estimate, low, high = _three(row, keys)
    return _shown(estimate, unit, places), numbers.interval(low, high, unit, places)


def _answers(phrases: Phrases, result: Result, rows: Sequence[Row], judged: trust.Trust) -> tuple[Answer, ...]:
    return (
        Answer(phrases("q_trust"), phrases("trust_" + judged.tone), [("", trust.trust_lines(phrases, judged))],
               judged.tone),
        _added_answer(phrases, result, rows),
        Answer(phrases("q_advice"), "", [group for group in _advised(phrases, rows) if group[1]]),
        _luck_answer(phrases, result),
    )  # fmt: skip


def _added_answer(phrases: Phrases, result: Result, rows: Sequence[Row]) -> Answer:
    """The total, and who brought most of it; what could not be estimated or did not count has no share."""
    unit = _unit(result)
    counted = [row for row in rows if numbers.as_float(row.get("share")) == numbers.as_float(row.get("share"))]
    known = any(numbers.as_float(row.get("reached")) == numbers.as_float(row.get("reached")) for row in rows)
    keys, lines = ADDED if known else SHRUNK, []
    places = _places(counted, keys, unit)
    for row in counted[:MAX_LINES]:
        added, span = _span(row, keys, unit, places)
        lines.append(phrases("added_line", action=clip(row["action"], 60), added=added, span=span,
                             share=numbers.percent(row["share"], 0)))  # fmt: skip
    if len(counted) > MAX_LINES:
        lines.append(phrases("moved_more", more=len(counted) - MAX_LINES))
    totals = records(table_of(result, "totals"))
    if not totals:
        return Answer(phrases("q_added"), phrases("added_none"), [("", [phrases("added_none_is")])])
    total, span = _span(totals[0], TOTAL, unit, _places(totals, TOTAL, unit))
    key = "added_lifts" if unit == "percent" and not known else "added_" + str(totals[0]["actions"])
    told = phrases(key, n=totals[0]["n"], total=total, span=span)
    return Answer(phrases("q_added"), total, [("", [told, *lines])])


def _advised(phrases: Phrases, rows: Sequence[Row]) -> list[tuple[str, list[str]]]:
    groups: list[tuple[str, list[str]]] = []
    for advice in ADVICE:
        some = [clip(row["reason"]) for row in rows if row["advice"] == advice]
        more = [phrases("moved_more", more=len(some) - MAX_LINES)] if len(some) > MAX_LINES else []
        groups.append((phrases(f"advice_{advice}"), [*some[:MAX_LINES], *more]))
    return groups


def _luck_answer(phrases: Phrases, result: Result) -> Answer:
    """What the winners promised and what is left of it."""
    unit = _unit(result)
    prior = records(table_of(result, "prior"))[0]
    lines = [phrases("luck_prior", n=prior["actions"], centre=_shown(prior["centre"], unit),
                     tau=numbers.FORMATTERS[unit](prior["tau"], None, False))]  # fmt: skip
    won = [row for row in records(table_of(result, "totals")) if row["actions"] == "winners"]
    for row in won:
        total, span = _span(row, TOTAL, unit, _places(records(table_of(result, "totals")), TOTAL, unit))
        told = {"naive": _shown(row["naive"], unit), "total": total, "span": span, "n": row["n"]}
        lines.append(phrases("luck_winners", **told))
    return Answer(phrases("q_luck"), "", [("", lines)])


def _tiles(phrases: Phrases, result: Result, rows: Sequence[Row]) -> list[tuple[str, str]]:
    totals = records(table_of(result, "totals"))
    found: list[tuple[str, str]] = [(phrases("tile_actions"), numbers.count(len(rows)))]
    told = [str(row["launched"]) for row in rows if row["launched"]]
    if told:
        found.append((phrases("tile_launched"), numbers.count(sum(text != "no" for text in told))))
    if totals:
        unit = _unit(result)
        total, _ = _span(totals[0], TOTAL, unit, _places(totals, TOTAL, unit))
        found.append((phrases("tile_total"), total))
    return found


def _figure(phrases: Phrases, result: Result, rows: Sequence[Row]) -> Figure:
    """The forest of shrunk effects, each with the effect as measured."""
    unit, lines = _unit(result), []
    places = _places(rows, SHRUNK, unit)
    for row in rows:
        effect, low, high = _three(row, SHRUNK)
        tone = "up" if low > 0 else "down" if high < 0 else ""
        measured, least, most = _three(row, MEASURED)
        advice = phrases.name("advice", row["advice"])
        text, span = _span(row, SHRUNK, unit, places)
        main, twin = Mark(effect, low, high, tone), Mark(measured, least, most)
        lines.append(ForestRow(str(row["action"]), advice, main, twin, f"{text}  {span}"))
    words = phrases.plain("legend_shrunk"), phrases.plain("legend_measured")
    svg = figures.forest(lines, name="effects", axis=phrases.plain("axis_effect_unit"), legend=words,
                         scale=PERCENT if unit == "percent" else PLAIN)  # fmt: skip
    captions: list[str] = [phrases("cap_portfolio")]
    if len(lines) > figures.MAX_FOREST_ROWS:
        captions.append(phrases("figure_rows_shown", shown=figures.MAX_FOREST_ROWS, rows=len(lines)))
    return Figure("effects", svg, phrases.joined(captions))


def _effects_section(phrases: Phrases, result: Result, rows: Sequence[Row]) -> Section:
    return Section(phrases("s_actions"), phrases("s_actions_lead"),
                   (_figure(phrases, result, rows), _actions_table(phrases, result, rows)))  # fmt: skip


def _actions_table(phrases: Phrases, result: Result, rows: Sequence[Row]) -> Table:
    unit, shown = _unit(result), []
    places = {keys: _places(rows, keys, unit) for keys in (MEASURED, SHRUNK, ADDED)}
    for row in rows:
        naive, effect, added = (Cell(*_span(row, keys, unit, digits)) for keys, digits in places.items())
        reached = numbers.percent(row["reached"]) if unit == "percent" else numbers.count(row["reached"])
        advice = Cell(phrases.name("advice", row["advice"]), tone=TONES[str(row["advice"])], badge=True)
        launched = clip(phrases.name("launched", row["launched"] or "unknown"), 20)
        shown.append([Cell(clip(row["action"], 80), launched, "strong"), naive, effect,
                      Cell(numbers.p_value(row.get("p_positive"))), Cell(reached), added,
                      Cell(numbers.percent(row.get("share"), 0)), advice])  # fmt: skip
    columns = [Column(phrases("c_action"))]
    keys = ("measured", "shrunk", "p_positive", "reached", "contribution", "share")
    columns += [Column(phrases("c_" + key), "right") for key in keys]
    return table(phrases, [*columns, Column(phrases("c_advice"))], shown, phrases("fold_effects"))


def _totals_section(phrases: Phrases, result: Result) -> Section | None:
    unit, found, rows = _unit(result), records(table_of(result, "totals")), []
    for row in found:
        naive, total = (Cell(*_span(row, keys, unit, _places(found, keys, unit))) for keys in (MEASURED, TOTAL))
        rows.append([Cell(phrases.name("total", row["actions"])), Cell(numbers.count(row["n"])), naive, total])
    columns = [Column(phrases("c_actions"))]
    columns += [Column(phrases("c_" + key), "right") for key in ("actions_n", "measured", "shrunk")]
    lead = phrases("s_totals_lift" if unit == "percent" else "s_totals_lead")
    return Section(phrases("s_totals"), lead, (table(phrases, columns, rows),)) if rows else None


def _prior_section(phrases: Phrases, result: Result) -> Section:
    unit = _unit(result)
    prior = records(table_of(result, "prior"))[0]
    show = numbers.FORMATTERS[unit]
    pairs = [(phrases("prior_centre"), show(prior["centre"], None, True))]
    pairs += [(phrases("prior_" + key), show(prior[key], None, False)) for key in ("tau", "spread", "noise")]
    return Section(phrases("s_prior"), phrases("s_prior_lead"), (Terms(pairs, compact=True),))


def _computed(phrases: Phrases, result: Result, facts: Mapping[str, Any]) -> Section | None:
    """The facts of the run that all jobs share, with what was chosen here before them."""
    found = provenance.computed(phrases, result, {k: v for k, v in facts.items() if k not in ("method", "units")})
    method = settings.method_of(facts)
    chosen = {"better": phrases.name("better", method.get("better") or "")}
    chosen["methods_in_order"] = ", ".join(clip(name, 40) for name in method.get("methods") or ())
    chosen["centre"] = numbers.short(method["centre"]) if method.get("centre") is not None else ""
    pairs = [pair for pair in settings.pairs(phrases, result, facts, False) if pair[0] == phrases("fact_where")]
    pairs += [(phrases("fact_" + key), text) for key, text in chosen.items() if text]
    if not pairs or found is None:
        return found
    return Section(found.title, found.lead, (Terms(pairs, compact=True), *found.blocks))
