"""What was found when the gate last looked whether its own figures agree."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Identity, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from app.db.tables.base import Instant, metadata

invariant_runs = Table(
    "invariant_runs",
    metadata,
    Column("run_id", BigInteger, Identity(always=True), primary_key=True),
    Column("started_at", Instant, nullable=False),
    Column("ended_at", Instant, nullable=False),
    Column("since", Instant, nullable=False),
    Column("violations", JSONB, nullable=False),
    Column("run_by", Text, nullable=False),
)

invariant_scope = Table(
    "invariant_scope",
    metadata,
    Column("only_row", Boolean, primary_key=True),
    Column("since", Instant, nullable=False),
)
