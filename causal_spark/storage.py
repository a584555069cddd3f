"""Small files on local disks and object stores, through ``pyarrow.fs``; paths are checked before use."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from causal_spark.errors import ConfigError, RunError

SCHEMES = {"", "file", "s3", "s3a", "gs", "abfs", "abfss", "hdfs", "viewfs", "dbfs", "wasbs"}
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*):")


def check(path: str) -> str:
    """``path`` itself, if it names one place plainly: a known scheme, no ``..``, no globs, no credentials."""
    scheme = _scheme(path)
    parts = re.split(r"[/\\]", path)
    if scheme not in SCHEMES:
        raise ConfigError("bad_scheme", path=_redact(path), choices=", ".join(sorted(SCHEMES - {""})))
    if ".." in parts or re.search(r"[*?\[\]{}`;\n\r\x00<>|\"']", path) or path.strip() in {"", "/", "."}:
        raise ConfigError("bad_path", path=_redact(path))
    account, at, _ = urlsplit(path).netloc.rpartition("@") if scheme else ("", "", "")
    if at and (":" in account or scheme not in {"abfs", "abfss", "wasbs"}):
        raise ConfigError("path_with_credentials", path=_redact(path))
    return path


def _scheme(path: str) -> str:
    found = _SCHEME.match(path)
    return found.group(1).lower() if found else ""


def _redact(path: str) -> str:
    return re.sub(r"//[^/@]*@", "//***@", path)


def is_local(path: str) -> bool:
    """Whether a path lies on this machine's own file system."""
    return _scheme(path) in ("", "file")


def local(path: str) -> str:
    """The local file path of a plain path or a ``file:`` URI."""
    return urlsplit(path).path if _scheme(path) == "file" else path


def overlap(output: str, source: str) -> bool:
    """Whether one of two paths is, or lies in, the other."""
    if is_local(output) != is_local(source):
        return False
    a, b = (str(Path(local(p)).resolve()) if is_local(p) else _store(p).rstrip("/") for p in (output, source))
    return a == b or a.startswith(b + "/") or b.startswith(a + "/")


def _open(path: str) -> tuple[fs.FileSystem, str]:
    if is_local(path):
        return fs.LocalFileSystem(), str(Path(local(path)).absolute())
    if _scheme(path) == "dbfs":
        return fs.LocalFileSystem(), "/dbfs/" + urlsplit(path).path.lstrip("/")
    try:
        opened: tuple[fs.FileSystem, str] = fs.FileSystem.from_uri(_store(path))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise RunError("storage_unreachable", path=_redact(path), reason=" ".join(str(error).split())[:200]) from error
    return opened


def _store(path: str) -> str:
    """The address as Arrow writes it; Spark's s3a is s3."""
    return "s3://" + path[6:] if path.lower().startswith("s3a://") else path


def join(folder: str, *names: str) -> str:
    """A path below a folder, in any scheme."""
    return "/".join([folder.rstrip("/"), *names])


def exists(path: str) -> bool:
    """Whether there is a file or a folder."""
    system, name = _open(path)
    return bool(system.get_file_info(name).type != fs.FileType.NotFound)


def is_empty_folder(path: str) -> bool:
    """Whether nothing is there yet: no such path, or a folder without entries."""
    system, name = _open(path)
    info = system.get_file_info(name)
    if info.type == fs.FileType.NotFound:
        return True
    return info.type == fs.FileType.Directory and not system.get_file_info(fs.FileSelector(name))


def listing(path: str) -> list[str]:
    """One line for each file below ``path``: name, size, time of change; sorted."""
    system, name = _open(check(path))
    info = system.get_file_info(name)
    if info.type == fs.FileType.Directory:
        files = [f for f in system.get_file_info(fs.FileSelector(name, recursive=True)) if f.is_file]
    else:
        files = [info] if info.is_file else []
    return sorted(f"{f.path} {f.size} {f.mtime_ns}" for f in files)


def folders(path: str) -> list[str]:
    """The names of the folders in the folder ``path``, sorted."""
    system, name = _open(check(path))
    if system.get_file_info(name).type != fs.FileType.Directory:
        return []
    found = system.get_file_info(fs.FileSelector(name))
    return sorted(f.base_name for f in found if f.type == fs.FileType.Directory)


def read_text(path: str) -> str:
    """The UTF-8 text of a file. Raises FileNotFoundError."""
    system, name = _open(path)
    with system.open_input_stream(name) as stream:
        return bytes(stream.read()).decode("utf-8")


def write_text(path: str, text: str) -> None:
    """Write in one go: on a local disk under another name first, so that no reader sees half a file."""
    _replace(path, lambda system, name: _write_bytes(system, name, text.encode("utf-8")))


def arrow(frame: pd.DataFrame) -> pa.Table:
    """A frame as an Arrow table in which NaN becomes NULL.

    Parquet statistics leave NaN out, and an engine that trusts them reads a column of one value and NaNs as that
    value throughout; NULLs are counted, so they are safe.
    """
    return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)


def write_frame(path: str, frame: pd.DataFrame) -> None:
    """A small table as one parquet file in the folder ``path``."""
    table = arrow(frame)
    _replace(join(path, "part-00000.parquet"), lambda system, name: pq.write_table(table, name, filesystem=system))


def _write_bytes(system: fs.FileSystem, name: str, data: bytes) -> None:
    with system.open_output_stream(name) as stream:
        stream.write(data)


def _replace(path: str, write: Any) -> None:
    system, name = _open(path)
    try:
        system.create_dir(name.rsplit("/", 1)[0], recursive=True)
        folder, _, last = name.rpartition("/")
        hidden = f"{folder}/.{last}.tmp"
        write(system, hidden)
        system.move(hidden, name)
    except (OSError, pa.ArrowException) as error:
        raise RunError("write_failed", path=_redact(path), reason=" ".join(str(error).split())[:300]) from error


def read_frame(path: str) -> pd.DataFrame:
    """The table in the folder ``path``; NULL numbers come back as NaN."""
    system, name = _open(path)
    frame: pd.DataFrame = pq.read_table(name, filesystem=system).to_pandas()
    return frame


def delete_folder(path: str) -> None:
    """A folder and all below it; nothing if it is not one."""
    system, name = _open(path)
    if system.get_file_info(name).type == fs.FileType.Directory:
        system.delete_dir(name)


def delete_file(path: str) -> None:
    """A file; nothing if it is not one."""
    system, name = _open(path)
    if system.get_file_info(name).type == fs.FileType.File:
        system.delete_file(name)
