"""One service of four workers for all tests that do not break it: starting one costs more than most of them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.cluster import Cluster
from tests.support.server import Server, seeded_server


@pytest.fixture(scope="package")
async def shared_server(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    async with seeded_server(cluster, tmp_path_factory.mktemp("shared-server"), workers=4) as server:
        yield server
