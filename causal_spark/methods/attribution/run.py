"""The cluster half of the attribution job: frames in, compressed sums out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from causal_spark.errors import ConfigError
from causal_spark.methods.attribution import checks, lift
from causal_spark.methods.attribution.compressed import Compressed
from causal_spark.methods.attribution.journeys import (
    DAY,
    MINUTE,
    WHOLE,
    Journeys,
    Rules,
    from_columns,
    offsets,
    tokens,
    transformed,
)
from causal_spark.methods.attribution.sums import Plan, count_weights, person_weights, plan, power_of_two, summed
from causal_spark.methods.attribution.vocabulary import Attribution, Paths
from causal_spark.methods.findings import Findings
from causal_spark.spark import gate
from causal_spark.spark import journeys as cluster
from causal_spark.spark.columns import where
from causal_spark.spark.compress import MAX_ROWS, count
from causal_spark.spark.panel_sums import sums_by
from causal_spark.spark.session import Engine
from causal_spark.spark.tables import Frame, col, require, require_filters, require_numbers, require_times, stage
from causal_spark.statistics import Ranges
from causal_spark.statistics.cells import Cells, Whole

Progress = Callable[[str], None]
NO_CODE = np.iinfo(np.int64).min


def compress(
    engine: Engine,
    method: Attribution,
    frames: Mapping[str, Frame],
    scratch: Callable[[str], str],
    progress: Progress,
    language: str = "en",
) -> Compressed:
    """Gate, then the journey shuffle, then the sums. ``scratch`` gives a folder for a staged table by name.

    Raises GateError (codes of the findings), ConfigError (columns) or StatisticError (size).
    """
    found = Findings(language)
    progress("gate")
    made = _from_paths if "paths" in frames else _from_events
    done = made(engine, method, frames, scratch, progress, found)
    known = [name.strip() for name in done.tokens[: done.channels]]
    costs = _costs(method, frames["spend"]) if "spend" in frames else None
    spent = _period_costs(method, frames["spend"]) if costs is not None and method.spend and method.spend.time else None
    if costs is not None:
        checks.costs(known, costs, found)
    lifts = lift.read(method, frames.get("lift"))
    checks.lifts(known, method.outcomes, lifts, found)
    found.refuse()
    return replace(done, costs=costs, period_costs=spent, lifts=lifts, checks=tuple(found.found))


@dataclass(frozen=True, eq=False)
class Codes:
    """Sorted 64-bit codes and the number each stands for, as it travels to the cluster."""

    hashes: Whole
    numbers: Whole

    def of(self, hashed: Whole) -> Whole:
        """The numbers; -1 of a code that is not known."""
        place = np.minimum(np.searchsorted(self.hashes, hashed), len(self.hashes) - 1)
        return np.where(self.hashes[place] == hashed, self.numbers[place], -1)


def codes_of(names: Mapping[int, str], order: Sequence[str], first: int = 0) -> Codes:
    """``names``: code → text; a text's number is its place in ``order``."""
    place = {name: first + i for i, name in enumerate(order)}
    kept = sorted((code, place[name]) for code, name in names.items() if name in place)
    if not kept:
        return Codes(np.array([NO_CODE]), np.array([-1]))
    return Codes(np.array([c for c, _ in kept], np.int64), np.array([n for _, n in kept], np.int64))


def _from_events(engine: Engine, method: Attribution, frames: Mapping[str, Frame], scratch: Callable[[str], str],
                 progress: Progress, found: Findings) -> Compressed:  # fmt: skip
    for key in ("person", "time", "channel"):
        if getattr(method, key) is None:
            raise ConfigError("missing_key", where="method", key=key)
    assert method.person and method.time and method.channel
    require_filters(frames["touches"], method.where, "touches")
    touches = where(frames["touches"], method.where)
    touched = checks.check_touches(method, touches, found)
    converted = checks.check_conversions(method, frames["conversions"], found)
    found.refuse()
    as_of = _as_of(method, touched, converted)
    for table, ranges in (("touches", touched), ("conversions", converted)):
        checks.times(found, table, method.time, ranges, as_of)
    named = cluster.token(method.channel, method.by)
    channels = _channels(method, touches, found)
    checks.repeated_events(method, touches, touched[""].n, found)
    found.refuse()
    progress("prepare")
    conversions = frames["conversions"]
    if method.period is not None:
        touches, conversions = (cluster.in_periods(f, method.time, method.period) for f in (touches, conversions))
    segments, levels = _segments(method, touches, conversions)
    coded = codes_of(cluster.labels(touches, named, MAX_ROWS), channels)
    rows = _rows(method, frames.get("identity"), touches, conversions, segments)
    total = touched[""].n + converted[""].n
    rules = _rules(method, channels, as_of)
    wanted = _plan(method, channels, rules, converted)
    work = partial(_event_sums, codes=coded, levels=levels, rules=rules, wanted=wanted)
    columns = [name for name in rows.columns if name != "b"]
    bucketed = cluster.bucketed(rows, "p1", total)
    progress("compress")
    if method.censoring == "weight":
        lag = cluster.merged(cluster.sweep(bucketed, columns, partial(work, only=True)), MAX_ROWS)
        rules = replace(rules, lag=_lag_curve(lag.get("lag_last"), rules.window))
        work = partial(_event_sums, codes=coded, levels=levels, rules=rules, wanted=wanted)
    sums = stage(engine, cluster.sweep(bucketed, columns, work), scratch("sums"))
    titles = ["period" if column == cluster.PERIOD else column for column in segments]
    names = [f"{title}={level}" for title, known in zip(titles, levels.names, strict=True) for level in known]
    facts = {"rows": total, "touches": touched[""].n, "as_of": as_of, "source": "events", "lag": list(rules.lag),
             "first": int(touched[method.time].low or 0)}  # fmt: skip
    return _finished(method, sums, channels, rules, wanted, names, facts, found)


def _as_of(method: Attribution, touched: Ranges, converted: Ranges) -> int:
    """The end of the data in microseconds: as configured, else just after the last event."""
    assert method.time
    given = method.as_of_micros()
    latest = max(touched[method.time].high or 0, converted[method.time].high or 0)
    return int(latest) + 1 if given is None else given


def _channels(method: Attribution, touches: Frame, found: Findings) -> list[str]:
    """The names that get credit, sorted, without those that are excluded."""
    assert method.channel
    counts = {str(key[0]): int(n) for key, (n,) in count(touches, [method.channel]).cells.items()}
    checks.channels(method, counts, "touches", found)
    found.refuse()
    kept = touches if not method.exclude else touches.where(~col(method.channel).cast("string").isin(*method.exclude))
    known = cluster.labels(kept, cluster.token(method.channel, method.by), MAX_ROWS)
    names = sorted(known.values())
    if not names:
        found.empty("touches", 0)
    if method.by:
        checks.channels(replace(method, channels=()), dict.fromkeys(names, 1), "touches", found)
        found.refuse()
    return names


@dataclass(frozen=True, eq=False)
class Levels:
    """The levels of each segment column: their names, and their codes as numbers from 1 on."""

    names: tuple[tuple[str, ...], ...]
    codes: tuple[Codes, ...]


def _segments(method: Attribution, touches: Frame, conversions: Frame) -> tuple[tuple[str, ...], Levels]:
    """The columns of the segments, the period last, and their levels."""
    names: list[tuple[str, ...]] = []
    coded: list[Codes] = []
    first = 1
    sources = {name: touches.fillna("", [name]) for name in method.segments}
    if method.period is not None:
        period = col(cluster.PERIOD)
        sources[cluster.PERIOD] = touches.select(period).unionByName(conversions.select(period))
    for column, frame in sources.items():
        known = cluster.labels(frame, col(column).cast("string"), MAX_ROWS)
        order = sorted(known.values())
        coded.append(codes_of(known, order, first))
        names.append(tuple(name or "(missing)" for name in order))
        first += len(order)
    return tuple(sources), Levels(tuple(names), tuple(coded))


def _rows(method: Attribution, identity: Frame | None, touches: Frame, conversions: Frame, segments: Sequence[str]
          ) -> Frame:  # fmt: skip
    """Touches and conversions as rows of numbers."""
    assert method.person and method.time and method.channel
    names = method.identity
    if identity is not None:
        if names is None:
            raise ConfigError("missing_key", where="method", key="identity")
        require(identity, [names.alias, names.person], "identity")
    alias, owner = (names.alias, names.person) if names else ("", "")
    who = partial(cluster.identified, identity=identity, person=method.person, alias=alias, owner=owner)
    view = col(method.type).cast("string") == method.view if method.type else None
    kept = touches if not method.exclude else touches.where(~col(method.channel).cast("string").isin(*method.exclude))
    person = col("(person)")
    touched = cluster.touch_rows(who(kept), person, method.time, cluster.token(method.channel, method.by),
                                 method.event_id, view, segments, len(method.amounts))  # fmt: skip
    converted = cluster.conversion_rows(who(conversions), person, method.time, segments, method.amounts)
    return touched.unionByName(converted)


def _rules(method: Attribution, channels: Sequence[str], as_of: int) -> Rules:
    window = round(method.window_days * DAY)
    return Rules(
        window=window,
        view_window=window if method.view_days is None else round(method.view_days * DAY),
        max_touches=method.max_touches,
        session=None if method.session_minutes is None else round(method.session_minutes * MINUTE),
        once=method.event_id is not None,
        reuse=method.reuse_touches,
        as_of=as_of,
        censoring=method.censoring,
        change=method.change,
        drop_last=tuple(i for i, name in enumerate(channels) if name in method.drop_last),
        tokens=len(channels),
        period=method.period is not None,
    )


def _plan(method: Attribution, channels: Sequence[str], rules: Rules, converted: Ranges) -> Plan:
    totals = [(converted[name].high or 0.0) * converted[name].n for name in method.amounts]
    direct = channels.index(method.direct) if method.direct in channels else -1
    return plan(method, direct, len(tokens(channels, rules.change)), converted[""].n, totals)


def _event_sums(columns: cluster.Columns, codes: Codes, levels: Levels, rules: Rules, wanted: Plan,
                only: bool = False) -> Iterator[Cells]:  # fmt: skip
    """What a bucket of events leaves; ``only``: nothing but the lags."""
    held = dict(columns)
    held["c"] = np.where(held["k"] == 0, codes.of(held["c"]), -1)
    for i, coded in enumerate(levels.codes):
        held[f"g{i}"] = coded.of(held[f"g{i}"])
    for i, scale in enumerate(wanted.amount_scales):
        held[f"v{i}"] = np.rint(held[f"v{i}"] * scale).astype(np.int64)
    made, hashes, left = from_columns(held, rules, len(levels.codes), len(wanted.amount_scales))
    if only:
        wanted = replace(wanted, rules=(), orders=(), ordered=False, sets=False, replicates=0, paths=False)
    weights = person_weights(hashes, made.person, wanted.replicates)
    yield from summed(made, weights, wanted)
    counts = np.array([[left.censored] + [0] * wanted.outcomes, [left.repeated] + [0] * wanted.outcomes], np.int64)
    yield Cells("left", np.zeros(2, np.int64), np.arange(2), counts, np.zeros((2, 0), np.int64))


def _lag_curve(lag: Cells | None, window: int) -> tuple[float, ...]:
    """Share of the conversions within so many whole days of the last touch, up to the window."""
    if lag is None:
        return ()
    counts = np.zeros(max(window // DAY, 1), float)
    whole = lag.within(0)
    np.add.at(counts, np.minimum(whole.key, len(counts) - 1), whole.base[:, 0])
    return tuple(np.cumsum(counts) / max(counts.sum(), 1))


def _finished(method: Attribution, sums: Frame, channels: Sequence[str], rules: Rules, wanted: Plan,
              segments: Sequence[str], facts: dict[str, Any], found: Findings) -> Compressed:  # fmt: skip
    cells = cluster.merged(sums, MAX_ROWS)
    paths, different = cluster.top_paths(sums, method.top_paths) if method.top_paths else ([], 0)
    left = cells.pop("left", None)
    if left is not None:
        facts |= {"censored": int(left.base[0, 0]), "repeated": int(left.base[1, 0])}
    return Compressed(
        cells=cells,
        tokens=tokens(channels, rules.change),
        channels=len(channels),
        segments=tuple(segments),
        outcomes=method.outcomes,
        scales=(wanted.conversion_scale, *wanted.amount_scales),
        replicates=wanted.replicates,
        facts={**facts, "paths": different},
        checks=tuple(found.found),
        paths=tuple((path, tuple(numbers)) for path, numbers in paths),
    )


def _from_paths(engine: Engine, method: Attribution, frames: Mapping[str, Frame], scratch: Callable[[str], str],
                progress: Progress, found: Findings) -> Compressed:  # fmt: skip
    if method.paths is None:
        raise ConfigError("missing_key", where="method", key="paths")
    names, frame = method.paths, frames["paths"]
    _needs_events(method)
    require(frame, [names.path], "paths")
    numbers = [name for name in (names.conversions, names.nulls, names.value) if name]
    require_numbers(frame, numbers, "paths")
    ranges = gate.ranges(frame, [names.path, *numbers], nan=numbers)
    found.empty("paths", ranges[""].n)
    checks.null_key(found, "paths", names.path, ranges)
    checks.amounts(found, "paths", numbers, ranges)
    counts = {str(key[0]).strip(): 0 for key in count(_steps(frame, names), ["channel"]).cells}
    for key, (n,) in count(_steps(frame, names), ["channel"]).cells.items():
        counts[str(key[0]).strip()] += int(n)
    checks.channels(method, counts, "paths", found)
    found.refuse()
    progress("prepare")
    channels = sorted(name for name in counts if name not in method.exclude)
    totals = cluster.bounds(frame, numbers)
    rules = _rules(method, channels, 0)
    direct = channels.index(method.direct) if method.direct in channels else -1
    wanted = plan(method, direct, len(tokens(channels, rules.change)), totals[names.conversions],
                  [totals[names.value]] if names.value else [])  # fmt: skip
    scale = power_of_two(totals[names.value]) if names.value else 1.0
    rows = cluster.path_rows(frame, names.path, names.conversions, names.nulls, names.value, scale)
    work = partial(_path_sums, channels=tuple(channels), names=names, rules=rules, wanted=wanted)
    progress("compress")
    swept = cluster.sweep(cluster.bucketed(rows, "p1", ranges[""].n), ["path", "n", "m", "v0", "p1"], work)
    sums = stage(engine, swept, scratch("sums"))
    facts = {"rows": ranges[""].n, "source": "paths", "as_of": 0, "lag": []}
    return _finished(method, sums, channels, rules, wanted, (), facts, found)


def _steps(frame: Frame, names: Paths) -> Frame:
    return cluster.steps_of(frame, names.path, names.separator)


def _needs_events(method: Attribution) -> None:
    """What a table of ready paths cannot give."""
    for model in ("time_decay", "markov_auto"):
        if model in method.models:
            raise ConfigError("attribution_needs_events", what=model)
    for key in ("segments", "period", "by", "values", "event_id", "type", "session_minutes"):
        if getattr(method, key):
            raise ConfigError("attribution_needs_events", what=key)


def _path_sums(columns: cluster.Columns, channels: tuple[str, ...], names: Paths, rules: Rules,
               wanted: Plan) -> Iterator[Cells]:  # fmt: skip
    """What a bucket of ready paths leaves."""
    order = np.argsort(columns["p1"], kind="stable")
    place = {name: i for i, name in enumerate(channels)}
    split = [[place[s] for part in text.split(names.separator) if (s := part.strip()) in place]
             for text in columns["path"][order]]  # fmt: skip
    sizes = np.array([len(path) for path in split], np.int64)
    codes = np.array([code for path in split for code in path], np.int64)
    won, lost = columns["n"][order].astype(np.int64), columns["m"][order].astype(np.int64)
    value = columns["v0"][order].astype(np.int64)[:, None][:, : len(wanted.amount_scales)]
    row = np.arange(len(won))
    made = Journeys(offsets(sizes), codes, np.zeros(len(codes), np.int64), row, won, lost * WHOLE, value,
                    np.zeros((len(won), 0), np.int64))  # fmt: skip
    kept = transformed(made, rules)
    if len(kept.person) == 0:
        return
    weights = count_weights(columns["p1"][order], won, lost.astype(float), kept.person, wanted.replicates)
    yield from (part for part in summed(kept, weights, wanted) if not part.stat.startswith("lag"))


def _costs(method: Attribution, frame: Frame) -> dict[str, float]:
    """Spend by channel, summed in hundred-thousandths."""
    if method.spend is None:
        raise ConfigError("missing_key", where="method", key="spend")
    require(frame, [method.spend.channel], "spend")
    require_numbers(frame, [method.spend.cost], "spend")
    return cluster.totals(frame, method.spend.channel, method.spend.cost, MAX_ROWS)


def _period_costs(method: Attribution, frame: Frame) -> dict[str, dict[str, float]]:
    """Spend by period and channel."""
    assert method.spend is not None and method.spend.time is not None and method.period is not None
    require_times(frame, method.spend.time, "spend")
    timed = cluster.in_periods(frame, method.spend.time, method.period)
    found: dict[str, dict[str, float]] = {}
    keys = [cluster.PERIOD, method.spend.channel]
    for (period, channel), (cost,) in sorted(sums_by(timed, keys, [method.spend.cost], MAX_ROWS).items()):
        found.setdefault(period, {})[channel] = cost
    return found
