"""Aggregate limits, and what accepts take of them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
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
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from app.db.tables.base import Instant, metadata
from app.db.tables.registry import channels

reservation_terms = Table(
    "reservation_terms",
    metadata,
    Column("channel_kind", Text, primary_key=True),
    Column("retention_class", Text, primary_key=True),
    Column("hours", SmallInteger, nullable=False),
)

reservations = Table(
    "reservations",
    metadata,
    Column("decision_id", Uuid, primary_key=True),
    Column("channel_id", Integer, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reserved_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("resolved_at", Instant),
    Column("cause", Text),
    Column("posted_amount", BigInteger),
    Column("decided_at", Instant),
    Index("reservations_resolved_at", "resolved_at", postgresql_where=text("resolved_at IS NOT NULL")),
    Index("reservations_open", "expires_at", postgresql_where=text("state = 'reserved'")),
)

budgets = Table(
    "budgets",
    metadata,
    Column("budget_id", BigInteger, Identity(always=True), primary_key=True),
    Column("channel_id", Integer, ForeignKey(channels.c.channel_id)),
    Column("tier", Text),
    Column("product", Text),
    Column("jurisdiction", Text),
    Column("period", Text, nullable=False),
    Column("measure", Text, nullable=False),
    Column("currency", Text),
    Column("limit_units", BigInteger, nullable=False),
    Column("overbooking_pct", SmallInteger, nullable=False),
    Column("loss_rate_ppm", JSONB),
    Column("growth_pct", SmallInteger),
    Column("floor_units", BigInteger),
    Column("time_zone", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("revision", BigInteger, nullable=False),
    Index(
        "budgets_one_is_open",
        *("channel_id", "tier", "product", "jurisdiction", "period", "measure", "currency"),
        unique=True,
        postgresql_nulls_not_distinct=True,
        postgresql_where=text("ended_at IS NULL"),
    ),
)

budget_periods = Table(
    "budget_periods",
    metadata,
    Column("period_id", BigInteger, Identity(always=True), primary_key=True),
    Column("budget_id", BigInteger, ForeignKey(budgets.c.budget_id), nullable=False),
    Column("starts_at", Instant, nullable=False),
    Column("ends_at", Instant, nullable=False),
    Column("reserved", BigInteger, nullable=False),
    Column("posted", BigInteger, nullable=False),
    Column("cap_units", BigInteger),
    UniqueConstraint("budget_id", "starts_at", name="budget_periods_once"),
)

reservation_units = Table(
    "reservation_units",
    metadata,
    Column("decision_id", Uuid, primary_key=True),
    Column("period_id", BigInteger, primary_key=True, autoincrement=False),
    Column("units", BigInteger, nullable=False),
)

overruns = Table(
    "overruns",
    metadata,
    Column("decision_id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("channel_id", Integer, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Index("overruns_at", "at"),
)

overrun_units = Table(
    "overrun_units",
    metadata,
    Column("decision_id", Uuid, ForeignKey(overruns.c.decision_id), primary_key=True),
    Column("period_id", BigInteger, primary_key=True, autoincrement=False),
    Column("units", BigInteger, nullable=False),
)

loan_balances = Table(
    "loan_balances",
    metadata,
    Column("decision_id", Uuid, primary_key=True),
    Column("balance", BigInteger, nullable=False),
    Column("at", Instant, nullable=False),
)

held_queue = Table(
    "held_queue",
    metadata,
    Column("decision_id", Uuid, primary_key=True),
    Column("decided_at", Instant, nullable=False),
    Column("retention_class", Text, nullable=False),
    Column("originator_id", Integer, nullable=False),
    Column("application_id", Text, nullable=False),
    Column("revision", SmallInteger, nullable=False),
    Column("channel_id", Integer, nullable=False),
    Column("channel_code", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("product", Text, nullable=False),
    Column("jurisdiction", Text),
    Column("amount", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("lapses_at", Instant, nullable=False),
    Column("claimed_until", Instant, nullable=False),
    Column("state", Text, nullable=False),
    Column("closed_at", Instant),
    Column("policy_version", Integer),
    Column("outcome", Text),
    Column("next_action", Text),
    Column("reason_codes", ARRAY(Text)),
    Column("record", LargeBinary),
    Column("response", LargeBinary),
    Index("held_queue_waiting", "decided_at", postgresql_where=text("state = 'waiting'")),
    Index("held_queue_closed_at", "closed_at", postgresql_where=text("closed_at IS NOT NULL")),
)
