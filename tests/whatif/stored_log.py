"""A log of real decisions: each was made by the domain and written by the flush, at a moment of the test's choice."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import orjson

from app.domain.channel import ChannelState
from app.domain.compiled import CompiledPolicy
from app.domain.compiler import compile_policy
from app.domain.intake import read_application
from app.domain.record import ENGINE, documents
from app.domain.screening import screen
from app.domain.settlement import settle
from app.journal.entry import JournalEntry
from app.policies.defaults import default_policy
from app.whatif.standing import standing_under
from tests.domain.builders import payload
from tests.retention.decision_log import DecisionLog

CHANNELS: Final = ("app-store", "search-ads")


def active_policy() -> CompiledPolicy:
    """The policy that a seeded database has as its first version."""
    return compile_policy(default_policy(), version=1)


async def decide(
    log: DecisionLog,
    at: datetime,
    *,
    channel: str = "app-store",
    tier: str | None = "prime",
    state: ChannelState = ChannelState.ACTIVE,
    request: dict[str, Any] | None = None,
    **changes: Any,
) -> JournalEntry:
    """Decide a good application with these changes as the service would have at that moment, and log it."""
    policy = active_policy()
    body = request or payload(**changes)
    for key in ("consent_at", "completed_at", "submitted_at"):
        body[key] = at.isoformat()
    body["bureau"]["pulled_at"] = at.isoformat()
    body["channel_code"] = channel
    entry = await log.entry(at, channel=channel)
    body["application_id"] = entry.application_id
    body = orjson.loads(orjson.dumps(body))
    application = read_application(body, policy)
    standing = standing_under(policy, channel_code=channel, state=state, served=True, assigned=tier)
    standing = standing._replace(channel_id=entry.channel_id)
    decision = settle(screen(policy, standing, application, at))
    made = documents(decision, decision_id=str(entry.decision_id))
    return await log.decide(
        at,
        channel=channel,
        decision_id=entry.decision_id,
        application_id=entry.application_id,
        policy_version=policy.version,
        engine=ENGINE,
        tier=standing.tier,
        product=application.product,
        retention_class=policy.products[application.product].retention_class.value,
        outcome=decision.outcome.value,
        next_action=decision.next_action.value,
        amount=application.amount,
        term_months=application.term_months,
        ceiling_amount=decision.screening.ceiling.amount,
        offered_amount=None if decision.counter_offer is None else decision.counter_offer.amount,
        reason_codes=",".join(reason.code for reason in decision.reasons),
        applicant_ref=application.applicant_ref,
        input=orjson.dumps(body),
        record=orjson.dumps(made.record, option=orjson.OPT_SORT_KEYS),
        response=orjson.dumps(made.response, option=orjson.OPT_SORT_KEYS),
    )
