"""What an experiment needs, what it could find, and whether its metrics can be trusted: no Spark, no scan."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from causal_spark.errors import StatisticError
from causal_spark.methods.design import planned
from causal_spark.methods.design.compressed import Compressed
from causal_spark.methods.design.planned import Subject
from causal_spark.methods.design.vocabulary import Design
from causal_spark.methods.experiment import plan
from causal_spark.methods.findings import Findings
from causal_spark.results import Estimate, Result, checks_frame, estimates_frame
from causal_spark.solve.power import unit_variance
from causal_spark.solve.proportions import shares_test
from causal_spark.solve.splits import validate
from causal_spark.words import say

WEEKS = 8
GRID = np.geomspace(0.1, 10.0, 21)
BINS = 20
UNEVEN = 1e-3
CURVE = ("outcome", "test", "goal", "units", "days", "effect", "lift")

Row = dict[str, Any]


def solve(method: Design, compressed: Compressed, language: str = "en") -> Result:
    """Sizes, smallest effects, power and days of every metric and test; the A/A verdicts; the arms assigned.

    Raises StatisticError if a metric does not vary.
    """
    checks = Findings(language)
    checks.found = list(compressed.checks)
    report = _Report(method, compressed, checks, language)
    tables = {
        "metrics": report.metrics(),
        "sizes": report.sizes(),
        "arms": report.arms(),
        "detectable": report.detectable(),
        "power": report.power(),
        "curve": report.curve(),
        "arrivals": report.arrivals(),
        "aa": report.aa(),
        "p_values": report.p_values(),
        "assigned": report.assigned(),
        "covariates": [] if compressed.drawn is None else [dict(row) for row in compressed.drawn.balance],
    }
    frames = {"checks": checks_frame(checks.found), **{name: pd.DataFrame(rows) for name, rows in tables.items()}}
    return Result(
        estimates=estimates_frame(report.estimates(tables)),
        diagnostics={name: frame for name, frame in frames.items() if len(frame)},
        notes=tuple(f"{check.code}: {check.message}" for check in checks.found if check.verdict != "pass"),
    )


class _Report:
    """The tables; the mathematics is in ``planned`` and ``causal_spark.solve``."""

    def __init__(self, method: Design, compressed: Compressed, checks: Findings, language: str) -> None:
        self.method, self.compressed, self.checks, self.language = method, compressed, checks, language
        self.subjects = planned.subjects(method, compressed)
        self.week = planned.by_weekday(method, compressed.arrivals)
        self.contrast = f"{method.neediest} vs {method.control}"
        if compressed.arrivals and self.week is None:
            self.checks.add("FEW_DAYS", "warn", count=len(compressed.arrivals))

    def metrics(self) -> list[Row]:
        """Mean, variance, ρ² of CUPED, and of clusters their size, design effect and intraclass correlation."""
        rows = []
        caps = self.compressed.facts["caps"]
        for block in plan.blocks(self.compressed.metrics):
            mine = [subject for subject in self.subjects if subject.metric == block.metric.name]
            capped = ", ".join(f"{c.source} {caps[c.name]:g}" for c in block.parts[0].columns if c.name in caps)
            for subject in mine:
                first = subject if subject.test == planned.QUANTILE else mine[0]
                clustered = self.method.cluster is not None and subject.test != planned.QUANTILE
                rows.append({
                    "outcome": subject.outcome, "test": subject.test, "formula": subject.formula,
                    "kind": block.metric.kind, "role": block.metric.role, "n": subject.n, "mean": subject.mean,
                    "variance": subject.variance, "std_dev": math.sqrt(subject.variance), "rho2": subject.rho2,
                    "variance_kept": subject.variance / first.variance,
                    "winsorized_at": "" if subject.test == planned.QUANTILE else capped, "goal": subject.goal,
                    **(self._clusters(block, first) if clustered else {}),
                })  # fmt: skip
        return rows

    def _clusters(self, block: plan.Block, subject: Subject) -> Row:
        """How much more a unit varies because its cluster is randomised: design effect = var(clusters)/var(units)."""
        part = self.compressed.of(block.metric.name)
        size = part.select([block.size])
        mean = float(size.mean[0])
        cv = math.sqrt(float(size.scatter[0, 0]) / size.n) / mean
        units = self.compressed.of_units(block.metric.name)
        variance, _ = unit_variance(units, block.forms(False)[:1])
        effect = (subject.variance / subject.n) / (variance / units.n)
        spare = (1 + cv**2) * mean - 1
        return {"units": units.n, "mean_size": mean, "cv_size": cv, "design_effect": effect,
                "icc": (effect - 1) / spare if spare > 0 else math.nan}  # fmt: skip

    def sizes(self) -> list[Row]:
        """Units in all arms for every effect, and how long they take to come."""
        return [self._size(subject, *pair) for subject in self.subjects for pair in subject.effects(self.method)]

    def _base(self, subject: Subject) -> Row:
        return {"outcome": subject.outcome, "test": subject.test, "contrast": self.contrast, "goal": subject.goal,
                "alpha": planned.level(self.method, subject), "formula": subject.formula}  # fmt: skip

    def _size(self, subject: Subject, lift: float, effect: float) -> Row:
        found = planned.arms_needed(self.method, subject, effect)
        units = math.nan if found is None else float(found.units)
        days, weeks = planned.time_needed(units, self.week) if found else (math.nan, math.nan)
        note = ""
        if found is None:
            note = self._why(subject, effect)
        elif self.week is not None and math.isnan(days):
            note = say("design_too_long", self.language)
        return {**self._base(subject), "lift": lift, "effect": effect, "units": units, "days": days, "weeks": weeks,
                "power": self.method.power, "note": note}  # fmt: skip

    def _why(self, subject: Subject, effect: float, units: float = math.nan) -> str:
        """Why an effect has no size, or no power with so many ``units``."""
        if units == 0:
            return say("design_no_units", self.language)
        if math.isnan(subject.variance):
            return say("design_quantile_unknown", self.language)
        key = "design_no_mean" if math.isnan(effect) else "design_beyond_share"
        return say(key, self.language, mean=f"{subject.mean:.6g}")

    def arms(self) -> list[Row]:
        """Units of each arm for every effect."""
        rows = []
        for subject in self.subjects:
            for lift, effect in subject.effects(self.method):
                found = planned.arms_needed(self.method, subject, effect)
                rows += [{"outcome": subject.outcome, "test": subject.test, "lift": lift, "effect": effect,
                          "arm": arm, "share": self.method.shares[arm], "units": units}
                         for arm, units in (found.arms.items() if found else ())]  # fmt: skip
        return rows

    def _given(self, subject: Subject) -> Iterator[tuple[float, float]]:
        """(Units, days) that were asked about; the units of the table if nothing was."""
        yield from ((float(size), math.nan) for size in self.method.sizes)
        if self.week is not None:
            yield from ((planned.units_by(day, self.week), float(day)) for day in self.method.days)
        elif not self.method.sizes:
            yield subject.n, math.nan

    def detectable(self) -> list[Row]:
        """The smallest effect of every metric for the sizes and days that were asked about."""
        return [self._smallest(subject, *given) for subject in self.subjects for given in self._given(subject)]

    def _smallest(self, subject: Subject, units: float, days: float) -> Row:
        effect = planned.smallest(self.method, subject, units)
        size = abs(subject.mean)
        reason = "design_quantile_unknown" if math.isnan(subject.variance) else "design_nothing_found"
        reason = reason if units > 0 else "design_no_units"
        return {**self._base(subject), "units": units, "days": days, "effect": effect,
                "lift": effect / size if size > 0 else math.nan, "power": self.method.power,
                "note": say(reason, self.language) if math.isnan(effect) else ""}  # fmt: skip

    def power(self) -> list[Row]:
        """The power of the sizes and days that were asked about to find every effect."""
        return [
            {**self._base(subject), "units": units, "days": days, "lift": lift, "effect": effect,
             "power": (found := planned.chance(self.method, subject, effect, units)),
             "note": self._why(subject, effect, units) if math.isnan(found) else ""}
            for subject in self.subjects
            for units, days in self._given(subject)
            for lift, effect in subject.effects(self.method)
        ]  # fmt: skip

    def curve(self) -> list[Row]:
        """The smallest relative effect by weeks, or by units where it is not known how they come."""
        rows = []
        for subject in self.subjects:
            if self.week is None:
                points = [(float(subject.n * times), math.nan) for times in GRID]
            else:
                points = [(planned.units_by(7 * w, self.week), 7.0 * w) for w in range(1, WEEKS + 1)]
            for units, days in points:
                if units > 0:
                    row = self._smallest(subject, units, days)
                    rows.append({key: row[key] for key in CURVE})
        return rows

    def arrivals(self) -> list[Row]:
        """New units that enter the experiment on each weekday (0 = Monday)."""
        return [{"weekday": day, "units": units} for day, units in enumerate(self.week or ())]

    # A/A ---------------------------------------------------------------------------------------------------------

    def aa(self) -> list[Row]:
        """Rejections, uniformity of p and the verdict of each metric and test, in words and as a check."""
        return [self._aa(outcome, test, zs) for outcome, test, zs in self.compressed.splits]

    def _aa(self, outcome: str, test: str, zs: Sequence[float]) -> Row:
        base: Row = {"outcome": outcome, "test": test, "alpha": self.method.alpha}
        try:
            found = validate(zs, self.method.alpha)
        except StatisticError as error:
            self.checks.add("AA", "warn", "units", outcome, test=test, why=error.text(self.language))
            return {**base, "splits": 0, "trusted": False, "verdict": error.text(self.language)}
        low, high = found.band
        inside = low <= found.rejection <= high
        reason = "fine" if found.trusted else "shape" if inside else "rate"
        values = {"rate": f"{found.rejection:.2%}", "low": f"{low:.2%}", "high": f"{high:.2%}",
                  "alpha": f"{self.method.alpha:g}", "p": f"{found.ks_p:.2g}"}  # fmt: skip
        verdict = say(f"design_aa_{reason}", self.language, **values)
        self.checks.add("AA", "pass" if found.trusted else "warn", "units", outcome, share=found.rejection,
                        test=test, why=verdict)  # fmt: skip
        return {**base, "splits": found.splits, "rejection": found.rejection, "band_low": low, "band_high": high,
                "ks_p": found.ks_p, "spread": found.spread, "trusted": found.trusted, "verdict": verdict}  # fmt: skip

    def p_values(self) -> list[Row]:
        """How the p-values of the splits are spread: the share of them in each of twenty equal parts of [0, 1]."""
        rows = []
        for outcome, test, zs in self.compressed.splits:
            z = np.asarray(zs, float)
            z = z[np.isfinite(z)]
            counts, edges = np.histogram(2 * stats.norm.sf(np.abs(z)), BINS, (0.0, 1.0))
            rows += [{"outcome": outcome, "test": test, "low": float(edges[i]), "high": float(edges[i + 1]),
                      "share": float(counts[i]) / max(len(z), 1)} for i in range(BINS)]  # fmt: skip
        return rows

    # assignment ----------------------------------------------------------------------------------------------------

    def assigned(self) -> list[Row]:
        """Units of each arm against the plan."""
        drawn, shares = self.compressed.drawn, self.method.shares
        if drawn is None:
            return []
        counts = [drawn.counts.get(arm, 0) for arm in shares]
        test = shares_test(counts, list(shares.values()))
        if not sum(counts):
            self.checks.add("NOBODY_ASSIGNED", "warn", "assignment")
        else:
            verdict = "warn" if test.p_value < UNEVEN else "pass"
            self.checks.add("ASSIGNED", verdict, "assignment", count=sum(counts), p=f"{test.p_value:.3g}")
        total = max(sum(counts), 1)
        return [{"arm": arm, "n": n, "share": n / total, "planned": shares[arm], "expected": expected,
                 "p_value": test.p_value, "salt": drawn.salt, "draw": drawn.draw, "draws": drawn.draws,
                 "distance": drawn.distance, "limit": drawn.limit}
                for arm, n, expected in zip(shares, counts, test.expected, strict=True)]  # fmt: skip

    # the tidy table ------------------------------------------------------------------------------------------------

    def estimates(self, tables: Mapping[str, Sequence[Row]]) -> list[Estimate]:
        """Every number of the plan as a row: ``term`` says what it is, and of which effect or size."""
        n = {(subject.outcome, subject.test): subject.n for subject in self.subjects}

        def row(found: Row, term: str, value: str) -> Estimate:
            return Estimate(
                method=found["test"], estimand="design", outcome=found["outcome"], segment="all",
                contrast=found["contrast"], term=term, estimate=float(found[value]), conf_level=1 - found["alpha"],
                n=n[found["outcome"], found["test"]], note=found["note"],
            )  # fmt: skip

        parts: list[tuple[str, Callable[[Row], str], str]] = [
            ("sizes", lambda r: f"sample_size {self._of(r)}", "units"),
            ("detectable", lambda r: f"{'mde' if r['goal'] == 'superiority' else 'margin'} {self._when(r)}", "effect"),
            ("power", lambda r: f"power {self._when(r)} {self._of(r)}", "power"),
        ]
        found = [row(r, term(r), value) for name, term, value in parts for r in tables[name]]
        if self.week is not None:
            found += [row(r, f"days {self._of(r)}", "days") for r in tables["sizes"]]
        return found

    @staticmethod
    def _of(row: Row) -> str:
        """The effect to be found, or the margin to be held."""
        return f"{'lift' if row['goal'] == 'superiority' else 'margin'}={row['lift']:.6g}"

    def _when(self, row: Row) -> str:
        return f"days={row['days']:g}" if math.isfinite(row["days"]) else f"units={row['units']:.10g}"
