"""How often the intervals of experiments hold the truth: 10,000 simulated experiments for each cell.

    python -m tests.calibration.simulate_experiments            simulate, write tests/calibration/experiments.csv
    python -m tests.calibration.simulate_experiments --page     write docs/calibration.md from that file

A cell is an estimator on a design. Every number goes through the functions that a job calls, one replicate at a
time; only the drawing is vectorised. A cell is either *main*, and must lie inside the bands, or it shows a *limit*
that is known beforehand, and is shown as it comes out.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from causal_spark.solve.intervals import wald
from causal_spark.solve.lifts import lift
from causal_spark.solve.linear import cluster_difference, cuped
from causal_spark.solve.means import Form, difference, evaluate
from causal_spark.solve.proportions import shares_test, two_proportions
from causal_spark.statistics import Moments
from tests.calibration.designs import DESIGNS, MEAN, SEED, Design

HERE = Path(__file__).resolve().parent
CSV = HERE / "experiments.csv"
PAGE = HERE.parents[1] / "docs" / "calibration.md"
REPLICATES = 10_000
ALPHA = 0.05
SE_BAND = (0.95, 1.05)
BIAS_BAND = 0.1
KS_FLOOR = 1e-3

Answer = tuple[float, float, float, float, float]  # estimate, std_error, p_value, low, high
Estimate = Callable[[Moments, Moments], Answer]
Row = dict[str, str]


# estimators -----------------------------------------------------------------------------------------------------------


def told(test) -> Answer:  # type: ignore[no-untyped-def]
    return test.estimate, test.std_error, test.p_value, test.low, test.high


def compared(form: Form) -> Estimate:
    return lambda t, c: told(difference(evaluate(t, [form]), evaluate(c, [form])))


def lifted(method) -> Estimate:  # type: ignore[no-untyped-def]
    form = [Form("y")]
    return lambda t, c: told(lift(evaluate(t, form), evaluate(c, form), method))


def adjusted(forms: list[Form], theta_of) -> Estimate:  # type: ignore[no-untyped-def]
    def estimate(t: Moments, c: Moments) -> Answer:
        groups = cuped({"t": t, "c": c}, forms, theta_of).groups
        return told(difference(groups["t"], groups["c"]))

    return estimate


def shares(t: Moments, c: Moments) -> Answer:
    return told(two_proportions(float(t.mean[0]), t.n, float(c.mean[0]), c.n))


def robust(t: Moments, c: Moments) -> Answer:
    """CR1 with t(G - 2), G clusters in both arms."""
    estimate, error = cluster_difference(t, c, "total", "size", "CR1")
    return told(wald(estimate, error, ALPHA, t.n + c.n - 2))


Y, CTR, CTR_PRE = Form("y"), Form("clicks", "views"), Form("clicks_pre", "views_pre")
COVARIATES = [Form(name) for name in MEAN]
ESTIMATORS: Mapping[str, Estimate] = {
    "welch": compared(Y),
    "z": shares,
    "ratio (delta)": compared(CTR),
    "lift (fieller)": lifted("fieller"),
    "lift (log)": lifted("log"),
    "lift (delta)": lifted("delta"),
    "cuped within, 1": adjusted(COVARIATES[:2], "within"),
    "cuped within, 3": adjusted(COVARIATES, "within"),
    "cuped all, 1": adjusted(COVARIATES[:2], "all"),
    "cuped all, 3": adjusted(COVARIATES, "all"),
    "cuped ratio": adjusted([CTR, CTR_PRE], "within"),
    "clusters (arm)": compared(Form("total", "size")),
    "clusters (CR1)": robust,
}

# cells: estimators, designs, and the designs among them that show a limit ---------------------------------------------

CUPEDS = tuple(name for name in ESTIMATORS if name.startswith("cuped") and name != "cuped ratio")
TAILS = ("lognormal, lopsided", "heavy tail")
LARGE = ("normal", "unequal", "lognormal", "revenue")
UNEVEN = ("random clusters", "informative clusters", "unequal clusters", "few clusters")
PLAN: tuple[tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]], ...] = (
    (("welch",), (*LARGE, "small"), (*TAILS, "rare")),
    (("z",), ("share 20 %", "share 5 %", "share, unequal"), ("share, few units", "rare")),
    (("ratio (delta)",), ("sessions", "two classes", "heavy views", "sessions, unequal"), ("sessions, few units",)),
    (
        ("lift (fieller)", "lift (log)"),
        (*LARGE, "share 20 %", "share 5 %"),
        ("small", "weak control", *TAILS),
    ),
    (
        ("lift (delta)",),
        ("normal", "unequal", "share 20 %", "share 5 %"),
        ("lognormal", "revenue", "small", "weak control", *TAILS),
    ),
    (CUPEDS, LARGE, ("small", *TAILS)),
    (("cuped ratio",), ("sessions", "two classes", "heavy views"), ("sessions, few units",)),
    (
        ("clusters (arm)", "clusters (CR1)"),
        ("equal clusters", "many random clusters", "many informative clusters"),
        UNEVEN,
    ),
)
A_A = (("welch", "normal"), ("welch", "lognormal"), ("welch", "revenue"), ("cuped within, 3", "revenue"),
       ("ratio (delta)", "sessions"), ("ratio (delta)", "heavy views"))  # fmt: skip
A_A_UNITS = 2000
SHARES = (
    ("two equal shares, 1,000,000 units", 1_000_000, (0.5, 0.5), False),
    ("three shares, 100,000 units", 100_000, (0.34, 0.33, 0.33), False),
    ("nine to one, 1,000,000 units", 1_000_000, (0.9, 0.1), False),
    ("two equal shares, 60 units", 60, (0.5, 0.5), True),
)


# one cell -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """What the replicates of a cell say; NaN where a question does not arise."""

    replicates: int
    bias_se: float
    se_ratio: float
    coverage: float
    rejection: float
    ks_p: float
    undefined: float

    def outside(self) -> list[str]:
        """The names of the numbers that lie outside their band."""
        n = self.replicates
        checks = {
            "bias_se": abs(self.bias_se) <= BIAS_BAND,
            "se_ratio": SE_BAND[0] <= self.se_ratio <= SE_BAND[1],
            "coverage": within(self.coverage, band(1 - ALPHA, n)),
            "rejection": within(self.rejection, band(ALPHA, n)),
            "ks_p": self.ks_p > KS_FLOOR,
            "undefined": self.undefined == 0,
        }
        return [name for name, fine in checks.items() if not (fine or math.isnan(getattr(self, name)))]


def band(share: float, replicates: int) -> tuple[float, float]:
    """Where 99.9 % of the shares of ``replicates`` exact binomial draws lie."""
    low, high = stats.binom.ppf([0.0005, 0.9995], replicates, share) / replicates
    return float(low), float(high)


def within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]


def summary(truth: float, effect: np.ndarray, null: np.ndarray) -> Cell:
    """From the answers (replicates, 5) with the effect on and without any."""
    estimate, error, _, low, high = effect.T
    known = np.isfinite(estimate) & np.isfinite(low) & np.isfinite(high)
    spread = estimate[known].std(ddof=1)
    p = null[np.isfinite(null[:, 2]), 2]
    return Cell(
        replicates=len(effect),
        bias_se=float((estimate[known].mean() - truth) / spread),
        se_ratio=float(error[known].mean() / spread),
        coverage=float(((low <= truth) & (truth <= high))[known].mean()),
        rejection=float((p < ALPHA).mean()),
        ks_p=float(stats.kstest(p, "uniform").pvalue),
        undefined=float(1 - known.mean()),
    )


def replicate(design: Design, estimators: Mapping[str, Estimate], replicates: int, effect: bool) -> np.ndarray:
    """The answers (replicates, estimators, 5), all estimators on the same draws."""
    return np.array([[f(t, c) for f in estimators.values()] for t, c in design.pairs(replicates, effect)])


def truth_of(estimator: str, design: Design) -> float:
    relative = estimator.startswith("lift")
    return design.treatment / design.control - 1 if relative else design.treatment - design.control


def simulate(design: Design, estimators: Mapping[str, Estimate], replicates: int = REPLICATES) -> dict[str, Cell]:
    """Every estimator on the same replicates of a design, with the effect and without."""
    effect, null = (replicate(design, estimators, replicates, switch) for switch in (True, False))
    return {name: summary(truth_of(name, design), effect[:, i], null[:, i]) for i, name in enumerate(estimators)}


def simulate_a_a(name: str, design: Design, replicates: int = REPLICATES) -> Cell:
    """One fixed population, split in two halves at random again and again: nothing differs but chance."""
    rng = np.random.default_rng([SEED, 1])
    population = design.rows(rng, (1, A_A_UNITS), False, False)[0]
    half, answers = A_A_UNITS // 2, []
    for _ in range(replicates):
        order = rng.permutation(A_A_UNITS)
        parts = (Moments.from_rows(design.columns, population[index]) for index in (order[:half], order[half:]))
        answers.append(ESTIMATORS[name](*parts))
    cell = summary(0.0, np.array(answers), np.array(answers))
    return Cell(replicates, cell.bias_se, cell.se_ratio, math.nan, cell.rejection, cell.ks_p, cell.undefined)


def simulate_shares(units: int, planned: tuple[float, ...], replicates: int = REPLICATES) -> Cell:
    """The test of a sample ratio mismatch on units that do follow the plan."""
    rng = np.random.default_rng([SEED, units, len(planned)])
    p = np.array([shares_test(counts, planned).p_value for counts in rng.multinomial(units, planned, replicates)])
    nan = math.nan
    return Cell(replicates, nan, nan, nan, float((p < ALPHA).mean()), float(stats.kstest(p, "uniform").pvalue), 0.0)


# the table ------------------------------------------------------------------------------------------------------------


def planned_cells() -> list[tuple[str, str, bool]]:
    """(estimator, design, shows a limit) of every cell with two arms, in the order of the table."""
    return [
        (estimator, design, limit)
        for estimators, main, limits in PLAN
        for estimator in estimators
        for designs, limit in ((main, False), (limits, True))
        for design in designs
    ]


def table_row(estimator: str, design: str, limit: bool, n: tuple[int, int], truth: float, cell: Cell) -> Row:
    def text(value: float, form: str) -> str:
        return "" if math.isnan(value) else format(value, form)

    return {
        "estimator": estimator,
        "design": design,
        "role": "limit" if limit else "main",
        "n_treatment": str(n[0]),
        "n_control": str(n[1]),
        "replicates": str(cell.replicates),
        "truth": text(truth, ".6g"),
        "bias_se": text(cell.bias_se, ".4f"),
        "se_ratio": text(cell.se_ratio, ".4f"),
        "coverage": text(cell.coverage, ".4f"),
        "rejection": text(cell.rejection, ".4f"),
        "ks_p": text(cell.ks_p, ".3g"),
        "undefined": text(cell.undefined, ".4f"),
        "outside": " ".join(cell.outside()),
    }


def run(replicates: int, only: Collection[str] = ()) -> list[Row]:
    """Simulate all cells, each design drawn once for all of its estimators; ``only`` some designs: keep other rows."""
    old = {(row["estimator"], row["design"]): row for row in (read() if only else ())}
    plan = planned_cells()
    cells: dict[tuple[str, str], Cell] = {}
    for name in dict.fromkeys(design for _, design, _ in plan if design in (only or DESIGNS)):
        start, estimators = time.monotonic(), {e: ESTIMATORS[e] for e, d, _ in plan if d == name}
        cells |= {(e, name): cell for e, cell in simulate(DESIGNS[name], estimators, replicates).items()}
        print(f"{name}: {len(estimators)} estimators, {time.monotonic() - start:.0f} s", flush=True)
    rows = []
    for estimator, name, limit in plan:
        design, cell = DESIGNS[name], cells.get((estimator, name))
        if cell is None:
            rows.append(old[estimator, name] | {"role": "limit" if limit else "main"})
            continue
        n = design.n_treatment, design.n_control
        rows.append(table_row(estimator, name, limit, n, truth_of(estimator, design), cell))
    return rows + run_tests(replicates)


def run_tests(replicates: int) -> list[Row]:
    """The rows of A/A tests and of the sample ratio."""
    rows, half = [], A_A_UNITS // 2
    for estimator, name in A_A:
        cell = simulate_a_a(estimator, DESIGNS[name], replicates)
        rows.append(table_row(f"A/A, {estimator}", name, False, (half, half), 0.0, cell))
    for name, units, planned, limit in SHARES:
        cell, n = simulate_shares(units, planned, replicates), (round(units * planned[0]), round(units * planned[1]))
        rows.append(table_row("sample ratio", name, limit, n, math.nan, cell))
    return rows


def read(path: Path = CSV) -> list[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(rows: list[Row], path: Path = CSV) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--replicates", type=int, default=REPLICATES)
    parser.add_argument("--only", nargs="+", choices=list(DESIGNS), default=(), help="simulate these designs again")
    parser.add_argument("--page", action="store_true", help="only write the page from the table")
    options = parser.parse_args()
    if options.page:
        from tests.calibration.page import render

        PAGE.write_text(render(read()), encoding="utf-8")
        return
    rows = run(options.replicates, options.only)
    write(rows)
    for row in rows:
        if row["outside"]:
            print(f"{row['role']}: {row['estimator']} on {row['design']} is outside in {row['outside']}")


if __name__ == "__main__":
    main()
