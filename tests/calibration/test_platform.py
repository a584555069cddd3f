"""A fresh simulation of every case lies in its bands, the committed table agrees, and a wrong error is caught."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.calibration import simulate_looks
from tests.calibration.cases import Case, Rng
from tests.calibration.page_platform import FAMILIES, LIMITS, PAGE, render
from tests.calibration.simulate_experiments import REPLICATES, Answer, Row, band, read, within
from tests.calibration.simulate_platform import CASES, CSV, simulate

FRESH = 120  # replicates; the bands of shares are exact for it, those of means get four standard errors
CAUTIOUS = ("empirical Bayes",)  # shown as limits, but never far from their level
SOUND = [case for case in CASES if not case.limit or case.estimator in CAUTIOUS]


def label(case: Case) -> str:
    return f"{case.estimator}, {case.design}"


def faults(case: Case, replicates: int) -> list[str]:
    row = simulate(case, replicates)
    coverage, rejection = (float(row[name] or 0.0) for name in ("coverage", "rejection"))
    checks = {
        "coverage": coverage >= band(0.95, replicates)[0] if case.limit else within(coverage, band(0.95, replicates)),
        "rejection": rejection <= band(0.05, replicates)[1],
        "undefined": float(row["undefined"]) == 0,
    }
    if not case.limit:
        checks["bias_se"] = abs(float(row["bias_se"])) < 4 / math.sqrt(replicates)
        checks["se_ratio"] = abs(float(row["se_ratio"]) - 1) < 4 / math.sqrt(2 * replicates)
    return [name for name, fine in checks.items() if not fine]


@pytest.mark.parametrize("case", [case for case in SOUND if case.fresh], ids=label)
def test_a_fresh_simulation(case: Case) -> None:
    assert faults(case, FRESH) == []


@pytest.mark.slow
@pytest.mark.parametrize("case", SOUND, ids=label)
def test_a_long_simulation(case: Case) -> None:
    assert faults(case, 2000 // case.fewer) == []


def test_an_error_that_is_too_small_is_caught() -> None:
    """A fifth too narrow: 88 % coverage, seen with 2000 replicates."""

    def narrow(rng: Rng, effect: bool) -> Answer:
        d = rng.normal(0.5 if effect else 0.0, 1.0)
        return d, 0.8, 2 * (1 - float(np.clip(abs(d) / 2, 0, 1))), d - 1.96 * 0.8, d + 1.96 * 0.8

    wrong = replace(CASES[0], truth=0.5, draw=narrow)
    assert {"coverage", "se_ratio"} <= set(faults(wrong, 2000))


# the committed table ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return read(CSV)


def test_the_committed_table(rows: list[Row]) -> None:
    """Every case once, in order; a main case inside its bands."""
    assert [(row["estimator"], row["design"]) for row in rows] == [(case.estimator, case.design) for case in CASES]
    for row, case in zip(rows, CASES, strict=True):
        assert row["role"] == ("limit" if case.limit else "main")
        assert row["replicates"] == str(REPLICATES // case.fewer)
        assert case.limit or not row["outside"], row
    for row in (row for row in rows if row["estimator"] in CAUTIOUS):
        assert float(row["coverage"]) >= 0.93, row


def test_every_case_is_on_the_page(rows: list[Row]) -> None:
    starts = tuple(start for given, _ in FAMILIES.values() for start in given)
    assert all(row["estimator"].startswith(starts) for row in rows if row["role"] == "main")
    looks = read(simulate_looks.CSV)
    limits = {row["design"] for row in rows if row["role"] == "limit"}
    limits |= {row["test"] for row in looks if row["role"] == "limit"}
    assert {about for abouts, _ in LIMITS.values() for about in abouts} == limits
    assert PAGE.read_text(encoding="utf-8") == render(rows, looks)
