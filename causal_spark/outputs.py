"""The folder of a run: claimed before anything is written, finished by its manifest, never half read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from causal_spark import storage
from causal_spark.errors import ConfigError

MANIFEST = "manifest.json"
CLAIM = "_started.json"
STAGE = "_stage"


@dataclass(frozen=True)
class RunFolder:
    """``path`` for the run ``key``. A folder with a manifest is finished; one with only a claim was interrupted.

    ``stage``: another folder for what is staged; ``save`` writes a table into a folder.
    """

    path: str
    key: str
    stage: str | None = None
    save: Callable[[str, pd.DataFrame], None] = storage.write_frame
    _claimed: list[bool] = field(default_factory=list)

    def finished(self) -> dict[str, Any] | None:
        """The manifest, if this very run is done.

        Raises ConfigError if the folder holds another run or something that is not a run.
        """
        if storage.exists(storage.join(self.path, MANIFEST)):
            manifest = read_manifest(self.path)
            if manifest.get("run_key") != self.key:
                raise ConfigError("output_taken", path=self.path, other=manifest.get("run_key"), mine=self.key)
            return manifest
        if not storage.is_empty_folder(self.path) and not storage.exists(storage.join(self.path, CLAIM)):
            raise ConfigError("output_foreign", path=self.path)
        return None

    def begin(self) -> None:
        """Claim the folder, unless a staged table already did: remove what an interrupted run left, mark it ours."""
        if self._claimed:
            return
        self._claimed.append(True)
        storage.delete_folder(self.path)
        storage.write_text(storage.join(self.path, CLAIM), json.dumps({"run_key": self.key}))

    def abandon(self) -> None:
        """After a refusal or a failure: leave nothing of this run."""
        if self._claimed and not storage.exists(storage.join(self.path, MANIFEST)):
            storage.delete_folder(self.path)
            storage.delete_folder(self.staged)

    @property
    def staged(self) -> str:
        return storage.join(self.stage, self.key) if self.stage else storage.join(self.path, STAGE)

    def scratch(self, name: str, kept: bool = False) -> str:
        """A folder for a staged table, inside the claimed run folder or the given scratch folder.

        ``kept``: for a large table that is a result of the run and stays, beside the small ones.
        """
        self.begin()
        return storage.join(self.path if kept else self.staged, name)

    def read(self, name: str) -> str:
        return storage.read_text(storage.join(self.path, name))

    def write(self, tables: Mapping[str, pd.DataFrame], texts: Mapping[str, str]) -> None:
        for name, frame in tables.items():
            self.save(storage.join(self.path, name), frame)
        for name, text in texts.items():
            storage.write_text(storage.join(self.path, name), text)

    def finish(self, manifest: Mapping[str, Any], keep_stage: bool) -> None:
        """The manifest is the last thing written; its presence means that everything is there."""
        if not keep_stage:
            storage.delete_folder(self.staged)
        storage.write_text(storage.join(self.path, MANIFEST), manifest_text(manifest))
        storage.delete_file(storage.join(self.path, CLAIM))

    def amend(self, manifest: Mapping[str, Any]) -> None:
        storage.write_text(storage.join(self.path, MANIFEST), manifest_text(manifest))


def manifest_text(manifest: Mapping[str, Any]) -> str:
    """A manifest as JSON, its keys in order."""
    return json.dumps(manifest, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def read_manifest(path: str) -> dict[str, Any]:
    """The manifest of a run's folder. Raises ConfigError if it has none."""
    file = storage.join(path, MANIFEST)
    if not storage.exists(file):
        raise ConfigError("not_a_run", path=path)
    data = json.loads(storage.read_text(file))
    return dict(data)
