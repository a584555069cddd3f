"""The trust gate of touches, conversions, paths, costs and lifts."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Collection, Mapping, Sequence

from causal_spark.config import nearest
from causal_spark.methods.attribution.compressed import Lift
from causal_spark.methods.attribution.vocabulary import MAX_SET, SETS, Attribution, Spend
from causal_spark.methods.findings import Findings
from causal_spark.spark import gate
from causal_spark.spark.compress import MAX_ROWS
from causal_spark.spark.journeys import JOINER, Seen, seen
from causal_spark.spark.tables import Frame, require, require_numbers, require_times
from causal_spark.statistics import Ranges
from causal_spark.statistics.grouped import MISSING

# A scale of the sums, see sums.py, leaves room for numbers up to about 1e15 in all.
LARGEST = 1e15


def check_touches(method: Attribution, frame: Frame, found: Findings) -> Seen:
    """Columns, types, keys and channels of the touches."""
    assert method.person and method.time and method.channel
    text = [name for name in (method.event_id, method.type, method.session, *method.by, *method.segments) if name]
    require(frame, [method.person, method.time, method.channel, *text], "touches")
    require_times(frame, method.time, "touches")
    looked = seen(frame, method.person, method.time, method.channel, method.by, MAX_ROWS)
    found.empty("touches", looked.ranges[""].n)
    for column in (method.person, method.time):
        null_key(found, "touches", column, looked.ranges)
    return looked


def check_conversions(method: Attribution, frame: Frame, found: Findings) -> Ranges:
    """Columns, types, keys and amounts of the conversions."""
    assert method.person and method.time
    named = [method.conversion_id] if method.conversion_id else []
    require(frame, [method.person, method.time, *named], "conversions")
    require_times(frame, method.time, "conversions")
    require_numbers(frame, method.amounts, "conversions")
    ranges = gate.ranges(frame, [method.person, method.time, *method.amounts], nan=method.amounts)
    found.empty("conversions", ranges[""].n)
    for column in (method.person, method.time):
        null_key(found, "conversions", column, ranges)
    amounts(found, "conversions", method.amounts, ranges)
    return ranges


def check_spend(names: Spend, frame: Frame, found: Findings) -> None:
    """Columns, types, keys and costs of the spend table; a cost that is not there counts 0, and is warned of."""
    keys = [names.channel, *([names.time] if names.time else [])]
    require(frame, keys, "spend")
    require_numbers(frame, [names.cost], "spend")
    if names.time:
        require_times(frame, names.time, "spend")
    ranges = gate.ranges(frame, [*keys, names.cost], nan=[names.cost])
    for column in keys:
        null_key(found, "spend", column, ranges)
    cost = ranges[names.cost]
    if cost.nans or math.inf in (abs(cost.low or 0), abs(cost.high or 0)):
        found.add("NAN_INF", "stop", "spend", names.cost)
    if cost.nulls:
        found.add("COST_MISSING", "warn", "spend", names.cost, count=cost.nulls, share=cost.nulls / cost.n)


def null_key(found: Findings, table: str, column: str, ranges: Ranges) -> None:
    """A key column without NULL, or the job stops."""
    if ranges[column].nulls:
        count = ranges[column].nulls
        found.add("NULL_KEY", "stop", table, column, count=count, share=count / ranges[column].n)
    else:
        found.add("NULL_KEY", "pass", table, column, count=0)


def amounts(found: Findings, table: str, columns: Sequence[str], ranges: Ranges) -> None:
    """Amounts are finite, of 0 or more, and fit into the sums; one that is not there counts 0, and is warned of."""
    for column in columns:
        of = ranges[column]
        if of.nulls:
            found.add("AMOUNT_MISSING", "warn", table, column, count=of.nulls, share=of.nulls / of.n)
        if of.nans or math.inf in (abs(of.low or 0), abs(of.high or 0)):
            found.add("NAN_INF", "stop", table, column)
        elif of.low is not None and of.low < 0:
            found.add("NEGATIVE_AMOUNT", "stop", table, column, low=of.low)
        elif (of.high or 0) * of.n > LARGEST:
            found.add("OUT_OF_RANGE", "stop", table, column, scale=1)


def times(found: Findings, table: str, column: str, ranges: Ranges, as_of: int) -> None:
    """No time lies after the end of the data, none before 1970."""
    low, high = ranges[column].low, ranges[column].high
    if high is not None and high > as_of:
        found.add("FUTURE_TS", "stop", table, days=f"{(high - as_of) / 86.4e9:.2f}")
    if low is not None and low < 0:
        found.add("PAST_TS", "stop", table, column)


def after_today(found: Findings, table: str, column: str, ranges: Ranges, now: float) -> None:
    """Times beyond ``now`` (microseconds) from which the end of the data was taken make journeys look old."""
    high = ranges[column].high
    if high is not None and high > now:
        found.add("AFTER_TODAY", "warn", table, column, days=f"{(high - now) / 86.4e9:,.1f}")


def channels(method: Attribution, counts: Mapping[str, int], table: str, found: Findings) -> None:
    """Every touch has a channel, each is known if they are declared, and no model gets more than it can take."""
    total = max(sum(counts.values()), 1)
    empty = sum(n for name, n in counts.items() if name == MISSING or not name.strip())
    if empty:
        found.add("EMPTY_CHANNEL", "stop", table, method.channel or "channel", count=empty, share=empty / total)
    if method.channels:
        for name in sorted(set(counts) - set(method.channels) - {MISSING}):
            found.add("UNKNOWN_CHANNEL", "stop", table, method.channel or "channel", count=counts[name],
                      share=counts[name] / total, label=name, hint=nearest(name, method.channels))  # fmt: skip
    many = [model for model in method.models if model in SETS]
    if many and len(counts) > MAX_SET:
        found.add("TOO_MANY_CHANNELS", "stop", table, method.channel or "channel", count=len(counts),
                  models=", ".join(many), most=MAX_SET)  # fmt: skip
    if not found.found or all(check.verdict == "pass" for check in found.found):
        found.add("CHANNELS", "pass", table, method.channel or "channel", count=len(counts))


def names(method: Attribution, counts: Collection[str], table: str, found: Findings) -> None:
    """Channels that differ only by how they are written, and channels that the configuration names in vain."""
    known = sorted(set(counts) - {MISSING})
    alike: dict[str, list[str]] = {}
    for name in known:
        alike.setdefault(" ".join(unicodedata.normalize("NFKC", name).split()).casefold(), []).append(name)
    for same in alike.values():
        if len(same) > 1:
            found.add("SIMILAR_CHANNELS", "warn", table, method.channel or "channel", count=len(same),
                      names=", ".join(repr(name) for name in same))  # fmt: skip
    named = [("exclude", name) for name in method.exclude] + [("drop_last", name) for name in method.drop_last]
    named += [("direct", method.direct)] if "last_non_direct" in method.models else []
    for key, name in named:
        if (name.partition(JOINER)[0] if method.by else name) not in known:
            found.add("NAMED_CHANNEL_MISSING", "warn", table, method.channel or "channel", key=key, label=name,
                      hint=nearest(name, known))  # fmt: skip


def repeated_events(column: str | None, method: Attribution, frame: Frame, table: str, rows: int,
                    found: Findings) -> None:  # fmt: skip
    """Events of one id in ``column`` count once; one id with several persons stops the job."""
    if column is None or method.person is None:
        return
    keys = gate.keys(frame, column, method.person, rows)
    if keys.in_several_groups:
        count = keys.in_several_groups
        key = "event_id" if table == "touches" else "conversion_id"
        found.add("EVENT_OF_TWO_PERSONS", "stop", table, column, count=count, share=count / max(keys.keys, 1), key=key)
    verdict = "warn" if keys.repeated else "pass"
    code = "DUPLICATE_TOUCH" if table == "touches" else "DUPLICATE_CONVERSION"
    found.add(code, verdict, table, column, count=keys.repeated, share=keys.repeated / max(keys.keys, 1))


def costs(known: Sequence[str], given: Mapping[str, float], found: Findings) -> None:
    """Spend for a channel without touches is warned of, negative spend refused."""
    for name, cost in given.items():
        if not math.isfinite(cost) or cost < 0:
            found.add("NEGATIVE_AMOUNT", "stop", "spend", name, low=cost)
        elif name not in known:
            found.add("SPEND_UNKNOWN_CHANNEL", "warn", "spend", name, hint=nearest(name, list(known)))


def lifts(known: Sequence[str], outcomes: Sequence[str], given: Sequence[Lift], found: Findings) -> None:
    """A lift of a channel without touches, or of an outcome that is not credited, is warned of."""
    for lift in given:
        if lift.channel not in known or lift.outcome not in outcomes:
            found.add("LIFT_UNKNOWN_CHANNEL", "warn", "lift", lift.channel, hint=nearest(lift.channel, list(known)))


def whole_counts(frame: Frame, columns: Sequence[str], rows: int, found: Findings) -> None:
    """Conversions and nulls of ready paths are numbers of journeys."""
    for column, count in gate.fractions(frame, columns).items():
        if count:
            found.add("PARTIAL_COUNT", "stop", "paths", column, count=count, share=count / max(rows, 1))


def value_of_nothing(frame: Frame, value: str | None, conversions: str, rows: int, found: Findings) -> None:
    """A ready path has no value without a conversion."""
    count = gate.amounts_of_none(frame, value, conversions) if value else 0
    if count:
        found.add("VALUE_OF_NOTHING", "stop", "paths", str(value), count=count, share=count / max(rows, 1),
                  conversions=conversions)  # fmt: skip


def aliases(frame: Frame, alias: str, person: str, found: Findings) -> None:
    """An alias of several persons is given to one of them, and warned of."""
    keys = gate.keys(frame, alias, person, 0)
    if keys.in_several_groups:
        count = keys.in_several_groups
        found.add("ALIAS_OF_TWO_PERSONS", "warn", "identity", alias, count=count, share=count / max(keys.keys, 1))
