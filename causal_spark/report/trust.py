"""Can the numbers be acted upon: the checks of the gate, counted and said in words. Any job."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from causal_spark.report import numbers
from causal_spark.report.effects import EVERYONE, metric_facts, records, table_of
from causal_spark.report.parts import Cell, Column, Section, Table, clip, table
from causal_spark.report.phrases import Phrases
from causal_spark.results import Result

WORST_FIRST = ("invalid", "stop", "warn", "pass")
MAX_REASONS = 6
MERGED = ("HOT_KEY",)  # one column may stand in several metrics
# Their limit is a significance level, not a share.
LEVELS = ("SRM", "PRE_PERIOD", "TRIGGER", "INTERACTION", "NOVELTY", "HOLDOUT", "CARRY_OVER")
_BEFORE = " before"
_RATIO_BEFORE = re.compile(r"(\S[^/]*?) numerator before / \1 denominator before")


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
    pre = records(table_of(result, "pre_period"))
    before = [str(row.get("outcome")) for row in pre if is_true(row.get("flagged"))]
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
    return _RATIO_BEFORE.sub(r"\1 before", clip(row.get("message"))) or clip(row.get("code"))


def metric_before(name: str) -> str:
    """The metric behind the name of a covariate from before exposure (``ctr`` of ``ctr numerator before / …``)."""
    return _RATIO_BEFORE.sub(r"\1 before", name).removesuffix(_BEFORE)


def before_text(phrases: Phrases, result: Result, name: object) -> str:
    """The name of a covariate for a reader; whatever is no covariate of a metric stays as it is."""
    text = clip(name, 160)
    metric = metric_before(text)
    known = metric != text and metric in metric_facts(result)
    return phrases.plain("named_before", metric=clip(metric, 80)) if known else clip(text, 80)


def sorted_checks(result: Result) -> list[dict[str, Any]]:
    """The rows of ``checks``, the worst verdict first, else in their order."""
    order = {verdict: place for place, verdict in enumerate(WORST_FIRST)}
    rows = sorted(records(table_of(result, "checks")), key=lambda row: order.get(str(row.get("verdict")), 2))
    return _merged(rows)


def _merged(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for a column that several metrics found: the worst, with how many there were as ``times``."""
    found: dict[object, dict[str, Any]] = {}
    for place, row in enumerate(rows):
        same = str(row.get("code")) in MERGED
        key = tuple(str(row.get(name)) for name in ("code", "verdict", "table", "column")) if same else place
        first = found.setdefault(key, {**row, "times": 0})
        worse = numbers.as_float(row.get("share")) > numbers.as_float(first.get("share"))
        found[key] = {**(row if worse else first), "times": first["times"] + 1}
    return list(found.values())


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
        names = phrases.listed(clip(metric_before(name), 60) for name in trust.differed_before[:8])
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
        column = _RATIO_BEFORE.sub(r"\1 before", clip(row.get("column"), 160))
        where = ".".join(part for part in (clip(row.get("table"), 60), clip(column, 60)) if part)
        code = clip(row.get("code"), 60)
        code = phrases("in_metrics", code=code, metrics=row["times"]) if row["times"] > 1 else code
        rows.append(
            [
                Cell(phrases.name("verdict", verdict), tone=verdict, badge=True),
                Cell(message(row), code),
                Cell(where or numbers.DASH),
                Cell(numbers.count(row.get("count"))),
                Cell(_share_text(row.get("share"))),
                Cell(_limit_text(row)),
            ]
        )
    columns = [Column(phrases("c_" + key)) for key in ("verdict", "message", "where")]
    columns += [Column(phrases("c_" + key), "right") for key in ("count", "share", "threshold")]
    return table(phrases, columns, rows) if rows else None


def _share_text(value: object) -> str:
    """Two digits, unless that would hide it."""
    return numbers.percent(value, 2 if numbers.as_float(value) >= 0.0001 or not value else None)


def _limit_text(row: Mapping[str, Any]) -> str:
    """The limit of a share as a percentage, that of a test as a limit of p."""
    limit = numbers.as_float(row.get("threshold"))
    if limit != limit or not str(row.get("code")).startswith(LEVELS):
        return _share_text(limit)
    return f"p < {numbers.short(limit)}"


def checks_section(phrases: Phrases, result: Result, title: str = "s_checks") -> Section | None:
    """Every check, the worst first, under the sentence ``title``; absent if there were none."""
    shown = checks_table(phrases, result)
    return Section(phrases(title), phrases("s_checks_lead"), (shown,)) if shown else None
