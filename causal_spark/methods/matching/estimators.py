"""Weighting and doubly robust estimators: what each sums, solves, and takes for the influence of a unit.

Weights of entropy balancing and nuisances (outcome regressions, propensities) are fitted when an estimator is made, by
passes of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causal_spark.methods.matching.prepare import Levels, Table
from causal_spark.methods.matching.score import Score, matrix
from causal_spark.methods.matching.vocabulary import Observational
from causal_spark.solve import balancing, doubly, logistic, weighting
from causal_spark.spark import design
from causal_spark.spark.blocks import Block, accumulate
from causal_spark.statistics import Sums
from causal_spark.statistics.moments import Array


@dataclass(frozen=True, eq=False)
class Rows:
    """A block as its estimators see it: design (n, p), treatment, propensity, kept rows, outcomes (n, q), folds."""

    x: Array
    t: Array
    e: Array
    keep: NDArray[np.bool_]
    y: Array
    fold: Array


@dataclass(frozen=True, eq=False)
class Estimator:
    """One estimator in three steps, each of plain arrays: sums of a block, the solution, influence of a row.

    ``weights``: 0 for rows that are left out, for the balance; None where no weights exist.
    """

    name: str
    estimand: str
    sums: Callable[[Rows], Sums]
    solve: Callable[[Sums], Any]
    influence: Callable[[Rows, Any], Array]
    weights: Callable[[Rows], Array] | None = None
    levels: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Contrasts:
    """Effects of every level against the first, one outcome after the other, and the means they come from."""

    effect: Array
    means: doubly.Augmented


def estimator(name: str, method: Observational, table: Table, treatment: str, score: Score | None) -> Estimator:
    """The estimator of that name for one treatment, with what it needs fitted; ``score`` None: the job has none."""
    if name in ("ipw", "overlap"):
        return _inverse(name, "ATO" if name == "overlap" else method.estimand, score)
    if name == "entropy":
        return _entropy(method, table, treatment)
    levels = table.levels.get(method.treatments[int(treatment[1:])], ())
    if name == "aipw" and levels:
        return _several(method, table, treatment, levels)
    if name == "aipw":
        return _augmented(method, table, treatment, score)
    return _partial(method, table, treatment)


def _inverse(name: str, estimand: Any, score: Score | None) -> Estimator:
    fit = None if score is None else score.fit
    return Estimator(
        name,
        estimand,
        sums=lambda r: weighting.sums(r.x, r.t, r.e, r.y, estimand, r.keep),
        solve=lambda total: weighting.solve(total, estimand),
        influence=lambda r, found: weighting.influence(r.x, r.t, r.e, r.y, found, fit, r.keep),
        weights=lambda r: np.where(r.keep, weighting.weights(r.e, r.t, estimand), 0.0),
    )


def _entropy(method: Observational, table: Table, treatment: str) -> Estimator:
    """Weights first: a pass for the target, then Newton passes on the dual of each weighted group."""
    estimand: Any = "ATT" if method.estimand == "ATO" else method.estimand
    names, x = ("(constant)", *table.labels), table.x
    columns = [*x, treatment]
    total = accumulate(table.frame, columns, lambda block: balancing.moments(matrix(block, x), block[treatment]))
    target = balancing.target(total, estimand)

    def dual(group: int) -> balancing.Dual | None:
        if not target.groups[group]:
            return None

        def evaluate(lam: Array) -> Sums:
            def work(block: Block) -> Sums:
                return balancing.contribution(matrix(block, x), block[treatment] == group, lam, target.mean)

            return accumulate(table.frame, columns, work)

        return balancing.maximise(evaluate, names)

    found = balancing.Balance(target, (dual(0), dual(1)))
    return Estimator(
        "entropy",
        estimand,
        sums=lambda r: balancing.sums(r.x, r.t, r.y, found),
        solve=lambda total: balancing.solve(total, found),
        influence=lambda r, solution: balancing.influence(r.x, r.t, r.y, solution),
        weights=lambda r: np.where(r.keep, balancing.weights(r.x, r.t, found), 0.0),
    )


def _augmented(method: Observational, table: Table, treatment: str, score: Score | None) -> Estimator:
    """Nuisances first: outcome regressions by arm and fold, and a propensity without each fold."""
    folds, outcomes = method.folds, tuple(f"y{i}" for i in range(len(method.every_outcome)))
    beta = _regressions(table, treatment, outcomes, folds, (0.0, 1.0))
    given = score is not None and (score.fit is None or folds == 1)
    fits = None if given else _scores_by_fold(table, treatment, folds, score)

    def nuisances(r: Rows) -> tuple[Array, Array]:
        e = r.e if fits is None else _by_fold(r, fits)
        return e, doubly.potential(r.x, beta, r.fold)

    estimand: Any = method.estimand
    return Estimator(
        "aipw",
        estimand,
        sums=lambda r: doubly.pair_sums(r.y, r.t, *nuisances(r), estimand, r.keep),
        solve=doubly.effect,
        influence=lambda r, found: doubly.pair_influence(r.y, r.t, *nuisances(r), estimand, found, r.keep),
    )


def _partial(method: Observational, table: Table, treatment: str) -> Estimator:
    """The partially linear model; a 0/1 treatment is predicted by a logistic, another by a linear regression."""
    folds, outcomes = method.folds, tuple(f"y{i}" for i in range(len(method.every_outcome)))
    beta = _regressions(table, treatment, outcomes, folds, None)[0]
    index = int(treatment[1:])
    if method.treatments[index] in table.levels:
        linear = _regressions(table, treatment, (treatment,), folds, None)[0]

        def expected(r: Rows) -> Array:
            return doubly.fitted(r.x, linear, r.fold)[:, 0]
    else:
        fits = _scores_by_fold(table, treatment, folds, None)

        def expected(r: Rows) -> Array:
            return _by_fold(r, fits)

    return Estimator(
        "dml",
        "ATO",
        sums=lambda r: doubly.partial_sums(r.y, r.t, doubly.fitted(r.x, beta, r.fold), expected(r)),
        solve=doubly.effect,
        influence=lambda r, found: doubly.partial_influence(
            r.y, r.t, doubly.fitted(r.x, beta, r.fold), expected(r), found
        ),
    )


def _several(method: Observational, table: Table, treatment: str, known: Levels) -> Estimator:
    """AIPW of every level against the first; a logistic of each level against the rest gives its propensity."""
    levels = table.codes(method.treatments[int(treatment[1:])])
    folds, outcomes = method.folds, tuple(f"y{i}" for i in range(len(method.every_outcome)))
    beta = _regressions(table, treatment, outcomes, folds, levels)
    fits = [_scores_by_fold(table, treatment, folds, None, level) for level in levels]

    def parts(r: Rows) -> tuple[Array, NDArray[np.int64], Array, Array]:
        e = np.column_stack([_by_fold(r, fit) for fit in fits])
        return r.y, np.searchsorted(levels, r.t).astype(np.int64), e, doubly.potential(r.x, beta, r.fold)

    def solve(total: Sums) -> Contrasts:
        found = doubly.level_solve(total)
        return Contrasts((found.means[1:] - found.means[0]).ravel(), found)

    def influence(r: Rows, found: Contrasts) -> Array:
        phi = doubly.level_influence(*parts(r), found.means)
        return (phi[:, 1:] - phi[:, :1]).reshape(len(phi), len(found.effect))

    labels = tuple(level if isinstance(level, str) else f"{level:g}" for level in known)
    return Estimator("aipw", "ATE", lambda r: doubly.level_sums(*parts(r)), solve, influence, levels=labels)


def _regressions(
    table: Table, treatment: str, targets: tuple[str, ...], folds: int, levels: tuple[float, ...] | None
) -> Array:
    """Coefficients (levels, folds, p, q) of least squares of the ``targets``, by level or over all rows; one pass."""
    x = table.x
    centres = np.array([0.0 if name == treatment else table.centres[int(name[1:])] for name in targets])

    def work(block: Block) -> Sums:
        y = np.column_stack([block[name] for name in targets]) - centres
        level = np.zeros(len(y), int) if levels is None else np.searchsorted(levels, block[treatment])
        return doubly.gram(matrix(block, x), y, level, block[design.FOLD], len(levels or (0,)), folds)

    columns = list(dict.fromkeys([*x, treatment, *targets, design.FOLD]))
    return doubly.regress(accumulate(table.frame, columns, work), ("(constant)", *table.labels))


def _scores_by_fold(
    table: Table, treatment: str, folds: int, score: Score | None, level: float = 1.0
) -> tuple[Array, ...]:
    """Coefficients of the propensity of ``level`` without each fold; the walks of all folds share their passes."""
    names, x = ("(constant)", *table.labels), table.x
    start = np.zeros(len(names)) if score is None or score.fit is None else score.fit.beta
    walks = [logistic.begin(start) for _ in range(folds)]
    while not all(walk.done for walk in walks):
        points = {k: walk.point for k, walk in enumerate(walks) if not walk.done}

        def work(block: Block, points: dict[int, Array] = points) -> Sums:
            design_matrix, t, fold = matrix(block, x), (block[treatment] == level).astype(float), block[design.FOLD]
            return prefixed(
                {
                    str(k): logistic.contribution(*_others(design_matrix, t, fold, k, folds), beta)
                    for k, beta in points.items()
                }
            )

        total = accumulate(table.frame, [*x, treatment, design.FOLD], work)
        for k in points:
            walks[k] = logistic.follow(walks[k], part_of(total, str(k)), names)
    return tuple(logistic.finish(walk).beta for walk in walks)


def _others(x: Array, t: Array, fold: Array, k: int, folds: int) -> tuple[Array, Array]:
    """The rows outside fold ``k``; all of them if there is but one."""
    chosen = (fold != k) | (folds == 1)
    return x[chosen], t[chosen]


def _by_fold(r: Rows, fits: Sequence[Array]) -> Array:
    """The propensity of each row by the fit that has not seen it."""
    found = np.zeros(len(r.t))
    for k, beta in enumerate(fits):
        mine = r.fold == k
        found[mine] = logistic.predict(r.x[mine], beta)
    return found


def prefixed(parts: Mapping[str, Sums]) -> Sums:
    """Several sums as one, under their names."""
    return Sums({f"{name}|{key}": value for name, part in parts.items() for key, value in part.values.items()})


def part_of(total: Sums, name: str) -> Sums:
    """What ``prefixed`` put together, taken apart."""
    return Sums({key.partition("|")[2]: value for key, value in total.values.items() if key.partition("|")[0] == name})
