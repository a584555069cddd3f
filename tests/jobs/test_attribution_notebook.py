"""The notebook of attribution and budget runs from top to bottom."""

from __future__ import annotations

from pathlib import Path

import pytest

from causal_spark.simulate_journeys import RESPONSES
from tests.jobs.test_notebook import run_notebook
from tests.run import ROOT

pytestmark = pytest.mark.engines("sail")  # the jobs it runs are tested on every engine


def test_runs_and_shows_credit_and_plan(spark, tmp_path: Path) -> None:
    names, shown = run_notebook(
        ROOT / "notebooks" / "attribution.py", spark, {"folder": str(tmp_path), "persons": "1500"}
    )
    caused, compared, plan, scenarios, credited = shown
    bought = names["log"].conversions.num_rows
    assert caused["caused"].sum() == bought
    for model in ("first", "linear", "markov_1", "shapley", "shapley_rate"):
        assert compared[model].sum() == pytest.approx(bought, rel=1e-9), model
    assert set(plan["channel"]) == set(RESPONSES)
    assert plan["spend_planned"].sum() == pytest.approx(plan["spend_now"].sum(), rel=1e-9)
    assert scenarios.loc[scenarios["scenario"] == "plan", "gain"].item() > 0
    weekly = names["weekly"].result.diagnostics["credits_by_period"].query("complete")
    assert credited["spend_now"].sum() == pytest.approx(weekly["cost"].sum() / weekly["period"].nunique(), rel=1e-9)
    assert len(names["pages"]) == 2
