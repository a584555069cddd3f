"""Moments by the arms of several experiments on the same units."""

from __future__ import annotations

from typing import Any

from causal_spark.errors import GateError
from causal_spark.methods.experiment.passes.cells import cells
from causal_spark.methods.experiment.passes.given import Given

# Arms of another experiment: a column with more labels is something else.
MOST = 20


def interactions(given: Given) -> dict[str, Any] | None:
    """``Grouped`` by (arm, arm of every other experiment, metric). Raises GateError if a column has too many labels."""
    columns = given.method.interactions
    if not columns:
        return None
    found = cells(given, *columns)
    for place, column in enumerate(found.by[1:-1], start=1):
        labels = {key[place] for key in found.cells}
        if len(labels) > MOST:
            raise GateError("too_many_other_arms", column=column, count=len(labels), most=MOST)
    return found.to_dict()
