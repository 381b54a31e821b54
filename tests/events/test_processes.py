"""Several dispatchers at once, and one that dies in the middle: nothing is lost."""

from __future__ import annotations

import asyncio
from collections import Counter

import asyncpg
import pytest

from tests.conftest import StartServer
from tests.events.conftest import ENVIRONMENT, change, subscribe
from tests.events.receiver import OK, Received, receiving, status
from tests.support.cluster import Database, eventually

pytestmark = pytest.mark.timeout(180)


async def _undelivered(database: Database) -> int:
    connection = await asyncpg.connect(database.owner)
    try:
        count: int = await connection.fetchval(
            "SELECT count(*) FROM gate.webhook_deliveries WHERE state <> 'delivered'"
        )
        return count
    finally:
        await connection.close()


async def _put(database: Database, subjects: int, each: int) -> None:
    connection = await asyncpg.connect(database.owner)
    try:
        await connection.execute(
            """SELECT gate.event_put(NULL, 'decision.resolved', 's' || s, jsonb_build_object('n', n))
               FROM generate_series(1, $2) n, generate_series(1, $1) s ORDER BY n, s""",
            subjects,
            each,
        )
    finally:
        await connection.close()


async def test_two_dispatchers_deliver_each_event_once_and_in_order(
    seeded_database: Database, start_server: StartServer
) -> None:
    first = await start_server(seeded_database, **ENVIRONMENT)
    await start_server(seeded_database, **ENVIRONMENT)

    async def fails_now_and_then(number: int, _: Received) -> bytes:
        return status(500) if number % 7 == 0 else OK

    refused: set[int] = set()
    async with receiving(fails_now_and_then) as receiver:
        await subscribe(first.client("admin"), receiver.url)
        await _put(seeded_database, subjects=40, each=5)

        async def over() -> bool:
            return await _undelivered(seeded_database) == 0

        await eventually(over, timeout_seconds=60)
    refused = {index for index in range(len(receiver.received)) if (index + 1) % 7 == 0}
    taken = [each for index, each in enumerate(receiver.received) if index not in refused]
    assert len({each.event_id for each in taken}) == 200
    assert max(Counter(each.event_id for each in taken).values()) == 1
    for subject in {each.event["subject"] for each in taken}:
        assert [each.event["data"]["n"] for each in taken if each.event["subject"] == subject] == [1, 2, 3, 4, 5]


async def test_a_delivery_whose_dispatcher_was_killed_in_the_middle_is_made_by_another(
    seeded_database: Database, start_server: StartServer
) -> None:
    doomed = await start_server(seeded_database, **ENVIRONMENT)
    killed = asyncio.Event()

    async def answers_once_killed(number: int, _: Received) -> bytes:
        if number == 1:
            await killed.wait()
        return OK

    async with receiving(answers_once_killed) as receiver:
        await subscribe(doomed.client("admin"), receiver.url)
        await change(doomed.client("admin"), "told", "proposed")
        await eventually(lambda: len(receiver.received) == 1)
        doomed.kill_all()
        killed.set()
        assert await _undelivered(seeded_database) == 1
        other = await start_server(seeded_database, **ENVIRONMENT)

        async def over() -> bool:
            return await _undelivered(seeded_database) == 0

        await eventually(over, timeout_seconds=30)
        event_id = receiver.received[0].event_id
        log = (await other.client("admin").get(f"/v1/events/{event_id}/deliveries")).json()["items"]
    assert receiver.ids() == [event_id, event_id]
    assert [attempt["result"] for attempt in log[0]["attempts"]] == ["delivered", None]
