"""The published policies."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Identity, Index, Integer, LargeBinary, Table, Text, text

from app.db.tables.base import Instant, metadata

policies = Table(
    "policies",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("document", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("based_on", Integer, ForeignKey("gate.policies.version")),
    Column("comment", Text),
    Column("created_by", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
)

policy_activations = Table(
    "policy_activations",
    metadata,
    Column("activation_id", BigInteger, Identity(always=True), primary_key=True),
    Column("version", Integer, ForeignKey(policies.c.version), nullable=False),
    Column("activated_at", Instant, nullable=False),
    Column("retired_at", Instant),
    Column("activated_by", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Index(
        "policy_activations_one_is_open",
        text("(retired_at IS NULL)"),
        unique=True,
        postgresql_where=text("retired_at IS NULL"),
    ),
)
