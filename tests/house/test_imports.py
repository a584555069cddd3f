"""Who may import whom: the contracts of pyproject.toml, and rooms that work where no Spark is installed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.run import ROOT

# In a fresh process: every module of the package given, with the packages given as if they were not installed.
PROBE = """
import importlib, pkgutil, sys
package, *blocked = sys.argv[1:]
sys.modules.update(dict.fromkeys(blocked))
room = importlib.import_module(package)
for found in pkgutil.walk_packages(getattr(room, "__path__", []), package + "."):
    importlib.import_module(found.name)
"""


def test_contracts_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    from importlinter.cli import lint_imports

    broken = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert broken == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("package", "blocked"),
    [
        ("causal_spark.words", ("pyspark", "pysail", "mlflow", "pandas", "numpy")),
        ("causal_spark.statistics", ("pyspark", "pysail", "mlflow", "pandas", "pyarrow", "scipy", "matplotlib")),
        ("causal_spark.solve", ("pyspark", "pysail", "mlflow", "pandas", "pyarrow", "matplotlib")),
        ("causal_spark.results", ("pyspark", "pysail", "mlflow")),
        ("causal_spark.simulate", ("pyspark", "pysail", "mlflow", "pandas")),
        ("causal_spark.cli", ("pyspark", "pysail", "mlflow")),
    ],
)
def test_room_works_without(package: str, blocked: tuple[str, ...]) -> None:
    command = [sys.executable, "-c", PROBE, package, *blocked]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
