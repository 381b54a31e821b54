"""The named list of channels, and their tiers."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import TSTZRANGE, ExcludeConstraint

from app.db.tables.base import Instant, metadata

channels = Table(
    "channels",
    metadata,
    Column("channel_id", Integer, Identity(always=True), primary_key=True),
    Column("code", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("agreement_id", Text),
    Column("services", ARRAY(Text), nullable=False),
    Column("valid_from", Instant, nullable=False),
    Column("valid_to", Instant),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("revision", BigInteger, nullable=False),
    CheckConstraint("valid_to IS NULL OR valid_to > valid_from", name="channels_validity"),
    Index("channels_revision", "revision"),
)

channel_aliases = Table(
    "channel_aliases",
    metadata,
    Column("alias", Text, primary_key=True),
    Column("channel_id", Integer, ForeignKey(channels.c.channel_id), nullable=False),
    Column("created_at", Instant, nullable=False),
    Index("channel_aliases_channel", "channel_id"),
)

channel_state_changes = Table(
    "channel_state_changes",
    metadata,
    Column("change_id", BigInteger, Identity(always=True), primary_key=True),
    Column("channel_id", Integer, ForeignKey(channels.c.channel_id), nullable=False),
    Column("state_before", Text),
    Column("state_after", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text),
    Index("channel_state_changes_channel", "channel_id", "at"),
)

scopes = Table(
    "scopes",
    metadata,
    Column("scope_id", Integer, Identity(always=True), primary_key=True),
    Column("channel_id", Integer, ForeignKey(channels.c.channel_id), nullable=False),
    Column("product", Text),
    Column("jurisdiction", Text),
    UniqueConstraint(
        "channel_id", "product", "jurisdiction", name="scopes_are_distinct", postgresql_nulls_not_distinct=True
    ),
)

tier_assignments = Table(
    "tier_assignments",
    metadata,
    Column("assignment_id", BigInteger, Identity(always=True), primary_key=True),
    Column("scope_id", Integer, ForeignKey(scopes.c.scope_id), nullable=False),
    Column("tier", Text, nullable=False),
    Column("valid", TSTZRANGE, nullable=False),
    Column("cause", Text, nullable=False),
    Column("reason", Text),
    Column("assigned_by", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Index("tier_assignments_scope", "scope_id"),
    ExcludeConstraint(
        (text("int4range(scope_id, scope_id, '[]')"), "&&"),
        ("valid", "&&"),
        name="tier_assignments_do_not_overlap",
        using="gist",
    ),
)
