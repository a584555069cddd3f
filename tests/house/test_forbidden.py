"""Calls that make a retried or re-partitioned run another run, or open a door, are not in the package or the jobs.

The source is read as syntax, not searched as text, so that words in sentences are no hits. What is allowed
nevertheless is in ``ALLOWED``, with its reason, and every entry must still be needed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.run import ROOT

# Called in any form: f(...), F.f(...), frame.f(...)
CALLS = {
    "rand", "randn", "randstr", "sample", "sampleBy", "randomSplit", "monotonically_increasing_id", "uuid", "shuffle",
    "zipWithIndex", "zipWithUniqueId", "crossJoin", "any_value", "collect_list", "collect_set", "dropDuplicates",
    "eval", "exec",
}  # fmt: skip
# Called on pyspark.sql.functions only: elsewhere these words are harmless
FUNCTIONS = {"first", "last", "first_value", "last_value", "expr", "reflect", "java_method"}
ATTRIBUTES = {"rdd", "sparkContext", "_jvm", "_jdf", "_jsc", "_sc"}
MODULES = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib", "random", "uuid"}

# (file, what, why it is right there)
ALLOWED: tuple[tuple[str, str, str], ...] = ()


def findings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every forbidden use in a module: its line and its word."""
    safe = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and _is_safe_loader(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0 and (node.module or "").split(".")[0] in MODULES:
                yield node.lineno, str(node.module)
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name in CALLS)
        elif isinstance(node, ast.Attribute) and node.attr in ATTRIBUTES:
            yield node.lineno, node.attr
        elif isinstance(node, ast.Call):
            yield from ((node.lineno, word) for word in _of_call(node, safe))


def _is_safe_loader(node: ast.ClassDef) -> bool:
    return any(ast.unparse(base).endswith("SafeLoader") for base in node.bases)


def _of_call(node: ast.Call, safe: set[str]) -> Iterator[str]:
    called = ast.unparse(node.func)
    room, _, name = called.rpartition(".")
    keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if name in CALLS or (name in FUNCTIONS and room in ("F", "functions", "sf")):
        yield name
    if called in ("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"):
        loader = keywords.get("Loader", ast.unparse(node.args[1]) if len(node.args) > 1 else "")
        if not (loader in safe or loader.endswith("SafeLoader")):
            yield called
    if keywords.get("shell") == "True" or called in ("os.system", "os.popen"):
        yield "shell"


def modules() -> list[Path]:
    return sorted(path for folder in ("causal_spark", "jobs") for path in (ROOT / folder).rglob("*.py"))


def test_no_forbidden_use() -> None:
    found = {
        (str(path.relative_to(ROOT)), word, line)
        for path in modules()
        for line, word in findings(ast.parse(path.read_text(encoding="utf-8")))
    }
    allowed = {(file, word) for file, word, _ in ALLOWED}
    bad = sorted(f"{file}:{line} {word}" for file, word, line in found if (file, word) not in allowed)
    assert not bad, "\n".join(bad)
    assert allowed <= {(file, word) for file, word, _ in found}, "an exception that is not needed any more"


@pytest.mark.parametrize(
    "source",
    [
        "frame.withColumn('u', F.rand(7))",
        "from pyspark.sql.functions import monotonically_increasing_id as f",
        "a, b = frame.randomSplit([0.5, 0.5], seed=7)",
        "frame.crossJoin(other)",
        "n = frame.rdd.getNumPartitions()",
        "spark.sparkContext.setLogLevel('WARN')",
        "spark._jvm.java.lang.System.exit(0)",
        "import pickle",
        "from uuid import uuid4",
        "eval(text)",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.Loader)",
        "subprocess.run(command, shell=True)",
        "frame.groupBy('u').agg(F.first('arm'))",
    ],
)
def test_scan_sees(source: str) -> None:
    assert list(findings(ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    [
        "yaml.load(text, Loader=yaml.SafeLoader)",
        "class Loader(yaml.SafeLoader): pass\nyaml.load(text, Loader=Loader)",
        "yaml.safe_load(text)",
        "rng.random(7)",
        "'never rand() or pickle'",
        "subprocess.run(command, shell=False)",
        "first(rows)",
    ],
)
def test_scan_lets_pass(source: str) -> None:
    assert not list(findings(ast.parse(source)))


def test_jobs_are_thin() -> None:
    """A job imports the command line and nothing else, and its docstring is the contract of its tables."""
    for path in sorted((ROOT / "jobs").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = {
            name
            for node in ast.walk(tree)
            for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [])
            + ([str(node.module)] if isinstance(node, ast.ImportFrom) else [])
        }
        assert imported <= {"sys", "causal_spark.cli"}, path.name
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)], path.name
        assert "input." in (ast.get_docstring(tree) or ""), f"{path.name} does not say what tables it reads"
