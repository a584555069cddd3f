"""Bad configurations are refused before any session: exit code 2, two lines with a remedy, in both languages."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from causal_spark import cli
from causal_spark.words import LANGUAGES
from tests.jobs.bad_input import Config, assert_speaks, event_config, saved, unit_config, units, write


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
    Wrong("quantile above 1", ("method.metrics.0.quantiles=[0.5, 90]",), ("revenue", "quantiles", "90"), "0.99"),
    Wrong(
        "margin with a sign",
        ("method.metrics.0.test=non-inferiority", "method.metrics.0.margin={relative: -0.02}"),
        ("-0.02",),
        "without a sign",
    ),
    Wrong(
        "margin without a test", ("method.metrics.0.margin={absolute: 1}",), ("revenue", "superiority"), "takes none"
    ),
    Wrong(
        "unknown spending family",
        ("method.sequential={key: k, units: 100, spending: haybittle}",),
        ("haybittle", "obrien-fleming, obrien-fleming-total, pocock, power"),
        "choose one of",
    ),
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
