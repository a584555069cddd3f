"""The results of earlier runs as one table, read where this program runs: they are small, and it wrote them."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame

from causal_spark import storage
from causal_spark.errors import ConfigError
from causal_spark.outputs import MANIFEST, read_manifest
from causal_spark.spark.session import Engine

EVERYONE = "all"
TRUSTED = "trusted"


def finished_runs(engine: Engine, folder: str, role: str) -> DataFrame:
    """The ``estimates`` of every finished run in ``folder``, one folder for each run, as one table.

    Rows over all units only; with the columns ``experiment``, the name of the run's folder, and ``trusted``, whether
    the run said that its numbers may be acted upon. Raises ConfigError if there is no finished run, or one cannot be
    read.
    """
    found = []
    for name in storage.folders(folder):
        path = storage.join(folder, name)
        if storage.exists(storage.join(path, MANIFEST)):
            frame = _estimates(path, role)
            trusted = bool(read_manifest(path).get(TRUSTED))
            found.append(frame[frame["segment"] == EVERYONE].assign(experiment=name, trusted=trusted))
    if not found:
        raise ConfigError("no_runs", role=role, table=folder)
    return engine.spark.createDataFrame(storage.arrow(pd.concat(found, ignore_index=True)))


def _estimates(path: str, role: str) -> pd.DataFrame:
    table = storage.join(path, "estimates")
    try:
        return storage.read_frame(table)
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError("table_unreadable", role=role, table=table, format="runs", reason=reason) from error
