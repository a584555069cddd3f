"""Adjusted p-values: order among the methods, monotony, NaN; parity with others is in tests/reference."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causal_spark.solve.multiplicity import CorrectionName, adjust

METHODS = [name for name in get_args(CorrectionName) if name != "none"]
quick = settings(max_examples=40, deadline=None, derandomize=True)
probabilities = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.01, 0.05, 1.0]))
families = st.lists(probabilities, min_size=1, max_size=30)
SLACK = 1e-12  # products in another order


@quick
@given(p=families)
@pytest.mark.parametrize("method", METHODS)
def test_never_below_the_raw_value_nor_above_one(method: CorrectionName, p: list[float]) -> None:
    adjusted = adjust(p, method)
    assert (adjusted >= np.array(p) * (1 - SLACK)).all()
    assert (adjusted <= 1).all()


@quick
@given(p=families)
@pytest.mark.parametrize("method", METHODS)
def test_keeps_the_order(method: CorrectionName, p: list[float]) -> None:
    """A smaller p-value never gets a larger adjusted one, and equal ones stay equal."""
    adjusted = adjust(p, method)
    for i in range(len(p)):
        for j in range(len(p)):
            if p[i] < p[j]:
                assert adjusted[i] <= adjusted[j] * (1 + SLACK)
            if p[i] == p[j]:
                assert adjusted[i] == pytest.approx(adjusted[j], rel=SLACK)


@quick
@given(p=families, data=st.data())
@pytest.mark.parametrize("method", METHODS)
def test_monotone_in_each_p_value(method: CorrectionName, p: list[float], data: st.DataObject) -> None:
    """More evidence in one test never weakens any test."""
    i = data.draw(st.integers(0, len(p) - 1))
    stronger = list(p)
    stronger[i] = p[i] * data.draw(st.floats(0, 1))
    assert (adjust(stronger, method) <= adjust(p, method) * (1 + SLACK)).all()


@quick
@given(p=families)
def test_strictness_of_the_methods(p: list[float]) -> None:
    """Hochberg ≤ Holm ≤ Bonferroni; BH ≤ Hochberg; BH ≤ BY."""
    by = {method: adjust(p, method) * (1 - SLACK) for method in METHODS}
    plain = {method: adjust(p, method) for method in METHODS}
    for small, large in [("holm", "bonferroni"), ("hochberg", "holm"), ("bh", "hochberg"), ("bh", "by")]:
        assert (by[small] <= plain[large]).all(), (small, large)


@quick
@given(p=families, data=st.data())
@pytest.mark.parametrize("method", METHODS)
def test_order_of_the_family_is_free(method: CorrectionName, p: list[float], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(p))))
    np.testing.assert_allclose(adjust([p[i] for i in order], method), adjust(p, method)[list(order)], rtol=SLACK)


@quick
@given(p=families, where=st.lists(st.integers(0, 30), max_size=5))
@pytest.mark.parametrize("method", METHODS)
def test_nan_stays_and_is_no_test(method: CorrectionName, p: list[float], where: list[int]) -> None:
    with_nan = list(p)
    for i in where:
        with_nan.insert(min(i, len(with_nan)), math.nan)
    adjusted = adjust(with_nan, method)
    known = ~np.isnan(with_nan)
    assert np.isnan(adjusted[~known]).all()
    np.testing.assert_array_equal(adjusted[known], adjust(p, method))


@pytest.mark.parametrize("method", get_args(CorrectionName))
def test_empty_and_all_unknown(method: CorrectionName) -> None:
    assert adjust([], method).shape == (0,)
    assert np.isnan(adjust([math.nan, math.nan], method)).all()


@quick
@given(p=families)
def test_none_changes_nothing(p: list[float]) -> None:
    assert list(adjust(p, "none")) == p


@quick
@given(p=probabilities)
@pytest.mark.parametrize("method", METHODS)
def test_family_of_one(method: CorrectionName, p: float) -> None:
    assert adjust([p], method)[0] == p


def test_input_is_left_alone() -> None:
    p = np.array([0.04, 0.01, math.nan])
    for method in get_args(CorrectionName):
        adjust(p, method)[:] = 7.0
    np.testing.assert_array_equal(p, [0.04, 0.01, math.nan])
