# Databricks notebook source
# MAGIC %md
# MAGIC # Designing an experiment
# MAGIC
# MAGIC How many users, for how long? What could be found at all? Who gets what? And can the metric be trusted with the test?
# MAGIC Answered from what users did in the past. The page of the method is `docs/design.md`.
# MAGIC
# MAGIC Each part has three steps: say what is asked (a dictionary with the keys of `conf/design.yml`), run the job, look.
# MAGIC
# MAGIC The folder takes the data and the results. On Databricks it is a folder in a Unity Catalog volume; left empty, it is a
# MAGIC temporary folder, which suits a laptop.

# COMMAND ----------

# MAGIC %pip install --quiet ..

# COMMAND ----------

# MAGIC %restart_python

# COMMAND ----------

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from causal_spark import job

# COMMAND ----------

dbutils.widgets.text("folder", "/Volumes/main/causal_spark/scratch/design", "Folder for data and results")
dbutils.widgets.dropdown("language", "en", ["en", "zh"], "Language of the report")
dbutils.widgets.text("users", "50000", "Users of the simulated history")

# COMMAND ----------

folder = dbutils.widgets.get("folder") or tempfile.mkdtemp(prefix="causal_spark_")
report = {"language": dbutils.widgets.get("language")}

# COMMAND ----------

# MAGIC %md
# MAGIC ## 1. The history
# MAGIC
# MAGIC One row for each user of the last eight weeks: when first seen (fewer come at weekends), orders and revenue, the revenue
# MAGIC of the month before, and a metric that three users decide: what was staked in a game.

# COMMAND ----------

users = int(dbutils.widgets.get("users"))
rng = np.random.default_rng(7)
activity = rng.gamma(0.5, 2.0, users)
weekday = rng.choice(7, users, p=np.array([6, 6, 6, 6, 6, 3, 2]) / 35)
history = pd.DataFrame(
    {
        "user_id": np.arange(users),
        "first_seen": pd.Timestamp("2026-01-05") + pd.to_timedelta(7 * rng.integers(0, 8, users) + weekday, unit="D"),
        "ordered": (rng.random(users) < 0.1).astype(int),
        "revenue_pre": 10 * rng.poisson(activity) * rng.lognormal(0, 0.3, users),
        "revenue": 10 * rng.poisson(activity) * rng.lognormal(0, 0.3, users),
        "staked": rng.gamma(0.5, 10.0, users) + np.where(np.arange(users) < 3, 500_000, 0),
    }
)
Path(folder, "history").mkdir(parents=True, exist_ok=True)
history.to_parquet(Path(folder, "history", "users.parquet"), index=False, coerce_timestamps="us")
display(history.head())

# COMMAND ----------

# MAGIC %md
# MAGIC ## 2. How many, and for how long?

# COMMAND ----------

design = job.run(
    {
        "job": "design",
        "input": {"units": {"table": f"{folder}/history"}},
        "method": {
            "unit": "user_id",
            "time": "first_seen",
            "metrics": [
                {"name": "ordered", "kind": "proportion", "value": "ordered"},
                {"name": "revenue", "kind": "revenue", "value": "revenue", "covariates": ["revenue_pre"]},
                {"name": "staked", "kind": "mean", "value": "staked"},
            ],
            "lifts": [0.02, 0.05],
            "days": [14, 28],
            "traffic": 0.5,
            "aa": {"splits": 1000},
            "assign": {"salt": "checkout-2026", "rerandomize": {"covariates": ["revenue_pre"], "draws": 100, "accepted": 0.1}},
        },
        "output": {"path": f"{folder}/design"},
        "tracking": {"enabled": False},
        "report": {**report, "title": "Checkout test, design"},
    },
    "design",
)

# COMMAND ----------

sizes = pd.read_parquet(f"{folder}/design/sizes")
display(sizes[["outcome", "test", "lift", "units", "days", "weeks", "formula"]])

# COMMAND ----------

# MAGIC %md
# MAGIC With the revenue of the month before as a covariate the same effect needs fewer users. The other way round: what would two
# MAGIC or four weeks find?

# COMMAND ----------

detectable = pd.read_parquet(f"{folder}/design/detectable")
display(detectable[["outcome", "test", "days", "units", "lift"]])

# COMMAND ----------

# MAGIC %md
# MAGIC ## 3. Can the metrics be trusted?
# MAGIC
# MAGIC The users were split a thousand times with nothing done to them. Of a metric that can be trusted 5 % of the splits reject,
# MAGIC and p is spread evenly. What was staked is no such metric: which arms the three largest users fall into decides it.

# COMMAND ----------

verdicts = pd.read_parquet(f"{folder}/design/aa")
display(verdicts[["outcome", "test", "rejection", "ks_p", "trusted", "verdict"]])

# COMMAND ----------

# MAGIC %md
# MAGIC ## 4. Who gets what?
# MAGIC
# MAGIC A salted hash of the user's key: any service can repeat it, and no engine gives another arm. Of a hundred salts the first
# MAGIC was taken whose arms are balanced in the revenue of the month before.

# COMMAND ----------

display(pd.read_parquet(f"{folder}/design/assigned")[["arm", "n", "share", "planned", "salt"]])
display(pd.read_parquet(f"{folder}/design/covariates"))

# COMMAND ----------

displayHTML(Path(folder, "design", "report.html").read_text(encoding="utf-8"))
