"""A server that stands still, neither answering nor closing: every caller hears so in time, and nothing piles up."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Iterator, MutableMapping
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import psutil
import pytest
from asgi_lifespan import LifespanManager
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from app.api.factory import make_app
from app.db.engine import connect, make_engine
from app.domain.record import ENGINE
from app.rollout.keeper import NotReadyError, SnapshotKeeper
from app.settings import Settings
from tests.support.cluster import SEEDED_TEMPLATE, Cluster, Database, eventually
from tests.support.service import Service, application

pytestmark = pytest.mark.xdist_group("frozen-server")

DEADLINE_SECONDS = 2.0
MARGIN_SECONDS = 4.0
"""What a read may take on top: a second to learn that its connection is dead, two to open another one."""


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[Cluster]:
    """A server that no other test uses."""
    folder = Path(tempfile.mkdtemp(prefix="channel-gate-frozen-"))
    folder.chmod(0o755)
    cluster = Cluster(folder)
    cluster.start()
    yield cluster
    cluster.stop()
    shutil.rmtree(folder)


@pytest.fixture
async def database(own_cluster: Cluster) -> AsyncIterator[Database]:
    database = await own_cluster.create(SEEDED_TEMPLATE)
    yield database
    await own_cluster.drop(database)


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    """What the service logs. Without `configure_logs` a traceback is drawn for a terminal, which takes seconds."""
    with capture_logs() as lines:
        yield lines


@pytest.fixture
async def service(database: Database) -> AsyncIterator[Service]:
    settings = Settings(
        DATABASE_URL=database.serving,
        GOVERNANCE_DATABASE_URL=database.governance,
        flush_deadline_seconds=DEADLINE_SECONDS,
    )
    app = make_app(settings)
    async with LifespanManager(app, startup_timeout=30, shutdown_timeout=30):
        service = Service(app, database, dict(database.keys))
        await eventually(lambda: _is_ready(service), timeout_seconds=30)
        yield service


@pytest.fixture
async def engine(database: Database) -> AsyncIterator[AsyncEngine]:
    engine = make_engine(database.serving, pool_size=1, statement_timeout_seconds=0.5)
    yield engine
    await engine.dispose()


async def _is_ready(service: Service) -> bool:
    return (await service.get(None, "/readyz")).status_code == httpx.codes.OK


async def _post(service: Service, **changes: object) -> httpx.Response:
    async with service.client("origination") as client:
        return await client.post("/v1/decisions", json=application(f"A-{uuid4()}", **changes))


async def _timed(answer: Awaitable[httpx.Response]) -> tuple[httpx.Response, float]:
    began = monotonic()
    return await answer, monotonic() - began


def _requests(service: Service, decision_id: str) -> list[Awaitable[httpx.Response]]:
    return [
        _post(service),
        _post(service, channel_code="nobody-knows-it"),
        service.get("analyst", f"/v1/decisions/{decision_id}"),
        service.get("analyst", "/v1/decisions"),
        service.get("analyst", "/v1/channels"),
        service.get("admin", "/v1/audit"),
    ]


async def test_frozen_database_is_a_503_to_everybody_in_time_and_service_goes_on_after_it(
    own_cluster: Cluster, service: Service
) -> None:
    decision_id = (await service.decide("A-1")).json()["decision_id"]
    for answer in await asyncio.gather(*_requests(service, decision_id), *_requests(service, decision_id)):
        assert answer.status_code in {200, 422}, answer.text  # every pool has connections that stand
    process = psutil.Process()
    tasks_before, files_before = len(asyncio.all_tasks()), process.num_fds()

    with own_cluster.frozen():
        for _ in range(3):
            load = [request for _ in range(8) for request in _requests(service, decision_id)]
            for answer, seconds in await asyncio.gather(*(_timed(request) for request in load)):
                assert answer.status_code == 503, answer.text
                assert "retry-after" in answer.headers
                assert seconds < DEADLINE_SECONDS + MARGIN_SECONDS
            answer, seconds = await _timed(service.get(None, "/readyz"))
            assert answer.status_code == 503
            assert seconds < 1
        # The keeper, the journal and the clock go on trying: a few tasks and sockets of theirs may be on their way.
        assert len(asyncio.all_tasks()) <= tasks_before + 8
        assert process.num_fds() <= files_before + 4

    await eventually(lambda: _is_ready(service), timeout_seconds=30)
    assert (await service.decide("A-2")).status_code == 200
    assert (await _post(service, channel_code="nobody-knows-it")).status_code == 422
    for path in (f"/v1/decisions/{decision_id}", "/v1/decisions", "/v1/channels"):
        assert (await service.get("analyst", path)).status_code == 200
    assert (await service.get("admin", "/v1/audit")).status_code == 200


async def test_frozen_database_turns_an_idle_worker_unready_within_its_lease(
    own_cluster: Cluster, service: Service
) -> None:
    lease_seconds = service.app.gate.settings.lease_seconds

    async def is_unready() -> bool:
        return not await _is_ready(service)

    with own_cluster.frozen():
        await eventually(is_unready, timeout_seconds=lease_seconds + 2)
    await eventually(lambda: _is_ready(service), timeout_seconds=30)


async def test_service_stops_in_time_while_the_database_is_frozen(own_cluster: Cluster, database: Database) -> None:
    app = make_app(Settings(DATABASE_URL=database.serving, GOVERNANCE_DATABASE_URL=database.governance))
    manager = LifespanManager(app, startup_timeout=30, shutdown_timeout=15)
    await manager.__aenter__()
    service = Service(app, database, dict(database.keys))
    await eventually(lambda: _is_ready(service), timeout_seconds=30)
    assert (await service.get("analyst", "/v1/channels")).status_code == 200
    with own_cluster.frozen():
        await manager.__aexit__(None, None, None)


@pytest.mark.parametrize("cancelled", [False, True], ids=["timed out", "cancelled"])
async def test_server_that_freezes_under_a_statement_costs_its_connection_and_no_more(
    own_cluster: Cluster, engine: AsyncEngine, *, cancelled: bool
) -> None:
    async def ask() -> None:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
            asking.set()
            await connection.execute(text("SELECT pg_sleep(20)"))

    asking = asyncio.Event()
    began = monotonic()
    task = asyncio.create_task(ask())
    await asking.wait()
    with own_cluster.frozen():
        if cancelled:
            task.cancel()
        with pytest.raises((TimeoutError, asyncio.CancelledError)):
            await task
        assert monotonic() - began < 3
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1


async def test_slow_statement_is_ended_by_the_server_and_its_connection_kept(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        pid = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        with pytest.raises(Exception, match="statement timeout"):
            await connection.execute(text("SELECT pg_sleep(20)"))
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one() == pid


async def test_connection_that_the_server_closed_is_replaced_unseen(database: Database, engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        pid = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
    superuser = await asyncpg.connect(database.superuser)
    await superuser.execute("SELECT pg_terminate_backend($1, 5000)", pid)
    await superuser.close()
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one() != pid


async def test_keeper_that_freezes_while_it_reads_a_snapshot_follows_again_afterwards(
    own_cluster: Cluster, database: Database
) -> None:
    async def dial() -> asyncpg.Connection:
        return await connect(database.serving, purpose="test keeper", timeout_seconds=1, command_timeout_seconds=1)

    keeper = SnapshotKeeper(
        dial, worker_id=uuid4(), engine=ENGINE, poll_seconds=0.2, lease_seconds=2, registry_lease_seconds=3
    )
    owner = await asyncpg.connect(database.owner)
    try:
        # Whoever reads the channels waits for this lock, in the middle of its transaction, when the server freezes.
        transaction = owner.transaction()
        await transaction.start()
        await owner.execute("LOCK gate.channels IN ACCESS EXCLUSIVE MODE")
        await keeper.start()
        await eventually(lambda: _waits_for_a_lock(owner))
        with own_cluster.frozen(), pytest.raises(NotReadyError):
            await keeper.refresh(3)
        await transaction.rollback()
        await keeper.refresh(20)
        assert keeper.current().policy is not None
    finally:
        await keeper.stop()
        await owner.close()


async def _waits_for_a_lock(connection: asyncpg.Connection) -> bool:
    waiting: int = await connection.fetchval(
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'gate.channels'::regclass"
    )
    return waiting > 0
