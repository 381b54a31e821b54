"""Fixtures that any test may ask for: the cluster, clean databases, and running servers."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import HealthCheck, settings

from app.db.embedded import remove_embedded
from tests.support.cluster import SEEDED_TEMPLATE, Cluster, Database
from tests.support.server import Server

StartServer: TypeAlias = Callable[..., Awaitable[Server]]

_RUN_VARIABLE = "CHANNEL_GATE_TEST_RUN"

# How long an example takes says something of the machine and nothing of the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_configure(config: pytest.Config) -> None:
    """Give all processes of this run one folder. It is not pytest's own: PostgreSQL's user must be able to reach it."""
    for name in [name for name in os.environ if name.startswith("GATE_") or name.endswith("DATABASE_URL")]:
        del os.environ[name]  # the tests mean the same whatever the shell has set
    if not hasattr(config, "workerinput"):
        folder = Path(tempfile.mkdtemp(prefix="channel-gate-tests-"))
        folder.chmod(0o755)
        os.environ[_RUN_VARIABLE] = str(folder)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the folder, and a server that a killed process left in it."""
    if not hasattr(config, "workerinput"):
        folder = Path(os.environ.pop(_RUN_VARIABLE))
        remove_embedded(folder / "postgres")
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The PostgreSQL of this run, with its templates."""
    cluster = Cluster(Path(os.environ[_RUN_VARIABLE]))
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture
async def blank_database(cluster: Cluster) -> AsyncIterator[Database]:
    """A database without the schema."""
    database = await cluster.create_blank()
    yield database
    await cluster.drop(database)


@pytest.fixture
async def database(cluster: Cluster) -> AsyncIterator[Database]:
    """A database with the schema and nothing in it."""
    database = await cluster.create()
    yield database
    await cluster.drop(database)


@pytest.fixture
async def seeded_database(cluster: Cluster) -> AsyncIterator[Database]:
    """A database with the default policy, the demo's channels and a key for each role (`keys`)."""
    database = await cluster.create(SEEDED_TEMPLATE)
    yield database
    await cluster.drop(database)


@pytest.fixture
async def start_server(tmp_path: Path) -> AsyncIterator[StartServer]:
    """Starts servers: `await start_server(database, workers=2, GATE_LEASE_SECONDS="3")`; ready when it returns."""
    servers: list[Server] = []

    async def start(database: Database, *, workers: int = 1, ready: bool = True, **environment: str) -> Server:
        log_file = tmp_path / f"server-{len(servers)}.log"
        server = Server(database, log_file, workers=workers, environment=environment)
        servers.append(server)
        server.start()
        if ready:
            await server.wait_ready()
        return server

    yield start
    for server in servers:
        await server.close()


@pytest.fixture
async def gate_server(seeded_database: Database, start_server: StartServer) -> Server:
    """A running server of one worker with demo data; `gate_server.client("analyst")` calls it."""
    return await start_server(seeded_database)
