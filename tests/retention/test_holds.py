"""Legal holds: what they may name, and what the audit log says of them."""

from __future__ import annotations

from uuid import UUID

import asyncpg
import pytest

from app.db.changes import ConflictingChangeError, InvalidChangeError, UnknownSubjectError
from app.retention.holds import HoldSubject, list_holds, place_hold, release_hold
from tests.retention.decision_log import CHANGE, DecisionLog

PERSON = HoldSubject(applicant_ref="person-1")


@pytest.mark.parametrize(
    "subject", [HoldSubject(), HoldSubject(applicant_ref="person-1", channel_code="x"), HoldSubject(applicant_ref="")]
)
async def test_hold_names_exactly_one_subject(log: DecisionLog, subject: HoldSubject) -> None:
    async with log.governance() as connection:
        with pytest.raises(InvalidChangeError):
            await place_hold(connection, subject, reason="lawsuit", change=CHANGE)


@pytest.mark.parametrize("subject", [HoldSubject(channel_code="nowhere"), HoldSubject(decision_id=UUID(int=7))])
async def test_hold_on_what_is_not_there_is_refused(log: DecisionLog, subject: HoldSubject) -> None:
    async with log.governance() as connection:
        with pytest.raises(UnknownSubjectError):
            await place_hold(connection, subject, reason="lawsuit", change=CHANGE)


@pytest.mark.parametrize("reason", ["", "  ", "person-1 sues us"])
async def test_reason_is_given_and_does_not_name_the_person(log: DecisionLog, reason: str) -> None:
    async with log.governance() as connection:
        with pytest.raises(InvalidChangeError):
            await place_hold(connection, PERSON, reason=reason, change=CHANGE)
        number = await place_hold(connection, PERSON, reason="lawsuit", change=CHANGE)
        with pytest.raises(InvalidChangeError):
            await release_hold(connection, number, reason=reason, change=CHANGE)


async def test_hold_says_who_placed_and_who_released_it_and_forgets_the_person(log: DecisionLog) -> None:
    async with log.governance() as connection:
        number = await place_hold(connection, PERSON, reason="lawsuit", change=CHANGE)
        [hold] = await list_holds(connection)
        assert (hold.subject, hold.reason, hold.placed_by, hold.released_at) == (PERSON, "lawsuit", "test", None)
        await release_hold(connection, number, reason="settled", change=CHANGE)
        assert await list_holds(connection) == ()
        [ended] = await list_holds(connection, released=True)
        assert (ended.released_by, ended.release_reason, ended.subject) == ("test", "settled", HoldSubject())
        with pytest.raises(ConflictingChangeError):
            await release_hold(connection, number, reason="again", change=CHANGE)
        with pytest.raises(UnknownSubjectError):
            await release_hold(connection, 99, reason="none", change=CHANGE)


async def test_audit_log_names_holds_and_no_person(log: DecisionLog) -> None:
    async with log.governance() as connection:
        number = await place_hold(connection, PERSON, reason="lawsuit", change=CHANGE)
        await release_hold(connection, number, reason="settled", change=CHANGE)
    placed, released = await log.audit("hold.place"), await log.audit("hold.release")
    assert len(placed) == len(released) == 1
    assert "person-1" not in placed[0] + released[0]


async def test_not_even_the_owner_changes_a_hold_in_any_other_way(log: DecisionLog) -> None:
    async with log.governance() as connection:
        await place_hold(connection, PERSON, reason="lawsuit", change=CHANGE)
    for statement in (
        "DELETE FROM gate.legal_holds",
        "UPDATE gate.legal_holds SET reason = 'x'",
        "UPDATE gate.legal_holds SET released_at = now(), placed_by = 'x'",
    ):
        with pytest.raises(asyncpg.PostgresError, match="may only be released"):
            await log.arrange.execute(statement)
