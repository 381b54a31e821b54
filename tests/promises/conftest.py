"""One service of four workers for all tests that do not break it: starting one costs more than most of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.cluster import SEEDED_TEMPLATE, Cluster
from tests.support.server import Server


@pytest.fixture(scope="package")
async def shared_server(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    database = await cluster.create(SEEDED_TEMPLATE)
    log: Path = tmp_path_factory.mktemp("shared-server") / "server.log"
    server = Server(database, log, workers=4, environment={"GATE_RATE_LIMIT_PER_SECOND": "0"})
    server.start()
    await server.wait_ready()
    yield server
    await server.close()
    await cluster.drop(database)
