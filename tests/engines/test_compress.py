"""The pass over a table: every form gives the moments of the rows, on every engine, partitioning and row order."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from causal_spark.errors import StatisticError
from causal_spark.spark import compress as module
from causal_spark.spark import gate
from causal_spark.spark.compress import MomentsSpec, compress
from causal_spark.statistics import Moments
from causal_spark.statistics.grouped import BLOCK, MISSING

# Sums of 3,000 doubles in any order differ by a few units of the 16th digit; squares about a centre by a few more.
EXACT = 1e-11


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    n = 3000
    frame = pd.DataFrame(
        {
            "arm": rng.choice(["a", "b", "c"], n, p=[0.5, 0.3, 0.2]),
            "country": rng.choice(["DE", "CN", None], n),
            "x": rng.normal(1e6, 1.0, n),
            "y": rng.lognormal(0, 1.5, n),
            "z": rng.integers(0, 2, n).astype(float),
        }
    )
    frame["w"] = frame["y"] * 2 + rng.normal(0, 1, n)
    frame.loc[rng.random(n) < 0.2, "w"] = np.nan
    return frame


@pytest.fixture(scope="module")
def table(spark, rows):
    return spark.createDataFrame(rows.astype(object).where(rows.notna(), None))


def expected(rows: pd.DataFrame, columns: tuple[str, ...]) -> Moments:
    return Moments.from_rows(columns, rows[list(columns)].dropna().to_numpy(float))


def same(found: Moments, wanted: Moments) -> None:
    assert found.names == wanted.names
    assert found.n == wanted.n
    np.testing.assert_allclose(found.mean, wanted.mean, rtol=EXACT)
    scale = np.sqrt(np.outer(np.diag(wanted.scatter), np.diag(wanted.scatter)))
    np.testing.assert_allclose(found.scatter, wanted.scatter, atol=EXACT * scale.max() + 1e-300, rtol=1e-9)


def test_products_and_groups_are_the_same_statistic(table, rows, monkeypatch) -> None:
    spec = MomentsSpec({"x": ("x",), "yz": ("y", "z"), "n": ()}, by=("arm",), levels={"arm": ("a", "b", "c")})
    assert module._few_products(spec)
    products = module._products(table, spec, {"x": 1e6, "y": 0.0, "z": 0.0})
    assert products is not None
    monkeypatch.setattr(module, "MAX_PRODUCTS", 0)
    groups = compress(table, spec)
    assert products.cells.keys() == groups.cells.keys()
    for (arm, block), part in groups.cells.items():
        if block != "n":
            wanted = expected(rows[rows["arm"] == arm], spec.blocks[block])
            same(part, wanted)
            same(products.cells[(arm, block)], wanted)
        assert products.cells[(arm, block)].n == part.n == (rows["arm"] == arm).sum()


def test_unknown_labels_are_never_counted_into_another_arm(table, rows) -> None:
    spec = MomentsSpec({"y": ("y",)}, by=("arm",), levels={"arm": ("a", "b")})
    found = compress(table, spec)
    assert {key[0] for key in found.cells} == {"a", "b", "c"}
    for arm in "abc":
        same(found.cells[(arm, "y")], expected(rows[rows["arm"] == arm], ("y",)))


def test_a_small_first_level_is_not_found_by_subtraction(table, rows, monkeypatch) -> None:
    monkeypatch.setattr(module, "MIN_REFERENCE", 0.9)
    spec = MomentsSpec({"y": ("y",)}, by=("arm",), levels={"arm": ("a", "b", "c")})
    assert module._products(table, spec, {"y": 0.0}) is None
    same(compress(table, spec).cells[("c", "y")], expected(rows[rows["arm"] == "c"], ("y",)))


def test_margins_of_segments_and_nulls_come_from_one_pass(table, rows) -> None:
    blocks = {"w": ("w", "y"), "y": ("y",)}
    spec = MomentsSpec(blocks, by=("arm",), segments=("country", "z"), nullable=frozenset({"w"}))
    found = compress(table, spec)
    assert found.by == ("arm", "country", "z", BLOCK)
    for arm, block in itertools.product("abc", blocks):
        mine = rows[rows["arm"] == arm]
        same(found.cells[(arm, None, None, block)], expected(mine, blocks[block]))
        same(found.cells[(arm, "DE", None, block)], expected(mine[mine["country"] == "DE"], blocks[block]))
        same(found.cells[(arm, MISSING, None, block)], expected(mine[mine["country"].isna()], blocks[block]))
        same(found.cells[(arm, None, "1.0", block)], expected(mine[mine["z"] == 1], blocks[block]))


def test_nulls_leave_n_as_well_as_the_sums(table, rows) -> None:
    """The defect of counting all rows beside averages that skip NULL makes intervals too narrow."""
    spec = MomentsSpec({"w": ("w",)}, by=("arm",), nullable=frozenset({"w"}))
    found = compress(table, spec)
    assert sum(part.n for part in found.cells.values()) == rows["w"].notna().sum() < len(rows)


def test_a_cross_too_large_falls_back_to_a_pass_for_each_segment(table, rows) -> None:
    spec = MomentsSpec({"y": ("y",)}, by=("arm",), segments=("country", "z"))
    found = compress(table, spec, max_rows=9)
    wanted = compress(table, spec)
    assert found.cells.keys() == wanted.cells.keys()
    for key, part in found.cells.items():
        same(part, wanted.cells[key])
    with pytest.raises(StatisticError, match="country"):
        compress(table, spec, max_rows=4)


def test_specs_unite_and_share_their_sums() -> None:
    a = MomentsSpec({"y": ("y",)}, by=("arm",))
    b = MomentsSpec({"yx": ("y", "x")}, by=("arm",), segments=("country",))
    both = a | b
    assert set(both.blocks) == {"y", "yx"}
    assert both.segments == ("country",)
    # y, yy are asked for once: Σy, Σyy, Σx, Σyx, Σxx.
    assert len(both.sums) == 5
    with pytest.raises(StatisticError):
        a | MomentsSpec({"y": ("y",)}, by=("other",))


def test_a_centre_far_off_is_noticed_and_the_pass_repeated(spark, monkeypatch) -> None:
    y = np.random.default_rng(0).normal(1e9, 1.0, 1_000)
    frame = spark.createDataFrame(pd.DataFrame({"arm": "a", "y": y}))
    passes = []
    plain = module._pass
    monkeypatch.setattr(module, "_pass", lambda *given: passes.append(given) or plain(*given))
    spec = MomentsSpec({"y": ("y",)}, by=("arm",))
    for centres, wanted in ((None, 2), ({"y": 1e9 - 5}, 1)):
        passes.clear()
        found = compress(frame, spec, centres).cells[("a", "y")]
        assert len(passes) == wanted
        # A double at 1e9 holds 7 digits after the point: the variance cannot be better than 1e-7.
        assert found.covariance[0, 0] == pytest.approx(y.var(ddof=1), rel=1e-6)


def test_a_constant_column_has_no_spread_at_all(spark) -> None:
    frame = spark.createDataFrame(pd.DataFrame({"arm": ["a", "b"] * 500, "y": [0.1] * 1000, "z": [1e9 + 0.3] * 1000}))
    spec = MomentsSpec({"y": ("y",), "z": ("z",)}, by=("arm",), levels={"arm": ("a", "b")})
    for part in compress(frame, spec).cells.values():
        assert part.scatter[0, 0] == 0.0


@pytest.mark.parametrize("partitions", [1, 2, 7])
def test_partitions_and_row_order_change_nothing(spark, table, rows, partitions) -> None:
    shuffled = rows.sample(frac=1, random_state=partitions)
    frame = spark.createDataFrame(shuffled.astype(object).where(shuffled.notna(), None)).repartition(partitions, "y")
    spec = MomentsSpec({"x": ("x",), "w": ("w", "y")}, by=("arm",), segments=("country",), nullable=frozenset({"w"}))
    found, wanted = compress(frame, spec), compress(table, spec)
    assert found.cells.keys() == wanted.cells.keys()
    for key, part in found.cells.items():
        same(part, wanted.cells[key])


@pytest.mark.parametrize("kind", ["int", "tinyint", "boolean", "string"])
def test_labels_of_any_type(spark, kind) -> None:
    labels = {"boolean": ("true", "false")}.get(kind, ("1", "0"))
    frame = spark.createDataFrame(pd.DataFrame({"arm": [1, 0, 1, 0], "y": [1.0, 2.0, 4.0, 8.0]}))
    frame = frame.withColumn("arm", frame["arm"].cast(kind))
    found = compress(frame, MomentsSpec({"y": ("y",)}, by=("arm",), levels={"arm": labels}))
    assert found.cells[(labels[0], "y")].mean[0] == 2.5
    assert found.cells[(labels[1], "y")].mean[0] == 5.0


@pytest.mark.parametrize(("other", "n"), [(2, 5), (-1, 5), (None, 5)])
def test_a_column_that_is_not_only_0_and_1_is_no_indicator(spark, other, n) -> None:
    arms = [0, 1, 0, 1, other]
    frame = spark.createDataFrame([(a, float(i)) for i, a in enumerate(arms)], "arm int, y double")
    spec = MomentsSpec({"y": ("y",)}, by=("arm",), levels={"arm": ("1", "0")})
    assert module._products(frame, spec, {"y": 0.0}) is None
    found = compress(frame, spec)
    assert {key[0]: part.n for key, part in found.cells.items()} == {"0": 2, "1": 2, module.label(other): 1}
    assert sum(part.n for part in found.cells.values()) == n


def test_an_empty_table_has_no_cells(spark) -> None:
    frame = spark.createDataFrame([], "arm string, y double")
    assert compress(frame, MomentsSpec({"y": ("y",)}, by=("arm",), levels={"arm": ("a", "b")})).cells == {}


NUM_ACC = {  # name: values, certified mean and standard deviation, correct digits asked of mean and deviation
    "NumAcc1": ([10000001.0, 10000003.0, 10000002.0], 10000002.0, 1.0, 13.5, 15),
    "NumAcc2": ([1.2, *([1.1, 1.3] * 500)], 1.2, 0.1, 13.5, 14),
    "NumAcc3": ([1000000.2, *([1000000.1, 1000000.3] * 500)], 1000000.2, 0.1, 13.5, 9),
    "NumAcc4": ([10000000.2, *([10000000.1, 10000000.3] * 500)], 10000000.2, 0.1, 13.5, 8),
}


@pytest.mark.parametrize("partitions", [1, 8])
@pytest.mark.parametrize("name", NUM_ACC)
def test_certified_digits_survive_the_pass(spark, name, partitions) -> None:
    """NIST StRD univariate sets, centred as the job does it; the floors are what doubles of that size can hold."""
    values, mean, deviation, digits_mean, digits_deviation = NUM_ACC[name]
    frame = spark.createDataFrame(pd.DataFrame({"arm": "a", "y": values, "i": range(len(values))}))
    frame = frame.repartition(partitions, "i")
    centres = {"y": gate.ranges(frame, ["y"])["y"].centre}
    found = compress(frame, MomentsSpec({"y": ("y",)}, by=("arm",)), centres).cells[("a", "y")]
    error_mean = max(abs(found.mean[0] / mean - 1), 1e-16)
    error_deviation = max(abs(np.sqrt(found.covariance[0, 0]) / deviation - 1), 1e-16)
    assert -np.log10(error_mean) >= digits_mean
    assert -np.log10(error_deviation) >= digits_deviation


def test_counts_by_any_columns(table, rows) -> None:
    found = module.count(table, ["arm", "country"])
    assert found.by == ("arm", "country")
    assert found.cells[("a", MISSING)] == (((rows["arm"] == "a") & rows["country"].isna()).sum(),)
    assert found.margin(("arm",)).cells == {(a,): ((rows["arm"] == a).sum(),) for a in "abc"}
    with pytest.raises(StatisticError, match="arm"):
        module.count(table, ["arm"], max_rows=2)
