"""Credit by model, channel and period, beside the cost: what a budget is planned from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pandas as pd

from causal_spark.methods.attribution.compressed import Compressed
from causal_spark.methods.attribution.vocabulary import Attribution

PREFIX = "period="


def credits_by_period(method: Attribution, compressed: Compressed, estimates: pd.DataFrame) -> list[dict[str, Any]]:
    """One row for each model, channel and period: whether it is whole, the cost if it has a time, each outcome.

    A conversion counts in the period in which it happened. A period is ``complete`` if the data reach from before its
    first to after its last day. Where no conversion had a touch, credit is 0.
    """
    if method.period is None:
        return []
    mine = estimates[estimates["segment"].str.startswith(PREFIX) & estimates["term"].isin(compressed.tokens)]
    credit = {(str(m), str(t), str(s).removeprefix(PREFIX), str(o)): 0.0 if math.isnan(e) and n == 0 else float(e)
              for m, t, s, o, e, n in zip(*(mine[name] for name in ("method", "term", "segment", "outcome", "estimate",
                                                                    "n")), strict=True)}  # fmt: skip
    spent = compressed.period_costs
    periods = sorted({period for _, _, period, _ in credit} | set(spent or {}))
    complete = {period: _complete(period, method.period, compressed.facts) for period in periods}
    rows = []
    for model in method.models:
        for channel in compressed.tokens:
            for period in periods:
                row: dict[str, Any] = {"model": model, "channel": channel, "period": period,
                                       "complete": complete[period]}  # fmt: skip
                if spent is not None:
                    row["cost"] = spent.get(period, {}).get(channel, 0.0)
                keys = ((outcome, (model, channel, period, outcome)) for outcome in compressed.outcomes)
                rows.append(row | {outcome: credit.get(key, 0.0) for outcome, key in keys})
    return rows


def _complete(period: str, unit: str, facts: Mapping[str, Any]) -> bool:
    """Whether the data reach over all days of a period, from the first touch to ``as_of``."""
    first = date.fromisoformat(period)
    if unit == "month":
        after = date(first.year + first.month // 12, first.month % 12 + 1, 1)
    else:
        after = first + timedelta(days=7 if unit == "week" else 1)
    return _day(facts["first"]) <= first and after <= _day(facts["as_of"] - 1) + timedelta(days=1)


def _day(micros: int) -> date:
    return datetime.fromtimestamp(micros / 1e6, UTC).date()
