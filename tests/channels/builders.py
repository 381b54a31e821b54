"""Channels for tests, and who asks for the changes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from app.channels import registry
from app.channels.registry import RegisteredChannel, Registration
from app.db.changes import Change
from app.domain.channel import ChannelKind, ChannelState

CHANGE = Change(actor="tester", request_id="request-1")
LAUNCH = datetime(2026, 1, 1, tzinfo=UTC)


async def register(engine: AsyncEngine, code: str = "web", **changes: Any) -> RegisteredChannel:
    given: dict[str, Any] = {
        "code": code,
        "name": code,
        "kind": ChannelKind.ONLINE,
        "owner": "growth",
        "state": ChannelState.ACTIVE,
        "valid_from": LAUNCH,
        **changes,
    }
    async with engine.begin() as connection:
        return await registry.register(connection, Registration(**given), reason="test", change=CHANGE)
