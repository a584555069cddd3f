"""Size, power and coverage of tests that look again and again: group-sequential, always-valid, and the fixed test.

    python -m tests.calibration.simulate_looks         simulate, write tests/calibration/looks.csv

What grows from look to look are the moments of two arms of normal units, drawn as they are distributed; z of a look is
the difference over its estimated standard error, as the job takes it. Bounds and sequences are those of ``solve``;
``by_job`` takes the same paths through the job's own walk over compressed data, for a test that both agree.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from causal_spark.methods.experiment import Compressed, Experiment, Metric, plan
from causal_spark.methods.experiment.analyses import sequential
from causal_spark.methods.experiment.checks import Checks
from causal_spark.methods.experiment.estimates import Solver
from causal_spark.methods.experiment.looks import NAME, Look
from causal_spark.methods.experiment.rules import Sequential
from causal_spark.solve.always_valid import always_valid, mixing_variance
from causal_spark.solve.intervals import Alternative, critical
from causal_spark.solve.sequential import Plan, crossing, group_sequential
from causal_spark.statistics import Grouped, Moments
from causal_spark.statistics.grouped import BLOCK
from tests.calibration.simulate_experiments import ALPHA, HERE, SEED, Row, band, write

CSV = HERE / "looks.csv"
DRIFT = 3.0  # mean of z once all units are there
SPREAD = 2.0  # of a unit
UNITS = 6_000  # planned, in both arms
SCHEDULES = 50  # of looks at random times
Array = np.ndarray


@dataclass(frozen=True)
class Looks:
    """A plan and when it is looked at: ``looks`` equally spaced times up to ``last``, or random ones (``uneven``)."""

    test: str
    looks: int
    plan: Plan
    replicates: int = 10_000
    last: float = 1.0
    uneven: bool = False
    limit: bool = False

    @property
    def name(self) -> str:
        sides = "two-sided" if self.plan.alternative == "two-sided" else "one-sided"
        more = ", uneven" if self.uneven else f", up to {self.last:.0%}" if self.last != 1 else ""
        return f"{sides}, {self.looks} looks{more}" + (f", {self.plan.units:,.0f} units" if self.limit else "")


@dataclass(frozen=True, eq=False)
class Paths:
    """Estimates and standard errors (replicates, looks), the units (looks,) behind them, and the true effect."""

    estimate: Array
    error: Array
    n: Array
    truth: float

    @property
    def z(self) -> Array:
        return self.estimate / self.error


# paths ----------------------------------------------------------------------------------------------------------------


def increments(rng: np.random.Generator, sizes: Array, mean: float, replicates: int) -> tuple[Array, Array]:
    """Mean and scatter (replicates, looks) of the units of one arm so far, ``sizes`` new ones at each look."""
    total = np.cumsum(sizes)
    new = rng.normal(mean, SPREAD / np.sqrt(sizes), (replicates, len(sizes)))
    so_far = np.cumsum(sizes * new, axis=1) / total
    before = np.column_stack([np.zeros(replicates), so_far[:, :-1]])
    between = (total - sizes) * sizes / total * (new - before) ** 2
    within = SPREAD**2 * rng.chisquare(np.maximum(sizes - 1, 1e-9), (replicates, len(sizes)))
    return so_far, np.cumsum(within + between, axis=1)


def paths(rng: np.random.Generator, fractions: Array, units: float, effect: bool, replicates: int) -> Paths:
    """Half of the units in each arm."""
    sizes = np.diff(np.round(fractions * units / 2), prepend=0)
    truth = DRIFT * SPREAD * math.sqrt(4 / units) if effect else 0.0
    n = np.cumsum(sizes)
    arms = [increments(rng, sizes, mean, replicates) for mean in (truth, 0.0)]
    variance = sum(scatter / (n - 1) / n for _, scatter in arms)
    return Paths(arms[0][0] - arms[1][0], np.sqrt(variance), 2 * n, truth)


# tests: which paths cross, and which intervals of all looks hold the truth ------------------------------------------


Verdict = tuple[Array, Array]  # crossed (replicates,), covered (replicates,)
Judge = Callable[[Paths, Looks], Verdict]


def judged(path: Paths, bounds: Array, alternative: Alternative) -> Verdict:
    """By bounds for z, (looks,) or (replicates, looks)."""
    toward = np.abs if alternative == "two-sided" else np.asarray
    crossed = (toward(path.z) >= bounds).any(axis=1)
    covered = (toward((path.estimate - path.truth) / path.error) <= bounds).all(axis=1)
    return crossed, covered


def by_group(path: Paths, looks: Looks) -> Verdict:
    bounds = np.array(bounds_at(tuple(path.n / looks.plan.units), looks.plan))
    return judged(path, bounds, looks.plan.alternative)


@cache
def bounds_at(fractions: tuple[float, ...], given: Plan) -> tuple[float, ...]:
    return tuple(look.bound for look in group_sequential(fractions, given))


def by_sequence(path: Paths, looks: Looks) -> Verdict:
    """τ from the first look and the planned units, as the job takes it."""
    alternative, sides = looks.plan.alternative, 2 if looks.plan.alternative == "two-sided" else 1
    bounds = np.empty_like(path.error)
    for i, errors in enumerate(path.error):
        tau = mixing_variance(float(errors[0]) ** 2, float(path.n[0]), looks.plan.units, ALPHA, sides)
        tests = (always_valid(0.0, float(error), tau, ALPHA, alternative) for error in errors)
        bounds[i] = [-test.low / test.std_error for test in tests]
    return judged(path, bounds, alternative)


def by_fixed_test(path: Paths, looks: Looks) -> Verdict:
    return judged(path, np.full(len(path.n), critical(ALPHA)), looks.plan.alternative)


METRIC = Metric("y", "mean", value="y")
COLUMN = plan.block(METRIC).columns[0].name


def by_job(path: Paths, looks: Looks) -> Verdict:
    """The looks and the intervals of the rows as the job solves them, each look told of those before."""
    kind = "always_valid" if looks.test == "always-valid" else "group"
    asked = Sequential("key", round(looks.plan.units), kind, looks.plan.spending, looks.plan.rho)
    method = Experiment(
        unit="u", arm="arm", control="c", metrics=(METRIC,), shares={"c": 0.5, "t": 0.5}, sequential=asked
    )
    found = [seen(method, path, i) for i in range(len(path.estimate))]
    return np.array([one[0] for one in found]), np.array([one[1] for one in found])


def seen(method: Experiment, path: Paths, i: int) -> tuple[bool, bool]:
    """Whether one path crosses at one of its looks, and whether every interval of its rows holds the truth."""
    assert method.sequential is not None
    assert method.plan is not None
    before: list[Look] = []
    crossed, covered = False, True
    for k in range(len(path.n)):
        now = Look(f"k{k}", "", method.sequential.kind, method.plan)
        told = {"now": asdict(now), "earlier": [asdict(look) for look in before]}
        solver = Solver(method, compressed(path, i, k, {NAME: told}), Checks("en"))
        series = sequential.looked(solver)
        one, row = series[0], sequential.rows(solver, series)[0]
        crossed |= sequential.crossed(one.seen.statistic, one.bounds[-1].bound, method.alternative)
        covered &= row.conf_low <= path.truth <= row.conf_high
        before.append(replace(now, seen=(one.seen,)))
    return crossed, covered


def compressed(path: Paths, i: int, k: int, more: dict[str, Any]) -> Compressed:
    """What the pass leaves at a look: two arms of n/2 units whose difference and error are those of the path."""
    n = float(path.n[k]) / 2
    scatter = path.error[i, k] ** 2 / 2 * n * (n - 1)
    cells: dict[tuple[str | None, ...], Moments] = {}
    for arm, mean in (("c", 10.0), ("t", 10.0 + path.estimate[i, k])):
        cells[arm, plan.ROWS] = Moments((), n, np.zeros(0), np.zeros((0, 0)))
        cells[arm, METRIC.name] = Moments((COLUMN,), n, np.array([mean]), np.array([[scatter]]))
    facts = {"arms": {"c": 0.5, "t": 0.5}, "arm": "arm", "rows": 2 * n, "nulls": {"y": 0}, "high": {}, "caps": {},
             "suppressed": []}  # fmt: skip
    return Compressed(Grouped(("arm", BLOCK), cells), (METRIC,), facts, more=more)


# the list -------------------------------------------------------------------------------------------------------------

OBF, TOTAL = "O'Brien–Fleming", "O'Brien–Fleming, in total"
FAMILIES = {OBF: ("obrien-fleming", 2.0), TOTAL: ("obrien-fleming-total", 2.0), "Pocock": ("pocock", 2.0),
            "power αt²": ("power", 2.0)}  # fmt: skip
MANY = (5, 14, 30)


def planned(family: str, alternative: Alternative = "two-sided", units: float = UNITS) -> Plan:
    spending, rho = FAMILIES[family]
    return Plan(units, ALPHA, spending, rho, alternative)  # type: ignore[arg-type]


def cases() -> list[Looks]:
    sides: tuple[Alternative, ...] = ("two-sided", "greater")
    found = [Looks(f, k, planned(f, side)) for f in (OBF, "Pocock", "power αt²") for side in sides for k in MANY]
    found += [Looks(f, 20, planned(f)) for f in FAMILIES]
    found += [Looks(f, 14, planned(f), uneven=True) for f in (OBF, "Pocock")]
    found += [Looks(f, 5, planned(f), last=1.2) for f in (OBF, "Pocock")]
    found += [Looks("Pocock", 30, planned("Pocock", units=units), limit=True) for units in (300.0, 1_200.0)]
    found += [Looks("always-valid", k, planned(OBF)) for k in (5, 14, 20, 30)]
    found += [Looks("always-valid", 14, planned(OBF, "greater"), 2_000)]
    return found + [Looks("fixed test", k, planned(OBF), limit=True) for k in MANY]


# one row --------------------------------------------------------------------------------------------------------------


def judge(looks: Looks) -> Judge:
    return {"always-valid": by_sequence, "fixed test": by_fixed_test}.get(looks.test, by_group)


def schedules(looks: Looks, rng: np.random.Generator) -> list[Array]:
    """Times of the looks as information fractions; random ones are at least 1 % apart and end at 1."""
    if not looks.uneven:
        return [looks.last * np.arange(1, looks.looks + 1) / looks.looks]
    return [
        np.append(np.sort(rng.choice(np.arange(2, 99), looks.looks - 1, False)) / 100, 1.0) for _ in range(SCHEDULES)
    ]


def integrated(looks: Looks, times: Sequence[Array], drift: float) -> float:
    """Probability to cross, by recursive integration; NaN for what has no bounds."""
    if judge(looks) is not by_group:
        return math.nan
    found = []
    for fractions in times:
        bounds = bounds_at(tuple(fractions), looks.plan)
        found.append(sum(part.sum() for part in crossing(fractions, bounds, drift, looks.plan.alternative)))
    return float(np.mean(found))


def simulate(looks: Looks) -> Row:
    rng = np.random.default_rng([SEED, zlib.crc32(f"{looks.test}/{looks.name}".encode())])
    times = schedules(looks, rng)
    each = looks.replicates // len(times)
    shares = []
    for effect in (False, True):
        found = [judge(looks)(paths(rng, t, looks.plan.units, effect, each), looks) for t in times]
        shares.append([float(np.concatenate(parts).mean()) for parts in zip(*found, strict=True)])
    (size, _), (power, covered) = shares
    exact = {"size_exact": integrated(looks, times, 0.0), "power_exact": integrated(looks, times, DRIFT)}
    numbers = {**exact, "size": size, "power": power, "coverage": covered}
    row = {"test": looks.test, "design": looks.name, "role": "limit" if looks.limit else "main",
           "looks": str(looks.looks), "replicates": str(each * len(times))}  # fmt: skip
    row |= {name: "" if math.isnan(value) else f"{value:.4f}" for name, value in numbers.items()}
    return row | {"outside": " ".join(outside(row))}


def outside(row: Row) -> list[str]:
    """Numbers outside their band: shares that are known exactly to 99.9 %, others not worse than the level."""
    n, valid = int(row["replicates"]), not row["size_exact"]
    number = {name: float(row[name] or "nan") for name in ("size", "coverage", "power", "power_exact", "size_exact")}
    size, coverage, power = band(ALPHA, n), band(1 - ALPHA, n), band(0.0 if valid else number["power_exact"], n)
    checks = {
        "size_exact": valid or number["size_exact"] <= ALPHA + 1e-4,
        "size": number["size"] <= size[1] and (valid or number["size"] >= size[0]),
        "coverage": number["coverage"] >= coverage[0] and (valid or number["coverage"] <= coverage[1]),
        "power": valid or power[0] <= number["power"] <= power[1],
    }
    return [name for name, fine in checks.items() if not fine]


def main() -> None:
    rows = []
    for looks in cases():
        start = time.monotonic()
        rows.append(simulate(looks))
        row = rows[-1]
        print(f"{looks.test}, {looks.name}: size {row['size_exact']} {row['size']}, power {row['power_exact']} "
              f"{row['power']}, coverage {row['coverage']}, outside: {row['outside'] or '-'}; "
              f"{time.monotonic() - start:.1f} s", flush=True)  # fmt: skip
    write(rows, CSV)


if __name__ == "__main__":
    main()
