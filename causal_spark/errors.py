"""Errors for people: what was wrong, where, what was expected, what to do; in English and Chinese."""

from __future__ import annotations

import re
from typing import Any

from causal_spark.words import say

_ACCOUNT = re.compile(r"://[^\s'\"<>]*@")
_SECRET = re.compile(
    r"(?i)\b([\w.-]*(?:password|passwd|pwd|token|secret|key|sig|signature|credential)[\w.-]*=)[^&\s;'\"]+"
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]+")


def scrub(text: object) -> str:
    """Text without the user, password, token or key that an address may carry."""
    return _BEARER.sub(r"\1 ***", _SECRET.sub(r"\1***", _ACCOUNT.sub("://***@", str(text))))


def printable(text: str) -> str:
    """Text in which control characters, which a terminal would obey, are blanks."""
    return "".join(c if c.isprintable() else " " for c in text)


class Texts(dict[str, str]):
    """A text for each language."""


class Phrase:
    """A part of a sentence from the catalogue, looked up when the sentence is said, in its language.

    ``values`` fill its placeholders: numbers, or names of settings.
    """

    def __init__(self, key: str, /, **values: object) -> None:
        self.key, self.values = key, values

    def text(self, language: str) -> str:
        return say(self.key, language, **self.values)


def _safe(value: object) -> object:
    """A value as it may be shown."""
    if isinstance(value, Texts):
        return Texts({language: printable(scrub(text)) for language, text in value.items()})
    return printable(scrub(value)) if isinstance(value, str) else value


def _in(value: object, language: str) -> object:
    """A value as it stands in a sentence of this language."""
    if isinstance(value, Phrase):
        return value.text(language)
    return value[language] if isinstance(value, Texts) else value


class CausalSparkError(Exception):
    """An error with a sentence from the catalogue ``words/*.yml`` and the exit code of the job.

    ``key`` names the sentence, ``values`` fill its placeholders. ``str(error)`` is the English
    sentence, ``error.text("zh")`` the Chinese one. A value may be ``Texts`` or a ``Phrase``. Secrets and control
    characters do not get into ``values``.
    """

    exit_code = 1

    def __init__(self, key: str, /, **values: object) -> None:
        super().__init__(key)
        self.key = key
        self.values: dict[str, Any] = {k: _safe(v) for k, v in values.items()}

    def text(self, language: str = "en") -> str:
        return say(self.key, language, **{k: _in(v, language) for k, v in self.values.items()})

    def __str__(self) -> str:
        return self.text()


class RunError(CausalSparkError):
    """The job failed while running (exit code 1)."""


class ConfigError(CausalSparkError):
    """The configuration, the call or the shape of the input is wrong (exit code 2)."""

    exit_code = 2


class GateError(CausalSparkError):
    """The data gate refused the input (exit code 3)."""

    exit_code = 3


class StatisticError(CausalSparkError):
    """A statistic is too large, or its parts do not fit together (exit code 1)."""
