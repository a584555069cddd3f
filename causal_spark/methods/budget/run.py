"""The cluster half of the budget job: the table to sums by channel and period."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping

from causal_spark.methods.budget.compressed import Compressed
from causal_spark.methods.budget.vocabulary import Budget
from causal_spark.methods.findings import Findings
from causal_spark.spark import gate
from causal_spark.spark.columns import where
from causal_spark.spark.compress import MAX_ROWS
from causal_spark.spark.panel_sums import sums_by
from causal_spark.spark.session import Engine
from causal_spark.spark.tables import Frame, require, require_filters, require_numbers

Progress = Callable[[str], None]
LARGEST = 1e15


def compress(
    engine: Engine,
    method: Budget,
    frames: Mapping[str, Frame],
    scratch: Callable[[str], str],
    progress: Progress,
    language: str = "en",
) -> Compressed:
    """Gate, then one group-by in whole numbers.

    Raises GateError (codes of the findings), ConfigError (columns) or StatisticError (too many cells).
    """
    found, table = Findings(language), "history"
    progress("gate")
    require_filters(frames[table], method.where, table)
    keys, numbers = [method.channel, method.period], [method.spend, method.outcome]
    require(frames[table], keys, table)
    require_numbers(frames[table], numbers, table)
    frame = where(frames[table], method.where)
    ranges = gate.ranges(frame, [*keys, *numbers], nan=numbers)
    found.empty(table, ranges[""].n)
    for name in (*keys, *numbers):
        if ranges[name].nulls:
            count = ranges[name].nulls
            found.add("NULL_KEY", "stop", table, name, count=count, share=count / ranges[name].n)
    for name in numbers:
        low, high = ranges[name].low or 0.0, ranges[name].high or 0.0
        if ranges[name].nans or math.isinf(low) or math.isinf(high):
            found.add("NAN_INF", "stop", table, name)
        elif low < 0:
            found.add("NEGATIVE_AMOUNT", "stop", table, name, low=low)
        elif high * ranges[name].n > LARGEST:
            found.add("OUT_OF_RANGE", "stop", table, name, scale=1)
    found.refuse()
    found.add("VALUES", "pass", table)
    progress("compress")
    cells = sums_by(frame, keys, numbers, MAX_ROWS)
    periods = in_order({period for _, period in cells})
    channels = sorted({channel for channel, _ in cells})
    spend, outcome = (
        {name: tuple(cells.get((name, period), (0.0, 0.0))[i] for period in periods) for name in channels}
        for i in range(2)
    )
    facts = {"rows": ranges[""].n, "channels": len(channels), "periods": len(periods)}
    return Compressed(periods, spend, outcome, facts, tuple(found.found))


def in_order(periods: Collection[str]) -> tuple[str, ...]:
    """Periods in time: whole numbers by their size, all else (dates) as texts."""
    numbered = all(re.fullmatch(r"-?\d+", period) for period in periods)
    return tuple(sorted(periods, key=int if numbered else str))
