# Databricks notebook source
# MAGIC %md
# MAGIC # Matching
# MAGIC
# MAGIC Where nobody drew lots: how far can similar untreated units stand in for a control group? The data of LaLonde (1986)
# MAGIC can tell, because there the answer is known. The method's page is `docs/matching.md`.
# MAGIC
# MAGIC Each part has three steps: say what is asked (a dictionary with the keys of `conf/matching.yml`), run the job, look.
# MAGIC
# MAGIC The folder takes the data and the results. On Databricks it is a folder in a Unity Catalog volume; left empty, it is a
# MAGIC temporary folder, which suits a laptop. A result folder holds one run: the same run again is not computed again, and a
# MAGIC run with other settings needs another folder.

# COMMAND ----------

# MAGIC %pip install --quiet .. causaldata

# COMMAND ----------

# MAGIC %restart_python

# COMMAND ----------

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from causaldata import cps_mixtape, nsw_mixtape

from causal_spark import job

# COMMAND ----------

dbutils.widgets.text("folder", "/Volumes/main/causal_spark/scratch/matching", "Folder for data and results")
dbutils.widgets.dropdown("language", "en", ["en", "zh"], "Language of the report")

# COMMAND ----------

folder = dbutils.widgets.get("folder") or tempfile.mkdtemp(prefix="causal_spark_")
report = {"language": dbutils.widgets.get("language")}
for name in ("training", "shop"):
    Path(folder, "data", name).mkdir(parents=True, exist_ok=True)

# COMMAND ----------

# MAGIC %md
# MAGIC ## 1. The benchmark: an experiment
# MAGIC
# MAGIC The National Supported Work programme trained 185 men, chosen by lot among 445 (Dehejia & Wahba 1999). Their earnings
# MAGIC of 1978 minus those of the men who were not chosen: 1,794 dollars. That is what every method below should find.

# COMMAND ----------

trial = nsw_mixtape.load_pandas().data
treated, control = (trial.loc[trial["treat"] == arm, "re78"].astype(float) for arm in (1, 0))
benchmark = treated.mean() - control.mean()
error = (treated.var() / len(treated) + control.var() / len(control)) ** 0.5
print(f"experiment: {benchmark:,.0f} (standard error {error:,.0f})")

# COMMAND ----------

# MAGIC %md
# MAGIC ## 2. The same without the experiment
# MAGIC
# MAGIC Now the control group is thrown away. In its place stand 15,992 men of a population survey (CPS), who were older, mostly
# MAGIC married and earned far more before. The covariates are all that is known of them; `u74` and `u75` say who earned nothing
# MAGIC in these years. The settings (five matches for each man, twenty subclasses) were chosen among several by the balance they
# MAGIC reach; the estimates were visible.

# COMMAND ----------

survey = cps_mixtape.load_pandas().data
men = pd.concat([trial[trial["treat"] == 1], survey], ignore_index=True).reset_index(names="man")
men = men.astype({"re74": "float64", "re75": "float64", "re78": "float64"})
men["u74"], men["u75"] = (men["re74"] == 0).astype(int), (men["re75"] == 0).astype(int)
men.to_parquet(f"{folder}/data/training/part-0.parquet", index=False)

training = {
    "job": "matching",
    "input": {"units": {"table": f"{folder}/data/training"}},
    "method": {
        "unit": "man",
        "treatments": ["treat"],
        "outcomes": ["re78"],
        "covariates": ["age", "educ", "black", "hisp", "marr", "nodegree", "re74", "re75", "u74", "u75"],
        "propensity": {"squares": ["age", "educ"], "interactions": [["educ", "re74"]]},
        "estimand": "ATT",
        "estimators": ["matching", "subclass", "ipw", "overlap", "entropy", "aipw", "dml"],
        "matching": {"replace": True, "ratio": 5, "caliper": 0.2},
        "subclasses": 20,
    },
    "output": {"path": f"{folder}/training"},
    "report": {**report, "title": "Training and earnings, without the experiment"},
}

# COMMAND ----------

outcome = job.run(training, "matching")
print("trusted:", outcome.manifest["trusted"], *outcome.manifest["notes"], sep="\n")

# COMMAND ----------

estimates = spark.read.parquet(f"{folder}/training/estimates").toPandas()
recovered = estimates[estimates["term"] == "difference"].reset_index(drop=True)
display(recovered[["method", "estimand", "estimate", "std_error", "conf_low", "conf_high", "n"]])

# COMMAND ----------

# MAGIC %md
# MAGIC The plain difference says that training costs a man 8,498 dollars a year: it compares the poor with the average. Each
# MAGIC method, drawn against the experiment (the line, and its 95 % interval):

# COMMAND ----------

figure, axes = plt.subplots(figsize=(9, 4))
axes.axvspan(benchmark - 1.96 * error, benchmark + 1.96 * error, color="#e9f0fc")
axes.axvline(benchmark, color="#1f5fc4", linewidth=1)
axes.axvline(0, color="#667282", linewidth=0.8)
place = np.arange(len(recovered))[::-1]
spread = [recovered["estimate"] - recovered["conf_low"], recovered["conf_high"] - recovered["estimate"]]
axes.errorbar(recovered["estimate"], place, xerr=spread, fmt="o", color="#1b2430", ecolor="#9aa5b3")
axes.set_yticks(place, recovered["method"])
axes.set_xlabel("effect on earnings in 1978, dollars")
axes.set_title(f"Experiment: {benchmark:,.0f} dollars")
figure.tight_layout()
figure.savefig(f"{folder}/recovered.png")
plt.show()

# COMMAND ----------

# MAGIC %md
# MAGIC Who was compared with whom is in the tables `pairs` and `weights`, and how alike they became in `balance`.

# COMMAND ----------

balance = spark.read.parquet(f"{folder}/training/balance").toPandas()
display(balance.pivot(index="covariate", columns="estimator", values="smd").round(3).reset_index())
display(spark.read.parquet(f"{folder}/training/pairs").orderBy("distance", ascending=False).limit(10))

# COMMAND ----------

# MAGIC %md
# MAGIC And with the five subclasses of the textbooks? They are too coarse for groups so far apart: earnings of 1975 stay 0.6
# MAGIC standard deviations apart within them. The estimate is far off, and the check of balance has called the run not valid
# MAGIC without knowing that.

# COMMAND ----------

coarse = {**training, "output": {"path": f"{folder}/training-coarse"}}
coarse["method"] = {**training["method"], "estimators": ["subclass"], "subclasses": 5}
outcome = job.run(coarse, "matching")
failed = spark.read.parquet(f"{folder}/training-coarse/estimates").toPandas()
print("trusted:", outcome.manifest["trusted"], *outcome.manifest["notes"], sep="\n")
display(failed[["method", "term", "estimate", "conf_low", "conf_high"]])

# COMMAND ----------

# MAGIC %md
# MAGIC Another significance level needs no new run. `resolve` solves the statistics that were kept, and reads no table.

# COMMAND ----------

job.resolve(f"{folder}/training", {"alpha": 0.01}, f"{folder}/training-99")

# COMMAND ----------

# MAGIC %md
# MAGIC ## 3. Which channel really pays?
# MAGIC
# MAGIC A simulated shop in which good customers got more mail: an e-mail brings 6 of revenue, the search ad 1.5, and what a
# MAGIC customer bought before brings far more than either. Every channel is matched against its own similar untouched
# MAGIC customers; `spend` and `value` turn the effect into a return. Visits from before cannot have moved: a placebo.

# COMMAND ----------

draw = np.random.default_rng(7)
size = 6000
customers = pd.DataFrame({"user": np.arange(size), "age": draw.integers(18, 70, size)})
customers["orders_before"] = draw.poisson(2, size)
customers["spend_before"] = draw.gamma(2, 20, size).round(2)
customers["visits_before"] = draw.poisson(3, size)
habit = (customers["orders_before"] - 2) / 1.4 + (customers["spend_before"] - 40) / 28
customers["email"] = (draw.random(size) < 1 / (1 + np.exp(1.2 - 0.8 * habit))).astype(int)
customers["search"] = (draw.random(size) < 1 / (1 + np.exp(1.6 - 0.3 * habit))).astype(int)
noise = draw.normal(0, 15, size)
customers["revenue"] = (20 + 12 * habit + 6 * customers["email"] + 1.5 * customers["search"] + noise).round(2)
customers.to_parquet(f"{folder}/data/shop/part-0.parquet", index=False)

shop = {
    "job": "matching",
    "input": {"units": {"table": f"{folder}/data/shop"}},
    "method": {
        "unit": "user",
        "treatments": ["email", "search"],
        "outcomes": ["revenue"],
        "covariates": ["age", "orders_before", "spend_before"],
        "estimators": ["aipw", "matching", "overlap"],
        "matching": {"caliper": 0.2},
        "spend": {"email": 4000, "search": 3000},
        "value": "revenue",
        "placebo_outcomes": ["visits_before"],
    },
    "output": {"path": f"{folder}/shop"},
    "report": {**report, "title": "Which channel really pays?"},
}

# COMMAND ----------

outcome = job.run(shop, "matching")
channels = spark.read.parquet(f"{folder}/shop/estimates").toPandas()
display(channels[["contrast", "outcome", "method", "term", "estimate", "conf_low", "conf_high", "p_value"]])

# COMMAND ----------

# MAGIC %md
# MAGIC The report as the job wrote it; it is one file, and loads nothing from elsewhere.

# COMMAND ----------

page = Path(folder, "shop", "report.html").read_text(encoding="utf-8")
print("report:", f"{folder}/shop/report.html")
if "displayHTML" in globals():
    displayHTML(page)
