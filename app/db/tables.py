"""The tables, as SQLAlchemy reads them. The migrations in SQL are the source; a check holds the two together."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP, TSTZRANGE, ExcludeConstraint

SCHEMA = "gate"

metadata = MetaData(schema=SCHEMA)

_Instant = TIMESTAMP(timezone=True)
_Key = Text(collation="C")

state = Table(
    "state",
    metadata,
    Column("only_row", Boolean, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("policy_version", Integer),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("at", _Instant, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("request_id", Text),
    Column("previous_hash", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)

audit_head = Table(
    "audit_head",
    metadata,
    Column("only_row", Boolean, primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)

originators = Table(
    "originators",
    metadata,
    Column("originator_id", Integer, Identity(always=True), primary_key=True),
    Column("code", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("created_at", _Instant, nullable=False),
    Column("revision", BigInteger, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("originator_id", Integer, ForeignKey(originators.c.originator_id)),
    Column("person_id", Text),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("label", Text, nullable=False),
    Column("roles", ARRAY(Text), nullable=False),
    Column("rate_limit_per_second", Integer),
    Column("created_at", _Instant, nullable=False),
    Column("expires_at", _Instant),
    Column("revoked_at", _Instant),
    Column("revision", BigInteger, nullable=False),
)

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
    Column("valid_from", _Instant, nullable=False),
    Column("valid_to", _Instant),
    Column("created_at", _Instant, nullable=False),
    Column("updated_at", _Instant, nullable=False),
    Column("revision", BigInteger, nullable=False),
    CheckConstraint("valid_to IS NULL OR valid_to > valid_from", name="channels_validity"),
    Index("channels_revision", "revision"),
)

channel_aliases = Table(
    "channel_aliases",
    metadata,
    Column("alias", Text, primary_key=True),
    Column("channel_id", Integer, ForeignKey(channels.c.channel_id), nullable=False),
    Column("created_at", _Instant, nullable=False),
    Index("channel_aliases_channel", "channel_id"),
)

channel_state_changes = Table(
    "channel_state_changes",
    metadata,
    Column("change_id", BigInteger, Identity(always=True), primary_key=True),
    Column("channel_id", Integer, ForeignKey(channels.c.channel_id), nullable=False),
    Column("state_before", Text),
    Column("state_after", Text, nullable=False),
    Column("at", _Instant, nullable=False),
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
    Column("created_at", _Instant, nullable=False),
    Index("tier_assignments_scope", "scope_id"),
    ExcludeConstraint(
        (text("int4range(scope_id, scope_id, '[]')"), "&&"),
        ("valid", "&&"),
        name="tier_assignments_do_not_overlap",
        using="gist",
    ),
)

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
    Column("created_at", _Instant, nullable=False),
)

policy_activations = Table(
    "policy_activations",
    metadata,
    Column("activation_id", BigInteger, Identity(always=True), primary_key=True),
    Column("version", Integer, ForeignKey(policies.c.version), nullable=False),
    Column("activated_at", _Instant, nullable=False),
    Column("retired_at", _Instant),
    Column("activated_by", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Index(
        "policy_activations_one_is_open",
        text("(retired_at IS NULL)"),
        unique=True,
        postgresql_where=text("retired_at IS NULL"),
    ),
)

workers = Table(
    "workers",
    metadata,
    Column("worker_id", Uuid, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("engine", Text, nullable=False),
    Column("started_at", _Instant, nullable=False),
    Column("snapshot_revision", BigInteger, nullable=False),
    Column("policy_version", Integer),
    Column("seen_at", _Instant, nullable=False),
    Column("lease_until", _Instant, nullable=False),
)

decision_keys = Table(
    "decision_keys",
    metadata,
    Column("originator_id", Integer, primary_key=True, autoincrement=False),
    Column("application_id", _Key, primary_key=True),
    Column("revision", SmallInteger, primary_key=True, autoincrement=False),
    Column("retention_class", Text, nullable=False),
    Column("decided_at", _Instant, nullable=False),
    Column("decision_id", Uuid, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
)

decisions = Table(
    "decisions",
    metadata,
    Column("decision_id", Uuid, nullable=False),
    Column("decided_at", _Instant, nullable=False),
    Column("retention_class", Text, nullable=False),
    Column("originator_id", Integer, nullable=False),
    Column("application_id", _Key, nullable=False),
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
    Column("erased_at", _Instant),
    PrimaryKeyConstraint("decision_id", "decided_at", "retention_class"),
    Index("decisions_channel", "channel_id", "decided_at"),
    Index("decisions_applicant", "applicant_ref", postgresql_where=text("applicant_ref IS NOT NULL")),
    Index("decisions_decided_at", "decided_at", postgresql_using="brin"),
    postgresql_partition_by="LIST (retention_class)",
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("quarantine_id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", _Instant, nullable=False),
    Column("decision_id", Uuid, nullable=False),
    Column("originator_id", Integer, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("error_code", Text, nullable=False),
    Column("input", LargeBinary),
    Column("erased_at", _Instant),
)

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
    Column("placed_at", _Instant, nullable=False),
    Column("released_at", _Instant),
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
    Column("made_at", _Instant, nullable=False),
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
    Column("dropped_at", _Instant, nullable=False),
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
    Column("registered_at", _Instant, nullable=False),
    Column("disabled_at", _Instant),
)

person_secrets = Table(
    "person_secrets",
    metadata,
    Column("person_id", Text, ForeignKey(persons.c.person_id), primary_key=True),
    Column("number", Integer, Identity(always=True), nullable=False),
    Column("stored_key", LargeBinary, nullable=False),
    Column("changed_at", _Instant, nullable=False),
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
    Column("at", _Instant, nullable=False),
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
    Column("effective_from", _Instant),
    Column("contributors", ARRAY(Text), nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", _Instant, nullable=False),
    Column("updated_at", _Instant, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("submitted_by", Text, ForeignKey(persons.c.person_id)),
    Column("submitted_at", _Instant),
    Column("nonce", Text),
    Column("warnings", ARRAY(Text)),
    Column("findings", ARRAY(Text)),
    Column("approved_by", Text, ForeignKey(persons.c.person_id)),
    Column("approved_at", _Instant),
    Column("acknowledged_warnings", ARRAY(Text)),
    Column("report_digest", LargeBinary),
    Column("approval_comment", Text),
    Column("closed_by", Text),
    Column("closed_at", _Instant),
    Column("closing_note", Text),
    Column("version", Integer, ForeignKey(policies.c.version)),
    Column("activated_at", _Instant),
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
    Column("created_at", _Instant, nullable=False),
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
    Column("created_at", _Instant, nullable=False),
    Column("heard_at", _Instant, nullable=False),
    Column("cancelled_by", Text),
    Column("ended_at", _Instant),
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
    Column("opened_at", _Instant, nullable=False),
    Column("expires_at", _Instant, nullable=False),
    Column("confirmed_by", Text, ForeignKey(persons.c.person_id)),
    Column("ended_at", _Instant),
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
    Column("requested_at", _Instant, nullable=False),
    Column("nonce", Text, nullable=False),
    Column("approved_by", Text, ForeignKey(persons.c.person_id)),
    Column("closed_by", Text),
    Column("closed_at", _Instant),
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
    Column("expires_at", _Instant, nullable=False),
    Column("ended_at", _Instant),
    Index("tier_overrides_due", "expires_at", postgresql_where=text("ended_at IS NULL")),
)

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
    Column("set_at", _Instant, nullable=False),
    Column("cleared_by", Text),
    Column("cleared_at", _Instant),
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
    Column("hour", _Instant, primary_key=True),
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
    Column("hour", _Instant, primary_key=True),
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
    Column("hour", _Instant, primary_key=True),
    Column("errors", BigInteger, nullable=False),
    Column("dropped", BigInteger, nullable=False),
)
