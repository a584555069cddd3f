"""The cluster half of the design job: a historic table in; moments, arrivals, A/A splits and an assignment out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from causal_spark.errors import ConfigError
from causal_spark.methods.design import prepare, validation
from causal_spark.methods.design.assign import assign
from causal_spark.methods.design.compressed import Compressed
from causal_spark.methods.design.quantiles import spreads
from causal_spark.methods.design.vocabulary import Design
from causal_spark.methods.experiment import plan
from causal_spark.methods.experiment.checks import Checks
from causal_spark.methods.experiment.prepare import compress_units
from causal_spark.methods.experiment.tables import UnitTable
from causal_spark.methods.experiment.trust import fractional
from causal_spark.solve.means import evaluate
from causal_spark.spark import histories
from causal_spark.spark.session import Engine
from causal_spark.spark.tables import Frame
from causal_spark.statistics import Grouped, Moments
from causal_spark.statistics.grouped import BLOCK

Progress = Callable[[str], None]


def compress(
    engine: Engine,
    method: Design,
    frames: Mapping[str, Frame],
    scratch: Callable[..., str],
    progress: Progress,
    language: str = "en",
) -> Compressed:
    """Gate, then the passes that were asked for.

    Scans: ranges, keys, moments (two if clusters are randomised); quantiles (two with clusters), arrivals, A/A splits,
    assignment one each; re-randomisation two. Rows of unit and day are first added up by unit, which is written once.
    Raises GateError (codes of the findings), ConfigError (columns) or StatisticError (no balanced salt).
    """
    checks = Checks(language)
    progress("gate")
    table = _table(engine, method, frames, scratch, progress, checks)
    progress("compress")
    compressed = compress_units(prepare.shell(method, table.metrics, clustered=True), table, checks)
    moments, units = compressed.moments, None
    if method.cluster is not None:
        plain = tuple(replace(metric, quantiles=()) for metric in table.metrics)
        shell = prepare.shell(method, plain, clustered=False)
        units = compress_units(shell, replace(table, metrics=plain), checks).moments
    _varies(method, table, moments, checks)
    time = histories.FIRST if "days" in frames else method.time
    rows = table.ranges[""].n
    facts: dict[str, Any] = {"rows": rows, "arms": dict(method.shares), "caps": compressed.facts["caps"]}
    histograms = compressed.more.get("histograms", {})
    return Compressed(
        moments=moments,
        units=units,
        metrics=table.metrics,
        facts=facts,
        arrivals=() if time is None else histories.new_by_day(table.frame, time, method.cluster),
        splits=() if method.aa is None else validation.splits(method, table, moments, compressed.facts["caps"]),
        drawn=None if method.assign is None else assign(engine, method, table, scratch),
        quantiles=tuple(
            item for metric in table.metrics if metric.quantiles
            for item in spreads(metric, histograms[metric.name], _part(moments, metric.name).n)
        ),
        checks=tuple(checks.found),
    )  # fmt: skip


def _table(
    engine: Engine, method: Design, frames: Mapping[str, Frame], scratch: Callable[..., str], progress: Progress,
    checks: Checks,
) -> UnitTable:  # fmt: skip
    """The unit table behind the gate, made of rows of unit and day if that is what there is."""
    again = method.assign.rerandomize if method.assign is not None else None
    if "days" not in frames:
        if method.since is not None:
            raise ConfigError("design_needs_days", key="since")
        frame = prepare.chosen(method, frames["units"], "units")
        return prepare.check_units(method, method.metrics, frame, checks, method.time)
    if method.time is None:
        raise ConfigError("missing_key", where="method", key="time")
    named = next((metric.name for metric in method.metrics if metric.covariates), None)
    if named is not None or again is not None:
        raise ConfigError("design_needs_units", what="covariates" if named is not None else "rerandomize")
    frame = prepare.chosen(method, frames["days"], "days")
    metrics, units = prepare.from_days(engine, method, frame, scratch, checks)
    progress("prepare")
    return prepare.check_units(method, metrics, units, checks, histories.FIRST)


def _part(moments: Grouped, metric: str) -> Moments:
    return next(part for _, part in moments.where(**{BLOCK: metric}))


def _varies(method: Design, table: UnitTable, moments: Grouped, checks: Checks) -> None:
    """Enough clusters, and a metric that varies; else nothing can be planned."""
    clustered = method.cluster is not None
    for block in plan.blocks(table.metrics):
        part = _part(moments, block.metric.name)
        prepare.few(checks, part.n)
        checks.refuse()
        vcov = evaluate(part, list(block.forms(clustered)[:1])).vcov
        if not (np.isfinite(vcov).all() and vcov[0, 0] > 0):
            checks.add("ZERO_VARIANCE", "stop", "units", block.metric.name)
        elif block.metric.binary and not clustered and fractional(part, block.columns[0].name):
            checks.add("FRACTIONS", "stop", "units", block.columns[0].source)
    checks.refuse()
