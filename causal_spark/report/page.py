"""One self-contained HTML file for a meeting: no script, nothing remote, every value escaped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import ModuleType
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from causal_spark.report import attribution, budget, design, experiment, generic, matching, portfolio
from causal_spark.report.phrases import Phrases
from causal_spark.results import Result

PAGES: dict[str, ModuleType] = {
    "experiment": experiment,
    "matching": matching,
    "attribution": attribution,
    "budget": budget,
    "portfolio": portfolio,
    "design": design,
}
LANGUAGE_TAGS = {"en": "en", "zh": "zh-CN"}
_NAMESPACE = ' xmlns="http://www.w3.org/2000/svg"'


def render(result: Result, facts: Mapping[str, Any], language: str = "en") -> str:
    """The report of a result as HTML text.

    ``facts["job"]`` chooses the page: ``experiment`` (the default) has its own, other jobs get their
    tables as they are. Other facts, all optional: title, engine, versions, run_key, created, input,
    rows, units, seconds, alpha, correction, alternative, control, arms, code_version, and method: the
    settings of the method under their YAML keys.
    ``language`` is ``en`` or ``zh``; another raises ``ValueError``.
    """
    phrases = Phrases(language)
    built = _pages_of(facts).page(result, facts, phrases)
    template = _environment().get_template("experiment.html")
    return template.render(page=built, phrases=phrases, language=LANGUAGE_TAGS[language])


def figures(result: Result, facts: Mapping[str, Any], language: str = "en") -> dict[str, str]:
    """The drawings of a result, each as a file of its own: fixed file name to SVG text."""
    drawn: dict[str, str] = _pages_of(facts).drawings(result, facts, Phrases(language))
    return drawn


def _pages_of(facts: Mapping[str, Any]) -> ModuleType:
    return PAGES.get(str(facts.get("job") or "experiment"), generic)


def inline(svg: str) -> Markup:
    """A drawing as part of the page. Its text was escaped when it was drawn."""
    return Markup(svg.replace(_NAMESPACE, "", 1))  # noqa: S704


def soft(text: str) -> Markup:
    """Escaped text that may break after an underscore, so that long names fit in narrow columns."""
    return escape(text).replace("_", Markup("_<wbr>"))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("causal_spark.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., Any]] = {"inline": inline, "soft": soft}
    environment.filters.update(filters)
    return environment
