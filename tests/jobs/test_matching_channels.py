"""The matching job over several treatments: money, placebos, clusters, folds, trimming, and where there is no error."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from causal_spark import job
from causal_spark.results import ESTIMATE_COLUMNS
from tests.matching_runs import EFFECT, by_logit, config, confounded, only_on_sail, row, size, written


def test_every_treatment_has_its_incremental_value_and_return(several) -> None:
    result, out = several[0].result, several[1]
    assert set(result.estimates["contrast"]) == {"treat", "mail"}
    for name, spend in (("treat", 500.0), ("mail", 100.0)):
        for estimator in ("matching", "ipw"):
            effect = row(result, estimator, contrast=name, outcome="y")
            units = result.diagnostics["sizes"].set_index(["treatment", "estimator"]).loc[(name, estimator), "matched"]
            more = row(result, estimator, "incremental", contrast=name, outcome="y")
            roi = row(result, estimator, "roi", contrast=name, outcome="y")
            assert more.estimate == pytest.approx(effect.estimate * units, rel=1e-12)
            assert more.std_error == pytest.approx(effect.std_error * units, rel=1e-12)
            # What was spent on units without a match is left out with them.
            spent = spend * units / effect.n
            for part in ("estimate", "conf_low", "conf_high"):
                assert roi[part] == pytest.approx((more[part] - spent) / spent, rel=1e-10)
            # The test is of a return of nothing.
            assert roi.statistic == pytest.approx(roi.estimate / roi.std_error, rel=1e-12)
            assert (roi.p_value < 0.05) == (not roi.conf_low <= 0 <= roi.conf_high)
            assert len(result.estimates.query("method == @estimator and outcome == 'quiet' and term == 'roi'")) == 0
    large = {path.name for path in out.iterdir() if path.name.startswith(("pairs", "weights"))}
    assert large == {"pairs_1", "pairs_2", "weights_1", "weights_2"}
    effects = [row(result, "ipw", contrast=name, outcome="y") for name in ("treat", "mail")]
    assert [abs(e.estimate - wanted) < 4 * e.std_error for e, wanted in zip(effects, (1.0, 0.5), strict=True)]


def test_the_estimates_have_the_schema_of_the_suite(several) -> None:
    frame = several[0].result.estimates
    assert tuple(frame.columns) == ESTIMATE_COLUMNS
    assert (frame["segment"] == "all").all()
    assert set(frame["estimand"]) == {"ATT", ""}
    known = frame["estimate"].notna()
    assert known.all()
    assert frame["note"].str.len().gt(0).all()
    assert (frame["conf_low"] <= frame["estimate"]).all()
    assert (frame["estimate"] <= frame["conf_high"]).all()


def test_a_placebo_that_moves_takes_the_trust_away(spark, channels, tmp_path, engine) -> None:
    """A pre-period outcome that depends on a cause left out of the covariates; with the cause it stands still."""
    only_on_sail(engine)
    trusted = {}
    for covariates in (["b", "c"], ["a", "b", "c", "city"]):
        method = {"outcomes": ["y"], "covariates": covariates, "placebo_outcomes": ["quiet"],
                  "estimators": ["matching", "ipw"], "matching": {"caliper": 0.05}, "trim": [0.02, 0.98]}  # fmt: skip
        out = tmp_path / str(len(covariates))
        result = job.run(config(channels[1], out, **method), "matching").result
        checks = result.diagnostics["checks"]
        trusted[len(covariates)] = result.trusted
        moved = checks[checks["code"] == "PLACEBO"].set_index("message")["verdict"]
        assert set(moved) == ({"invalid"} if len(covariates) == 2 else {"pass"})
        assert len(result.estimates.query("outcome == 'quiet' and term != 'difference'")) == 0
        assert "quiet" not in result.diagnostics["sensitivity"]["outcome"].tolist()
    assert trusted == {2: False, 4: True}


def test_clusters_widen_the_errors_as_sums_of_influences_do(spark, tmp_path, engine) -> None:
    """Every row three times, as a cluster: the errors are those of the single rows with G/(G - 1)."""
    only_on_sail(engine)
    frame = confounded(False, 800)
    once = written(frame, tmp_path / "once")
    thrice = pd.concat([frame.assign(id=frame["id"] + f"-{i}", family=frame["id"]) for i in range(3)])
    table = written(thrice, tmp_path / "thrice")
    names = ["ipw", "overlap", "entropy", "aipw"]
    method = {"outcomes": ["y"], "covariates": ["a", "b", "c"], "estimators": names, "folds": 1}
    alone = job.run(config(once, tmp_path / "a", **method), "matching").result
    together = job.run(config(table, tmp_path / "b", cluster="family", **method), "matching").result
    for name in names:
        one, all_three = row(alone, name), row(together, name)
        assert all_three.estimate == pytest.approx(one.estimate, rel=1e-7)
        # Influences are rounded to a millionth of their size.
        assert all_three.std_error == pytest.approx(one.std_error * math.sqrt(800 / 799), rel=1e-5), name


def test_one_cluster_has_no_error(spark, channels, tmp_path, engine) -> None:
    """Its influences add up to nothing: an error of 0 would make anything significant."""
    only_on_sail(engine)
    table = written(channels[0].assign(shop="only"), tmp_path / "t")
    method = {"outcomes": ["y"], "covariates": ["a", "b"], "estimators": ["matching", "ipw"], "cluster": "shop"}
    result = job.run(config(table, tmp_path / "out", **method), "matching").result
    for name in ("matching", "ipw"):
        found = row(result, name)
        assert math.isnan(found.std_error)
        assert math.isnan(found.p_value)
        assert "No standard error" in found.note
    checks = result.diagnostics["checks"].query("code == 'FEW_CLUSTERS'")
    assert checks[["verdict", "count"]].to_numpy().tolist() == [["warn", 1.0]]


def test_one_treated_unit_has_no_error(spark, channels, tmp_path, engine) -> None:
    only_on_sail(engine)
    frame = channels[0].assign(treat=(channels[0].index == 5).astype(int))
    table = written(frame, tmp_path / "t")
    method = {"outcomes": ["y"], "covariates": ["a"], "estimators": ["matching"]}
    result = job.run(config(table, tmp_path / "out", **method), "matching").result
    for name in ("unadjusted", "matching"):
        found = row(result, name)
        assert math.isfinite(found.estimate)
        assert math.isnan(found.std_error)
        assert "No standard error" in found.note


def test_folds_keep_clusters_together_and_fits_away_from_their_rows(spark, channels, tmp_path, engine) -> None:
    only_on_sail(engine)
    method = {"outcomes": ["y"], "covariates": ["a", "b", "c", "city"], "estimators": ["aipw", "dml"]}
    found = {}
    for cluster in (None, "shop"):
        out = tmp_path / str(cluster)
        found[cluster] = job.run(config(channels[1], out, cluster=cluster, **method), "matching").result
    for name in ("aipw", "dml"):
        plain, grouped = (row(found[key], name) for key in (None, "shop"))
        # Shops are random here: other folds move the estimate by a part of its error, and leave the error as it is.
        assert abs(plain.estimate - grouped.estimate) < plain.std_error
        assert grouped.std_error == pytest.approx(plain.std_error, rel=0.35)
        assert abs(plain.estimate - EFFECT) < 4 * plain.std_error
    checks = found["shop"].diagnostics["checks"].query("code == 'FEW_CLUSTERS'")
    assert checks[["verdict", "count"]].to_numpy().tolist() == [["pass", 60.0]]


def test_trimming_by_rule(spark, channels, tmp_path, engine) -> None:
    """Crump et al. and the common range, by their definitions on the propensities of statsmodels."""
    only_on_sail(engine)
    frame, table = channels
    import statsmodels.api as sm

    x = sm.add_constant(frame[["a", "b", "c"]].astype(float))
    e = np.asarray(sm.Logit(frame["treat"], x).fit(disp=0, tol=1e-14).predict(x))
    t = frame["treat"].to_numpy() == 1
    kept_rows = {"minmax": (e >= max(e[t].min(), e[~t].min())) & (e <= min(e[t].max(), e[~t].max()))}
    for rule in ("minmax", "crump"):
        method = {"outcomes": ["y"], "covariates": ["a", "b", "c"], "estimators": ["ipw"], "estimand": "ATE"}
        result = job.run(config(table, tmp_path / rule, trim=rule, **method), "matching").result
        used = size(result, "ipw").used
        if rule == "minmax":
            assert used == kept_rows[rule].sum()
        else:
            values = np.sort(1 / (e * (1 - e)))
            means = np.cumsum(values) / np.arange(1, len(values) + 1)
            best = values[np.flatnonzero(values <= 2 * means)[-1]]
            # The rule is applied to a histogram of 1,000 cells.
            assert used == pytest.approx((1 / (e * (1 - e)) <= best).sum(), abs=0.01 * len(frame))


def test_trimming_reaches_the_estimators_without_a_propensity(spark, channels, tmp_path, engine) -> None:
    """What is left after trimming is a table of its own to them: the same effects as of that table alone."""
    only_on_sail(engine)
    frame, table = channels
    import statsmodels.api as sm

    x = sm.add_constant(frame[["a", "b", "c"]].astype(float))
    e = np.asarray(sm.Logit(frame["treat"], x).fit(disp=0, tol=1e-14).predict(x))
    inside = (e >= 0.2) & (e <= 0.7)
    method = {"outcomes": ["y"], "covariates": ["a", "b", "c"], "estimators": ["dml", "ipw", "cem", "entropy"]}
    ours = job.run(config(table, tmp_path / "all", trim=[0.2, 0.7], **method), "matching").result
    left = written(frame[inside], tmp_path / "left")
    theirs = job.run(config(left, tmp_path / "some", **method), "matching").result
    for name in ("dml", "entropy"):
        one, other = row(ours, name), row(theirs, name)
        assert (one.estimate, one.std_error) == pytest.approx((other.estimate, other.std_error), rel=1e-6), name
    assert size(ours, "entropy").used == inside.sum()
    assert size(ours, "cem").focal == frame["treat"][inside].sum()
    weights = pq.read_table(tmp_path / "all" / "unit_weights").to_pandas().set_index("unit")
    outside = pd.Series(~inside, index=frame["id"]).loc[weights.index]
    assert ((weights["entropy"] == 0) == outside).all()
    assert list(ours.estimates["method"].drop_duplicates())[2:] == ["cem", "dml", "ipw", "entropy"]


def test_money_after_trimming_is_that_of_the_units_compared(spark, channels, tmp_path, engine) -> None:
    """By hand: what was spent on all treated fell on each alike, and on those trimmed or unmatched too."""
    only_on_sail(engine)
    frame, table = channels
    e, treated = by_logit(frame, ["a", "b", "c"]), frame["treat"] == 1
    inside = (treated & (e >= 0.2) & (e <= 0.7)).sum()
    names = ["matching", "cem", "ipw", "aipw"]
    method = {"outcomes": ["y"], "covariates": ["a", "b", "c"], "estimators": names, "trim": [0.2, 0.7],
              "matching": {"caliper": 0.2, "pairs": False}, "spend": {"treat": 500.0}, "value": "y"}  # fmt: skip
    result = job.run(config(table, tmp_path / "out", **method), "matching").result
    assert inside < 0.9 * treated.sum()
    for name in names:
        units = inside if name in ("ipw", "aipw") else size(result, name).matched
        effect, more, roi = (row(result, name, term) for term in ("difference", "incremental", "roi"))
        spent = 500 * units / treated.sum()
        for part in ("estimate", "conf_low", "conf_high"):
            assert more[part] == pytest.approx(effect[part] * units, rel=1e-12), name
            assert roi[part] == pytest.approx((effect[part] * units - spent) / spent, rel=1e-10), name
        assert f"of a spend of {spent:,.0f}." in roi.note


def test_overlap_is_seen_within_a_cell_of_the_propensity(spark, channels, tmp_path, engine) -> None:
    """Of a rare treatment all propensities are below 0.001: 8 of 20 treated are above every control."""
    only_on_sail(engine)
    place = np.arange(400)
    given = np.where(place < 8, 0.0009, 0.0001 + place * 1e-6)
    frame = channels[0].head(400).assign(treat=(place < 20).astype(int), given=given)
    method = {"outcomes": ["y"], "covariates": ["a"], "estimators": ["ipw"], "score": "given"}
    result = job.run(config(written(frame, tmp_path / "t"), tmp_path / "out", **method), "matching").result
    found = result.diagnostics["checks"].query("code == 'OVERLAP'")
    assert found[["verdict", "share"]].to_numpy().tolist() == [["warn", 8 / 20]]
