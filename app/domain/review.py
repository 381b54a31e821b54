"""How long a review has waited, and what a reviewer proposes when accepting takes two persons."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from app.domain.canonical import Json, canonical_bytes, digest


class ReviewState(StrEnum):
    """Where a review stands: `open` and `proposed` ones wait for somebody."""

    OPEN = "open"
    PROPOSED = "proposed"
    """A first person has signed to accept it; a second one is awaited."""
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    SUPERSEDED = "superseded"
    """A newer revision of the application was decided."""


class ReviewKind(StrEnum):
    """Why a person looks at it."""

    ESCALATION = "escalation"
    CONTEST = "contest"


class Resolution(StrEnum):
    """What a reviewer decides."""

    ACCEPT = "accept"
    REJECT = "reject"


class Age(StrEnum):
    """How long it has waited, in classes. Nothing is accepted by waiting."""

    FRESH = "fresh"
    WAITING = "waiting"
    """Past the target of 24 hours."""
    ALARM = "alarm"
    URGENT = "urgent"
    """Ahead of everything else in the queue."""
    OVERDUE = "overdue"
    """Notice was due (Reg B, 1002.9(a)(1))."""


AGE_FROM: Final = {
    Age.FRESH: timedelta(0),
    Age.WAITING: timedelta(hours=24),
    Age.ALARM: timedelta(days=20),
    Age.URGENT: timedelta(days=28),
    Age.OVERDUE: timedelta(days=30),
}
"""From which age on a class counts, up to the next one."""


def age_of(opened_at: datetime, at: datetime) -> Age:
    """The class of what has been open since then. An application that says it is of tomorrow is fresh."""
    waited = at - opened_at
    return next((age for age, since in reversed(AGE_FROM.items()) if waited >= since), Age.FRESH)


def opened_between(age: Age, at: datetime) -> tuple[datetime | None, datetime | None]:
    """The half-open interval of `opened_at` whose reviews are of that class at an instant: after, up to and with."""
    classes = list(AGE_FROM)
    place = classes.index(age)
    newest = None if age is Age.FRESH else at - AGE_FROM[age]
    oldest = None if age is Age.OVERDUE else at - AGE_FROM[classes[place + 1]]
    return oldest, newest


def proposal_text(*, decision_id: str, amount: int, currency: str, reason: str) -> str:
    """What two persons sign to accept a review, in canonical JSON; `amount` in minor units."""
    proposal: dict[str, Json] = {
        "amount": amount,
        "currency": currency,
        "decision_id": decision_id,
        "reason": reason,
        "resolution": Resolution.ACCEPT.value,
    }
    return canonical_bytes(proposal).decode()


def proposal_digest(proposal: str) -> bytes:
    """SHA-256 of the proposal's text: what a signature names."""
    return digest(proposal.encode())


def proposed_subject(decision_id: str) -> str:
    """The subject of the first person's statement (act `request`)."""
    return f"review.accept:{decision_id}"


def approved_subject(decision_id: str) -> str:
    """The subject of the second person's statement (act `approve`)."""
    return f"review/{decision_id}"
