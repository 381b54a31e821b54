"""Erasure of a person, where the law lets it (GDPR Art. 17, PIPL Art. 47)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.changes import Change, refusals
from app.retention.retain import Periods


class LawBasis(StrEnum):
    """Why a decision may be blanked within the time for which the law prescribes to keep it."""

    NO_DUTY = "no_duty"
    """No law prescribes to keep it: another jurisdiction, or an application that was never complete."""
    UNLAWFUL = "unlawful"
    """It was processed unlawfully (GDPR Art. 17(1)(d), PIPL Art. 47(4))."""
    ORDERED = "ordered"
    """A court or an authority has ordered it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """What became of one person's rows: blanked in the log and in quarantine, or refused and why.

    `loans` of the book from before the gate have forgotten whose they were.
    """

    erased: int
    quarantined: int
    on_hold: int
    within_period: int
    loans: int = 0

    @property
    def complete(self) -> bool:
        """Whether nothing was refused."""
        return self.on_hold == 0 and self.within_period == 0


async def erase_person(
    connection: AsyncConnection,
    applicant_ref: str,
    *,
    basis: LawBasis | None,
    periods: Periods,
    reason: str,
    change: Change,
) -> Erasure:
    """Blank what the log and the book hold about a person, but for what a hold keeps and, without a basis, the law.

    Raises:
        UnknownSubjectError: where the log holds nothing about the person.
        InvalidChangeError: where the reason is empty or names the person.
    """
    with refusals():
        answer = await connection.execute(
            text(
                "SELECT erased, quarantined, on_hold, within_period, loans FROM gate.person_forget("
                ":applicant_ref, :basis, :months_consumer, :months_business, :reason, :actor, :request_id)"
            ),
            {
                "applicant_ref": applicant_ref,
                "basis": None if basis is None else basis.value,
                "months_consumer": periods.consumer_months,
                "months_business": periods.business_months,
                "reason": reason,
                "actor": change.actor,
                "request_id": change.request_id,
            },
        )
        row = answer.one()
    return Erasure(
        erased=row.erased,
        quarantined=row.quarantined,
        on_hold=row.on_hold,
        within_period=row.within_period,
        loans=row.loans,
    )
