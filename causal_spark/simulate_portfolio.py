"""Many experiments whose true effects are known: their estimates, and what each action reached."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import stats


@dataclass(frozen=True)
class Past:
    """``estimates`` and ``reach`` as tables; ``truth``: the true effect of each experiment."""

    estimates: pa.Table
    reach: pa.Table
    truth: dict[str, float]


@dataclass(frozen=True)
class PastDesign:
    """The generating model: true effects are normal around ``centre`` with standard deviation ``tau``.

    An experiment measures its effect with a standard error between ``errors``; what looks significant for the better
    was launched, and reached between ``reached`` units.
    """

    experiments: int = 60
    centre: float = 0.02
    tau: float = 0.1
    errors: tuple[float, float] = (0.05, 0.2)
    reached: tuple[int, int] = (20_000, 400_000)


def past(design: PastDesign | None = None, seed: int = 7) -> Past:
    """Experiments e01, e02, … on the metric ``revenue``, one estimate each; deterministic for a seed.

    The estimates also hold the metric ``visits`` and the lift of both, which a portfolio of revenue has to pass over.
    """
    design = design or PastDesign()
    rng = np.random.default_rng([design.experiments, seed])
    k = design.experiments
    names = [f"e{i + 1:0{len(str(k))}d}" for i in range(k)]
    truth = rng.normal(design.centre, design.tau, k)
    error = rng.uniform(*design.errors, k)
    seen = truth + error * rng.normal(size=k)
    units = np.round(8 / error**2)
    rows = {"experiment": names * 4, "outcome": ["revenue"] * 2 * k + ["visits"] * 2 * k}
    term = (["difference"] * k + ["lift"] * k) * 2
    scale = np.concatenate([np.full(k, 1.0), np.full(k, 0.1), np.full(k, 3.0), np.full(k, 0.2)])
    numbers = {"estimate": np.tile(seen, 4) * scale, "std_error": np.tile(error, 4) * scale}
    day = [date(2026, 1, 5) + timedelta(days=5 * i) for i in range(k)]
    won = seen > stats.norm.isf(0.025) * error
    launched = [when if better else None for when, better in zip(day, won, strict=True)]
    reached = rng.integers(*design.reached, k)
    reach = pa.table({"experiment": names, "reached": reached, "launched": pa.array(launched, pa.date32())})
    return Past(_tidy(rows, term, numbers, np.tile(units, 4)), reach, dict(zip(names, truth.tolist(), strict=True)))


def _tidy(rows: dict[str, list[str]], term: list[str], numbers: dict[str, NDArray], n: NDArray) -> pa.Table:
    """The columns of ``estimates``, with the experiment before them."""
    z = numbers["estimate"] / numbers["std_error"]
    half = stats.norm.isf(0.025) * numbers["std_error"]
    size = len(term)
    return pa.table({
        "experiment": rows["experiment"], "method": ["welch"] * size, "estimand": ["ATE"] * size,
        "outcome": rows["outcome"], "segment": ["all"] * size, "contrast": ["treatment vs control"] * size,
        "term": term, **numbers, "statistic": z, "dof": n - 2, "p_value": 2 * stats.norm.sf(abs(z)),
        "p_adjusted": np.full(size, np.nan), "conf_low": numbers["estimate"] - half,
        "conf_high": numbers["estimate"] + half, "conf_level": np.full(size, 0.95), "n": n, "note": [""] * size,
    })  # fmt: skip
