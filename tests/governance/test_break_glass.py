"""Break-glass: at once, with a reason, for a time; confirmed by a second person or undone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.changes import ConflictingChangeError, ForbiddenChangeError, InvalidChangeError
from app.domain.signing import Statement
from app.governance.break_glass import (
    BreakGlass,
    confirm_break_glass,
    end_break_glass,
    find_break_glass,
    open_break_glass,
)
from app.governance.signature import Signature, new_nonce
from app.policies import store
from tests.governance.people import APPROVER, AUTHOR, CHANGE, People, content
from tests.support.cluster import eventually


async def _break(
    engine: AsyncEngine,
    people: People,
    *,
    lasts: timedelta = timedelta(hours=1),
    score: int = 600,
    reason: str = "outage",
) -> BreakGlass:
    wanted, nonce, end = content(score), new_nonce(), datetime.now(UTC) + lasts
    statement = Statement(act="break-glass", subject="policy", nonce=nonce, digest=wanted.digest, moment=end)
    async with engine.begin() as connection:
        return await open_break_glass(
            connection,
            wanted,
            signature=people.sign(AUTHOR, statement),
            nonce=nonce,
            expires_at=end,
            expected_active=None,
            reason=reason,
            change=CHANGE,
        )


def _confirmation(people: People, opened: BreakGlass, person_id: str) -> Signature:
    return people.sign(
        person_id,
        Statement(
            act="confirm", subject=f"break-glass/{opened.break_glass_id}", nonce=opened.nonce, digest=opened.digest
        ),
    )


async def _confirm(engine: AsyncEngine, people: People, opened: BreakGlass, person_id: str) -> BreakGlass:
    async with engine.begin() as connection:
        return await confirm_break_glass(
            connection,
            opened.break_glass_id,
            signature=_confirmation(people, opened, person_id),
            document_digest=opened.digest,
            comment=None,
            change=CHANGE,
        )


async def _tick(engine: AsyncEngine) -> Any:
    async with engine.begin() as connection:
        return (await connection.execute(text("SELECT * FROM gate.governance_tick()"))).one()


async def _digest(engine: AsyncEngine, version: int | None = None) -> bytes:
    async with engine.connect() as connection:
        found = await (store.active_policy(connection) if version is None else store.find_policy(connection, version))
    assert found is not None
    return found.summary.digest


async def test_one_person_changes_the_policy_at_once_and_it_is_seen(governance: AsyncEngine, people: People) -> None:
    opened = await _break(governance, people)
    assert (opened.state, opened.version, opened.returns_to) == ("open", 2, 1)
    assert await _digest(governance) == content(600).digest
    assert (await _tick(governance)).break_glass_open == 1


async def test_what_nobody_confirms_is_undone_when_it_expires(
    governance: AsyncEngine, serving: AsyncEngine, people: People
) -> None:
    opened = await _break(governance, people, lasts=timedelta(seconds=1))

    async def undone() -> bool:
        return (await _tick(serving)).reverted == 1

    await eventually(undone)
    assert await _digest(governance) == await _digest(governance, 1)
    async with governance.connect() as connection:
        found = await find_break_glass(connection, opened.break_glass_id)
    assert found is not None
    assert found.state == "reverted"
    assert (await _tick(serving)).break_glass_open == 0


async def test_what_a_second_person_confirms_stays(governance: AsyncEngine, people: People) -> None:
    opened = await _break(governance, people)
    with pytest.raises(ForbiddenChangeError, match="who broke"):
        await _confirm(governance, people, opened, AUTHOR)
    assert (await _confirm(governance, people, opened, APPROVER)).confirmed_by == APPROVER
    assert await _digest(governance) == opened.digest


async def test_it_can_be_ended_before_its_time(governance: AsyncEngine, people: People) -> None:
    opened = await _break(governance, people)
    async with governance.begin() as connection:
        await end_break_glass(connection, opened.break_glass_id, reason="over", change=CHANGE)
    assert await _digest(governance) == await _digest(governance, 1)


async def test_there_is_one_at_a_time(governance: AsyncEngine, people: People) -> None:
    await _break(governance, people)
    with pytest.raises(ConflictingChangeError, match="is open"):
        await _break(governance, people, score=610)


@pytest.mark.parametrize(
    "wrong", [{"reason": " "}, {"lasts": timedelta(days=30)}, {"lasts": timedelta(seconds=-1)}], ids=str
)
async def test_it_needs_a_reason_and_a_near_end(governance: AsyncEngine, people: People, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidChangeError):
        await _break(governance, people, **wrong)
