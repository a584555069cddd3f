"""Moments by arm and by whether the unit was triggered."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from causal_spark.errors import GateError
from causal_spark.methods.experiment.passes.cells import cells
from causal_spark.methods.experiment.passes.given import Given
from causal_spark.statistics import Grouped


def triggered(given: Given) -> dict[str, Any] | None:
    """``Grouped`` by (arm, trigger, metric), the trigger as "1" or "0".

    Raises GateError if the column holds anything else: it has to be known for every unit of every arm.
    """
    column = given.method.triggered
    if column is None:
        return None
    found = cells(given, column)
    place = found.by.index(column)
    labels = {str(key[place]): _flag(str(key[place])) for key in found.cells}
    wrong = sorted(label for label, flag in labels.items() if flag is None)
    if wrong:
        raise GateError("trigger_not_binary", column=column, found=", ".join(wrong[:5]))
    by = {(*key[:place], labels[str(key[place])], *key[place + 1 :]): part for key, part in found.cells.items()}
    return Grouped(found.by, by).to_dict()


def _flag(label: str) -> str | None:
    """0 and 1 of any type that the column may have."""
    if label in ("true", "false"):
        return str(int(label == "true"))
    with suppress(ValueError):
        return {0.0: "0", 1.0: "1"}.get(float(label))
    return None
