"""The log that the tests of retention fill."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.retention.decision_log import DecisionLog, opened
from tests.support.cluster import Database


@pytest.fixture
async def log(seeded_database: Database) -> AsyncIterator[DecisionLog]:
    """An empty log, with the default policy and the demo's channels."""
    async with opened(seeded_database) as log:
        yield log
