"""The notebook runs from top to bottom, also on Spark Connect, and its numbers are those of statsmodels and scipy."""

from __future__ import annotations

import ast
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportions_ztest

from tests.run import ROOT

pytestmark = pytest.mark.engines("sail", "connect")

NOTEBOOK = ROOT / "notebooks" / "experiment.py"
MARK, CELL, MAGIC = "# Databricks notebook source", "# COMMAND ----------", "# MAGIC"
RTOL = 1e-9


def cells(path: Path) -> list[str]:
    """The code of each cell, without cells of magic."""
    text = path.read_text(encoding="utf-8").removeprefix(MARK)
    found = ("\n".join(line for line in cell.splitlines() if not line.startswith(MAGIC)) for cell in text.split(CELL))
    return [cell for cell in found if cell.strip()]


def run_notebook(
    path: Path, spark: Any, answers: dict[str, str], until: str | None = None
) -> tuple[dict[str, Any], list[pd.DataFrame]]:
    """Run the cells in one namespace with stand-ins for what Databricks gives; the names left, and what was shown.

    ``until``: stop before the cell that holds this text.
    """
    shown: list[pd.DataFrame] = []
    pages: list[str] = []
    widgets: dict[str, str] = {}

    def display(frame: Any) -> None:
        shown.append(frame if isinstance(frame, pd.DataFrame) else frame.toPandas())

    def widget(name: str, default: str, *_: object) -> None:
        widgets[name] = answers.get(name, default)

    dbutils = SimpleNamespace(widgets=SimpleNamespace(text=widget, dropdown=widget, get=widgets.__getitem__))
    names = {"spark": spark, "display": display, "displayHTML": pages.append, "dbutils": dbutils, "pages": pages}
    for cell in cells(path):
        if until is not None and until in cell:
            break
        exec(compile(cell, str(path), "exec"), names)
    return names, shown


@pytest.fixture(scope="module")
def notebook(spark, engine, tmp_path_factory) -> tuple[dict[str, Any], list[pd.DataFrame]]:
    """On Connect only the real trials and the shop: a stage costs a second there, and other tests run each pass."""
    folder = tmp_path_factory.mktemp("notebook")
    until = None if engine == "sail" else "default_rng"
    return run_notebook(NOTEBOOK, spark, {"folder": str(folder), "users": "10000"}, until)


def one(frame: pd.DataFrame, **wanted: str) -> pd.Series:
    """The one row with these values, over all units."""
    for name, value in {"segment": "all", "term": "difference", **wanted}.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1
    return frame.iloc[0]


def test_vouchers(notebook) -> None:
    names, shown = notebook
    row, people = one(shown[0], outcome="fetched"), names["people"]
    counts = [people.loc[people["arm"] == arm, "got"] for arm in ("voucher", "nothing")]
    z, p = proportions_ztest([c.sum() for c in counts], [len(c) for c in counts])
    assert row["method"] == "z"
    assert row["statistic"] == pytest.approx(z, rel=RTOL)
    assert row["p_value"] == pytest.approx(p, rel=RTOL)
    assert row["estimate"] == pytest.approx(0.450552, abs=1e-6)


def test_training(notebook) -> None:
    names, shown = notebook
    men = names["men"]
    for frame, level in ((shown[1], 0.95), (shown[2], 0.99)):
        row = one(frame, method="welch")
        test = stats.ttest_ind(*(men.loc[men["treat"] == arm, "re78"] for arm in (1, 0)), equal_var=False)
        low, high = test.confidence_interval(level)
        wanted = {
            "statistic": test.statistic,
            "dof": test.df,
            "p_value": test.pvalue,
            "conf_low": low,
            "conf_high": high,
        }
        for name, value in wanted.items():
            assert row[name] == pytest.approx(value, rel=RTOL), name
        assert row["estimate"] == pytest.approx(1794.342, abs=5e-4)
        assert row["std_error"] == pytest.approx(670.997, abs=5e-4)


def test_drugs(notebook) -> None:
    names, shown = notebook
    patients = names["patients"]
    for arm in ("ddi", "zdv+ddi", "zdv+zal"):
        row = one(shown[3], outcome="cd4", contrast=f"{arm} vs zdv", method="welch")
        test = stats.ttest_ind(*(patients.loc[patients["arm"] == a, "cd420"] for a in (arm, "zdv")), equal_var=False)
        assert row["p_value"] == pytest.approx(test.pvalue, rel=RTOL)
    assert set(shown[3]["segment"]) == {"all", "sex=female", "sex=male"}


def test_shop(notebook) -> None:
    names, shown = notebook
    truth, estimates = shown[4].set_index("truth"), shown[5]
    for outcome, method in (("orders", "cuped"), ("revenue", "cuped"), ("retained", "z")):
        row = one(estimates, outcome=outcome, method=method)
        assert abs(row["estimate"] - truth.loc[outcome, "difference"]) < 4 * row["std_error"]
    exposures, events = (t.to_pandas() for t in (names["shop"].exposures, names["shop"].events))
    rows = events.merge(exposures[["user_id", "ts"]], on="user_id", suffixes=("", "_first"))
    orders = rows[(rows["type"] == "purchase") & (rows["ts"] >= rows["ts_first"])].groupby("user_id").size()
    counts = exposures["user_id"].map(orders).fillna(0.0)
    test = stats.ttest_ind(*(counts[exposures["variant"] == arm] for arm in ("treatment", "control")), equal_var=False)
    row = one(estimates, outcome="orders", method="welch")
    np.testing.assert_allclose(
        [row["statistic"], row["p_value"], row["dof"]], [test.statistic, test.pvalue, test.df], RTOL
    )


def test_the_shop_is_decided_by_its_rule(notebook) -> None:
    """Retention against its margin from the lift's row; with a guardrail that is not settled, nothing ships."""
    _, shown = notebook
    margins, decision = shown[6].iloc[0], shown[7].iloc[0]
    row = one(shown[5], outcome="retained", method="z", term="lift")
    p = stats.norm.sf((row["estimate"] + 0.05) / row["std_error"])
    assert margins["p_value"] == pytest.approx(p, rel=RTOL)
    wins = [one(shown[5], outcome=name, method="cuped") for name in ("orders", "revenue")]
    won = any(win["p_adjusted"] < 0.05 and win["estimate"] > 0 for win in wins)
    assert decision["verdict"] == ("ship" if won and p < 0.05 else "stop")


@pytest.mark.engines("sail")
def test_the_drawn_checkout_is_answered_with_its_truth(notebook) -> None:
    names, _ = notebook
    estimates = names["estimates"]
    spent = np.exp(3 + (0.6**2 + 0.5**2) / 2)
    truth = 0.06 * spent / (spent + 0.2 * 8)
    for method in ("cuped", "welch", "bootstrap"):
        row = one(estimates, outcome="spent", method=method, term="lift")
        assert abs(row["estimate"] - truth) < 4 * row["std_error"]
    narrow, wide = (one(estimates, outcome="spent", method=name)["std_error"] for name in ("cuped", "welch"))
    assert narrow < 0.95 * wide
    cut = names["cuped"].set_index("outcome")["variance_reduction"]
    assert cut["visits, by a line"] < 0.02 and cut["visits, by trees"] > 0.3
    row = one(estimates, outcome="visits, by trees", method="cupac")
    assert abs(row["estimate"] - 0.2) < 4 * row["std_error"]
    assert set(estimates["method"]) >= {"quantile", "mann_whitney"}
    assert names["margins"].set_index("outcome").loc["latency", "state"] == "safe"


@pytest.mark.engines("sail")
def test_three_looks_under_a_plan_are_found_in_the_tracked_runs(notebook) -> None:
    names, _ = notebook
    looks = names["looks"]
    assert looks["look"].tolist() == [1, 2, 3]
    assert looks["fraction"].tolist() == pytest.approx([0.3, 0.6, 1.0], abs=1e-3)
    assert looks["bound"].is_monotonic_decreasing
    assert looks["spent"].iloc[-1] == pytest.approx(0.05)


@pytest.mark.engines("sail")
def test_triggered_users_and_a_switchback_with_its_burn_in(notebook) -> None:
    names, _ = notebook
    effects = names["effects"].set_index("term")
    diluted, plain = effects.loc["diluted difference"], effects.loc["difference"]
    assert abs(diluted["estimate"] - 0.3 * 0.7) < 4 * diluted["std_error"]
    assert diluted["std_error"] < plain["std_error"]
    folder = names["folder"]
    for burn_in, verdict, truth in ((0, "warn", -190 / 240), (60, "pass", -1.0)):
        row = pd.read_parquet(f"{folder}/rides-{burn_in}/estimates").iloc[0]
        assert abs(row["estimate"] - truth) < 4 * row["std_error"]
        checks = pd.read_parquet(f"{folder}/rides-{burn_in}/checks").set_index("code")
        assert checks.loc["CARRY_OVER", "verdict"] == verdict


@pytest.mark.engines("sail")
def test_reports_are_written_and_shown(notebook) -> None:
    names, _ = notebook
    (page,) = names["pages"]
    assert page.lstrip().lower().startswith("<!doctype html>")
    for name in ("vouchers", "training", "training-99", "drugs", "shop", "checkout", "strata", "clicks", "rides-60"):
        assert Path(names["folder"], name, "report.html").exists()


def test_notebooks_are_in_source_format_and_define_nothing() -> None:
    for path in sorted((ROOT / "notebooks").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        assert text.splitlines()[0] == MARK, path.name
        tree = ast.parse(text)
        assert not [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef | ast.Lambda)], path.name
