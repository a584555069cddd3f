"""The matching job on LaLonde's data: what MatchIt and WeightIt print, and numpy and statsmodels on the same rows."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from tests.matching_runs import LALONDE, LARGEST, RTOL, balance, by_logit, kept, only_on_sail, pairs_of, row, size


def test_greedy_matching_without_replacement(on_lalonde, engine) -> None:
    """MatchIt's first example: 185 pairs, the control means and standardised differences of its vignette."""
    only_on_sail(engine)
    result, out = on_lalonde(matching=LARGEST)
    found = row(result, "matching")
    assert found.estimate == pytest.approx(894.3674802702703, rel=1e-12)
    assert (size(result, "matching").matched, found.estimand) == (185, "ATT")
    after = balance(result, "matching")["smd"]
    assert [round(after[name], 4) for name in ("age", "educ")] == [0.0718, -0.1290]
    assert len(kept(out, "pairs")) == 185


def test_the_nearest_on_either_side_as_in_matchit(on_lalonde, engine) -> None:
    only_on_sail(engine)
    result, _ = on_lalonde(covariates=["age", "educ"], matching=LARGEST)
    after = balance(result, "matching")
    assert after["smd"].round(4).to_dict() == {"age": -0.0068, "educ": 0.0296}
    assert after["variance_ratio"].round(4).to_dict() == {"age": 1.0300, "educ": 0.5886}


def test_a_caliper_in_standard_deviations_of_all_rows(on_lalonde, lalonde) -> None:
    """113 pairs; they are those of a plain loop over the treated, the highest propensity first."""
    result, out = on_lalonde(matching={**LARGEST, "caliper": 0.2})
    found = row(result, "matching")
    assert found.estimate == pytest.approx(1571.744454424779, rel=1e-12)
    assert found.std_error == pytest.approx(999.4230460315907, rel=1e-10)
    assert size(result, "matching").matched == len(kept(out, "pairs")) == 113
    e = by_logit(lalonde, LALONDE)
    assert size(result, "matching").caliper == pytest.approx(0.2 * e.std(ddof=1), rel=1e-9)
    assert pairs_of(out) == by_loop(lalonde, e, 0.2 * e.std(ddof=1))
    weights = kept(out, "weights")
    assert weights["weight"].tolist() == [1.0] * 226
    assert set(weights["unit"]) == {name for pair in pairs_of(out) for name in pair}


def by_loop(frame: pd.DataFrame, e: np.ndarray, caliper: float) -> list[tuple[str, str]]:
    e = np.round(e * 2**44) / 2**44  # of equal covariates equal propensities
    treated, free = (frame["treat"] == 1).to_numpy(), (frame["treat"] == 0).to_numpy()
    pairs = []
    for i in sorted(np.flatnonzero(treated), key=lambda i: (-e[i], i)):
        candidates = sorted((abs(e[i] - e[j]), e[j], j) for j in np.flatnonzero(free))
        if candidates and candidates[0][0] <= caliper:
            free[candidates[0][2]] = False
            pairs.append((frame["id"][i], frame["id"][candidates[0][2]]))
    return sorted(pairs)


def test_mahalanobis_with_replacement_averages_ties(on_lalonde, lalonde, engine) -> None:
    """The control means of MatchIt, which takes the first of ties; one of the ties differs in age."""
    only_on_sail(engine)
    names = ["age", "educ", "race", "married", "nodegree", "re74", "re75"]
    result, _ = on_lalonde(covariates=names, matching={"distance": "mahalanobis", "replace": True})
    assert row(result, "matching").estimate == pytest.approx(382.90247286486476, rel=1e-12)
    means = balance(result, "matching")["mean_control"]
    published = {"educ": 10.427027027, "re74": 1788.69409086, "re75": 1087.74195557}
    assert means[list(published)].to_dict() == pytest.approx(published, rel=1e-9)
    near = nearest_by_covariates(pd.get_dummies(lalonde[names], columns=["race"]).astype(float), lalonde["treat"] == 1)
    age = lalonde[lalonde["treat"] == 0]["age"].to_numpy()
    assert age[near.argmax(axis=1)].mean() == pytest.approx(25.540540540540, rel=1e-12)
    assert means["age"] == pytest.approx((near @ age / near.sum(axis=1)).mean(), rel=1e-12)


def nearest_by_covariates(x: pd.DataFrame, treated: pd.Series) -> np.ndarray:
    """Which controls are nearest to each treated row, by all distances and the covariance within the arms."""
    parts = [x[treated == arm] for arm in (0, 1)]
    within = sum(np.cov(part.T) * (len(part) - 1) for part in parts) / (len(x) - 2)
    gap = parts[1].to_numpy()[:, None] - parts[0].to_numpy()
    distance = np.einsum("ijp,pq,ijq->ij", gap, np.linalg.pinv(within), gap)
    return distance <= distance.min(axis=1, keepdims=True) + 1e-9


def test_weights_for_the_treated(on_lalonde) -> None:
    """WeightIt 1214 (798) and 1273, to all digits of the stacked estimating equations and of the dual."""
    result, _ = on_lalonde(estimators=["ipw", "entropy"])
    found = row(result, "ipw")
    assert found.estimate == pytest.approx(1214.0712232911937, rel=RTOL)
    assert found.std_error == pytest.approx(798.154627831616, rel=1e-8)
    assert size(result, "ipw").ess == pytest.approx(99.81538591585593, rel=RTOL)
    assert row(result, "entropy").estimate == pytest.approx(1273.26181390478, rel=RTOL)
    assert size(result, "entropy").ess == pytest.approx(98.4578344265694, rel=RTOL)
    assert balance(result, "entropy")["smd"].abs().max() < 1e-8


def test_weights_for_everybody(on_lalonde, lalonde, engine) -> None:
    only_on_sail(engine)
    result, _ = on_lalonde(estimand="ATE", estimators=["ipw", "entropy"])
    # The effective size told is the smaller of the two groups': 58.327 of the treated (329.008 of the controls).
    assert size(result, "ipw").ess == pytest.approx(58.32666073982529, rel=RTOL)
    e, t = by_logit(lalonde, LALONDE), lalonde["treat"].to_numpy()
    w = np.where(t == 1, 1 / e, 1 / (1 - e))
    y = lalonde["re78"].to_numpy()
    hajek = np.average(y[t == 1], weights=w[t == 1]) - np.average(y[t == 0], weights=w[t == 0])
    assert row(result, "ipw").estimate == pytest.approx(hajek, rel=1e-8)


def test_balance_before_is_that_of_matchit(on_lalonde) -> None:
    result, _ = on_lalonde(estimators=["ipw", "entropy"])
    before = balance(result, "unadjusted")
    published = {"age": -0.3094, "educ": 0.0550, "black": 1.7615, "hispan": -0.3498, "married": -0.8263,
                 "nodegree": 0.2450, "re74": -0.7211, "re75": -0.2903}  # fmt: skip
    assert before["smd"].round(4).to_dict() == published
    shown = before.loc[["age", "educ", "re74", "re75"]]
    assert shown["variance_ratio"].round(4).tolist() == [0.4400, 0.4959, 0.5181, 0.9563]
    assert shown["ks"].round(4).tolist() == [0.1577, 0.1114, 0.4470, 0.2876]
    assert shown["ecdf_mean"].round(4).tolist()[:2] == [0.0813, 0.0347]
    # Of a column of more than 64 values the mean is over so many quantiles of it.
    assert shown["ecdf_mean"].tolist()[2:] == pytest.approx([0.2248, 0.1342], abs=5e-3)


def test_sensitivity_of_every_effect(on_lalonde, lalonde) -> None:
    """E-values of VanderWeele & Ding (RR ≈ exp(0.91 d)) and the robustness value of Cinelli & Hazlett."""
    import statsmodels.api as sm

    result, _ = on_lalonde(estimators=["ipw", "entropy"])
    table = result.diagnostics["sensitivity"].set_index("estimator")
    deviation = lalonde[lalonde["treat"] == 0]["re78"].std(ddof=1)
    for name in ("ipw", "entropy"):
        found = row(result, name)
        ratio = math.exp(0.91 * found.estimate / deviation)
        assert table.loc[name, "e_value"] == pytest.approx(ratio + math.sqrt(ratio * (ratio - 1)), rel=1e-9)
        assert found.conf_low < 0
        assert table.loc[name, "e_value_limit"] == 1
    x = sm.add_constant(lalonde[["treat", *LALONDE]].astype(float))
    ols = sm.OLS(lalonde["re78"], x).fit()
    found = row(result, "regression")
    assert (found.estimate, found.std_error) == pytest.approx((ols.params["treat"], ols.bse["treat"]), rel=1e-9)
    f = abs(ols.tvalues["treat"]) / math.sqrt(ols.df_resid)
    assert table.loc["regression", "partial_r2"] == pytest.approx(f**2 / (1 + f**2), rel=1e-8)
    assert table.loc["regression", "robustness_value"] == pytest.approx(
        0.5 * (math.sqrt(f**4 + 4 * f**2) - f**2), rel=1e-8
    )
    assert "unadjusted" not in table.index


def test_the_unadjusted_difference_is_welch(on_lalonde, lalonde) -> None:
    result, _ = on_lalonde(estimators=["ipw", "entropy"])
    found = row(result, "unadjusted")
    parts = [lalonde[lalonde["treat"] == arm]["re78"] for arm in (0, 1)]
    assert found.estimate == pytest.approx(parts[1].mean() - parts[0].mean(), rel=RTOL)
    assert found.std_error == pytest.approx(math.sqrt(sum(p.var() / len(p) for p in parts)), rel=RTOL)
    assert found.note


def test_gamma_of_the_signed_ranks_of_the_pairs(on_lalonde, lalonde) -> None:
    """At Γ the upper bound of Wilcoxon's p is alpha (Rosenbaum 2002, §4.3.3); a dash if it is not significant."""
    from causal_spark.solve import sensitivity

    result, out = on_lalonde(matching={**LARGEST, "caliper": 0.2})
    y = lalonde.set_index("id")["re78"]
    pairs = kept(out, "pairs")
    gap = y[pairs["treated_id"]].to_numpy() - y[pairs["control_id"]].to_numpy()
    found = result.diagnostics["sensitivity"].set_index("estimator").loc["matching", "gamma"]
    ranks = sensitivity.signed_ranks(gap if row(result, "matching").estimate >= 0 else -gap)
    if math.isnan(found):
        assert sensitivity.signed_rank_p(ranks) > 0.05
    else:
        assert sensitivity.signed_rank_p(ranks, found) == pytest.approx(0.05, rel=1e-6)


def test_gamma_of_pairs_that_differ(on_lalonde, lalonde, engine) -> None:
    """Earnings before, which the groups do not share: by ranks; whether there were any: McNemar, by signs."""
    from causal_spark.solve import sensitivity

    only_on_sail(engine)
    result, out = on_lalonde(outcomes=["earned74", "worked74"], covariates=["age", "educ"], matching=LARGEST)
    data, pairs = lalonde.set_index("id"), kept(out, "pairs")
    table = result.diagnostics["sensitivity"].query("estimator == 'matching'").set_index("outcome")["gamma"]
    gaps = {
        name: data[name][pairs["control_id"]].to_numpy() - data[name][pairs["treated_id"]].to_numpy()
        for name in table.index
    }
    assert row(result, "matching", outcome="earned74").estimate < 0
    ranks = sensitivity.signed_ranks(gaps["earned74"])
    assert table["earned74"] == pytest.approx(sensitivity.signed_rank_gamma(ranks), rel=1e-9)
    less, more = ((sign * gaps["worked74"] > 0).sum() for sign in (1, -1))
    assert table["worked74"] == pytest.approx(sensitivity.mcnemar_gamma(int(less), int(more)), rel=1e-9)
    assert (table > 1.2).all()


def test_one_pair_table_row_and_weight_for_every_match(on_lalonde, lalonde, engine) -> None:
    """Ratio 2 with replacement, for everybody: effects and sums of weights from the two tables."""
    only_on_sail(engine)
    result, out = on_lalonde(estimand="ATE", matching={"replace": True, "ratio": 2}, estimators=["matching"])
    pairs, weights = kept(out, "pairs"), kept(out, "weights").set_index("unit")["weight"]
    y = lalonde.set_index("id")["re78"]
    gap = y[pairs["treated_id"]].to_numpy() - y[pairs["control_id"]].to_numpy()
    found = row(result, "matching")
    assert pairs["weight"].sum() == pytest.approx(614, rel=1e-12)
    assert (gap * pairs["weight"]).sum() / 614 == pytest.approx(found.estimate, rel=1e-9)
    t = lalonde.set_index("id")["treat"][weights.index]
    means = [np.average(y[weights.index][t == arm], weights=weights[t == arm]) for arm in (0, 1)]
    assert means[1] - means[0] == pytest.approx(found.estimate, rel=1e-9)
    assert [weights[t == arm].sum() for arm in (0, 1)] == pytest.approx([614, 614], rel=1e-12)
    assert found.n == 614


def test_unit_weights_give_the_weighted_effects(on_lalonde, lalonde, engine) -> None:
    """A row for every unit; weighted means of both arms differ by the estimate, and trimmed units weigh nothing."""
    only_on_sail(engine)
    result, out = on_lalonde(estimators=["ipw", "overlap", "entropy"], trim=[0.05, 0.9])
    weights = kept(out, "unit_weights").set_index("unit")
    data = lalonde.set_index("id").loc[weights.index]
    assert len(weights) == len(lalonde)
    assert (weights["treated"] == data["treat"]).all()
    for name in ("ipw", "overlap", "entropy"):
        w, treated = weights[name], data["treat"] == 1
        means = [np.average(data["re78"][arm], weights=w[arm]) for arm in (treated, ~treated)]
        assert means[0] - means[1] == pytest.approx(row(result, name).estimate, rel=1e-9)
    e = by_logit(lalonde, LALONDE)
    outside = pd.Series((e < 0.05) | (e > 0.9), index=lalonde["id"]).loc[weights.index]
    assert ((weights["ipw"] == 0) == outside).all()
    assert outside.any()
