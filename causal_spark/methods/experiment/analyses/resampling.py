"""Standard errors by resampling buckets: Poisson bootstrap or jackknife of means, ratios, CUPED and quantiles."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from causal_spark.errors import StatisticError
from causal_spark.methods.experiment.analyses.found import Found
from causal_spark.methods.experiment.analyses.quantiles import ESTIMAND, Where, label
from causal_spark.methods.experiment.analyses.within import absent, within
from causal_spark.methods.experiment.estimates import Contrast, Solver
from causal_spark.methods.experiment.plan import Block
from causal_spark.methods.experiment.settings import Bootstrap
from causal_spark.results import Estimate
from causal_spark.solve.bootstrap import bootstrap, jackknife, left_out, replicates
from causal_spark.solve.intervals import Test
from causal_spark.solve.means import evaluate
from causal_spark.solve.quantiles import bootstrap_difference, half_width, least_n
from causal_spark.statistics import Moments
from causal_spark.statistics.histogram import Histogram
from causal_spark.statistics.moments import Array
from causal_spark.words import say

SEED = 7
LABELS = {"poisson": "bootstrap", "jackknife": "jackknife"}
Tables = Mapping[str, Array]


def resampling(solver: Solver, rows: Sequence[Estimate]) -> Found:
    """Rows ``bootstrap`` or ``jackknife`` beside the main ones, in each segment; of quantiles by the bootstrap only."""
    asked = solver.method.bootstrap
    if asked is None:
        return Found()
    made: list[Estimate] = []
    chosen = [block for block in solver.blocks if block.metric.name in solver.compressed.more["buckets"]]
    for segment in solver.cells.segments():
        tables = _tables(solver, chosen, segment)
        weighed = _weighed(solver, asked, tables) if asked.method == "poisson" else {}
        for block in chosen:
            mine = tables.get(block.metric.name, {})
            made += _means(solver, asked, segment, block, mine, weighed.get(block.metric.name, {}))
            made += _quantiles(Where(solver, segment, block)) if asked.method == "poisson" else []
    return Found(tuple(made))


def _tables(solver: Solver, chosen: Sequence[Block], segment: str) -> dict[str, Tables]:
    """By metric and arm: the sums by bucket, shape (buckets, 1 + columns)."""
    data = solver.compressed.more["buckets"]
    arms = {block.metric.name: within(data[block.metric.name], segment).get("arms", {}) for block in chosen}
    return {name: {arm: np.asarray(rows, float) for arm, rows in found.items()} for name, found in arms.items()}


def _weighed(solver: Solver, asked: Bootstrap, tables: Mapping[str, Tables]) -> dict[str, dict[str, Array]]:
    """By metric and arm the totals of every replicate; an arm's weights are those of its buckets in all segments."""
    found: dict[str, dict[str, Array]] = {name: {} for name in tables}
    for place, arm in enumerate(solver.compressed.facts["arms"]):
        mine = {name: table[arm] for name, table in tables.items() if arm in table}
        if mine:
            again = replicates(np.concatenate(list(mine.values()), axis=1), asked.replicates, SEED + place)
            ends = np.cumsum([table.shape[1] for table in mine.values()])
            for name, part in zip(mine, np.split(again, ends[:-1], axis=1), strict=True):
                found[name][arm] = part
    return found


def _means(solver: Solver, asked: Bootstrap, segment: str, block: Block, tables: Tables,
           weighed: Mapping[str, Array]) -> list[Estimate]:  # fmt: skip
    data = solver.compressed.more["buckets"][block.metric.name]
    reason = absent(solver, data, segment, "note_segment_buckets")
    arms = solver.cells.arms(segment, block.metric.name)
    made: list[Estimate] = []
    for contrast in solver.contrasts():
        pair = (contrast.treatment, contrast.control)
        few = [arm for arm in pair if arm not in arms or arms[arm].n < 2 or arm not in tables]
        if reason or few:
            note = reason or say("note_few_units", solver.language, arms=", ".join(few))
            made += _empty(solver, asked, segment, block, contrast, note)
            continue
        value = _value(solver, block, arms, data["centres"])
        if asked.method == "poisson":
            again = [value(weighed[arm]) for arm in pair]
        else:
            # a bucket that holds nobody is no part of the sample
            filled = np.any([tables[arm][:, 0] > 0 for arm in pair], axis=0)
            again = [value(left_out(tables[arm][filled])) for arm in pair]
        now = [float(value(tables[arm].sum(axis=0))) for arm in pair]
        made += _tested(solver, asked, segment, block, contrast, now, again, solver.units(block, arms, contrast))
    return made


def _value(
    solver: Solver, block: Block, arms: Mapping[str, Moments], centres: Sequence[float]
) -> Callable[[Array], Array]:
    """The metric's value in an arm from its totals (…, 1 + columns); adjusted with the θ of the data where CUPED is."""
    columns = list(block.columns)
    adjusted = solver.adjustment(arms, block)
    parts = block.parts if adjusted is not None else block.parts[:1]
    theta = np.zeros(0) if adjusted is None else adjusted.theta
    pooled = sum(arms.values(), Moments.empty(next(iter(arms.values())).names))
    shift = evaluate(pooled, block.forms(solver.clustered)).value[1:] if adjusted is not None else np.zeros(0)

    @np.errstate(divide="ignore", invalid="ignore")
    def value(totals: Array) -> Array:
        found = []
        for part in parts:
            top = columns.index(part.numerator)
            bottom = 0 if part.denominator is None else 1 + columns.index(part.denominator)
            found.append(centres[top] + totals[..., 1 + top] / totals[..., bottom])
        covariates = sum((b * (x - m) for b, x, m in zip(theta, found[1:], shift, strict=True)), np.zeros(()))
        return np.asarray(found[0] - covariates, float)

    return value


def _tested(solver: Solver, asked: Bootstrap, segment: str, block: Block, contrast: Contrast, now: Sequence[float],
            again: Sequence[Array], n: float) -> list[Estimate]:  # fmt: skip
    alpha, side = solver.method.alpha, solver.method.alternative
    test = bootstrap if asked.method == "poisson" else jackknife
    try:
        absolute = test(now[0] - now[1], again[0] - again[1], alpha, side)
        with np.errstate(divide="ignore", invalid="ignore"):
            lifts = again[0] / again[1] - 1
        relative = test(now[0] / now[1] - 1, lifts, alpha, side) if now[1] else _nothing()
    except StatisticError as error:
        return _empty(solver, asked, segment, block, contrast, error.text(solver.language))
    return solver.pair(LABELS[asked.method], segment, block, contrast, absolute, relative, n, ())


def _empty(
    solver: Solver, asked: Bootstrap, segment: str, block: Block, contrast: Contrast, note: str
) -> list[Estimate]:
    terms = ("difference", "lift")
    return [solver.row(LABELS[asked.method], segment, block, contrast, term, None, math.nan, note) for term in terms]


def _nothing() -> Test:
    return Test(*(math.nan,) * 7)


def _quantiles(where: Where) -> list[Estimate]:
    """Differences of quantiles from the exact law of the bootstrap, which needs the histograms and no replicate."""
    made, solver = [], where.solver
    arms = where.arms
    for q in where.block.metric.quantiles:
        for contrast in solver.contrasts():
            pair = [arms[arm] for arm in (contrast.treatment, contrast.control) if arm in arms]
            test, n, note = None, math.nan, where.absent or _unfit(solver, contrast, pair, q)
            if not note:
                test = bootstrap_difference(pair[0], pair[1], q, solver.method.alpha, solver.method.alternative)
                n, note = float(sum(h.n for h in pair)), _remarks(solver, test, pair, q)
            term = label(q, "difference")
            made.append(solver.row("bootstrap", where.segment, where.block, contrast, term, test, n, note))
    return [replace(row, estimand=ESTIMAND) for row in made]


def _unfit(solver: Solver, contrast: Contrast, pair: Sequence[Histogram], q: float) -> str:
    """Why the law does not hold; empty if it does."""
    if solver.clustered:
        return say("note_bootstrap_clusters", solver.language)
    if len(pair) < 2:
        return say("note_few_units", solver.language, arms=f"{contrast.treatment}, {contrast.control}")
    fewest, least = min(h.n for h in pair), math.ceil(least_n(q, solver.method.alpha))
    return (
        ""
        if fewest >= least
        else StatisticError("quantile_few_units", q=f"{q:g}", n=fewest, least=least).text(solver.language)
    )


def _remarks(solver: Solver, test: Test, pair: Sequence[Histogram], q: float) -> str:
    notes = [say("note_quantile_tied", solver.language)] if math.isnan(test.p_value) else []
    widest = max(half_width(h, q) for h in pair)
    if widest > 0:
        notes.append(say("note_resolution", solver.language, resolution=f"{widest:.3g}"))
    return " ".join(notes)
