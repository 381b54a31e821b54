"""Promises 1 and 2 of a response, with real processes: durable before it is answered, and once for each key."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections import Counter
from itertools import count

import asyncpg
import httpx
import pytest

from tests.conftest import StartServer
from tests.support.applications import application
from tests.support.cluster import Database, eventually
from tests.support.server import Server

pytestmark = pytest.mark.xdist_group("processes")


_COUNT_REVERSED = "SELECT 1 FROM gate.decisions WHERE application_id LIKE 'R-%'"


async def _fetch(database: Database, query: str, *arguments: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(database.owner)
    try:
        rows: list[asyncpg.Record] = await connection.fetch(query, *arguments)
        return rows
    finally:
        await connection.close()


async def _post(client: httpx.AsyncClient, body: dict[str, object] | bytes) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await client.post("/v1/decisions", content=content, headers={"Content-Type": "application/json"})


@pytest.fixture
async def server(seeded_database: Database, start_server: StartServer) -> Server:
    return await start_server(seeded_database, workers=4, GATE_RATE_LIMIT_PER_SECOND="0")


async def test_200_identical_requests_over_4_processes_are_one_row_and_identical_bytes(shared_server: Server) -> None:
    client = shared_server.client()
    body = json.dumps(application("same")).encode()
    answers = await asyncio.gather(*(_post(client, body) for _ in range(200)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert [answer.headers.get("idempotent-replayed") for answer in answers].count(None) == 1
    rows = await _fetch(shared_server.database, "SELECT response FROM gate.decisions WHERE application_id = $1", "same")
    assert [row["response"] for row in rows] == [answers[0].content]


async def test_time_stamps_key_order_and_nulls_do_not_make_another_request(shared_server: Server) -> None:
    client = shared_server.client()
    body = application("stamped")
    first = await _post(client, body)
    later = dict(reversed(body.items())) | {"submitted_at": "2026-01-01T00:00:00Z", "sub_id": None, "revision": 1}
    second = await _post(client, later)
    assert second.status_code == 200
    assert second.content == first.content


async def test_a_changed_body_is_a_409_and_a_new_revision_is_decided_anew(shared_server: Server) -> None:
    client = shared_server.client()
    body = application("revised")
    first = await _post(client, body)
    changed = await _post(client, body | {"amount": 4_000_000})
    assert (changed.status_code, changed.json()["type"]) == (409, "urn:channel-gate:problem:application-conflict")
    revised = await _post(client, body | {"amount": 4_000_000, "revision": 2})
    assert revised.status_code == 200
    assert revised.json()["decision_id"] != first.json()["decision_id"]
    stale = await _post(client, body | {"amount": 3_000_000})
    assert stale.status_code == 409
    again = await _post(client, body)
    assert again.content == first.content


async def test_duplicates_in_reversed_order_from_4_processes_meet_no_deadlock(shared_server: Server) -> None:
    clients = [shared_server.client() for _ in range(8)]
    bodies = [json.dumps(application(f"R-{n}")).encode() for n in range(120)]

    async def send_all(client: httpx.AsyncClient, order: list[bytes]) -> list[httpx.Response]:
        return await asyncio.gather(*(_post(client, body) for body in order))

    rounds = await asyncio.gather(
        *(send_all(client, bodies if n % 2 else bodies[::-1]) for n, client in enumerate(clients))
    )
    answers = [answer for one in rounds for answer in one]
    assert Counter(answer.status_code for answer in answers) == {200: len(clients) * len(bodies)}
    assert len({answer.content for answer in answers}) == len(bodies)
    assert len(await _fetch(shared_server.database, _COUNT_REVERSED)) == len(bodies)


async def test_the_answer_is_the_same_after_a_restart(server: Server) -> None:
    body = application("A-1")
    first = await _post(server.client(), body)
    assert server.terminate() == 0
    server.start()
    await server.wait_ready()
    assert (await _post(server.client(), body)).content == first.content


async def test_after_kill_9_every_acknowledged_decision_is_stored_once_and_the_others_can_be_repeated(
    server: Server,
) -> None:
    acknowledged: dict[str, bytes] = {}
    sent: dict[str, bytes] = {}
    numbers = count()

    async def keep_sending(client: httpx.AsyncClient) -> None:
        while True:
            application_id = f"A-{next(numbers)}"
            sent[application_id] = json.dumps(application(application_id)).encode()
            try:
                answer = await _post(client, sent[application_id])
            except httpx.TransportError:
                return
            assert answer.status_code == 200
            acknowledged[application_id] = answer.content

    senders = [asyncio.create_task(keep_sending(server.client())) for _ in range(32)]
    await eventually(lambda: len(acknowledged) > 300, timeout_seconds=60)
    server.kill_all()
    await asyncio.gather(*senders)
    assert len(sent) > len(acknowledged)

    rows = await _fetch(server.database, "SELECT application_id, response FROM gate.decisions")
    stored = {row["application_id"]: row["response"] for row in rows}
    assert len(rows) == len(stored)
    assert {key: stored.get(key) for key in acknowledged} == acknowledged

    server.start()
    await server.wait_ready()
    client = server.client()
    again = await asyncio.gather(*(_post(client, body) for body in sent.values()))
    assert {answer.status_code for answer in again} == {200}
    by_id = {answer.json()["application_id"]: answer.content for answer in again}
    assert {key: by_id[key] for key in stored} == stored
    assert len(await _fetch(server.database, "SELECT 1 FROM gate.decisions")) == len(sent)


async def test_a_killed_worker_takes_no_acknowledged_decision_with_it_and_is_replaced(server: Server) -> None:
    acknowledged: dict[str, bytes] = {}
    generator = random.Random(7)
    stop = asyncio.Event()
    numbers = count()

    async def keep_sending() -> None:
        client = server.client()
        while not stop.is_set():
            application_id = f"A-{next(numbers)}"
            body = json.dumps(application(application_id)).encode()
            while True:
                try:
                    answer = await _post(client, body)
                except httpx.TransportError:
                    continue
                break
            assert answer.status_code == 200
            acknowledged[application_id] = answer.content

    senders = [asyncio.create_task(keep_sending()) for _ in range(16)]
    for _ in range(3):
        before = len(acknowledged)
        await eventually(lambda before=before: len(acknowledged) > before + 100, timeout_seconds=60)
        pids = set(server.worker_pids())
        os.kill(generator.choice(sorted(pids)), signal.SIGKILL)
        await eventually(lambda pids=pids: len(set(server.worker_pids()) & pids) == 3)
        await eventually(lambda: len(server.worker_pids()) == 4)
    stop.set()
    await asyncio.gather(*senders)
    rows = await _fetch(server.database, "SELECT application_id, response FROM gate.decisions")
    assert len(rows) == len({row["application_id"] for row in rows})
    assert {row["application_id"]: row["response"] for row in rows} == acknowledged
