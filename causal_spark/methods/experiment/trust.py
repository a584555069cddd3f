"""The trust gate's findings on the compressed data: arms, sample ratio, spread, hot units, pre-period."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from causal_spark.methods.experiment import plan
from causal_spark.methods.experiment.checks import Checks
from causal_spark.methods.experiment.compressed import Compressed
from causal_spark.methods.experiment.vocabulary import Experiment
from causal_spark.solve.means import difference, evaluate
from causal_spark.solve.multiplicity import adjust
from causal_spark.solve.proportions import shares_test
from causal_spark.statistics import Moments
from causal_spark.statistics.grouped import BLOCK, MISSING
from causal_spark.words import say

HOT_SHARE = 0.01
FEW_UNITS = 30


@dataclass(frozen=True)
class Cells:
    """The moments of one run, by segment label ("all" or "country=DE"), metric and arm."""

    compressed: Compressed
    method: Experiment

    @cached_property
    def _index(self) -> dict[tuple[str, str], dict[str, Moments]]:
        """Moments by (segment label, block) and arm label."""
        grouped, arm = self.compressed.moments, self.compressed.facts["arm"]
        found: dict[tuple[str, str], dict[str, Moments]] = {}
        for key, part in grouped.cells.items():
            named = dict(zip(grouped.by, key, strict=True))
            place = (self._label(named, arm), str(named[BLOCK]))
            found.setdefault(place, {})[str(named[arm])] = part
        return found

    @staticmethod
    def _label(named: Mapping[str, str | None], arm: str) -> str:
        for name, value in named.items():
            if name not in (arm, BLOCK) and value is not None:
                return plan.segment(name, value)
        return "all"

    def segments(self) -> list[str]:
        """ "all", then every segment value, suppressed ones included, in order."""
        found = {segment for segment, _ in self._index}
        return ["all", *sorted((found | set(self.compressed.facts["suppressed"])) - {"all"})]

    def arms(self, segment: str, block: str) -> dict[str, Moments]:
        """Moments by arm in the test; an arm without units in the segment is missing."""
        found = self._index.get((segment, block), {})
        return {label: found[label] for label in self.compressed.facts["arms"] if label in found}

    def holdouts(self, block: str) -> dict[str, Moments]:
        """Moments over all units by the arms that left the test, as far as they have units."""
        found = self._index.get(("all", block), {})
        return {label: found[label] for label in self.method.holdouts if label in found}

    def counts(self, segment: str = "all") -> dict[str, int]:
        """Units (or clusters) by every label of the arm column, holdouts and unknown labels included."""
        return {label: int(part.n) for label, part in self._index.get((segment, plan.ROWS), {}).items()}


def check_arms(cells: Cells, checks: Checks) -> None:
    """Labels that were not planned, planned arms without units, columns with NaN."""
    arm, counts = cells.method.arm, cells.counts()
    total = max(sum(counts.values()), 1)
    for label, n in sorted(counts.items()):
        if label == MISSING:
            checks.add("NULL_TREATMENT", "stop", "units", arm, count=n, share=n / total)
        elif label not in cells.compressed.facts["arms"] and label not in cells.method.holdouts:
            checks.add("UNKNOWN_ARM", "stop", "units", arm, count=n, share=n / total, label=label)
    for label, share in cells.compressed.facts["arms"].items():
        if counts.get(label, 0) == 0 and share > 0:
            checks.add("ARM_MISSING", "stop", "units", arm, count=0, label=label, found=", ".join(counts))
    for named, part in cells.compressed.moments.where():
        if named[BLOCK] != plan.ROWS and not (all(map(math.isfinite, part.mean)) and math.isfinite(part.scatter.sum())):
            checks.add("NAN_INF", "stop", "units", str(named[BLOCK]))
            break
    _check_fractions(cells, checks)
    checks.refuse()


def fractional(part: Moments, name: str) -> bool:
    """Whether a column of shares between 0 and 1 holds others than 0 and 1, for which Σ x(1 − x) is not 0."""
    one = part.select([name])
    return bool(part.n * one.mean[0] * (1 - one.mean[0]) - one.scatter[0, 0] > 1e-9 * part.n + 1e-6)


def _check_fractions(cells: Cells, checks: Checks) -> None:
    """The test of proportions would be wrong for anything but 0 and 1."""
    for block in plan.blocks(cells.compressed.metrics if cells.method.cluster is None else ()):
        name = block.columns[0].name
        for part in cells.arms("all", block.metric.name).values() if block.metric.binary else ():
            if fractional(part, name):
                checks.add("FRACTIONS", "stop", "units", block.columns[0].source)
                break


def check_spread(cells: Cells, checks: Checks) -> None:
    """Metrics without spread, arms with few units, single units that carry much of a metric."""
    facts = cells.compressed.facts
    for block in plan.blocks(cells.compressed.metrics):
        arms = cells.arms("all", block.metric.name)
        forms = block.forms(cells.method.cluster is not None)[:1]
        if arms and all(evaluate(part, forms).vcov[0, 0] == 0 for part in arms.values()):
            checks.add("ZERO_VARIANCE", "warn", "units", block.metric.name)
        smallest = min((part.n for part in arms.values()), default=0)
        if smallest < FEW_UNITS:
            checks.add("N_TOO_SMALL", "warn", "units", block.metric.name, count=smallest, least=FEW_UNITS)
        if cells.method.cluster is None and not block.metric.binary:
            _check_hot(block, arms.values(), facts, checks)


def _check_hot(block: plan.Block, arms: Iterable[Moments], facts: Mapping[str, Any], checks: Checks) -> None:
    for column in block.parts[0].columns:
        high = facts["high"].get(column.name)
        total = sum(part.n * part.mean[part.names.index(column.name)] for part in arms)
        units = sum(part.n for part in arms)
        if high is not None and total > 0 and units * HOT_SHARE > 1 and high / total > HOT_SHARE:
            checks.add("HOT_KEY", "warn", "units", column.source, share=high / total, name=block.metric.name)


def sample_ratio(cells: Cells, checks: Checks) -> list[dict[str, Any]]:
    """Pearson's χ² of unit counts against the planned shares, over all units and within each segment.

    Over all units p < ``srm_alpha`` invalidates the run. A segment is flagged if its Holm-adjusted p is below
    ``srm_alpha`` and a share is off by more than ``srm_min_deviation`` of itself.
    """
    planned = cells.compressed.facts["arms"]
    alpha, method = cells.method.srm_alpha, cells.method
    suppressed = set(cells.compressed.facts["suppressed"])
    rows, tests = [], []
    for segment in [s for s in cells.segments() if s not in suppressed]:
        counts = cells.counts(segment)
        observed = [counts.get(arm, 0) for arm in planned]
        test = shares_test(observed, list(planned.values()))
        tests.append((segment, observed, test))
    adjusted = adjust([test.p_value for segment, _, test in tests if segment != "all"], "holm")
    p_adjusted = {"all": tests[0][2].p_value, **{t[0]: p for t, p in zip(tests[1:], adjusted, strict=True)}}
    for segment, observed, test in tests:
        total = max(sum(n for n, share in zip(observed, planned.values(), strict=True) if share > 0), 1)
        off = max(abs(n / total / share - 1) for n, share in zip(observed, planned.values(), strict=True) if share > 0)
        low = p_adjusted[segment] < alpha
        flagged = low if segment == "all" else low and off > method.srm_min_deviation
        for (arm, share), n, expected in zip(planned.items(), observed, test.expected, strict=True):
            rows.append({"segment": segment, "arm": arm, "n": n, "expected": float(expected), "share": n / total,
                         "planned": share, "p_value": test.p_value, "p_adjusted": p_adjusted[segment],
                         "flagged": flagged})  # fmt: skip
        if segment == "all":
            verdict = "invalid" if flagged else "pass"
            counted = _listed(planned, observed, checks.language)
            checks.add("SRM", verdict, threshold=alpha, p=p_text(test.p_value), counts=counted)
        elif flagged:
            checks.add("SRM_SEGMENT", "warn", column=segment, share=off, threshold=alpha, p=p_text(p_adjusted[segment]))
    return rows


def p_text(value: float) -> str:
    """A p-value with its sign of relation: "= 0.02"."""
    return "= NaN" if math.isnan(value) else "< 1e-300" if value < 1e-300 else f"= {value:.3g}"


def _listed(planned: Mapping[str, float], observed: list[int], language: str) -> str:
    """Each arm with its size, its observed share among the planned arms, and the planned share."""
    total = max(sum(n for n, share in zip(observed, planned.values(), strict=True) if share > 0), 1)
    arms = [
        say("srm_arm", language, arm=arm, n=f"{n:,}", share=f"{n / total:.2%}", planned=f"{planned[arm]:.2%}")
        for arm, n in zip(planned, observed, strict=True)
    ]
    return say("report_list_and", language).join(arms)


def pre_period(cells: Cells, checks: Checks) -> list[dict[str, Any]]:
    """Difference of every covariate between the arms before exposure, where there can be no effect; Holm-corrected."""
    method, control = cells.method, cells.method.control
    rows: list[dict[str, Any]] = []
    for block in plan.blocks(cells.compressed.metrics):
        arms = cells.arms("all", block.metric.name)
        forms = block.forms(method.cluster is not None)
        for part, form in zip(block.parts[1:], forms[1:], strict=True):
            for arm in [arm for arm in arms if arm != control and control in arms]:
                test = difference(evaluate(arms[arm], [form]), evaluate(arms[control], [form]), method.alpha)
                rows.append({"outcome": part.label, "contrast": f"{arm} vs {control}", "estimate": test.estimate,
                             "std_error": test.std_error, "p_value": test.p_value, "p_adjusted": math.nan,
                             "conf_low": test.low, "conf_high": test.high, "flagged": False})  # fmt: skip
    rows = list({(row["outcome"], row["contrast"]): row for row in rows}.values())
    for row, p in zip(rows, adjust([row["p_value"] for row in rows], "holm"), strict=True):
        row |= {"p_adjusted": float(p), "flagged": bool(p < method.srm_alpha)}
        if row["flagged"]:
            checks.add(
                "PRE_PERIOD_BIAS", "warn", column=row["outcome"], p=p_text(row["p_adjusted"]), contrast=row["contrast"]
            )
    if rows and not any(row["flagged"] for row in rows):
        checks.add("PRE_PERIOD_BIAS", "pass", tests=len(rows))
    return rows
