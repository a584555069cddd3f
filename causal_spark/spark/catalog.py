"""The results of a run as catalog tables: ``<name>``, ``<name>_<diagnostic>`` and, last, ``<name>_manifest``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from causal_spark import storage
from causal_spark.errors import ConfigError, RunError
from causal_spark.outputs import manifest_text
from causal_spark.spark.session import ENGINE_ERRORS, Engine, told
from causal_spark.spark.tables import FILE_FORMATS, NAME

CLAIM = "started"


@dataclass(frozen=True)
class RunTables:
    """The same contract as ``outputs.RunFolder``, for ``output.table``. A run is there once its manifest table is."""

    engine: Engine
    name: str
    format: str
    stage: str | None
    key: str
    _texts: dict[str, str] = field(default_factory=dict)
    _kept: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not NAME.match(self.name) or self.name.split(".")[0].lower() in FILE_FORMATS:
            raise ConfigError("bad_output_table", table=self.name)

    def finished(self) -> dict[str, Any] | None:
        if not self._exists("manifest"):
            if self._exists("") and not self._exists(CLAIM):
                raise ConfigError("output_foreign", path=self.name)
            return None
        row = self.engine.spark.table(self._quoted("manifest")).toArrow().to_pylist()[0]
        self._texts.update({"statistics.json": row["statistics"], "report.html": row["report"]})
        manifest = json.loads(row["manifest"])
        if manifest.get("run_key") != self.key:
            raise ConfigError("output_taken", path=self.name, other=manifest.get("run_key"), mine=self.key)
        return dict(manifest)

    def begin(self) -> None:
        """Claim the name before anything is written: what an interrupted run left may be overwritten, nothing else."""
        self._save(CLAIM, pd.DataFrame([{"run_key": self.key}]))

    def abandon(self) -> None:
        """After a refusal or a failure: leave nothing of this run in the scratch folder."""
        self._clear()
        for folder in self._kept:
            storage.delete_folder(folder)

    def _clear(self) -> None:
        if self.stage is not None:
            storage.delete_folder(storage.join(self.stage, self.key))

    def scratch(self, name: str, kept: bool = False) -> str:
        """A folder for a staged table; one that is ``kept`` stays in the scratch folder under the run's key."""
        if self.stage is None:
            raise ConfigError("scratch_needed")
        if not kept:
            return storage.join(self.stage, self.key, name)
        self._kept.append(storage.join(self.stage, f"{self.key}_{name}"))
        return self._kept[-1]

    def read(self, name: str) -> str:
        return self._texts[name]

    def write(self, tables: Mapping[str, pd.DataFrame], texts: Mapping[str, str]) -> None:
        self._texts.update(texts)
        for name, frame in tables.items():
            self._save("" if name == "estimates" else name, frame)

    def finish(self, manifest: Mapping[str, Any], keep_stage: bool) -> None:
        if not keep_stage:
            self._clear()
        self.amend(manifest)
        self.engine.spark.sql(f"DROP TABLE IF EXISTS {self._quoted(CLAIM)}")

    def amend(self, manifest: Mapping[str, Any]) -> None:
        row = {"run_key": self.key, "manifest": manifest_text(manifest),
               "statistics": self._texts["statistics.json"], "report": self._texts["report.html"]}  # fmt: skip
        self._save("manifest", pd.DataFrame([row]))

    def _save(self, suffix: str, frame: pd.DataFrame) -> None:
        try:
            rows = self.engine.spark.createDataFrame(storage.arrow(frame)).coalesce(1)
            rows.write.mode("overwrite").format(self.format).saveAsTable(self._quoted(suffix))
        except ENGINE_ERRORS as error:
            raise RunError("write_failed", path=self._table(suffix), reason=told(error, 300)) from error

    def _exists(self, suffix: str) -> bool:
        return bool(self.engine.spark.catalog.tableExists(self._table(suffix)))

    def _table(self, suffix: str) -> str:
        return f"{self.name}_{suffix}" if suffix else self.name

    def _quoted(self, suffix: str) -> str:
        return ".".join(f"`{part}`" for part in self._table(suffix).split("."))
