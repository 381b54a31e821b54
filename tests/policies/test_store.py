"""Publishing: versions that never change, one of them active, and exactly one winner."""

from __future__ import annotations

import multiprocessing
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from multiprocessing.synchronize import Barrier
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.channels import tiers
from app.channels.tiers import Cause, Scope
from app.db.changes import ConflictingChangeError, InvalidChangeError, StaleChangeError
from app.db.engine import make_engine
from app.domain.canonical import canonical_bytes
from app.domain.compiler import compile_policy
from app.policies import store
from app.policies.defaults import default_policy
from app.policies.store import Published
from tests.channels.builders import CHANGE, register
from tests.support.cluster import Database

ROUNDS = 6


def _with_score(score: int) -> dict[str, Any]:
    document = default_policy()
    rule = next(rule for rule in document["rules"] if rule["code"] == "BU03")
    rule["thresholds"]["general"] = score
    return document


async def _publish(engine: AsyncEngine, document: object, expected_active: int | None = None) -> Published:
    async with engine.begin() as connection:
        return await store.publish(
            connection, compile_policy(document), expected_active=expected_active, comment="why", change=CHANGE
        )


async def test_the_first_policy_is_version_one_and_active(governance: AsyncEngine, serving: AsyncEngine) -> None:
    published = await _publish(governance, default_policy())
    assert (published.version, published.changed, published.based_on) == (1, True, None)
    async with serving.connect() as connection:
        active = await store.active_policy(connection)
    assert active is not None
    assert active.summary.active
    assert (active.summary.comment, active.summary.created_by) == ("why", "tester")
    assert active.summary.digest == sha256(active.text.encode()).digest()
    assert active.text.encode() == canonical_bytes(compile_policy(default_policy()).document.document())


async def test_the_next_version_retires_the_one_before_at_the_same_moment(governance: AsyncEngine) -> None:
    await _publish(governance, default_policy())
    published = await _publish(governance, _with_score(640), 1)
    assert [str(each) for each in published.differences] == ["BU03 bureau.score for general: 620 -> 640"]
    async with governance.connect() as connection:
        new, old = await store.list_policies(connection)
        assert (new.version, old.version) == (2, 1)
        assert old.retired_at == new.activated_at
        assert new.activated_at is not None
        assert old.activated_at is not None
        moment = timedelta(microseconds=1)
        versions = [
            found and found.version
            for found in [
                await store.policy_at(connection, old.activated_at - moment),
                await store.policy_at(connection, old.activated_at),
                await store.policy_at(connection, new.activated_at - moment),
                await store.policy_at(connection, new.activated_at),
            ]
        ]
    assert versions == [None, 1, 1, 2]


async def test_the_same_document_again_makes_no_version(governance: AsyncEngine) -> None:
    await _publish(governance, default_policy())
    reordered = dict(reversed(list(default_policy().items())))
    again = await _publish(governance, reordered)
    assert (again.version, again.changed, again.differences) == (1, False, ())


async def test_a_change_made_on_another_version_is_refused(governance: AsyncEngine) -> None:
    with pytest.raises(StaleChangeError):
        await _publish(governance, default_policy(), 1)
    await _publish(governance, default_policy())
    await _publish(governance, _with_score(640))
    for expected in (1, 3, 2**40):
        with pytest.raises(StaleChangeError):
            await _publish(governance, _with_score(650), expected)


async def test_a_version_never_changes(governance: AsyncEngine, database: Database) -> None:
    await _publish(governance, default_policy())
    owner = await asyncpg.connect(database.owner)
    try:
        for attack in ("UPDATE gate.policies SET document = '{}'", "DELETE FROM gate.policies"):
            with pytest.raises(asyncpg.PostgresError) as refused:
                await owner.execute(attack)
            assert refused.value.sqlstate == "CG403"
    finally:
        await owner.close()


async def test_the_database_refuses_a_document_that_is_not_what_was_hashed(database: Database) -> None:
    connection = await asyncpg.connect(database.governance)
    try:
        with pytest.raises(asyncpg.PostgresError) as refused:
            await connection.execute(
                "SELECT gate.policy_publish('p', '{}', $1, NULL, NULL, 'me', 'r')", sha256(b"{ }").digest()
            )
        assert refused.value.sqlstate == "CG422"
    finally:
        await connection.close()


async def test_a_policy_without_a_tier_that_channels_have_is_refused(governance: AsyncEngine) -> None:
    document = default_policy()
    await _publish(governance, document)
    await register(governance)
    gold = _renamed_tier(document, "risk", "gold")
    async with governance.begin() as connection:
        with pytest.raises(InvalidChangeError):
            await _assign(connection, "gold")
    async with governance.begin() as connection:
        await _assign(connection, "risk")
    with pytest.raises(ConflictingChangeError):
        await _publish(governance, gold)
    async with governance.begin() as connection:
        await connection.execute(
            text("SELECT gate.channel_set_state('web', 'exited', NULL, 'me', 'over', 'r')"),
        )
    assert (await _publish(governance, gold)).changed


async def test_a_worker_counts_while_its_lease_holds_and_confirms_by_revision(
    governance: AsyncEngine, database: Database
) -> None:
    published = await _publish(governance, default_policy())
    connection = await asyncpg.connect(database.serving)
    beat = "SELECT gate.worker_beat($1, 'host', $2, 'engine', now(), $3, 1, $4)"
    try:
        for number, (revision, lease) in enumerate(((0, 60), (published.revision, 60), (0, -1)), 1):
            worker_id = f"00000000-0000-0000-0000-00000000000{number}"
            await connection.execute(beat, worker_id, number, revision, timedelta(seconds=lease))
    finally:
        await connection.close()
    async with governance.connect() as reading:
        rollout = await store.read_rollout(reading, published.revision)
    assert [worker.pid for worker in rollout.workers] == [1, 2]
    assert [worker.pid for worker in rollout.pending] == [1]
    assert rollout.policy_version == 1


async def test_of_two_processes_with_the_same_precondition_exactly_one_publishes(
    governance: AsyncEngine, database: Database
) -> None:
    await _publish(governance, default_policy())
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    results: Any = context.Queue()
    rivals = [context.Process(target=_rival, args=(database.governance, number, barrier, results)) for number in (1, 2)]
    for rival in rivals:
        rival.start()
    outcomes = [results.get(timeout=60) for _ in range(2 * ROUNDS)]
    for rival in rivals:
        rival.join(timeout=30)
        assert rival.exitcode == 0
    for round_number in range(ROUNDS):
        assert sorted(won for each, won in outcomes if each == round_number) == [False, True]
    async with governance.connect() as connection:
        versions = await store.list_policies(connection)
    assert [each.version for each in versions] == list(range(ROUNDS + 1, 0, -1))
    assert [each.based_on for each in versions] == [*range(ROUNDS, 0, -1), None]


def _rival(url: str, number: int, barrier: Barrier, results: Any) -> None:
    """One process of two: in each round, publish on top of the version that both have seen."""
    import asyncio

    async def compete() -> None:
        engine = make_engine(url, pool_size=1)
        for round_number in range(ROUNDS):
            document = _with_score(500 + 10 * round_number + number)
            async with engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
            await asyncio.to_thread(barrier.wait, 30)
            try:
                await _publish(engine, document, round_number + 1)
                results.put((round_number, True))
            except StaleChangeError:
                results.put((round_number, False))
            await asyncio.to_thread(barrier.wait, 30)
        await engine.dispose()

    asyncio.run(compete())


async def _assign(connection: Any, tier: str) -> None:
    await tiers.assign(
        connection,
        "web",
        Scope(),
        tier=tier,
        valid_from=datetime.now(UTC),
        valid_to=None,
        cause=Cause.MANUAL,
        reason="test",
        change=CHANGE,
    )


def _renamed_tier(document: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    """The same policy with another name for one tier."""

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {new if key == old else key: renamed(item) for key, item in value.items()}
        if isinstance(value, list):
            return [renamed(item) for item in value]
        return new if value == old else value

    result: dict[str, Any] = renamed(deepcopy(document))
    return result
