"""The sentences people act on, by key: ``en.yml``, ``zh.yml``, and a pair ``<topic>.en.yml`` for each further topic."""

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
    found: dict[str, str] = {}
    for item in sorted(files("causal_spark.words").iterdir(), key=lambda item: item.name):
        if item.name == f"{language}.yml" or item.name.endswith(f".{language}.yml"):
            part = dict(yaml.safe_load(item.read_text(encoding="utf-8")))
            if twice := found.keys() & part.keys():
                raise ValueError(f"{item.name} says again what another file says: {sorted(twice)}")
            found |= part
    return found


def say(key: str, language: str = "en", /, **values: object) -> str:
    """The sentence ``key`` with its placeholders filled; an unknown key is a programming error."""
    return catalogue(language)[key].format(**values)
