"""Nearest-neighbour matching of one treatment: places on a line, a plan of blocks, one sweep."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from causal_spark.errors import StatisticError
from causal_spark.methods.matching.prepare import Table
from causal_spark.methods.matching.score import Score
from causal_spark.methods.matching.vocabulary import MODELLED, Observational
from causal_spark.solve import abadie_imbens, matched, pair_ranks, pairing
from causal_spark.solve.greedy import safe_gap
from causal_spark.solve.metric import whitening
from causal_spark.solve.pairing import Points, Rules
from causal_spark.solve.sensitivity import SignedRanks
from causal_spark.spark import blocks, design, neighbours, sweeps
from causal_spark.spark.blocks import Block
from causal_spark.spark.session import Engine
from causal_spark.spark.tables import Frame
from causal_spark.statistics import Sums
from causal_spark.statistics.moments import Array


@dataclass(frozen=True, eq=False)
class Placed:
    """Rows on the line of the distance, the plan of their blocks, and the rules in units of the distance.

    ``x``: the columns of the design that the sums need. ``ties``: what puts rows
    of equal distance in order. ``scales``: of the outcomes, for the ranks of pair differences; none without pairs.
    """

    frame: Frame
    plan: neighbours.Plan
    rules: Rules
    outcomes: int
    x: tuple[str, ...]
    centres: tuple[float, ...]
    ties: tuple[str, ...] = (neighbours.TIE,)
    scales: tuple[float, ...] = ()

    def columns(self, in_order: bool) -> tuple[str, ...]:
        """What the sums need of a row; ``in_order``: with what decides between equal distances."""
        outcomes = tuple(f"y{i}" for i in range(self.outcomes))
        logit = (design.LOGIT,) if self.rules.estimated else ()
        return (*outcomes, *self.x, *logit, *(self.ties if in_order else ()))


@dataclass(frozen=True, eq=False)
class Matched:
    """Effect, standard error and counts, with the balance sums of each side and signs of pair differences.

    ``means`` (2, q) of the focal units and of their matches; ``ranks`` of the differences of pairs by outcome.
    """

    effect: abadie_imbens.Effect
    balance: Sums
    above: Array | None
    below: Array | None
    caliper: float
    means: Array
    ranks: tuple[SignedRanks, ...] = ()


def place(
    method: Observational,
    table: Table,
    treatment: str,
    score: Score | None,
    bounds: tuple[float, float],
    engine: Engine,
    within: Array,
    ends: tuple[float, float] | None = None,
) -> Placed:
    """Put the rows in order of the distance and cut the line into blocks: a scan, another without replacement.

    ``within`` (p, p): scatter of the design within the arms. ``ends``: the smallest and the largest logit of all rows;
    where they or the deviation are not known there is a scan more. Raises StatisticError if there is no way to cut.
    """
    asked = method.matching
    frame = table.frame if score is None else design.inside(score.frame, *bounds)
    multivariate = asked.distance == "mahalanobis"
    line_of = "logit" if multivariate else asked.distance
    frame = neighbours.on_line(frame, line_of if line_of in MODELLED else design.own(line_of), treatment)
    by = design.own(asked.ties) if asked.ties else None
    frame = neighbours.placed(frame, f"{asked.seed}:ties", tuple(map(design.own, asked.exact)), by)
    in_deviations = asked.tolerance > 0 or (asked.caliper is not None and asked.caliper_scale == "sd")
    if ends is None or in_deviations or line_of != "logit" or bounds != (-math.inf, math.inf):
        spread = neighbours.spread(frame, in_deviations)
    else:
        spread = neighbours.Spread(*ends, 0.0)
    unit = spread.deviation if asked.caliper_scale == "sd" else 1.0
    estimated = (
        score is not None and score.fit is not None and asked.replace and asked.distance in ("logit", "propensity")
    )
    whole = estimated and asked.variance == "population"
    rules = Rules(
        estimand="ATE" if method.estimand == "ATO" else method.estimand,
        ratio=asked.ratio,
        caliper=math.inf if asked.caliper is None else asked.caliper * unit,
        tolerance=asked.tolerance * spread.deviation**2,
        order=asked.order,
        neighbours=asked.neighbours,
        sample=asked.variance == "sample",
        estimated=whole,
        main=table.main if whole else tuple(range(len(table.main))),
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
    ties = (neighbours.TIE, neighbours.LAST) if asked.ties else (neighbours.TIE,)
    x = table.x if whole else tuple(table.x[i] for i in table.main)
    scales = () if asked.replace or asked.ratio > 1 else table.scales
    return Placed(frame, plan, rules, len(method.every_outcome), x, table.centres, ties, scales)


def looking(rules: Rules, line: neighbours.Line) -> int:
    """The arm whose wants say where a line may be cut without replacement.

    One to one and closest first, both arms play the same part, and the rarer leaves more places to cut.
    """
    if rules.order != "closest" or rules.ratio > 1:
        return rules.sides[0]
    return int(line.treated.sum() <= line.controls.sum())


def _metric(table: Table, within: Array) -> Array:
    """Whitening of the main covariates by their pooled covariance within the arms."""
    main = list(table.main)
    return whitening(within[np.ix_(main, main)], table.rows - 2.0)


def match(method: Observational, placed: Placed, score: Score | None, engine: Engine) -> Matched:
    """One sweep, then the effect. Raises StatisticError if nothing is within the caliper."""
    read, sums = _read(placed), _sums(method, placed)

    def work(block: Block) -> tuple[Sums, Array]:
        return sums(read(block))

    columns = placed.columns(in_order=not method.matching.replace)
    return _solved(method, placed, score, *sweeps.sweep(placed.frame, placed.plan, columns, engine, work))


def match_and_list(
    method: Observational, placed: Placed, score: Score | None, engine: Engine, keep: Callable[[Frame], Frame]
) -> tuple[Matched, Frame]:
    """As ``match``, and by the same sweep the pairs and the weights, as ``keep`` leaves them on the cluster.

    Rows of treated_id, control_id, distance, weight and part. One of both keys is a pair (``pairs``); one of a single
    key and no distance is the weight of that unit or, where ``part`` says so, some of it (``weights``). Of more than 20
    matches as near as each other the first 20 in the order of the line are listed.
    """
    read, sums, replace = _read(placed), _sums(method, placed), method.matching.replace
    kind, make = sweeps.unit_type(placed.frame)
    rules = placed.rules

    def work(block: Block) -> tuple[Sums, Array, pa.Table]:
        mine = read(block)
        return *sums(mine), _listed(mine, pairing.matches(mine, rules, replace), block[design.UNIT], make)

    columns = (design.UNIT, *placed.columns(in_order=True))
    schema = f"treated_id {kind}, control_id {kind}, distance double, weight double, part boolean"
    total, records, rows = sweeps.sweep_with_rows(placed.frame, placed.plan, columns, engine, work, schema, keep)
    return _solved(method, placed, score, total, records), rows


def _listed(found: Points, listed: pairing.Matches, unit: Array, make: Callable[[Array], pa.Array]) -> pa.Table:
    """The rows of a block as ``match_and_list`` gives them."""
    t, c, both = listed.treated, listed.control, found.shared | ~found.home
    none = pa.nulls(len(t), pa.bool_())
    pairs = [make(unit[t]), make(unit[c]), np.abs(found.point[t] - found.point[c]), listed.share, none]
    parts = [pa.table(pairs, names=_MATCHES)]
    for arm, key in ((True, 0), (False, 1)):
        rows = np.flatnonzero((listed.weight > 0) & (found.treated == arm))
        keys = [pa.nulls(len(rows), pairs[0].type)] * 2
        keys[key] = make(unit[rows])
        nothing = pa.nulls(len(rows), pa.float64())
        parts.append(pa.table([*keys, nothing, listed.weight[rows], both[rows]], names=_MATCHES))
    return pa.concat_tables(parts)


_MATCHES = ["treated_id", "control_id", "distance", "weight", "part"]


def _read(placed: Placed) -> Callable[[Block], Points]:
    return partial(points, outcomes=placed.outcomes, x=placed.x, centres=placed.centres)


def _sums(method: Observational, placed: Placed) -> Callable[[Points], tuple[Sums, Array]]:
    """What a block of points adds, and its records: borders with replacement, ranks of the differences without."""
    rules, scales = placed.rules, placed.scales
    if method.matching.replace:
        return partial(matched.sums_with_replacement, rules=rules)

    def work(mine: Points) -> tuple[Sums, Array]:
        sums, differences = matched.sums_without_replacement(mine, rules)
        return sums, pair_ranks.records(differences, scales)

    return work


def _solved(method: Observational, placed: Placed, score: Score | None, total: Sums, records: Array) -> Matched:
    """The effect from the sums of all blocks."""
    rules, scales = placed.rules, placed.scales
    if not sum(total.number(f"matched{side}") for side in rules.sides):
        raise StatisticError("nothing_matched", caliper=f"{rules.caliper:.6g}")
    means = np.stack([sum(total[f"{name}{side}"] for side in rules.sides) for name in ("focal", "match")])
    means = means / sum(total.number(f"matched{side}") for side in rules.sides)
    if not method.matching.replace:
        side = rules.sides[0]
        found, ranks = abadie_imbens.without_replacement(total, rules), tuple(pair_ranks.solve(records, scales))
        above, below = total[f"above{side}"], total[f"below{side}"]
        return Matched(found, matched.balance_sums(total, side), above, below, rules.caliper, means, ranks)
    total = abadie_imbens.with_border(total, records, rules)
    information = score.fit.information if rules.estimated and score is not None and score.fit is not None else None
    found = abadie_imbens.with_replacement(
        total, rules, method.matching.variance, method.matching.homoskedastic, information
    )
    sums = [matched.balance_sums(total, side) for side in rules.sides]
    return Matched(found, sum(sums[1:], sums[0]), None, None, rules.caliper, means)


def points(block: Block, outcomes: int, x: Sequence[str], centres: Sequence[float]) -> Points:
    """A sorted block as points; outcomes less their pilot centres."""
    rows = len(block[neighbours.POINT])
    y = [block[f"y{i}"] - centres[i] for i in range(outcomes)]
    columns = [block[name] for name in x]
    logit = block.get(design.LOGIT)
    return Points(
        point=block[neighbours.POINT],
        treated=np.asarray(block[neighbours.TREATED], bool),
        group=block[neighbours.NUMBER],
        home=np.asarray(block[neighbours.HOME], bool),
        shared=np.asarray(block[neighbours.SHARED], bool),
        outcomes=np.column_stack(y) if y else np.zeros((rows, 0)),
        covariates=np.stack(columns).T if columns else np.zeros((rows, 0)),
        propensity=np.zeros(rows) if logit is None else 1.0 / (1.0 + np.exp(-logit)),
    )


def pairs(found: Frame) -> Frame:
    """Of the rows of ``match_and_list`` the pairs; the weight is 1 / matches of the unit that looked for them."""
    return sweeps.where_known(found, "distance", True).drop("part")


def weights(method: Observational, found: Frame) -> Frame:
    """Of the same rows the weight of every unit that takes part: unit, treated, weight.

    With replacement a unit near a border has a part from each block that used it; those are added up.
    """
    rows = sweeps.keyed(sweeps.where_known(found, "distance", False), "treated_id", "control_id")
    if not method.matching.replace:
        return rows.drop("part")
    return sweeps.added_up(rows, ("unit", "treated"), "weight", "part")


def clustered(placed: Placed, found: Matched, engine: Engine) -> tuple[Array, float]:
    """Standard errors (q,) of matching without replacement, influences added up within clusters; G/(G - 1). And G.

    A focal unit adds its outcome less the focal mean, a match its share of the outcome less the matches' mean.
    """
    rules, outcomes, centres = placed.rules, placed.outcomes, placed.centres
    size = np.where(found.effect.std_error > 0, found.effect.std_error * np.sqrt(found.effect.matched), 1.0)
    means, side = found.means, rules.sides[0]

    def work(block: Block) -> pa.Table:
        mine = points(block, outcomes, (), centres)
        weight = pairing.matches(mine, rules, replace=False).weight
        focal = mine.treated == bool(side)
        value = np.where(focal[:, None], mine.outcomes - means[0], means[1] - mine.outcomes) * weight[:, None] / size
        return blocks.fixed(block[design.CLUSTER], value)

    columns = (*(f"y{i}" for i in range(outcomes)), design.CLUSTER, *placed.ties)
    rows = sweeps.rows_of(placed.frame, placed.plan, columns, engine, work, blocks.fixed_schema(outcomes))
    squares, groups = blocks.cluster_squares(rows, outcomes)
    return np.sqrt(squares * blocks.correction(groups)) * size / found.effect.matched, groups
