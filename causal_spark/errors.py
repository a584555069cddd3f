"""Errors for people: what was wrong, where, what was expected, what to do; in English and Chinese."""

from __future__ import annotations

from causal_spark.words import say


class CausalSparkError(Exception):
    """An error with a sentence from the catalogue ``words/*.yml`` and the exit code of the job.

    ``key`` names the sentence, ``values`` fill its placeholders. ``str(error)`` is the English
    sentence, ``error.text("zh")`` the Chinese one.
    """

    exit_code = 1

    def __init__(self, key: str, /, **values: object) -> None:
        super().__init__(key)
        self.key = key
        self.values = values

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
