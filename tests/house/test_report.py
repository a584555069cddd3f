"""The report: both languages, no script however a metric is called, no NaN before the eyes of anyone."""

from __future__ import annotations

import math
import re
import string
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from causal_spark.report import figures as drawings
from causal_spark.report import marks, numbers
from causal_spark.report.marks import Mark
from causal_spark.report.page import figures, render
from causal_spark.results import Estimate, Result, estimates_frame
from causal_spark.words import catalogue

PAYLOADS = (
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "</text></svg><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "\"><script src='https://evil.example/x.js'></script>",
    "' onmouseover='alert(1)",
    '" onfocus="alert(1)" autofocus="',
    "javascript:alert(1)",
    "<a href='javascript:alert(1)'>x</a>",
    "<iframe src='https://evil.example'></iframe>",
    "<object data='https://evil.example'></object>",
    "<embed src='//evil.example/x.swf'>",
    "<base href='https://evil.example/'>",
    "<link rel=stylesheet href='https://evil.example/x.css'>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>",
    "<form action='https://evil.example'><input></form>",
    "<style>@import 'https://evil.example/x.css';</style>",
    "<math><mi//xlink:href='data:x,<script>alert(1)</script>'>",
    "<details open ontoggle=alert(1)>",
    "<foreignObject><body onload=alert(1)></foreignObject>",
    "<use href='https://evil.example/x.svg#a'/>",
    "<animate onbegin=alert(1) attributeName=x>",
    "<!--<script>alert(1)//-->",
    "]]><script>alert(1)</script>",
    "{{ 7*7 }}{% for x in y %}{metric.__class__}",
    "$\\frac{a}{$ <b onclick=alert(1)>\x00\x1b\u202e\ud7ff\n&lt;script&gt;",
)
FORBIDDEN = {"script", "iframe", "object", "embed", "form", "input", "link", "base", "img", "a", "foreignobject"}
FORBIDDEN |= {"image", "animate", "set", "audio", "video", "math"}
KINDS = ("proportion", "mean", "ratio", "mean")
LANGUAGES = ("en", "zh")
FACTS = {
    "title": "Checkout", "job": "experiment", "engine": "sail", "versions": {"python": "3.11"}, "run_key": "k",
    "created": "2026-03-01T09:30:00+00:00", "input": "units", "rows": 3_000_000, "units": 2_999_000, "seconds": 12.3,
    "alpha": 0.05, "correction": "holm", "alternative": "two-sided", "control": "a", "arms": ["a", "b"],
    "code_version": "0.1.0",
}  # fmt: skip


class Parsed(HTMLParser):
    """The tags, attributes and visible text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self._silent = 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._silent += tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag == "style"

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.words.append(data)


def estimate(
    name: str, arms: tuple[str, str], place: int, segment: str, effect: float, **change: object
) -> list[Estimate]:
    scale, error = 10.0 ** (place % 3), 0.01
    z = effect / error
    rows = []
    for term, size in (("difference", scale), ("lift", 1.0)):
        row = Estimate(
            "welch", "ATE", name, segment, f"{arms[1]} vs {arms[0]}", term, effect * size, error * size, z, 1e4,
            math.erfc(abs(z) / 2**0.5), min(1.0, 4 * math.erfc(abs(z) / 2**0.5)), (effect - 1.96 * error) * size,
            (effect + 1.96 * error) * size, 0.95, 1e6,
        )  # fmt: skip
        if place % 2:
            twin = replace(row, p_adjusted=math.nan, note="unadjusted", std_error=row.std_error * 2)
            rows += [replace(row, method="cuped", **change), twin]
        else:
            rows.append(replace(row, **change))
    return rows


def result_of(names: list[str], segments: list[str], arms: tuple[str, str], **more: object) -> Result:
    """A whole result with every table, all of its names given."""
    effects = (0.05, -0.04, 0.003, 0.021)
    rows = [
        row
        for place, name in enumerate(names)
        for segment in ["all", *segments]
        for row in estimate(name, arms, place, segment, effects[place % 4])
    ]
    contrast = f"{arms[1]} vs {arms[0]}"
    line = {"estimate": 0.1, "std_error": 0.2, "p_value": 0.6, "p_adjusted": 1.0, "conf_low": -0.3, "conf_high": 0.5}
    roles = ("success", "success", "guardrail", "guardrail")
    tables = {
        "checks": [
            {"code": "c", "verdict": v, "table": names[0], "column": names[-1], "count": 3, "share": 0.1,
             "threshold": 0.01, "message": names[i % len(names)]}
            for i, v in enumerate(("pass", "warn", "stop", "invalid"))
        ],
        "metrics": [
            {"outcome": n, "kind": KINDS[i % 4], "role": roles[i % 4], "value": n} for i, n in enumerate(names)
        ],
        "srm": [
            {"segment": s, "arm": a, "n": 100, "expected": 100.0, "share": 0.5, "planned": 0.5, "p_value": 0.5,
             "p_adjusted": 1.0, "flagged": False} for s in ["all", *segments] for a in arms
        ],
        "arms": [
            {"segment": "all", "outcome": n, "arm": a, "n": 100, "mean": 0.5, "std_dev": 1.0}
            for n in names for a in arms
        ],
        "cuped": [
            {"outcome": n, "segment": "all", "covariate": n, "theta": 0.5, "rho2": 0.3, "variance_reduction": 0.3,
             "sign_flip": False} for n in names
        ],
        "pre_period": [{"outcome": n, "contrast": contrast, "flagged": False, **line} for n in names],
        "by_day": [{"outcome": n, "contrast": contrast, "day": d, "n": 50, **line} for n in names for d in range(3)],
        "nulls": [{"outcome": n, "column": n, "policy": "zero", "nulls": 1, "rows": 10} for n in names],
    }  # fmt: skip
    frames = {name: pd.DataFrame(table) for name, table in tables.items()}
    notes = tuple(names[:2])
    return Result(estimates_frame(rows), frames, {}, notes, **more)


@pytest.fixture(scope="module")
def plain() -> Result:
    """Four metrics, two segments, two arms."""
    return result_of(["m0", "m1", "m2", "m3"], ["s=x", "s=y"], ("a", "b"))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("trusted", [True, False])
def test_both_languages_render_whole(plain: Result, language: str, trusted: bool) -> None:
    text = render(replace(plain, trusted=trusted), FACTS, language)
    words = "".join(Parsed(text).words)
    assert "report_" not in text
    assert "{" not in words
    assert ("stop" if not trusted else "care") in re.search(r'<section class="verdict (\w+)"', text)[1]
    assert 'role="alert"' in text if not trusted else 'role="alert"' not in text
    assert ("td .up" in text) and (('class="up"' in text) == trusted)
    assert len(text) < 1_000_000


def test_a_verdict_in_words(plain: Result) -> None:
    clean = {**plain.diagnostics, "checks": plain.diagnostics["checks"].head(1)}
    words = "".join(Parsed(render(replace(plain, diagnostics=clean), FACTS)).words)
    for sentence in ("All 1 checks of the data passed.", "2 of 2 success metrics moved", "m0 rose by 5.0%",
                     "m1 fell by 4.0%", "m3: a hint only", "held to 5% over all 4 comparisons (Holm)"):  # fmt: skip
        assert sentence in words, sentence


@pytest.mark.parametrize("start", [0, 10, 20])
def test_names_never_become_markup(start: int) -> None:
    some = list(PAYLOADS[start : start + 10])
    harmless = [f"name{i}" for i in range(10)]
    pages = []
    for names in (some, harmless):
        result = result_of(names[:8], [f"{n}={n}" for n in names[2:6]], (names[8], names[9]))
        facts = {**FACTS, "title": names[start % 7], "input": names[3], "arms": names[8:], "engine": names[1]}
        facts |= {"control": names[8], "versions": {names[4]: names[5]}, "run_key": names[6], "created": names[7]}
        facts |= {"correction": names[0], "alternative": names[2], "code_version": names[5]}
        pages.append(Parsed(render(result, facts)))
    hostile, calm = ([tag for tag in page.tags if tag not in ("wbr", "small")] for page in pages)
    assert hostile == calm
    check_harmless(pages[0])


def check_harmless(page: Parsed) -> None:
    assert not FORBIDDEN & set(page.tags)
    policies = [value for tag, name, value in page.attributes if tag == "meta" and name == "content"]
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in policies
    for _, name, value in page.attributes:
        assert not name.startswith("on")
        assert name not in ("src", "action", "xmlns:xlink")
        assert not re.search(r"(?i)javascript:|https?:|^//|url\(\s*[^#)]", value), value
        assert name not in ("href", "xlink:href") or value.startswith("#")


@pytest.mark.parametrize("payload", PAYLOADS)
def test_names_never_become_svg(payload: str) -> None:
    row = drawings.ForestRow(payload, payload, Mark(0.1, 0.0, 0.2, "up"), None, payload)
    text = drawings.forest([row], name="effects", axis=payload)
    root = ElementTree.fromstring(text)
    assert not [node for node in root.iter() if node.tag.rsplit("}")[-1].lower() in FORBIDDEN]
    assert "<?xml" not in text and "<!DOCTYPE" not in text and "<metadata" not in text
    assert not [v for node in root.iter() for v in node.attrib.values() if re.search(r"(?i)http|javascript|//", v)]
    assert text == drawings.forest([row], name="effects", axis=payload)


def holes(result: Result, value: float) -> Result:
    """The same result with every number replaced."""
    frames = {name: frame.copy() for name, frame in [("", result.estimates), *result.diagnostics.items()]}
    for frame in frames.values():
        for column in frame.columns:
            if frame[column].dtype.kind in "if" and column != "day":
                frame[column] = value
    return replace(result, estimates=frames.pop(""), diagnostics=frames)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.0, 1e300, -1e-300])
def test_no_nan_and_no_inf_are_seen(plain: Result, value: float) -> None:
    page = Parsed(
        render(holes(plain, value), {**FACTS, "rows": value, "units": value, "seconds": value, "alpha": value})
    )
    holes_in = r"(?i)(?<![a-z])(nan|inf|infinity|none|null|nat)(?![a-z])"
    assert not re.search(holes_in, " ".join(page.words))
    assert not [v for tag, _, v in page.attributes if re.search(r"(?i)\b(nan|inf)\b", v)]


def test_open_intervals_and_missing_estimates(plain: Result) -> None:
    frame = plain.estimates.copy()
    frame.loc[frame["outcome"] == "m0", "conf_high"] = math.inf
    numbers_of = ["estimate", "std_error", "conf_low", "conf_high", "p_value", "p_adjusted"]
    frame.loc[frame["outcome"] == "m2", numbers_of] = math.nan
    frame.loc[frame["outcome"] == "m2", "note"] = "no variance in b"
    words = "".join(Parsed(render(replace(plain, estimates=frame), {**FACTS, "alternative": "greater"})).words)
    assert "plausibly at least +3.0%" in words
    assert "m2 could not be estimated: no variance in b." in words
    assert "+\u221e)" in words and "one-sided, greater" in words


def test_tables_may_be_absent_or_empty(plain: Result) -> None:
    empty = {name: frame.head(0) for name, frame in plain.diagnostics.items()}
    for diagnostics in ({}, empty):
        for estimates in (plain.estimates, plain.estimates.head(0)):
            for facts in ({}, {"job": "matching", "title": None, "alpha": math.nan}):
                text = render(Result(estimates, diagnostics, trusted=False), facts, "zh")
                assert "该结果标记为不可用于决策" in text


METHOD = {
    "unit": "user_id", "cluster": None, "window_days": 14, "pre_days": 28, "as_of": "2026-03-01", "lift": "fieller",
    "theta": "within", "cluster_correction": "arm", "contrasts": "control", "holdouts": ("held",), "srm_alpha": 0.001,
    "shares": {"a": 0.5, "b": 0.5}, "segments": ("s",), "min_segment": 50,
    "where": ({"column": "country", "op": "in", "value": ["DE", "FR"]},),
    "metrics": (
        {"name": "m0", "kind": "retention", "role": "success", "days": (7, 14), "value": None, "where": ()},
        {"name": "m1", "kind": "revenue", "role": "success", "value": "amount", "winsorize": 0.999},
        {"name": "m2", "kind": "ratio", "role": "guardrail", "numerator": "*", "denominator": "views"},
    ),
}  # fmt: skip


def said(result: Result, language: str = "en", **facts: object) -> str:
    return "".join(Parsed(render(result, {**FACTS, **facts}, language)).words)


def test_the_method_is_said_in_words(plain: Result) -> None:
    frame = plain.diagnostics["metrics"].assign(winsorized_at=["", "amount 673.66", "", ""])
    result = replace(plain, diagnostics={**plain.diagnostics, "metrics": frame})
    words = said(result, method=METHOD)
    for text in ("Effect within 14 days of first exposure", "28 days before first exposure", "2026-03-01", "held",
                 "m1 at the 99.9% quantile of its non-zero values: amount 673.66", "Fieller's interval",
                 "days 7\u201313", "slope within the arms", "country in [DE, FR]", "events \u00f7 views",
                 "p < 0.001"):  # fmt: skip
        assert text in words, text
    assert "\u9996\u6b21\u66dd\u5149\u540e 14 \u5929\u5185\u7684\u6548\u5e94" in said(result, "zh", method=METHOD)
    assert "within 14 days of" not in said(replace(result, trusted=False), method=METHOD).partition("Effects")[0]


def test_clusters_are_called_clusters(plain: Result) -> None:
    words = said(plain, method={**METHOD, "cluster": "store"})
    assert "Randomised by cluster" in words and "200clusters" in words
    assert "Randomised by cluster" not in said(plain, method=METHOD)


@pytest.mark.parametrize("kind", ["proportion", "conversion", "retention"])
def test_metrics_of_0_and_1_are_percentages(plain: Result, kind: str) -> None:
    frame = plain.diagnostics["metrics"].assign(kind=kind)
    result = replace(plain, diagnostics={**plain.diagnostics, "metrics": frame})
    words = said(result)
    assert "+5.0\u00a0pp" in words and "50.0% \u2192 50.0%" in words and "Percentage points" in words
    mean = plain.diagnostics["metrics"].assign(kind="mean", role="success")
    words = said(replace(plain, diagnostics={**plain.diagnostics, "metrics": mean}))
    assert "Percentage points" not in words and "A metric that must not get worse" not in words


def test_what_is_not_corrected_is_said(plain: Result) -> None:
    words = said(plain)
    assert "The intervals are not corrected for several comparisons" in words
    assert "Past behaviour removed 30% of the variance of m1." in words
    assert "after correction (Holm) over the" in words and "shows unadjusted means. The changes of m1, m3" in words
    assert "of 16 comparisons, about" not in words and "without correction; of" in said(plain, correction="none")


def test_a_guardrail_is_told_with_its_direction(plain: Result) -> None:
    frame = plain.diagnostics["metrics"].assign(role=["success", "guardrail", "success", "success"])
    diagnostics = {**plain.diagnostics, "metrics": frame, "checks": plain.diagnostics["checks"].head(1)}
    assert "; guardrail m1 fell" in said(replace(plain, diagnostics=diagnostics))


def test_one_hot_column_is_one_line(plain: Result) -> None:
    row = {"code": "HOT_KEY", "verdict": "warn", "table": "units", "column": "amount", "count": math.nan,
           "threshold": math.nan}  # fmt: skip
    rows = [{**row, "share": 0.02, "message": "of m0"}, {**row, "share": 0.03, "message": "second"}]
    rows += [{**row, "column": "other", "share": 0.5, "message": "third"}]
    limits = [{**row, "code": "SRM", "threshold": 0.001, "message": "srm"},
              {**row, "code": "UNIT_IN_TWO_ARMS", "threshold": 0.01, "message": "split"}]  # fmt: skip
    checks = pd.DataFrame([*rows, *limits])
    words = said(replace(plain, diagnostics={**plain.diagnostics, "checks": checks}))
    assert "HOT_KEY, in 2 metrics" in words and "of m0" not in words and words.count("HOT_KEY") == 2
    assert "4 of 4 checks warn" in words and "p < 0.001" in words and "1.00%" in words


def test_names_of_covariates_are_readable(plain: Result) -> None:
    raw = "m2 numerator before / m2 denominator before"
    frame = plain.diagnostics["pre_period"].assign(outcome=["m0 before", "m1 before", raw, "clicks / views"])
    result = replace(plain, diagnostics={**plain.diagnostics, "pre_period": frame})
    words = said(result)
    assert "m2 before" in words and "numerator before" not in words and "clicks / views" in words
    assert "m2\uff08\u66dd\u5149\u524d\uff09" in said(result, "zh")


def test_later_days_hold_fewer_units_only_where_they_do(plain: Result) -> None:
    assert "Later days hold fewer" not in said(plain)
    frame = plain.diagnostics["by_day"]
    fewer = frame.assign(n=50 - frame["day"])
    assert "Later days hold fewer" in said(replace(plain, diagnostics={**plain.diagnostics, "by_day": fewer}))


def test_notes_stand_there_only_if_there_are_any(plain: Result) -> None:
    assert "Notes of the job" in said(plain)
    assert "Notes of the job" not in said(replace(plain, notes=()))
    assert "Notes of the job" not in said(replace(plain, notes=("c: m1",)))


@pytest.mark.parametrize("high", [0.0107, 0.021, 0.07, 0.13, 0.34, 2.2, 19.0])
@pytest.mark.parametrize("low", [0.0, -0.011, -0.2])
def test_small_panels_have_three_ticks(low: float, high: float) -> None:
    span = marks.range_of([Mark((low + high) / 2, low, high)])
    assert len(marks._round_positions(*span, 3)) >= 3


def test_a_column_has_one_number_of_digits() -> None:
    spans = [(0.096, 0.071, 0.122), (0.0298, 0.0216, 0.038), (0.00001, 0.000001, 0.00002)]
    assert numbers.column_places(spans, "percent") == 2
    assert numbers.column_places([(math.nan,) * 3], "percent") is None


def test_another_job_gets_its_tables(plain: Result) -> None:
    text = render(replace(plain, notes=("a note",)), {"job": "unheard of", "title": "x"})
    assert "by_" in text and "a note" in text and figures(plain, {"job": "unheard of"}) == {}


def test_long_tables_are_cut_and_say_so() -> None:
    result = result_of(["m"], [f"s={i:04}" for i in range(300)], ("a", "b"))
    text = render(result, FACTS)
    assert "200 of 300 rows are shown" in text and "59 of 300 lines are drawn" in text
    assert "s=0299" not in text


def test_figures_have_fixed_names(plain: Result) -> None:
    drawn = figures(plain, FACTS, "zh")
    assert set(drawn) == {"effects.svg", "shares.svg", "segments_1.svg", "by_day.svg", "pre_period.svg"}
    assert "Noto Sans CJK SC" in drawn["effects.svg"] and "相对变化" in drawn["effects.svg"]
    for text in drawn.values():
        ElementTree.fromstring(text)


def test_catalogues_agree() -> None:
    english, chinese = catalogue("en"), catalogue("zh")
    mine = {key for key in english if key.startswith("report_")} | {"tracking_failed"}
    assert mine == {key for key in chinese if key.startswith("report_")} | {"tracking_failed"}
    for key in mine:
        fields = [
            {name for _, name, _, _ in string.Formatter().parse(text[key]) if name} for text in (english, chinese)
        ]
        assert fields[0] == fields[1], key
        tags = [sorted(re.findall(r"</?\w+>", text[key])) for text in (english, chinese)]
        assert tags[0] == tags[1], key


def test_every_sentence_asked_for_exists() -> None:
    folder = Path(render.__code__.co_filename).parent
    source = "".join(path.read_text("utf-8") for path in [*folder.glob("*.py"), *folder.glob("templates/*")])
    asked = set(re.findall(r'phrases(?:\.plain)?\(\s*"([a-z_0-9]+)"[,)]', source))
    assert len(asked) > 60
    assert {key for key in asked if "report_" + key not in catalogue("en")} == set()


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (numbers.p_value(0.0), "< 1e-300"),
        (numbers.p_value(5e-324), "< 1e-300"),
        (numbers.p_value(1e-12), "< 0.001"),
        (numbers.p_value(0.04961), "0.0496"),
        (numbers.p_value(1.0), "> 0.999"),
        (numbers.p_value(math.nan), "\u2014"),
        (numbers.percent(0.03214, 1, True), "+3.2%"),
        (numbers.percent(-0.00001, 1, True), "0.0%"),
        (numbers.percent(0.00001, 1, True), "0.0%"),
        (numbers.plain(1234567.891), "1,234,568"),
        (numbers.plain(-1.5e-9), "\u22121.50 \u00d7 10\u207b\u2079"),
        (numbers.plain(math.inf, None, True), "+\u221e"),
        (numbers.count(np.int64(1234567)), "1,234,567"),
        (numbers.count(None), "\u2014"),
        (numbers.short(0.0001), "0.0001"),
        (numbers.interval(-math.inf, 0.053, "percent", 1), "(\u2212\u221e,\u00a0+5.3%]"),
    ],
)  # fmt: skip
def test_numbers_are_for_people(shown: str, expected: str) -> None:
    assert shown == expected


def test_the_page_imports_neither_mlflow_nor_matplotlib_nor_spark() -> None:
    code = "import sys, causal_spark.report.page, causal_spark.report.tracking;"
    code += "print(*{'mlflow', 'matplotlib', 'pyspark'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_labels_of_an_axis_do_not_touch() -> None:
    """Zero stays, then what is nearest to it; without a length every label stays."""
    shown: list[list[str]] = []
    axis = SimpleNamespace(set_ticks=lambda positions, texts: shown.append(texts))
    for inches in (1.0, math.inf):
        marks.ticks(axis, [-0.4, -0.2, 0.0, 0.2, 0.4], marks.PERCENT, inches)
    assert shown == [["−40%", " ", "0%", " ", "+40%"], ["−40%", "−20%", "0%", "+20%", "+40%"]]
