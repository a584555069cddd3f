"""Hashes of many texts at once are those of one text after another."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from causal_spark.solve.assignment import salted, slot
from causal_spark.solve.hashes import Texts, slots


def laid_out(texts: list[str], before: bytes = b"") -> tuple[np.ndarray, np.ndarray]:
    """As a part of an Arrow column of texts."""
    parts = [text.encode() for text in texts]
    offsets = np.cumsum([len(before), *map(len, parts)])
    return np.frombuffer(before + b"".join(parts), np.uint8), offsets


def test_every_length() -> None:
    """Words of 8, 4 and 1 bytes and stripes of 32, none or several, and bytes above 127."""
    long = "".join(chr(33 + i * 7 % 90) + ("é" if i % 5 == 0 else "") for i in range(120))
    texts = [long[:n] for n in range(115)] + ["", "17", "-9223372036854775808"]
    found = Texts.of(*laid_out(texts, b"xyz"))
    for salt in ("", "s/0", "盐"):
        assert found.salted([salt, "0"])[0].view(np.int64).tolist() == [salted(text, salt) for text in texts]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), max_size=8), salt=st.text("sé/1"))
def test_slots(texts: list[str], salt: str) -> None:
    wanted = [[slot(salted(text, name)) for text in texts] for name in (salt, "1")]
    assert slots(*laid_out(texts))([salt, "1"]).tolist() == wanted
