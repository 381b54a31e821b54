"""A database that is governed: persons are registered, a policy is active, and nobody changes anything alone."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.engine import make_engine
from tests.governance.people import People, govern
from tests.support.cluster import Database


@pytest.fixture
async def people(database: Database) -> People:
    return await govern(database)


@pytest.fixture
async def governance(database: Database, people: People) -> AsyncIterator[AsyncEngine]:
    engine = make_engine(database.governance, pool_size=6)
    yield engine
    await engine.dispose()


@pytest.fixture
async def serving(database: Database, people: People) -> AsyncIterator[AsyncEngine]:
    engine = make_engine(database.serving, pool_size=6)
    yield engine
    await engine.dispose()


@pytest.fixture
async def owner(database: Database, people: People) -> AsyncIterator[AsyncEngine]:
    engine = make_engine(database.owner, pool_size=2)
    yield engine
    await engine.dispose()
