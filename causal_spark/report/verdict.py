"""The top of the experiment page: can I trust it, what moved and by how much, how sure are we."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from causal_spark.report import numbers
from causal_spark.report.cells import change_places, lift_places
from causal_spark.report.effects import Change, Effect, alpha_of, records, table_of
from causal_spark.report.parts import Answer, clip
from causal_spark.report.phrases import Phrases
from causal_spark.report.trust import Trust, p_phrase, trust_lines
from causal_spark.results import Result

MAX_LINES = 8
MAX_CONTRASTS = 4
FALSE_SHARE = ("bh", "by")


def level_text(alpha: float) -> str:
    """``0.05`` to ``95%``."""
    return f"{round((1 - alpha) * 100, 6):g}%"


def headline(phrases: Phrases, trust: Trust, every: Sequence[Effect]) -> str:
    """One line for people who read one line."""
    if trust.tone == "stop":
        return phrases("headline_stop")
    said = _moved_headline(phrases, every)
    moved = dict.fromkeys((e.outcome, e.moved) for e in every if e.role == "guardrail" and e.moved)
    if moved:
        keys = {1: "headline_guardrail_up", -1: "headline_guardrail_down"}
        parts = phrases.listed(phrases(keys[way], metric=clip(name, 60)) for name, way in list(moved)[:4])
        said = phrases("joined", first=said, second=parts)
    return said


def _moved_headline(phrases: Phrases, every: Sequence[Effect]) -> str:
    total, moved = _success_counts(every)
    if not moved:
        return phrases("headline_none")
    if total == 1:
        return phrases("headline_moved_one", metric=clip(moved[0], 60))
    return phrases("headline_moved", moved=len(moved), total=total)


def _success_counts(every: Sequence[Effect]) -> tuple[int, list[str]]:
    """How many success metrics there are, and the names of those that moved in any comparison."""
    success = [effect for effect in every if effect.role == "success"]
    return len(_names(success)), _names(effect for effect in success if effect.moved)


def _names(some: Any) -> list[str]:
    return list(dict.fromkeys(effect.outcome for effect in some))


def answers(
    phrases: Phrases, result: Result, facts: Mapping[str, Any], trust: Trust, every: Sequence[Effect]
) -> tuple[Answer, ...]:
    """The three questions of a meeting, each with a short answer and the sentences behind it."""
    alpha = alpha_of(result, facts)
    lines = trust_lines(phrases, trust)
    can = Answer(phrases("q_trust"), phrases("trust_" + trust.tone), [("", lines)], trust.tone)
    if trust.tone == "stop":
        return (can, Answer(phrases("q_moved"), phrases("moved_short_stop"), [("", [phrases("moved_stop_line")])]))
    total, moved = _success_counts(every)
    short = phrases("moved_short", moved=len(moved), total=total) if moved else phrases("moved_short_none")
    what = Answer(phrases("q_moved"), short, _moved_groups(phrases, every))
    sure = phrases("sure_short", level=level_text(alpha))
    return (can, what, Answer(phrases("q_sure"), sure, [("", _sure_lines(phrases, result, facts, every, alpha))]))


def _moved_groups(phrases: Phrases, every: Sequence[Effect]) -> list[tuple[str, list[str]]]:
    """One group of sentences for each comparison."""
    contrasts = list(dict.fromkeys(effect.contrast for effect in every))
    groups = [(contrast, [e for e in every if e.contrast == contrast]) for contrast in contrasts[:MAX_CONTRASTS]]
    found = [(clip(contrast, 120), _moved_lines(phrases, here)) for contrast, here in groups]
    if len(contrasts) > MAX_CONTRASTS:
        found.append(("", [phrases("moved_more", more=len(contrasts) - MAX_CONTRASTS)]))
    return found


def _moved_lines(phrases: Phrases, every: Sequence[Effect]) -> list[str]:
    """What moved, guardrails after; then hints and what is unknown; what did not move in one line."""
    said = [effect for effect in every if effect.role != "diagnostic"] or list(every)
    moved = sorted((e for e in said if e.moved), key=lambda e: e.role == "guardrail")
    loud = [*moved, *(e for e in said if not e.moved and (e.hinted or not e.main.known))]
    least = lift_places(every)
    lines: list[str] = [effect_sentence(phrases, effect, least) for effect in loud[:MAX_LINES]]
    if len(loud) > MAX_LINES:
        lines.append(phrases("moved_more", more=len(loud) - MAX_LINES))
    quiet = [e for e in said if e.main.known and not e.moved and not e.hinted]
    return [*lines, _quiet_line(phrases, quiet, least)] if quiet else lines


def _quiet_line(phrases: Phrases, quiet: Sequence[Effect], least: int | None) -> Markup:
    items = []
    for effect in quiet[:MAX_LINES]:
        change, unit, places = _told(effect, least)
        spread = numbers.interval(change.low, change.high, unit, places)
        items.append(phrases("quiet_item", metric=clip(effect.outcome, 80), interval=phrases.with_unit(spread, unit)))
    more = [phrases("moved_more", more=len(quiet) - MAX_LINES)] if len(quiet) > MAX_LINES else []
    return phrases.joined([phrases("moved_not", items=phrases.listed(items)), *more])


def effect_sentence(phrases: Phrases, effect: Effect, least: int | None = None) -> Markup:
    """One effect in words; relative where there is a relative change, else absolute."""
    metric = clip(effect.outcome, 80)
    if not effect.main.known:
        reason = clip(effect.main.note).rstrip(".。") or phrases.plain("no_reason")
        sentence = phrases("moved_unknown", metric=metric, reason=reason)
    else:
        p = p_phrase(phrases, effect.main.p_value if effect.hinted else effect.main.p)
        size, spread = _size(phrases, effect, least)
        key = "moved_hint" if effect.hinted else "moved_up" if effect.moved > 0 else "moved_down"
        sentence = phrases(key, metric=metric, change=size, range=spread, p=p)
    return phrases("moved_guardrail", sentence=sentence) if effect.role == "guardrail" else sentence


def _told(effect: Effect, least: int | None) -> tuple[Change, str, int | None]:
    """The change that is told in words, its unit and its digits: the relative one if it is known."""
    if effect.lift.known:
        return effect.lift, "percent", change_places(effect.lift, "percent", least)
    return effect.difference, effect.unit, change_places(effect.difference, effect.unit)


def _size(phrases: Phrases, effect: Effect, least: int | None) -> tuple[str, str]:
    """The size of a change without its sign, and its range in words."""
    change, unit, places = _told(effect, least)
    return phrases.with_unit(numbers.FORMATTERS[unit](abs(change.estimate), places, False), unit), _range(
        phrases, change, unit, places
    )


def _range(phrases: Phrases, change: Change, unit: str, places: int | None) -> str:
    low, high = (
        phrases.with_unit(numbers.FORMATTERS[unit](end, places, True), unit) for end in (change.low, change.high)
    )
    bounded = math.isfinite(change.low), math.isfinite(change.high)
    keys = {(True, True): "between", (True, False): "at_least", (False, True): "at_most", (False, False): "any_size"}
    return phrases.plain(keys[bounded], low=low, high=high)


def _sure_lines(
    phrases: Phrases, result: Result, facts: Mapping[str, Any], every: Sequence[Effect], alpha: float
) -> list[str]:
    lines = [phrases("sure_level", level=level_text(alpha)), _correction_line(phrases, facts, every, alpha)]
    lines += [phrases("sure_intervals")] if len(every) > 1 else []
    alternative = str(facts.get("alternative") or "two-sided")
    if alternative != "two-sided":
        lines.append(phrases("sure_one_sided", alternative=phrases.name("alternative", alternative)))
    known = [row for row in records(table_of(result, "cuped")) if str(row.get("segment", "all")) == "all"]
    gains = [(numbers.as_float(row.get("variance_reduction")), str(row.get("outcome"))) for row in known]
    success = {effect.outcome for effect in every if effect.role == "success"}
    gains = [gain for gain in gains if gain[0] > 0 and (gain[1] in success or not success)]
    if gains:
        best, metric = max(gains)
        lines.append(phrases("sure_cuped", reduction=numbers.percent(best, 0), metric=clip(metric, 60)))
    guardrails = [effect for effect in every if effect.role == "guardrail"]
    if guardrails and not any(effect.moved for effect in guardrails):
        lines.append(phrases("no_guardrail_moved"))
    return lines


def _correction_line(phrases: Phrases, facts: Mapping[str, Any], every: Sequence[Effect], alpha: float) -> str:
    """The number of comparisons and what holds the chance findings; silent rows are not counted."""
    corrected = sum(math.isfinite(effect.main.p_adjusted) for effect in every)
    method = str(facts.get("correction") or "none")
    if corrected and method != "none":
        name = phrases.name("correction", method)
        key = "sure_false_share" if method.replace("fdr_", "") in FALSE_SHARE else "sure_corrected"
        return phrases(key, alpha=f"{alpha * 100:g}%", comparisons=corrected, correction=name)
    tests = sum(math.isfinite(effect.main.p_value) for effect in every)
    return phrases("sure_uncorrected", comparisons=tests, expected=numbers.plain(tests * alpha, 1))
