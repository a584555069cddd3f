"""Numbers of experiments that others have published or printed, reproduced by the solvers.

A tolerance is named by its reason:

- ``printed("0.0794")``: a printed number is right to half a unit of its last digit, and we ask for no less;
- ``exact(x)``: the same algebra in another order of operations, relative 1e-12 (some hundred roundings);
- a printed number with 15 digits is compared at relative 1e-12, since its own last digits are rounded too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import pytest
import statsmodels.api as sm
from statsmodels.stats.multitest import multipletests

from causal_spark.solve.intervals import p_value
from causal_spark.solve.lifts import lift
from causal_spark.solve.linear import cluster_difference, cuped
from causal_spark.solve.means import Form, Values, difference, evaluate
from causal_spark.solve.multiplicity import adjust
from causal_spark.solve.proportions import shares_test, two_proportions
from causal_spark.statistics import Moments


def printed(text: str) -> object:
    """The number as printed, right to half a unit of its last digit (and a rounding of that half unit)."""
    exponent = Decimal(text).as_tuple().exponent
    assert isinstance(exponent, int)
    return pytest.approx(float(text), rel=0, abs=0.5000001 * 10.0**exponent)


def exact(value: float) -> object:
    """Equal but for the roundings of another order of operations."""
    return pytest.approx(value, rel=1e-12, abs=1e-14)


def sums(n: float, first: float, second: float) -> Moments:
    """Moments of one column from Σ and Σ² as printed."""
    return Moments.from_sums(["y"], n, [0.0], [first], [[second]])


def rows(*values: float) -> Moments:
    return Moments.from_rows(["y"], values)


def mean(part: Moments) -> Values:
    return evaluate(part, [Form("y")])


# R1 Welch -----------------------------------------------------------------------------------------------------------

SLEEP_1 = (0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0)
SLEEP_2 = (1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4)
REVENUE_CONTROL = sums(3407, 1396.87, 52377.9767)
REVENUE_TREATMENT = sums(3461, 2422.7, 134698.29)


@pytest.mark.parametrize(
    ("first", "second"),
    [(rows(*SLEEP_1), rows(*SLEEP_2)), (sums(10, 7.5, 34.43), sums(10, 23.3, 90.37))],
    ids=["rows", "sums"],
)
def test_welch_student_sleep(first: Moments, second: Moments) -> None:
    test = difference(mean(first), mean(second))
    assert test.statistic == printed("-1.8608")
    assert test.dof == printed("17.776")
    assert test.p_value == printed("0.07939")
    assert (test.low, test.high) == (printed("-3.36548"), printed("0.20548"))


@pytest.mark.parametrize(
    ("values", "statistic", "p"),
    [
        ((1, 2, 3), -0.686495127355726, 0.536194907531267),
        ((1, 2, 3, 4), -0.210866331595072, 0.843541391316083),
    ],
)
def test_welch_tiny_samples(values: Sequence[float], statistic: float, p: float) -> None:
    test = difference(mean(rows(*values)), mean(rows(1.1, 2.9, 4.2)))
    assert test.statistic == pytest.approx(statistic, rel=1e-12)
    assert test.p_value == pytest.approx(p, rel=1e-12)


def test_welch_revenue_from_sums() -> None:
    test = difference(mean(REVENUE_TREATMENT), mean(REVENUE_CONTROL))
    assert test.estimate == printed("0.29")
    assert test.std_error == printed(".124784")
    assert test.dof == printed("5841.742")
    assert test.p_value == printed(".020158")
    assert (test.low, test.high) == (printed(".045378"), printed(".534622"))


# R2 proportions -----------------------------------------------------------------------------------------------------


def test_proportions_small() -> None:
    test = two_proportions(12 / 99, 99, 5 / 83, 83)
    assert test.statistic == printed("1.40783")
    assert test.p_value == printed(".15918")
    unpooled = test.estimate / test.std_error
    assert unpooled == printed("1.45416")
    assert p_value(unpooled) == printed(".14590")
    assert (test.low, test.high) == (printed("-.02121"), printed(".14315"))


def test_proportions_thousand() -> None:
    test = two_proportions(0.25, 1000, 0.20, 1000)
    assert test.p_value == printed(".0074196")
    assert p_value(test.estimate / test.std_error) == printed(".0073138")


# R3 relative lift ---------------------------------------------------------------------------------------------------


def test_lift_by_delta() -> None:
    test = lift(mean(REVENUE_TREATMENT), mean(REVENUE_CONTROL), "delta")
    assert test.estimate == printed(".707317")
    assert test.std_error == printed(".378794")
    assert test.p_value == printed(".06191")
    assert (test.low, test.high) == (printed("-.03526"), printed("1.44989"))


def test_lift_by_fieller() -> None:
    test = lift(mean(REVENUE_TREATMENT), mean(REVENUE_CONTROL), "fieller", dof=math.inf)
    absolute = difference(mean(REVENUE_TREATMENT), mean(REVENUE_CONTROL))
    control = mean(REVENUE_CONTROL)
    g = 1.959963984540054**2 * control.vcov[0, 0] / control.value[0] ** 2
    assert g == printed(".10202")
    assert (test.low, test.high) == (printed(".09417"), printed("1.70840"))
    assert test.statistic == exact(absolute.statistic)


def test_lift_by_logarithm() -> None:
    test = lift(mean(REVENUE_TREATMENT), mean(REVENUE_CONTROL), "log", dof=math.inf)
    assert (test.low, test.high) == (printed(".10525"), printed("1.63734"))
    assert test.p_value == printed(".01591")


def test_lift_of_proportions() -> None:
    """The printed variance of a proportion is p(1 - p), without n - 1."""

    def share(count: int, n: int) -> Values:
        p = count / n
        return Values(np.array([p]), np.array([[p * (1 - p) / n]]), n)

    test = lift(share(16, 30), share(14, 28), "delta")
    assert test.estimate == printed(".06667")
    assert test.std_error == printed(".2717")
    assert test.p_value == printed(".80707")
    assert (test.low, test.high) == (printed("-.47767"), printed(".61101"))


# R4 ratio of means by the delta method ------------------------------------------------------------------------------

CLICKS = Form("clicks", "views")
RATIO_CONTROL = np.array([(1, 4), (0, 2), (3, 6), (2, 5), (1, 3)], float)
RATIO_TREATMENT = np.array([(2, 4), (1, 2), (4, 7), (3, 5), (0, 2)], float)


def users(table: np.ndarray) -> Moments:
    return Moments.from_rows(["clicks", "views"], table)


def test_ratio_tiny() -> None:
    control, treatment = evaluate(users(RATIO_CONTROL), [CLICKS]), evaluate(users(RATIO_TREATMENT), [CLICKS])
    assert (control.value[0], treatment.value[0]) == (exact(7 / 20), exact(1 / 2))
    test = difference(treatment, control)
    assert test.estimate == exact(0.15)
    assert test.std_error == printed(".0972272")
    assert test.statistic == printed("1.54278")


def test_ratio_equals_linearised_residual() -> None:
    """Welch's standard error of (clicks - R views) / mean(views), computed row by row."""
    squares = 0.0
    for table in (RATIO_CONTROL, RATIO_TREATMENT):
        ratio = table[:, 0].sum() / table[:, 1].sum()
        residual = (table[:, 0] - ratio * table[:, 1]) / table[:, 1].mean()
        squares += residual.var(ddof=1) / len(residual)
    test = difference(evaluate(users(RATIO_TREATMENT), [CLICKS]), evaluate(users(RATIO_CONTROL), [CLICKS]))
    assert test.std_error == exact(math.sqrt(squares))


def test_ratio_equals_regression_of_views_with_user_clusters() -> None:
    """One row per view: OLS on the arm with user clusters is CR0, and times √(5/4) the delta method."""
    y, arm, user = [], [], []
    for treated, table in ((0, RATIO_CONTROL), (1, RATIO_TREATMENT)):
        for i, (clicks, views) in enumerate(table.astype(int)):
            y += [1] * clicks + [0] * (views - clicks)
            arm += [treated] * views
            user += [10 * treated + i] * views
    kinds = {"groups": np.array(user), "use_correction": False}
    plain = sm.OLS(y, sm.add_constant(np.array(arm)))
    clustered = plain.fit(cov_type="cluster", cov_kwds=kinds)
    parts = users(RATIO_TREATMENT), users(RATIO_CONTROL), "clicks", "views"
    assert cluster_difference(*parts, correction="CR0")[1] == exact(clustered.bse[1]) == printed(".0869626")
    assert cluster_difference(*parts, correction="arm")[1] == exact(clustered.bse[1] * math.sqrt(5 / 4))
    assert cluster_difference(*parts, correction="arm")[1] == printed(".0972272")
    assert plain.fit(cov_type="HC0").bse[1] == printed(".154515")  # what ignoring the users would have said


GOLDEN_CONTROL = Moments.from_sums(["o", "s"], 2023, [0, 0], [1073, 4038], [[2073, 2648], [2648, 10098]])
GOLDEN_TREATMENT = Moments.from_sums(["o", "s"], 1977, [0, 0], [1133, 3920], [[2121, 2730], [2730, 9698]])


def test_golden_orders_per_user() -> None:
    treatment, control = evaluate(GOLDEN_TREATMENT, [Form("o")]), evaluate(GOLDEN_CONTROL, [Form("o")])
    test, relative = difference(treatment, control), lift(treatment, control, "log")
    assert test.estimate == printed(".042690146")
    assert (test.low, test.high) == (printed("-.010800202"), printed(".096180493"))
    assert test.p_value == printed(".11773178")
    assert (relative.low, relative.high) == (printed("-.019515294"), printed(".190688006"))


def test_golden_orders_per_session() -> None:
    form = Form("o", "s")
    treatment, control = evaluate(GOLDEN_TREATMENT, [form]), evaluate(GOLDEN_CONTROL, [form])
    test, relative = difference(treatment, control), lift(treatment, control, "log")
    assert (control.value[0], treatment.value[0]) == (printed(".265725607"), printed(".289030612"))
    assert test.statistic == printed("1.773406267")
    assert test.p_value == printed(".0762376")
    assert (relative.low, relative.high) == (printed("-.008944184"), printed(".193775761"))


def test_golden_sample_ratio() -> None:
    assert shares_test([2023, 1977], [0.5, 0.5]).p_value == printed(".467028")


# R5 CUPED -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theta_of", ["within", "all"])
def test_cuped_theta(theta_of) -> None:  # type: ignore[no-untyped-def]
    arm = Moments.from_rows(["y", "x"], np.column_stack([(2, 1, 5, 3), (0.3, 0.5, 0.9, 22)]))
    theta = cuped({"control": arm, "treatment": arm}, [Form("y"), Form("x")], theta_of).theta
    assert theta[0] == printed(".0186379")


TINY_CONTROL = np.column_stack([(3, 5, 4, 8, 10), (1, 2, 2, 4, 5)]).astype(float)
TINY_TREATMENT = np.column_stack([(4, 7, 6, 9, 14), (1, 3, 2, 3, 6)]).astype(float)


def tiny() -> dict[str, Moments]:
    names = ["y", "x"]
    return {"c": Moments.from_rows(names, TINY_CONTROL), "t": Moments.from_rows(names, TINY_TREATMENT)}


def test_cuped_tiny_unadjusted() -> None:
    plain = cuped(tiny(), [Form("y")])
    test = difference(plain.groups["t"], plain.groups["c"])
    assert (test.estimate, test.std_error) == (exact(2.0), printed("2.144761"))


def test_cuped_tiny_theta_of_all_rows() -> None:
    adjusted = cuped(tiny(), [Form("y"), Form("x")], "all")
    test = difference(adjusted.groups["t"], adjusted.groups["c"])
    assert adjusted.theta[0] == printed("1.927711")
    assert (test.estimate, test.std_error) == (printed("1.614458"), printed(".384298"))


def test_cuped_tiny_theta_within_is_analysis_of_covariance() -> None:
    adjusted = cuped(tiny(), [Form("y"), Form("x")], "within")
    test = difference(adjusted.groups["t"], adjusted.groups["c"])
    assert adjusted.theta[0] == printed("1.895161")
    assert test.estimate == printed("1.620968")
    both = np.vstack([TINY_CONTROL, TINY_TREATMENT])
    fit = sm.OLS(both[:, 0], np.column_stack([np.ones(10), np.repeat([0.0, 1.0], 5), both[:, 1]])).fit()
    assert (test.estimate, adjusted.theta[0]) == (exact(fit.params[1]), exact(fit.params[2]))


def golden(n: float, first: Sequence[float], upper: Sequence[float]) -> Moments:
    """Moments of (o, s, o_pre, s_pre) from the printed sums and the upper triangle of the cross products."""
    second = np.zeros((4, 4))
    second[np.triu_indices(4)] = upper
    second = second + np.triu(second, 1).T
    return Moments.from_sums(["o", "s", "o_pre", "s_pre"], n, np.zeros(4), first, second)


GOLDEN_WITH_COVARIATES = {
    "control": golden(2023, (1073, 4038, 1090, 4031), (2073, 2648, 1691, 2692, 10098, 2715, 9932, 2720, 3701, 13779)),
    "treatment": golden(1977, (1133, 3920, 1006, 3941), (2121, 2730, 1551, 2721, 9698, 2407, 9738, 2380, 3324, 13579)),
}


def test_golden_cuped_orders_per_user() -> None:
    adjusted = cuped(GOLDEN_WITH_COVARIATES, [Form("o"), Form("o_pre")], "all").groups
    test = difference(adjusted["treatment"], adjusted["control"])
    assert test.estimate == printed(".058303893")
    assert (test.low, test.high) == (printed(".01569651"), printed(".100911275"))
    assert test.p_value == printed(".00733041")


def test_golden_cuped_orders_per_session() -> None:
    adjusted = cuped(GOLDEN_WITH_COVARIATES, [Form("o", "s"), Form("o_pre", "s_pre")], "all").groups
    test = difference(adjusted["treatment"], adjusted["control"])
    assert test.estimate == printed(".031734263")
    assert (test.low, test.high) == (printed(".011344477"), printed(".052124049"))
    assert test.statistic == printed("3.051375323")
    assert test.p_value == printed(".002292944")


# R9 sample ratio mismatch -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "shares", "p"),
    [
        ((600, 400), (0.5, 0.5), "2.54e-10"),
        ((821588, 815482), (0.5, 0.5), "1.8e-6"),
        ((1000, 1200), (0.5, 0.5), "2.0079e-5"),
        ((135, 115), (0.5, 0.5), ".205903211"),
        ((310, 98), (0.75, 0.25), ".647434186"),
        ((500, 500, 600), (0.34, 0.33, 0.33), ".000592638"),
        ((0, 10, 10), (0.34, 0.33, 0.33), ".005790624"),
        ((21, 26), (0.5, 0.5), ".465803"),
    ],
)
def test_sample_ratio(counts: Sequence[float], shares: Sequence[float], p: str) -> None:
    assert shares_test(counts, shares).p_value == printed(p)


def test_sample_ratio_statistics() -> None:
    assert shares_test([600, 400], [1, 1]).statistic == exact(40.0)
    assert shares_test([21, 26], [1, 1]).statistic == printed(".531915")
    assert shares_test([600, 400], [1, 1]).expected == (exact(500.0), exact(500.0))


# R10 multiplicity ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "raw", "adjusted"),
    [
        ("bh", ".005 .007 .01 .03 .04 .06", ".02 .02 .02 .045 .048 .06"),
        ("holm", ".005 .007 .01 .03 .04 .06", ".03 .035 .04 .09 .09 .09"),
        ("hochberg", ".005 .007 .01 .03 .04 .06", ".03 .035 .04 .06 .06 .06"),
        ("by", ".005 .007 .01 .03 .04 .06", ".049 .049 .049 .11025 .1176 .147"),
        ("holm", ".01 .04 .03 .005 .55 .6", ".05 .12 .12 .03 1 1"),
        ("bh", ".898 .138 .007 .964 .538 .006 .138", ".964 .2415 .0245 .964 .7532 .0245 .2415"),
    ],
)
def test_adjusted_as_printed(method, raw: str, adjusted: str) -> None:  # type: ignore[no-untyped-def]
    """These decimals are exact products of exact decimals, so only roundings of doubles are left."""
    ours = adjust([float(p) for p in raw.split()], method)
    assert list(ours) == [exact(float(p)) for p in adjusted.split()]


BH_1995 = (
    0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344,
    0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0,
)  # fmt: skip


@pytest.mark.parametrize(("method", "rejected"), [("bh", 4), ("bonferroni", 3), ("holm", 3)])
def test_rejections_of_the_set_of_1995(method, rejected: int) -> None:  # type: ignore[no-untyped-def]
    assert int((adjust(BH_1995, method) <= 0.05).sum()) == rejected


TEN = (
    0.838541367553, 0.642193923795, 0.680845947633, 0.967833824309, 0.71626938238,
    0.177096952723, 5.23656777208e-05, 0.0202732688798, 0.00028140506198, 0.0149877310796,
)  # fmt: skip
LARGEST = 0.967833824309
TEN_ADJUSTED_BY_R = {
    "bonferroni": [1.0] * 6 + [5.2365677720800005e-04, 2.0273268879799999e-01, 2.8140506198e-03, 1.49877310796e-01],
    "holm": [1.0] * 6 + [5.2365677720800005e-04, 1.4191288215860001e-01, 2.5326455578e-03, 1.1990184863680001e-01],
    "hochberg": [LARGEST] * 6 + [5.23656777208e-04, 1.419128821586e-01, 2.5326455578e-03, 1.199018486368e-01],
    "bh": [
        9.3171263061444454e-01, 8.9533672797500008e-01, 8.9533672797500008e-01, LARGEST, 8.9533672797500008e-01,
        3.5419390544599999e-01, 5.2365677720800005e-04, 5.0683172199499998e-02, 1.4070253098999999e-03,
        4.9959103598666670e-02,
    ],
    "by": [1.0] * 6 + [1.5337740764175588e-03, 1.4844940238274187e-01, 4.1211324652269442e-03, 1.4632862843720582e-01],
}  # fmt: skip


@pytest.mark.parametrize("method", TEN_ADJUSTED_BY_R)
def test_ten_p_values_adjusted_by_r(method) -> None:  # type: ignore[no-untyped-def]
    """R's inputs were printed with 12 digits; its results inherit that, hence relative 1e-11."""
    assert list(adjust(TEN, method)) == [pytest.approx(p, rel=1e-11) for p in TEN_ADJUSTED_BY_R[method]]


STATSMODELS_NAMES = {
    "bonferroni": "bonferroni", "holm": "holm", "hochberg": "simes-hochberg", "bh": "fdr_bh", "by": "fdr_by",
}  # fmt: skip


def p_vectors() -> list[np.ndarray]:
    """Families of 1 to 60 tests: uniform, crowded at zero, with ties, with exact 0 and 1."""
    draw = np.random.default_rng(1995)
    vectors = []
    for _ in range(60):
        p = draw.uniform(size=draw.integers(1, 61))
        vectors += [p, p**6, np.round(p, 1), np.concatenate([p, [0.0, 1.0, 1.0]])]
    return vectors


@pytest.mark.parametrize("method", STATSMODELS_NAMES)
def test_parity_with_statsmodels(method, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("gc.collect", lambda: 0)  # statsmodels collects garbage at each call of holm: 20 s here
    for p in p_vectors():
        theirs = multipletests(p, method=STATSMODELS_NAMES[method])[1]
        np.testing.assert_allclose(adjust(p, method), theirs, rtol=1e-12, atol=0)
