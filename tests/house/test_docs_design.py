"""What the documents and the template of the design job say is true of the code: fields, checks, resolve, shape."""

from __future__ import annotations

import re
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from causal_spark import cli
from causal_spark.methods import design
from causal_spark.methods.design import RESOLVABLE, Assign, Design, Layers, Rerandomize, Splits
from tests.house.test_docs import blocks, headings, name, tables, text_of
from tests.run import ROOT

PAGES = [ROOT / "docs" / "design.md", ROOT / "docs" / "design.zh.md"]
CLASSES = {cls.__name__: cls for cls in (Design, Splits, Assign, Layers, Rerandomize)}
REQUIRED = {"required", "必填"}


def default(item: Field[Any]) -> Any:
    if item.default_factory is not MISSING:
        return item.default_factory()
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


def test_every_field_is_in_the_template() -> None:
    text = cli.template("design")
    for cls in CLASSES.values():
        for item in fields(cls):
            assert re.search(rf"\b{item.name}:", text), f"{cls.__name__}.{item.name}"
    assert (ROOT / "conf" / "design.yml").read_text(encoding="utf-8") == text


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_every_check_is_there(path: Path) -> None:
    """The codes that the method itself can add, beside those that are the experiment's too."""
    sources = Path(str(design.__file__)).parent.glob("*.py")
    text = "".join(source.read_text(encoding="utf-8") for source in sources)
    codes = set(re.findall(r"add\(\s*\"([A-Z_]+)\"", text)) - {"ZERO_VARIANCE", "NAN_INF", "FRACTIONS"}
    assert sorted(re.findall(r"^\| `([A-Z_]+)` \|", text_of(path), flags=re.MULTILINE)) == sorted(codes)


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_resolvable_fields_are_named(path: Path) -> None:
    (sentence,) = [part for part in text_of(path).split("\n\n") if "causal-spark resolve out/" in part]
    assert set(re.findall(r"`(\w+)`", sentence)) == set(RESOLVABLE)


def test_languages_have_the_same_shape() -> None:
    first, second = PAGES
    assert headings(first) == headings(second)
    for language in ("yaml", "python", ""):
        assert blocks(first, language) == blocks(second, language)
    rows = [[line for line in text_of(path).splitlines() if line.startswith("|")] for path in PAGES]
    assert len(rows[0]) == len(rows[1])
