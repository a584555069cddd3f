# Databricks notebook source
# MAGIC %md
# MAGIC # Experiments
# MAGIC
# MAGIC Can I trust this experiment, what moved, by how much, how sure are we? Three randomised trials whose data come with
# MAGIC packages, a simulated shop, and then one part of the platform after the other on drawn data, whose true effects are known:
# MAGIC quantiles, resampling, ranks, Bayes, CUPAC, strata, decisions, a plan of several looks, triggered units, interactions,
# MAGIC novelty, a switchback. The method's page is `docs/experiment.md`.
# MAGIC
# MAGIC Each part has three steps: say what is asked (a dictionary with the keys of `conf/experiment.yml`), run the job, look.
# MAGIC
# MAGIC The folder takes the data and the results. On Databricks it is a folder in a Unity Catalog volume; left empty, it is a
# MAGIC temporary folder, which suits a laptop. A result folder holds one run: the same run again is not computed again, and a
# MAGIC run with other settings needs another folder.

# COMMAND ----------

# MAGIC %pip install --quiet .. causaldata lifelines

# COMMAND ----------

# MAGIC %restart_python

# COMMAND ----------

import tempfile
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
from causaldata import nsw_mixtape, thornton_hiv

from causal_spark import job, simulate

# COMMAND ----------

dbutils.widgets.text("folder", "/Volumes/main/causal_spark/scratch/notebook", "Folder for data and results")
dbutils.widgets.dropdown("language", "en", ["en", "zh"], "Language of the report")
dbutils.widgets.text("users", "50000", "Users of the simulated parts")

# COMMAND ----------

folder = dbutils.widgets.get("folder") or tempfile.mkdtemp(prefix="causal_spark_")
report = {"language": dbutils.widgets.get("language")}
for name in ("vouchers", "training", "drugs"):
    Path(folder, "data", name).mkdir(parents=True, exist_ok=True)

# COMMAND ----------

# MAGIC %md
# MAGIC ## 1. Does money bring people to learn their HIV result?
# MAGIC
# MAGIC Malawi, 2004: people drew a voucher, worth something or nothing, for coming to fetch the result of a test
# MAGIC (Thornton 2008). One row for each person who drew; `got` is 1 for those who came.
# MAGIC
# MAGIC The planned shares did not come with the data. The shares that were found stand in for them, so the check of the
# MAGIC sample ratio can find nothing here. In an experiment of your own, give the shares that were planned.

# COMMAND ----------

people = thornton_hiv.load_pandas().data.dropna(subset=["got", "any"]).reset_index(names="person")
people["arm"] = people["any"].map({0.0: "nothing", 1.0: "voucher"})
people.to_parquet(f"{folder}/data/vouchers/part-0.parquet", index=False)

vouchers = {
    "job": "experiment",
    "input": {"units": {"table": f"{folder}/data/vouchers"}},
    "method": {
        "unit": "person",
        "arm": "arm",
        "control": "nothing",
        "shares": people["arm"].value_counts(normalize=True).to_dict(),
        "metrics": [{"name": "fetched", "kind": "proportion", "value": "got"}],
    },
    "output": {"path": f"{folder}/vouchers"},
    "report": {**report, "title": "Vouchers for learning an HIV result"},
}

# COMMAND ----------

outcome = job.run(vouchers, "experiment")
print("trusted:", outcome.manifest["trusted"], "| report:", f"{folder}/vouchers/report.html")

# COMMAND ----------

display(spark.read.parquet(f"{folder}/vouchers/estimates"))

# COMMAND ----------

# MAGIC %md
# MAGIC Without a voucher a third came. With one it was 45 percentage points more.

# COMMAND ----------

# MAGIC %md
# MAGIC ## 2. Does training raise earnings?
# MAGIC
# MAGIC The National Supported Work programme of the 1970s (LaLonde 1986; the 445 men of Dehejia & Wahba 1999). `re78` are the
# MAGIC earnings after it, in dollars; `re74` and `re75`, from before it, are the covariates of CUPED. Few units and heavy tails:
# MAGIC the check `HOT_KEY` says that one person has more than a hundredth of all earnings.

# COMMAND ----------

men = nsw_mixtape.load_pandas().data.astype({"re74": "float64", "re75": "float64", "re78": "float64"})
men = men.reset_index(names="person")
men["arm"] = men["treat"].map({0: "control", 1: "training"})
men.to_parquet(f"{folder}/data/training/part-0.parquet", index=False)

training = {
    "job": "experiment",
    "input": {"units": {"table": f"{folder}/data/training"}},
    "method": {
        "unit": "person",
        "arm": "arm",
        "control": "control",
        "shares": men["arm"].value_counts(normalize=True).to_dict(),
        "metrics": [{"name": "earnings", "kind": "mean", "value": "re78", "covariates": ["re74", "re75"]}],
    },
    "output": {"path": f"{folder}/training"},
    "report": {**report, "title": "Training and earnings"},
}

# COMMAND ----------

outcome = job.run(training, "experiment")
print("trusted:", outcome.manifest["trusted"], "|", *outcome.manifest["notes"])

# COMMAND ----------

display(spark.read.parquet(f"{folder}/training/estimates"))

# COMMAND ----------

# MAGIC %md
# MAGIC Row `welch` is the plain difference of the means, 1,794 dollars; row `cuped` is adjusted for past earnings. Past
# MAGIC earnings say little about later ones here, so the adjustment narrows the interval hardly at all.
# MAGIC
# MAGIC Another significance level needs no new run. `resolve` solves the statistics that were kept, and reads no table.

# COMMAND ----------

job.resolve(f"{folder}/training", {"alpha": 0.01}, f"{folder}/training-99")
display(spark.read.parquet(f"{folder}/training-99/estimates"))

# COMMAND ----------

# MAGIC %md
# MAGIC ## 3. Four treatments at once
# MAGIC
# MAGIC ACTG 175 (Hammer et al. 1996): zidovudine alone against three others. Metrics are the CD4 count at week 20 with the
# MAGIC count at the start as covariate, and whether the disease progressed. Three arms against the control and two success
# MAGIC metrics are six tests, which Holm's correction takes together.

# COMMAND ----------

patients = pd.read_csv(str(files("lifelines.datasets").joinpath("ACTG175.csv")))
patients["arm"] = patients["arms"].map({0: "zdv", 1: "zdv+ddi", 2: "zdv+zal", 3: "ddi"})
patients["sex"] = patients["gender"].map({0: "female", 1: "male"})
columns = ["pidnum", "arm", "sex", "cd40", "cd420", "cens"]
patients[columns].to_parquet(f"{folder}/data/drugs/part-0.parquet", index=False)

drugs = {
    "job": "experiment",
    "input": {"units": {"table": f"{folder}/data/drugs"}},
    "method": {
        "unit": "pidnum",
        "arm": "arm",
        "control": "zdv",
        "metrics": [
            {"name": "cd4", "kind": "mean", "value": "cd420", "covariates": ["cd40"]},
            {"name": "progressed", "kind": "proportion", "value": "cens"},
        ],
        "segments": ["sex"],
    },
    "output": {"path": f"{folder}/drugs"},
    "report": {**report, "title": "ACTG 175"},
}

# COMMAND ----------

outcome = job.run(drugs, "experiment")
display(spark.read.parquet(f"{folder}/drugs/estimates"))

# COMMAND ----------

# MAGIC %md
# MAGIC ## 4. A shop, from its events
# MAGIC
# MAGIC The other form of input: one row for each exposure and one for each event, with filters for what counts. The job makes
# MAGIC the unit table by itself, and the same metrics from before the exposure become covariates. The true effects come from
# MAGIC the generating model, not from the draw.

# COMMAND ----------

shop = simulate.shop_experiment(int(dbutils.widgets.get("users")))
simulate.write(shop, f"{folder}/data/shop")
bought = [{"column": "type", "value": "purchase"}]

events = {
    "job": "experiment",
    "input": {
        "exposures": {"table": f"{folder}/data/shop/exposures"},
        "events": {"table": f"{folder}/data/shop/events"},
    },
    "method": {
        "unit": "user_id",
        "arm": "variant",
        "control": "control",
        "shares": {"control": 0.5, "treatment": 0.5},
        "time": "ts",
        "pre_days": 28,
        "by_day": 10,
        "metrics": [
            {"name": "orders", "kind": "count", "where": bought},
            {"name": "revenue", "kind": "revenue", "value": "amount", "where": bought},
            {"name": "retained", "kind": "retention", "days": [7, 14], "role": "guardrail",
             "test": "non-inferiority", "margin": {"relative": 0.05}},
        ],
        "decision": {"needs": "any"},
    },
    "output": {"path": f"{folder}/shop"},
    "report": {**report, "title": "Shop (simulated)"},
}

# COMMAND ----------

outcome = job.run(events, "experiment")
display(pd.DataFrame(shop.truth)[["orders", "revenue", "retained"]].T.reset_index(names="truth"))
display(spark.read.parquet(f"{folder}/shop/estimates"))

# COMMAND ----------

# MAGIC %md
# MAGIC A rule was declared: ship if one of the success metrics wins and retention is shown to be no more than 5 % below the control.
# MAGIC A run at its planned end says ship or stop; one under a plan of several looks (`method.sequential`) may also say: keep testing.

# COMMAND ----------

display(spark.read.parquet(f"{folder}/shop/margins"))
display(spark.read.parquet(f"{folder}/shop/decision"))

# COMMAND ----------

# MAGIC %md
# MAGIC **Does the effect last?** `by_day` looks at each day since exposure, and the table `novelty` at the slope of the effect over
# MAGIC stretches of days, among users who have been there for all of them. Read its sign against that of the effect: against it, the
# MAGIC effect fades (novelty), as it was made to here; with it, it grows (learning). It assumes that those who came early are like
# MAGIC those who came late. `flagged` asks for p < 0.001 after correction, so that an alarm means something.

# COMMAND ----------

novelty = pd.read_parquet(f"{folder}/shop/novelty")
display(novelty[["outcome", "stretches", "stretch_days", "mean_effect", "slope", "conf_low", "conf_high", "flagged"]])

# COMMAND ----------

# MAGIC %md
# MAGIC ## 5. One table, many questions
# MAGIC
# MAGIC From here on the data are drawn below, so every answer can be held against the truth. A new checkout raises what users
# MAGIC spend by 6 % (skewed: a few spend a lot), visits by 0.2 each, and the share of buyers by a percentage point; pages load half
# MAGIC a millisecond later. Who visits often depends on age, but in a valley: the young and the old do.

# COMMAND ----------

size = int(dbutils.widgets.get("users"))
draw = np.random.default_rng(11)
users = pd.DataFrame({"user": np.arange(size), "variant": draw.choice(["control", "new"], size)})
new = (users["variant"] == "new").to_numpy()
users["country"] = draw.choice(["DE", "FR", "US"], size, p=[0.5, 0.3, 0.2])
users["age"], users["tenure"] = draw.integers(18, 75, size), draw.exponential(2, size).round(2)
taste = 3 + 0.6 * draw.normal(size=size)
users["spent_before"] = np.exp(taste + 0.4 * draw.normal(size=size)).round(2)
users["spent"] = np.exp(taste + 0.5 * draw.normal(size=size)) * (1 + 0.06 * new) + 8 * (users["country"] == "US")
users["visits"] = draw.poisson(2 + (users["age"] - 46) ** 2 / 100 + 0.2 * new)
users["bought"] = (draw.random(size) < 0.2 + 0.01 * new).astype(int)
users["milliseconds"] = draw.normal(300, 60, size) + 0.5 * new
users["saw_checkout"] = (draw.random(size) < 0.3).astype(int)
users["banner"] = draw.choice(["old", "bold"], size)
bold = (users["banner"] == "bold").to_numpy()
users["clicks"] = draw.poisson(3 + users["saw_checkout"] * new * (0.2 + bold))
Path(folder, "data", "checkout").mkdir(parents=True, exist_ok=True)
users.to_parquet(f"{folder}/data/checkout/part-0.parquet", index=False)

units = {
    "job": "experiment",
    "input": {"units": {"table": f"{folder}/data/checkout"}},
    "tracking": {"enabled": False},
    "report": {**report, "title": "New checkout (simulated)"},
}
method = {"unit": "user", "arm": "variant", "control": "control", "shares": {"control": 0.5, "new": 0.5}}
spent = {"name": "spent", "kind": "revenue", "value": "spent", "covariates": ["spent_before"]}
visits = {"kind": "mean", "value": "visits", "cupac": ["age", "tenure"], "role": "diagnostic"}
checkout = {
    **units,
    "method": {
        **method,
        "metrics": [
            {**spent, "quantiles": [0.5, 0.9], "ranks": True},
            {"name": "bought", "kind": "proportion", "value": "bought"},
            {**visits, "name": "visits, by a line", "cupac_model": "linear"},
            {**visits, "name": "visits, by trees", "cupac_model": "boosted"},
            {"name": "latency", "kind": "mean", "value": "milliseconds", "role": "guardrail", "good": "decrease",
             "test": "non-inferiority", "margin": {"relative": 0.02}},
        ],
        "bootstrap": {"replicates": 500, "buckets": 500, "metrics": ["spent"]},
        "bayes": {"prior_sd": 0.05},
        "decision": {"needs": "all"},
    },
    "output": {"path": f"{folder}/checkout"},
}

# COMMAND ----------

outcome = job.run(checkout, "experiment")
estimates = pd.read_parquet(f"{folder}/checkout/estimates")
shown = ["outcome", "term", "method", "estimate", "std_error", "conf_low", "conf_high", "p_value", "p_adjusted"]
print("trusted:", outcome.manifest["trusted"], "|", *outcome.manifest["notes"])

# COMMAND ----------

# MAGIC %md
# MAGIC **Means and CUPED.** `cuped` takes out what spending before the experiment explains. It assumes only that the covariate is
# MAGIC from before exposure. Read `cuped`, and hold its standard error against that of the plain `welch` below it:
# MAGIC both are right, one is narrower. `p_adjusted` is corrected over the success metrics; a diagnostic has none.

# COMMAND ----------

display(estimates[estimates["method"].isin(["cuped", "welch", "z"]) & (estimates["term"] == "lift")][shown])

# COMMAND ----------

# MAGIC %md
# MAGIC **Quantiles.** The effect on the median user, and on the one whom nine of ten do not exceed. They assume units that are
# MAGIC independent (or a declared `cluster`), and enough of them beyond the quantile. A change of 6 % everywhere is more money at p90
# MAGIC than at p50; an effect at p90 alone would be one on the heavy users.

# COMMAND ----------

display(estimates[estimates["method"] == "quantile"][shown])

# COMMAND ----------

# MAGIC %md
# MAGIC **The same by other roads.** The bootstrap assumes no formula for the standard error: if it disagrees with `cuped`, there are too
# MAGIC few users for the skew. Mann–Whitney asks another question, whether a treated user exceeds a control one more often than not
# MAGIC (½: no difference); it is hardly moved by the few who spend most.

# COMMAND ----------

other = estimates["method"].isin(["bootstrap", "mann_whitney"]) | (estimates["method"] == "cuped")
display(estimates[other & (estimates["outcome"] == "spent")][shown])

# COMMAND ----------

# MAGIC %md
# MAGIC **Bayes.** The prior says that most changes move a lift by less than 5 %. `p_win` is the probability that the effect is above 0;
# MAGIC the losses are what one gives up on average by launching, or by not launching, if that was wrong. It assumes that the prior was
# MAGIC chosen before the data were seen.

# COMMAND ----------

bayes = pd.read_parquet(f"{folder}/checkout/bayes")
display(bayes[bayes["outcome"].isin(["spent", "bought"])])

# COMMAND ----------

# MAGIC %md
# MAGIC **CUPAC.** Instead of one covariate, a prediction from several, each user predicted by a model that has not seen them. Here age
# MAGIC explains a good part of the visits, but no straight line does: `variance_reduction` is nothing by a line and large by
# MAGIC trees. A useless prediction does no harm, so the choice may be made by this table.

# COMMAND ----------

cuped = pd.read_parquet(f"{folder}/checkout/cuped")
display(cuped[["outcome", "covariate", "theta", "rho2", "variance_reduction"]])
display(estimates[estimates["outcome"].str.startswith("visits") & (estimates["term"] == "difference")][shown])

# COMMAND ----------

# MAGIC %md
# MAGIC **Strata.** What differs by country and not by arm is taken out by weighing the countries alike in both arms. The column has to
# MAGIC be from before exposure. With a covariate that explains more, as here, it adds little.

# COMMAND ----------

by_country = {**method, "metrics": [spent], "strata": "country"}
strata = {**units, "method": by_country, "output": {"path": f"{folder}/strata"}}
job.run(strata, "experiment")
weighed = pd.read_parquet(f"{folder}/strata/estimates")
display(weighed[weighed["term"] == "lift"][shown])

# COMMAND ----------

# MAGIC %md
# MAGIC ## 6. What to do
# MAGIC
# MAGIC The rule was declared above, before the run: all success metrics must win, and latency must be shown to be at most 2 % worse.
# MAGIC `state` within: shown; not shown is not the same as harmed, so look at `power`. The sentence gives the reason.

# COMMAND ----------

margins = pd.read_parquet(f"{folder}/checkout/margins")
decision = pd.read_parquet(f"{folder}/checkout/decision")
display(margins[["outcome", "margin", "estimate", "conf_low", "conf_high", "p_value", "state", "power"]])
display(decision[["contrast", "verdict", "sentence"]])

# COMMAND ----------

# MAGIC %md
# MAGIC ## 7. Three looks at one experiment
# MAGIC
# MAGIC Looking every week and stopping at the first p < 0.05 finds something in one of nine experiments without any effect. A plan says
# MAGIC before the first look how much of alpha each may spend. Its looks are found through the tracked runs with its `key`, so
# MAGIC each week is simply run; a changed plan, or a look with no more users than the one before, is refused. It assumes that no
# MAGIC look is left out. The key has the time in it here, so that this notebook can be run again.

# COMMAND ----------

key = f"checkout {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
plan = {"key": key, "units": size, "spending": "obrien-fleming"}
weeks = Path(folder, key.replace(" ", "-").replace(":", ""))
for week, share in enumerate((0.3, 0.6, 1.0), start=1):
    Path(weeks, f"data-{week}").mkdir(parents=True)
    users.head(round(share * size)).to_parquet(f"{weeks}/data-{week}/part-0.parquet", index=False)
    look = {
        **units,
        "input": {"units": {"table": f"{weeks}/data-{week}"}},
        "method": {**method, "metrics": [spent], "sequential": plan, "decision": {}},
        "output": {"path": f"{weeks}/look-{week}"},
        "tracking": {},
    }
    job.run(look, "experiment")
    told = pd.read_parquet(f"{weeks}/look-{week}/decision").iloc[0]
    print(f"week {week}: {told['verdict']}. {told['sentence']}")

# COMMAND ----------

# MAGIC %md
# MAGIC `bound` is what |z| has to pass at that look: high at first, near 1.96 at the end. `spent` is the alpha used up until then, and
# MAGIC `p_value` holds over all looks so far.

# COMMAND ----------

looks = pd.read_parquet(f"{weeks}/look-3/looks")
display(looks[["look", "n", "fraction", "bound", "spent", "statistic", "p_value", "crossed"]])

# COMMAND ----------

# MAGIC %md
# MAGIC ## 8. Only those who could meet the change, and who else is experimenting
# MAGIC
# MAGIC The new checkout adds clicks only for the 30 % who open it: 0.2, and 1 more if another experiment shows them the bold banner. All
# MAGIC others are noise. `triggered` compares those who opened it; *diluted* is what that means for everyone, with less noise than the plain
# MAGIC difference. It assumes that opening is known in the control too, and is not moved by the change: the checks `TRIGGER_RATIO` and
# MAGIC `TRIGGER_LEAK` look at that. `interactions` asks whether the effect depends on the banner.

# COMMAND ----------

clicks = {
    **units,
    "method": {**method, "metrics": [{"name": "clicks", "kind": "mean", "value": "clicks"}],
               "triggered": "saw_checkout", "interactions": ["banner"]},
    "output": {"path": f"{folder}/clicks"},
}
job.run(clicks, "experiment")
effects = pd.read_parquet(f"{folder}/clicks/estimates")
display(effects[effects["term"].str.contains("difference|interaction")][["term", *shown[2:7]]])
checks = pd.read_parquet(f"{folder}/clicks/checks")
display(checks[checks["code"].isin(["TRIGGER_RATIO", "TRIGGER_LEAK", "INTERACTION"])][["code", "verdict", "message"]])

# COMMAND ----------

# MAGIC %md
# MAGIC The row `interaction` is the effect under the other banner minus that under its reference, over all users. Read p of the joint
# MAGIC test; if it is flagged, an average over the banners is an answer to nobody's question.

# COMMAND ----------

display(pd.read_parquet(f"{folder}/clicks/interactions"))

# COMMAND ----------

# MAGIC %md
# MAGIC ## 9. A switchback
# MAGIC
# MAGIC A price rule for rides cannot be tested rider by rider: they share the drivers. So whole cities are switched, every four hours, by
# MAGIC lot. What counts are the cells of city and period, which is where the standard error comes from. Here the rule takes a minute off
# MAGIC the wait, but for the first 50 minutes of a period the city still lives on the rule before.

# COMMAND ----------

rides = pd.DataFrame({"ride": np.arange(size), "city": draw.integers(0, 8, size)})
seconds = draw.integers(0, 28 * 86_400, size)
rides["ts"] = pd.Timestamp("2026-01-05", tz="UTC") + pd.to_timedelta(seconds, unit="s")
rules = draw.integers(0, 2, (8, 28 * 6 + 1))
period = seconds // 14_400 + 1
rides["rule"] = np.where(rules[rides["city"], period] == 1, "new", "old")
acting = rules[rides["city"], np.where(seconds % 14_400 < 50 * 60, period - 1, period)]
rides["wait"] = 8 + draw.normal(0, 0.4, rules.shape)[rides["city"], period] - acting + draw.normal(0, 2, size)
Path(folder, "data", "rides").mkdir(parents=True, exist_ok=True)
rides["ts"] = rides["ts"].astype("datetime64[us, UTC]")
rides.to_parquet(f"{folder}/data/rides/part-0.parquet", index=False)

for burn_in in (0, 60):
    switched = {
        **units,
        "input": {"units": {"table": f"{folder}/data/rides"}},
        "method": {
            "unit": "ride", "arm": "rule", "control": "old", "shares": {"new": 0.5, "old": 0.5}, "time": "ts",
            "switchback": {"region": "city", "hours": 4, "origin": "2026-01-05", "burn_in": burn_in},
            "metrics": [{"name": "wait", "kind": "mean", "value": "wait"}],
        },
        "output": {"path": f"{folder}/rides-{burn_in}"},
    }
    job.run(switched, "experiment")
    found = pd.read_parquet(f"{folder}/rides-{burn_in}/estimates").iloc[0]
    checks = pd.read_parquet(f"{folder}/rides-{burn_in}/checks").set_index("code")
    print(f"burn-in {burn_in} minutes: {found['estimate']:.2f} [{found['conf_low']:.2f}, {found['conf_high']:.2f}]")
    print(checks.loc["CARRY_OVER", "message"], end="\n\n")

# COMMAND ----------

# MAGIC %md
# MAGIC Without a burn-in the effect is too small, since part of it belongs to the rule before; the table shows where. `lag` should be
# MAGIC nothing in every stretch of the period, and in the first it is about what `effect` lacks there. With a burn-in of 60
# MAGIC minutes nothing is left over. It assumes that rules are drawn by lot for each cell, and that nothing reaches further
# MAGIC than the period before.

# COMMAND ----------

columns = ["from_minutes", "to_minutes", "effect", "lag", "conf_low", "conf_high", "p_adjusted", "flagged"]
display(pd.read_parquet(f"{folder}/rides-0/carryover")[columns])
display(pd.read_parquet(f"{folder}/rides-60/carryover")[columns])

# COMMAND ----------

# MAGIC %md
# MAGIC The report of the checkout as the job wrote it; it is one file, and loads nothing from elsewhere.

# COMMAND ----------

page = Path(folder, "checkout", "report.html").read_text(encoding="utf-8")
print("report:", f"{folder}/checkout/report.html")
if "displayHTML" in globals():
    displayHTML(page)
