"""The committed table is complete and inside its bands, a fresh simulation agrees, and the bands catch known faults."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from scipy import stats

from causal_spark.solve.means import Form, evaluate, welch_dof
from causal_spark.solve.proportions import shares_test
from causal_spark.statistics import Moments
from tests.calibration.designs import CLUSTER, DESIGNS
from tests.calibration.page import LIMITS, render
from tests.calibration.simulate_experiments import (
    A_A,
    ALPHA,
    ESTIMATORS,
    PAGE,
    REPLICATES,
    SHARES,
    Answer,
    Cell,
    Row,
    band,
    planned_cells,
    read,
    replicate,
    simulate,
    summary,
    truth_of,
)

NUMBERS = ("bias_se", "se_ratio", "coverage", "rejection", "ks_p", "undefined")
table = cache(read)


def number(row: Row, name: str) -> float:
    return float(row[name]) if row[name] else math.nan


def label(row: Row) -> str:
    return f"{row['estimator']} on {row['design']}"


# the committed table ------------------------------------------------------------------------------------------------


def test_table_is_complete() -> None:
    """Every planned cell once, in order, with 10,000 replicates."""
    expected = [(estimator, design, "limit" if limit else "main") for estimator, design, limit in planned_cells()]
    expected += [(f"A/A, {estimator}", design, "main") for estimator, design in A_A]
    expected += [("sample ratio", name, "limit" if limit else "main") for name, _, _, limit in SHARES]
    assert [(row["estimator"], row["design"], row["role"]) for row in table()] == expected
    assert {row["replicates"] for row in table()} == {str(REPLICATES)}


def test_every_estimator_has_three_main_designs() -> None:
    for estimator in ESTIMATORS:
        assert sum(row["estimator"] == estimator and row["role"] == "main" for row in table()) >= 3


@pytest.mark.parametrize("row", table(), ids=label)
def test_cell_of_the_table(row: Row) -> None:
    """``outside`` follows from the numbers; a main cell has nothing outside and no number missing."""
    cell = Cell(int(row["replicates"]), *(number(row, name) for name in ("bias_se", "se_ratio", "coverage")),
                *(number(row, name) for name in ("rejection", "ks_p", "undefined")))  # fmt: skip
    assert " ".join(cell.outside()) == row["outside"]
    if row["role"] == "main":
        assert row["outside"] == ""
        asked = NUMBERS if row["coverage"] else ("rejection", "ks_p", "undefined")
        assert all(math.isfinite(number(row, name)) for name in asked)
    if not row["coverage"]:
        assert row["estimator"].startswith(("A/A", "sample ratio"))


def test_every_limit_is_explained() -> None:
    assert {row["design"] for row in table() if row["role"] == "limit"} == set(LIMITS)


def test_page_is_the_table() -> None:
    """``--page`` writes docs/calibration.md, so it cannot drift from the table."""
    assert PAGE.read_text(encoding="utf-8") == render(table())


# the bands ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "replicates", "low", "high"),
    [
        (0.95, 1000, 0.926, 0.971),
        (0.95, 2000, 0.9335, 0.9655),
        (0.95, 5000, 0.9396, 0.9598),
        (0.95, 10_000, 0.9427, 0.9570),
        (0.05, 2000, 0.0345, 0.0665),
        (0.05, 10_000, 0.0430, 0.0573),
    ],
)
def test_bands(share: float, replicates: int, low: float, high: float) -> None:
    """As published; the last printed digit may stand for the next count beyond."""
    assert band(share, replicates) == pytest.approx((low, high), abs=1.01 / replicates)


# a fresh simulation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("design", "estimators"),
    [
        ("normal", ("welch", "cuped within, 1")),
        ("sessions", ("ratio (delta)",)),
        ("equal clusters", ("clusters (CR1)",)),
        ("share 20 %", ("z",)),
    ],
)
def test_simulated_again(design: str, estimators: tuple[str, ...]) -> None:
    """2,000 experiments: inside the wider bands, and near the committed numbers (0.03 = 4 standard errors of 2,000)."""
    cells = simulate(DESIGNS[design], {name: ESTIMATORS[name] for name in estimators}, 2000)
    for name, cell in cells.items():
        assert cell.outside() == []
        row = next(row for row in table() if (row["estimator"], row["design"]) == (name, design))
        assert cell.coverage == pytest.approx(number(row, "coverage"), abs=0.03)
        assert cell.se_ratio == pytest.approx(number(row, "se_ratio"), abs=0.07)


# the gate catches faults --------------------------------------------------------------------------------------------


def welch_parts(t: Moments, c: Moments) -> Answer:
    """Estimate, standard error and degrees of freedom, for the faults to spoil."""
    a, b = evaluate(t, [Form("y")]), evaluate(c, [Form("y")])
    variances = a.vcov[0, 0], b.vcov[0, 0]
    dof = welch_dof(variances[0], a.n, variances[1], b.n)
    return a.value[0] - b.value[0], math.sqrt(sum(variances)), dof, math.nan, math.nan


def cluster_parts(t: Moments, c: Moments) -> Answer:
    """Rows in clusters as if they were independent, with their true spread √5."""
    rows = [part.n * part.mean[1] for part in (t, c)]
    estimate = t.mean[0] / t.mean[1] - c.mean[0] / c.mean[1]
    return float(estimate), math.sqrt(5 / rows[0] + 5 / rows[1]), 1e9, math.nan, math.nan


@cache
def parts(design: str) -> tuple[np.ndarray, np.ndarray]:
    """(estimate, std_error, dof) of 10,000 experiments with the effect and without, each of shape (3, 10000)."""
    estimate = {"": cluster_parts if DESIGNS[design].columns == CLUSTER else welch_parts}
    effect, null = (replicate(DESIGNS[design], estimate, REPLICATES, switch)[:, 0, :3].T for switch in (True, False))
    return effect, null


def spoiled(design: str, narrow: float = 1.0, shift: float = 0.0, normal: bool = False) -> Cell:
    """The cell of a test whose error is too small, whose estimate is off, or that takes the normal for Student's t."""

    def answers(estimate: np.ndarray, error: np.ndarray, dof: np.ndarray) -> np.ndarray:
        estimate, error = estimate + shift * error, narrow * error
        dof = np.full_like(dof, 1e9) if normal else dof
        half = stats.t.isf(ALPHA / 2, dof) * error
        p = 2 * stats.t.sf(np.abs(estimate / error), dof)
        return np.column_stack([estimate, error, p, estimate - half, estimate + half])

    effect, null = parts(design)
    return summary(truth_of("welch", DESIGNS[design]), answers(*effect), answers(*null))


@pytest.mark.parametrize(
    ("cell", "caught"),
    [
        (lambda: spoiled("small", narrow=0.9), {"coverage", "rejection", "se_ratio"}),
        (lambda: spoiled("small", normal=True), {"coverage", "rejection"}),
        (lambda: spoiled("small", shift=1 / 6), {"bias_se"}),
        (lambda: spoiled("equal clusters"), {"coverage", "rejection", "se_ratio", "ks_p"}),
    ],
    ids=["error times 0.9", "normal for Student", "shifted by a sixth of the error", "clusters ignored"],
)
def test_gate_catches(cell: Callable[[], Cell], caught: set[str]) -> None:
    """At N = 10,000 each fault is outside in the numbers that it touches."""
    assert caught <= set(cell().outside())


def test_gate_passes_the_sound_twin() -> None:
    """The same experiments, nothing spoiled."""
    assert spoiled("small").outside() == []


def test_sample_ratio_alarms() -> None:
    """10,000 sound experiments at p < 0.001: 2 to 22 alarms (99.9 % of binomial draws)."""
    counts = np.random.default_rng(11).binomial(1_000_000, 0.5, REPLICATES)
    alarms = sum(shares_test([a, 1_000_000 - a], [0.5, 0.5]).p_value < 0.001 for a in counts)
    assert 2 <= alarms <= 22


def test_sample_ratio_finds_a_mismatch() -> None:
    """50.5 to 49.5 on a million units: χ² of 100 on average, an alarm in each of 1,000 experiments."""
    counts = np.random.default_rng(12).binomial(1_000_000, 0.505, 1000)
    assert all(shares_test([a, 1_000_000 - a], [0.5, 0.5]).p_value < 0.001 for a in counts)


def test_sample_ratio_finds_dropped_units() -> None:
    """One in a hundred treated units is lost: z of 10 on four million units, an alarm in each of 1,000 experiments."""
    draw = np.random.default_rng(13)
    for control in draw.binomial(4_000_000, 0.5, 1000):
        treatment = draw.binomial(4_000_000 - control, 0.99)
        assert shares_test([treatment, control], [0.5, 0.5]).p_value < 0.001
