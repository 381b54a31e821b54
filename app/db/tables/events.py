"""What originators are told, where, and what became of it."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)

from app.db.tables.base import Instant, metadata
from app.db.tables.callers import originators

event_kinds = Table("event_kinds", metadata, Column("kind", Text, primary_key=True))

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("endpoint_id", Uuid, primary_key=True),
    Column("originator_id", Integer, ForeignKey(originators.c.originator_id), nullable=False),
    Column("url", Text, nullable=False),
    Column("kinds", ARRAY(Text)),
    Column("description", Text),
    Column("created_by", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("disabled_by", Text),
    Column("disabled_at", Instant),
    Index("webhook_endpoints_originator", "originator_id"),
)

webhook_secrets = Table(
    "webhook_secrets",
    metadata,
    Column("endpoint_id", Uuid, ForeignKey(webhook_endpoints.c.endpoint_id), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("salt", LargeBinary, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("ends_at", Instant),
)

events = Table(
    "events",
    metadata,
    Column("event_id", Uuid, primary_key=True),
    Column("position", BigInteger, Identity(always=True), nullable=False),
    Column("transaction_id", BigInteger, nullable=False),
    Column("at", Instant, nullable=False),
    Column("originator_id", Integer, ForeignKey(originators.c.originator_id)),
    Column("kind", Text, ForeignKey(event_kinds.c.kind), nullable=False),
    Column("subject", Text, nullable=False),
    Column("body", Text, nullable=False),
    Index("events_order", "transaction_id", "position"),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("delivery_id", BigInteger, Identity(always=True), primary_key=True),
    Column("endpoint_id", Uuid, ForeignKey(webhook_endpoints.c.endpoint_id), nullable=False),
    Column("event_id", Uuid, ForeignKey(events.c.event_id), nullable=False),
    Column("subject", Text, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("redelivery", Boolean, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_since", Instant, nullable=False),
    Column("next_attempt_at", Instant, nullable=False),
    Column("settled_at", Instant),
    UniqueConstraint("event_id", "endpoint_id", name="webhook_deliveries_are_one_each"),
    Index(
        "webhook_deliveries_due",
        "endpoint_id",
        "next_attempt_at",
        "position",
        postgresql_where=text("state = 'pending'"),
    ),
    Index(
        "webhook_deliveries_order",
        "endpoint_id",
        "subject",
        "position",
        postgresql_where=text("state = 'pending' AND NOT redelivery"),
    ),
)

webhook_attempts = Table(
    "webhook_attempts",
    metadata,
    Column("delivery_id", BigInteger, ForeignKey(webhook_deliveries.c.delivery_id), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("started_at", Instant, nullable=False),
    Column("duration_ms", Integer),
    Column("result", Text),
    Column("status", SmallInteger),
    Column("excerpt", Text),
)
