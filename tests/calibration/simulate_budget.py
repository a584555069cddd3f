"""How often the intervals of response curves hold the truth: outcome, marginal return, and the gain of more spend.

    python -m tests.calibration.simulate_budget     simulate, write tests/calibration/budget.csv (3 CPU minutes)

Each sample is 104 weeks of one channel, whose spend varies by chance and whose outcome is a known curve plus normal
noise. ``own``: the curve of the true family is fitted. ``chosen``: the family is chosen by AICc from all four, as the
job does; the interval is of the chosen curve and knows nothing of the choice.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from causal_spark.solve import curves
from causal_spark.solve.curves import Curve, Fit
from causal_spark.solve.intervals import critical

CSV = Path(__file__).resolve().parent / "budget.csv"
REPLICATES = {"own": 400, "chosen": 150}  # samples; to choose takes four fits of each
WEEKS = 104
SEED = 20261101
MORE = 1.3  # the gain is that of so many times the mean spend
FITS = tuple(REPLICATES)
QUANTITIES = ("outcome", "marginal", "gain")
COLUMNS = ("design", "fit", "quantity", "truth", "replicates", "bias_sd", "se_ratio", "coverage", "undefined",
           "true_family")  # fmt: skip


@dataclass(frozen=True)
class Design:
    """Outcome = f(carried spend) + ``noise`` · N(0, 1), spend = ``mean`` · U(0.2, 2)."""

    family: str
    parameters: tuple[float, ...]
    mean: float
    noise: float
    carry: float = 0.0

    @property
    def curve(self) -> Curve:
        return Curve(self.family, self.parameters, 1 / (1 - self.carry))

    def sample(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        spend = self.mean * rng.uniform(0.2, 2.0, WEEKS)
        mean = curves.response(self.family, curves.carried(spend, self.carry), self.parameters)
        return spend, mean + rng.normal(0, self.noise, WEEKS)

    def asked(self) -> dict[str, Callable[[Curve], float]]:
        """What is estimated, as functions of a curve."""
        return {
            "outcome": partial(_value, spend=self.mean),
            "marginal": partial(_slope, spend=self.mean),
            "gain": partial(_gain, old=self.mean, new=MORE * self.mean),
        }


def _value(curve: Curve, spend: float) -> float:
    return float(curve.value(spend))


def _slope(curve: Curve, spend: float) -> float:
    return float(curve.slope(spend))


def _gain(curve: Curve, old: float, new: float) -> float:
    return float(curve.value(new)) - float(curve.value(old))


DESIGNS = {
    "log": Design("log", (220.0, 25.0), 60.0, 12.0),
    "power": Design("power", (18.0, 0.4), 70.0, 3.0),
    "michaelis_menten": Design("michaelis_menten", (900.0, 60.0), 80.0, 12.0),
    "hill, S-shaped": Design("hill", (800.0, 70.0, 3.0), 90.0, 12.0),
    "michaelis_menten, carry-over": Design("michaelis_menten", (900.0, 60.0), 80.0, 12.0, carry=0.5),
}


def fitted(design: Design, fit: str, spend: np.ndarray, outcome: np.ndarray) -> Fit | None:
    """The curve as the job fits it, from one family or from all."""
    families = (design.family,) if fit == "own" else tuple(curves.FAMILIES)
    found = [f for f in (curves.fit(spend, outcome, name, design.carry > 0) for name in families) if f is not None]
    return curves.best(found)


def simulate(design: Design, fit: str, samples: Sequence[int]) -> dict[str, np.ndarray]:
    """Estimate, standard error and t quantile (samples, 3) of each quantity; whether the family was the true one."""
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in (*QUANTITIES, "family")}
    for number in samples:
        rng = np.random.default_rng([SEED, list(DESIGNS.values()).index(design), number])
        made = fitted(design, fit, *design.sample(rng))
        for name, function in design.asked().items():
            answer = (math.nan, math.nan, math.nan)
            if made is not None:
                answer = (function(made.curve), made.interval(function), critical(0.05, made.dof))
            found[name].append(answer)
        found["family"].append((float(made is not None and made.curve.family == design.family),))
    return {name: np.array(rows) for name, rows in found.items()}


def summary(design: Design, quantity: str, answers: np.ndarray) -> dict[str, float]:
    """Bias and mean standard error in standard deviations of the estimate, coverage, share without an interval."""
    truth = design.asked()[quantity](design.curve)
    known = np.isfinite(answers).all(axis=1)
    estimate, error, quantile = answers[known].T
    spread = estimate.std(ddof=1)
    return {
        "truth": truth,
        "bias_sd": float((estimate.mean() - truth) / spread),
        "se_ratio": float(error.mean() / spread),
        "coverage": float((np.abs(estimate - truth) <= quantile * error).mean()),
        "undefined": float(1 - known.mean()),
    }


def main() -> None:
    rows = []
    for name, design in DESIGNS.items():
        for fit in FITS:
            answers = simulate(design, fit, range(REPLICATES[fit]))
            share = float(answers["family"][:, 0].mean())
            for quantity in QUANTITIES:
                numbers = {key: f"{value:.4f}" for key, value in summary(design, quantity, answers[quantity]).items()}
                rows.append({"design": name, "fit": fit, "quantity": quantity, "replicates": REPLICATES[fit],
                             "true_family": f"{share:.4f}", **numbers})  # fmt: skip
            print(name, fit, [row["coverage"] for row in rows[-3:]], flush=True)
    with CSV.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read() -> list[dict[str, str]]:
    with CSV.open(newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
