"""The whole application in the process of a test: as quick as a function, on a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from asgi_lifespan import LifespanManager

from app.api.examples import APPLICATION
from app.api.factory import GateApp, make_app
from app.settings import Settings
from tests.support.cluster import Database


@dataclass(frozen=True)
class Service:
    """The whole application in this process, on a database with demo data."""

    app: GateApp
    database: Database
    keys: dict[str, str]

    def client(self, who: str | None) -> httpx.AsyncClient:
        """A client with the key of `who`."""
        headers = {} if who is None else {"Authorization": f"Bearer {self.keys[who]}"}
        transport = httpx.ASGITransport(app=self.app)
        return httpx.AsyncClient(transport=transport, base_url="http://gate", headers=headers)

    async def get(
        self, who: str | None, path: str, headers: dict[str, str] | None = None, **query: Any
    ) -> httpx.Response:
        async with self.client(who) as client:
            return await client.get(path, params=query, headers=headers)

    async def decide(self, application_id: str, who: str = "origination", **changes: Any) -> httpx.Response:
        """Send an application; `bureau__score=500` changes a nested value."""
        async with self.client(who) as client:
            answer = await client.post("/v1/decisions", json=application(application_id, **changes))
        assert answer.status_code == 200, answer.text
        return answer


def application(application_id: str, **changes: Any) -> dict[str, Any]:
    """A good application of today."""
    now = datetime.now(UTC)
    request = deepcopy(APPLICATION) | {
        "application_id": application_id,
        "submitted_at": now.isoformat(),
        "completed_at": now.isoformat(),
        "consent_at": now.isoformat(),
    }
    request["applicant"]["applicant_ref"] = f"p-{application_id}"  # a person has one open accept
    request["bureau"]["pulled_at"] = (now - timedelta(days=1)).isoformat()
    for path, value in changes.items():
        section, _, name = path.rpartition("__")
        (request[section] if section else request)[name] = value
    return request


@asynccontextmanager
async def running_service(database: Database, keys: Mapping[str, str] | None = None) -> AsyncIterator[Service]:
    """The application on a seeded database, ready to decide."""
    # A busy machine may take its time; what a deadline does is the journal's tests to see.
    settings = Settings(
        DATABASE_URL=database.serving, GOVERNANCE_DATABASE_URL=database.governance, flush_deadline_seconds=20
    )
    app = make_app(settings)
    async with LifespanManager(app, startup_timeout=30, shutdown_timeout=30):
        service = Service(app, database, dict(database.keys if keys is None else keys))
        async with asyncio.timeout(30):
            while (await service.get(None, "/readyz")).status_code != 200:  # noqa: ASYNC110 - a condition over HTTP
                await asyncio.sleep(0.02)
        yield service
