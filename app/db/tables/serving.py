"""What workers serve, and which there are."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Integer, Table, Text, Uuid

from app.db.tables.base import Instant, metadata

state = Table(
    "state",
    metadata,
    Column("only_row", Boolean, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("policy_version", Integer),
    Column("budget_revision", BigInteger, nullable=False),
)

workers = Table(
    "workers",
    metadata,
    Column("worker_id", Uuid, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("engine", Text, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("snapshot_revision", BigInteger, nullable=False),
    Column("policy_version", Integer),
    Column("seen_at", Instant, nullable=False),
    Column("lease_until", Instant, nullable=False),
)
