"""A stored decision as analysts, reviewers and admins see it, with what it would have been under another tier."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from app.domain.canonical import instant_text
from app.domain.compiled import CompiledPolicy
from app.domain.errors import DomainError
from app.domain.reasons import Outcome
from app.domain.screening import outcomes_by_tier, tier_decisive
from app.journal.reader import DecisionSummary, StoredDecision
from app.screening.replay import decide_again


class TierEvidence(NamedTuple):
    """What the request alone comes to under each tier, in order of rank, and whether the tier made the difference."""

    outcomes_by_tier: dict[str, Outcome]
    tier_decisive: bool


def tier_evidence(policy: CompiledPolicy, stored: StoredDecision) -> TierEvidence | None:
    """Computed from the stored input and context; None where they are erased or cannot be read any more."""
    if stored.input is None or stored.record is None:
        return None
    try:
        screening = decide_again(policy, stored.input, stored.record).decision.screening
    except DomainError:
        return None
    by_tier = outcomes_by_tier(policy, screening.standing, screening.application, screening.at)
    return TierEvidence(by_tier, tier_decisive(screening.outcome, by_tier))


def summary_document(summary: DecisionSummary) -> dict[str, Any]:
    """The columns that lists show."""
    return {
        "decision_id": str(summary.decision_id),
        "decided_at": instant_text(summary.decided_at),
        "originator": summary.originator_code,
        "application_id": summary.application_id,
        "revision": summary.revision,
        "channel_code": summary.channel_code,
        "sub_id": summary.sub_id,
        "product": summary.product,
        "jurisdiction": summary.jurisdiction,
        "tier": summary.tier,
        "policy_version": summary.policy_version,
        "engine": summary.engine,
        "outcome": summary.outcome,
        "next_action": summary.next_action,
        "amount": summary.amount,
        "currency": summary.currency,
        "term_months": summary.term_months,
        "ceiling_amount": summary.ceiling_amount,
        "offered_amount": summary.offered_amount,
        "reason_codes": list(summary.reason_codes),
        "retention_class": summary.retention_class,
        "erased_at": None if summary.erased_at is None else instant_text(summary.erased_at),
    }


def detail_document(stored: StoredDecision, evidence: TierEvidence | None) -> dict[str, Any]:
    """Everything about one decision. The stored bytes stand in it as they are, for orjson."""
    return {
        **summary_document(stored.summary),
        "response": orjson.Fragment(stored.response),
        "record": None if stored.record is None else orjson.Fragment(stored.record),
        "input": None if stored.input is None else orjson.Fragment(stored.input),
        "outcomes_by_tier": None if evidence is None else evidence.outcomes_by_tier,
        "tier_decisive": None if evidence is None else evidence.tier_decisive,
    }
