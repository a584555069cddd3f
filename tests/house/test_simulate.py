"""The simulated data say what their truth says, and the same seed says it again."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import integrate, stats

from causal_spark import simulate
from causal_spark.simulate import DAY, PLATFORMS, ShopDesign, shop_experiment, truth, units_experiment, write_units

UNITS = 60_000


@pytest.fixture(scope="module")
def shop() -> simulate.Shop:
    return shop_experiment(UNITS, seed=11)


def per_user(shop: simulate.Shop) -> dict[str, np.ndarray]:
    """Each user's outcomes in the 21 days after the exposure, and the revenue of the 28 days before."""
    events, entry = shop.events, shop.exposures["ts"].cast(pa.int64()).to_numpy()
    user = events["user_id"].to_numpy() - shop.exposures["user_id"][0].as_py()
    day = (events["ts"].cast(pa.int64()).to_numpy() - entry[user]) // DAY
    kind = events["type"].to_numpy(zero_copy_only=False)
    amount = np.nan_to_num(events["amount"].to_numpy())

    def total(chosen: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        return np.bincount(user[chosen], None if weights is None else weights[chosen], minlength=UNITS).astype(float)

    after = day >= 0
    orders = total(after & (kind == "purchase"))
    return {
        "revenue": total(after, amount),
        "orders": orders,
        "converted": (orders > 0).astype(float),
        "views": total(after & (kind == "view")),
        "clicks": total(after & (kind == "click")),
        "retained": (total((day >= 7) & (day < 14)) > 0).astype(float),
        "before": total(day < 0, amount),
        "treated": shop.exposures["variant"].to_numpy(zero_copy_only=False) == "treatment",
        "platform": shop.exposures["platform"].to_numpy(zero_copy_only=False),
    }


def test_tables_have_their_columns(shop: simulate.Shop) -> None:
    assert shop.exposures.schema == pa.schema(
        {"user_id": pa.int64(), "variant": pa.string(), "ts": simulate.UTC, "country": pa.string(),
         "platform": pa.string()}
    )  # fmt: skip
    assert shop.events.schema == pa.schema(
        {"event_id": pa.int64(), "user_id": pa.int64(), "ts": simulate.UTC, "type": pa.string(),
         "amount": pa.float64()}
    )  # fmt: skip
    purchase = np.asarray(shop.events["type"]) == "purchase"
    assert (shop.events["amount"].is_valid().to_numpy() == purchase).all()
    stamps = shop.events["ts"].cast(pa.int64()).to_numpy()
    assert (np.diff(stamps) >= 0).all()
    assert len(set(shop.exposures["country"].to_pylist())) == 10


def test_the_default_has_a_million_events_at_once() -> None:
    shop = shop_experiment()
    assert shop.exposures.num_rows == 250_000
    assert shop.events.num_rows > 1_000_000


def test_same_seed_same_bytes(shop: simulate.Shop) -> None:
    again = shop_experiment(UNITS, seed=11)
    assert again.events.equals(shop.events)
    assert again.exposures.equals(shop.exposures)
    assert not shop_experiment(UNITS, seed=12).exposures.equals(shop.exposures)


def test_draws_agree_with_the_truth(shop: simulate.Shop) -> None:
    outcome = per_user(shop)
    for segment in (None, *PLATFORMS):
        here = np.ones(UNITS, bool) if segment is None else outcome["platform"] == segment
        told = truth(shop.design, platform=segment)
        for arm, chosen in (("control", ~outcome["treated"] & here), ("treatment", outcome["treated"] & here)):
            for metric in ("revenue", "orders", "converted", "views", "retained"):
                drawn = outcome[metric][chosen]
                error = drawn.std() / math.sqrt(len(drawn))
                assert abs(drawn.mean() - told[metric][arm]) < 4.5 * error, (segment, arm, metric)
            views, clicks = outcome["views"][chosen], outcome["clicks"][chosen]
            ratio = clicks.sum() / views.sum()
            error = (clicks - ratio * views).std() / math.sqrt(len(views)) / views.mean()
            assert abs(ratio - told["ctr"][arm]) < 4.5 * error


def test_revenue_is_heavy_tailed_and_predictable(shop: simulate.Shop) -> None:
    outcome = per_user(shop)
    assert 0.5 < np.corrcoef(outcome["before"], outcome["revenue"])[0, 1] < 0.75
    assert stats.skew(outcome["revenue"]) > 5


def test_what_has_no_effect_and_what_fades() -> None:
    design = ShopDesign()
    told = truth(design)
    for metric in ("views", "retained", "order_value"):
        assert told[metric]["lift"] == pytest.approx(0, abs=1e-12)
    assert told["ctr"]["lift"] > 0
    lifts = [truth(design, days=(day, day + 1))["orders"]["lift"] for day in range(21)]
    assert lifts == sorted(lifts, reverse=True)
    platforms = [truth(design, platform=name)["orders"]["lift"] for name in PLATFORMS]
    assert len(set(platforms)) == 3
    assert truth(design)["revenue"]["control"] == pytest.approx(
        sum(truth(design, platform=p)["revenue"]["control"] * s
            for p, s in zip(PLATFORMS, design.platform_share, strict=True))
    )  # fmt: skip


def test_conversion_agrees_with_a_double_integral() -> None:
    """P(no purchase) of one cell under treatment by brute force over activity and click propensity."""
    design = ShopDesign(activity_shape=1.5)
    rate = design.views_per_day * design.country_activity[2] * design.platform_activity[1]
    days = np.arange(21)
    bought = float(design.purchases(np.asarray(1), days, np.asarray(True)).sum())
    activity = stats.gamma(design.activity_shape, scale=1 / design.activity_shape)
    propensity = stats.beta(*design.click_beta)

    def density(a: float, q: float) -> float:
        clicked = q + design.click_effect * q * (1 - q)
        return float(math.exp(-a * rate * clicked * bought) * activity.pdf(a) * propensity.pdf(q))

    none, _ = integrate.dblquad(density, 0, 1, 0, 40, epsabs=1e-8)
    told = truth(design, platform="ios", country="DE")["converted"]["treatment"]
    assert told == pytest.approx(1 - none, abs=1e-6)


def test_write_is_read_back(shop: simulate.Shop, tmp_path: Path) -> None:
    folder = simulate.write(shop, tmp_path / "shop", files=3)
    assert len(list((folder / "events").glob("*.parquet"))) == 3
    assert pq.read_table(folder / "events").equals(shop.events)
    assert pq.read_table(folder / "exposures").equals(shop.exposures)


def test_unit_tables_do_not_depend_on_the_chunk(tmp_path: Path) -> None:
    whole = units_experiment(150_000, metrics=2, segments=1, seed=3)
    small = write_units(tmp_path / "small", 150_000, metrics=2, segments=1, seed=3, rows_per_chunk=65_536)
    large = write_units(tmp_path / "large", 150_000, metrics=2, segments=1, seed=3)
    assert len(list(small.glob("*.parquet"))) == 3
    assert len(list(large.glob("*.parquet"))) == 1
    assert pq.read_table(small).equals(whole)
    assert pq.read_table(large).equals(whole)


def test_unit_tables_agree_with_their_truth() -> None:
    table = units_experiment(300_000, metrics=2, segments=1, seed=5, effect=0.05)
    treated = table["variant"].to_numpy(zero_copy_only=False) == "treatment"
    for k in range(2):
        for chosen, mean in ((~treated, k + 1.0), (treated, (k + 1.0) * 1.05)):
            drawn = table[f"metric_{k}"].to_numpy()[chosen]
            assert abs(drawn.mean() - mean) < 4.5 * drawn.std() / math.sqrt(len(drawn))
        pair = np.log(table[f"metric_{k}"].to_numpy()), np.log(table[f"metric_{k}_pre"].to_numpy())
        assert 0.5 < np.corrcoef(*pair)[0, 1] < 0.7
    assert table["segment_0"].value_counts().to_pylist()[0]["counts"] > 0


def test_unit_tables_refuse_nonsense() -> None:
    with pytest.raises(ValueError, match="two arms"):
        units_experiment(10, arms=("only",))
