"""What tests of several files watch, and the runs of the matching job that several of them look at, each made once."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from causal_spark import job
from causal_spark.errors import CausalSparkError
from tests.matching_runs import LALONDE, config, confounded, written


@pytest.fixture
def raised(monkeypatch: pytest.MonkeyPatch) -> list[CausalSparkError]:
    """The error that the job raised to the command line."""
    seen: list[CausalSparkError] = []
    run = job.run

    def watched(*arguments: Any) -> Any:
        try:
            return run(*arguments)
        except CausalSparkError as error:
            seen.append(error)
            raise

    monkeypatch.setattr(job, "run", watched)
    return seen


@pytest.fixture(scope="session")
def lalonde() -> pd.DataFrame:
    """The 614 rows of MatchIt."""
    root = importlib.util.find_spec("causalpy")
    assert root is not None
    assert root.submodule_search_locations
    frame = pd.read_csv(Path(root.submodule_search_locations[0]) / "data" / "lalonde.csv")
    frame = frame.rename(columns={"rownames": "id"})
    return frame.assign(
        black=(frame["race"] == "black").astype(int), hispan=(frame["race"] == "hispan").astype(int),
        re78=frame["re78"].astype(float), number=range(len(frame)), part=[f"p{i % 30}" for i in range(len(frame))],
        earned74=frame["re74"], worked74=(frame["re74"] > 0).astype(int),
    )  # fmt: skip


@pytest.fixture(scope="session")
def lalonde_table(lalonde, tmp_path_factory) -> Path:
    return written(lalonde.sample(frac=1, random_state=1), tmp_path_factory.mktemp("lalonde"), files=2)


@pytest.fixture(scope="session")
def on_lalonde(spark, lalonde_table, tmp_path_factory):
    """Runs on LaLonde by their settings, each once: result and folder."""
    known: dict[str, tuple[Any, Path]] = {}

    def run(**method: Any) -> tuple[Any, Path]:
        key = json.dumps(method, sort_keys=True)
        if key not in known:
            out = tmp_path_factory.mktemp("out") / "run"
            settings = {"outcomes": ["re78"], "covariates": LALONDE, **method}
            known[key] = job.run(config(lalonde_table, out, **settings), "matching").result, out
        return known[key]

    return run


@pytest.fixture(scope="session")
def channels(tmp_path_factory) -> tuple[pd.DataFrame, Path]:
    frame = confounded(False, 3_000)
    rng = np.random.default_rng(2)
    mail = (rng.random(len(frame)) < 1 / (1 + np.exp(1 - 0.5 * frame["a"]))).astype(int)
    frame = frame.assign(mail=mail, y=frame["y"] + 0.5 * mail, shop=[f"s{i % 60}" for i in range(len(frame))])
    return frame, written(frame, tmp_path_factory.mktemp("channels"))


@pytest.fixture(scope="session")
def several(spark, channels, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "several"
    method = {
        "outcomes": ["y", "quiet"], "covariates": ["a", "b", "c", "city"], "estimators": ["matching", "ipw"],
        "matching": {"caliper": 0.2}, "treatments": ["treat", "mail"], "spend": {"treat": 500.0, "mail": 100.0},
        "value": "y",
    }  # fmt: skip
    return job.run(config(channels[1], out, **method), "matching"), out
