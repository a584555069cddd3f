"""Published and computed credits: the 10,000-path file inside the `mta` wheel, worked examples, path transforms."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causal_spark.methods.attribution import Attribution, Paths, solve
from causal_spark.methods.attribution.credits import Segment
from causal_spark.results import Result
from tests.journey_buckets import credit, of_events, of_paths

CHANNELS = ("alpha", "beta", "delta", "epsilon", "eta", "gamma", "iota", "kappa", "lambda", "mi", "theta", "zeta")
CONVERSIONS, NULLS, VALUE = 19_785, 68_602, 74_802.971587
METHOD = Attribution(
    models=("first", "last", "linear", "u_shape", "markov_1", "markov_2", "shapley", "shapley_ordered"),
    paths=Paths(nulls="total_null", value="total_conversion_value"),
    replicates=0,
)
# fmt: off
EXPECTED = {
    "first": [6308, 2831, 1, 99, 3164, 165, 4606, 74, 902, 2, 1606, 27],
    "last": [8447, 989, 5, 531, 4167, 92, 3355, 230, 1207, 2, 653, 107],
    "linear": [7574.71859375117, 2083.50014458905, 1.725, 272.170437720459, 3539.95115710058, 121.041639020267,
               3857.09622101771, 137.964077922278, 1035.25757228553, 2.22222222222222, 1022.80139390422,
               136.551540466445],
    "u_shape": [7444.82375923339, 1969.76617896857, 2.58666666666667, 301.050232782437, 3618.79614876192,
                125.240910923829, 3944.94816565542, 147.459556516939, 1046.90390138538, 2.05714285714286,
                1092.74447175689, 88.6228644916078],
    "shapley": [7627.94404761905, 1982.73928571429, 2.29285714285714, 374.677380952381, 3613.65595238095,
                138.185714285714, 3505.04404761905, 159.057142857143, 987.782142857143, 2.66666666666667,
                1190.9630952381, 199.991666666667],
    "markov_1": [5344.94768208516, 2527.35216652039, 4.61361831110092, 599.570650463211, 3340.84740150087,
                 171.145442693728, 3884.61470187509, 274.3632559548, 1282.84722339436, 1.72242455628178,
                 1971.91287988692, 381.062552758086],
}
EXPECTED_VALUE = {
    "first": [19121.2723557987, 12235.5917443553, 6.119, 412.301242857143, 11909.4762130316, 718.977991830065,
              19597.2612769752, 305.74325, 3735.60216491597, 5.273, 6652.34934744683, 103.004],
    "last": [28414.2142743639, 3850.0209872582, 10.972, 2202.61228928572, 16754.2038001057, 506.013991830066,
             13487.9742713577, 1069.38425, 5249.94998542781, 5.273, 2799.0919875817, 453.26075],
    "linear": [24524.7095688335, 8954.2667166078, 4.40405, 1106.27006526655, 13783.4970509201, 569.417357891057,
               15988.9889950236, 599.747786255267, 4430.31616942845, 6.08144444444444, 4295.74361948719,
               539.528763052843],
    "markov_1": [18799.1706261916, 9687.80921609071, 13.918384003887, 2348.65382519228, 12991.7366666955,
                 719.236746345931, 14978.4372883955, 1136.0925381474, 5142.72029701271, 5.44450885928651,
                 7511.04847543621, 1468.70301483987],
}
REMOVAL = {
    (True, "conversions"): [0.558399489507747, 0.264038535741236, 0.000481995758038423, 0.0626385822754907,
                            0.349026331871146, 0.0178799744199689, 0.405835004471944, 0.028663386655466,
                            0.1340221228097, 0.000179945819894001, 0.20601046277277, 0.0398105178173835],
    (False, "conversions"): [0.561718843994028, 0.276093577399756, 0.000454780433119861, 0.0645895002891749,
                             0.35750538360734, 0.0187979025846867, 0.416397551116639, 0.029543363477874,
                             0.138343557716589, 0.00020214882634606, 0.2070479053483, 0.0421306484190853],
    (True, "value"): [0.522985589586965, 0.269511071282278, 0.000387204010704023, 0.0653386327475822,
                      0.361425043449737, 0.0200088855684023, 0.41669427934491, 0.0316056509993353, 0.143068471481761,
                      0.000151464111497468, 0.208954437057422, 0.0408587446445126],
}
COLLAPSED = [7554.46246621, 1997.77175757, 1.98333333333, 326.454566627, 3633.70601105, 130.89909944, 3661.9460145,
             147.8731924, 1007.09970287, 2.4, 1155.75717781, 164.646678199]
# fmt: on


def found() -> Path | None:
    spec = importlib.util.find_spec("mta")
    return Path(spec.submodule_search_locations[0]) / "data/data.csv.gz" if spec and spec.origin else None


needs_file = pytest.mark.skipif(found() is None, reason="needs the test dependency mta, whose wheel holds the file")


@cache
def paths() -> pd.DataFrame:
    file = found()
    assert file is not None
    return pd.read_csv(file)


@cache
def solved(method: Attribution) -> Result:
    return solve(method, of_paths(method, paths()))


@needs_file
def test_the_file_is_the_one() -> None:
    totals = paths()[["total_conversions", "total_null", "total_conversion_value"]].sum()
    assert totals.iloc[:2].tolist() == [CONVERSIONS, NULLS]
    assert totals.iloc[2] == pytest.approx(VALUE, abs=1e-6)


@needs_file
@pytest.mark.parametrize("model", EXPECTED)
def test_conversions(model: str) -> None:
    values = credit(solved(METHOD), model)
    # the references are printed with 15 digits; 5,408 paths are rounded at 2⁻⁴³ of a conversion
    assert [values[c] for c in CHANNELS] == pytest.approx(EXPECTED[model], rel=1e-12, abs=1e-9)
    assert sum(values.values()) == pytest.approx(CONVERSIONS, rel=1e-13)


@needs_file
@pytest.mark.parametrize("model", EXPECTED_VALUE)
def test_value(model: str) -> None:
    values = credit(solved(METHOD), model, "value")
    assert [values[c] for c in CHANNELS] == pytest.approx(EXPECTED_VALUE[model], rel=1e-12, abs=1e-9)
    assert sum(values.values()) == pytest.approx(VALUE, abs=1e-6)  # printed so


@needs_file
@pytest.mark.parametrize(("nulls", "outcome"), REMOVAL)
def test_removal_effects(nulls: bool, outcome: str) -> None:
    frame = solved(replace(METHOD, nulls=nulls)).diagnostics["removal_effects"]
    mine = frame[(frame["model"] == "markov_1") & (frame["outcome"] == outcome)].set_index("channel")
    expected = REMOVAL[nulls, outcome]
    assert [mine.loc[c, "removal_effect"] for c in CHANNELS] == pytest.approx(expected, rel=1e-12, abs=1e-15)


@needs_file
def test_conversion_probability_is_conversions_by_journeys() -> None:
    made = of_paths(METHOD, paths())
    for order in (1, 2):
        found_base = Segment(METHOD, made, 0).base_of(order)
        assert found_base == pytest.approx(CONVERSIONS / (CONVERSIONS + NULLS), rel=1e-12)


@needs_file
def test_linear_after_collapsing_repeats() -> None:
    values = credit(solved(replace(METHOD, models=("linear",), collapse_repeats=True)), "linear")
    assert [values[c] for c in CHANNELS] == pytest.approx(COLLAPSED, rel=1e-11)  # printed with 12 digits


@needs_file
def test_stages_of_the_ordered_game_add_up() -> None:
    frame = solved(METHOD).diagnostics["stages"]
    whole = frame[frame["outcome"] == "conversions"].groupby("channel")["credit"].sum()
    assert [whole[c] for c in CHANNELS] == pytest.approx(EXPECTED["shapley"], rel=1e-12, abs=1e-9)


@needs_file
def test_sampled_rate_game_is_within_four_of_its_errors() -> None:
    method = replace(METHOD, models=("shapley_rate",), permutations=4000)
    made = of_paths(method, paths())
    segment = Segment(method, made, 0)
    exact = segment.credit("shapley_rate").value
    sampled = segment._rate_sampled(segment.sums("sets"), ())
    assert sampled.std_error is not None
    assert (np.abs(sampled.value - exact) < 4 * sampled.std_error).all()


def table(rows: list[tuple[str, int, int]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["path", "total_conversions", "total_null"])


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("C1 > C2 > C3", 1, 0), ("C1", 0, 1), ("C2 > C3", 0, 1)], {"C1": 0.2, "C2": 0.4, "C3": 0.4}),
        ([("G", 2, 1), ("M", 1, 0), ("G > M", 1, 0)], {"G": 2.4, "M": 1.6}),
        ([("A > B > A > B > B > A", 1, 0), ("A > B > B > A > A", 1, 0), ("A > A", 1, 0)], {"A": 2.0, "B": 1.0}),
    ],
)
def test_worked_chains(rows: list[tuple[str, int, int]], expected: dict[str, float]) -> None:
    method = Attribution(models=("markov_1",), paths=Paths(nulls="total_null"), replicates=0)
    values = credit(solve(method, of_paths(method, table(rows))), "markov_1")
    assert {c: values[c] for c in expected} == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("none", "D > A > B > B > C > D > C > C"),
        ("collapse", "D > A > B > C > D > C"),
        ("first", "D > A > B > C"),
        ("frequency", "D (2) > A (1) > B (2) > C (3)"),
    ],
)
def test_path_transforms(change: str, expected: str) -> None:
    method = Attribution(models=("linear",), paths=Paths(), transform=change, replicates=0)  # type: ignore[arg-type]
    made = of_paths(method, pd.DataFrame({"path": ["D > A > B > B > C > D > C > C"], "total_conversions": [1]}))
    ((codes, _),) = made.paths
    assert " > ".join(made.tokens[int(code)] for code in codes.split()) == expected


def test_time_decay_of_a_journey() -> None:
    method = Attribution(models=("time_decay", "u_shape"), person="p", time="t", channel="c", value="v",
                         window_days=60, half_life_days=7, replicates=0)  # fmt: skip
    touches = [("ann", day, f"c{day}") for day in (0, 5, 12, 30, 38)]
    result = solve(method, of_events(method, touches, [("ann", 38, 12_000.0)]))
    expected = [175.19517568438746, 287.43759363174536, 574.8751872634907, 3417.0449809603247, 7545.447062460051]
    decay, shape = (credit(result, model, "value") for model in ("time_decay", "u_shape"))
    assert [decay[f"c{d}"] for d in (0, 5, 12, 30, 38)] == pytest.approx(expected, rel=1e-11)  # fixed point, 2⁻⁴⁴
    assert [shape[f"c{d}"] for d in (0, 5, 12, 30, 38)] == pytest.approx([4800, 800, 800, 800, 4800], rel=1e-11)
