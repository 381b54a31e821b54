"""What a person still has to decide, and what was done about it."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from app.db.tables.approvals import persons
from app.db.tables.base import Instant, Key, metadata
from app.db.tables.callers import originators
from app.db.tables.registry import channels

reviews = Table(
    "reviews",
    metadata,
    Column("decision_id", Uuid, primary_key=True),
    Column("decided_at", Instant, nullable=False),
    Column("retention_class", Text, nullable=False),
    Column("originator_id", Integer, ForeignKey(originators.c.originator_id), nullable=False),
    Column("application_id", Key, nullable=False),
    Column("revision", SmallInteger, nullable=False),
    Column("channel_id", Integer, ForeignKey(channels.c.channel_id), nullable=False),
    Column("product", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("opened_at", Instant, nullable=False),
    Column("due_at", Instant, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("two_persons", Boolean, nullable=False),
    Column("state", Text, nullable=False),
    Column("holder", Text),
    Column("held_until", Instant),
    Column("proposal", Text),
    Column("nonce", Text),
    Column("proposed_by", Text, ForeignKey(persons.c.person_id)),
    Column("approved_by", Text, ForeignKey(persons.c.person_id)),
    Column("single_person", Boolean, nullable=False),
    Column("resolved_at", Instant),
    Column("resolved_by", Text),
    Column("version", BigInteger, nullable=False),
    Index("reviews_open", "due_at", "decision_id", postgresql_where=text("resolved_at IS NULL")),
    Index("reviews_closed", "due_at", "decision_id", postgresql_where=text("resolved_at IS NOT NULL")),
    Index("reviews_month", "retention_class", "decided_at"),
)

review_actions = Table(
    "review_actions",
    metadata,
    Column("action_id", BigInteger, Identity(always=True), primary_key=True),
    Column("decision_id", Uuid, ForeignKey(reviews.c.decision_id), nullable=False),
    Column("at", Instant, nullable=False),
    Column("action", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("note", Text),
    Column("facts", JSONB),
    Index("review_actions_review", "decision_id", "action_id"),
)

review_intake = Table(
    "review_intake",
    metadata,
    Column("only_row", Boolean, primary_key=True),
    Column("complete_to", Instant, nullable=False),
    Column("mark_at", Instant, nullable=False),
    Column("mark_transaction", BigInteger, nullable=False),
)
