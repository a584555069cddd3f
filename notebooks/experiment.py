# Databricks notebook source
# MAGIC %md
# MAGIC # Experiments
# MAGIC
# MAGIC Can I trust this experiment, what moved, by how much, how sure are we? Three randomised trials whose data come with
# MAGIC packages, and a simulated shop whose true effects are known. The method's page is `docs/experiment.md`.
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
from importlib.resources import files
from pathlib import Path

import pandas as pd
from causaldata import nsw_mixtape, thornton_hiv

from causal_spark import job, simulate

# COMMAND ----------

dbutils.widgets.text("folder", "/Volumes/main/causal_spark/scratch/notebook", "Folder for data and results")
dbutils.widgets.dropdown("language", "en", ["en", "zh"], "Language of the report")
dbutils.widgets.text("users", "50000", "Users of the simulated shop")

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
# MAGIC The report as the job wrote it; it is one file, and loads nothing from elsewhere.

# COMMAND ----------

page = Path(folder, "shop", "report.html").read_text(encoding="utf-8")
print("report:", f"{folder}/shop/report.html")
if "displayHTML" in globals():
    displayHTML(page)
