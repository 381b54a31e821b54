"""The monthly moves: from what is believed of a channel, and where it stands, to where it goes.

Every condition of the table in the domain's section 4 is a function here, and its safeguards stand beside it. Months
are calendar months (`loans.month_number`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from app.tiering.policy import Statistic, TieringPolicy
from app.tiering.terms import Blocker, Cause, Evidence, Kind, Life, Mode, Standing, Verdict


def judge(standing: Standing, evidence: Evidence, as_of: int, policy: TieringPolicy) -> Verdict:
    """The verdict on one channel, before what holds for the whole book (`stop`)."""
    watch_until = as_of + policy.alarm.watch_months if evidence.alarm else standing.watch_until
    watched = replace(standing, watch_until=watch_until)
    if standing.life is Life.SUSPENDED:
        verdict = _suspended(standing, as_of, policy)
    else:
        on_probation = standing.life is Life.PROBATION
        verdict = (_probation if on_probation else _up)(watched, evidence, as_of, policy)
        if verdict.kind is not Kind.EXIT:
            verdict = _down(watched, evidence, as_of, policy) or verdict
    unprofitable = evidence.unprofitable() >= policy.demotion.unprofitable_probability
    return replace(
        verdict,
        watch_until=watch_until,
        freeze=verdict.freeze or evidence.alarm,
        unprofitable_reviews=standing.unprofitable_reviews + 1 if unprofitable else 0,
    )


def stop(verdicts: Sequence[Verdict]) -> tuple[Verdict, ...]:
    """The same verdicts, every move of which waits for a person."""
    return tuple(replace(verdict, mode=Mode.HELD) if verdict.is_move else verdict for verdict in verdicts)


def next_standing(standing: Standing, verdict: Verdict, as_of: int, *, applied: bool) -> Standing:
    """Where the channel stands after the review: with its move where that was `applied`, else with the memory alone."""
    remembered = replace(
        standing,
        watch_until=verdict.watch_until,
        good_reviews=verdict.good_reviews,
        unprofitable_reviews=verdict.unprofitable_reviews,
    )
    if not applied or not verdict.is_move:
        return remembered
    changed_tier, changed_life = verdict.tier != standing.tier, verdict.life is not standing.life
    return replace(
        remembered,
        life=verdict.life,
        tier=verdict.tier,
        tier_month=as_of if changed_tier else standing.tier_month,
        state_month=as_of if changed_life else standing.state_month,
        demoted_month=as_of if verdict.is_down else standing.demoted_month,
        good_reviews=0,
        unprofitable_reviews=0,
    )


# Down -----------------------------------------------------------------------------------------------------------------


def _down(standing: Standing, evidence: Evidence, as_of: int, policy: TieringPolicy) -> Verdict | None:
    if standing.tier == policy.worst and standing.life is Life.ACTIVE:
        return _suspend(standing, evidence, policy)
    terms = policy.demotion
    severe = evidence.worse_than(terms.severe_above, terms.minimum_events)
    if severe >= terms.severe_probability:
        met = _Met(Cause.SEVERE_RISK, severe, terms.severe_probability, evidence.threshold(terms.severe_above))
        return _demotion(evidence, policy, policy.worst, met)
    if standing.life is Life.PROBATION:
        return None
    position = policy.tiers.index(standing.tier)
    boundary = policy.boundaries[position]
    on_watch = standing.on_watch(as_of)
    told = evidence.worse_than_needed(boundary.demote_above, terms.minimum_events, on_watch=on_watch)
    below = policy.tiers[position + 1]
    if told is not None and told[0] >= told[1]:
        met = _Met(Cause.RELATIVE_RISK, *told, evidence.threshold(boundary.demote_above))
        return _demotion(evidence, policy, below, met)
    loss = evidence.unprofitable()
    if loss >= terms.unprofitable_probability and standing.unprofitable_reviews + 1 >= terms.unprofitable_reviews:
        met = _Met(Cause.UNPROFITABLE, loss, terms.unprofitable_probability, evidence.break_even_theta)
        return replace(_demotion(evidence, policy, below, met), mode=Mode.PROPOSAL, freeze=False)
    return None


class _Met(NamedTuple):
    """A condition that was met, and by how much."""

    cause: Cause
    probability: float
    needed: float
    threshold: float | None


def _demotion(evidence: Evidence, policy: TieringPolicy, tier: str, met: _Met) -> Verdict:
    large = evidence.volume_share > policy.safeguards.large_volume_share
    return Verdict(
        kind=Kind.DEMOTE,
        mode=Mode.AFTER_DELAY if large else Mode.AT_ONCE,
        cause=met.cause,
        life=Life.ACTIVE,
        tier=tier,
        probability=met.probability,
        needed=met.needed,
        threshold=met.threshold,
        freeze=large,
    )


def _suspend(standing: Standing, evidence: Evidence, policy: TieringPolicy) -> Verdict | None:
    terms = policy.suspension
    threshold = evidence.threshold(terms.above)
    worse = _worse_since(evidence, threshold, policy)
    loss = evidence.unprofitable()
    fraud_share = evidence.frauds / evidence.funded if evidence.funded else 0.0
    if worse >= terms.probability:
        met = _Met(Cause.RISK_SINCE_WORST_TIER, worse, terms.probability, threshold)
    elif loss >= policy.demotion.unprofitable_probability:
        met = _Met(Cause.UNPROFITABLE, loss, policy.demotion.unprofitable_probability, evidence.break_even_theta)
    elif evidence.frauds >= terms.minimum_frauds and fraud_share > terms.fraud_share:
        met = _Met(Cause.FRAUD, fraud_share, terms.fraud_share, None)
    else:
        return None
    suspended = _demotion(evidence, policy, standing.tier, met)
    return replace(suspended, kind=Kind.SUSPEND, life=Life.SUSPENDED)


def _worse_since(evidence: Evidence, threshold: float, policy: TieringPolicy) -> float:
    """P(theta > threshold) as far as the loans made since the channel entered the worst tier bear it out."""
    terms, since = policy.suspension, evidence.since_worst
    if since.observed < terms.minimum_events:
        return 0.0
    if policy.statistic is Statistic.CHANGE_POINT:
        agrees = since.above(evidence.threshold(terms.since_above)) >= terms.since_probability
        return evidence.present[0].above(threshold) if agrees else 0.0
    return since.above(threshold)


def _suspended(standing: Standing, as_of: int, policy: TieringPolicy) -> Verdict:
    long = as_of - standing.state_month >= policy.suspension.months_to_exit
    return Verdict(
        kind=Kind.EXIT if long else Kind.STAY,
        mode=Mode.PROPOSAL if long else Mode.NONE,
        cause=Cause.SUSPENDED_LONG if long else Cause.NONE,
        life=standing.life,
        tier=standing.tier,
    )


# Probation and up -----------------------------------------------------------------------------------------------------


def _probation(standing: Standing, evidence: Evidence, as_of: int, policy: TieringPolicy) -> Verdict:
    """Admission is automatic: a person has admitted the channel to probation."""
    terms = policy.probation
    worse = max(belief.above(terms.theta_above) for belief in evidence.present)
    enough = evidence.present[0].expected >= terms.minimum_expected
    late = evidence.feed_late_days > policy.safeguards.feed_late_days
    extended = Verdict(
        kind=Kind.EXTEND,
        mode=Mode.NONE,
        cause=Cause.PROBATION_OPEN,
        life=Life.PROBATION,
        tier=standing.tier,
        probability=worse,
        needed=terms.probability_below,
        threshold=terms.theta_above,
    )
    if enough and worse < terms.probability_below and not standing.on_watch(as_of) and not late:
        return replace(
            extended,
            kind=Kind.ADMIT,
            mode=Mode.AT_ONCE,
            cause=Cause.PROBATION_PASSED,
            life=Life.ACTIVE,
            tier=policy.admitted_tier,
        )
    # While its data is late, nothing can be known of it: that is the feed's fault, and no channel's end.
    if as_of - standing.state_month >= terms.months_to_exit and not late:
        return replace(extended, kind=Kind.EXIT, mode=Mode.AT_ONCE, cause=Cause.PROBATION_EXPIRED)
    return extended


def _up(standing: Standing, evidence: Evidence, as_of: int, policy: TieringPolicy) -> Verdict:
    position = policy.tiers.index(standing.tier)
    stay = Verdict(kind=Kind.STAY, mode=Mode.NONE, cause=Cause.NONE, life=standing.life, tier=standing.tier)
    if position == 0:
        return stay
    terms = policy.promotion
    boundary = policy.boundaries[position - 1]
    better = evidence.better_than(boundary.promote_below)
    judged = replace(
        stay, probability=better, needed=terms.probability, threshold=evidence.threshold(boundary.promote_below)
    )
    if better < terms.probability:
        return judged
    good_reviews = standing.good_reviews + 1
    profit = evidence.break_even_theta
    conditions = {
        Blocker.TOO_FEW_EXPECTED: evidence.present[0].expected >= terms.minimum_expected,
        Blocker.FIRST_REVIEW: good_reviews >= terms.reviews_in_a_row,
        Blocker.DEMOTED_RECENTLY: standing.demoted_month is None
        or as_of - standing.demoted_month >= terms.months_since_demotion,
        Blocker.ENTERED_RECENTLY: as_of - standing.entered_month >= terms.months_since_entry,
        Blocker.ON_WATCH: not standing.on_watch(as_of),
        Blocker.LATE_FEED: evidence.feed_late_days <= policy.safeguards.feed_late_days,
        Blocker.UNPROFITABLE: profit is None or evidence.present[0].mean < profit,
    }
    blockers = tuple(blocker for blocker, met in conditions.items() if not met)
    if Blocker.LATE_FEED in blockers:
        good_reviews = standing.good_reviews  # nothing was learnt, for better or worse
    remembered = replace(judged, cause=Cause.GOOD_RECORD, good_reviews=good_reviews, blockers=blockers)
    if blockers:
        return remembered
    return replace(remembered, kind=Kind.PROMOTE, mode=Mode.PROPOSAL, tier=policy.tiers[position - 1])
