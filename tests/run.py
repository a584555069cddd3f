"""Run the tests on every engine, each in its own process, and end with one plain line for each leg.

``python tests/run.py [--require-spark] [--only LEG] [-- pytest arguments]``. The legs:

- ``sail``: all of ``tests/`` (without ``tests/cluster`` and without tests marked ``slow``) on the embedded engine;
- ``spark``: ``tests/engines`` and ``tests/jobs`` on classic Spark ``local[2]``, but only what asks for a session and is
  not left to other engines (the mark ``engines``);
- ``connect``: the same on Spark Connect ``local[2]``.

The two Spark legs run one after the other, beside the embedded engine, which mostly keeps one core busy; what they
print comes when they end. They need a Java 17, 21 or 25. Without one they are skipped, and the last lines say so;
with ``--require-spark`` (or ``REQUIRE_SPARK=1``) a skipped leg is a failure. Standard library only.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
JAVA_VERSIONS = (17, 21, 25)
NO_JAVA = "no Java 17, 21 or 25 was found in JAVA_HOME, PATH or /usr/lib/jvm"
SPARK_TESTS = ("tests/engines", "tests/jobs")
LEGS = {"sail": (), "spark": SPARK_TESTS, "connect": SPARK_TESTS}
LANES = (("sail",), ("spark", "connect"))  # of these, each leg runs after the one before it


@dataclass(frozen=True)
class Outcome:
    """One leg: its name, pytest's closing line or the reason it was skipped, seconds, and whether it failed."""

    leg: str
    line: str
    seconds: float
    failed: bool


def java_version(home: Path) -> int | None:
    """The major version of the Java in ``home``, or None when there is none that runs."""
    program = home / "bin" / "java"
    if not program.exists():
        return None
    try:
        told = subprocess.run([str(program), "-version"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r'version "(\d+)', told.stderr + told.stdout)
    return int(found.group(1)) if found else None


def java_homes() -> Iterator[Path]:
    """Where a Java may be: JAVA_HOME, the ``java`` on PATH, /usr/lib/jvm (and macOS's place), in this order."""
    if os.environ.get("JAVA_HOME"):
        yield Path(os.environ["JAVA_HOME"])
    on_path = shutil.which("java")
    if on_path:
        yield Path(on_path).resolve().parent.parent
    for folder in (Path("/usr/lib/jvm"), Path("/Library/Java/JavaVirtualMachines")):
        for home in sorted(folder.glob("*")):
            yield home / "Contents" / "Home" if (home / "Contents" / "Home").exists() else home


def find_java() -> Path | None:
    """The first home with a Java that Spark supports; None when there is none."""
    return next((home for home in java_homes() if java_version(home) in JAVA_VERSIONS), None)


def run_leg(leg: str, java: Path | None, extra: Sequence[str], held: bool) -> Outcome:
    """Run pytest for one leg, pass its output through (``held``: when it has ended), and keep its closing line."""
    environment = dict(os.environ)
    if java is not None:
        environment["JAVA_HOME"] = str(java)
    color = ["--color=yes"] if sys.stdout.isatty() else []
    chosen = any((ROOT / argument.split("::")[0]).exists() for argument in extra)
    command = [sys.executable, "-m", "pytest", "--engine", leg, *color, *extra, *(() if chosen else LEGS[leg])]
    title = f"\n== {leg}: {' '.join(command[1:])}\n"
    kept = [title] if held else []
    print("" if held else title, end="", flush=True)
    start, last = time.monotonic(), "no closing line from pytest"
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            kept.append(line) if held else print(line, end="", flush=True)
            plain = re.sub(r"\x1b\[[0-9;]*m", "", line).strip(" =\n")
            if re.search(r"\b(passed|failed|errors?|skipped|deselected|no tests ran)\b.* in [\d.]+s", plain):
                last = plain
    print("".join(kept), end="", flush=True)
    return Outcome(leg, last, time.monotonic() - start, process.returncode != 0)


def run_lane(legs: Sequence[str], java: Path | None, require: bool, extra: Sequence[str], held: bool) -> list[Outcome]:
    """Run legs in turn; those that need a Java that is not there are skipped."""
    skipped = f"skipped: {NO_JAVA}"
    return [
        Outcome(leg, skipped, 0.0, require) if leg != "sail" and java is None else run_leg(leg, java, extra, held)
        for leg in legs
    ]


def main(arguments: Sequence[str]) -> int:
    """Run the legs; 0 when none failed (and, with ``--require-spark``, none was skipped)."""
    parser = argparse.ArgumentParser(description="Run the tests on every engine.")
    parser.add_argument("--require-spark", action="store_true", default=os.environ.get("REQUIRE_SPARK", "0") == "1")
    parser.add_argument("--only", choices=tuple(LEGS), action="append", help="run this leg only (may be repeated)")
    parser.add_argument("extra", nargs="*", help="arguments for pytest, after --; paths replace those of the legs")
    options = parser.parse_args(arguments)
    java, start = find_java(), time.monotonic()
    lanes = [lane for names in LANES if (lane := [leg for leg in names if leg in (options.only or LEGS)])]
    with ThreadPoolExecutor() as pool:
        running = [
            pool.submit(run_lane, lane, java, options.require_spark, options.extra, held=place > 0)
            for place, lane in enumerate(lanes)
        ]
        outcomes = [outcome for lane in running for outcome in lane.result()]
    print(f"\n== all legs, {time.monotonic() - start:.0f} s")
    for outcome in outcomes:
        print(f"{outcome.leg:<8} {'FAILED ' if outcome.failed else ''}{outcome.line} ({outcome.seconds:.0f} s)")
    return int(any(outcome.failed for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
