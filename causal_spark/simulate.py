"""Data whose truth is known: a shop's A/B test as event tables, and wide unit tables of any length.

The truth is never estimated from the drawn sample: it is the expectation under the generating model, in closed
form (Poisson thinning, the gamma's Laplace transform) and one Gauss–Legendre integral over the click propensity.
No Spark here: numpy draws, pyarrow holds and writes. The same arguments give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DAY = 86_400_000_000  # microseconds
PRE_DAYS, POST_DAYS, ENTRY_DAYS, RETENTION_DAYS = 28, 21, 7, (7, 14)
START = 1_767_571_200_000_000  # 2026-01-05 00:00 UTC, a Monday, in microseconds: the first exposure day
ARMS = ("control", "treatment")
TYPES = ("view", "click", "purchase")
COUNTRIES = ("US", "CN", "DE", "BR", "IN", "GB", "JP", "FR", "ID", "MX")
PLATFORMS = ("android", "ios", "web")
UTC = pa.timestamp("us", tz="UTC")
BLOCK = 65_536  # rows drawn from one seed in a unit table: makes the rows independent of the chunk length


@dataclass(frozen=True)
class ShopDesign:
    """The generating model of a shop's experiment.

    User i has an activity a ~ Gamma(``activity_shape``, mean 1), a click propensity q ~ Beta(``click_beta``) and a
    price level b (lognormal, mean 1), drawn independently of each other and of country c and platform p. Views come
    as a Poisson process of ``views_per_day`` · a · activity_c · activity_p. A view is clicked with probability q, a
    click becomes a purchase with probability ``purchase``, and the amount is price_c · b · lognormal(mean 1).
    The treatment changes two things: the click propensity to q + ``click_effect`` · q(1 − q), and the purchase
    probability on day d after the exposure to purchase · (1 + effect_p · novelty(d)) with
    novelty(d) = floor + (1 − floor) · exp(−d / days). Views, retention and the value of an order stay as they are.
    """

    views_per_day: float = 0.128
    activity_shape: float = 0.25
    click_beta: tuple[float, float] = (4.0, 6.0)
    purchase: float = 0.4
    user_price_sigma: float = 0.5
    amount_sigma: float = 0.6
    treated_share: float = 0.5
    click_effect: float = 0.05
    novelty_floor: float = 0.5
    novelty_days: float = 5.0
    platform_effect: tuple[float, ...] = (0.06, 0.12, 0.0)
    platform_share: tuple[float, ...] = (0.50, 0.30, 0.20)
    platform_activity: tuple[float, ...] = (0.9, 1.3, 0.8)
    country_share: tuple[float, ...] = (0.30, 0.20, 0.12, 0.10, 0.08, 0.06, 0.05, 0.04, 0.03, 0.02)
    country_activity: tuple[float, ...] = (1.1, 1.2, 1.0, 0.9, 0.8, 1.0, 1.1, 0.9, 0.7, 0.8)
    country_price: tuple[float, ...] = (40.0, 25.0, 35.0, 15.0, 10.0, 35.0, 30.0, 32.0, 8.0, 14.0)

    def novelty(self, day: NDArray[np.integer]) -> Floats:
        """The share of the purchase effect that is left on each day after the exposure, in (0, 1]."""
        return self.novelty_floor + (1.0 - self.novelty_floor) * np.exp(-np.asarray(day) / self.novelty_days)

    def clicks(self, propensity: Floats, treated: NDArray[np.bool_] | bool) -> Floats:
        """The probability that a view is clicked, for users of this propensity; always in [0, 1]."""
        return propensity + np.where(treated, self.click_effect, 0.0) * propensity * (1.0 - propensity)

    def purchases(self, platform: NDArray[np.integer], day: NDArray[np.integer], treated: NDArray[np.bool_]) -> Floats:
        """The probability that a click becomes a purchase; arrays broadcast against each other."""
        effect = np.asarray(self.platform_effect)[platform] * self.novelty(day)
        return self.purchase * (1.0 + np.where(treated, effect, 0.0))


def truth(
    design: ShopDesign,
    platform: str | None = None,
    country: str | None = None,
    days: tuple[int, int] = (0, POST_DAYS),
) -> dict[str, dict[str, float]]:
    """The true value of each metric under control and under treatment, their difference and the relative lift.

    ``platform`` and ``country`` restrict to a segment; ``days`` = [first, last) restricts the window after the
    exposure (all metrics but ``retained``, which is any event in days 7 to 13). The metrics, per user unless said:
    ``revenue``, ``orders``, ``converted`` (any purchase), ``views``, ``retained``, ``ctr`` (clicks / views),
    ``order_value`` (revenue / orders). ``views``, ``retained`` and ``order_value`` have no effect.
    """
    arms = [_expectations(design, treated, platform, country, days) for treated in (False, True)]
    return {
        name: {
            "control": arms[0][name],
            "treatment": arms[1][name],
            "difference": arms[1][name] - arms[0][name],
            "lift": arms[1][name] / arms[0][name] - 1.0,
        }
        for name in arms[0]
    }


def _expectations(
    design: ShopDesign, treated: bool, platform: str | None, country: str | None, days: tuple[int, int]
) -> dict[str, float]:
    """Expectations of one arm, over the cells country × platform (arrays of shape (countries, platforms))."""
    countries = _chosen(design.country_share, COUNTRIES, country)
    shares = np.outer(countries, _chosen(design.platform_share, PLATFORMS, platform))
    activity = np.outer(design.country_activity, design.platform_activity)
    rate = design.views_per_day * activity  # views of a day of a user of activity 1
    day = np.arange(*days)
    bought = design.purchases(np.arange(len(PLATFORMS))[:, None], day, np.asarray(treated)).sum(axis=1)
    propensity, weight = _beta_nodes(*design.click_beta)
    clicked = design.clicks(propensity, treated)  # at the nodes of q
    orders = rate * bought * (clicked @ weight)
    price = np.asarray(design.country_price)[:, None]
    none = _gamma_laplace(rate[..., None] * bought[:, None] * clicked, design.activity_shape) @ weight
    stay = 1.0 - _gamma_laplace(rate * (RETENTION_DAYS[1] - RETENTION_DAYS[0]), design.activity_shape)
    views, revenue = (shares * rate).sum() * len(day), (shares * orders * price).sum()
    return {
        "revenue": float(revenue),
        "orders": float((shares * orders).sum()),
        "converted": float((shares * (1.0 - none)).sum()),
        "views": float(views),
        "retained": float((shares * stay).sum()),
        "ctr": float((shares * rate).sum() * len(day) * (clicked @ weight) / views),
        "order_value": float(revenue / (shares * orders).sum()),
    }


def _chosen(shares: Sequence[float], names: Sequence[str], name: str | None) -> Floats:
    """The shares of all levels, or all the weight on the one that is named."""
    return np.asarray(shares) if name is None else np.eye(len(names))[list(names).index(name)]


def _gamma_laplace(rate: Floats, shape: float) -> Floats:
    """E exp(−rate · a) for a ~ Gamma(shape, mean 1): the probability of no event at that rate."""
    return np.asarray((1.0 + rate / shape) ** -shape)


@cache
def _beta_nodes(first: float, second: float) -> tuple[Floats, Floats]:
    """Nodes in (0, 1) and weights that integrate smooth functions against the Beta(first, second) density."""
    nodes, weights = np.polynomial.legendre.leggauss(100)
    nodes = 0.5 * (nodes + 1.0)
    density = weights * nodes ** (first - 1.0) * (1.0 - nodes) ** (second - 1.0)
    return nodes, density / density.sum()


@dataclass(frozen=True)
class Shop:
    """An experiment as its two tables, with its truth.

    ``exposures``: user_id int64, variant, ts (timestamp µs UTC), country, platform; one row for each user.
    ``events``: event_id int64, user_id, ts, type (view, click, purchase), amount (NULL unless a purchase); in order of
    time, 28 days before to 21 days after the exposure. ``truth``: metric → control, treatment, difference, lift.
    """

    exposures: pa.Table
    events: pa.Table
    design: ShopDesign
    truth: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Users:
    """The drawn users, arrays of shape (n,); codes index COUNTRIES and PLATFORMS, ``entry`` is microseconds."""

    ids: NDArray[np.int64]
    treated: NDArray[np.bool_]
    country: NDArray[np.int64]
    platform: NDArray[np.int64]
    entry: NDArray[np.int64]
    rate: Floats
    click: Floats
    price: Floats


def shop_experiment(units: int = 250_000, seed: int = 7, design: ShopDesign | None = None) -> Shop:
    """Draw a shop's experiment of ``units`` users: about 10 events for each user, 2.5 million for the default."""
    design = design or ShopDesign()
    rng = np.random.default_rng([units, seed])
    users = _draw_users(rng, units, design)
    exposures = pa.table(
        {
            "user_id": users.ids,
            "variant": _words(users.treated.astype(np.int8), ARMS),
            "ts": pa.array(users.entry, UTC),
            "country": _words(users.country, COUNTRIES),
            "platform": _words(users.platform, PLATFORMS),
        }
    )
    return Shop(exposures, _draw_events(rng, users, design), design, truth(design))


def _draw_users(rng: np.random.Generator, units: int, design: ShopDesign) -> _Users:
    country = rng.choice(len(COUNTRIES), size=units, p=design.country_share)
    platform = rng.choice(len(PLATFORMS), size=units, p=design.platform_share)
    activity = rng.gamma(design.activity_shape, 1.0 / design.activity_shape, size=units)
    cell = np.asarray(design.country_activity)[country] * np.asarray(design.platform_activity)[platform]
    return _Users(
        ids=10_000_001 + np.arange(units, dtype=np.int64),
        treated=rng.random(units) < design.treated_share,
        country=country,
        platform=platform,
        entry=START + rng.integers(0, ENTRY_DAYS * DAY, size=units),
        rate=design.views_per_day * activity * cell,
        click=rng.beta(*design.click_beta, size=units),
        price=np.asarray(design.country_price)[country] * _lognormal(rng, design.user_price_sigma, units),
    )


def _draw_events(rng: np.random.Generator, users: _Users, design: ShopDesign) -> pa.Table:
    """Views by a Poisson process, clicks and purchases by thinning; all three of one visit fall on the same day."""
    views = rng.poisson(users.rate * (PRE_DAYS + POST_DAYS))
    who = np.repeat(np.arange(len(users.ids)), views)
    time = rng.integers(-PRE_DAYS * DAY, POST_DAYS * DAY, size=len(who))  # since the exposure
    day = time // DAY
    left = (day + 1) * DAY - time  # to the end of the user's day
    treated = users.treated[who] & (time >= 0)
    click = np.flatnonzero(rng.random(len(who)) < design.clicks(users.click[who], treated))
    chance = design.purchases(users.platform[who[click]], day[click], treated[click])
    buy = click[rng.random(len(click)) < chance]
    amount = np.full(len(who) + len(click) + len(buy), np.nan)
    paid = users.price[who[buy]] * _lognormal(rng, design.amount_sigma, len(buy))
    amount[len(who) + len(click) :] = np.round(paid, 2)
    row = np.concatenate([np.arange(len(who)), click, buy])
    code = np.repeat(np.arange(3, dtype=np.int8), [len(who), len(click), len(buy)])
    stamp = users.entry[who[row]] + time[row] + code * (left[row] // 1000)  # a click follows within minutes
    order = np.argsort(stamp, kind="stable")
    return pa.table(
        {
            "event_id": np.arange(1, len(order) + 1, dtype=np.int64),
            "user_id": users.ids[who[row[order]]],
            "ts": pa.array(stamp[order], UTC),
            "type": _words(code[order], TYPES),
            "amount": pa.array(amount[order], from_pandas=True),
        }
    )


def _lognormal(rng: np.random.Generator, sigma: float, size: int | tuple[int, ...]) -> Floats:
    """Lognormal numbers of mean exactly 1."""
    return np.exp(sigma * rng.standard_normal(size) - 0.5 * sigma**2)


def _words(codes: NDArray[np.integer], names: Sequence[str]) -> pa.Array:
    """Codes to their names, as plain strings."""
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int8)), pa.array(list(names))).dictionary_decode()


def write(shop: Shop, folder: str | Path, files: int = 4) -> Path:
    """Write ``<folder>/exposures`` and ``<folder>/events`` as parquet, each in ``files`` files; returns the folder."""
    folder = Path(folder)
    for name, table in (("exposures", shop.exposures), ("events", shop.events)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        bounds = np.linspace(0, table.num_rows, files + 1).astype(int)
        for part, (low, high) in enumerate(pairwise(bounds)):
            pq.write_table(table.slice(low, high - low), folder / name / f"part-{part:04d}.parquet")
    return folder


def units_experiment(
    n: int,
    metrics: int = 3,
    arms: Sequence[str] = ARMS,
    segments: int = 0,
    seed: int = 7,
    effect: float = 0.02,
) -> pa.Table:
    """A table with one row for each unit: unit_id, variant, metric_k and metric_k_pre (k < ``metrics``), segment_j.

    Arms are equally likely; metric_k is lognormal with mean (k + 1) under the first arm and (k + 1)(1 + ``effect``)
    under every other, and correlates at about 0.6 with metric_k_pre, which has mean (k + 1) in every arm. Each segment
    has ten levels ``a`` … ``j`` with shares falling by a third. Holds all rows: for long tables see ``write_units``.
    """
    return pa.concat_tables(_blocks(n, metrics, arms, segments, seed, effect))


def write_units(
    path: str | Path,
    n: int,
    metrics: int = 3,
    segments: int = 0,
    seed: int = 7,
    rows_per_chunk: int = 1_048_576,
    arms: Sequence[str] = ARMS,
    effect: float = 0.02,
) -> Path:
    """Write the table of ``units_experiment`` into the folder ``path``, one parquet file for each chunk of rows.

    Never holds more than ``rows_per_chunk`` rows (rounded up to whole blocks of 65,536). The rows do not depend on it.
    """
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    waiting: list[pa.Table] = []
    part = written = 0
    for block in _blocks(n, metrics, arms, segments, seed, effect):
        waiting.append(block)
        written += block.num_rows
        if written == n or sum(table.num_rows for table in waiting) >= rows_per_chunk:
            pq.write_table(pa.concat_tables(waiting), path / f"part-{part:05d}.parquet")
            waiting, part = [], part + 1
    return path


def _blocks(n: int, metrics: int, arms: Sequence[str], segments: int, seed: int, effect: float) -> Iterator[pa.Table]:
    """The rows in blocks, each drawn from its own seed."""
    if n < 1 or metrics < 1 or segments < 0 or len(arms) < 2:
        raise ValueError("a unit table needs n >= 1, metrics >= 1, segments >= 0 and at least two arms")
    for number, first in enumerate(range(0, n, BLOCK)):
        rows = min(BLOCK, n - first)
        yield _block(np.random.default_rng([seed, number]), first, rows, metrics, arms, segments, effect)


def _block(
    rng: np.random.Generator, first: int, rows: int, metrics: int, arms: Sequence[str], segments: int, effect: float
) -> pa.Table:
    arm = rng.integers(0, len(arms), size=rows)
    shared = _lognormal(rng, 0.6, (metrics, rows))  # what a unit's two periods have in common
    before = shared * _lognormal(rng, 0.5, (metrics, rows))
    after = shared * _lognormal(rng, 0.5, (metrics, rows)) * np.where(arm > 0, 1.0 + effect, 1.0)
    columns: dict[str, object] = {
        "unit_id": np.arange(first + 1, first + rows + 1, dtype=np.int64),
        "variant": _words(arm, arms),
    }
    for k in range(metrics):
        columns |= {f"metric_{k}": (k + 1.0) * after[k], f"metric_{k}_pre": (k + 1.0) * before[k]}
    shares = (2.0 / 3.0) ** np.arange(10)
    for j in range(segments):
        columns[f"segment_{j}"] = _words(rng.choice(10, size=rows, p=shares / shares.sum()), "abcdefghij")
    return pa.table(columns)
