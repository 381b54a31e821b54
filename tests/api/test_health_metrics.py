"""Liveness, readiness and metrics of the running service: with four workers, with one killed, without its database."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.journal.call import FLUSH_FUNCTION
from tests.api.conftest import Service as OwnService
from tests.support.applications import application
from tests.support.cluster import SEEDED_TEMPLATE, Cluster, eventually
from tests.support.server import Server, free_port

pytestmark = pytest.mark.xdist_group("edge-workers")

NAMES = {
    "gate_build_info": "gauge",
    "gate_channels_expiring": "gauge",
    "gate_circuit_open": "gauge",
    "gate_conflicts": "counter",
    "gate_decision_reasons": "counter",
    "gate_decision_seconds": "histogram",
    "gate_decisions": "counter",
    "gate_flush_failures": "counter",
    "gate_flush_rows": "histogram",
    "gate_flush_seconds": "histogram",
    "gate_http_request_seconds": "histogram",
    "gate_http_requests": "counter",
    "gate_partitions_ahead_months": "gauge",
    "gate_poison": "counter",
    "gate_queue_depth": "gauge",
    "gate_http_connections_ended": "counter",
    "gate_rate_limited": "counter",
    "gate_replays": "counter",
    "gate_snapshot_age_seconds": "gauge",
    "gate_snapshot_revision": "gauge",
    "gate_snapshot_version": "gauge",
    "gate_unknown_channel": "counter",
    "gate_workers_live": "gauge",
}
"""Dashboard and alerts are written against these."""


@dataclass(frozen=True)
class Fleet:
    """A server of four workers, and the port that its parent answers /metrics on."""

    server: Server
    metrics_port: int

    async def scrape(self, *, parent: bool = False) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
        """Samples by name and labels."""
        base = f"http://127.0.0.1:{self.metrics_port}" if parent else self.server.base_url
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"{base}/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain; version=")
        samples: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                samples.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
        return samples

    async def total(self, name: str, *, parent: bool = False, **labels: str) -> float:
        """The sum over the samples that have these labels."""
        found = (await self.scrape(parent=parent)).get(name, {})
        return sum(value for pairs, value in found.items() if labels.items() <= dict(pairs).items())

    async def decide(self, prefix: str, count: int, **changes: object) -> None:
        """Send applications over many connections, so that every worker gets some."""
        clients = [self.server.client() for _ in range(16)]
        answers = await asyncio.gather(
            *(clients[n % 16].post("/v1/decisions", json=application(f"{prefix}-{n}", **changes)) for n in range(count))
        )
        assert {answer.status_code for answer in answers} == {200}


@pytest.fixture(scope="module")
async def fleet(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    database = await cluster.create(SEEDED_TEMPLATE)
    log: Path = tmp_path_factory.mktemp("fleet") / "server.log"
    port = free_port()
    environment = {"GATE_RATE_LIMIT_PER_SECOND": "0", "GATE_METRICS_PORT": str(port)}
    server = Server(database, log, workers=4, environment=environment)
    server.start()
    await server.wait_ready()
    fleet = Fleet(server, port)
    await eventually(lambda: _is_live(fleet, 4), timeout_seconds=60)
    yield fleet
    await server.close()
    await cluster.drop(database)


async def _is_live(fleet: Fleet, workers: int) -> bool:
    return await fleet.total("gate_workers_live") == workers


async def test_every_metric_has_its_name_and_kind(fleet: Fleet) -> None:
    await fleet.decide("named", 1, applicant={"birth_date": "2015-01-01"})
    async with httpx.AsyncClient() as client:
        texts = [
            (await client.get(f"{base}/metrics")).text
            for base in (fleet.server.base_url, f"http://127.0.0.1:{fleet.metrics_port}")
        ]
    for text in texts:
        kinds = {family.name: family.type for family in text_string_to_metric_families(text)}
        assert {name: kinds.get(name) for name in NAMES} == NAMES
        assert all(family.documentation for family in text_string_to_metric_families(text))


async def test_the_workers_sum_up_to_what_was_sent_also_after_one_was_killed(fleet: Fleet) -> None:
    before = await fleet.scrape()
    accepted = {"channel": "search-ads", "tier": "general", "outcome": "accept"}
    await fleet.decide("sum", 120, channel_code="search-ads", amount=2_000_000)
    for parent in (False, True, False):
        assert await fleet.total("gate_decisions_total", parent=parent, **accepted) == 120
    timed = sum(before.get("gate_decision_seconds_count", {}).values()) + 120
    assert await fleet.total("gate_decision_seconds_count") == timed
    assert await fleet.total("gate_http_requests_total", route="/v1/decisions", status="200") >= 120

    killed = fleet.server.worker_pids()[0]
    os.kill(killed, signal.SIGKILL)

    def is_replaced() -> bool:
        pids = fleet.server.worker_pids()
        return killed not in pids and len(pids) == 4

    await eventually(is_replaced, timeout_seconds=60)
    await eventually(lambda: _is_live(fleet, 4), timeout_seconds=60)
    for parent in (False, True):
        assert await fleet.total("gate_decisions_total", parent=parent, **accepted) == 120
    await fleet.decide("more", 40, channel_code="search-ads", amount=2_000_000)
    assert await fleet.total("gate_decisions_total", **accepted) == 160
    assert await fleet.total("gate_decision_seconds_count") == timed + 40


async def test_replays_conflicts_and_strange_channels_are_counted_apart(fleet: Fleet) -> None:
    client = fleet.server.client()
    names = ("gate_replays_total", "gate_conflicts_total", "gate_unknown_channel_total", "gate_decisions_total")
    before = [await fleet.total(name) for name in names]
    body = application("counted")
    statuses = [
        (await client.post("/v1/decisions", json=each)).status_code
        for each in (body, body, body, body | {"amount": 4_000_000}, body | {"channel_code": "nowhere", "revision": 2})
    ]
    assert statuses == [200, 200, 200, 409, 422]
    assert [await fleet.total(name) - then for name, then in zip(names, before, strict=True)] == [2, 1, 1, 1]


async def test_a_reject_counts_its_reasons(fleet: Fleet) -> None:
    before = await fleet.total("gate_decision_reasons_total", code="AP02")
    body = application("reasons", applicant={"birth_date": "2015-01-01"})
    decision = (await fleet.server.client().post("/v1/decisions", json=body)).json()
    assert decision["outcome"] == "reject"
    assert await fleet.total("gate_decision_reasons_total", code="AP02") == before + 1


async def test_strange_paths_and_methods_do_not_grow_the_metrics(fleet: Fleet) -> None:
    client = fleet.server.client()
    for n in range(30):
        await client.request("PURGE", f"/coffee/{n}")
        await client.get(f"/v1/channels/unheard-of-{n}")
    series = (await fleet.scrape())["gate_http_requests_total"]
    routes = {dict(labels)["route"] for labels in series}
    methods = {dict(labels)["method"] for labels in series}
    assert {"unmatched", "/v1/channels/{code}"} <= routes
    assert not [route for route in routes if "coffee" in route or "unheard" in route]
    assert "other" in methods
    assert "PURGE" not in methods


async def test_ready_says_under_which_version(fleet: Fleet) -> None:
    client = fleet.server.client(None)
    ready = await client.get("/readyz")
    assert ready.json()["status"] == "ready"
    assert ready.json()["policy_version"] == await fleet.total("gate_snapshot_version") / 4
    assert (await client.get("/livez")).json() == {"status": "alive"}
    for path in ("/livez", "/readyz", "/metrics"):
        assert (await client.get(path)).headers["cache-control"] == "no-store"


async def test_without_its_database_the_service_lives_decides_nothing_and_recovers(service: OwnService) -> None:
    client, nobody = await service.client("origination"), await service.client(None)
    body = application("away")
    before = await client.post("/v1/decisions", json=body | {"application_id": "before"})
    assert before.status_code == 200, before.text
    superuser = await asyncpg.connect(service.database.superuser.replace(service.database.name, "postgres"))
    name = service.database.name
    try:
        await superuser.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        await superuser.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)

        decision = await client.post("/v1/decisions", json=body)
        assert (decision.status_code, decision.json()["type"]) == (503, "urn:channel-gate:problem:log-unavailable")
        assert int(decision.headers["retry-after"]) >= 1
        assert "gate_circuit_open 1.0" in (await nobody.get("/metrics")).text
        refused = await nobody.get("/readyz")
        assert refused.status_code == 503
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["type"] == "urn:channel-gate:problem:not-ready"
        assert refused.headers["retry-after"] == "1"
        assert (await nobody.get("/livez")).status_code == 200
        read = await client.get("/v1/decisions")
        assert (read.status_code, read.json()["type"]) == (503, "urn:channel-gate:problem:database-unavailable")
    finally:
        await superuser.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        await superuser.close()

    async def ready() -> bool:
        return (await nobody.get("/readyz")).status_code == 200

    await eventually(ready, timeout_seconds=30)
    again = await client.post("/v1/decisions", json=body)
    assert again.status_code == 200
    assert "idempotent-replayed" not in again.headers


async def test_readiness_names_why_the_decision_log_is_away(service: OwnService) -> None:
    nobody = await service.client(None)
    owner = await asyncpg.connect(service.database.owner)
    superuser = await asyncpg.connect(service.database.superuser)
    try:
        await owner.execute(f"REVOKE EXECUTE ON FUNCTION {FLUSH_FUNCTION} FROM channel_gate_serving")
        await owner.execute(f"ALTER FUNCTION {FLUSH_FUNCTION} RENAME TO journal_flush_before")
        await superuser.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'channel-gate journal'"
            " AND datname = current_database()"
        )
        client = await service.client("origination")

        async def named() -> bool:
            await client.post("/v1/decisions", json=application("unstored"))
            answer = await nobody.get("/readyz")
            return answer.status_code == 503 and "42883" in str(answer.json().get("detail"))

        await eventually(named, timeout_seconds=10)
    finally:
        await owner.close()
        await superuser.close()
