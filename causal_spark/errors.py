"""Errors for people: what was wrong, where, what was expected, what to do; in English and Chinese."""

from __future__ import annotations

import re

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


class CausalSparkError(Exception):
    """An error with a sentence from the catalogue ``words/*.yml`` and the exit code of the job.

    ``key`` names the sentence, ``values`` fill its placeholders. ``str(error)`` is the English
    sentence, ``error.text("zh")`` the Chinese one. Secrets and control characters do not get into ``values``.
    """

    exit_code = 1

    def __init__(self, key: str, /, **values: object) -> None:
        super().__init__(key)
        self.key = key
        self.values = {k: printable(scrub(v)) if isinstance(v, str) else v for k, v in values.items()}

    def text(self, language: str = "en") -> str:
        return say(self.key, language, **self.values)

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
