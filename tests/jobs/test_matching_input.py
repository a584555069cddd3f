"""Comparisons that cannot be made are refused by name: exit code, two lines in either language, nothing written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from causal_spark import cli, job
from causal_spark.methods.matching import prepare
from causal_spark.words import LANGUAGES, say

N = 400
STAGES = {say(f"stage_{stage}", language) for stage in cli.STAGES for language in LANGUAGES}
HAN = range(0x4E00, 0x9FFF + 1)

Config = dict[str, Any]
Change = Callable[[pd.DataFrame], pd.DataFrame]


def units() -> pd.DataFrame:
    """A clean table: older and richer units are treated more often, and both arms occur everywhere."""
    rng = np.random.default_rng(4)
    age = rng.normal(40, 9, N).round()
    income = rng.gamma(4.0, 500.0, N).round(2)
    e = 1 / (1 + np.exp(0.6 - 0.05 * (age - 40) - 0.0003 * (income - 2000)))
    treat = (rng.random(N) < e).astype(int)
    return pd.DataFrame(
        {
            "id": [f"u{i:04d}" for i in range(N)],
            "treat": treat,
            "age": age,
            "income": income,
            "city": rng.choice(["Köln", "Bonn", "Ulm"], N),
            "sale": 3 * treat + 0.2 * age + rng.normal(size=N),
            "early": 0.2 * age + rng.normal(size=N),
            "chance": e,
            "shop": [f"s{i % 40:02d}" for i in range(N)],
            "later": rng.normal(size=N),
        }
    )


def config(folder: Path) -> Config:
    return {
        "job": "matching",
        "input": {"units": {"table": str(folder / "units")}},
        "method": {
            "unit": "id",
            "treatments": ["treat"],
            "outcomes": ["sale"],
            "covariates": ["age", "income", "city"],
            "estimators": ["matching", "ipw"],
        },
        "output": {"path": str(folder / "out")},
        "tracking": {"enabled": False},
    }


def write(frame: pd.DataFrame, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), folder / "part-0.parquet")


def saved(data: Config, folder: Path) -> str:
    path = folder / "config.yml"
    path.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    return str(path)


def assert_speaks(err: str, words: Sequence[str], language: str) -> None:
    """At most two lines, no traceback, in the language, and every word that names the thing."""
    lines = [line for line in err.splitlines() if line.strip() and line.strip() not in STAGES]
    told = " ".join(lines)
    assert 1 <= len(lines) <= 2, err
    assert "Traceback" not in told
    assert len(told) < 700, told
    assert any(ord(c) in HAN for c in told) == (language == "zh"), told
    assert not (missing := [word for word in words if word not in told]), f"{missing} not in: {told}"


# --- what needs no session -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wrong:
    """A configuration that is refused: fields of the method, and words of the message in every language."""

    name: str
    method: Mapping[str, Any]
    words: tuple[str, ...]


MATCHING = {"replace": True}
CONFIGS = [
    Wrong("no treatment", {"treatments": []}, ("method.treatments",)),
    Wrong("no outcome", {"outcomes": []}, ("method.outcomes",)),
    Wrong("no covariate", {"covariates": []}, ("method.covariates",)),
    Wrong("no estimator", {"estimators": []}, ("method.estimators",)),
    Wrong("unknown estimator", {"estimators": ["psm"]}, ("method.estimators", "psm", "matching")),
    Wrong("unknown estimand", {"estimand": "LATE"}, ("method.estimand", "LATE", "ATT")),
    Wrong("outcome among the covariates", {"covariates": ["age", "sale"]}, ("sale", "outcomes")),
    Wrong("placebo among the covariates", {"covariates": ["early"], "placebo_outcomes": ["early"]}, ("early",)),
    Wrong("treatment among the covariates", {"covariates": ["age", "treat"]}, ("treat", "treatments")),
    Wrong("unit among the covariates", {"covariates": ["age", "id"]}, ("id", "unit")),
    Wrong("from after treatment", {"covariates": ["age", "later"], "post_treatment": ["later"]},
          ("later", "post_treatment")),
    Wrong("exact from after treatment", {"post_treatment": ["shop"], "matching": {"exact": ["shop"]}},
          ("shop", "post_treatment")),
    Wrong("the outcome as distance", {"matching": {"distance": "sale"}}, ("sale", "outcomes")),
    Wrong("the treatment as score", {"score": "treat"}, ("treat", "treatments")),
    Wrong("treatment as outcome", {"outcomes": ["treat"]}, ("treat",)),
    Wrong("covariate twice", {"covariates": ["age", {"name": "age"}]}, ("age",)),
    Wrong("treatment twice", {"treatments": ["treat", "treat"]}, ("method.treatments", "treat")),
    Wrong("outcome twice", {"outcomes": ["sale", "sale"]}, ("method.outcomes", "sale")),
    Wrong("outcome as its own placebo", {"placebo_outcomes": ["sale"]}, ("method.outcomes", "sale")),
    Wrong("estimator twice", {"estimators": ["ipw", "ipw"]}, ("method.estimators", "ipw")),
    Wrong("square of no covariate", {"propensity": {"squares": ["agee"]}}, ("agee", "age, income, city")),
    Wrong("interaction of three", {"propensity": {"interactions": [["age", "income", "city"]]}}, ("interactions",)),
    Wrong("ATO by matching", {"estimand": "ATO"}, ("ATO", "matching", "ATT, ATC, ATE")),
    Wrong("clusters in strata", {"cluster": "shop", "estimators": ["ipw", "subclass"]}, ("subclass", "ipw")),
    Wrong("ATE without replacement", {"estimand": "ATE"}, ("ATE", "replace", "true")),
    Wrong("Mahalanobis without replacement", {"matching": {"distance": "mahalanobis"}}, ("mahalanobis", "replace")),
    Wrong("clusters with replacement", {"cluster": "shop", "matching": MATCHING}, ("replace", "ipw")),
    Wrong("caliper of nothing", {"matching": {"caliper": 0}}, ("method.matching.caliper", "0")),
    Wrong("endless caliper", {"matching": {"caliper": float("inf")}}, ("method.matching.caliper",)),
    Wrong("no match asked", {"matching": {"ratio": 0}}, ("method.matching.ratio", "0")),
    Wrong("no neighbour", {"matching": {"neighbours": 0}}, ("method.matching.neighbours", "0")),
    Wrong("tolerance below zero", {"matching": {"tolerance": -1}}, ("method.matching.tolerance", "-1")),
    Wrong("unknown order", {"matching": {"order": "random"}}, ("method.matching.order", "random", "closest")),
    Wrong("trim the wrong way", {"trim": [0.9, 0.1]}, ("method.trim",)),
    Wrong("trim of one end", {"trim": [0.1]}, ("method.trim",)),
    Wrong("unknown trim", {"trim": "crumb"}, ("method.trim", "crumb")),
    Wrong("one subclass", {"subclasses": 1}, ("method.subclasses", "1")),
    Wrong("no cell", {"cells": 0}, ("method.cells", "0")),
    Wrong("no fold", {"folds": 0}, ("method.folds", "0")),
    Wrong("stabilized weights of nothing", {"stabilized": True, "estimand": "ATE", "estimators": ["aipw"]},
          ("method.stabilized", "ipw", "ATE")),
    Wrong("stabilized weights for the treated", {"stabilized": True, "estimators": ["ipw"]},
          ("method.stabilized", "ipw", "ATE")),
    Wrong("alpha of 1", {"alpha": 1}, ("method.alpha", "1")),
    Wrong("value of no outcome", {"value": "profit"}, ("profit", "sale")),
    Wrong("spend of no treatment", {"spend": {"advert": 5.0}}, ("advert", "treat")),
    Wrong("spend of nothing", {"spend": {"treat": 0}}, ("method.spend.treat", "0")),
    Wrong("spend below zero", {"spend": {"treat": -5.0}}, ("method.spend.treat", "-5")),
    Wrong("unknown key", {"matching": {"calliper": 0.2}}, ("calliper", "caliper")),
    Wrong("unknown way with NULL", {"covariates": [{"name": "age", "nulls": "zero"}]}, ("zero", "indicator")),
]  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("wrong", CONFIGS, ids=lambda wrong: wrong.name)
def test_configurations_are_refused_without_a_session(wrong, language, tmp_path, capsys, monkeypatch, engine) -> None:
    from causal_spark.spark import session

    def refuse(engine: str | None = None) -> Any:
        raise AssertionError("a session was asked for")

    if engine != "sail":
        pytest.skip("no engine takes part")
    monkeypatch.setattr(session, "open_engine", refuse)
    monkeypatch.setenv("CAUSAL_SPARK_LANGUAGE", language)
    data = config(tmp_path)
    data["method"] |= wrong.method
    file = saved(data, tmp_path)
    assert cli.main(["run", file]) == 2
    caught = capsys.readouterr()
    assert_speaks(caught.err, wrong.words, language)
    assert caught.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["config.yml"]


# --- what the session sees -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bad:
    """A table or a column that is refused: the exit code, words in every language, what is done to the clean table."""

    name: str
    code: int
    words: tuple[str, ...]
    change: Change | None = None
    method: Mapping[str, Any] = field(default_factory=dict)
    every_engine: bool = False


def put(**columns: Any) -> Change:
    """The table with other columns."""
    return lambda d: d.assign(**columns)


def holes(column: str, count: int, value: Any = None) -> Change:
    """The table with ``value`` in the first rows of a column."""
    return lambda d: d.assign(**{column: [value] * count + d[column].tolist()[count:]})


CITIES = [{"name": "city", "base": "Trier"}]
BAD = [
    Bad("no row", 3, ("EMPTY_TABLE",), lambda d: d.iloc[:0]),
    Bad("no row left by the filter", 3, ("EMPTY_TABLE",),
        method={"where": [{"column": "age", "op": ">", "value": 1000}]}),
    Bad("nobody treated", 3, ("NO_TREATED", "treat"), put(treat=0), every_engine=True),
    Bad("everybody treated", 3, ("NO_CONTROL", "treat"), put(treat=1)),
    Bad("nobody treated left by the filter", 3, ("NO_TREATED", "treat"),
        method={"where": [{"column": "treat", "op": "==", "value": 0}]}),
    Bad("treatment of 1 and 2", 3, ("TREATMENT_NOT_BINARY", "treat", "1", "2"), lambda d: d.assign(treat=d.treat + 1)),
    Bad("one dose among 0 and 1", 3, ("TREATMENT_NOT_BINARY", "treat"),
        lambda d: d.assign(treat=[0.5, *d.treat.tolist()[1:]])),
    Bad("unknown treatment", 3, ("NULL_TREATMENT", "treat", "3"), holes("treat", 3)),
    Bad("text for treatment", 2, ("treat", "string"), lambda d: d.assign(treat=d.treat.map({0: "no", 1: "yes"}))),
    Bad("text for outcome", 2, ("sale", "string"), lambda d: d.assign(sale=d.sale.astype(str)), every_engine=True),
    Bad("outcome without a value", 3, ("NULL_OUTCOME", "sale", "2"), holes("sale", 2)),
    Bad("endless outcome", 3, ("NAN_INF", "sale"), holes("sale", 2, float("-inf"))),
    Bad("endless covariate", 3, ("NAN_INF", "income"), holes("income", 1, float("inf"))),
    Bad("covariate without a value", 3, ("NULL_COVARIATE", "income", "7", "indicator", "drop"), holes("income", 7),
        every_engine=True),
    Bad("constant covariate", 3, ("CONSTANT_COVARIATE", "income", "5"), put(income=5.0), every_engine=True),
    Bad("constant category", 3, ("CONSTANT_COVARIATE", "city", "Ulm"), put(city="Ulm")),
    Bad("nothing left after dropping", 3, ("EMPTY_TABLE",), put(income=pd.Series([None] * N, dtype="float")),
        {"covariates": ["age", {"name": "income", "nulls": "drop"}]}),
    Bad("nobody treated after dropping", 3, ("NO_TREATED", "treat"),
        lambda d: d.assign(income=d.income.where(d.treat == 0)),
        {"covariates": ["age", {"name": "income", "nulls": "drop"}]}),
    Bad("nothing but missing", 3, ("CONSTANT_COVARIATE", "income", "NULL"),
        put(income=pd.Series([None] * N, dtype="float")),
        {"covariates": ["age", {"name": "income", "nulls": "indicator"}]}),
    Bad("one category left after dropping", 3, ("CONSTANT_COVARIATE", "city"),
        lambda d: d.assign(income=d.income.where(d.city == "Ulm")),
        {"covariates": ["age", "city", {"name": "income", "nulls": "drop"}]}),
    Bad("one number left after dropping", 1, ("old",),
        lambda d: d.assign(old=(d.age > 40).astype(int), income=d.income.where(d.age > 40)),
        {"covariates": ["age", "old", {"name": "income", "nulls": "drop"}]}),
    Bad("unit twice", 3, ("DUPLICATE_UNIT", "id", "1"), lambda d: pd.concat([d, d.iloc[:1]]), every_engine=True),
    Bad("unit without a key", 3, ("NULL_KEY", "id"), holes("id", 1)),
    Bad("cluster without a key", 3, ("NULL_KEY", "shop"), holes("shop", 1), {"cluster": "shop"}),
    Bad("unknown column", 2, ("incme", "income"), method={"covariates": ["age", "incme"]}),
    Bad("unknown exact column", 2, ("citi", "city"), method={"matching": {"exact": ["citi"]}}, every_engine=True),
    Bad("unknown distance", 2, ("chans", "chance"), method={"matching": {"distance": "chans"}}),
    Bad("text for distance", 2, ("city", "string"), method={"matching": {"distance": "city"}}),
    Bad("unknown column of ties", 2, ("row",), method={"matching": {"ties": "row"}}),
    Bad("text for ties", 2, ("city", "string"), method={"matching": {"ties": "city"}}),
    Bad("category as number", 2, ("city", "string"), method={"covariates": [{"name": "city", "kind": "numeric"}]}),
    Bad("unknown base", 2, ("city", "Trier", "Bonn"), method={"covariates": CITIES}),
    Bad("too many levels", 2, ("id2", str(prepare.MAX_LEVELS)), lambda d: d.assign(id2=d.id),
        {"covariates": ["age", "id2"]}),
    Bad("too many doses", 2, ("age", str(prepare.MAX_ARMS)),
        method={"treatments": ["age"], "covariates": ["income"], "estimators": ["aipw"], "estimand": "ATE"}),
    Bad("doses to trim", 2, ("method.trim", "dose"), lambda d: d.assign(dose=2 * d.treat + (d.age > 40)),
        {"treatments": ["dose"], "covariates": ["income"], "estimators": ["dml"], "trim": "minmax"}),
    Bad("one text for all", 3, ("NO_CONTROL", "plan"), put(plan="basic"),
        {"treatments": ["plan"], "covariates": ["age"], "estimators": ["aipw"], "estimand": "ATE"}),
    Bad("score of 0 and 1", 3, ("SCORE_RANGE", "chance", "0", "1"), lambda d: d.assign(chance=d.treat * 1.0),
        {"score": "chance"}),
    Bad("score in per cent", 3, ("SCORE_RANGE", "chance"), lambda d: d.assign(chance=100 * d.chance),
        {"score": "chance"}, every_engine=True),
    Bad("score without a value", 3, ("NULL_OUTCOME", "chance"), holes("chance", 2), {"score": "chance"}),
    Bad("arms apart", 3, ("NO_OVERLAP", "treat", "0.9", "0.1"), lambda d: d.assign(chance=0.1 + 0.8 * d.treat),
        {"score": "chance"}, every_engine=True),
    Bad("trim that leaves nobody", 3, ("NOTHING_KEPT", "treat", "0.98", "0.99"), method={"trim": [0.98, 0.99]}),
    Bad("trim that leaves one arm", 3, ("NOTHING_KEPT", "treat"),
        lambda d: d.assign(chance=np.where(d.treat, 0.3 + 0.6 * d.chance, np.minimum(0.8 * d.chance, 0.7))),
        {"score": "chance", "trim": [0.75, 0.99], "estimators": ["ipw"]}),
    Bad("caliper that leaves nothing", 1, ("1e-12", "method.matching.caliper"),
        method={"matching": {"caliper": 1e-12, "caliper_scale": "raw", "exact": ["id2"]}},
        change=lambda d: d.assign(id2=d.id)),
    Bad("caliper that leaves nothing, with replacement", 1, ("1e-12", "method.matching.caliper"),
        method={"matching": {"caliper": 1e-12, "caliper_scale": "raw", "replace": True}}),
    Bad("no common cell", 1, ("cem",), lambda d: d.assign(income=d.income + 10_000 * d.treat),
        {"covariates": [{"name": "income", "bins": 2}], "estimators": ["cem"]}),
    Bad("separated by a number", 1, ("income",), lambda d: d.assign(income=d.income + 10_000 * d.treat),
        every_engine=True),
    Bad("separated by a category", 1, ("city=Ulm",), lambda d: d.assign(treat=d.treat.where(d.city != "Ulm", 1))),
    Bad("collinear", 1, ("months",), lambda d: d.assign(months=12 * d.age), {"covariates": ["age", "income", "months"]},
        every_engine=True),
    Bad("target out of reach of the weights", 1, ("income",),
        lambda d: d.assign(income=d.income + 3_000 * d.treat), {"estimators": ["entropy"]}),
]  # fmt: skip


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """All tables in both languages on the embedded engine, a few in one where each stage costs a second."""
    if "bad" in metafunc.fixturenames:
        sail = metafunc.config.getoption("--engine") == "sail"
        every = [(bad, language) for bad in BAD for language in LANGUAGES]
        cases = [(bad, language) for bad, language in every if sail or (bad.every_engine and language == "en")]
        metafunc.parametrize(("bad", "language"), cases, ids=[f"{bad.name} {language}" for bad, language in cases])


def test_tables_are_refused_by_name(spark, bad, language, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("CAUSAL_SPARK_LANGUAGE", language)
    frame = units() if bad.change is None else bad.change(units())
    write(frame, tmp_path / "units")
    data = config(tmp_path)
    data["report"] = {"language": language}
    data["method"] |= bad.method
    file = saved(data, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(["run", file]) == bad.code
    caught = capsys.readouterr()
    assert_speaks(caught.err, bad.words, language)
    assert caught.out == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_the_clean_table_passes(spark, tmp_path, capsys) -> None:
    """Else all of the above could be refused for another reason."""
    write(units(), tmp_path / "units")
    assert cli.main(["run", saved(config(tmp_path), tmp_path)]) == 0
    assert (tmp_path / "out" / "manifest.json").exists()


# --- what is declared is done and counted --------------------------------------------------------------------------


def run(frame: pd.DataFrame, folder: Path, **method: Any) -> Any:
    write(frame, folder / "units")
    data = config(folder)
    data["method"] |= method
    return job.run(data, "matching").result


def found(result: Any, code: str) -> Mapping[str, Any]:
    checks = result.diagnostics["checks"]
    return dict(checks[checks["code"] == code].iloc[0])


def unadjusted(result: Any) -> float:
    rows = result.estimates
    return float(rows[(rows["method"] == "unadjusted") & (rows["term"] == "difference")]["estimate"].iloc[0])


def test_rows_that_are_dropped_are_counted(spark, tmp_path) -> None:
    frame = holes("income", 7)(units())
    result = run(frame, tmp_path, covariates=["age", {"name": "income", "nulls": "drop"}, "city"])
    check = found(result, "DROPPED_ROWS")
    assert (check["verdict"], check["count"]) == ("warn", 7)
    assert "income" in check["message"]
    left = frame.iloc[7:]
    wanted = left[left["treat"] == 1]["sale"].mean() - left[left["treat"] == 0]["sale"].mean()
    assert unadjusted(result) == pytest.approx(wanted, rel=1e-10)
    sizes = result.diagnostics["sizes"].set_index("estimator")
    assert sizes.loc["unadjusted", "used"] == N - 7


def test_a_missing_number_is_an_indicator_of_its_own(spark, tmp_path, engine) -> None:
    if engine == "connect":
        pytest.skip("one of the two Spark engines is enough")
    frame = holes("income", 40)(units().sample(frac=1, random_state=0))
    result = run(frame, tmp_path, covariates=["age", {"name": "income", "nulls": "indicator"}], estimators=["ipw"])
    terms = result.diagnostics["propensity"]["term"].tolist()
    assert "income (missing)" in terms
    balance = result.diagnostics["balance"].set_index(["estimator", "covariate"])
    row = balance.loc[("unadjusted", "income (missing)")]
    share = frame.assign(gone=frame["income"].isna()).groupby("treat")["gone"].mean()
    assert row["mean_treated"] == pytest.approx(share[1], rel=1e-10)
    assert row["mean_control"] == pytest.approx(share[0], rel=1e-10)
    assert "DROPPED_ROWS" not in result.diagnostics["checks"]["code"].tolist()


def test_a_missing_category_is_a_level(spark, tmp_path, engine) -> None:
    if engine == "connect":
        pytest.skip("one of the two Spark engines is enough")
    frame = holes("city", 60)(units().sample(frac=1, random_state=0))
    result = run(frame, tmp_path, covariates=["age", {"name": "city", "nulls": "indicator", "base": "Ulm"}])
    labels = [name for name in result.diagnostics["propensity"]["term"] if name.startswith("city=")]
    assert labels == ["city=Bonn", "city=Köln", "city=(missing)"]


def test_names_are_taken_as_they_are(spark, tmp_path, engine) -> None:
    """Dots, blanks, backticks and signs of other trades in the names of columns."""
    if engine == "connect":
        pytest.skip("one of the two Spark engines is enough")
    # x0, t0, y0, n and b are names that the job uses itself.
    names = {
        "later": "t0",
        "id": "u.id",
        "treat": "got `it`",
        "age": "age (years)",
        "income": "in.come",
        "city": "c,ity",
        "sale": "é x",
    }
    method = {
        "unit": "u.id", "treatments": ["got `it`"], "outcomes": ["é x"], "covariates": ["age (years)", "in.come"],
        "matching": {"exact": ["c,ity", "b", "y0"], "caliper": 0.5, "ties": "n", "distance": "t0"},
        "propensity": {"model": "boosted"},
    }  # fmt: skip
    result = run(units().assign(b=1, y0=True, n=range(N)).rename(columns=names), tmp_path, **method)
    assert set(result.estimates["contrast"]) == {"got `it`"}
    assert result.estimates["estimate"].notna().all()
    pairs = pq.read_table(tmp_path / "out" / "pairs").to_pandas()
    city = units().set_index("id")["city"]
    assert len(pairs) > 50
    assert (city[pairs["treated_id"]].to_numpy() == city[pairs["control_id"]].to_numpy()).all()


def test_the_base_is_the_most_frequent_unless_declared(spark, tmp_path, engine) -> None:
    if engine != "sail":
        pytest.skip("the same grouping on every engine is tested elsewhere")
    frame = units()
    most = frame["city"].value_counts().index[0]
    for base, expected in ((None, most), ("Ulm", "Ulm")):
        folder = tmp_path / expected / str(base)
        result = run(frame, folder, covariates=["age", {"name": "city", **({"base": base} if base else {})}])
        labels = [name for name in result.diagnostics["propensity"]["term"] if name.startswith("city=")]
        assert labels == [f"city={name}" for name in sorted(set(frame["city"]) - {expected})]


def test_other_numbers_than_0_and_1_are_for_the_linear_model(spark, tmp_path, engine) -> None:
    if engine != "sail":
        pytest.skip("the check is the one of every other test")
    result = run(units(), tmp_path, treatments=["age"], covariates=["income"], estimators=["dml"])
    rows = result.estimates
    assert set(rows["method"]) == {"dml"}
    assert json.loads(rows[["estimate", "std_error"]].notna().all().to_json()) == {"estimate": True, "std_error": True}


def test_nobody_beyond_the_other_arm_is_found_by_share(spark, tmp_path, engine) -> None:
    """Treated units with a propensity above every control are counted and reported."""
    if engine != "sail":
        pytest.skip("the check is arithmetic on one table")
    frame = units()
    top = frame["chance"].max() + 0.01
    frame["chance"] = np.where(np.arange(N) < 20, np.minimum(top, 0.99), frame["chance"])
    frame["treat"] = np.where(np.arange(N) < 20, 1, frame["treat"])
    result = run(frame, tmp_path, score="chance", estimators=["ipw"])
    check = found(result, "OVERLAP")
    beyond = (frame["treat"] == 1) & (frame["chance"] > frame[frame["treat"] == 0]["chance"].max())
    assert check["verdict"] == "warn"
    assert check["share"] == pytest.approx(beyond.sum() / (frame["treat"] == 1).sum(), abs=0.02)
