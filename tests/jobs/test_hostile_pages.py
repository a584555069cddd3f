"""Hostile names in what a run shows: the page runs and loads nothing, nor does a spreadsheet or a terminal."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from causal_spark import cli, job
from tests.jobs.hostile import DAY, START, XSS, Config, N, config_for, saved, units, write

# What is tested is the driver's: on the embedded engine alone.
once = pytest.mark.engines("sail")

ACTIVE = {"script", "iframe", "object", "embed", "link", "base", "form", "input", "img", "video", "source", "frame",
          "audio", "applet", "foreignobject", "animate", "set", "textarea"}  # fmt: skip
LINKS = ("href", "src", "srcset", "action", "data", "xlink:href", "background", "poster", "formaction")


class Audit(HTMLParser):
    """What a page would run or load, and its text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.findings: list[str] = []
        self.policies: list[str] = []
        self.words: list[str] = []
        self.open_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name.lower(): value or "" for name, value in attrs}
        if tag in ACTIVE:
            self.findings.append(f"<{tag}>")
        if tag == "meta" and "http-equiv" in given:
            if given["http-equiv"].lower() == "content-security-policy":
                self.policies.append(given.get("content", ""))
            else:
                self.findings.append(f"<meta http-equiv={given['http-equiv']}>")
        self.open_style = tag == "style"
        for name, value in given.items():
            if name.startswith("on"):
                self.findings.append(f"{tag} {name}")
            if name in LINKS and not value.startswith(("#", "data:image/")):
                self.findings.append(f"{tag} {name}={value}")
            if re.search(r"javascript:|url\((?!#)|expression\(|@import", value, re.IGNORECASE):
                self.findings.append(f"{tag} {name}={value}")

    def handle_endtag(self, tag: str) -> None:
        self.open_style = False

    def handle_data(self, data: str) -> None:
        if self.open_style and re.search(r"url\((?!#)|@import|evil\.example|alert\(", data):
            self.findings.append("a style that loads something")
        if not self.open_style:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


def audit(page: str) -> Audit:
    found = Audit()
    found.feed(page)
    found.close()
    return found


def hostile_run(folder: Path) -> Config:
    """A run in which every name and label that can be chosen is hostile."""
    arms, metrics, segments, labels = XSS[:3], XSS[3:8], XSS[8:10], XSS[10:]
    rng = np.random.default_rng(3)
    columns: dict[str, Any] = {"user_id": list(range(N)), "variant": [arms[i % 3] for i in range(N)]}
    columns |= {name: rng.gamma(4.0, 2.0, N).tolist() for name in metrics}
    columns |= {f"before {name}": rng.gamma(4.0, 2.0, N).tolist() for name in metrics[:2]}
    columns |= {name: [labels[(i // 3 + k) % len(labels)] for i in range(N)] for k, name in enumerate(segments)}
    write(columns, folder / "units")
    config = config_for(folder)
    config["method"] |= {
        "control": arms[0],
        "shares": None,
        "segments": segments,
        "min_segment": 2,
        "metrics": [
            {"name": name, "kind": "mean", "value": name, "role": ("success", "guardrail", "diagnostic")[i % 3],
             "covariates": [f"before {name}"] if i < 2 else []}
            for i, name in enumerate(metrics)
        ],
    }  # fmt: skip
    config["report"] = {"title": XSS[0] + XSS[1]}
    config["tracking"] = {"enabled": False, "experiment": XSS[2], "run_name": XSS[3]}
    return config


@pytest.mark.parametrize("language", ["en", pytest.param("zh", marks=once)])
def test_the_page_runs_and_loads_nothing(language, spark, tmp_path, capsys):
    """Hostile names of metrics, arms, segments, their values and the run, through the whole job."""
    config = hostile_run(tmp_path)
    config["report"]["language"] = language
    assert cli.main(["run", saved(config, tmp_path)]) == 0
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    found = audit(page)
    assert found.findings == []
    assert len(found.policies) == 1
    assert "default-src 'none'" in found.policies[0]
    assert "script-src" not in found.policies[0]
    assert page.index("Content-Security-Policy") < page.index("<title")
    told = found.text.replace("\u200b", "")
    assert [name for name in XSS[:8] if " ".join(name.split()) not in told] == [], "shown as the text that they are"
    assert "{{7*7}}" in told


@once
def test_the_page_of_hostile_events(spark, tmp_path):
    """With effects by day, where the names stand in a drawing, too; and the drawings as files."""
    made = job.run(hostile_events(tmp_path), "experiment")
    assert made.result is not None
    from causal_spark.report.page import figures

    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    drawings = figures(made.result, made.manifest, "en")
    assert drawings
    for text in (page, *drawings.values()):
        assert audit(text).findings == []


def hostile_events(folder: Path) -> Config:
    arms, labels = XSS[4:6], XSS[6:8]
    rng = np.random.default_rng(4)
    time = pa.timestamp("us", tz="UTC")
    shown = [START + i * 60_000_000 for i in range(N)]
    unit = np.repeat(np.arange(N), 4)
    write(
        {
            "user_id": [f"u{i}" for i in range(N)],
            "variant": [arms[i % 2] for i in range(N)],
            "ts": pa.array(shown, time),
            XSS[8]: [labels[i // 2 % 2] for i in range(N)],
        },
        folder / "exposures",
    )
    write(
        {
            "user_id": [f"u{i}" for i in unit],
            "ts": pa.array([shown[i] + int(d) * DAY + 1 for i, d in zip(unit, [-2, 0, 1, 3] * N, strict=True)], time),
            XSS[9]: [XSS[10 + i % 2] for i in range(4 * N)],
            XSS[12]: rng.gamma(4.0, 2.0, 4 * N).tolist(),
        },
        folder / "events",
    )
    config = config_for(folder)
    config["input"] = {role: {"table": str(folder / role)} for role in ("exposures", "events")}
    config["method"] |= {
        "control": arms[0],
        "shares": dict.fromkeys(arms, 0.5),
        "time": "ts",
        "pre_days": 3,
        "by_day": 3,
        "segments": [XSS[8]],
        "metrics": [
            {"name": XSS[13], "kind": "mean", "value": XSS[12], "where": [{"column": XSS[9], "value": XSS[10]}]},
            {"name": XSS[14], "kind": "count", "value": "*", "where": [{"column": XSS[9], "value": XSS[11]}]},
        ],
    }
    return config


@once
def test_a_spreadsheet_runs_no_cell(spark, tmp_path, monkeypatch):
    """In the tables that MLflow keeps as CSV no text begins like a formula."""
    from causal_spark.report import tracking

    kept: dict[str, str] = {}
    monkeypatch.setattr(tracking, "log_run", lambda *a, artifacts, **k: (kept.update(artifacts), "run")[1])
    formulas = ["=cmd|' /C calc'!A0", "+1+1", "-1+1", "@SUM(A1)", "=HYPERLINK(A1)"]
    columns = {**units(arms=("=control", "@treatment")), "country": [formulas[i // 2 % 5] for i in range(N)]}
    columns |= dict.fromkeys(formulas, columns["revenue"])
    write(columns, tmp_path / "units")
    config = config_for(tmp_path)
    config["method"] |= {"control": "=control", "shares": None}
    config["method"]["metrics"] = [{"name": name, "kind": "mean", "value": name} for name in formulas]
    config["tracking"] = {}
    job.run(config, "experiment")
    tables = {name: text for name, text in kept.items() if name.endswith(".csv")}
    assert len(tables) > 3
    for text in tables.values():
        for cell in (cell for line in csv.reader(io.StringIO(text)) for cell in line):
            assert not cell.startswith(("=", "+", "@", "\t")), cell
            assert not cell.startswith("-") or re.fullmatch(r"-(\d.*|inf)", cell), cell


@once
def test_a_label_cannot_write_to_the_terminal(spark, tmp_path, capsys):
    """Control characters in the data's own labels: in no line of the terminal, and the page has none either."""
    label = "\x1b[2J\x1b]0;owned\x07treatment\nNOT A LINE"
    for shares, code in ((None, 0), ({"control": 0.5, "treatment": 0.5}, 3)):
        write(units(arms=("control", label)), tmp_path / "units")
        config = config_for(tmp_path)
        config["method"]["shares"] = shares
        config["output"]["path"] = f"{tmp_path}/out{code}"
        assert cli.main(["run", saved(config, tmp_path)]) == code
        told = capsys.readouterr()
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", told.out + told.err)
        assert "NOT A LINE" not in (told.out + told.err).splitlines()
    page = (tmp_path / "out0" / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", page)
