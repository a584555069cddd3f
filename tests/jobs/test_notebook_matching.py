"""The matching notebook runs from top to bottom and recovers what is known of its data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.jobs.test_notebook import run_notebook
from tests.run import ROOT

pytestmark = pytest.mark.engines("sail")  # the jobs it runs are tested on every engine


@pytest.fixture(scope="module")
def notebook(spark, tmp_path_factory) -> tuple[dict[str, Any], list[pd.DataFrame]]:
    return run_notebook(ROOT / "notebooks" / "matching.py", spark, {"folder": str(tmp_path_factory.mktemp("notebook"))})


def test_the_benchmark_and_the_naive_difference_are_the_published_ones(notebook) -> None:
    """Dehejia & Wahba (1999): 1,794 in the experiment, -8,498 against the survey."""
    names, shown = notebook
    assert names["benchmark"] == pytest.approx(1794.342, abs=5e-4)
    naive = shown[0].set_index("method").loc["unadjusted"]
    assert naive["estimate"] == pytest.approx(-8497.516, abs=5e-4)


def test_every_adjusted_estimate_is_near_the_benchmark(notebook) -> None:
    """Each interval holds the experiment's effect, from which the plain difference is more than 10,000 away."""
    names, shown = notebook
    rows = shown[0][~shown[0]["method"].isin(["unadjusted", "regression"])]
    assert list(rows["method"]) == ["matching", "subclass", "ipw", "overlap", "entropy", "aipw", "dml"]
    inside = (rows["conf_low"] < names["benchmark"]) & (names["benchmark"] < rows["conf_high"])
    assert inside.all(), rows[~inside]


def test_coarse_subclasses_fail_and_are_called_not_valid(notebook) -> None:
    names, shown = notebook
    row = shown[3].query("method == 'subclass' and term == 'difference'").iloc[0]
    assert row["conf_high"] < names["benchmark"]
    assert "not valid" in (Path(names["folder"]) / "training-coarse" / "report.html").read_text(encoding="utf-8")


def test_the_drawing_and_the_reports_are_there(notebook) -> None:
    names, _ = notebook
    folder = Path(names["folder"])
    assert (folder / "recovered.png").stat().st_size > 1000
    assert "1,794" in names["figure"].axes[0].get_title()
    (page,) = names["pages"]
    assert page.lstrip().lower().startswith("<!doctype html>")
    for name in ("training", "training-coarse", "training-99", "shop"):
        assert (folder / name / "report.html").exists()


def test_channels_return_what_was_simulated(notebook) -> None:
    """E-mail brings 6 a customer and search 1.5, each within four standard errors; the placebo is still."""
    _, shown = notebook
    rows = shown[4]
    assert set(rows["term"]) == {"difference", "incremental", "roi"}
    effects = rows[(rows["outcome"] == "revenue") & (rows["term"] == "difference") & (rows["method"] == "aipw")]
    for channel, truth in (("email", 6.0), ("search", 1.5)):
        row = effects[effects["contrast"] == channel].iloc[0]
        half = (row["conf_high"] - row["conf_low"]) / 2 / 1.96
        assert abs(row["estimate"] - truth) < 4 * half, channel
    placebo = rows[(rows["outcome"] == "visits_before") & (rows["method"] != "unadjusted")]
    assert (placebo["p_value"] > 0.001).all()
