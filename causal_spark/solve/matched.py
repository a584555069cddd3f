"""Matching on a line: what a block of points leaves for the estimate, its standard error and the balance.

Additive sums for a block of points, and records of the few candidates near its borders, whose uses add up over blocks
and are squared only afterwards.
"""

from __future__ import annotations

import numpy as np

from causal_spark.solve import balance, metric
from causal_spark.solve.metric import Links
from causal_spark.solve.nearest import Index, Mask, Ranges, nearest, range_spread, range_sums
from causal_spark.solve.pairing import Points, Rules, linked, pairs_without_replacement, shares
from causal_spark.statistics import Sums
from causal_spark.statistics.moments import Array

# Columns of a border record before the q sums of variances.
SIDE, NUMBER, PLACE, USES, SQUARES, ROWS, ALONE = range(7)


def sums_with_replacement(points: Points, rules: Rules) -> tuple[Sums, Array]:
    """The sums of a block and its border records, shape (r, 7 + q). Abadie & Imbens (2006, 2016).

    For each side (focal arm): ``n``, ``matched``, Σ effect, Σ effect², Σ of the mean squared differences to the
    matches, Σ of the outcomes and of the conditional variance σ² of the matched focal units, Σ of the outcomes of
    their matches, balance, and for the candidates Σ K², Σ K′ and their products with σ². Units ``alone`` in their arm
    and group have no σ²: of them there are the number of focal ones and ΣK, ΣK², ΣK′ of the candidates.
    """
    q, p = points.outcomes.shape[1], points.covariates.shape[1]
    total = {f"{name}{side}": np.zeros(shape) for side in rules.sides for name, shape in _shapes(q).items()}
    for side in rules.sides:
        total |= _balance(points.take(slice(0, 0)), np.zeros(0), rules, side)
    if rules.estimated:
        total |= {name: np.zeros(shape) for name, shape in _score_shapes(q, p, rules.estimand).items()}
    records = [np.zeros((0, 7 + q))]
    for rows in points.groups():
        mine = points.take(rows)
        for side in rules.sides:
            found, border = _side(mine, rules, side)
            for name, value in found.items():
                total[name] += value
            records.append(border)
        if rules.estimated:
            for name, value in _score_sums(mine, rules).items():
                total[name] += value
    return Sums(total), np.vstack(records)


def _shapes(q: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of one side's sums."""
    numbers = dict.fromkeys(
        (
            *("n", "matched", "squares", "parts", "used"),
            *("alone_focal", "alone_uses", "alone_squares", "alone_parts"),
        ),
        (),
    )
    of_outcomes = dict.fromkeys(
        (
            *("effect", "effect2", "within", "focal", "match", "variance"),
            *("squares_variance", "uses_variance", "parts_variance"),
        ),
        (q,),
    )
    return {**numbers, **of_outcomes}


def _balance(points: Points, weight: Array, rules: Rules, side: int) -> dict[str, Array]:
    """Balance sums of the rows that have a weight, under names of their own."""
    rows = np.flatnonzero(weight)
    x = np.empty((len(rules.main), len(rows)))
    for i, place in enumerate(rules.main):
        points.covariates[:, place].take(rows, out=x[i])
    treated = points.treated.take(rows).astype(float)
    found = balance.sums(x.T, treated, weight.take(rows), rules.cuts, np.zeros(len(rules.main)))
    return {f"balance{side} {name}": value for name, value in found.values.items()}


def balance_sums(found: Sums, side: int) -> Sums:
    """The balance sums of one side, with Σw² of the matches from all blocks.

    Where both arms look for matches a match has found one too, and its weight is 1 + K: the sums of both sides hold
    Σ1 + Σ(2K + K²). With a caliper that is so because it is as near to the unit that uses it.
    """
    begin = f"balance{side} "
    values = {name.removeprefix(begin): value for name, value in found.values.items() if name.startswith(begin)}
    weight2 = values["weight2"].copy()
    both = f"matched{1 - side}" in found.values
    weight2[1 - side] = found.number(f"squares{side}") + (2 * found.number(f"matched{side}") if both else 0.0)
    return Sums({**values, "weight2": weight2})


def _side(points: Points, rules: Rules, side: int) -> tuple[dict[str, Array], Array]:
    focal, candidates, ranges = linked(points, rules, side)
    there, size = ranges.matched, np.maximum(ranges.size, 1)[:, None]
    y = points.outcomes.take(candidates, axis=0)
    single = int(size.max(initial=1)) == 1
    mean = (_sums(y, ranges) / size)[there]
    square = mean * mean if single else (_sums(y * y, ranges) / size)[there]
    own = points.outcomes.take(focal[there], axis=0)
    effect = (own - mean) if side else (mean - own)
    used = shares(ranges, len(candidates))
    parts = used if single else _parts(ranges, len(candidates))
    weight = np.zeros(len(points.point))
    weight[candidates] = used
    weight[focal[there]] = 1.0
    wanted = weight > 0 if rules.sample else (weight > 0) & (points.treated != bool(side))
    variance, alone = _conditional_variance(points, rules, wanted)
    found = {
        "n": np.array(float(len(focal))),
        "matched": np.array(float(there.sum())),
        "effect": effect.sum(axis=0),
        "effect2": (effect**2).sum(axis=0),
        "within": (own**2 - 2 * own * mean + square).sum(axis=0),
        "focal": own.sum(axis=0),
        "match": mean.sum(axis=0),
        "variance": variance[focal[there]].sum(axis=0),
        "alone_focal": np.array(float(alone[focal[there]].sum())),
    }
    inner = np.flatnonzero((used > 0) & (points.home & ~points.shared)[candidates])
    k, parts_k, where = used[inner], parts[inner], candidates[inner]
    found |= _of_candidates(k, parts_k, variance[where], alone[where])
    sided = {f"{name}{side}": value for name, value in found.items()} | _balance(points, weight, rules, side)
    return sided, _border(points, side, candidates, used, parts, variance, alone)


def _of_candidates(k: Array, parts: Array, variance: Array, alone: Array) -> dict[str, Array]:
    """Sums over used candidates: of K, K² and K′ with σ² (n, q), and by themselves where ``alone`` is 1."""
    squares = k * k
    return {
        "squares": np.array(float(squares.sum())),
        "parts": np.array(float(parts.sum())),
        "used": np.array(float(len(k))),
        "squares_variance": squares @ variance,
        "uses_variance": k @ variance,
        "parts_variance": parts @ variance,
        "alone_uses": np.array(float(k @ alone)),
        "alone_squares": np.array(float(squares @ alone)),
        "alone_parts": np.array(float(parts @ alone)),
    }


def _sums(values: Array, matches: Ranges | Links) -> Array:
    return range_sums(values, matches) if isinstance(matches, Ranges) else matches.sums(values)


def _parts(ranges: Ranges | Links, n: int) -> Array:
    """K′: the sum of squared shares with which each candidate is used."""
    if isinstance(ranges, Links):
        return ranges.uses(n, power=2)
    share = 1.0 / np.maximum(ranges.size, 1)
    share[~ranges.matched] = 0.0
    change = np.bincount(ranges.low, share**2, n + 1) - np.bincount(ranges.high, share**2, n + 1)
    steps = np.cumsum(change)[:n]
    return np.where(np.abs(steps) > 1e-9, steps, 0.0)


def _border(
    points: Points, side: int, candidates: Index, used: Array, parts: Array, variance: Array, alone: Array
) -> Array:
    """One record for each distinct place of candidates that another block looks at, or that are at home elsewhere."""
    border = points.shared[candidates] | ~points.home[candidates]
    border &= points.home[candidates] | (used > 0)
    where = candidates[border]
    place, first, back = np.unique(points.point[where], return_index=True, return_inverse=True)
    home = points.home[where].astype(float)
    records = np.zeros((len(place), 7 + variance.shape[1]))
    records[:, SIDE], records[:, NUMBER], records[:, PLACE] = side, points.group[where][first], place
    records[:, USES], records[:, SQUARES] = used[border][first], parts[border][first]
    records[:, ROWS] = np.bincount(back, home, len(place))
    records[:, ALONE] = np.bincount(back, home * alone[where], len(place))
    for k in range(variance.shape[1]):
        records[:, 7 + k] = np.bincount(back, home * variance[where, k], len(place))
    return records


def _same(points: Points, mine: Index, arm: Index, rank: Index, rules: Rules) -> Ranges | Links:
    """Each of the points ``mine`` of an arm, ``rank``th there, with itself and its nearest others in the ``arm``."""
    if rules.metric is None:
        return nearest(points.point[mine], points.point[arm], rules.neighbours + 1, place=rank)
    z = points.covariates @ rules.metric.T
    place = points.point
    return metric.nearest(z[mine], z[arm], place[mine], place[arm], rules.neighbours + 1, rules.caliper)


def _conditional_variance(points: Points, rules: Rules, wanted: Mask) -> tuple[Array, Array]:
    """σ²(x) of the ``wanted`` and the shared units from the nearest of their own arm, shape (n, q), 0 of the others.

    Abadie & Imbens (2006), eq. 14. Beside it 1 for those that are ``alone`` (n,) in their arm: they have no σ².
    """
    found, alone = np.zeros(points.outcomes.shape), np.zeros(len(points.point))
    asked = wanted | points.shared
    for index in points.arms:
        rank = np.flatnonzero(asked.take(index))
        mine = index.take(rank)
        ranges = _same(points, mine, index, rank, rules)
        y = points.outcomes.take(mine, axis=0)
        size = ranges.size
        others = np.maximum(size - 1, 1)[:, None]
        gap = y - (_sums(points.outcomes.take(index, axis=0), ranges) - y) / others
        found[mine] = np.where(size[:, None] > 1, others / (others + 1.0) * gap**2, 0.0)
        alone[mine] = size <= 1
    return found, alone


def _factors(e: Array, estimand: str) -> dict[str, tuple[int, Array]]:
    """Of the covariances that the correction of an estimand asks for: the arm, and what each unit counts there.

    cov1 and cov0 by the logistic density f = e(1 - e), others by the weights of the estimand.
    """
    if estimand == "ATE":
        return {"cov1_ate": (1, 1 - e), "cov0_ate": (0, e)}
    plain = {"cov1": (1, e * (1 - e)), "cov0": (0, e * (1 - e))}
    return plain | ({"cov0_odds": (0, e * e)} if estimand == "ATT" else {"cov1_odds": (1, (1 - e) ** 2)})


def _score_shapes(q: int, p: int, estimand: str) -> dict[str, tuple[int, ...]]:
    names = ("slope_effect", *_factors(np.zeros(0), estimand))
    return {"slope": (p + 1,), **dict.fromkeys(names, (q, p + 1))}


def _score_sums(points: Points, rules: Rules) -> dict[str, Array]:
    """What the correction for an estimated score needs (Abadie & Imbens 2016, theorems 1 and 2).

    Covariances of X and Y given the score are of the nearest ``neighbours`` + 1 units R(i) of an arm. Their sum over
    units i with factors g, Σ g·Σ(Y − mean of R(i))·X / (|R(i)| − 1), is a sum over rows: each row's X times
    Y·Σ g/(|R| − 1) less Σ g·mean/(|R| − 1), over the units that have it in R.
    """
    n, q = points.outcomes.shape
    home = np.flatnonzero(points.home)
    e = points.propensity.take(home)
    factors, mean = _factors(e, rules.estimand), {}
    rows = {name: np.zeros((n, q)) for name in ("slope_effect", *factors)}
    for arm in (1, 0):
        index, own = points.arms[arm], points.treated == bool(arm)
        before = (np.cumsum(own) - own).take(home)
        ranges = nearest(points.point.take(home), points.point.take(index), rules.neighbours + 1, place=before)
        y, size = points.outcomes.take(index, axis=0), ranges.size
        mean[arm] = range_sums(y, ranges) / np.maximum(size, 1)[:, None]
        for name in [name for name, (of, _) in factors.items() if of == arm]:
            share = np.where(size > 1, factors[name][1] / np.maximum(size - 1, 1), 0.0)[:, None]
            spread = range_spread(np.hstack([share, share * mean[arm]]), ranges, len(index))
            rows[name][index] = spread[:, :1] * y - spread[:, 1:]
    density = e * (1 - e)
    rows["slope_effect"][home] = density[:, None] * (mean[1] - mean[0])
    slope = np.zeros((n, 1))
    slope[home, 0] = density
    every = np.hstack([slope, *rows.values()])
    sums = np.hstack([every.sum(axis=0)[:, None], every.T @ points.covariates])
    return {"slope": sums[0], **dict(zip(rows, sums[1:].reshape(len(rows), q, -1), strict=True))}


def sums_without_replacement(points: Points, rules: Rules) -> tuple[Sums, Array]:
    """The sums of a block of whole parts of a greedy matching, and the effects (m, q) of its sets.

    A treated unit and its pairs are a set, whose controls weigh the same. Names as in ``sums_with_replacement``, with
    Σ K² of the controls' weights. ``above`` and ``below``: sets whose effect is positive, negative (for the sign test).
    """
    q, side = points.outcomes.shape[1], rules.sides[0]
    keep = ("n", "matched", "squares", "used", "effect", "effect2", "focal", "match")
    total = {f"{name}{side}": np.zeros(shape) for name, shape in _shapes(q).items() if name in keep}
    total |= {f"above{side}": np.zeros(q), f"below{side}": np.zeros(q)}
    weight, effects = np.zeros(len(points.point)), [np.zeros((0, q))]
    for rows in points.groups():
        mine, own = points.take(rows), weight[rows]
        focal, match = pairs_without_replacement(mine, rules)
        times = np.bincount(focal, minlength=len(own))
        units, place = np.flatnonzero(times), (np.cumsum(times > 0) - 1)[focal]
        share, y = 1.0 / times[focal], mine.outcomes
        own[match], own[units] = share, 1.0
        mean = np.column_stack([np.bincount(place, y[match, k] * share, len(units)) for k in range(q)])
        effect = (y[units] - mean) if side else (mean - y[units])
        effects.append(effect)
        found = {
            "n": float((mine.treated == bool(side)).sum()),
            "matched": float(len(units)),
            "squares": float((share**2).sum()),
            "used": float(len(match)),
            "effect": effect.sum(axis=0),
            "effect2": (effect**2).sum(axis=0),
            "above": (effect > 0).sum(axis=0),
            "below": (effect < 0).sum(axis=0),
            "focal": y[units].sum(axis=0),
            "match": mean.sum(axis=0),
        }
        for name, value in found.items():
            total[f"{name}{side}"] += value
    return Sums(total | _balance(points, weight, rules, side)), np.vstack(effects)
