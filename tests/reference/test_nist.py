"""NIST's certified data sets (StRD): how many digits the moments and the analysis of variance keep.

LRE = -log10 of the relative error = the number of right digits. The floors are what the double precision of the
*input* leaves (0.1 + 10⁷ has an error of 1e-10 before we see it), not what we happen to reach.
"""

from __future__ import annotations

import math
import re
from importlib import resources

import numpy as np
import pytest

from causal_spark.solve.means import one_way
from causal_spark.statistics import Moments

ANOVA_SETS = ("SiRstv", *(f"SmLs{i:02}" for i in range(1, 10)), "AtmWtAg")


def digits(ours: float, certified: float) -> float:
    """LRE, at most 15.95 (the digits of a double)."""
    error = abs(ours - certified) / abs(certified)
    return 15.95 if error == 0 else min(-math.log10(error), 15.95)


def accuracy(start: float) -> np.ndarray:
    """NumAcc2 to NumAcc4: ``start`` + 0.2, then 500 times (start + 0.1, start + 0.3), as decimals are read."""
    low, middle, high = (float(f"{start:.0f}.{d}") for d in (1, 2, 3))
    return np.array([middle] + [low, high] * 500)


SETS = {
    "NumAcc1": (np.array([10000001.0, 10000003.0, 10000002.0]), 10000002.0, 1.0, 15.0),
    "NumAcc2": (accuracy(1), 1.2, 0.1, 14.0),
    "NumAcc3": (accuracy(1e6), 1000000.2, 0.1, 9.0),
    "NumAcc4": (accuracy(1e7), 10000000.2, 0.1, 8.0),
}


def from_sums(values: np.ndarray) -> Moments:
    """One pass about the first value as pilot centre."""
    d = values - values[0]
    return Moments.from_sums(["y"], len(d), [values[0]], [d.sum()], [[d @ d]])


@pytest.mark.parametrize("build", [lambda x: Moments.from_rows(["y"], x), from_sums], ids=["rows", "pilot"])
@pytest.mark.parametrize("parts", [1, 8])
@pytest.mark.parametrize("name", SETS)
def test_numacc(name: str, parts: int, build) -> None:  # type: ignore[no-untyped-def]
    values, mean, sd, floor = SETS[name]
    pieces = [build(piece) for piece in np.array_split(values, parts) if len(piece)]
    moments = sum(pieces)
    assert moments.n == len(values)
    assert digits(moments.mean[0], mean) >= 13.5
    assert digits(math.sqrt(moments.covariance[0, 0]), sd) >= floor


@pytest.mark.parametrize("name", SETS)
def test_numacc_with_its_lag(name: str) -> None:
    """The certified lag-1 autocorrelation, from the scatter of neighbouring values (a pair of columns).

    NIST divides Σ(x_i - m)(x_{i+1} - m) by Σ(x_i - m)² with the mean m of all: an image of the pairs' moments.
    Certified to the digits printed: -0.5 exactly, else -0.999.
    """
    values, mean, _, floor = SETS[name]
    whole = Moments.from_rows(["y"], values)
    pairs = Moments.from_rows(["y", "next"], np.column_stack([values[:-1], values[1:]]))
    off = pairs.mean - whole.mean[0]
    lag = (pairs.scatter[0, 1] + pairs.n * off[0] * off[1]) / whole.scatter[0, 0]
    certified = -0.5 if name == "NumAcc1" else -0.999
    assert whole.mean[0] == pytest.approx(mean, rel=1e-13)
    assert digits(lag, certified) >= floor - 1


@pytest.mark.parametrize("name", SETS)
def test_numacc_image(name: str) -> None:
    """Sum and difference of a column and its neighbour: image of the pair = moments of the computed columns."""
    values, _, _, _ = SETS[name]
    x, y = values[:-1], values[1:]
    ours = Moments.from_rows(["x", "y"], np.column_stack([x, y])).image([[1, 1], [1, -1]], ["sum", "difference"])
    theirs = Moments.from_rows(["sum", "difference"], np.column_stack([x + y, x - y]))
    np.testing.assert_allclose(ours.mean, theirs.mean, rtol=1e-15, atol=1e-9)  # the means themselves are known to 1e-9
    spread = np.sqrt(np.outer(*[np.diag(theirs.scatter).clip(1e-12)] * 2))
    assert np.abs(ours.scatter - theirs.scatter).max() <= 1e-6 * spread.max()  # 2e-9 of noise in x ± y on sd 0.1


# analysis of variance -----------------------------------------------------------------------------------------------


def anova(name: str) -> tuple[list[np.ndarray], float, float, float]:
    """Groups, certified F, and the certified sums of squares between and within, from the file as NIST wrote it."""
    folder = resources.files("scipy.stats") / "tests" / "data" / "nist_anova"
    file = folder / f"{name}.dat"
    if not file.is_file():
        pytest.skip("this build of SciPy comes without its test data")
    lines = file.read_text().splitlines()
    between = next(line for line in lines if line.startswith("Between"))
    within = next(line for line in lines if line.startswith("Within"))
    number = r"[-+]?\d+\.\d+E[-+]\d+"
    squares, _, statistic = (float(x) for x in re.findall(number, between))
    table = np.array([[float(x) for x in line.split()] for line in lines[60:] if line.strip()])
    groups = [table[table[:, 0] == label, 1] for label in np.unique(table[:, 0])]
    return groups, statistic, squares, float(re.findall(number, within)[0])


FLOORS = {"SiRstv": 12.0, "AtmWtAg": 8.0} | {f"SmLs0{i}": (13.0, 8.0, 2.5)[(i - 1) // 3] for i in range(1, 10)}
PUBLISHED = {
    "SiRstv": 1.18046237440255, "AtmWtAg": 15.9467335677930,
    **{f"SmLs0{i}": (21.0, 201.0, 2001.0)[(i - 1) % 3] for i in range(1, 10)},
}  # fmt: skip


@pytest.mark.parametrize("parts", [1, 8])
@pytest.mark.parametrize("name", ANOVA_SETS)
def test_anova(name: str, parts: int) -> None:
    groups, certified, _, _ = anova(name)
    assert certified == pytest.approx(PUBLISHED[name], rel=1e-13)
    moments = [sum(Moments.from_rows(["y"], x) for x in np.array_split(group, parts)) for group in groups]
    result = one_way(moments)
    assert all(part.scatter[0, 0] >= 0 for part in moments)
    assert result.statistic > 0
    assert (result.dof_between, result.dof_within) == (len(groups) - 1, sum(map(len, groups)) - len(groups))
    assert digits(result.statistic, certified) >= FLOORS[name]


@pytest.mark.parametrize("name", ANOVA_SETS)
def test_anova_about_a_pilot_centre(name: str) -> None:
    """Sums about the first value of the table: the form a scan brings home, and the same floors."""
    groups, certified, _, _ = anova(name)
    centre = groups[0][0]
    moments = []
    for group in groups:
        d = group - centre
        moments.append(Moments.from_sums(["y"], len(d), [centre], [d.sum()], [[d @ d]]))
    assert all(part.scatter[0, 0] >= 0 for part in moments)
    assert digits(one_way(moments).statistic, certified) >= FLOORS[name]


def test_sums_of_squares() -> None:
    """Total = between + within, both certified, through the merge alone (12 digits: the data have 7)."""
    groups, _, between, within = anova("SiRstv")
    parts = [Moments.from_rows(["y"], group) for group in groups]
    inside = sum(part.scatter[0, 0] for part in parts)
    total = sum(parts).scatter[0, 0]  # type: ignore[union-attr]
    assert digits(inside, within) >= 12
    assert digits(total - inside, between) >= 11.5
