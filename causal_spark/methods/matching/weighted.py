"""The passes of weighting and doubly robust estimators: one for all estimates together, one for all influences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from scipy import special

from causal_spark.methods.matching.estimators import Estimator, Rows, estimator, part_of, prefixed
from causal_spark.methods.matching.prepare import Table
from causal_spark.methods.matching.score import Score, matrix
from causal_spark.methods.matching.vocabulary import NEED_IT_TO_TRIM, Observational
from causal_spark.solve import balance, logistic, weighting
from causal_spark.spark import design
from causal_spark.spark.blocks import Block, accumulate, clustered_squares, correction, with_columns
from causal_spark.spark.tables import col
from causal_spark.statistics import Sums
from causal_spark.statistics.moments import Array


@dataclass(frozen=True, eq=False)
class Weighted:
    """What an estimator found: effects and standard errors (q,), the solution behind them, and the balance sums."""

    name: str
    estimand: str
    effect: Array
    std_error: Array
    n: float
    solution: Any
    balance: Sums | None = field(default=None)
    levels: tuple[str, ...] = ()

    def contrasts(self, treatment: str, outcomes: int) -> Iterator[tuple[str, Array, Array]]:
        """Label, effects and errors (q,) of each contrast: the treatment, or every level against the first."""
        if not self.levels:
            yield treatment, self.effect, self.std_error
        for i, level in enumerate(self.levels[1:]):
            part = slice(i * outcomes, (i + 1) * outcomes)
            yield f"{treatment}: {level} vs {self.levels[0]}", self.effect[part], self.std_error[part]


def estimate(
    method: Observational,
    table: Table,
    treatment: str,
    score: Score | None,
    bounds: tuple[float, float],
    keep: Callable[[str, Any], None],
    clusters: Callable[[float], None],
) -> list[Weighted]:
    """All weighting and doubly robust estimators of ``method`` for one treatment; ``bounds`` of the kept logits.

    ``keep`` writes the table of the units' weights, ``clusters`` is told their number. Entropy balancing and the
    partially linear model see the kept rows alone, and then share passes of their own.
    """
    names: list[str] = [name for name in method.estimators if name in ("ipw", "overlap", "entropy", "aipw", "dml")]
    frame = table.frame if score is None else score.frame
    parts = [(names, table, frame)]
    if method.trim is not None and score is not None:
        kept = replace(table, frame=design.inside(frame, *bounds))
        inside = [name for name in names if name in NEED_IT_TO_TRIM]
        parts = [([name for name in names if name not in inside], table, frame), (inside, kept, kept.frame)]
    beta = None if score is None or score.fit is None else score.fit.beta
    outcomes = tuple(f"y{i}" for i in range(len(method.every_outcome)))
    columns = [*table.x, treatment, *outcomes, design.FOLD, *([design.LOGIT] if score is not None else [])]
    read = partial(
        rows, x=table.x, treatment=treatment, outcomes=outcomes, centres=table.centres, bounds=bounds, beta=beta
    )
    results: list[Weighted] = []
    weighing: dict[str, Callable[[Rows], Array]] = {}
    for own, seen, passed in parts:
        chosen = [estimator(name, method, seen, treatment, score) for name in own]
        results += _two_passes(method, seen, passed, columns, read, chosen, clusters) if chosen else []
        weighing |= {item.name: item.weights for item in chosen if item.weights is not None}
    results.sort(key=lambda item: names.index(item.name))
    if weighing and method.unit_weights:
        if method.stabilized:
            kept_rows = next(item.solution.kept for item in results if item.name == "ipw")
            weighing["ipw"] = partial(_stabilised, share=float(kept_rows[1] / kept_rows.sum()))
        ordered = {name: weighing[name] for name in names if name in weighing}
        keep("unit_weights", _unit_weights(frame, columns, treatment, read, ordered))
    return results


def _stabilised(r: Rows, share: float) -> Array:
    return np.where(r.keep, weighting.stabilised(r.e, r.t, share), 0.0)


def _unit_weights(
    frame: Any,
    columns: Sequence[str],
    treatment: str,
    read: Callable[[Block], Rows],
    weighing: Mapping[str, Callable[[Rows], Array]],
) -> Any:
    """A row for each unit: its key, the treatment, and its weight under each of the estimators."""
    functions = list(weighing.values())
    rows = frame.select(*map(col, dict.fromkeys([design.UNIT, *columns])))
    found = with_columns(rows, columns, list(weighing), lambda block: [weigh(read(block)) for weigh in functions])
    return found.select(
        col(design.UNIT).alias("unit"), col(treatment).cast("int").alias("treated"), *map(col, weighing)
    )


def _two_passes(
    method: Observational,
    table: Table,
    frame: Any,
    columns: Sequence[str],
    read: Callable[[Block], Rows],
    chosen: Sequence[Estimator],
    clusters: Callable[[float], None],
) -> list[Weighted]:
    def first(block: Block) -> Sums:
        found = read(block)
        return prefixed({item.name: item.sums(found) for item in chosen})

    total = accumulate(frame, columns, first)
    solved = {item.name: item.solve(part_of(total, item.name)) for item in chosen}
    main, cuts = np.array(table.main, int) + 1, table.cuts

    def second(block: Block) -> Sums:
        found = read(block)
        parts = {}
        for item in chosen:
            phi = item.influence(found, solved[item.name])
            parts[item.name] = Sums.of(n=len(phi), first=phi.sum(axis=0), second=(phi**2).sum(axis=0))
            if item.weights is not None:
                parts[f"{item.name} balance"] = balance.sums(
                    found.x[:, main], found.t, item.weights(found), cuts, np.zeros(len(main))
                )
        return prefixed(parts)

    spread = accumulate(frame, columns, second)
    results = []
    for item in chosen:
        own = part_of(spread, item.name)
        n = own.number("n")
        error = np.sqrt(own["second"]) / n
        if method.cluster is not None:
            error, groups = _clustered(frame, columns, read, item, solved[item.name], error, n)
            clusters(groups)
        weighed = part_of(spread, f"{item.name} balance") if item.weights is not None else None
        results.append(
            Weighted(
                item.name, item.estimand, solved[item.name].effect, error, n, solved[item.name], weighed, item.levels
            )
        )
    return results


def _clustered(
    frame: Any,
    columns: Sequence[str],
    read: Callable[[Block], Rows],
    item: Estimator,
    solution: Any,
    error: Array,
    n: float,
) -> tuple[Array, float]:
    """Standard errors of influences added up within clusters, with the factor G/(G - 1); and G."""
    size = np.where(error > 0, error * np.sqrt(n), 1.0)

    def work(block: Block) -> Array:
        return item.influence(read(block), solution) / size

    squares, groups = clustered_squares(frame, columns, design.CLUSTER, len(error), work)
    return np.sqrt(squares * correction(groups)) * size / n, groups


def rows(
    block: Block,
    x: tuple[str, ...],
    treatment: str,
    outcomes: tuple[str, ...],
    centres: tuple[float, ...],
    bounds: tuple[float, float],
    beta: Array | None,
) -> Rows:
    """The block's arrays; outcomes less their pilot centres, which no difference feels.

    The propensity is that of the coefficients ``beta`` at full precision, or of the logit that was given.
    """
    y = np.column_stack([block[name] for name in outcomes]) - np.array(centres)
    every, logit = matrix(block, x), block.get(design.LOGIT)
    if logit is None:
        return Rows(every, block[treatment], np.full(len(y), np.nan), np.ones(len(y), bool), y, block[design.FOLD])
    keep = (logit >= bounds[0]) & (logit <= bounds[1])
    e = special.expit(logit) if beta is None else logistic.predict(every, beta)
    return Rows(every, block[treatment], e, keep, y, block[design.FOLD])
