"""Experiment on the cluster: gate, prepare, compress. Two to four scans of the input, whatever the metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from causal_spark.errors import ConfigError, StatisticError
from causal_spark.methods.experiment import plan
from causal_spark.methods.experiment.checks import Checks
from causal_spark.methods.experiment.compressed import Compressed
from causal_spark.methods.experiment.vocabulary import Experiment, Metric, RatioOf
from causal_spark.spark import gate, units
from causal_spark.spark.compress import MomentsSpec, compress, label
from causal_spark.spark.quantiles import quantiles
from causal_spark.spark.tables import col, require, require_numbers
from causal_spark.statistics import Grouped, Moments, Ranges
from causal_spark.statistics.grouped import BLOCK

LONG = 2.0**63


@dataclass(frozen=True)
class UnitTable:
    """One row per unit with its columns' ranges; ``metrics`` refer to its columns."""

    frame: DataFrame
    metrics: tuple[Metric, ...]
    unit: str
    arm: str
    ranges: Ranges
    arms: Mapping[str, float]
    facts: Mapping[str, Any] = field(default_factory=dict)


def check_units(method: Experiment, frame: DataFrame, checks: Checks) -> UnitTable:
    """The gate of a unit table: columns and types, then ranges, keys and arms. Refuses or returns the table."""
    metrics = tuple(_needs_value(metric) for metric in method.metrics)
    planned = plan.blocks(metrics)
    numbers = list(dict.fromkeys(column.source for block in planned for column in block.columns))
    keys = [method.unit, method.arm, *([method.cluster] if method.cluster else []), *method.segments]
    require(frame, [*keys, *(item.column for item in method.where)], "units")
    require_numbers(frame, numbers, "units")
    chosen = units.condition(method.where)
    frame = frame if chosen is None else frame.where(chosen)
    rounded = {c.source for b in planned for c in b.columns if c.winsorize is not None or method.cluster}
    found = gate.ranges(frame, [*dict.fromkeys(keys), *numbers], nan=rounded)
    checks.empty("units", found[""].n)
    checks.null_keys("units", found, method.unit, method.arm, method.cluster)
    checks.numbers("units", found, metrics, planned, method.cluster is not None)
    checks.refuse()
    frame = _unsplit(method, frame, found[""].n, checks)
    arms = method.arms(()) if method.shares is not None else _found_arms(method, frame, checks)
    checks.refuse()
    return UnitTable(frame, metrics, method.unit, method.arm, found, arms)


def _needs_value(metric: Metric) -> Metric:
    if not metric.sources:
        raise ConfigError("metric_needs_value", name=metric.name)
    if metric.where or metric.numerator_where or metric.denominator_where or metric.days or "*" in metric.sources:
        raise ConfigError("metric_needs_events", name=metric.name)
    return metric


def _unsplit(method: Experiment, frame: DataFrame, rows: int, checks: Checks) -> DataFrame:
    """Units stand once; units (and clusters) in several arms leave, are counted, and are refused above a share."""
    found = gate.keys(frame, method.unit, method.arm, rows, method.every_key)
    if found.repeated and found.share < 1:
        found = gate.keys(frame, method.unit, method.arm, rows, every=True)
    checks.duplicate_units(method.unit, found)
    checks.split_units(method.unit, found.in_several_groups, found.keys, method.max_split)
    if found.in_several_groups:
        frame = gate.without_split_keys(frame, method.unit, method.arm)
    if method.cluster is None:
        return frame
    split = gate.keys(frame, method.cluster, method.arm, rows, every=True)
    checks.split_units(method.cluster, split.in_several_groups, split.keys, method.max_split)
    return gate.without_split_keys(frame, method.cluster, method.arm) if split.in_several_groups else frame


def _found_arms(method: Experiment, frame: DataFrame, checks: Checks) -> Mapping[str, float]:
    counts = gate.group_counts(frame, method.arm)
    checks.arms_found(method.arm, counts)
    checks.refuse()
    return method.arms(tuple(arm for arm in counts if arm is not None))


def check_events(method: Experiment, exposures: DataFrame, events: DataFrame, checks: Checks) -> tuple[int, Mapping[str, float]]:
    """The gate of exposures and events. Returns ``as_of`` in microseconds and the planned shares of the arms."""
    if method.time is None:
        raise ConfigError("missing_key", where="method", key="time")
    if method.cluster is not None:
        raise ConfigError("cluster_needs_units")
    require(exposures, [method.unit, method.arm, method.time, *method.segments, *(f.column for f in method.where)], "exposures")
    amounts = _amounts(method)
    filters = [f.column for m in method.metrics for f in (*m.where, *m.numerator_where, *m.denominator_where)]
    identity = [method.event_id] if method.event_id else []
    require(events, [method.unit, method.time, *filters, *identity], "events")
    require_numbers(events, amounts, "events")
    shown = gate.ranges(exposures, [method.unit, method.arm, method.time])
    happened = gate.ranges(events, [method.unit, method.time, *amounts], nan=amounts)
    checks.empty("exposures", shown[""].n)
    checks.empty("events", happened[""].n)
    checks.null_keys("exposures", shown, method.unit, method.arm, method.time)
    checks.null_keys("events", happened, method.unit, method.time)
    checks.refuse()
    latest = happened[method.time].high
    given = method.as_of_micros()
    as_of = given if given is not None else int(max(latest or 0, shown[method.time].high or 0)) + 1
    checks.future("exposures", shown[method.time].high, as_of)
    checks.future("events", latest, as_of)
    checks.amounts(happened, method.metrics)
    checks.refuse()
    arms = method.arms(()) if method.shares is not None else _found_arms(method, exposures, checks)
    return as_of, arms


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
    return Plan(tuple(measures), tuple(metrics))


def _measure(method: Experiment, metric: Metric, place: int) -> units.Measure:
    start, stop = (metric.days[0], metric.days[1]) if metric.days else (0, method.window_days)
    filters = metric.where
    name = metric.name
    if metric.kind == "ratio":
        filters = (*filters, *(metric.numerator_where if place == 0 else metric.denominator_where))
        name = f"{metric.name} {('numerator', 'denominator')[place]}"
    source = metric.sources[place] if metric.sources else "*"
    counted = source == "*" or metric.kind == "count"
    return units.Measure(
        name,
        None if counted or metric.binary else source,
        start * units.DAY,
        None if stop is None else stop * units.DAY,
        filters,
        any=metric.binary,
        scale=1 if counted or metric.binary else metric.scale,
        mature=None if stop is None else stop * units.DAY,
    )


def _before(days: int, measure: units.Measure) -> units.Measure:
    return replace(measure, name=f"{measure.name} before", start=-days * units.DAY, stop=0, mature=None)


def _rewritten(metric: Metric, after: Sequence[str], before: Sequence[str]) -> Metric:
    """The metric on the unit table: units that are not mature are NULL there and leave it."""
    covariates: tuple[Any, ...] = ()
    if before:
        covariates = (RatioOf(*before),) if metric.kind == "ratio" else (before[0],)
    names = {"numerator": after[0], "denominator": after[1]} if metric.kind == "ratio" else {"value": after[0]}
    return replace(metric, **names, covariates=covariates, nulls="drop", where=(), numerator_where=(), denominator_where=(), days=None if metric.kind != "retention" else metric.days)  # fmt: skip


def event_pairs(method: Experiment, exposures: DataFrame, events: DataFrame, measures: Sequence[units.Measure]) -> DataFrame:
    """Units with their events, joined on the unit."""
    assert method.time is not None
    chosen = units.condition(method.where)
    shown = exposures if chosen is None else exposures.where(chosen)
    first = units.first_exposures(shown, method.unit, method.arm, method.time, _carried(method))
    used = [m.column for m in measures if m.column] + [f.column for m in measures for f in m.filters]
    happened = events.dropDuplicates([method.event_id]) if method.event_id else events
    return units.joined(first, happened, method.unit, method.time, list(dict.fromkeys(used)))


def unit_totals(method: Experiment, pairs: DataFrame, planned: Plan, as_of: int) -> DataFrame:
    """The unit table of the events, in fixed-point integers: what is staged."""
    return units.totals(pairs, planned.measures, list(_carried(method)), as_of)


def _carried(method: Experiment) -> dict[str, str]:
    return {segment: segment for segment in method.segments}


def events_to_units(method: Experiment, staged: DataFrame, planned: Plan, arms: Mapping[str, float], checks: Checks) -> UnitTable:
    """The staged unit table as metrics read it: split units counted and left out, integers back in their units."""
    counted = staged.agg(
        F.count(F.lit(1)).alias("units"),
        F.sum(F.when(F.col(units.SPLIT), 1).otherwise(0)).alias("split"),
        F.sum(units.EVENTS).alias("events"),
        F.sum(units.BEFORE).alias("before"),
    ).toArrow().to_pylist()[0]  # fmt: skip
    checks.split_units(method.unit, int(counted["split"] or 0), int(counted["units"]), method.max_split)
    checks.events_before(int(counted["before"] or 0), int(counted["events"] or 0))
    checks.refuse()
    frame = units.decimals(staged.where(~F.col(units.SPLIT)), planned.measures)
    columns = [column.source for block in plan.blocks(planned.metrics) for column in block.columns]
    found = gate.ranges(frame, list(dict.fromkeys(columns)))
    return UnitTable(frame, planned.metrics, units.UNIT, units.ARM, found, arms, {"events": int(counted["events"] or 0)})


def compress_units(method: Experiment, table: UnitTable, checks: Checks) -> Compressed:
    """Caps, then the one pass for all metrics, arms and segments; cells of small segments are dropped here."""
    planned = plan.blocks(table.metrics)
    caps = _caps(table, planned)
    columns = list(dict.fromkeys(column for block in planned for column in block.columns))
    frame = _prepared(method, table, columns, caps)
    nullable = frozenset(
        c.name for c in columns if c.nulls == "drop" and table.ranges[c.source].nulls > 0
    )
    if method.cluster is None:
        spec = MomentsSpec(
            {plan.ROWS: (), **{b.metric.name: tuple(c.name for c in b.columns) for b in planned}},
            by=(table.arm,), levels={table.arm: _by_share(table.arms)}, segments=method.segments, nullable=nullable,
        )  # fmt: skip
        grouped = compress(frame, spec)
    else:
        grouped = _clustered(method, table, planned, frame, nullable)
    moments, suppressed = _suppress(grouped, table.arm, method)
    facts = {
        "arms": dict(table.arms),
        "arm": table.arm,
        "rows": table.ranges[""].n,
        "nulls": {c.source: table.ranges[c.source].nulls for c in columns},
        "high": {c.name: _highest(table, c, caps) for c in columns},
        "caps": {c.name: cap for c, cap in caps.items()},
        "suppressed": suppressed,
        **table.facts,
    }
    return Compressed(moments, table.metrics, facts, tuple(checks.found))


def _by_share(arms: Mapping[str, float]) -> tuple[str, ...]:
    """Largest planned share first: its moments may come by subtraction."""
    return tuple(sorted(arms, key=lambda arm: -arms[arm]))


def _caps(table: UnitTable, planned: Sequence[plan.Block]) -> dict[plan.Column, float]:
    capped = list(dict.fromkeys(c for b in planned for c in b.columns if c.winsorize is not None))
    return {c: quantiles(table.frame, {c.source: c.winsorize})[c.source] for c in capped if c.winsorize is not None}


def _prepared(
    method: Experiment, table: UnitTable, columns: Sequence[plan.Column], caps: Mapping[plan.Column, float]
) -> DataFrame:
    """Only the columns that are used, under their NULL policies and caps."""
    keys = [table.arm, *([method.cluster] if method.cluster else []), *method.segments]
    made = [_value(column, table.ranges[column.source].nulls > 0, caps.get(column)).alias(column.name) for column in columns]
    return table.frame.select(*map(col, dict.fromkeys(keys)), *made)


def _value(column: plan.Column, has_nulls: bool, cap: float | None) -> SparkColumn:
    value = col(column.source).cast("double")
    if cap is not None and cap == cap:
        value = F.when(value > F.lit(cap), F.lit(cap)).otherwise(value)
    if column.nulls == "zero" and has_nulls:
        value = F.coalesce(value, F.lit(0.0))
    return value


def _highest(table: UnitTable, column: plan.Column, caps: Mapping[plan.Column, float]) -> float:
    high = table.ranges[column.source].high
    cap = caps.get(column)
    return float("nan") if high is None else (high if cap is None else min(high, cap))


def _clustered(
    method: Experiment, table: UnitTable, planned: Sequence[plan.Block], frame: DataFrame, nullable: frozenset[str]
) -> Grouped:
    """Moments over clusters, a pass for each margin: a segment's clusters are the clusters within it."""
    assert method.cluster is not None
    sums: list[units.ClusterSum] = []
    for b in planned:
        complete = tuple(c.name for c in b.columns if c.name in nullable)
        sums.append(units.ClusterSum(b.size, None, complete))
        sums += [units.ClusterSum(b.total(c), c.name, complete, b.metric.scale) for c in b.columns]
        for c in b.columns:
            _fits(table, c, b.metric.scale)
    wanted = {plan.ROWS: (), **{b.metric.name: (b.size, *(b.total(c) for c in b.columns)) for b in planned}}
    by = (table.arm, *method.segments, BLOCK)
    cells: dict[tuple[str | None, ...], Moments] = {}
    for segment in (None, *method.segments):
        keys = (table.arm,) if segment is None else (table.arm, segment)
        totals = units.clusters(frame, method.cluster, keys, sums)
        part = compress(totals, MomentsSpec(wanted, by=keys))
        for key, moments in part.cells.items():
            named = dict(zip(part.by, key, strict=True))
            cells[tuple(named.get(name) for name in by)] = moments
    return Grouped(by, cells)


def _fits(table: UnitTable, column: plan.Column, scale: int) -> None:
    """Sums of BIGINT wrap silently on some engines; the largest possible sum must fit."""
    found = table.ranges[column.source]
    largest = max(abs(found.low or 0.0), abs(found.high or 0.0)) * scale
    if largest * max(found.n, 1) >= LONG:
        raise StatisticError("fixed_point_overflow", column=column.source, scale=scale)


def _suppress(grouped: Grouped, arm: str, method: Experiment) -> tuple[Grouped, list[str]]:
    """Segments in which an arm has fewer units than allowed leave the statistics, so they cannot be read from it."""
    named = [(dict(zip(grouped.by, key, strict=True)), key, part) for key, part in grouped.cells.items()]
    small: set[tuple[str, str | None]] = set()
    for names, _, part in named:
        segment = next((s for s in method.segments if names[s] is not None), None)
        if segment and names[BLOCK] == plan.ROWS and names[arm] not in method.holdouts and part.n < method.min_segment:
            small.add((segment, names[segment]))
    kept = {
        key: part for names, key, part in named if not any((s, names[s]) in small for s in method.segments)
    }  # fmt: skip
    return Grouped(grouped.by, kept), sorted(f"{segment}={value}" for segment, value in small)


def compress_days(method: Experiment, pairs: DataFrame, staged: DataFrame, planned: Plan, arms: Mapping[str, float], as_of: int) -> Grouped:
    """Moments by arm and day since exposure over units whose day is over; units without events that day are zeros."""
    assert method.by_day is not None
    whole = [replace(m, start=0, stop=None, mature=None) for m in planned.measures if m.start == 0]
    pairs = pairs.where(~F.col(units.SPLIT))
    active = units.decimals(units.daily(pairs, whole, method.by_day, as_of), whole)
    blocks = {b.metric.name: tuple(dict.fromkeys(c.source for c in b.parts[0].columns)) for b in plan.blocks(planned.metrics) if set(c.source for c in b.parts[0].columns) <= {m.name for m in whole}}  # fmt: skip
    found = compress(active, MomentsSpec({plan.ROWS: (), **blocks}, by=(units.ARM, "day")))
    ages = F.least(F.floor((F.lit(as_of) - F.col(units.EXPOSED)) / F.lit(units.DAY)), F.lit(method.by_day)).cast("bigint")
    rows = staged.where(~F.col(units.SPLIT)).select(units.ARM, ages.alias("age")).groupBy(units.ARM, "age").agg(F.count(F.lit(1)).alias("n"))  # fmt: skip
    at_age = {(label(r[units.ARM]), int(r["age"])): int(r["n"]) for r in rows.toArrow().to_pylist()}
    cells: dict[tuple[str | None, ...], Moments] = {}
    for arm in arms:
        for day in range(method.by_day):
            at_risk = sum(n for (a, age), n in at_age.items() if a == arm and age > day)
            for name, columns in blocks.items():
                seen = found.cells.get((arm, str(day), name), Moments.empty(columns))
                cells[(arm, str(day), name)] = seen + Moments.constant(columns, at_risk - seen.n)
    return Grouped((units.ARM, "day", BLOCK), cells)
