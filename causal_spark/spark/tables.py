"""Tables in and out: read and check, fingerprint, stage, quote names."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType, DataType, DateType, NumericType, TimestampNTZType, TimestampType

from causal_spark import storage
from causal_spark.config import FORMATS, MAX_NAME, Filter, Source, nearest
from causal_spark.errors import ConfigError, Phrase, RunError
from causal_spark.outputs import MANIFEST
from causal_spark.spark.runs import finished_runs
from causal_spark.spark.session import ENGINE_ERRORS, Engine, on_databricks, told

# What the other rooms call a table on the cluster, without knowing Spark.
Frame = DataFrame

NAME = re.compile(r"^[\w-]+(\.[\w-]+){0,2}$")
# What is read from the estimates of another run, and may name its folder.
ESTIMATES = ("lift",)
# Of a path that is not on this machine the cluster hears only if it looks like one.
PLAIN = re.compile(r"[\w.:=-]+|(?=.*/)[\w./:=+,%()~@ -]+")
# Spark reads `text`.`path` as a file in that format.
FILE_FORMATS = {*FORMATS, "text", "avro", "binaryfile", "xml", "libsvm", "image", "jdbc"}


def col(name: str) -> Column:
    """The column called exactly ``name``, whatever characters it holds."""
    return F.col("`" + name.replace("`", "``") + "`")


def read(engine: Engine, source: Source, role: str) -> DataFrame:
    """The table of ``source``, checked to exist and to have columns. ``role`` names it in errors."""
    try:
        frame = _read(engine, source, role)
        columns = frame.columns
    except ENGINE_ERRORS as error:
        reason = told(error, 200)
        raise ConfigError(
            "table_unreadable", role=role, table=source.table, format=source.format, reason=reason
        ) from error
    if not columns:
        raise ConfigError("table_not_found", role=role, table=source.table)
    return frame


def _read(engine: Engine, source: Source, role: str) -> DataFrame:
    spark = engine.spark
    if source.format == "runs":
        return finished_runs(engine, storage.check(source.table), role)
    if is_name(source.table):
        parts = source.table.split(".")
        if parts[0].lower() in FILE_FORMATS:
            raise ConfigError("bad_table_name", role=role, table=source.table)
        quoted = ".".join(f"`{part}`" for part in parts)
        if source.version is None:
            return spark.table(quoted)
        return spark.read.option("versionAsOf", source.version).table(quoted)
    path = _engine_path(estimates_of(source.table) if role in ESTIMATES else source.table)
    here = engine.local_files or not PLAIN.fullmatch(path)
    if here and storage.is_local(source.table) and not Path(storage.local(source.table)).exists():
        raise ConfigError("table_not_found", role=role, table=source.table)
    reader = spark.read.format(source.format)
    if source.format == "csv":
        reader = reader.option("header", "true").option("inferSchema", "true")
    if source.version is not None:
        reader = reader.option("versionAsOf", source.version)
    return reader.load(path)


def estimates_of(path: str) -> str:
    """The estimates of a finished run, if ``path`` is its folder; else ``path`` itself."""
    with suppress(OSError, ValueError, ConfigError, RunError):
        if storage.exists(storage.join(storage.check(path), MANIFEST)):
            return storage.join(path, "estimates")
    return path


def is_name(table: str) -> bool:
    """Whether ``table`` is a catalog name rather than a path."""
    suffix = table.rsplit(".", 1)[-1].lower()
    return bool(NAME.match(table)) and suffix not in FORMATS and not Path(table).exists()


def _engine_path(path: str) -> str:
    """A local path made absolute; a path this machine does not have is left to the cluster's file system."""
    checked = storage.check(path)
    if not storage.is_local(checked) or on_databricks() or not Path(storage.local(checked)).exists():
        return checked
    return "file://" + str(Path(storage.local(checked)).resolve())


def require(frame: DataFrame, names: Sequence[str], role: str) -> dict[str, DataType]:
    """The types of the columns ``names``; a missing one is an error that names the nearest column."""
    schema = {item.name: item.dataType for item in frame.schema.fields}
    for name in names:
        if len(name) > MAX_NAME:
            raise ConfigError("name_too_long", name=name[:40], limit=MAX_NAME)
        if name not in schema:
            raise ConfigError("missing_column", role=role, column=name, hint=nearest(name, list(schema)))
        if sum(item.name == name for item in frame.schema.fields) > 1:
            raise ConfigError("repeated_column", role=role, column=name)
    return {name: schema[name] for name in names}


def require_numbers(frame: DataFrame, names: Sequence[str], role: str) -> None:
    """As ``require``, and every column must be a number or a boolean."""
    for name, kind in require(frame, names, role).items():
        if not isinstance(kind, NumericType | BooleanType):
            raise ConfigError("not_a_number", role=role, column=name, type=kind.simpleString())


def require_times(frame: DataFrame, name: str, role: str) -> None:
    """As ``require`` for one column, and it must be a timestamp or a date."""
    kind = require(frame, [name], role)[name]
    if not isinstance(kind, TimestampType | TimestampNTZType | DateType):
        raise ConfigError("not_a_time", role=role, column=name, type=kind.simpleString())


def require_filters(frame: DataFrame, filters: Sequence[Filter], role: str) -> None:
    """As ``require`` for the columns of ``filters``, and their values must be of the columns' types."""
    kinds = require(frame, [item.column for item in filters], role)
    for item in filters:
        fits, expected = _fitting(kinds[item.column])
        values = item.value if isinstance(item.value, list | tuple) else [item.value]
        if item.op not in ("is_null", "not_null") and not all(map(fits, values)):
            raise ConfigError("bad_filter", column=item.column, op=item.op, expected=expected)


def _fitting(kind: DataType) -> tuple[Callable[[Any], bool], Phrase]:
    """Whether a filter's value may be compared with a column of this type, and what is expected of it."""
    if isinstance(kind, BooleanType):
        return lambda value: isinstance(value, bool), Phrase("expected_truth")
    if isinstance(kind, NumericType):
        return lambda value: isinstance(value, int | float) and not isinstance(value, bool), Phrase("expected_number")
    if isinstance(kind, TimestampType | TimestampNTZType | DateType):
        return _is_time, Phrase("expected_time")
    return lambda value: isinstance(value, str), Phrase("expected_text")


def _is_time(value: object) -> bool:
    with suppress(ValueError, TypeError):
        return bool(datetime.fromisoformat(value))  # type: ignore[arg-type]
    return False


def fingerprint(engine: Engine, source: Source, frame: DataFrame) -> str:
    """What tells two states of a table apart, without reading it: files with size and time, or the Delta version.

    A table that offers neither is told apart by its schema and row count.
    """
    if source.version is not None:
        return _digest([source.table, str(source.version)])
    if not is_name(source.table):
        with suppress(OSError, ValueError, ConfigError, RunError):
            listing = storage.listing(source.table)
            if listing:
                return _digest([source.table, *listing])
    else:
        quoted = ".".join(f"`{part}`" for part in source.table.split("."))
        with suppress(*ENGINE_ERRORS):
            detail = engine.spark.sql(f"DESCRIBE HISTORY {quoted} LIMIT 1").first()
            if detail is not None:
                return _digest([source.table, str(detail["version"])])
    return _digest([source.table, frame.schema.simpleString(), str(frame.count())])


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def stage(engine: Engine, frame: DataFrame, folder: str) -> DataFrame:
    """``frame`` written once as parquet and read back, so that later passes do not repeat its shuffles."""
    return engine.spark.read.parquet(_write(frame, folder, "parquet"))


def save_delta(engine: Engine, folder: str, frame: pd.DataFrame) -> None:
    """A small table as a Delta table in ``folder``."""
    _write(engine.spark.createDataFrame(storage.arrow(frame)).coalesce(1), folder, "delta")


def _write(frame: DataFrame, folder: str, kind: str) -> str:
    """The folder as the engine names it, after ``frame`` has been written there."""
    target = storage.check(folder)
    if storage.is_local(target) and not on_databricks():
        target = "file://" + str(Path(storage.local(target)).resolve())
    try:
        frame.write.mode("overwrite").format(kind).save(target)
    except ENGINE_ERRORS as error:
        raise RunError("write_failed", path=folder, reason=told(error, 300)) from error
    return target
