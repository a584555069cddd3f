"""Signed ranks from counts: those of scipy where cells are exact, a valid test where they are not, in any blocks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from causal_spark.solve import pair_ranks as module
from causal_spark.solve.pair_ranks import BITS, records, scale, solve
from causal_spark.solve.sensitivity import signed_rank_gamma, signed_rank_p, signed_ranks

quick = settings(max_examples=60, deadline=None, derandomize=True)


def found(differences: np.ndarray, factor: float, blocks: int = 1):  # type: ignore[no-untyped-def]
    parts = [records(part[:, None], (factor,)) for part in np.array_split(differences, blocks)]
    return solve(np.vstack(parts), (factor,))[0]


@quick
@given(st.lists(st.integers(-40, 40), min_size=2, max_size=60), st.integers(1, 5))
def test_few_values_have_the_ranks_of_all_pairs(values: list[int], blocks: int) -> None:
    """Ties share their mean rank, zeros are dropped, and blocks add up."""
    differences = np.array(values, float) / 4
    ours, plain = found(differences, 4.0, blocks), signed_ranks(differences)
    if len(np.unique(np.abs(differences[differences != 0]))) < 2:
        assert math.isnan(ours.total)
    else:
        assert (ours.pairs, ours.total) == (plain.pairs, plain.total)
        assert ours.statistic == pytest.approx(plain.statistic, rel=1e-14)
        assert ours.square == pytest.approx(plain.square, rel=1e-14)


def test_wilcoxon_of_scipy() -> None:
    differences = np.random.default_rng(1).normal(0.3, 1, 400)
    ours = found(differences, scale(20.0), 3)
    asked = {"alternative": "greater", "method": "asymptotic", "correction": False}
    theirs = stats.wilcoxon(differences, **asked)
    assert ours.statistic == theirs.statistic
    assert signed_rank_p(ours) == pytest.approx(theirs.pvalue, rel=1e-10)


@pytest.mark.parametrize("spread", [1e-7, 1.0, 40.0, 3e9])
def test_many_values_share_ranks_in_narrow_cells(spread: float) -> None:
    """20,000 different differences: Γ is that of the full ranks to the width of a cell, whatever the unit."""
    differences = np.random.default_rng(2).normal(0.1, 1, 20_000) * spread / 10
    ours, full = found(differences, scale(spread), 4), signed_ranks(differences)
    assert ours.pairs == full.pairs
    assert len(records(differences[:, None], (scale(spread),))) < 8_000
    assert ours.total == full.total
    # Ranks move by half a cell, of which half is in the other direction.
    assert ours.statistic == pytest.approx(full.statistic, rel=2.0**-BITS / 4)
    assert signed_rank_gamma(ours) == pytest.approx(signed_rank_gamma(full), rel=2.0**-BITS)


def test_blocks_of_few_and_of_many_values_meet_in_the_wider_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    few, many = rng.integers(-9, 10, 500).astype(float), rng.normal(0.2, 1, 3_000)
    factor = scale(20.0)
    together = solve(np.vstack([records(part[:, None], (factor,)) for part in (few, many)]), (factor,))
    monkeypatch.setattr(module, "DISTINCT", 0)
    assert together == [found(np.concatenate([few, many]), factor)]


def test_signs_alone() -> None:
    """A 0/1 outcome, no difference at all, and no pairs have no ranks."""
    for differences in (np.array([1.0, -1.0, 0.0, 1.0]), np.zeros(3), np.zeros(0)):
        assert math.isnan(found(differences, 1.0).total)


def test_outcomes_are_apart() -> None:
    differences = np.column_stack([np.arange(-3.0, 5.0), np.arange(8.0) - 1])
    ours = solve(records(differences, (1.0, 1.0)), (1.0, 1.0))
    assert [ranks.pairs for ranks in ours] == [7, 7]
    assert [ranks.statistic for ranks in ours] == [signed_ranks(column).statistic for column in differences.T]


@pytest.mark.parametrize("spread", [0.0, 1e-200, 3.0, 1e300])
def test_scales_leave_whole_numbers_that_a_double_holds(spread: float) -> None:
    factor = scale(spread)
    assert math.log2(factor) == round(math.log2(factor))
    assert spread * factor <= 2.0**48
    assert spread == 0 or spread * factor > 2.0**46
