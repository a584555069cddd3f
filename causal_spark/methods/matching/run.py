"""The cluster half of the matching job: a frame in, effects with their errors and evidence out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from scipy import special

from causal_spark.methods.findings import Findings
from causal_spark.methods.matching import baseline, matched, strata, weighted
from causal_spark.methods.matching.compressed import Compressed, Found
from causal_spark.methods.matching.prepare import Table, check
from causal_spark.methods.matching.score import Score, begin, score
from causal_spark.methods.matching.vocabulary import Observational
from causal_spark.solve import balance, weighting
from causal_spark.spark import design
from causal_spark.spark.session import Engine
from causal_spark.spark.tables import Frame, stage

Progress = Callable[[str], None]
BINS = 1000
SHOWN = 50  # bins of the overlap that go into a table
BEYOND = 0.01  # share of the treated beyond every control above which OVERLAP warns
FEW_CLUSTERS = 30


def compress(
    engine: Engine,
    method: Observational,
    frames: Mapping[str, Frame],
    scratch: Callable[..., str],
    progress: Progress,
    language: str = "en",
) -> Compressed:
    """Gate, design, propensity, overlap, then every estimator for every treatment.

    Raises GateError (codes of the findings), ConfigError (columns) or StatisticError (separation, no match).
    """
    checks = Findings(language)
    progress("gate")
    table = check(method, frames["units"], checks)
    parts = []
    for index, name in enumerate(method.treatments):
        progress(f"compress {name}" if len(method.treatments) > 1 else "compress")
        keep = Folders(engine, scratch, "" if len(method.treatments) == 1 else f"_{index + 1}")
        parts.append(_comparison(engine, method, table, index, checks, keep))
    return Compressed(
        effects=tuple(row for part in parts for row in part.effects),
        balance=tuple(row for part in parts for row in part.balance),
        overlap=tuple(row for part in parts for row in part.overlap),
        propensity=tuple(row for part in parts for row in part.propensity),
        sizes=tuple(row for part in parts for row in part.sizes),
        facts={
            "rows": table.rows,
            "dof": table.rows - len(table.x) - 2,
            "deviations": {part.treatment: part.deviations for part in parts},
            "treatments": list(method.treatments),
            "outcomes": list(method.every_outcome),
        },
        checks=tuple(checks.found),
    )


@dataclass(frozen=True)
class Folders:
    """Where large tables go; ``suffix`` tells the treatments of a run apart."""

    engine: Engine
    scratch: Callable[..., str]
    suffix: str

    def keep(self, name: str, frame: Frame) -> None:
        """Write a table that is a result of the run."""
        stage(self.engine, frame, self.scratch(f"{name}{self.suffix}", kept=True))

    def stage(self, name: str, frame: Frame) -> Frame:
        """Write a table for later passes and read it back."""
        return stage(self.engine, frame, self.scratch(f"{name}{self.suffix}"))


@dataclass
class _Comparison:
    """Results of one treatment as they come in."""

    treatment: str
    outcomes: tuple[str, ...]
    effects: list[Found]
    balance: list[dict[str, Any]]
    overlap: list[dict[str, Any]]
    propensity: list[dict[str, Any]]
    sizes: list[dict[str, Any]]
    deviations: dict[str, float]

    def add(
        self, name: str, estimand: str, effect: Any, error: Any, focal: float, used: float, kind: str, **more: Any
    ) -> None:
        """One row for each outcome; ``more`` holds arrays by outcome."""
        for i, outcome in enumerate(self.outcomes):
            extra = {key: float(values[i]) for key, values in more.items() if values is not None}
            self.effects.append(
                Found(
                    name,
                    estimand,
                    self.treatment,
                    outcome,
                    float(effect[i]),
                    float(error[i]),
                    float(focal),
                    float(used),
                    kind,
                    **extra,
                )
            )

    def size(
        self, estimator: str, focal: float, matched: float, used: float, ess: float, caliper: float = math.nan
    ) -> None:
        """Units of the estimand, those that found somebody, rows used, effective size of the smaller group."""
        row = {"focal": focal, "matched": matched, "used": used, "ess": ess, "caliper": caliper}
        self.sizes.append(
            {"treatment": self.treatment, "estimator": estimator, **{k: float(v) for k, v in row.items()}}
        )


def _comparison(
    engine: Engine, method: Observational, table: Table, index: int, checks: Findings, keep: Folders
) -> _Comparison:
    name, column = method.treatments[index], f"t{index}"
    found = _Comparison(name, method.every_outcome, [], [], [], [], [], {})
    plain = name not in table.levels
    begun = begin(method, table, column) if plain else None
    start = begun if isinstance(begun, np.ndarray) else None
    before = baseline.look(table, column, len(found.outcomes), start) if plain else None
    if before is not None:
        baseline.report(found, before, table)
    fit = None
    if method.needs_score and before is not None:
        fit = score(method, table, column, begun, before.likelihood, partial(keep.stage, "score"))
    bounds, lines = (-math.inf, math.inf), (0.0, 0.0)
    if fit is not None:
        cells = design.overlap(fit.frame, column, BINS)
        bounds, lines = _overlap(method, found, cells, checks, partial(design.treated_above, fit.frame, column))
        _propensity(found, table, fit)
    if "matching" in method.estimators and before is not None:
        ends = None if fit is None else lines
        placed = matched.place(method, table, column, fit, bounds, engine, before.within, ends)
        _match(engine, method, table, placed, fit, found, before, keep, checks)
    for part in strata.estimate(method, table, column, fit, bounds, lines):
        _strata(method, table, found, part, before, checks)
    told = partial(_few_clusters, method, found, checks)
    for item in weighted.estimate(method, table, column, fit, bounds, keep.keep, told):
        _weighted(method, table, found, item, before)
    return found


def _overlap(
    method: Observational,
    found: _Comparison,
    cells: list[dict[str, float]],
    checks: Findings,
    above: Callable[[float], int],
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Bounds of the logits that are kept, and of all; how the arms overlap, as rows and as a finding.

    ``above`` counts the treated above a logit, by a scan: asked where the cell that holds both arms decides.
    """
    ends = np.array(
        [
            [
                min((c["low"] for c in cells if c["arm"] == a), default=math.nan),
                max((c["high"] for c in cells if c["arm"] == a), default=math.nan),
            ]
            for a in (0, 1)
        ]
    )
    low, high = float(ends[:, 0].max()), float(ends[:, 1].min())
    if low > high:
        treated, control = special.expit(ends[1]), special.expit(ends[0])
        checks.add("NO_OVERLAP", "stop", "units", found.treatment, treated=f"{treated[0]:.4g} - {treated[1]:.4g}",
                   control=f"{control[0]:.4g} - {control[1]:.4g}")  # fmt: skip
        checks.refuse()
    counts = np.zeros((2, BINS))
    for cell in cells:
        counts[int(cell["arm"]), int(cell["cell"])] = cell["n"]
    total = counts[1].sum()
    outside, most = (sum(c["n"] for c in cells if c["arm"] == 1 and c[end] > ends[0, 1]) for end in ("low", "high"))
    if outside <= BEYOND * total < most:
        outside = above(float(ends[0, 1]))
    share = outside / total
    checks.add("OVERLAP", "warn" if share > BEYOND else "pass", "units", found.treatment, share=share)
    shown = counts.reshape(2, SHOWN, -1).sum(axis=2)
    found.overlap += [
        {
            "treatment": found.treatment,
            "low": i / SHOWN,
            "high": (i + 1) / SHOWN,
            "treated": shown[1, i],
            "control": shown[0, i],
        }
        for i in range(SHOWN)
    ]
    bounds = _trimmed(method, ends, counts)
    kept = {c["arm"] for c in cells if c["high"] >= bounds[0] and c["low"] <= bounds[1]}
    if len(kept) < 2:
        low, high = special.expit(bounds)
        checks.add("NOTHING_KEPT", "stop", "units", found.treatment, low=f"{low:.4g}", high=f"{high:.4g}")
        checks.refuse()
    return bounds, (float(ends.min()), float(ends.max()))


def _trimmed(method: Observational, ends: Any, counts: Any) -> tuple[float, float]:
    if method.trim is None:
        return -math.inf, math.inf
    if method.trim == "minmax":
        return weighting.common_support(ends)
    if method.trim == "crump":
        alpha = weighting.crump(np.linspace(0, 1, BINS + 1), counts.sum(axis=0))
        return float(special.logit(alpha)), float(special.logit(1 - alpha))
    return float(special.logit(method.trim[0])), float(special.logit(method.trim[1]))


def _propensity(found: _Comparison, table: Table, fit: Score) -> None:
    """Coefficients on the scale of the columns themselves, with standard errors."""
    if fit.fit is None:
        return
    vcov = np.linalg.inv(fit.fit.information)
    centre = np.array([item.centre for item in table.design])
    scale = np.array([item.scale for item in table.design])
    back = np.diag(np.concatenate([[1.0], 1 / scale]))
    back[0, 1:] = -centre / scale
    beta, error = back @ fit.fit.beta, np.sqrt(np.diag(back @ vcov @ back.T))
    for label, value, spread in zip(("(constant)", *table.labels), beta, error, strict=True):
        found.propensity.append(
            {"treatment": found.treatment, "term": label, "coefficient": float(value), "std_error": float(spread)}
        )


def _match(
    engine: Engine,
    method: Observational,
    table: Table,
    placed: matched.Placed,
    fit: Score | None,
    found: _Comparison,
    before: Any,
    keep: Folders,
    checks: Findings,
) -> None:
    result = _swept(engine, method, placed, fit, keep)
    effect = result.effect
    kind = (
        "matched_sets" if not method.matching.replace else f"abadie_imbens_{2016 if placed.rules.estimated else 2006}"
    )
    error = effect.std_error
    if method.cluster is not None:
        (error, groups), kind = matched.clustered(placed, result, engine), "clusters"
        _few_clusters(method, found, checks, groups)
    found.add(
        "matching",
        placed.rules.estimand,
        effect.estimate,
        error,
        effect.n,
        effect.matched,
        kind,
        above=result.above,
        below=result.below,
        **_ranks(result),
    )
    found.size("matching", effect.n, effect.matched, effect.used, min(effect.ess.values()), result.caliper)
    _unmatched(found, "matching", effect.n, effect.matched, checks)
    baseline.balanced(found, "matching", result.balance, before, table)


def _swept(
    engine: Engine, method: Observational, placed: matched.Placed, fit: Score | None, keep: Folders
) -> matched.Matched:
    """One sweep for the effect and, if they are wanted, the tables of pairs and weights."""
    if not method.matching.pairs:
        return matched.match(method, placed, fit, engine)
    result, rows = matched.match_and_list(method, placed, fit, engine, partial(keep.stage, "matches"))
    keep.keep("pairs", matched.pairs(rows))
    keep.keep("weights", matched.weights(method, rows))
    return result


def _ranks(result: matched.Matched) -> dict[str, list[float]]:
    """The signed ranks of pairs by outcome, as columns of what is kept of an effect."""
    return (
        {
            "rank_sum": [ranks.statistic for ranks in result.ranks],
            "rank_total": [ranks.total for ranks in result.ranks],
            "rank_square": [ranks.square for ranks in result.ranks],
        }
        if result.ranks
        else {}
    )


def _few_clusters(method: Observational, found: _Comparison, checks: Findings, groups: float) -> None:
    """Errors by clusters are too small where these are few."""
    known = any(check.code == "FEW_CLUSTERS" and check.table == found.treatment for check in checks.found)
    if not known:
        verdict = "warn" if groups < FEW_CLUSTERS else "pass"
        checks.add("FEW_CLUSTERS", verdict, found.treatment, method.cluster or "", count=groups, limit=FEW_CLUSTERS)


def _strata(method: Observational, table: Table, found: _Comparison, part: strata.Stratified, before: Any,
            checks: Findings) -> None:  # fmt: skip
    effect, estimand = part.found.effect, "ATT" if method.estimand == "ATO" else method.estimand
    focal = {"ATT": effect.rows[1], "ATC": effect.rows[0]}.get(estimand, effect.rows.sum())
    used = {"ATT": effect.used[1], "ATC": effect.used[0]}.get(estimand, effect.used.sum())
    found.add(part.name, estimand, effect.estimate, effect.std_error, focal, used, "within_strata", bound=part.bound)
    found.size(part.name, focal, used, float(effect.used.sum()), float(part.found.ess.min()))
    _unmatched(found, part.name, focal, used, checks)
    means, variances = part.found.means[:, : len(table.main)], part.found.variances[:, : len(table.main)]
    baseline.balanced_means(found, part.name, means, variances, before, table)


def _weighted(method: Observational, table: Table, found: _Comparison, item: weighted.Weighted, before: Any) -> None:
    given = item.name in ("ipw", "overlap") and (method.score is not None or method.propensity.model == "boosted")
    kind = "clusters" if method.cluster else "influence_given" if given else "influence"
    treated, control = (0.0, 0.0) if before is None else before.sizes
    focal = {"ATT": treated, "ATC": control}.get(item.estimand, item.n)
    rows = None if item.balance is None else item.balance["rows"]
    used = focal if rows is None else {"ATT": rows[1], "ATC": rows[0]}.get(item.estimand, rows.sum())
    if item.name == "aipw" and item.estimand in ("ATT", "ATC"):
        used = round(item.solution.bottom)  # rows of that arm that are kept, see doubly.score
    for label, effect, error in item.contrasts(found.treatment, len(found.outcomes)):
        replace(found, treatment=label).add(item.name, item.estimand, effect, error, focal, float(used), kind)
    if item.balance is None:
        return
    ess = balance.effective_sizes(item.balance)
    found.size(item.name, focal, used, item.balance["rows"].sum(), min(ess))
    baseline.balanced(found, item.name, item.balance, before, table)


def _unmatched(found: _Comparison, estimator: str, focal: float, matched: float, checks: Findings) -> None:
    """Units without a match are no longer part of what is estimated."""
    share = 1 - matched / focal if focal else 0.0
    verdict = "warn" if share > 0 else "pass"
    checks.add("UNMATCHED", verdict, "units", found.treatment, count=focal - matched, share=share, estimator=estimator)
