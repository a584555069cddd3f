"""The whole job on real randomised trials, every estimate against scipy and statsmodels on the same rows.

Four trials that come with packages: vouchers for learning an HIV result (Thornton 2008), a job training programme
(LaLonde 1986, in the sample of Dehejia & Wahba 1999), four treatments of HIV (ACTG 175, Hammer et al. 1996), and the
default of an insurance offer given to whole villages (Cai, de Janvry & Sadoulet 2015).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from causaldata import nsw_mixtape, social_insure, thornton_hiv
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportions_ztest
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from causal_spark import job
from causal_spark.errors import GateError

pytestmark = pytest.mark.engines("sail", "spark")

RTOL = 1e-9
ALPHA = 0.05


@dataclass(frozen=True)
class Trial:
    """A unit table and the method to run on it; ``rows`` has floats where numbers are meant."""

    rows: pd.DataFrame
    method: Mapping[str, Any]

    def metric(self, name: str) -> Mapping[str, Any]:
        return next(metric for metric in self.method["metrics"] if metric["name"] == name)


def numbered(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers as float64, so that the packages compared with compute in the same precision, and a unit key."""
    wide = frame.astype({name: "float64" for name in frame.columns if pd.api.types.is_numeric_dtype(frame[name])})
    return wide.reset_index(drop=True).assign(unit=lambda f: [f"u{i:05d}" for i in range(len(f))])


def observed(arm: pd.Series) -> dict[str, float]:
    """The shares found: the plans of these trials were not equal shares, and did not come with the data."""
    return {str(name): float(share) for name, share in arm.value_counts(normalize=True).items()}


def vouchers() -> Trial:
    rows = numbered(thornton_hiv.load_pandas().data.dropna(subset=["got", "any"]))
    rows["arm"] = rows["any"].map({0.0: "nothing", 1.0: "voucher"})
    rows["hiv"] = rows["hiv2004"].map({-1.0: "unclear", 0.0: "negative", 1.0: "positive"})
    return Trial(
        rows,
        {
            "unit": "unit", "arm": "arm", "control": "nothing", "shares": observed(rows["arm"]), "segments": ["hiv"],
            "min_segment": 20,
            "metrics": [
                {"name": "fetched", "kind": "proportion", "value": "got"},
                {"name": "fetched (adjusted)", "kind": "mean", "value": "got", "covariates": ["distvct", "age"]},
            ],
        },
    )  # fmt: skip


def training() -> Trial:
    rows = numbered(nsw_mixtape.load_pandas().data.drop(columns="data_id"))
    rows["arm"] = rows["treat"].map({0.0: "control", 1.0: "training"})
    rows["worked"] = (rows["re78"] > 0).astype(float)
    return Trial(
        rows,
        {
            "unit": "unit", "arm": "arm", "control": "control", "shares": observed(rows["arm"]),
            "metrics": [
                {"name": "earnings", "kind": "mean", "value": "re78"},
                {"name": "earnings (adjusted)", "kind": "mean", "value": "re78", "covariates": ["re74", "re75"]},
                {"name": "worked", "kind": "proportion", "value": "worked"},
                {"name": "age", "kind": "mean", "value": "age", "role": "diagnostic"},
            ],
        },
    )  # fmt: skip


def drugs() -> Trial:
    rows = numbered(pd.read_csv(str(files("lifelines.datasets").joinpath("ACTG175.csv"))))
    rows["arm"] = rows["arms"].map({0.0: "zdv", 1.0: "zdv+ddi", 2.0: "zdv+zal", 3.0: "ddi"})
    rows["sex"] = rows["gender"].map({0.0: "female", 1.0: "male"})
    return Trial(
        rows,
        {
            "unit": "unit", "arm": "arm", "control": "zdv", "segments": ["sex"],
            "metrics": [
                {"name": "cd4", "kind": "mean", "value": "cd420", "covariates": ["cd40"]},
                {"name": "cd4 of cd8", "kind": "ratio", "numerator": "cd420", "denominator": "cd820"},
                {"name": "failed", "kind": "proportion", "value": "cens"},
                {"name": "cd4 week 96", "kind": "mean", "value": "cd496", "nulls": "drop", "role": "guardrail"},
            ],
        },
    )  # fmt: skip


RICE = {"name": "rice", "kind": "ratio", "numerator": "ricearea_2010", "denominator": "agpop", "nulls": "drop"}


def insurance(correction: str, *ratios: Mapping[str, Any]) -> Trial:
    """Every natural village (``address``) had one default: it is what was randomised."""
    rows = numbered(social_insure.load_pandas().data)
    rows["arm"] = rows["default"].map({0.0: "not to buy", 1.0: "to buy"})
    return Trial(
        rows,
        {
            "unit": "unit", "arm": "arm", "control": "not to buy", "cluster": "address",
            "cluster_correction": correction,
            "metrics": [
                {"name": "insured", "kind": "proportion", "value": "takeup_survey"},
                {"name": "literate", "kind": "mean", "value": "literacy", "nulls": "drop"},
                *ratios,
            ],
        },
    )  # fmt: skip


TRIALS = {
    "vouchers": vouchers(),
    "training": training(),
    "drugs": drugs(),
    "insurance": insurance("arm", RICE),
    "insurance, CR1": insurance("CR1"),
}


@pytest.fixture(scope="module", params=list(TRIALS))
def case(request, spark, tmp_path_factory) -> tuple[Trial, pd.DataFrame]:
    """A trial and the estimates of the job on it."""
    trial = TRIALS[request.param]
    return trial, run(trial, tmp_path_factory.mktemp("trial")).result.estimates


def run(trial: Trial, folder: Path) -> job.Outcome:
    (folder / "units").mkdir()
    trial.rows.to_parquet(folder / "units" / "part-0.parquet", index=False)
    config = {
        "job": "experiment",
        "input": {"units": {"table": str(folder / "units")}},
        "method": trial.method,
        "output": {"path": str(folder / "run")},
        "tracking": {"enabled": False},
    }
    return job.run(config, "experiment")


@dataclass(frozen=True)
class Wanted:
    """What another package says of one row; fields that are None are not compared."""

    estimate: float
    std_error: float
    statistic: float | None = None
    dof: float | None = None
    p_value: float | None = None
    conf_low: float | None = None
    conf_high: float | None = None


@dataclass(frozen=True)
class Arm:
    """The mean of an arm, its standard error, and the observations behind it."""

    mean: float
    error: float
    n: float


def columns_of(metric: Mapping[str, Any]) -> list[str]:
    return [metric[key] for key in ("value", "numerator", "denominator") if key in metric]


def chosen(trial: Trial, metric: Mapping[str, Any], segment: str) -> pd.DataFrame:
    """The rows of a segment that a metric counts."""
    rows = trial.rows
    if segment != "all":
        name, _, value = segment.partition("=")
        rows = rows[rows[name] == value]
    return rows.dropna(subset=columns_of(metric)) if metric.get("nulls") == "drop" else rows


def welch(treatment: np.ndarray, control: np.ndarray) -> Wanted:
    means = CompareMeans(DescrStatsW(treatment), DescrStatsW(control))
    test = stats.ttest_ind(treatment, control, equal_var=False)
    low, high = means.tconfint_diff(alpha=ALPHA, usevar="unequal")
    return Wanted(treatment.mean() - control.mean(), float(means.std_meandiff_separatevar), float(test.statistic),
                  float(test.df), float(test.pvalue), float(low), float(high))  # fmt: skip


def two_proportions(treatment: np.ndarray, control: np.ndarray) -> Wanted:
    counts, sizes = [treatment.sum(), control.sum()], [len(treatment), len(control)]
    statistic, p = proportions_ztest(counts, sizes)
    means = treatment.mean(), control.mean()
    error = math.sqrt(sum(m * (1 - m) / n for m, n in zip(means, sizes, strict=True)))
    half = stats.norm.isf(ALPHA / 2) * error
    gap = means[0] - means[1]
    return Wanted(gap, error, float(statistic), math.inf, float(p), gap - half, gap + half)


def without_covariates(rows: pd.DataFrame, metric: Mapping[str, Any]) -> pd.Series:
    """The outcome less what the covariates predict, with the slopes of the analysis of covariance of all arms."""
    covariates = rows[list(metric["covariates"])].fillna(0.0)
    design = pd.get_dummies(rows["arm"]).astype(float).join(covariates)
    slopes = sm.OLS(rows[metric["value"]], design).fit().params[list(covariates)]
    return rows[metric["value"]] - (covariates - covariates.mean()) @ slopes


def residual_of_ratio(rows: pd.DataFrame, metric: Mapping[str, Any]) -> pd.Series:
    """A ratio as a mean of units: its value, and the linearised deviation of every unit from it."""
    top, bottom = rows[metric["numerator"]], rows[metric["denominator"]]
    ratio = top.sum() / bottom.sum()
    return ratio + (top - ratio * bottom) / bottom.mean()


def of_clusters(rows: pd.DataFrame, metric: Mapping[str, Any], cluster: str, arms: tuple[str, str], correction: str
                ) -> tuple[Wanted, Arm, Arm]:  # fmt: skip
    """Least squares on the units with standard errors robust to clusters; a ratio weights units by its denominator."""
    pair = [rows[rows["arm"] == arm] for arm in arms]
    both = pd.concat(pair)
    ratio = metric["kind"] == "ratio"
    y = both[metric["numerator"]] / both[metric["denominator"]] if ratio else both[metric["value"]]
    weight = both[metric["denominator"]] if ratio else pd.Series(1.0, index=both.index)
    single = [clustered(y[p.index], np.ones(len(p)), weight[p.index], p[cluster]) for p in pair]
    t, c = (Arm(fit.params.iloc[0], fit.bse.iloc[0], p[cluster].nunique()) for fit, p in zip(single, pair, strict=True))
    if correction == "CR1":
        treated = sm.add_constant((both["arm"] == arms[0]).astype(float))
        fit = clustered(y, treated, weight, both[cluster])
        groups, n = both[cluster].nunique(), len(both)
        scale = math.sqrt(groups / (groups - 1) * (n - 1) / (n - 2))
        # clustered() of one arm has the factor G_a/(G_a - 1), which CR1 puts in over both arms instead
        t, c = (replace(arm, error=arm.error * scale * math.sqrt((arm.n - 1) / arm.n)) for arm in (t, c))
        return Wanted(fit.params.iloc[1], fit.bse.iloc[1], fit.tvalues.iloc[1], groups - 1), t, c
    error = math.hypot(t.error, c.error)
    return Wanted(t.mean - c.mean, error, (t.mean - c.mean) / error), t, c


def clustered(y: pd.Series, x: Any, weight: pd.Series, groups: pd.Series) -> Any:
    return sm.WLS(y, x, weights=weight).fit(cov_type="cluster", cov_kwds={"groups": pd.factorize(groups)[0]})


def lift(difference: Wanted, t: Arm, c: Arm, dof: float, p_value: float | None) -> Wanted:
    """Relative change; the interval by its definition: all ρ for which (1 + ρ)·control is not rejected."""
    q = stats.norm.isf(ALPHA / 2) if math.isinf(dof) else stats.t.isf(ALPHA / 2, dof)
    # (m_t - r m_c)² = q² (v_t + r² v_c), a quadratic in r = 1 + ρ
    roots = np.roots([c.mean**2 - (q * c.error) ** 2, -2 * t.mean * c.mean, t.mean**2 - (q * t.error) ** 2])
    slope = np.array([1 / c.mean, -t.mean / c.mean**2])
    error = math.sqrt(float(slope**2 @ np.array([t.error**2, c.error**2])))
    return Wanted(t.mean / c.mean - 1, error, difference.statistic, dof, p_value, min(roots) - 1, max(roots) - 1)


def satterthwaite(t: Arm, c: Arm) -> float:
    """Degrees of freedom of the difference of two independent means (Welch 1947)."""
    a, b = t.error**2, c.error**2
    return (a + b) ** 2 / (a**2 / (t.n - 1) + b**2 / (c.n - 1))


def wanted(trial: Trial, row: pd.Series) -> Wanted:
    """The row of ``estimates`` by other means."""
    metric = trial.metric(row.outcome)
    arms = tuple(row.contrast.split(" vs "))
    rows = chosen(trial, metric, row.segment)
    if row.method == "cluster":
        found, t, c = of_clusters(rows, metric, trial.method["cluster"], arms, trial.method["cluster_correction"])
        if row.term == "difference":
            return found
        dof = satterthwaite(t, c) if found.dof is None else found.dof
        return lift(replace(found, statistic=None), t, c, dof, None)
    if row.method == "cuped":
        values = without_covariates(rows, metric)
        t_values, c_values = (values[rows["arm"] == arm].to_numpy() for arm in arms)
    elif row.method == "delta":
        t_values, c_values = (residual_of_ratio(rows[rows["arm"] == arm], metric).to_numpy() for arm in arms)
    else:
        t_values, c_values = (rows.loc[rows["arm"] == arm, metric["value"]].to_numpy() for arm in arms)
    found = two_proportions(t_values, c_values) if row.method == "z" else welch(t_values, c_values)
    if row.term == "difference":
        return found
    ddof = 0 if row.method == "z" else 1
    t, c = (Arm(x.mean(), x.std(ddof=ddof) / math.sqrt(len(x)), len(x)) for x in (t_values, c_values))
    return lift(found, t, c, math.inf if row.method == "z" else found.dof or math.nan, found.p_value)


def test_every_estimate_equals_scipy_and_statsmodels(case) -> None:
    compare(*case)


def compare(trial: Trial, estimates: pd.DataFrame) -> None:
    for _, row in estimates[estimates["n"].notna()].iterrows():
        expected = wanted(trial, row)
        for name, value in vars(expected).items():
            if value is not None:
                place = (row.outcome, row.segment, row.contrast, row.term, row.method, name)
                assert row[name] == pytest.approx(value, rel=RTOL), place


def test_cr1_of_a_ratio_counts_units(spark, tmp_path) -> None:
    """(N - 1)/(N - 2) with N the units, as in weighted least squares: denominators may sum to anything."""
    trial = insurance("CR1", RICE)
    compare(trial, run(trial, tmp_path).result.estimates)


def test_with_cr1_the_lift_has_the_test_of_its_difference(spark, tmp_path) -> None:
    found = run(insurance("CR1"), tmp_path).result.estimates.set_index(["outcome", "term"])
    pair = [found.loc[("insured", term), "p_value"] for term in ("difference", "lift")]
    assert pair[0] == pytest.approx(pair[1], rel=RTOL)


def test_every_metric_segment_and_contrast_is_there(case) -> None:
    """Nothing of the trial is missing from the comparison above."""
    trial, estimates = case
    control = trial.method["control"]
    segments = {"all"} | {
        f"{name}={value}" for name in trial.method.get("segments", ()) for value in trial.rows[name].unique()
    }
    contrasts = {f"{arm} vs {control}" for arm in trial.rows["arm"].unique() if arm != control}
    found = set(map(tuple, estimates[["outcome", "segment", "contrast", "term"]].to_numpy()))
    small = estimates["n"].isna()
    assert set(estimates.loc[small, "segment"]) == ({"hiv=unclear"} if "hiv=unclear" in segments else set())
    assert estimates.loc[small, "note"].str.startswith("Suppressed").all()
    assert estimates.loc[~small, "estimate"].notna().all()
    assert found == {
        (metric["name"], segment, contrast, term)
        for metric in trial.method["metrics"]
        for segment in segments for contrast in contrasts for term in ("difference", "lift")
    }  # fmt: skip


def test_adjusted_p_values_are_those_of_statsmodels(case) -> None:
    """Holm's, over success metrics, once for all units and once for the segments."""
    trial, estimates = case
    success = [m["name"] for m in trial.method["metrics"] if m.get("role", "success") == "success"]
    main = estimates[estimates["outcome"].isin(success) & (estimates["term"] == "difference")]
    twins = main.duplicated(["outcome", "segment", "contrast"], keep=False) & (main["method"] != "cuped")
    main = main[~twins]
    for overall in (True, False):
        family = main[((main["segment"] == "all") == overall) & main["p_value"].notna()]
        if len(family):
            adjusted = multipletests(family["p_value"], method="holm")[1]
            np.testing.assert_allclose(family["p_adjusted"], adjusted, rtol=RTOL)
    assert main.loc[main["p_value"].isna(), "p_adjusted"].isna().all()
    others = estimates.drop(main.index)
    assert others.loc[others["term"] == "difference", "p_adjusted"].isna().all()


def test_published_effect_of_the_training(spark, tmp_path) -> None:
    """On earnings of 1978 in the experiment: 1,794 dollars (Dehejia & Wahba 1999)."""
    found = run(TRIALS["training"], tmp_path).result.estimates.set_index(["outcome", "term", "method"])
    earnings = found.loc[("earnings", "difference", "welch")]
    assert earnings.estimate == pytest.approx(1794.342, abs=5e-4)
    assert earnings.std_error == pytest.approx(670.997, abs=5e-4)


def test_villages_of_a_trial_within_villages_are_no_clusters(spark, tmp_path) -> None:
    """Vouchers were drawn by each person: every village holds both arms, so it cannot be what was randomised."""
    trial = TRIALS["vouchers"]
    with pytest.raises(GateError) as refused:
        run(Trial(trial.rows.dropna(subset=["villnum"]), {**trial.method, "cluster": "villnum"}), tmp_path)
    assert "UNIT_IN_TWO_ARMS" in refused.value.text("en")
    assert not (tmp_path / "run").exists()
