"""A process that is measured: the lines it prints, whatever becomes of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import machine


def answers(module: str, order: Any, patience: float, log: Path) -> tuple[list[dict[str, Any]], str]:
    """What ``module`` prints as JSON, a line for each answer, and why it ended early, if it did.

    ``order`` is a dataclass that the module gets as JSON. One that takes longer than ``patience`` seconds is ended
    with all of its children, and keeps what it has answered.
    """
    command, note = [sys.executable, "-m", module, json.dumps(asdict(order))], ""
    with log.open("a") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True)
        try:
            out, _ = process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            note = f"did not finish within {patience} s"
            kill(process.pid)
            out, _ = process.communicate()
    if not note and process.returncode:
        note = f"the process ended with {process.returncode}"
    whole = (line for line in out.splitlines() if line.startswith("{") and line.endswith("}"))
    return [dict(json.loads(line)) for line in whole], note


def kill(pid: int) -> None:
    """End a process and all of its children."""
    for one in reversed(machine.tree(pid)):
        with suppress(OSError):
            os.kill(one, signal.SIGKILL)
