"""How often the interval of a credit holds the mean credit, over fresh persons of one kind.

    python -m tests.calibration.simulate_attribution   simulate, write tests/calibration/attribution.csv (3 CPU minutes)

Each sample is 1,000 persons whose touches and conversions are drawn anew; intervals come from 100 bootstrap replicates
of persons, as in the job. The truth is the mean credit over all samples.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from causal_spark.methods.attribution import Attribution
from causal_spark.methods.attribution.credits import Segment
from causal_spark.methods.attribution.solve import spread
from causal_spark.simulate_journeys import START, JourneyDesign, journeys
from causal_spark.solve.intervals import critical
from tests.journey_buckets import DAY, of_events

CSV = Path(__file__).resolve().parent / "attribution.csv"
MODELS = ("last", "linear", "time_decay", "markov_1", "markov_2", "shapley", "shapley_rate", "logistic")
SAMPLES, PERSONS, CHANNELS, DAYS = 240, 1_000, 4, 90
METHOD = Attribution(models=MODELS, person="p", time="t", channel="c", value="v", replicates=100, top_paths=0)
COLUMNS = ("model", "outcome", "channel", "samples", "mean", "se_ratio", "coverage")
Array = np.ndarray


def sample(seed: int, models: Sequence[str] = MODELS) -> tuple[Array, Array]:
    """Credits (models, channels, outcomes) of fresh persons, and their standard errors."""
    log = journeys(PERSONS, seed, JourneyDesign(channels=CHANNELS, most=100))
    touches, bought = (table.append_column("t", table.column("ts").cast("int64")).to_pylist()
                       for table in (log.touches, log.conversions))  # fmt: skip
    made = of_events(METHOD, [(r["user_id"], (r["t"] - START) / DAY, r["channel"]) for r in touches],
                     [(r["user_id"], (r["t"] - START) / DAY, r["revenue"]) for r in bought], as_of=DAYS,
                     buckets=1)  # fmt: skip
    segment = Segment(METHOD, made, 0)
    credits_ = [segment.credit(model) for model in models]
    return np.stack([c.value for c in credits_]), np.stack([spread(c.replicates) for c in credits_])


def summary(values: Array, errors: Array) -> tuple[Array, Array, Array]:
    """Mean, standard error / standard deviation, and coverage of each cell, from samples in the first axis."""
    mean = values.mean(axis=0)
    covered = np.abs(values - mean) <= critical(0.05) * errors
    return mean, errors.mean(axis=0) / values.std(axis=0, ddof=1), covered.mean(axis=0)


def main() -> None:
    found = [sample(seed) for seed in range(SAMPLES)]
    mean, ratio, coverage = summary(*(np.stack([part[i] for part in found]) for i in range(2)))
    names = JourneyDesign(channels=CHANNELS).names
    rows = [
        (model, outcome, channel, SAMPLES, f"{mean[m, c, k]:.4f}", f"{ratio[m, c, k]:.4f}", f"{coverage[m, c, k]:.4f}")
        for m, model in enumerate(MODELS)
        for k, outcome in enumerate(("conversions", "value"))
        for c, channel in enumerate(sorted(names))
    ]
    with CSV.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)


def read() -> list[dict[str, str]]:
    with CSV.open(newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
