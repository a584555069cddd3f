"""Touches, conversions and spend whose truth is known: which touch caused each conversion, and how spend responds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

DAY = 86_400_000_000
START = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1e6)
CHANNELS = ("search", "social", "email", "display", "direct", "affiliate", "video", "push", "referral", "tv",
            "outdoor", "radio")  # fmt: skip
REGIONS = ("north", "south", "east", "west")
TIMES = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class JourneyDesign:
    """The generating model of journeys.

    A person has N touches, P(N > n) ~ n^(1 − ``skew``) up to ``most``, at uniform times of ``days`` days. The channel
    of a touch is drawn with a share that falls by the rank of the channel. A touch of channel c causes a conversion
    with probability ``power``[c], after an exponential lag of ``lag_days``; conversions also come from nothing at
    ``baseline`` for each person. So the conversions that channel c caused, and that would be gone without it, are
    known one by one. The value of a conversion is lognormal with mean ``value``.
    """

    channels: int = 12
    days: int = 90
    skew: float = 2.2
    most: int = 2_000
    lag_days: float = 1.5
    baseline: float = 0.01
    value: float = 40.0

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(CHANNELS[i] if i < len(CHANNELS) else f"channel_{i}" for i in range(self.channels))

    @property
    def shares(self) -> NDArray[np.float64]:
        weight = 1.0 / np.arange(1, self.channels + 1) ** 0.8
        return np.asarray(weight / weight.sum())

    @property
    def power(self) -> NDArray[np.float64]:
        """What one touch causes; the most frequent channels are not the strongest."""
        return 0.02 * np.roll(np.linspace(0.1, 2.0, self.channels), self.channels // 2)


@dataclass(frozen=True)
class Log:
    """Journeys as their tables, with their truth.

    ``touches``: event_id int64, user_id int64, ts (timestamp µs UTC), channel, type (view, click), region.
    ``conversions``: user_id, ts, revenue. ``spend``: channel, cost. ``caused``: conversions that each channel
    caused, and ``(baseline)``.
    """

    touches: pa.Table
    conversions: pa.Table
    spend: pa.Table
    caused: Mapping[str, int]


def journeys(persons: int = 20_000, seed: int = 7, design: JourneyDesign | None = None) -> Log:
    """Draw the touches and conversions of ``persons`` people: about 4 touches for each."""
    design = design or JourneyDesign()
    rng = np.random.default_rng([persons, seed])
    many = np.minimum(np.floor((1 - rng.random(persons)) ** (-1 / (design.skew - 1))), design.most).astype(np.int64)
    who = np.repeat(np.arange(persons), many)
    time = rng.integers(0, design.days * DAY, size=len(who))
    channel = rng.choice(design.channels, size=len(who), p=design.shares)
    hit = np.flatnonzero(rng.random(len(who)) < design.power[channel])
    lag = np.minimum(rng.exponential(design.lag_days, len(hit)), 20.0)
    free = rng.random(persons) < design.baseline
    buyer = np.concatenate([who[hit], np.flatnonzero(free)])
    when = np.concatenate([time[hit] + (lag * DAY).astype(np.int64) + 1,
                           rng.integers(0, design.days * DAY, size=int(free.sum()))])  # fmt: skip
    inside = when < design.days * DAY
    causes = np.concatenate([channel[hit], np.full(int(free.sum()), -1)])[inside]
    revenue = design.value * np.exp(0.6 * rng.standard_normal(int(inside.sum())) - 0.18)
    names = np.array(design.names, object)
    order = np.argsort(time, kind="stable")
    touches = pa.table({
        "event_id": np.arange(1, len(who) + 1),
        "user_id": 1_000_001 + who[order],
        "ts": pa.array(START + time[order], TIMES),
        "channel": pa.array(names[channel[order]], pa.string()),
        "type": pa.array(np.where(rng.random(len(who)) < 0.4, "click", "view").astype(object), pa.string()),
        "region": pa.array(np.array(REGIONS, object)[who[order] % len(REGIONS)], pa.string()),
    })  # fmt: skip
    conversions = pa.table({
        "user_id": 1_000_001 + buyer[inside],
        "ts": pa.array(START + when[inside], TIMES),
        "revenue": np.round(revenue, 2),
    })  # fmt: skip
    price = np.linspace(0.1, 0.6, design.channels)
    cost = np.round(np.bincount(channel, minlength=design.channels) * price, 2)
    spend = pa.table({"channel": pa.array(design.names), "cost": cost})
    caused = {name: int((causes == i).sum()) for i, name in enumerate(design.names)}
    return Log(touches, conversions, spend, {**caused, "(baseline)": int((causes == -1).sum())})


# Of each channel: family, parameters, mean spend of a week. One is S-shaped.
RESPONSES: Mapping[str, tuple[str, tuple[float, ...], float]] = {
    "search": ("michaelis_menten", (900.0, 60.0), 80.0),
    "social": ("log", (220.0, 25.0), 60.0),
    "video": ("hill", (800.0, 70.0, 3.0), 90.0),
    "outdoor": ("power", (18.0, 0.4), 70.0),
}


def weekly_spend(weeks: int = 104, noise: float = 12.0, seed: int = 7) -> pa.Table:
    """channel, week (date), spend, outcome: the responses of ``RESPONSES`` plus normal noise, one row for each week."""
    from causal_spark.solve.curves import response

    rng = np.random.default_rng([weeks, seed])
    rows: dict[str, list[object]] = {"channel": [], "week": [], "spend": [], "outcome": []}
    for name, (family, parameters, mean) in RESPONSES.items():
        spend = np.round(mean * rng.uniform(0.2, 2.0, weeks), 2)
        outcome = response(family, spend, parameters) + rng.normal(0, noise, weeks)
        rows["channel"] += [name] * weeks
        rows["week"] += [date(2024, 1, 1) + timedelta(weeks=i) for i in range(weeks)]
        rows["spend"] += spend.tolist()
        rows["outcome"] += np.round(np.maximum(outcome, 0.0), 3).tolist()
    return pa.table(rows)


def write(log: Log, folder: str | Path, files: int = 4) -> Path:
    """Write ``touches``, ``conversions`` and ``spend`` as folders of parquet below ``folder``."""
    folder = Path(folder)
    for name in ("touches", "conversions", "spend"):
        write_table(getattr(log, name), folder / name, 1 if name == "spend" else files)
    return folder


def write_table(table: pa.Table, folder: Path, files: int = 1) -> Path:
    """One table as parquet in ``files`` files."""
    folder.mkdir(parents=True, exist_ok=True)
    size = -(-max(table.num_rows, 1) // files)
    for part in range(files):
        pq.write_table(table.slice(part * size, size), folder / f"part-{part:04d}.parquet")
    return folder
