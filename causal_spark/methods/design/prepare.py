"""The historic table on the cluster: gate, units of unit and day, moments. An experiment of one arm."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from causal_spark.errors import GateError
from causal_spark.methods.design.vocabulary import Design
from causal_spark.methods.experiment import Experiment, Metric, RatioOf, plan
from causal_spark.methods.experiment.checks import Checks
from causal_spark.methods.experiment.tables import UnitTable
from causal_spark.spark import gate, histories
from causal_spark.spark.assignment import require_key
from causal_spark.spark.columns import constant, where
from causal_spark.spark.session import Engine
from causal_spark.spark.tables import Frame, require, require_filters, require_numbers, require_times, stage
from causal_spark.statistics import Range, Ranges

ARM, ALL = "(arm)", "all"
BEFORE, ANY = " before", " (any)"
LONG = 2.0**63
FEWEST = 20


def shell(method: Design, metrics: tuple[Metric, ...], clustered: bool) -> Experiment:
    """The historic units as an experiment of one arm, whose passes are those of the experiment job."""
    cluster = method.cluster if clustered else None
    return Experiment(unit=method.unit, arm=ARM, control=ALL, metrics=metrics, cluster=cluster)


def check_units(
    method: Design, metrics: tuple[Metric, ...], frame: Frame, checks: Checks, time: str | None
) -> UnitTable:
    """The gate of a unit table: columns and types, then ranges and keys. Refuses or returns the table."""
    planned = plan.blocks(metrics)
    numbers = list(dict.fromkeys(column.source for block in planned for column in block.columns))
    again = method.assign.rerandomize if method.assign is not None else None
    balanced = [] if again is None else list(again.covariates)
    keys = [method.unit, *(name for name in (method.cluster, again.strata if again else None, time) if name)]
    require(frame, keys, "units")
    for name in (method.unit, method.cluster):
        if name is not None:
            require_key(frame, name, "units")
    require_numbers(frame, [*numbers, *balanced], "units")
    if time is not None:
        require_times(frame, time, "units")
    every = list(dict.fromkeys([*keys, *numbers, *balanced]))
    found = gate.ranges(frame, every, nan={*numbers, *balanced})
    checks.empty("units", found[""].n)
    checks.null_keys("units", found, method.unit, None, *keys[1:], *balanced)
    checks.numbers("units", found, planned)
    _finite(checks, found, balanced)
    if time is not None:
        checks.past("units", time, found[time].low)
    checks.refuse()
    keyed = gate.keys(frame, method.unit, method.unit, found[""].n)
    if keyed.repeated and keyed.share < 1:
        keyed = gate.keys(frame, method.unit, method.unit, found[""].n, every=True)
    checks.duplicate_units(method.unit, keyed)
    few(checks, found[""].n)
    checks.refuse()
    return UnitTable(constant(frame, ARM, ALL), metrics, method.unit, ARM, found, {ALL: 1.0})


def few(checks: Checks, n: float) -> None:
    """So few units or clusters say nothing of how others vary."""
    if n < FEWEST:
        checks.add("FEW_UNITS", "stop", "units", count=n, least=FEWEST)


def _finite(checks: Checks, found: Ranges, names: Sequence[str]) -> None:
    for name in names:
        if found[name].nans or math.inf in (abs(found[name].low or 0.0), abs(found[name].high or 0.0)):
            checks.add("NAN_INF", "stop", "units", name)


def fits(found: Range, column: str, scale: int) -> None:
    """Sums of BIGINT wrap silently on some engines; the largest possible sum must fit."""
    if max(abs(found.low or 0.0), abs(found.high or 0.0)) * scale * max(found.n, 1) >= LONG:
        raise GateError("fixed_point_overflow", column=column, scale=scale)


def covariate_scale(found: Range, column: str) -> int:
    """The largest power of ten, at most a million, at which the largest possible sum of a covariate fits."""
    largest = max(abs(found.low or 0.0), abs(found.high or 0.0)) * max(found.n, 1)
    for scale in (1_000_000, 100_000, 10_000, 1000, 100, 10, 1):
        if largest * scale < LONG:
            return scale
    raise GateError("design_covariate_overflow", column=column)


# rows of unit and day -------------------------------------------------------------------------------------------------


def from_days(
    engine: Engine, method: Design, frame: Frame, scratch: Callable[[str], str], checks: Checks
) -> tuple[tuple[Metric, ...], Frame]:
    """The units that were seen from ``since`` on, one row each, written once; and the metrics on its columns.

    The days before ``since`` become the covariate of their metric.
    """
    assert method.time is not None
    numbers = list(dict.fromkeys(source for metric in method.metrics for source in metric.sources))
    carried = [name for name in (method.cluster,) if name]
    require(frame, [method.unit, *carried], "days")
    require_times(frame, method.time, "days")
    require_numbers(frame, numbers, "days")
    found = gate.ranges(frame, [method.unit, method.time, *carried, *numbers], nan=numbers)
    checks.empty("days", found[""].n)
    checks.null_keys("days", found, method.unit, None, method.time, *carried)
    checks.numbers("days", found, plan.blocks(method.metrics))
    checks.refuse()
    totals: dict[str, histories.Total] = {}
    metrics = tuple(_of_days(metric, method.since is not None, totals) for metric in method.metrics)
    for item in totals.values():
        fits(found[item.column], item.column, item.scale)
    units = histories.by_unit(frame, method.unit, method.time, list(totals.values()), method.since_micros(), carried)
    return metrics, stage(engine, units, scratch("units"))


def _of_days(metric: Metric, before: bool, totals: dict[str, histories.Total]) -> Metric:
    """The metric on totals of days, which are added to ``totals``: a 0/1 metric is 1 if any day was."""
    names = []
    for source in metric.sources:
        mark = ANY if metric.binary else f" ×{metric.scale}"
        name = f"{source}{mark}"
        names.append(name)
        for past in (False, True) if before else (False,):
            label = name + BEFORE if past else name
            totals[label] = histories.Total(label, source, metric.scale, metric.binary, past)
    covariates: tuple[str | RatioOf, ...] = ()
    if before:
        covariates = (names[0] + BEFORE,) if len(names) == 1 else (RatioOf(names[0] + BEFORE, names[1] + BEFORE),)
    if metric.kind == "ratio":
        return replace(metric, numerator=names[0], denominator=names[1], covariates=covariates)
    return replace(metric, value=names[0], covariates=covariates)


def chosen(method: Design, frame: Frame, role: str) -> Frame:
    """The rows that the filters keep."""
    require_filters(frame, method.where, role)
    return where(frame, method.where)
