"""Bad tables are refused by name: the exit code, two lines with a remedy, both languages, and nothing written."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from causal_spark import cli
from causal_spark.methods import findings
from causal_spark.words import LANGUAGES, catalogue, say
from tests.jobs.bad_input import (
    DAY,
    HAN,
    LATER,
    TIME,
    Columns,
    Config,
    N,
    again,
    all_of,
    also_treated,
    assert_speaks,
    event_config,
    events,
    exposures,
    only,
    put,
    rows,
    same,
    saved,
    unit_config,
    units,
    write,
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every table on Sail; on classic Spark those that the gate refuses, for which the engine is asked; on Spark
    Connect, which takes seconds for each, one in five of these.
    """
    engine = metafunc.config.getoption("--engine")
    asked = [bad for bad in TABLES if engine == "sail" or bad.code == 3]
    if "bad" in metafunc.fixturenames:
        metafunc.parametrize("bad", asked[:: 5 if engine == "connect" else 1], ids=lambda case: case.name)


@dataclass(frozen=True)
class Bad:
    """Tables that are refused: what is done to the clean ones and to the configuration, code and words."""

    name: str
    code: int
    words: tuple[str, ...]
    units: Callable[[Columns], Columns | None] | None = None
    exposures: Callable[[Columns], Columns | None] | None = None
    events: Callable[[Columns], Columns | None] | None = None
    method: Mapping[str, Any] | None = None
    metric: Mapping[str, Any] | None = None

    @property
    def on_events(self) -> bool:
        return self.exposures is not None or self.events is not None


TABLES = [
    # columns
    Bad("missing unit column", 2, ("user_idd", "Nearest: user_id"), units=same, method={"unit": "user_idd"}),
    Bad("missing arm column", 2, ("varian", "Nearest: variant"), units=same, method={"arm": "varian"}),
    Bad("missing metric column", 2, ("revenu", "Nearest: revenue"), units=same, metric={"value": "revenu"}),
    Bad(
        "missing covariate",
        2,
        ("revenue_per", "Nearest: revenue_pre"),
        units=same,
        metric={"covariates": ["revenue_per"]},
    ),
    Bad("missing segment", 2, ("contry", "Nearest: country"), units=same, method={"segments": ["contry"]}),
    Bad("missing cluster", 2, ("shopp", "Nearest: shop"), units=same, method={"cluster": "shopp"}),
    Bad(
        "missing filter column",
        2,
        ("contry", "Nearest: country"),
        units=same,
        method=only("contry", "DE"),
    ),
    Bad("missing event column", 2, ("events", "amout", "Nearest: amount"), events=same, metric={"value": "amout"}),
    Bad("missing time column", 2, ("exposures", "time", "Nearest: "), events=same, method={"time": "time"}),
    Bad(
        "missing event filter column",
        2,
        ("events", "kind"),
        events=same,
        metric=only("kind", "x"),
    ),
    Bad("missing event identity", 2, ("events", "event_id"), events=same, method={"event_id": "event_id"}),
    Bad("name of 200 characters", 2, ("128",), units=same, metric={"value": "x" * 200}),
    Bad("filter of a text by a number", 2, ("country", "a text"), units=same, method=only("country", 5)),
    Bad("filter of a number by a text", 2, ("clicks", "a number"), units=same, method=only("clicks", "many")),
    Bad("filter of a number by a truth", 2, ("clicks", "a number"), units=same, method=only("clicks", True)),
    Bad("filter of a time by a text", 2, ("ts", "a time"), events=same, method=only("ts", "soon")),
    Bad("filter of events by a number", 2, ("type", "a text"), events=same, metric=only("type", 1)),
    Bad("text metric", 2, ("country", "string", "a number"), units=same, metric={"value": "country", "covariates": []}),
    Bad("text covariate", 2, ("country", "string", "a number"), units=same, metric={"covariates": ["country"]}),
    Bad("text amount", 2, ("events", "type", "string"), events=same, metric={"value": "type"}),
    Bad("time metric", 2, ("events", "ts", "timestamp"), events=same, metric={"value": "ts"}),
    Bad(
        "time is a text",
        2,
        ("exposures", "ts", "string", "timestamp"),
        exposures=lambda c: {**c, "ts": ["2026-01-05"] * N},
        events=same,
    ),
    Bad(
        "time is a number",
        2,
        ("events", "ts", "double", "timestamp"),
        events=lambda c: {**c, "ts": [float(v) for v in c["ts"]]},
    ),
    # tables
    Bad("no rows", 3, ("EMPTY_TABLE", "units"), units=rows(lambda i: False)),
    Bad(
        "no rows left by the filter",
        3,
        ("EMPTY_TABLE", "units"),
        units=same,
        method=only("country", "XX"),
    ),
    Bad("no events", 3, ("EMPTY_TABLE", "events"), events=rows(lambda i: False)),
    Bad("no exposures", 3, ("EMPTY_TABLE", "exposures"), exposures=rows(lambda i: False), events=same),
    # keys and arms
    Bad("NULL unit", 3, ("NULL_KEY", "user_id", "2 rows", "remove"), units=put("user_id", None, None)),
    Bad("NULL arm", 3, ("NULL_TREATMENT", "variant", "1 rows"), units=put("variant", None)),
    Bad(
        "NULL arm, shares not planned",
        3,
        ("NULL_TREATMENT", "variant"),
        units=put("variant", None),
        method={"shares": None},
    ),
    Bad("NULL cluster", 3, ("NULL_KEY", "shop", "remove"), units=put("shop", None), method={"cluster": "shop"}),
    Bad("NULL unit of an exposure", 3, ("NULL_KEY", "exposures"), exposures=put("user_id", None), events=same),
    Bad("NULL arm of an exposure", 3, ("NULL_TREATMENT", "variant"), exposures=put("variant", None), events=same),
    Bad("NULL time of an exposure", 3, ("NULL_KEY", "exposures", "ts"), exposures=put("ts", None), events=same),
    Bad("NULL unit of an event", 3, ("NULL_KEY", "events"), events=put("user_id", None)),
    Bad("NULL time of an event", 3, ("NULL_KEY", "events", "ts", "remove"), events=put("ts", None)),
    Bad("unknown arm", 3, ("UNKNOWN_ARM", "'trial'", "method.shares"), units=put("variant", "trial")),
    Bad("unknown arm of an exposure", 3, ("UNKNOWN_ARM", "'trial'"), exposures=put("variant", "trial"), events=same),
    Bad("arm of another case", 3, ("UNKNOWN_ARM", "'Control'"), units=put("variant", "Control")),
    Bad("empty arm label", 3, ("UNKNOWN_ARM", "''"), units=put("variant", "")),
    Bad("planned arm without units", 3, ("ARM_MISSING", "treatment", "control"), units=rows(lambda i: i % 2 == 0)),
    Bad(
        "third arm without units",
        3,
        ("ARM_MISSING", "'late'"),
        units=same,
        method={"shares": {"control": 0.4, "treatment": 0.4, "late": 0.2}},
    ),
    Bad(
        "one arm, shares not planned",
        2,
        ("control", "two arms"),
        units=all_of("variant", "control"),
        method={"shares": None},
    ),
    Bad(
        "control not in the data",
        2,
        ("placebo", "control, treatment", "method.control"),
        units=same,
        method={"shares": None, "control": "placebo"},
    ),
    Bad(
        "too many arms",
        3,
        ("TOO_MANY_ARMS", "user_id", "400", "method.arm"),
        units=same,
        method={"shares": None, "arm": "user_id", "control": "u0000"},
    ),
    Bad("the unit as arm", 3, ("UNKNOWN_ARM", "'u0001'", "method.shares"), units=same, method={"arm": "user_id"}),
    Bad("units in two arms", 3, ("UNIT_IN_TWO_ARMS", "20", "5.0%", "1.0%"), units=also_treated(20)),
    Bad("exposed units in two arms", 3, ("UNIT_IN_TWO_ARMS", "10", "2.5%"), exposures=also_treated(10), events=same),
    Bad(
        "clusters in two arms",
        3,
        ("UNIT_IN_TWO_ARMS", "shop"),
        units=put("variant", "treatment"),
        method={"cluster": "shop"},
    ),
    Bad("duplicate units", 3, ("DUPLICATE_UNIT", "user_id", "5 units", "one row"), units=again(0, 5)),
    # values
    Bad("NULL value", 3, ("NULL_VALUE", "revenue", "nulls: zero"), units=put("revenue", None, None)),
    Bad("NULL in a ratio", 3, ("NULL_VALUE", "views", "nulls: zero"), units=put("views", None)),
    Bad("NaN", 3, ("NAN_INF", "revenue", "repair"), units=put("revenue", math.nan)),
    Bad("infinity", 3, ("NAN_INF", "revenue", "repair"), units=put("revenue", math.inf)),
    Bad("minus infinity", 3, ("NAN_INF", "revenue", "repair"), units=put("revenue", -math.inf)),
    Bad("NaN in a covariate", 3, ("NAN_INF", "revenue", "repair"), units=put("revenue_pre", math.nan)),
    Bad("NaN under a percentile", 3, ("NAN_INF", "revenue"), units=put("revenue", math.nan), metric={"winsorize": 0.9}),
    Bad("NaN in clusters", 3, ("NAN_INF", "revenue"), units=put("revenue", math.nan), method={"cluster": "shop"}),
    Bad("NaN amount", 3, ("NAN_INF", "events", "amount"), events=put("amount", math.nan)),
    Bad("infinite amount", 3, ("NAN_INF", "events", "amount"), events=put("amount", math.inf)),
    Bad(
        "negative revenue",
        3,
        ("NEGATIVE_VALUE", "revenue", "-4", "negative: true"),
        units=put("revenue", -4.0),
        metric={"kind": "revenue"},
    ),
    Bad(
        "negative count",
        3,
        ("NEGATIVE_VALUE", "clicks", "negative: true"),
        units=put("clicks", -1),
        metric={"kind": "count", "value": "clicks", "covariates": []},
    ),
    Bad("refund not declared", 3, ("NEGATIVE_VALUE", "amount", "-9.5", "negative: true"), events=put("amount", -9.5)),
    Bad("proportion of 2", 3, ("NOT_BINARY", "converted", "0 and 1"), units=put("converted", 2)),
    Bad("proportion of -1", 3, ("converted", "-1"), units=put("converted", -1)),
    Bad(
        "proportion of a half",
        3,
        ("FRACTIONS", "converted", "kind: mean"),
        units=lambda c: {**c, "converted": [0.5, *map(float, c["converted"][1:])]},
    ),
    Bad("too large for the scale", 3, ("OUT_OF_RANGE", "amount", "smaller scale"), events=put("amount", 1e13)),
    Bad(
        "too large for the cluster scale",
        3,
        ("revenue", "1000000", "smaller scale"),
        units=put("revenue", 1e13),
        method={"cluster": "shop"},
    ),
    # times
    Bad(
        "exposed after as_of",
        3,
        ("FUTURE_TS", "exposures", "as_of"),
        events=same,
        exposures=put("ts", LATER),
        method={"as_of": "2026-01-31"},
    ),
    Bad(
        "events after as_of",
        3,
        ("FUTURE_TS", "events", "as_of"),
        events=put("ts", LATER),
        method={"as_of": "2026-01-31"},
    ),
    Bad("exposed in 1969", 3, ("PAST_TS", "exposures", "ts", "repair"), exposures=put("ts", -DAY), events=same),
    # what does not go together
    Bad("cluster with events", 2, ("method.cluster", "input.units"), events=same, method={"cluster": "country"}),
    Bad("covariates with events", 2, ("revenue", "method.pre_days"), events=same, metric={"covariates": ["amount"]}),
    Bad("events without time", 2, ("time", "method"), events=same, method={"time": None}),
    Bad("pre_days with units", 2, ("pre_days", "input.exposures"), units=same, method={"pre_days": 7}),
    Bad("by_day with units", 2, ("by_day", "input.events"), units=same, method={"by_day": 7}),
    Bad(
        "event filter with units",
        2,
        ("revenue", "input.events"),
        units=same,
        metric=only("country", "DE"),
    ),
    Bad(
        "retention with units",
        2,
        ("revenue", "input.events"),
        units=same,
        metric={"kind": "retention", "days": [1, 2], "covariates": []},
    ),
    Bad("count of units' events", 2, ("revenue", "input.events"), units=same, metric={"value": "*", "covariates": []}),
    Bad("metric without column", 2, ("revenue", "value"), units=same, metric={"value": None}),
]


def prepared(bad: Bad, folder: Path) -> Config:
    """The tables of ``bad`` written, and the configuration that reads them."""
    config = (event_config if bad.on_events else unit_config)(folder)
    made = {"exposures": exposures, "events": events} if bad.on_events else {"units": units}
    for role, build in made.items():
        change = getattr(bad, role) or same
        write(_columns(change(build())), folder / role)
    config["method"] |= bad.method or {}
    config["method"]["metrics"][0] |= bad.metric or {}
    config["method"] = {key: value for key, value in config["method"].items() if value is not None}
    return config


def _columns(columns: Columns) -> Columns:
    """Columns without rows keep their types."""
    if any(len(values) for values in columns.values()):
        return columns
    kinds = {"ts": TIME, "revenue": pa.float64(), "revenue_pre": pa.float64(), "amount": pa.float64()}
    whole = ("converted", "clicks", "views")
    return {name: pa.array([], kinds.get(name, pa.int64() if name in whole else pa.string())) for name in columns}


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, str]]]:
    """The key and both languages of every sentence that the gate speaks."""
    heard: list[tuple[str, dict[str, str]]] = []

    def speak(key: str, language: str = "en", **values: object) -> str:
        heard.append((key, {name: say(key, name, **values) for name in LANGUAGES}))
        return heard[-1][1][language]

    monkeypatch.setattr(findings, "say", speak)
    return heard


def test_tables_are_refused_by_name(bad, spark, tmp_path, capsys, said, raised):
    config = prepared(bad, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    file = saved(config, tmp_path)
    assert cli.main(["run", file]) == bad.code
    caught = capsys.readouterr()
    assert_speaks(caught.err, bad.words, "en")
    assert caught.out == ""
    assert sorted(tmp_path.rglob("*")) == sorted([*before, Path(file)])
    chinese = [raised[0].text("zh"), *(both["zh"] for _, both in said)]
    assert all(any(ord(c) in HAN for c in text) for text in chinese)


def test_the_corpus_is_large_enough():
    codes = {
        word for bad in TABLES for word in bad.words if word.isupper() and f"check_{word.lower()}" in catalogue("en")
    }
    assert len(TABLES) >= 25
    assert len(codes) >= 12


def test_every_sentence_takes_the_same_values_in_both_languages():
    import string

    def fields(text: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    english, chinese = catalogue("en"), catalogue("zh")
    assert english.keys() == chinese.keys()
    assert [key for key in english if fields(english[key]) != fields(chinese[key])] == []
