"""From a YAML file and ``--set`` overrides to frozen dataclasses; every wrong key or type is named with its remedy."""

from __future__ import annotations

import difflib
import json
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from causal_spark.errors import ConfigError, Phrase

T = TypeVar("T")

MAX_BYTES = 1 << 20
MAX_TEXT = 1024
MAX_NAME = 128
FORMATS = ("parquet", "delta", "csv", "json", "orc")


@dataclass(frozen=True)
class Filter:
    """One condition on a column; a list of them must all hold. Never SQL."""

    column: str
    op: Literal["==", "!=", "<", "<=", ">", ">=", "in", "not_in", "is_null", "not_null"] = "=="
    value: Any = None

    def __post_init__(self) -> None:
        values = list(self.value) if self.op in ("in", "not_in") and isinstance(self.value, list | tuple) else None
        if self.op in ("in", "not_in") and not values:
            raise ConfigError("bad_filter", column=self.column, op=self.op, expected=Phrase("expected_list_of_values"))
        if self.op in ("is_null", "not_null") and self.value is not None:
            raise ConfigError("bad_filter", column=self.column, op=self.op, expected=Phrase("expected_no_value"))
        for value in values if values is not None else [self.value]:
            plain = isinstance(value, str | int | float | bool)
            if not plain and self.op not in ("is_null", "not_null"):
                raise ConfigError("bad_filter", column=self.column, op=self.op, expected=Phrase("expected_plain"))


@dataclass(frozen=True)
class Source:
    """A table to read: a path, or a name of one to three parts (catalog.schema.table).

    ``format: runs``: a folder of finished runs, whose estimates over all units are read as one table.
    """

    table: str
    format: Literal["parquet", "delta", "csv", "json", "orc", "runs"] = "parquet"
    version: int | None = None


@dataclass(frozen=True)
class Output:
    """Where results go: a folder ``path``, or catalog tables that start with the name ``table``.

    ``scratch`` is the folder for the unit table that is built from events (default: inside ``path``);
    ``keep_units`` keeps it.
    """

    path: str | None = None
    table: str | None = None
    format: Literal["parquet", "delta"] = "parquet"
    scratch: str | None = None
    keep_units: bool = False

    def __post_init__(self) -> None:
        if (self.path is None) == (self.table is None):
            raise ConfigError("output_path_or_table")


@dataclass(frozen=True)
class Tracking:
    """The MLflow store; ``enabled: false`` leaves the run untracked."""

    uri: str | None = None
    experiment: str | None = None
    run_name: str | None = None
    enabled: bool = True


@dataclass(frozen=True)
class Report:
    """Language and title of the report."""

    language: Literal["en", "zh"] = "en"
    title: str | None = None


@dataclass(frozen=True)
class RunConfig:
    """One run of one job. ``method`` is the dataclass of the job's method."""

    job: str
    input: Mapping[str, Source]
    method: Any
    output: Output
    tracking: Tracking = field(default_factory=Tracking)
    report: Report = field(default_factory=Report)
    seed: int = 7


class _Loader(yaml.SafeLoader):
    """Safe YAML without aliases (an alias can grow a small file without bound) and without repeated keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        repeated = {repr(key) for key in keys if keys.count(key) > 1}
        if repeated:
            raise yaml.YAMLError(f"the key {', '.join(sorted(repeated))} stands twice")
        return super().construct_mapping(node, deep)


def parse(text: str, where: str) -> Any:
    """YAML text to plain data; ``where`` names the source in the error."""
    try:
        # _Loader is a SafeLoader: it makes plain data only.
        return yaml.load(text, Loader=_Loader)  # noqa: S506
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # not chained: the error quotes the line, which may hold a password
        raise ConfigError("yaml_unreadable", where=where, reason=_problem(error)) from None


def _problem(error: Exception) -> str:
    """What is wrong with a YAML text, and in which line, without quoting the line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return " ".join(str(error).split())[:200]


def parse_json(text: str, where: str) -> Any:
    """JSON text to plain data; ``where`` names the source in the error."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError("yaml_unreadable", where=where, reason=str(error)) from error


def load(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The configuration file as plain data, with ``a.b=value`` overrides applied."""
    file = Path(path)
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise ConfigError("config_unreadable", path=path, reason=error.strerror or error) from error
    if len(raw) > MAX_BYTES:
        raise ConfigError("config_too_large", path=path, limit=MAX_BYTES)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError("yaml_unreadable", where=str(path), reason=Phrase("reason_not_utf8")) from error
    data = parse(text, str(path))
    if not isinstance(data, dict):
        raise ConfigError("wrong_type", where=str(path), expected=Phrase("expected_mapping"), got=_show(data))
    return override(data, overrides)


def override(data: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of ``data`` with each ``a.b.c=value`` set; lists are indexed by number (``metrics.0.name``)."""
    result: dict[str, Any] = _copy(data)
    for item in overrides:
        key, sign, value = item.partition("=")
        if not sign or not key.strip():
            raise ConfigError("bad_override", item=item)
        target: Any = result
        *parents, last = key.strip().split(".")
        for part in parents:
            target = _step(target, part, key)
        if isinstance(target, list):
            _step(target, last, key)
            target[int(last)] = parse(value, f"--set {key}")
        else:
            target[last] = parse(value, f"--set {key}")
    return result


def _step(target: Any, part: str, key: str) -> Any:
    if isinstance(target, list):
        if not part.isdigit() or int(part) >= len(target):
            raise ConfigError("bad_override_index", key=key, part=part, size=len(target))
        return target[int(part)]
    if target.get(part) is None:
        target[part] = {}
    if not isinstance(target[part], dict | list):
        raise ConfigError("wrong_type", where=part, expected=Phrase("expected_mapping"), got=_show(target[part]))
    return target[part]


def _copy(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {str(key): _copy(value) for key, value in data.items()}
    return [_copy(value) for value in data] if isinstance(data, list | tuple) else data


def build(cls: type[T], data: Any, where: str) -> T:
    """``data`` as the dataclass ``cls``. Unknown keys name the nearest right key; types are strict.

    Raises ConfigError with the dotted place ``where`` of what is wrong.
    """
    if not isinstance(data, Mapping):
        raise ConfigError("wrong_type", where=where, expected=Phrase("expected_mapping"), got=_show(data))
    known = {item.name: item for item in fields(cls)}  # type: ignore[arg-type]
    for key in data:
        if key not in known:
            raise ConfigError("unknown_key", where=where, key=str(key)[:60], hint=nearest(str(key), list(known)))
    hints = get_type_hints(cls)
    values = {}
    for name, item in known.items():
        if name in data:
            values[name] = convert(hints[name], data[name], f"{where}.{name}")
        elif item.default is MISSING and item.default_factory is MISSING:
            raise ConfigError("missing_key", where=where, key=name)
    return cls(**values)


def convert(hint: Any, value: Any, where: str) -> Any:
    """``value`` checked against, and made into, the type ``hint``."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _union(get_args(hint), value, where)
    if origin is Literal:
        if value not in get_args(hint):
            choices = ", ".join(map(str, get_args(hint)))
            raise ConfigError("bad_choice", where=where, got=_show(value), choices=choices)
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError("wrong_type", where=where, expected=Phrase("expected_list"), got=_show(value))
        return tuple(convert(get_args(hint)[0], part, f"{where}.{i}") for i, part in enumerate(value))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError("wrong_type", where=where, expected=Phrase("expected_mapping"), got=_show(value))
        inner = get_args(hint)[1]
        return {_text(_plain(key), where): convert(inner, part, f"{where}.{key}") for key, part in value.items()}
    if is_dataclass(hint):
        return build(hint, value, where)  # type: ignore[arg-type]
    return _scalar(hint, value, where)


def _union(choices: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in choices:
        return None
    rest = [choice for choice in choices if choice is not type(None)]
    for choice in rest[:-1]:
        try:
            return convert(choice, value, where)
        except ConfigError:
            continue
    return convert(rest[-1], value, where)


def _scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is str and isinstance(value, bool | int | date):
        # YAML reads an arm named 1 or true, and a day, as something else than the text that stands there.
        return _plain(value)
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise ConfigError("wrong_type", where=where, expected=_TYPE_NAMES.get(hint, str(hint)), got=_show(value))
    if hint is float and value != value:
        raise ConfigError("wrong_type", where=where, expected=Phrase("expected_number"), got=_show(value))
    return _text(value, where) if hint is str else value


_TYPE_NAMES = {
    str: Phrase("expected_text"), int: Phrase("expected_whole"), float: Phrase("expected_number"),
    bool: Phrase("expected_truth"),
}  # fmt: skip


def _plain(value: Any) -> str:
    if isinstance(value, date):
        return value.isoformat()
    return str(value).lower() if isinstance(value, bool) else str(value)


def _text(value: str, where: str) -> str:
    if len(value) > MAX_TEXT or any(ord(c) < 32 or ord(c) == 127 for c in value):
        raise ConfigError("bad_text", where=where, limit=MAX_TEXT)
    return value


def utc_micros(text: str | None, where: str) -> int | None:
    """A time such as 2026-01-31 in microseconds since 1970, one without zone as UTC. Errors name ``where``."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError("bad_time", where=where, got=text) from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1e6)


def nearest(name: str, known: Sequence[str]) -> str:
    """The known name most like ``name``, or all of them, for the end of an error."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return close[0] if close else ", ".join(sorted(known))


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def run_config(data: Mapping[str, Any], method: type[Any], job: str) -> RunConfig:
    """The whole configuration of ``job``, its ``method`` section built as the dataclass ``method``."""
    known = [item.name for item in fields(RunConfig)]
    for key in data:
        if key not in known:
            raise ConfigError(
                "unknown_key", where=Phrase("where_configuration"), key=str(key)[:60], hint=nearest(str(key), known)
            )
    for key in ("input", "method", "output"):
        if key not in data:
            raise ConfigError("missing_key", where=Phrase("where_configuration"), key=key)
    if data.get("job", job) != job:
        raise ConfigError("other_job", got=_show(data["job"]), job=job)
    return RunConfig(
        job=job,
        input=convert(Mapping[str, Source], data["input"], "input"),
        method=build(method, data["method"], "method"),
        output=build(Output, data["output"], "output"),
        tracking=_section(Tracking, data, "tracking"),
        report=_section(Report, data, "report"),
        seed=convert(int, data.get("seed", 7), "seed"),
    )


def _section(cls: type[T], data: Mapping[str, Any], key: str) -> T:
    return build(cls, {} if data.get(key) is None else data[key], key)
