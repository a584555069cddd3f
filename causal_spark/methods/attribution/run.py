"""The cluster half of the attribution job: frames in, compressed sums out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from causal_spark.errors import ConfigError
from causal_spark.methods.attribution import checks, lift
from causal_spark.methods.attribution import touches as touches_credit
from causal_spark.methods.attribution.compressed import Compressed
from causal_spark.methods.attribution.journeys import (
    DAY,
    MINUTE,
    WHOLE,
    Journeys,
    Left,
    Rules,
    offsets,
    tokens,
    transformed,
)
from causal_spark.methods.attribution.ordered import from_columns
from causal_spark.methods.attribution.paths import plain
from causal_spark.methods.attribution.sums import Plan, plan, power_of_two, summed
from causal_spark.methods.attribution.vocabulary import HAZARD, Attribution, Paths
from causal_spark.methods.attribution.weights import count_weights, person_weights
from causal_spark.methods.findings import Findings
from causal_spark.spark import gate
from causal_spark.spark import journeys as cluster
from causal_spark.spark.columns import where
from causal_spark.spark.compress import MAX_ROWS, count
from causal_spark.spark.packed import modulus
from causal_spark.spark.panel_sums import sums_by
from causal_spark.spark.session import Engine
from causal_spark.spark.tables import Frame, col, require, require_filters, require_numbers, require_times, stage
from causal_spark.statistics import Ranges
from causal_spark.statistics.cells import Cells, Whole

Progress = Callable[[str], None]
NO_CODE = np.iinfo(np.int64).min
# Codes below this are looked up in a table.
DIRECT = 1 << 16


def compress(
    engine: Engine,
    method: Attribution,
    frames: Mapping[str, Frame],
    scratch: Callable[..., str],
    progress: Progress,
    language: str = "en",
) -> Compressed:
    """Gate, then the journey shuffle, then the sums. ``scratch`` gives a folder for a table by name.

    Raises GateError (codes of the findings), ConfigError (columns) or StatisticError (size).
    """
    found = Findings(language)
    progress("gate")
    made = _from_paths if "paths" in frames else _from_events
    done = made(engine, method, frames, scratch, progress, found)
    known = done.tokens[: done.channels]
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
    """Sorted codes and the number each stands for, as it travels to the cluster."""

    hashes: Whole
    numbers: Whole

    def of(self, hashed: Whole) -> Whole:
        """The numbers; -1 of a code that is not known."""
        last = int(self.hashes[-1])
        if int(self.hashes[0]) >= 0 and last < DIRECT:
            numbers = np.full(last + 2, -1, np.int64)
            numbers[self.hashes] = self.numbers
            return numbers[np.clip(hashed, -1, last + 1)]
        place = np.minimum(np.searchsorted(self.hashes, hashed), len(self.hashes) - 1)
        return np.where(self.hashes[place] == hashed, self.numbers[place], -1)


def codes_of(names: Mapping[int, str], order: Sequence[str], first: int = 0) -> Codes:
    """``names``: code → text; a text's number is its place in ``order``."""
    place = {name: first + i for i, name in enumerate(order)}
    kept = sorted((code, place[name]) for code, name in names.items() if name in place)
    if not kept:
        return Codes(np.array([NO_CODE]), np.array([-1]))
    return Codes(np.array([c for c, _ in kept], np.int64), np.array([n for _, n in kept], np.int64))


def _short(names: Mapping[int, str], order: Sequence[str], first: int = 0) -> tuple[int, Codes]:
    """As ``codes_of`` for the remainders by the number that tells all codes apart, and that number."""
    size = modulus(list(names))
    return size, codes_of({code % size: name for code, name in names.items()}, order, first)


def _from_events(engine: Engine, method: Attribution, frames: Mapping[str, Frame], scratch: Callable[..., str],
                 progress: Progress, found: Findings) -> Compressed:  # fmt: skip
    touches, touched, converted, as_of = _looked_at(method, frames, found)
    known = _channels(method, touches, found)
    checks.repeated_events(method, touches, touched[""].n, found)
    _identities(method, frames.get("identity"), found)
    found.refuse()
    progress("prepare")
    conversions = frames["conversions"]
    if method.period is not None:
        touches, conversions = (cluster.in_periods(f, str(method.time), method.period) for f in (touches, conversions))
    channels = sorted(known.values())
    segments, levels = _segments(method, touches, conversions)
    size, codes = _short(known, channels)
    coding = cluster.Coding.of(*_span(method, touched, converted), size, levels.sizes, method.event_id is not None,
                               method.session is not None)  # fmt: skip
    total = touched[""].n + converted[""].n
    rules = _rules(method, channels, as_of)
    wanted = _plan(method, channels, rules, converted, total * (1 + sum(map(len, levels.names))))
    columns = coding.columns(len(method.amounts))
    rows = partial(_rows, method, frames.get("identity"), touches, conversions, segments, coding)
    bucketed = cluster.bucketed(rows(), "p1", total)
    progress("compress")
    work = partial(_coded_sums, coding=coding, codes=codes, levels=levels, wanted=wanted)
    if method.censoring == "weight":
        lag = cluster.merged(cluster.sweep(bucketed, columns, partial(work, rules=rules, only=True)), MAX_ROWS)
        rules = replace(rules, lag=_lag_curve(lag.get("lag_last"), rules.window))
    sums = stage(engine, cluster.sweep(bucketed, columns, partial(work, rules=rules)), scratch("sums"))
    facts = {"rows": total, "touches": touched[""].n, "as_of": as_of, "source": "events", "lag": list(rules.lag),
             "first": int(touched[str(method.time)].low or 0)}  # fmt: skip
    done = _finished(method, sums, channels, rules, wanted, levels.every(segments), facts, found)
    if method.touch_credit:
        progress("compress touches")
        by = touches_credit.shares(method, done)
        credit = partial(_touch_credit, coding=coding, codes=codes, levels=levels, rules=rules, wanted=wanted, by=by)
        named = cluster.bucketed(rows(named=True), "p1", total)
        amounts = ["credit", *(f"credit_{name}" for name in method.outcomes[1:])]
        table = cluster.credited(named, columns, credit, done.tokens, list(by.rules), amounts)
        stage(engine, table, scratch("touch_credit", kept=True))
    return done


def _looked_at(method: Attribution, frames: Mapping[str, Frame],
               found: Findings) -> tuple[Frame, Ranges, Ranges, int]:  # fmt: skip
    """The touches, the ranges of both tables, and the end of the data, after the gate has looked at them."""
    for key in ("person", "time", "channel"):
        if getattr(method, key) is None:
            raise ConfigError("missing_key", where="method", key=key)
    require_filters(frames["touches"], method.where, "touches")
    touches = where(frames["touches"], method.where)
    touched = checks.check_touches(method, touches, found)
    converted = checks.check_conversions(method, frames["conversions"], found)
    found.refuse()
    as_of = _as_of(method, touched, converted)
    for table, ranges in (("touches", touched), ("conversions", converted)):
        checks.times(found, table, str(method.time), ranges, as_of)
        if method.as_of is None:
            checks.after_today(found, table, str(method.time), ranges, time.time() * 1e6)
    return touches, touched, converted, as_of


def _span(method: Attribution, touched: Ranges, converted: Ranges) -> tuple[int, int]:
    """The first and the last moment of all events in microseconds."""
    ranges = [table[str(method.time)] for table in (touched, converted)]
    low = min(int(each.low) for each in ranges if each.low is not None)
    return low, max(int(each.high) for each in ranges if each.high is not None)


def _as_of(method: Attribution, touched: Ranges, converted: Ranges) -> int:
    """The end of the data in microseconds: as configured, else just after the last event."""
    assert method.time
    given = method.as_of_micros()
    latest = max(touched[method.time].high or 0, converted[method.time].high or 0)
    return int(latest) + 1 if given is None else given


def _channels(method: Attribution, touches: Frame, found: Findings) -> dict[int, str]:
    """The names that get credit by their code, without those that are excluded."""
    assert method.channel
    counts = {str(key[0]): int(n) for key, (n,) in count(touches, [method.channel]).cells.items()}
    checks.channels(method, counts, "touches", found)
    checks.names(method, counts, "touches", found)
    found.refuse()
    kept = touches if not method.exclude else touches.where(~col(method.channel).cast("string").isin(*method.exclude))
    known = cluster.labels(kept, cluster.token(method.channel, method.by), MAX_ROWS)
    if not known:
        found.empty("touches", 0)
    if method.by:
        checks.channels(replace(method, channels=()), dict.fromkeys(known.values(), 1), "touches", found)
        found.refuse()
    return known


@dataclass(frozen=True, eq=False)
class Levels:
    """The levels of each segment column: their names, their codes as numbers from 1 on, how many the codes may be."""

    names: tuple[tuple[str, ...], ...]
    codes: tuple[Codes, ...]
    sizes: tuple[int, ...] = ()

    def every(self, columns: Sequence[str]) -> list[str]:
        """The names of all segments in the order of their numbers."""
        titles = ["period" if column == cluster.PERIOD else column for column in columns]
        return [f"{title}={name}" for title, names in zip(titles, self.names, strict=True) for name in names]


def _segments(method: Attribution, touches: Frame, conversions: Frame) -> tuple[tuple[str, ...], Levels]:
    """The columns of the segments, the period last, and their levels."""
    names: list[tuple[str, ...]] = []
    coded: list[tuple[int, Codes]] = []
    first = 1
    sources = dict.fromkeys(method.segments, touches)
    if method.period is not None:
        period = col(cluster.PERIOD)
        sources[cluster.PERIOD] = touches.select(period).unionByName(conversions.select(period))
    for column, frame in sources.items():
        known = cluster.labels(frame, cluster.level(column), MAX_ROWS)
        order = sorted(known.values())
        coded.append(_short(known, order, first))
        names.append(tuple(name or "(missing)" for name in order))
        first += len(order)
    found = Levels(tuple(names), tuple(codes for _, codes in coded), tuple(size for size, _ in coded))
    return tuple(sources), found


def _identities(method: Attribution, identity: Frame | None, found: Findings) -> None:
    """Columns and keys of the identity table."""
    if identity is None:
        return
    if method.identity is None:
        raise ConfigError("missing_key", where="method", key="identity")
    require(identity, [method.identity.alias, method.identity.person], "identity")
    checks.aliases(identity, method.identity.alias, method.identity.person, found)


def _rows(method: Attribution, identity: Frame | None, touches: Frame, conversions: Frame, segments: tuple[str, ...],
          coding: cluster.Coding, named: bool = False) -> Frame:  # fmt: skip
    """Touches and conversions as rows of numbers; ``named``: with the key of the person."""
    assert method.person and method.time and method.channel
    names = method.identity if identity is not None else None
    alias, owner = (names.alias, names.person) if names else ("", "")
    who = partial(cluster.identified, identity=identity, person=method.person, alias=alias, owner=owner)
    view = col(method.type).cast("string") == method.view if method.type else None
    kept = touches if not method.exclude else touches.where(~col(method.channel).cast("string").isin(*method.exclude))
    person = col("(person)")
    names_of = cluster.TouchColumns(method.time, cluster.token(method.channel, method.by), view, method.event_id,
                                    method.session, segments)  # fmt: skip
    touched = cluster.touch_rows(who(kept), person, names_of, coding, len(method.amounts), named)
    converted = cluster.conversion_rows(who(conversions), person, method.time, segments, coding, method.amounts, named)
    return touched.unionByName(converted)


def _rules(method: Attribution, channels: Sequence[str], as_of: int) -> Rules:
    window = round(method.window_days * DAY)
    return Rules(
        window=window,
        view_window=window if method.view_days is None else round(method.view_days * DAY),
        max_touches=method.max_touches,
        gap=None if method.session_minutes is None else round(method.session_minutes * MINUTE),
        session=method.session_touch if method.session else None,
        once=method.event_id is not None,
        reuse=method.reuse_touches,
        as_of=as_of,
        censoring=method.censoring,
        change=method.change,
        drop_last=_places(channels, method.drop_last, method.by),
        tokens=len(channels),
        period=method.period is not None,
    )


def _places(channels: Sequence[str], named: Sequence[str], by: Sequence[str]) -> tuple[int, ...]:
    """Which of ``channels`` are ``named``: as a whole, or with further columns (``by``) by their channel alone."""
    begin = tuple(name + cluster.JOINER for name in named) if by else ()
    return tuple(i for i, name in enumerate(channels) if name in named or name.startswith(begin))


def _plan(method: Attribution, channels: Sequence[str], rules: Rules, converted: Ranges, events: int) -> Plan:
    totals = [(converted[name].high or 0.0) * converted[name].n for name in method.amounts]
    direct = _places(channels, [method.direct], method.by)
    return plan(method, direct, len(tokens(channels, rules.change)), converted[""].n, totals, events, rules.as_of)


def _coded_sums(columns: cluster.Columns, coding: cluster.Coding, codes: Codes, levels: Levels, rules: Rules,
                wanted: Plan, only: bool = False) -> Iterator[Cells]:  # fmt: skip
    """As ``_event_sums``, of rows as they come from the cluster."""
    yield from _event_sums(coding.read(columns), codes, levels, rules, wanted, only)


def _event_sums(columns: cluster.Columns, codes: Codes, levels: Levels, rules: Rules, wanted: Plan,
                only: bool = False) -> Iterator[Cells]:  # fmt: skip
    """What a bucket of events leaves; ``only``: nothing but the lags."""
    made, persons, left = _journeys(columns, codes, levels, rules, wanted)
    if only:
        wanted = wanted.bare()
    weights = person_weights(columns["p1"][persons], made.person, wanted.replicates)
    yield from summed(made, weights, wanted)
    counts = np.array([[left.censored] + [0] * wanted.outcomes, [left.repeated] + [0] * wanted.outcomes], np.int64)
    yield Cells("left", np.zeros(2, np.int64), np.arange(2), counts, np.zeros((2, 0), np.int64))


def _journeys(columns: cluster.Columns, codes: Codes, levels: Levels, rules: Rules,
              wanted: Plan) -> tuple[Journeys, Whole, Left]:  # fmt: skip
    """The journeys of a bucket, a row of each person, what was left out."""
    held = dict(columns)
    held["c"] = np.where(held["k"] == 0, codes.of(held["c"]), -1)
    for i, coded in enumerate(levels.codes):
        held[f"g{i}"] = coded.of(held[f"g{i}"])
    for i, scale in enumerate(wanted.amount_scales):
        held[f"v{i}"] = np.rint(held[f"v{i}"] * scale).astype(np.int64)
    return from_columns(held, rules, len(levels.codes), len(wanted.amount_scales))


def _touch_credit(columns: cluster.Columns, coding: cluster.Coding, codes: Codes, levels: Levels, rules: Rules,
                  wanted: Plan, by: touches_credit.Shares) -> cluster.Credited:  # fmt: skip
    """The credit of a bucket's touches."""
    made, persons, _ = _journeys(coding.read(columns), codes, levels, rules, wanted)
    return touches_credit.credited(made, persons, wanted, by)


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
    paths, different = cluster.top_paths(sums, 1 + wanted.outcomes, method.top_paths) if method.top_paths else ([], 0)
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
        paths=tuple((plain(path), tuple(numbers)) for path, numbers in paths),
    )


def _from_paths(engine: Engine, method: Attribution, frames: Mapping[str, Frame], scratch: Callable[..., str],
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
    checks.names(method, counts, "paths", found)
    found.refuse()
    checks.whole_counts(frame, [name for name in (names.conversions, names.nulls) if name], ranges[""].n, found)
    found.refuse()
    progress("prepare")
    channels = sorted(name for name in counts if name not in method.exclude)
    totals = cluster.bounds(frame, numbers)
    rules = _rules(method, channels, 0)
    direct = _places(channels, [method.direct], ())
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
    for model in ("time_decay", "markov_auto", HAZARD):
        if model in method.models:
            raise ConfigError("attribution_needs_events", what=model)
    events = ("segments", "period", "by", "values", "event_id", "type", "session", "session_minutes", "touch_credit")
    for key in events:
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
                    np.zeros((len(won), 0), np.int64), np.zeros(len(won), np.int64))  # fmt: skip
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
