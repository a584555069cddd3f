"""What a configuration, a table or a name may not do: reach the engine as code, read a file, tell a secret, run.

A corpus of hostile texts stands in every place that takes a text. Strange but honest names must work all the same.
"""

from __future__ import annotations

import copy
import csv
import io
import json
import math
import os
import re
import traceback
from collections.abc import Callable, Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from causal_spark import cli, job
from causal_spark.errors import CausalSparkError

N = 240
START = 1_767_571_200_000_000  # 2026-01-05 00:00 UTC in microseconds
DAY = 86_400_000_000
CANARY_TEXT, CANARY_VALUE = "canary-in-a-file-5b1f", "canary-in-a-variable-77c0"
CANARY_NAME = "CAUSAL_SPARK_TEST_CANARY"

Config = dict[str, Any]

# {file} is a file that holds a secret, {name} an environment variable that does.
SQL = [
    "x' OR '1'='1",
    "1; DROP TABLE units",
    "revenue) FROM units --",
    "revenue/**/",
    "*",
    "units.*",
    "count(*)",
    "`",
    "``",
    "`; --",
    "x`) UNION ALL SELECT * FROM text.`{file}` --",
    "(SELECT value FROM text.`{file}`)",
    "(SELECT value FROM text.`/etc/hostname` LIMIT 1)",
    "exists(SELECT 1 FROM csv.`{file}`)",
    "IDENTIFIER('text.`{file}`')",
    "reflect('java.lang.System', 'getenv', '{name}')",
    "java_method('java.lang.System', 'getenv', '{name}')",
    "try_reflect('java.lang.System', 'getProperty', 'user.home')",
    "xpath_string('<!DOCTYPE a [<!ENTITY b SYSTEM \"file://{file}\">]><a>&b;</a>', 'a')",
    "from_csv(value, 'a INT')",
    "raise_error('x')",
    "secret('scope', 'key')",
    "input_file_name()",
    "current_user()",
    "java.lang.Runtime.getRuntime().exec('id')",
    "__import__('os').environ['{name}']",
]
EXPANDED = [
    "${{env:{name}}}",
    "${{spark.sql.warehouse.dir}}",
    "${{secret:scope/key}}",
    "$({name})",
    "${name}",
    "{{{{ config.items() }}}}",
    "{{0.__class__.__mro__}}",
    "{{values}}",
    "%({name})s%n",
    "${{jndi:ldap://127.0.0.1:9/a}}",
    "!!python/name:os.system",
]
PATHS = [
    "../{file}",
    "..",
    "data/../../secret",
    "..\\..\\secret",
    "/",
    ".",
    "{file}*",
    "/data/{{a,b}}",
    "/data/[ab]",
    "/data/?",
    "file://{file}/../x",
    "text.`{file}`",
    "text.foo",
    "TEXT.foo",
    "csv.foo",
    "binaryFile.foo",
    "jdbc.foo",
    "delta.`{file}`",
    "jdbc:mysql://127.0.0.1:9/db",
    "jdbc:sqlite:{file}",
    "http://127.0.0.1:9/x",
    "https://127.0.0.1:9/x",
    "ftp://127.0.0.1:9/x",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "s3a://key:word@bucket/x",
    "a.b.c.d",
]
SHAPES = [
    "a\x00b",
    "a\nb",
    "a\r\nSet-Cookie: b",
    "a\x1b[31mb",
    "a\x7fb",
    "\x01",
    "x" * 129,
    "x" * 5000,
    "revenu\u0435",  # the last letter is Cyrillic
    "rev\u200benue",
    "\u202eeunever",
    "＇ OR １＝１",
]
CORPUS = [*SQL, *EXPANDED, *PATHS, *SHAPES]

XSS = [
    "<script>alert(1)</script>",
    "</title><script>alert(2)</script>",
    "</style><script>alert(3)</script>",
    "</svg><script>alert(4)</script>",
    "<ScRiPt src=//evil.example/x.js></sCrIpT>",
    '"><img src=x onerror=alert(5)>',
    "'><svg onload=alert(6)>",
    "<svg/onload=alert(7)>",
    "<img src='http://evil.example/p.png'>",
    "<iframe src=javascript:alert(8)></iframe>",
    "<a href='javascript:alert(9)'>x</a>",
    "<body onload=alert(10)>",
    "<math><mtext></mtext><script>alert(11)</script></math>",
    "<object data='http://evil.example/o'></object>",
    "<embed src='http://evil.example/e'>",
    "<link rel=stylesheet href=http://evil.example/s.css>",
    "<meta http-equiv=refresh content='0;url=http://evil.example'>",
    "<base href='http://evil.example/'>",
    "<form action='http://evil.example'><input name=a></form>",
    "<style>@import 'http://evil.example/i.css';</style>",
    "<details open ontoggle=alert(12)>",
    "<input autofocus onfocus=alert(13)>",
    "<video><source onerror=alert(14)></video>",
    "{{7*7}}",
    "{% for x in y %}",
    "${7*7}",
    "]]><script>alert(15)</script>",
    "--><script>alert(16)</script>",
    "&lt;script&gt;alert(17)&lt;/script&gt;",
    '" style="background:url(http://evil.example/b)" x="',
    "</text><script>alert(18)</script>",
    "<textarea><script>alert(19)</script>",
]


def test_the_corpora_are_large_enough():
    assert len(set(CORPUS)) >= 60
    assert len(set(XSS)) >= 30


# --- tables and configurations ---------------------------------------------------------------------------------


def units(names: Mapping[str, str] | None = None, arms: tuple[str, ...] = ("control", "treatment")) -> dict[str, Any]:
    """A unit table; ``names`` gives some of its columns another name."""
    rng = np.random.default_rng(5)
    made = {
        "user_id": [f"u{i:04d}" for i in range(N)],
        "variant": [arms[i % len(arms)] for i in range(N)],
        "revenue": rng.gamma(8.0, 2.0, N).tolist(),
        "before": rng.gamma(8.0, 2.0, N).tolist(),
        "converted": [int(v) for v in rng.random(N) < 0.3],
        "clicks": rng.integers(0, 9, N).tolist(),
        "views": rng.integers(9, 30, N).tolist(),
        "country": [("DE", "FR", "CN")[i // 2 % 3] for i in range(N)],
        "shop": [f"s{i % 80:02d}" for i in range(N)],
    }
    return {(names or {}).get(name, name): values for name, values in made.items()}


def write(columns: Mapping[str, Any], folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(columns)), folder / "part-0.parquet")
    return str(folder)


def config_for(folder: Path) -> Config:
    return {
        "job": "experiment",
        "input": {"units": {"table": str(folder / "units")}},
        "method": {
            "unit": "user_id",
            "arm": "variant",
            "control": "control",
            "shares": {"control": 0.5, "treatment": 0.5},
            "metrics": [
                {"name": "revenue", "kind": "mean", "value": "revenue", "covariates": ["before"]},
                {"name": "ctr", "kind": "ratio", "numerator": "clicks", "denominator": "views"},
            ],
            "segments": ["country"],
            "min_segment": 10,
        },
        "output": {"path": str(folder / "out")},
        "tracking": {"enabled": False},
    }


def saved(config: Config, folder: Path) -> str:
    path = folder / "config.yml"
    path.write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    return str(path)


def put(config: Config, place: str, value: Any) -> Config:
    """A copy of ``config`` with ``value`` at the dotted ``place``."""
    changed = copy.deepcopy(config)
    target: Any = changed
    *parents, last = place.split(".")
    for part in parents:
        target = target[int(part)] if isinstance(target, list) else target.setdefault(part, {})
    target[int(last) if isinstance(target, list) else last] = value
    return changed


# --- nothing of it reaches the engine --------------------------------------------------------------------------


@pytest.fixture
def canaries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """A file and a variable with a secret; the call asserts that neither has been written or printed anywhere."""
    secret = tmp_path / "secret" / "canary.txt"
    secret.parent.mkdir()
    secret.write_text(CANARY_TEXT + "\n", encoding="utf-8")
    monkeypatch.setenv(CANARY_NAME, CANARY_VALUE)

    def silent() -> None:
        for path in tmp_path.rglob("*"):
            if path.is_file() and path != secret:
                content = path.read_bytes()
                assert CANARY_TEXT.encode() not in content, path
                assert CANARY_VALUE.encode() not in content, path

    yield silent
    silent()


@pytest.fixture
def sent(spark: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that is given to the engine as SQL, as an expression, or as the name or path of a table."""
    texts: list[str] = []

    def listen(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def heard(*arguments: Any, **named: Any) -> Any:
            texts.extend(str(a) for a in (*arguments, *named.values()) if isinstance(a, str))
            return real(*arguments, **named)

        monkeypatch.setattr(owner, name, heard)

    import pyspark.sql.functions as F

    frame = type(spark.range(1))
    for owner, names in (
        (type(spark), ("sql", "table")),
        (type(spark.read), ("load", "table", "parquet")),
        (frame, ("filter", "where", "selectExpr")),
        (F, ("expr",)),
    ):
        for name in names:
            listen(owner, name)
    return texts


def filled(template: str, folder: Path) -> str:
    """The hostile text with the canary's places in it. Shapes hold no braces."""
    if "{" not in template:
        return template
    return template.format(file=folder / "secret" / "canary.txt", name=CANARY_NAME)


# place → what is put there, given the hostile text
PLACES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "unit": ("method.unit", str),
    "arm": ("method.arm", str),
    "cluster": ("method.cluster", str),
    "value": ("method.metrics.0.value", str),
    "covariate": ("method.metrics.0.covariates", lambda text: [text]),
    "numerator": ("method.metrics.1.numerator", str),
    "segment": ("method.segments", lambda text: [text]),
    "control": ("method.control", str),
    "share": ("method.shares", lambda text: {text: 0.5, "treatment": 0.5}),
    "holdout": ("method.holdouts", lambda text: ["control", text]),
    "time": ("method.as_of", str),
    "filter column": ("method.where", lambda text: [{"column": text, "value": 1}]),
    "filter operator": ("method.where", lambda text: [{"column": "country", "op": text, "value": "DE"}]),
    "filter value": ("method.where", lambda text: [{"column": "country", "value": text}]),
    "filter values": ("method.where", lambda text: [{"column": "country", "op": "in", "value": [text, "x"]}]),
    "table": ("input.units.table", str),
    "format": ("input.units.format", str),
    "output": ("output.path", str),
    "output format": ("output.format", str),
    "scratch": ("output.scratch", str),
    "language": ("report.language", str),
    "kind": ("method.metrics.0.kind", str),
    "job": ("job", str),
    "key": ("method", lambda text: {text: 1}),
    "nested key": ("method.metrics", lambda text: [{text: 1}]),
}
# A folder may have a strange name; what is more than the plain path of one is refused.
FOLDERS = ("output", "scratch")
LITERALS = ("filter value", "filter values")
NO_FOLDERS = [text for text in PATHS if not re.fullmatch(r"[\w.]*\w", text)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every case on Sail and classic Spark; one in five on Spark Connect, which takes seconds for each."""
    step = 5 if metafunc.config.getoption("--engine") == "connect" else 1
    for name, cases in (("place", [*PLACES]), ("strange", HONEST)):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, cases[::step])


def test_no_hostile_text_reaches_the_engine(place, spark, engine, tmp_path, capsys, monkeypatch, canaries, sent):
    """Every text of the corpus in every place: a typed refusal, and the engine has not seen it."""
    monkeypatch.chdir(tmp_path)
    write(units(), tmp_path / "units")
    base, (where, wrap) = config_for(tmp_path), PLACES[place]
    corpus = NO_FOLDERS if place in FOLDERS else CORPUS
    if place in LITERALS and engine != "sail":
        corpus = CORPUS[:: 20 if engine == "connect" else 4]  # each of these is a pass over the table
    texts = [filled(template, tmp_path) for template in corpus]
    before = sorted(tmp_path.rglob("*"))
    failed = []
    for text in texts:
        sent.clear()
        try:
            job.run(put(base, where, wrap(text)), "experiment")
            failed.append((text, "was accepted"))
        except CausalSparkError as error:
            if error.exit_code not in (2, 3):
                failed.append((text, f"exit {error.exit_code}: {error}"))
            if len(str(error).splitlines()) > 2 or len(str(error)) > 700:
                failed.append((text, f"too long a message: {error}"))
            if re.search(r"[\x00-\x09\x0b-\x1f\x7f]", str(error) + error.text("zh")):
                failed.append((text, "a control character in the message"))
        except Exception as error:
            failed.append((text, f"{type(error).__name__}: {error}"))
        if any(text in heard for heard in sent if not plain(heard)):
            failed.append((text, f"the engine has heard {sent}"))
    assert not failed
    assert sorted(tmp_path.rglob("*")) == before
    told = capsys.readouterr()
    assert CANARY_TEXT not in told.out + told.err
    assert CANARY_VALUE not in told.out + told.err


def plain(text: str) -> bool:
    """A quoted catalog name or an absolute path without anything to expand: what the engine may be given."""
    return bool(re.fullmatch(r"(`[\w-]+`)(\.`[\w-]+`){0,2}|(file://)?[\w./~:-]+", text)) and ".." not in text


@pytest.mark.parametrize("language", ["en", "zh"])
def test_hostile_texts_on_the_command_line(language, tmp_path, capsys, monkeypatch, canaries):
    """Through ``--set``, where they are YAML as well: exit 2, two lines, and no session (the table is missing)."""
    monkeypatch.setenv("CAUSAL_SPARK_LANGUAGE", language)
    file = saved(config_for(tmp_path), tmp_path)
    for template in CORPUS:
        text = filled(template, tmp_path)
        for place in ("output.path=", "input.units.format=", "method.", "report.language=", text):
            assert cli.main(["validate", file, "--set", f"{place}{text}{'' if '=' in place else '=1'}"]) in (0, 2)
            told = capsys.readouterr()
            assert len(told.err.splitlines()) <= 2, told.err
            assert CANARY_TEXT not in told.out + told.err
            assert CANARY_VALUE not in told.out + told.err


YAML = {
    "apply": "!!python/object/apply:os.system ['touch {touched}']",
    "new": "!!python/object/new:os.system ['touch {touched}']",
    "object": "!!python/object:pathlib.Path {{}}",
    "name": "!!python/name:os.environ",
    "module": "!!python/module:os",
    "tuple": "!!python/tuple [1]",
    "custom": "!include {touched}",
    "binary": "!!binary aGVsbG8=",
    "set": "!!set {{a, b}}",
    "alias": "[&a [x], *a]",
    "laughs": "{{a: &a [x, x], b: &b [*a, *a], c: [*b, *b]}}",
    "merge": "{{a: &a {{x: 1}}, <<: *a}}",
    "twice": "{{a: 1, a: 2}}",
    "deep": "[" * 5000 + "]" * 5000,
    "deep and open": "[" * 200_000,
    "number of 10,000 digits": "9" * 10_000,
    "many documents": "1\n---\n2",
    "tab": "\t",
}


@pytest.mark.parametrize("name", YAML)
def test_hostile_yaml_is_refused(name, tmp_path, capsys):
    touched = tmp_path / "touched"
    text = YAML[name].format(touched=touched) if "{" in YAML[name] else YAML[name]
    whole = tmp_path / "whole.yml"
    whole.write_text(text, encoding="utf-8")
    part = tmp_path / "part.yml"
    part.write_text(f"job: experiment\nmethod: {text}\n", encoding="utf-8")
    good = saved(config_for(tmp_path), tmp_path)
    for argv in (["run", str(whole)], ["run", str(part)], ["validate", good, "--set", f"method={text}"]):
        assert cli.main(argv) == 2
        told = capsys.readouterr().err
        assert len(told.splitlines()) <= 2
        assert len(told) < 1000
    assert not touched.exists()


EXTREMES = {
    "window_days": ("method.window_days", 10**15),
    "by_day": ("method.by_day", 10**9),
    "pre_days": ("method.pre_days", 10**30),
    "scale": ("method.metrics.0.scale", 10**400),
    "days": ("method.metrics.0.days", [0, 10**15]),
    "alpha": ("method.alpha", math.inf),
    "share": ("method.shares", {"control": math.inf, "treatment": 0.5}),
    "as_of": ("method.as_of", "99999-01-01"),
}


@pytest.mark.parametrize("name", EXTREMES)
def test_numbers_without_bounds_are_refused(name, tmp_path):
    place, value = EXTREMES[name]
    with pytest.raises(CausalSparkError) as caught:
        job.validate(put(config_for(tmp_path), place, value), "experiment")
    assert caught.value.exit_code == 2
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("path", ["../elsewhere", "/", "http://127.0.0.1:9/x", "out/*", "s3://key:word@bucket/x"])
def test_a_run_solved_again_writes_to_no_hostile_place(path, spark, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(units(), tmp_path / "units")
    job.run(config_for(tmp_path), "experiment")
    before = sorted(tmp_path.parent.rglob("*"))
    assert cli.main(["resolve", "out", "--set", f"output.path={path}"]) == 2
    assert len(capsys.readouterr().err.splitlines()) <= 2
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_the_result_of_a_run_is_no_input_of_code(spark, tmp_path, capsys):
    """A changed statistics.json or manifest is data of the wrong form, not code."""
    write(units(), tmp_path / "units")
    job.run(config_for(tmp_path), "experiment")
    for name in ("statistics.json", "manifest.json"):
        file = tmp_path / "out" / name
        kept = file.read_text(encoding="utf-8")
        for text in ("", "[", "[]", "!!python/name:os.system", '{"format": 99}', "null"):
            file.write_text(text, encoding="utf-8")
            assert cli.main(["resolve", str(tmp_path / "out")]) in (1, 2), (name, text)
            told = capsys.readouterr().err
            assert 1 <= len(told.splitlines()) <= 2
        file.write_text(kept, encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir() if "resolved" in path.name] == []


# --- secrets ---------------------------------------------------------------------------------------------------

SECRETS = {
    "user of the tracking address": "s3cr3t-alpha-01",
    "key of the tracking address": "s3cr3t-bravo-02",
    "tracking password": "s3cr3t-charlie-03",
    "tracking token": "s3cr3t-delta-04",
    "cloud key": "s3cr3t-echo-05",
    "workspace token": "s3cr3t-foxtrot-06",
    "key of the file system": "s3cr3t-golf-07",
    "password in the session": "s3cr3t-hotel-08",
    "address of a table": "s3cr3t-india-09",
    "address of an output": "s3cr3t-juliet-10",
}
ENVIRONMENT = {
    "MLFLOW_TRACKING_PASSWORD": "tracking password",
    "MLFLOW_TRACKING_TOKEN": "tracking token",
    "AWS_SECRET_ACCESS_KEY": "cloud key",
    "DATABRICKS_TOKEN": "workspace token",
}
SESSION = {
    "spark.hadoop.fs.s3a.secret.key": "key of the file system",
    "spark.causal.test.password": "password in the session",
}
ADDRESS = (
    f"http://analyst:{SECRETS['user of the tracking address']}@127.0.0.1:9/"
    f"?token={SECRETS['key of the tracking address']}"
)


@pytest.fixture
def planted(spark: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Secrets in the environment and in the session."""
    for name, secret in ENVIRONMENT.items():
        monkeypatch.setenv(name, SECRETS[secret])
    for name, secret in SESSION.items():
        spark.conf.set(name, SECRETS[secret])
    yield
    for name in SESSION:
        spark.conf.unset(name)


def assert_no_secret(*texts: str | bytes) -> None:
    for text in texts:
        content = text if isinstance(text, bytes) else text.encode()
        found = [name for name, secret in SECRETS.items() if secret.encode() in content]
        assert not found, (found, content[:400])


def assert_no_secret_below(folder: Path, *besides: Path) -> int:
    """How many files were looked at."""
    files = [path for path in folder.rglob("*") if path.is_file() and path not in besides]
    for path in files:
        assert_no_secret(path.read_bytes())
    return len(files)


def test_no_secret_in_a_run_that_is_tracked(spark, planted, tmp_path, capsys):
    """Through to MLflow's store, its artifacts, the report, the manifest and the statistics."""
    write(units(), tmp_path / "units")
    config = config_for(tmp_path)
    config["tracking"] = {"experiment": "no-secret"}
    assert cli.main(["run", saved(config, tmp_path)]) == 0
    told = capsys.readouterr()
    assert_no_secret(told.out, told.err)
    assert assert_no_secret_below(tmp_path) > 8
    store = Path(os.environ["MLFLOW_TRACKING_URI"].removeprefix("sqlite:///"))
    assert_no_secret(*(path.read_bytes() for path in store.parent.glob("mlflow.db*")))
    assert assert_no_secret_below(store.parent / "mlartifacts" / "no-secret") > 5


def test_no_secret_when_the_tracking_store_is_away(spark, planted, tmp_path, capsys):
    write(units(), tmp_path / "units")
    config = config_for(tmp_path)
    config["tracking"] = {"uri": ADDRESS, "experiment": "checkout"}
    file = saved(config, tmp_path)
    assert cli.main(["run", file]) == 1
    told = capsys.readouterr()
    assert "MLflow" in told.err
    assert "127.0.0.1:9" in told.err
    assert_no_secret(told.out, told.err)
    assert assert_no_secret_below(tmp_path, Path(file)) > 8


@pytest.mark.parametrize("told_by", ["configuration", "environment"])
def test_no_secret_in_the_closing_lines(told_by, spark, planted, tmp_path, capsys, monkeypatch):
    """The line that says how to open the MLflow run."""
    from causal_spark.report import tracking

    monkeypatch.setattr(tracking, "log_run", lambda *a, **k: "0123456789abcdef")
    write(units(), tmp_path / "units")
    config = config_for(tmp_path)
    config["tracking"] = {"uri": ADDRESS} if told_by == "configuration" else {}
    if told_by == "environment":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", ADDRESS)
    file = saved(config, tmp_path)
    assert cli.main(["run", file]) == 0
    told = capsys.readouterr()
    assert "0123456789abcdef" in told.out
    assert_no_secret(told.out, told.err)
    assert_no_secret_below(tmp_path, Path(file))


TABLE, OUTPUT = SECRETS["address of a table"], SECRETS["address of an output"]
ADDRESSES = {
    "table with user": ("input.units.table", f"s3a://AKIA:{TABLE}@bucket/units"),
    "table with account": ("input.units.table", f"abfss://container:{TABLE}@account.dfs.core.windows.net/units"),
    "table with query": ("input.units.table", f"s3://bucket/units?secret_key={TABLE}"),
    "table by JDBC": ("input.units.table", f"jdbc:mysql://root:{TABLE}@127.0.0.1/db"),
    "table by JDBC with a key": ("input.units.table", f"jdbc:postgresql://127.0.0.1/db?user=a&password={TABLE}"),
    "output with user": ("output.path", f"s3a://AKIA:{OUTPUT}@bucket/out"),
    "scratch with user": ("output.scratch", f"hdfs://AKIA:{OUTPUT}@host/out"),
    "tracking is a text": ("tracking", f"http://root:{TABLE}@127.0.0.1:9"),
    "tracking is a list": ("tracking.uri", [f"http://root:{TABLE}@127.0.0.1:9"]),
    "unknown key": ("tracking.password", TABLE),
}


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("name", ADDRESSES)
def test_no_secret_in_a_refusal(name, language, tmp_path, capsys, monkeypatch):
    """On the command line, and with all of its causes, as a notebook shows it."""
    monkeypatch.setenv("CAUSAL_SPARK_LANGUAGE", language)
    place, value = ADDRESSES[name]
    config = put(config_for(tmp_path), place, value)
    assert cli.main(["run", saved(config, tmp_path)]) == 2
    told = capsys.readouterr()
    assert_no_secret(told.out, told.err)
    with pytest.raises(CausalSparkError) as caught:
        job.run(config, "experiment")
    assert_no_secret("".join(traceback.format_exception(caught.value)), repr(caught.value), str(caught.value.values))


def test_no_secret_in_a_configuration_that_cannot_be_read(tmp_path, capsys):
    file = tmp_path / "config.yml"
    for text in (
        f'tracking: {{uri: "http://root:{TABLE}@h", token: {OUTPUT}\n',
        f"tracking:\n  password: {TABLE}: x\n",
    ):
        file.write_text(text, encoding="utf-8")
        assert cli.main(["run", str(file)]) == 2
        told = capsys.readouterr().err
        assert "line" in told
        assert_no_secret(told)


def test_no_secret_in_what_nobody_foresaw(spark, planted, tmp_path, capsys, monkeypatch):
    def broken(*arguments: Any) -> None:
        raise RuntimeError(f"cannot reach {ADDRESS}")

    monkeypatch.setattr(job, "run", broken)
    assert cli.main(["run", saved(config_for(tmp_path), tmp_path)]) == 1
    told = capsys.readouterr()
    assert "RuntimeError" in told.err
    assert_no_secret(told.out, told.err)


# --- the page --------------------------------------------------------------------------------------------------

ACTIVE = {"script", "iframe", "object", "embed", "link", "base", "form", "input", "img", "video", "source", "frame",
          "audio", "applet", "foreignobject", "animate", "set", "textarea"}  # fmt: skip
LINKS = ("href", "src", "srcset", "action", "data", "xlink:href", "background", "poster", "formaction")


class Audit(HTMLParser):
    """What a page would run or load, and its text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.findings: list[str] = []
        self.policies: list[str] = []
        self.words: list[str] = []
        self.open_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name.lower(): value or "" for name, value in attrs}
        if tag in ACTIVE:
            self.findings.append(f"<{tag}>")
        if tag == "meta" and "http-equiv" in given:
            if given["http-equiv"].lower() == "content-security-policy":
                self.policies.append(given.get("content", ""))
            else:
                self.findings.append(f"<meta http-equiv={given['http-equiv']}>")
        self.open_style = tag == "style"
        for name, value in given.items():
            if name.startswith("on"):
                self.findings.append(f"{tag} {name}")
            if name in LINKS and not value.startswith(("#", "data:image/")):
                self.findings.append(f"{tag} {name}={value}")
            if re.search(r"javascript:|url\((?!#)|expression\(|@import", value, re.IGNORECASE):
                self.findings.append(f"{tag} {name}={value}")

    def handle_endtag(self, tag: str) -> None:
        self.open_style = False

    def handle_data(self, data: str) -> None:
        if self.open_style and re.search(r"url\((?!#)|@import|evil\.example|alert\(", data):
            self.findings.append("a style that loads something")
        if not self.open_style:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


def audit(page: str) -> Audit:
    found = Audit()
    found.feed(page)
    found.close()
    return found


def hostile_run(folder: Path) -> Config:
    """A run in which every name and label that can be chosen is hostile."""
    arms, metrics, segments, labels = XSS[:3], XSS[3:8], XSS[8:10], XSS[10:]
    rng = np.random.default_rng(3)
    columns: dict[str, Any] = {"user_id": list(range(N)), "variant": [arms[i % 3] for i in range(N)]}
    columns |= {name: rng.gamma(4.0, 2.0, N).tolist() for name in metrics}
    columns |= {f"before {name}": rng.gamma(4.0, 2.0, N).tolist() for name in metrics[:2]}
    columns |= {name: [labels[(i // 3 + k) % len(labels)] for i in range(N)] for k, name in enumerate(segments)}
    write(columns, folder / "units")
    config = config_for(folder)
    config["method"] |= {
        "control": arms[0],
        "shares": None,
        "segments": segments,
        "min_segment": 2,
        "metrics": [
            {"name": name, "kind": "mean", "value": name, "role": ("success", "guardrail", "diagnostic")[i % 3],
             "covariates": [f"before {name}"] if i < 2 else []}
            for i, name in enumerate(metrics)
        ],
    }  # fmt: skip
    config["report"] = {"title": XSS[0] + XSS[1]}
    config["tracking"] = {"enabled": False, "experiment": XSS[2], "run_name": XSS[3]}
    return config


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_runs_and_loads_nothing(language, spark, tmp_path, capsys):
    """Hostile names of metrics, arms, segments, their values and the run, through the whole job."""
    config = hostile_run(tmp_path)
    config["report"]["language"] = language
    assert cli.main(["run", saved(config, tmp_path)]) == 0
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    found = audit(page)
    assert found.findings == []
    assert len(found.policies) == 1
    assert "default-src 'none'" in found.policies[0]
    assert "script-src" not in found.policies[0]
    assert page.index("Content-Security-Policy") < page.index("<title")
    told = found.text.replace("\u200b", "")
    assert [name for name in XSS[:8] if " ".join(name.split()) not in told] == [], "shown as the text that they are"
    assert "{{7*7}}" in told


def test_the_page_of_hostile_events(spark, tmp_path):
    """With effects by day, where the names stand in a drawing, too; and the drawings as files."""
    made = job.run(hostile_events(tmp_path), "experiment")
    assert made.result is not None
    from causal_spark.report.page import figures

    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    drawings = figures(made.result, made.manifest, "en")
    assert drawings
    for text in (page, *drawings.values()):
        assert audit(text).findings == []


def hostile_events(folder: Path) -> Config:
    arms, labels = XSS[4:6], XSS[6:8]
    rng = np.random.default_rng(4)
    time = pa.timestamp("us", tz="UTC")
    shown = [START + i * 60_000_000 for i in range(N)]
    unit = np.repeat(np.arange(N), 4)
    write(
        {
            "user_id": [f"u{i}" for i in range(N)],
            "variant": [arms[i % 2] for i in range(N)],
            "ts": pa.array(shown, time),
            XSS[8]: [labels[i // 2 % 2] for i in range(N)],
        },
        folder / "exposures",
    )
    write(
        {
            "user_id": [f"u{i}" for i in unit],
            "ts": pa.array([shown[i] + int(d) * DAY + 1 for i, d in zip(unit, [-2, 0, 1, 3] * N, strict=True)], time),
            XSS[9]: [XSS[10 + i % 2] for i in range(4 * N)],
            XSS[12]: rng.gamma(4.0, 2.0, 4 * N).tolist(),
        },
        folder / "events",
    )
    config = config_for(folder)
    config["input"] = {role: {"table": str(folder / role)} for role in ("exposures", "events")}
    config["method"] |= {
        "control": arms[0],
        "shares": dict.fromkeys(arms, 0.5),
        "time": "ts",
        "pre_days": 3,
        "by_day": 3,
        "segments": [XSS[8]],
        "metrics": [
            {"name": XSS[13], "kind": "mean", "value": XSS[12], "where": [{"column": XSS[9], "value": XSS[10]}]},
            {"name": XSS[14], "kind": "count", "value": "*", "where": [{"column": XSS[9], "value": XSS[11]}]},
        ],
    }
    return config


def test_a_spreadsheet_runs_no_cell(spark, tmp_path, monkeypatch):
    """In the tables that MLflow keeps as CSV no text begins like a formula."""
    from causal_spark.report import tracking

    kept: dict[str, str] = {}
    monkeypatch.setattr(tracking, "log_run", lambda *a, artifacts, **k: (kept.update(artifacts), "run")[1])
    formulas = ["=cmd|' /C calc'!A0", "+1+1", "-1+1", "@SUM(A1)", "=HYPERLINK(A1)"]
    columns = {**units(arms=("=control", "@treatment")), "country": [formulas[i // 2 % 5] for i in range(N)]}
    columns |= dict.fromkeys(formulas, columns["revenue"])
    write(columns, tmp_path / "units")
    config = config_for(tmp_path)
    config["method"] |= {"control": "=control", "shares": None}
    config["method"]["metrics"] = [{"name": name, "kind": "mean", "value": name} for name in formulas]
    config["tracking"] = {}
    job.run(config, "experiment")
    tables = {name: text for name, text in kept.items() if name.endswith(".csv")}
    assert len(tables) > 3
    for text in tables.values():
        for cell in (cell for line in csv.reader(io.StringIO(text)) for cell in line):
            assert not cell.startswith(("=", "+", "@", "\t")), cell
            assert not cell.startswith("-") or re.fullmatch(r"-(\d.*|inf)", cell), cell


def test_a_label_cannot_write_to_the_terminal(spark, tmp_path, capsys):
    """Control characters in the data's own labels: in no line of the terminal, and the page has none either."""
    label = "\x1b[2J\x1b]0;owned\x07treatment\nNOT A LINE"
    for shares, code in ((None, 0), ({"control": 0.5, "treatment": 0.5}, 3)):
        write(units(arms=("control", label)), tmp_path / "units")
        config = config_for(tmp_path)
        config["method"]["shares"] = shares
        config["output"]["path"] = f"{tmp_path}/out{code}"
        assert cli.main(["run", saved(config, tmp_path)]) == code
        told = capsys.readouterr()
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", told.out + told.err)
        assert "NOT A LINE" not in (told.out + told.err).splitlines()
    page = (tmp_path / "out0" / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", page)


# --- strange but honest ----------------------------------------------------------------------------------------

HONEST = ["x`y", "a.b", "revenue (€)", "收入", "order by", "it's", 'say "hi"', "back\\slash", "100%", "{brace}", "a;b",
          "<b>", "🙂", "名.`字", "events", "arm", "n"]  # fmt: skip


def estimates(config: Config) -> list[list[float]]:
    outcome = job.run(config, "experiment")
    assert outcome.result is not None
    frame = outcome.result.estimates
    return frame[["estimate", "std_error", "p_value", "conf_low", "conf_high", "n"]].to_numpy(float).tolist()


@pytest.fixture(scope="module")
def plain_estimates(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> list[list[float]]:
    """The estimates under plain names."""
    folder = tmp_path_factory.mktemp("plain")
    write(units(), folder / "units")
    return estimates(put(config_for(folder), "method.metrics.0.winsorize", 0.99))


def test_a_strange_column_works_like_any_other(strange, spark, tmp_path, plain_estimates):
    """The column as metric, with the metric named like it: the numbers are those of the plain name."""
    write(units({"revenue": strange}), tmp_path / "units")
    config = config_for(tmp_path)
    config["method"]["metrics"][0] |= {"name": strange, "value": strange, "winsorize": 0.99}
    np.testing.assert_allclose(estimates(config), plain_estimates, rtol=1e-12)


STRANGE = {
    "user_id": "用户 `id`",
    "variant": "the.arm",
    "revenue": "revenue (€)",
    "before": "before.`x`",
    "clicks": "clicks; --",
    "views": "views\\n",
    "country": "国家.地区 '1'",
    "shop": 'shop "no."',
}
LABELS = ("control group's", '"B" – 新 `x`')


@pytest.mark.parametrize("cluster", [False, True])
def test_a_table_of_strange_names_works_like_any_other(cluster, spark, tmp_path):
    """All columns, both arms' labels, a filter and a segment at once."""
    write(units(), tmp_path / "plain")
    write(units(STRANGE, LABELS), tmp_path / "strange")
    plain_config = config_for(tmp_path)
    plain_config["input"]["units"]["table"] = str(tmp_path / "plain")
    plain_config["method"]["where"] = [{"column": "country", "op": "!=", "value": "CN"}]
    if cluster:
        plain_config["method"]["cluster"] = "shop"
    strange = json.loads(json.dumps(plain_config))
    strange["input"]["units"]["table"] = str(tmp_path / "strange")
    strange["output"]["path"] += "-strange"
    strange["method"] |= {
        "unit": STRANGE["user_id"],
        "arm": STRANGE["variant"],
        "control": LABELS[0],
        "shares": dict.fromkeys(LABELS, 0.5),
        "segments": [STRANGE["country"]],
        "where": [{"column": STRANGE["country"], "op": "!=", "value": "CN"}],
        "cluster": STRANGE["shop"] if cluster else None,
    }
    first, second = strange["method"]["metrics"]
    first |= {"name": "收入.`x` (€)", "value": STRANGE["revenue"], "covariates": [STRANGE["before"]]}
    second |= {"name": "ctr %", "numerator": STRANGE["clicks"], "denominator": STRANGE["views"]}
    np.testing.assert_allclose(estimates(strange), estimates(plain_config), rtol=1e-9)


def event_tables(folder: Path, exposure: Mapping[str, str], event: Mapping[str, str], arms: tuple[str, ...]) -> None:
    rng = np.random.default_rng(6)
    time = pa.timestamp("us", tz="UTC")
    shown = [START + i * 60_000_000 for i in range(N)]
    unit = np.repeat(np.arange(N), 4)
    days = rng.integers(-5, 8, 4 * N)
    exposures = {
        "user_id": [f"u{i}" for i in range(N)],
        "variant": [arms[i % 2] for i in range(N)],
        "ts": pa.array(shown, time),
        "country": [("DE", "FR")[i // 2 % 2] for i in range(N)],
    }
    events = {
        "user_id": [f"u{i}" for i in unit],
        "ts": pa.array([shown[i] + int(d) * DAY + 1 for i, d in zip(unit, days, strict=True)], time),
        "type": [("buy", "view")[i % 2] for i in range(4 * N)],
        "amount": rng.gamma(4.0, 2.0, 4 * N).round(2).tolist(),
    }
    write({exposure.get(name, name): values for name, values in exposures.items()}, folder / "exposures")
    write({event.get(name, name): values for name, values in events.items()}, folder / "events")


def event_config(folder: Path, out: str) -> Config:
    config = config_for(folder)
    config["input"] = {role: {"table": str(folder / role)} for role in ("exposures", "events")}
    config["output"]["path"] = f"{folder}/{out}"
    config["method"] |= {
        "time": "ts",
        "pre_days": 5,
        "window_days": 3,
        "by_day": 3,
        "metrics": [
            {"name": "revenue", "kind": "revenue", "value": "amount", "where": [{"column": "type", "value": "buy"}]},
            {"name": "views", "kind": "count", "value": "*", "where": [{"column": "type", "value": "view"}]},
        ],
    }
    return config


@pytest.mark.parametrize(
    ("exposure", "event", "metrics"),
    [
        ({"user_id": "用户 `id`", "variant": "the.arm", "ts": "时间 (UTC)", "country": "国家.`地区`"},
         {"user_id": "用户 `id`", "ts": "时间 (UTC)", "type": "event.type", "amount": "金额 `€`"},
         ("收入 (€)", "a.`b`")),
        # names of which the job's own tables might think, and the same name in both tables
        ({"country": "elapsed"}, {"type": "arm", "amount": "unit"}, ("events", "arm")),
        ({"country": "arm"}, {"type": "exposed", "amount": "events"}, ("unit", "day")),
        ({"country": "type"}, {"type": "type", "amount": "at"}, ("exposed", "n")),
        ({"country": "unit"}, {"amount": "ts2"}, ("elapsed", "in_several_arms")),
    ],
    ids=["strange", "elapsed", "arm", "type", "unit"],
)  # fmt: skip
def test_events_of_strange_names_work_like_any_other(exposure, event, metrics, spark, tmp_path):
    event_tables(tmp_path / "plain", {}, {}, ("control", "treatment"))
    event_tables(tmp_path / "strange", exposure, event, LABELS)
    strange = event_config(tmp_path / "strange", "out")
    strange["method"] |= {
        "unit": exposure.get("user_id", "user_id"),
        "arm": exposure.get("variant", "variant"),
        "time": exposure.get("ts", "ts"),
        "segments": [exposure["country"]],
        "control": LABELS[0],
        "shares": dict.fromkeys(LABELS, 0.5),
    }
    for metric, name in zip(strange["method"]["metrics"], metrics, strict=True):
        metric["name"] = name
        metric["where"][0]["column"] = event.get("type", "type")
    strange["method"]["metrics"][0]["value"] = event["amount"]
    plain_config = event_config(tmp_path / "plain", "out")
    np.testing.assert_allclose(estimates(strange), estimates(plain_config), rtol=1e-9)
