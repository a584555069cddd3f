"""Strange but honest names of columns, arms and metrics work like any other: the numbers are the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from causal_spark import job
from tests.jobs.hostile import DAY, START, Config, N, config_for, units, write

HONEST = ["x`y", "a.b", "revenue (€)", "收入", "order by", "it's", 'say "hi"', "back\\slash", "100%", "{brace}", "a;b",
          "<b>", "🙂", "名.`字", "events", "arm", "n"]  # fmt: skip


def estimates(config: Config) -> list[list[float]]:
    made = job.run(config, "experiment")
    assert made.result is not None
    return numbers(made.result.estimates)


def numbers(frame: pd.DataFrame, outcome: str | None = None) -> list[list[float]]:
    chosen = frame if outcome is None else frame[frame["outcome"] == outcome]
    return chosen[["estimate", "std_error", "p_value", "conf_low", "conf_high", "n"]].to_numpy(float).tolist()


def test_strange_columns_work_like_any_other(spark, tmp_path):
    """The same column under every name at once, each metric named like its column: the numbers of the plain name."""
    columns = units()
    write(columns | dict.fromkeys(HONEST, columns["revenue"]), tmp_path / "units")
    config = config_for(tmp_path)
    metric = config["method"]["metrics"][0] | {"winsorize": 0.99}
    config["method"]["metrics"] = [metric | {"name": name, "value": name} for name in ("revenue", *HONEST)]
    made = job.run(config, "experiment")
    assert made.result is not None
    plain_estimates = numbers(made.result.estimates, "revenue")
    assert len(plain_estimates) > 8
    for name in HONEST:
        found = numbers(made.result.estimates, name)
        np.testing.assert_allclose(found, plain_estimates, rtol=1e-12, err_msg=name)


STRANGE = {
    "user_id": "用户 `id`",
    "variant": "the.arm",
    "revenue": "revenue (€)",
    "before": "before.`x`",
    "clicks": "clicks; --",
    "views": "views\\n",
    "country": "国家.地区 '1'",
    "shop": 'shop "no."',
}
LABELS = ("control group's", '"B" – 新 `x`')


@pytest.mark.parametrize("cluster", [False, True])
def test_a_table_of_strange_names_works_like_any_other(cluster, spark, tmp_path):
    """All columns, both arms' labels, a filter and a segment at once."""
    write(units(), tmp_path / "plain")
    write(units(STRANGE, LABELS), tmp_path / "strange")
    plain_config = config_for(tmp_path)
    plain_config["input"]["units"]["table"] = str(tmp_path / "plain")
    plain_config["method"]["where"] = [{"column": "country", "op": "!=", "value": "CN"}]
    if cluster:
        plain_config["method"]["cluster"] = "shop"
    strange = json.loads(json.dumps(plain_config))
    strange["input"]["units"]["table"] = str(tmp_path / "strange")
    strange["output"]["path"] += "-strange"
    strange["method"] |= {
        "unit": STRANGE["user_id"],
        "arm": STRANGE["variant"],
        "control": LABELS[0],
        "shares": dict.fromkeys(LABELS, 0.5),
        "segments": [STRANGE["country"]],
        "where": [{"column": STRANGE["country"], "op": "!=", "value": "CN"}],
        "cluster": STRANGE["shop"] if cluster else None,
    }
    first, second = strange["method"]["metrics"]
    first |= {"name": "收入.`x` (€)", "value": STRANGE["revenue"], "covariates": [STRANGE["before"]]}
    second |= {"name": "ctr %", "numerator": STRANGE["clicks"], "denominator": STRANGE["views"]}
    np.testing.assert_allclose(estimates(strange), estimates(plain_config), rtol=1e-9)


def event_tables(folder: Path, exposure: Mapping[str, str], event: Mapping[str, str], arms: tuple[str, ...]) -> None:
    rng = np.random.default_rng(6)
    time = pa.timestamp("us", tz="UTC")
    shown = [START + i * 60_000_000 for i in range(N)]
    unit = np.repeat(np.arange(N), 4)
    days = rng.integers(-5, 8, 4 * N)
    exposures = {
        "user_id": [f"u{i}" for i in range(N)],
        "variant": [arms[i % 2] for i in range(N)],
        "ts": pa.array(shown, time),
        "country": [("DE", "FR")[i // 2 % 2] for i in range(N)],
    }
    events = {
        "user_id": [f"u{i}" for i in unit],
        "ts": pa.array([shown[i] + int(d) * DAY + 1 for i, d in zip(unit, days, strict=True)], time),
        "type": [("buy", "view")[i % 2] for i in range(4 * N)],
        "amount": rng.gamma(4.0, 2.0, 4 * N).round(2).tolist(),
    }
    write({exposure.get(name, name): values for name, values in exposures.items()}, folder / "exposures")
    write({event.get(name, name): values for name, values in events.items()}, folder / "events")


def event_config(folder: Path, out: str) -> Config:
    config = config_for(folder)
    config["input"] = {role: {"table": str(folder / role)} for role in ("exposures", "events")}
    config["output"]["path"] = f"{folder}/{out}"
    config["method"] |= {
        "time": "ts",
        "pre_days": 5,
        "window_days": 3,
        "by_day": 3,
        "metrics": [
            {"name": "revenue", "kind": "revenue", "value": "amount", "where": [{"column": "type", "value": "buy"}]},
            {"name": "views", "kind": "count", "value": "*", "where": [{"column": "type", "value": "view"}]},
        ],
    }
    return config


@pytest.fixture(scope="module")
def plain_events(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> list[list[float]]:
    """The estimates of events under plain names."""
    folder = tmp_path_factory.mktemp("plain")
    event_tables(folder, {}, {}, ("control", "treatment"))
    return estimates(event_config(folder, "out"))


@pytest.mark.parametrize(
    ("exposure", "event", "metrics"),
    [
        ({"user_id": "用户 `id`", "variant": "the.arm", "ts": "时间 (UTC)", "country": "国家.`地区`"},
         {"user_id": "用户 `id`", "ts": "时间 (UTC)", "type": "event.type", "amount": "金额 `€`"},
         ("收入 (€)", "a.`b`")),
        # names of which the job's own tables might think, and the same name in both tables
        ({"country": "elapsed"}, {"type": "arm", "amount": "unit"}, ("events", "arm")),
        ({"country": "arm"}, {"type": "exposed", "amount": "events"}, ("unit", "day")),
        ({"country": "type"}, {"type": "type", "amount": "at"}, ("exposed", "n")),
        ({"country": "unit"}, {"amount": "ts2"}, ("elapsed", "in_several_arms")),
    ],
    ids=["strange", "elapsed", "arm", "type", "unit"],
)  # fmt: skip
def test_events_of_strange_names_work_like_any_other(exposure, event, metrics, spark, tmp_path, plain_events):
    event_tables(tmp_path / "strange", exposure, event, LABELS)
    strange = event_config(tmp_path / "strange", "out")
    strange["method"] |= {
        "unit": exposure.get("user_id", "user_id"),
        "arm": exposure.get("variant", "variant"),
        "time": exposure.get("ts", "ts"),
        "segments": [exposure["country"]],
        "control": LABELS[0],
        "shares": dict.fromkeys(LABELS, 0.5),
    }
    for metric, name in zip(strange["method"]["metrics"], metrics, strict=True):
        metric["name"] = name
        metric["where"][0]["column"] = event.get("type", "type")
    strange["method"]["metrics"][0]["value"] = event["amount"]
    np.testing.assert_allclose(estimates(strange), plain_events, rtol=1e-9)
