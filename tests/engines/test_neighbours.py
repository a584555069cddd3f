"""Sweeps over blocks of a line: whatever the blocks, files, rows' order and engine, the matches are of one block."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from causal_spark.errors import StatisticError
from causal_spark.methods.matching import matched as job_matched
from causal_spark.methods.matching.matched import Placed
from causal_spark.methods.matching.vocabulary import Matching, Observational
from causal_spark.solve import abadie_imbens, matched, pair_ranks, pairing
from causal_spark.solve.greedy import safe_gap
from causal_spark.solve.pairing import Points, Rules
from causal_spark.spark import design, neighbours, sweeps
from causal_spark.spark.session import Engine

N = 2_000
# Sums of 2,000 doubles in another order differ by a few units of the 16th digit.
RTOL = 1e-12
CELLS = 64
BLOCK_ROWS = 120
OUTCOMES, X = 2, ("x0", "x1")
SCALES = (2.0**20, 1.0)
MAIN, CUTS = (0, 1), (np.array([-1.0, -0.3, 0.0, 0.4, 1.1]), np.array([0.0]))


def line_of_points(seed: int = 1) -> pd.DataFrame:
    """Rounded scores (heavy ties), a clump of treated, empty stretches, a large group, small ones and NULL."""
    rng = np.random.default_rng(seed)
    point = np.round(rng.normal(0, 1, N) * 8) / 8
    point[: N // 4] = rng.normal(0, 1, N // 4)
    clump = rng.random(N) < 0.05
    point[clump] = 1.5 + np.round(rng.random(clump.sum()) * 20) / 100
    point[(point > 0.52) & (point < 0.97)] = 0.5
    point[rng.random(N) < 0.004] += 12.0
    treated = rng.random(N) < np.where(clump, 0.8, 1 / (1 + np.exp(2.3 - 0.6 * point)))
    x = rng.normal(size=N)
    return pd.DataFrame(
        {
            design.UNIT: [f"u{i:05d}" for i in range(N)],
            "t0": treated.astype(float),
            "t1": 1.0 - treated,
            "place": point,
            "number": rng.permutation(N),
            "region": rng.choice(["large", None, *(f"g{i}" for i in range(40))], N, p=[0.5, 0.1, *([0.01] * 40)]),
            "y0": point + treated + rng.normal(size=N),
            "y1": (rng.random(N) < 0.3).astype(float),
            "x0": x,
            "x1": (rng.random(N) < 0.4).astype(float),
            design.LOGIT: 0.9 * point - 1.0,
            design.CLUSTER: rng.choice([f"c{i}" for i in range(60)], N),
        }
    )


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return line_of_points()


def written(rows: pd.DataFrame, folder: Path, files: int, seed: int) -> str:
    shuffled = rows.sample(frac=1, random_state=seed)
    for i in range(files):
        pq.write_table(
            pa.Table.from_pandas(shuffled.iloc[i::files], preserve_index=False), folder / f"part-{i}.parquet"
        )
    return f"file://{folder}"


@pytest.fixture(scope="module")
def frames(spark, rows, tmp_path_factory) -> dict[int, Any]:
    return {
        files: spark.read.parquet(written(rows, tmp_path_factory.mktemp(f"files{files}"), files, seed=files))
        for files in (1, 2, 7)
    }


@dataclass(frozen=True)
class Case:
    """How to match, and in how many rows a block is wanted."""

    name: str
    replace: bool = True
    rules: Rules = field(default_factory=Rules)
    exact: tuple[str, ...] = ()
    rows: int = BLOCK_ROWS
    cells: int = CELLS
    treatment: str = "t0"  # t1: the many are treated
    blocks: int = 4  # at least
    every_engine: bool = False


def rules(**asked: Any) -> Rules:
    return Rules(**{"main": MAIN, "cuts": CUTS, **asked})


CASES = [
    *(
        Case(f"replace {estimand} {ratio} {caliper}", True, rules(estimand=estimand, ratio=ratio, caliper=caliper))
        for estimand in ("ATT", "ATC", "ATE")
        for ratio in (1, 3)
        for caliper in (math.inf, 0.06)
    ),
    *(
        Case(f"{order} {estimand} {ratio} {caliper}", False,
             rules(estimand=estimand, ratio=ratio, caliper=caliper, order=order),
             treatment="t0" if estimand == "ATT" else "t1")
        for order in ("closest", "largest")
        for estimand in ("ATT", "ATC")
        for ratio in (1, 3)
        for caliper in (math.inf, 0.06)
    ),
    Case("replace exact", True, rules(estimand="ATE", ratio=2, estimated=True), ("region",), every_engine=True),
    Case("replace exact, blocks of a few rows", True, rules(estimand="ATE"), ("region", "x1"), rows=7),
    Case("estimated score", True, rules(estimated=True), rows=60),
    Case("tolerance", True, rules(tolerance=0.09, neighbours=1), rows=40, cells=4_000),
    Case("closest exact", False, rules(ratio=2, caliper=0.3), ("region",), every_engine=True),
    Case("largest exact, blocks of a few rows", False, rules(order="largest"), ("region", "x1"), rows=7),
    Case("closest, blocks of a few rows", False, rules(), rows=7),
    Case("closest, the many look for the few", False, rules(estimand="ATC")),
    Case("largest, the many look for the few", False, rules(estimand="ATC", order="largest"), blocks=1),
]  # fmt: skip


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """All cases on the embedded engine, two where each stage costs a second."""
    if "case" in metafunc.fixturenames:
        every = metafunc.config.getoption("--engine") == "sail"
        metafunc.parametrize("case", [c for c in CASES if every or c.every_engine], ids=lambda case: case.name)


def method(case: Case) -> Observational:
    asked = Matching(distance="place", ratio=case.rules.ratio, replace=case.replace)
    return Observational("unit", ("t",), ("y",), ("x",), estimand=case.rules.estimand, matching=asked)


def placed(frame: Any, spark: Any, case: Case, ties: str | None = "number") -> Placed:
    """What the job makes of a table, with blocks of few rows."""
    frame = neighbours.placed(neighbours.on_line(frame, "place", case.treatment), "7:ties", case.exact, ties)
    ends = neighbours.spread(frame)
    line = neighbours.line(frame, ends.low, ends.high)
    if case.replace:
        width = max(case.rules.ratio, case.rules.neighbours + 1)
        plan = neighbours.with_guests(line, width, math.sqrt(case.rules.tolerance), rows=case.rows)
    else:
        focal = job_matched.looking(case.rules, line)
        plan = neighbours.at_gaps(frame, line, safe_gap, case.rules.ratio, engine(spark), focal, rows=case.rows)
    by = (neighbours.TIE,) if ties is None else (neighbours.TIE, neighbours.LAST)
    scales = () if case.replace or case.rules.ratio > 1 else SCALES
    return Placed(frame, plan, case.rules, OUTCOMES, X, (0.0, 0.0), by, scales)


def engine(spark: Any) -> Engine:
    return Engine(spark, "connect", "")


@pytest.fixture
def few_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "CELLS", CELLS)
    monkeypatch.setattr(neighbours, "WINDOW", 40)


@dataclass(frozen=True)
class Whole:
    """The same rows as one block on the driver."""

    rows: pd.DataFrame
    points: Points
    case: Case

    def sums(self) -> Any:
        if not self.case.replace:
            return matched.sums_without_replacement(self.points, self.case.rules)[0]
        return abadie_imbens.with_border(*matched.sums_with_replacement(self.points, self.case.rules), self.case.rules)

    def pairs(self) -> list[tuple[str, str, float, float]]:
        found = pairing.matches(self.points, self.case.rules, self.case.replace)
        t, c = found.treated, found.control
        unit, place = self.rows[design.UNIT].to_numpy(), self.points.point
        return sorted(zip(unit[t], unit[c], np.abs(place[t] - place[c]), found.share, strict=True))

    def weights(self) -> dict[str, float]:
        weight = pairing.matches(self.points, self.case.rules, self.case.replace).weight
        return {u: w for u, w in zip(self.rows[design.UNIT], weight, strict=True) if w > 0}

    def ranks(self) -> Any:
        _, differences = matched.sums_without_replacement(self.points, self.case.rules)
        return pair_ranks.solve(pair_ranks.records(differences, SCALES), SCALES)


def whole(rows: pd.DataFrame, case: Case) -> Whole:
    if case.exact:
        names = rows[list(case.exact)].map(lambda v: "-" if v is None else f"={v}")
        label = names.agg("\u0001".join, axis=1)
    else:
        label = pd.Series("", index=rows.index)
    group = label.map({name: i for i, name in enumerate(sorted(set(label)))})
    order = np.lexsort([rows["number"], rows["place"], group])
    mine = rows.iloc[order]
    yes, no = np.ones(len(mine), bool), np.zeros(len(mine), bool)
    points = Points(
        mine["place"].to_numpy(), mine[case.treatment].to_numpy() == 1, group.to_numpy()[order].astype(float), yes, no,
        mine[["y0", "y1"]].to_numpy(), mine[["x0", "x1"]].to_numpy(), 1 / (1 + np.exp(-mine[design.LOGIT].to_numpy())),
    )  # fmt: skip
    return Whole(mine, points, case)


def swept(found: Placed, spark: Any, case: Case) -> tuple[Any, np.ndarray]:
    read, scales = partial(job_matched.points, outcomes=OUTCOMES, x=X, centres=(0.0, 0.0)), found.scales

    def work(block: Any) -> tuple[Any, np.ndarray]:
        if case.replace:
            return matched.sums_with_replacement(read(block), case.rules)
        sums, differences = matched.sums_without_replacement(read(block), case.rules)
        return sums, pair_ranks.records(differences, scales)

    columns = found.columns(in_order=not case.replace)
    return sweeps.sweep(found.frame, found.plan, columns, engine(spark), work)


def digest(pairs: list[tuple[str, str, float, float]]) -> str:
    return hashlib.sha256(repr([(t, c, float(d), float(w)) for t, c, d, w in pairs]).encode()).hexdigest()


def collected(frame: Any) -> list[tuple[Any, ...]]:
    return sorted(tuple(row.values()) for row in frame.toArrow().to_pylist())


def test_many_blocks_leave_what_one_block_leaves(spark, frames, rows, case, few_cells, monkeypatch) -> None:
    monkeypatch.setattr(neighbours, "CELLS", case.cells)
    found = placed(frames[7], spark, case)
    assert len(set(found.plan.block)) >= case.blocks, "the blocks are so large that nothing is tried"
    one = whole(rows, case)
    total, records = swept(found, spark, case)
    if case.replace:
        assert found.plan.shared.any()
        assert len(records)
        total = abadie_imbens.with_border(total, records, case.rules)
    elif case.rules.ratio == 1:
        assert str(pair_ranks.solve(records, SCALES)) == str(one.ranks())  # NaN where an outcome has signs alone
    wanted = one.sums()
    assert total.values.keys() == wanted.values.keys()
    for name, value in told(wanted, case).items():
        scale = max(1.0, float(np.abs(value).max(initial=0)))
        np.testing.assert_allclose(told(total, case)[name], value, rtol=RTOL, atol=RTOL * scale, err_msg=name)
    asked = method(case)
    result, pairs, weights = both(asked, found, spark)
    assert digest(pairs) == digest(one.pairs())
    expected = one.weights()
    assert weights.keys() == expected.keys()
    # Shares such as 1/3 are added in the order of the blocks.
    assert all(abs(weights[unit] - w) <= RTOL * w for unit, w in expected.items())
    assert sum(weights.values()) == pytest.approx(2 * wanted_matched(wanted, case), rel=RTOL)
    effect = sum(wanted[f"effect{side}"] for side in case.rules.sides) / wanted_matched(wanted, case)
    np.testing.assert_allclose(result.effect.estimate, effect, rtol=RTOL, atol=RTOL)


def both(asked: Observational, found: Placed, spark: Any) -> tuple[Any, list[tuple[Any, ...]], dict[str, float]]:
    """What the one sweep of the job gives: the effect, the table of pairs, the weights."""

    def keep(frame: Any) -> Any:
        return spark.createDataFrame(frame.toArrow())

    result, frame = job_matched.match_and_list(asked, found, None, engine(spark), keep)
    weights = collected(job_matched.weights(asked, frame))
    assert len({unit for unit, *_ in weights}) == len(weights), "a unit has one weight"
    return result, collected(job_matched.pairs(frame)), {unit: weight for unit, _, weight in weights}


def told(total: Any, case: Case) -> dict[str, np.ndarray]:
    """The sums that are used: of the balance those of each side, where a match in two blocks has one weight."""
    found = {name: value for name, value in total.values.items() if not name.startswith("balance")}
    for side in case.rules.sides:
        balance = matched.balance_sums(total, side).values if case.replace else {}
        found |= {f"balance{side} {name}": value for name, value in balance.items() if name != "rows"}
    return found


def wanted_matched(sums: Any, case: Case) -> float:
    return float(sum(sums.number(f"matched{side}") for side in case.rules.sides))


@pytest.mark.parametrize("replace_", [True, False])
@pytest.mark.parametrize("files", [1, 2])
def test_files_and_row_order_change_no_pair(spark, frames, rows, few_cells, files, replace_, engine_name) -> None:
    if engine_name != "sail" and files == 1:
        pytest.skip("two files are enough where each stage costs a second")
    case = Case("", replace_, rules(ratio=2, caliper=0.5))
    found = placed(frames[files], spark, case)
    assert digest(both(method(case), found, spark)[1]) == digest(whole(rows, case).pairs())


@pytest.mark.parametrize("replace_", [True, False])
def test_files_and_row_order_change_no_bit_of_a_sum(spark, frames, few_cells, replace_, engine_name) -> None:
    """With heavy ties, and no key that puts them in order where units may be used again."""
    if engine_name == "connect":
        pytest.skip("one of the two Spark engines is enough")
    case = Case("", replace_, rules(ratio=2))
    found = [swept(placed(frame, spark, case), spark, case) for frame in frames.values()]
    for total, records in found[1:]:
        assert total.vector.tolist() == found[0][0].vector.tolist()
        assert records.tolist() == found[0][1].tolist()


@pytest.fixture
def engine_name(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("--engine"))


def test_ties_by_hash_are_the_same_units_everywhere(spark, frames, rows) -> None:
    """The hash of the unit is that of every engine: 64 bits of xxHash, seed 42, of salt and key."""
    found = neighbours.placed(frames[7].where("`(unit)` < 'u00003'"), "7:ties").select(design.UNIT, neighbours.TIE)
    assert dict(collected(found)) == HASHES


HASHES = {
    "u00000": -9006464795774252035,
    "u00001": -4234074325578931209,
    "u00002": 6411581718170420016,
}


@pytest.mark.parametrize("replace_", [True, False])
def test_equal_numbers_in_the_column_of_ties_leave_the_order_to_the_hash(
    spark, frames, rows, few_cells, replace_, engine_name
) -> None:
    """A column that does not tell rows apart must not leave the choice to the order in which they come."""
    if engine_name == "connect":
        pytest.skip("one of the two Spark engines is enough")
    case = Case("", replace_, rules(ratio=2))
    found = [
        both(method(case), placed(frames[files], spark, case, ties="same"), spark)[1]
        for files, frames in ((i, {i: frame.selectExpr("*", "1 as same")}) for i, frame in frames.items())
    ]
    assert found[0] == found[1] == found[2]


def test_the_cluster_error_is_that_of_one_block(spark, frames, rows, few_cells, engine_name) -> None:
    if engine_name != "sail":
        pytest.skip("the squares of clusters have tests of their own on every engine")
    case = Case("", False, rules(caliper=0.3))
    found, one = placed(frames[2], spark, case), whole(rows, case)
    asked = method(case)
    result = job_matched.match(asked, found, None, engine(spark))
    error, groups = job_matched.clustered(found, result, engine(spark))
    weight = pairing.matches(one.points, case.rules, replace=False).weight
    y, t = one.points.outcomes, one.points.treated
    means = [(weight[t == arm] @ y[t == arm]) / weight[t == arm].sum() for arm in (0, 1)]
    parts = np.where(t[:, None], y - means[1], means[0] - y) * weight[:, None]
    used = weight > 0
    totals = pd.DataFrame(parts[used]).groupby(one.rows[design.CLUSTER].to_numpy()[used]).sum().to_numpy()
    clusters = len(totals)
    assert groups == clusters
    wanted = np.sqrt((totals**2).sum(axis=0) * clusters / (clusters - 1)) / weight[t].sum()
    # Influences are rounded to a millionth of the error times the root of the number of pairs.
    np.testing.assert_allclose(error, wanted, rtol=1e-5)


# --- plans, which need no engine ---------------------------------------------------------------------------------


def counted(rows: pd.DataFrame, by: str | None = None, cells: int = CELLS) -> neighbours.Line:
    low, high = rows["place"].min(), rows["place"].max()
    width = (high - low) / cells
    label = pd.Series("", index=rows.index) if by is None else rows[by].fillna("-")
    table = pd.DataFrame(
        {"g": label, "c": np.minimum((rows["place"] - low) // width, cells).astype(int), "t": rows["t0"]}
    )
    sums = table.groupby(["g", "c"])["t"].agg(["sum", "size"]).reset_index()
    groups = tuple(sorted(set(sums["g"])))
    t, n = sums["sum"].to_numpy().astype(int), sums["size"].to_numpy()
    number = sums["g"].map({name: i for i, name in enumerate(groups)}).to_numpy()
    return neighbours.Line(groups, number, sums["c"].to_numpy(), t, n - t, low, width)


@pytest.mark.parametrize("by", [None, "region"])
@pytest.mark.parametrize("size", [1, 50, 300, 10_000])
def test_every_cell_is_at_home_once_and_guests_are_of_its_group(rows, by, size) -> None:
    line = counted(rows, by)
    plan = neighbours.with_guests(line, 3, rows=size)
    at_home = plan.entry[plan.home]
    assert sorted(at_home) == list(range(len(line.cell)))
    assert len(set(zip(plan.entry, plan.block, strict=True))) == len(plan.entry)
    for block in set(plan.block):
        mine, guests = (set(plan.entry[(plan.block == block) & (plan.home == home)]) for home in (True, False))
        assert {line.number[i] for i in guests} <= {line.number[i] for i in mine}
    elsewhere = np.bincount(plan.entry)[plan.entry] > 1
    assert (plan.shared == elsewhere).all()


@pytest.mark.parametrize("size", [40, 200])
def test_guests_are_enough_on_either_side(rows, size) -> None:
    line = counted(rows, "region")
    plan = neighbours.with_guests(line, 3, rows=size)
    for block in set(plan.block):
        mine = plan.block == block
        for number in set(line.number[plan.entry[mine]]):
            cells = np.flatnonzero(line.number == number)
            home = [i for i in plan.entry[mine & plan.home] if line.number[i] == number]
            seen = [i for i in plan.entry[mine] if line.number[i] == number]
            for beyond in (range(min(home) - 1, cells[0] - 1, -1), range(max(home) + 1, cells[-1] + 1)):
                guests = [i for i in beyond if i in seen]
                whole_side = len(guests) == len(beyond)
                assert whole_side or min(line.treated[guests].sum(), line.controls[guests].sum()) >= 3


def test_blocks_hold_about_the_rows_wanted(rows) -> None:
    line = counted(rows, "region", cells=5_000)
    plan = neighbours.with_guests(line, 1, rows=200)
    sizes = np.bincount(plan.block[plan.home], (line.treated + line.controls)[plan.entry[plan.home]])
    heaviest = (line.treated + line.controls).max()
    assert sizes.max() <= 2 * 200 + heaviest
    assert len(sizes) >= N / 400


@pytest.mark.parametrize("make", ["with_guests", "whole", "at_gaps"])
def test_a_line_without_rows_has_a_plan_without_blocks(make) -> None:
    nothing = np.zeros(0, np.int64)
    line = neighbours.Line((), nothing, nothing, nothing, nothing, 0.0, 1.0)
    plan = {
        "with_guests": lambda: neighbours.with_guests(line, 3),
        "whole": lambda: neighbours.whole(line),
        "at_gaps": lambda: neighbours.at_gaps(None, line, safe_gap, 1, None),
    }[make]()
    assert len(plan.entry) == len(plan.block) == 0


def test_a_group_too_large_for_a_block_is_refused(rows) -> None:
    line = counted(rows, "region")
    assert set(neighbours.whole(line).block) == {0}
    with pytest.raises(StatisticError) as caught:
        neighbours.whole(line, most=500)
    assert caught.value.key == "group_too_large"


def test_groups_beyond_what_a_driver_holds_are_refused(spark, frames, monkeypatch) -> None:
    monkeypatch.setattr(neighbours, "MAX_ROWS", 10)
    frame = neighbours.placed(neighbours.on_line(frames[1], "place", "t0"), "", (design.UNIT,), "number")
    with pytest.raises(StatisticError) as caught:
        neighbours.line(frame, 0.0, 1.0)
    assert caught.value.key == "too_many_cells"


def test_points_all_in_one_place(spark, frames, rows, few_cells, engine_name) -> None:
    if engine_name != "sail":
        pytest.skip("the plan is made without the engine")
    same = rows.assign(place=0.25)
    frame = frames[2].selectExpr(*(f"`{name}`" for name in rows.columns if name != "place"), "0.25D as place")
    for case in (Case("", True, rules(estimand="ATE")), Case("", False, rules(ratio=3))):
        found = placed(frame, spark, case)
        _, pairs, _ = both(method(case), found, spark)
        assert digest(pairs) == digest(whole(same, case).pairs())


def test_a_case_is_what_it_says(rows) -> None:
    """The data hold what the cases are to try: ties, a clump where the treated are more, an empty stretch."""
    assert rows["place"].duplicated().mean() > 0.5
    clump = rows[(rows["place"] >= 1.5) & (rows["place"] <= 1.7)]
    assert clump["t0"].mean() > 0.6
    assert not rows["place"].between(0.53, 0.96).any()
    assert rows["region"].isna().any()
    assert (rows["region"] == "large").sum() > 2 * BLOCK_ROWS
