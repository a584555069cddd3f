"""Lifts of channels, read from a plain table of totals or from the estimates of another run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from causal_spark.errors import ConfigError
from causal_spark.methods.attribution.compressed import Lift
from causal_spark.methods.attribution.vocabulary import Attribution, Calibration
from causal_spark.spark import journeys as cluster
from causal_spark.spark.compress import MAX_ROWS
from causal_spark.spark.tables import Frame, require, require_numbers

NUMBERS = ("estimate", "std_error")
NAMES = ("method", "outcome", "segment", "contrast", "term")
TERM = "difference"


def read(method: Attribution, frame: Frame | None) -> tuple[Lift, ...]:
    """What the experiments say that channels caused in all, in the order of channel and outcome.

    Without ``method.calibration`` each row is a total: ``term`` is the channel, ``outcome``, ``estimate``,
    ``std_error``. Raises ConfigError for a row that is not there, stands for several, or holds no number.
    """
    if frame is None:
        if method.calibration:
            raise ConfigError("calibration_needs_lift")
        return ()
    require_numbers(frame, NUMBERS, "lift")
    if not method.calibration:
        require(frame, ["term", "outcome"], "lift")
        rows = cluster.small(frame, ["term", "outcome", *NUMBERS], MAX_ROWS)
        lifts = [_lift(str(row[0]), str(row[1]), row[2:], 1.0) for row in rows]
    else:
        require(frame, NAMES, "lift")
        rows = cluster.small(frame, [*NAMES, *NUMBERS], MAX_ROWS)
        lifts = [_of_run(asked, rows) for asked in method.calibration]
    ordered = sorted(lifts, key=lambda lift: (lift.channel, lift.outcome))
    for one, other in pairwise(ordered):
        if (one.channel, one.outcome) == (other.channel, other.outcome):
            raise ConfigError("repeated_lift", channel=one.channel, outcome=one.outcome)
    return tuple(ordered)


def _of_run(asked: Calibration, rows: Sequence[tuple[object, ...]]) -> Lift:
    """The one row that is meant, times the units that the channel reached."""
    differences = [row for row in rows if str(row[4]) == TERM]
    wanted = (asked.method, asked.metric, asked.segment, asked.contrast)
    mine = [row for row in differences if all(w is None or w == str(v) for w, v in zip(wanted, row[:4], strict=True))]
    if len(mine) != 1:
        same = [row for row in differences if str(row[1]) == asked.metric] or differences
        choices = "; ".join(sorted({f"{row[0]}, {row[3]}, {row[2]}" for row in same})[:6])
        raise ConfigError("calibration_row", channel=asked.channel, found=len(mine), metric=asked.metric,
                          choices=choices or "–")  # fmt: skip
    return _lift(asked.channel, asked.outcome, mine[0][5:], asked.units)


def _lift(channel: str, outcome: str, numbers: Sequence[object], units: float) -> Lift:
    estimate, error = (math.nan if value is None else float(str(value)) for value in numbers)
    if not (math.isfinite(estimate) and error >= 0 and math.isfinite(error)):
        raise ConfigError("calibration_empty", channel=channel)
    return Lift(channel, outcome, estimate * units, error * units)
