"""What the documents of the attribution job say is true of the code: fields, models, checks, shape, template."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

from causal_spark import cli
from causal_spark.methods import attribution
from causal_spark.methods.attribution import RESOLVABLE, Attribution
from causal_spark.methods.attribution.vocabulary import Model
from tests.house.test_docs import blocks, headings, name, text_of
from tests.run import ROOT

PAGES = [ROOT / "docs" / "attribution.md", ROOT / "docs" / "attribution.zh.md"]
# Of any job, or of the other tables that attribution reads.
SHARED = {"alpha", "replicates", "person", "time", "channel", "value", "models", "paths", "as_of"}


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_every_field_and_model_is_there(path: Path) -> None:
    named = set(re.findall(r"`(\w+)(?::[^`]*)?`", text_of(path)))
    assert {item.name for item in fields(Attribution)} - SHARED <= named
    spanned = {"markov_2", "markov_3"}  # markov_1 … markov_4
    assert set(get_args(Model)) - spanned <= named


def test_every_field_is_in_the_template() -> None:
    text = cli.template("attribution")
    for item in fields(Attribution):
        assert re.search(rf"^  (# )?{item.name}:", text, flags=re.MULTILINE), item.name
    assert (ROOT / "conf" / "attribution.yml").read_text(encoding="utf-8") == text


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_every_check_is_there(path: Path) -> None:
    """The codes that the method adds, but for those that every job has."""
    source = "".join(text_of(file) for file in Path(str(attribution.__file__)).parent.glob("*.py"))
    common = {"NULL_KEY", "NAN_INF", "OUT_OF_RANGE", "FUTURE_TS", "PAST_TS"}
    codes = set(re.findall(r"\"([A-Z]+(?:_[A-Z]+)+|CENSORED|CHANNELS|UNATTRIBUTED)\"", source)) - common
    assert sorted(re.findall(r"^\| `([A-Z_]+)` \|", text_of(path), flags=re.MULTILINE)) == sorted(codes)


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_resolvable_fields_are_named(path: Path) -> None:
    (sentence,) = [part for part in text_of(path).split("\n\n") if "`causal-spark resolve`" in part]
    assert set(RESOLVABLE) <= set(re.findall(r"`(\w+)`", sentence))


def test_languages_have_the_same_shape() -> None:
    first, second = PAGES
    assert headings(first) == headings(second)
    for language in ("yaml", "python", ""):
        assert len(blocks(first, language)) == len(blocks(second, language))
    rows = [[line for line in text_of(path).splitlines() if line.startswith(("|", "- "))] for path in PAGES]
    assert len(rows[0]) == len(rows[1])
