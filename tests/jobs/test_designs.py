"""Triggered units, concurrent experiments, holdouts, switchbacks, trends: through the job, against numpy and truth."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from causal_spark import job
from causal_spark.errors import CausalSparkError, ConfigError
from causal_spark.simulate import shop_experiment
from causal_spark.solve.carryover import Stretch, carry_over
from causal_spark.solve.linear import cluster_difference
from causal_spark.solve.means import Form
from causal_spark.solve.triggered import triggered
from causal_spark.statistics import Moments
from causal_spark.words import LANGUAGES

RTOL = 1e-10  # engines sum doubles in different orders
HOUR, DAY = pd.Timedelta(hours=1), pd.Timedelta(days=1)
START = pd.Timestamp("2026-01-05", tz="UTC")


def save(frame: pd.DataFrame, folder: Path, files: int = 1) -> Path:
    folder.mkdir(parents=True)
    for i in range(files):
        pq.write_table(pa.Table.from_pandas(frame.iloc[i::files], preserve_index=False), folder / f"{i}.parquet")
    return folder


def run(inputs: dict[str, Path], out: Path, method: dict) -> job.Outcome:
    return job.run(
        {
            "job": "experiment",
            "input": {role: {"table": str(path)} for role, path in inputs.items()},
            "method": method,
            "output": {"path": str(out)},
            "tracking": {"enabled": False},
        },
        "experiment",
    )


def close(found: float, wanted: float) -> None:
    assert found == pytest.approx(wanted, rel=RTOL)


def verdict(outcome: job.Outcome, code: str) -> str:
    checks = outcome.result.diagnostics["checks"]
    return str(checks.set_index("code").loc[code, "verdict"])


# triggered units, another experiment, a holdout -----------------------------------------------------------------------

UNITS = {
    "unit": "user", "arm": "arm", "control": "control", "holdouts": ["reserve"], "holdout_effect": True,
    "shares": {"control": 0.4, "new": 0.4, "reserve": 0.2}, "triggered": "saw", "interactions": ["banner"],
    "metrics": [
        {"name": "revenue", "kind": "mean", "value": "revenue", "covariates": ["pre"]},
        {"name": "bought", "kind": "proportion", "value": "bought"},
        {"name": "rated", "kind": "mean", "value": "rating", "nulls": "drop", "role": "diagnostic"},
    ],
}  # fmt: skip


def units_table(n: int = 6_000, seed: int = 8) -> pd.DataFrame:
    """The new arm adds 1 to the revenue of units that saw it, 0.8 more if their banner is red."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "user": np.arange(n),
            "arm": rng.choice(["control", "new", "reserve"], n, p=[0.4, 0.4, 0.2]),
            "saw": (rng.random(n) < 0.4).astype(int),
            "banner": rng.choice(["blue", "red", None], n, p=[0.4, 0.4, 0.2]),
            "pre": rng.normal(10, 2, n),
            "bought": rng.random(n) < 0.3,
        }
    )
    met = (frame["arm"] == "new") & (frame["saw"] == 1)
    frame["revenue"] = frame["pre"] + rng.normal(size=n) + met * (1 + 0.8 * (frame["banner"] == "red"))
    frame["rating"] = np.where(rng.random(n) < 0.4, np.nan, rng.integers(1, 6, n))
    return frame


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return units_table()


@pytest.fixture(scope="module")
def outcome(spark, rows, tmp_path_factory) -> job.Outcome:
    folder = tmp_path_factory.mktemp("designs")
    return run({"units": save(rows, folder / "units")}, folder / "run", UNITS)


@pytest.fixture(scope="module")
def estimates(outcome) -> pd.DataFrame:
    return outcome.result.estimates.set_index(["outcome", "contrast", "term", "method"]).sort_index()


def test_triggered_and_diluted_effects(rows, outcome, estimates) -> None:
    parts = []
    for arm in ("new", "control"):
        mine = rows[rows["arm"] == arm]
        parts.append({flag: Moments.from_rows(["y"], mine[mine["saw"] == flag]["revenue"]) for flag in (True, False)})
    wanted = triggered(*parts, "y")
    for term, test in (("triggered difference", wanted.triggered), ("diluted difference", wanted.diluted),
                       ("diluted lift", wanted.diluted_lift)):  # fmt: skip
        row = estimates.loc[("revenue", "new vs control", term, "triggered")]
        close(row.estimate, test.estimate)
        close(row.std_error, test.std_error)
    row = estimates.loc[("revenue", "new vs control", "diluted difference", "triggered")]
    assert row.conf_low < 0.4 * (1 + 0.8 * 0.4) < row.conf_high
    assert verdict(outcome, "TRIGGER_RATIO") == verdict(outcome, "TRIGGER_LEAK") == "pass"
    t, c = (rows[(rows["arm"] == arm) & (rows["saw"] == 1)]["rating"].dropna() for arm in ("new", "control"))
    row = estimates.loc[("rated", "new vs control", "triggered difference", "triggered")]
    close(row.p_value, stats.ttest_ind(t, c, equal_var=False).pvalue)
    assert row.n == len(t) + len(c)


def test_the_interaction_with_another_experiment(rows, outcome, estimates) -> None:
    row = estimates.loc[("revenue", "new vs control × banner: red vs blue", "interaction", "interaction")]
    part = {
        key: rows[(rows["arm"] == key[0]) & (rows["banner"] == key[1])]["revenue"]
        for key in product(("new", "control"), ("red", "blue"))
    }
    signs = dict(zip(part, (1, -1, -1, 1), strict=True))
    close(row.estimate, sum(sign * part[key].mean() for key, sign in signs.items()))
    close(row.std_error, math.sqrt(sum(values.var() / len(values) for values in part.values())))
    assert row.n == sum(map(len, part.values()))  # without the units that have no banner
    assert abs(row.estimate - 0.4 * 0.8) < 3 * row.std_error
    tests = outcome.result.diagnostics["interactions"].set_index("outcome")
    close(tests.loc["revenue"].statistic, (row.estimate / row.std_error) ** 2)


def test_the_holdout(rows, outcome, estimates) -> None:
    tested, apart = (rows[(rows["arm"] == "reserve") == flag]["bought"].mean() for flag in (False, True))
    row = estimates.loc[("bought", "control + new vs reserve", "holdout difference", "z")]
    close(row.estimate, tested - apart)
    assert verdict(outcome, "HOLDOUT_RATIO") == "pass"
    adjusted = estimates.loc[("revenue", "control + new vs reserve", "holdout difference", "cuped")]
    assert adjusted.conf_low < 0.4 * (1 + 0.8 * 0.4) / 2 < adjusted.conf_high
    assert (
        adjusted.std_error
        < estimates.loc[("revenue", "control + new vs reserve", "holdout difference", "welch")].std_error
    )


def test_solving_again_needs_no_table(outcome, estimates, tmp_path) -> None:
    again = job.resolve(outcome.manifest["path"], {"alpha": 0.2, "holdout_effect": False}, str(tmp_path / "again"))
    found = again.result.estimates.set_index(["outcome", "contrast", "term", "method"])
    key = ("revenue", "new vs control", "diluted difference", "triggered")
    close(found.loc[key].estimate, estimates.loc[key].estimate)
    assert found.loc[key].conf_high < estimates.loc[key].conf_high
    assert not found.index.get_level_values("term").str.startswith("holdout").any()


@pytest.mark.engines("sail")
def test_files_order_and_type_of_the_trigger_change_nothing(spark, rows, outcome, tmp_path) -> None:
    shuffled = rows.assign(saw=rows["saw"] == 1).sample(frac=1, random_state=3)
    again = run({"units": save(shuffled, tmp_path / "units", 5)}, tmp_path / "run", UNITS)
    names = ["estimate", "std_error", "p_value", "p_adjusted", "conf_low", "conf_high", "n"]
    found, wanted = (one.result.estimates[names].to_numpy() for one in (again, outcome))
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


@pytest.mark.engines("sail")
@pytest.mark.parametrize(
    ("change", "method", "code", "key"),
    [
        (lambda f: f.assign(saw=f["saw"] * 2), {}, 3, "trigger_not_binary"),
        (lambda f: f.assign(saw=f["saw"].where(f["user"] > 5)), {}, 3, "trigger_not_binary"),
        (lambda f: f.assign(saw=0), {"interactions": []}, 1, "none_triggered"),
        (lambda f: f, {"interactions": ["user"], "unit": "key"}, 3, "too_many_other_arms"),
        (lambda f: f.assign(banner="red"), {}, 1, "no_other_arms"),
        (lambda f: f.assign(banner=np.where(f["arm"] == "new", f["banner"], "blue")), {}, 1, "no_shared_units"),
        (lambda f: f.drop(columns="saw"), {}, 2, "missing_column"),
    ],
)  # fmt: skip
def test_bad_input(
    spark, tmp_path, change: Callable[[pd.DataFrame], pd.DataFrame], method: dict, code: int, key: str
) -> None:
    frame = change(units_table(400).assign(key=np.arange(400)))
    with pytest.raises(CausalSparkError) as caught:
        run({"units": save(frame, tmp_path / "units")}, tmp_path / "run", {**UNITS, **method})
    assert (caught.value.exit_code, caught.value.key) == (code, key)
    if key in ("no_other_arms", "no_shared_units"):
        assert all("method.interactions" in caught.value.text(language) for language in LANGUAGES)  # the remedy
    assert not (tmp_path / "run" / "manifest.json").exists()


# switchbacks ----------------------------------------------------------------------------------------------------------

RIDES = {
    "unit": "ride", "arm": "arm", "control": "off", "time": "ts", "cluster_correction": "CR1",
    "shares": {"off": 0.5, "on": 0.5}, "switchback": {"region": "city", "hours": 6, "origin": "2026-01-05T03:00",
                                                      "burn_in": 45},
    "metrics": [{"name": "wait", "kind": "mean", "value": "wait", "scale": 10**9}],
}  # fmt: skip


def rides_table(n: int = 12_000, seed: int = 2, left_over: int = 0) -> pd.DataFrame:
    """Six cities switched every 6 hours from 03:00; the arm adds 1 to the wait, but only after half an hour.

    For ``left_over`` minutes of every period it is the arm of the period before that does.
    """
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"ride": np.arange(n), "city": rng.integers(0, 6, n)})
    at = rng.integers(3 * 3600, (3 + 24 * 30) * 3600, n)
    frame["ts"] = (START + pd.to_timedelta(at, unit="s")).astype("datetime64[us, UTC]")
    frame["period"] = (at - 3 * 3600) // (6 * 3600)
    frame["late"] = (at - 3 * 3600) % (6 * 3600) >= 45 * 60
    arms = rng.integers(0, 2, (6, 120))
    on = arms[frame["city"], frame["period"]]
    shock = rng.normal(0, 0.7, (6, 120))[frame["city"], frame["period"]]
    frame["arm"] = np.where(on == 1, "on", "off")
    acting = (at - 3 * 3600) % (6 * 3600) >= 30 * 60
    old = (at - 3 * 3600) % (6 * 3600) < left_over * 60
    on = np.where(old, arms[frame["city"], np.maximum(frame["period"] - 1, 0)], on)
    frame["wait"] = 8 + shock + rng.normal(size=n) + on * (acting | old)
    return frame


def by_stretch(rides: pd.DataFrame, burn_in: int) -> list[Stretch]:
    """The four stretches of 6 hours after the burn-in: cells by their arm and that of the city's period before."""
    seconds = (rides["ts"] - START - 3 * HOUR).dt.total_seconds() % (6 * 3600)
    rides = rides.assign(stretch=((seconds - burn_in * 60) * 4 // (6 * 3600 - burn_in * 60)).astype(int))
    arm = rides.groupby(["city", "period"])["arm"].first()
    sums = rides.groupby(["city", "period", "stretch"])["wait"].agg(["sum", "count"]).unstack(fill_value=0)
    sums = sums.reindex(arm.index)
    before = np.array([arm.get((city, period - 1)) for city, period in arm.index], object)
    found = []
    for i in range(4):
        rows = np.column_stack([sums[("sum", i)], sums[("count", i)]])
        cells = {
            (a, b): Moments.from_rows(["sum", "count"], rows[(arm == a).to_numpy() & (before == b)])
            for a, b in product(("on", "off"), repeat=2)
        }
        found.append(carry_over(cells, "on", "off", Form("sum", "count")))
    return found


def test_a_switchback_is_clustered_by_region_and_period(spark, engine, tmp_path) -> None:
    rides = rides_table()
    outcome = run({"units": save(rides, tmp_path / "rides", 3)}, tmp_path / "run", RIDES)
    kept = rides[rides["late"]]
    totals = kept.groupby(["arm", "city", "period"])["wait"].agg(["sum", "count"])
    t, c = (Moments.from_rows(["sum", "count"], totals.loc[arm].to_numpy(float)) for arm in ("on", "off"))
    estimate, error = cluster_difference(t, c, "sum", "count", "CR1", float(len(kept)))
    found = outcome.result.estimates.set_index("term").loc["difference"]
    assert found.method == "cluster"
    assert found.estimate == pytest.approx(estimate, rel=1e-8)  # sums of nine decimals
    assert found.std_error == pytest.approx(error, rel=1e-8)
    assert found.conf_low < 1 < found.conf_high
    assert found.n == len(kept)
    check = outcome.result.diagnostics["checks"].set_index("code").loc["BURN_IN"]
    assert (check["verdict"], check["count"]) == ("pass", len(rides) - len(kept))
    assert outcome.result.diagnostics["srm"]["n"].sum() == len(totals)
    assert_stretches(outcome.result.diagnostics["carryover"], by_stretch(kept, 45))
    assert verdict(outcome, "CARRY_OVER") == "pass"
    if engine == "sail":
        named = {**RIDES, "time": None, "switchback": {"region": "city", "period": "period"}}
        again = run({"units": save(kept, tmp_path / "kept")}, tmp_path / "again", named)
        pd.testing.assert_frame_equal(again.result.estimates, outcome.result.estimates, rtol=1e-9)
        assert "carryover" not in again.result.diagnostics  # no hours say which period follows which


def assert_stretches(table: pd.DataFrame, wanted: list[Stretch]) -> None:
    for row, stretch in zip(table.itertuples(), wanted, strict=True):
        found = (row.effect, row.effect_std_error, row.lag, row.std_error, row.p_value, row.n)
        effect, lag = stretch.effect, stretch.lag
        told = (effect.estimate, effect.std_error, lag.estimate, lag.std_error, lag.p_value, stretch.cells)
        assert found == pytest.approx(told, rel=1e-6)  # sums of nine decimals, and a p in the tail


@pytest.mark.engines("sail")
@pytest.mark.parametrize(
    ("left_over", "verdict_then", "told"), [(80, "pass", "burn_in to 90"), (350, "warn", "longer")]
)
def test_what_the_arm_before_leaves_over_is_found(spark, tmp_path, left_over, verdict_then, told) -> None:
    """80 of 360 minutes belong to the arm before: a burn-in of 90 mends it. 350 of them: none does."""
    rides = rides_table(left_over=left_over)
    table = save(rides, tmp_path / "rides", 2)
    for burn_in, expected in ((0, "warn"), (90, verdict_then)):
        method = {**RIDES, "switchback": {**RIDES["switchback"], "burn_in": burn_in}}
        outcome = run({"units": table}, tmp_path / str(burn_in), method)
        assert verdict(outcome, "CARRY_OVER") == expected
        if burn_in == 0:
            assert_stretches(outcome.result.diagnostics["carryover"], by_stretch(rides, 0))
            checks = outcome.result.diagnostics["checks"].set_index("code")
            assert told in checks.loc["CARRY_OVER", "message"]


@pytest.mark.engines("sail")
def test_what_asks_for_clusters_finds_the_cells_of_a_switchback(spark, tmp_path) -> None:
    """A bootstrap of rides instead of cells would give less than half the error; and a solved run is solved again."""
    method = {**RIDES, "bootstrap": {"replicates": 400, "buckets": 400}}
    outcome = run({"units": save(rides_table(), tmp_path / "rides")}, tmp_path / "run", method)
    errors = outcome.result.estimates.set_index(["term", "method"])["std_error"]["difference"]
    assert errors["bootstrap"] == pytest.approx(errors["cluster"], rel=0.25)
    again = job.resolve(outcome.manifest["path"], {"alpha": 0.2}, str(tmp_path / "again")).result.estimates
    assert again.set_index(["term", "method"])["std_error"]["difference"]["cluster"] == errors["cluster"]


@pytest.mark.engines("sail")
def test_periods_that_are_not_those_of_the_switch_are_refused(spark, tmp_path) -> None:
    """Cut at midnight, every cell holds both arms; and a time must be one."""
    table = save(rides_table(3_000), tmp_path / "rides")
    plan = {"region": "city", "hours": 6}
    with pytest.raises(CausalSparkError) as caught:
        run({"units": table}, tmp_path / "run", {**RIDES, "switchback": plan})
    assert caught.value.exit_code == 3
    assert "UNIT_IN_TWO_ARMS" in str(caught.value)
    for changes, key in (
        ({"time": "ride"}, "not_a_time"),
        ({"switchback": {**plan, "region": "town"}}, "missing_column"),
    ):
        with pytest.raises(ConfigError) as refused:
            run({"units": table}, tmp_path / "run", {**RIDES, **changes})
        assert refused.value.key == key


# trends over days -----------------------------------------------------------------------------------------------------


def test_the_trend_of_an_effect_over_the_days_since_exposure(spark, tmp_path) -> None:
    """Nine days make four stretches of two; units for which eight days are not over take no part."""
    made = shop_experiment(3_000, seed=5)
    end = START + 12 * DAY
    exposures, events = (table.to_pandas() for table in (made.exposures, made.events))
    exposures, events = exposures[exposures["ts"] < end], events[events["ts"] < end]
    inputs = {"exposures": save(exposures, tmp_path / "exposures"), "events": save(events, tmp_path / "events", 2)}
    method = {
        "unit": "user_id", "arm": "variant", "control": "control", "time": "ts", "by_day": 9, "as_of": end.isoformat(),
        "metrics": [
            {"name": "spent", "kind": "revenue", "value": "amount", "scale": 100},
            {"name": "viewed", "kind": "conversion", "where": [{"column": "type", "value": "view"}]},
            {"name": "rate", "kind": "ratio", "numerator": "amount", "denominator": "*"},
            {"name": "back", "kind": "retention", "days": [2, 4]},
        ],
    }  # fmt: skip
    found = run(inputs, tmp_path / "run", method).result.diagnostics["novelty"].set_index("outcome")
    assert found.index.tolist() == ["spent", "viewed"]
    first = exposures.sort_values("ts").groupby("user_id").first()
    grown = first[first["ts"] + 8 * DAY <= end]
    assert 0 < len(grown) < len(first)
    pairs = events.merge(first["ts"].rename("exposed"), left_on="user_id", right_index=True)
    stretch = (pairs["ts"] - pairs["exposed"]) // (2 * DAY)
    for name, values in (("spent", pairs["amount"].fillna(0)), ("viewed", pairs["type"] == "view")):
        sums = values.groupby([pairs["user_id"], stretch]).sum().unstack(fill_value=0)
        sums = sums.reindex(index=grown.index, columns=range(4), fill_value=0)
        sums = sums if name == "spent" else sums > 0
        slope = sums.to_numpy(float) @ (np.array([-1.5, -0.5, 0.5, 1.5]) / 5)
        t, c = (slope[grown["variant"] == arm] for arm in ("treatment", "control"))
        row = found.loc[name]
        assert row.slope == pytest.approx(t.mean() - c.mean(), rel=1e-8, abs=1e-12)
        assert row.p_value == pytest.approx(stats.ttest_ind(t, c, equal_var=False).pvalue, rel=1e-8)
        assert (row.n, row.stretches, row.stretch_days) == (len(grown), 4, 2)
