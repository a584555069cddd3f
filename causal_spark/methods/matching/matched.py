"""Nearest-neighbour matching of one treatment: places on a line, a plan of blocks, one sweep."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from causal_spark.errors import StatisticError
from causal_spark.methods.matching.prepare import Table
from causal_spark.methods.matching.score import Score
from causal_spark.methods.matching.vocabulary import MODELLED, Observational
from causal_spark.solve import abadie_imbens, matched
from causal_spark.solve.matched import Points, Rules
from causal_spark.solve.metric import whitening
from causal_spark.solve.nearest import safe_gap
from causal_spark.spark import blocks, design, neighbours
from causal_spark.spark.blocks import Block
from causal_spark.spark.session import Engine
from causal_spark.spark.tables import Frame
from causal_spark.statistics import Sums
from causal_spark.statistics.moments import Array


@dataclass(frozen=True, eq=False)
class Placed:
    """Rows on the line of the distance, the plan of their blocks, and the rules in units of the distance.

    ``last``: what puts rows of equal ties in order, if the ties are a column.
    """

    frame: Frame
    plan: neighbours.Plan
    rules: Rules
    columns: tuple[str, ...]
    outcomes: int
    x: int
    centres: tuple[float, ...]
    last: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Matched:
    """Effect, standard error and counts, with the balance sums of each side and signs of pair differences.

    ``means`` (2, q) of the focal units and of their matches.
    """

    effect: abadie_imbens.Effect
    balance: Sums
    above: Array | None
    below: Array | None
    caliper: float
    means: Array


def place(
    method: Observational,
    table: Table,
    treatment: str,
    score: Score | None,
    bounds: tuple[float, float],
    engine: Engine,
    within: Array,
) -> Placed:
    """Put the rows in order of the distance and cut the line into blocks. One scan, one more without replacement.

    ``within`` (p, p): scatter of the design within the arms. Raises StatisticError if there is no way to cut.
    """
    asked = method.matching
    frame = table.frame if score is None else design.inside(score.frame, *bounds)
    multivariate = asked.distance == "mahalanobis"
    line_of = "logit" if multivariate else asked.distance
    frame = neighbours.on_line(frame, line_of if line_of in MODELLED else design.own(line_of), treatment)
    ties = design.own(asked.ties) if asked.ties else None
    frame = neighbours.placed(frame, f"{asked.seed}:ties", tuple(map(design.own, asked.exact)), ties)
    spread = neighbours.spread(frame)
    unit = spread.deviation if asked.caliper_scale == "sd" else 1.0
    estimated = (
        score is not None and score.fit is not None and asked.replace and asked.distance in ("logit", "propensity")
    )
    rules = Rules(
        estimand="ATE" if method.estimand == "ATO" else method.estimand,
        ratio=asked.ratio,
        caliper=math.inf if asked.caliper is None else asked.caliper * unit,
        tolerance=asked.tolerance * spread.deviation**2,
        order=asked.order,
        neighbours=asked.neighbours,
        sample=asked.variance == "sample",
        estimated=estimated and asked.variance == "population",
        main=table.main,
        cuts=table.cuts,
        metric=_metric(table, within) if multivariate else None,
    )
    line = neighbours.line(frame, spread.low, spread.high)
    if multivariate:
        plan = neighbours.whole(line)
    elif asked.replace:
        plan = neighbours.with_guests(line, max(asked.ratio, asked.neighbours + 1), math.sqrt(rules.tolerance))
    else:
        plan = neighbours.at_gaps(frame, line, safe_gap, asked.ratio, engine, focal=looking(rules, line))
    outcomes = tuple(f"y{i}" for i in range(len(method.every_outcome)))
    last = (neighbours.LAST,) if asked.ties else ()
    columns = (*outcomes, *table.x, *((design.LOGIT,) if rules.estimated else ()), *last)
    return Placed(frame, plan, rules, columns, len(outcomes), len(table.x), table.centres, last)


def looking(rules: Rules, line: neighbours.Line) -> int:
    """The arm whose wants say where a line may be cut without replacement.

    One to one and closest first, both arms play the same part, and the rarer leaves more places to cut.
    """
    if rules.order != "closest" or rules.ratio > 1:
        return rules.sides[0]
    return int(line.treated.sum() <= line.controls.sum())


def _metric(table: Table, within: Array) -> Array:
    """Whitening of the main covariates by their pooled covariance within the arms, as a map of the whole design."""
    main = list(table.main)
    small = whitening(within[np.ix_(main, main)], table.rows - 2.0)
    full = np.zeros((len(small), len(table.x)))
    full[:, main] = small
    return full


def match(method: Observational, placed: Placed, score: Score | None, engine: Engine) -> Matched:
    """One sweep, then the effect. Raises StatisticError if nothing is within the caliper."""
    rules = placed.rules
    read = partial(points, outcomes=placed.outcomes, x=placed.x, centres=placed.centres)
    if method.matching.replace:

        def work(block: Block) -> tuple[Sums, Array]:
            return matched.sums_with_replacement(read(block), rules)
    else:

        def work(block: Block) -> tuple[Sums, Array]:
            return matched.sums_without_replacement(read(block), rules), np.zeros((0, 1))

    total, records = neighbours.sweep(placed.frame, placed.plan, placed.columns, engine, work)
    if not sum(total.number(f"matched{side}") for side in rules.sides):
        raise StatisticError("nothing_matched", caliper=f"{rules.caliper:.6g}")
    means = np.stack([sum(total[f"{name}{side}"] for side in rules.sides) for name in ("focal", "match")])
    means = means / sum(total.number(f"matched{side}") for side in rules.sides)
    if not method.matching.replace:
        side = rules.sides[0]
        found = abadie_imbens.without_replacement(total, rules)
        return Matched(
            found, matched.balance_sums(total, side), total[f"above{side}"], total[f"below{side}"], rules.caliper, means
        )
    total = abadie_imbens.with_border(total, records, rules)
    information = score.fit.information if rules.estimated and score is not None and score.fit is not None else None
    found = abadie_imbens.with_replacement(
        total, rules, method.matching.variance, method.matching.homoskedastic, information
    )
    sums = [matched.balance_sums(total, side) for side in rules.sides]
    return Matched(found, sum(sums[1:], sums[0]), None, None, rules.caliper, means)


def points(block: Block, outcomes: int, x: int, centres: Sequence[float]) -> Points:
    """A sorted block as points; outcomes less their pilot centres."""
    rows = len(block[neighbours.POINT])
    y = [block[f"y{i}"] - centres[i] for i in range(outcomes)]
    columns = [block[f"x{i}"] for i in range(x)]
    logit = block.get(design.LOGIT)
    return Points(
        point=block[neighbours.POINT],
        treated=block[neighbours.TREATED] == 1,
        group=block[neighbours.NUMBER],
        home=block[neighbours.HOME] == 1,
        shared=block[neighbours.SHARED] == 1,
        outcomes=np.column_stack(y) if y else np.zeros((rows, 0)),
        covariates=np.column_stack(columns) if columns else np.zeros((rows, 0)),
        propensity=np.zeros(rows) if logit is None else 1.0 / (1.0 + np.exp(-logit)),
    )


def pairs(method: Observational, placed: Placed, engine: Engine) -> Frame:
    """The matched pairs: treated_id, control_id, distance, weight (1 / matches of the unit that looked for them).

    Of more than 20 matches as near as each other, the first 20 in the order of the line are listed.
    """
    rules, replace = placed.rules, method.matching.replace
    kind, make = neighbours.unit_type(placed.frame)
    x = 0 if rules.metric is None else placed.x
    columns = (design.UNIT, *(f"x{i}" for i in range(x)), *placed.last)

    def work(block: Block) -> pa.Table:
        found = points(block, 0, x, ())
        t, c, weight = matched.pairs(found, rules, replace)
        unit = block[design.UNIT]
        return pa.table(
            {
                "treated_id": make(unit[t]),
                "control_id": make(unit[c]),
                "distance": np.abs(found.point[t] - found.point[c]),
                "weight": weight,
            }
        )

    schema = f"treated_id {kind}, control_id {kind}, distance double, weight double"
    return neighbours.rows_of(placed.frame, placed.plan, columns, engine, work, schema)


def weights(method: Observational, placed: Placed, engine: Engine) -> Frame:
    """The weight of every unit that takes part: unit, treated, weight. Parts from several blocks are added."""
    rules, replace = placed.rules, method.matching.replace
    kind, make = neighbours.unit_type(placed.frame)
    x = 0 if rules.metric is None else placed.x
    columns = (design.UNIT, *(f"x{i}" for i in range(x)), *placed.last)

    def work(block: Block) -> pa.Table:
        found = points(block, 0, x, ())
        weight = matched.weights(found, rules, replace)
        used = weight > 0
        return pa.table(
            {
                "unit": make(block[design.UNIT][used]),
                "treated": found.treated[used].astype(np.int32),
                "weight": weight[used],
            }
        )

    rows = neighbours.rows_of(
        placed.frame, placed.plan, columns, engine, work, f"unit {kind}, treated int, weight double"
    )
    return neighbours.added_up(rows, ("unit", "treated"), "weight")


def clustered(placed: Placed, found: Matched, engine: Engine) -> Array:
    """Standard errors (q,) of matching without replacement, influences added up within clusters; G/(G - 1).

    A focal unit adds its outcome less the focal mean, a match its share of the outcome less the matches' mean.
    """
    rules, outcomes, centres = placed.rules, placed.outcomes, placed.centres
    size = np.where(found.effect.std_error > 0, found.effect.std_error * np.sqrt(found.effect.matched), 1.0)
    means, side = found.means, rules.sides[0]

    def work(block: Block) -> pa.Table:
        mine = points(block, outcomes, 0, centres)
        weight = matched.weights(mine, rules, replace=False)
        focal = mine.treated == bool(side)
        value = np.where(focal[:, None], mine.outcomes - means[0], means[1] - mine.outcomes) * weight[:, None] / size
        return blocks.fixed(block[design.CLUSTER], value)

    columns = (*(f"y{i}" for i in range(outcomes)), design.CLUSTER, *placed.last)
    rows = neighbours.rows_of(placed.frame, placed.plan, columns, engine, work, blocks.fixed_schema(outcomes))
    squares, groups = blocks.cluster_squares(rows, outcomes)
    return np.sqrt(squares * blocks.correction(groups)) * size / found.effect.matched
