"""What the documents of the matching job say is true of the code: fields, checks, what resolve may change, shape."""

from __future__ import annotations

import re
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from causal_spark import cli
from causal_spark.methods import findings, matching
from causal_spark.methods.matching import RESOLVABLE, Covariate, Matching, Observational, Propensity
from tests.house.test_docs import blocks, headings, name, tables, text_of
from tests.run import ROOT

PAGES = [ROOT / "docs" / "matching.md", ROOT / "docs" / "matching.zh.md"]
CLASSES = {cls.__name__: cls for cls in (Observational, Covariate, Propensity, Matching)}
REQUIRED = {"required", "必填"}


def default(item: Field[Any]) -> Any:
    if item.default_factory is not MISSING:
        return {}
    return list(item.default) if isinstance(item.default, tuple) else item.default


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_every_field_is_there_with_its_default(path: Path) -> None:
    described = dict(tables(path, "fields"))
    assert set(described) == set(CLASSES)
    for title, rows in described.items():
        found = {row[0].strip("`"): row[1] for row in rows}
        assert len(found) == len(rows), f"{title}: a field stands twice"
        assert set(found) == {item.name for item in fields(CLASSES[title])}, title
        for item in fields(CLASSES[title]):
            wanted = default(item)
            known = found[item.name] in REQUIRED if wanted is MISSING else yaml.safe_load(found[item.name]) == wanted
            assert known, f"{title}.{item.name}"


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_every_check_is_there(path: Path) -> None:
    """The codes that the method and the gate's findings can add."""
    sources = [*Path(str(matching.__file__)).parent.glob("*.py"), Path(str(findings.__file__))]
    text = "".join(source.read_text(encoding="utf-8") for source in sources)
    codes = set(re.findall(r"\"([A-Z]+(?:_[A-Z]+)+|OVERLAP|UNMATCHED|BALANCE|PLACEBO)\"", text))
    found = re.findall(r"^\| `([A-Z_]+)` \|", text_of(path), flags=re.MULTILINE)
    assert sorted(found) == sorted(codes)


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_resolvable_fields_are_named(path: Path) -> None:
    (sentence,) = [part for part in text_of(path).split("\n\n") if "causal-spark resolve out/" in part]
    assert set(re.findall(r"`(\w+)`", sentence)) == set(RESOLVABLE)


def test_languages_have_the_same_shape() -> None:
    first, second = PAGES
    assert headings(first) == headings(second)
    for language in ("yaml", "python", ""):
        assert len(blocks(first, language)) == len(blocks(second, language))
    assert blocks(first, "python") == blocks(second, "python")
    rows = [[line for line in text_of(path).splitlines() if line.startswith("|")] for path in PAGES]
    assert len(rows[0]) == len(rows[1])


def test_the_template_is_the_configuration_in_conf() -> None:
    assert (ROOT / "conf" / "matching.yml").read_text(encoding="utf-8") == cli.template("matching")
