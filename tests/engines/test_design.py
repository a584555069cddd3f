"""The design of a comparison as native columns: what numpy and pandas make of the same rows, on every engine."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from causal_spark.spark import design
from causal_spark.spark.design import Factor, Term
from causal_spark.spark.tables import col
from causal_spark.statistics.grouped import MISSING

N = 1_200
# Engines may differ in the last bits of exp and log.
RTOL = 1e-14


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(17)
    frame = pd.DataFrame(
        {
            "id": np.arange(N),
            "treat": (rng.random(N) < 0.3).astype(int),
            "age": rng.normal(40, 10, N),
            "visits": rng.integers(0, 4, N),
            "member": rng.random(N) < 0.5,
            "town": rng.choice(["Köln", "Bonn", "o'k`x", None], N),
            "shop": rng.choice([f"s{i}" for i in range(30)], N),
            "chance": rng.uniform(0.02, 0.98, N),
        }
    )
    frame.loc[::11, "age"] = np.nan
    return frame


@pytest.fixture(scope="module")
def table(spark, rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("design")
    shuffled = rows.sample(frac=1, random_state=3)
    for i in range(3):
        pq.write_table(pa.Table.from_pandas(shuffled.iloc[i::3], preserve_index=False), folder / f"{i}.parquet")
    return spark.read.parquet(f"file://{folder}")


AGE, GONE, VISITS = Factor("age", fill=39.5), Factor("age", missing=True), Factor("visits")
KOELN, NOWHERE, QUOTED = Factor("town", level="Köln"), Factor("town", level=MISSING), Factor("town", level="o'k`x")
COVARIATES = {"age": (AGE, GONE), "visits": (VISITS,), "town": (KOELN, QUOTED, NOWHERE), "member": (Factor("member"),)}


def collected(frame, *columns) -> pd.DataFrame:
    """The columns by unit."""
    found = frame.select(*map(col, columns)).toArrow().to_pandas()
    return found.sort_values(columns[0]).reset_index(drop=True)


def test_terms_and_their_labels() -> None:
    found = design.terms(COVARIATES, ["age", "visits"], [["visits", "town"], ["age", "visits"]])
    assert [term.label for term in found] == [
        "age", "age (missing)", "visits", "town=Köln", "town=o'k`x", f"town={MISSING}", "member", "age²", "visits²",
        "visits · town=Köln", "visits · town=o'k`x", f"visits · town={MISSING}", "age · visits",
        "age (missing) · visits",
    ]  # fmt: skip
    assert [term.main for term in found] == [True] * 7 + [False] * 7


def test_values_are_those_of_pandas(table, rows) -> None:
    every = design.terms(COVARIATES, ["age"], [["visits", "town"]])
    columns = [design.value(term).alias(f"v{i}") for i, term in enumerate(every)]
    found = table.select("id", *columns).toArrow().to_pandas().sort_values("id")
    age = rows["age"].fillna(39.5)
    wanted = {
        "age": age, "age (missing)": rows["age"].isna(), "visits": rows["visits"], "town=Köln": rows["town"] == "Köln",
        "town=o'k`x": rows["town"] == "o'k`x", f"town={MISSING}": rows["town"].isna(), "member": rows["member"],
        "age²": age * age, "visits · town=Köln": rows["visits"] * (rows["town"] == "Köln"),
    }  # fmt: skip
    for i, term in enumerate(every):
        assert found[f"v{i}"].notna().all()
        if term.label in wanted:
            np.testing.assert_array_equal(found[f"v{i}"], wanted[term.label].astype(float), err_msg=term.label)


def test_a_sample_is_in_the_order_of_the_hash_and_whole_if_it_fits(table, rows, spark) -> None:
    columns = [col("id"), design.value(Term("age", (AGE,)))]
    whole = design.looked_at(table, "id", N, N, "salt", columns)
    assert sorted(whole[:, 0]) == list(range(N))
    again = design.looked_at(table.orderBy("age"), "id", N, N, "salt", columns)
    np.testing.assert_array_equal(whole, again)
    part = design.looked_at(table, "id", N, 300, "salt", columns)
    assert abs(len(part) - 300) < 60
    assert part[:, 0].tolist() == [unit for unit in whole[:, 0] if unit in set(part[:, 0])]
    assert design.looked_at(table, "id", N, N, "salt", []).shape == (N, 0)


def test_scales_are_the_same_numbers_whatever_the_order() -> None:
    rng = np.random.default_rng(0)
    sample = np.column_stack([rng.normal(1e6, 3.0, 500), rng.random(500) < 0.1, np.full(500, 7.0)]).astype(float)
    every = tuple(Term(name, (Factor(name),)) for name in "abc")
    found = design.scaled(every, sample)
    assert found == design.scaled(every, sample[rng.permutation(500)])
    assert [item.scale for item in found] == [4.0, 0.25, 1.0]
    assert [item.centre for item in found] == [1e6, pytest.approx(sample[:, 1].mean(), rel=5e-3), 7.0]
    assert [item.centre for item in design.scaled(every, np.zeros((0, 3)))] == [0.0, 0.0, 0.0]


def test_the_designed_frame(table, rows) -> None:
    every = design.terms({"visits": (VISITS,), "town": (KOELN,)}, [], [])
    columns = design.scaled(every, np.array([[0.0, 0.0], [4.0, 1.0]]))
    frame = design.designed(table, "id", columns, {"t0": "treat", "y0": "chance"}, ["shop", "shop"], "shop", 5, "folds")
    names = [design.UNIT, design.FOLD, design.CLUSTER, "x0", "x1", "t0", "y0", "shop"]
    assert frame.columns == names
    found = collected(frame, *names)
    np.testing.assert_array_equal(found["x0"], (rows["visits"] - 2.0) / 2.0)
    np.testing.assert_array_equal(found["x1"], ((rows["town"] == "Köln") - 0.5) / 0.5)
    assert found["t0"].dtype == float
    assert found[design.CLUSTER].tolist() == rows["shop"].tolist()
    assert found.groupby("shop")[design.FOLD].nunique().eq(1).all()
    alone = collected(design.designed(table, "id", columns, {}, [], None, 5, "folds"), design.UNIT, design.FOLD)
    shares = alone[design.FOLD].value_counts(normalize=True)
    assert set(shares.index) == set(range(5))
    assert shares.between(0.15, 0.25).all()  # 4 standard errors of a share of 0.2


def test_logit_and_propensity(table, rows) -> None:
    every = design.scaled(design.terms({"visits": (VISITS,)}, [], []), np.array([[0.0], [2.0]]))
    frame = design.designed(table, "id", every, {}, [], None, 2, "f")
    beta = np.array([-0.123456789012345, 0.987654321098765])
    frame = design.with_logit(frame, ("x0",), beta).withColumn("e", design.propensity())
    found = collected(frame, design.UNIT, design.LOGIT, "e")
    logit = -0.123456789 + 0.9876543211 * (rows["visits"] - 1.0)
    np.testing.assert_array_equal(found[design.LOGIT], logit)
    np.testing.assert_allclose(found["e"], 1 / (1 + np.exp(-logit)), atol=2.0**-44)
    assert (found["e"] * 2.0**44 % 1 == 0).all()
    assert found["e"].nunique() == 4
    given = design.with_given_score(table, "chance")
    found = collected(given, "id", design.LOGIT)
    np.testing.assert_allclose(
        found[design.LOGIT], np.log(rows["chance"] / (1 - rows["chance"])), rtol=1e-12, atol=1e-14
    )


def test_patterns_are_counted_or_too_many(table, rows) -> None:
    frame = table.withColumn("treat", col("treat").cast("double"))
    found = design.patterns(frame.where("age IS NOT NULL"), ("visits", "member"), "treat", 8)
    assert found is not None
    x, n, t = found
    known = rows[rows["age"].notna()].assign(member=rows["member"].astype(float))
    wanted = known.groupby(["visits", "member"])["treat"].agg(["size", "sum"]).reset_index()
    np.testing.assert_array_equal(x, wanted[["visits", "member"]])
    np.testing.assert_array_equal(n, wanted["size"])
    np.testing.assert_array_equal(t, wanted["sum"])
    assert design.patterns(frame, ("visits", "member"), "treat", 7) is None


@pytest.fixture(scope="module")
def scored(table):
    return design.with_given_score(table, "chance")


def test_overlap_counts_every_row_once(scored, rows) -> None:
    cells = design.overlap(scored, "treat", 20)
    counts = {(cell["cell"], cell["arm"]): cell["n"] for cell in cells}
    place = np.floor(rows["chance"] * 20).astype(int)
    wanted = rows.groupby([place, "treat"]).size().to_dict()
    assert sum(counts.values()) == N
    # A propensity on an edge may fall on either side of it.
    assert sum(abs(counts.get(key, 0) - wanted.get(key, 0)) for key in {*counts, *wanted}) <= 2
    logit = np.log(rows["chance"] / (1 - rows["chance"]))
    assert min(cell["low"] for cell in cells) == pytest.approx(logit.min(), rel=RTOL)
    assert max(cell["high"] for cell in cells) == pytest.approx(logit.max(), rel=RTOL)


def test_bounds_keep_their_ends(scored) -> None:
    cells = design.overlap(scored, "treat", 2)
    low, high = min(cell["low"] for cell in cells), max(cell["high"] for cell in cells)
    assert design.inside(scored, low, high).count() == N
    assert design.inside(scored, np.nextafter(low, 0), high).count() == N - 1
    assert design.inside(scored, -np.inf, np.inf).count() == N


def test_zeros_and_ones_are_counted(table, rows) -> None:
    found = design.binary_counts(table, ["treat", "member", "visits", "age"])
    assert found["treat"] == ((rows["treat"] == 0).sum(), rows["treat"].sum())
    assert found["member"] == ((~rows["member"]).sum(), rows["member"].sum())
    assert found["visits"] == ((rows["visits"] == 0).sum(), (rows["visits"] == 1).sum())
    assert found["age"] == (0, 0)


def test_complete_rows(table, rows) -> None:
    assert design.complete(table, ["age", "town"]).count() == rows[["age", "town"]].notna().all(axis=1).sum()
    many = table.select("*", *(col("age").alias(f"age{i}") for i in range(120)))
    assert design.complete(many, [f"age{i}" for i in range(120)]).count() == rows["age"].notna().sum()


@pytest.mark.parametrize("parts", [2, 5, 400])
def test_quantiles_of_the_focal_arm_cut_it_into_equal_parts(scored, rows, engine, parts) -> None:
    """Hundreds of parts as well: a client refuses expressions that are nested as deep."""
    if engine == "connect" and parts == 2:
        pytest.skip("two sizes are enough where each stage costs a second")
    logit = np.log(rows["chance"] / (1 - rows["chance"]))
    arm = rows["treat"] == 1
    cuts = design.focal_quantiles(scored, "treat", parts, logit.min(), logit.max(), "ATT")
    assert len(cuts) <= parts - 1
    assert cuts == sorted(cuts)
    found = collected(design.between(scored, "part", cuts), "id", "part")
    np.testing.assert_array_equal(found["part"], np.searchsorted(cuts, logit, "right"))
    sizes = np.bincount(found["part"][arm.to_numpy()], minlength=parts)
    # The cut is put after the cell that holds the quantile: a few rows more than their share.
    assert sizes.max() <= arm.sum() / parts + 4
    everybody = design.focal_quantiles(scored, "treat", 2, logit.min(), logit.max(), "ATE")
    assert everybody[0] == pytest.approx(np.median(logit), abs=0.02)


def test_equal_cells_and_their_ends(scored, rows) -> None:
    logit = np.log(rows["chance"] / (1 - rows["chance"]))
    low, high = float(logit.min()), float(logit.max())
    found = collected(design.equal_cells(scored, "cell", low, high, 10), "id", "cell")
    assert found["cell"].min() == 0
    assert found["cell"].max() == 9
    wanted = np.clip(np.floor((logit - low) / ((high - low) / 10)), 0, 9)
    assert (found["cell"] != wanted).sum() <= 1
    same = collected(design.equal_cells(scored, "cell", 1.0, 1.0, 10), "id", "cell")
    assert set(same["cell"]) <= {0, 9}


def test_coarsened_cells(table, rows) -> None:
    known = table.where("age IS NOT NULL").withColumn("member", col("member").cast("double"))
    found = collected(
        design.coarsened(known, "stratum", [("age", 20.0, 60.0, 4), ("member", 0.0, 0.0, 2)]), "id", "stratum"
    )
    mine = rows[rows["age"].notna()]
    cell = np.clip(np.floor((mine["age"] - 20) / 10), 0, 3).astype(int)
    assert found["stratum"].tolist() == [f"{c},{int(m)}" for c, m in zip(cell, mine["member"], strict=True)]


def test_the_arm_as_a_whole_number(table) -> None:
    frame = design.with_arm(table.withColumn("treat", col("treat").cast("double")), "treat")
    assert set(frame.select("treat").toArrow().column("treat").to_pylist()) == {0, 1}
    assert dict(frame.dtypes)["treat"] == "int"
