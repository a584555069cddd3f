"""Experiments whose truth is known, drawn again and again: each design gives the moments of two arms.

A design says what an arm looks like without and with its effect, how many units it has, and the true value in each
case. Everything is vectorised over replicates; one generator for each design, so a design is the same in any order.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import stats

from causal_spark.statistics import Moments

Array = np.ndarray
Rng = np.random.Generator
SEED = 20240917
CHUNK = 400_000  # rows drawn at a time

MEAN = ("y", "x1", "x2", "x3")
RATIO = ("clicks", "views", "clicks_pre", "views_pre")
CLUSTER = ("total", "size")


@dataclass(frozen=True)
class Design:
    """``rows(rng, (replicates, n), treated, effect)`` gives an array (replicates, n, columns).

    ``treated`` tells the arms apart (they may have other spreads), ``effect`` switches the effect on.
    ``treatment`` and ``control`` are the true values of the arms with the effect.
    """

    name: str
    about: str
    columns: tuple[str, ...]
    n_treatment: int
    n_control: int
    treatment: float
    control: float
    rows: Callable[[Rng, tuple[int, int], bool, bool], Array]

    def pairs(self, replicates: int, effect: bool) -> Iterator[tuple[Moments, Moments]]:
        """(treatment, control) of each replicate; the two streams of ``effect`` are independent."""
        rng = np.random.default_rng([SEED, zlib.crc32(self.name.encode()), int(effect)])
        step = max(1, CHUNK // (self.n_treatment + self.n_control))
        for start in range(0, replicates, step):
            size = min(step, replicates - start)
            arms = [
                moments(self.columns, self.rows(rng, (size, n), treated, effect and treated))
                for n, treated in ((self.n_treatment, True), (self.n_control, False))
            ]
            yield from zip(*arms, strict=True)


def moments(columns: tuple[str, ...], rows: Array) -> list[Moments]:
    """Moments of each replicate of an array (replicates, n, columns)."""
    mean = rows.mean(axis=1)
    centred = rows - mean[:, None, :]
    scatter = centred.transpose(0, 2, 1) @ centred
    n = float(rows.shape[1])
    return [Moments(columns, n, m, s) for m, s in zip(mean, scatter, strict=True)]


# units with an outcome and three covariates ---------------------------------------------------------------------------

WEIGHTS = np.array([0.6, 0.4, 0.2])  # of the outcome's latent normal on the covariates; together R² = 0.56


def latent(rng: Rng, shape: tuple[int, int]) -> tuple[Array, Array]:
    """Standard normals: the outcome's (shape) and the three covariates' (shape, 3)."""
    u = rng.standard_normal((*shape, 3))
    return u @ WEIGHTS + math.sqrt(1 - WEIGHTS @ WEIGHTS) * rng.standard_normal(shape), u


def normal(
    rng: Rng, shape: tuple[int, int], treated: bool, effect: bool, mean: float, sd: tuple[float, float]
) -> Array:
    z, u = latent(rng, shape)
    return np.dstack([mean + 0.5 * effect + sd[0 if treated else 1] * z, u])


def lognormal(rng: Rng, shape: tuple[int, int], treated: bool, effect: bool, sigma: float) -> Array:
    z, u = latent(rng, shape)
    return np.dstack([np.exp(sigma * z) * (1.1 if effect else 1.0), np.exp(sigma * u)])


BUYERS, BUYERS_WITH_EFFECT = 0.10, 0.12
SPEND = math.exp(3.0 + 0.8**2 / 2)


def revenue(rng: Rng, shape: tuple[int, int], treated: bool, effect: bool) -> Array:
    """One in ten buys, for a lognormal amount; before the experiment the same, and two other habits."""
    z, u = latent(rng, shape)
    bought = z > stats.norm.isf(BUYERS_WITH_EFFECT if effect else BUYERS)
    amount = np.exp(3.0 + 0.8 * rng.standard_normal((*shape, 2)))
    before = (u[..., 0] > stats.norm.isf(BUYERS)) * amount[..., 1]
    return np.dstack([bought * amount[..., 0], before, np.floor(np.exp(u[..., 1])), u[..., 2]])


def proportion(rng: Rng, shape: tuple[int, int], treated: bool, effect: bool, p: float, p_with_effect: float) -> Array:
    return (rng.random((*shape, 1)) < (p_with_effect if effect else p)).astype(float)


@dataclass(frozen=True)
class Proportion(Design):
    """Only the counts are drawn, so that arms may be large."""

    def pairs(self, replicates: int, effect: bool) -> Iterator[tuple[Moments, Moments]]:
        rng = np.random.default_rng([SEED, zlib.crc32(self.name.encode()), int(effect)])
        p_treatment = self.treatment if effect else self.control
        counts = [rng.binomial(n, p, replicates) for n, p in
                  ((self.n_treatment, p_treatment), (self.n_control, self.control))]  # fmt: skip
        for a, b in zip(*counts, strict=True):
            yield bernoulli(a, self.n_treatment), bernoulli(b, self.n_control)


def bernoulli(count: int, n: int) -> Moments:
    p = count / n
    return Moments(("y",), float(n), np.array([p]), np.array([[n * p * (1 - p)]]))


def two_shares(name: str, about: str, n: tuple[int, int], p: tuple[float, float]) -> Design:
    return Proportion(name, about, ("y",), *n, *p, rows=proportion)


# units with clicks and views ------------------------------------------------------------------------------------------


def clicks(rng: Rng, activity: Array, taste: Array, effect: bool) -> Array:
    """Views follow the activity, clicks the taste; twice, the second time before the experiment."""
    views, before = 1 + rng.poisson(activity), 1 + rng.poisson(activity)
    now = np.minimum(taste * (1.1 if effect else 1.0), 1.0)
    return np.stack([rng.binomial(views, now), views, rng.binomial(before, taste), before], axis=-1).astype(float)


def sessions(rng: Rng, shape: tuple[int, int], treated: bool, effect: bool) -> Array:
    return clicks(rng, rng.gamma(4.0, 1.0, shape), rng.beta(2.0, 8.0, shape), effect)


def heavy_views(rng: Rng, shape: tuple[int, int], treated: bool, effect: bool) -> Array:
    """A few units have hundreds of views: lognormal activity with σ = 1."""
    return clicks(rng, np.exp(1 + rng.standard_normal(shape)), rng.beta(2.0, 8.0, shape), effect)


def two_classes(rng: Rng, shape: tuple[int, int], treated: bool, effect: bool) -> Array:
    """One in five is a heavy user with 21 views and a taste of 0.1; the others have 3 views and 0.3."""
    heavy = rng.random(shape) < 0.2
    return clicks(rng, np.where(heavy, 20.0, 2.0), np.where(heavy, 0.1, 0.3), effect)


CLASSES = (0.2 * 21 * 0.1 + 0.8 * 3 * 0.3) / (0.2 * 21 + 0.8 * 3)


# clusters -------------------------------------------------------------------------------------------------------------


def clusters(rng: Rng, shape: tuple[int, int], treated: bool, effect: bool, sizes: str) -> Array:
    """Sum and size of a cluster: rows with sd 2 about a cluster mean with sd 1 (an intraclass correlation of 0.2)."""
    level = 3.0 + 0.3 * effect + rng.standard_normal(shape)
    if sizes == "equal":
        size = np.full(shape, 20.0)
    elif sizes == "random":
        size = 1.0 + rng.poisson(rng.gamma(2.0, 8.0, shape))
    else:  # one in four is large, and its rows are higher by 2
        large = rng.random(shape) < 0.25
        size, level = np.where(large, 40.0, 8.0), level + 2.0 * large
    return np.dstack([size * level + 2.0 * np.sqrt(size) * rng.standard_normal(shape), size])


INFORMATIVE = 3.0 + 2.0 * (0.25 * 40) / (0.25 * 40 + 0.75 * 8)


# the list -------------------------------------------------------------------------------------------------------------


def gaussian(name: str, about: str, n: tuple[int, int], mean: float = 10.0, sd: tuple[float, float] = (2, 2)) -> Design:
    return Design(name, about, MEAN, *n, mean + 0.5, mean, partial(normal, mean=mean, sd=sd))


def skewed(name: str, about: str, n: tuple[int, int], sigma: float) -> Design:
    level = math.exp(sigma**2 / 2)
    return Design(name, about, MEAN, *n, 1.1 * level, level, partial(lognormal, sigma=sigma))


def ratio(name: str, about: str, n: tuple[int, int], rows: Callable[..., Array], value: float = 0.2) -> Design:
    return Design(name, about, RATIO, *n, 1.1 * value, value, rows)


def grouped(name: str, about: str, n: tuple[int, int], sizes: str, value: float = 3.0) -> Design:
    return Design(name, about, CLUSTER, *n, value + 0.3, value, partial(clusters, sizes=sizes))


DESIGNS = {
    design.name: design
    for design in (
        gaussian("normal", "normal, equal arms", (200, 200)),
        gaussian("unequal", "normal, the smaller arm has the larger spread (sd 6 against 2)", (50, 400), sd=(6, 2)),
        gaussian("small", "normal, ten units an arm", (10, 10)),
        gaussian("weak control", "normal, the control mean is two standard errors from zero", (40, 40), 0.6),
        skewed("lognormal", "lognormal with σ = 1 (skewness 6)", (500, 500), 1.0),
        skewed("lognormal, lopsided", "lognormal with σ = 1, one arm of 50 units against 1,000", (50, 1000), 1.0),
        skewed("heavy tail", "lognormal with σ = 2 (skewness 400) and only 100 units an arm", (100, 100), 2.0),
        Design("revenue", "one unit in ten buys, for a lognormal amount", MEAN, 1000, 1000,
               BUYERS_WITH_EFFECT * SPEND, BUYERS * SPEND, revenue),
        two_shares("share 20 %", "a share of 20 %, 10,000 units an arm", (10_000, 10_000), (0.21, 0.20)),
        two_shares("share 5 %", "a share of 5 %, 50,000 units an arm", (50_000, 50_000), (0.052, 0.05)),
        two_shares("share, unequal", "a share of 20 %, one unit in eleven is treated", (4_000, 40_000), (0.21, 0.20)),
        two_shares("share, few units", "a share of 30 %, 20 units an arm", (20, 20), (0.4, 0.3)),
        two_shares("rare", "a share of 0.2 %, 1,000 units an arm: two events are expected", (1000, 1000),
                   (0.003, 0.002)),
        ratio("sessions", "clicks for each view, five views a unit", (400, 400), sessions),
        ratio("two classes", "heavy users click less often", (400, 400), two_classes, CLASSES),
        ratio("heavy views", "lognormal numbers of views", (1000, 1000), heavy_views),
        ratio("sessions, unequal", "clicks for each view, arms of 150 and 1,500 units", (150, 1500), sessions),
        ratio("sessions, few units", "clicks for each view, 12 units an arm", (12, 12), sessions),
        grouped("equal clusters", "40 clusters of 20 rows an arm", (40, 40), "equal"),
        grouped("many random clusters", "250 clusters an arm, sizes from 1 to about 70", (250, 250), "random"),
        grouped("many informative clusters", "250 clusters an arm, the rows of large ones are higher", (250, 250),
                "large", INFORMATIVE),
        grouped("random clusters", "80 clusters an arm, sizes from 1 to about 60", (80, 80), "random"),
        grouped("informative clusters", "100 clusters an arm, the rows of large ones are higher", (100, 100), "large",
                INFORMATIVE),
        grouped("unequal clusters", "40 treated clusters, 160 in the control, random sizes", (40, 160), "random"),
        grouped("few clusters", "5 clusters an arm, random sizes", (5, 5), "random"),
    )
}  # fmt: skip
