"""A challenger, and what it would have decided."""

from __future__ import annotations

from sqlalchemy import ARRAY, BigInteger, Column, ForeignKey, Index, Integer, LargeBinary, Table, Text, Uuid, text

from app.db.tables.base import Instant, metadata

challengers = Table(
    "challengers",
    metadata,
    Column("challenger_id", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("document", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("sample_ppm", Integer, nullable=False),
    Column("comment", Text),
    Column("set_by", Text, nullable=False),
    Column("set_at", Instant, nullable=False),
    Column("cleared_by", Text),
    Column("cleared_at", Instant),
    Index(
        "challengers_one_is_open",
        text("(cleared_at IS NULL)"),
        unique=True,
        postgresql_where=text("cleared_at IS NULL"),
    ),
)

shadow_hours = Table(
    "shadow_hours",
    metadata,
    Column("challenger_id", Integer, ForeignKey(challengers.c.challenger_id), primary_key=True),
    Column("hour", Instant, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("tier", Text, primary_key=True),
    Column("before", Text, primary_key=True),
    Column("after", Text, primary_key=True),
    Column("evaluations", BigInteger, nullable=False),
    Column("examples", ARRAY(Uuid), nullable=False),
)

shadow_reasons = Table(
    "shadow_reasons",
    metadata,
    Column("challenger_id", Integer, ForeignKey(challengers.c.challenger_id), primary_key=True),
    Column("hour", Instant, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("tier", Text, primary_key=True),
    Column("code", Text, primary_key=True),
    Column("gained", BigInteger, nullable=False),
    Column("lost", BigInteger, nullable=False),
)

shadow_losses = Table(
    "shadow_losses",
    metadata,
    Column("challenger_id", Integer, ForeignKey(challengers.c.challenger_id), primary_key=True),
    Column("hour", Instant, primary_key=True),
    Column("errors", BigInteger, nullable=False),
    Column("dropped", BigInteger, nullable=False),
)
