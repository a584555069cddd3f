"""The committed table of matching and weighting is complete and inside its bands; a fresh simulation agrees."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from tests.calibration.page_matching import PAGE, render
from tests.calibration.simulate_matching import (
    DESIGNS,
    REPLICATES,
    SE_BAND,
    Cell,
    Plan,
    Row,
    plans,
    read,
    simulate,
    slack,
    summary,
)

table = cache(read)
truths = cache(lambda design: DESIGNS[design].truths(1_000_000))


def label(row: Row) -> str:
    return f"{row['estimator']}, {row['estimand']}, {row['design']}"


def cell(row: Row) -> Cell:
    numbers = (float(row[name]) for name in ("bias_sd", "se_ratio", "coverage", "undefined"))
    return Cell(int(row["replicates"]), *numbers)


# the committed table ------------------------------------------------------------------------------------------------


def test_table_is_complete() -> None:
    """Every planned cell once, in order, with the planned number of samples."""
    expected = [(plan.estimator, plan.design, plan.estimand, plan.limit) for plan in plans()]
    assert [(row["estimator"], row["design"], row["estimand"], row["limit"]) for row in table()] == expected
    assert {row["replicates"] for row in table()} == {str(REPLICATES)}
    assert REPLICATES >= 2000


@pytest.mark.parametrize("design", DESIGNS)
def test_confounding_turns_the_sign(design: str) -> None:
    """The naive difference is negative where the effect is positive."""
    rows = [row for row in table() if row["design"] == design]
    assert all(float(row["naive"]) < -0.3 for row in rows)
    assert all(float(row["truth"]) > 0.8 for row in rows if not row["estimand"].endswith("sample"))
    found = truths(design)
    assert found["naive"] == pytest.approx(float(rows[0]["naive"]), abs=0.02)  # 1 M rows, standard deviation 4
    for row in rows:
        assert float(row["truth"]) == pytest.approx(found.get(row["estimand"], 0.0), abs=0.005)


@pytest.mark.parametrize("row", table(), ids=label)
def test_cell_of_the_table(row: Row) -> None:
    """``outside`` follows from the numbers. A main cell has nothing outside; a limit is what its name says, no more."""
    found = cell(row)
    assert " ".join(found.outside()) == row["outside"]
    if not row["limit"]:
        assert row["outside"] == ""
    assert ("biased" in row["limit"]) == ("bias_sd" in found.outside())
    assert ("wide" in row["limit"]) == (found.se_ratio > SE_BAND[1])
    assert found.se_ratio >= SE_BAND[0]  # no error is too small
    assert found.undefined == 0


def test_limits_are_these() -> None:
    """The known shortfalls by name, so that no new one hides among them."""
    found: dict[str, set[str]] = {}
    for row in table():
        if row["limit"]:
            found.setdefault(row["estimator"], set()).add(row["limit"])
    assert found == LIMITS


WIDE, BIASED, BOTH = {"wide"}, {"biased"}, {"biased wide"}
LIMITS = {
    # the covariate is normal: far matches in the tails
    "matching on x, M = 1": BIASED,
    "matching on x, M = 3": BIASED,
    "matching on x, M = 1, equal variances": WIDE | BIASED | BOTH,  # effects that differ count as variance
    "matching, M = 3, 2006, known score": BIASED,
    "matching, M = 1, 2016": BIASED,  # ATE, and ATC in one design: 0.10 to 0.12 standard deviations
    "matching, M = 3, 2016": BIASED,
    # the estimated score is taken as known
    "matching, M = 1, 2006, estimated score": WIDE | BOTH,
    "matching, M = 3, 2006, estimated score": BOTH,
    "ipw, score as given": WIDE,
    # the same, and what differs within the caliper or the stratum stays
    "pairs, closest, caliper 0.2": WIDE | BOTH,
    "pairs, largest, caliper 0.2": BOTH,
    "subclass, 5": BOTH,
    "grid, 50": WIDE | BOTH,
}


def test_main_cells_of_every_kind() -> None:
    """Each error that is offered as right is right somewhere, within the bands, in two cells or more."""
    kinds = ("matching on x, M = 1", "matching on x, M = 3", "matching, M = 1, 2006, known score",
             "matching, M = 1, 2016", "ipw", "aipw", "entropy", "dml")  # fmt: skip
    for kind in kinds:
        assert sum(row["estimator"] == kind and not row["limit"] for row in table()) >= 2


def test_correction_for_the_estimated_score_narrows_to_the_truth() -> None:
    """Abadie & Imbens (2016): without it the error of ATE and ATT is too wide by more than a tenth."""
    rows = {(row["estimator"], row["estimand"], row["design"]): cell(row) for row in table()}
    for estimand in ("ATE", "ATT"):
        for design in ("same effect", "other effects"):
            ours = rows["matching, M = 1, 2016", estimand, design]
            plain = rows["matching, M = 1, 2006, estimated score", estimand, design]
            assert plain.se_ratio > 1.1
            assert plain.coverage > 0.95 + slack(plain.replicates)
            assert ours.se_ratio == pytest.approx(1.0, abs=0.05)
            assert abs(ours.coverage - 0.95) <= slack(ours.replicates)


# a fresh simulation -------------------------------------------------------------------------------------------------


def test_simulated_again() -> None:
    """200 other samples agree within 4 Monte-Carlo errors: 5 % of the ratio, 1.5 points of the coverage."""
    for design, names in CHEAP.items():
        chosen = [plan for plan in plans() if plan.design == design and (plan.estimator, plan.estimand) in names]
        assert len(chosen) == len(names)
        for plan, fresh in zip(chosen, simulate(design, chosen, truths(design), 200, salt=1), strict=True):
            row = cell(committed(plan))
            assert fresh.se_ratio == pytest.approx(row.se_ratio, rel=0.2), plan
            assert fresh.coverage == pytest.approx(row.coverage, abs=0.06), plan
            assert fresh.bias_sd == pytest.approx(row.bias_sd, abs=4 / np.sqrt(200)), plan


CHEAP = {
    "one covariate, bounded": {("matching on x, M = 1", "ATE"), ("matching on x, M = 3", "ATT")},
    "same effect": {("matching, M = 1, 2016", "ATE"), ("ipw", "ATE"), ("pairs, closest, caliper 0.2", "ATT")},
    "other effects": {("aipw", "ATT"), ("entropy", "ATT"), ("grid, 50", "ATT")},
}


def committed(plan: Plan) -> Row:
    keys = plan.estimator, plan.design, plan.estimand
    return next(row for row in table() if (row["estimator"], row["design"], row["estimand"]) == keys)


# the bands catch faults -----------------------------------------------------------------------------------------------


def answers(shift: float = 0.0, factor: float = 1.0) -> np.ndarray:
    """2,500 normal estimates of standard deviation 1 with an error that may be off."""
    estimate = np.random.default_rng(6).normal(size=REPLICATES) + shift
    return np.column_stack([estimate, np.full(REPLICATES, factor)])


@pytest.mark.parametrize(
    ("fault", "caught"),
    [
        ({"factor": 0.9}, {"se_ratio", "coverage"}),
        ({"factor": 1.15}, {"se_ratio", "coverage"}),
        ({"shift": 0.2}, {"bias_sd"}),
        ({"shift": 0.5}, {"bias_sd", "coverage"}),
    ],
)
def test_bands_catch(fault: dict[str, float], caught: set[str]) -> None:
    assert set(summary(answers(**fault), 0.0).outside()) == caught
    assert summary(answers(), 0.0).outside() == []


def test_missing_answers_are_told() -> None:
    few = answers()
    few[3] = np.nan
    found = summary(few, 0.0)
    assert found.undefined == pytest.approx(1 / REPLICATES)
    assert found.outside() == ["undefined"]


def test_page_is_the_table() -> None:
    """``python -m tests.calibration.page_matching`` writes it, so it cannot drift from the table."""
    assert PAGE.read_text(encoding="utf-8") == render()
