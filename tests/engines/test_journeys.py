"""The journey shuffle: packed rows, the same sums for any files, order of rows and engine, a person of many touches."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import functions as F

from causal_spark.methods.attribution import Attribution, Compressed, run
from causal_spark.simulate_journeys import START, JourneyDesign, Log, journeys, write, write_table
from causal_spark.spark import journeys as cluster
from causal_spark.spark.packed import Layout, modulus
from causal_spark.spark.session import Engine
from tests.journey_buckets import DAY

TIMES = pa.timestamp("us", tz="UTC")
# Rules without powers, whose last digit is the platform's.
MODELS = ("first", "linear", "u_shape", "markov_1", "markov_3", "shapley", "shapley_ordered", "logistic",
          "additive_hazard")  # fmt: skip
METHOD = Attribution(models=MODELS, person="user_id", time="ts", channel="channel", value="revenue",
                     event_id="event_id", type="type", view_days=5, segments=("region",), replicates=5)  # fmt: skip
# Of the sums of 600 persons, on every engine.
DIGEST = "b3d01fac141131e2"


def compressed(spark: Any, method: Attribution, folder: Path, scratch: Path) -> Compressed:
    frames = {name: spark.read.parquet(f"file://{folder}/{name}") for name in ("touches", "conversions")}
    return run.compress(Engine(spark, "connect", ""), method, frames, lambda name, kept=False: str(scratch / name),
                        lambda stage: None)  # fmt: skip


def digest(found: Compressed) -> str:
    whole = json.loads(found.to_json())
    text = json.dumps([whole["cells"], whole["paths"]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.fixture(scope="module")
def log() -> Log:
    return journeys(600, 11, JourneyDesign(channels=5, most=200))


@pytest.mark.parametrize("files", [1, 2, 7])
def test_files_row_order_and_engine_change_no_bit(spark, engine, log, files, tmp_path, monkeypatch) -> None:
    if engine != "sail" and files != 7:
        pytest.skip("every number of files on the embedded engine, one on the others")
    monkeypatch.setattr(cluster, "BUCKET_ROWS", [100_000, 900, 700][[1, 2, 7].index(files)])
    rng = np.random.default_rng(files)
    mixed = Log(log.touches.take(rng.permutation(log.touches.num_rows)),
                log.conversions.take(rng.permutation(log.conversions.num_rows)), log.spend, log.caused)  # fmt: skip
    assert digest(compressed(spark, METHOD, write(mixed, tmp_path, files), tmp_path / "scratch")) == DIGEST


def test_packed_numbers_come_back(spark) -> None:
    """Up to the greatest of each field, over two words, and fields of no bits."""
    sizes = {"t": 1 << 47, "k": 2, "one": 1, "c": 90_000, "wide": 1 << 61}
    layout = Layout.of(sizes)
    assert layout.words == ["w0", "w1", "w2"][: len(layout.words)] and len(layout.words) > 1
    rng = np.random.default_rng(1)
    values = {name: np.concatenate([[0, size - 1], rng.integers(0, size, 40)]) for name, size in sizes.items()}
    frame = spark.createDataFrame(pa.table(values))
    table = frame.select("t", *layout.pack({name: F.col(name) for name in sizes})).toArrow()
    order = np.argsort(table.column("t").to_numpy())
    found = layout.unpack({name: table.column(name).to_numpy() for name in layout.words})
    for name, given in values.items():
        assert (found[name][order] == given[np.argsort(values["t"])]).all(), name
    with pytest.raises(ValueError, match="64 bits"):
        Layout.of({"t": 1 << 64})


def test_texts_are_told_apart_by_their_remainders(spark) -> None:
    names = [f"channel {i}" for i in range(200)]
    frame = spark.createDataFrame(pa.table({"name": names}))
    codes = cluster.labels(frame, F.col("name"), 1_000)
    size = modulus(list(codes))
    assert size < 200 * 200
    rows = frame.select("name", F.pmod(cluster.code(F.col("name")), F.lit(size)).alias("r")).toArrow().to_pylist()
    assert {row["r"]: row["name"] for row in rows} == {code % size: name for code, name in codes.items()}
    assert len({row["r"] for row in rows}) == 200


def test_a_person_of_a_million_touches(spark, engine, tmp_path: Path) -> None:
    """Beside a thousand others: its journeys are those of everyone, and nothing is lost."""
    many = 1_000_000 if engine == "sail" else 200_000
    if engine == "connect":
        pytest.skip("the same plan as on classic Spark")
    people = 1_000
    rng = np.random.default_rng(5)
    who = np.concatenate([np.zeros(many, np.int64), np.arange(1, people + 1)])
    when = np.concatenate([np.arange(many) * (60 * DAY // many), np.full(people, 10 * DAY)])
    names = np.array(["mail", "search", "video"], object)
    channel = np.concatenate([names[np.arange(many) % 3], np.full(people, "search", object)])
    order = rng.permutation(len(who))
    touches = pa.table({"user_id": who[order], "ts": pa.array(START + when[order], TIMES),
                        "channel": pa.array(channel[order], pa.string())})  # fmt: skip
    bought = np.concatenate([np.zeros(100, np.int64), np.arange(1, people + 1, 2)])
    moment = np.concatenate([np.arange(1, 101) * (DAY // 2), np.full(people // 2, 11 * DAY)])
    conversions = pa.table({"user_id": bought, "ts": pa.array(START + moment, TIMES)})
    write_table(touches, tmp_path / "touches", files=3)
    write_table(conversions, tmp_path / "conversions")
    method = Attribution(models=("first", "linear", "markov_1"), person="user_id", time="ts", channel="channel",
                         window_days=5, censoring="count", replicates=3, top_paths=3)  # fmt: skip
    found = compressed(spark, method, tmp_path, tmp_path / "scratch")
    total = found.cells["total"].base
    assert total[:, 0].tolist() == [100 + people // 2]
    # every touch makes one step; a journey ends with one more
    steps, ends = found.cells["markov_1"], 100 + people // 2
    into = steps.key % 5 < 3
    whole = steps.base[:, 0] + steps.base[:, 1] // 1_000_000
    assert whole[into].sum() == many + people
    assert steps.base[~into, 0].sum() == ends
    # one journey for each half day, of 8,333 touches or so, and what follows the last conversion
    long = found.cells["length"]
    assert long.base[long.key == 50, 0].sum() == 100
