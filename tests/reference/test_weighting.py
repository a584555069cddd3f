"""Published and recomputed numbers of weighting, entropy balancing, AIPW and DML on public data.

A number with 15 digits is compared at relative 1e-9: it comes from other code, another order of operations, and an
iteration that stops elsewhere. Where the other code stops early, the tolerance says so. Printed numbers are right to
half a unit of their last digit.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import causaldata
import numpy as np
import pandas as pd
import pytest
import statsmodels
from statsmodels.discrete.discrete_model import Logit, Probit
from statsmodels.regression.linear_model import OLS
from statsmodels.treatment.treatment_effects import TreatmentEffect

from causal_spark.solve import balancing, doubly, logistic, weighting
from causal_spark.solve.logistic import Logistic
from causal_spark.solve.weighting import Estimand, Weighted

LALONDE = importlib.util.find_spec("causalpy")


@dataclass(frozen=True, eq=False)
class Study:
    """Design ``x`` (n, p) with a constant and standardised columns, treatment (n,), outcome (n, 1)."""

    x: np.ndarray
    names: tuple[str, ...]
    t: np.ndarray
    y: np.ndarray

    @classmethod
    def of(cls, columns: dict[str, np.ndarray], t: np.ndarray, y: np.ndarray) -> Study:
        c = np.column_stack(list(columns.values())).astype(float)
        x = np.column_stack([np.ones(len(c)), (c - c.mean(axis=0)) / c.std(axis=0)])
        return cls(x, ("constant", *columns), np.asarray(t, float), np.asarray(y, float)[:, None])

    @property
    def propensity(self) -> tuple[Logistic, np.ndarray]:
        found = logistic.fit(self.x, self.t, self.names)
        return found, logistic.predict(self.x, found.beta)


def number(value: float, rel: float = 1e-9) -> object:
    return pytest.approx(value, rel=rel)


def error(phi: np.ndarray) -> float:
    """Standard error from influence values."""
    return float(np.sqrt((phi**2).sum()) / len(phi))


def table(name: str) -> pd.DataFrame:
    return pd.read_stata(Path(causaldata.__file__).parent / name / f"{name}.dta")


def weighted(
    study: Study, estimand: Estimand, normalised: bool = True, keep: np.ndarray | None = None
) -> tuple[Weighted, np.ndarray]:
    """The estimate and its influence with the propensity estimated."""
    model, e = study.propensity
    arguments = (study.x, study.t, e, study.y)
    found = weighting.solve(weighting.sums(*arguments, estimand, keep), estimand, normalised)
    return found, weighting.influence(*arguments, found, model, keep)


# NSW treated and CPS controls ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nsw_cps() -> Study:
    nsw, cps = table("nsw_mixtape"), table("cps_mixtape")
    d = pd.concat([nsw[nsw.treat == 1], cps]).drop(columns="data_id").astype(float)
    columns = {
        "age": d.age, "age2": d.age**2, "age3": d.age**3, "educ": d.educ, "educ2": d.educ**2, "marr": d.marr,
        "nodegree": d.nodegree, "black": d.black, "hisp": d.hisp, "re74": d.re74, "re75": d.re75,
        "u74": d.re74 == 0, "u75": d.re75 == 0, "educ re74": d.educ * d.re74,
    }  # fmt: skip
    return Study.of(columns, d.treat, d.re78)


def test_propensity_of_the_nsw(nsw_cps: Study) -> None:
    """Row 6: means of the propensity to the digits given."""
    model, e = nsw_cps.propensity
    assert model.converged
    assert e[nsw_cps.t == 1].mean() == pytest.approx(0.42535667975, abs=0.6e-10)
    assert e[nsw_cps.t == 0].mean() == pytest.approx(0.00664763721, abs=0.6e-11)


@pytest.mark.parametrize(
    ("estimand", "normalised", "value"),
    [
        ("ATE", False, -11876.787464319508),
        ("ATE", True, -7238.140310690553),
        ("ATT", True, 1782.2085312494064),
        ("ATT", False, 1357.4359550433749),
    ],
)
def test_weighting_without_overlap(nsw_cps: Study, estimand: Estimand, normalised: bool, value: float) -> None:
    """Row 6: Cunningham (2021), -11,876 and -7,238, at 1e-8: a control with e = 0.94 counts for hundreds."""
    assert weighted(nsw_cps, estimand, normalised)[0].effect[0] == number(value, 1e-8)


def test_weighting_trimmed(nsw_cps: Study) -> None:
    """Row 7: Cunningham (2021), 2,006 and 1,806, 361 rows left."""
    keep = weighting.within(nsw_cps.propensity[1], 0.1, 0.9)
    assert keep.sum() == 361
    assert weighted(nsw_cps, "ATE", False, keep)[0].effect[0] == number(2006.3652336210034, 1e-8)
    assert weighted(nsw_cps, "ATE", True, keep)[0].effect[0] == number(1806.7300571430178, 1e-8)


# NHEFS: quitting smoking and weight ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nhefs() -> Study:
    """Hernán & Robins, What If, technical point 12.2 ff.: five factors, four measures and their squares."""
    d = table("nhefs_complete")
    columns: dict[str, np.ndarray] = {}
    for name in ("sex", "race", "education", "exercise", "active"):
        columns |= {f"{name} {level}": d[name] == level for level in d[name].cat.categories[1:]}
    for name in ("age", "smokeintensity", "smokeyrs", "wt71"):
        columns |= {name: d[name], f"{name}²": d[name].astype(float) ** 2}
    return Study.of(columns, d.qsmk, d.wt82_71)


def arm_wise(study: Study, fold: np.ndarray, folds: int) -> np.ndarray:
    """Predictions (n, 2, 1) of a regression in each arm."""
    total = doubly.gram(study.x, study.y, study.t.astype(int), fold, 2, folds)
    return doubly.potential(study.x, doubly.regress(total, study.names), fold)


def interacted(study: Study) -> np.ndarray:
    """Predictions (n, 2, 1) of one regression with the treatment and treatment × smokeintensity."""
    none = np.zeros(len(study.t), int)
    intensity = study.x[:, study.names.index("smokeintensity")]

    def design(t: np.ndarray) -> np.ndarray:
        return np.column_stack([study.x, t, t * intensity])

    total = doubly.gram(design(study.t), study.y, none, none, 1, 1)
    beta = doubly.regress(total, (*study.names, "t", "t intensity"))[0]
    return np.stack([doubly.fitted(design(none + level), beta, none) for level in (0, 1)], axis=1)


def pair(study: Study, e: np.ndarray, mu: np.ndarray, estimand: Estimand) -> tuple[float, float]:
    arguments = (study.y, study.t, e, mu, estimand)
    found = doubly.effect(doubly.pair_sums(*arguments))
    return float(found.effect[0]), error(doubly.pair_influence(*arguments, found))


def test_ipw_of_nhefs(nhefs: Study) -> None:
    """Row 28: What If, 3.4 (2.4, 4.5) with the weights taken as given; stabilised weights of mean 0.9988."""
    _, e = nhefs.propensity
    found, phi = weighted(nhefs, "ATE")
    assert found.effect[0] == number(3.4405354296466206)
    given = weighting.influence(nhefs.x, nhefs.t, e, nhefs.y, found, None)
    assert error(given) == number(0.5254935530143231)
    assert error(phi) < error(given)
    assert (round(e.min(), 4), round(e.max(), 4)) == (0.0510, 0.7769)
    stable = weighting.stabilised(e, nhefs.t, nhefs.t.mean())
    assert stable.mean() == number(0.9988443499320404)
    arms = [np.average(nhefs.y[nhefs.t == arm, 0], weights=stable[nhefs.t == arm]) for arm in (0, 1)]
    assert arms[1] - arms[0] == number(3.4405354296466206)


def test_hajek_of_nhefs(nhefs: Study) -> None:
    """Row 30: 3.3363 for the treated, 3.4611 with overlap weights."""
    assert weighted(nhefs, "ATT")[0].effect[0] == number(3.3362579127723255)
    assert weighted(nhefs, "ATO")[0].effect[0] == number(3.461148559123417)


def test_standardisation_of_nhefs(nhefs: Study) -> None:
    """Row 29: What If, 3.5 (5.2736 and 1.7562)."""
    means = interacted(nhefs).mean(axis=0)[:, 0]
    assert means[1] - means[0] == number(3.5173742008855022)
    assert means == pytest.approx([1.75621312, 5.27358732], abs=0.6e-8)


def test_ols_of_nhefs(nhefs: Study) -> None:
    """Row 29: 3.46 without the interaction."""
    none = np.zeros(len(nhefs.t), int)
    total = doubly.gram(np.column_stack([nhefs.x, nhefs.t]), nhefs.y, none, none, 1, 1)
    assert doubly.regress(total, (*nhefs.names, "t"))[0, 0, -1, 0] == number(3.46262182922597)


def test_aipw_of_nhefs(nhefs: Study) -> None:
    """Row 30: one regression, and one in each arm."""
    _, e = nhefs.propensity
    assert pair(nhefs, e, interacted(nhefs), "ATE") == number((3.457284289761143, 0.48865091385695714))
    mu = arm_wise(nhefs, np.zeros(len(e), int), 1)
    assert pair(nhefs, e, mu, "ATE") == number((3.373264631901711, 0.4726933969582997))
    assert pair(nhefs, e, mu, "ATT") == number((3.365416911790976, 0.4833617429326763))


def crossed(study: Study, fold: np.ndarray) -> np.ndarray:
    """Propensity (n,) from the rows of the other folds."""
    fits = [logistic.fit(study.x, study.t, study.names, weight=fold != k) for k in range(fold.max() + 1)]
    return np.stack([logistic.predict(study.x, found.beta) for found in fits])[fold, np.arange(len(fold))]


def test_dml_of_nhefs(nhefs: Study) -> None:
    """Row 31, interactive: five folds, row mod 5; to 1e-6, since the logistic peer stops at a gradient of 1e-4."""
    fold = np.arange(len(nhefs.t)) % 5
    mu, e = arm_wise(nhefs, fold, 5), crossed(nhefs, fold)
    assert pair(nhefs, e, mu, "ATE") == number((3.356568330237647, 0.5238059309705352), 1e-6)
    assert pair(nhefs, e, mu, "ATT") == number((3.3714499137905043, 0.495504418346969), 1e-6)


def test_partially_linear_of_nhefs(nhefs: Study) -> None:
    """Row 31: least squares for the outcome and the treatment, so to all digits."""
    fold, none = np.arange(len(nhefs.t)) % 5, np.zeros(len(nhefs.t), int)
    both = np.column_stack([nhefs.y, nhefs.t])
    total = doubly.gram(nhefs.x, both, none, fold, 1, 5)
    fits = doubly.fitted(nhefs.x, doubly.regress(total, nhefs.names)[0], fold)
    arguments = (nhefs.y, nhefs.t, fits[:, :1], fits[:, 1])
    found = doubly.effect(doubly.partial_sums(*arguments))
    assert found.effect[0] == number(3.4940374583076887)
    assert error(doubly.partial_influence(*arguments, found)) == number(0.462776347680185)


# Cattaneo (2010): smoking and birth weight --------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Births:
    """Selection and outcome designs of Stata's manual on teffects."""

    selection: Study
    outcome: Study
    frame: pd.DataFrame

    def fitted(self) -> np.ndarray:
        return arm_wise(self.outcome, np.zeros(len(self.frame), int), 1)

    def peer(self, model: Callable[..., object]) -> tuple[TreatmentEffect, np.ndarray]:
        """The estimators of statsmodels with another selection model, and its propensity."""
        x = self.selection.x
        choice = model(self.selection.t, x).fit(disp=0, tol=1e-14)  # type: ignore[attr-defined]
        least = OLS(self.outcome.y[:, 0], self.outcome.x)
        return TreatmentEffect(least, self.selection.t, results_select=choice), np.asarray(choice.predict())


@pytest.fixture(scope="module")
def births() -> Births:
    path = Path(statsmodels.__file__).parent / "treatment" / "tests" / "results" / "cataneo2.csv"
    d = pd.read_csv(path)
    selection = {"married": d.mmarried_, "age": d.mage, "age2": d.mage**2, "first": d.fbaby_, "educ": d.medu}
    outcome = {"prenatal": d.prenatal1_, "married": d.mmarried_, "age": d.mage, "first": d.fbaby_}
    parts = [Study.of(columns, d.mbsmoke_, d.bweight) for columns in (selection, outcome)]
    return Births(parts[0], parts[1], d)


def difference(study: Study, e: np.ndarray, estimand: Estimand) -> float:
    total = weighting.sums(study.x, study.t, e, study.y, estimand)
    return float(weighting.solve(total, estimand).effect[0])


def test_teffects_with_probit(births: Births) -> None:
    """Rows 25 and 26: Stata's teffects ra, ipw and aipw, with a propensity that is given.

    The printed values are of an iteration over all moments at once that stops within 2e-5 of a standard error of
    the probit's maximum: 1e-4 of a standard error, 0.0026.
    """
    _, e = births.peer(Probit)
    mu = births.fitted()
    plain = (mu[:, 1] - mu[:, 0])[:, 0]
    assert plain.mean() == number(-239.63921146433495)
    assert plain[births.outcome.t == 1].mean() == number(-223.3016508385649)
    assert difference(births.selection, e, "ATE") == pytest.approx(-230.68906977303442, abs=0.0026)
    assert difference(births.selection, e, "ATT") == pytest.approx(-225.17960776729961, abs=0.0026)
    value, size = pair(births.outcome, e, mu, "ATE")
    assert value == pytest.approx(-230.98964847911873, abs=0.0026)
    # the printed error stacks the nuisance models too, which matters where they are wrong: 3 % here
    assert size == number(26.214445014596063, 0.05)


def test_weighting_with_logit_is_that_of_statsmodels(births: Births) -> None:
    """Estimate and stacked standard error; the peer's Jacobian is numeric, so 1e-5 of the error."""
    peer, e = births.peer(Logit)
    theirs = peer.ipw(effect_group="all")
    _, ours = births.selection.propensity
    assert ours == pytest.approx(e, rel=1e-9)
    found, phi = weighted(births.selection, "ATE")
    assert found.effect[0] == number(np.ravel(theirs.effect)[0], 1e-8)
    assert error(phi) == number(theirs.results_gmm.bse[0], 1e-5)


def test_aipw_with_logit_is_that_of_statsmodels(births: Births) -> None:
    peer, _ = births.peer(Logit)
    theirs = peer.aipw()
    value, size = pair(births.outcome, births.selection.propensity[1], births.fitted(), "ATE")
    assert value == number(np.ravel(theirs.effect)[0], 1e-8)
    assert size == number(theirs.results_gmm.bse[0], 0.05)


# LaLonde, 614 rows --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lalonde() -> Study:
    if LALONDE is None or LALONDE.origin is None:
        pytest.skip("causalpy, whose files hold the 614 rows, is not installed")
    d = pd.read_csv(Path(LALONDE.origin).parent / "data" / "lalonde.csv")
    names = ("age", "educ", "married", "nodegree", "re74", "re75")
    columns = {name: d[name] for name in names}
    columns |= {race: d[race] if race in d else d["race"] == race for race in ("black", "hispan")}
    return Study.of(columns, d.treat, d.re78)


def test_ipw_of_lalonde(lalonde: Study) -> None:
    """Row 14: WeightIt, 1214 (798)."""
    found, phi = weighted(lalonde, "ATT")
    assert found.effect[0] == number(1214.0712232911937)
    assert found.ess[0] == number(99.81538591585593)
    assert error(phi) == number(798.154627831616, 1e-7)


def test_effective_sizes_of_lalonde(lalonde: Study) -> None:
    """Row 16: WeightIt, 329.008 and 58.327, largest weights 4.7432 and 40.0773."""
    _, e = lalonde.propensity
    ends = [[e[lalonde.t == arm].min(), e[lalonde.t == arm].max()] for arm in (0, 1)]
    total = weighting.sums(lalonde.x, lalonde.t, e, lalonde.y, "ATE")
    found = weighting.solve(total, "ATE", extremes=ends)
    assert found.ess == number([329.00775906319546, 58.32666073982529])  # type: ignore[arg-type]
    assert found.largest == pytest.approx([4.7432, 40.0773], abs=0.6e-4)


def test_entropy_balancing_of_lalonde(lalonde: Study) -> None:
    """Row 15: WeightIt, 1273."""
    x, t, y = lalonde.x, lalonde.t, lalonde.y
    aim = balancing.target(balancing.moments(x, t), "ATT")
    dual = balancing.maximise(lambda lam: balancing.contribution(x, t == 0, lam, aim.mean), lalonde.names)
    balance = balancing.Balance(aim, (dual, None))
    found = balancing.solve(balancing.sums(x, t, y, balance), balance)
    assert found.effect[0] == number(1273.26181390478)
    assert found.ess[0] == number(98.4578344265694)
