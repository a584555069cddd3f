"""The Databricks bundle, as far as it can be checked without a workspace: names, files, settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from causal_spark.config import load
from causal_spark.job import validate
from tests.run import ROOT

BUNDLE = yaml.safe_load((ROOT / "databricks.yml").read_text(encoding="utf-8"))
RESOURCES = sorted(path for pattern in BUNDLE["include"] for path in ROOT.glob(pattern))
SAMPLES = {"workspace.current_user.userName": "someone@example.org", "workspace.file_path": str(ROOT)}


def jobs() -> Iterator[tuple[Path, str, dict[str, Any]]]:
    for path in RESOURCES:
        for name, job in yaml.safe_load(path.read_text(encoding="utf-8"))["resources"]["jobs"].items():
            yield path, name, job


def filled(text: str, job: dict[str, Any]) -> str:
    """A parameter with the bundle's variables and the job's parameters at their defaults."""
    parameters = {item["name"]: item["default"] for item in job["parameters"]}
    text = re.sub(r"\{\{job\.parameters\.(\w+)\}\}", lambda found: parameters[found.group(1)], text)
    known = {f"var.{name}": entry["default"] for name, entry in BUNDLE["variables"].items()} | SAMPLES
    return re.sub(r"\$\{([\w.]+)\}", lambda found: known[found.group(1)], text)


JOBS = [pytest.param(path, job, id=name) for path, name, job in jobs()]


def test_bundle_has_its_parts() -> None:
    assert BUNDLE["bundle"]["name"] == "causal_spark"
    assert BUNDLE["targets"]["dev"] == {"mode": "development", "default": True}
    assert BUNDLE["targets"]["prod"]["mode"] == "production"
    assert BUNDLE["artifacts"]["causal_spark"]["type"] == "whl"
    assert JOBS


@pytest.mark.parametrize(("path", "job"), JOBS)
def test_environment_takes_the_wheel(path: Path, job: dict[str, Any]) -> None:
    keys = {entry["environment_key"] for entry in job["environments"]}
    assert {task["environment_key"] for task in job["tasks"]} <= keys
    for entry in job["environments"]:
        for dependency in entry["spec"]["dependencies"]:
            assert (path.parent / dependency).resolve().parent == ROOT / "dist"


@pytest.mark.parametrize(("path", "job"), JOBS)
def test_tasks_name_what_exists(path: Path, job: dict[str, Any]) -> None:
    scripts = re.findall(r'"([\w-]+) = causal_spark\.cli:console"', (ROOT / "setup.py").read_text(encoding="utf-8"))
    for task in job["tasks"]:
        if "python_wheel_task" in task:
            assert task["python_wheel_task"]["package_name"] == "causal_spark"
            assert task["python_wheel_task"]["entry_point"] in scripts
        else:
            assert (path.parent / task["spark_python_task"]["python_file"]).resolve().is_file()


@pytest.mark.parametrize(("path", "job"), JOBS)
def test_parameters_are_a_valid_run(path: Path, job: dict[str, Any]) -> None:
    """Each task's parameters, filled with the defaults, pass the same checks as a run before it makes a session."""
    for task in job["tasks"]:
        form = task.get("python_wheel_task") or task["spark_python_task"]
        parameters = [filled(text, job) for text in form["parameters"]]
        assert not [text for text in parameters if "${" in text or "{{" in text]
        options = dict.fromkeys(["--config"], "")
        overrides = []
        for text in parameters:
            name, _, value = text.partition("=")
            if name == "--set":
                overrides.append(value)
            elif name in options:
                options[name] = value
            else:
                assert text == "run", text
        data = load(options["--config"], overrides)
        config = validate(data, data["job"])
        assert config.output.table is not None
