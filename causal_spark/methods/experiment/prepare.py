"""A unit table on the cluster: gate, prepare, compress. Three scans, whatever the number of metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from causal_spark.errors import ConfigError, GateError
from causal_spark.methods.experiment import passes, plan, switchback
from causal_spark.methods.experiment.checks import Checks
from causal_spark.methods.experiment.compressed import Compressed
from causal_spark.methods.experiment.passes.given import Given
from causal_spark.methods.experiment.passes.strata import strata
from causal_spark.methods.experiment.tables import UnitTable, centre, prepared
from causal_spark.methods.experiment.vocabulary import Experiment, Metric
from causal_spark.spark import gate, units
from causal_spark.spark.columns import labelled, where
from causal_spark.spark.compress import MomentsSpec, compress, count
from causal_spark.spark.quantiles import quantiles
from causal_spark.spark.tables import Frame, require, require_filters, require_numbers
from causal_spark.statistics import Grouped, Moments
from causal_spark.statistics.grouped import BLOCK

LONG = 2.0**63


def check_units(method: Experiment, frame: Frame, checks: Checks) -> UnitTable:
    """The gate of a unit table: columns and types, then ranges, keys and arms. Refuses or returns the table."""
    metrics = tuple(_needs_value(metric) for metric in method.metrics)
    planned = plan.blocks(metrics)
    numbers = list(dict.fromkeys(source for block in planned for source in _sources(block)))
    keys = [method.unit, method.arm, *method.randomised, *method.carried]
    require(frame, keys, "units")
    require_filters(frame, method.where, "units")
    require_numbers(frame, numbers, "units")
    frame = switchback.cells(method, where(frame, method.where), checks)
    rounded = {s for b in planned for s in _sources(b) if _solid(method, b)}
    rounded |= {c.source for b in planned for c in b.columns if c.winsorize is not None}
    found = gate.ranges(frame, [*dict.fromkeys(keys), *numbers], nan=rounded)
    checks.empty("units", found[""].n)
    checks.null_keys("units", found, method.unit, method.arm, *method.randomised)
    checks.numbers("units", found, planned)
    checks.refuse()
    frame = _unsplit(method, frame, found[""].n, checks)
    arms = method.arms(()) if method.shares is not None else found_arms(method, frame, checks)
    checks.refuse()
    return UnitTable(frame, metrics, method.unit, method.arm, found, arms)


def _sources(block: plan.Block) -> list[str]:
    """Every column of the unit table that the metric reads as a number."""
    return [*(column.source for column in block.columns), *block.metric.cupac]


def _solid(method: Experiment, block: plan.Block) -> bool:
    """Whether a NaN must not get past the gate: the values are rounded, or go into more than sums."""
    metric = block.metric
    return bool(method.cluster or method.adjustment == "lin" or metric.quantiles or metric.ranks or metric.cupac)


def _needs_value(metric: Metric) -> Metric:
    if not metric.sources:
        raise ConfigError("metric_needs_value", name=metric.name)
    if metric.where or metric.numerator_where or metric.denominator_where or metric.days or "*" in metric.sources:
        raise ConfigError("metric_needs_events", name=metric.name)
    return metric


def _unsplit(method: Experiment, frame: Frame, rows: int, checks: Checks) -> Frame:
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
    split = gate.keys(frame, method.cluster, method.arm, rows, every=True, unique=False)
    checks.split_units(method.cluster, split.in_several_groups, split.keys, method.max_split)
    return gate.without_split_keys(frame, method.cluster, method.arm) if split.in_several_groups else frame


def found_arms(method: Experiment, frame: Frame, checks: Checks) -> Mapping[str, float]:
    """The arms that the column holds where none were planned, with equal shares. One scan. Raises GateError."""
    found = {str(key[0]): int(n) for key, (n,) in count(frame, [method.arm]).cells.items()}
    checks.arms_found(method.arm, found)
    checks.refuse()
    return method.arms(tuple(found))


def compress_units(method: Experiment, table: UnitTable, checks: Checks) -> Compressed:
    """Caps, then the one pass for all metrics, arms, segments and strata; cells of small segments are dropped here."""
    planned = plan.blocks(table.metrics)
    caps = _caps(table, planned)
    columns = list(dict.fromkeys(column for block in planned for column in block.columns))
    grouped = _moments(method, table, planned, columns, caps)
    by_stratum = strata(method, table, grouped)
    moments, suppressed = _suppress(grouped, table, method)
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
    more = passes.further(Given(method, table, caps, moments))
    if by_stratum is not None:
        more["strata"] = by_stratum
    return Compressed(moments, table.metrics, facts, tuple(checks.found), more=more)


def _moments(
    method: Experiment, table: UnitTable, planned: Sequence[plan.Block], columns: Sequence[plan.Column],
    caps: Mapping[plan.Column, float],
) -> Grouped:  # fmt: skip
    """By arm, and within it by each segment and the stratum."""
    stratum = [method.strata] if method.strata not in (None, table.arm) else []
    split = tuple(dict.fromkeys([*method.segments, *filter(None, stratum)]))
    frame = prepared(table, columns, caps, [table.arm, *([method.cluster] if method.cluster else []), *split])
    frame = labelled(frame, method.segments)
    nullable = frozenset(c.name for c in columns if c.nulls == "drop" and table.ranges[c.source].nulls > 0)
    if method.cluster is not None:
        return _clustered(method, table, planned, frame, nullable)
    spec = MomentsSpec(
        {plan.ROWS: (), **{b.metric.name: tuple(c.name for c in b.columns) for b in planned}},
        by=(table.arm,), levels={table.arm: _by_share(table.arms)}, segments=split, nullable=nullable,
    )  # fmt: skip
    return compress(frame, spec, {c.name: centre(table, c, caps) for c in columns})


def _by_share(arms: Mapping[str, float]) -> tuple[str, ...]:
    """Largest planned share first: its moments may come by subtraction."""
    return tuple(sorted(arms, key=lambda arm: -arms[arm]))


def _caps(table: UnitTable, planned: Sequence[plan.Block]) -> dict[plan.Column, float]:
    """The pooled percentile of each column that is winsorized; a column without non-zero values needs none."""
    columns = [c for c in dict.fromkeys(c for b in planned for c in b.columns) if c.winsorize is not None]
    caps: dict[plan.Column, float] = {}
    for q in sorted({c.winsorize for c in columns if c.winsorize is not None}):
        mine = [column for column in columns if column.winsorize == q]
        found = quantiles(table.frame, dict.fromkeys([column.source for column in mine], q))
        caps |= {column: found[column.source] for column in mine if not math.isnan(found[column.source])}
    return caps


def _highest(table: UnitTable, column: plan.Column, caps: Mapping[plan.Column, float]) -> float:
    """The largest prepared value; NaN where values of both signs make shares of a total meaningless."""
    found, cap = table.ranges[column.source], caps.get(column)
    if found.high is None or (found.low or 0.0) < 0:
        return float("nan")
    return found.high if cap is None else min(found.high, cap)


def _clustered(
    method: Experiment, table: UnitTable, planned: Sequence[plan.Block], frame: Frame, nullable: frozenset[str]
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
    by = (table.arm, *dict.fromkeys(method.segments), BLOCK)
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
        raise GateError("fixed_point_overflow", column=column.source, scale=scale)


def _suppress(grouped: Grouped, table: UnitTable, method: Experiment) -> tuple[Grouped, list[str]]:
    """Segments in which an arm has fewer units than allowed leave the statistics, so they cannot be read from it.

    So do the margins of a stratum that is no segment.
    """
    by = (table.arm, *dict.fromkeys(method.segments), BLOCK)
    places = [grouped.by.index(name) for name in by]
    others = [place for place, name in enumerate(grouped.by) if name not in by]
    declared = Grouped(by, {
        tuple(key[place] for place in places): part
        for key, part in grouped.cells.items() if all(key[place] is None for place in others)
    })  # fmt: skip
    sizes: dict[tuple[str, str], dict[str, float]] = {}
    for named, part in declared.where(**{BLOCK: plan.ROWS}):
        segment = _segment(named, method)
        if segment is not None:
            sizes.setdefault(segment, {})[str(named[table.arm])] = part.n
    small = {
        segment
        for segment, found in sizes.items()
        if min(found.get(arm, 0.0) for arm in table.arms) < method.min_segment
    }
    kept = {
        key: part
        for key, part in declared.cells.items()
        if _segment(dict(zip(by, key, strict=True)), method) not in small
    }
    return Grouped(by, kept), sorted(plan.segment(name, value) for name, value in small)


def _segment(named: Mapping[str, str | None], method: Experiment) -> tuple[str, str] | None:
    """The segment of a cell as (column, value); None for all units."""
    return next(((name, value) for name in method.segments if (value := named[name]) is not None), None)
