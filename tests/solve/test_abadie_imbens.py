"""Standard errors of matching against the formulas of the papers in plain loops over all pairs of units."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest

from causal_spark.solve import abadie_imbens, logistic
from causal_spark.solve.abadie_imbens import Effect, with_border, with_replacement, without_replacement
from causal_spark.solve.matched import sums_with_replacement, sums_without_replacement
from causal_spark.solve.pairing import Points, Rules, matches
from causal_spark.statistics import Sums

ESTIMANDS = ("ATT", "ATC", "ATE")
# Sums of a few hundred terms in another order.
CLOSE = 1e-11


def points(n: int = 150, seed: int = 1, ties: bool = False) -> Points:
    rng = np.random.default_rng(seed)
    line = np.sort(rng.integers(-24, 24, n) / 16 if ties else rng.normal(size=n))
    treated = rng.random(n) < 1 / (1 + np.exp(-line))
    y = np.column_stack([line + treated * (1 + line), rng.normal(size=n)])
    y += rng.normal(size=(n, 2)) * (1 + np.abs(line))[:, None]
    inside = np.ones(n, bool)
    return Points(line, treated, np.zeros(n), inside, ~inside, y, np.zeros((n, 0)), np.full(n, 0.5))


def pairs(whole: Points, rules: Rules, replace_: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    listed = matches(whole, rules, replace_)
    return listed.treated, listed.control, listed.share


def found(whole: Points, rules: Rules, *options: object) -> Effect:
    sums, records = sums_with_replacement(whole, rules)
    return with_replacement(with_border(sums, records, rules), rules, *options)  # type: ignore[arg-type]


# Abadie & Imbens (2006) in loops --------------------------------------------------------------------------------------


@dataclass
class Loops:
    """τ̂ and the parts of its variance for one outcome: imputed effects, K, K′ and σ̂² of every unit."""

    x: np.ndarray
    w: np.ndarray
    y: np.ndarray
    rules: Rules

    def near(self, i: int, pool: list[int], number: int, caliper: float = math.inf) -> list[int]:
        """𝒥(i): all of the pool that are no farther than the ``number``-th nearest, within the caliper."""
        distance = {j: abs(self.x[i] - self.x[j]) for j in pool}
        if not pool:
            return []
        kth = sorted(distance.values())[min(number, len(pool)) - 1]
        return [j for j in pool if distance[j] <= min(kth, caliper) + 1e-12]

    def matches(self, i: int) -> list[int]:
        others = [j for j in range(len(self.x)) if self.w[j] != self.w[i]]
        return self.near(i, others, self.rules.ratio, self.rules.caliper)

    def solve(self, variance: str, homoskedastic: bool) -> tuple[float, float]:
        n = len(self.x)
        wanted = {"ATT": (True,), "ATC": (False,), "ATE": (True, False)}[self.rules.estimand]
        sets = {i: self.matches(i) for i in range(n) if self.w[i] in wanted}
        sets = {i: js for i, js in sets.items() if js}
        sign = {i: 1 if self.w[i] else -1 for i in range(n)}
        effect = {i: sign[i] * (self.y[i] - np.mean([self.y[j] for j in js])) for i, js in sets.items()}
        tau = np.mean(list(effect.values()))
        k, k2 = np.zeros(n), np.zeros(n)
        for js in sets.values():
            for j in js:
                k[j] += 1 / len(js)
                k2[j] += 1 / len(js) ** 2
        if homoskedastic:
            squares = [np.mean([(sign[i] * (self.y[i] - self.y[j]) - tau) ** 2 for j in js]) for i, js in sets.items()]
            sigma2 = np.full(n, np.mean(squares) / 2)
        else:
            sigma2 = np.array([self.sigma2(i) for i in range(n)])
        m = len(sets)
        if variance == "sample":
            inside = np.array([float(i in sets) for i in range(n)])
            return tau, math.sqrt(sum((inside + k) ** 2 * sigma2)) / m
        total = sum((value - tau) ** 2 for value in effect.values())
        if self.rules.estimand == "ATE":
            total += sum((k**2 + 2 * k - k2) * sigma2)
        else:
            total += sum((k**2 - k2) * sigma2)
        return tau, math.sqrt(total) / m

    def sigma2(self, i: int) -> float:
        """J/(J + 1)·(Y − mean of the J nearest of the own arm)², J counting ties (eq. 14)."""
        own = [j for j in range(len(self.x)) if self.w[j] == self.w[i] and j != i]
        near = self.near(i, own, self.rules.neighbours)
        return len(near) / (len(near) + 1) * (self.y[i] - np.mean(self.y[near])) ** 2


@pytest.mark.parametrize("estimand", ESTIMANDS)
@pytest.mark.parametrize("variance", ["population", "sample"])
@pytest.mark.parametrize("homoskedastic", [False, True])
@pytest.mark.parametrize(
    ("ties", "ratio", "neighbours", "caliper"),
    [(False, 1, 1, math.inf), (True, 1, 2, math.inf), (False, 3, 2, math.inf), (True, 2, 1, 0.06), (False, 1, 4, 0.05)],
)
def test_formula_of_2006(estimand, variance, homoskedastic, ties, ratio, neighbours, caliper) -> None:  # type: ignore
    whole = points(ties=ties, seed=ratio)
    rules = Rules(estimand, ratio=ratio, neighbours=neighbours, caliper=caliper)
    ours = found(whole, rules, variance, homoskedastic)
    for k in range(2):
        tau, error = Loops(whole.point, whole.treated, whole.outcomes[:, k], rules).solve(variance, homoskedastic)
        assert ours.estimate[k] == pytest.approx(tau, rel=CLOSE, abs=CLOSE)
        assert ours.std_error[k] == pytest.approx(error, rel=CLOSE)


@pytest.mark.parametrize("estimand", ESTIMANDS)
@pytest.mark.parametrize("ratio", [1, 3])
def test_published_form_without_ties(estimand, ratio: int) -> None:  # type: ignore[no-untyped-def]
    """Theorem 7 with M: (K/M)² + (2M − 1)/M·K/M for ATE, K·(K − M)/M² … of K = times used: the same without ties."""
    whole, rules = points(seed=8), Rules(estimand, ratio=ratio)
    loops = Loops(whole.point, whole.treated, whole.outcomes[:, 0], rules)
    wanted = {"ATT": (True,), "ATC": (False,), "ATE": (True, False)}[estimand]
    sets = {i: loops.matches(i) for i in range(150) if whole.treated[i] in wanted}
    times = np.bincount([j for js in sets.values() for j in js], minlength=150)
    sigma2 = np.array([loops.sigma2(i) for i in range(150)])
    y = whole.outcomes[:, 0]
    effect = [(1 if whole.treated[i] else -1) * (y[i] - y[js].mean()) for i, js in sets.items()]
    share = times / ratio
    extra = share**2 + (2 * ratio - 1) / ratio * share if estimand == "ATE" else times * (times - 1) / ratio**2
    total = ((effect - np.mean(effect)) ** 2).sum() + extra @ sigma2
    assert found(whole, rules).std_error[0] == pytest.approx(math.sqrt(total) / len(sets), rel=CLOSE)


def test_counts() -> None:
    whole, rules = points(ties=True), Rules("ATE", ratio=2, caliper=0.05)
    ours = found(whole, rules)
    t, c, _ = pairs(whole, rules, True)
    assert ours.n == 150
    assert ours.matched == len(np.unique(np.concatenate([t, c])))  # a match of someone has a match
    one = found(whole, Rules("ATT"))
    t, c, w = pairs(whole, Rules("ATT"), True)
    used = np.bincount(c, w)
    assert (one.n, one.matched, one.used) == (whole.treated.sum(), len(np.unique(t)), (used > 0).sum())
    assert one.ess[1] == pytest.approx(used.sum() ** 2 / (used @ used), rel=1e-12)


# symmetries -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variance", ["population", "sample"])
def test_arms_exchanged(variance: str) -> None:
    """ATC is minus the ATT of the exchanged arms, and ATE minus ATE."""
    whole = points(ties=True)
    other = replace(whole, treated=~whole.treated)
    for one, two in (("ATT", "ATC"), ("ATC", "ATT"), ("ATE", "ATE")):
        ours, theirs = found(whole, Rules(one), variance), found(other, Rules(two), variance)
        np.testing.assert_allclose(ours.estimate, -theirs.estimate, rtol=1e-12)
        np.testing.assert_allclose(ours.std_error, theirs.std_error, rtol=1e-12)


@pytest.mark.parametrize("homoskedastic", [False, True])
def test_scale_of_the_outcome_and_place_of_the_line_are_free(homoskedastic: bool) -> None:
    whole = points(ties=True)
    moved = replace(whole, point=2 * whole.point + 64, outcomes=whole.outcomes * 100 - 7)
    ours, theirs = (found(p, Rules("ATE", ratio=2), "population", homoskedastic) for p in (whole, moved))
    np.testing.assert_allclose(theirs.estimate, 100 * ours.estimate, rtol=1e-10)
    np.testing.assert_allclose(theirs.std_error, 100 * ours.std_error, rtol=1e-10)


# Abadie & Imbens (2016) in loops --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scored() -> tuple[Points, np.ndarray, np.ndarray]:
    """Points on the logit of a fitted propensity, its design and information."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(120, 2))
    t = (rng.random(120) < 1 / (1 + np.exp(0.3 - 0.8 * x[:, 0]))).astype(float)
    y = np.column_stack([2 * x[:, 0] + 3 * x[:, 1] + t * (1 + x[:, 1]), x[:, 1]]) + rng.normal(size=(120, 2))
    design = np.column_stack([np.ones(120), x])
    model = logistic.fit(design, t, ["1", "a", "b"])
    logit = design @ model.beta
    order = np.argsort(logit)
    inside = np.ones(120, bool)
    parts = y[order], x[order], 1 / (1 + np.exp(-logit[order]))
    whole = Points(logit[order], t[order] == 1, np.zeros(120), inside, ~inside, *parts)
    return whole, design[order], model.information


def corrected(whole: Points, design: np.ndarray, information: np.ndarray, rules: Rules, k: int, tau: float) -> float:
    """What the theorems add to N·variance: −c′I⁻¹c (theorem 1), −c′I⁻¹c + d′I⁻¹d over E[F]² (theorem 2)."""
    n, f = len(design), whole.propensity
    y = whole.outcomes[:, k]
    mean, cov = np.zeros((2, n)), np.zeros((2, n, 3))
    for i in range(n):
        for arm in (0, 1):
            own = np.flatnonzero(whole.treated == bool(arm))
            near = own[np.argsort(np.abs(whole.point[own] - whole.point[i]), kind="stable")[: rules.neighbours + 1]]
            mean[arm, i] = y[near].mean()
            cov[arm, i] = [np.cov(design[near, j], y[near])[0, 1] for j in range(3)]
    density, bread = f * (1 - f), np.linalg.inv(information / n)

    def form(vector: np.ndarray) -> float:
        return float(vector @ bread @ vector)

    if rules.estimand == "ATE":
        return -form(np.mean((cov[1] / f[:, None] + cov[0] / (1 - f)[:, None]) * density[:, None], axis=0))
    treated, other, odds, sign = (1, 0, f / (1 - f), 1) if rules.estimand == "ATT" else (0, 1, (1 - f) / f, -1)
    share = np.mean(whole.treated == bool(treated))
    # the index of the other arm's propensity is −x′θ: its derivative has the other sign in all terms alike
    level = (design * (density * (mean[treated] - mean[other] - sign * tau))[:, None]).mean(axis=0)
    c = level + ((cov[treated] + odds[:, None] * cov[other]) * density[:, None]).mean(axis=0)
    d = level + ((cov[treated] - cov[other]) * density[:, None]).mean(axis=0)
    return (form(d) - form(c)) / share**2


@pytest.mark.parametrize("estimand", ESTIMANDS)
@pytest.mark.parametrize("neighbours", [1, 3])
def test_correction_of_2016(scored, estimand, neighbours: int) -> None:  # type: ignore[no-untyped-def]
    whole, design, information = scored
    rules = Rules(estimand, neighbours=neighbours, estimated=True)
    plain, ours = found(whole, rules), found(whole, rules, "population", False, information)
    np.testing.assert_array_equal(plain.estimate, ours.estimate)
    for k in range(2):
        added = corrected(whole, design, information, rules, k, float(ours.estimate[k])) / 120
        expected = plain.std_error[k] ** 2 + added
        assert abs(added) > 1e-4  # it matters
        assert ours.std_error[k] ** 2 == pytest.approx(expected, rel=1e-9)


def test_correction_is_exchangeable(scored) -> None:  # type: ignore[no-untyped-def]
    """ATC with the correction is the ATT of the exchanged arms."""
    whole, _, information = scored
    other = replace(whole, treated=~whole.treated, propensity=1 - whole.propensity)
    for one, two in (("ATT", "ATC"), ("ATE", "ATE")):
        ours = found(whole, Rules(one, estimated=True), "population", False, information)
        theirs = found(other, Rules(two, estimated=True), "population", False, information)
        np.testing.assert_allclose(ours.std_error, theirs.std_error, rtol=1e-9)


def test_correction_that_leaves_nothing_is_no_error_of_zero(scored) -> None:  # type: ignore[no-untyped-def]
    whole, _, information = scored
    ours = found(whole, Rules("ATE", estimated=True), "population", False, information / 1e6)
    assert np.isnan(ours.std_error).all()
    assert np.isfinite(ours.estimate).all()


# without replacement --------------------------------------------------------------------------------------------------


def clustered(y: np.ndarray, focal: np.ndarray, match: np.ndarray, w: np.ndarray) -> tuple[float, float]:
    """Weighted least squares of y on the arm with CR1 by set, from the design matrix."""
    units = np.unique(focal)
    rows, arm = np.concatenate([units, match]), np.r_[np.ones(len(units)), np.zeros(len(match))]
    weight, sets = np.concatenate([np.ones(len(units)), w]), np.concatenate([units, focal])
    x = np.column_stack([np.ones(len(rows)), arm])
    bread = np.linalg.inv(x.T @ (x * weight[:, None]))
    beta = bread @ x.T @ (weight * y[rows])
    scores = x * (weight * (y[rows] - x @ beta))[:, None]
    totals = np.array([scores[sets == s].sum(axis=0) for s in units])
    n, g = len(rows), len(units)
    vcov = bread @ totals.T @ totals @ bread * g / (g - 1) * (n - 1) / (n - 2)
    return float(beta[1]), math.sqrt(vcov[1, 1])


@pytest.mark.parametrize("estimand", ["ATT", "ATC"])
@pytest.mark.parametrize("ratio", [1, 2])
def test_clustered_by_set(estimand, ratio: int) -> None:  # type: ignore[no-untyped-def]
    whole, rules = points(200, 3), Rules(estimand, ratio=ratio, caliper=0.1)
    ours = without_replacement(sums_without_replacement(whole, rules)[0], rules)
    t, c, w = pairs(whole, rules, False)
    focal, match = (t, c) if estimand == "ATT" else (c, t)
    assert ratio == 1 or len(np.unique(w)) == 2  # sets of one and of two
    for k in range(2):
        value, error = clustered(whole.outcomes[:, k], focal, match, w)
        assert ours.estimate[k] == pytest.approx(value if estimand == "ATT" else -value, rel=CLOSE)
        assert ours.std_error[k] == pytest.approx(error, rel=CLOSE)
    side = rules.sides[0]
    assert (ours.matched, ours.used) == (len(np.unique(focal)), len(match))
    assert ours.ess[side] == pytest.approx(ours.matched**2 / (w @ w), rel=1e-12)


# what cannot be estimated ---------------------------------------------------------------------------------------------


def test_one_matched_unit_has_no_error() -> None:
    whole = points(40)
    alone = replace(whole, treated=np.arange(40) == 7)
    for ours in (
        found(alone, Rules("ATT")),
        found(alone, Rules("ATT"), "sample"),
        without_replacement(sums_without_replacement(alone, Rules("ATT"))[0], Rules("ATT")),
    ):
        assert np.isfinite(ours.estimate).all()
        assert np.isnan(ours.std_error).all()


@pytest.mark.parametrize("variance", ["population", "sample"])
def test_a_unit_alone_in_its_group_has_the_mean_variance_of_the_others(variance) -> None:  # type: ignore[no-untyped-def]
    """A group of 19 treated and one control: that control's own σ² is unknown, and 0 would make the error too small."""
    whole = points(120, 4)
    group = np.repeat([0.0, 1.0], [20, 100])
    treated = np.where(group == 0, np.arange(120) != 7, whole.treated)
    whole, rules = replace(whole, group=group, treated=treated), Rules("ATT")
    every, _ = sums_with_replacement(whole, rules)
    others, _ = sums_with_replacement(whole.take(slice(20, 120)), rules)
    n, level = every.number("matched1"), others["uses_variance1"] / others.number("matched1")
    if variance == "sample":
        total = every["variance1"] + others["squares_variance1"] + 19**2 * level
    else:
        spread = every["effect21"] - every["effect1"] ** 2 / n
        total = spread + others["squares_variance1"] - others["parts_variance1"] + (19**2 - 19) * level
    np.testing.assert_allclose(found(whole, rules, variance).std_error, np.sqrt(total) / n, rtol=CLOSE)


def test_without_any_other_match_there_is_no_error() -> None:
    """One control for all the treated: nothing says how it varies."""
    whole = points(40)
    alone = replace(whole, treated=np.arange(40) != 7)
    ours = found(alone, Rules("ATT"))
    assert np.isfinite(ours.estimate).all()
    assert np.isnan(ours.std_error).all()


def test_border_records_only_add_to_their_side() -> None:
    rules = Rules("ATE")
    sums, _ = sums_with_replacement(points(), rules)
    record = np.array([[1.0, 0.0, 0.5, 0.5, 0.25, 2.0, 1.0, 3.0, 4.0], [1.0, 0.0, 0.5, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]])
    after = with_border(sums, record, rules)
    change = {name: after[name] - sums[name] for name in sums.values if np.any(after[name] != sums[name])}
    expected = Sums.of(
        squares1=2 * 1.5**2,
        parts1=2 * 1.25,
        used1=2.0,
        squares_variance1=[1.5**2 * 3, 1.5**2 * 4],
        uses_variance1=[1.5 * 3, 1.5 * 4],
        parts_variance1=[1.25 * 3, 1.25 * 4],
        alone_uses1=1.5,
        alone_squares1=1.5**2,
        alone_parts1=1.25,
    )
    assert change.keys() == expected.values.keys()
    for name, value in change.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-12)


def test_the_same_place_in_two_groups_is_two_places() -> None:
    rules = Rules("ATT")
    sums, _ = sums_with_replacement(points(), rules)
    record = np.array([[1.0, number, 0.5, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0] for number in (0.0, 1.0)])
    assert with_border(sums, record, rules).number("squares1") == sums.number("squares1") + 2
    assert abadie_imbens.with_border(sums, record[:0], rules).values.keys() == sums.values.keys()
