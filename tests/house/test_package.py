"""The wheel: the same bytes each time, no Spark among its requirements, all its data inside."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

from tests.run import ROOT

pytest.importorskip("setuptools", minversion="77", reason="the build backend that setup.py is written for")

BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
FILES = ("setup.py", "pyproject.toml", "LICENSE", "README.md")


def build(folder: Path) -> Path:
    """The wheel of a copy of the sources whose files are all as old as they were copied: now."""
    shutil.copytree(ROOT / "causal_spark", folder / "causal_spark", ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        if (ROOT / name).exists():
            shutil.copyfile(ROOT / name, folder / name)
    for number, path in enumerate(folder.rglob("*.py")):
        os.utime(path, (1e9 + number, 1e9 + number))
    command = [sys.executable, "-c", BUILD, str(folder / "dist")]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return build(tmp_path_factory.mktemp("one")), build(tmp_path_factory.mktemp("another"))


def test_two_builds_are_the_same_bytes(wheels: tuple[Path, Path]) -> None:
    first, second = (hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in wheels)
    assert wheels[0].name == wheels[1].name
    assert first == second


def test_wheel_does_not_require_spark(wheels: tuple[Path, Path]) -> None:
    """Databricks serverless stops on a wheel that asks for pyspark."""
    with zipfile.ZipFile(wheels[0]) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = message_from_string(wheel.read(name).decode())
    always = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    names = {line.split(">")[0].split("<")[0].strip().lower() for line in always}
    assert names == {
        "numpy", "scipy", "pandas", "pyarrow", "pyyaml", "jinja2", "matplotlib", "rich", "mlflow-skinny",
    }  # fmt: skip
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert {"local", "dev", "boosted"} <= set(metadata.get_all("Provides-Extra", []))


def test_wheel_holds_the_package_and_its_data(wheels: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(wheels[0]) as wheel:
        inside = set(wheel.namelist())
    data = (".py", ".yml", ".html", ".css", ".js", ".svg", ".typed")
    package = {
        str(path.relative_to(ROOT)) for path in (ROOT / "causal_spark").rglob("*") if path.suffix in data
    }  # fmt: skip
    assert package <= inside
    assert {"causal_spark/words/en.yml", "causal_spark/words/zh.yml"} <= inside
    assert not {name for name in inside if name.startswith("tests")}


def test_wheel_works_as_a_zip_on_the_path(wheels: tuple[Path, Path], tmp_path: Path) -> None:
    """``spark-submit --py-files`` takes the same bytes as a .zip; words and templates are read from inside it."""
    package = tmp_path / "causal_spark.zip"
    shutil.copyfile(wheels[0], package)
    probe = (
        "import causal_spark; from causal_spark.words import catalogue; from causal_spark.cli import template;"
        "assert '.zip' in causal_spark.__file__, causal_spark.__file__;"
        "assert catalogue('zh') and template('experiment')"
    )
    environment = {**os.environ, "PYTHONPATH": str(package)}
    run = subprocess.run([sys.executable, "-c", probe], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
