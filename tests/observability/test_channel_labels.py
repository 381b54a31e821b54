"""Which channels have a label of their own when a worker begins."""

from __future__ import annotations

import asyncpg
import pytest

from app.db.engine import make_engine
from app.observability import metrics
from app.observability.metrics import OTHER, BoundedLabel
from app.rollout.upkeep import Upkeep
from tests.conftest import StartServer
from tests.support.applications import application
from tests.support.cluster import Database


async def _labels(database: Database, monkeypatch: pytest.MonkeyPatch, *, limit: int) -> dict[str, str]:
    """The label of each of three channels that decide in this order, once a worker has begun with so many labels."""
    monkeypatch.setattr(metrics, "CHANNEL_LABEL_LIMIT", limit)
    monkeypatch.setattr(metrics, "CHANNEL_LABELS", BoundedLabel(limit))
    engine = make_engine(database.serving, pool_size=1)
    upkeep = Upkeep(engine, partitions_ahead_months=1)
    await upkeep.start()
    try:
        return {code: metrics.CHANNEL_LABELS.label(code) for code in ("app-store", "search-ads", "broker-one")}
    finally:
        await upkeep.stop()
        await engine.dispose()


async def test_the_busiest_channels_have_their_labels_before_the_first_decision(
    seeded_database: Database, start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = (await start_server(seeded_database)).client()
    for number, code in enumerate(["app-store", "search-ads", "search-ads", "broker-one", "broker-one", "broker-one"]):
        answer = await client.post("/v1/decisions", json=application(f"label-{number}", channel_code=code))
        assert answer.status_code == 200, answer.text
    logged = await _labels(seeded_database, monkeypatch, limit=2)
    assert logged == {"app-store": OTHER, "search-ads": "search-ads", "broker-one": "broker-one"}
    connection = await asyncpg.connect(seeded_database.superuser)
    await connection.execute(
        "INSERT INTO gate.channel_days SELECT current_date - 1, channel_id, 9, 9, 0, 0"
        " FROM gate.channels WHERE code = 'app-store'"
    )
    await connection.close()
    digested = await _labels(seeded_database, monkeypatch, limit=2)
    assert digested == {"app-store": "app-store", "search-ads": OTHER, "broker-one": "broker-one"}


async def test_without_any_decision_labels_go_to_who_comes_first(
    seeded_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = await _labels(seeded_database, monkeypatch, limit=1)
    assert labels == {"app-store": "app-store", "search-ads": OTHER, "broker-one": OTHER}
