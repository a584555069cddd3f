"""What a case is: an estimator on a design, one experiment at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tests.calibration.simulate_experiments import Answer

Rng = np.random.Generator
Draw = Callable[[Rng, bool], Answer]


@dataclass(frozen=True)
class Case:
    """``draw(rng, effect)`` answers one experiment with the effect on or without any; ``truth`` is that effect.

    A case that takes long has ``fewer`` times less replicates. ``limit``: it is conservative or approximate by design.
    ``fresh``: the tests simulate it again each time.
    """

    estimator: str
    design: str
    n: tuple[int, int]
    truth: float
    draw: Draw
    limit: bool = False
    fewer: int = 1
    fresh: bool = False
