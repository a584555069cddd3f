"""The sentences people act on, one catalogue per language, looked up by key."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import yaml

LANGUAGES = ("en", "zh")


@cache
def catalogue(language: str) -> dict[str, str]:
    """All sentences of one language (``en`` or ``zh``), key to template."""
    if language not in LANGUAGES:
        raise ValueError(f"no catalogue for language {language!r}; there are {LANGUAGES}")
    text = files("causal_spark.words").joinpath(f"{language}.yml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def say(key: str, language: str = "en", /, **values: object) -> str:
    """The sentence ``key`` with its placeholders filled; an unknown key is a programming error."""
    return catalogue(language)[key].format(**values)
