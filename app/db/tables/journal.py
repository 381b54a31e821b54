"""The decision log."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    Identity,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)

from app.db.tables.base import Instant, Key, metadata

decision_keys = Table(
    "decision_keys",
    metadata,
    Column("originator_id", Integer, primary_key=True, autoincrement=False),
    Column("application_id", Key, primary_key=True),
    Column("revision", SmallInteger, primary_key=True, autoincrement=False),
    Column("retention_class", Text, nullable=False),
    Column("decided_at", Instant, nullable=False),
    Column("decision_id", Uuid, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
)

decisions = Table(
    "decisions",
    metadata,
    Column("decision_id", Uuid, nullable=False),
    Column("decided_at", Instant, nullable=False),
    Column("retention_class", Text, nullable=False),
    Column("originator_id", Integer, nullable=False),
    Column("application_id", Key, nullable=False),
    Column("revision", SmallInteger, nullable=False),
    Column("channel_id", Integer, nullable=False),
    Column("channel_code", Text, nullable=False),
    Column("sub_id", Text),
    Column("product", Text, nullable=False),
    Column("jurisdiction", Text),
    Column("tier", Text, nullable=False),
    Column("policy_version", Integer, nullable=False),
    Column("engine", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("next_action", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("term_months", SmallInteger, nullable=False),
    Column("ceiling_amount", BigInteger),
    Column("offered_amount", BigInteger),
    Column("reason_codes", ARRAY(Text), nullable=False),
    Column("applicant_ref", Text),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("content_digest", LargeBinary, nullable=False),
    Column("input", LargeBinary),
    Column("record", LargeBinary),
    Column("response", LargeBinary, nullable=False),
    Column("erased_at", Instant),
    PrimaryKeyConstraint("decision_id", "decided_at", "retention_class"),
    Index("decisions_channel", "channel_id", "decided_at"),
    Index("decisions_applicant", "applicant_ref", postgresql_where=text("applicant_ref IS NOT NULL")),
    Index("decisions_review", "decided_at", postgresql_where=text("next_action = 'review'")),
    Index("decisions_decided_at", "decided_at", postgresql_using="brin"),
    postgresql_partition_by="LIST (retention_class)",
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("quarantine_id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", Instant, nullable=False),
    Column("decision_id", Uuid, nullable=False),
    Column("originator_id", Integer, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("error_code", Text, nullable=False),
    Column("input", LargeBinary),
    Column("erased_at", Instant),
)
