"""The logistic model of channel sets: parity with statsmodels, and what a channel's absence loses."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm

from causal_spark.solve import presence


def counts(seed: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    present = np.array([[mask >> i & 1 for i in range(4)] for mask in range(1, 16)], bool)
    trials = rng.integers(50, 900, len(present))
    odds = -2 + present @ np.array([0.8, -0.4, 0.0, 1.2])
    return present, rng.binomial(trials, 1 / (1 + np.exp(-odds))), trials


def test_is_the_fit_of_statsmodels() -> None:
    present, won, seen = counts()
    found = presence.fit(present, won, seen, ridge=0.0)
    design = sm.add_constant(present.astype(float))
    theirs = sm.GLM(np.column_stack([won, seen - won]), design, family=sm.families.Binomial()).fit(tol=1e-14)
    assert [found.intercept, *found.slopes] == pytest.approx(theirs.params, rel=1e-9)
    # the information at the last but one step of either
    assert found.vcov == pytest.approx(theirs.cov_params(), rel=1e-6)


def test_what_is_lost() -> None:
    present, won, seen = counts()
    model = presence.fit(present, won, seen)
    gone = presence.lost(model, present)

    def chance(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-(model.intercept + x @ model.slopes)))

    for channel in range(4):
        less = present.copy()
        less[:, channel] = False
        assert gone[:, channel] == pytest.approx(chance(present) - chance(less), abs=1e-14)


def test_a_channel_that_always_converts_stays_finite() -> None:
    model = presence.fit([[True, False], [False, True]], [40, 0], [40, 40])
    assert np.isfinite(model.slopes).all()
    assert model.slopes[0] > 1 > -1 > model.slopes[1]


@pytest.mark.parametrize("successes", [[0, 0], [8, 5]])
def test_where_all_or_none_convert_no_channel_is_told_apart(successes: list[int]) -> None:
    model = presence.fit([[1, 0], [1, 1]], successes, [8, 5])
    assert model.slopes.tolist() == [0, 0] and np.isnan(model.vcov).all()
    assert presence.lost(model, [[1, 0], [1, 1]]).tolist() == [[0, 0], [0, 0]]
