"""The matching job where the truth is known: simulated confounding, on every engine and in any blocks."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from causal_spark import job
from causal_spark.methods.matching import prepare, score
from causal_spark.spark import neighbours
from tests.matching_runs import EFFECT, RTOL, config, confounded, kept, only_on_sail, pairs_of, row, written

ALL = ["matching", "grid", "subclass", "ipw", "overlap", "entropy", "aipw", "dml"]
FEW = ["matching", "ipw", "entropy"]


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


def assert_texts_are_levels(levels: Any, frame: pd.DataFrame, folder: Path) -> None:
    """The same doses by name: each against the most frequent, which is neither the first nor the lowest."""
    data = config(written(frame, folder / "texts"), folder / "named", outcomes=["y"], estimand="ATE",
                  covariates=["a", "amount"], estimators=["aipw"])  # fmt: skip
    data["method"]["treatments"] = ["dose"]
    named = job.run(data, "matching").result
    assert frame["dose"].mode().tolist() == ["one"]
    one, two = (row(levels, "aipw", contrast=f"dose: {k} vs 0") for k in (1, 2))
    none, both = (row(named, "aipw", contrast=f"dose: {name} vs one") for name in ("none", "both"))
    assert (none.estimate, none.std_error) == pytest.approx((-one.estimate, one.std_error), rel=1e-9)
    assert both.estimate == pytest.approx(two.estimate - one.estimate, rel=1e-9)


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
    assert_texts_are_levels(levels, frame.assign(dose=frame["dose"].map({0: "none", 1: "one", 2: "both"})), tmp_path)
    data = config(table, tmp_path / "amount", covariates=["a", {"name": "dose", "kind": "categorical"}],
                  estimators=["dml"], **method)  # fmt: skip
    data["method"]["treatments"] = ["amount"]
    found = row(job.run(data, "matching").result, "dml")
    assert abs(found.estimate - 0.5) < 4 * found.std_error
    assert found.std_error < 0.05
