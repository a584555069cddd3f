"""Standard errors by resampling buckets: Poisson bootstrap or jackknife of means, ratios, CUPED and quantiles."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from causal_spark.errors import StatisticError
from causal_spark.methods.experiment.analyses.found import Found
from causal_spark.methods.experiment.analyses.quantiles import ESTIMAND, histograms, label
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


def resampling(solver: Solver, rows: Sequence[Estimate]) -> Found:
    """Rows ``bootstrap`` or ``jackknife`` beside the main ones, over everyone; of quantiles by the bootstrap only."""
    asked = solver.method.bootstrap
    if asked is None:
        return Found()
    made: list[Estimate] = []
    for block in solver.blocks:
        if block.metric.name in solver.compressed.more["buckets"]:
            made += _means(solver, asked, block)
            made += _quantiles(solver, block) if asked.method == "poisson" else []
    return Found(tuple(made))


def _means(solver: Solver, asked: Bootstrap, block: Block) -> list[Estimate]:
    data = solver.compressed.more["buckets"][block.metric.name]
    tables = {arm: np.asarray(rows, float) for arm, rows in data["arms"].items()}
    arms = solver.cells.arms("all", block.metric.name)
    made: list[Estimate] = []
    for contrast in solver.contrasts():
        pair = (contrast.treatment, contrast.control)
        few = [arm for arm in pair if arm not in arms or arms[arm].n < 2 or arm not in tables]
        if few:
            made += _empty(solver, asked, block, contrast, say("note_few_units", solver.language, arms=", ".join(few)))
            continue
        value = _value(solver, block, arms, data["centres"])
        order = list(solver.compressed.facts["arms"])
        t, c = (tables[arm] for arm in pair)
        if asked.method == "poisson":
            again = [value(replicates(tables[arm], asked.replicates, SEED + order.index(arm))) for arm in pair]
        else:
            again = [value(left_out(table)) for table in (t, c)]
        now = [float(value(table.sum(axis=0))) for table in (t, c)]
        made += _tested(solver, asked, block, contrast, now, again, solver.units(block, arms, contrast))
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


def _tested(solver: Solver, asked: Bootstrap, block: Block, contrast: Contrast, now: Sequence[float],
            again: Sequence[Array], n: float) -> list[Estimate]:  # fmt: skip
    alpha, side = solver.method.alpha, solver.method.alternative
    test = bootstrap if asked.method == "poisson" else jackknife
    try:
        absolute = test(now[0] - now[1], again[0] - again[1], alpha, side)
        with np.errstate(divide="ignore", invalid="ignore"):
            lifts = again[0] / again[1] - 1
        relative = test(now[0] / now[1] - 1, lifts, alpha, side) if now[1] else _nothing()
    except StatisticError as error:
        return _empty(solver, asked, block, contrast, error.text(solver.language))
    return solver.pair(LABELS[asked.method], "all", block, contrast, absolute, relative, n, ())


def _empty(solver: Solver, asked: Bootstrap, block: Block, contrast: Contrast, note: str) -> list[Estimate]:
    terms = ("difference", "lift")
    return [solver.row(LABELS[asked.method], "all", block, contrast, term, None, math.nan, note) for term in terms]


def _nothing() -> Test:
    return Test(*(math.nan,) * 7)


def _quantiles(solver: Solver, block: Block) -> list[Estimate]:
    """Differences of quantiles from the exact law of the bootstrap, which needs the histograms and no replicate."""
    made = []
    arms = histograms(solver, block.metric.name)
    for q in block.metric.quantiles:
        for contrast in solver.contrasts():
            pair = [arms[arm] for arm in (contrast.treatment, contrast.control) if arm in arms]
            test, n, note = None, math.nan, _unfit(solver, contrast, pair, q)
            if not note:
                test = bootstrap_difference(pair[0], pair[1], q, solver.method.alpha, solver.method.alternative)
                n, note = float(sum(h.n for h in pair)), _remarks(solver, test, pair, q)
            made.append(solver.row("bootstrap", "all", block, contrast, label(q, "difference"), test, n, note))
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
