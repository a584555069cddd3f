"""Margins, equivalence, and every branch of the decision rule with its sentence."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causal_spark.errors import ConfigError
from causal_spark.solve.decision import (
    Reading,
    Rule,
    decide,
    equivalence,
    non_inferiority,
    safe,
    superiority,
    surely_worse,
)
from causal_spark.solve.intervals import wald
from causal_spark.words import LANGUAGES, say

quick = settings(max_examples=80, deadline=None, derandomize=True)
effects, errors, margins = st.floats(-3, 3), st.floats(0.01, 2), st.floats(0.001, 3)
dofs = st.sampled_from([3.0, 40.0, math.inf])
goods = st.sampled_from(["increase", "decrease"])


@quick
@given(effect=effects, error=errors, margin=margins, dof=dofs, good=goods)
def test_interval_excludes_the_margin_iff_p_below_alpha(effect, error, margin, dof, good) -> None:  # type: ignore
    test = non_inferiority(wald(effect, error, 0.05, dof), margin, good)
    outside = test.low > -margin if good == "increase" else test.high < margin
    if abs(test.p_value - 0.025) > 1e-9:
        assert outside == (test.p_value < 0.025)


@quick
@given(effect=effects, error=errors, margin=margins, dof=dofs)
def test_equivalence_agrees_with_its_interval(effect, error, margin, dof) -> None:  # type: ignore[no-untyped-def]
    test = equivalence(wald(effect, error, 0.05, dof), margin)
    ninety = wald(effect, error, 0.10, dof)
    assert (test.low, test.high) == pytest.approx((ninety.low, ninety.high), rel=1e-12)
    if abs(test.p_value - 0.05) > 1e-9:
        assert (test.p_value < 0.05) == (-margin < ninety.low and ninety.high < margin)


def test_superiority_is_the_one_sided_test() -> None:
    fixed, one = wald(0.3, 0.1, 0.05), wald(0.3, 0.1, 0.05, alternative="greater")
    assert superiority(fixed).p_value == pytest.approx(one.p_value, rel=1e-12)
    assert superiority(fixed, "decrease").p_value == pytest.approx(1 - one.p_value, rel=1e-12)


@pytest.mark.parametrize("margin", [-0.1, math.nan, math.inf])
def test_margins_of_the_wrong_sign(margin: float) -> None:
    for call in (non_inferiority, equivalence):
        with pytest.raises(ConfigError) as caught:
            call(wald(0.1, 0.1, 0.05), margin)
        assert caught.value.key == "bad_margin"
    with pytest.raises(ConfigError):
        equivalence(wald(0.1, 0.1, 0.05), 0.0)


def test_nothing_to_test() -> None:
    for call in (non_inferiority, equivalence):
        assert math.isnan(call(wald(0.1, 0.0, 0.05), 0.2).p_value)


# the rule -----------------------------------------------------------------------------------------------------------


def reading(name: str, effect: float, role: str = "success", good: str = "increase", margin: float = 0.0,
            power: float = 0.9) -> Reading:  # fmt: skip
    test = wald(effect, 0.1, 0.05)
    return Reading(name, role, test, test.p_value, good, margin, power)  # type: ignore[arg-type]


WON, OPEN, LOST = reading("won", 0.4), reading("open", 0.05), reading("lost", -0.4)
SAFE = reading("safe", 0.0, "guardrail", margin=0.3)
UNSETTLED = reading("unsettled", 0.0, "guardrail", margin=0.1, power=0.3)
BROKEN = reading("broken", -0.5, "guardrail", margin=0.1)
SLOW = reading("slower", 0.5, "guardrail", "decrease", 0.1)
CASES = [
    ([WON, SAFE], False, True, "ship", "won", ("won",)),
    ([WON, OPEN, SAFE], False, True, "ship", "won", ("won",)),
    ([WON, SAFE], True, False, "stop", "untrusted", ()),
    ([WON, BROKEN], False, True, "stop", "guardrail_broken", ("broken",)),
    ([WON, SLOW], False, True, "stop", "guardrail_broken", ("slower",)),
    ([WON, LOST, SAFE], False, True, "stop", "success_lost", ("lost",)),
    ([WON, UNSETTLED], False, True, "keep_testing", "guardrail_unsettled", ("unsettled",)),
    ([WON, UNSETTLED], True, True, "stop", "guardrail_unsettled_end", ("unsettled",)),
    ([OPEN, SAFE], False, True, "keep_testing", "not_yet", ("open",)),
    ([OPEN, SAFE], True, True, "stop", "nothing_won", ("open",)),
    ([WON, reading("other", -9.0, "diagnostic")], False, True, "ship", "won", ("won",)),
    ([reading("cost", -0.4, good="decrease")], False, True, "ship", "won", ("cost",)),
]


@pytest.mark.parametrize(("readings", "complete", "trusted", "verdict", "reason", "metrics"), CASES)
def test_every_branch(readings, complete, trusted, verdict, reason, metrics) -> None:  # type: ignore[no-untyped-def]
    found = decide(readings, Rule(), complete, trusted)
    assert (found.verdict, found.reason, found.metrics) == (verdict, reason, metrics)
    for language in LANGUAGES:
        sentence = say(f"decision_{found.reason}", language, metrics=", ".join(found.metrics))
        assert all(name in sentence for name in found.metrics)
        assert say(f"decision_{found.verdict}", language)


def test_all_success_metrics_may_be_needed() -> None:
    found = decide([WON, OPEN, SAFE], Rule(needs="all"), False)
    assert (found.verdict, found.metrics) == ("keep_testing", ("open",))
    assert decide([WON, SAFE], Rule(needs="all"), False).verdict == "ship"


def test_weak_guardrails_are_named() -> None:
    strong = reading("strong", 0.0, "guardrail", margin=0.1, power=0.9)
    assert decide([WON, UNSETTLED, strong], Rule(), False).weak == ("unsettled",)
    unknown = reading("unknown", 0.0, "guardrail", margin=0.1, power=math.nan)
    assert decide([OPEN, unknown], Rule(), False).weak == ("unknown",)


def test_a_guardrail_without_spread_never_ships() -> None:
    flat = Reading("flat", "guardrail", wald(0.0, 0.0, 0.05), math.nan, margin=0.1)
    assert decide([WON, flat], Rule(), False).reason == "guardrail_unsettled"


def test_a_guardrail_without_margin_must_only_not_be_worse() -> None:
    for effect, verdict, reason in ((0.0, "ship", "won_no_margin"), (-0.1, "ship", "won_no_margin"),
                                    (-0.5, "stop", "guardrail_broken")):  # fmt: skip
        found = decide([WON, SAFE, reading("plain", effect, "guardrail")], Rule(), False)
        assert (found.verdict, found.reason) == (verdict, reason)
    assert decide([WON, SAFE, reading("plain", 0.0, "guardrail")], Rule(), False).weak == ("plain",)
    for language in LANGUAGES:
        assert "won" in say("decision_won_no_margin", language, metrics="won")
    flat = Reading("flat", "guardrail", wald(0.0, 0.0, 0.05), math.nan)
    assert decide([WON, flat], Rule(), False).reason == "guardrail_unsettled"


def test_a_success_metric_is_needed() -> None:
    with pytest.raises(ConfigError, match="role success"):
        decide([SAFE], Rule(), False)


# margins of success metrics, equivalence, and the level of a look -----------------------------------------------------


def kept(effect: float, margin: float = 0.3, **more: object) -> Reading:
    return replace(reading("kept", effect, margin=margin), **more)  # type: ignore[arg-type]


def test_a_success_metric_with_a_margin_wins_by_the_test_against_it() -> None:
    for effect, verdict, reason in ((0.0, "ship", "won"), (-0.1, "ship", "won"), (-0.25, "stop", "nothing_won"),
                                    (-0.6, "stop", "success_lost")):  # fmt: skip
        found = decide([kept(effect)], Rule(), True)
        assert (found.verdict, found.reason) == (verdict, reason)


def test_several_margins_share_the_level_where_any_suffices() -> None:
    edge = kept(-0.12)  # (0.3 - 0.12) / 0.1 = 1.8, p = 0.036
    twin = replace(edge, name="twin")
    assert decide([edge], Rule(), True).verdict == "ship"
    assert decide([edge, twin], Rule(), True).verdict == "stop"
    assert decide([edge, twin], Rule(needs="all"), True).verdict == "ship"


def test_equivalence_holds_in_both_directions() -> None:
    for effect, reason in ((0.0, "won"), (0.25, "guardrail_unsettled_end"), (0.6, "guardrail_broken")):
        guard = replace(reading("same", effect, "guardrail", margin=0.3), equivalence=True)
        assert decide([WON, guard], Rule(), True).reason == reason
    assert decide([WON, reading("more", 0.6, "guardrail", margin=0.3)], Rule(), True).reason == "won"


@quick
@given(effect=effects, error=errors, margin=margins, level=st.floats(0.001, 0.2), good=goods, both=st.booleans())
def test_safe_and_worse_exclude_each_other(effect, error, margin, level, good, both) -> None:  # type: ignore
    one = Reading("m", "guardrail", wald(effect, error, 0.05), 1.0, good, margin, equivalence=both, level=level)
    assert not (safe(one, 0.05) and surely_worse(one, 0.05))
    fixed = replace(one, level=math.nan)
    assert safe(one, 0.05) == safe(fixed, level) and surely_worse(one, 0.05) == surely_worse(fixed, level)


def test_a_look_tests_margins_at_its_own_level() -> None:
    guard = reading("guard", 0.0, "guardrail", margin=0.2)  # z = 2: p = 0.023
    assert decide([WON, guard], Rule(), False).reason == "won"
    assert decide([WON, replace(guard, level=0.01)], Rule(), False).reason == "guardrail_unsettled"
    assert decide([WON, replace(guard, level=0.0)], Rule(), False).reason == "guardrail_unsettled"
