"""The state of an application: which states there are, which fact leads from one to another, and how facts add up.

The state is a fold over the set of the known facts, so neither their order nor their repetition says anything: late and
early arrivals end in the same state, and a correction is one more fact. `gate.outcomes_fold` says the same in SQL for
many applications at once; a property test holds the two together. The drawing in `docs/outcomes.md` is `drawing()`.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from types import MappingProxyType


class Kind(StrEnum):
    """What can be reported of an application."""

    FUNDED = "funded"
    WITHDRAWN = "withdrawn"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    DECLINED_DOWNSTREAM = "declined_downstream"
    INSTALMENT_DUE = "instalment_due"
    INSTALMENT_PAID = "instalment_paid"
    PERFORMANCE = "performance"
    RESTRUCTURED = "restructured"
    TECHNICAL_ARREARS = "technical_arrears"
    PAID_OFF = "paid_off"
    CHARGED_OFF = "charged_off"
    FRAUD = "fraud"
    RECOVERED = "recovered"
    COMPLAINT = "complaint"
    SATISFACTION = "satisfaction"


class Status(StrEnum):
    """Where an application stands."""

    WAITING = "waiting"
    """Facts are known, and no application."""
    ESCALATED = "escalated"
    REJECTED = "rejected"
    ACCEPTED = "accepted"
    WITHDRAWN = "withdrawn"
    CANCELLED = "cancelled"
    """Before the funding, or after it where the law lets the borrower step back."""
    EXPIRED = "expired"
    DECLINED_DOWNSTREAM = "declined_downstream"
    FUNDED = "funded"
    """The loan runs, and nothing is past due."""
    PAST_DUE = "past_due"
    CHARGED_OFF = "charged_off"
    PAID_OFF = "paid_off"


class Flag(StrEnum):
    """Facts that contradict each other, or the decision. All of them are booked."""

    CHARGED_OFF_AFTER_PAYOFF = "charged_off_after_payoff"
    CURRENCY_DIFFERS = "currency_differs"
    ENDED_AND_FUNDED = "ended_and_funded"
    FUNDED_ABOVE_RESERVATION = "funded_above_reservation"
    FUNDED_AFTER_RELEASE = "funded_after_release"
    """The reservation had expired or been voided: the funding takes budget that others may have."""
    FUNDED_TWICE = "funded_twice"
    FUNDED_WITHOUT_ACCEPT = "funded_without_accept"
    LOAN_WITHOUT_FUNDING = "loan_without_funding"
    """It passes by itself when the funding is reported late."""
    PAST_DUE_AFTER_PAYOFF = "past_due_after_payoff"
    REPORTED_DIFFERENTLY = "reported_differently"
    """Two versions of one fact have the same correction number and say different things."""


ENDINGS = frozenset({Kind.WITHDRAWN, Kind.CANCELLED, Kind.EXPIRED, Kind.DECLINED_DOWNSTREAM})
"""What ends an application without a loan."""
LENT = frozenset(
    {
        Kind.INSTALMENT_DUE,
        Kind.INSTALMENT_PAID,
        Kind.PERFORMANCE,
        Kind.RESTRUCTURED,
        Kind.TECHNICAL_ARREARS,
        Kind.PAID_OFF,
        Kind.CHARGED_OFF,
        Kind.RECOVERED,
    }
)
"""What can only be said of a loan."""
CLOSED = frozenset({Status.CANCELLED, Status.PAID_OFF, Status.CHARGED_OFF})
"""Nothing of the loan is outstanding any more."""

_LOAN_MOVES = {
    "past due": Status.PAST_DUE,
    "paid off": Status.PAID_OFF,
    "charged off": Status.CHARGED_OFF,
    "cancelled": Status.CANCELLED,
}
_ENDING_MOVES = {kind.replace("_", " "): Status(kind) for kind in sorted(ENDINGS)}

MACHINE: Mapping[Status, Mapping[str, Status]] = MappingProxyType(
    {
        Status.WAITING: {
            "the application comes, accept": Status.ACCEPTED,
            "escalate": Status.ESCALATED,
            "reject": Status.REJECTED,
            "funded": Status.FUNDED,
            **_ENDING_MOVES,
        },
        Status.ESCALATED: {"reviewed, accept": Status.ACCEPTED, "reviewed, reject": Status.REJECTED, **_ENDING_MOVES},
        Status.REJECTED: {},
        Status.ACCEPTED: {"funded": Status.FUNDED, **_ENDING_MOVES},
        Status.WITHDRAWN: {},
        Status.CANCELLED: {},
        Status.EXPIRED: {},
        Status.DECLINED_DOWNSTREAM: {},
        Status.FUNDED: _LOAN_MOVES,
        Status.PAST_DUE: {"cured": Status.FUNDED} | {k: v for k, v in _LOAN_MOVES.items() if v is not Status.PAST_DUE},
        Status.CHARGED_OFF: {"paid off": Status.PAID_OFF, "cancelled": Status.CANCELLED},
        Status.PAID_OFF: {"cancelled": Status.CANCELLED},
    }
)
"""What leads where, as long as facts come in the order of their days and contradict nothing. Every other change of
state is a correction, a late fact, or a contradiction with its flag."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One version of one reported fact. (kind, discriminator) is its natural key within the application.

    The version with the highest `correction` counts; of two that differ under one number, the greater digest. Amounts
    are in minor units. A performance without a day is that of the last day of its month on book (0: of funding).
    """

    kind: Kind
    discriminator: str = ""
    correction: int = 0
    digest: bytes = b""
    retracted: bool = False
    occurred_on: date | None = None
    month_on_book: int | None = None
    instalment: int | None = None
    amount: int | None = None
    currency: str | None = None
    balance: int | None = None
    days_past_due: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What the log knows of the application. `released`: its reservation ended, and not by a reported fact."""

    outcome: str
    amount: int
    currency: str
    released: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the facts add up to. Amounts in minor units; `outstanding` is what of the loan is owed."""

    status: Status
    funded_on: date | None
    funded_amount: int | None
    outstanding: int
    first_due_on: date | None
    first_paid_on: date | None
    performance_on: date | None
    days_past_due: int | None
    worst_days_past_due: int | None
    closed_on: date | None
    flags: frozenset[Flag]


def counting_facts(versions: Iterable[Fact]) -> tuple[Fact, ...]:
    """The version that counts of each fact, in the order of their keys; retracted ones included."""
    found: dict[tuple[Kind, str], Fact] = {}
    for fact in versions:
        key = (fact.kind, fact.discriminator)
        held = found.get(key)
        if held is None or (fact.correction, fact.digest) > (held.correction, held.digest):
            found[key] = fact
    return tuple(found[key] for key in sorted(found))


def fold(versions: Iterable[Fact], decided: Decided | None) -> State:
    """The state; `decided` is None while no application is known."""
    known = tuple(versions)
    counting = counting_facts(known)
    facts = [fact for fact in counting if not fact.retracted]
    fundings = [fact for fact in facts if fact.kind is Kind.FUNDED]
    funded_on = min((_on(fact) for fact in fundings), default=None)
    funded_amount = sum(fact.amount or 0 for fact in fundings) if fundings else None
    days = {id(fact): day_of(fact, funded_on) for fact in facts}

    def last(*kinds: Kind) -> date | None:
        return max((days[id(fact)] for fact in facts if fact.kind in kinds), default=None)

    performance = [(days[id(fact)], fact.days_past_due or 0) for fact in facts if fact.kind is Kind.PERFORMANCE]
    latest = max(performance, default=None)
    late_on = max((day for day, late in performance if late > 0), default=None)
    owed = max(((days[id(fact)], -fact.balance) for fact in facts if fact.balance is not None), default=None)
    endings = [(days[id(fact)], fact.kind) for fact in facts if fact.kind in ENDINGS]
    ending = min(endings, default=None)
    cancelled_on, paid_off_on, charged_off_on = last(Kind.CANCELLED), last(Kind.PAID_OFF), last(Kind.CHARGED_OFF)
    lent = any(fact.kind in LENT for fact in facts)

    status = Status.WAITING if decided is None else _DECIDED[decided.outcome]
    if fundings or lent:
        if cancelled_on is not None and funded_on is not None and cancelled_on >= funded_on:
            status = Status.CANCELLED
        elif charged_off_on is not None and (paid_off_on is None or charged_off_on >= paid_off_on):
            status = Status.CHARGED_OFF
        elif paid_off_on is not None:
            status = Status.PAID_OFF
        else:
            status = Status.PAST_DUE if latest is not None and latest[1] > 0 else Status.FUNDED
    elif ending is not None and status is not Status.REJECTED:
        status = Status(ending[1])
    closed = {Status.CANCELLED: cancelled_on, Status.PAID_OFF: paid_off_on, Status.CHARGED_OFF: charged_off_on}
    closed_on = closed.get(status)
    if closed_on is None and ending is not None and status.value == ending[1].value:
        closed_on = ending[0]
    outstanding = 0
    if funded_amount is not None and status not in CLOSED:
        outstanding = funded_amount if owed is None else -owed[1]

    raised = {
        Flag.CHARGED_OFF_AFTER_PAYOFF: _after(charged_off_on, paid_off_on),
        Flag.CURRENCY_DIFFERS: decided is not None
        and any(fact.currency not in {None, decided.currency} for fact in facts),
        Flag.ENDED_AND_FUNDED: funded_on is not None
        and any(kind is not Kind.CANCELLED or day < funded_on for day, kind in endings),
        Flag.FUNDED_ABOVE_RESERVATION: decided is not None
        and decided.outcome == "accept"
        and (funded_amount or 0) > decided.amount,
        Flag.FUNDED_AFTER_RELEASE: bool(fundings) and decided is not None and decided.released,
        Flag.FUNDED_TWICE: len(fundings) > 1,
        Flag.FUNDED_WITHOUT_ACCEPT: bool(fundings) and decided is not None and decided.outcome != "accept",
        Flag.LOAN_WITHOUT_FUNDING: lent and not fundings,
        Flag.PAST_DUE_AFTER_PAYOFF: _after(late_on, paid_off_on),
        Flag.REPORTED_DIFFERENTLY: _disputed(known, counting),
    }
    return State(
        status=status,
        funded_on=funded_on,
        funded_amount=funded_amount,
        outstanding=outstanding,
        first_due_on=min((_on(fact) for fact in facts if fact.kind is Kind.INSTALMENT_DUE), default=None),
        first_paid_on=min(
            (_on(fact) for fact in facts if fact.kind is Kind.INSTALMENT_PAID and fact.instalment == 1), default=None
        ),
        performance_on=None if latest is None else latest[0],
        days_past_due=None if latest is None else latest[1],
        worst_days_past_due=max((late for _, late in performance), default=None),
        closed_on=closed_on,
        flags=frozenset(flag for flag, holds in raised.items() if holds),
    )


def drawing() -> str:
    """The machine as a Mermaid state diagram."""
    lines = ["stateDiagram-v2"]
    lines += [f"    [*] --> {status}" for status in _FIRST]
    for status, moves in MACHINE.items():
        lines += [f"    {status} --> {target}: {fact}" for fact, target in moves.items()]
    lines += [f"    {status} --> [*]" for status, moves in MACHINE.items() if not moves or status in CLOSED]
    return "\n".join(lines)


_FIRST = (Status.ACCEPTED, Status.ESCALATED, Status.REJECTED, Status.WAITING)
_DECIDED = {"accept": Status.ACCEPTED, "escalate": Status.ESCALATED, "reject": Status.REJECTED}
_NOT_FUNDED_YET = date(1970, 1, 1)


def _on(fact: Fact) -> date:
    assert fact.occurred_on is not None, "only a performance may do without a day"
    return fact.occurred_on


def day_of(fact: Fact, funded_on: date | None) -> date:
    """The day of a fact; a month on book ends on the last day of the month that lies so far after the funding."""
    if fact.occurred_on is not None or fact.month_on_book is None:
        return _on(fact)
    start = funded_on or _NOT_FUNDED_YET
    years, month = divmod(start.month - 1 + fact.month_on_book, 12)
    year = start.year + years
    return date(year, month + 1, calendar.monthrange(year, month + 1)[1])


def _after(later: date | None, earlier: date | None) -> bool:
    return later is not None and earlier is not None and later > earlier


def _disputed(versions: Iterable[Fact], counting: Iterable[Fact]) -> bool:
    tops = {(fact.kind, fact.discriminator): fact for fact in counting}
    return any(
        (top := tops[fact.kind, fact.discriminator]).correction == fact.correction and top.digest != fact.digest
        for fact in versions
    )
