"""Tests that look again and again: the committed table keeps its bands, and the job crosses where its bounds say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.calibration.simulate_experiments import Row, read
from tests.calibration.simulate_looks import (
    CSV,
    Looks,
    by_group,
    by_job,
    by_sequence,
    cases,
    outside,
    paths,
    simulate,
)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return read(CSV)


def chosen(test: str, looks: int) -> Looks:
    return next(case for case in cases() if (case.test, case.looks) == (test, looks))


def test_the_committed_table(rows: list[Row]) -> None:
    """Every case once, in order; the main ones inside their bands."""
    assert [(row["test"], row["design"], row["role"]) for row in rows] == [
        (case.test, case.name, "limit" if case.limit else "main") for case in cases()
    ]
    for row in rows:
        assert row["outside"] == " ".join(outside(row))
        assert row["role"] == "limit" or not row["outside"], row


def test_the_size_that_was_asked_for(rows: list[Row]) -> None:
    """By integration at most 0.0525 at 5, 14 and 30 looks; simulated at most 0.0665 with 20 looks."""
    spent = [row for row in rows if row["size_exact"] and row["role"] == "main"]
    assert {row["looks"] for row in spent} >= {"5", "14", "20", "30"}
    assert all(float(row["size_exact"]) <= 0.0525 for row in spent)
    assert all(float(row["size"]) <= 0.0665 for row in rows if row["looks"] == "20")


def test_simulated_again() -> None:
    """2,000 experiments keep the wider bands; the same experiments, tested at 5 % at each look, leave them."""
    looks = chosen("Pocock", 5)
    assert outside(simulate(replace(looks, replicates=2_000))) == []
    assert simulate(replace(looks, test="fixed test", replicates=2_000))["outside"] == "size coverage"


@pytest.mark.parametrize(("test", "judge"), [("Pocock", by_group), ("always-valid", by_sequence)])
def test_the_job_crosses_where_its_bounds_say(test, judge) -> None:  # type: ignore[no-untyped-def]
    """The same paths through the whole job and through the bounds alone."""
    looks = chosen(test, 5)
    path = paths(np.random.default_rng(3), np.arange(1, 6) / 5, looks.plan.units, True, 12)
    job, alone = by_job(path, looks), judge(path, looks)
    np.testing.assert_array_equal(job[0], alone[0])
    np.testing.assert_array_equal(job[1], alone[1])
    assert 0 < alone[0].sum() < len(alone[0])
