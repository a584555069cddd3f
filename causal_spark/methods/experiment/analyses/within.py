"""What a pass left of a metric in a segment, or why it left nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from causal_spark.methods.experiment import plan
from causal_spark.methods.experiment.estimates import Solver
from causal_spark.words import say


def within(data: Mapping[str, Any], segment: str) -> Mapping[str, Any]:
    """The part of a pass's data (``arms`` and ``segments``) that is of a segment; empty if there is none."""
    if segment == plan.EVERYONE:
        return data
    found: Mapping[str, Any] = data.get("segments", {}).get(segment, {})
    return found


def absent(solver: Solver, data: Mapping[str, Any], segment: str, note: str) -> str:
    """The reason for a row without numbers: suppressed, or (``note``) too large; empty if there are numbers."""
    if segment in solver.suppressed:
        return say("note_suppressed", solver.language, least=solver.method.min_segment)
    return "" if within(data, segment) else say(note, solver.language)
