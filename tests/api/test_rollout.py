"""Who serves what."""

from __future__ import annotations

import httpx

from app.policies.defaults import default_policy
from tests.api.conftest import Service
from tests.conftest import StartServer
from tests.support.cluster import Database, eventually


async def test_the_rollout_lists_each_live_worker_with_what_it_serves(service: Service) -> None:
    client: httpx.AsyncClient = await service.client("origination")

    async def settled() -> dict[str, object] | None:
        answer: dict[str, object] = (await client.get("/v1/rollout")).json()
        return answer if answer["confirmed"] and answer["workers"] else None

    answer = await eventually(settled)
    (worker,) = answer["workers"]
    assert (worker["policy_version"], worker["confirmed"]) == (1, True)
    assert worker["snapshot_revision"] == answer["revision"]
    assert worker["lease_until"] > worker["seen_at"]


async def test_a_change_of_a_channel_is_rolled_out_like_a_policy(service: Service) -> None:
    admin = await service.client("admin")
    before = (await admin.get("/v1/rollout")).json()["revision"]
    moved = await admin.post("/v1/channels/app-store/state", json={"state": "suspended", "reason": "test"})
    assert moved.status_code == 200

    async def confirmed() -> bool:
        rollout = (await admin.get("/v1/rollout")).json()
        return bool(rollout["revision"] > before and rollout["confirmed"])

    assert await eventually(confirmed)


async def test_the_rollout_is_not_public(service: Service) -> None:
    nobody = await service.client(None)
    assert (await nobody.get("/v1/rollout")).status_code == 401


async def test_a_publish_that_waits_answers_when_every_process_serves_it(
    seeded_database: Database, start_server: StartServer
) -> None:
    server = await start_server(seeded_database, workers=2)
    author = server.client("policy-author")

    async def both_live() -> bool:
        return len((await author.get("/v1/rollout")).json()["workers"]) == 2

    await eventually(both_live)
    document = default_policy() | {"name": "another"}
    published = await author.post("/v1/policies", json=document, params={"wait": 10}, headers={"If-Match": '"1"'})
    assert published.status_code == 200, published.text
    assert (published.json()["rollout"]["live_workers"], published.json()["rollout"]["pending"]) == (2, [])
    for _ in range(12):
        async with httpx.AsyncClient(base_url=server.base_url) as fresh:
            assert (await fresh.get("/readyz")).json()["policy_version"] == 2
