"""Why a decision is what it is: outcomes, reasons, their rank, and the few that a notice names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.domain.application import Unknown
from app.domain.canonical import Json
from app.domain.errors import DomainError
from app.domain.fields import Source
from app.domain.policy import Effect, Text

PRINCIPAL_REASONS = 4
"""How many reasons a notice names at most (Reg B, comment 9(b)(2)-1)."""

NEUTRAL_NOTICE = Text(
    en="Other: we could not complete our verification of this application", zh="其他：我们未能完成对本次申请的核验"
)
"""What a caller without the right to see confidential rules reads in their place."""


class Outcome(StrEnum):
    """What was decided. The first member is the most severe: nothing falls back to accept."""

    REJECT = "reject"
    ESCALATE = "escalate"
    ACCEPT = "accept"


class NextAction(StrEnum):
    """What the origination system does next."""

    DECLINE = "decline"
    REVIEW = "review"
    HELD = "held"
    """Wait for the budget of the source: it is decided again when there is room."""
    COUNTER_OFFER = "counter_offer"
    PROCEED = "proceed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One failed or undecidable rule.

    `observed` and `threshold` are in their JSON form; `observed` is None where the field is unknown, and `cause` says
    why. `distance_ppm` is the relative distance from the threshold in millionths, 0 where distance has no meaning.
    """

    code: str
    field: str
    observed: Json
    threshold: Json
    effect: Effect
    cause: Unknown | None
    text: Text
    source: Source
    priority: int
    confidential: bool = False
    distance_ppm: int = 0

    @property
    def notice(self) -> Text:
        """The text that the applicant's notice may carry."""
        return NEUTRAL_NOTICE if self.confidential else self.text


_SEVERITY = {Effect.REJECT: 0, Effect.ESCALATE: 1}


def ranked(reasons: Iterable[Reason]) -> tuple[Reason, ...]:
    """The most severe first; then by declared priority (lowest first), the farthest from its threshold, and code."""
    return tuple(
        sorted(reasons, key=lambda r: (_SEVERITY[r.effect], r.priority, -r.distance_ppm, r.code, r.field, r.text.en))
    )


def principal(reasons: Sequence[Reason]) -> tuple[Reason, ...]:
    """The first four of ranked reasons that read differently in a notice."""
    if not reasons:
        return ()
    distinct: dict[str, Reason] = {}
    for reason in reasons:
        distinct.setdefault(reason.notice.en, reason)
        if len(distinct) == PRINCIPAL_REASONS:
            break
    return tuple(distinct.values())


def outcome_of(reasons: tuple[Reason, ...]) -> Outcome:
    """The outcome of ranked reasons of a screening in which every rule was evaluated.

    Raises:
        DomainError: where a reason has no adverse effect; such a screening is inconsistent and decides nothing.
    """
    if not reasons:
        return Outcome.ACCEPT
    effects = {reason.effect for reason in reasons}
    if Effect.REJECT in effects:
        return Outcome.REJECT
    if effects == {Effect.ESCALATE}:
        return Outcome.ESCALATE
    raise DomainError("a reason without an adverse effect")


TIER_UNKNOWN_CODE = "CH00"
BUDGET_EXHAUSTED_CODE = "CH0B"
SYSTEM_CODES = (TIER_UNKNOWN_CODE, BUDGET_EXHAUSTED_CODE)
"""Codes of the gate's own reasons; a policy may not use them."""


def tier_unknown_reason(tier: str) -> Reason:
    """The channel stands in a tier that the active policy does not have: a person looks, nothing is accepted."""
    return Reason(
        code=TIER_UNKNOWN_CODE,
        field="channel.tier",
        observed=tier,
        threshold=None,
        effect=Effect.ESCALATE,
        cause=None,
        text=Text(en="Other: terms for this source could not be determined", zh="其他：无法确定该来源适用的条件"),
        source=Source.CHANNEL,
        priority=0,
    )


def budget_exhausted_reason() -> Reason:
    """There is no room, and no rule of the policy says what follows: nothing passes a budget for want of a rule."""
    return Reason(
        code=BUDGET_EXHAUSTED_CODE,
        field="budget.available",
        observed=False,
        threshold=True,
        effect=Effect.ESCALATE,
        cause=None,
        text=Text(en="Other: limit of this source", zh="其他：该来源额度已用尽"),
        source=Source.CHANNEL,
        priority=900,
    )
