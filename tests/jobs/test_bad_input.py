"""Bad input is refused by name: the exit code, two lines with a remedy, both languages, and nothing written."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import yaml

from causal_spark import cli, job
from causal_spark.errors import CausalSparkError
from causal_spark.methods import findings
from causal_spark.words import LANGUAGES, catalogue, say

if TYPE_CHECKING:
    from causal_spark.results import Result

N = 400
DAY = 86_400_000_000
START = 1_767_571_200_000_000  # 2026-01-05 00:00 UTC in microseconds
LATER = START + 30 * DAY
TIME = pa.timestamp("us", tz="UTC")
STAGES = {say(f"stage_{stage}", language) for stage in cli.STAGES for language in LANGUAGES}
HAN = range(0x4E00, 0x9FFF + 1)

Config = dict[str, Any]
Columns = dict[str, Any]


def units() -> Columns:
    """A clean unit table: 200 units in each arm, no unit that carries much of a metric."""
    rng = np.random.default_rng(11)
    return {
        "user_id": [f"u{i:04d}" for i in range(N)],
        "variant": ["control", "treatment"] * (N // 2),
        "revenue": rng.gamma(8.0, 2.0, N).tolist(),
        "revenue_pre": rng.gamma(8.0, 2.0, N).tolist(),
        "converted": (np.arange(N) % 5 // 3).astype(int).tolist(),
        "clicks": rng.integers(0, 9, N).tolist(),
        "views": rng.integers(9, 30, N).tolist(),
        "country": [("DE", "FR")[i // 2 % 2] for i in range(N)],
        "shop": [f"s{i % 80:02d}" for i in range(N)],
    }


def exposures() -> Columns:
    return {
        "user_id": [f"u{i:04d}" for i in range(N)],
        "variant": ["control", "treatment"] * (N // 2),
        "ts": [START + i * 60_000_000 for i in range(N)],
        "country": [("DE", "FR")[i // 2 % 2] for i in range(N)],
    }


def events() -> Columns:
    """Three events of every unit, on days 0, 1 and 20 after its exposure; the second is a purchase in three of four."""
    rng = np.random.default_rng(12)
    unit = np.repeat(np.arange(N), 3)
    return {
        "user_id": [f"u{i:04d}" for i in unit],
        "ts": [START + int(i) * 60_000_000 + d * DAY + 1_000_000 for i, d in zip(unit, [0, 1, 20] * N, strict=True)],
        "type": [part for i in range(N) for part in ("view", "view" if i % 20 < 5 else "purchase", "view")],
        "amount": rng.gamma(8.0, 2.0, 3 * N).round(2).tolist(),
    }


def write(columns: Mapping[str, Any], folder: Path) -> str:
    """``columns`` as one parquet file in ``folder``; whole numbers called ``ts`` become times."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(_stamped(columns)), folder / "part-0.parquet")
    return str(folder)


def _stamped(columns: Mapping[str, Any]) -> Columns:
    return {name: pa.array(v, TIME) if name == "ts" and _whole(v) else v for name, v in columns.items()}


def _whole(values: Any) -> bool:
    return isinstance(values, list) and all(v is None or isinstance(v, int) for v in values)


def unit_config(folder: Path) -> Config:
    return {
        "job": "experiment",
        "input": {"units": {"table": str(folder / "units")}},
        "method": {
            "unit": "user_id",
            "arm": "variant",
            "control": "control",
            "shares": {"control": 0.5, "treatment": 0.5},
            "metrics": [
                {"name": "revenue", "kind": "mean", "value": "revenue", "covariates": ["revenue_pre"]},
                {"name": "converted", "kind": "proportion", "value": "converted"},
                {"name": "ctr", "kind": "ratio", "numerator": "clicks", "denominator": "views"},
            ],
        },
        "output": {"path": str(folder / "out")},
        "tracking": {"enabled": False},
    }


def event_config(folder: Path) -> Config:
    base = unit_config(folder)
    base["input"] = {role: {"table": str(folder / role)} for role in ("exposures", "events")}
    base["method"] |= {
        "time": "ts",
        "metrics": [
            {"name": "revenue", "kind": "revenue", "value": "amount"},
            {"name": "bought", "kind": "conversion", "where": [{"column": "type", "value": "purchase"}]},
        ],
    }
    return base


def saved(config: Config, folder: Path) -> str:
    path = folder / "config.yml"
    path.write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    return str(path)


def message(err: str) -> list[str]:
    """The lines on stderr that are not the stages passed."""
    return [line for line in err.splitlines() if line.strip() and line.strip() not in STAGES]


def assert_speaks(err: str, words: Sequence[str], language: str) -> None:
    """At most two lines, no traceback, and every word that names the thing or its remedy."""
    lines = message(err)
    assert 1 <= len(lines) <= 2, err
    told = " ".join(lines)
    assert "Traceback" not in told
    assert "<class" not in told
    assert len(told) < 700, told
    assert any(ord(c) in HAN for c in told) == (language == "zh"), told
    missing = [word for word in words if word not in told]
    assert not missing, f"{missing} not in: {told}"


# --- what needs no session -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wrong:
    """A configuration that is refused before any session: ``--set`` texts, words of the message, remedy in English."""

    name: str
    sets: tuple[str, ...]
    words: tuple[str, ...]
    remedy: str = ""
    base: Callable[[Path], Config] = unit_config


CONFIGS = [
    Wrong("unknown section", ("outptu.path=x",), ("outptu",), "output"),
    Wrong("unknown method key", ("method.alfa=0.1",), ("alfa", "method"), "Did you mean: alpha"),
    Wrong("unknown metric key", ("method.metrics.0.windsorize=0.9",), ("windsorize",), "winsorize"),
    Wrong("unknown input key", ("input.units.tabel=x",), ("tabel", "input.units"), "Did you mean: table"),
    Wrong("unknown output key", ("output.pth=x",), ("pth",), "path"),
    Wrong("unknown tracking key", ("tracking.url=x",), ("tracking", "url"), "uri"),
    Wrong("unknown report key", ("report.lang=zh",), ("report", "lang"), "language"),
    Wrong("number as text", ("method.alpha=high",), ("method.alpha", "high"), "a number"),
    Wrong("number as list", ("method.alpha=[0.05]",), ("method.alpha",), "a number"),
    Wrong("not a number", ("method.alpha=.nan",), ("method.alpha",), "a number"),
    Wrong("truth as number", ("method.alpha=true",), ("method.alpha", "True"), "a number"),
    Wrong("fraction for whole number", ("method.min_segment=2.5",), ("method.min_segment",), "a whole number"),
    Wrong("text for list", ("method.segments=country",), ("method.segments", "country"), "a list"),
    Wrong("list for mapping", ("method.shares=[0.5, 0.5]",), ("method.shares",), "a mapping"),
    Wrong("method is a text", ("method=fast",), ("method", "fast"), "a mapping"),
    Wrong("metric is a text", ("method.metrics=[revenue]",), ("method.metrics.0",), "a mapping"),
    Wrong("version is a text", ("input.units.version=latest",), ("input.units.version",), "a whole number"),
    Wrong("seed is a text", ("seed=lucky",), ("seed", "lucky"), "a whole number"),
    Wrong("switch is a text", ("tracking.enabled=sometimes",), ("tracking.enabled",), "true or false"),
    Wrong("key is missing", ("method={unit: a, arm: b, control: c}",), ("metrics",), "needs the key"),
    Wrong("no input", ("input=null",), ("input",), "a mapping"),
    Wrong("unsupported format", ("input.units.format=xlsx",), ("input.units.format", "xlsx"), "parquet, delta, csv"),
    Wrong("unsupported output format", ("output.format=csv",), ("output.format", "csv"), "parquet, delta"),
    Wrong("unknown kind", ("method.metrics.0.kind=median",), ("median",), "mean, proportion"),
    Wrong("unknown correction", ("method.correction=sidak",), ("method.correction", "sidak"), "bonferroni, holm"),
    Wrong("unknown language", ("report.language=fr",), ("report.language", "fr"), "en, zh"),
    Wrong("unknown job", ("job=experimnet",), ("experimnet",), "experiment"),
    Wrong("unknown role", ("input.events.table=x",), ("experiment", "units", "events"), "exposures + events"),
    Wrong("path and table", ("output.table=a.b",), ("path", "table"), "either"),
    Wrong("neither path nor table", ("output.path=null",), ("path", "table"), "either"),
    Wrong("no metric", ("method.metrics=[]",), ("method.metrics",), "at least one"),
    Wrong("metric twice", ("method.metrics.1.name=revenue",), ("revenue",), "unique"),
    Wrong("alpha out of range", ("method.alpha=5",), ("method.alpha", "5"), "between 0 and 1"),
    Wrong("window of no days", ("method.window_days=0",), ("method.window_days", "0"), "1 or more"),
    Wrong("scale of nothing", ("method.metrics.0.scale=0",), ("scale", "0"), "1 or more"),
    Wrong("bad day", ("method.as_of=someday",), ("method.as_of", "someday"), "2026-01-31"),
    Wrong("percentile above 1", ("method.metrics.0.winsorize=99",), ("winsorize", "99"), "between 0 and 1"),
    Wrong("ratio without denominator", ("method.metrics.2.denominator=null",), ("ctr",), "numerator and denominator"),
    Wrong("mean with numerator", ("method.metrics.0.numerator=clicks",), ("revenue", "mean"), "value"),
    Wrong("days the wrong way", ("method.metrics.0.days=[7, 3]",), ("[7, 3]",), "[from, to]"),
    Wrong("one arm only", ("method.shares={control: 1}",), ("control",), "two arms"),
    Wrong("one arm left", ("method.holdouts=[treatment]",), ("control",), "two arms"),
    Wrong("control not planned", ("method.control=placebo",), ("placebo", "treatment"), "method.shares"),
    Wrong("control left out", ("method.holdouts=[control]",), ("control",), "must stay"),
    Wrong("shares do not sum", ("method.shares.treatment=0.4",), ("0.9",), "expected 1"),
    Wrong("share below zero", ("method.shares={control: 1.5, treatment: -0.5}",), ("method.shares",), "0 or more"),
    Wrong("filter without values", ("method.where=[{column: country, op: in}]",), ("country",), "a list of values"),
    Wrong("filter with SQL operator", ("method.where=[{column: country, op: like, value: D%}]",), ("like",), "not_in"),
    Wrong("override without value", ("method.alpha",), ("method.alpha",), "key=value"),
    Wrong("override of no item", ("method.metrics.9.name=x",), ("method.metrics.9.name",), "count from 0"),
    Wrong("no unit table place", ("output.path=null", "output.table=a.b"), ("output.scratch",), "", event_config),
]


@pytest.fixture
def no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session asked for is a failure of the test."""
    from causal_spark.spark import session

    def refuse(engine: str | None = None) -> Any:
        raise AssertionError("a session was asked for")

    monkeypatch.setattr(session, "open_engine", refuse)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("wrong", CONFIGS, ids=lambda wrong: wrong.name)
def test_configurations_are_refused_without_a_session(wrong, language, tmp_path, capsys, monkeypatch, no_session):
    monkeypatch.setenv("CAUSAL_SPARK_LANGUAGE", language)
    file = saved(wrong.base(tmp_path), tmp_path)
    sets = [part for item in wrong.sets for part in ("--set", item)]
    assert cli.main(["run", file, *sets]) == 2
    caught = capsys.readouterr()
    assert_speaks(caught.err, [*wrong.words, *([wrong.remedy] if language == "en" else [])], language)
    assert caught.out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yml"]
    assert cli.main(["validate", file, *sets]) == 2


FILES = {
    "absent": (None, "causal-spark init"),
    "empty": (b"", "a mapping"),
    "a list": (b"- a\n- b\n", "a mapping"),
    "broken": (b"method: {unit: [\n", "cannot be read"),
    "a key twice": (b"job: experiment\njob: experiment\n", "stands twice"),
    "an alias": (b"input: &a {x: 1}\nmethod: *a\n", "aliases"),
    "not UTF-8": ("job: é".encode("latin-1"), "UTF-8"),
    "binary": (bytes(range(256)), "UTF-8"),
    "too large": (b"# " + b"x" * (1 << 20), "a short text"),
}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", FILES)
def test_files_that_are_no_configuration(name, language, tmp_path, capsys, monkeypatch, no_session):
    monkeypatch.setenv("CAUSAL_SPARK_LANGUAGE", language)
    content, told = FILES[name]
    file = tmp_path / "config.yml"
    if content is not None:
        file.write_bytes(content)
    assert cli.main(["run", str(file)]) == 2
    assert_speaks(capsys.readouterr().err, ["config.yml", *([told] if language == "en" else [])], language)


PLACES = {
    "output is the input": "units",
    "output inside the input": "units/results",
    "input inside the output": "",
    "the same by another name": "units/./",
}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", PLACES)
def test_output_and_input_in_one_place(name, language, tmp_path, capsys, monkeypatch, no_session):
    monkeypatch.setenv("CAUSAL_SPARK_LANGUAGE", language)
    write(units(), tmp_path / "data" / "units")
    config = unit_config(tmp_path / "data")
    config["output"]["path"] = f"{tmp_path}/data/{PLACES[name]}".rstrip("/")
    before = sorted(tmp_path.rglob("*"))
    file = saved(config, tmp_path)
    assert cli.main(["run", file]) == 2
    assert_speaks(
        capsys.readouterr().err, [config["output"]["path"], *(["another"] if language == "en" else [])], language
    )
    assert sorted(tmp_path.rglob("*")) == sorted([*before, Path(file)])


def test_an_output_behind_a_link_is_still_inside_the_input(tmp_path, capsys, no_session):
    write(units(), tmp_path / "units")
    (tmp_path / "link").symlink_to(tmp_path / "units")
    config = unit_config(tmp_path)
    config["output"]["path"] = str(tmp_path / "link" / "results")
    assert cli.main(["run", saved(config, tmp_path)]) == 2
    assert_speaks(capsys.readouterr().err, ["results", "another output"], "en")


def test_wrong_keys_fail_before_pyspark_is_even_imported(tmp_path):
    """One interpreter, every wrong configuration, and pyspark is never loaded."""
    runs = [
        ["run", saved_as(wrong.base(tmp_path), tmp_path / f"{i}.yml"), *wrong.sets] for i, wrong in enumerate(CONFIGS)
    ]
    script = (
        "import json, sys\n"
        "from causal_spark.cli import main\n"
        "codes = [main([*run[:2], *(p for s in run[2:] for p in ('--set', s))]) for run in json.load(sys.stdin)]\n"
        "loaded = [n for n in sys.modules if n.split('.')[0] in ('pyspark', 'pysail', 'py4j', 'mlflow')]\n"
        "print(json.dumps([codes, loaded]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], input=json.dumps(runs), capture_output=True, text=True, timeout=120, check=True
    )
    assert json.loads(done.stdout) == [[2] * len(CONFIGS), []]
    assert len(done.stderr.splitlines()) <= 2 * len(CONFIGS)


def saved_as(config: Config, path: Path) -> str:
    path.write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    "argv", [[], ["rum"], ["run", "a.yml", "--engine", "flink"], ["run", "--alpha", "1"], ["init"]]
)
def test_wrong_use_of_the_command_is_exit_2(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    assert ended.value.code == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["run"], ["run", "--job", "matchmaking", "x.yml"], ["init", "matchmaking"]])
def test_wrong_use_that_the_parser_cannot_see(argv, tmp_path, capsys, monkeypatch, no_session):
    monkeypatch.chdir(tmp_path)
    saved_as({}, tmp_path / "x.yml")
    assert cli.main(argv) == 2
    assert_speaks(capsys.readouterr().err, [], "en")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every table on Sail and classic Spark; one in five on Spark Connect, which takes seconds for each."""
    step = 5 if metafunc.config.getoption("--engine") == "connect" else 1
    for name, cases in (("bad", TABLES), ("clean", CLEAN)):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, cases[::step], ids=lambda case: case.name)


# --- what the session sees -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bad:
    """Tables that are refused: what is done to the clean ones and to the configuration, code and words."""

    name: str
    code: int
    words: tuple[str, ...]
    units: Callable[[Columns], Columns | None] | None = None
    exposures: Callable[[Columns], Columns | None] | None = None
    events: Callable[[Columns], Columns | None] | None = None
    method: Mapping[str, Any] | None = None
    metric: Mapping[str, Any] | None = None

    @property
    def on_events(self) -> bool:
        return self.exposures is not None or self.events is not None


def put(column: str, *values: Any, at: int = 0) -> Callable[[Columns], Columns]:
    """The columns with ``values`` in some rows of one."""
    return lambda c: {**c, column: [*c[column][:at], *values, *c[column][at + len(values) :]]}


def all_of(column: str, value: Any) -> Callable[[Columns], Columns]:
    return lambda c: {**c, column: [value] * len(c[column])}


def without(column: str) -> Callable[[Columns], Columns]:
    return lambda c: {name: values for name, values in c.items() if name != column}


def rows(keep: Callable[[int], bool]) -> Callable[[Columns], Columns]:
    return lambda c: {name: [v for i, v in enumerate(values) if keep(i)] for name, values in c.items()}


def again(first: int, count: int, **changed: Any) -> Callable[[Columns], Columns]:
    """Some rows a second time, with other values in the columns named."""

    def repeat(c: Columns) -> Columns:
        more = {name: values[first : first + count] for name, values in c.items()}
        more |= {name: [value] * count for name, value in changed.items()}
        return {name: [*values, *more[name]] for name, values in c.items()}

    return repeat


def also_treated(count: int) -> Callable[[Columns], Columns]:
    """The first ``count`` control units a second time, in the other arm."""
    second = rows(lambda i: i % 2 == 0 and i < 2 * count)

    def repeat(c: Columns) -> Columns:
        more = {**second(c), "variant": ["treatment"] * count}
        return {name: [*values, *more[name]] for name, values in c.items()}

    return repeat


def same(columns: Columns) -> Columns:
    return columns


def only(column: str, value: Any) -> dict[str, Any]:
    """The setting that keeps the rows in which ``column`` is ``value``."""
    return {"where": [{"column": column, "value": value}]}


TABLES = [
    # columns
    Bad("missing unit column", 2, ("user_idd", "Nearest: user_id"), units=same, method={"unit": "user_idd"}),
    Bad("missing arm column", 2, ("varian", "Nearest: variant"), units=same, method={"arm": "varian"}),
    Bad("missing metric column", 2, ("revenu", "Nearest: revenue"), units=same, metric={"value": "revenu"}),
    Bad(
        "missing covariate",
        2,
        ("revenue_per", "Nearest: revenue_pre"),
        units=same,
        metric={"covariates": ["revenue_per"]},
    ),
    Bad("missing segment", 2, ("contry", "Nearest: country"), units=same, method={"segments": ["contry"]}),
    Bad("missing cluster", 2, ("shopp", "Nearest: shop"), units=same, method={"cluster": "shopp"}),
    Bad(
        "missing filter column",
        2,
        ("contry", "Nearest: country"),
        units=same,
        method=only("contry", "DE"),
    ),
    Bad("missing event column", 2, ("events", "amout", "Nearest: amount"), events=same, metric={"value": "amout"}),
    Bad("missing time column", 2, ("exposures", "time", "Nearest: "), events=same, method={"time": "time"}),
    Bad(
        "missing event filter column",
        2,
        ("events", "kind"),
        events=same,
        metric=only("kind", "x"),
    ),
    Bad("missing event identity", 2, ("events", "event_id"), events=same, method={"event_id": "event_id"}),
    Bad("name of 200 characters", 2, ("128",), units=same, metric={"value": "x" * 200}),
    Bad("filter of a text by a number", 2, ("country", "a text"), units=same, method=only("country", 5)),
    Bad("filter of a number by a text", 2, ("clicks", "a number"), units=same, method=only("clicks", "many")),
    Bad("filter of a number by a truth", 2, ("clicks", "a number"), units=same, method=only("clicks", True)),
    Bad("filter of a time by a text", 2, ("ts", "a time"), events=same, method=only("ts", "soon")),
    Bad("filter of events by a number", 2, ("type", "a text"), events=same, metric=only("type", 1)),
    Bad("text metric", 2, ("country", "string", "a number"), units=same, metric={"value": "country", "covariates": []}),
    Bad("text covariate", 2, ("country", "string", "a number"), units=same, metric={"covariates": ["country"]}),
    Bad("text amount", 2, ("events", "type", "string"), events=same, metric={"value": "type"}),
    Bad("time metric", 2, ("events", "ts", "timestamp"), events=same, metric={"value": "ts"}),
    Bad(
        "time is a text",
        2,
        ("exposures", "ts", "string", "timestamp"),
        exposures=lambda c: {**c, "ts": ["2026-01-05"] * N},
        events=same,
    ),
    Bad(
        "time is a number",
        2,
        ("events", "ts", "double", "timestamp"),
        events=lambda c: {**c, "ts": [float(v) for v in c["ts"]]},
    ),
    # tables
    Bad("no rows", 3, ("EMPTY_TABLE", "units"), units=rows(lambda i: False)),
    Bad(
        "no rows left by the filter",
        3,
        ("EMPTY_TABLE", "units"),
        units=same,
        method=only("country", "XX"),
    ),
    Bad("no events", 3, ("EMPTY_TABLE", "events"), events=rows(lambda i: False)),
    Bad("no exposures", 3, ("EMPTY_TABLE", "exposures"), exposures=rows(lambda i: False), events=same),
    # keys and arms
    Bad("NULL unit", 3, ("NULL_KEY", "user_id", "2 rows", "remove"), units=put("user_id", None, None)),
    Bad("NULL arm", 3, ("NULL_TREATMENT", "variant", "1 rows"), units=put("variant", None)),
    Bad(
        "NULL arm, shares not planned",
        3,
        ("NULL_TREATMENT", "variant"),
        units=put("variant", None),
        method={"shares": None},
    ),
    Bad("NULL cluster", 3, ("NULL_KEY", "shop", "remove"), units=put("shop", None), method={"cluster": "shop"}),
    Bad("NULL unit of an exposure", 3, ("NULL_KEY", "exposures"), exposures=put("user_id", None), events=same),
    Bad("NULL arm of an exposure", 3, ("NULL_TREATMENT", "variant"), exposures=put("variant", None), events=same),
    Bad("NULL time of an exposure", 3, ("NULL_KEY", "exposures", "ts"), exposures=put("ts", None), events=same),
    Bad("NULL unit of an event", 3, ("NULL_KEY", "events"), events=put("user_id", None)),
    Bad("NULL time of an event", 3, ("NULL_KEY", "events", "ts", "remove"), events=put("ts", None)),
    Bad("unknown arm", 3, ("UNKNOWN_ARM", "'trial'", "method.shares"), units=put("variant", "trial")),
    Bad("unknown arm of an exposure", 3, ("UNKNOWN_ARM", "'trial'"), exposures=put("variant", "trial"), events=same),
    Bad("arm of another case", 3, ("UNKNOWN_ARM", "'Control'"), units=put("variant", "Control")),
    Bad("empty arm label", 3, ("UNKNOWN_ARM", "''"), units=put("variant", "")),
    Bad("planned arm without units", 3, ("ARM_MISSING", "treatment", "control"), units=rows(lambda i: i % 2 == 0)),
    Bad(
        "third arm without units",
        3,
        ("ARM_MISSING", "'late'"),
        units=same,
        method={"shares": {"control": 0.4, "treatment": 0.4, "late": 0.2}},
    ),
    Bad(
        "one arm, shares not planned",
        2,
        ("control", "two arms"),
        units=all_of("variant", "control"),
        method={"shares": None},
    ),
    Bad(
        "control not in the data",
        2,
        ("placebo", "control, treatment", "method.control"),
        units=same,
        method={"shares": None, "control": "placebo"},
    ),
    Bad(
        "too many arms",
        3,
        ("TOO_MANY_ARMS", "user_id", "400", "method.arm"),
        units=same,
        method={"shares": None, "arm": "user_id", "control": "u0000"},
    ),
    Bad("the unit as arm", 3, ("UNKNOWN_ARM", "'u0001'", "method.shares"), units=same, method={"arm": "user_id"}),
    Bad("units in two arms", 3, ("UNIT_IN_TWO_ARMS", "20", "5.0%", "1.0%"), units=also_treated(20)),
    Bad("exposed units in two arms", 3, ("UNIT_IN_TWO_ARMS", "10", "2.5%"), exposures=also_treated(10), events=same),
    Bad(
        "clusters in two arms",
        3,
        ("UNIT_IN_TWO_ARMS", "shop"),
        units=put("variant", "treatment"),
        method={"cluster": "shop"},
    ),
    Bad("duplicate units", 3, ("DUPLICATE_UNIT", "user_id", "5 units", "one row"), units=again(0, 5)),
    # values
    Bad("NULL value", 3, ("NULL_VALUE", "revenue", "nulls: zero"), units=put("revenue", None, None)),
    Bad("NULL in a ratio", 3, ("NULL_VALUE", "views", "nulls: zero"), units=put("views", None)),
    Bad("NaN", 3, ("NAN_INF", "revenue", "repair"), units=put("revenue", math.nan)),
    Bad("infinity", 3, ("NAN_INF", "revenue", "repair"), units=put("revenue", math.inf)),
    Bad("minus infinity", 3, ("NAN_INF", "revenue", "repair"), units=put("revenue", -math.inf)),
    Bad("NaN in a covariate", 3, ("NAN_INF", "revenue", "repair"), units=put("revenue_pre", math.nan)),
    Bad("NaN under a percentile", 3, ("NAN_INF", "revenue"), units=put("revenue", math.nan), metric={"winsorize": 0.9}),
    Bad("NaN in clusters", 3, ("NAN_INF", "revenue"), units=put("revenue", math.nan), method={"cluster": "shop"}),
    Bad("NaN amount", 3, ("NAN_INF", "events", "amount"), events=put("amount", math.nan)),
    Bad("infinite amount", 3, ("NAN_INF", "events", "amount"), events=put("amount", math.inf)),
    Bad(
        "negative revenue",
        3,
        ("NEGATIVE_VALUE", "revenue", "-4", "negative: true"),
        units=put("revenue", -4.0),
        metric={"kind": "revenue"},
    ),
    Bad(
        "negative count",
        3,
        ("NEGATIVE_VALUE", "clicks", "negative: true"),
        units=put("clicks", -1),
        metric={"kind": "count", "value": "clicks", "covariates": []},
    ),
    Bad("refund not declared", 3, ("NEGATIVE_VALUE", "amount", "-9.5", "negative: true"), events=put("amount", -9.5)),
    Bad("proportion of 2", 3, ("NOT_BINARY", "converted", "0 and 1"), units=put("converted", 2)),
    Bad("proportion of -1", 3, ("converted", "-1"), units=put("converted", -1)),
    Bad(
        "proportion of a half",
        3,
        ("FRACTIONS", "converted", "kind: mean"),
        units=lambda c: {**c, "converted": [0.5, *map(float, c["converted"][1:])]},
    ),
    Bad("too large for the scale", 3, ("OUT_OF_RANGE", "amount", "smaller scale"), events=put("amount", 1e13)),
    Bad(
        "too large for the cluster scale",
        3,
        ("revenue", "1000000", "smaller scale"),
        units=put("revenue", 1e13),
        method={"cluster": "shop"},
    ),
    # times
    Bad(
        "exposed after as_of",
        3,
        ("FUTURE_TS", "exposures", "as_of"),
        events=same,
        exposures=put("ts", LATER),
        method={"as_of": "2026-01-31"},
    ),
    Bad(
        "events after as_of",
        3,
        ("FUTURE_TS", "events", "as_of"),
        events=put("ts", LATER),
        method={"as_of": "2026-01-31"},
    ),
    Bad("exposed in 1969", 3, ("PAST_TS", "exposures", "ts", "repair"), exposures=put("ts", -DAY), events=same),
    # what does not go together
    Bad("cluster with events", 2, ("method.cluster", "input.units"), events=same, method={"cluster": "country"}),
    Bad("covariates with events", 2, ("revenue", "method.pre_days"), events=same, metric={"covariates": ["amount"]}),
    Bad("events without time", 2, ("time", "method"), events=same, method={"time": None}),
    Bad("pre_days with units", 2, ("pre_days", "input.exposures"), units=same, method={"pre_days": 7}),
    Bad("by_day with units", 2, ("by_day", "input.events"), units=same, method={"by_day": 7}),
    Bad(
        "event filter with units",
        2,
        ("revenue", "input.events"),
        units=same,
        metric=only("country", "DE"),
    ),
    Bad(
        "retention with units",
        2,
        ("revenue", "input.events"),
        units=same,
        metric={"kind": "retention", "days": [1, 2], "covariates": []},
    ),
    Bad("count of units' events", 2, ("revenue", "input.events"), units=same, metric={"value": "*", "covariates": []}),
    Bad("metric without column", 2, ("revenue", "value"), units=same, metric={"value": None}),
]


def prepared(bad: Bad, folder: Path) -> Config:
    """The tables of ``bad`` written, and the configuration that reads them."""
    config = (event_config if bad.on_events else unit_config)(folder)
    made = {"exposures": exposures, "events": events} if bad.on_events else {"units": units}
    for role, build in made.items():
        change = getattr(bad, role) or same
        write(_columns(change(build())), folder / role)
    config["method"] |= bad.method or {}
    config["method"]["metrics"][0] |= bad.metric or {}
    config["method"] = {key: value for key, value in config["method"].items() if value is not None}
    return config


def _columns(columns: Columns) -> Columns:
    """Columns without rows keep their types."""
    if any(len(values) for values in columns.values()):
        return columns
    kinds = {"ts": TIME, "revenue": pa.float64(), "revenue_pre": pa.float64(), "amount": pa.float64()}
    whole = ("converted", "clicks", "views")
    return {name: pa.array([], kinds.get(name, pa.int64() if name in whole else pa.string())) for name in columns}


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, str]]]:
    """The key and both languages of every sentence that the gate speaks."""
    heard: list[tuple[str, dict[str, str]]] = []

    def speak(key: str, language: str = "en", **values: object) -> str:
        heard.append((key, {name: say(key, name, **values) for name in LANGUAGES}))
        return heard[-1][1][language]

    monkeypatch.setattr(findings, "say", speak)
    return heard


@pytest.fixture
def raised(monkeypatch: pytest.MonkeyPatch) -> list[CausalSparkError]:
    """The error that the job raised to the command line."""
    seen: list[CausalSparkError] = []
    run = job.run

    def watched(*arguments: Any) -> Any:
        try:
            return run(*arguments)
        except CausalSparkError as error:
            seen.append(error)
            raise

    monkeypatch.setattr(job, "run", watched)
    return seen


def test_tables_are_refused_by_name(bad, spark, tmp_path, capsys, said, raised):
    config = prepared(bad, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    file = saved(config, tmp_path)
    assert cli.main(["run", file]) == bad.code
    caught = capsys.readouterr()
    assert_speaks(caught.err, bad.words, "en")
    assert caught.out == ""
    assert sorted(tmp_path.rglob("*")) == sorted([*before, Path(file)])
    chinese = [raised[0].text("zh"), *(both["zh"] for _, both in said)]
    assert all(any(ord(c) in HAN for c in text) for text in chinese)


def test_the_corpus_is_large_enough():
    codes = {
        word for bad in TABLES for word in bad.words if word.isupper() and f"check_{word.lower()}" in catalogue("en")
    }
    assert len(TABLES) >= 25
    assert len(codes) >= 12


def test_every_sentence_takes_the_same_values_in_both_languages():
    import string

    def fields(text: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    english, chinese = catalogue("en"), catalogue("zh")
    assert english.keys() == chinese.keys()
    assert [key for key in english if fields(english[key]) != fields(chinese[key])] == []


NOT_TABLES: dict[str, Callable[[Path], object]] = {
    "nothing there": lambda folder: None,
    "an empty folder": lambda folder: folder.mkdir(),
    "a folder with a marker only": lambda folder: (folder.mkdir(), (folder / "_SUCCESS").touch()),
    "a file of no bytes": lambda folder: (folder.mkdir(), (folder / "part-0.parquet").touch()),
    "text called parquet": lambda folder: (folder.mkdir(), (folder / "part-0.parquet").write_text("a,b\n1,2\n")),
    "half a file": lambda folder: half(folder),
}


def half(folder: Path) -> None:
    write(units(), folder)
    file = folder / "part-0.parquet"
    file.write_bytes(file.read_bytes()[:1000])


@pytest.mark.parametrize("name", NOT_TABLES)
def test_what_is_no_table(name, spark, tmp_path, capsys, raised):
    NOT_TABLES[name](tmp_path / "units")
    before = sorted(tmp_path.rglob("*"))
    file = saved(unit_config(tmp_path), tmp_path)
    assert cli.main(["run", file]) in (2, 3)
    assert_speaks(capsys.readouterr().err, ["units"], "en")
    assert sorted(tmp_path.rglob("*")) == sorted([*before, Path(file)])
    assert any(ord(c) in HAN for c in raised[0].text("zh"))


@pytest.mark.parametrize("kind", ["delta", "csv", "json", "orc"])
def test_a_table_of_another_format(kind, spark, tmp_path, capsys):
    """Parquet read as something else: refused, as unreadable or for its columns, never analysed."""
    write(units(), tmp_path / "units")
    config = unit_config(tmp_path)
    config["input"]["units"]["format"] = kind
    assert cli.main(["run", saved(config, tmp_path)]) in (2, 3)
    assert_speaks(capsys.readouterr().err, ["units"], "en")
    assert not (tmp_path / "out").exists()


def test_a_column_that_stands_twice(spark, engine, tmp_path, capsys):
    if engine == "sail":
        pytest.skip("Sail shows only the first of two columns of one name")
    (tmp_path / "units").mkdir()
    columns = units()
    names, arrays = [*columns, "revenue"], [pa.array(v) for v in (*columns.values(), columns["revenue"])]
    pq.write_table(pa.Table.from_arrays(arrays, names=names), tmp_path / "units" / "part-0.parquet")
    assert cli.main(["run", saved(unit_config(tmp_path), tmp_path)]) == 2
    assert_speaks(capsys.readouterr().err, ["units"], "en")
    assert not (tmp_path / "out").exists()


def test_an_output_of_another_run_is_left_alone(spark, tmp_path, capsys, raised):
    write(units(), tmp_path / "units")
    file = saved(unit_config(tmp_path), tmp_path)
    assert cli.main(["run", file]) == 0
    before = state(tmp_path / "out")
    capsys.readouterr()
    assert cli.main(["run", file, "--set", "method.alpha=0.01"]) == 2
    assert_speaks(capsys.readouterr().err, ["out", "another output.path"], "en")
    assert any(ord(c) in HAN for c in raised[0].text("zh"))
    assert state(tmp_path / "out") == before


@pytest.mark.parametrize("what", ["a file in it", "a folder in it", "a file", "a hidden file in it"])
def test_an_output_of_somebody_else_is_left_alone(what, spark, tmp_path, capsys, raised):
    write(units(), tmp_path / "units")
    out = tmp_path / "out"
    if what == "a file":
        out.write_text("mine")
    else:
        name = {
            "a file in it": "thesis.txt",
            "a folder in it": "estimates/part-0.parquet",
            "a hidden file in it": ".keep",
        }
        (out / name[what]).parent.mkdir(parents=True)
        (out / name[what]).write_text("mine")
    before = state(out)
    assert cli.main(["run", saved(unit_config(tmp_path), tmp_path)]) == 2
    assert_speaks(capsys.readouterr().err, ["out", "another output.path"], "en")
    assert any(ord(c) in HAN for c in raised[0].text("zh"))
    assert state(out) == before


def state(path: Path) -> dict[str, tuple[bytes, int]]:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in files}


# --- what is said, counted and gone on with --------------------------------------------------------------------


def solved(config: Config) -> Result:
    outcome = job.run(config, "experiment")
    assert outcome.result is not None
    return outcome.result


def check(result: Result, code: str) -> pd.Series:
    found = result.diagnostics["checks"]
    return found[found["code"] == code].iloc[0]


def row(result: Result, outcome: str, term: str = "difference", method: str | None = None) -> pd.Series:
    frame = result.estimates[result.estimates["segment"] == "all"]
    frame = frame[(frame["outcome"] == outcome) & (frame["term"] == term)]
    return (frame if method is None else frame[frame["method"] == method]).iloc[0]


def test_a_few_units_in_two_arms_leave_and_are_counted(spark, tmp_path):
    write(also_treated(2)(units()), tmp_path / "units")
    result = solved(unit_config(tmp_path))
    found = check(result, "UNIT_IN_TWO_ARMS")
    assert (found["verdict"], found["count"]) == ("warn", 2)
    assert result.diagnostics["srm"].set_index("arm")["n"].to_dict() == {"control": 198, "treatment": 200}
    assert any("UNIT_IN_TWO_ARMS" in note for note in result.notes)


def test_a_few_exposed_units_in_two_arms_leave_and_are_counted(spark, tmp_path):
    write(also_treated(2)(exposures()), tmp_path / "exposures")
    write(events(), tmp_path / "events")
    result = solved(event_config(tmp_path))
    found = check(result, "UNIT_IN_TWO_ARMS")
    assert (found["verdict"], found["count"]) == ("warn", 2)
    assert result.diagnostics["srm"].set_index("arm")["n"].to_dict() == {"control": 198, "treatment": 200}


def test_events_before_exposure_leave_and_are_counted(spark, tmp_path):
    """Seven events are from before exposure; with a covariate window of ten days only three are out of it."""
    moved = events()
    first = dict(zip(exposures()["user_id"], exposures()["ts"], strict=True))
    for i in range(7):
        place = 3 * (i + 5) + 1
        moved["ts"][place] = first[moved["user_id"][place]] - (20 if i < 3 else 5) * DAY
    write(exposures(), tmp_path / "exposures")
    write(moved, tmp_path / "events")
    config = event_config(tmp_path)
    plain = solved(config)
    found = check(plain, "EVENT_BEFORE_EXPOSURE")
    assert (found["verdict"], found["count"]) == ("warn", 7)
    assert found["share"] == pytest.approx(7 / (3 * N))
    arms = plain.diagnostics["arms"].query("outcome == 'bought' and segment == 'all'")
    assert (arms["mean"] * arms["n"]).sum() == pytest.approx(0.75 * N - 7)
    config["method"]["pre_days"] = 10
    config["output"]["path"] += "-pre"
    assert check(solved(config), "EVENT_BEFORE_EXPOSURE")["count"] == 3


def test_a_declared_refund_is_no_defect(spark, tmp_path):
    write(exposures(), tmp_path / "exposures")
    write(put("amount", -9.5)(events()), tmp_path / "events")
    config = event_config(tmp_path)
    config["method"]["metrics"][0]["negative"] = True
    assert solved(config).trusted


@pytest.mark.parametrize("nulls", ["zero", "drop"])
def test_declared_nulls_are_counted(nulls, spark, tmp_path):
    write(put("revenue", *[None] * 10)(units()), tmp_path / "units")
    config = unit_config(tmp_path)
    config["method"]["metrics"][0] |= {"nulls": nulls, "covariates": []}
    result = solved(config)
    counted = result.diagnostics["nulls"].set_index("outcome").loc["revenue"]
    assert (counted["nulls"], counted["rows"], counted["policy"]) == (10, N, nulls)
    assert row(result, "revenue")["n"] == (N if nulls == "zero" else N - 10)


def test_a_hot_unit_is_named(spark, tmp_path):
    write(put("revenue", 3000.0)(units()), tmp_path / "units")
    found = check(solved(unit_config(tmp_path)), "HOT_KEY")
    assert found["verdict"] == "warn"
    assert found["share"] > 0.25
    assert "winsorized" in found["message"]


@pytest.mark.parametrize(
    ("column", "value", "outcome"),
    [
        ("revenue", 3.25, "revenue"),
        ("revenue", 0.0, "revenue"),
        ("converted", 1, "converted"),
        ("converted", 0, "converted"),
    ],
)
def test_no_spread_means_no_p_value(column, value, outcome, spark, tmp_path):
    write(all_of(column, value)(units()), tmp_path / "units")
    config = unit_config(tmp_path)
    config["method"]["metrics"][0]["covariates"] = []
    result = solved(config)
    assert check(result, "ZERO_VARIANCE")["verdict"] == "warn"
    for term in ("difference", "lift"):
        found = row(result, outcome, term)
        assert math.isnan(found["p_value"])
        assert math.isnan(found["p_adjusted"])
        assert found["note"]
    other = row(result, "converted" if outcome == "revenue" else "revenue")
    assert 0 <= other["p_value"] <= 1


@pytest.mark.parametrize("kept", [2, 3, 20])
def test_few_units_are_named(kept, spark, tmp_path):
    """One unit in an arm: no estimate, a note; a handful: an estimate with a warning."""
    write(rows(lambda i: i < kept)(units()), tmp_path / "units")
    config = unit_config(tmp_path)
    for metric in config["method"]["metrics"]:
        metric.pop("covariates", None)
    result = solved(config)
    assert check(result, "N_TOO_SMALL")["verdict"] == "warn"
    found = row(result, "revenue")
    if kept < 4:
        assert math.isnan(found["p_value"])
        assert math.isnan(found["estimate"])
        assert found["note"]
    else:
        assert 0 <= found["p_value"] <= 1


def test_sizes_off_the_plan_are_not_to_be_trusted(spark, tmp_path, capsys):
    """A sample ratio mismatch is a result with a verdict, not a refusal."""
    write(rows(lambda i: i % 2 == 0 or i % 4 == 1)(units()), tmp_path / "units")
    assert cli.main(["run", saved(unit_config(tmp_path), tmp_path)]) == 0
    assert "NOT TRUSTWORTHY" in capsys.readouterr().out
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["trusted"] is False


# --- clean input is not refused --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clean:
    """Tables without a defect, of an unusual but right form."""

    name: str
    units: Callable[[Columns], Columns] | None = None
    exposures: Callable[[Columns], Columns] | None = None
    events: Callable[[Columns], Columns] | None = None
    method: Mapping[str, Any] | None = None
    metric: Mapping[str, Any] | None = None
    format: str = "parquet"
    on_events: bool = False
    warns: bool = False


def cast(column: str, kind: pa.DataType) -> Callable[[Columns], Columns]:
    return lambda c: {**c, column: pa.array(c[column]).cast(kind)}


def naive(columns: Columns) -> Columns:
    return {**columns, "ts": pa.array(columns["ts"], pa.timestamp("us"))}


def days(columns: Columns) -> Columns:
    """Dates: an event on the day of the exposure counts."""
    return {
        **columns,
        "ts": pa.array([(t - START) // DAY + START // DAY for t in columns["ts"]], pa.int32()).cast(pa.date32()),
    }


def arms(*labels: Any) -> Callable[[Columns], Columns]:
    return lambda c: {**c, "variant": [labels[i % len(labels)] for i in range(N)]}


CLEAN = [
    Clean("as it is"),
    Clean("shares not planned", method={"shares": None}),
    Clean("units are numbers", units=lambda c: {**c, "user_id": list(range(N))}),
    Clean("arms are numbers", units=arms(0, 1), method={"control": "0", "shares": {"0": 0.5, "1": 0.5}}),
    Clean("arms are truths", units=arms(False, True), method={"control": False, "shares": None}),
    Clean("three arms", units=arms("a", "b", "c"), method={"control": "b", "shares": None, "contrasts": "pairs"}),
    Clean("a holdout", units=arms("control", "treatment", "reserve"), method={"holdouts": ["reserve"]}),
    Clean("single precision", units=cast("revenue", pa.float32())),
    Clean(
        "decimals",
        units=lambda c: {**c, "revenue": pa.array([round(v, 2) for v in c["revenue"]]).cast(pa.decimal128(18, 2))},
    ),
    Clean("small integers", units=cast("clicks", pa.int8())),
    Clean("a truth as proportion", units=lambda c: {**c, "converted": [bool(v) for v in c["converted"]]}),
    Clean(
        "segments with NULL", units=put("country", *[None] * 120), method={"segments": ["country"], "min_segment": 20}
    ),
    Clean("winsorized", metric={"winsorize": 0.99}),
    Clean("negative means", units=lambda c: {**c, "revenue": [v - 16 for v in c["revenue"]]}, warns=True),
    Clean("large values", units=lambda c: {**c, "revenue": [v * 1e12 for v in c["revenue"]]}),
    Clean("clusters", method={"cluster": "shop"}),
    Clean("a filter", method={"where": [{"column": "country", "op": "in", "value": ["DE", "FR"]}]}),
    Clean("a filter on numbers", method={"where": [{"column": "views", "op": ">", "value": 9.5}]}),
    Clean("a filter on times", on_events=True, method={"where": [{"column": "ts", "op": ">", "value": "2026-01-01"}]}),
    Clean("csv", format="csv"),
    Clean("json", format="json"),
    Clean("events", on_events=True),
    Clean(
        "events in windows",
        on_events=True,
        method={"window_days": 7, "pre_days": 7, "by_day": 5, "segments": ["country"], "min_segment": 20},
    ),
    Clean("times without zone", on_events=True, exposures=naive, events=naive),
    Clean("days instead of times", on_events=True, exposures=days, events=days),
    Clean("several exposures of a unit", on_events=True, exposures=again(0, 50, ts=START + 5 * DAY)),
    Clean(
        "NULL amounts of other events",
        on_events=True,
        events=lambda c: {
            **c,
            "amount": [None if t == "view" else a for a, t in zip(c["amount"], c["type"], strict=True)],
        },
    ),
]


def test_clean_tables_are_not_refused(clean, spark, tmp_path):
    config = (event_config if clean.on_events else unit_config)(tmp_path)
    for role in config["input"]:
        build = {"units": units, "exposures": exposures, "events": events}[role]
        columns = (getattr(clean, role) or same)(build())
        _write_as(clean.format, columns, tmp_path / role)
        config["input"][role]["format"] = clean.format
    config["method"] |= clean.method or {}
    config["method"]["metrics"][0] |= clean.metric or {}
    config["method"] = {key: value for key, value in config["method"].items() if value is not None}
    result = solved(config)
    assert set(result.diagnostics["checks"]["verdict"]) <= ({"pass", "warn"} if clean.warns else {"pass"}), result.notes
    assert result.trusted
    overall = result.estimates[result.estimates["segment"] == "all"]
    assert np.isfinite(overall["estimate"]).all()
    assert overall["p_value"].between(0, 1).all()


def _write_as(kind: str, columns: Columns, folder: Path) -> None:
    folder.mkdir()
    table = pa.table(_stamped(columns))
    if kind == "csv":
        pyarrow.csv.write_csv(table, folder / "part-0.csv")
    elif kind == "json":
        lines = [json.dumps(record) for record in table.to_pylist()]
        (folder / "part-0.json").write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        pq.write_table(table, folder / "part-0.parquet")
