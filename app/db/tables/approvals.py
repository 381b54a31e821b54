"""What takes two persons, and who they are."""

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
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from app.db.tables.base import Instant, metadata
from app.db.tables.registry import tier_assignments
from app.db.tables.versions import policies

governance = Table(
    "governance",
    metadata,
    Column("only_row", Boolean, primary_key=True),
    Column("single_person", Boolean, nullable=False),
    Column("report_required", Boolean, nullable=False),
    Column("break_glass_hours_max", Integer, nullable=False),
)

persons = Table(
    "persons",
    metadata,
    Column("person_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("roles", ARRAY(Text), nullable=False),
    Column("registered_at", Instant, nullable=False),
    Column("disabled_at", Instant),
)

person_secrets = Table(
    "person_secrets",
    metadata,
    Column("person_id", Text, ForeignKey(persons.c.person_id), primary_key=True),
    Column("number", Integer, Identity(always=True), nullable=False),
    Column("stored_key", LargeBinary, nullable=False),
    Column("changed_at", Instant, nullable=False),
)

signatures = Table(
    "signatures",
    metadata,
    Column("signature_id", BigInteger, Identity(always=True), primary_key=True),
    Column("person_id", Text, ForeignKey(persons.c.person_id), nullable=False),
    Column("act", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("proof_hash", LargeBinary, nullable=False),
    Column("at", Instant, nullable=False),
    UniqueConstraint("proof_hash", name="signatures_are_used_once"),
)

policy_drafts = Table(
    "policy_drafts",
    metadata,
    Column("draft_id", Integer, Identity(always=True), primary_key=True),
    Column("state", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("document", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("repeats_version", Integer, ForeignKey(policies.c.version)),
    Column("based_on", Integer, ForeignKey(policies.c.version)),
    Column("comment", Text),
    Column("effective_from", Instant),
    Column("contributors", ARRAY(Text), nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("submitted_by", Text, ForeignKey(persons.c.person_id)),
    Column("submitted_at", Instant),
    Column("nonce", Text),
    Column("warnings", ARRAY(Text)),
    Column("findings", ARRAY(Text)),
    Column("approved_by", Text, ForeignKey(persons.c.person_id)),
    Column("approved_at", Instant),
    Column("acknowledged_warnings", ARRAY(Text)),
    Column("report_digest", LargeBinary),
    Column("approval_comment", Text),
    Column("closed_by", Text),
    Column("closed_at", Instant),
    Column("closing_note", Text),
    Column("version", Integer, ForeignKey(policies.c.version)),
    Column("activated_at", Instant),
    Index("policy_drafts_one_is_active", "state", unique=True, postgresql_where=text("state = 'active'")),
    Index("policy_drafts_due", "effective_from", postgresql_where=text("state = 'approved'")),
    Index("policy_drafts_version", "version", postgresql_where=text("version IS NOT NULL")),
)

whatif_reports = Table(
    "whatif_reports",
    metadata,
    Column("report_id", BigInteger, Identity(always=True), primary_key=True),
    Column("draft_id", Integer, ForeignKey(policy_drafts.c.draft_id), nullable=False),
    Column("document_digest", LargeBinary, nullable=False),
    Column("report_digest", LargeBinary, nullable=False),
    Column("report", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    UniqueConstraint("draft_id", "document_digest", "report_digest", name="whatif_reports_once"),
)

whatif_runs = Table(
    "whatif_runs",
    metadata,
    Column("run_id", BigInteger, Identity(always=True), primary_key=True),
    Column("draft_id", Integer, ForeignKey(policy_drafts.c.draft_id), nullable=False),
    Column("document_digest", LargeBinary, nullable=False),
    Column("question", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("phase", Text, nullable=False),
    Column("rows_done", BigInteger, nullable=False),
    Column("rows_total", BigInteger),
    Column("created_by", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("heard_at", Instant, nullable=False),
    Column("cancelled_by", Text),
    Column("ended_at", Instant),
    Column("failure", Text),
    Column("report_id", BigInteger, ForeignKey(whatif_reports.c.report_id)),
    Column("measured", JSONB),
    Index("whatif_runs_of_draft", "draft_id", "run_id"),
    Index("whatif_runs_one_at_a_time", "state", unique=True, postgresql_where=text("state = 'running'")),
)

break_glass = Table(
    "break_glass",
    metadata,
    Column("break_glass_id", Integer, Identity(always=True), primary_key=True),
    Column("state", Text, nullable=False),
    Column("version", Integer, ForeignKey(policies.c.version), nullable=False),
    Column("returns_to", Integer, ForeignKey(policies.c.version), nullable=False),
    Column("reason", Text, nullable=False),
    Column("person_id", Text, ForeignKey(persons.c.person_id), nullable=False),
    Column("nonce", Text, nullable=False),
    Column("opened_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("confirmed_by", Text, ForeignKey(persons.c.person_id)),
    Column("ended_at", Instant),
    Column("ended_by", Text),
    Index("break_glass_one_is_open", "state", unique=True, postgresql_where=text("state = 'open'")),
)

change_kinds = Table(
    "change_kinds",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("carried_out_by", Text, nullable=False),
)

change_requests = Table(
    "change_requests",
    metadata,
    Column("change_id", BigInteger, Identity(always=True), primary_key=True),
    Column("kind", Text, ForeignKey(change_kinds.c.kind), nullable=False),
    Column("subject", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("reason", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("requested_by", Text, ForeignKey(persons.c.person_id), nullable=False),
    Column("requested_at", Instant, nullable=False),
    Column("nonce", Text, nullable=False),
    Column("approved_by", Text, ForeignKey(persons.c.person_id)),
    Column("closed_by", Text),
    Column("closed_at", Instant),
    Column("closing_note", Text),
    Index("change_requests_pending", "change_id", postgresql_where=text("state = 'pending'")),
)

tier_overrides = Table(
    "tier_overrides",
    metadata,
    Column("assignment_id", BigInteger, ForeignKey(tier_assignments.c.assignment_id), primary_key=True),
    Column("change_id", BigInteger, ForeignKey(change_requests.c.change_id), nullable=False),
    Column("tier_before", Text),
    Column("cause_before", Text),
    Column("expires_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Index("tier_overrides_due", "expires_at", postgresql_where=text("ended_at IS NULL")),
)
