"""A service that sends webhooks to the loopback, and channels whose changes it tells."""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, TypeAlias

import asyncpg
import httpx
import pytest
from asgi_lifespan import LifespanManager

from app.api.factory import GateApp, make_app
from app.settings import Settings
from tests.events.receiver import Receiver
from tests.support.cluster import Database, eventually

KEY = base64.b64encode(os.urandom(32)).decode()
FAST: dict[str, Any] = {
    "webhook_keys": KEY,
    "webhook_loopback": True,
    "webhook_timeout_seconds": 0.5,
    "webhook_retry_seconds": 0.1,
    "webhook_retry_limit_seconds": 0.4,
}
ENVIRONMENT = {
    "GATE_WEBHOOK_KEYS": KEY,
    "GATE_WEBHOOK_LOOPBACK": "true",
    "GATE_WEBHOOK_TIMEOUT_SECONDS": "1",
    "GATE_WEBHOOK_RETRY_SECONDS": "0.2",
    "GATE_WEBHOOK_RETRY_LIMIT_SECONDS": "0.5",
}
ORIGINATOR = "demo-origination"


@dataclass
class Teller:
    """A service, as its callers use it."""

    app: GateApp
    database: Database
    stack: AsyncExitStack

    async def client(self, who: str) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self.database.keys[who]}"}
        transport = httpx.ASGITransport(app=self.app)
        return await self.stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://gate", headers=headers)
        )

    async def subscribe(self, receiver: Receiver, **changes: Any) -> dict[str, Any]:
        admin = await self.client("admin")
        return await subscribe(admin, receiver.url, **changes)

    async def change(self, *states: str, channel: str = "told") -> None:
        admin = await self.client("admin")
        for state in states:
            await change(admin, channel, state)

    async def newest(self, subject: str = "told") -> dict[str, Any]:
        """The last event of a subject; a transaction of another test may hold it back for a moment."""
        admin = await self.client("admin")

        async def visible() -> Any:
            items = (await admin.get("/v1/events?limit=1000")).json()["items"]
            return [item for item in items if item["subject"] == subject]

        event: dict[str, Any] = (await eventually(visible))[-1]
        return event

    async def deliveries(self, event_id: str) -> list[dict[str, Any]]:
        answer = await (await self.client("admin")).get(f"/v1/events/{event_id}/deliveries")
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        return items


async def subscribe(admin: httpx.AsyncClient, url: str, **changes: Any) -> dict[str, Any]:
    answer = await admin.post("/v1/webhooks", json={"originator": ORIGINATOR, "url": url} | changes)
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def change(admin: httpx.AsyncClient, channel: str, state: str) -> None:
    """Move a channel, or register it where the state is `proposed`."""
    if state == "proposed":
        new = {"code": channel, "name": channel, "kind": "online", "owner": "partners"}
        answer = await admin.post("/v1/channels", json=new)
    else:
        answer = await admin.post(f"/v1/channels/{channel}/state", json={"state": state, "reason": "secret suspicion"})
    assert answer.is_success, answer.text


StartTeller: TypeAlias = Callable[..., Awaitable[Teller]]


@pytest.fixture
async def start_teller(seeded_database: Database) -> AsyncIterator[StartTeller]:
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> Teller:
            urls = {"database_url": seeded_database.serving, "governance_database_url": seeded_database.governance}
            app = make_app(Settings(**(urls | FAST | settings)))
            await stack.enter_async_context(LifespanManager(app, startup_timeout=30, shutdown_timeout=30))
            await eventually(lambda: app.gate.keeper.latest.policy is not None)
            return Teller(app, seeded_database, stack)

        yield start


@pytest.fixture
async def teller(start_teller: StartTeller) -> Teller:
    return await start_teller()


@pytest.fixture
async def owner(seeded_database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(seeded_database.owner)
    yield connection
    await connection.close()
