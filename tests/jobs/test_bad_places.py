"""What is no table, and an output that is not ours: refused by name, and left as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from causal_spark import cli
from tests.jobs.bad_input import HAN, assert_speaks, saved, unit_config, units, write

# What is tested is the driver's: on the embedded engine alone.
once = pytest.mark.engines("sail")

NOT_TABLES: dict[str, Callable[[Path], object]] = {
    "nothing there": lambda folder: None,
    "an empty folder": lambda folder: folder.mkdir(),
    "a folder with a marker only": lambda folder: (folder.mkdir(), (folder / "_SUCCESS").touch()),
    "a file of no bytes": lambda folder: (folder.mkdir(), (folder / "part-0.parquet").touch()),
    "text called parquet": lambda folder: (folder.mkdir(), (folder / "part-0.parquet").write_text("a,b\n1,2\n")),
    "half a file": lambda folder: half(folder),
}


def half(folder: Path) -> None:
    write(units(), folder)
    file = folder / "part-0.parquet"
    file.write_bytes(file.read_bytes()[:1000])


@pytest.mark.parametrize("name", NOT_TABLES)
def test_what_is_no_table(name, spark, tmp_path, capsys, raised):
    NOT_TABLES[name](tmp_path / "units")
    before = sorted(tmp_path.rglob("*"))
    file = saved(unit_config(tmp_path), tmp_path)
    assert cli.main(["run", file]) in (2, 3)
    assert_speaks(capsys.readouterr().err, ["units"], "en")
    assert sorted(tmp_path.rglob("*")) == sorted([*before, Path(file)])
    assert any(ord(c) in HAN for c in raised[0].text("zh"))


@pytest.mark.parametrize("kind", ["delta", "csv", "json", "orc"])
def test_a_table_of_another_format(kind, spark, tmp_path, capsys):
    """Parquet read as something else: refused, as unreadable or for its columns, never analysed."""
    write(units(), tmp_path / "units")
    config = unit_config(tmp_path)
    config["input"]["units"]["format"] = kind
    assert cli.main(["run", saved(config, tmp_path)]) in (2, 3)
    assert_speaks(capsys.readouterr().err, ["units"], "en")
    assert not (tmp_path / "out").exists()


def test_a_column_that_stands_twice(spark, engine, tmp_path, capsys):
    if engine == "sail":
        pytest.skip("Sail shows only the first of two columns of one name")
    (tmp_path / "units").mkdir()
    columns = units()
    names, arrays = [*columns, "revenue"], [pa.array(v) for v in (*columns.values(), columns["revenue"])]
    pq.write_table(pa.Table.from_arrays(arrays, names=names), tmp_path / "units" / "part-0.parquet")
    assert cli.main(["run", saved(unit_config(tmp_path), tmp_path)]) == 2
    assert_speaks(capsys.readouterr().err, ["units"], "en")
    assert not (tmp_path / "out").exists()


@once
def test_an_output_of_another_run_is_left_alone(spark, tmp_path, capsys, raised):
    write(units(), tmp_path / "units")
    file = saved(unit_config(tmp_path), tmp_path)
    assert cli.main(["run", file]) == 0
    before = state(tmp_path / "out")
    capsys.readouterr()
    assert cli.main(["run", file, "--set", "method.alpha=0.01"]) == 2
    assert_speaks(capsys.readouterr().err, ["out", "another output.path"], "en")
    assert any(ord(c) in HAN for c in raised[0].text("zh"))
    assert state(tmp_path / "out") == before


@once
@pytest.mark.parametrize("what", ["a file in it", "a folder in it", "a file", "a hidden file in it"])
def test_an_output_of_somebody_else_is_left_alone(what, spark, tmp_path, capsys, raised):
    write(units(), tmp_path / "units")
    out = tmp_path / "out"
    if what == "a file":
        out.write_text("mine")
    else:
        name = {
            "a file in it": "thesis.txt",
            "a folder in it": "estimates/part-0.parquet",
            "a hidden file in it": ".keep",
        }
        (out / name[what]).parent.mkdir(parents=True)
        (out / name[what]).write_text("mine")
    before = state(out)
    assert cli.main(["run", saved(unit_config(tmp_path), tmp_path)]) == 2
    assert_speaks(capsys.readouterr().err, ["out", "another output.path"], "en")
    assert any(ord(c) in HAN for c in raised[0].text("zh"))
    assert state(out) == before


def state(path: Path) -> dict[str, tuple[bytes, int]]:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in files}
