"""The top of the page of an observational comparison: the question, the verdict, the effect, how sure we are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from causal_spark.report import numbers, similar
from causal_spark.report.compared import Line, adjusted, leading, names, places
from causal_spark.report.effects import Change, alpha_of
from causal_spark.report.parts import Answer, clip
from causal_spark.report.phrases import Phrases
from causal_spark.report.settings import method_of
from causal_spark.report.trust import Trust, trust_lines
from causal_spark.report.verdict import effect_sentence, level_text
from causal_spark.results import Result

MAX_LINES = 8
MAX_TREATMENTS = 8


def question(phrases: Phrases, every: Sequence[Line], facts: Mapping[str, Any]) -> str:
    """``Did email change revenue, in the units that got it?``"""
    shown = [line for line in every if not line.placebo]
    either = phrases("list_or")
    named = {
        field: either.join(clip(name, 60) for name in names(shown, field)[:MAX_LINES])
        for field in ("treatment", "outcome")
    }
    whom = phrases.name("whom", method_of(facts).get("estimand") or "ATT")
    return phrases("question_effect", **named, whom=whom)


def headline(phrases: Phrases, trust: Trust, main: Sequence[Line]) -> str:
    """One line for people who read one line."""
    if trust.tone == "stop":
        return phrases("headline_stop")
    moved = sum(line.effect.moved != 0 for line in main)
    if len(main) != 1:
        return phrases("headline_effects" if moved else "headline_effects_none", moved=moved, total=len(main))
    line = main[0]
    keys = {1: "headline_effect_up", -1: "headline_effect_down", 0: "headline_effect_none"}
    key = keys[line.effect.moved] if line.change.known else "headline_effect_unknown"
    return phrases(key, treatment=clip(line.treatment, 60), outcome=clip(line.outcome, 60))


def scope(phrases: Phrases, trust: Trust, main: Sequence[Line]) -> str:
    """Whose effect is told, and by which estimator."""
    if trust.tone == "stop" or not main:
        return ""
    about = phrases.name("about", main[0].estimand)
    return phrases("scope_effect", about=clip(about, 60), estimator=phrases.name("method", main[0].estimator))


def answers(
    phrases: Phrases,
    result: Result,
    facts: Mapping[str, Any],
    trust: Trust,
    every: Sequence[Line],
    main: Sequence[Line],
) -> tuple[Answer, ...]:
    """The three questions of a meeting, each with a short answer and the sentences behind it."""
    short = phrases("trust_covariates" if trust.tone == "good" else "trust_" + trust.tone)
    can = Answer(phrases("q_trust"), short, [("", _trust_lines(phrases, result, trust, main))], trust.tone)
    if trust.tone == "stop":
        return (can, Answer(phrases("q_moved"), phrases("moved_short_stop"), [("", [phrases("moved_stop_line")])]))
    what = Answer(phrases("q_moved"), _moved_short(phrases, main), _effect_groups(phrases, every, main))
    sure = phrases("sure_short", level=level_text(alpha_of(result, facts)))
    return (can, what, Answer(phrases("q_sure"), sure, [("", _sure_lines(phrases, result, facts, every))]))


def _moved_short(phrases: Phrases, main: Sequence[Line]) -> str:
    """The size of a single effect, or how many of them there are."""
    moved = sum(line.effect.moved != 0 for line in main)
    if not moved:
        return phrases("moved_short_none")
    if len(main) == 1:
        return numbers.plain(main[0].change.estimate, places(main), True)
    return phrases("effects_short", moved=moved, total=len(main))


def _trust_lines(phrases: Phrases, result: Result, trust: Trust, main: Sequence[Line]) -> list[str]:
    """The checks, how alike the units became, and what no arithmetic can say."""
    first, *others = trust_lines(phrases, trust)
    if trust.tone == "stop":
        return [first, *others]
    alike: list[str] = []
    estimators = {line.treatment: line.estimator for line in reversed(main)}
    for treatment in names(main, "treatment")[:MAX_TREATMENTS]:
        alike += _alike_lines(phrases, result, treatment, estimators[treatment])
    return [first, *alike, *others, phrases("trust_hidden")]


def _alike_lines(phrases: Phrases, result: Result, treatment: str, estimator: str) -> list[str]:
    named = {"treatment": clip(treatment, 60), "estimator": phrases.name("method", estimator)}
    rows = similar.by_treatment(result, "balance").get(treatment, [])
    _, before = similar.worst(rows, similar.BEFORE)
    covariate, after = similar.worst(rows, estimator)
    found: list[str] = []
    if math.isfinite(before) and math.isfinite(after):
        sizes = {"before": numbers.plain(before, 2), "after": numbers.plain(after, 2)}
        found.append(phrases("trust_alike", **named, covariate=clip(covariate, 60), **sizes))
    return found


def _effect_groups(phrases: Phrases, every: Sequence[Line], main: Sequence[Line]) -> list[tuple[str, list[str]]]:
    """One group of sentences for each treatment."""
    treatments = names(main, "treatment")
    several = len(treatments) > 1
    found = []
    for treatment in treatments[:MAX_TREATMENTS]:
        some = [line for line in main if line.treatment == treatment]
        said = [part for line in some[:MAX_LINES] for part in _effect_lines(phrases, every, line)]
        if len(some) > MAX_LINES:
            said.append(phrases("moved_more", more=len(some) - MAX_LINES))
        found.append((clip(treatment, 120) if several else "", said))
    if len(treatments) > MAX_TREATMENTS:
        found.append(("", [phrases("moved_more", more=len(treatments) - MAX_TREATMENTS)]))
    return found


def _effect_lines(phrases: Phrases, every: Sequence[Line], line: Line) -> list[str]:
    """The effect, what the plain difference would have said, whether the estimators agree, the return."""
    least = places([line])
    if line.effect.moved or not line.change.known:
        said: list[str] = [effect_sentence(phrases, line.effect, least)]
    else:
        spread = numbers.interval(line.change.low, line.change.high, "number", least)
        item = phrases("quiet_item", metric=clip(line.outcome, 80), interval=spread)
        said = [phrases("moved_not", items=item)]
    beside = [other for other in every if other.pair == line.pair]
    naive = next((other.change for other in beside if other.estimator == similar.BEFORE), None)
    if naive and naive.known:
        shown = {"naive": numbers.plain(naive.estimate, least, True)}
        said.append(phrases("effect_naive", **shown, estimate=numbers.plain(line.change.estimate, least, True)))
    said += _agreement(phrases, adjusted(beside), least)
    roi = line.times.get("roi")
    if roi and roi.known:
        said.append(_return_line(phrases, roi))
    return said


def _agreement(phrases: Phrases, beside: Sequence[Line], least: int | None) -> list[str]:
    """Whether several estimators point the same way."""
    known = [line.change.estimate for line in beside if line.change.known]
    if len(known) < 2:
        return []
    same = min(known) > 0 or max(known) < 0
    key = (
        "effect_agree" if same else "effect_disagree" if any(line.effect.moved for line in beside) else "effect_spread"
    )
    low, high = (numbers.plain(end, least, True) for end in (min(known), max(known)))
    return [phrases(key, count=len(known), low=low, high=high)]


def _return_line(phrases: Phrases, roi: Change) -> str:
    digits = numbers.interval_places(roi.estimate, roi.low, roi.high, "percent")
    low, high = (numbers.percent(end, digits, True) for end in (roi.low, roi.high))
    shown = numbers.percent(roi.estimate, digits, True)
    key = "effect_roi_gain" if roi.low > 0 else "effect_roi_loss" if roi.high < 0 else "effect_roi_open"
    return phrases(key, roi=shown, low=low, high=high)


def _sure_lines(phrases: Phrases, result: Result, facts: Mapping[str, Any], every: Sequence[Line]) -> list[str]:
    alpha, main = alpha_of(result, facts), leading(every, facts)
    said: list[str] = [phrases("sure_level", level=level_text(alpha))]
    said += list(dict.fromkeys(clip(line.change.note, 200) for line in main if line.change.note))[:MAX_LINES]
    tests = sum(math.isfinite(line.change.p_value) for line in main)
    if tests > 1:
        said.append(phrases("sure_uncorrected", comparisons=tests, expected=numbers.plain(tests * alpha, 1)))
    alternative = str(facts.get("alternative") or "two-sided")
    if alternative != "two-sided":
        said.append(phrases("sure_one_sided", alternative=phrases.name("alternative", alternative)))
    return said + _hidden_lines(phrases, result, main)


def _hidden_lines(phrases: Phrases, result: Result, main: Sequence[Line]) -> list[str]:
    """How strong a hidden cause would have to be, for the effects that can be told from zero."""
    rows = {
        (str(row.get("treatment")), str(row.get("outcome")), str(row.get("estimator"))): row
        for some in similar.by_treatment(result, "sensitivity").values()
        for row in some
    }
    said: list[str] = []
    for line in [line for line in main if line.effect.moved][:MAX_LINES]:
        value = numbers.as_float(rows.get((*line.pair, line.estimator), {}).get("e_value"))
        if math.isfinite(value):
            named = {"treatment": clip(line.treatment, 60), "outcome": clip(line.outcome, 60)}
            said.append(phrases("sure_hidden", **named, value=numbers.plain(value, 2)))
    return said
