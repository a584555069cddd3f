"""Quantiles, ranks, resampling, adjustment and Bayes through the job, against numpy and scipy on the same rows."""

from __future__ import annotations

import json
import math
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats
from sklearn.ensemble import HistGradientBoostingRegressor

from causal_spark import job
from causal_spark.errors import ConfigError, StatisticError
from causal_spark.methods.experiment import Compressed, solve
from causal_spark.results import Result
from causal_spark.solve.assignment import salted
from causal_spark.solve.bootstrap import poisson_weights
from causal_spark.solve.multiplicity import adjust
from causal_spark.statistics.histogram import Histogram
from causal_spark.words import LANGUAGES, say

ARMS = ("control", "blue")
N = 4_000
SCALE = 1_000_000


def table(n: int = N) -> pd.DataFrame:
    """Skewed spend with a covariate, whole orders, a 0/1 column, clicks and views, villages of some forty units."""
    rng = np.random.default_rng(21)
    arm = rng.choice(ARMS, n, p=[0.55, 0.45])
    skill = rng.normal(size=n)
    village = rng.integers(0, 100, n)
    frame = pd.DataFrame({"user": np.arange(n), "arm": arm, "village": [f"v{i}" for i in village]})
    home = rng.normal(size=100)[village]
    frame["arm"] = frame["village"].map(lambda name: ARMS[int(name[1:]) % 2])
    shift = 0.15 * (frame["arm"] == "blue")
    frame["spend"] = np.round(np.exp(0.6 * skill + 0.5 * home + rng.normal(size=n) + shift), 6)
    frame["refund"] = frame["spend"] - 3.0
    frame["orders"] = rng.poisson(2 + shift.to_numpy() * 2)
    frame["spend_pre"] = np.exp(0.6 * skill)
    frame["age"] = rng.integers(18, 70, n)
    frame["converted"] = (rng.random(n) < 0.3 + shift / 3).astype(int)
    frame["views"] = rng.poisson(5, n) + 1
    frame["clicks"] = rng.binomial(frame["views"], 0.3)
    frame["country"] = rng.choice(["CN", "DE", "US"], n, p=[0.5, 0.3, 0.2])
    frame["spend"] += 0.4 * (frame["country"] == "DE")
    return frame


ROWS = table()


EVERYWHERE = ("every_pass",)


def only_on_sail(engine: str) -> None:
    if engine != "sail":
        pytest.skip(
            "a run of its own, where each stage costs a second; one run of every pass is compared on each engine"
        )


@pytest.fixture(autouse=True)
def chosen(request, engine) -> None:
    """On the slower engines only the test named above, and those that run nothing."""
    if "spark" in request.fixturenames and not any(word in request.function.__name__ for word in EVERYWHERE):
        only_on_sail(engine)


def write(folder: Path, frame: pd.DataFrame, files: int = 1) -> Path:
    folder.mkdir(parents=True)
    for i in range(files):
        part = pa.Table.from_pandas(frame.iloc[i::files], preserve_index=False)
        pq.write_table(part, folder / f"{i}.parquet")
    return folder


def run(folder: Path, metrics: list[dict[str, Any]], frame: pd.DataFrame = ROWS, files: int = 1, **method: Any) -> Any:
    units = write(folder / "units", frame, files)
    config = {
        "job": "experiment", "input": {"units": {"table": str(units)}},
        "method": {"unit": "user", "arm": "arm", "control": "control", "metrics": metrics,
                   "shares": {"control": 0.5, "blue": 0.5}, **method},
        "output": {"path": str(folder / "run")}, "tracking": {"enabled": False},
    }  # fmt: skip
    return job.run(config, "experiment")


def row(result: Result, outcome: str, term: str, method: str, segment: str = "all") -> pd.Series:
    found = result.estimates
    mine = (found["outcome"] == outcome) & (found["term"] == term) & (found["method"] == method)
    (one,) = [each for _, each in found[mine & (found["segment"] == segment)].iterrows()]
    return one


def values(column: str, arm: str) -> np.ndarray:
    return ROWS[ROWS["arm"] == arm][column].to_numpy(float)


# quantiles and ranks --------------------------------------------------------------------------------------------------

VALUES = [
    {"name": "spend", "kind": "revenue", "value": "spend", "quantiles": [0.5, 0.9], "ranks": True, "winsorize": 0.95},
    {"name": "refund", "kind": "mean", "value": "refund", "quantiles": [0.25]},
    {"name": "orders", "kind": "count", "value": "orders", "quantiles": [0.75], "ranks": True},
]


@pytest.fixture(scope="module")
def exact(spark, engine, tmp_path_factory) -> Any:
    only_on_sail(engine)
    return run(tmp_path_factory.mktemp("exact"), VALUES)


def order_statistic(sorted_values: np.ndarray, share: float) -> float:
    rank = min(max(math.ceil(share * len(sorted_values) - 1e-9), 1), len(sorted_values))
    return float(sorted_values[rank - 1])


@pytest.mark.parametrize(("outcome", "q"), [("spend", 0.5), ("spend", 0.9), ("refund", 0.25), ("orders", 0.75)])
def test_quantiles_are_order_statistics_with_their_bounds(exact, outcome, q) -> None:
    """Woodruff by hand: bounds at q ± 1.96·√(q(1 - q)/n), standard error their distance over 2·1.96; Zou & Donner."""
    z, estimate, variance, ends = stats.norm.isf(0.025), {}, {}, {}
    for arm in ARMS:
        x = np.sort(values(outcome, arm))
        half = z * math.sqrt(q * (1 - q) / len(x))
        estimate[arm] = order_statistic(x, q)
        ends[arm] = order_statistic(x, q - half), order_statistic(x, q + half)
        variance[arm] = ((ends[arm][1] - ends[arm][0]) / (2 * z)) ** 2
        assert estimate[arm] == np.quantile(x, q, method="inverted_cdf")
    found = row(exact.result, outcome, f"p{100 * q:g} difference", "quantile")
    gap = estimate["blue"] - estimate["control"]
    assert found.estimate == pytest.approx(gap, rel=1e-12, abs=1e-12)
    error = math.sqrt(sum(variance.values()))
    if error:
        assert found.std_error == pytest.approx(error, rel=1e-9)
        t, c = ends["blue"], ends["control"]
        down = math.hypot(estimate["blue"] - t[0], c[1] - estimate["control"])
        up = math.hypot(t[1] - estimate["blue"], estimate["control"] - c[0])
        assert found.conf_low == pytest.approx(gap - down, rel=1e-9)
        assert found.conf_high == pytest.approx(gap + up, rel=1e-9)
        toward = (down if gap > 0 else up) / z
        assert found.p_value == pytest.approx(2 * stats.norm.sf(abs(gap) / toward), rel=1e-9)
    assert (found.estimand, found.n) == ("QTE", N)
    lift = row(exact.result, outcome, f"p{100 * q:g} lift", "quantile")
    assert lift.estimate == pytest.approx(estimate["blue"] / estimate["control"] - 1, rel=1e-12)


def test_ranks_are_those_of_scipy(exact) -> None:
    for outcome in ("spend", "orders"):
        t, c = (values(outcome, arm) for arm in ("blue", "control"))
        wanted = stats.mannwhitneyu(t, c, use_continuity=False, method="asymptotic")
        found = row(exact.result, outcome, "superiority", "mann_whitney")
        assert found.estimate == pytest.approx(wanted.statistic / len(t) / len(c), rel=1e-12)
        assert found.p_value == pytest.approx(wanted.pvalue, rel=1e-9)
        assert found.conf_low < found.estimate < found.conf_high


def test_the_effects_on_means_are_as_without(exact) -> None:
    """Further methods have families of their own, and the report shows them in sections of their own."""
    found = exact.result.estimates
    for method, terms in (("quantile", "difference"), ("mann_whitney", "superiority")):
        mine = found[(found["method"] == method) & found["term"].str.endswith(terms)]
        np.testing.assert_allclose(mine["p_adjusted"], adjust(mine["p_value"].tolist(), "holm"), rtol=1e-12)
    lift, gap = (row(exact.result, "spend", f"p90 {term}", "quantile") for term in ("lift", "difference"))
    assert lift.p_adjusted == gap.p_adjusted
    means = found[found["method"] == "welch"].drop_duplicates("outcome")
    np.testing.assert_allclose(means["p_adjusted"], adjust(means["p_value"].tolist(), "holm"), rtol=1e-12)
    text = (Path(exact.manifest["path"]) / "report.html").read_text()
    assert "Effects on quantiles" in text
    assert "Mann–Whitney test" in text


@pytest.mark.parametrize("files", [2, 7])
def test_files_change_no_quantile(spark, exact, tmp_path, files) -> None:
    again = run(tmp_path, VALUES, ROWS.sample(frac=1, random_state=files), files)
    assert_equal(again.result, exact.result, ["quantile", "mann_whitney"])


def assert_equal(found: Result, wanted: Result, methods: list[str], rtol: float = 0.0) -> None:
    keys = ["outcome", "segment", "contrast", "term", "method"]
    left, right = (
        frame[frame["method"].isin(methods)].sort_values(keys).reset_index(drop=True)
        for frame in (found.estimates, wanted.estimates)
    )
    assert len(left)
    pd.testing.assert_frame_equal(left[[*keys, "note"]], right[[*keys, "note"]])
    for name in ("estimate", "std_error", "p_value", "conf_low", "conf_high", "n"):
        np.testing.assert_allclose(left[name], right[name], rtol=rtol, atol=0, equal_nan=True, err_msg=name)


def test_resolve_needs_no_table(exact) -> None:
    text = (Path(exact.manifest["path"]) / "statistics.json").read_text()
    method = job.validate(
        {"job": "experiment", "input": {"units": {"table": "none"}}, "method": exact.manifest["method"],
         "output": {"path": "none-run"}}, "experiment"
    ).method  # fmt: skip
    assert_equal(solve(method, Compressed.from_json(text)), exact.result, ["quantile", "mann_whitney"])


def test_a_coarse_histogram_states_its_resolution(spark, exact, tmp_path) -> None:
    """Cells narrower than 2⁻⁸ of the value: both quantiles lie in one, and the test of ranks hardly moves."""
    coarse = run(tmp_path, VALUES[:2], exact_values=100, histogram_bits=8)
    sizes = coarse.result.diagnostics["quantiles"]
    assert (sizes["resolution"] > 0).all()
    assert (sizes["resolution"] <= sizes["estimate"].abs() * 2.0**-9 + 1e-6).all()
    fine = exact.result.diagnostics["quantiles"]
    both = sizes.merge(fine, on=["outcome", "arm", "quantile"])
    assert ((both["estimate_x"] - both["estimate_y"]).abs() <= 2 * both["resolution_x"] + 1e-9).all()
    assert "±" in row(coarse.result, "spend", "p50 difference", "quantile").note
    found, wanted = (row(r.result, "spend", "superiority", "mann_whitney") for r in (coarse, exact))
    assert found.estimate == pytest.approx(wanted.estimate, abs=1e-4)
    assert "±" in found.note


def test_cells_are_those_of_numpy(spark, exact, tmp_path) -> None:
    """The engine's shifts and numpy's give one histogram, negative values too: D9's exactness, at 8 bits."""

    coarse = run(tmp_path, VALUES[1:2], exact_values=100, histogram_bits=8)
    text = (Path(coarse.manifest["path"]) / "statistics.json").read_text()
    for arm, data in json.loads(text)["more"]["histograms"]["refund"]["arms"].items():
        wanted = Histogram.from_integers(np.round(values("refund", arm) * SCALE).astype(np.int64), 8, SCALE)
        assert data == wanted.to_dict()


def test_clusters_widen_a_quantile(spark, exact, tmp_path) -> None:
    """D8: the variance of the share below is that over villages, so the clustered error is the larger one."""
    found = run(tmp_path, [{**VALUES[0], "ranks": False}], cluster="village")
    arms = found.result.diagnostics["quantiles"].set_index(["outcome", "arm", "quantile"])
    z = stats.norm.isf(0.025)
    for arm in ARMS:
        x = np.sort(values("spend", arm))
        median = order_statistic(x, 0.5)
        mine = ROWS[ROWS["arm"] == arm]
        villages = mine.assign(below=mine["spend"] <= median).groupby("village")
        sums = villages.agg(b=("below", "sum"), n=("below", "size"))
        share = sums["b"].sum() / sums["n"].sum()
        residual = (sums["b"] - share * sums["n"]) / sums["n"].mean()
        half = z * math.sqrt(residual.var(ddof=1) / len(sums))
        error = (order_statistic(x, 0.5 + half) - order_statistic(x, 0.5 - half)) / (2 * z)
        assert arms.loc[("spend", arm, 0.5)].std_error == pytest.approx(error, rel=1e-9)
    wide, narrow = (row(r.result, "spend", "p50 difference", "quantile") for r in (found, exact))
    assert wide.estimate == narrow.estimate
    assert wide.std_error > 1.5 * narrow.std_error


def test_a_quantile_of_too_few_clusters_says_so(spark, tmp_path) -> None:
    """Six stores an arm, one of them with thirty times the spend: nothing bounds the p95, while the median is known."""
    store = ROWS["village"].map(lambda name: int(name[1:]) % 12)
    frame = ROWS.assign(store=store.map(str), spend=ROWS["spend"] * np.where(store < 2, 30, 1))
    metrics = [{"name": "spend", "kind": "revenue", "value": "spend", "quantiles": [0.5, 0.95]}]
    result = run(tmp_path, metrics, frame, cluster="store").result
    many, few = (row(result, "spend", f"{p} difference", "quantile") for p in ("p50", "p95"))
    assert few.note == say("note_quantile_few_clusters", "en", arms="blue, control")
    assert math.isfinite(few.estimate) and math.isnan(few.p_value)
    assert many.std_error > 0 and "clusters" not in many.note


def test_a_quantile_of_too_few_units_says_how_many_it_needs(spark, tmp_path) -> None:
    """p99 needs 381 units; a metric that is the same for all has no test of its quantile."""
    few = ROWS.head(600).assign(same=1)
    metrics = [
        {"name": "spend", "kind": "mean", "value": "spend", "quantiles": [0.99, 0.5]},
        {"name": "same", "kind": "count", "value": "same", "quantiles": [0.5]},
    ]
    result = run(tmp_path, metrics, few, shares=None).result
    found = row(result, "spend", "p99 difference", "quantile")
    assert math.isnan(found.estimate)
    assert "at least 381" in found.note
    assert row(result, "spend", "p50 difference", "quantile").std_error > 0
    tied = row(result, "same", "p50 difference", "quantile")
    assert (tied.estimate, math.isnan(tied.p_value)) == (0.0, True)
    assert "all equal" in tied.note


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"quantiles": [1.0]}, "between 0 and 1"),
        ({"quantiles": [0.5, -0.1]}, "between 0 and 1"),
        ({"quantiles": [0.5], "kind": "proportion"}, "no values of units"),
        ({"ranks": True, "kind": "conversion"}, "no values of units"),
    ],
)
def test_metrics_that_cannot_have_quantiles(change, words) -> None:
    with pytest.raises(ConfigError, match=words):
        validated({"name": "m", "kind": "mean", "value": "spend", **change})


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ({"histogram_bits": 3}, "from 4 to 20"),
        ({"exact_values": 0}, "from 1 to"),
        ({"cluster": "village"}, "independent"),
    ],
)
def test_settings_of_histograms(method, words) -> None:
    with pytest.raises(ConfigError, match=words):
        validated({"name": "m", "kind": "mean", "value": "spend", "ranks": True}, **method)


def validated(metric: dict[str, Any], **method: Any) -> Any:
    data = {
        "job": "experiment", "input": {"units": {"table": "units"}}, "output": {"path": "run"},
        "method": {"unit": "user", "arm": "arm", "control": "control", "metrics": [metric], **method},
    }  # fmt: skip
    return job.validate(data, "experiment").method


# Bayes ----------------------------------------------------------------------------------------------------------------


def hundreds() -> pd.DataFrame:
    """R12: 49 of 100 and 51 of 100."""
    arm = np.repeat(ARMS, 100)
    ones = np.concatenate([np.arange(100) < 49, np.arange(100) < 51]).astype(int)
    return pd.DataFrame({"user": np.arange(200), "arm": arm, "converted": ones})


SHARE = [{"name": "converted", "kind": "proportion", "value": "converted"}]


@pytest.fixture(scope="module")
def flat(spark, engine, tmp_path_factory) -> Any:
    only_on_sail(engine)
    return run(tmp_path_factory.mktemp("flat"), SHARE, hundreds(), bayes={})


def posterior(result: Result, term: str, method: str = "normal") -> pd.Series:
    found = result.diagnostics["bayes"]
    return found[(found["term"] == term) & (found["method"] == method)].iloc[0]


def test_r12_flat_prior_through_the_job(flat) -> None:
    """49/100 against 51/100: lift .04082, sd .14725, P(win) .60918, to the digits printed."""
    found = posterior(flat.result, "lift")
    assert (round(found["mean"], 5), round(found["std_dev"], 5), round(found["p_win"], 5)) == (
        0.04082,
        0.14725,
        0.60918,
    )
    beta = posterior(flat.result, "difference", "beta_binomial")
    draws = np.random.default_rng(1).beta([52, 50], [50, 52], (400_000, 2))
    gap = draws[:, 0] - draws[:, 1]
    assert beta["p_win"] == pytest.approx((gap > 0).mean(), abs=4 * 0.5 / math.sqrt(400_000))
    assert beta["cred_low"] == pytest.approx(np.quantile(gap, 0.025), abs=0.002)
    assert beta["loss_control"] == pytest.approx(np.maximum(gap, 0).mean(), rel=0.01)


def test_d7_the_prior_of_the_lift_moves_with_the_scale(flat, tmp_path) -> None:
    """On the difference it is multiplied by the control mean .49; solved again without a table."""
    again = job.resolve(
        flat.manifest["path"], {"bayes": {"prior_sd": 0.1, "prior_mean": 0.02}}, str(tmp_path / "again")
    )
    error = row(flat.result, "converted", "difference", "z").std_error
    prior, share = 0.1 * 0.49, (0.1 * 0.49) ** 2 / ((0.1 * 0.49) ** 2 + error**2)
    found = posterior(again.result, "difference")
    assert found["mean"] == pytest.approx(share * 0.02 + (1 - share) * 0.02 * 0.49, rel=1e-12)
    assert found["std_dev"] == pytest.approx(math.sqrt(share) * error, rel=1e-12)
    assert found["std_dev"] < prior
    assert "In terms of chances" in (tmp_path / "again" / "report.html").read_text()


@pytest.mark.parametrize(
    ("bayes", "words"),
    [
        ({"prior_sd": 0.0}, "prior_sd"),
        ({"beta": [1.0]}, "two numbers above 0"),
        ({"beta": [0.0, 1.0]}, "two numbers above 0"),
        ({"prior_mean": math.inf}, "prior_mean"),
    ],
)
def test_priors_that_cannot_be(bayes, words) -> None:
    with pytest.raises(ConfigError, match=words):
        validated(SHARE[0], bayes=bayes)


# bootstrap and jackknife ----------------------------------------------------------------------------------------------

RESAMPLED = [
    {"name": "spend", "kind": "revenue", "value": "spend", "quantiles": [0.5]},
    {"name": "lean", "kind": "mean", "value": "refund", "covariates": ["spend_pre", "age"]},
    {"name": "ctr", "kind": "ratio", "numerator": "clicks", "denominator": "views"},
]


@pytest.fixture(scope="module")
def resampled(spark, engine, tmp_path_factory) -> Any:
    only_on_sail(engine)
    folder = tmp_path_factory.mktemp("resampled")
    return run(folder, RESAMPLED, bootstrap={"replicates": 400, "buckets": 500})


@cache
def places(count: int) -> np.ndarray:
    """The bucket of each user, by the documented hash in plain Python."""
    hashes = (salted(str(user), "bootstrap") for user in ROWS["user"])
    return np.array([value % count for value in hashes])


def totals(columns: list[str], arm: str, count: int) -> np.ndarray:
    mine = (ROWS["arm"] == arm).to_numpy()
    table = np.column_stack([np.ones(N), ROWS[columns].to_numpy(float)])[mine]
    return np.column_stack([np.bincount(places(count)[mine], column, count) for column in table.T])


def test_bootstrap_is_that_of_the_same_weights_in_numpy(resampled) -> None:
    again = {}
    for place, arm in enumerate(ARMS):
        again[arm] = poisson_weights(np.arange(500), 400, 7 + place).T @ totals(["spend", "clicks", "views"], arm, 500)
    means = {arm: found[:, 1] / found[:, 0] for arm, found in again.items()}
    ratios = {arm: found[:, 2] / found[:, 3] for arm, found in again.items()}
    for outcome, values_ in (("spend", means), ("ctr", ratios)):
        found, lift = (row(resampled.result, outcome, term, "bootstrap") for term in ("difference", "lift"))
        gaps, lifts = values_["blue"] - values_["control"], values_["blue"] / values_["control"] - 1
        assert found.std_error == pytest.approx(gaps.std(ddof=1), rel=1e-9)
        assert (found.conf_low, found.conf_high) == pytest.approx(tuple(np.quantile(gaps, [0.025, 0.975])), rel=1e-9)
        assert (lift.conf_low, lift.conf_high) == pytest.approx(tuple(np.quantile(lifts, [0.025, 0.975])), rel=1e-9)


@pytest.mark.parametrize(("outcome", "main"), [("spend", "welch"), ("lean", "cuped"), ("ctr", "delta")])
def test_bootstrap_agrees_with_theory(resampled, outcome, main) -> None:
    """R13: 400 replicates and 500 buckets leave √(1/800 + 1/1000) = 4.7 % of the standard error; four of it."""
    for term in ("difference", "lift"):
        ours, theirs = (row(resampled.result, outcome, term, method) for method in ("bootstrap", main))
        assert ours.estimate == pytest.approx(theirs.estimate, rel=1e-9)
        assert ours.std_error == pytest.approx(theirs.std_error, rel=0.19)
        assert ours.n == theirs.n


def test_bootstrap_of_a_quantile_agrees_with_woodruff(resampled) -> None:
    """Both read the same order statistics; their standard errors differ by the local density, some 15 %."""
    ours, theirs = (row(resampled.result, "spend", "p50 difference", method) for method in ("bootstrap", "quantile"))
    assert ours.estimate == theirs.estimate
    assert ours.std_error == pytest.approx(theirs.std_error, rel=0.25)


def test_jackknife_of_clusters_equals_numpy(spark, tmp_path) -> None:
    """Whole villages are left out together; against the cluster-robust error within its own noise of 1/√(2·50)."""
    asked = {"method": "jackknife", "buckets": 100, "metrics": ["spend"]}
    found = run(tmp_path, RESAMPLED[:1], cluster="village", bootstrap=asked)
    bucket = np.array([salted(v, "bootstrap") % 100 for v in ROWS["village"]])
    means = {}
    for arm in ARMS:
        mine = (ROWS["arm"] == arm).to_numpy()
        sums, sizes = (np.bincount(bucket[mine], w, 100) for w in (ROWS["spend"][mine], np.ones(mine.sum())))
        means[arm] = (sums.sum() - sums) / (sizes.sum() - sizes)
    gaps = means["blue"] - means["control"]
    gaps = gaps[np.unique(bucket)]  # a bucket without a village is no part of the sample
    error = math.sqrt((1 - 1 / len(gaps)) * ((gaps - gaps.mean()) ** 2).sum())
    ours = row(found.result, "spend", "difference", "jackknife")
    assert ours.dof == len(gaps) - 1 < 99
    assert ours.std_error == pytest.approx(error, rel=1e-9)
    assert ours.std_error == pytest.approx(row(found.result, "spend", "difference", "cluster").std_error, rel=0.4)
    assert not (found.result.estimates["method"] == "bootstrap").any()


@pytest.mark.parametrize("files", [2, 7])
def test_files_change_no_replicate(spark, resampled, tmp_path, files) -> None:
    asked = {"replicates": 400, "buckets": 500}
    again = run(tmp_path, RESAMPLED, ROWS.sample(frac=1, random_state=files), files, bootstrap=asked)
    assert_equal(again.result, resampled.result, ["bootstrap"], rtol=1e-9)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"replicates": 10}, "from 50"),
        ({"buckets": 10}, "from 50"),
        ({"metrics": ["convertd"]}, "converted"),
    ],
)
def test_settings_of_the_bootstrap(asked, words) -> None:
    with pytest.raises(ConfigError, match=words):
        validated(SHARE[0], bootstrap=asked)


def test_the_bootstrap_of_a_quantile_needs_as_many_units(spark, tmp_path) -> None:
    metrics = [{"name": "spend", "kind": "mean", "value": "spend", "quantiles": [0.999, 0.5]}]
    asked = {"replicates": 50, "buckets": 50}
    result = run(tmp_path, metrics, bootstrap=asked, exact_values=100, histogram_bits=8).result
    found = row(result, "spend", "p99.9 difference", "bootstrap")
    assert math.isnan(found.estimate)
    assert "at least 3838" in found.note
    assert "±" in row(result, "spend", "p50 difference", "bootstrap").note
    text = (tmp_path / "run" / "report.html").read_text()
    assert "bootstrap" in text


# adjustment -----------------------------------------------------------------------------------------------------------

ADJUSTED = [
    {"name": "spend", "kind": "revenue", "value": "spend", "covariates": ["spend_pre", "age"]},
    {"name": "gap", "kind": "mean", "value": "hole", "covariates": ["spend_pre"], "nulls": "drop"},
    {"name": "ctr", "kind": "ratio", "numerator": "clicks", "denominator": "views",
     "covariates": [{"numerator": "age", "denominator": "views"}]},
]  # fmt: skip


def holes() -> pd.DataFrame:
    hole = ROWS["spend"].where(np.arange(N) % 7 > 0)
    return ROWS.assign(hole=hole)


@pytest.fixture(scope="module")
def lin(spark, engine, tmp_path_factory) -> Any:
    only_on_sail(engine)
    return run(tmp_path_factory.mktemp("lin"), ADJUSTED, holes(), adjustment="lin", segments=["country"])


def interacted(frame: pd.DataFrame, y: str, x: list[str]) -> Any:
    """The fully interacted regression by statsmodels, covariates centred at the mean of both arms."""
    import statsmodels.api as sm

    whole = frame.dropna(subset=[y])
    t, d = (whole["arm"] == "blue").to_numpy(float), (whole[x] - whole[x].mean()).to_numpy(float)
    return sm.OLS(whole[y].to_numpy(), np.column_stack([np.ones(len(t)), t, d, d * t[:, None]]))


@pytest.mark.parametrize(
    ("outcome", "y", "x"), [("spend", "spend", ["spend_pre", "age"]), ("gap", "hole", ["spend_pre"])]
)
@pytest.mark.parametrize("kind", ["HC2", "HC3"])
def test_lin_is_the_interacted_regression(lin, tmp_path, outcome, y, x, kind) -> None:
    result = (
        lin.result if kind == "HC2" else job.resolve(lin.manifest["path"], {"hc": kind}, str(tmp_path / "r")).result
    )
    wanted = interacted(holes(), y, x).fit(cov_type=kind)
    found = row(result, outcome, "difference", "lin")
    assert found.estimate == pytest.approx(wanted.params[1], rel=1e-9)
    assert found.std_error == pytest.approx(wanted.bse[1], rel=1e-8)


def test_lin_leads_and_the_plain_row_follows(lin) -> None:
    found = lin.result.estimates
    spend = found[(found["outcome"] == "spend") & (found["segment"] == "all") & (found["term"] == "difference")]
    assert spend["method"].tolist() == ["lin", "welch"]
    assert spend["p_adjusted"].notna().tolist() == [True, False]
    assert set(found[found["outcome"] == "ctr"]["method"]) == {"cuped", "delta"}
    part = found[(found["segment"] == "country=DE") & (found["method"] == "lin") & (found["term"] == "difference")]
    assert not part["note"].str.contains("equal").any()
    mine = ROWS[ROWS["country"] == "DE"]
    wanted = interacted(mine, "spend", ["spend_pre", "age"]).fit(cov_type="HC2")
    found = part.set_index("outcome").loc["spend"]
    assert (found.estimate, found.std_error) == pytest.approx((wanted.params[1], wanted.bse[1]), rel=1e-8)


@pytest.mark.parametrize("files", [7])
def test_files_change_no_adjustment(spark, lin, tmp_path, files) -> None:
    shuffled = holes().sample(frac=1, random_state=files)
    again = run(tmp_path, ADJUSTED, shuffled, files, adjustment="lin", segments=["country"])
    assert_equal(again.result, lin.result, ["lin", "cuped"], rtol=1e-9)


def test_post_stratification_by_hand(spark, tmp_path) -> None:
    metrics = [{"name": "spend", "kind": "revenue", "value": "spend"}, {**ADJUSTED[0], "name": "lean"}, *SHARE]
    result = run(tmp_path, metrics, strata="country").result
    estimate, variance = {}, {}
    share = ROWS["country"].value_counts(normalize=True)
    for arm in ARMS:
        parts = ROWS[ROWS["arm"] == arm].groupby("country")["spend"]
        estimate[arm] = (share * parts.mean()).sum()
        variance[arm] = (share**2 * parts.var(ddof=1) / parts.size()).sum()
    found = row(result, "spend", "difference", "strata")
    assert found.estimate == pytest.approx(estimate["blue"] - estimate["control"], rel=1e-9)
    assert found.std_error == pytest.approx(math.sqrt(sum(variance.values())), rel=1e-9)
    assert found.p_adjusted > 0
    plain, both = row(result, "lean", "difference", "welch"), row(result, "lean", "difference", "cuped_strata")
    assert both.std_error < plain.std_error
    assert row(result, "converted", "lift", "strata").std_error > 0


def test_cupac_by_hand(spark, tmp_path) -> None:
    """Five folds by hash, least squares within arms on the other four, then the analysis of covariance."""
    metrics = [{"name": "spend", "kind": "revenue", "value": "spend", "cupac": ["spend_pre", "age", "views"]}]
    outcome = run(tmp_path, metrics)
    fold = np.array([salted(str(user), "cupac") % 5 for user in ROWS["user"]])
    x, y = ROWS[["spend_pre", "age", "views"]].to_numpy(float), ROWS["spend"].to_numpy()
    blue = (ROWS["arm"] == "blue").to_numpy(float)
    prediction = np.zeros(N)
    for k in range(5):
        train = fold != k
        design = np.column_stack([1 - blue, blue, x])[train]
        slope = np.linalg.lstsq(design, y[train], rcond=None)[0][2:]
        prediction[~train] = y[train].mean() + (x[~train] - x[train].mean(axis=0)) @ slope
    design = np.column_stack([1 - blue, blue, prediction])
    wanted = np.linalg.lstsq(design, y, rcond=None)[0]
    found = row(outcome.result, "spend", "difference", "cupac")
    assert found.estimate == pytest.approx(wanted[1] - wanted[0], rel=1e-9)
    assert found.std_error < row(outcome.result, "spend", "difference", "welch").std_error
    assert outcome.result.diagnostics["cuped"]["variance_reduction"].iloc[0] > 0.02


def curved(n: int = 1_500, seed: int = 31) -> pd.DataFrame:
    """An outcome that depends on what is known before, but in no straight line: a valley, and a slope that turns."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"user": np.arange(n), "arm": rng.choice(ARMS, n), "a": rng.normal(size=n)})
    frame["b"] = rng.choice([-1.0, 1.0, np.nan], n)
    frame["spend"] = frame["a"] ** 2 + 2 * frame["a"] * frame["b"].fillna(0) + rng.normal(0, 0.5, n)
    frame["spend"] += 0.2 * (frame["arm"] == "blue")
    return frame


def by_trees(frame: pd.DataFrame) -> np.ndarray:
    """Five folds by hash, each predicted by trees of the others whose arms were moved to one mean."""
    keys = [str(user) for user in frame["user"]]
    frame = frame.iloc[np.argsort([salted(key, "cupac:sample") for key in keys], kind="stable")]
    fold = np.array([salted(str(user), "cupac") % 5 for user in frame["user"]])
    prediction = pd.Series(0.0, index=frame.index)
    for k in range(5):
        train = frame[(fold != k) & frame["spend"].notna()]
        target = train["spend"] - train.groupby("arm")["spend"].transform("mean") + train["spend"].mean()
        model = HistGradientBoostingRegressor(random_state=0).fit(train[["a", "b"]].to_numpy(float), target)
        prediction[fold == k] = model.predict(frame.loc[fold == k, ["a", "b"]].to_numpy(float))
    return prediction.sort_index().to_numpy()


def test_boosted_cupac_by_hand_where_a_line_finds_nothing(spark, tmp_path) -> None:
    """Least squares on the same columns cuts the variance by nothing, trees by more than half; a missing outcome takes
    no part. The estimate is the analysis of covariance on the out-of-fold prediction."""
    frame = curved()
    frame["spend"] = frame["spend"].where(frame["user"] % 11 > 0)
    metric = {"kind": "mean", "value": "spend", "cupac": ["a", "b"], "nulls": "drop"}
    metrics = [{**metric, "name": "line"}, {**metric, "name": "trees", "cupac_model": "boosted"}]
    result = run(tmp_path, metrics, frame, 3).result
    cut = result.diagnostics["cuped"].set_index("outcome")["variance_reduction"]
    assert cut["line"] < 0.02 and cut["trees"] > 0.5
    found = row(result, "trees", "difference", "cupac")
    assert found.conf_low < 0.2 < found.conf_high
    there = frame["spend"].notna().to_numpy()
    x, y = by_trees(frame)[there], frame["spend"].to_numpy()[there]
    arm = (frame["arm"] == "blue").to_numpy()[there]
    inner = sum(np.cov(x[arm == i], y[arm == i]) * ((arm == i).sum() - 1) for i in (0, 1))
    parts = [(y - inner[0, 1] / inner[0, 0] * x)[arm == i] for i in (1, 0)]
    assert found.estimate == pytest.approx(parts[0].mean() - parts[1].mean(), rel=1e-6)
    assert found.std_error == pytest.approx(math.sqrt(sum(p.var(ddof=1) / len(p) for p in parts)), rel=1e-6)
    assert found.n == there.sum()


def test_trees_need_units_and_their_package(spark, tmp_path, monkeypatch) -> None:
    metrics = [{"name": "m", "kind": "mean", "value": "spend", "cupac": ["a"], "cupac_model": "boosted"}]
    with pytest.raises(StatisticError, match="cupac_model: linear"):
        run(tmp_path / "few", metrics, curved(2).assign(arm=list(ARMS)))
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.raises(ConfigError) as caught:
        run(tmp_path / "none", metrics, curved(200))
    for language in LANGUAGES:
        told = caught.value.text(language)
        assert "method.metrics[m].cupac_model" in told and "linear" in told and "scikit-learn" in told
    with pytest.raises(ConfigError, match="cupac names none"):
        validated({"name": "m", "kind": "mean", "value": "spend", "cupac_model": "boosted"})


def test_strata_of_one_arm_are_merged(spark, tmp_path) -> None:
    """A column that tells the arms apart leaves one stratum, so nothing is reweighted."""
    result = run(tmp_path, [{"name": "spend", "kind": "mean", "value": "spend"}], strata="arm").result
    found, plain = (row(result, "spend", "difference", method) for method in ("strata", "welch"))
    assert (found.estimate, found.std_error) == pytest.approx((plain.estimate, plain.std_error), rel=1e-9)


@pytest.mark.parametrize(
    ("metric", "method", "words"),
    [
        ({}, {"adjustment": "lin", "cluster": "village"}, "method.cluster"),
        ({}, {"adjustment": "lin", "strata": "country"}, "method.strata"),
        ({}, {"strata": "country", "cluster": "village"}, "independent"),
        ({"cupac": ["age"], "covariates": ["age"]}, {}, "covariates"),
        ({"cupac": ["age"]}, {"strata": "country"}, "method.strata"),
        ({"cupac": ["age"]}, {"cluster": "village"}, "method.cluster"),
    ],
)
def test_adjustments_that_do_not_go_together(metric, method, words) -> None:
    with pytest.raises(ConfigError, match=words):
        validated({"name": "m", "kind": "mean", "value": "spend", **metric}, **method)


def test_every_pass_on_this_engine(spark, tmp_path) -> None:
    """One run with coarse histograms, buckets and leverage gives the numbers of numpy, in a segment too."""
    metrics = [
        {"name": "refund", "kind": "mean", "value": "refund", "quantiles": [0.5]},
        {**ADJUSTED[0], "name": "lean"},
    ]  # fmt: skip
    asked = {"replicates": 100, "buckets": 200, "metrics": ["refund"]}
    settings = {"exact_values": 100, "histogram_bits": 8, "segments": ["country"]}
    outcome = run(tmp_path, metrics, adjustment="lin", bootstrap=asked, **settings)
    kept = json.loads((Path(outcome.manifest["path"]) / "statistics.json").read_text())["more"]
    for segment, mine in (("all", np.full(N, True)), ("country=DE", (ROWS["country"] == "DE").to_numpy())):
        again = []
        for place, arm in enumerate(ARMS):
            rows = mine & (ROWS["arm"] == arm).to_numpy()
            data = kept["histograms"]["refund"]
            data = data if segment == "all" else data["segments"][segment]
            x = ROWS["refund"].to_numpy()[rows]
            wanted = Histogram.from_integers(np.round(x * SCALE).astype(np.int64), 8, SCALE)
            assert data["arms"][arm] == wanted.to_dict()
            sums, sizes = (np.bincount(places(200)[rows], w, 200) for w in (x, np.ones(len(x))))
            again.append(np.divide(*(poisson_weights(np.arange(200), 100, 7 + place).T @ w for w in (sums, sizes))))
        found = row(outcome.result, "refund", "difference", "bootstrap", segment)
        assert found.std_error == pytest.approx((again[1] - again[0]).std(ddof=1), rel=1e-9)
        wanted = interacted(ROWS[mine], "spend", ["spend_pre", "age"]).fit(cov_type="HC2")
        found = row(outcome.result, "lean", "difference", "lin", segment)
        assert (found.estimate, found.std_error) == pytest.approx((wanted.params[1], wanted.bse[1]), rel=1e-8)


def test_d4_test_and_interval_agree_in_every_row(exact, lin) -> None:
    """Of quantiles and of the regression: p is below alpha if and only if the interval of the difference excludes 0."""
    for result, method in ((exact.result, "quantile"), (lin.result, "lin")):
        found = result.estimates
        mine = found[(found["method"] == method) & found["term"].str.endswith("difference") & found["p_value"].notna()]
        assert len(mine) > 2
        assert ((mine["p_value"] < 0.05) == ((mine["conf_low"] > 0) | (mine["conf_high"] < 0))).all()


def test_exposures_and_events(spark, tmp_path) -> None:
    """Quantiles are of the units' totals, units without events being zeros; strata are those at first exposure."""
    start = pd.Timestamp("2026-01-05", tz="UTC").as_unit("us")
    shown = ROWS.head(1500)
    when = start + pd.to_timedelta(np.arange(1500), unit="s").as_unit("us")
    exposures = pd.DataFrame({"user": shown["user"], "arm": shown["arm"], "country": shown["country"], "ts": when})
    chosen = np.random.default_rng(4).integers(0, 1500, 4000)
    events = pd.DataFrame({"user": chosen, "ts": start + pd.to_timedelta(chosen + 60, unit="s").as_unit("us")})
    events["amount"] = np.round(np.random.default_rng(5).gamma(2.0, 5.0, 4000), 2)
    tables = {
        name: str(write(tmp_path / name, frame)) for name, frame in (("exposures", exposures), ("events", events))
    }
    config = {
        "job": "experiment", "input": {name: {"table": path} for name, path in tables.items()},
        "method": {"unit": "user", "arm": "arm", "control": "control", "time": "ts", "strata": "country",
                   "bootstrap": {"replicates": 50, "buckets": 50},
                   "metrics": [{"name": "revenue", "kind": "revenue", "value": "amount", "quantiles": [0.5, 0.9]},
                               {"name": "orders", "kind": "count", "quantiles": [0.5]}]},
        "output": {"path": str(tmp_path / "run")}, "tracking": {"enabled": False},
    }  # fmt: skip
    result = job.run(config, "experiment").result
    totals_ = events.groupby("user")["amount"].agg(["sum", "size"]).reindex(np.arange(1500), fill_value=0)
    blue = (shown["arm"] == "blue").to_numpy()
    for outcome, column, q in (("revenue", "sum", 0.9), ("orders", "size", 0.5)):
        t, c = (np.quantile(totals_[column][mine], q, method="inverted_cdf") for mine in (blue, ~blue))
        found = row(result, outcome, f"p{100 * q:g} difference", "quantile")
        assert found.estimate == pytest.approx(t - c, abs=1e-9)
    mine = totals_.assign(country=shown["country"].to_numpy(), blue=blue)
    share = mine["country"].value_counts(normalize=True)
    means = [(share * mine[mine["blue"] == side].groupby("country")["sum"].mean()).sum() for side in (True, False)]
    assert row(result, "revenue", "difference", "strata").estimate == pytest.approx(means[0] - means[1], rel=1e-9)
    assert row(result, "revenue", "difference", "bootstrap").std_error > 0


def test_small_strata_are_one_and_leave_the_statistics(spark, tmp_path) -> None:
    """Of two countries below the least size only their sum is kept, with which the estimate is made."""
    other = pd.Series(np.arange(N) // 2000).map(str) + "x"
    rare = ROWS.assign(country=ROWS["country"].where(np.arange(N) % 100 > 1, other))
    outcome = run(tmp_path, [{"name": "spend", "kind": "mean", "value": "spend"}], rare, strata="country")
    kept = json.loads((tmp_path / "run" / "statistics.json").read_text())["more"]["strata"]["spend"]
    assert sorted(kept) == ["(small strata)", "CN", "DE", "US"]
    merged = rare["country"].where(~rare["country"].str.endswith("x"), "x")
    share, means = merged.value_counts(normalize=True), {}
    for arm in ARMS:
        mine = rare["arm"] == arm
        means[arm] = (share * rare[mine].groupby(merged[mine])["spend"].mean()).sum()
    found = row(outcome.result, "spend", "difference", "strata")
    assert found.estimate == pytest.approx(means["blue"] - means["control"], rel=1e-9)
