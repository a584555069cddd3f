"""From touches and conversions to compressed sums: the gate, the journey shuffle, what each bucket leaves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from causal_spark.errors import ConfigError
from causal_spark.methods.attribution import checks
from causal_spark.methods.attribution import touches as touches_credit
from causal_spark.methods.attribution.compressed import Compressed
from causal_spark.methods.attribution.finish import finished, places, rules_of
from causal_spark.methods.attribution.journeys import DAY, Rules, tokens
from causal_spark.methods.attribution.levels import Levels, short
from causal_spark.methods.attribution.ordered import Columns, Reader, journeys_of
from causal_spark.methods.attribution.plan import Plan, plan
from causal_spark.methods.attribution.sums import summed
from causal_spark.methods.attribution.vocabulary import Attribution
from causal_spark.methods.attribution.weights import person_weights
from causal_spark.methods.findings import Findings
from causal_spark.spark import journeys as cluster
from causal_spark.spark.columns import where
from causal_spark.spark.compress import MAX_ROWS
from causal_spark.spark.journey_sums import Credited, credited, merged, sweep
from causal_spark.spark.session import Engine
from causal_spark.spark.tables import Frame, col, require, require_filters, stage
from causal_spark.statistics import Ranges
from causal_spark.statistics.cells import Block, Cells

Progress = Callable[[str], None]


def from_events(engine: Engine, method: Attribution, frames: Mapping[str, Frame], scratch: Callable[..., str],
                 progress: Progress, found: Findings) -> Compressed:  # fmt: skip
    """Compressed sums of touches and conversions: one shuffle of both (one more for ``censoring: weight``, and one for
    ``touch_credit``). Raises GateError, ConfigError or StatisticError."""
    touches, looked, converted, as_of = _looked_at(method, frames, found)
    touched, known = looked.ranges, _channels(method, looked, found)
    checks.repeated_events(method.event_id, method, touches, "touches", touched[""].n, found)
    checks.repeated_events(method.conversion_id, method, frames["conversions"], "conversions", converted[""].n, found)
    _identities(method, frames.get("identity"), found)
    found.refuse()
    progress("prepare")
    conversions = frames["conversions"]
    if method.period is not None:
        touches, conversions = (cluster.in_periods(f, str(method.time), method.period) for f in (touches, conversions))
    channels = sorted(known.values())
    segments, levels = _segments(method, touches, conversions)
    size, codes = short(known, channels)
    numbered = "identity" not in frames and all(cluster.numbered(f, str(method.person)) for f in (touches, conversions))
    coding = cluster.Coding.of(*_span(method, touched, converted), size, levels.sizes, views=method.type is not None,
                               event=method.event_id is not None or method.conversion_id is not None,
                               session=method.session is not None,
                               numbered=numbered, drawn=_draws(method))  # fmt: skip
    total = touched[""].n + converted[""].n
    rules = rules_of(method, channels, as_of)
    wanted = _plan(method, channels, rules, converted, total * (1 + sum(map(len, levels.names))))
    reader = Reader(coding, codes, levels.codes, wanted.amount_scales)
    columns = coding.columns(len(method.amounts))
    rows = partial(_rows, method, frames.get("identity"), touches, conversions, segments, coding)
    bucketed = cluster.bucketed(rows(), columns, coding.bucket(), total)
    progress("compress")
    work = partial(event_sums, reader=reader, wanted=wanted)
    if method.censoring == "weight":
        lag = merged(sweep(bucketed, columns, partial(work, rules=rules, only=True), total), _plain, MAX_ROWS)
        rules = replace(rules, lag=_lag_curve(lag, rules.reach, wanted))
    facts = {"rows": total, "touches": touched[""].n, "as_of": as_of, "source": "events", "lag": list(rules.lag),
             "first": int(touched[str(method.time)].low or 0)}  # fmt: skip
    sums = sweep(bucketed, columns, partial(work, rules=rules), total)
    done = finished(method, sums, channels, rules, wanted, levels.every(segments), facts, found)
    if method.touch_credit:
        progress("compress touches")
        by = touches_credit.shares(method, done)
        credit = partial(_touch_credit, reader=reader, rules=rules, wanted=wanted, by=by)
        named = cluster.bucketed(rows(named=True), [cluster.WHO, *columns], coding.bucket(), total)
        amounts = ["credit", *(f"credit_{name}" for name in method.outcomes[1:])]
        table = credited(named, columns, credit, done.tokens, list(by.rules), amounts)
        stage(engine, table, scratch("touch_credit", kept=True))
    return done


def _draws(method: Attribution) -> bool:
    """Whether persons are drawn at random: for replicates, or for the halves of a chain."""
    return method.replicates > 0 or "markov_auto" in method.models


def _plain(block: Block) -> list[Block]:
    return [block]


def _looked_at(method: Attribution, frames: Mapping[str, Frame],
               found: Findings) -> tuple[Frame, cluster.Seen, Ranges, int]:  # fmt: skip
    """The touches, what one scan sees of them, the ranges of the conversions, the end of the data: past the gate."""
    for key in ("person", "time", "channel"):
        if getattr(method, key) is None:
            raise ConfigError("missing_key", where="method", key=key)
    require_filters(frames["touches"], method.where, "touches")
    touches = where(frames["touches"], method.where)
    looked = checks.check_touches(method, touches, found)
    touched = looked.ranges
    converted = checks.check_conversions(method, frames["conversions"], found)
    found.refuse()
    as_of = _as_of(method, touched, converted)
    for table, ranges in (("touches", touched), ("conversions", converted)):
        checks.times(found, table, str(method.time), ranges, as_of)
        if method.as_of is None:
            checks.after_today(found, table, str(method.time), ranges, time.time() * 1e6)
    return touches, looked, converted, as_of


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


def _channels(method: Attribution, looked: cluster.Seen, found: Findings) -> dict[int, str]:
    """The names that get credit by their code, without those that are excluded."""
    checks.channels(method, looked.channels, "touches", found)
    checks.names(method, looked.channels, "touches", found)
    found.refuse()
    known = {code: name for code, name, channel in looked.names if channel not in method.exclude}
    if not known:
        found.empty("touches", 0)
    if method.by:
        checks.channels(replace(method, channels=()), dict.fromkeys(known.values(), 1), "touches", found)
        found.refuse()
    return known


def _segments(method: Attribution, touches: Frame, conversions: Frame) -> tuple[tuple[str, ...], Levels]:
    """The columns of the segments, the period last, and their levels."""
    sources = dict.fromkeys(method.segments, touches)
    if method.period is not None:
        period = col(cluster.PERIOD)
        sources[cluster.PERIOD] = touches.select(period).unionByName(conversions.select(period))
    known = [cluster.labels(frame, cluster.level(column), MAX_ROWS) for column, frame in sources.items()]
    return tuple(sources), Levels.of(known)


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
    converted = cluster.conversion_rows(who(conversions), person, method.time, method.conversion_id, segments, coding,
                                        method.amounts, named)  # fmt: skip
    return touched.unionByName(converted)


def _plan(method: Attribution, channels: Sequence[str], rules: Rules, converted: Ranges, events: int) -> Plan:
    totals = [(converted[name].high or 0.0) * converted[name].n for name in method.amounts]
    direct = places(channels, [method.direct], method.by)
    return plan(method, direct, len(tokens(channels, rules.change)), converted[""].n, totals, events, rules.as_of)


def event_sums(columns: Columns, reader: Reader, rules: Rules, wanted: Plan, only: bool = False) -> Iterator[Block]:
    """What a bucket of events leaves; ``only``: nothing but the lags."""
    parts, persons, left = journeys_of(columns, reader, rules)
    wanted = wanted.bare() if only else wanted
    hashes = columns.get("h", columns["p1"])[persons]
    yield from summed(parts, person_weights(hashes, wanted.replicates), wanted)
    counts = np.array([[left.censored] + [0] * wanted.outcomes, [left.repeated] + [0] * wanted.outcomes], np.int64)
    yield Cells("left", np.zeros(2, np.int64), np.arange(2), counts, np.zeros((2, 0), np.int64)).block()


def _touch_credit(columns: Columns, reader: Reader, rules: Rules, wanted: Plan,
                  by: touches_credit.Shares) -> Credited:  # fmt: skip
    """The credit of a bucket's touches."""
    (won, _), persons, _ = journeys_of(columns, reader, rules)
    return touches_credit.credited(won, persons, wanted, by)


def _lag_curve(blocks: Sequence[Block], window: int, wanted: Plan) -> tuple[float, ...]:
    """Share of the conversions within so many whole days of the last touch, up to the window."""
    lag = next((Cells.of(block, 1 + wanted.outcomes).within(0) for block in blocks if block.stat == "lag_last"), None)
    if lag is None:
        return ()
    counts = np.zeros(max(window // DAY, 1), float)
    np.add.at(counts, np.minimum(lag.key, len(counts) - 1), lag.base[:, 0])
    return tuple(np.cumsum(counts) / max(counts.sum(), 1))
