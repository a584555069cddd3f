"""The estimates of an experiment: for each segment, metric and contrast, absolute and relative."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from causal_spark.methods.experiment import adjusted, plan, trust
from causal_spark.methods.experiment.adjusted import Adjusted
from causal_spark.methods.experiment.checks import Checks
from causal_spark.methods.experiment.compressed import Compressed
from causal_spark.methods.experiment.vocabulary import Experiment
from causal_spark.results import Estimate
from causal_spark.solve.intervals import Test
from causal_spark.solve.lifts import lift
from causal_spark.solve.linear import Adjustment, cluster_factors
from causal_spark.solve.means import Values, difference, evaluate
from causal_spark.solve.proportions import two_proportions
from causal_spark.statistics import Moments
from causal_spark.statistics.grouped import BLOCK
from causal_spark.words import say


@dataclass(frozen=True)
class Contrast:
    """Two arms to compare."""

    treatment: str
    control: str

    def __str__(self) -> str:
        return f"{self.treatment} vs {self.control}"


class Solver:
    """Walks segments, metrics and contrasts; the mathematics is in ``causal_spark.solve``."""

    def __init__(self, method: Experiment, compressed: Compressed, checks: Checks) -> None:
        self.method = method
        self.compressed = compressed
        self.checks = checks
        self.language = checks.language
        self.cells = trust.Cells(compressed, method)
        self.blocks = plan.blocks(compressed.metrics)
        self.clustered = method.cluster is not None
        self.suppressed = set(compressed.facts["suppressed"])

    def contrasts(self) -> list[Contrast]:
        arms = list(self.compressed.facts["arms"])
        if self.method.contrasts == "pairs":
            return [Contrast(later, earlier) for earlier, later in combinations(arms, 2)]
        return [Contrast(arm, self.method.control) for arm in arms if arm != self.method.control]

    def segment(self, segment: str) -> list[Estimate]:
        return [row for block in self.blocks for row in self.block(segment, block)]

    def block(self, segment: str, block: plan.Block) -> list[Estimate]:
        if segment in self.suppressed:
            note = say("note_suppressed", self.language, least=self.method.min_segment)
            return [row for contrast in self.contrasts() for row in self._empty(segment, block, contrast, note)]
        arms = self.cells.arms(segment, block.metric.name)
        found = self.adjusted(segment, arms, block)
        rows: list[Estimate] = []
        for contrast in self.contrasts():
            rows += self.compare(segment, block, contrast, arms, found)
        return rows

    def compare(self, segment: str, block: plan.Block, contrast: Contrast, arms: Mapping[str, Moments],
                found: Adjusted | None) -> list[Estimate]:  # fmt: skip
        """Difference and lift of two of the ``arms``, adjusted where that is given, with their unadjusted twins."""
        missing = [a for a in (contrast.treatment, contrast.control) if a not in arms or arms[a].n < 2]
        if missing:
            note = say("note_few_units", self.language, arms=", ".join(missing))
            return self._empty(segment, block, contrast, note)
        rows = [] if found is None else self._adjusted(segment, block, contrast, arms, found)
        return rows + self._plain(segment, block, contrast, arms, twin=found is not None)

    def adjustment(self, arms: Mapping[str, Moments], block: plan.Block) -> Adjustment | None:
        """CUPED on the metric's covariates."""
        return adjusted.by_covariates(self.method, block, arms)

    def adjusted(self, segment: str, arms: Mapping[str, Moments], block: plan.Block) -> Adjusted | None:
        """The values that the main rows compare, if they are not the plain ones."""
        return adjusted.adjusted(self.method, self.compressed, segment, block, arms, self.language)

    def _empty(self, segment: str, block: plan.Block, contrast: Contrast, note: str) -> list[Estimate]:
        label = adjusted.label(self.method, segment, block) or self.label(block)
        return [
            self.row(label, segment, block, contrast, term, None, math.nan, note) for term in ("difference", "lift")
        ]

    def label(self, block: plan.Block) -> str:
        """The name of the unadjusted method."""
        if self.clustered:
            return "cluster"
        return "delta" if block.metric.kind == "ratio" else "z" if block.metric.binary else "welch"

    def _plain(
        self, segment: str, block: plan.Block, contrast: Contrast, arms: Mapping[str, Moments], twin: bool
    ) -> list[Estimate]:
        form = block.forms(self.clustered)[:1]
        t, c = (evaluate(arms[arm], form) for arm in (contrast.treatment, contrast.control))
        notes = [say("note_unadjusted", self.language)] if twin else []
        n = self.units(block, arms, contrast)
        if self.label(block) == "z":
            absolute, relative = self._proportions(t, c)
            notes += self._disagreement(absolute)
        else:
            absolute, relative = self._means(t, c, n)
        return self.pair(self.label(block), segment, block, contrast, absolute, relative, n, notes)

    def _means(self, t: Values, c: Values, rows: float) -> tuple[Test, Test]:
        """Difference and lift of two means or ratios, with the cluster correction asked for."""
        dof = t.n + c.n - 1 if self._cr1 else None
        t, c = self._inflated(t, c, rows)
        alpha, side = self.method.alpha, self.method.alternative
        return difference(t, c, alpha, side, dof), lift(t, c, self.method.lift, alpha, side, dof)

    @property
    def _cr1(self) -> bool:
        return self.clustered and self.method.cluster_correction == "CR1"

    def _inflated(self, t: Values, c: Values, rows: float) -> tuple[Values, Values]:
        if not self._cr1:
            return t, c
        factors = cluster_factors((t.n, c.n), rows, "CR1")
        return t.inflate(factors[0]), c.inflate(factors[1])

    def _proportions(self, t: Values, c: Values) -> tuple[Test, Test]:
        """Pooled test and unpooled interval; the lift's Fieller interval is of the unpooled variances too."""
        alpha, side = self.method.alpha, self.method.alternative
        absolute = two_proportions(float(t.value[0]), t.n, float(c.value[0]), c.n, alpha, side)
        relative = lift(_unpooled(t), _unpooled(c), self.method.lift, alpha, side, math.inf)
        if self.method.lift == "fieller" and math.isfinite(absolute.statistic):
            relative = replace(relative, statistic=absolute.statistic, p_value=absolute.p_value)
        return absolute, relative

    def _disagreement(self, test: Test) -> list[str]:
        """The pooled test and the unpooled interval can differ when p is very near alpha."""
        inside = test.low <= 0 <= test.high
        if math.isnan(test.p_value) or math.isnan(test.low) or inside == (test.p_value >= self.method.alpha):
            return []
        return [say("note_z_disagrees", self.language)]

    def _adjusted(self, segment: str, block: plan.Block, contrast: Contrast,
                  arms: Mapping[str, Moments], found: Adjusted) -> list[Estimate]:  # fmt: skip
        if contrast.treatment not in found.groups or contrast.control not in found.groups:
            return self._empty(segment, block, contrast, found.note)
        t, c = found.groups[contrast.treatment], found.groups[contrast.control]
        n = self.units(block, arms, contrast)
        absolute, relative = self._means(t, c, n)
        form = block.forms(self.clustered)[:1]
        raw = evaluate(arms[contrast.treatment], form).value[0] - evaluate(arms[contrast.control], form).value[0]
        notes = [say("note_sign_flip", self.language)] if raw * absolute.estimate < 0 else []
        notes += [found.note] if found.note else []
        return self.pair(found.label, segment, block, contrast, absolute, relative, n, notes)

    def compared(self, block: plan.Block, contrast: Contrast) -> tuple[Values, Values] | None:
        """Treatment and control over all units as the main row compares them; None where it cannot."""
        arms = self.cells.arms("all", block.metric.name)
        names = (contrast.treatment, contrast.control)
        if any(name not in arms or arms[name].n < 2 for name in names):
            return None
        main = self.adjusted("all", arms, block)
        if main is not None and any(name not in main.groups for name in names):
            return None
        form = block.forms(self.clustered)[:1]
        if main is not None:
            t, c = (main.groups[name] for name in names)
        else:
            t, c = (evaluate(arms[name], form) for name in names)
            t, c = (_unpooled(t), _unpooled(c)) if self.label(block) == "z" else (t, c)
        return self._inflated(t, c, self.units(block, arms, contrast))

    def units(self, block: plan.Block, arms: Mapping[str, Moments], contrast: Contrast) -> float:
        """Units in the two arms; of clusters the sum of their sizes."""
        pair = [arms[contrast.treatment], arms[contrast.control]]
        if not self.clustered:
            return float(sum(part.n for part in pair))
        return float(sum(part.n * part.mean[part.names.index(block.size)] for part in pair))

    def pair(self, label: str, segment: str, block: plan.Block, contrast: Contrast,
              absolute: Test, relative: Test, n: float, notes: Sequence[str]) -> list[Estimate]:  # fmt: skip
        reasons = [*notes]
        if math.isnan(absolute.p_value):
            reasons.append(say("note_no_spread", self.language))
        lifted = [*reasons]
        if math.isnan(relative.low) and not math.isnan(absolute.p_value):
            lifted.append(say("note_lift_unbounded", self.language))
        return [
            self.row(label, segment, block, contrast, "difference", absolute, n, " ".join(reasons)),
            self.row(label, segment, block, contrast, "lift", relative, n, " ".join(lifted)),
        ]

    def row(self, label: str, segment: str, block: plan.Block, contrast: Contrast, term: str,
             test: Test | None, n: float, note: str) -> Estimate:  # fmt: skip
        empty = Estimate(label, "ATE", block.metric.name, segment, str(contrast), term, n=n, note=note,
                         conf_level=1 - self.method.alpha)  # fmt: skip
        if test is None:
            return empty
        return replace(
            empty, estimate=test.estimate, std_error=test.std_error, statistic=test.statistic, dof=test.dof,
            p_value=test.p_value, conf_low=test.low, conf_high=test.high,
        )  # fmt: skip

    def metrics(self) -> list[dict[str, Any]]:
        rows = []
        for metric in self.compressed.metrics:
            caps = {c.source: self.compressed.facts["caps"].get(c.name) for c in plan.block(metric).columns}
            known = {source: cap for source, cap in caps.items() if cap is not None}
            rows.append({"outcome": metric.name, "kind": metric.kind, "role": metric.role,
                         "description": " / ".join(metric.sources),
                         "winsorized_at": ", ".join(f"{source} {cap:g}" for source, cap in known.items())})  # fmt: skip
        return rows

    def arms(self) -> list[dict[str, Any]]:
        """Size, mean and spread of every metric in every arm; for a ratio the spread of its linearised unit value."""
        rows = []
        for segment in [s for s in self.cells.segments() if s not in self.suppressed]:
            for block in self.blocks:
                for arm, part in self.cells.arms(segment, block.metric.name).items():
                    found = evaluate(part, block.forms(self.clustered)[:1])
                    spread = float(np.sqrt(found.vcov[0, 0] * found.n))
                    rows.append({"segment": segment, "outcome": block.metric.name, "arm": arm, "n": part.n,
                                 "mean": float(found.value[0]), "std_dev": spread})  # fmt: skip
        return rows

    def nulls(self) -> list[dict[str, Any]]:
        """NULLs of every column with the policy they met; units that are not mature yet count as NULL."""
        facts = self.compressed.facts
        rows = []
        for block in self.blocks:
            for column in block.columns:
                rows.append({"outcome": block.metric.name, "column": column.source, "policy": column.nulls,
                             "nulls": facts["nulls"][column.source], "rows": facts["rows"]})  # fmt: skip
        return rows

    def adjustments(self) -> list[dict[str, Any]]:
        """θ of each covariate, ρ², the variance cut actually reached, and whether the sign of an effect flipped."""
        rows = []
        for block in self.blocks:
            arms = self.cells.arms("all", block.metric.name)
            found = self.adjusted("all", arms, block)
            if found is None or found.theta is None:
                continue
            forms = block.forms(self.clustered)
            plain = {arm: evaluate(part, forms[:1]) for arm, part in arms.items()}
            before = sum(v.vcov[0, 0] for v in plain.values())
            after = sum(v.vcov[0, 0] for v in found.groups.values())
            flips = [_flips(plain, found.groups, contrast) for contrast in self.contrasts()]
            for covariate, theta in zip(found.covariates, found.theta, strict=True):
                rows.append({"outcome": block.metric.name, "segment": "all", "covariate": covariate,
                             "theta": float(theta), "rho2": found.rho2,
                             "variance_reduction": float(1 - after / before) if before > 0 else math.nan,
                             "sign_flip": any(flips)})  # fmt: skip
        return rows

    def days(self) -> list[dict[str, Any]]:
        """The difference on each day since exposure, among the units whose day is over."""
        if self.compressed.days is None:
            return []
        arm = self.compressed.facts["arm"]
        rows = []
        for block in self.blocks:
            form = block.day_forms()
            cells: dict[int, dict[str, Values]] = {}
            for named, part in self.compressed.days.where(**{BLOCK: block.metric.name}):
                cells.setdefault(int(str(named["day"])), {})[str(named[arm])] = evaluate(part, form)
            for contrast in self.contrasts():
                for day, arms in sorted(cells.items()):
                    t, c = arms.get(contrast.treatment), arms.get(contrast.control)
                    if t is None or c is None or min(t.n, c.n) < self.method.min_segment:
                        continue
                    test = difference(t, c, self.method.alpha)
                    rows.append({"outcome": block.metric.name, "contrast": str(contrast), "day": day,
                                 "estimate": test.estimate, "std_error": test.std_error, "p_value": test.p_value,
                                 "conf_low": test.low, "conf_high": test.high, "n": t.n + c.n})  # fmt: skip
        return rows


def _flips(plain: Mapping[str, Values], adjusted: Mapping[str, Values], contrast: Contrast) -> bool:
    if contrast.treatment not in plain or contrast.control not in plain:
        return False
    raw = plain[contrast.treatment].value[0] - plain[contrast.control].value[0]
    return bool(raw * (adjusted[contrast.treatment].value[0] - adjusted[contrast.control].value[0]) < 0)


def _unpooled(values: Values) -> Values:
    """The variance p(1 - p)/n of a proportion, as in its interval."""
    p = float(values.value[0])
    return Values(values.value, np.array([[max(p * (1 - p), 0.0) / values.n]]), values.n)
