"""No English gets into Chinese sentences: parts of what an error says come from the catalogue too."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from causal_spark.errors import ConfigError, Phrase
from causal_spark.words import catalogue
from tests.run import ROOT

FILES = sorted((ROOT / "causal_spark").rglob("*.py"))
ERRORS = {"ConfigError", "GateError", "StatisticError", "RunError", "_number", "_bad"}
PARTS = {"expected", "choices", "got", "other", "reason"}  # names of variables that are handed to errors
PROSE = re.compile(r"[A-Za-z]{2,} [A-Za-z]{2,}")
COMMAND = "causal-spark "


def called(node: ast.AST) -> str:
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""


def handed(tree: ast.AST) -> Iterator[ast.expr]:
    """What errors are given to say, where it stands in the source."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and called(node) in ERRORS:
            yield from (*node.args, *(keyword.value for keyword in node.keywords))
        elif isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id in PARTS for t in node.targets):
            yield node.value


def prose(source: str) -> list[str]:
    """The texts of two English words or more that an error is given as they are."""
    texts = [
        (part.lineno, part.value)
        for value in handed(ast.parse(source)) for part in ast.walk(value)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    ]  # fmt: skip
    return [f"{line}: {text}" for line, text in texts if PROSE.search(text) and not text.startswith(COMMAND)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_errors_are_given_no_english_prose(path) -> None:
    assert not prose(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("source", [
    'ConfigError("k", expected="a number between 0 and 1")', 'ConfigError("k", got=f"{n} or so, who knows")',
    'expected = "two numbers above 0"', '_bad("x", 1, "a whole number")',
    'RunError("k", got=", ".join(x) or "not any")',
])  # fmt: skip
def test_prose_is_found(source: str) -> None:
    assert prose(source)


def test_phrases_are_in_the_catalogue_and_in_use() -> None:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in FILES]
    texts = {part.value for tree in trees for part in ast.walk(tree) if isinstance(part, ast.Constant)}
    calls = [
        node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call) and called(node) == "Phrase"
    ]
    keys = {node.args[0].value for node in calls if isinstance(node.args[0], ast.Constant)}
    assert keys <= catalogue("en").keys()
    named = {key for key in catalogue("en") if key.startswith("expected_")}
    assert named <= texts
    for key in keys | named:
        assert not PROSE.search(catalogue("zh")[key]), key


def test_a_phrase_is_said_in_the_language_of_its_sentence() -> None:
    error = ConfigError("bad_number", where="method.alpha", got=2, expected=Phrase("expected_between", low=0, high=1))
    assert str(error) == "method.alpha: got 2, expected a number between 0 and 1."
    assert error.text("zh") == "method.alpha：得到 2，应为 0 与 1 之间的数。"
