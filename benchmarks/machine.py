"""What it was measured on, and how much memory and how many bytes a tree of processes took (Linux: from /proc)."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "pyspark",
    "pysail",
    "duckdb",
    "pandas",
    "scipy",
    "numpy",
    "pyarrow",
    "tea-tasting",
    "ibis-framework",
    "mlflow",
    "scikit-learn",
    "causalml",
    "dowhy",
    "psmpy",
    "mta",
    "ChannelAttribution",
    "marketing-attribution-models",
    "ambrosia",
    "hypex",
)
PROC = Path("/proc")


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def memory() -> int:
    """Bytes of main memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def facts() -> dict[str, object]:
    """Machine and versions; nothing that names the machine, its user or a folder."""
    return {
        "cpu": _cpu(),
        "cores": cores(),
        "memory_gb": round(memory() / 1e9, 1),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "java": _java(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def today() -> str:
    return datetime.now(UTC).date().isoformat()


def _cpu() -> str:
    with suppress(OSError):
        found = re.search(r"model name\s*:\s*(.+)", (PROC / "cpuinfo").read_text())
        if found:
            return found.group(1).strip()
    return platform.processor() or platform.machine()


def _java() -> str | None:
    from causal_spark.spark.session import find_java

    home = find_java(os.environ)
    if home is None:
        return None
    run = subprocess.run([str(home / "bin" / "java"), "-version"], capture_output=True, text=True, timeout=20)
    found = re.search(r'version "([^"]+)"', run.stderr)
    return found.group(1) if found else None


def _version(name: str) -> str | None:
    with suppress(PackageNotFoundError):
        return version(name)
    return None


def tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    with suppress(OSError):
        for task in (PROC / str(pid) / "task").iterdir():
            for child in (task / "children").read_text().split():
                found += tree(int(child))
    return found


def reset_peaks(pid: int) -> None:
    """Let the kernel count the peak memory of the tree anew."""
    for process in tree(pid):
        with suppress(OSError):
            (PROC / str(process) / "clear_refs").write_text("5")


def peaks(pid: int) -> tuple[float, float]:
    """Peak resident MB since the reset: of the whole tree (its processes' peaks summed), and of ``pid`` alone."""
    each = [_status(process, "VmHWM") for process in tree(pid)]
    return sum(each) / 1024, (each[0] if each else 0.0) / 1024


def _status(pid: int, key: str) -> float:
    with suppress(OSError):
        found = re.search(rf"^{key}:\s+(\d+) kB", (PROC / str(pid) / "status").read_text(), re.MULTILINE)
        return float(found.group(1)) if found else 0.0
    return 0.0


def cpu_seconds(pid: int) -> float:
    """Processor time that the tree has taken, which a neighbour on the machine hardly changes."""
    ticks = 0
    for process in tree(pid):
        with suppress(OSError):
            numbers = (PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
            ticks += int(numbers[11]) + int(numbers[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def bytes_read(pid: int) -> float:
    """Bytes that the tree has read by system calls, from whatever cache they came."""
    total = 0.0
    for process in tree(pid):
        with suppress(OSError):
            found = re.search(r"^rchar: (\d+)", (PROC / str(process) / "io").read_text(), re.MULTILINE)
            total += float(found.group(1)) if found else 0.0
    return total
