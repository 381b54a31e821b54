"""One person has one open accept, and no budget is ever passed or leaks, whatever the workers do at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from app.db.embedded import remove_embedded
from app.db.engine import make_engine
from app.journal.reader import DecisionFilter
from app.screening.policy_library import PolicyLibrary
from app.screening.replay import replay_log
from tests.support.applications import application
from tests.support.cluster import Cluster, Database, eventually
from tests.support.server import Server, seeded_server


@pytest.fixture
async def server(cluster: Cluster, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    async with seeded_server(cluster, tmp_path, workers=getattr(request, "param", 4)) as server:
        yield server


one_worker = pytest.mark.parametrize("server", [1], indirect=True, ids=["one worker"])
"""For what needs no others: four take three times as long to start."""


@pytest.fixture
async def owner(server: Server) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(server.database.owner)
    yield connection
    await connection.close()


@contextmanager
def own_cluster(name: str) -> Iterator[Cluster]:
    """A PostgreSQL of the test's own, under the folder of the run, which its user can reach."""
    folder = Path(os.environ["CHANNEL_GATE_TEST_RUN"]) / name
    folder.mkdir(mode=0o755)
    cluster = Cluster(folder)
    cluster.start()
    try:
        yield cluster
    finally:
        cluster.stop()
        remove_embedded(folder / "postgres")


def crash(cluster: Cluster) -> None:
    """Every process of the server dies at once, and it comes up again."""
    cluster.kill()
    cluster.revive()


async def served_channels(owner: asyncpg.Connection) -> list[str]:
    """Five channels under one tier each of which accepts a good application."""
    rows = await owner.fetch("SELECT code FROM gate.channels WHERE state = 'active' ORDER BY channel_id LIMIT 5")
    return [row["code"] for row in rows]


async def budget(
    database: Database,
    limit: int,
    *,
    channel: str | None = None,
    measure: str = "count",
    period: str = "monthly",
    tier: str | None = None,
    product: str | None = None,
) -> int:
    """Set a budget as governance does; its number."""
    connection = await asyncpg.connect(database.governance)
    try:
        number: int = await connection.fetchval(
            "SELECT budget_id FROM gate.budget_set($1, $2, $3, NULL, $4, $5, $6, $7, 100, NULL, 'Asia/Shanghai', "
            "'admin', 'test', NULL)",
            *(channel, tier, product, period, measure, None if measure == "count" else "CNY", limit),
        )
    finally:
        await connection.close()
    return number


async def send_all(
    server: Server, bodies: list[dict[str, Any]], answered: Callable[[], None] = lambda: None
) -> list[dict[str, Any]]:
    """Send all at once; a worker that is away is asked again, as an origination system does."""
    client = server.client(timeout_seconds=60)
    gate = asyncio.Semaphore(100)

    async def send(body: dict[str, Any]) -> dict[str, Any]:
        for _ in range(400):
            try:
                async with gate:
                    answer = await client.post("/v1/decisions", json=body)
            except httpx.TransportError:
                await asyncio.sleep(0.05)
                continue
            if answer.status_code == 503:
                await asyncio.sleep(0.05)
                continue
            assert answer.status_code == 200, answer.text
            decided: dict[str, Any] = answer.json()
            answered()
            return decided
        raise AssertionError("no answer")

    return await asyncio.gather(*map(send, bodies))


async def assert_sums_are_exact(owner: asyncpg.Connection) -> None:
    """Periods hold what their open reservations do, and every accept, at once or later, has its reservation."""
    assert not await owner.fetch(
        """
        SELECT p.period_id, p.reserved, coalesce(sum(u.units) FILTER (WHERE r.state = 'reserved'), 0)
        FROM gate.budget_periods p LEFT JOIN gate.reservation_units u USING (period_id)
        LEFT JOIN gate.reservations r USING (decision_id)
        GROUP BY p.period_id HAVING p.reserved <> coalesce(sum(u.units) FILTER (WHERE r.state = 'reserved'), 0)
        """
    )
    assert not await owner.fetch(
        """
        SELECT decision_id FROM (SELECT decision_id FROM gate.decisions WHERE outcome = 'accept'
                                 UNION ALL SELECT decision_id FROM gate.held_queue WHERE outcome = 'accept') d
        FULL JOIN gate.reservations r USING (decision_id) WHERE d.decision_id IS NULL OR r.decision_id IS NULL
        """
    )


async def assert_replays_exactly(database: Database) -> None:
    engine = make_engine(database.serving, pool_size=1, statement_timeout_seconds=30)
    async with engine.connect() as connection:
        report = await replay_log(connection, PolicyLibrary(), DecisionFilter())
    await engine.dispose()
    assert report.exact, report.findings[:5]
    assert report.total > 0


async def test_50_applications_of_one_person_over_5_channels_and_4_workers_are_one_accept(
    server: Server, owner: asyncpg.Connection
) -> None:
    channels = await served_channels(owner)
    bodies = [
        application(f"one-{n}", channel_code=channels[n % 5], amount=1_000_000, applicant={"applicant_ref": "p-one"})
        for n in range(50)
    ]
    answers = await send_all(server, bodies)
    outcomes = Counter(answer["outcome"] for answer in answers)
    assert outcomes["accept"] == 1
    assert await owner.fetchval("SELECT count(*) FROM gate.reservations WHERE state = 'reserved'") == 1
    codes = await owner.fetch("SELECT reason_codes FROM gate.decisions WHERE outcome <> 'accept'")
    assert sum("DU01" in row["reason_codes"] for row in codes) >= 40
    await assert_replays_exactly(server.database)


async def test_500_accepts_from_4_workers_against_a_budget_of_100_are_100(
    server: Server, owner: asyncpg.Connection
) -> None:
    await budget(server.database, 100, channel="app-store")
    answers = await send_all(server, [application(f"b-{n}", channel_code="app-store") for n in range(500)])
    assert Counter((a["outcome"], a["next_action"]) for a in answers) == {
        ("accept", "proceed"): 100,
        ("escalate", "held"): 400,
    }
    assert {tuple(r["code"] for r in a["reasons"]) for a in answers} == {(), ("CH02",)}
    assert await owner.fetchval("SELECT max(reserved) FROM gate.budget_periods") == 100
    await assert_sums_are_exact(owner)
    await assert_replays_exactly(server.database)


async def test_three_overlapping_budgets_lose_no_unit(server: Server, owner: asyncpg.Connection) -> None:
    database = server.database
    amount = 1_000_000
    first = await budget(database, 60, channel="app-store")
    second = await budget(database, 80 * amount, measure="amount", period="daily")
    third = await budget(database, 70, product="unsecured_consumer", period="outstanding")
    channels = (await served_channels(owner))[:2]
    other = next(code for code in channels if code != "app-store")
    bodies = [application(f"t-{n}", channel_code="app-store" if n % 2 else other, amount=amount) for n in range(300)]
    answers = await send_all(server, bodies)
    accepted = Counter(a["channel_code"] for a in answers if a["outcome"] == "accept")
    assert accepted.total() == 70  # the narrowest of what both channels share is used up to its last unit
    assert accepted["app-store"] <= 60
    taken = dict(
        await owner.fetch("SELECT budget_id, sum(reserved)::bigint FROM gate.budget_periods GROUP BY budget_id")
    )
    assert (taken[first], taken[second], taken[third]) == (accepted["app-store"], 70 * amount, 70)
    await assert_sums_are_exact(owner)


async def test_killed_workers_neither_lose_nor_double_a_unit(server: Server, owner: asyncpg.Connection) -> None:
    await budget(server.database, 100, channel="app-store")
    done = asyncio.Event()

    async def kill() -> None:
        for n in count():
            if done.is_set() or n == 6:
                return
            pids = server.worker_pids()
            os.kill(pids[n % len(pids)], signal.SIGKILL)
            await asyncio.sleep(0.4)

    killing = asyncio.create_task(kill())
    answers = await send_all(server, [application(f"k-{n}", channel_code="app-store") for n in range(400)])
    done.set()
    await killing
    assert Counter(a["outcome"] for a in answers) == {"accept": 100, "escalate": 300}
    assert await owner.fetchval("SELECT count(*) FROM gate.decisions") == 400
    await assert_sums_are_exact(owner)


@pytest.mark.slow  # it makes a cluster of its own, which nobody else may stand on
async def test_a_database_that_is_killed_in_the_middle_neither_loses_nor_doubles_a_unit(tmp_path: Path) -> None:
    with own_cluster("killed") as cluster:
        async with seeded_server(cluster, tmp_path, workers=4) as server:
            await budget(server.database, 100, channel="app-store")
            answers = 0
            kills_at = [20, 150, 300]

            def answered() -> None:
                nonlocal answers
                answers += 1

            async def kill() -> None:
                for place in kills_at:
                    await eventually(lambda place=place: answers >= place, timeout_seconds=120)
                    await asyncio.to_thread(crash, cluster)

            killing = asyncio.create_task(kill())
            bodies = [application(f"c-{n}", channel_code="app-store") for n in range(500)]
            decided = await send_all(server, bodies, answered)
            await killing
            assert Counter(a["outcome"] for a in decided) == {"accept": 100, "escalate": 400}
            owner = await asyncpg.connect(server.database.owner)
            try:
                stored = dict(await owner.fetch("SELECT decision_id::text, outcome FROM gate.decisions"))
                assert stored == {a["decision_id"]: a["outcome"] for a in decided}
                assert await owner.fetchval("SELECT max(reserved) FROM gate.budget_periods") == 100
                assert await owner.fetchval("SELECT count(*) FROM gate.held_queue") == 400
                await assert_sums_are_exact(owner)
            finally:
                await owner.close()
            await assert_replays_exactly(server.database)


@one_worker
async def test_an_amendment_takes_the_place_of_the_revision_before_and_gives_its_units_back(
    server: Server, owner: asyncpg.Connection
) -> None:
    await budget(server.database, 1, channel="app-store")
    client = server.client()
    first = (await client.post("/v1/decisions", json=application("amended", channel_code="app-store"))).json()
    other = (await client.post("/v1/decisions", json=application("waits", channel_code="app-store"))).json()
    body = application("amended", channel_code="app-store", amount=1_000_000) | {"revision": 2}
    second = (await client.post("/v1/decisions", json=body)).json()
    assert [a["outcome"] for a in (first, other, second)] == ["accept", "escalate", "accept"]
    states = dict(await owner.fetch("SELECT decision_id::text, state FROM gate.reservations"))
    assert states == {first["decision_id"]: "voided", second["decision_id"]: "reserved"}
    old = application("amended", channel_code="app-store", amount=2_000_000)
    assert (await client.post("/v1/decisions", json=old)).status_code == 409
    for revision in range(3, 7):
        changed = application("amended", channel_code="app-store", amount=1_000_000 + revision * 10_000)
        last = (await client.post("/v1/decisions", json=changed | {"revision": revision})).json()
    assert (last["outcome"], last["next_action"]) == ("escalate", "review")
    row = await owner.fetchrow(
        "SELECT reason_codes FROM gate.decisions WHERE decision_id = $1::uuid", last["decision_id"]
    )
    assert row["reason_codes"] == ["FR03"]
    await assert_sums_are_exact(owner)
    await assert_replays_exactly(server.database)


@one_worker
async def test_a_reservation_that_is_not_funded_in_time_expires_once_and_frees_its_unit(
    server: Server, owner: asyncpg.Connection
) -> None:
    await budget(server.database, 20, channel="app-store")
    await send_all(server, [application(f"x-{n}", channel_code="app-store") for n in range(20)])
    await owner.execute("UPDATE gate.reservations SET expires_at = now() - interval '1 second' WHERE true")

    async def expire() -> int:
        connection = await asyncpg.connect(server.database.serving)
        total = 0
        while (done := await connection.fetchval("SELECT gate.reservations_expire(3)")) > 0:
            total += done
        await connection.close()
        return total

    await asyncio.gather(*(expire() for _ in range(4)))
    await eventually(lambda: owner.fetchval("SELECT bool_and(state = 'expired') FROM gate.reservations"))
    assert await owner.fetchval("SELECT sum(reserved)::bigint FROM gate.budget_periods") == 0
    again = await send_all(server, [application(f"y-{n}", channel_code="app-store") for n in range(21)])
    assert Counter(a["outcome"] for a in again) == {"accept": 20, "escalate": 1}


@one_worker
async def test_funding_posts_once_and_what_is_above_the_reservation_is_told(
    server: Server, owner: asyncpg.Connection
) -> None:
    await budget(server.database, 100_000_000, channel="app-store", measure="amount")
    [answer] = await send_all(server, [application("funded", channel_code="app-store", amount=1_000_000)])
    serving = await asyncpg.connect(server.database.serving)
    post = "SELECT gate.reservation_post($1::uuid, $2)"
    assert await serving.fetchval(post, answer["decision_id"], 1_200_000) == 200_000
    assert await serving.fetchval(post, answer["decision_id"], 1_200_000) is None
    assert await serving.fetchval("SELECT gate.reservation_void($1::uuid, 'cancelled')", answer["decision_id"]) is False
    await serving.close()
    assert dict(
        await owner.fetchrow(
            "SELECT sum(reserved)::bigint AS reserved, sum(posted)::bigint AS posted FROM gate.budget_periods p "
            "JOIN gate.budgets USING (budget_id) WHERE measure = 'amount'"
        )
    ) == {"reserved": 0, "posted": 1_200_000}
