"""What a configuration or a table may not do: reach the engine as code, read a file, write where it must not.

A corpus of hostile texts stands in every place that takes a text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from causal_spark import cli, job
from causal_spark.errors import CausalSparkError
from tests.jobs.hostile import (
    CANARY_NAME,
    CANARY_TEXT,
    CANARY_VALUE,
    CORPUS,
    PATHS,
    XSS,
    config_for,
    put,
    saved,
    units,
    write,
)

# What is tested is the driver's: on the embedded engine alone.
once = pytest.mark.engines("sail")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every place on Sail and classic Spark; one in five on Spark Connect, which takes seconds for each."""
    step = 5 if metafunc.config.getoption("--engine") == "connect" else 1
    if "place" in metafunc.fixturenames:
        metafunc.parametrize("place", [*PLACES][::step])


def test_the_corpora_are_large_enough():
    assert len(set(CORPUS)) >= 60
    assert len(set(XSS)) >= 30


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
NO_FOLDERS = [text for text in PATHS if not re.fullmatch(r"[\w.]*\w", text)]


def test_no_hostile_text_reaches_the_engine(place, spark, engine, tmp_path, capsys, monkeypatch, canaries, sent):
    """Every text of the corpus in every place: a typed refusal, and the engine has not seen it.

    On Spark some of the texts in each place: the driver refuses them, and each look at a table takes time there.
    """
    monkeypatch.chdir(tmp_path)
    write(units(), tmp_path / "units")
    base, (where, wrap) = config_for(tmp_path), PLACES[place]
    corpus = NO_FOLDERS if place in FOLDERS else CORPUS
    if engine != "sail":
        step = 20 if engine == "connect" else 8
        corpus = corpus[[*PLACES].index(place) % step :: step]
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
    for template in CORPUS if language == "en" else CORPUS[::6]:
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


@once
@pytest.mark.parametrize("path", ["../elsewhere", "/", "http://127.0.0.1:9/x", "out/*", "s3://key:word@bucket/x"])
def test_a_run_solved_again_writes_to_no_hostile_place(path, spark, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(units(), tmp_path / "units")
    job.run(config_for(tmp_path), "experiment")
    before = sorted(tmp_path.parent.rglob("*"))
    assert cli.main(["resolve", "out", "--set", f"output.path={path}"]) == 2
    assert len(capsys.readouterr().err.splitlines()) <= 2
    assert sorted(tmp_path.parent.rglob("*")) == before


@once
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
