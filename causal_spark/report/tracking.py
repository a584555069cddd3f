"""One MLflow run for one job: parameters, estimates, tables, figures, and where the data came from."""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from causal_spark.errors import RunError
from causal_spark.report.effects import EVERYONE, records
from causal_spark.report.store import (
    DEFAULT_URI,
    absolute_uri,
    artifact_location,
    database_of,
    locked,
    on_databricks,
    patience,
    quiet,
    scrub,
)
from causal_spark.results import Result

DEFAULT_EXPERIMENT = "causal_spark"
TAG_PREFIX = "causal_spark."
RUN_KEY = TAG_PREFIX + "run_key"
EXPERIMENT_KEY = TAG_PREFIX + "experiment_key"
LOOK = "look.json"  # the artifact of a run that is a look at an experiment
MAX_PARAM, MAX_TAG, MAX_KEY, MAX_DIGEST, MAX_NAME, MAX_REASON = 6000, 8000, 250, 36, 500, 400
BATCH, METRIC_BATCH, MAX_METRICS = 100, 1000, 5000
NUMBERS = ("estimate", "std_error", "p_value")
_FILE_NAME = re.compile(r"([A-Za-z0-9_-]+/)?[A-Za-z0-9_-]+\.(csv|json|svg|html|txt|yml|md)")
_UNSAFE = re.compile(r"[^\w.\- ]+")


def log_run(
    result: Result,
    *,
    tracking: Any,
    params: Mapping[str, object],
    tags: Mapping[str, str],
    artifacts: Mapping[str, str | bytes],
    dataset: Mapping[str, Any],
) -> str:
    """Record a result as one finished MLflow run and return its id.

    ``tracking`` has ``uri``, ``experiment`` and ``run_name`` (a mapping or an object; any may be empty: then
    ``MLFLOW_TRACKING_URI`` and ``MLFLOW_EXPERIMENT_NAME`` count, then ``sqlite:///mlflow.db``). ``params`` is
    chosen by the caller and holds no secrets. ``tags`` get the prefix ``causal_spark.``; a finished run with
    the same ``run_key`` is returned as it is, and nothing is logged. ``artifacts`` is file name to content,
    names from a fixed list and never from data. ``dataset`` has ``name``, ``source``, ``digest``.

    Raises ``ValueError`` for an artifact name that is not plain, and ``RunError("tracking_failed")`` for
    whatever fails in MLflow, without credentials in its text.
    """
    for name in artifacts:
        if not _FILE_NAME.fullmatch(name):
            raise ValueError(f"not a plain artifact name: {name!r}")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    uri = str(_setting(tracking, "uri"))
    try:
        uri = _tracking_uri(uri)
        with locked(database_of(uri)):
            return _log(uri, result, tracking, params, named_tags(tags), artifacts, dataset)
    except Exception as error:
        reason = scrub(f"{type(error).__name__}: {error}".splitlines()[0])[:MAX_REASON]
        # not chained: the message of the cause may carry the address with its password
        raise RunError("tracking_failed", uri=scrub(uri) or "databricks", reason=reason) from None


def look_texts(key: str, tracking: Any) -> list[str]:
    """``look.json`` of every finished run of the experiment ``key``, the oldest first; empty where it is gone.

    Only runs of the MLflow experiment that ``tracking`` names count. Raises ``RunError("looks_unreadable")`` for
    whatever fails in MLflow, without credentials in its text.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    uri = str(_setting(tracking, "uri"))
    try:
        uri = _tracking_uri(uri)
        database = database_of(uri)
        if database is not None and not database.exists():
            return []
        with locked(database):
            return _look_texts(uri, key, str(_setting(tracking, "experiment")))
    except Exception as error:
        reason = scrub(f"{type(error).__name__}: {error}".splitlines()[0])[:MAX_REASON]
        raise RunError("looks_unreadable", key=key, uri=scrub(uri) or "databricks", reason=reason) from None


def _look_texts(uri: str, key: str, experiment: str) -> list[str]:
    from mlflow import MlflowClient

    with patience(retries=1, seconds=8), quiet():
        client = MlflowClient(tracking_uri=uri or None)
        places = [_experiment_id(client, uri, experiment)]
    wanted = f"tags.`{EXPERIMENT_KEY}` = '{key}' and attributes.status = 'FINISHED'"
    with patience(retries=3, seconds=60), tempfile.TemporaryDirectory(prefix="causal_spark_") as folder:
        runs: list[str] = []
        page = None
        while page is None or page:
            found = client.search_runs(places, wanted, order_by=["attributes.start_time ASC"], page_token=page)
            runs += [str(run.info.run_id) for run in found]
            page = found.token or ""
        return [_look_text(client, run, Path(folder, run)) for run in runs]


def _look_text(client: Any, run: str, folder: Path) -> str:
    if not any(item.path == LOOK for item in client.list_artifacts(run)):
        return ""
    folder.mkdir()
    return Path(client.download_artifacts(run, LOOK, str(folder))).read_text("utf-8")


def _setting(tracking: Any, name: str) -> Any:
    value = tracking.get(name) if isinstance(tracking, Mapping) else getattr(tracking, name, None)
    return value or ""


def _tracking_uri(configured: str) -> str:
    """The address to use; empty means: whatever MLflow has been told (always on Databricks)."""
    if on_databricks():
        return ""
    if not configured:
        import mlflow

        told: bool = mlflow.is_tracking_uri_set()  # type: ignore[no-untyped-call]
        configured = mlflow.get_tracking_uri() if told else ""
    return absolute_uri(configured or DEFAULT_URI)


def _log(
    uri: str,
    result: Result,
    tracking: Any,
    params: Mapping[str, object],
    tags: Mapping[str, str],
    artifacts: Mapping[str, str | bytes],
    dataset: Mapping[str, Any],
) -> str:
    from mlflow import MlflowClient

    with patience(retries=1, seconds=8), quiet():
        client = MlflowClient(tracking_uri=uri or None)
        experiment = _experiment_id(client, uri, str(_setting(tracking, "experiment")))
    with patience(retries=3, seconds=60):
        known = _finished_run(client, experiment, tags.get(RUN_KEY, ""))
        if known:
            return known
        name = str(_setting(tracking, "run_name")) or None
        run = str(client.create_run(experiment, run_name=name).info.run_id)
        try:
            _fill(client, run, result, params, tags, artifacts, dataset)
        except BaseException:
            with suppress(Exception):
                client.set_terminated(run, "FAILED")
            raise
        client.set_terminated(run, "FINISHED")
        return run


def _experiment_id(client: Any, uri: str, configured: str) -> str:
    """The id of the experiment, which is made if it is not there; its files lie beside a SQLite store."""
    name = configured or os.environ.get("MLFLOW_EXPERIMENT_NAME", "")
    if not name and os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return os.environ["MLFLOW_EXPERIMENT_ID"]
    if not name and on_databricks():
        from mlflow.tracking.fluent import _get_experiment_id

        return str(_get_experiment_id())
    name = name or DEFAULT_EXPERIMENT
    database = database_of(uri)
    found = client.get_experiment_by_name(name)
    if found is None:
        place = artifact_location(database, name) if database else None
        try:
            return str(client.create_experiment(name, artifact_location=place))
        except Exception:
            # another process made it in between
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


def _finished_run(client: Any, experiment: str, run_key: str) -> str:
    """The id of the finished run with this key, or an empty text."""
    key = run_key.replace("'", "")
    if not key:
        return ""
    wanted = f"tags.`{RUN_KEY}` = '{key}' and attributes.status = 'FINISHED'"
    found = client.search_runs([experiment], filter_string=wanted, max_results=1)
    return str(found[0].info.run_id) if found else ""


def _fill(
    client: Any,
    run: str,
    result: Result,
    params: Mapping[str, object],
    tags: Mapping[str, str],
    artifacts: Mapping[str, str | bytes],
    dataset: Mapping[str, Any],
) -> None:
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)
    metrics = [Metric(key, value, now, 0) for key, value in metric_values(result).items()]
    named = unique((safe_name(key), value) for key, value in params.items())
    given = [Param(key, text_of(value)) for key, value in named.items()]
    marks = [RunTag(key, value) for key, value in tags.items()]
    for part in _chunks(given, BATCH):
        client.log_batch(run, params=part)
    for part in _chunks(marks, BATCH):
        client.log_batch(run, tags=part)
    for part in _chunks(metrics, METRIC_BATCH):
        client.log_batch(run, metrics=part)
    if dataset:
        client.log_inputs(run, [_dataset_input(dataset)])
    _log_files(client, run, artifacts)


def _chunks(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])


def named_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags under ``causal_spark.``, except MLflow's own; values of bounded length."""
    kept = ("mlflow.", TAG_PREFIX)
    named = ((key if key.startswith(kept) else TAG_PREFIX + key, value) for key, value in tags.items())
    cut = ((safe_name(key), str(value)[:MAX_TAG]) for key, value in named)
    return {key: value.replace("'", "") if key == RUN_KEY else value for key, value in cut}


def text_of(value: object) -> str:
    """A parameter as text: JSON for lists and mappings, at most 6,000 characters."""
    if isinstance(value, (Mapping, list, tuple)):
        text = json.dumps(value, ensure_ascii=False, default=str)
    else:
        text = str(value)
    return text if len(text) <= MAX_PARAM else text[: MAX_PARAM - 1] + "\u2026"


def safe_name(text: object) -> str:
    """A name that MLflow takes: letters, digits, ``_-.`` and spaces; no path."""
    name = _UNSAFE.sub("_", str(text)).strip(" .") or "_"
    return name[:MAX_KEY]


def unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Pairs as a dictionary whose keys differ even where case does not count; later ones get ``_2``, ``_3``."""
    found: dict[str, Any] = {}
    seen: set[str] = set()
    for key, value in pairs:
        name, number = key[:MAX_KEY], 1
        while name.casefold() in seen:
            number += 1
            name = f"{key[: MAX_KEY - 8]}_{number}"
        seen.add(name.casefold())
        found[name] = value
    return found


def metric_values(result: Result) -> dict[str, float]:
    """The numbers of the main rows: ``outcome/contrast/estimate``, ``…/std_error``, ``…/p_value``.

    A term other than the difference and a method beside CUPED (the unadjusted twin) are one more level of the
    name: ``revenue/b vs a/lift/estimate``, ``revenue/b vs a/welch/estimate``. NaN and infinite are left out.
    """
    rows = [row for row in records(result.estimates) if str(row["segment"]) in (EVERYONE, "")]
    methods: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        methods.setdefault(_cell(row), []).append(str(row["method"]))
    pairs = []
    for row in rows:
        several = methods[_cell(row)]
        method = str(row["method"])
        main = next((name for name in several if "cuped" in name), several[0])
        beside = method != main
        term = str(row["term"])
        levels = [str(row["outcome"]), str(row["contrast"]), "" if term == "difference" else term]
        levels.append(method if beside else "")
        base = "/".join(safe_name(level)[:70] for level in levels if level)
        pairs += [(f"{base}/{name}", float(row[name])) for name in NUMBERS if math.isfinite(row[name])]
    return unique(pairs[:MAX_METRICS])


def _cell(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in ("outcome", "segment", "contrast", "term"))


def _dataset_input(dataset: Mapping[str, Any]) -> Any:
    """The entity that MLflow's ``MetaDataset`` makes, without its imports and without looking at the data."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    facts = {key: value for key, value in dataset.items() if key not in ("name", "source", "digest")}
    entity = Dataset(
        name=scrub(dataset.get("name") or "input")[:MAX_NAME],
        digest=str(dataset.get("digest") or "unknown")[:MAX_DIGEST],
        source_type="external",
        source=json.dumps({"uri": scrub(dataset.get("source") or "")}),
        profile=json.dumps(facts, default=str) if facts else None,
    )
    return DatasetInput(entity, [InputTag("mlflow.data.context", "analysis")])


def _log_files(client: Any, run: str, artifacts: Mapping[str, str | bytes]) -> None:
    """All files in one call."""
    if not artifacts:
        return
    with tempfile.TemporaryDirectory(prefix="causal_spark_") as folder:
        for name, content in artifacts.items():
            path = Path(folder, name)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        client.log_artifacts(run, folder)
