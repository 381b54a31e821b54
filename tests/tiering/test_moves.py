"""The table of moves and every safeguard beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.tiering.belief import posterior
from app.tiering.moves import judge, next_standing, stop
from app.tiering.policy import DEFAULT, Statistic
from app.tiering.terms import Blocker, Cause, Evidence, Kind, Life, Mode, Verdict, Witness
from tests.tiering.books import NOW, standing

NU = 8.0
POLICY = replace(DEFAULT, statistic=Statistic.WINDOWS)
CHANGING = replace(DEFAULT, statistic=Statistic.CHANGE_POINT)
ORDER = {"prime": 0, "general": 1, "risk": 2}


def evidence(observed: float, expected: float, recent: tuple[float, float] | None = None, **changes: Any) -> Evidence:
    both = (posterior(NU, observed, expected), posterior(NU, *(recent or (observed / 2, expected / 2))))
    terms = POLICY.demotion
    given: dict[str, Any] = {
        "present": both,
        "witnesses": tuple(Witness(belief, terms.probability, terms.probability_on_watch) for belief in both),
        "since_worst": posterior(NU, observed, expected),
    }
    return Evidence(**(given | changes))


def verdict(observed: float, expected: float, **changes: Any) -> Verdict:
    known = {name: changes.pop(name) for name in list(changes) if name in Evidence.__slots__ or name == "recent"}
    return judge(standing(**changes), evidence(observed, expected, **known), NOW, POLICY)


def badness(found: Verdict) -> int:
    if found.life is Life.SUSPENDED or found.kind is Kind.EXIT:
        return 3
    return ORDER[found.tier]


@pytest.mark.parametrize(
    ("tier", "observed", "expected", "kind", "to"),
    [
        ("prime", 60, 50, Kind.STAY, "prime"),
        ("prime", 68, 50, Kind.DEMOTE, "general"),
        ("general", 68, 50, Kind.STAY, "general"),
        ("general", 80, 50, Kind.DEMOTE, "risk"),
        ("prime", 140, 50, Kind.DEMOTE, "risk"),
        ("risk", 110, 50, Kind.SUSPEND, "risk"),
        ("risk", 75, 50, Kind.STAY, "risk"),
    ],
)
def test_a_bad_record_moves_down(tier: str, observed: float, expected: float, kind: Kind, to: str) -> None:
    found = verdict(observed, expected, tier=tier)
    assert (found.kind, found.tier) == (kind, to)
    assert found.mode is (Mode.NONE if kind is Kind.STAY else Mode.AT_ONCE)


def test_three_events_move_nobody() -> None:
    assert verdict(3, 0.1, recent=(3, 0.1), appetite_ratio=0.7).kind is Kind.STAY
    assert verdict(4, 0.1, recent=(4, 0.1), appetite_ratio=0.7).kind is Kind.DEMOTE


def test_the_recent_window_demotes_alone_where_it_has_four_events() -> None:
    assert verdict(60, 60, recent=(20, 6)).kind is Kind.DEMOTE
    assert verdict(60, 60, recent=(3, 0.1)).kind is Kind.STAY


def test_a_watched_channel_moves_sooner() -> None:
    found = verdict(72, 50, tier="general", watch_until=NOW + 1)
    assert (found.kind, found.needed) == (Kind.DEMOTE, POLICY.demotion.probability_on_watch)
    assert verdict(72, 50, tier="general", watch_until=NOW).kind is Kind.STAY


def test_an_alarm_watches_for_six_months_and_freezes_growth() -> None:
    found = verdict(10, 10, alarm=True)
    assert found.watch_until == NOW + 6
    assert found.freeze
    assert next_standing(standing(), found, NOW, applied=False).on_watch(NOW + 5)
    assert not next_standing(standing(), found, NOW, applied=False).on_watch(NOW + 6)


def test_a_mix_that_loses_money_is_judged_more_strictly() -> None:
    assert verdict(60, 50, tier="general").kind is Kind.STAY
    assert verdict(60, 50, tier="general", appetite_ratio=0.9).kind is Kind.DEMOTE


def test_a_large_channel_is_frozen_before_it_moves() -> None:
    found = verdict(80, 50, volume_share=0.051)
    assert (found.mode, found.freeze) == (Mode.AFTER_DELAY, True)
    assert not verdict(80, 50, volume_share=0.05).freeze


# Up


def good(**changes: Any) -> Verdict:
    return verdict(20, 50, recent=(10, 25), **({"good_reviews": 1} | changes))


def test_a_good_record_at_two_reviews_in_a_row_is_proposed_for_promotion() -> None:
    first = good(good_reviews=0)
    assert (first.kind, first.good_reviews, first.blockers) == (Kind.STAY, 1, (Blocker.FIRST_REVIEW,))
    second = good(good_reviews=first.good_reviews)
    assert (second.kind, second.mode, second.tier) == (Kind.PROMOTE, Mode.PROPOSAL, "prime")
    assert good(tier="risk").tier == "general"


def test_a_bad_review_between_starts_again() -> None:
    assert verdict(50, 50, good_reviews=1).good_reviews == 0


@pytest.mark.parametrize(
    ("changes", "blocker"),
    [
        ({"demoted_month": NOW - 5}, Blocker.DEMOTED_RECENTLY),
        ({"entered_month": NOW - 5}, Blocker.ENTERED_RECENTLY),
        ({"watch_until": NOW + 1}, Blocker.ON_WATCH),
        ({"alarm": True}, Blocker.ON_WATCH),
        ({"feed_late_days": 11}, Blocker.LATE_FEED),
        ({"break_even_theta": 0.3}, Blocker.UNPROFITABLE),
    ],
)
def test_what_holds_a_promotion_back(changes: dict[str, Any], blocker: Blocker) -> None:
    found = good(**changes)
    assert found.kind is not Kind.PROMOTE
    if found.kind is Kind.STAY:
        assert blocker in found.blockers


def test_a_promotion_needs_both_windows_and_enough_expectation() -> None:
    assert verdict(20, 50, recent=(12, 11), good_reviews=1).kind is Kind.STAY
    few = judge(standing(good_reviews=1), evidence(0, 7.9, recent=(0, 30.0)), NOW, POLICY)
    assert few.kind is Kind.STAY


def test_a_late_feed_is_no_review_for_good_or_bad() -> None:
    assert good(feed_late_days=11, good_reviews=1).good_reviews == 1


# Economics, fraud, probation, the end


def test_losing_money_over_two_reviews_proposes_a_demotion() -> None:
    first = verdict(50, 50, break_even_theta=0.6)
    assert (first.kind, first.unprofitable_reviews) == (Kind.STAY, 1)
    second = verdict(50, 50, break_even_theta=0.6, unprofitable_reviews=1)
    assert (second.kind, second.mode, second.cause) == (Kind.DEMOTE, Mode.PROPOSAL, Cause.UNPROFITABLE)


def test_in_the_worst_tier_losing_money_or_fraud_ends_in_suspension() -> None:
    lost = verdict(50, 50, tier="risk", break_even_theta=0.6)
    assert (lost.kind, lost.cause, lost.life) == (Kind.SUSPEND, Cause.UNPROFITABLE, Life.SUSPENDED)
    fraud = verdict(50, 50, tier="risk", frauds=3, funded=299)
    assert (fraud.kind, fraud.cause) == (Kind.SUSPEND, Cause.FRAUD)
    assert verdict(50, 50, tier="risk", frauds=3, funded=300).kind is Kind.STAY
    assert verdict(50, 50, tier="risk", frauds=2, funded=10).kind is Kind.STAY


def test_exit_is_proposed_after_six_months_of_suspension() -> None:
    assert verdict(0, 0, life=Life.SUSPENDED, state_month=NOW - 5).kind is Kind.STAY
    found = verdict(0, 0, life=Life.SUSPENDED, state_month=NOW - 6)
    assert (found.kind, found.mode) == (Kind.EXIT, Mode.PROPOSAL)


def probation(observed: float, expected: float, **changes: Any) -> Verdict:
    return verdict(observed, expected, **({"life": Life.PROBATION, "state_month": NOW - 4} | changes))


def test_probation_ends_where_enough_is_known_and_nothing_is_wrong() -> None:
    found = probation(3, 3)
    assert (found.kind, found.life, found.tier) == (Kind.ADMIT, Life.ACTIVE, "general")
    assert probation(2, 2.9).kind is Kind.EXTEND
    assert probation(8, 3.5).kind is Kind.EXTEND
    assert probation(3, 3, alarm=True).kind is Kind.EXTEND
    assert probation(3, 3, feed_late_days=11).kind is Kind.EXTEND
    assert probation(2, 2.9, state_month=NOW - 9).kind is Kind.EXIT
    assert probation(2, 2.9, state_month=NOW - 9, feed_late_days=11).kind is Kind.EXTEND
    assert probation(40, 8).tier == "risk"


def test_one_witness_is_enough_and_each_has_its_own_demand() -> None:
    calm, alarmed = posterior(NU, 50, 50), posterior(NU, 80, 50)

    def found(demand: float) -> Verdict:
        seen = evidence(50, 50, witnesses=(Witness(calm, 0.7, 0.6), Witness(alarmed, demand, 0.6)))
        return judge(standing(), seen, NOW, CHANGING)

    assert (found(0.9).kind, found(0.9).needed) == (Kind.DEMOTE, 0.9)
    assert found(0.9999).kind is Kind.STAY


def test_by_change_points_the_loans_since_the_worst_tier_need_only_agree() -> None:
    present = (posterior(NU, 200, 90),)
    agree, differ, few = ((7.0, 3.0), (7.0, 7.0), (5.0, 1.0))
    for since, kind in ((agree, Kind.SUSPEND), (differ, Kind.STAY), (few, Kind.STAY)):
        seen = evidence(0, 0, present=present, since_worst=posterior(NU, *since))
        assert judge(standing(tier="risk"), seen, NOW, CHANGING).kind is kind
        assert judge(standing(tier="risk"), seen, NOW, POLICY).kind is Kind.STAY


# Properties


cases = st.fixed_dictionaries(
    {
        "tier": st.sampled_from(POLICY.tiers),
        "life": st.sampled_from([Life.ACTIVE, Life.PROBATION]),
        "watch_until": st.sampled_from([None, NOW + 1]),
        "good_reviews": st.integers(0, 2),
        "demoted_month": st.sampled_from([None, NOW - 1, NOW - 12]),
        "unprofitable_reviews": st.integers(0, 2),
    }
)
windows = st.tuples(st.integers(0, 60).map(float), st.floats(0, 60))


@given(
    cases, windows, windows, st.sampled_from([None, 0.7, 1.4]), st.sampled_from([None, 0.7, 1.4]), st.integers(1, 20)
)
def test_more_events_never_lead_to_a_better_tier(
    case: dict[str, Any],
    long: tuple[float, float],
    young: tuple[float, float],
    appetite: float | None,
    even: float | None,
    more: int,
) -> None:
    fewer = evidence(*long, recent=young, appetite_ratio=appetite, break_even_theta=even)
    worse = evidence(
        long[0] + more, long[1], recent=(young[0] + more, young[1]), appetite_ratio=appetite, break_even_theta=even
    )
    before, after = (judge(standing(**case), seen, NOW, POLICY) for seen in (fewer, worse))
    assert badness(after) >= badness(before)


@given(cases, windows)
def test_a_move_up_is_never_applied_by_itself(case: dict[str, Any], long: tuple[float, float]) -> None:
    if case["life"] is Life.PROBATION:
        return
    found = judge(standing(**case), evidence(*long), NOW, POLICY)
    if ORDER[found.tier] < ORDER[case["tier"]]:
        assert found.mode is Mode.PROPOSAL


def test_a_stopped_run_holds_every_move_and_remembers_the_rest() -> None:
    moved, stayed = verdict(80, 50), good(good_reviews=0)
    held = stop([moved, stayed])
    assert [each.mode for each in held] == [Mode.HELD, Mode.NONE]
    assert next_standing(standing(), held[0], NOW, applied=False).tier == "general"
    assert next_standing(standing(), held[1], NOW, applied=False).good_reviews == 1


def test_a_move_that_was_applied_is_remembered() -> None:
    after = next_standing(standing(good_reviews=1), verdict(80, 50), NOW, applied=True)
    assert (after.tier, after.tier_month, after.demoted_month, after.good_reviews) == ("risk", NOW, NOW, 0)
    assert after.state_month == NOW - 24
    admitted = next_standing(replace(standing(), life=Life.PROBATION), probation(3, 3), NOW, applied=True)
    assert (admitted.life, admitted.state_month, admitted.demoted_month) == (Life.ACTIVE, NOW, None)
