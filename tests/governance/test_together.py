"""Several processes at once: exactly one of them gets its way, and the audit chain holds."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Barrier
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.changes import RefusedChangeError
from app.db.engine import make_engine
from app.governance import drafts
from app.governance.drafts import Draft, DraftState
from app.retention.audit import verify_chain
from tests.governance.people import APPROVER, CHANGE, OTHER, People, approve, in_review
from tests.support.cluster import Database, eventually

_SPAWN = multiprocessing.get_context("spawn")


def _run(target: Callable[..., None], arguments: list[tuple[Any, ...]]) -> list[Any]:
    """What the processes say, in no order. They begin together."""
    barrier, results = _SPAWN.Barrier(len(arguments)), _SPAWN.Queue()
    processes = [_SPAWN.Process(target=target, args=(*given, barrier, results)) for given in arguments]
    for process in processes:
        process.start()
    said = [results.get(timeout=90) for _ in processes]
    for process in processes:
        process.join(timeout=30)
        assert process.exitcode == 0
    return said


def _approver(url: str, people: People, draft: Draft, person_id: str, barrier: Barrier, results: Any) -> None:
    async def work() -> str:
        engine = make_engine(url, pool_size=1)
        try:
            async with engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
            await asyncio.to_thread(barrier.wait, 60)
            return (await approve(engine, people, draft, person_id)).state.value
        except RefusedChangeError as refusal:
            return type(refusal).__name__
        finally:
            await engine.dispose()

    results.put(asyncio.run(work()))


def _withdrawer(url: str, people: People, draft: Draft, person_id: str, barrier: Barrier, results: Any) -> None:
    async def work() -> str:
        engine = make_engine(url, pool_size=1)
        try:
            async with engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
            await asyncio.to_thread(barrier.wait, 60)
            async with engine.begin() as connection:
                closed = await drafts.close_draft(
                    connection, draft.draft_id, DraftState.WITHDRAWN, note="no", change=CHANGE
                )
            return closed.state.value
        except RefusedChangeError as refusal:
            return type(refusal).__name__
        finally:
            await engine.dispose()

    results.put(asyncio.run(work()))


def _contender(role: str, *given: Any) -> None:
    (_approver if role == "approve" else _withdrawer)(*given)


def _clock(url: str, barrier: Barrier, results: Any) -> None:
    async def work() -> int:
        engine = make_engine(url, pool_size=1)
        try:
            async with engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
            await asyncio.to_thread(barrier.wait, 60)
            activated = 0
            for _ in range(20):
                async with engine.begin() as connection:
                    row = (await connection.execute(text("SELECT * FROM gate.governance_tick()"))).one()
                activated += row.activated
            return activated
        finally:
            await engine.dispose()

    results.put(asyncio.run(work()))


async def _versions(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return int((await connection.execute(text("SELECT count(*) FROM gate.policies"))).scalar_one())


async def _chain_holds(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await verify_chain(await connection.execution_options(isolation_level="REPEATABLE READ"))


async def test_of_two_approvers_at_once_one_approves(
    governance: AsyncEngine, database: Database, people: People
) -> None:
    draft = await in_review(governance, people)
    rivals = [(database.governance, people, draft, person_id) for person_id in (APPROVER, OTHER)]
    said = await asyncio.to_thread(_run, _approver, rivals)
    assert sorted(said) == ["ConflictingChangeError", "active"]
    assert await _versions(governance) == 2
    await _chain_holds(governance)


async def test_an_approval_and_a_withdrawal_at_once_end_one_way(
    governance: AsyncEngine, database: Database, people: People
) -> None:
    draft = await in_review(governance, people)
    rivals = [(role, database.governance, people, draft, APPROVER) for role in ("approve", "withdraw")]
    said = await asyncio.to_thread(_run, _contender, rivals)
    async with governance.connect() as connection:
        found = await drafts.find_draft(connection, draft.draft_id)
    assert found is not None
    assert sorted(said) == sorted(["ConflictingChangeError", found.state.value])
    assert await _versions(governance) == (2 if found.state is DraftState.ACTIVE else 1)
    await _chain_holds(governance)


async def test_four_replicas_activate_a_scheduled_draft_exactly_once(
    governance: AsyncEngine, serving: AsyncEngine, database: Database, people: People
) -> None:
    at = datetime.now(UTC) + timedelta(seconds=2)
    draft = await approve(governance, people, await in_review(governance, people, effective_from=at))
    assert draft.state is DraftState.APPROVED

    async def due() -> bool:
        async with serving.connect() as connection:
            return bool((await connection.execute(text("SELECT clock_timestamp() > :at"), {"at": at})).scalar_one())

    await eventually(due)
    said = await asyncio.to_thread(_run, _clock, [(database.serving,)] * 4)
    assert sum(said) == 1
    assert await _versions(governance) == 2
    async with governance.connect() as connection:
        found = await drafts.find_draft(connection, draft.draft_id)
    assert found is not None
    assert found.state is DraftState.ACTIVE
    await _chain_holds(governance)


async def test_the_chain_is_whole_after_many_writers(
    governance: AsyncEngine, database: Database, people: People
) -> None:
    waiting = [await in_review(governance, people, 600 + step) for step in range(4)]
    rivals = [("withdraw", database.governance, people, draft, APPROVER) for draft in waiting]
    assert await asyncio.to_thread(_run, _contender, rivals) == ["withdrawn"] * 4
    await _chain_holds(governance)
