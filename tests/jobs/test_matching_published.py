"""The matching job on published data: NSW, the CPS controls of Dehejia and Wahba, and NHEFS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from causal_spark import job
from tests.matching_runs import config, kept, numbers, only_on_sail, real, row, size, written


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
    asked = {"estimators": ["ipw", "overlap", "aipw"], "folds": 1}
    result = on_nhefs(nhefs_table, tmp_path / "ate", estimand="ATE", stabilized=True, **asked)
    assert row(result, "unadjusted").estimate == pytest.approx(2.5405814549558885, rel=1e-10)
    assert row(result, "ipw").estimate == pytest.approx(3.4405354296466206, rel=1e-9)
    assert kept(tmp_path / "ate", "unit_weights")["ipw"].mean() == pytest.approx(0.9988443499320404, rel=1e-9)
    found = row(result, "regression")
    assert (found.estimate, found.std_error) == pytest.approx((3.46262182922597, 0.4384542550856432), rel=1e-9)
    found = row(result, "aipw")
    assert (found.estimate, found.std_error) == pytest.approx((3.373264631901711, 0.4726933969582997), rel=1e-8)
    assert row(result, "overlap").estimate == pytest.approx(3.461148559123417, rel=1e-9)
    result = on_nhefs(nhefs_table, tmp_path / "att", estimators=["ipw", "aipw"], folds=1)
    found = row(result, "aipw")
    assert (found.estimate, found.std_error) == pytest.approx((3.365416911790976, 0.4833617429326763), rel=1e-8)
    assert row(result, "ipw").estimate == pytest.approx(3.3362579127723255, rel=1e-9)
