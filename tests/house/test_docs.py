"""What the documents say is true of the code: links, fields with their defaults, checks, configurations, examples."""

from __future__ import annotations

import doctest
import re
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from causal_spark import config, job
from causal_spark.methods.experiment import (
    RESOLVABLE,
    DecisionRule,
    Experiment,
    Margin,
    Metric,
    Sequential,
    Switchback,
)
from causal_spark.methods.experiment.settings import Bayes, Bootstrap
from causal_spark.simulate import ShopDesign, truth
from causal_spark.words import catalogue
from tests.run import ROOT

PAGES = sorted([*ROOT.glob("README*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "CONTRIBUTING.md"])
METHOD_PAGES = [ROOT / "docs" / "experiment.md", ROOT / "docs" / "experiment.zh.md"]
PAIRS = [(ROOT / "README.md", ROOT / "README.zh.md"), (METHOD_PAGES[0], METHOD_PAGES[1])]
KEYED = (Experiment, Metric, Switchback, Bayes, Bootstrap, Margin, DecisionRule, Sequential)
TEXTS = (config.Filter, config.Source, config.Output, config.Tracking, config.Report)
CLASSES = {cls.__name__: cls for cls in (*KEYED, *TEXTS)}
REQUIRED = {"required", "必填"}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks(path: Path, language: str) -> list[str]:
    return [body for found, body in FENCE.findall(text_of(path)) if found == language]


def headings(path: Path) -> list[str]:
    """The marks (#, ##) of the headings in order, without what only looks like one inside a block."""
    return re.findall(r"^(#+) ", FENCE.sub("", text_of(path)), flags=re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """The headings as GitHub turns them into anchors."""
    lines = re.findall(r"^#+ (.*)$", FENCE.sub("", text_of(path)), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def tables(path: Path, mark: str) -> Iterator[tuple[str, list[list[str]]]]:
    """The tables that stand after ``<!-- mark: name -->``: the name, and the cells of each row."""
    for found, table in re.findall(rf"<!-- {mark}: (\w+) -->\n((?:\|.*\n)+)", text_of(path)):
        rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table.splitlines()]
        yield found, rows[2:]


def default(item: Field[Any]) -> Any:
    if item.default is MISSING and item.default_factory is MISSING:
        return REQUIRED
    return list(item.default) if isinstance(item.default, tuple) else item.default


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text_of(path))):
        if re.match(r"https?://", target):
            continue
        file, _, anchor = target.partition("#")
        place = (path.parent / file).resolve() if file else path
        assert place.exists(), f"{name(path)}: {target}"
        assert place.is_relative_to(ROOT), f"{name(path)}: {target}"
        assert not anchor or anchor in anchors(place), f"{name(path)}: {target}"


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_files_that_are_named_exist(path: Path) -> None:
    """Paths of the repository in code marks, such as `tests/jobs/test_real_trials.py`; not those with placeholders."""
    rooms = "benchmarks|causal_spark|conf|docs|jobs|notebooks|tests|tools"
    for found in re.findall(rf"`((?:{rooms})/[\w./-]*)`", text_of(path)):
        assert (ROOT / found).exists(), f"{name(path)}: {found}"


@pytest.mark.parametrize("path", METHOD_PAGES, ids=name)
def test_every_field_is_there_with_its_default(path: Path) -> None:
    described = dict(tables(path, "fields"))
    assert set(described) == set(CLASSES)
    for title, rows in described.items():
        wanted = {item.name: default(item) for item in fields(CLASSES[title])}
        found = {row[0].strip("`"): row[1] for row in rows}
        assert list(found) == [row[0].strip("`") for row in rows], f"{title}: a field stands twice"
        assert set(found) == set(wanted), title
        for key, value in wanted.items():
            if value is REQUIRED:
                assert found[key] in REQUIRED, f"{title}.{key}"
            else:
                read = found[key] if found[key] == "==" else yaml.safe_load(found[key])
                assert read == value, f"{title}.{key}"


@pytest.mark.parametrize("path", METHOD_PAGES, ids=name)
def test_every_check_is_there(path: Path) -> None:
    """The codes are those of the sentences that the job's own files name; a check that can only pass has no other."""
    keys = [key.removeprefix("check_") for key in catalogue("en") if key.startswith("check_")]
    methods = ROOT / "causal_spark" / "methods"
    source = "".join(text_of(file) for file in (*methods.glob("*.py"), *(methods / "experiment").rglob("*.py")))
    codes = {code for key in keys if f'"{(code := key.removesuffix("_pass").upper())}"' in source}
    found = re.findall(r"^\| `([A-Z_]+)` \|", text_of(path), flags=re.MULTILINE)
    assert sorted(found) == sorted(codes)


@pytest.mark.parametrize("path", METHOD_PAGES, ids=name)
def test_resolvable_fields_are_named(path: Path) -> None:
    (sentence,) = [part for part in text_of(path).split("\n\n") if "causal-spark resolve out/" in part]
    named = set(re.findall(r"`(\w+)`", sentence))
    assert set(RESOLVABLE) <= named
    assert not (named & {item.name for item in fields(Experiment)}) - set(RESOLVABLE)


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_configurations_are_valid(path: Path) -> None:
    for block in blocks(path, "yaml"):
        data = config.parse(block, name(path))
        if isinstance(data, dict) and "job" in data:
            assert job.validate(data, data["job"]).job == data["job"]


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_examples_run(path: Path) -> None:
    for number, block in enumerate(blocks(path, "python")):
        if ">>>" in block:
            test = doctest.DocTestParser().get_doctest(block, {}, f"{name(path)}[{number}]", name(path), 0)
            assert doctest.DocTestRunner().run(test).failed == 0, name(path)


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=lambda path: name(path))
def test_languages_have_the_same_shape(first: Path, second: Path) -> None:
    assert headings(first) == headings(second)
    for language in ("yaml", "python"):
        assert len(blocks(first, language)) == len(blocks(second, language))
    assert [len(rows) for _, rows in tables(first, "fields")] == [len(rows) for _, rows in tables(second, "fields")]


@pytest.mark.parametrize("path", METHOD_PAGES, ids=name)
def test_example_of_the_demo_holds_the_truth(path: Path) -> None:
    """The intervals that the page prints hold the true lifts that it names, and these are the simulation's."""
    known = truth(ShopDesign(), days=(0, 14))
    text = text_of(path)
    for metric in ("orders", "converted", "ctr"):
        lift = known[metric]["lift"]
        assert f"+{lift:.2%}".replace("%", " %") in text, metric
        (low, high) = re.findall(rf"^{metric} .* lift +cuped .*\[([+-][\d.]+)%, ([+-][\d.]+)%\]", text, re.MULTILINE)[0]
        assert float(low) / 100 < lift < float(high) / 100
    assert f"{known['orders']['difference']:.5f}" in text


def test_pictures_are_small() -> None:
    for path in (ROOT / "docs").glob("*.png"):
        assert path.stat().st_size <= 300_000, path.name
