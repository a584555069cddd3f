"""The committed table of the response curves is complete and inside its bands; a fresh simulation agrees."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from tests.calibration.simulate_budget import DESIGNS, FITS, QUANTITIES, REPLICATES, read, simulate, summary
from tests.run import ROOT

ROWS = read()
NOISE = {
    fit: math.sqrt(0.95 * 0.05 / n) for fit, n in REPLICATES.items()
}  # Monte-Carlo standard error of a coverage of 95 %
NARROWEST = 0.85  # of the chosen family, whose choice the interval does not know


def test_table_is_complete() -> None:
    cells = [(row["design"], row["fit"], row["quantity"]) for row in ROWS]
    assert cells == [(design, fit, name) for design in DESIGNS for fit in FITS for name in QUANTITIES]
    assert {(row["fit"], int(row["replicates"])) for row in ROWS} == set(REPLICATES.items())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['design']}, {row['fit']}, {row['quantity']}")
def test_cell_of_the_table(row: dict[str, str]) -> None:
    coverage, ratio, bias = (float(row[name]) for name in ("coverage", "se_ratio", "bias_sd"))
    design = DESIGNS[row["design"]]
    assert float(row["truth"]) == pytest.approx(design.asked()[row["quantity"]](design.curve), abs=1e-4)
    assert float(row["undefined"]) == 0
    if row["fit"] == "own":
        assert abs(coverage - 0.95) <= 3 * NOISE[row["fit"]]
        assert ratio == pytest.approx(1, abs=0.12)  # a standard deviation of 400 values is known to 3.5 %
        assert abs(bias) < 0.25
    else:
        assert NARROWEST <= coverage <= 0.95 + 3 * NOISE[row["fit"]]


@pytest.mark.parametrize("fit", FITS)
def test_a_fresh_simulation_agrees(fit: str) -> None:
    design, fresh = DESIGNS["log"], range(REPLICATES[fit], REPLICATES[fit] + (60 if fit == "own" else 12))
    answers = simulate(design, fit, fresh)
    for row in ROWS:
        if (row["design"], row["fit"]) == ("log", fit):
            found = summary(design, row["quantity"], answers[row["quantity"]])
            p = float(row["coverage"])
            assert abs(found["coverage"] - p) < 4 * math.sqrt(max(p * (1 - p), 0.03) / len(fresh))
            assert np.isfinite(found["se_ratio"])


@pytest.mark.parametrize("page", ["budget.md", "budget.zh.md"])
def test_the_page_says_the_figures_of_the_table(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    for fit in FITS:
        mine = [float(row["coverage"]) for row in ROWS if row["fit"] == fit]
        low, high = f"{min(mine):.1%}", f"{max(mine):.1%}"
        assert re.search(rf"{re.escape(low)} \S+ {re.escape(high)}", text.replace(" %", "%")), (fit, low, high)
