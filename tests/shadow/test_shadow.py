"""A challenger on live traffic: what it would decide is counted where it belongs, and it changes no answer."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psutil
import pytest

from app.policies.defaults import default_policy
from app.rollout.snapshot import Challenger
from tests.conftest import StartServer
from tests.support.applications import application
from tests.support.cluster import Database, eventually
from tests.support.server import Server

CHALLENGER = "/v1/policies/challenger"


def stricter(score: int = 730) -> dict[str, Any]:
    """The default policy with another score for prime and general, and without its cases, which then fail."""
    document = default_policy() | {"cases": [], "name": "stricter"}
    rule = next(rule for rule in document["rules"] if rule["code"] == "BU03")
    rule["thresholds"] = {"prime": score, "general": score, "risk": score}
    return document


async def metric(client: httpx.AsyncClient, name: str, **labels: str) -> float:
    """A sample of /metrics; 0 where it is absent."""
    text = (await client.get("/metrics")).text
    wanted = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    for line in text.splitlines():
        match = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
        if match and match[1] == name and ",".join(sorted((match[2] or "").split(","))) == wanted:
            return float(match[3])
    return 0.0


async def set_challenger(server: Server, document: dict[str, Any], **query: Any) -> None:
    """Set it, and return when every worker serves it."""
    answer = await server.client("admin").put(CHALLENGER, json=document, params=query)
    assert answer.status_code == 201, answer.text

    async def served() -> bool:
        rollout = (await server.client("admin").get("/v1/rollout")).json()
        return bool(rollout["confirmed"])

    await eventually(served)


async def decide(server: Server, *numbers: int, **changes: Any) -> list[dict[str, Any]]:
    return await send(server, [application(f"S-{number}", **changes) for number in numbers])


async def send(server: Server, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    client = server.client()
    answers = [await client.post("/v1/decisions", json=body) for body in bodies]
    assert {answer.status_code for answer in answers} == {200}
    return [answer.json() for answer in answers]


async def test_flips_are_counted_by_channel_and_tier_and_reported_with_examples(
    seeded_database: Database, start_server: StartServer
) -> None:
    server = await start_server(seeded_database, workers=2)
    admin = server.client("admin")
    assert (await admin.get(CHALLENGER)).status_code == 404
    await set_challenger(server, stricter())
    flipped = await decide(server, *range(6))
    alike = await decide(server, *range(10, 14), bureau={"score": 760})
    assert {each["outcome"] for each in (*flipped, *alike)} == {"accept"}

    async def whole() -> dict[str, Any] | None:
        report: dict[str, Any] = (await admin.get(CHALLENGER)).json()
        return report if report["evaluations"] + report["errors"] + report["dropped"] == 10 else None

    report = await eventually(whole, timeout_seconds=40)
    assert (report["flips"], report["agreement"], report["errors"], report["dropped"]) == (6, 0.4, 0, 0)
    channel, tier = flipped[0]["channel_code"], flipped[0]["tier"]
    cells = {(c["channel"], c["tier"], c["before"], c["after"]): c for c in report["outcomes"]}
    assert {key: cell["evaluations"] for key, cell in cells.items()} == {
        (channel, tier, "accept", "reject"): 6,
        (channel, tier, "accept", "accept"): 4,
    }
    examples = set(cells[channel, tier, "accept", "reject"]["examples"])
    assert len(examples) == 5
    assert examples <= {each["decision_id"] for each in flipped}
    assert report["reasons"] == [{"channel": channel, "tier": tier, "code": "BU03", "gained": 6, "lost": 0}]
    labels = {"channel": channel, "tier": tier, "before": "accept", "after": "reject"}
    assert await metric(admin, "gate_shadow_flips_total", **labels) == 6
    assert await metric(admin, "gate_shadow_evaluations_total", result="agree") == 4
    assert await metric(admin, "gate_shadow_evaluations_total", result="flip") == 6


async def test_it_is_set_and_cleared_by_authors_with_a_row_in_the_audit_log(
    seeded_database: Database, gate_server: Server
) -> None:
    author, analyst = gate_server.client("policy-author"), gate_server.client("analyst")
    assert (await analyst.put(CHALLENGER, json=stricter())).status_code == 403
    assert (await analyst.delete(CHALLENGER)).status_code == 403
    broken = stricter() | {"default_tier": "gold"}
    assert (await author.put(CHALLENGER, json=broken)).status_code == 422
    first = await author.put(CHALLENGER, json=stricter(), params={"sample": 0.5, "comment": "tighter"})
    assert (first.status_code, first.json()["number"], first.json()["sample"]) == (201, 1, 0.5)
    again = await author.put(CHALLENGER, json=stricter(), params={"sample": 0.5})
    assert (again.status_code, again.json()["number"]) == (200, 1)
    assert (await author.put(CHALLENGER, json=stricter(640))).json()["number"] == 2
    assert (await author.delete(CHALLENGER)).status_code == 204
    assert (await author.delete(CHALLENGER)).status_code == 404
    last = (await analyst.get(CHALLENGER)).json()
    assert last["challenger"]["number"] == 2
    assert last["challenger"]["cleared_at"] is not None
    assert last["agreement"] is None
    connection = await asyncpg.connect(seeded_database.governance)
    try:
        rows = await connection.fetch(
            "SELECT action, subject FROM gate.audit_log WHERE action LIKE 'challenger.%' ORDER BY sequence"
        )
        assert [tuple(row) for row in rows] == [
            ("challenger.set", "1"),
            ("challenger.set", "2"),
            ("challenger.clear", "2"),
        ]
        for attack in (
            "UPDATE gate.challengers SET cleared_at = NULL",
            "DELETE FROM gate.challengers",
            "SELECT gate.shadow_add(1, now(), '[]', '[]', 1, 1)",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(attack)
    finally:
        await connection.close()
    owner = await asyncpg.connect(seeded_database.owner)
    try:
        for attack in ("UPDATE gate.challengers SET cleared_at = NULL", "DELETE FROM gate.challengers"):
            with pytest.raises(asyncpg.PostgresError) as refused:
                await owner.execute(attack)
            assert refused.value.sqlstate == "CG403"
    finally:
        await owner.close()
    serving = await asyncpg.connect(seeded_database.serving)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await serving.execute("SELECT gate.challenger_clear(NULL, 'me', 'r')")
    finally:
        await serving.close()


async def test_what_the_challenger_does_not_read_is_a_flip_to_refused(gate_server: Server) -> None:
    document = stricter(600)
    del document["products"]["unsecured_consumer"]
    document["rules"] = [
        rule for rule in document["rules"] if not any("product" in c["field"] for c in rule.get("when", []))
    ]
    await set_challenger(gate_server, document)
    (answer,) = await decide(gate_server, 1)
    admin = gate_server.client("admin")
    labels = {"channel": answer["channel_code"], "tier": answer["tier"], "before": "accept", "after": "refused"}
    await eventually(lambda: metric(admin, "gate_shadow_flips_total", **labels), timeout_seconds=30)


@pytest.fixture
async def start_misbehaving(
    seeded_database: Database, tmp_path: Path
) -> AsyncIterator[Callable[[str], Awaitable[Server]]]:
    servers: list[Server] = []

    async def start(kind: str) -> Server:
        server = Server(
            seeded_database,
            tmp_path / f"{kind}.log",
            workers=1,
            environment={},
            arguments=("-m", "tests.shadow.evaluators", kind),
        )
        servers.append(server)
        server.start()
        await server.wait_ready()
        return server

    yield start
    for server in servers:
        await server.close()


@pytest.mark.parametrize("kind", ["raises", "exits", "sleeps", "spins", "eats"])
async def test_a_challenger_that_misbehaves_changes_no_answer(
    kind: str, start_misbehaving: Callable[[str], Awaitable[Server]]
) -> None:
    server = await start_misbehaving(kind)
    admin = server.client("admin")
    await set_challenger(server, stricter())
    bodies = [application(f"S-{number}") for number in range(20)]
    first = await send(server, bodies)
    assert server.process is not None
    worker = psutil.Process(server.process.pid)
    processes: set[int] = set()

    async def failed() -> bool:
        processes.update(child.pid for child in worker.children())
        return await metric(admin, "gate_shadow_evaluations_total", result="error") > 0

    await eventually(failed, timeout_seconds=40)
    second = await decide(server, *range(20, 40))
    assert {(each["outcome"], each["policy_version"]) for each in (*first, *second)} == {("accept", 1)}
    assert await send(server, bodies) == first
    for result in ("agree", "flip"):
        assert await metric(admin, "gate_shadow_evaluations_total", result=result) == 0
    assert (await metric(admin, "gate_shadow_restarts_total") > 0) == (kind in {"exits", "sleeps", "spins"})
    assert server.terminate() == 0
    await eventually(lambda: not any(psutil.pid_exists(pid) for pid in processes))


async def test_a_killed_process_is_replaced_and_ends_with_the_challenger_and_with_the_worker(
    gate_server: Server,
) -> None:
    await set_challenger(gate_server, stricter())
    admin = gate_server.client("admin")
    assert gate_server.process is not None
    worker = psutil.Process(gate_server.process.pid)

    async def evaluated(at_least: int) -> bool:
        return await metric(admin, "gate_shadow_evaluations_total", result="flip") >= at_least

    await decide(gate_server, 1)
    await eventually(lambda: evaluated(1), timeout_seconds=30)
    (child,) = worker.children()
    assert child.nice() == 19
    assert os.sched_getscheduler(child.pid) == os.SCHED_IDLE
    assert not {"DATABASE_URL", "GOVERNANCE_DATABASE_URL"} & set(child.environ())
    child.kill()
    await decide(gate_server, 2)
    await eventually(lambda: metric(admin, "gate_shadow_restarts_total"), timeout_seconds=30)
    await decide(gate_server, 3)
    await eventually(lambda: evaluated(2), timeout_seconds=30)
    (child,) = worker.children()
    assert (await admin.delete(CHALLENGER)).status_code == 204
    await eventually(lambda: not worker.children(), timeout_seconds=30)
    await set_challenger(gate_server, stricter(731))
    await decide(gate_server, 4)
    await eventually(lambda: evaluated(3), timeout_seconds=30)
    (child,) = worker.children()
    gate_server.process.kill()
    gate_server.process.wait()
    await eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_the_sample_is_the_share_that_was_asked_for() -> None:
    challenger = Challenger(number=1, sample_ppm=250_000, document=b"{}")
    assert challenger.sample_below == 2**30
    assert Challenger(number=1, sample_ppm=1_000_000, document=b"{}").sample_below == 2**32


async def test_what_was_counted_is_stored_when_the_service_ends(seeded_database: Database, gate_server: Server) -> None:
    await set_challenger(gate_server, stricter())
    await decide(gate_server, *range(3))
    admin = gate_server.client("admin")
    await eventually(lambda: metric(admin, "gate_shadow_evaluations_total", result="flip"), timeout_seconds=30)
    gate_server.terminate()
    connection = await asyncpg.connect(seeded_database.serving)
    try:
        compared = await connection.fetchval("SELECT sum(evaluations) FROM gate.shadow_hours")
        lost = await connection.fetchval("SELECT sum(errors + dropped) FROM gate.shadow_losses")
    finally:
        await connection.close()
    assert compared >= 1
    assert compared + lost == 3
