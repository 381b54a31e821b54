"""Engines of the two logins on a clean database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.engine import make_engine
from tests.support.cluster import Database


@pytest.fixture
async def governance(database: Database) -> AsyncIterator[AsyncEngine]:
    engine = make_engine(database.governance, pool_size=10)
    yield engine
    await engine.dispose()


@pytest.fixture
async def serving(database: Database) -> AsyncIterator[AsyncEngine]:
    engine = make_engine(database.serving, pool_size=2)
    yield engine
    await engine.dispose()
