"""The cells of a switchback: each row's region and period, the burn-in that is left out, and the stretches after it."""

from __future__ import annotations

from causal_spark.methods.experiment.checks import Checks
from causal_spark.methods.experiment.vocabulary import CELL, Experiment, Switchback
from causal_spark.spark import periods
from causal_spark.spark.tables import Frame, require_times

MINUTE, HOUR = 60_000_000, 3_600_000_000
# Of a period after its burn-in, in which what is left over of the arm before is looked for.
STRETCHES = 4


def cells(method: Experiment, frame: Frame, checks: Checks) -> Frame:
    """The rows after the burn-in with their cell in the column ``CELL``; the table itself if nothing was switched."""
    plan = method.switchback
    if plan is None:
        return frame
    if plan.hours is None:
        return periods.with_cells(frame, plan.region, str(plan.period), CELL)
    time = str(method.time)
    require_times(frame, time, "units")
    cut = periods.Cut(time, _length(plan.hours), plan.origin_micros())
    frame = periods.with_cut_cells(frame, plan.region, cut, CELL)
    if not plan.burn_in:
        return frame
    burn_in = round(plan.burn_in * MINUTE)
    rows, early = periods.early(frame, burn_in)
    checks.add("BURN_IN", "pass", "units", time, count=early, share=early / max(rows, 1), minutes=f"{plan.burn_in:g}")
    return periods.after(frame, burn_in)


def stretches(plan: Switchback) -> list[int]:
    """Where the ``STRETCHES`` of a period begin, the end of the last, in microseconds; none without ``hours``."""
    if plan.hours is None:
        return []
    start, stop = round(plan.burn_in * MINUTE), _length(plan.hours)
    return [start + (stop - start) * i // STRETCHES for i in range(STRETCHES + 1)]


def _length(hours: float) -> int:
    return round(hours * HOUR)
