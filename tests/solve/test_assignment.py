"""Hashes and assignment: known values, shares, independence, layers that exclude each other."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from causal_spark.errors import ConfigError
from causal_spark.solve.assignment import SLOTS, Layer, arm, arm_edges, fnv1a, salted, slot, xxhash64

KEYS = [f"user-{i}" for i in range(20_000)]


@pytest.mark.parametrize(
    ("data", "seed", "digest"),
    [  # of the reference implementation
        (b"", 0, 0xEF46DB3751D8E999),
        (b"a", 0, 0xD24EC4F1A98C6E5B),
        (b"abc", 0, 0x44BC2CF5AD770999),
    ],
)
def test_known_digests(data: bytes, seed: int, digest: int) -> None:
    assert xxhash64(data, seed) % 2**64 == digest


def test_every_length_has_its_own_digest() -> None:
    """Blocks of 32, 8, 4 and 1 bytes all enter: 200 lengths, and a change of any byte, give other hashes."""
    data = bytes(range(200))
    assert len({xxhash64(data[:n]) for n in range(201)}) == 201
    for place in range(100):
        changed = bytearray(data[:100])
        changed[place] ^= 1
        assert xxhash64(bytes(changed)) != xxhash64(data[:100])
    assert all(-(2**63) <= xxhash64(data[:n]) < 2**63 for n in range(100))


def test_fnv1a() -> None:
    assert [fnv1a(text) for text in ("", "a", "foobar")] == [0x811C9DC5, 0xE40C292C, 0xBF9CF968]


def test_shares_and_uniformity() -> None:
    """χ² of 100 parts, and the arms against their shares; p above 1e-4."""
    places = np.array([slot(salted(key, "s")) for key in KEYS])
    assert places.min() >= 0
    assert places.max() < SLOTS
    assert stats.chisquare(np.bincount(places * 100 // SLOTS, minlength=100)).pvalue > 1e-4
    shares = {"control": 0.5, "a": 0.3, "b": 0.2}
    edges = arm_edges(shares)
    found = [arm(key, "s", edges) for key in KEYS]
    counts = [found.count(name) for name in shares]
    assert stats.chisquare(counts, [share * len(KEYS) for share in shares.values()]).pvalue > 1e-4


def test_two_salts_are_independent() -> None:
    a, b = (np.array([slot(salted(key, salt)) for key in KEYS]) for salt in ("one", "two"))
    assert abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(len(KEYS))
    assert salted("ab", "c") != salted("b", "ca")


def test_edges() -> None:
    assert arm_edges({"c": 0.1, "t": 0.9}) == (("c", 100_000), ("t", SLOTS))
    assert arm_edges(dict.fromkeys("abc", 1 / 3))[-1] == ("c", SLOTS)
    for bad in ({"c": 0.5, "t": 0.4}, {"c": -0.5, "t": 1.5}, {}):
        with pytest.raises(ConfigError):
            arm_edges(bad)


def test_a_layer_gives_each_unit_one_experiment() -> None:
    layer = Layer("layer", {"first": (0.0, 0.4), "second": (0.4, 0.7)})
    found = [layer.experiment(key) for key in KEYS]
    shares = [found.count(name) / len(KEYS) for name in ("first", "second", None)]
    assert shares == pytest.approx([0.4, 0.3, 0.3], abs=4 * 0.5 / np.sqrt(len(KEYS)))
    assert [Layer("layer", {"second": (0.4, 0.7)}).experiment(key) == "second" for key in KEYS[:500]] == [
        name == "second" for name in found[:500]
    ]


@pytest.mark.parametrize(
    ("ranges", "key"),
    [
        ({"a": (0.0, 0.5), "b": (0.4, 0.7)}, "layer_overlap"),
        ({"a": (0.5, 0.5)}, "bad_number"),
        ({"a": (-0.1, 0.5)}, "bad_number"),
        ({"a": (0.5, 1.1)}, "bad_number"),
    ],
)
def test_bad_layers(ranges: dict[str, tuple[float, float]], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Layer("layer", ranges)
    assert caught.value.key == key
