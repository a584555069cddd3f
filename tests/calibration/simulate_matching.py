"""How often the intervals of matching and weighting hold the truth where treatment is confounded with the outcome.

    python -m tests.calibration.simulate_matching                     simulate, write tests/calibration/matching.csv
    python -m tests.calibration.simulate_matching --only DESIGN ...   simulate these designs again

Confounding is so strong that the naive difference has the wrong sign in every design. Estimators get the same samples
and go through the functions that a job calls. A cell is *main*, and must lie inside its bands, or shows a *limit* that
is known beforehand: an error that is too wide or too narrow, or a bias.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from causal_spark.solve import abadie_imbens, balancing, doubly, logistic, matched, stratified, weighting
from causal_spark.solve.intervals import critical
from causal_spark.solve.logistic import Logistic
from causal_spark.solve.pairing import Points, Rules

Array = np.ndarray
Answer = tuple[float, float]  # estimate, std_error
Row = dict[str, str]

CSV = Path(__file__).resolve().parent / "matching.csv"
REPLICATES = 2500
UNITS = 1000
FOLDS = 5
ALPHA = 0.05
SEED = 20240918
BIAS_BAND = 0.1  # of the standard deviation: costs less than 0.1 points of coverage
SE_BAND = (0.95, 1.05)  # the Monte-Carlo error of a standard deviation is 1.4 % with 2,500 samples


# designs ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Design:
    """Logit of the propensity = ``score``ᵀ(1, x), outcome = ``outcome``ᵀx + t·``effect``ᵀ(1, x) + noise.

    Columns of x are normal, or uniform if ``bounded``, of variance 1; the third, if there is one, is 0/1.
    """

    score: tuple[float, ...]
    outcome: tuple[float, ...]
    effect: tuple[float, ...]
    bounded: bool = False

    def covariates(self, rng: np.random.Generator, n: int) -> Array:
        shape, end = (n, len(self.outcome)), math.sqrt(3)
        x = rng.uniform(-end, end, shape) if self.bounded else rng.normal(size=shape)
        if x.shape[1] == 3:
            x[:, 2] = x[:, 2] > 0
        return x

    def sample(self, rng: np.random.Generator, n: int = UNITS) -> Sample:
        x = self.covariates(rng, n)
        full = np.column_stack([np.ones(n), x])
        true = full @ self.score
        t = (rng.random(n) < 1 / (1 + np.exp(-true))).astype(float)
        effect = full @ self.effect
        y = x @ self.outcome + t * effect + rng.normal(size=n)
        return Sample(full, t, y[:, None], true, effect)

    def truths(self, n: int = 4_000_000) -> dict[str, float]:
        """The effect in each population, and the naive difference, from many rows."""
        rng = np.random.default_rng([SEED, 1])
        sample = self.sample(rng, n)
        e = 1 / (1 + np.exp(-sample.true))
        found = {
            name: float(np.average(sample.effect, weights=weighting.tilt(e, name)[0]))
            for name in ("ATE", "ATT", "ATC", "ATO")
        }
        y = sample.y[:, 0]
        return found | {"naive": float(y[sample.t == 1].mean() - y[sample.t == 0].mean())}


DESIGNS = {
    "one covariate": Design((-0.3, 0.9), (-3.0,), (1.0, 0.5)),
    "same effect": Design((-0.3, 0.7, 0.0, -0.5), (-2.5, 1.5, 1.0), (1.0, 0.0, 0.0, 0.0)),
    "other effects": Design((-0.3, 0.7, 0.0, -0.5), (-2.5, 1.5, 1.0), (1.0, 0.6, -0.5, 0.0)),
    "one covariate, bounded": Design((-0.3, 0.9), (-3.0,), (1.0, 0.5), bounded=True),
}


@dataclass(frozen=True, eq=False)
class Sample:
    """``x`` (n, p) with a constant, ``t`` (n,), ``y`` (n, 1), the ``true`` logit (n,), the ``effect`` of each row."""

    x: Array
    t: Array
    y: Array
    true: Array
    effect: Array

    @property
    def names(self) -> list[str]:
        return [f"x{i}" for i in range(self.x.shape[1])]

    @cached_property
    def model(self) -> Logistic:
        return logistic.fit(self.x, self.t, self.names)

    @property
    def logit(self) -> Array:
        return np.asarray(self.x @ self.model.beta)

    @property
    def e(self) -> Array:
        return logistic.predict(self.x, self.model.beta)

    @cached_property
    def folds(self) -> Array:
        return np.arange(len(self.t)) % FOLDS

    @cached_property
    def crossed(self) -> tuple[Array, Array]:
        """Propensity (n,) and outcomes under both arms (n, 2, 1) from the other folds."""
        e = np.empty(len(self.t))
        for k in range(FOLDS):
            rest = self.folds != k
            fit = logistic.fit(self.x[rest], self.t[rest], self.names, start=self.model.beta)
            e[~rest] = logistic.predict(self.x[~rest], fit.beta)
        grams = doubly.gram(self.x, self.y, self.t.astype(int), self.folds, 2, FOLDS)
        return e, doubly.potential(self.x, doubly.regress(grams, self.names), self.folds)

    def points(self, line: Array) -> Points:
        n, order = len(line), np.argsort(line, kind="stable")
        inside, outside = np.ones(n, bool), np.zeros(n, bool)
        e = 1 / (1 + np.exp(-line))
        parts = (self.y[order], self.x[order, 1:], e[order])
        return Points(line[order], self.t[order] == 1, np.zeros(n), inside, outside, *parts)


# estimators ---------------------------------------------------------------------------------------------------------

Estimate = Callable[[Sample], Answer]


def one(estimate: Array, error: Array) -> Answer:
    return float(estimate[0]), float(error[0])


def with_replacement(
    rules: Rules,
    line: str = "logit",
    variance: abadie_imbens.Population = "population",
    homoskedastic: bool = False,
) -> Estimate:
    """Matching on an attribute of the sample, ``x``: its only covariate; the effect of a sample is its own truth."""

    def estimate(sample: Sample) -> Answer:
        points = sample.points(sample.x[:, 1] if line == "x" else getattr(sample, line))
        sums, records = matched.sums_with_replacement(points, rules)
        information = sample.model.information if rules.estimated else None
        total = abadie_imbens.with_border(sums, records, rules)
        found = abadie_imbens.with_replacement(total, rules, variance, homoskedastic, information)
        value, error = one(found.estimate, found.std_error)
        if variance == "sample":
            value -= float(sample.effect[sample.t == 1].mean() if rules.estimand == "ATT" else sample.effect.mean())
        return value, error

    return estimate


def without_replacement(rules: Rules) -> Estimate:
    """On the estimated logit, ``caliper`` in its standard deviations."""

    def estimate(sample: Sample) -> Answer:
        line = sample.logit
        own = replace(rules, caliper=rules.caliper * float(line.std(ddof=1)))
        found = abadie_imbens.without_replacement(matched.sums_without_replacement(sample.points(line), own)[0], own)
        return one(found.estimate, found.std_error)

    return estimate


def strata(number: int, estimand: stratified.Estimand, quantiles: bool) -> Estimate:
    """Quantiles of the focal units' score, or a grid of cells of equal width."""

    def estimate(sample: Sample) -> Answer:
        line = sample.logit
        focal = line[sample.t == 1] if estimand == "ATT" else line
        inner = np.linspace(0, 1, number + 1)[1:-1]
        cuts = np.quantile(focal, inner) if quantiles else line.min() + np.ptp(line) * inner
        place = np.searchsorted(cuts, line) * 2 + sample.t.astype(int)
        n = np.bincount(place, minlength=2 * number).astype(float)
        y = sample.y[:, 0]
        with np.errstate(invalid="ignore"):
            mean = np.bincount(place, y, 2 * number) / n
            variance = np.bincount(place, (y - mean[place]) ** 2, 2 * number) / np.maximum(n - 1, 1)
        shape = number, 2, 1
        cells = stratified.Cells((), n.reshape(shape[:2]), mean.reshape(shape), variance.reshape(shape))
        found = stratified.solve(cells, 1, estimand).effect
        return one(found.estimate, found.std_error)

    return estimate


def influenced(estimate: Array, phi: Array) -> Answer:
    return one(estimate, np.sqrt((phi**2).sum(axis=0)) / len(phi))


def ipw(estimand: weighting.Estimand, estimated: bool = True) -> Estimate:
    """``estimated`` False takes the fitted propensity as given."""

    def estimate(sample: Sample) -> Answer:
        parts = sample.x, sample.t, sample.e, sample.y
        found = weighting.solve(weighting.sums(*parts, estimand), estimand)
        return influenced(found.effect, weighting.influence(*parts, found, sample.model if estimated else None))

    return estimate


def entropy(estimand: balancing.Estimand) -> Estimate:
    def estimate(sample: Sample) -> Answer:
        x, t = sample.x, sample.t
        target = balancing.target(balancing.moments(x, t), estimand)
        duals = []
        for group, asked in enumerate(target.groups):
            mask = t == group
            run = lambda lam, mask=mask: balancing.contribution(x, mask, lam, target.mean)  # noqa: E731
            duals.append(balancing.maximise(run, sample.names) if asked else None)
        weights = balancing.Balance(target, (duals[0], duals[1]))
        found = balancing.solve(balancing.sums(x, t, sample.y, weights), weights)
        return influenced(found.effect, balancing.influence(x, t, sample.y, found))

    return estimate


def aipw(estimand: weighting.Estimand) -> Estimate:
    def estimate(sample: Sample) -> Answer:
        e, mu = sample.crossed
        found = doubly.effect(doubly.pair_sums(sample.y, sample.t, e, mu, estimand))
        return influenced(found.effect, doubly.pair_influence(sample.y, sample.t, e, mu, estimand, found))

    return estimate


def dml(sample: Sample) -> Answer:
    """The partially linear model: the effect in the overlap population."""
    grams = doubly.gram(sample.x, sample.y, np.zeros(len(sample.t), int), sample.folds, 1, FOLDS)
    fitted = doubly.potential(sample.x, doubly.regress(grams, sample.names), sample.folds)[:, 0]
    parts = sample.y, sample.t, fitted, sample.crossed[0]
    found = doubly.effect(doubly.partial_sums(*parts))
    return influenced(found.effect, doubly.partial_influence(*parts, found))


# cells --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """An estimator on a design; ``limit`` names what is known to be wrong with it: wide, biased, or both."""

    estimator: str
    design: str
    estimand: str
    estimate: Estimate
    limit: str = ""


def plans() -> list[Plan]:
    """Every cell of the table, by design."""
    found: list[Plan] = []
    for design in DESIGNS:
        if design.startswith("one covariate"):
            found += _on_covariate(design)
        else:
            found += [*_on_score(design), *_others(design)]
    return found


def _on_covariate(design: str) -> Iterable[Plan]:
    limit = "" if DESIGNS[design].bounded else "biased"
    for estimand in ("ATT", "ATC", "ATE"):
        for ratio in (1, 3):
            rules = Rules(estimand, ratio=ratio)
            yield Plan(f"matching on x, M = {ratio}", design, estimand, with_replacement(rules, "x"), limit)
    for estimand in ("ATT", "ATE"):
        rules = Rules(estimand)
        own = f"{estimand} of the sample"
        yield Plan("matching on x, M = 1", design, own, with_replacement(rules, "x", "sample"), limit)
        equal = with_replacement(rules, "x", "sample", True)
        # effects that differ count as variance
        wide = f"{limit} wide".strip() if estimand == "ATE" else limit
        yield Plan("matching on x, M = 1, equal variances", design, own, equal, wide)


def _on_score(design: str) -> Iterable[Plan]:
    for estimand in ("ATT", "ATC", "ATE"):
        for ratio in (1, 3):
            known, fitted = Rules(estimand, ratio=ratio), Rules(estimand, ratio=ratio, estimated=True)
            name = f"matching, M = {ratio}"
            cells = {
                "2006, known score": with_replacement(known, "true"),
                "2016": with_replacement(fitted),
                "2006, estimated score": with_replacement(known),
            }
            for kind, estimate in cells.items():
                far = ratio == 3 or (kind != "2006, known score" and (estimand, design) in FAR)
                limit = "wide" if kind == "2006, estimated score" else ""
                yield Plan(f"{name}, {kind}", design, estimand, estimate, f"{'biased ' * far}{limit}".strip())
    for order in ("closest", "largest"):
        rules = Rules("ATT", order=order, caliper=0.2)
        limit = "wide" if (order, design) == ("closest", "same effect") else "biased wide"
        yield Plan(f"pairs, {order}, caliper 0.2", design, "ATT", without_replacement(rules), limit)


# One match on the estimated score whose bias is a little above the band: it is about a tenth everywhere.
FAR = {("ATE", "same effect"), ("ATE", "other effects"), ("ATC", "same effect")}


def _others(design: str) -> Iterable[Plan]:
    for estimand in ("ATT", "ATE"):
        limit = "wide" if design == "same effect" else "biased wide"
        yield Plan("subclass, 5", design, estimand, strata(5, estimand, True), "biased wide")
        yield Plan("grid, 50", design, estimand, strata(50, estimand, False), limit)
    for estimand in ("ATE", "ATT", "ATO"):
        yield Plan("ipw", design, estimand, ipw(estimand))
        yield Plan("ipw, score as given", design, estimand, ipw(estimand, False), "wide")
        yield Plan("aipw", design, estimand, aipw(estimand))
    yield Plan("entropy", design, "ATT", entropy("ATT"))
    yield Plan("entropy", design, "ATE", entropy("ATE"))
    yield Plan("dml", design, "ATO", dml)


@dataclass(frozen=True)
class Cell:
    """Bias in standard deviations, mean error over standard deviation, coverage of the 95 % interval, share of NaN."""

    replicates: int
    bias_sd: float
    se_ratio: float
    coverage: float
    undefined: float

    def outside(self) -> list[str]:
        """The names of the numbers that lie outside their band."""
        fine = {
            "bias_sd": abs(self.bias_sd) <= BIAS_BAND,
            "se_ratio": SE_BAND[0] <= self.se_ratio <= SE_BAND[1],
            "coverage": abs(self.coverage - (1 - ALPHA)) <= slack(self.replicates),
            "undefined": self.undefined == 0,
        }
        return [name for name, inside in fine.items() if not inside]


def slack(replicates: int) -> float:
    """Three Monte-Carlo standard errors of a coverage of 95 %."""
    return 3 * math.sqrt(ALPHA * (1 - ALPHA) / replicates)


def summary(answers: Array, truth: float) -> Cell:
    """From the answers (replicates, 2)."""
    known = np.isfinite(answers).all(axis=1)
    estimate, error = answers[known].T
    spread = estimate.std(ddof=1)
    return Cell(
        len(answers),
        float((estimate.mean() - truth) / spread),
        float(error.mean() / spread),
        float((np.abs(estimate - truth) <= critical(ALPHA) * error).mean()),
        float(1 - known.mean()),
    )


def simulate(
    design: str, chosen: list[Plan], truths: Mapping[str, float], replicates: int = REPLICATES, salt: int = 0
) -> list[Cell]:
    """The cells of one design, all estimators on the same samples. The effect of a sample is taken off: truth 0."""
    rng = np.random.default_rng([SEED, list(DESIGNS).index(design), salt])
    answers = np.empty((replicates, len(chosen), 2))
    for i in range(replicates):
        sample = DESIGNS[design].sample(rng)
        answers[i] = [plan.estimate(sample) for plan in chosen]
    return [summary(answers[:, j], truths.get(plan.estimand, 0.0)) for j, plan in enumerate(chosen)]


def run(replicates: int = REPLICATES, only: Collection[str] = ()) -> list[Row]:
    """Simulate all cells, or those of ``only`` some designs and keep the numbers of the others."""
    old = {(row["estimator"], row["design"], row["estimand"]): row for row in (read() if only else ())}
    rows = []
    for design in DESIGNS:
        chosen = [plan for plan in plans() if plan.design == design]
        if only and design not in only:
            rows += [old[plan.estimator, design, plan.estimand] | {"limit": plan.limit} for plan in chosen]
            continue
        truths = DESIGNS[design].truths()
        cells = simulate(design, chosen, truths, replicates)
        rows += [table_row(plan, cell, truths) for plan, cell in zip(chosen, cells, strict=True)]
    return rows


def table_row(plan: Plan, cell: Cell, truths: Mapping[str, float]) -> Row:
    return {
        "estimator": plan.estimator,
        "design": plan.design,
        "estimand": plan.estimand,
        "limit": plan.limit,
        "units": str(UNITS),
        "replicates": str(cell.replicates),
        "naive": f"{truths['naive']:.4f}",
        "truth": f"{truths.get(plan.estimand, 0.0):.6f}",
        "bias_sd": f"{cell.bias_sd:.4f}",
        "se_ratio": f"{cell.se_ratio:.4f}",
        "coverage": f"{cell.coverage:.4f}",
        "undefined": f"{cell.undefined:.4f}",
        "outside": " ".join(cell.outside()),
    }


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
    options = parser.parse_args()
    rows = run(options.replicates, options.only)
    write(rows)
    for row in rows:
        if row["outside"]:
            print(f"{row['limit'] or 'main'}: {row['estimator']}, {row['estimand']}, {row['design']}: {row['outside']}")


if __name__ == "__main__":
    main()
