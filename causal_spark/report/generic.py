"""The page of a job that has no page of its own yet: its checks and its tables as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from causal_spark.report import provenance, trust
from causal_spark.report.parts import Answer, Page, Section, clip, frame_table
from causal_spark.report.phrases import Phrases
from causal_spark.results import Result


def page(result: Result, facts: Mapping[str, Any], phrases: Phrases) -> Page:
    """Verdict of the checks, ``estimates``, and every diagnostic table."""
    judged = trust.judge(result)
    estimates = Section(phrases("s_estimates"), "", (frame_table(phrases, result.estimates),))
    tables = [
        Section(clip(name, 80), "", (frame_table(phrases, frame),))
        for name, frame in result.diagnostics.items()
        if name != "checks" and len(frame)
    ]
    closing = [provenance.notes(phrases, result), provenance.computed(phrases, result, facts)]
    sections = [estimates, trust.checks_section(phrases, result), *tables, *closing]
    lines = trust.trust_lines(phrases, judged)
    headline = {"stop": "headline_stop", "good": "headline_plain_good", "care": "headline_plain_care"}[judged.tone]
    return Page(
        title=clip(facts.get("title"), 120) or phrases("untitled"),
        eyebrow=phrases("eyebrow_other"),
        subtitle=provenance.subtitle(facts),
        tone=judged.tone,
        headline=phrases(headline),
        reasons=trust.reasons(phrases, judged),
        answers=(Answer(phrases("q_trust"), phrases("trust_" + judged.tone), [("", lines)], judged.tone),),
        tiles=(),
        sections=[section for section in sections if section],
        footer=phrases("footer"),
    )


def drawings(result: Result, facts: Mapping[str, Any], phrases: Phrases) -> dict[str, str]:
    """No drawings."""
    return {}
