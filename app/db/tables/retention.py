"""What keeps the log as long as it must be kept, and what is left of it after that."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    Date,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    Uuid,
)

from app.db.tables.base import Instant, metadata
from app.db.tables.registry import channels

legal_holds = Table(
    "legal_holds",
    metadata,
    Column("hold_id", BigInteger, Identity(always=True), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("applicant_ref", Text),
    Column("decision_id", Uuid),
    Column("channel_id", Integer, ForeignKey(channels.c.channel_id)),
    Column("reason", Text, nullable=False),
    Column("placed_by", Text, nullable=False),
    Column("placed_at", Instant, nullable=False),
    Column("released_at", Instant),
    Column("released_by", Text),
    Column("release_reason", Text),
)

journal_digests = Table(
    "journal_digests",
    metadata,
    Column("day", Date, primary_key=True),
    Column("retention_class", Text, primary_key=True),
    Column("decisions", BigInteger, nullable=False),
    Column("hour_decisions", ARRAY(BigInteger), nullable=False),
    Column("hour_digests", ARRAY(LargeBinary), nullable=False),
    Column("previous_digest", LargeBinary, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("made_at", Instant, nullable=False),
)

channel_days = Table(
    "channel_days",
    metadata,
    Column("day", Date, primary_key=True),
    Column("channel_id", Integer, ForeignKey(channels.c.channel_id), primary_key=True),
    Column("decisions", BigInteger, nullable=False),
    Column("accepts", BigInteger, nullable=False),
    Column("escalates", BigInteger, nullable=False),
    Column("rejects", BigInteger, nullable=False),
)

dropped_months = Table(
    "dropped_months",
    metadata,
    Column("retention_class", Text, primary_key=True),
    Column("month", Date, primary_key=True),
    Column("dropped_at", Instant, nullable=False),
    Column("decisions", BigInteger, nullable=False),
    Column("kept", BigInteger, nullable=False),
    Column("digest", LargeBinary, nullable=False),
)

decision_facts = Table(
    "decision_facts",
    metadata,
    Column("fact_id", BigInteger, Identity(always=True), primary_key=True),
    Column("month", Date, nullable=False),
    Column("retention_class", Text, nullable=False),
    Column("channel_id", Integer, ForeignKey(channels.c.channel_id), nullable=False),
    Column("product", Text, nullable=False),
    Column("jurisdiction", Text),
    Column("tier", Text, nullable=False),
    Column("policy_version", Integer, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("amount_band", BigInteger, nullable=False),
    Column("term_months", SmallInteger, nullable=False),
    Column("reason_codes", ARRAY(Text), nullable=False),
    Column("decisions", BigInteger, nullable=False),
    Index("decision_facts_month", "month", "channel_id"),
)
