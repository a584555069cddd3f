"""The notebook of experiment design runs from top to bottom on every engine."""

from __future__ import annotations

from pathlib import Path

from tests.jobs.test_notebook import run_notebook
from tests.run import ROOT


def test_runs_and_shows_sizes_verdicts_and_arms(spark, tmp_path: Path) -> None:
    answers = {"folder": str(tmp_path), "users": "6000"}
    names, shown = run_notebook(ROOT / "notebooks" / "experiment_design.py", spark, answers)
    _, sizes, detectable, verdicts, arms, left = shown
    revenue = sizes[(sizes["outcome"] == "revenue") & (sizes["lift"] == 0.05)].set_index("test")["units"]
    assert revenue["cuped"] < 0.9 * revenue["welch"]
    assert (sizes["weeks"] * 7 >= sizes["days"])[sizes["days"].notna()].all()
    assert (detectable["lift"] > 0).all()
    trusted = verdicts.set_index(["outcome", "test"])["trusted"]
    assert trusted["ordered", "z"] and trusted["revenue", "cuped"]
    assert not trusted["staked", "welch"]
    assert arms["n"].sum() == 6000
    assert (left["smd"].abs() < 0.05).all()
    assert len(names["pages"]) == 1
