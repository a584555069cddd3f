"""Coverage of the credit intervals: fresh persons many times, how often the interval holds the mean credit."""

from __future__ import annotations

import numpy as np
import pytest

from causal_spark.methods.attribution import Attribution
from causal_spark.methods.attribution.credits import Segment
from causal_spark.methods.attribution.solve import spread
from causal_spark.simulate_journeys import START, JourneyDesign, journeys
from causal_spark.solve.intervals import critical
from tests.journey_buckets import DAY, of_events

MODELS = ("linear", "time_decay", "shapley", "markov_1")
SAMPLES, PERSONS = 240, 1_000
METHOD = Attribution(models=MODELS, person="p", time="t", channel="c", value="v", replicates=100, top_paths=0)


def sample(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Credits (models, channels, outcomes) of fresh persons, and their standard errors."""
    log = journeys(PERSONS, seed, JourneyDesign(channels=4, most=100))
    touches = [(r["user_id"], (r["t"] - START) / DAY, r["channel"]) for r in _rows(log.touches)]
    bought = [(r["user_id"], (r["t"] - START) / DAY, r["revenue"]) for r in _rows(log.conversions)]
    segment = Segment(METHOD, of_events(METHOD, touches, bought, as_of=90, buckets=1), 0)
    credits = [segment.credit(model) for model in MODELS]
    return np.stack([c.value for c in credits]), np.stack([spread(c.replicates) for c in credits])


def _rows(table) -> list[dict]:
    return table.append_column("t", table.column("ts").cast("int64")).to_pylist()


@pytest.mark.slow
def test_intervals_hold_the_mean_credit() -> None:
    found = [sample(seed) for seed in range(SAMPLES)]
    values, errors = (np.stack([part[i] for part in found]) for i in range(2))
    truth, half = values.mean(axis=0), critical(0.05) * errors
    covered = (np.abs(values - truth) <= half).mean(axis=0)
    # 240 samples have a standard error of 0.014; credits of one sample are correlated, so each cell by itself
    assert (covered > 0.95 - 4 * 0.0141).all(), covered
    assert 0.925 < covered.mean() < 0.975, covered.mean()
    # the standard deviation of 240 values is known to 4.6 %, the mean of the standard errors much better
    ratio = errors.mean(axis=0) / values.std(axis=0, ddof=1)
    assert 0.9 < ratio.mean() < 1.1
    assert (np.abs(ratio - 1) < 0.25).all(), ratio
