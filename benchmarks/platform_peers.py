"""The peers of ``benchmarks.platform``, each on the form of the table it likes best; reading and arranging not timed.

scipy's bootstrap in batches that memory can hold. tea-tasting on an Arrow table. ambrosia and hypex, the experiment
platforms on pandas: ambrosia draws all replicates at once, hypex judges every split by a t-test and a
Kolmogorov–Smirnov test, as it does unless told otherwise.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.platform_tasks import ARMS, QUANTILES, REPLICATES, SPLITS

Work = Callable[[], tuple[float, float]]


def _arms(path: Path) -> tuple[Any, Any]:
    """The values of the treated and of the control."""
    frame = pq.read_table(path).to_pandas()
    t, c = (frame[frame["arm"] == arm]["value"].to_numpy() for arm in reversed(ARMS))
    return t, c


def _scipy_bootstrap(path: Path) -> Work:
    from scipy import stats

    t, c = _arms(path)

    def work() -> tuple[float, float]:
        found = stats.bootstrap(
            (t, c), lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis), n_resamples=REPLICATES, batch=10,
            vectorized=True, method="percentile", rng=np.random.default_rng(7),
        )  # fmt: skip
        return float(t.mean() - c.mean()), float(found.standard_error)

    return work


def _tea(path: Path, metrics: Callable[[Any], dict[str, Any]]) -> tuple[Any, pa.Table]:
    """Its experiment and the table, the arm as 0 and 1."""
    import tea_tasting as tt  # type: ignore[import-untyped]

    table = pq.read_table(path, columns=["arm", "value"])
    arm = pa.array((table["arm"].to_numpy() == ARMS[1]).astype(np.int8))
    return tt.Experiment(metrics(tt), variant="arm"), pa.table({"arm": arm, "value": table["value"]})


def _half_width(metric: Any) -> float:
    return float(metric.effect_size_ci_upper - metric.effect_size_ci_lower) / (2 * 1.959963984540054)


def _tea_bootstrap(path: Path) -> Work:
    def metrics(tt: Any) -> dict[str, Any]:
        return {"value": tt.Bootstrap("value", np.mean, n_resamples=REPLICATES, method="percentile", batch=10, rng=7)}

    experiment, table = _tea(path, metrics)

    def work() -> tuple[float, float]:
        found = experiment.analyze(table, control=0)["value"]
        return float(found.effect_size), _half_width(found)

    return work


def _tea_quantiles(path: Path) -> Work:
    def metrics(tt: Any) -> dict[str, Any]:
        return {f"{q}": tt.Quantile("value", q, n_resamples=REPLICATES, batch=10, rng=7) for q in QUANTILES}

    experiment, table = _tea(path, metrics)

    def work() -> tuple[float, float]:
        found = experiment.analyze(table, control=0)[f"{QUANTILES[0]}"]
        return float(found.effect_size), _half_width(found)

    return work


def _tea_splits(path: Path) -> Work:
    experiment, table = _tea(path, lambda tt: {"value": tt.Mean("value")})
    table = table.drop_columns("arm")

    def work() -> tuple[float, float]:
        found = experiment.simulate(table, SPLITS, rng=7)
        p = np.array([result["value"].pvalue for result in found])
        z = np.array([result["value"].statistic for result in found])
        return float((p < 0.05).mean()), float(z.std())

    return work


def _ambrosia_bootstrap(path: Path) -> Work:
    from ambrosia.tester import Tester  # type: ignore[import-not-found]

    frame = pq.read_table(path).to_pandas()
    tester = Tester(frame, column_groups="arm", group_labels=list(ARMS), metrics="value")

    def work() -> tuple[float, float]:
        [found] = tester.run(method="empiric", bootstrap_size=REPLICATES, random_seed=7, as_table=False)
        low, high = found["confidence_interval"]  # rounded to four digits
        return float(found["effect"]), float(high - low) / (2 * 1.959963984540054)

    return work


def _hypex_splits(path: Path) -> Work:
    os.environ["TQDM_DISABLE"] = "1"
    from hypex import AATest  # type: ignore[import-not-found]
    from hypex.dataset import Dataset, InfoRole, TargetRole  # type: ignore[import-not-found]

    frame = pq.read_table(path, columns=["unit", "value"]).to_pandas()
    data = Dataset(roles={"unit": InfoRole(int), "value": TargetRole(float)}, data=frame)

    def work() -> tuple[float, float]:
        AATest(n_iterations=SPLITS).execute(data)
        return math.nan, math.nan

    return work


TASKS: dict[str, dict[str, Callable[[Path], Work]]] = {
    "scipy": {"bootstrap": _scipy_bootstrap},
    "tea-tasting": {"bootstrap": _tea_bootstrap, "quantiles": _tea_quantiles, "splits": _tea_splits},
    "ambrosia": {"bootstrap": _ambrosia_bootstrap},
    "hypex": {"splits": _hypex_splits},
}
