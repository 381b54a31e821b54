"""Promise 4 of a response and the rollout: one current version behind each decision, and every worker follows."""

from __future__ import annotations

import asyncio
import json
from itertools import count

import asyncpg
import pytest

from app.policies.defaults import default_policy
from app.rollout.keeper import CHANNEL
from tests.conftest import StartServer
from tests.support.applications import application
from tests.support.cluster import Database, eventually
from tests.support.server import Server

pytestmark = pytest.mark.xdist_group("processes")

_MIXED = """
    SELECT d.application_id FROM gate.decisions d
    LEFT JOIN gate.policy_activations a ON a.version = d.policy_version
    WHERE convert_from(d.response, 'UTF8')::jsonb ->> 'policy_version' <> d.policy_version::text
       OR convert_from(d.record, 'UTF8')::jsonb ->> 'policy_version' <> d.policy_version::text
       OR a.version IS NULL
"""

_COMMITTED_UNDER_A_RETIRED_VERSION = """
    SELECT d.application_id FROM gate.decisions d JOIN gate.policies n ON n.version = d.policy_version + 1
    WHERE pg_xact_commit_timestamp(d.xmin) > pg_xact_commit_timestamp(n.xmin)
"""

_ACCEPTED_AFTER_THE_SUSPENSION = """
    SELECT d.application_id FROM gate.decisions d JOIN gate.channels c USING (channel_id)
    WHERE c.code = 'app-store' AND c.state = 'suspended' AND d.outcome = 'accept'
      AND pg_xact_commit_timestamp(d.xmin) > pg_xact_commit_timestamp(c.xmin)
"""


async def _fetch(database: Database, query: str, *arguments: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(database.superuser)
    try:
        rows: list[asyncpg.Record] = await connection.fetch(query, *arguments)
        return rows
    finally:
        await connection.close()


class Load:
    """Origination systems that go on sending until they are told to stop; `answers` in order of arrival."""

    def __init__(self, server: Server, *, senders: int, channel: str = "app-store") -> None:
        self.answers: list[dict[str, object]] = []
        self._server, self._channel = server, channel
        self._stop = asyncio.Event()
        self._numbers = count()
        self._tasks = [asyncio.create_task(self._send()) for _ in range(senders)]

    async def _send(self) -> None:
        client = self._server.client()
        while not self._stop.is_set():
            body = json.dumps(application(f"{self._channel}-{next(self._numbers)}", channel_code=self._channel))
            answer = await client.post("/v1/decisions", content=body)
            assert answer.status_code == 200, answer.text
            self.answers.append(answer.json())

    async def stop(self) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)


def _policy_with(score: int) -> dict[str, object]:
    policy = default_policy()
    rule = next(rule for rule in policy["rules"] if rule["code"] == "BU03")
    rule["thresholds"]["prime"] = score
    return policy


async def test_publishing_under_load_reaches_all_workers_and_no_decision_mixes_or_outlives_a_version(
    seeded_database: Database, start_server: StartServer
) -> None:
    server = await start_server(seeded_database, workers=4, GATE_RATE_LIMIT_PER_SECOND="0")
    author = server.client("policy-author")
    load = Load(server, senders=12)
    await eventually(lambda: len(load.answers) > 50, timeout_seconds=60)
    for score in range(560, 580):
        published = await author.post("/v1/policies?wait=10", json=_policy_with(score))
        assert published.status_code == 200, published.text
    await load.stop()

    assert await _fetch(seeded_database, _MIXED) == []
    # Commit order is the truth: after an activation has committed, nothing commits under the version before.
    late = await _fetch(seeded_database, _COMMITTED_UNDER_A_RETIRED_VERSION)
    assert late == []
    assert {answer["policy_version"] for answer in load.answers} > {1}


async def test_nothing_is_accepted_for_a_channel_after_its_suspension_is_answered(
    seeded_database: Database, start_server: StartServer
) -> None:
    server = await start_server(seeded_database, workers=4, GATE_RATE_LIMIT_PER_SECOND="0")
    load = Load(server, senders=12)
    await eventually(lambda: len(load.answers) > 50, timeout_seconds=60)
    answer = await server.client("admin").post(
        "/v1/channels/app-store/state", json={"state": "suspended", "reason": "kill switch"}
    )
    assert answer.status_code == 200, answer.text
    client = server.client()
    after = await asyncio.gather(*(client.post("/v1/decisions", json=application(f"after-{n}")) for n in range(100)))
    await load.stop()
    assert {one.json()["outcome"] for one in after} == {"reject"}
    assert {one.json()["reasons"][0]["code"] for one in after} == {"CH01"}
    before = {one["outcome"] for one in load.answers[:50]}
    assert before == {"accept"}
    # Those that were on their way at that moment, too: none is committed as an accept after the suspension has been.
    assert await _fetch(seeded_database, _ACCEPTED_AFTER_THE_SUSPENSION) == []
    suspended = "SELECT state FROM gate.channels WHERE code = 'app-store'"
    assert [row["state"] for row in await _fetch(seeded_database, suspended)] == ["suspended"]


async def test_a_lost_notification_is_healed_by_the_poll(seeded_database: Database, start_server: StartServer) -> None:
    server = await start_server(seeded_database, workers=2)
    connection = await asyncpg.connect(seeded_database.superuser)
    heard: list[object] = []
    await connection.add_listener(CHANNEL, lambda *notification: heard.append(notification))
    # The same change without its notification, as if it had been lost on the way.
    definition = await connection.fetchval("SELECT pg_get_functiondef('gate.next_revision'::regproc)")
    unheard = definition.replace("PERFORM pg_notify('gate_snapshot', v_revision::text);", "")
    assert definition.count("pg_notify") == 1
    assert "pg_notify" not in unheard
    await connection.execute(unheard)
    await connection.execute("SELECT gate.channel_set_state('app-store', 'suspended', NULL, 'test', 'unheard', NULL)")
    revision = await connection.fetchval("SELECT revision FROM gate.state")

    async def confirmed() -> bool:
        workers = (await server.client("admin").get("/v1/rollout")).json()["workers"]
        return len(workers) == 2 and all(worker["snapshot_revision"] == revision for worker in workers)

    await eventually(confirmed, timeout_seconds=5)
    assert heard == []
    await connection.execute(definition)
    await connection.execute("SELECT gate.channel_set_state('app-store', 'active', NULL, 'test', 'heard', NULL)")
    await eventually(lambda: len(heard) == 1)
    await connection.close()


async def test_a_worker_past_its_lease_decides_nothing(seeded_database: Database, start_server: StartServer) -> None:
    server = await start_server(
        seeded_database, GATE_SNAPSHOT_POLL_SECONDS="0.5", GATE_LEASE_SECONDS="1", GATE_REGISTRY_LEASE_SECONDS="2"
    )
    body = application("late")
    superuser = await asyncpg.connect(seeded_database.superuser)
    await superuser.execute("REVOKE EXECUTE ON FUNCTION gate.worker_beat FROM channel_gate_serving")

    async def refuses() -> bool:
        answer = await server.client().post("/v1/decisions", json=body)
        return answer.status_code == 503 and answer.json()["type"].endswith("not-ready")

    await eventually(refuses)
    assert (await server.client().get("/readyz")).status_code == 503
    await superuser.execute("GRANT EXECUTE ON FUNCTION gate.worker_beat TO channel_gate_serving")
    await superuser.close()
    await server.wait_ready()
    assert (await server.client().post("/v1/decisions", json=body)).status_code == 200
