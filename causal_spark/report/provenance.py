"""The end of every page: what has to be true, how it was computed, and the words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from causal_spark.report import numbers, settings
from causal_spark.report.effects import ADJUSTED, metric_facts, records, table_of, unit_of
from causal_spark.report.parts import Cell, Column, Lines, Section, Table, Terms, clip, table
from causal_spark.report.phrases import Phrases
from causal_spark.results import Result

ASSUMPTIONS = ("random", "interference", "measured", "fixed", "large")
WORDS = ("lift", "pp", "interval", "p", "corrected", "guardrail", "srm", "cuped", "winsorize")
MACHINE = ("engine", "versions", "code_version", "seconds", "run_key")
COUNTED = ("rows", "units")
FACTS = (
    "created", "job", "input", "rows", "units", "arms", "control", "methods", "alpha", "alternative",
    "correction", "engine", "versions", "code_version", "seconds", "run_key",
)  # fmt: skip


def subtitle(facts: Mapping[str, Any]) -> str:
    """One line under the title: the input, the arms, the time."""
    parts = [clip(facts.get("input"), 120), as_text(facts.get("arms"), " \u00b7 "), moment(facts.get("created"))]
    return "  |  ".join(part for part in parts if part)


def moment(value: object) -> str:
    """``2026-03-01T09:30:00+00:00`` to ``2026-03-01 09:30 UTC``; anything else as it is."""
    text = clip(value, 40)
    if len(text) >= 16 and text[10] == "T" and text.endswith(("Z", "+00:00")):
        return f"{text[:10]} {text[11:16]} UTC"
    return text


def as_text(value: object, separator: str = ", ") -> str:
    """A fact of any shape as one line; missing and NaN are empty."""
    if isinstance(value, Mapping):
        return separator.join(f"{clip(key, 60)} {clip(part, 60)}".strip() for key, part in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return separator.join(clip(part, 80) for part in value)
    if isinstance(value, float):
        return "" if value != value else numbers.plain(value)
    return clip(value)


def closing(phrases: Phrases, result: Result, facts: Mapping[str, Any]) -> list[Section | None]:
    """The last sections of an experiment."""
    return [
        notes(phrases, result),
        _assumptions(phrases, result),
        computed(phrases, result, facts),
        _words(phrases, result, facts),
    ]


def notes(phrases: Phrases, result: Result) -> Section | None:
    """What the job noted beside its checks, which have their own table."""
    checks = records(table_of(result, "checks"))
    said = {f"{row.get('code')}: {row.get('message')}" for row in checks}
    lines = [clip(note) for note in result.notes if note not in said]
    return Section(phrases("s_notes"), "", (Lines(lines),)) if lines else None


def _nulls_table(phrases: Phrases, result: Result) -> Table | None:
    if not settings.missing(result):
        return None
    rows = [
        [
            Cell(clip(row.get("outcome"), 80)),
            Cell(clip(row.get("column"), 80)),
            Cell(phrases.name("policy", clip(row.get("policy"), 40))),
            Cell(numbers.count(row.get("nulls"))),
            Cell(numbers.count(row.get("rows"))),
        ]
        for row in records(table_of(result, "nulls"))
    ]
    columns = [Column(phrases("c_" + key)) for key in ("metric", "column", "policy")]
    columns += [Column(phrases("c_" + key), "right") for key in ("nulls", "count")]
    return table(phrases, columns, rows, phrases("fold_nulls")) if rows else None


def _adjusted(result: Result) -> bool:
    return bool(result.estimates["method"].astype(str).isin(ADJUSTED).any()) or len(table_of(result, "cuped")) > 0


def _assumptions(phrases: Phrases, result: Result) -> Section:
    planned = len(table_of(result, "looks")) > 0
    keys = ["sequential" if key == "fixed" and planned else key for key in ASSUMPTIONS]
    keys += ["cuped"] if _adjusted(result) else []
    lines = Lines([phrases("assume_" + key) for key in keys])
    return Section(phrases("s_assumptions"), phrases("s_assumptions_lead"), (lines,))


def computed(phrases: Phrases, result: Result, facts: Mapping[str, Any]) -> Section | None:
    """How the numbers came about, as far as the facts say."""
    pairs = [(key, phrases("fact_" + key), _fact(phrases, result, facts, key)) for key in FACTS]
    known = [(key, name, text) for key, name, text in pairs if text and text != numbers.DASH]
    data, machine = ([(n, t) for key, n, t in known if (key in MACHINE) is last] for last in (False, True))
    mine = [*data, *settings.pairs(phrases, result, facts, _adjusted(result)), *_no_nulls(phrases, result), *machine]
    tables = (settings.metrics_table(phrases, facts), _nulls_table(phrases, result))
    blocks: tuple[Terms | Table, ...] = (Terms(mine, compact=True), *(shown for shown in tables if shown))
    return Section(phrases("s_computed"), "", blocks) if mine else None


def _no_nulls(phrases: Phrases, result: Result) -> list[tuple[str, str]]:
    """That nothing was missing, where it was looked for."""
    nulls = [numbers.as_float(row.get("nulls")) for row in records(table_of(result, "nulls"))]
    looked = bool(nulls) and all(number == 0 for number in nulls)
    return [(phrases("fact_nulls"), phrases("nulls_none"))] if looked else []


def _fact(phrases: Phrases, result: Result, facts: Mapping[str, Any], key: str) -> str:
    value = facts.get(key)
    if key == "methods":
        used: Sequence[str] = list(dict.fromkeys(result.estimates["method"].astype(str)))
        return phrases.listed(clip(phrases.name("method", name), 60) for name in used[:12])
    if value is None:
        return ""
    if key in COUNTED:
        return numbers.count(value)
    if key in ("alternative", "correction"):
        return clip(phrases.name(key, value), 60)
    shown = {"created": moment, "seconds": numbers.seconds, "alpha": _alpha}.get(key)
    return shown(value) if shown else as_text(value, " \u00b7 " if key == "versions" else ", ")


def _alpha(value: object) -> str:
    number = numbers.as_float(value)
    return f"{number:g}" if 0 < number < 1 else ""


def _words(phrases: Phrases, result: Result, facts: Mapping[str, Any]) -> Section | None:
    """The words that stand on this page, no others."""
    about = metric_facts(result).values()
    tested = bool(len(result.estimates))
    corrected = str(facts.get("correction") or "none") != "none"
    used = {
        "lift": bool((result.estimates["term"].astype(str) == "lift").any()),
        "pp": any(unit_of(row.get("kind")) == "points" for row in about),
        "interval": tested,
        "p": tested,
        "corrected": corrected and bool(result.estimates["p_adjusted"].notna().any()),
        "guardrail": any(str(row.get("role")) == "guardrail" for row in about),
        "srm": len(table_of(result, "srm")) > 0,
        "cuped": _adjusted(result),
        "winsorize": any(clip(row.get("winsorized_at")) for row in about),
    }
    pairs = [(phrases(f"word_{key}"), phrases(f"word_{key}_is")) for key in WORDS if used[key]]
    return Section(phrases("s_glossary"), "", (Terms(pairs),)) if pairs else None
