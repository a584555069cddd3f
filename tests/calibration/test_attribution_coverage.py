"""The committed coverage of the credit intervals is complete and inside its bands; fresh samples agree."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from causal_spark.simulate_journeys import JourneyDesign
from tests.calibration.simulate_attribution import CHANNELS, MODELS, SAMPLES, read, sample
from tests.run import ROOT

ROWS = read()
NOISE = math.sqrt(0.95 * 0.05 / SAMPLES)  # Monte-Carlo standard error of a coverage of 95 %
ENOUGH = 20  # conversions: the normal interval of a smaller credit is known to be too narrow
CONVERSIONS = {(row["model"], row["channel"]): float(row["mean"]) for row in ROWS if row["outcome"] == "conversions"}
LARGE = [row for row in ROWS if CONVERSIONS[row["model"], row["channel"]] >= ENOUGH]
SMALL = [row for row in ROWS if row not in LARGE]


def coverage(rows: list[dict[str, str]]) -> np.ndarray:
    return np.array([float(row["coverage"]) for row in rows])


def test_table_is_complete() -> None:
    names = sorted(JourneyDesign(channels=CHANNELS).names)
    cells = [(row["model"], row["outcome"], row["channel"]) for row in ROWS]
    assert cells == [(m, o, c) for m in MODELS for o in ("conversions", "value") for c in names]
    assert {int(row["samples"]) for row in ROWS} == {SAMPLES}
    assert len(LARGE) == len(SMALL)


@pytest.mark.parametrize("model", MODELS)
def test_intervals_hold_the_mean_credit(model: str) -> None:
    """Credits of one sample are correlated, so each cell is judged by itself and the mean of a model besides."""
    large, small = ([row for row in rows if row["model"] == model] for rows in (LARGE, SMALL))
    assert (np.abs(coverage(large) - 0.95) <= 3 * NOISE).all(), coverage(large)
    assert (coverage(small) > 0.84).all(), coverage(small)
    assert 0.9 < coverage([*large, *small]).mean() < 0.97
    # the standard deviation of 240 values is known to 4.6 %, the mean of the standard errors much better
    ratio = np.array([float(row["se_ratio"]) for row in (*large, *small)])
    assert (np.abs(ratio - 1) < 0.12).all(), ratio


def test_fresh_samples_agree_with_the_table() -> None:
    """Means and standard errors of eight new samples of persons."""
    models = ("linear", "markov_1", "shapley_rate")
    found = [sample(seed, models) for seed in range(SAMPLES, SAMPLES + 8)]
    values, errors = (np.stack([part[i] for part in found]) for i in range(2))
    for m, model in enumerate(models):
        mine = [row for row in ROWS if row["model"] == model]
        mean, ratio = (np.array([float(row[name]) for row in mine]).reshape(2, CHANNELS).T
                       for name in ("mean", "se_ratio"))  # fmt: skip
        deviation = errors[:, m].mean(axis=0) / ratio
        assert (np.abs(values[:, m].mean(axis=0) - mean) < 4.5 * deviation / math.sqrt(8)).all(), model


@pytest.mark.parametrize("page", ["attribution.md", "attribution.zh.md"])
def test_the_page_says_the_figures_of_the_table(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8").replace(" %", "%")
    for rows in (LARGE, SMALL):
        low, high = (f"{end:.1%}" for end in (coverage(rows).min(), coverage(rows).max()))
        assert re.search(rf"{re.escape(low)} \S+ {re.escape(high)}", text), (low, high)
