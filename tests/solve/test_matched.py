"""The sums of matching: a line cut into blocks with guests gives those of the whole, and they agree with the pairs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from causal_spark.solve import balance
from causal_spark.solve.abadie_imbens import with_border
from causal_spark.solve.matched import balance_sums, sums_with_replacement, sums_without_replacement
from causal_spark.solve.pairing import MAX_TIES, Points, Rules, matches
from causal_spark.statistics import Sums

RULES = {
    "ATT": Rules("ATT"),
    "ATC, M = 3": Rules("ATC", ratio=3),
    "ATE, M = 2, J = 1": Rules("ATE", ratio=2, neighbours=1),
    "ATE, caliper": Rules("ATE", caliper=0.05),
    "ATT, M = 3, J = 4": Rules("ATT", ratio=3, neighbours=4),
    "ATE, estimated": Rules("ATE", estimated=True, main=(0, 1), cuts=(np.array([-1.0, 0.0, 1.0]), np.array([0.0]))),
    "ATC, estimated, caliper": Rules("ATC", caliper=0.1, estimated=True),
}


def pairs(whole: Points, rules: Rules, replace_: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    found = matches(whole, rules, replace_)
    return found.treated, found.control, found.share


def weights(whole: Points, rules: Rules, replace_: bool) -> np.ndarray:
    return matches(whole, rules, replace_).weight


# Running totals of uses lose some 1e-15 for each of some hundred candidates.
CLOSE = 1e-12


def points(n: int, seed: int, ties: bool = False, groups: int = 1, share: float = 0.4) -> Points:
    """Two outcomes and two covariates, the second 0/1; ties on a grid that binary fractions give exactly."""
    rng = np.random.default_rng(seed)
    line = rng.integers(-40, 40, n) / 16 if ties else rng.normal(size=n)
    group = rng.integers(0, groups, n).astype(float)
    order = np.lexsort([line, group])
    line, group = line[order], group[order]
    e = 1 / (1 + np.exp(-line))
    treated = rng.random(n) < share * 2 * e
    x = np.column_stack([line + rng.normal(size=n), rng.random(n) < e]).astype(float)
    y = np.column_stack([line + x[:, 0] + treated, rng.normal(size=n)]) + rng.normal(size=(n, 2))
    inside = np.ones(n, bool)
    return Points(line, treated, group, inside, ~inside, y, x, e)


def pick(whole: Points, index: np.ndarray, home: np.ndarray, shared: np.ndarray) -> Points:
    arrays = (getattr(whole, name)[index] for name in ("point", "treated", "group"))
    rest = (getattr(whole, name)[index] for name in ("outcomes", "covariates", "propensity"))
    return Points(*arrays, home[index], shared[index], *rest)


def guests(
    whole: Points, entry: np.ndarray, cell: np.ndarray, at: int, step: int, neighbours: int, reach: float
) -> Iterator[int]:
    """Entries on one side of ``at``, in its group: both arms with ``neighbours`` rows, and ``reach`` cells more."""
    group, seen, last = whole.group[entry == at][0], np.zeros(2, int), math.nan
    while 0 <= (at := at + step) <= entry[-1] and whole.group[entry == at][0] == group:
        if abs(cell[entry == at][0] - last) - 1 > reach:  # never while last is NaN
            return
        seen += np.bincount(whole.treated[entry == at].astype(int), minlength=2)
        last = cell[entry == at][0] if math.isnan(last) and seen.min() >= neighbours else last
        yield at


def split(whole: Points, rules: Rules, number: int, seed: int, width: float = 0.25) -> list[Points]:
    """``number`` blocks or fewer of whole cells of ``width``, each with guests on either side in every group."""
    cell = np.floor(whole.point / width)
    fresh = (cell[1:] != cell[:-1]) | (whole.group[1:] != whole.group[:-1])
    entry = np.concatenate([[0], np.cumsum(fresh)])
    cuts = np.random.default_rng(seed).integers(0, entry[-1] + 2, number - 1)
    edges = [0, *sorted(set(cuts.tolist()) - {0, int(entry[-1]) + 1}), int(entry[-1]) + 1]
    neighbours, reach = max(rules.ratio, rules.neighbours + 1), math.sqrt(rules.tolerance) / width
    looked_at = []
    for low, high in pairwise(edges):
        own = whole.group[(entry >= low) & (entry < high)]
        found: set[int] = set()
        for group in np.unique(own):
            mine = entry[(entry >= low) & (entry < high) & (whole.group == group)]
            found |= set(guests(whole, entry, cell, int(mine[0]), -1, neighbours, reach))
            found |= set(guests(whole, entry, cell, int(mine[-1]), 1, neighbours, reach))
        looked_at.append(found)
    shared = np.isin(entry, sorted(set().union(*looked_at)))
    blocks = []
    for (low, high), extra in zip(pairwise(edges), looked_at, strict=True):
        home = (entry >= low) & (entry < high)
        blocks.append(pick(whole, np.flatnonzero(home | np.isin(entry, sorted(extra))), home, shared))
    return blocks


def total(blocks: list[Points], rules: Rules) -> Sums:
    parts = [sums_with_replacement(block, rules) for block in blocks]
    return with_border(sum(part for part, _ in parts), np.vstack([record for _, record in parts]), rules)


def assert_same(ours: Sums, theirs: Sums, skip: tuple[str, ...] = ()) -> None:
    assert ours.shapes == theirs.shapes
    for name, value in theirs.values.items():
        if not name.endswith(skip or ("\n",)):
            scale = max(1.0, float(np.abs(value).max(initial=0.0)))
            np.testing.assert_allclose(ours[name], value, rtol=CLOSE, atol=CLOSE * scale, err_msg=name)


# Rows and Σw² of the matches in the balance sums count a row once for each block that uses it: not for people.
BY_BLOCK = (" rows", " weight2")


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES.keys())
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("groups", [1, 3])
def test_blocks_add_up_to_the_whole(rules: Rules, ties: bool, groups: int) -> None:
    crossed = 0
    for seed in range(6):
        whole = points(240, seed, ties, groups, (0.4, 0.15, 0.7)[seed % 3])
        blocks = split(whole, rules, 2 + seed, seed)
        ours, expected = total(blocks, rules), total([whole], rules)
        assert_same(ours, expected, BY_BLOCK)
        for side in rules.sides:
            a, b = balance_sums(ours, side), balance_sums(expected, side)
            np.testing.assert_allclose(a["weight2"], b["weight2"], rtol=CLOSE)
        crossed += sum(len(sums_with_replacement(block, rules)[1]) for block in blocks)
    assert crossed > 100  # candidates near borders: the test is about them


@pytest.mark.parametrize("rules", [RULES["ATT"], RULES["ATE, M = 2, J = 1"]])
def test_blocks_of_one_cell(rules: Rules) -> None:
    """Candidates may be looked at from many blocks at once."""
    whole = points(150, 3, ties=True)
    blocks = split(whole, rules, 400, 1, width=1 / 16)
    assert len(blocks) > 50
    assert_same(total(blocks, rules), total([whole], rules), BY_BLOCK)


def test_tolerance_over_blocks() -> None:
    """Ties in a wider sense lie beyond the nearest; guests go on as far as the root of the tolerance."""
    rules = Rules("ATE", tolerance=0.09)
    for seed in range(6):
        whole = points(150, seed)
        blocks = split(whole, rules, 6, seed, width=1 / 32)
        assert_same(total(blocks, rules), total([whole], rules), BY_BLOCK)
    narrow = split(whole, replace(rules, tolerance=0.0), 6, 5, width=1 / 32)
    with pytest.raises(AssertionError):
        assert_same(total(narrow, rules), total([whole], rules), BY_BLOCK)


def test_no_rows() -> None:
    """An empty block has the shapes of any other, so blocks may be empty."""
    for rules in RULES.values():
        nothing, records = sums_with_replacement(points(30, 1).take(slice(0, 0)), rules)
        whole, border = sums_with_replacement(points(30, 1), rules)
        assert nothing.shapes == whole.shapes
        assert not nothing.vector.any()
        assert records.shape[1] == border.shape[1]
    rules = Rules("ATT")
    empty, none = sums_without_replacement(points(30, 1).take(slice(0, 0)), rules)
    assert empty.shapes == sums_without_replacement(points(30, 1), rules)[0].shapes
    assert none.shape == (0, 2)
    assert not empty.vector.any()


def test_group_without_candidates() -> None:
    """Units of a group that has no other arm are focal units without a match."""
    whole = points(100, 2)
    group = np.where(np.arange(100) < 50, 0.0, 1.0)
    treated = np.where(group == 0, True, whole.treated)
    apart = replace(whole, group=group, treated=treated)
    found, _ = sums_with_replacement(apart, Rules("ATT"))
    assert found.number("n1") == treated.sum()
    assert found.number("matched1") == treated[50:].sum()
    assert found["variance1"] == pytest.approx(
        sums_with_replacement(apart.take(slice(50, 100)), Rules())[0]["variance1"]
    )


# the sums, one by one -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimand", ["ATT", "ATC", "ATE"])
@pytest.mark.parametrize("caliper", [math.inf, 0.03])
@pytest.mark.parametrize("ties", [False, True])
def test_sums_are_those_of_the_pairs(estimand, caliper: float, ties: bool) -> None:  # type: ignore[no-untyped-def]
    """Effect, counts and uses again from the list of pairs, where no more than MAX_TIES tie."""
    whole, rules = points(200, 8, ties, 2), Rules(estimand, ratio=2, caliper=caliper)
    found = total([whole], rules)
    t, c, w = pairs(whole, rules, True)
    assert whole.treated[t].all() and not whole.treated[c].any()
    assert (whole.group[t] == whole.group[c]).all()
    assert (np.abs(whole.point[t] - whole.point[c]) <= caliper + 1e-12).all()
    gap = (whole.outcomes[t] - whole.outcomes[c]) * w[:, None]
    sides = rules.sides
    np.testing.assert_allclose(gap.sum(axis=0), sum(found[f"effect{s}"] for s in sides), rtol=1e-10)
    assert w.sum() == pytest.approx(sum(found.number(f"matched{s}") for s in sides), rel=1e-12)
    if estimand != "ATE":
        side = sides[0]
        focal, match = (t, c) if side else (c, t)
        used = np.bincount(match, w, len(whole.point))
        assert found.number(f"squares{side}") == pytest.approx(used @ used, rel=1e-12)
        assert found.number(f"parts{side}") == pytest.approx(w @ w, rel=1e-12)
        assert found.number(f"used{side}") == (used > 0).sum()
        assert found.number(f"matched{side}") == len(np.unique(focal))
        share = whole.outcomes[match] * w[:, None]
        np.testing.assert_allclose(found[f"match{side}"], share.sum(axis=0), rtol=1e-10)
        within = w[:, None] * (whole.outcomes[focal] - whole.outcomes[match]) ** 2
        np.testing.assert_allclose(found[f"within{side}"], within.sum(axis=0), rtol=1e-10)


@pytest.mark.parametrize("estimand", ["ATT", "ATC", "ATE"])
@pytest.mark.parametrize("replace_", [True, False])
@pytest.mark.parametrize("ratio", [1, 3])
def test_weights_are_those_of_the_pairs(estimand, replace_: bool, ratio: int) -> None:  # type: ignore[no-untyped-def]
    """A pair gives its weight to the match; the focal unit itself has 1 (ATE: both, so that a weight is 1 + K)."""
    if estimand == "ATE" and not replace_:
        return
    whole, rules = points(160, 4, True, 3, 0.2), Rules(estimand, ratio=ratio, caliper=0.5)
    found = weights(whole, rules, replace_)
    expected = np.zeros(160)
    for side in rules.sides:
        own = replace(rules, estimand="ATT" if side else "ATC")
        t, c, w = pairs(whole, own, replace_)
        focal, match = (t, c) if side else (c, t)
        expected += np.bincount(match, w, 160)
        expected[np.unique(focal)] += 1
    np.testing.assert_allclose(found, expected, atol=1e-12)
    by_arm = [found[whole.treated == kind].sum() for kind in (True, False)]
    assert by_arm[0] == pytest.approx(by_arm[1], rel=1e-12)


@pytest.mark.parametrize("rules", [RULES["ATT"], RULES["ATE, M = 2, J = 1"], RULES["ATE, caliper"]])
def test_weights_add_over_blocks(rules: Rules) -> None:
    """Rows are found again by their first outcome, which no two share."""
    whole = points(200, 6, ties=True, groups=2)
    place = {value: i for i, value in enumerate(whole.outcomes[:, 0])}
    found = np.zeros(200)
    for block in split(whole, rules, 5, 2):
        found[[place[value] for value in block.outcomes[:, 0]]] += weights(block, rules, True)
    np.testing.assert_allclose(found, weights(whole, rules, True), atol=1e-12)


@pytest.mark.parametrize("rules", [RULES["ATT"], RULES["ATE, M = 2, J = 1"]])
def test_pairs_of_blocks_are_those_of_the_whole(rules: Rules) -> None:
    whole = points(200, 7, ties=False, groups=2)

    def named(block: Points) -> list[tuple[float, float, float]]:
        t, c, w = pairs(block, rules, True)
        return list(zip(block.outcomes[t, 0], block.outcomes[c, 0], w, strict=True))

    blocks = [named(block) for block in split(whole, rules, 5, 3)]
    assert sorted(pair for block in blocks for pair in block) == sorted(named(whole))


def test_many_ties_are_listed_in_part() -> None:
    n = MAX_TIES + 10
    whole = points(n + 1, 1)
    same = replace(whole, point=np.zeros(n + 1), treated=np.arange(n + 1) == 0)
    t, c, w = pairs(same, Rules("ATT"), True)
    assert c.tolist() == list(range(1, MAX_TIES + 1))
    assert t.tolist() == [0] * MAX_TIES
    np.testing.assert_allclose(w, 1 / n)


def test_balance_of_the_matched_is_that_of_the_weights() -> None:
    """Means, weights and Σw² of both sides together are those of the final weights; 1 + K for ATE."""
    cuts = (np.array([-1.0, 0.0, 1.0]), np.array([0.0]))
    for estimand in ("ATT", "ATC", "ATE"):
        rules = Rules(estimand, ratio=2, caliper=0.5, main=(0, 1), cuts=cuts)
        whole = points(250, 9, ties=True)
        found = total(split(whole, rules, 4, 4), rules)
        ours = sum(balance_sums(found, side) for side in rules.sides)
        w = weights(whole, rules, True)
        theirs = balance.sums(whole.covariates, whole.treated.astype(float), w, cuts, np.zeros(2))
        assert_same(ours, theirs, (BY_BLOCK[0][1:],))


# without replacement --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimand", ["ATT", "ATC"])
@pytest.mark.parametrize("ratio", [1, 2])
def test_sums_without_replacement(estimand, ratio: int) -> None:  # type: ignore[no-untyped-def]
    """From the pairs, one set at a time; signs of the differences of sets."""
    whole, rules = points(300, 12, groups=2, share=0.25), Rules(estimand, ratio=ratio, caliper=0.2)
    side = rules.sides[0]
    found, differences = sums_without_replacement(whole, rules)
    t, c, w = pairs(whole, rules, False)
    focal, match = (t, c) if side else (c, t)
    assert len(np.unique(match)) == len(match)
    effects = []
    for unit in np.unique(focal):
        mine = match[focal == unit]
        assert w[focal == unit].tolist() == [1 / len(mine)] * len(mine)
        gap = whole.outcomes[unit] - whole.outcomes[mine].mean(axis=0)
        effects.append(gap if side else -gap)
    values = np.array(effects)
    np.testing.assert_allclose(differences[np.lexsort(differences.T)], values[np.lexsort(values.T)], rtol=1e-11)
    np.testing.assert_allclose(found[f"effect{side}"], values.sum(axis=0), rtol=1e-11)
    np.testing.assert_allclose(found[f"effect2{side}"], (values**2).sum(axis=0), rtol=1e-11)
    assert found[f"above{side}"].tolist() == (values > 0).sum(axis=0).tolist()
    assert found[f"below{side}"].tolist() == (values < 0).sum(axis=0).tolist()
    assert found.number(f"n{side}") == (whole.treated == bool(side)).sum()
    assert found.number(f"matched{side}") == len(values)
    assert found.number(f"used{side}") == len(match)
    assert found.number(f"squares{side}") == pytest.approx(w @ w, rel=1e-12)


def test_groups_apart_are_groups_together() -> None:
    whole, rules = points(200, 13, ties=True, groups=4), Rules("ATT", ratio=2)
    parts = sum(sums_without_replacement(whole.take(rows), rules)[0] for rows in whole.groups())
    assert_same(parts, sums_without_replacement(whole, rules)[0])
