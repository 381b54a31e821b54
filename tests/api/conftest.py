"""The whole service in this process, on a seeded database: quicker to start than a server, and the same code."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeAlias

import httpx
import pytest
from asgi_lifespan import LifespanManager

from app.api.factory import make_app
from app.settings import Settings
from tests.support.cluster import SEEDED_TEMPLATE, Cluster, Database, eventually
from tests.support.server import Server, seeded_server
from tests.support.service import Service as SharedService
from tests.support.service import running_service


class Service:
    """A running service; `client(role)` calls it with the demo key of that role."""

    def __init__(self, database: Database, app: Any, stack: AsyncExitStack) -> None:
        self.database = database
        self.app = app
        self._stack = stack

    async def client(self, role: str | None) -> httpx.AsyncClient:
        headers = {} if role is None else {"Authorization": f"Bearer {self.database.keys[role]}"}
        transport = httpx.ASGITransport(app=self.app)
        return await self._stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://gate", headers=headers)
        )


@pytest.fixture(scope="package")
async def gate(cluster: Cluster) -> AsyncIterator[SharedService]:
    """One service for all tests of the edge that leave its policy alone. They have an xdist group of their own."""
    database = await cluster.create(SEEDED_TEMPLATE)
    async with running_service(database) as service:
        yield service
    await cluster.drop(database)


@pytest.fixture(scope="package")
async def edge_server(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """The same as a process of its own, behind a real connection, without a rate limit."""
    async with seeded_server(cluster, tmp_path_factory.mktemp("edge-server"), workers=1) as server:
        yield server


StartService: TypeAlias = Callable[..., Awaitable[Service]]


@pytest.fixture
async def start_service(seeded_database: Database) -> AsyncIterator[StartService]:
    """Starts services: `await start_service(single_person_mode=False)`; each has a snapshot when it returns."""
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> Service:
            urls = {
                "database_url": seeded_database.serving,
                "governance_database_url": seeded_database.governance,
            }
            # A busy machine may take its time; what a deadline does is the journal's tests to see.
            app = make_app(Settings(**(urls | {"flush_deadline_seconds": 20} | settings)))
            await stack.enter_async_context(LifespanManager(app))
            await eventually(lambda: app.gate.keeper.latest.policy is not None and app.gate.writer.available)
            return Service(seeded_database, app, stack)

        yield start


@pytest.fixture
async def service(start_service: StartService) -> Service:
    return await start_service()


@pytest.fixture
async def admin(service: Service) -> httpx.AsyncClient:
    return await service.client("admin")


@pytest.fixture
async def analyst(service: Service) -> httpx.AsyncClient:
    return await service.client("analyst")
