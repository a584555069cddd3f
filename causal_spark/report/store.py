"""Where the runs are kept: the address of the tracking store, its lock, and how long to wait for it."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from causal_spark.errors import scrub as scrub

DEFAULT_URI = "sqlite:///mlflow.db"
LOCK_SECONDS = 600.0
_SQLITE = "sqlite:///"


def on_databricks() -> bool:
    """True inside a Databricks runtime, where the workspace itself is the tracking store."""
    return bool(os.environ.get("DATABRICKS_RUNTIME_VERSION"))


def absolute_uri(uri: str) -> str:
    """A SQLite address with an absolute path, resolved against the current directory; others unchanged."""
    database = database_of(uri)
    if database is None:
        return uri
    _, mark, options = uri.partition("?")
    return _SQLITE + database.as_posix() + mark + options


def database_of(uri: str) -> Path | None:
    """The file of a SQLite store; None for other stores and for a store in memory."""
    path = uri.removeprefix(_SQLITE).partition("?")[0]
    if not uri.startswith(_SQLITE) or not path or path == ":memory:":
        return None
    return Path(path).expanduser().resolve()


def artifact_location(database: Path, experiment: str) -> str:
    """The directory beside the database that holds the files of an experiment, as a ``file:`` address."""
    folder = re.sub(r"[^\w.-]+", "_", experiment).strip("._") or "experiment"
    return (database.parent / "mlartifacts" / folder[:80]).as_uri()


@contextmanager
def locked(database: Path | None) -> Iterator[None]:
    """Only one process at a time beyond this point, for a SQLite store; no lock for the others.

    The lock is an exclusive transaction on an empty SQLite file beside the store: it works wherever
    the store itself works, and it is free again as soon as its process ends, however it ends.
    """
    if database is None:
        yield
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    beside = database.with_name(database.name + ".lock")
    with closing(sqlite3.connect(beside, timeout=LOCK_SECONDS, isolation_level=None)) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        try:
            yield
        finally:
            lock.execute("ROLLBACK")


@contextmanager
def quiet() -> Iterator[None]:
    """No lines in the terminal about the tables of a new store; warnings still show."""
    loggers = [logging.getLogger(name) for name in ("mlflow.store.db.utils", "alembic")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def patience(retries: int, seconds: int) -> Iterator[None]:
    """How often and how long MLflow tries to reach a server; what the user has set stays as it is."""
    wanted = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(retries), "MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds)}
    ours = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)
