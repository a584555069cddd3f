"""What tests of several files watch."""

from __future__ import annotations

from typing import Any

import pytest

from causal_spark import job
from causal_spark.errors import CausalSparkError


@pytest.fixture
def raised(monkeypatch: pytest.MonkeyPatch) -> list[CausalSparkError]:
    """The error that the job raised to the command line."""
    seen: list[CausalSparkError] = []
    run = job.run

    def watched(*arguments: Any) -> Any:
        try:
            return run(*arguments)
        except CausalSparkError as error:
            seen.append(error)
            raise

    monkeypatch.setattr(job, "run", watched)
    return seen
