"""The settings of a method in words, as far as they were set: ``facts["method"]`` holds them under their YAML keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from causal_spark.report import numbers
from causal_spark.report.effects import metric_facts, records, table_of
from causal_spark.report.parts import Cell, Column, Table, clip, table
from causal_spark.report.phrases import Phrases
from causal_spark.results import Result

NAMED = ("lift", "cluster_correction", "contrasts")  # a choice among words
PLAIN = ("unit", "cluster", "triggered", "as_of", "event_id")
DAYS = ("window_days", "pre_days", "by_day")


def method_of(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of the method, or nothing."""
    found = facts.get("method")
    return found if isinstance(found, Mapping) else {}


def clustered(facts: Mapping[str, Any]) -> bool:
    """True if arms and tables count clusters, not units."""
    return bool(method_of(facts).get("cluster"))


def things(facts: Mapping[str, Any]) -> str:
    """What an arm counts, as the end of a key: ``clusters`` or ``units``."""
    return "clusters" if clustered(facts) else "units"


def scope(phrases: Phrases, facts: Mapping[str, Any]) -> str:
    """From when to when an effect is counted; empty if no window was set."""
    days = method_of(facts).get("window_days")
    return phrases("scope_window", days=numbers.count(days)) if days else ""


def metric_days(phrases: Phrases, facts: Mapping[str, Any]) -> dict[str, str]:
    """Metric name to its own days since exposure, for those that have them."""
    return {name: _days(phrases, row) for name, row in _metrics(facts).items() if _days(phrases, row)}


def _metrics(facts: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    rows = method_of(facts).get("metrics")
    found = [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, (list, tuple)) else []
    return {str(row.get("name")): row for row in found}


def _days(phrases: Phrases, row: Mapping[str, Any]) -> str:
    """``[7, 14]`` counts the days 7 to 13."""
    days = row.get("days")
    if not isinstance(days, (list, tuple)) or len(days) != 2:
        return ""
    first, last = numbers.as_float(days[0]), numbers.as_float(days[1]) - 1
    if first == last:
        return phrases.plain("one_day", day=numbers.count(first))
    return phrases.plain("some_days", first=numbers.count(first), last=numbers.count(last))


def pairs(phrases: Phrases, result: Result, facts: Mapping[str, Any], adjusted: bool) -> list[tuple[str, str]]:
    """What was set and what it is, ready for the list of facts."""
    method = method_of(facts)
    found = {key: clip(method.get(key), 80) for key in PLAIN}
    found |= {key: phrases("set_" + key, days=numbers.count(method[key])) for key in DAYS if method.get(key)}
    found |= {key: clip(phrases.name(key, method[key]), 80) for key in NAMED if method.get(key)}
    if not clustered(facts):
        found.pop("cluster_correction", None)
    if adjusted and method.get("theta"):
        found["theta"] = clip(phrases.name("theta", method["theta"]), 80)
    found |= {"where": _conditions(method.get("where")), "shares": _shares(phrases, method)}
    if method.get("switchback"):
        found |= {"cluster": "", "switchback": _switchback(phrases, method["switchback"])}
    found["interactions"] = _joined(phrases, method.get("interactions"))
    found |= {"holdouts": _joined(phrases, method.get("holdouts")), "segments": _segments(phrases, method)}
    if method.get("srm_alpha"):
        found["srm_alpha"] = f"p < {numbers.short(method['srm_alpha'])}"
    found["winsorize"] = _caps(phrases, result, facts)
    found |= {"sequential": _plan(phrases, method), "decision": _rule(phrases, method)}
    order = (*PLAIN[:2], "switchback", "where", "shares", "holdouts", "triggered", "interactions", *DAYS, *PLAIN[3:],
             *NAMED, "theta", "winsorize", "segments", "decision", "sequential")  # fmt: skip
    return [(phrases("fact_" + key), found[key]) for key in (*order, "srm_alpha") if found.get(key)]


def _plan(phrases: Phrases, method: Mapping[str, Any]) -> str:
    """The plan of several looks, with the convention of its spending."""
    plan = method.get("sequential")
    if not isinstance(plan, Mapping):
        return ""
    kind = phrases.name("sequential", plan.get("kind"))
    said = phrases("set_sequential", kind=kind, units=numbers.count(plan.get("units")), name=clip(plan.get("key"), 80))
    if plan.get("kind") != "group":
        return said
    return phrases("set_spending", plan=said, spending=phrases.name("spending", plan.get("spending")))


def _rule(phrases: Phrases, method: Mapping[str, Any]) -> str:
    rule = method.get("decision")
    if not isinstance(rule, Mapping):
        return ""
    return phrases("set_rule_all") if rule.get("needs") == "all" else phrases("set_rule_any")


def _joined(phrases: Phrases, values: object) -> str:
    return phrases.listed(clip(v, 60) for v in values) if isinstance(values, (list, tuple)) and values else ""


def _shares(phrases: Phrases, method: Mapping[str, Any]) -> str:
    shares = method.get("shares")
    if not isinstance(shares, Mapping) or not shares:
        return phrases("shares_equal") if "shares" in method else ""
    return phrases.listed(f"{clip(arm, 60)} {numbers.percent(numbers.as_float(s), 1)}" for arm, s in shares.items())


def _switchback(phrases: Phrases, plan: Mapping[str, Any]) -> str:
    """What was switched, where and how often."""
    region = clip(plan.get("region"), 60)
    if not plan.get("hours"):
        return phrases("set_switchback_column", region=region, period=clip(plan.get("period"), 60))
    minutes = numbers.plain(plan.get("burn_in"), 0)
    return phrases("set_switchback", region=region, hours=f"{numbers.as_float(plan['hours']):g}", minutes=minutes)


def _segments(phrases: Phrases, method: Mapping[str, Any]) -> str:
    named = _joined(phrases, method.get("segments"))
    least = method.get("min_segment")
    return phrases("set_segments", names=named, least=numbers.count(least)) if named and least else named


def _caps(phrases: Phrases, result: Result, facts: Mapping[str, Any]) -> str:
    """Every metric whose large values were capped, with the percentile and the caps that were found."""
    asked, said = _metrics(facts), []
    for name, row in metric_facts(result).items():
        caps = clip(row.get("winsorized_at"), 120)
        share = numbers.as_float(asked.get(name, {}).get("winsorize"))
        if caps and share == share:
            said.append(phrases("set_winsorize", metric=clip(name, 60), share=f"{share * 100:g}%", caps=caps))
        elif caps:
            said.append(phrases("set_winsorize_caps", metric=clip(name, 60), caps=caps))
    return phrases("joiner").join(said)


def _conditions(value: object) -> str:
    """``country in [DE, FR] and age >= 18``: filters as they were set."""
    rows = [row for row in value if isinstance(row, Mapping)] if isinstance(value, (list, tuple)) else []
    return " & ".join(_condition(row) for row in rows)


def _condition(row: Mapping[str, Any]) -> str:
    wanted = row.get("value")
    if isinstance(wanted, (list, tuple)):
        wanted = f"[{', '.join(clip(part, 40) for part in wanted)}]"
    return " ".join(part for part in (clip(row.get("column"), 60), clip(row.get("op")), clip(wanted, 80)) if part)


def metrics_table(phrases: Phrases, facts: Mapping[str, Any]) -> Table | None:
    """How each metric was defined: its kind, what is summed or counted, and on which days."""
    rows = []
    for name, row in _metrics(facts).items():
        days = _days(phrases, row) or scope(phrases, facts)
        kind = clip(phrases.name("kind", row.get("kind")), 40)
        role = clip(phrases.name("role", row.get("role")), 40)
        rows.append([Cell(clip(name, 80), "", "strong"), Cell(kind, role), Cell(_measure(phrases, row)), Cell(days)])
    keys = ("metric", "kind", "measure", "days")
    return (
        table(phrases, [Column(phrases("c_" + key)) for key in keys], rows, phrases("fold_metrics")) if rows else None
    )


def _measure(phrases: Phrases, row: Mapping[str, Any]) -> str:
    both = _conditions(row.get("where"))
    if row.get("kind") == "ratio":
        sides = [
            _part(phrases, row.get(side), [both, _conditions(row.get(side + "_where"))])
            for side in ("numerator", "denominator")
        ]
        return " \u00f7 ".join(sides)
    return _part(phrases, row.get("value"), [both])


def _part(phrases: Phrases, column: object, conditions: Sequence[str]) -> str:
    """A column, or the events counted, with the conditions on them."""
    name = phrases.plain("measure_events") if column in (None, "*") else clip(column, 60)
    kept = " & ".join(condition for condition in conditions if condition)
    return f"{name} ({kept})" if kept else name


def missing(result: Result) -> bool:
    """True if any value was missing in a column of a metric."""
    return any(numbers.as_float(row.get("nulls")) > 0 for row in records(table_of(result, "nulls")))
