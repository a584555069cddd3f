"""Mann–Whitney on histograms: parity with SciPy, symmetry, resolution."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from causal_spark.solve.ranks import mann_whitney
from causal_spark.statistics.histogram import Histogram


def exact(values: np.ndarray, bits: int = 62) -> Histogram:
    return Histogram.from_integers(np.round(values * 1000).astype(np.int64), bits, 1000.0)


@pytest.mark.parametrize("side", ["two-sided", "greater", "less"])
@pytest.mark.parametrize("ties", [False, True])
def test_parity_with_scipy(side: str, ties: bool) -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        a, b = rng.normal(size=rng.integers(5, 90)), rng.normal(0.3, 2, rng.integers(5, 90))
        a, b = (np.round(x * (2 if ties else 1000)) / 1000 for x in (a, b))
        ours = mann_whitney(exact(b), exact(a), alternative=side)  # type: ignore[arg-type]
        theirs = stats.mannwhitneyu(b, a, use_continuity=False, method="asymptotic", alternative=side)
        assert ours.statistic == pytest.approx(theirs.statistic, rel=1e-12)
        assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-9)
        assert ours.unresolved == 0
        munzel = stats.brunnermunzel(a, b, distribution="normal")
        assert (ours.superiority - 0.5) / ours.std_error == pytest.approx(munzel.statistic, rel=1e-9)


def test_swapped_groups() -> None:
    rng = np.random.default_rng(3)
    a, b = exact(rng.exponential(size=50)), exact(rng.exponential(size=70))
    ours, other = mann_whitney(a, b), mann_whitney(b, a)
    assert ours.superiority == pytest.approx(1 - other.superiority, rel=1e-12)
    assert ours.statistic + other.statistic == pytest.approx(50 * 70)
    assert (ours.p_value, ours.low) == pytest.approx((other.p_value, 1 - other.high), rel=1e-12)


def test_a_sketch_states_what_it_cannot_tell() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.lognormal(0, 1, 4000), rng.lognormal(0.1, 1, 4000)
    fine = mann_whitney(exact(b), exact(a))
    for bits in (2, 5, 8):
        coarse = mann_whitney(exact(b, bits), exact(a, bits))
        assert 0 < coarse.unresolved < 2.0**-bits
        assert abs(coarse.superiority - fine.superiority) <= coarse.unresolved / 2
    assert coarse.p_value == pytest.approx(fine.p_value, abs=2e-3)


def test_nothing_to_compare() -> None:
    one = exact(np.ones(10))
    assert math.isnan(mann_whitney(one, one).p_value)
    assert mann_whitney(one, one).superiority == 0.5
    assert math.isnan(mann_whitney(Histogram.empty(62, 1000.0), one).superiority)
