"""Buckets of the journey shuffle without a cluster: the same work on the same numbers, in numpy alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from causal_spark.methods.attribution import Attribution, Compressed, paths
from causal_spark.methods.attribution.events import event_sums
from causal_spark.methods.attribution.finish import places, rules_of
from causal_spark.methods.attribution.journeys import tokens
from causal_spark.methods.attribution.levels import codes_of
from causal_spark.methods.attribution.ordered import Reader
from causal_spark.methods.attribution.plan import plan, power_of_two
from causal_spark.methods.attribution.ready import path_sums
from causal_spark.statistics.cells import Block, Cells, added

DAY = 86_400_000_000
Columns = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Plain:
    """In place of the coding of the cluster: rows whose columns are the fields, times from 0 to ``span``."""

    span: int

    def read(self, columns: Columns) -> dict[str, np.ndarray]:
        return dict(columns)

    def times(self, columns: Columns) -> np.ndarray:
        return columns["t"]


def hashed(value: object, salt: str = "") -> int:
    """A 64-bit number for a text, in place of the engine's."""
    return int.from_bytes(hashlib.sha256(f"{salt}{value}".encode()).digest()[:8], "little", signed=True)


def split(columns: Columns, work: Callable[[Columns], Sequence[Block]], buckets: int, seed: int | None) -> list[Block]:
    """``work`` on each bucket by p1; ``seed`` shuffles the rows first."""
    place = columns["p1"].astype(np.uint64) % np.uint64(buckets)
    parts: list[Block] = []
    for bucket in range(buckets):
        rows = np.flatnonzero(place == bucket)
        if seed is not None:
            rows = np.random.default_rng(seed).permutation(rows)
        if len(rows):
            parts += list(work({name: values[rows] for name, values in columns.items()}))
    return parts


def of_paths(method: Attribution, frame: pd.DataFrame, buckets: int = 3, seed: int | None = None) -> Compressed:
    """The compressed sums of a table of ready paths, columns as ``method.paths`` names them."""
    names = method.paths
    assert names is not None
    channels = sorted({step.strip() for path in frame[names.path] for step in path.split(names.separator)})
    total = float(frame[names.value].sum()) if names.value else 1.0
    wanted = plan(method, places(channels, [method.direct], ()),
                  len(tokens(channels, method.change)), float(frame[names.conversions].sum()),
                  [total] if names.value else [])  # fmt: skip
    value = np.rint((frame[names.value] if names.value else 0.0) * power_of_two(total)).astype(np.int64)
    nulls = frame[names.nulls] if names.nulls else 0
    rows = frame.assign(n=frame[names.conversions], m=nulls, v0=value).groupby(names.path)[["n", "m", "v0"]].sum()
    columns = {"path": rows.index.to_numpy(object), **{name: rows[name].to_numpy() for name in ("n", "m", "v0")},
               "p1": np.array([hashed(path) for path in rows.index], np.int64)}  # fmt: skip
    rules = rules_of(method, channels, 0)
    parts = split(columns, lambda c: list(path_sums(c, tuple(channels), names, rules, wanted)), buckets, seed)
    made = compressed(method, parts, channels, wanted)
    return replace(made, facts={**made.facts, "source": "paths"})


def of_events(method: Attribution, touches: Sequence[tuple], conversions: Sequence[tuple], as_of: float = 1e4,
              buckets: int = 3, seed: int | None = None) -> Compressed:  # fmt: skip
    """The compressed sums of touches (person, day, channel[, event, type, segment, session]) and conversions (person,
    day, value[, id])."""
    padded = [(*touch, *(None, "click", "", None)[len(touch) - 3 :]) for touch in touches]
    channels = sorted({touch[2] for touch in padded})
    regions = sorted({touch[5] for touch in padded}) if method.segments else []
    n, m = len(padded), len(conversions)
    who = [row[0] for row in (*padded, *conversions)]
    columns = {
        "p1": np.array([hashed(p, "1") for p in who], np.int64),
        "p2": np.array([hashed(p, "2") for p in who], np.int64),
        "t": np.array([round(row[1] * DAY) for row in (*padded, *conversions)], np.int64),
        "k": np.repeat([0, 1], [n, m]),
        "e": np.array(
            [hashed(row[3]) if row[3] is not None else 0 for row in padded]
            + [hashed(row[3]) if len(row) > 3 else 0 for row in conversions],
            np.int64,
        ),
        "c": np.array([hashed(row[2]) for row in padded] + [0] * m, np.int64),
        "y": np.array([int(row[4] == method.view) for row in padded] + [0] * m, np.int64),
        "s": np.array([hashed(row[6]) if row[6] is not None else 0 for row in padded] + [0] * m, np.int64),
        "v0": np.array([0.0] * n + [float(row[2]) for row in conversions]),
    }
    if regions:
        columns["g0"] = np.array([hashed(row[5]) for row in padded] + [0] * m, np.int64)
    codes = codes_of({hashed(name): name for name in channels}, channels)
    levels = (codes_of({hashed(name): name for name in regions}, regions, 1),) if regions else ()
    rules = rules_of(method, channels, round(as_of * DAY))
    wanted = plan(method, places(channels, [method.direct], ()),
                  len(tokens(channels, method.change)), max(m, 1),
                  [max([row[2] for row in conversions] + [1.0]) * max(m, 1)], n + m, rules.as_of)  # fmt: skip
    reader = Reader(Plain(int(columns["t"].max(initial=0))), codes, levels, wanted.amount_scales)
    parts = split(columns, lambda c: list(event_sums(c, reader, rules, wanted)), buckets, seed)
    return compressed(method, parts, channels, wanted, [f"region={name}" for name in regions])


def compressed(method: Attribution, parts: Sequence[Block], channels: Sequence[str], wanted,
               segments: Sequence[str] = ()) -> Compressed:  # fmt: skip
    blocks = added(parts)
    cells = {block.stat: Cells.of(block, 1 + wanted.outcomes) for block in blocks
             if not block.stat.startswith(paths.STAT)}  # fmt: skip
    left = cells.pop("left", None)
    facts = {} if left is None else {"censored": int(left.base[0, 0]), "repeated": int(left.base[1, 0])}
    named = tokens(channels, method.change)
    return Compressed(cells, named, len(channels), tuple(segments), method.outcomes,
                      (wanted.conversion_scale, *wanted.amount_scales), wanted.replicates, facts,
                      paths=tuple(paths.read(blocks, len(named))))  # fmt: skip


def journeys_of(made: Compressed) -> dict[str, tuple[float, float]]:
    """Path → conversions, nulls."""
    return {" > ".join(made.tokens[int(step)] for step in text.split()): (sums[0], sums[1] / 1e6)
            for text, sums in made.paths}  # fmt: skip


def credit(result, model: str, outcome: str = "conversions", segment: str = "all") -> dict[str, float]:
    """Channel → credit."""
    frame = result.estimates
    mine = frame[(frame["method"] == model) & (frame["outcome"] == outcome) & (frame["segment"] == segment)
                 & (frame["estimand"] == "credit")]  # fmt: skip
    return dict(zip(mine["term"], mine["estimate"], strict=True))
