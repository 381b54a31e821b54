"""Why a channel was moved, or was not: a review's figures in sentences, for whoever manages the channel."""

from __future__ import annotations

from typing import Final

from app.tiering.belief import Belief
from app.tiering.policy import Statistic, TieringPolicy
from app.tiering.review import Assessment
from app.tiering.terms import Blocker, Cause, Kind, Mode, Standing, Verdict

_CAUSES: Final = {
    Cause.RELATIVE_RISK: "more of its loans went bad than of loans like them",
    Cause.SEVERE_RISK: "about twice as many of its loans went bad as of loans like them, or more",
    Cause.RISK_SINCE_WORST_TIER: "its loans went on going bad after it had entered the strictest tier",
    Cause.UNPROFITABLE: "a customer that it brings most likely costs more than it earns",
    Cause.FRAUD: "more confirmed frauds than are borne",
    Cause.GOOD_RECORD: "fewer of its loans went bad than of loans like them",
    Cause.PROBATION_PASSED: "enough is known of it, and nothing is wrong",
    Cause.PROBATION_OPEN: "not enough is known of it yet, or what is known is not good enough",
    Cause.PROBATION_EXPIRED: "its probation has lasted as long as it may",
    Cause.SUSPENDED_LONG: "it has been suspended for as long as it may",
}
_BLOCKERS: Final = {
    Blocker.TOO_FEW_EXPECTED: "too few events are expected of it to tell",
    Blocker.FIRST_REVIEW: "it takes another review in a row that finds so",
    Blocker.DEMOTED_RECENTLY: "it was moved down lately",
    Blocker.ENTERED_RECENTLY: "it is new",
    Blocker.ON_WATCH: "it is on watch",
    Blocker.LATE_FEED: "its servicing data is late, and silent data is not good news",
    Blocker.UNPROFITABLE: "a customer that it brings costs more than it earns",
}
_MODES: Final = {
    Mode.NONE: "",
    Mode.AT_ONCE: "It applies at once and can be reversed.",
    Mode.AFTER_DELAY: "Its growth is frozen now; it applies after two business days unless a person stops it.",
    Mode.PROPOSAL: "It is proposed: a second person decides.",
    Mode.HELD: "It is held with every other move of this run until a person has looked at the whole book.",
}


def explain(standing: Standing, assessment: Assessment, policy: TieringPolicy) -> tuple[str, ...]:
    """What the review found of a channel that stood so, a sentence each: figures, condition, consequence."""
    by_windows = policy.statistic is Statistic.WINDOWS
    own = assessment.discounted if by_windows else assessment.change_point
    stretch = "counting what is long past for less" if by_windows else "since it last changed, as far as can be told"
    sentences = [
        f"{own.observed:.1f} of its loans went 30 days past due for the first time, {stretch}. Of loans of the same "
        f"scores and ages on the whole book, {own.expected:.1f} would have; its level is {assessment.kappa:.2f} times "
        "the reference.",
        f"Its relative risk is believed to be {own.mean:.2f}, and with 90 % between {own.quantile(0.05):.2f} and "
        f"{own.quantile(0.95):.2f}. {_recent(assessment.recent, policy)}",
        _condition(assessment.verdict),
        _consequence(standing, assessment.verdict),
    ]
    if assessment.verdict.blockers:
        reasons = "; ".join(_BLOCKERS[blocker] for blocker in assessment.verdict.blockers)
        sentences.append(f"It is not moved up yet: {reasons}.")
    if assessment.evidence.alarm:
        sentences.append("The alarm on first payments rang: it is on watch, and its growth is frozen.")
    return tuple(sentence for sentence in sentences if sentence)


def _recent(recent: Belief, policy: TieringPolicy) -> str:
    return (
        f"In the cohorts of the last {policy.forgetting.recent_cohorts} months alone: {recent.observed:.1f} where "
        f"{recent.expected:.1f} would have."
    )


def _condition(verdict: Verdict) -> str:
    if verdict.probability is None or verdict.needed is None:
        return ""
    if verdict.cause is Cause.FRAUD:
        found, borne = (f"{100 * share:.1f} %" for share in (verdict.probability, verdict.needed))
        return f"Confirmed frauds are {found} of its loans; {borne} are borne."
    better = verdict.kind is Kind.PROMOTE or verdict.cause is Cause.GOOD_RECORD or verdict.kind is Kind.STAY
    side = "below" if better else "above"
    bound = (
        "less than"
        if verdict.cause in {Cause.PROBATION_OPEN, Cause.PROBATION_PASSED, Cause.PROBATION_EXPIRED}
        else "at least"
    )
    return (
        f"The probability that its relative risk is {side} {verdict.threshold:.2f} is {_certain(verdict.probability)}; "
        f"it takes {bound} {verdict.needed:.2f}."
    )


def _certain(probability: float) -> str:
    return "above 0.99" if probability > 0.99 else f"{probability:.2f}"


def _consequence(standing: Standing, verdict: Verdict) -> str:
    match verdict.kind:
        case Kind.STAY:
            return f"It stays in {standing.tier}." if verdict.life == standing.life else ""
        case Kind.EXTEND:
            return f"Its probation goes on: {_CAUSES[verdict.cause]}."
        case Kind.DEMOTE | Kind.PROMOTE | Kind.ADMIT:
            move = f"It moves from {standing.life if verdict.kind is Kind.ADMIT else standing.tier} to {verdict.tier}"
        case Kind.SUSPEND:
            move = "It is suspended"
        case Kind.EXIT:
            move = "Business with it ends"
    return f"{move}: {_CAUSES[verdict.cause]}. {_MODES[verdict.mode]}".strip()
