"""The sentences of the report, from the catalogue of one language; values are escaped, sentences are ours."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup

from causal_spark.words import catalogue

PREFIX = "report_"


class Phrases:
    """``phrases("tone_good")`` is the sentence ``report_tone_good`` as safe HTML.

    Values are HTML-escaped when they are put in. ``plain`` gives the same sentence as text, for figures.
    """

    def __init__(self, language: str) -> None:
        self.language = language
        self._sentences = catalogue(language)

    def __call__(self, key: str, **values: object) -> Markup:
        # the sentence is ours; Markup.format escapes every value
        return Markup(self._sentences[PREFIX + key]).format(**values)  # noqa: S704

    def with_unit(self, text: str, unit: str) -> str:
        """A number with its unit if it counts percentage points; the two never part at the end of a line."""
        return self.plain("points", value=text).replace(" ", "\u00a0") if unit == "points" else text

    def listed(self, items: Iterable[str]) -> Markup:
        """Several things in a row, with the separator of the language; what is not yet safe is escaped."""
        return self("list_and").join(items)

    def joined(self, sentences: Iterable[str]) -> Markup:
        """Whole sentences one after the other; what is not yet safe is escaped."""
        return self("gap").join(sentences)

    def plain(self, key: str, **values: object) -> str:
        """The sentence as text: for figures, whose text is escaped when it is drawn."""
        return self._sentences[PREFIX + key].format(**values)

    def name(self, family: str, code: object) -> str:
        """The word for a code (``role``, ``success``), or the code itself where there is no word for it."""
        return self._sentences.get(f"{PREFIX}{family}_{str(code).replace('-', '_')}", str(code))

    def has(self, key: str) -> bool:
        """True if the catalogue holds ``report_<key>``."""
        return PREFIX + key in self._sentences
