# Databricks notebook source
# MAGIC %md
# MAGIC # A portfolio of experiments
# MAGIC
# MAGIC What did a year of experiments add to revenue, how much of what the winners promised was luck, what should be scaled
# MAGIC and what stopped? Simulated experiments, whose true effects are known. The method's page is `docs/portfolio.md`.
# MAGIC
# MAGIC Each part has three steps: say what is asked (a dictionary with the keys of `conf/portfolio.yml`), run the job, look.
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

from causal_spark import job, simulate_portfolio
from causal_spark.simulate_journeys import write_table

# COMMAND ----------

dbutils.widgets.text("folder", "/Volumes/main/causal_spark/scratch/portfolio", "Folder for data and results")
dbutils.widgets.dropdown("language", "en", ["en", "zh"], "Language of the report")
dbutils.widgets.text("experiments", "80", "Experiments of the simulated year")

# COMMAND ----------

folder = dbutils.widgets.get("folder") or tempfile.mkdtemp(prefix="causal_spark_")
report = {"language": dbutils.widgets.get("language")}

# COMMAND ----------

# MAGIC %md
# MAGIC ## 1. The experiments
# MAGIC
# MAGIC Each measured its effect on revenue with its own precision. What looked significant was launched; `reach` says on how
# MAGIC many units, and when. The truth stays with us.

# COMMAND ----------

design = simulate_portfolio.PastDesign(experiments=int(dbutils.widgets.get("experiments")))
past = simulate_portfolio.past(design)
write_table(past.estimates, Path(folder, "data", "estimates"))
write_table(past.reach, Path(folder, "data", "reach"))
display(past.reach.to_pandas())

# COMMAND ----------

# MAGIC %md
# MAGIC ## 2. What they added

# COMMAND ----------

year = job.run(
    {
        "job": "portfolio",
        "input": {
            "estimates": {"table": f"{folder}/data/estimates"},
            "reach": {"table": f"{folder}/data/reach"},
        },
        "method": {"outcome": "revenue"},
        "output": {"path": f"{folder}/year"},
        "tracking": {"enabled": False},
        "report": {**report, "title": "Experiments of the year"},
    },
    "portfolio",
)

# COMMAND ----------

actions = pd.read_parquet(f"{folder}/year/actions")
truth = pd.DataFrame(past.truth.items(), columns=["action", "truth"])
compared = actions[["action", "naive", "effect", "low", "high", "reached", "launched", "advice"]].merge(truth)
display(compared)

# COMMAND ----------

# MAGIC %md
# MAGIC ## 3. Was it luck?
# MAGIC
# MAGIC The launched actions, added up as they were measured, as shrunk, and as they truly were.

# COMMAND ----------

launched = compared[compared["launched"] != "no"]
totals = pd.read_parquet(f"{folder}/year/totals")
totals = totals[totals["actions"] == "launched"].assign(truth=(launched["reached"] * launched["truth"]).sum())
display(totals)

# COMMAND ----------

displayHTML(Path(folder, "year", "report.html").read_text(encoding="utf-8"))
