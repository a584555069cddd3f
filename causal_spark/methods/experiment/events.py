"""Exposures and events on the cluster: gate, then one shuffle to a staged unit table, then effects by day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from causal_spark.errors import ConfigError
from causal_spark.methods.experiment import plan
from causal_spark.methods.experiment.checks import Checks
from causal_spark.methods.experiment.prepare import found_arms
from causal_spark.methods.experiment.tables import UnitTable
from causal_spark.methods.experiment.vocabulary import Experiment, Metric, RatioOf
from causal_spark.spark import gate, units
from causal_spark.spark.columns import where
from causal_spark.spark.compress import MomentsSpec, compress
from causal_spark.spark.tables import Frame, require, require_filters, require_numbers, require_times
from causal_spark.statistics import Grouped, Moments
from causal_spark.statistics.grouped import BLOCK

FEW = 1_000_000  # exposures that can go to every task: some 100 MB


def check_events(
    method: Experiment, exposures: Frame, events: Frame, checks: Checks
) -> tuple[int, Mapping[str, float], int]:
    """The gate of exposures and events: ``as_of`` in microseconds, planned shares of the arms, rows of exposures."""
    if method.time is None:
        raise ConfigError("missing_key", where="method", key="time")
    if method.cluster is not None:
        raise ConfigError("cluster_needs_units")
    require(exposures, [method.unit, method.arm, method.time, *_carried(method)], "exposures")
    require_filters(exposures, method.where, "exposures")
    amounts = _amounts(method)
    filters = [f for m in method.metrics for f in (*m.where, *m.numerator_where, *m.denominator_where)]
    identity = [method.event_id] if method.event_id else []
    require(events, [method.unit, method.time, *identity], "events")
    require_filters(events, filters, "events")
    require_numbers(events, amounts, "events")
    for frame, role in ((exposures, "exposures"), (events, "events")):
        require_times(frame, method.time, role)
    shown = gate.ranges(exposures, [method.unit, method.arm, method.time])
    happened = gate.ranges(events, [method.unit, method.time, *amounts], nan=amounts)
    checks.empty("exposures", shown[""].n)
    checks.empty("events", happened[""].n)
    checks.null_keys("exposures", shown, method.unit, method.arm, method.time)
    checks.null_keys("events", happened, method.unit, None, method.time)
    checks.past("exposures", method.time, shown[method.time].low)
    checks.refuse()
    latest = happened[method.time].high
    given = method.as_of_micros()
    as_of = given if given is not None else int(max(latest or 0, shown[method.time].high or 0)) + 1
    checks.future("exposures", shown[method.time].high, as_of)
    checks.future("events", latest, as_of)
    checks.amounts(happened, method.metrics)
    checks.refuse()
    if method.event_id is not None:
        checks.duplicate_events(method.event_id, gate.keys(events, method.event_id, method.unit, happened[""].n))
    arms = method.arms(()) if method.shares is not None else found_arms(method, exposures, checks)
    return as_of, arms, shown[""].n


def _amounts(method: Experiment) -> list[str]:
    """Event columns whose values are summed."""
    summed = [source for m in method.metrics if not m.binary for source in m.sources if source != "*"]
    return list(dict.fromkeys(summed))


@dataclass(frozen=True)
class Plan:
    """Metrics on events: the measures of a unit, and the same metrics rewritten on the unit table."""

    measures: tuple[units.Measure, ...]
    metrics: tuple[Metric, ...]


def plan_events(method: Experiment) -> Plan:
    """Each metric as one or two measures after exposure, and the same before it as covariate."""
    measures: list[units.Measure] = []
    metrics = []
    for metric in method.metrics:
        after = [_measure(method, metric, i) for i in range(len(metric.sources) or 1)]
        before = [_before(method.pre_days, m) for m in after] if method.pre_days and not metric.days else []
        measures += [*after, *before]
        metrics.append(_rewritten(metric, [m.name for m in after], [m.name for m in before]))
    names = [name.casefold() for name in (*_carried(method), *(m.name for m in measures))]
    for name in (m.name for m in measures):
        if names.count(name.casefold()) > 1:
            raise ConfigError("repeated_metric", name=name)
    return Plan(tuple(measures), tuple(metrics))


def _measure(method: Experiment, metric: Metric, place: int) -> units.Measure:
    start, stop = (metric.days[0], metric.days[1]) if metric.days else (0, method.window_days)
    filters = metric.where
    name = metric.name
    if metric.kind == "ratio":
        filters = (*filters, *(metric.numerator_where if place == 0 else metric.denominator_where))
        name = f"{metric.name} {('numerator', 'denominator')[place]}"
    source = metric.sources[place] if metric.sources else "*"
    counted = source == "*"
    return units.Measure(
        name,
        None if counted or metric.binary else source,
        start,
        stop,
        filters,
        any=metric.binary,
        scale=1 if counted or metric.binary else metric.scale,
        mature=stop,
    )


def _before(days: int, measure: units.Measure) -> units.Measure:
    return replace(measure, name=f"{measure.name} before", start=-days, stop=0, mature=None)


def _rewritten(metric: Metric, after: Sequence[str], before: Sequence[str]) -> Metric:
    """The metric on the unit table: units that are not mature are NULL there and leave it."""
    covariates: tuple[Any, ...] = ()
    if before:
        covariates = (RatioOf(*before),) if metric.kind == "ratio" else (before[0],)
    outcome = {"numerator": after[0], "denominator": after[1]} if metric.kind == "ratio" else {"value": after[0]}
    spent: dict[str, Any] = {"where": (), "numerator_where": (), "denominator_where": ()}
    changes: dict[str, Any] = {**outcome, **spent, "covariates": covariates, "nulls": "drop"}
    return replace(metric, **changes, days=metric.days if metric.kind == "retention" else None)


@dataclass(frozen=True)
class Happened:
    """First exposures, and by unit and span of days what events add; ``few`` exposures can go to every task."""

    first: Frame
    spans: Frame
    few: bool


def event_spans(method: Experiment, exposures: Frame, events: Frame, planned: Plan, rows: int) -> Happened:
    """Exposures (``rows`` of them) and events as what is needed of them, joined on the unit."""
    assert method.time is not None
    shown, few = where(exposures, method.where), rows <= FEW
    measures = planned.measures
    used = [m.column for m in measures if m.column] + [f.column for m in measures for f in m.filters]
    used = list(dict.fromkeys(used))
    happened = events
    if method.event_id is not None:
        happened = units.distinct_events(events, method.event_id, [method.unit, method.time, *used])
    times = units.first_times(shown, method.unit, method.time)
    pairs = units.joined(times, happened, method.unit, method.time, used, few)
    first = units.first_exposures(shown, method.unit, method.arm, method.time, _carried(method))
    return Happened(first, units.by_span(pairs, measures, method.by_day or 0), few)


def unit_totals(method: Experiment, happened: Happened, planned: Plan, as_of: int) -> Frame:
    """The unit table of the events, in fixed-point integers: what is staged."""
    return units.totals(happened.first, happened.spans, planned.measures, list(_carried(method)), as_of)


def _carried(method: Experiment) -> dict[str, str]:
    return {name: name for name in method.carried}


def events_to_units(
    method: Experiment, staged: Frame, planned: Plan, arms: Mapping[str, float], checks: Checks
) -> UnitTable:
    """The staged unit table as metrics read it: split units counted and left out, integers back in their units."""
    counted = units.summary(staged)
    checks.split_units(method.unit, counted.split, counted.units, method.max_split)
    checks.events_before(counted.before, counted.events)
    checks.refuse()
    frame = units.decimals(units.in_one_arm(staged), planned.measures)
    columns = [column.source for block in plan.blocks(planned.metrics) for column in block.columns]
    found = gate.ranges(frame, list(dict.fromkeys(columns)))
    facts = {"events": counted.events}
    return UnitTable(frame, planned.metrics, units.UNIT, units.ARM, found, arms, facts)


@dataclass(frozen=True)
class Days:
    """The effects by day since exposure, from staged units and the spans of days with events."""

    method: Experiment
    planned: Plan
    as_of: int

    @property
    def measures(self) -> tuple[units.Measure, ...]:
        """Those that count from the exposure on, without their windows."""
        return tuple(replace(m, start=0, stop=None, mature=None) for m in self.planned.measures if m.start == 0)

    @property
    def number(self) -> int:
        return self.method.by_day or 0

    def active(self, staged: Frame, happened: Happened) -> Frame:
        """One row for each unit and day with events, of days that are over, in fixed-point integers."""
        one_arm, measures = units.in_one_arm(staged), self.planned.measures
        return units.daily(one_arm, happened.spans, measures, self.measures, self.number, self.as_of, happened.few)

    def grown(self, staged: Frame, arms: Mapping[str, float]) -> dict[str, list[int]]:
        """Units of each arm whose days are over, for every number of days from 0 on."""
        ages = units.by_age(units.in_one_arm(staged), self.number, self.as_of).cells.items()
        return {
            arm: [int(sum(n for (of, age), (n,) in ages if of == arm and int(str(age)) >= day))
                  for day in range(self.number + 1)]
            for arm in arms
        }  # fmt: skip

    def moments(self, active: Frame, grown: Mapping[str, Sequence[int]]) -> Grouped:
        """Moments by arm and day over the units whose day is over; units without events that day are zeros."""
        known, blocks = {m.name for m in self.measures}, {}
        for block in plan.blocks(self.planned.metrics):
            columns = tuple(dict.fromkeys(c.source for c in block.parts[0].columns))
            if known.issuperset(columns):
                blocks[block.metric.name] = columns
        spec = MomentsSpec({plan.ROWS: (), **blocks}, by=(units.ARM, units.SINCE))
        found = compress(units.decimals(active, self.measures), spec)
        cells: dict[tuple[str | None, ...], Moments] = {}
        for arm, counts in grown.items():
            for day in range(self.number):
                for name, columns in blocks.items():
                    seen = found.cells.get((arm, str(day), name), Moments.empty(columns))
                    cells[(arm, str(day), name)] = seen + Moments.constant(columns, counts[day + 1] - seen.n)
        return Grouped((units.ARM, "day", BLOCK), cells)

    def trend(self, active: Frame, grown: Mapping[str, Sequence[int]]) -> Grouped | None:
        """Moments by arm of each mean metric in stretches of days, of the units for which all of them are over."""
        spans = plan.stretches(self.number)
        means = {metric.name for metric in self.planned.metrics if metric.kind != "ratio"}
        measures = [m for m in self.measures if m.name in means]
        if len(spans) < 2 or not measures:
            return None
        named = {m.name: [replace(m, name=units.span_name(m, span)) for span in spans] for m in measures}
        wide = units.stretched(active, measures, spans, self.as_of)
        blocks = {name: tuple(part.name for part in parts) for name, parts in named.items()}
        parts = [part for parts in named.values() for part in parts]
        found = compress(units.decimals(wide, parts), MomentsSpec(blocks, by=(units.ARM,)))
        cells: dict[tuple[str | None, ...], Moments] = {}
        for arm, counts in grown.items():
            for name, columns in blocks.items():
                seen = found.cells.get((arm, name), Moments.empty(columns))
                cells[(arm, name)] = seen + Moments.constant(columns, counts[spans[-1][1]] - seen.n)
        return Grouped((units.ARM, BLOCK), cells)
