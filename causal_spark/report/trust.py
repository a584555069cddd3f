"""Can the numbers be acted upon: the checks of the gate, counted and said in words. Any job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from causal_spark.report import numbers
from causal_spark.report.effects import EVERYONE, records, table_of
from causal_spark.report.parts import Cell, Column, Section, Table, clip, table
from causal_spark.report.phrases import Phrases
from causal_spark.results import Result

WORST_FIRST = ("invalid", "stop", "warn", "pass")
MAX_REASONS = 6


@dataclass(frozen=True)
class Trust:
    """How many checks there were and what they say. ``tone``: ``good``, ``care`` or ``stop``."""

    tone: str
    checks: int
    passed: int
    warnings: int
    failed: int
    reasons: tuple[str, ...]
    srm_p: float
    srm_flagged: bool
    looked_before: bool
    differed_before: tuple[str, ...]


def judge(result: Result) -> Trust:
    """Read the verdicts of ``checks``, ``srm`` and ``pre_period``; a result that is not trusted is ``stop``."""
    checks = sorted_checks(result)
    verdicts = [str(row.get("verdict")) for row in checks]
    failed = sum(verdict in ("invalid", "stop") for verdict in verdicts)
    srm = records(table_of(result, "srm"))
    flagged = any(is_true(row.get("flagged")) for row in srm)
    everyone = [numbers.as_float(row.get("p_value")) for row in srm if str(row.get("segment", EVERYONE)) == EVERYONE]
    before = [str(row.get("outcome")) for row in records(table_of(result, "pre_period")) if is_true(row.get("flagged"))]
    warnings = verdicts.count("warn")
    doubt = bool(warnings or failed or flagged or before or not checks)
    tone = "stop" if not result.trusted else "care" if doubt else "good"
    wanted = ("invalid", "stop") if not result.trusted else WORST_FIRST[:3]
    return Trust(
        tone=tone,
        checks=len(checks),
        passed=verdicts.count("pass"),
        warnings=warnings,
        failed=failed,
        reasons=tuple(message(row) for row in checks if str(row.get("verdict")) in wanted),
        srm_p=next((p for p in everyone), numbers.as_float(None)),
        srm_flagged=flagged,
        looked_before=len(table_of(result, "pre_period")) > 0,
        differed_before=tuple(dict.fromkeys(before)),
    )


def is_true(value: object) -> bool:
    """True for a true flag; missing values are not."""
    return value is not None and value == value and str(value).lower() in ("true", "1", "1.0")


def message(row: Mapping[str, Any]) -> str:
    """What a check found, or its code where it says nothing."""
    return clip(row.get("message")) or clip(row.get("code"))


def sorted_checks(result: Result) -> list[dict[str, Any]]:
    """The rows of ``checks``, the worst verdict first, else in their order."""
    order = {verdict: place for place, verdict in enumerate(WORST_FIRST)}
    return sorted(records(table_of(result, "checks")), key=lambda row: order.get(str(row.get("verdict")), 2))


def p_phrase(phrases: Phrases, value: object) -> str:
    """``p = 0.03`` or ``p < 0.001``."""
    text = numbers.p_value(value)
    return phrases.plain("p_bound" if text[0] in "<>" else "p_is", p=text).replace(" ", "\u00a0")


def trust_lines(phrases: Phrases, trust: Trust) -> list[str]:
    """The sentences that answer: can I trust it?"""
    lines: list[str] = []
    if trust.tone == "stop":
        key = "trust_not_valid" if trust.failed else "trust_marked"
        lines.append(phrases(key, failed=trust.failed, checks=trust.checks))
    elif not trust.checks:
        lines.append(phrases("trust_unchecked"))
    elif trust.warnings or trust.failed:
        warnings = trust.warnings + trust.failed
        lines.append(phrases("trust_some_warn", warnings=warnings, checks=trust.checks, passed=trust.passed))
        lines.extend(trust.reasons[:MAX_REASONS])
    else:
        lines.append(phrases("trust_all_passed", checks=trust.checks))
    if trust.srm_p == trust.srm_p:
        lines.append(phrases("srm_bad" if trust.srm_flagged else "srm_fine", p=p_phrase(phrases, trust.srm_p)))
    if trust.differed_before:
        names = phrases.listed(clip(name, 60) for name in trust.differed_before[:8])
        lines.append(phrases("pre_bad", names=names))
    elif trust.looked_before:
        lines.append(phrases("pre_fine"))
    return lines


def reasons(phrases: Phrases, trust: Trust) -> tuple[str, ...]:
    """Why nobody should act on the numbers: the messages of the failed checks."""
    if trust.tone != "stop":
        return ()
    return trust.reasons[:MAX_REASONS] or (phrases("trust_marked"),)


def checks_table(phrases: Phrases, result: Result) -> Table | None:
    """The table of checks with a badge for each verdict."""
    rows = []
    for row in sorted_checks(result):
        verdict = str(row.get("verdict"))
        where = ".".join(part for part in (clip(row.get("table"), 60), clip(row.get("column"), 60)) if part)
        rows.append(
            [
                Cell(phrases.name("verdict", verdict), tone=verdict, badge=True),
                Cell(message(row), clip(row.get("code"), 60)),
                Cell(where or numbers.DASH),
                Cell(numbers.count(row.get("count"))),
                Cell(numbers.percent(row.get("share"))),
                Cell(numbers.short(row.get("threshold"))),
            ]
        )
    columns = [Column(phrases("c_" + key)) for key in ("verdict", "message", "where")]
    columns += [Column(phrases("c_" + key), "right") for key in ("count", "share", "threshold")]
    return table(phrases, columns, rows) if rows else None


def checks_section(phrases: Phrases, result: Result) -> Section | None:
    """Every check, the worst first; absent if there were none."""
    shown = checks_table(phrases, result)
    return Section(phrases("s_checks"), phrases("s_checks_lead"), (shown,)) if shown else None
