"""From a table of ready paths to compressed sums."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np

from causal_spark.errors import ConfigError
from causal_spark.methods.attribution import checks
from causal_spark.methods.attribution.compressed import Compressed
from causal_spark.methods.attribution.cutting import transformed
from causal_spark.methods.attribution.finish import finished, places, rules_of
from causal_spark.methods.attribution.journeys import WHOLE, Journeys, Rules, offsets, tokens
from causal_spark.methods.attribution.ordered import Columns
from causal_spark.methods.attribution.plan import Plan, plan, power_of_two
from causal_spark.methods.attribution.sums import summed
from causal_spark.methods.attribution.vocabulary import HAZARD, Attribution, Paths
from causal_spark.methods.attribution.weights import count_weights
from causal_spark.methods.findings import Findings
from causal_spark.spark import gate, ready_paths
from causal_spark.spark import journeys as cluster
from causal_spark.spark.columns import where
from causal_spark.spark.compress import count
from causal_spark.spark.journey_sums import sweep
from causal_spark.spark.tables import Frame, col, require, require_filters, require_numbers
from causal_spark.statistics.cells import Block

Progress = Callable[[str], None]


def from_paths(method: Attribution, frames: Mapping[str, Frame], progress: Progress, found: Findings) -> Compressed:
    """The sums of a table of paths with their conversions, nulls and value."""
    if method.paths is None:
        raise ConfigError("missing_key", where="method", key="paths")
    names, frame = method.paths, frames["paths"]
    _needs_events(method)
    require_filters(frame, method.where, "paths")
    frame = where(frame, method.where)
    require(frame, [names.path], "paths")
    numbers = [name for name in (names.conversions, names.nulls, names.value) if name]
    require_numbers(frame, numbers, "paths")
    ranges = gate.ranges(frame, [names.path, *numbers], nan=numbers)
    found.empty("paths", ranges[""].n)
    checks.null_key(found, "paths", names.path, ranges)
    checks.amounts(found, "paths", numbers, ranges)
    counts: dict[str, int] = {}
    for key, (n,) in count(ready_paths.steps_of(frame, names.path, names.separator), ["channel"]).cells.items():
        counts[str(key[0]).strip()] = counts.get(str(key[0]).strip(), 0) + int(n)
    checks.channels(method, counts, "paths", found)
    checks.names(method, counts, "paths", found)
    found.refuse()
    checks.whole_counts(frame, [name for name in (names.conversions, names.nulls) if name], ranges[""].n, found)
    checks.value_of_nothing(frame, names.value, names.conversions, ranges[""].n, found)
    found.refuse()
    progress("prepare")
    channels = sorted(name for name in counts if name not in method.exclude)
    totals = ready_paths.bounds(frame, numbers)
    rules = rules_of(method, channels, 0)
    direct = places(channels, [method.direct], ())
    wanted = plan(method, direct, len(tokens(channels, rules.change)), totals[names.conversions],
                  [totals[names.value]] if names.value else [])  # fmt: skip
    scale = power_of_two(totals[names.value]) if names.value else 1.0
    rows = ready_paths.path_rows(frame, names.path, names.conversions, names.nulls, names.value, scale)
    work = partial(path_sums, channels=tuple(channels), names=names, rules=rules, wanted=wanted)
    progress("compress")
    total, columns = ranges[""].n, ["path", "n", "m", "v0", "p1"]
    sums = sweep(cluster.bucketed(rows, columns, col("p1"), total), columns, work, total)
    facts = {"rows": total, "source": "paths", "as_of": 0, "lag": []}
    return finished(method, sums, channels, rules, wanted, (), facts, found)


def _needs_events(method: Attribution) -> None:
    """What a table of ready paths cannot give."""
    for model in ("time_decay", "markov_auto", HAZARD):
        if model in method.models:
            raise ConfigError("attribution_needs_events", what=model)
    events = ("segments", "period", "by", "values", "event_id", "conversion_id", "type", "max_touches", "session",
              "session_minutes", "reuse_touches", "as_of", "touch_credit")  # fmt: skip
    for key in events:
        if getattr(method, key):
            raise ConfigError("attribution_needs_events", what=key)


def path_sums(columns: Columns, channels: tuple[str, ...], names: Paths, rules: Rules,
               wanted: Plan) -> Iterator[Block]:  # fmt: skip
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
    made = Journeys(offsets(sizes), codes, np.zeros(1, np.int64), np.zeros(len(codes), np.int64), row, won,
                    lost * WHOLE, value, np.zeros((len(won), 0), np.int64), np.zeros(len(won), np.int64))  # fmt: skip
    kept = transformed(made, rules)
    if len(kept.person):
        weights = count_weights(columns["p1"][order], won, lost.astype(float), wanted.replicates)
        yield from (block for block in summed([kept], weights, wanted) if not block.stat.startswith("lag"))
