"""What the documents of the portfolio job say is true of the code: fields, checks, what resolve may change, shape."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
import yaml

from causal_spark import cli
from causal_spark.config import parse
from causal_spark.methods import findings, portfolio
from causal_spark.methods.portfolio import RESOLVABLE, Portfolio, Reach
from tests.house.test_docs import blocks, headings, name, tables, text_of
from tests.run import ROOT

PAGES = [ROOT / "docs" / "portfolio.md", ROOT / "docs" / "portfolio.zh.md"]
CLASSES = {"Portfolio": Portfolio, "Reach": Reach}


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_every_field_is_there_with_its_default(path: Path) -> None:
    described = dict(tables(path, "fields"))
    assert set(described) == set(CLASSES)
    for title, rows in described.items():
        found = {row[0].strip("`"): row[1] for row in rows}
        assert set(found) == {item.name for item in fields(CLASSES[title])}, title
        for item in fields(CLASSES[title]):
            wanted = {} if item.default_factory is not MISSING else item.default
            wanted = list(wanted) if isinstance(wanted, tuple) else wanted
            if wanted is MISSING:
                assert found[item.name] in {"required", "必填"}
            else:
                assert yaml.safe_load(found[item.name]) == wanted, f"{title}.{item.name}"


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_every_check_is_there(path: Path) -> None:
    """The codes that the method can add, and the two of its findings' own."""
    sources = Path(str(portfolio.__file__)).parent.glob("[a-z]*.py")
    text = "".join(source.read_text(encoding="utf-8") for source in sources)
    codes = set(re.findall(r"\"([A-Z]{5,}(?:_[A-Z]+)*|[A-Z]+(?:_[A-Z]+)+)\"", text))
    own = set(re.findall(r"\"(EMPTY_TABLE|NULL_KEY)\"", Path(str(findings.__file__)).read_text(encoding="utf-8")))
    found = re.findall(r"^\| `([A-Z_]+)` \|", text_of(path), flags=re.MULTILINE)
    assert sorted(found) == sorted(codes | own)


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_resolvable_fields_are_named(path: Path) -> None:
    (sentence,) = [part for part in re.split(r"\n\n|\.\s|。", text_of(path)) if "causal-spark resolve out/" in part]
    named = set(re.findall(r"`(\w+)`", sentence))
    assert named == set(RESOLVABLE)


def test_languages_have_the_same_shape() -> None:
    first, second = PAGES
    assert headings(first) == headings(second)
    for language in ("yaml", "python", ""):
        assert blocks(first, language) == blocks(second, language)
    rows = [[line for line in text_of(path).splitlines() if line.startswith("|")] for path in PAGES]
    assert len(rows[0]) == len(rows[1])


def test_the_template_is_in_conf_and_holds_every_field() -> None:
    template = cli.template("portfolio")
    assert (ROOT / "conf" / "portfolio.yml").read_text(encoding="utf-8") == template
    body = template.split("method:\n")[1].split("output:\n")[0]
    text = re.sub(r"^(\s*)# (?=[\w-]+:|  - )", r"\1", body, flags=re.MULTILINE)
    method = parse("method:\n" + text, "template")["method"]
    assert set(method) == {item.name for item in fields(Portfolio)}
    assert set(method["reach"]) == {item.name for item in fields(Reach)}
