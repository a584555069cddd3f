"""The matching job from table to estimates: published values, numpy and statsmodels on the same rows, every engine."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from causal_spark import job, outputs, storage
from causal_spark.errors import ConfigError
from causal_spark.methods.matching import prepare, score
from causal_spark.methods.matching import run as matching_run
from causal_spark.results import ESTIMATE_COLUMNS
from causal_spark.spark import neighbours

Config = dict[str, Any]

# Engines sum doubles in different orders; the contract is 1e-9.
RTOL = 1e-9
LALONDE = ["age", "educ", "black", "hispan", "married", "nodegree", "re74", "re75"]


def config(table: Path, out: Path, **method: Any) -> Config:
    return {
        "job": "matching",
        "input": {"units": {"table": str(table)}},
        "method": {"unit": "id", "treatments": ["treat"], **method},
        "output": {"path": str(out)},
        "tracking": {"enabled": False},
    }


def written(frame: pd.DataFrame, folder: Path, files: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(files):
        pq.write_table(pa.Table.from_pandas(frame.iloc[i::files], preserve_index=False), folder / f"{i}.parquet")
    return folder


def only_on_sail(engine: str) -> None:
    if engine != "sail":
        pytest.skip("a run of its own, where each stage costs a second; other runs are compared on every engine")


def row(result: Any, method: str, term: str = "difference", **where: str) -> Any:
    rows = result.estimates
    for name, value in {"method": method, "term": term, **where}.items():
        rows = rows[rows[name] == value]
    assert len(rows) == 1
    return rows.iloc[0]


def balance(result: Any, estimator: str) -> pd.DataFrame:
    rows = result.diagnostics["balance"]
    return rows[rows["estimator"] == estimator].set_index("covariate")


def size(result: Any, estimator: str) -> Any:
    return result.diagnostics["sizes"].set_index("estimator").loc[estimator]


def kept(path: Path, name: str) -> pd.DataFrame:
    return pq.read_table(path / name).to_pandas()


# --- published values: LaLonde ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lalonde() -> pd.DataFrame:
    """The 614 rows of MatchIt."""
    root = importlib.util.find_spec("causalpy")
    assert root is not None
    assert root.submodule_search_locations
    frame = pd.read_csv(Path(root.submodule_search_locations[0]) / "data" / "lalonde.csv")
    frame = frame.rename(columns={"rownames": "id"})
    return frame.assign(
        black=(frame["race"] == "black").astype(int), hispan=(frame["race"] == "hispan").astype(int),
        re78=frame["re78"].astype(float), number=range(len(frame)), part=[f"p{i % 30}" for i in range(len(frame))],
    )  # fmt: skip


@pytest.fixture(scope="module")
def lalonde_table(lalonde, tmp_path_factory) -> Path:
    return written(lalonde.sample(frac=1, random_state=1), tmp_path_factory.mktemp("lalonde"), files=2)


@pytest.fixture(scope="module")
def on_lalonde(spark, lalonde_table, tmp_path_factory):
    """Runs on LaLonde by their settings, each once: result and folder."""
    known: dict[str, tuple[Any, Path]] = {}

    def run(**method: Any) -> tuple[Any, Path]:
        key = json.dumps(method, sort_keys=True)
        if key not in known:
            out = tmp_path_factory.mktemp("out") / "run"
            settings = {"outcomes": ["re78"], "covariates": LALONDE, **method}
            known[key] = job.run(config(lalonde_table, out, **settings), "matching").result, out
        return known[key]

    return run


LARGEST = {"distance": "propensity", "order": "largest", "ties": "number"}


def test_greedy_matching_without_replacement(on_lalonde, engine) -> None:
    """MatchIt's first example: 185 pairs, the control means and standardised differences of its vignette."""
    only_on_sail(engine)
    result, out = on_lalonde(matching=LARGEST)
    found = row(result, "matching")
    assert found.estimate == pytest.approx(894.3674802702703, rel=1e-12)
    assert (size(result, "matching").matched, found.estimand) == (185, "ATT")
    after = balance(result, "matching")["smd"]
    assert [round(after[name], 4) for name in ("age", "educ")] == [0.0718, -0.1290]
    assert len(kept(out, "pairs")) == 185


def test_the_nearest_on_either_side_as_in_matchit(on_lalonde, engine) -> None:
    only_on_sail(engine)
    result, _ = on_lalonde(covariates=["age", "educ"], matching=LARGEST)
    after = balance(result, "matching")
    assert after["smd"].round(4).to_dict() == {"age": -0.0068, "educ": 0.0296}
    assert after["variance_ratio"].round(4).to_dict() == {"age": 1.0300, "educ": 0.5886}


def test_a_caliper_in_standard_deviations_of_all_rows(on_lalonde, lalonde) -> None:
    """113 pairs; they are those of a plain loop over the treated, the highest propensity first."""
    result, out = on_lalonde(matching={**LARGEST, "caliper": 0.2})
    found = row(result, "matching")
    assert found.estimate == pytest.approx(1571.744454424779, rel=1e-12)
    assert found.std_error == pytest.approx(999.4230460315907, rel=1e-10)
    assert size(result, "matching").matched == len(kept(out, "pairs")) == 113
    e = by_logit(lalonde, LALONDE)
    assert size(result, "matching").caliper == pytest.approx(0.2 * e.std(ddof=1), rel=1e-9)
    assert pairs_of(out) == by_loop(lalonde, e, 0.2 * e.std(ddof=1))
    weights = kept(out, "weights")
    assert weights["weight"].tolist() == [1.0] * 226
    assert set(weights["unit"]) == {name for pair in pairs_of(out) for name in pair}


def by_logit(frame: pd.DataFrame, names: list[str]) -> np.ndarray:
    import statsmodels.api as sm

    x = sm.add_constant(frame[names].astype(float))
    return np.asarray(sm.Logit(frame["treat"], x).fit(disp=0, tol=1e-14, maxiter=100).predict(x))


def pairs_of(out: Path) -> list[tuple[str, str]]:
    pairs = kept(out, "pairs")
    return sorted(zip(pairs["treated_id"], pairs["control_id"], strict=True))


def by_loop(frame: pd.DataFrame, e: np.ndarray, caliper: float) -> list[tuple[str, str]]:
    e = np.round(e * 2**44) / 2**44  # of equal covariates equal propensities
    treated, free = (frame["treat"] == 1).to_numpy(), (frame["treat"] == 0).to_numpy()
    pairs = []
    for i in sorted(np.flatnonzero(treated), key=lambda i: (-e[i], i)):
        candidates = sorted((abs(e[i] - e[j]), e[j], j) for j in np.flatnonzero(free))
        if candidates and candidates[0][0] <= caliper:
            free[candidates[0][2]] = False
            pairs.append((frame["id"][i], frame["id"][candidates[0][2]]))
    return sorted(pairs)


def test_mahalanobis_with_replacement_averages_ties(on_lalonde, lalonde, engine) -> None:
    """The control means of MatchIt, which takes the first of ties; one of the ties differs in age."""
    only_on_sail(engine)
    names = ["age", "educ", "race", "married", "nodegree", "re74", "re75"]
    result, _ = on_lalonde(covariates=names, matching={"distance": "mahalanobis", "replace": True})
    assert row(result, "matching").estimate == pytest.approx(382.90247286486476, rel=1e-12)
    means = balance(result, "matching")["mean_control"]
    published = {"educ": 10.427027027, "re74": 1788.69409086, "re75": 1087.74195557}
    assert means[list(published)].to_dict() == pytest.approx(published, rel=1e-9)
    near = nearest_by_covariates(pd.get_dummies(lalonde[names], columns=["race"]).astype(float), lalonde["treat"] == 1)
    age = lalonde[lalonde["treat"] == 0]["age"].to_numpy()
    assert age[near.argmax(axis=1)].mean() == pytest.approx(25.540540540540, rel=1e-12)
    assert means["age"] == pytest.approx((near @ age / near.sum(axis=1)).mean(), rel=1e-12)


def nearest_by_covariates(x: pd.DataFrame, treated: pd.Series) -> np.ndarray:
    """Which controls are nearest to each treated row, by all distances and the covariance within the arms."""
    parts = [x[treated == arm] for arm in (0, 1)]
    within = sum(np.cov(part.T) * (len(part) - 1) for part in parts) / (len(x) - 2)
    gap = parts[1].to_numpy()[:, None] - parts[0].to_numpy()
    distance = np.einsum("ijp,pq,ijq->ij", gap, np.linalg.pinv(within), gap)
    return distance <= distance.min(axis=1, keepdims=True) + 1e-9


def test_weights_for_the_treated(on_lalonde) -> None:
    """WeightIt 1214 (798) and 1273, to all digits of the stacked estimating equations and of the dual."""
    result, _ = on_lalonde(estimators=["ipw", "entropy"])
    found = row(result, "ipw")
    assert found.estimate == pytest.approx(1214.0712232911937, rel=RTOL)
    assert found.std_error == pytest.approx(798.154627831616, rel=1e-8)
    assert size(result, "ipw").ess == pytest.approx(99.81538591585593, rel=RTOL)
    assert row(result, "entropy").estimate == pytest.approx(1273.26181390478, rel=RTOL)
    assert size(result, "entropy").ess == pytest.approx(98.4578344265694, rel=RTOL)
    assert balance(result, "entropy")["smd"].abs().max() < 1e-8


def test_weights_for_everybody(on_lalonde, lalonde, engine) -> None:
    only_on_sail(engine)
    result, _ = on_lalonde(estimand="ATE", estimators=["ipw", "entropy"])
    # The effective size told is the smaller of the two groups': 58.327 of the treated (329.008 of the controls).
    assert size(result, "ipw").ess == pytest.approx(58.32666073982529, rel=RTOL)
    e, t = by_logit(lalonde, LALONDE), lalonde["treat"].to_numpy()
    w = np.where(t == 1, 1 / e, 1 / (1 - e))
    y = lalonde["re78"].to_numpy()
    hajek = np.average(y[t == 1], weights=w[t == 1]) - np.average(y[t == 0], weights=w[t == 0])
    assert row(result, "ipw").estimate == pytest.approx(hajek, rel=1e-8)


def test_balance_before_is_that_of_matchit(on_lalonde) -> None:
    result, _ = on_lalonde(estimators=["ipw", "entropy"])
    before = balance(result, "unadjusted")
    published = {"age": -0.3094, "educ": 0.0550, "black": 1.7615, "hispan": -0.3498, "married": -0.8263,
                 "nodegree": 0.2450, "re74": -0.7211, "re75": -0.2903}  # fmt: skip
    assert before["smd"].round(4).to_dict() == published
    shown = before.loc[["age", "educ", "re74", "re75"]]
    assert shown["variance_ratio"].round(4).tolist() == [0.4400, 0.4959, 0.5181, 0.9563]
    assert shown["ks"].round(4).tolist() == [0.1577, 0.1114, 0.4470, 0.2876]
    assert shown["ecdf_mean"].round(4).tolist()[:2] == [0.0813, 0.0347]
    # Of a column of more than 64 values the mean is over so many quantiles of it.
    assert shown["ecdf_mean"].tolist()[2:] == pytest.approx([0.2248, 0.1342], abs=5e-3)


def test_sensitivity_of_every_effect(on_lalonde, lalonde) -> None:
    """E-values of VanderWeele & Ding (RR ≈ exp(0.91 d)) and the robustness value of Cinelli & Hazlett."""
    import statsmodels.api as sm

    result, _ = on_lalonde(estimators=["ipw", "entropy"])
    table = result.diagnostics["sensitivity"].set_index("estimator")
    deviation = lalonde[lalonde["treat"] == 0]["re78"].std(ddof=1)
    for name in ("ipw", "entropy"):
        found = row(result, name)
        ratio = math.exp(0.91 * found.estimate / deviation)
        assert table.loc[name, "e_value"] == pytest.approx(ratio + math.sqrt(ratio * (ratio - 1)), rel=1e-9)
        assert found.conf_low < 0
        assert table.loc[name, "e_value_limit"] == 1
    x = sm.add_constant(lalonde[["treat", *LALONDE]].astype(float))
    ols = sm.OLS(lalonde["re78"], x).fit()
    found = row(result, "regression")
    assert (found.estimate, found.std_error) == pytest.approx((ols.params["treat"], ols.bse["treat"]), rel=1e-9)
    f = abs(ols.tvalues["treat"]) / math.sqrt(ols.df_resid)
    assert table.loc["regression", "partial_r2"] == pytest.approx(f**2 / (1 + f**2), rel=1e-8)
    assert table.loc["regression", "robustness_value"] == pytest.approx(
        0.5 * (math.sqrt(f**4 + 4 * f**2) - f**2), rel=1e-8
    )
    assert "unadjusted" not in table.index


def test_the_unadjusted_difference_is_welch(on_lalonde, lalonde) -> None:
    result, _ = on_lalonde(estimators=["ipw", "entropy"])
    found = row(result, "unadjusted")
    parts = [lalonde[lalonde["treat"] == arm]["re78"] for arm in (0, 1)]
    assert found.estimate == pytest.approx(parts[1].mean() - parts[0].mean(), rel=RTOL)
    assert found.std_error == pytest.approx(math.sqrt(sum(p.var() / len(p) for p in parts)), rel=RTOL)
    assert found.note


def test_gamma_of_the_signs_of_the_pairs(on_lalonde, lalonde) -> None:
    """At Γ the upper bound of the sign test's p is alpha (Rosenbaum 2002, §4.3); a dash if it is not significant."""
    from scipy import stats

    result, out = on_lalonde(matching={**LARGEST, "caliper": 0.2})
    y = lalonde.set_index("id")["re78"]
    pairs = kept(out, "pairs")
    gap = y[pairs["treated_id"]].to_numpy() - y[pairs["control_id"]].to_numpy()
    above, below = int((gap > 0).sum()), int((gap < 0).sum())
    found = result.diagnostics["sensitivity"].set_index("estimator").loc["matching", "gamma"]
    more = max(above, below) if row(result, "matching").estimate >= 0 else below
    if math.isnan(found):
        assert stats.binom.sf(more - 1, above + below, 0.5) > 0.05
    else:
        assert stats.binom.sf(more - 1, above + below, found / (1 + found)) == pytest.approx(0.05, rel=1e-6)


def test_one_pair_table_row_and_weight_for_every_match(on_lalonde, lalonde, engine) -> None:
    """Ratio 2 with replacement, for everybody: effects and sums of weights from the two tables."""
    only_on_sail(engine)
    result, out = on_lalonde(estimand="ATE", matching={"replace": True, "ratio": 2}, estimators=["matching"])
    pairs, weights = kept(out, "pairs"), kept(out, "weights").set_index("unit")["weight"]
    y = lalonde.set_index("id")["re78"]
    gap = y[pairs["treated_id"]].to_numpy() - y[pairs["control_id"]].to_numpy()
    found = row(result, "matching")
    assert pairs["weight"].sum() == pytest.approx(614, rel=1e-12)
    assert (gap * pairs["weight"]).sum() / 614 == pytest.approx(found.estimate, rel=1e-9)
    t = lalonde.set_index("id")["treat"][weights.index]
    means = [np.average(y[weights.index][t == arm], weights=weights[t == arm]) for arm in (0, 1)]
    assert means[1] - means[0] == pytest.approx(found.estimate, rel=1e-9)
    assert [weights[t == arm].sum() for arm in (0, 1)] == pytest.approx([614, 614], rel=1e-12)
    assert found.n == 614


def test_unit_weights_give_the_weighted_effects(on_lalonde, lalonde, engine) -> None:
    """A row for every unit; weighted means of both arms differ by the estimate, and trimmed units weigh nothing."""
    only_on_sail(engine)
    result, out = on_lalonde(estimators=["ipw", "overlap", "entropy"], trim=[0.05, 0.9])
    weights = kept(out, "unit_weights").set_index("unit")
    data = lalonde.set_index("id").loc[weights.index]
    assert len(weights) == len(lalonde)
    assert (weights["treated"] == data["treat"]).all()
    for name in ("ipw", "overlap", "entropy"):
        w, treated = weights[name], data["treat"] == 1
        means = [np.average(data["re78"][arm], weights=w[arm]) for arm in (treated, ~treated)]
        assert means[0] - means[1] == pytest.approx(row(result, name).estimate, rel=1e-9)
    e = by_logit(lalonde, LALONDE)
    outside = pd.Series((e < 0.05) | (e > 0.9), index=lalonde["id"]).loc[weights.index]
    assert ((weights["ipw"] == 0) == outside).all()
    assert outside.any()


# --- published values: NSW, CPS, NHEFS ----------------------------------------------------------------------------


def real(name: str) -> pd.DataFrame:
    module = importlib.import_module(f"causaldata.{name}")
    frame: pd.DataFrame = module.load_pandas().data
    return frame.reset_index(drop=True)


def numbers(frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    return frame[names].astype(float)


def test_an_experiment_matched_on_age_has_the_errors_of_nnmatch(spark, tmp_path, engine) -> None:
    """Abadie, Drukker, Herr & Imbens: SATE 1785.190 (686.7167), ties averaged."""
    only_on_sail(engine)
    nsw = numbers(real("nsw_mixtape"), ["treat", "age", "educ", "re74", "re75", "re78"])
    table = written(nsw.assign(id=range(len(nsw))), tmp_path / "nsw")
    asked = {"distance": "age", "replace": True, "variance": "sample", "homoskedastic": True, "tolerance": 1e-5}
    method = {"outcomes": ["re78"], "covariates": ["age", "educ"], "estimand": "ATE", "matching": asked}
    result = job.run(config(table, tmp_path / "out", **method), "matching").result
    found = row(result, "matching")
    assert found.estimate == pytest.approx(1785.1903936201911, rel=1e-11)
    assert found.std_error == pytest.approx(686.7165271617878, rel=1e-10)
    assert row(result, "unadjusted").estimate == pytest.approx(1794.3423818500985, rel=1e-12)
    # The least squares of all rows on treatment and covariates is row 2 of the same table with fewer covariates.
    assert row(result, "unadjusted").std_error == pytest.approx(672.6821470811449, rel=5e-3)


@pytest.mark.parametrize(
    ("settings", "value"),
    [
        ({"estimand": "ATE"}, -7238.140310690553),
        ({"estimand": "ATT"}, 1782.2085312494064),
        ({"estimand": "ATE", "trim": [0.1, 0.9]}, 1806.7300571430178),
    ],
    ids=["ATE", "ATT", "trimmed"],
)
def test_dehejia_wahba_weighted(spark, tmp_path, engine, settings, value) -> None:
    """NSW treated with CPS controls, the propensity of Cunningham's Mixtape: Hájek weights."""
    only_on_sail(engine)
    names = ["treat", "age", "educ", "black", "hisp", "marr", "nodegree", "re74", "re75", "re78"]
    nsw, cps = (numbers(real(name), names) for name in ("nsw_mixtape", "cps_mixtape"))
    frame = pd.concat([nsw[nsw["treat"] == 1], cps]).reset_index(drop=True)
    frame = frame.assign(id=range(len(frame)), cube=frame["age"] ** 3, u74=(frame["re74"] == 0).astype(int),
                         u75=(frame["re75"] == 0).astype(int))  # fmt: skip
    covariates = ["age", "cube", "educ", "marr", "nodegree", "black", "hisp", "re74", "re75", "u74", "u75"]
    propensity = {"squares": ["age", "educ"], "interactions": [["educ", "re74"]]}
    method = {"outcomes": ["re78"], "covariates": covariates, "propensity": propensity, "estimators": ["ipw"]}
    table = written(frame, tmp_path / "cps")
    result = job.run(config(table, tmp_path / "out", **method, **settings), "matching").result
    # The published values come from a fit that stopped earlier: weights up to 1e5 multiply its last digits.
    assert row(result, "ipw").estimate == pytest.approx(value, rel=1e-7)
    assert row(result, "unadjusted").estimate == pytest.approx(-8497.516148132834, rel=1e-11)
    if "trim" in settings:
        assert size(result, "ipw").used == 361


NHEFS = ["sex", "race", "age", "education", "smokeintensity", "smokeyrs", "exercise", "active", "wt71"]


@pytest.fixture(scope="module")
def nhefs_table(tmp_path_factory) -> Path:
    frame = real("nhefs_complete")
    names = ["qsmk", "wt82_71", *NHEFS]
    frame = frame[names].astype(float).astype({"education": int, "exercise": int, "active": int})
    return written(frame.assign(id=range(len(frame))), tmp_path_factory.mktemp("nhefs"))


def on_nhefs(table: Path, out: Path, **method: Any) -> Any:
    categories = ("education", "exercise", "active")
    covariates = [{"name": name, "kind": "categorical" if name in categories else "numeric"} for name in NHEFS]
    propensity = {"squares": ["age", "smokeintensity", "smokeyrs", "wt71"]}
    data = config(table, out, outcomes=["wt82_71"], covariates=covariates, propensity=propensity, **method)
    data["method"]["treatments"] = ["qsmk"]
    return job.run(data, "matching").result


def test_weight_gain_after_quitting_smoking(spark, nhefs_table, tmp_path, engine) -> None:
    """Hernán & Robins, What If: 3.4 by weights; 3.5 by regression; AIPW by statsmodels without cross-fitting."""
    only_on_sail(engine)
    result = on_nhefs(nhefs_table, tmp_path / "ate", estimand="ATE", estimators=["ipw", "overlap", "aipw"], folds=1)
    assert row(result, "unadjusted").estimate == pytest.approx(2.5405814549558885, rel=1e-10)
    assert row(result, "ipw").estimate == pytest.approx(3.4405354296466206, rel=1e-9)
    found = row(result, "regression")
    assert (found.estimate, found.std_error) == pytest.approx((3.46262182922597, 0.4384542550856432), rel=1e-9)
    found = row(result, "aipw")
    assert (found.estimate, found.std_error) == pytest.approx((3.373264631901711, 0.4726933969582997), rel=1e-8)
    assert row(result, "overlap").estimate == pytest.approx(3.461148559123417, rel=1e-9)
    result = on_nhefs(nhefs_table, tmp_path / "att", estimators=["ipw", "aipw"], folds=1)
    found = row(result, "aipw")
    assert (found.estimate, found.std_error) == pytest.approx((3.365416911790976, 0.4833617429326763), rel=1e-8)
    assert row(result, "ipw").estimate == pytest.approx(3.3362579127723255, rel=1e-9)


# --- simulated truth ----------------------------------------------------------------------------------------------

EFFECT = 1.0
UNITS = 20_000
ALL = ["matching", "grid", "subclass", "ipw", "overlap", "entropy", "aipw", "dml"]
FEW = ["matching", "ipw", "entropy"]


def confounded(discrete: bool, n: int = UNITS) -> pd.DataFrame:
    """The same effect for all; what raises the chance of treatment lowers the outcome by more than the effect."""
    rng = np.random.default_rng(12)
    if discrete:
        a, b = rng.integers(0, 5, n) / 2 - 1.0, rng.integers(0, 4, n) - 1.5
    else:
        a, b = rng.normal(size=n), rng.normal(size=n) ** 3 / 4
    c = (rng.random(n) < 0.4).astype(int)
    city = rng.choice(["x", "y", "z"], n, p=[0.5, 0.3, 0.2])
    logit = -1.2 + 0.8 * a + 0.5 * b - 0.6 * c + 0.5 * (city == "y")
    treat = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(int)
    y = EFFECT * treat - 2.5 * a - 1.5 * b + c - 0.7 * (city == "y") + rng.normal(size=n)
    return pd.DataFrame({"id": [f"u{i}" for i in rng.permutation(n)], "treat": treat, "a": a, "b": b, "c": c,
                         "city": city, "y": y, "quiet": a + rng.normal(size=n)})  # fmt: skip


SIMULATED = {"outcomes": ["y"], "covariates": ["a", "b", "c", "city"], "subclasses": 200}


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """A driver that holds few rows, so that the cluster does the work; how often each way was taken."""
    taken = {"passes": 0, "patterns": 0}
    for module in (prepare, score):
        monkeypatch.setattr(module, "SAMPLE", 4_000)
    likelihood, patterns = score.likelihood, score._on_patterns

    def counted(name: str, work: Any) -> Any:
        def run(*arguments: Any) -> Any:
            taken[name] += 1
            return work(*arguments)

        return run

    monkeypatch.setattr(score, "likelihood", counted("passes", likelihood))
    monkeypatch.setattr(score, "_on_patterns", counted("patterns", patterns))
    return taken


@pytest.fixture(scope="module", params=["discrete", "continuous"])
def simulated(request, tmp_path_factory) -> tuple[str, pd.DataFrame, Path]:
    frame = confounded(request.param == "discrete")
    return request.param, frame, written(frame, tmp_path_factory.mktemp("simulated"), files=3)


def test_the_truth_is_found_where_the_naive_difference_has_the_wrong_sign(
    spark, simulated, passes, tmp_path, engine
) -> None:
    kind, frame, table = simulated
    if kind == "discrete" and engine == "connect":
        pytest.skip("one of the two designs is enough where each stage costs a second")
    names = [*(ALL if engine == "sail" else FEW), *(["cem"] if kind == "discrete" else [])]
    caliper = {"caliper": 0.1} if kind == "continuous" else {"replace": True}
    method = {**SIMULATED, "estimators": names, "matching": caliper}
    result = job.run(config(table, tmp_path / "out", **method), "matching").result
    assert passes["patterns"] == (kind == "discrete")
    assert (passes["passes"] > 0) == (kind == "continuous")
    assert_model_of_statsmodels(result, frame)
    assert row(result, "unadjusted").conf_high < 0
    for name in names:
        found = row(result, name)
        assert abs(found.estimate - EFFECT) < 4 * found.std_error, (name, found.estimate, found.std_error)
        assert found.std_error < 0.2
        wanted = EXPECTED[kind][name]
        assert (found.estimate, found.std_error) == pytest.approx(wanted, rel=RTOL), name
    assert digest(kept(tmp_path / "out", "pairs")) == PAIRS[kind]


def digest(pairs: pd.DataFrame) -> str:
    ids = sorted(zip(pairs["treated_id"], pairs["control_id"], pairs["weight"].round(9), strict=True))
    return hashlib.sha256(repr([(t, c, float(w)) for t, c, w in ids]).encode()).hexdigest()[:16]


def assert_model_of_statsmodels(result: Any, frame: pd.DataFrame) -> None:
    import statsmodels.api as sm

    x = frame[["a", "b", "c"]].astype(float).assign(y=frame["city"] == "y", z=frame["city"] == "z").astype(float)
    fit = sm.Logit(frame["treat"], sm.add_constant(x)).fit(disp=0, tol=1e-14, maxiter=100)
    table = result.diagnostics["propensity"].set_index("term").loc[["(constant)", "a", "b", "c", "city=y", "city=z"]]
    np.testing.assert_allclose(table["coefficient"], fit.params, rtol=1e-9)
    np.testing.assert_allclose(table["std_error"], fit.bse, rtol=1e-8)


# Found once on the embedded engine: every engine, and every later version, must find the same.
EXPECTED: dict[str, dict[str, tuple[float, float]]] = {
    "discrete": {
        "matching": (0.9796712778715558, 0.018154774088814305),
        "grid": (0.9804798733108372, 0.018220336905585277),
        "subclass": (0.9795545657981649, 0.018299452111357518),
        "ipw": (0.9689551023969836, 0.022180075718467834),
        "overlap": (0.9799812144995248, 0.01745237440643259),
        "entropy": (0.9806859131970651, 0.018113664340523323),
        "aipw": (0.9798258036639395, 0.01808313202996365),
        "dml": (0.9798070765921852, 0.01748034617531632),
        "cem": (0.9796712778715556, 0.01822063142810958),
    },
    "continuous": {
        "matching": (0.9896786072847769, 0.024360905687955813),
        "grid": (0.9915610919535278, 0.022256872307222807),
        "subclass": (0.9675027738205795, 0.024640406433498963),
        "ipw": (0.9377394042912923, 0.04518183666069357),
        "overlap": (0.9786488104110231, 0.01743861536136215),
        "entropy": (0.9907464548491289, 0.018398123166349048),
        "aipw": (0.9910454642954866, 0.018280294374958497),
        "dml": (0.979869992503759, 0.017464699989785462),
    },
}
PAIRS = {"discrete": "7aa3a0b810d49db0", "continuous": "5394a3695e904884"}


def test_the_bound_of_a_grid_covers_what_it_leaves(spark, tmp_path, engine) -> None:
    """Few cells leave a bias; it is told, and larger than the error made."""
    only_on_sail(engine)
    frame = confounded(False, 6_000)
    table = written(frame, tmp_path / "t")
    method = {**SIMULATED, "estimators": ["grid", "subclass"], "cells": 10, "subclasses": 5}
    result = job.run(config(table, tmp_path / "out", **method), "matching").result
    for name in ("grid", "subclass"):
        found = row(result, name)
        bound = float(found.note.rsplit(" ", 1)[1].rstrip("."))
        assert abs(found.estimate - EFFECT) < bound + 4 * found.std_error
        assert bound > 0


# --- several treatments, money, placebos, clusters ----------------------------------------------------------------


@pytest.fixture(scope="module")
def channels(tmp_path_factory) -> tuple[pd.DataFrame, Path]:
    frame = confounded(False, 3_000)
    rng = np.random.default_rng(2)
    mail = (rng.random(len(frame)) < 1 / (1 + np.exp(1 - 0.5 * frame["a"]))).astype(int)
    frame = frame.assign(mail=mail, y=frame["y"] + 0.5 * mail, shop=[f"s{i % 60}" for i in range(len(frame))])
    return frame, written(frame, tmp_path_factory.mktemp("channels"))


@pytest.fixture(scope="module")
def several(spark, channels, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "several"
    method = {
        "outcomes": ["y", "quiet"], "covariates": ["a", "b", "c", "city"], "estimators": ["matching", "ipw"],
        "matching": {"caliper": 0.2}, "treatments": ["treat", "mail"], "spend": {"treat": 500.0, "mail": 100.0},
        "value": "y",
    }  # fmt: skip
    return job.run(config(channels[1], out, **method), "matching"), out


def test_every_treatment_has_its_incremental_value_and_return(several) -> None:
    result, out = several[0].result, several[1]
    assert set(result.estimates["contrast"]) == {"treat", "mail"}
    for name, spend in (("treat", 500.0), ("mail", 100.0)):
        for estimator in ("matching", "ipw"):
            effect = row(result, estimator, contrast=name, outcome="y")
            units = result.diagnostics["sizes"].set_index(["treatment", "estimator"]).loc[(name, estimator), "matched"]
            more = row(result, estimator, "incremental", contrast=name, outcome="y")
            roi = row(result, estimator, "roi", contrast=name, outcome="y")
            assert more.estimate == pytest.approx(effect.estimate * units, rel=1e-12)
            assert more.std_error == pytest.approx(effect.std_error * units, rel=1e-12)
            # What was spent on units without a match is left out with them.
            spent = spend * units / effect.n
            for part in ("estimate", "conf_low", "conf_high"):
                assert roi[part] == pytest.approx((more[part] - spent) / spent, rel=1e-10)
            # The test is of a return of nothing.
            assert roi.statistic == pytest.approx(roi.estimate / roi.std_error, rel=1e-12)
            assert (roi.p_value < 0.05) == (not roi.conf_low <= 0 <= roi.conf_high)
            assert len(result.estimates.query("method == @estimator and outcome == 'quiet' and term == 'roi'")) == 0
    large = {path.name for path in out.iterdir() if path.name.startswith(("pairs", "weights"))}
    assert large == {"pairs_1", "pairs_2", "weights_1", "weights_2"}
    effects = [row(result, "ipw", contrast=name, outcome="y") for name in ("treat", "mail")]
    assert [abs(e.estimate - wanted) < 4 * e.std_error for e, wanted in zip(effects, (1.0, 0.5), strict=True)]


def test_the_estimates_have_the_schema_of_the_suite(several) -> None:
    frame = several[0].result.estimates
    assert tuple(frame.columns) == ESTIMATE_COLUMNS
    assert (frame["segment"] == "all").all()
    assert set(frame["estimand"]) == {"ATT", ""}
    known = frame["estimate"].notna()
    assert known.all()
    assert frame["note"].str.len().gt(0).all()
    assert (frame["conf_low"] <= frame["estimate"]).all()
    assert (frame["estimate"] <= frame["conf_high"]).all()


def test_the_manifest_names_what_is_there(several) -> None:
    outcome, out = several
    manifest = json.loads((out / "manifest.json").read_text())
    assert sorted(manifest["tables"]) == sorted(["estimates", *outcome.result.diagnostics])
    assert {"checks", "balance", "overlap", "propensity", "sizes", "sensitivity"} <= set(manifest["tables"])
    for name in manifest["tables"]:
        assert pq.read_table(out / name).num_rows > 0
    assert not (out / "_stage").exists()
    assert not (out / "_started.json").exists()
    assert manifest["method"]["spend"] == {"treat": 500.0, "mail": 100.0}
    assert (out / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_a_finished_run_is_left_as_it_is(spark, several, channels, monkeypatch) -> None:
    outcome, out = several
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}

    def forbidden(*arguments: Any) -> Any:
        raise AssertionError("the table was read again")

    monkeypatch.setattr(matching_run, "compress", forbidden)
    data = config(channels[1], out)
    data["method"] = {**outcome.manifest["method"]}
    assert job.run(data, "matching").repeated
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before
    with pytest.raises(ConfigError, match="Choose another output"):
        job.run({**data, "method": {**data["method"], "folds": 3}}, "matching")


def test_a_finished_run_is_solved_again_without_an_engine(several, tmp_path, monkeypatch) -> None:
    from causal_spark.spark import session

    def refuse(engine: str | None = None) -> Any:
        raise AssertionError("a session was asked for")

    monkeypatch.setattr(session, "open_engine", refuse)
    outcome, out = several
    again = job.resolve(str(out), {"alpha": 0.2, "spend": {"treat": 250.0}, "smd": 0.01}, str(tmp_path / "r"))
    assert again.result is not None
    keys = ["method", "contrast", "outcome", "term"]
    old, new = (x.result.estimates.set_index(keys) for x in (outcome, again))
    key = ("matching", "treat", "y", "difference")
    assert new.loc[key].estimate == old.loc[key].estimate
    assert new.loc[key].conf_high < old.loc[key].conf_high
    assert (new["conf_level"] == 0.8).all()
    wanted = 2 * old.loc[("matching", "treat", "y", "roi")].estimate + 1
    assert new.loc[("matching", "treat", "y", "roi")].estimate == pytest.approx(wanted, rel=1e-12)
    assert ("matching", "mail", "y", "roi") not in new.index
    assert again.result.diagnostics["checks"].query("code == 'BALANCE'")["verdict"].ne("pass").any()
    with pytest.raises(ConfigError, match="estimators"):
        job.resolve(str(out), {"estimators": ["ipw"]}, str(tmp_path / "r2"))


def test_a_placebo_that_moves_takes_the_trust_away(spark, channels, tmp_path, engine) -> None:
    """A pre-period outcome that depends on a cause left out of the covariates; with the cause it stands still."""
    only_on_sail(engine)
    trusted = {}
    for covariates in (["b", "c"], ["a", "b", "c", "city"]):
        method = {"outcomes": ["y"], "covariates": covariates, "placebo_outcomes": ["quiet"],
                  "estimators": ["matching", "ipw"], "matching": {"caliper": 0.05}, "trim": [0.02, 0.98]}  # fmt: skip
        out = tmp_path / str(len(covariates))
        result = job.run(config(channels[1], out, **method), "matching").result
        checks = result.diagnostics["checks"]
        trusted[len(covariates)] = result.trusted
        moved = checks[checks["code"] == "PLACEBO"].set_index("message")["verdict"]
        assert set(moved) == ({"invalid"} if len(covariates) == 2 else {"pass"})
        assert len(result.estimates.query("outcome == 'quiet' and term != 'difference'")) == 0
        assert "quiet" not in result.diagnostics["sensitivity"]["outcome"].tolist()
    assert trusted == {2: False, 4: True}


def test_clusters_widen_the_errors_as_sums_of_influences_do(spark, tmp_path, engine) -> None:
    """Every row three times, as a cluster: the errors are those of the single rows with G/(G - 1)."""
    only_on_sail(engine)
    frame = confounded(False, 800)
    once = written(frame, tmp_path / "once")
    thrice = pd.concat([frame.assign(id=frame["id"] + f"-{i}", family=frame["id"]) for i in range(3)])
    table = written(thrice, tmp_path / "thrice")
    names = ["ipw", "overlap", "entropy", "aipw"]
    method = {"outcomes": ["y"], "covariates": ["a", "b", "c"], "estimators": names, "folds": 1}
    alone = job.run(config(once, tmp_path / "a", **method), "matching").result
    together = job.run(config(table, tmp_path / "b", cluster="family", **method), "matching").result
    for name in names:
        one, all_three = row(alone, name), row(together, name)
        assert all_three.estimate == pytest.approx(one.estimate, rel=1e-7)
        # Influences are rounded to a millionth of their size.
        assert all_three.std_error == pytest.approx(one.std_error * math.sqrt(800 / 799), rel=1e-5), name


def test_one_cluster_has_no_error(spark, channels, tmp_path, engine) -> None:
    """Its influences add up to nothing: an error of 0 would make anything significant."""
    only_on_sail(engine)
    table = written(channels[0].assign(shop="only"), tmp_path / "t")
    method = {"outcomes": ["y"], "covariates": ["a", "b"], "estimators": ["matching", "ipw"], "cluster": "shop"}
    result = job.run(config(table, tmp_path / "out", **method), "matching").result
    for name in ("matching", "ipw"):
        found = row(result, name)
        assert math.isnan(found.std_error)
        assert math.isnan(found.p_value)
        assert "No standard error" in found.note


def test_one_treated_unit_has_no_error(spark, channels, tmp_path, engine) -> None:
    only_on_sail(engine)
    frame = channels[0].assign(treat=(channels[0].index == 5).astype(int))
    table = written(frame, tmp_path / "t")
    method = {"outcomes": ["y"], "covariates": ["a"], "estimators": ["matching"]}
    result = job.run(config(table, tmp_path / "out", **method), "matching").result
    for name in ("unadjusted", "matching"):
        found = row(result, name)
        assert math.isfinite(found.estimate)
        assert math.isnan(found.std_error)
        assert "No standard error" in found.note


def test_folds_keep_clusters_together_and_fits_away_from_their_rows(spark, channels, tmp_path, engine) -> None:
    only_on_sail(engine)
    method = {"outcomes": ["y"], "covariates": ["a", "b", "c", "city"], "estimators": ["aipw", "dml"]}
    found = {}
    for cluster in (None, "shop"):
        out = tmp_path / str(cluster)
        found[cluster] = job.run(config(channels[1], out, cluster=cluster, **method), "matching").result
    for name in ("aipw", "dml"):
        plain, grouped = (row(found[key], name) for key in (None, "shop"))
        # Shops are random here: other folds move the estimate by a part of its error, and leave the error as it is.
        assert abs(plain.estimate - grouped.estimate) < plain.std_error
        assert grouped.std_error == pytest.approx(plain.std_error, rel=0.35)
        assert abs(plain.estimate - EFFECT) < 4 * plain.std_error


@pytest.mark.parametrize("files", [1, 7])
def test_files_and_row_order_change_no_estimate_and_no_pair(spark, several, channels, tmp_path, engine, files) -> None:
    if engine != "sail" and files == 1:
        pytest.skip("seven files are enough where each stage costs a second")
    outcome, out = several
    table = written(channels[0].sample(frac=1, random_state=files), tmp_path / "t", files)
    data = config(table, tmp_path / "out")
    data["method"] = dict(outcome.manifest["method"])
    again = job.run(data, "matching").result
    keys = ["method", "contrast", "outcome", "term"]
    old, new = (x.estimates.sort_values(keys).reset_index(drop=True) for x in (outcome.result, again))
    pd.testing.assert_frame_equal(old, new, rtol=RTOL, atol=0)
    for name in ("pairs_1", "pairs_2", "weights_1", "weights_2"):
        mine, theirs = (
            set(kept(folder, name).itertuples(index=False, name=None)) for folder in (out, tmp_path / "out")
        )
        assert mine == theirs


BLOCKS = {
    "replace": {
        "estimand": "ATE",
        "matching": {"replace": True, "ratio": 2, "tolerance": 0.01, "caliper": 0.5, "exact": ["city"]},
    },
    "closest": {"matching": {"caliper": 0.3}},
    "largest for the controls": {
        "estimand": "ATC", "matching": {"order": "largest", "ratio": 2, "ties": "same"}, "treatments": ["many"],
    },
}  # fmt: skip


@pytest.mark.parametrize("name", BLOCKS)
def test_many_blocks_give_what_one_gives(spark, channels, tmp_path, engine, monkeypatch, name) -> None:
    """The whole job with blocks of 100 rows: the same pairs, weights, effects and errors."""
    only_on_sail(engine)
    frame, _ = channels
    table = written(frame.assign(many=1 - frame["treat"], same=0), tmp_path / "t", 3)
    method = {"outcomes": ["y"], "covariates": ["a", "b", "c"], **BLOCKS[name]}
    one = job.run(config(table, tmp_path / "one", **method), "matching").result
    used: list[int] = []
    for plan in ("with_guests", "at_gaps"):
        monkeypatch.setattr(neighbours, plan, counted_blocks(getattr(neighbours, plan), used))
    monkeypatch.setattr(neighbours, "WINDOW", 60)
    many = job.run(config(table, tmp_path / "many", **method), "matching").result
    assert used
    assert used[0] > 5
    # Sums of some thousand doubles in another order.
    for table_name in ("estimates", "balance", "sizes"):
        a, b = (x.estimates if table_name == "estimates" else x.diagnostics[table_name] for x in (one, many))
        pd.testing.assert_frame_equal(a, b, rtol=1e-10, atol=1e-12)
    assert pairs_of(tmp_path / "one") == pairs_of(tmp_path / "many")
    mine, theirs = (kept(tmp_path / x, "weights").set_index("unit")["weight"].sort_index() for x in ("one", "many"))
    pd.testing.assert_series_equal(mine, theirs, rtol=1e-12)


def counted_blocks(make: Any, used: list[int]) -> Any:
    def plan(*arguments: Any, **named: Any) -> Any:
        found = make(*arguments, **named, rows=100)
        used.append(len(set(found.block)))
        return found

    return plan


def test_trimming_by_rule(spark, channels, tmp_path, engine) -> None:
    """Crump et al. and the common range, by their definitions on the propensities of statsmodels."""
    only_on_sail(engine)
    frame, table = channels
    import statsmodels.api as sm

    x = sm.add_constant(frame[["a", "b", "c"]].astype(float))
    e = np.asarray(sm.Logit(frame["treat"], x).fit(disp=0, tol=1e-14).predict(x))
    t = frame["treat"].to_numpy() == 1
    kept_rows = {"minmax": (e >= max(e[t].min(), e[~t].min())) & (e <= min(e[t].max(), e[~t].max()))}
    for rule in ("minmax", "crump"):
        method = {"outcomes": ["y"], "covariates": ["a", "b", "c"], "estimators": ["ipw"], "estimand": "ATE"}
        result = job.run(config(table, tmp_path / rule, trim=rule, **method), "matching").result
        used = size(result, "ipw").used
        if rule == "minmax":
            assert used == kept_rows[rule].sum()
        else:
            values = np.sort(1 / (e * (1 - e)))
            means = np.cumsum(values) / np.arange(1, len(values) + 1)
            best = values[np.flatnonzero(values <= 2 * means)[-1]]
            # The rule is applied to a histogram of 1,000 cells.
            assert used == pytest.approx((1 / (e * (1 - e)) <= best).sum(), abs=0.01 * len(frame))


def test_doses_against_the_lowest_and_an_amount(spark, tmp_path, engine) -> None:
    """AIPW of three levels and the slope of an amount, both confounded."""
    only_on_sail(engine)
    rng = np.random.default_rng(5)
    a = rng.normal(size=6_000)
    dose = (rng.random(6_000) < 1 / (1 + np.exp(-a))).astype(int) + (rng.random(6_000) < 1 / (1 + np.exp(1 - a)))
    amount = a + rng.normal(size=6_000)
    frame = pd.DataFrame({"id": range(6_000), "a": a, "dose": dose, "amount": amount})
    frame["y"] = 1.0 * (dose == 1) + 3.0 * (dose == 2) + 0.5 * amount - 3 * a + rng.normal(size=6_000)
    table = written(frame, tmp_path / "t")
    method = {"outcomes": ["y"], "estimand": "ATE"}
    data = config(table, tmp_path / "dose", covariates=["a", "amount"], estimators=["aipw"], **method)
    data["method"]["treatments"] = ["dose"]
    levels = job.run(data, "matching").result
    for contrast, truth in (("dose: 1 vs 0", 1.0), ("dose: 2 vs 0", 3.0)):
        found = row(levels, "aipw", contrast=contrast)
        assert abs(found.estimate - truth) < 4 * found.std_error
        assert found.std_error < 0.2
    data = config(table, tmp_path / "amount", covariates=["a", {"name": "dose", "kind": "categorical"}],
                  estimators=["dml"], **method)  # fmt: skip
    data["method"]["treatments"] = ["amount"]
    found = row(job.run(data, "matching").result, "dml")
    assert abs(found.estimate - 0.5) < 4 * found.std_error
    assert found.std_error < 0.05


def test_a_run_is_logged_with_its_effects(spark, lalonde_table, tmp_path, engine) -> None:
    from mlflow import MlflowClient

    only_on_sail(engine)
    data = config(lalonde_table, tmp_path / "out", outcomes=["re78"], covariates=LALONDE, estimators=["ipw"])
    data["tracking"] = {"experiment": "matching-logged"}
    outcome = job.run(data, "matching")
    assert outcome.tracking_error is None
    run = MlflowClient().get_run(outcome.manifest["mlflow_run"])
    found = row(outcome.result, "ipw")
    assert any(value == pytest.approx(found.estimate, rel=1e-12) for value in run.data.metrics.values())
    assert run.data.params["estimators"] == '["ipw"]'


# --- killed, and catalogs -----------------------------------------------------------------------------------------

SCRIPT = """
import os, signal, sys
from causal_spark import cli, outputs

def finish(self, manifest, keep_stage):
    os.kill(os.getpid(), signal.SIGKILL)

outputs.RunFolder.finish = finish
sys.exit(cli.main(sys.argv[1:]))
"""


def test_a_run_killed_before_its_manifest_is_repaired(spark, on_lalonde, lalonde_table, tmp_path, engine) -> None:
    """SIGKILL when tables, pairs and weights are there and the manifest is not; the next run leaves what one leaves."""
    only_on_sail(engine)
    asked = {"outcomes": ["re78"], "covariates": LALONDE, "matching": {**LARGEST, "caliper": 0.2}}
    data = config(lalonde_table, tmp_path / "out", **asked)
    file = tmp_path / "config.yml"
    file.write_text(yaml.safe_dump(data), encoding="utf-8")
    killed = subprocess.run(
        [sys.executable, "-c", SCRIPT, "run", str(file), "--engine", "sail"],
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    out = tmp_path / "out"
    assert {"pairs", "weights", "estimates", "_started.json"} <= {path.name for path in out.iterdir()}
    with pytest.raises(ConfigError, match=r"manifest\.json"):
        outputs.read_manifest(str(out))
    job.run(data, "matching")
    _, clean = on_lalonde(matching={**LARGEST, "caliper": 0.2})
    names = {path.relative_to(clean) for path in clean.rglob("*") if path.suffix in (".html", ".json")}
    assert names == {path.relative_to(out) for path in out.rglob("*") if path.suffix in (".html", ".json")}
    assert {path.name for path in clean.iterdir()} == {path.name for path in out.iterdir()}
    for name in outputs.read_manifest(str(clean))["tables"]:
        pd.testing.assert_frame_equal(storage.read_frame(str(out / name)), storage.read_frame(str(clean / name)))
    assert pairs_of(out) == pairs_of(clean)


def test_results_as_catalog_tables(spark, lalonde_table, tmp_path, monkeypatch) -> None:
    """Small tables in the catalog, pairs and weights in the scratch folder; the second run is none."""
    monkeypatch.chdir(tmp_path)  # the embedded engine keeps its warehouse where it stands
    name = f"matching_{tmp_path.name.replace('-', '_')}".lower()
    data = config(lalonde_table, tmp_path, outcomes=["re78"], covariates=["age", "educ"])
    data["output"] = {"table": name, "scratch": str(tmp_path / "scratch")}
    outcome = job.run(data, "matching")
    stored = spark.table(name).toPandas()
    assert len(stored) == len(outcome.result.estimates)
    assert spark.table(f"{name}_balance").count() == len(outcome.result.diagnostics["balance"])
    folders = sorted(path.name.split("_")[-1] for path in (tmp_path / "scratch").iterdir())
    assert folders == ["pairs", "weights"]
    pairs = pq.read_table(next((tmp_path / "scratch").glob("*_pairs"))).num_rows
    assert pairs == row(outcome.result, "matching").n
    assert job.run(data, "matching").repeated


def test_a_catalog_run_without_a_folder_for_pairs_is_told_so(spark, lalonde_table, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = config(lalonde_table, tmp_path, outcomes=["re78"], covariates=["age", "educ"])
    data["output"] = {"table": "matching_without_scratch"}
    with pytest.raises(ConfigError, match=r"output\.scratch"):
        job.run(data, "matching")
    assert not spark.catalog.tableExists("matching_without_scratch")
