"""One run of a job: read → gate → prepare → compress → solve → report, and never half of it."""

from __future__ import annotations

import hashlib
import importlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from functools import cache, partial
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pandas as pd

from causal_spark import __version__, storage
from causal_spark.config import RunConfig, run_config
from causal_spark.errors import CausalSparkError, ConfigError, Phrase
from causal_spark.outputs import RunFolder, manifest_text, read_manifest
from causal_spark.results import Result

if TYPE_CHECKING:
    from causal_spark.spark.session import Engine

# Each job is a package in methods: METHOD, INPUTS, RESOLVABLE, Compressed, solve, and run.compress for the cluster.
JOBS = {"experiment": "causal_spark.methods.experiment", "matching": "causal_spark.methods.matching",
        "attribution": "causal_spark.methods.attribution", "budget": "causal_spark.methods.budget",
        "portfolio": "causal_spark.methods.portfolio", "design": "causal_spark.methods.design"}  # fmt: skip

Progress = Callable[[str], None]


def silent(stage: str) -> None:
    """The progress of nobody watching."""


def family(job: str) -> ModuleType:
    """The method package of a job. Raises ConfigError naming the jobs there are."""
    if job not in JOBS:
        raise ConfigError("no_such_job", job=job, jobs=", ".join(JOBS))
    return importlib.import_module(JOBS[job])


@dataclass(frozen=True)
class Outcome:
    """What a run left: the result (None if nothing had to be done), where, and its MLflow run."""

    manifest: Mapping[str, Any]
    result: Result | None
    tracking_error: CausalSparkError | None = None

    @property
    def repeated(self) -> bool:
        return self.result is None


def validate(data: Mapping[str, Any], job: str) -> RunConfig:
    """The configuration as dataclasses, checked as far as it can be without a session."""
    methods = family(job)
    config = run_config(data, methods.METHOD, job)
    if tuple(sorted(config.input)) not in {tuple(sorted(roles)) for roles in methods.INPUTS}:
        expected = " | ".join(" + ".join(roles) for roles in methods.INPUTS)
        raise ConfigError("inputs", job=job, expected=expected, got=", ".join(config.input) or Phrase("got_nothing"))
    for source in config.input.values():
        if "/" in source.table or "\\" in source.table:
            storage.check(source.table)
    for path in filter(None, (config.output.path, config.output.scratch)):
        storage.check(path)
        for source in config.input.values():
            if storage.overlap(path, source.table):
                raise ConfigError("output_in_input", output=path, input=source.table)
    if getattr(config.method, "experiment_key", None) is not None and not config.tracking.enabled:
        raise ConfigError("looks_need_tracking")
    large = {"events", "days"} & config.input.keys() or getattr(config.method, "writes_large_tables", False)
    if config.output.path is None and config.output.scratch is None and large:
        raise ConfigError("scratch_needed")
    return config


def run(data: Mapping[str, Any], job: str, engine: str | None = None, progress: Progress = silent) -> Outcome:
    """Run ``job`` on the configuration ``data``; a finished run of the same key is left as it is.

    Raises ConfigError (2), GateError (3) or RunError (1); then nothing was written. If only MLflow failed,
    tables and report are there and the error is in the outcome.
    """
    config = validate(data, job)
    from causal_spark.spark.session import open_engine

    with open_engine(engine) as opened:
        return _run(opened, config, progress)


def _run(engine: Engine, config: RunConfig, progress: Progress) -> Outcome:
    from causal_spark.spark import tables
    from causal_spark.spark.session import engine_errors

    started = time.monotonic()
    methods = family(config.job)
    progress("read")
    frames = {role: tables.read(engine, source, role) for role, source in config.input.items()}
    prints = {role: tables.fingerprint(engine, config.input[role], frame) for role, frame in frames.items()}
    key = run_key(config, prints)
    target = _target(engine, config, key)
    done = target.finished()
    if done is not None and (done.get("mlflow_run") or not config.tracking.enabled):
        return Outcome(done, None)
    if done is not None:
        return _track_again(config, target, done, progress)
    earlier = _earlier_looks(config, key)
    with _abandoned_on_error(target):
        compress = importlib.import_module(JOBS[config.job] + ".run").compress
        with engine_errors():
            compressed = compress(engine, config.method, frames, target.scratch, progress, config.report.language)
        if earlier is not None:
            compressed = replace(compressed, more={**compressed.more, methods.looks.NAME: earlier})
        progress("solve")
        result = methods.solve(config.method, compressed, config.report.language)
        facts = _facts(config, key, prints, compressed.facts, f"{engine.name} {engine.version}", started)
        progress("report")
        manifest = _write(target, config, result, compressed.to_json(), facts)
    return _tracked(config, target, manifest, result, facts, progress)


def _earlier_looks(config: RunConfig, key: str) -> dict[str, Any] | None:
    """What the looks before this run saw, of a method with a plan of several; None without one.

    Raises ConfigError for a plan that is not that of the first look, RunError if the looks cannot be read.
    """
    name = getattr(config.method, "experiment_key", None)
    if name is None:
        return None
    from causal_spark.report.tracking import look_texts

    texts = look_texts(name, config.tracking)
    told: dict[str, Any] = family(config.job).looks.told(config.method, texts, key, _now())
    return told


def _look(config: RunConfig, result: Result, facts: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Tags and artifacts that make a tracked run a look at its experiment; a run solved again is none."""
    name = getattr(config.method, "experiment_key", None)
    if name is None or "resolved_from" in facts:
        return {}, {}
    from causal_spark.report.tracking import LOOK

    table = result.diagnostics.get(family(config.job).looks.NAME, pd.DataFrame())
    text = family(config.job).looks.text(config.method, table, facts["run_key"], facts["created"])
    return {"experiment_key": name}, {LOOK: text}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def run_key(config: RunConfig, prints: Mapping[str, str]) -> str:
    """What makes two runs the same: input state, method, seed, language and code; not where results go."""
    parts = {
        "job": config.job,
        "input": {role: asdict(source) for role, source in config.input.items()},
        "prints": dict(prints),
        "method": asdict(config.method),
        "language": config.report.language,
        "seed": config.seed,
        "code": code_version(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


@cache
def code_version() -> str:
    """Version and a digest of the package's own files, so that changed code is another run."""
    digest = hashlib.sha256()
    for name, content in sorted(_sources(files("causal_spark"), "")):
        digest.update(name.encode() + b"\0" + content)
    return f"{__version__}+{digest.hexdigest()[:10]}"


def _sources(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    for item in folder.iterdir():
        name = f"{prefix}/{item.name}"
        if item.is_dir() and item.name != "__pycache__":
            yield from _sources(item, name)
        elif item.name.endswith((".py", ".yml", ".html", ".css")):
            yield name, item.read_bytes()


def _target(engine: Engine, config: RunConfig, key: str) -> Any:
    if config.output.path is not None:
        from causal_spark.spark.tables import save_delta

        save = partial(save_delta, engine) if config.output.format == "delta" else storage.write_frame
        return RunFolder(config.output.path, key, config.output.scratch, save)
    from causal_spark.spark.catalog import RunTables

    return RunTables(engine, str(config.output.table), config.output.format, config.output.scratch, key)


@contextmanager
def _abandoned_on_error(target: Any) -> Iterator[None]:
    try:
        yield
    except BaseException:
        target.abandon()
        raise


def _facts(config: RunConfig, key: str, prints: Mapping[str, str], found: Mapping[str, Any], engine: str,
           started: float) -> dict[str, Any]:  # fmt: skip
    """What the report and the manifest say of how the numbers came about."""
    return {
        "title": config.report.title or config.tracking.experiment or config.job,
        "job": config.job,
        "run_key": key,
        "created": _now(),
        "engine": engine,
        "code_version": code_version(),
        "input": ", ".join(source.table for source in config.input.values()),
        "fingerprint": hashlib.sha256("".join(prints.values()).encode()).hexdigest()[:32],
        "rows": found.get("events") or found.get("rows"),
        "units": found.get("rows"),
        "seconds": round(time.monotonic() - started, 2),
        "arms": list(found.get("arms", {})),
        **_choices(config),
    }


def _choices(config: RunConfig) -> dict[str, Any]:
    """The settings of the method, and those that the report names by themselves."""
    named = {name: getattr(config.method, name, None) for name in ("alpha", "correction", "alternative", "control")}
    return {**named, "method": asdict(config.method)}


def _write(target: Any, config: RunConfig, result: Result, statistics: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    from causal_spark.report.page import render

    target.begin()
    texts = {"statistics.json": statistics, "report.html": render(result, facts, config.report.language)}
    target.write({"estimates": result.estimates, **result.diagnostics}, texts)
    manifest = {
        **facts,
        "trusted": result.trusted,
        "notes": list(result.notes),
        "language": config.report.language,
        "tracking": {"uri": None, "experiment": config.tracking.experiment, "run_name": config.tracking.run_name},
        "path": config.output.path or config.output.table,
        "tables": ["estimates", *result.diagnostics],
        "mlflow_run": None,
    }
    manifest = json.loads(manifest_text(manifest))
    target.finish(manifest, config.output.keep_units)
    return dict(manifest)


def _tracked(config: RunConfig, target: Any, manifest: dict[str, Any], result: Result, facts: Mapping[str, Any],
             progress: Progress) -> Outcome:  # fmt: skip
    """Log to MLflow after everything is written; its failure does not take back the result."""
    if not config.tracking.enabled:
        return Outcome(manifest, result)
    progress("track")
    from causal_spark.report.page import figures
    from causal_spark.report.tracking import log_run

    artifacts = {name: target.read(name) for name in ("report.html", "statistics.json")}
    artifacts |= figures(result, facts, config.report.language)
    tables = {"estimates": result.estimates, **result.diagnostics}
    artifacts |= {f"{name}.csv": _csv(frame) for name, frame in tables.items()}
    dataset = {"name": facts["title"], "source": facts["input"], "digest": facts["fingerprint"]}
    tags = {"engine": facts["engine"], "code_version": facts["code_version"], "run_key": facts["run_key"],
            "trusted": str(result.trusted).lower(), "input": facts["input"]}  # fmt: skip
    marks, look = _look(config, result, facts)
    try:
        run_id = log_run(result, tracking=config.tracking, params=_params(config), tags=tags | marks,
                         artifacts=artifacts | look, dataset=dataset)  # fmt: skip
    except CausalSparkError as error:
        return Outcome(manifest, result, error)
    manifest = {**manifest, "mlflow_run": run_id}
    target.amend(manifest)
    return Outcome(manifest, result)


def _csv(frame: pd.DataFrame) -> str:
    """CSV whose texts no spreadsheet takes for a formula."""

    def safe(value: object) -> object:
        return "'" + value if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t") else value

    return frame.map(safe).to_csv(index=False)


def _params(config: RunConfig) -> dict[str, object]:
    """The method's own fields, nothing else of the configuration."""
    values = {item.name: getattr(config.method, item.name) for item in fields(config.method)}
    plain = {name: value for name, value in values.items() if value not in (None, (), {})}
    return {name: _plain(value) for name, value in plain.items()} | {"seed": config.seed}


def _plain(value: object) -> object:
    if isinstance(value, str | int | float | bool):
        return value
    return json.dumps(value, default=asdict, ensure_ascii=False)


def _track_again(config: RunConfig, target: Any, manifest: dict[str, Any], progress: Progress) -> Outcome:
    """A finished run whose logging failed: solve its statistics again and log them."""
    methods = family(config.job)
    compressed = methods.Compressed.from_json(target.read("statistics.json"))
    result = methods.solve(config.method, compressed, config.report.language)
    return _tracked(config, target, manifest, result, manifest, progress)


def resolve(path: str, changes: Mapping[str, Any], output: str | None, tracking: bool = False) -> Outcome:
    """Solve a finished run again from its statistics.json with ``changes`` to the method; no table is touched.

    Writes to ``output`` (default: ``<path>-resolved-<key>``). Raises ConfigError for a field that would change
    what is compressed.
    """
    manifest = read_manifest(path)
    methods = family(str(manifest["job"]))
    for key in changes:
        if key not in methods.RESOLVABLE:
            raise ConfigError("resolve_refused", key=key, allowed=", ".join(methods.RESOLVABLE))
    method = {**manifest["method"], **changes}
    text = storage.read_text(storage.join(path, "statistics.json"))
    asked = manifest["run_key"] + code_version() + json.dumps(dict(changes), sort_keys=True, default=str)
    key = hashlib.sha256(asked.encode())
    short = key.hexdigest()[:16]
    target = RunFolder(storage.check(output) if output else f"{path.rstrip('/')}-resolved-{short[:6]}", short)
    config = run_config(
        {
            "job": manifest["job"], "input": {}, "method": method, "output": {"path": target.path},
            "tracking": {"enabled": tracking, "experiment": manifest["tracking"]["experiment"]},
            "report": {"language": manifest["language"], "title": manifest["title"]},
        },
        methods.METHOD, str(manifest["job"]),
    )  # fmt: skip
    done = target.finished()
    if done is not None:
        return Outcome(done, None)
    with _abandoned_on_error(target):
        result = methods.solve(config.method, methods.Compressed.from_json(text), config.report.language)
        kept = ("title", "job", "engine", "input", "fingerprint", "rows", "units", "arms")
        facts = {
            **{name: manifest[name] for name in kept},
            **_choices(config),
            "run_key": short,
            "resolved_from": manifest["run_key"],
            "code_version": code_version(),
            "created": _now(),
            "seconds": 0.0,
        }
        written = _write(target, config, result, text, facts)
    return _tracked(config, target, written, result, facts, silent)
