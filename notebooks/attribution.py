# Databricks notebook source
# MAGIC %md
# MAGIC # Attribution and budget
# MAGIC
# MAGIC Which channels get the conversions, under which rule, and how far do the rules agree? Then: how does each channel
# MAGIC answer to spend, and where should the next unit go? Simulated journeys, of which it is known which touch caused which
# MAGIC conversion. The pages of the methods are `docs/attribution.md` and `docs/budget.md`.
# MAGIC
# MAGIC Each part has three steps: say what is asked (a dictionary with the keys of `conf/attribution.yml`), run the job, look.
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

import pandas as pd
import pyarrow as pa

from causal_spark import job, simulate_journeys

# COMMAND ----------

dbutils.widgets.text("folder", "/Volumes/main/causal_spark/scratch/attribution", "Folder for data and results")
dbutils.widgets.dropdown("language", "en", ["en", "zh"], "Language of the report")
dbutils.widgets.text("persons", "20000", "Persons of the simulated journeys")

# COMMAND ----------

folder = dbutils.widgets.get("folder") or tempfile.mkdtemp(prefix="causal_spark_")
report = {"language": dbutils.widgets.get("language")}

# COMMAND ----------

# MAGIC %md
# MAGIC ## 1. Who gets the credit?
# MAGIC
# MAGIC Touches and conversions of 90 days. `caused` holds how many conversions each channel really caused.

# COMMAND ----------

log = simulate_journeys.journeys(persons=int(dbutils.widgets.get("persons")))
simulate_journeys.write(log, f"{folder}/data")
caused = pd.DataFrame(log.caused.items(), columns=["channel", "caused"])
display(caused)

# COMMAND ----------

credit = job.run(
    {
        "job": "attribution",
        "input": {
            "touches": {"table": f"{folder}/data/touches"},
            "conversions": {"table": f"{folder}/data/conversions"},
            "spend": {"table": f"{folder}/data/spend"},
        },
        "method": {
            "person": "user_id",
            "time": "ts",
            "channel": "channel",
            "value": "revenue",
            "event_id": "event_id",
            "window_days": 30,
            "models": ["first", "last", "linear", "time_decay", "markov_1", "shapley", "shapley_rate"],
            "spend": {"channel": "channel", "cost": "cost"},
        },
        "output": {"path": f"{folder}/credit"},
        "tracking": {"enabled": False},
        "report": {**report, "title": "Channel credit"},
    },
    "attribution",
)

# COMMAND ----------

estimates = pd.read_parquet(f"{folder}/credit/estimates")
conversions = estimates[(estimates["outcome"] == "conversions") & (estimates["segment"] == "all")]
compared = conversions.pivot(index="term", columns="method", values="estimate").reset_index()
display(compared.merge(caused, left_on="term", right_on="channel", how="left").drop(columns="channel"))

# COMMAND ----------

# MAGIC %md
# MAGIC No rule finds the truth: people who would have bought anyway also meet channels, and strong channels share their
# MAGIC journeys with weak ones. Where the rules agree, that is no proof either. An experiment on a channel is.

# COMMAND ----------

displayHTML(Path(folder, "credit", "report.html").read_text(encoding="utf-8"))

# COMMAND ----------

# MAGIC %md
# MAGIC ## 2. Where should the next unit go?
# MAGIC
# MAGIC Two years of weekly spend and outcome. One of the curves is S-shaped: the plan names it.

# COMMAND ----------

simulate_journeys.write_table(simulate_journeys.weekly_spend(), Path(folder, "data", "weeks"))
plan = job.run(
    {
        "job": "budget",
        "input": {"history": {"table": f"{folder}/data/weeks"}},
        "method": {"period": "week", "what_if": [{"source": "outdoor", "target": "social", "share": 0.15}]},
        "output": {"path": f"{folder}/plan"},
        "tracking": {"enabled": False},
        "report": {**report, "title": "Weekly budget"},
    },
    "budget",
)

# COMMAND ----------

display(pd.read_parquet(f"{folder}/plan/plan"))
display(pd.read_parquet(f"{folder}/plan/scenarios"))

# COMMAND ----------

displayHTML(Path(folder, "plan", "report.html").read_text(encoding="utf-8"))

# COMMAND ----------

# MAGIC %md
# MAGIC ## 3. From credit to a plan
# MAGIC
# MAGIC With a `period` and costs that have a time, the attribution leaves the table `credits_by_period`, which the budget job
# MAGIC reads as its history. The plan is as causal as the credit: here costs follow the touches, so no curve can tell more.

# COMMAND ----------

costs = log.touches.to_pandas()
costs["day"] = costs["ts"].dt.floor("D")
costs = costs.groupby(["channel", "day"]).size().mul(0.3).rename("cost").reset_index()
simulate_journeys.write_table(pa.Table.from_pandas(costs, preserve_index=False), Path(folder, "data", "daily_costs"))
weekly = job.run(
    {
        "job": "attribution",
        "input": {
            "touches": {"table": f"{folder}/data/touches"},
            "conversions": {"table": f"{folder}/data/conversions"},
            "spend": {"table": f"{folder}/data/daily_costs"},
        },
        "method": {
            "person": "user_id",
            "time": "ts",
            "channel": "channel",
            "value": "revenue",
            "models": ["markov_1"],
            "replicates": 0,
            "period": "week",
            "spend": {"channel": "channel", "cost": "cost", "time": "day"},
        },
        "output": {"path": f"{folder}/weekly"},
        "tracking": {"enabled": False},
    },
    "attribution",
)

# COMMAND ----------

credited = job.run(
    {
        "job": "budget",
        "input": {"history": {"table": f"{folder}/weekly/credits_by_period"}},
        "method": {
            "where": [{"column": "model", "value": "markov_1"}, {"column": "complete", "value": True}],
            "channel": "channel",
            "period": "period",
            "spend": "cost",
            "outcome": "conversions",
            "curves": ["log", "power", "michaelis_menten"],
        },
        "output": {"path": f"{folder}/credited"},
        "tracking": {"enabled": False},
    },
    "budget",
)

# COMMAND ----------

display(pd.read_parquet(f"{folder}/credited/plan"))
