"""The tables, as SQLAlchemy reads them. The migrations in SQL are the source; a check holds the two together."""

from __future__ import annotations

from app.db.tables.approvals import (
    break_glass,
    change_kinds,
    change_requests,
    governance,
    person_secrets,
    persons,
    policy_drafts,
    signatures,
    tier_overrides,
    whatif_reports,
    whatif_runs,
)
from app.db.tables.audit import audit_head, audit_log
from app.db.tables.base import SCHEMA, metadata
from app.db.tables.budgets import (
    budget_periods,
    budgets,
    held_queue,
    loan_balances,
    overrun_units,
    overruns,
    reservation_terms,
    reservation_units,
    reservations,
)
from app.db.tables.callers import api_keys, originators
from app.db.tables.challenge import challengers, shadow_hours, shadow_losses, shadow_reasons
from app.db.tables.events import (
    event_kinds,
    events,
    webhook_attempts,
    webhook_deliveries,
    webhook_endpoints,
    webhook_secrets,
)
from app.db.tables.invariants import invariant_runs, invariant_scope
from app.db.tables.journal import decision_keys, decisions, quarantine
from app.db.tables.outcomes import (
    application_outcomes,
    book_loans,
    book_months,
    book_staging,
    channel_costs,
    feed_statements,
    outcome_events,
    outcome_staging,
    reservation_adjustments,
)
from app.db.tables.registry import channel_aliases, channel_state_changes, channels, scopes, tier_assignments
from app.db.tables.retention import channel_days, decision_facts, dropped_months, journal_digests, legal_holds
from app.db.tables.reviews import review_actions, review_intake, reviews
from app.db.tables.serving import state, workers
from app.db.tables.versions import policies, policy_activations

__all__ = [
    "SCHEMA",
    "api_keys",
    "application_outcomes",
    "audit_head",
    "audit_log",
    "book_loans",
    "book_months",
    "book_staging",
    "break_glass",
    "budget_periods",
    "budgets",
    "challengers",
    "change_kinds",
    "change_requests",
    "channel_aliases",
    "channel_costs",
    "channel_days",
    "channel_state_changes",
    "channels",
    "decision_facts",
    "decision_keys",
    "decisions",
    "dropped_months",
    "event_kinds",
    "events",
    "feed_statements",
    "governance",
    "held_queue",
    "invariant_runs",
    "invariant_scope",
    "journal_digests",
    "legal_holds",
    "loan_balances",
    "metadata",
    "originators",
    "outcome_events",
    "outcome_staging",
    "overrun_units",
    "overruns",
    "person_secrets",
    "persons",
    "policies",
    "policy_activations",
    "policy_drafts",
    "quarantine",
    "reservation_adjustments",
    "reservation_terms",
    "reservation_units",
    "reservations",
    "review_actions",
    "review_intake",
    "reviews",
    "scopes",
    "shadow_hours",
    "shadow_losses",
    "shadow_reasons",
    "signatures",
    "state",
    "tier_assignments",
    "tier_overrides",
    "webhook_attempts",
    "webhook_deliveries",
    "webhook_endpoints",
    "webhook_secrets",
    "whatif_reports",
    "whatif_runs",
    "workers",
]
