"""The cluster half of the experiment job: frames in, compressed data out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from causal_spark.errors import ConfigError
from causal_spark.methods.experiment import events, prepare
from causal_spark.methods.experiment.checks import Checks
from causal_spark.methods.experiment.compressed import Compressed
from causal_spark.methods.experiment.vocabulary import Experiment
from causal_spark.spark.session import Engine
from causal_spark.spark.tables import Frame, stage

Progress = Callable[[str], None]


def compress(
    engine: Engine,
    method: Experiment,
    frames: Mapping[str, Frame],
    scratch: Callable[[str], str],
    progress: Progress,
    language: str = "en",
) -> Compressed:
    """Gate, prepare and compress the frames by role. ``scratch`` gives a folder for a staged table by name.

    Raises GateError (codes of the findings), ConfigError (columns, arms) or StatisticError (size).
    """
    checks = Checks(language)
    progress("gate")
    if "units" in frames:
        if method.pre_days or method.window_days or method.by_day:
            raise ConfigError("pre_days_needs_events")
        table = prepare.check_units(method, frames["units"], checks)
        progress("compress")
        return prepare.compress_units(method, table, checks)
    return _from_events(engine, method, frames, scratch, progress, checks)


def _from_events(
    engine: Engine,
    method: Experiment,
    frames: Mapping[str, Frame],
    scratch: Callable[[str], str],
    progress: Progress,
    checks: Checks,
) -> Compressed:
    named = next((metric.name for metric in method.metrics if metric.covariates or metric.cupac), None)
    if named is not None:
        raise ConfigError("covariates_need_units", name=named)
    as_of, arms, rows = events.check_events(method, frames["exposures"], frames["events"], checks)
    progress("prepare")
    planned = events.plan_events(method)
    days = events.Days(method, planned, as_of)
    by_day = method.by_day is not None and bool(days.measures)
    happened = events.event_spans(method, frames["exposures"], frames["events"], planned, rows)
    if by_day:
        happened = replace(happened, spans=stage(engine, happened.spans, scratch("spans")))
    staged = stage(engine, events.unit_totals(method, happened, planned, as_of), scratch("units"))
    table = events.events_to_units(method, staged, planned, arms, checks)
    progress("compress")
    found = prepare.compress_units(method, table, checks)
    if not by_day:
        return found
    active, grown = days.active(staged, happened), days.grown(staged, arms)
    trend = days.trend(active, grown)
    more = found.more if trend is None else {**found.more, "novelty": trend.to_dict()}
    return replace(found, days=days.moments(active, grown), more=more)
